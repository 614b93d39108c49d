//! The programs that engines run: where they are on this machine.
//!
//! Owns finding files. Must not start any: versions are asked for by [`super::versions`].

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where a program came from, which also says who may replace it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Installed or built by `onebit engines`.
    Ours,
    /// Shipped beside our own executable.
    Bundled,
    /// The system's.
    System,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    pub origin: Origin,
}

/// What was found, by program name (`llama-server`, `flm`, ...).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Programs(BTreeMap<&'static str, Program>);

/// Every program an engine of ours may run.
pub const NAMES: [&str; 4] = ["llama-server", "whisper-server", "sd-server", "flm"];

impl Programs {
    /// Looks for all programs: first what `onebit engines` made current below `engines`, then what lies
    /// in `bundled`, each in a folder with its libraries or alone, then the system's folders. The first one that may be
    /// executed is taken.
    #[must_use]
    pub fn find(engines: &Path, bundled: &Path, system: &[PathBuf]) -> Self {
        let mut found = BTreeMap::new();
        for name in NAMES {
            let places = [
                (engines.join(name).join("current").join(name), Origin::Ours),
                (bundled.join(name).join(name), Origin::Bundled),
                (bundled.join(name), Origin::Bundled),
            ]
            .into_iter()
            .chain(
                system
                    .iter()
                    .map(|folder| (folder.join(name), Origin::System)),
            );
            let program = places.into_iter().find(|(path, _)| is_program(path));
            if let Some((path, origin)) = program {
                found.insert(name, Program { path, origin });
            }
        }
        Self(found)
    }

    /// One program, if it is here.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Program> {
        self.0.get(name)
    }

    /// What was found, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Program)> {
        self.0.iter().map(|(name, program)| (*name, program))
    }

    /// Adds or replaces one: the owner named it, or a test did.
    #[must_use]
    pub fn with(mut self, name: &'static str, path: PathBuf) -> Self {
        self.0.insert(
            name,
            Program {
                path,
                origin: Origin::System,
            },
        );
        self
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_comes_before_the_systems_and_text_files_do_not_count() {
        let root = tempfile::tempdir().unwrap();
        let (engines, bundled, system) = (
            root.path().join("e"),
            root.path().join("b"),
            root.path().join("s"),
        );
        let make = |path: PathBuf, mode| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        make(engines.join("llama-server/current/llama-server"), 0o755);
        make(system.join("llama-server"), 0o755);
        make(system.join("flm"), 0o755);
        make(bundled.join("whisper-server"), 0o644);
        make(bundled.join("sd-server/sd-server"), 0o755);
        let found = Programs::find(&engines, &bundled, std::slice::from_ref(&system));
        assert_eq!(found.get("llama-server").unwrap().origin, Origin::Ours);
        assert_eq!(found.get("flm").unwrap().path, system.join("flm"));
        assert_eq!(found.get("whisper-server"), None);
        assert_eq!(found.get("sd-server").unwrap().origin, Origin::Bundled);
    }
}
