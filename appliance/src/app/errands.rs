//! Work that a client orders and does not wait for: loading a model, fetching one. How it went is kept for a while.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::{App, AppError};
use crate::store::new_id;

/// Errands that are remembered; the oldest that has ended goes first.
const KEPT: usize = 32;

/// How far an errand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrandState {
    /// It goes on.
    Running,
    /// It is done.
    Done,
    /// It failed.
    Failed,
}

/// One errand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// Its identifier.
    pub id: String,
    /// What is done, for people.
    pub what: String,
    /// The model that it is about, as it was named.
    pub model: String,
    /// How far it is.
    pub state: ErrandState,
    /// Why it failed.
    pub error: Option<String>,
}

/// All errands, the oldest first.
#[derive(Default)]
pub(super) struct Errands(Mutex<VecDeque<Errand>>);

impl Errands {
    fn with<T>(&self, look: impl FnOnce(&mut VecDeque<Errand>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self, errand: Errand) {
        self.with(|all| {
            if all.len() >= KEPT
                && let Some(ended) = all.iter().position(|one| one.state != ErrandState::Running)
            {
                all.remove(ended);
            }
            all.push_back(errand);
        });
    }

    fn end(&self, id: &str, result: Result<(), AppError>) {
        self.with(|all| {
            let Some(errand) = all.iter_mut().find(|one| one.id == id) else {
                return;
            };
            match result {
                Ok(()) => errand.state = ErrandState::Done,
                Err(error) => {
                    tracing::warn!(what = errand.what, %error, "an errand failed");
                    errand.state = ErrandState::Failed;
                    errand.error = Some(error.to_string());
                }
            }
        });
    }
}

impl App {
    /// Loads a model while nobody waits.
    ///
    /// # Errors
    /// None can be begun.
    pub fn load_later(&self, model: &str) -> Result<(), AppError> {
        let id = self.begin_errand(format!("Load {model}"), model)?;
        let (app, model) = (self.clone(), model.to_owned());
        tokio::spawn(async move {
            let loaded = app.load(&model).await.map(drop);
            app.inner.errands.end(&id, loaded);
        });
        Ok(())
    }

    /// Fetches a model while nobody waits; what is a repository's name is looked for there. How far it is stands among
    /// the downloads.
    ///
    /// # Errors
    /// None can be begun.
    pub fn pull_later(&self, model: &str) -> Result<(), AppError> {
        let id = self.begin_errand(format!("Fetch {model}"), model)?;
        let started = self.start_download(model, model, None);
        let app = self.clone();
        let model = model.to_owned();
        tokio::spawn(async move {
            let ended = match started {
                Ok(_) => app.pulled(&model).await,
                Err(error) => Err(error),
            };
            app.inner.errands.end(&id, ended);
        });
        Ok(())
    }

    /// Waits until a pull has ended.
    async fn pulled(&self, model: &str) -> Result<(), AppError> {
        use super::DownloadState::{Cancelled, Completed, Downloading, Failed, Paused};
        let mut bell = self.download_bell();
        loop {
            bell.borrow_and_update();
            let seen = self.download(model);
            match seen.as_ref().map(|seen| seen.state) {
                Some(Downloading) => {}
                Some(Completed) => return Ok(()),
                Some(Failed) => {
                    let why = seen.and_then(|seen| seen.error).unwrap_or_default();
                    return Err(AppError::Errand(why));
                }
                Some(Paused | Cancelled) | None => {
                    return Err(AppError::Errand("it was stopped".to_owned()));
                }
            }
            if bell.changed().await.is_err() {
                return Err(AppError::Errand("the appliance stops".to_owned()));
            }
        }
    }

    /// The errands that are remembered, the oldest first.
    pub fn errands(&self) -> Vec<Errand> {
        self.inner.errands.with(|all| all.iter().cloned().collect())
    }

    fn begin_errand(&self, what: String, model: &str) -> Result<String, AppError> {
        let id = new_id()?.to_string();
        self.inner.errands.begin(Errand {
            id: id.clone(),
            what,
            model: model.to_owned(),
            state: ErrandState::Running,
            error: None,
        });
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_makes_room_and_what_runs_stays() {
        let errands = Errands::default();
        for n in 0..KEPT + 3 {
            errands.begin(Errand {
                id: n.to_string(),
                what: "Load m".into(),
                model: "m".into(),
                state: ErrandState::Running,
                error: None,
            });
            if n > 0 {
                let failed = Err(AppError::Errand("no".into()));
                errands.end(&n.to_string(), failed);
            }
        }
        let left = errands.with(|all| all.clone());
        assert_eq!(left.len(), KEPT);
        assert_eq!(
            (left[0].id.as_str(), left[0].state),
            ("0", ErrandState::Running)
        );
        assert_eq!(left[1].id, "4");
        assert_eq!(left[1].error.as_deref(), Some("no"));
    }
}
