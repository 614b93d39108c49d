//! Tidiness that a reviewer should not have to check.

use std::collections::BTreeSet;

use crate::architecture::collect;
use crate::support::root;

/// A file that outgrows this becomes a folder of named rooms. Generous by a tenth over what we aim at.
const LINES_MAX: usize = 660;
/// ARCHITECTURE.md is read in one sitting or not at all.
const ARCHITECTURE_LINES_MAX: usize = 200;

#[test]
fn no_test_file_is_forgotten() {
    for folder in ["tests", "tests/full"] {
        let list = if folder == "tests" {
            "tests/main.rs"
        } else {
            "tests/full/mod.rs"
        };
        let list = std::fs::read_to_string(root().join(list)).unwrap();
        let listed: BTreeSet<String> = list
            .lines()
            .filter_map(|line| {
                line.trim_start_matches("pub(crate) ")
                    .strip_prefix("mod ")?
                    .split_once(';')
            })
            .map(|(name, _)| name.to_owned())
            .collect();
        let entries = std::fs::read_dir(root().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let present: BTreeSet<String> = entries
            .filter(|path| {
                path.extension().is_some_and(|e| e == "rs") || path.join("mod.rs").is_file()
            })
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .filter(|name| name != "main" && name != "mod")
            .collect();
        assert_eq!(
            listed, present,
            "{folder}: listed on the left, there on the right"
        );
    }
}

#[test]
fn no_file_outgrows_a_sitting() {
    let mut files = Vec::new();
    for folder in ["appliance", "kernels", "tests"] {
        collect(&root().join(folder), &mut files);
    }
    let long: Vec<String> = files
        .iter()
        .map(|path| (path, std::fs::read_to_string(path).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
    let architecture = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(architecture.lines().count() < ARCHITECTURE_LINES_MAX);
}

#[test]
fn every_module_says_what_it_owns() {
    let mut files = Vec::new();
    for folder in [
        "appliance/src",
        "kernels/src",
        "kernels/hip-sys/src",
        "kernels/xrt-sys/src",
        "tests",
    ] {
        collect(&root().join(folder), &mut files);
    }
    let silent: Vec<_> = files
        .iter()
        .filter(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            !text
                .lines()
                .find(|line| !line.trim().is_empty() && !line.starts_with("#!"))
                .is_some_and(|l| l.starts_with("//!"))
        })
        .collect();
    assert!(silent.is_empty(), "no //! at the top of {silent:?}");
}
