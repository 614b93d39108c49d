//! Pulls that belong to the appliance: they go on when nobody listens, and can be paused, gone on with and cancelled.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::catalog::{Progress, Source};
use super::{App, AppError};
use crate::error::Failing;

/// How long a pull that succeeded stays listed: long enough for whoever looks now and then.
const DONE_LISTED: Duration = Duration::from_secs(300);
/// Pulls that are listed; older ones that have ended go first.
const LISTED_MAX: usize = 100;

/// Where a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownloadState {
    /// Bytes are coming.
    Downloading,
    /// Stopped; what has come stays.
    Paused,
    /// Given up by its owner; what has come stays until another pull takes it.
    Cancelled,
    /// The model is here.
    Completed,
    /// It failed.
    Failed,
}

/// A pull as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The name that its client gave the model.
    pub model: String,
    /// The name under which the model is here, once it is.
    pub imported: Option<String>,
    /// Where it comes from, such as `org/name:Q4_1`.
    pub checkpoint: String,
    /// Where it is.
    pub state: DownloadState,
    /// Bytes of all files; 0 until they are known.
    pub total_bytes: u64,
    /// Bytes that are here.
    pub done_bytes: u64,
    /// Of those, the ones that an earlier run had left.
    pub resumed_bytes: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// The failure's word for programs.
    pub code: Option<&'static str>,
}

/// What a client may want of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownloadAction {
    /// Stop; go on by pulling again.
    Pause,
    /// Stop for good.
    Cancel,
    /// Stop, and take it off the list.
    Remove,
}

struct Job {
    seen: Download,
    progress: Arc<Progress>,
    task: Option<AbortHandle>,
    ended: Option<Instant>,
}

/// All pulls, and a bell that rings when one ends.
pub(super) struct Downloads {
    jobs: Mutex<BTreeMap<String, Job>>,
    bell: watch::Sender<u64>,
}

impl Default for Downloads {
    fn default() -> Self {
        Downloads {
            jobs: Mutex::default(),
            bell: watch::Sender::new(0),
        }
    }
}

impl Job {
    fn now(&self) -> Download {
        let bytes = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        Download {
            total_bytes: bytes(&self.progress.total_bytes),
            done_bytes: bytes(&self.progress.done_bytes),
            resumed_bytes: bytes(&self.progress.resumed_bytes),
            ..self.seen.clone()
        }
    }

    fn stop(&mut self, state: DownloadState) {
        if self.seen.state == DownloadState::Downloading {
            if let Some(task) = self.task.take() {
                task.abort();
            }
            self.seen.state = state;
            self.ended = Some(Instant::now());
        } else if self.seen.state == DownloadState::Paused {
            self.seen.state = state;
        }
    }
}

impl Downloads {
    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<String, Job>) -> T) -> T {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.retain(|_, job| {
            let old = job.ended.is_some_and(|ended| ended.elapsed() > DONE_LISTED);
            !(old && job.seen.state == DownloadState::Completed)
        });
        look(&mut jobs)
    }

    fn end(&self, model: &str, result: Result<String, AppError>) {
        self.with(|jobs| {
            let Some(job) = jobs.get_mut(model) else {
                return;
            };
            if job.seen.state != DownloadState::Downloading {
                return; // stopped in the same moment
            }
            job.ended = Some(Instant::now());
            job.task = None;
            match result {
                Ok(imported) => {
                    job.seen.state = DownloadState::Completed;
                    job.seen.imported = Some(imported);
                }
                Err(error) => {
                    tracing::warn!(model, %error, "a pull failed");
                    job.seen.state = DownloadState::Failed;
                    job.seen.code = error.code();
                    job.seen.error = Some(error.to_string());
                }
            }
        });
        self.bell.send_modify(|rung| *rung += 1);
    }
}

impl App {
    /// Starts a pull, or returns the one that is running under this name. One that had stopped goes on with what
    /// it has.
    ///
    /// # Errors
    /// The place is no repository, or too many pulls are listed.
    pub fn start_download(
        &self,
        model: &str,
        checkpoint: &str,
        name: Option<String>,
    ) -> Result<Download, AppError> {
        let source = Source::parse(checkpoint)?;
        let progress = Arc::new(Progress::default());
        self.inner.downloads.with(|jobs| {
            if let Some(job) = jobs.get(model)
                && job.seen.state == DownloadState::Downloading
            {
                return Ok(job.now());
            }
            if jobs.len() >= LISTED_MAX && !jobs.contains_key(model) {
                let ended = jobs
                    .iter()
                    .filter_map(|(name, job)| Some((job.ended?, name.clone())));
                let Some((_, oldest)) = ended.min() else {
                    return Err(AppError::TooManyDownloads(jobs.len()));
                };
                jobs.remove(&oldest);
            }
            let seen = Download {
                model: model.to_owned(),
                imported: None,
                checkpoint: checkpoint.to_owned(),
                state: DownloadState::Downloading,
                total_bytes: 0,
                done_bytes: 0,
                resumed_bytes: 0,
                error: None,
                code: None,
            };
            let (app, key, shown) = (self.clone(), model.to_owned(), Arc::clone(&progress));
            let task = tokio::spawn(async move {
                let pulled = app.pull(&source, name, &shown).await;
                app.inner.downloads.end(&key, pulled.map(|model| model.id));
            });
            let job = Job {
                seen,
                progress: Arc::clone(&progress),
                task: Some(task.abort_handle()),
                ended: None,
            };
            let now = job.now();
            jobs.insert(model.to_owned(), job);
            Ok(now)
        })
    }

    /// Every pull that is listed, by name.
    pub fn downloads(&self) -> Vec<Download> {
        self.inner
            .downloads
            .with(|jobs| jobs.values().map(Job::now).collect())
    }

    /// One pull as it is now.
    pub fn download(&self, model: &str) -> Option<Download> {
        self.inner
            .downloads
            .with(|jobs| jobs.get(model).map(Job::now))
    }

    /// Resolves when some pull has ended or was stopped.
    pub fn download_bell(&self) -> watch::Receiver<u64> {
        self.inner.downloads.bell.subscribe()
    }

    /// Stops a pull, or forgets it. Returns how it then is; `None` when there is none of that name.
    pub fn control_download(&self, model: &str, action: DownloadAction) -> Option<Download> {
        let seen = self.inner.downloads.with(|jobs| {
            let job = jobs.get_mut(model)?;
            match action {
                DownloadAction::Pause => job.stop(DownloadState::Paused),
                DownloadAction::Cancel | DownloadAction::Remove => {
                    job.stop(DownloadState::Cancelled)
                }
            }
            let now = job.now();
            if action == DownloadAction::Remove {
                jobs.remove(model);
            }
            Some(now)
        });
        self.inner.downloads.bell.send_modify(|rung| *rung += 1);
        seen
    }
}
