//! What other programs of the hub have fetched already: their cache on this disk, read and never written.
//!
//! The layout is the hub's own: `models--ORGANISATION--NAME/snapshots/REVISION/FILE`, links to `blobs/SHA256`.

use std::path::{Path, PathBuf};

use super::{HubFile, Source};

/// Revisions of one repository that are looked through, newest first by the folder's time.
const SNAPSHOTS_MAX: usize = 16;
/// Folders inside a snapshot that are looked into: quantisations lie one deep.
const DEPTH_MAX: usize = 2;

/// A file of a repository that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CachedFile {
    /// As a hub would list it.
    pub(super) listed: HubFile,
    /// Where it lies.
    pub(super) path: PathBuf,
}

/// Finds a file by its content, whatever revision brought it.
#[must_use]
pub(super) fn blob(cache: &Path, source: &Source, file: &HubFile) -> Option<PathBuf> {
    let sha256 = file.sha256.as_deref()?;
    let path = folder(cache, source).join("blobs").join(sha256);
    let whole = path
        .metadata()
        .is_ok_and(|m| m.is_file() && m.len() == file.bytes);
    whole.then_some(path)
}

/// Lists what is here of a repository: the newest revision that has a model in it.
#[must_use]
pub(super) fn files(cache: &Path, source: &Source) -> Vec<CachedFile> {
    let snapshots = folder(cache, source).join("snapshots");
    let entries = std::fs::read_dir(&snapshots)
        .into_iter()
        .flatten()
        .flatten();
    let mut revisions: Vec<(std::time::SystemTime, PathBuf)> = entries
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    revisions.sort_by(|a, b| b.cmp(a));
    for (_, revision) in revisions.into_iter().take(SNAPSHOTS_MAX) {
        let mut found = Vec::new();
        collect(&revision, &revision, DEPTH_MAX, &mut found);
        if found.iter().any(|file| is_model(&file.listed.path)) {
            return found;
        }
    }
    Vec::new()
}

/// Every repository with a model in it, as `ORGANISATION/NAME`.
#[must_use]
pub fn repositories(cache: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (organisation, name) = name.strip_prefix("models--")?.split_once("--")?;
            let repo = format!("{organisation}/{name}");
            let source = Source::parse(&repo).ok()?;
            (!files(cache, &source).is_empty()).then_some(repo)
        })
        .collect();
    names.sort();
    names
}

fn folder(cache: &Path, source: &Source) -> PathBuf {
    cache.join(format!("models--{}", source.repo.replace('/', "--")))
}

fn is_model(path: &str) -> bool {
    path.to_ascii_lowercase().ends_with(".gguf")
}

fn collect(root: &Path, folder: &Path, depth: usize, found: &mut Vec<CachedFile>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // Follows the link: one whose blob is gone is no file.
        let Ok(metadata) = path.metadata() else {
            continue;
        };
        if metadata.is_dir() && depth > 0 {
            collect(root, &path, depth - 1, found);
        } else if metadata.is_file()
            && let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
        {
            found.push(CachedFile {
                listed: HubFile {
                    path: name.to_owned(),
                    bytes: metadata.len(),
                    sha256: None,
                },
                path,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_read_by_repository_and_by_content() {
        let root = tempfile::tempdir().unwrap();
        let cache = root.path();
        let repo = cache.join("models--org--Tiny-GGUF");
        let (blobs, snapshot) = (repo.join("blobs"), repo.join("snapshots/abc"));
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::create_dir_all(snapshot.join("sub")).unwrap();
        let sha256 = "a".repeat(64);
        std::fs::write(blobs.join(&sha256), b"weights").unwrap();
        let link = |to: &Path, name: &str| {
            std::os::unix::fs::symlink(to, snapshot.join(name)).unwrap();
        };
        link(&blobs.join(&sha256), "tiny-Q4_K_M.gguf");
        link(&blobs.join(&sha256), "sub/tiny-Q8_0.gguf");
        link(&blobs.join("gone"), "broken-Q2_K.gguf");
        std::fs::create_dir_all(cache.join("models--org--empty/snapshots/x")).unwrap();
        std::fs::create_dir_all(cache.join("datasets--org--words")).unwrap();
        assert_eq!(repositories(cache), ["org/Tiny-GGUF"]);
        let source = Source::parse("org/Tiny-GGUF").unwrap();
        let mut names: Vec<String> = files(cache, &source)
            .into_iter()
            .map(|file| file.listed.path)
            .collect();
        names.sort();
        assert_eq!(names, ["sub/tiny-Q8_0.gguf", "tiny-Q4_K_M.gguf"]);
        let mut file = HubFile {
            path: "x.gguf".into(),
            bytes: 7,
            sha256: Some(sha256),
        };
        assert!(blob(cache, &source, &file).is_some());
        file.bytes = 8;
        assert_eq!(blob(cache, &source, &file), None, "it is not whole");
        file.sha256 = None;
        assert_eq!(blob(cache, &source, &file), None);
    }
}
