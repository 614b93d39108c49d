//! Versions of engine programs: which are good, and a shelf where they stand side by side.
//!
//! A version is never pinned by equality: it has a lower bound and a list of builds known to be bad. A
//! new one is put beside the old one and made current by one rename; the last good one can be had back.

use std::cmp::Ordering;
use std::fmt;
use std::path::{Path, PathBuf};

/// A version, as far as it can be compared: its numbers in order. `b11434`, `v0.9.40`, `1.8.4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    text: String,
    numbers: Vec<u64>,
}

impl Version {
    /// Finds the first version in a program's words, such as `version: 11434 (3f0c2d9)`.
    #[must_use]
    pub fn find(text: &str) -> Option<Self> {
        let word = text
            .split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | ':'))
            .find(|word| {
                let bare = word.trim_start_matches(['v', 'b']);
                bare.starts_with(|c: char| c.is_ascii_digit())
                    && bare.chars().all(|c| c.is_ascii_digit() || c == '.')
            })?;
        let numbers = word
            .trim_start_matches(['v', 'b'])
            .split('.')
            .map(|n| n.parse().unwrap_or(0))
            .collect::<Vec<u64>>();
        // Builds outside a repository say 0, which is no version at all.
        if numbers.iter().all(|&n| n == 0) {
            return None;
        }
        Some(Self {
            text: word.to_owned(),
            numbers,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // 1.0 and 1.0.0 are one version.
        let zero_padded = |v: &Self, n: usize| v.numbers.get(n).copied().unwrap_or(0);
        let len = self.numbers.len().max(other.numbers.len());
        (0..len)
            .map(|n| zero_padded(self, n).cmp(&zero_padded(other, n)))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

/// What we think of a program's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// It lacks something we use.
    TooOld {
        wanted: &'static str,
    },
    KnownBad {
        why: &'static str,
    },
}

/// (program, oldest that does what we ask, bad ranges: from, to, why). Ranges come from the projects'
/// own issue threads.
type Rule = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str, &'static str)],
);
const RULES: [Rule; 2] = [
    // Older servers know no sockets and no unified cache.
    (
        "llama-server",
        "b6500",
        &[("b9660", "b9672", "the GPU stays idle (llama.cpp 24734)")],
    ),
    // Ranges, not pins: 0.9.40 dies of one-token answers, which we avoid, so it is good enough.
    (
        "flm",
        "0.9.30",
        &[("1.0.4", "1.0.4", "crashes hard (FastFlowLM 708)")],
    ),
];

/// Judges a version of a program. Programs without rules are good.
#[must_use]
pub fn judge(program: &str, version: &Version) -> Verdict {
    let Some((_, oldest, bad)) = RULES.iter().find(|(name, ..)| *name == program) else {
        return Verdict::Good;
    };
    let at = |text: &str| Version::find(text);
    if at(oldest).is_some_and(|oldest| *version < oldest) {
        return Verdict::TooOld { wanted: oldest };
    }
    let hit = bad.iter().find(|(from, to, _)| {
        at(from).is_some_and(|from| *version >= from) && at(to).is_some_and(|to| *version <= to)
    });
    hit.map_or(Verdict::Good, |(_, _, why)| Verdict::KnownBad { why })
}

/// What can go wrong on the shelf.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("{program} {version} is not installed; `onebit engines list` shows what is")]
    NotThere { program: String, version: String },
    #[error("{program} has no earlier version to go back to")]
    NothingBefore { program: String },
    #[error("{program} {version} is in use; make another one current first")]
    InUse { program: String, version: String },
    #[error("`{0}` is no name for a version")]
    BadName(String),
    #[error("{what} {path}: {source}")]
    Disk {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}

/// The versions of one program below `DATA/engines/PROGRAM`: one folder each, the links `current` and
/// `previous` beside them.
#[derive(Debug, Clone)]
pub struct Shelf {
    program: String,
    folder: PathBuf,
}

impl Shelf {
    #[must_use]
    pub fn new(engines: &Path, program: &str) -> Self {
        Self {
            program: program.to_owned(),
            folder: engines.join(program),
        }
    }

    /// The versions that stand here, oldest name first.
    #[must_use]
    pub fn versions(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten();
        let folders = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        let names = folders
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The version in use.
    #[must_use]
    pub fn current(&self) -> Option<String> {
        self.link("current")
    }

    /// The version that was in use before.
    #[must_use]
    pub fn previous(&self) -> Option<String> {
        self.link("previous")
    }

    fn link(&self, name: &str) -> Option<String> {
        let target = std::fs::read_link(self.folder.join(name)).ok()?;
        target.to_str().map(str::to_owned)
    }

    /// Copies a program onto the shelf under `version` and makes it current. The one in use stays
    /// untouched until the new one is complete.
    ///
    /// # Errors
    /// The name climbs, or the disk refuses.
    pub fn put(&self, version: &str, program: &Path) -> Result<(), ShelfError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if version.is_empty() || version.starts_with('.') || !version.chars().all(plain) {
            return Err(ShelfError::BadName(version.to_owned()));
        }
        let (growing, place) = (
            self.folder.join(format!(".{version}.new")),
            self.folder.join(version),
        );
        let _ = std::fs::remove_dir_all(&growing);
        std::fs::create_dir_all(&growing).map_err(disk("cannot make", &growing))?;
        let copy = growing.join(&self.program);
        std::fs::copy(program, &copy).map_err(disk("cannot copy to", &copy))?;
        if place.exists() {
            let old = self.folder.join(format!(".{version}.old"));
            let _ = std::fs::remove_dir_all(&old);
            std::fs::rename(&place, &old).map_err(disk("cannot set aside", &place))?;
            std::fs::rename(&growing, &place).map_err(disk("cannot name", &place))?;
            // Room on the disk is all that is left of it.
            let _ = std::fs::remove_dir_all(&old);
        } else {
            std::fs::rename(&growing, &place).map_err(disk("cannot name", &place))?;
        }
        self.switch(version)
    }

    /// Makes a version current. Programs that run go on with theirs.
    ///
    /// # Errors
    /// It is not here, or the disk refuses.
    pub fn switch(&self, version: &str) -> Result<(), ShelfError> {
        if !self.folder.join(version).join(&self.program).is_file() {
            let version = version.to_owned();
            return Err(ShelfError::NotThere {
                program: self.program.clone(),
                version,
            });
        }
        if let Some(before) = self.current().filter(|before| before != version) {
            self.point("previous", &before)?;
        }
        self.point("current", version)
    }

    /// Goes back to the version before. Doing it twice comes back again.
    ///
    /// # Errors
    /// There is none.
    pub fn rollback(&self) -> Result<String, ShelfError> {
        let before = self.previous().ok_or_else(|| ShelfError::NothingBefore {
            program: self.program.clone(),
        })?;
        self.switch(&before)?;
        Ok(before)
    }

    /// Removes a version that is not in use.
    ///
    /// # Errors
    /// It is in use, or not here.
    pub fn remove(&self, version: &str) -> Result<(), ShelfError> {
        let (program, name) = (self.program.clone(), version.to_owned());
        if self.current().as_deref() == Some(version) {
            return Err(ShelfError::InUse {
                program,
                version: name,
            });
        }
        if !self.versions().contains(&name) {
            return Err(ShelfError::NotThere {
                program,
                version: name,
            });
        }
        if self.previous().as_deref() == Some(version) {
            let link = self.folder.join("previous");
            std::fs::remove_file(&link).map_err(disk("cannot remove", &link))?;
        }
        let place = self.folder.join(version);
        std::fs::remove_dir_all(&place).map_err(disk("cannot remove", &place))
    }

    /// Points a link at a version by one rename, so that there is always one.
    fn point(&self, link: &str, version: &str) -> Result<(), ShelfError> {
        let (new, link) = (
            self.folder.join(format!(".{link}.new")),
            self.folder.join(link),
        );
        let _ = std::fs::remove_file(&new);
        std::os::unix::fs::symlink(version, &new).map_err(disk("cannot link", &new))?;
        std::fs::rename(&new, &link).map_err(disk("cannot link", &link))
    }
}

fn disk<'a>(what: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> ShelfError + use<'a> {
    move |source| ShelfError::Disk {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::find(text).unwrap()
    }

    #[test]
    fn versions_are_found_and_ordered() {
        assert_eq!(
            version("version: 11434 (3f0c2d9)\nbuilt with gcc 12").to_string(),
            "11434"
        );
        assert_eq!(version("FLM v0.9.40").to_string(), "v0.9.40");
        assert!(version("v0.9.40") > version("0.9.39") && version("b9670") < version("b11434"));
        assert_eq!(version("1.0").cmp(&version("1.0.0")), Ordering::Equal);
        assert_eq!(Version::find("no numbers here"), None);
        assert_eq!(Version::find("version: 0 (unknown)"), None);
    }

    #[test]
    fn a_newer_version_is_never_an_update_to_an_older_one() {
        assert_eq!(judge("flm", &version("0.9.39")), Verdict::Good);
        assert_eq!(judge("flm", &version("0.9.40")), Verdict::Good);
        assert!(matches!(
            judge("flm", &version("0.9.1")),
            Verdict::TooOld { .. }
        ));
        assert!(matches!(
            judge("flm", &version("1.0.4")),
            Verdict::KnownBad { .. }
        ));
        assert!(matches!(
            judge("llama-server", &version("b9665")),
            Verdict::KnownBad { .. }
        ));
        assert_eq!(judge("llama-server", &version("11434")), Verdict::Good);
        assert_eq!(judge("something", &version("1")), Verdict::Good);
    }

    #[test]
    fn the_shelf() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join("built");
        let shelf = Shelf::new(&root.path().join("engines"), "llama-server");
        let content = || {
            std::fs::read_to_string(
                root.path()
                    .join("engines/llama-server/current/llama-server"),
            )
            .unwrap()
        };
        assert!(shelf.versions().is_empty() && shelf.current().is_none());
        assert!(matches!(
            shelf.rollback(),
            Err(ShelfError::NothingBefore { .. })
        ));
        for version in ["b1", "b2", "b2"] {
            std::fs::write(&program, version).unwrap();
            shelf.put(version, &program).unwrap();
        }
        assert_eq!(
            (shelf.versions(), content()),
            (vec!["b1".to_owned(), "b2".to_owned()], "b2".into())
        );
        assert_eq!(shelf.rollback().unwrap(), "b1");
        assert_eq!(content(), "b1");
        assert_eq!(shelf.rollback().unwrap(), "b2", "back and forth");
        assert!(matches!(shelf.remove("b2"), Err(ShelfError::InUse { .. })));
        shelf.remove("b1").unwrap();
        assert!(matches!(
            shelf.rollback(),
            Err(ShelfError::NothingBefore { .. })
        ));
        for bad in ["", "..", "../x", "a/b", ".hidden"] {
            assert!(
                matches!(shelf.put(bad, &program), Err(ShelfError::BadName(_))),
                "{bad}"
            );
        }
        assert!(matches!(
            shelf.switch("b9"),
            Err(ShelfError::NotThere { .. })
        ));
    }
}
