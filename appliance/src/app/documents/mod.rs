//! The library: documents that come in, are read by jobs, searched, and cited in answers.
//!
//! Owns what happens to a document between its bytes and an answer. Rows are the store's, formats and ranking are
//! `rag`'s, and every foreign file is read by a child in a sandbox.

mod add;
mod answer;
mod embedder;
mod error;
mod extraction;
mod index;
mod ingest;
mod page;
mod recognition;
mod search;
mod transfer;
mod watch;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OnceCell, watch as channel};

use super::{App, AppError};
use crate::domain::PersonId;
use crate::domain::library::{Document, Source};
use crate::engines::encoder::Encoder;
use crate::process::Launcher;

pub use add::{Incoming, Origin};
pub use error::LibraryError;
pub use search::{FOUND_MAX, Mode, SearchRequest, SearchResult};
pub use transfer::{Export, ImportReport};
pub use watch::FolderReport;

/// The folder of the data directory in which documents' files are kept.
const FOLDER: &str = "documents";

/// The folder in which they arrive; what is left in it at a start was never acknowledged.
const INCOMING: &str = "documents/incoming";

/// What lives as long as the process.
pub(super) struct Library {
    index: index::Index,
    /// Documents that are being read now, by identifier.
    running: Mutex<HashMap<String, Arc<Running>>>,
    /// Tells the worker that there is something to do.
    wake: Notify,
    launcher: Launcher,
    encoder: OnceCell<Encoder>,
    /// The embedder whose vectors answer.
    serving: Mutex<Option<String>>,
}

/// A document that is being read.
struct Running {
    /// Thousandths done.
    progress: AtomicU32,
    /// Turns true when it is to stop.
    stop: channel::Sender<bool>,
}

impl Running {
    fn at(&self, thousandths: u32) {
        self.progress
            .store(thousandths.min(1000), Ordering::Relaxed);
    }
}

impl Library {
    pub(super) fn new() -> Library {
        Library {
            index: index::Index::default(),
            running: Mutex::default(),
            wake: Notify::new(),
            launcher: Launcher::of_this_program(),
            encoder: OnceCell::new(),
            serving: Mutex::default(),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serving(&self) -> MutexGuard<'_, Option<String>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Starts reading what waits, and watching what is watched; for the process that serves, once, at its start.
    ///
    /// # Errors
    /// The store fails, or the documents' folder cannot be made.
    pub async fn start_library(&self) -> Result<(), AppError> {
        let incoming = self.library_path(INCOMING);
        std::fs::create_dir_all(&incoming)
            .map_err(|source| LibraryError::disk("cannot make", &incoming, source))?;
        let again = self.inner.store.documents().recover().await?;
        if again > 0 {
            tracing::info!(
                documents = again,
                "documents that the last run had begun are read again"
            );
        }
        self.sweep().await?;
        self.load_index().await?;
        tokio::spawn(self.clone().work());
        tokio::spawn(self.clone().watch_files());
        Ok(())
    }

    /// How far a document that is being read has come, 0 to 1.
    pub fn progress(&self, id: &str) -> Option<f32> {
        let running = self.inner.library.running();
        running
            .get(id)
            .map(|one| one.progress.load(Ordering::Relaxed) as f32 / 1000.0)
    }

    /// Documents that are being read now.
    pub fn reading(&self) -> Vec<String> {
        self.inner.library.running().keys().cloned().collect()
    }

    /// Stops reading a document; returns whether it was being read or waited for that.
    ///
    /// # Errors
    /// There is no such document.
    pub async fn cancel_document(&self, person: &PersonId, id: &str) -> Result<bool, AppError> {
        let stopped = self.inner.store.documents().cancel(person, id).await?;
        if let Some(running) = self.inner.library.running().get(id) {
            running.stop.send_replace(true);
        }
        Ok(stopped)
    }

    /// Reads a document again: after a failure, or because a reader has become better.
    ///
    /// # Errors
    /// There is no such document, or its file is no longer where it was.
    pub async fn read_again(&self, person: &PersonId, id: &str) -> Result<Document, AppError> {
        let document = self.inner.store.documents().get(person, id).await?;
        if self
            .inner
            .store
            .documents()
            .file(person, id)
            .await?
            .is_none()
        {
            return self.fetch_again(person, &document).await;
        }
        let document = self.inner.store.documents().again(person, id).await?;
        self.inner.library.wake.notify_one();
        Ok(document)
    }

    /// Deletes a document: its rows, its vectors in memory, and its file where it is ours.
    ///
    /// # Errors
    /// There is no such document.
    pub async fn delete_document(&self, person: &PersonId, id: &str) -> Result<(), AppError> {
        self.cancel_document(person, id).await?;
        let ids = [id.to_owned()];
        let key = self.inner.store.passages().allowed(person, &ids).await?;
        let file = self.inner.store.documents().delete(person, id).await?;
        for key in key.into_iter().flatten() {
            self.inner.library.index.remove(key);
        }
        if let Some(file) = file {
            self.discard(&file);
        }
        Ok(())
    }

    /// The bytes of a document's file.
    ///
    /// # Errors
    /// There is no such document, or its file lies elsewhere and has gone.
    pub async fn document_bytes(&self, person: &PersonId, id: &str) -> Result<Vec<u8>, AppError> {
        let document = self.inner.store.documents().get(person, id).await?;
        let kept = self.inner.store.documents().file(person, id).await?;
        let path = match (kept, document.source, &document.origin) {
            (Some(kept), ..) => self.library_path(&kept),
            (None, Source::Path, Some(path)) => self.shared_path(path)?,
            _ => return Err(LibraryError::NoFile(PathBuf::from(document.name)).into()),
        };
        let read = tokio::fs::read(&path).await;
        Ok(read.map_err(|source| LibraryError::disk("cannot read", &path, source))?)
    }

    /// A file or folder of the library.
    fn library_path(&self, relative: &str) -> PathBuf {
        self.inner.store.folder().join(relative)
    }

    /// Deletes a file of ours that nothing refers to. One that cannot be deleted is found again at the next start.
    fn discard(&self, relative: &str) {
        let path = self.library_path(relative);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a document's file was not deleted");
        }
    }

    /// Deletes files that a kill left without a row.
    async fn sweep(&self) -> Result<(), AppError> {
        let known = self.inner.store.documents().files().await?;
        for folder in [FOLDER, INCOMING] {
            let path = self.library_path(folder);
            let entries = std::fs::read_dir(&path)
                .map_err(|source| LibraryError::disk("cannot list", &path, source))?;
            for entry in entries.flatten() {
                let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
                if entry.path().is_file() && !known.contains(&name) {
                    self.discard(&name);
                }
            }
        }
        Ok(())
    }
}
