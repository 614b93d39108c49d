//! Files and folders that are watched: what is new is added, what changed is read again, what is gone is marked.
//!
//! By looking every so often rather than by the kernel's notices, which network folders do not send and which are lost
//! while the appliance is off.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::add::modified_ms;
use super::{App, AppError, LibraryError};
use crate::domain::PersonId;
use crate::domain::library::{Document, Status};
use crate::store::Watch;

/// Files taken from one folder; a larger one is a mistake, such as a home with everything in it.
const FILES_MAX: usize = 20_000;

/// What a folder holds that is a document by its name.
const READ: &[&str] = &[
    "txt", "text", "md", "markdown", "mdx", "rst", "adoc", "org", "tex", "log", "html", "htm",
    "xhtml", "pdf", "docx", "pptx", "xlsx", "ods", "csv", "tsv", "json", "jsonl", "ndjson", "xml",
    "yaml", "yml", "toml", "ini", "cfg", "conf", "epub", "eml", "rs", "py", "js", "mjs", "ts",
    "tsx", "jsx", "java", "c", "h", "cpp", "hpp", "cc", "go", "rb", "php", "cs", "kt", "swift",
    "lua", "pl", "r", "sql", "sh", "bash", "ps1", "bat", "css", "scss", "svelte", "vue",
];

/// What became of a folder's files.
#[derive(Debug, Default)]
pub struct FolderReport {
    /// Documents that are there now.
    pub documents: Vec<Document>,
    /// `name: why` of each file that could not be taken.
    pub errors: Vec<String>,
}

impl App {
    /// How often watched files are looked at.
    pub fn watch_interval(&self) -> Duration {
        Duration::from_secs(self.inner.config.documents.watch_s.max(1))
    }

    /// Adds every document of a folder.
    ///
    /// # Errors
    /// The folder is not shared or cannot be listed.
    pub async fn add_folder(
        &self,
        person: &PersonId,
        path: &str,
        recursive: bool,
        collection: Option<String>,
    ) -> Result<FolderReport, AppError> {
        let folder = self.shared_path(path)?;
        let listed = tokio::task::spawn_blocking(move || list(&folder, recursive));
        let files = listed
            .await
            .map_err(|panic| LibraryError::Broken(panic.to_string()))??;
        let mut report = FolderReport::default();
        for file in files.into_keys() {
            match self
                .add_path(person, &file.to_string_lossy(), collection.clone())
                .await
            {
                Ok(document) => report.documents.push(document),
                Err(error) => {
                    let name = file
                        .file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned();
                    report.errors.push(format!("{name}: {error}"));
                }
            }
        }
        Ok(report)
    }

    /// Adds every document of a folder now and whenever one comes or changes.
    ///
    /// # Errors
    /// As [`App::add_folder`].
    pub async fn watch_folder(
        &self,
        person: &PersonId,
        path: &str,
        recursive: bool,
        collection: Option<String>,
    ) -> Result<(Watch, FolderReport), AppError> {
        let report = self
            .add_folder(person, path, recursive, collection.clone())
            .await?;
        let watch = self
            .inner
            .store
            .collections()
            .watch(person, path, recursive, collection)
            .await?;
        Ok((watch, report))
    }

    /// Looks every so often until the process ends.
    pub(super) async fn watch_files(self) {
        loop {
            tokio::time::sleep(self.watch_interval()).await;
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "watched files could not be looked at");
            }
        }
    }

    async fn look(&self) -> Result<(), AppError> {
        let known = self.inner.store.documents().watched().await?;
        for one in &known {
            let metadata = std::fs::symlink_metadata(&one.path)
                .ok()
                .filter(|found| found.is_file());
            let Some(metadata) = metadata else {
                if !matches!(one.status, Status::Missing) {
                    self.cancel_document(&one.person, &one.id).await?;
                    let ids = [one.id.clone()];
                    let keys = self
                        .inner
                        .store
                        .passages()
                        .allowed(&one.person, &ids)
                        .await?;
                    keys.into_iter()
                        .flatten()
                        .for_each(|key| self.inner.library.index.remove(key));
                    self.inner
                        .store
                        .documents()
                        .missing(&one.person, &one.id)
                        .await?;
                }
                continue;
            };
            let same = one.modified == Some(modified_ms(&metadata)) && one.bytes == metadata.len();
            if same && one.status != Status::Missing {
                continue;
            }
            if let Err(error) = self.add_path(&one.person, &one.path, None).await {
                tracing::info!(path = one.path, %error, "a file that changed could not be read again");
            }
        }
        for watch in self.inner.store.collections().watches(None).await? {
            let path = PathBuf::from(&watch.path);
            let listed = tokio::task::spawn_blocking(move || list(&path, watch.recursive));
            let listed = listed
                .await
                .map_err(|panic| LibraryError::Broken(panic.to_string()))?;
            let Ok(files) = listed else { continue };
            for file in files.into_keys() {
                let file = file.to_string_lossy().into_owned();
                let there = known
                    .iter()
                    .any(|one| one.person == watch.person && one.path == file);
                if !there
                    && let Err(error) = self
                        .add_path(&watch.person, &file, watch.collection.clone())
                        .await
                {
                    tracing::debug!(file, %error, "a file of a watched folder was not taken");
                }
            }
        }
        Ok(())
    }
}

/// Documents below a folder with the time of their last change; hidden ones and links are passed over.
fn list(folder: &Path, recursive: bool) -> Result<HashMap<PathBuf, i64>, LibraryError> {
    let mut files = HashMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = match std::fs::read_dir(&next) {
            Ok(entries) => entries,
            Err(error) if next == folder => {
                return Err(match error.kind() {
                    std::io::ErrorKind::NotFound => LibraryError::NoFile(next),
                    _ => LibraryError::BadPath(format!(
                        "{} cannot be listed: {error}",
                        next.display()
                    )),
                });
            }
            Err(_) => continue, // a folder inside that is not ours to read
        };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if name.to_string_lossy().starts_with('.') || kind.is_symlink() {
                continue;
            }
            if kind.is_dir() {
                if recursive {
                    folders.push(path);
                }
                continue;
            }
            let extension = path
                .extension()
                .map(|end| end.to_string_lossy().to_ascii_lowercase());
            let wanted = extension.is_some_and(|extension| READ.contains(&extension.as_str()));
            if kind.is_file() && wanted && files.len() < FILES_MAX {
                let modified = entry
                    .metadata()
                    .map_or(0, |metadata| modified_ms(&metadata));
                files.insert(path, modified);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_listed_without_links_hidden_files_and_foreign_kinds() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.txt", ".hidden.txt", "b.exe", "deep/c.md", ".git/d.md"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc", folder.path().join("etc")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("a.txt"), folder.path().join("e.txt"))
            .unwrap();
        let names = |recursive| {
            let mut names: Vec<String> = list(folder.path(), recursive)
                .unwrap()
                .into_keys()
                .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(false), ["a.txt"]);
        assert_eq!(names(true), ["a.txt", "c.md"]);
        assert!(list(&folder.path().join("none"), true).is_err());
    }
}
