//! The worker: takes one job after the other and makes a document findable, or says why it cannot be.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio::sync::watch as channel;

use super::index::pack;
use super::{App, AppError, LibraryError, Running};
use crate::domain::document::{Passage, Text};
use crate::domain::library::{Source, Trouble};
use crate::rag::chunk::{chunk, prefix};
use crate::store::{Block, Indexed, Job, JobDocument};

/// Passages embedded at a time: enough to fill a pass, few enough that progress moves and a stop is heard.
const BATCH: usize = 16;

/// Between two looks where nobody woke the worker: a job may have been written by another process.
const LOOK: Duration = Duration::from_secs(30);

/// The reader's share of the progress, in thousandths; the embedder's time grows with the text and takes the rest.
const READ: u32 = 100;

/// The kind of trouble of pages that are pictures.
const SCANNED: &str = "scanned";

/// Why a document did not become findable.
enum Ended {
    /// It cannot be read.
    Trouble(Trouble),
    /// Somebody stopped it.
    Stopped,
}

impl App {
    /// Works until the process ends.
    pub(super) async fn work(self) {
        // Settles which embedder answers before anything is read; the worker says it again where there is none.
        let _ = self.serving().await;
        loop {
            match self.inner.store.documents().next_job().await {
                Ok(Some(job)) => self.one_job(job).await,
                Ok(None) => {
                    let woken = self.inner.library.wake.notified();
                    // Either way the queue is looked at again.
                    let _ = tokio::time::timeout(LOOK, woken).await;
                }
                Err(crate::store::StoreError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "the documents' queue cannot be read");
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    async fn one_job(&self, job: Job) {
        let Some(document) = job.document else {
            if let Err(error) = self.embed_anew(job.id).await {
                tracing::error!(%error, "the documents could not be read by the new embedder; the old one goes on");
                tokio::time::sleep(LOOK).await;
            }
            return;
        };
        let running = Arc::new(Running {
            progress: AtomicU32::new(0),
            stop: channel::Sender::new(false),
        });
        self.inner
            .library
            .running()
            .insert(document.id.clone(), Arc::clone(&running));
        let mut stop = running.stop.subscribe();
        let done = tokio::select! {
            done = self.read_document(&document, &running) => done,
            _ = stop.wait_for(|stop| *stop) => Err(Ended::Stopped),
        };
        let ended = match done {
            Ok(indexed) => self.keep_indexed(job.id, &document, indexed).await,
            Err(Ended::Trouble(trouble)) => {
                tracing::info!(
                    name = document.name,
                    kind = trouble.kind,
                    "a document could not be read"
                );
                self.inner.library.index.remove(document.key);
                self.inner
                    .store
                    .documents()
                    .fail(job.id, document.key, trouble)
                    .await
                    .map_err(AppError::from)
            }
            Err(Ended::Stopped) => Ok(()),
        };
        if let Err(error) = ended {
            tracing::error!(%error, document = document.id, "a document's state was not written");
        }
        self.inner.library.running().remove(&document.id);
    }

    /// Text, passages and vectors of a document.
    async fn read_document(
        &self,
        document: &JobDocument,
        running: &Running,
    ) -> Result<Indexed, Ended> {
        let library = |error: LibraryError| Ended::Trouble(error.trouble());
        let app = |error: AppError| Ended::Trouble(trouble_of(&error));
        let embedder = self.serving().await.map_err(app)?;
        let file = document.file.as_ref().map(|file| self.library_path(file));
        let file = file.filter(|file| file.is_file());
        let file =
            file.ok_or_else(|| library(LibraryError::NoFile(document.name.clone().into())))?;
        let text = match self.extract(&file, &document.name).await {
            Err(trouble) if trouble.kind == SCANNED => self.recognise(&file).await,
            read => read,
        };
        let text = text.map_err(Ended::Trouble)?;
        running.at(READ);
        let (text, passages) = self.cut(text).await.map_err(library)?;
        if passages.is_empty() {
            return Err(library(LibraryError::Empty));
        }
        let mut vectors = Vec::with_capacity(passages.len());
        for batch in passages.chunks(BATCH) {
            let texts = batch.iter().map(for_embedder).collect();
            vectors.extend(self.vectors(&embedder, texts).await.map_err(app)?);
            let done = vectors.len() as u64 * u64::from(1000 - READ) / passages.len() as u64;
            running.at(READ + u32::try_from(done).unwrap_or(1000));
        }
        Ok(Indexed {
            text,
            passages,
            vectors,
        })
    }

    async fn cut(&self, text: Text) -> Result<(Text, Vec<Passage>), LibraryError> {
        let (limits, count) = self.measure().await;
        let cut = tokio::task::spawn_blocking(move || {
            let passages = chunk(&text, limits, &*count);
            (text, passages)
        });
        cut.await
            .map_err(|panic| LibraryError::Broken(panic.to_string()))
    }

    async fn keep_indexed(
        &self,
        job: i64,
        document: &JobDocument,
        indexed: Indexed,
    ) -> Result<(), AppError> {
        let indexed = Arc::new(indexed);
        let kept = self
            .inner
            .store
            .documents()
            .finish(job, document.key, Arc::clone(&indexed))
            .await?;
        let Some(passages) = kept else { return Ok(()) };
        let vectors = indexed.vectors.concat();
        self.inner.library.index.put(&Block {
            key: document.key,
            passages,
            vectors,
        });
        if document.source == Source::Path
            && let Some(file) = &document.file
        {
            self.inner.store.documents().drop_file(document.key).await?;
            self.discard(file);
        }
        Ok(())
    }

    /// Reads every passage with the embedder that the settings ask for; the old vectors answer until all are there.
    async fn embed_anew(&self, job: i64) -> Result<(), AppError> {
        let embedder = self.embedder().await?;
        loop {
            let unread = self.inner.store.passages().unread_by_next(BATCH).await?;
            if unread.is_empty() {
                break;
            }
            let texts = unread
                .iter()
                .map(|(_, headings, text)| format!("{}{text}", prefix(headings)))
                .collect();
            let vectors = self.vectors(&embedder, texts).await?;
            let rows = unread
                .into_iter()
                .map(|(id, _, _)| id)
                .zip(vectors)
                .collect();
            self.inner.store.passages().put_next(rows).await?;
        }
        self.inner.store.passages().take_over(job).await?;
        self.load_index().await?;
        *self.inner.library.serving() = Some(embedder.name().to_owned());
        tracing::info!(
            embedder = embedder.name(),
            "documents are searched with another embedder now"
        );
        Ok(())
    }

    /// Fills the memory's vectors from the store.
    pub(super) async fn load_index(&self) -> Result<(), AppError> {
        let (sender, blocks) = std::sync::mpsc::channel();
        self.inner
            .store
            .passages()
            .blocks(move |block| {
                // The receiver outlives the query.
                let _ = sender.send((block.key, pack(&block)));
            })
            .await?;
        self.inner.library.index.replace(blocks);
        Ok(())
    }
}

/// What the embedder reads of a passage.
fn for_embedder(passage: &Passage) -> String {
    format!("{}{}", prefix(&passage.headings), passage.text)
}

fn trouble_of(error: &AppError) -> Trouble {
    match error {
        AppError::Documents(error) => error.trouble(),
        error => Trouble {
            kind: "no_embedder".to_owned(),
            message: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedder_reads_the_headings_too() {
        let passage = Passage {
            text: "body".into(),
            start: 0,
            end: 4,
            page: None,
            headings: vec!["A".into(), "B".into()],
        };
        assert_eq!(for_embedder(&passage), "A > B\nbody");
    }

    #[test]
    fn a_missing_embedder_is_told_as_such() {
        let error = AppError::Documents(LibraryError::NoEmbedder);
        assert_eq!(trouble_of(&error).kind, "no_embedder");
    }
}
