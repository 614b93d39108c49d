//! Holds ARCHITECTURE.md's invariants by reading the sources: who may name whom, and which package is
//! at home where.

use std::path::{Path, PathBuf};

use crate::support::root;

/// Each layer of the appliance and the layers it may name. What is not listed is forbidden.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("error", &["domain"]),
    ("config", &["domain", "error"]),
    ("host", &["domain"]),
    ("store", &["domain", "error"]),
    ("process", &["domain", "error", "host"]),
    ("fetch", &["domain", "error"]),
    (
        "engines",
        &[
            "domain", "error", "config", "store", "process", "fetch", "host",
        ],
    ),
    ("rag", &["domain", "error", "process"]),
    ("sound", &["domain", "error"]),
    (
        "agents",
        &["domain", "error", "config", "store", "process", "fetch"],
    ),
    ("trust", &["domain", "error", "config", "store"]),
    ("mesh", &["domain", "error", "config", "store", "fetch"]),
    (
        "app",
        &[
            "domain", "error", "config", "store", "process", "fetch", "host", "engines", "rag",
            "sound", "agents", "trust", "mesh",
        ],
    ),
    ("api", &["domain", "error", "config", "app"]),
    (
        "cli",
        &[
            "domain", "error", "config", "store", "fetch", "host", "engines", "app", "api",
        ],
    ),
];

/// What is at home in one place of the appliance, and the only places that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("axum::", &["api/"]),
    ("tower_http::", &["api/"]),
    ("rust_embed::", &["api/"]),
    ("rusqlite::", &["store/"]),
    ("qrcode::", &["trust/qr"]),
    ("clap::", &["cli/", "config.rs"]),
    ("std::env::", &["config.rs"]),
    ("process::Command", &["process"]),
    ("Command::new(", &["process"]),
    ("reqwest::", &["fetch"]),
    ("rmcp::", &["agents/mcp", "api/mcp"]),
    ("symphonia::", &["sound/"]),
    ("onebit_kernels::", &["engines/", "app/", "cli/"]),
];

#[test]
fn arrows_point_down_and_siblings_do_not_meet() {
    let mut wrong = Vec::new();
    for source in sources("appliance/src") {
        let layer = source.layer();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            assert!(
                matches!(layer, "lib" | "main"),
                "{layer} is in no layer: add it to LAYERS and ARCHITECTURE.md"
            );
            continue;
        };
        for (line, text) in source.code_lines() {
            for named in crate_paths(text) {
                let is_layer = LAYERS.iter().any(|(name, _)| *name == named);
                if is_layer && named != layer && !allowed.contains(&named) {
                    wrong.push(format!(
                        "{}:{line}: {layer} must not know {named}: {}",
                        source.name,
                        text.trim()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn packages_stay_at_home() {
    let mut wrong = Vec::new();
    for source in sources("appliance/src") {
        let inside = source.name.trim_start_matches("appliance/src/");
        for (line, text) in source.code_lines() {
            for (package, homes) in HOMES {
                if text.contains(package) && !homes.iter().any(|home| inside.starts_with(home)) {
                    wrong.push(format!(
                        "{}:{line}: {package} lives in {homes:?}: {}",
                        source.name,
                        text.trim()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_domain_is_plain_data() {
    forbid(
        &["appliance/src/domain"],
        &["serde", "std::fs", "std::net", "std::io", "tokio::"],
    );
}

#[test]
fn kernels_reach_no_network_and_start_nothing() {
    let forbidden = [
        "std::net",
        "std::process",
        "tokio::",
        "Command::new(",
        "std::env::",
    ];
    forbid(
        &["kernels/src", "kernels/hip-sys/src", "kernels/xrt-sys/src"],
        &forbidden,
    );
}

#[test]
fn the_appliance_is_safe_code() {
    let library = std::fs::read_to_string(root().join("appliance/src/lib.rs")).unwrap();
    assert!(library.contains("#![forbid(unsafe_code)]"));
}

fn forbid(folders: &[&str], words: &[&str]) {
    let mut wrong = Vec::new();
    for source in folders.iter().flat_map(|folder| sources(folder)) {
        for (line, text) in source.code_lines() {
            for word in words {
                if text.contains(word) {
                    wrong.push(format!("{}:{line}: {word}: {}", source.name, text.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first names after `crate::` in a line: one, or those of a braced list.
fn crate_paths(line: &str) -> Vec<&str> {
    let word = |text: &'_ str| {
        text.find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len())
    };
    let mut names = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => names.push(&rest[..word(rest)]),
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (i, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && depth == 0 && !c.is_whitespace() => {
                            names.push(&list[i..i + word(&list[i..])]);
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

struct Source {
    name: String,
    text: String,
}

impl Source {
    /// The first folder below `src`, or the file's own name.
    fn layer(&self) -> &str {
        let inside = self.name.trim_start_matches("appliance/src/");
        inside.split(['/', '.']).next().unwrap_or(inside)
    }

    /// Numbered lines without comments, up to the tests at the foot of the file.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(i, line)| (i + 1, line));
        lines
            .take_while(|(_, line)| line.trim() != "#[cfg(test)]" || line.starts_with(' '))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(folder), &mut found);
    assert!(!found.is_empty(), "no sources in {folder}");
    found
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs") && !path.ends_with("fixture.rs"))
        .map(|path| Source {
            name: path
                .strip_prefix(root())
                .unwrap_or(&path)
                .display()
                .to_string(),
            text: std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        })
        .collect()
}

/// Every Rust file below a folder.
pub(crate) fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a folder entry").path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn names_after_crate_are_found() {
    assert_eq!(crate_paths("use crate::store::{Chats, Models};"), ["store"]);
    assert_eq!(
        crate_paths("use crate::{app::App, domain::{Peer, Scope}, error};"),
        ["app", "domain", "error"]
    );
    assert_eq!(
        crate_paths("let x = crate::host::Host::read(a) + crate::error::E;"),
        ["host", "error"]
    );
    assert!(crate_paths("use super::store;").is_empty());
}
