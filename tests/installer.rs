//! install.sh without installing: what it says, what it refuses, and that half of it does nothing.
//! `.ci/run` does the real thing, into a temporary prefix.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::root;

fn shells() -> Vec<Vec<&'static str>> {
    let mut shells = vec![vec!["sh"]];
    for shell in [vec!["dash"], vec!["busybox", "sh"]] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|p| p.join(shell[0]).is_file());
        if found {
            shells.push(shell);
        }
    }
    shells
}

fn install(shell: &[&str], script: &Path, home: &Path, arguments: &[&str]) -> Output {
    Command::new(shell[0])
        .args(&shell[1..])
        .arg(script)
        .args(arguments)
        .env("HOME", home)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("XDG_DATA_HOME")
        .output()
        .expect("the shell runs")
}

#[test]
fn a_dry_run_tells_all_and_changes_nothing() {
    for shell in shells() {
        let home = tempfile::tempdir().unwrap();
        let prefix = home.path().join("a prefix");
        let arguments = [
            "--source",
            "--dry-run",
            "--no-service",
            "--prefix",
            prefix.to_str().unwrap(),
        ];
        let output = install(&shell, &root().join("install.sh"), home.path(), &arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{shell:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for part in [
            "a prefix/bin/onebit",
            "1bit",
            "cargo build --release",
            "lib/onebit/models/onebit-mini.gguf",
            "serve --data",
        ] {
            assert!(
                text.contains(part),
                "{shell:?} does not mention {part}: {text}"
            );
        }
        let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
        assert!(left.is_empty(), "{shell:?} made {left:?}");
    }
}

#[test]
fn wrong_options_are_refused_before_anything_happens() {
    let home = tempfile::tempdir().unwrap();
    let cases: [(&[&str], i32, &str); 5] = [
        (&[], 2, "--source"),
        (&["--nonsense"], 2, "--nonsense"),
        (&["--source", "--model"], 1, "--model needs a value"),
        (
            &["--source", "--model", "/nonexistent.gguf"],
            1,
            "no such file",
        ),
        (&["--source", "--listen", "8000x"], 1, "--listen 8000x"),
    ];
    for (arguments, code, said) in cases {
        let output = install(&["sh"], &root().join("install.sh"), home.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

/// A download that breaks off must not run half of it: cut after every line, the script does nothing.
#[test]
fn cut_off_anywhere_it_does_nothing() {
    let script = std::fs::read_to_string(root().join("install.sh")).unwrap();
    let lines: Vec<&str> = script.lines().collect();
    let last = lines
        .iter()
        .rposition(|line| line.starts_with("main "))
        .expect("main is called");
    assert_eq!(last, lines.len() - 1, "main is the last line");
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let cut = folder.path().join("cut.sh");
    for n in 0..last {
        std::fs::write(&cut, lines[..=n].join("\n")).unwrap();
        let output = install(&["sh"], &cut, &home, &["--source"]);
        assert!(
            output.stdout.is_empty(),
            "cut after line {}: {}",
            n + 1,
            String::from_utf8_lossy(&output.stdout)
        );
    }
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
}
