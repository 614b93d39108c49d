//! Who is loaded: one task that owns every session.
//!
//! Callers ask for a model and get a [`Lease`]; they never look at states first, so nothing can race.
//! The task decides through [`super::plan`], loads and unloads outside itself, and hears of both by
//! message. A lease holds its session in memory; when the last one ends the session may be evicted. One
//! model may be loaded in several places, one for each engine that runs it.

mod entry;
mod owner;
mod room;
mod stays;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use onebit_kernels::threads::Threads;
use tokio::sync::{mpsc, oneshot};

use self::owner::Owner;
use super::plan::Loaded;
use super::{Engine, EngineError, Load, Means, Session, Task};
use crate::config::PoolConfig;
use crate::domain::{Machine, Model};

/// Reads the machine's facts at the moment of a decision.
pub type ReadMachine = Arc<dyn Fn() -> Machine + Send + Sync>;

/// Lanes that are tried for a model, one after the other; no engine has more than two, and four may run one format.
const LANES_TRIED: usize = 8;

/// A handle on the pool; clones share it.
#[derive(Clone)]
pub struct Pool {
    commands: mpsc::UnboundedSender<Command>,
}

/// A model on one lane of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The model's name.
    pub model: String,
    /// The engine's name; empty where no engine runs the model.
    pub engine: &'static str,
    /// The lane's name; empty where the engine has one place for a model.
    pub lane: &'static str,
}

/// A loaded model, held in memory while this value lives.
pub struct Lease {
    session: Arc<dyn Session>,
    place: Place,
    serial: u64,
    loaded_in: Option<Duration>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Lease {
    /// How long loading took, for whoever caused it.
    pub fn loaded_in(&self) -> Option<Duration> {
        self.loaded_in
    }
}

impl Deref for Lease {
    type Target = dyn Session;

    fn deref(&self) -> &Self::Target {
        &*self.session
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let place = Place {
            model: std::mem::take(&mut self.place.model),
            engine: self.place.engine,
            lane: self.place.lane,
        };
        // The pool has gone when the appliance stops; nothing is left to return to.
        let _ = self.commands.send(Command::Return {
            place,
            serial: self.serial,
        });
    }
}

/// What a model is doing, for listings.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelState {
    /// It is being loaded, or waits for room.
    Loading,
    /// It answers.
    Loaded {
        /// The engine's name.
        engine: &'static str,
        /// Bytes that it holds.
        memory_bytes: u64,
        /// Positions that one answer may use.
        context_length: usize,
        /// How busy it is.
        load: Load,
        /// How long until it leaves if nobody asks; `None` when it stays until its room is needed.
        leaves_in: Option<Duration>,
    },
    /// Loading failed.
    Failed {
        /// Why.
        why: String,
    },
}

/// How long a model stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// As the settings say.
    Usual,
    /// Until it has not been used for so long.
    Idle(Duration),
    /// Always: it never leaves for another, and is loaded again when it ends.
    Pinned,
}

/// Everything that the pool knows at one moment, for the router.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// What is or was to be loaded.
    pub places: Vec<(Place, ModelState)>,
    /// What holds memory.
    pub loaded: Vec<Loaded>,
    /// Bytes that all loaded models may take together.
    pub budget_bytes: u64,
}

enum Command {
    Acquire {
        model: Box<Model>,
        on: Option<(&'static str, &'static str)>,
        task: Task,
        reply: oneshot::Sender<Result<Lease, EngineError>>,
    },
    Return {
        place: Place,
        serial: u64,
    },
    Ready {
        place: Place,
        serial: u64,
        took: Duration,
        result: Result<Arc<dyn Session>, EngineError>,
    },
    Unloaded {
        memory_bytes: u64,
    },
    Unload {
        id: String,
        reply: oneshot::Sender<bool>,
    },
    Stay {
        model: Box<Model>,
        stay: Stay,
    },
    States {
        reply: oneshot::Sender<HashMap<String, ModelState>>,
    },
    Survey {
        machine: Machine,
        reply: oneshot::Sender<Survey>,
    },
}

impl Pool {
    /// Starts the task. It ends when the last handle and the last lease are gone.
    pub fn start(
        engines: &'static [&'static dyn Engine],
        settings: PoolConfig,
        means: Means,
        threads: Arc<Threads>,
        machine: ReadMachine,
    ) -> Pool {
        let (commands, inbox) = mpsc::unbounded_channel();
        let owner = Owner::new(
            engines,
            settings,
            Arc::new(means),
            threads,
            machine,
            commands.downgrade(),
        );
        tokio::spawn(owner.run(inbox));
        Pool { commands }
    }

    /// Returns the model loaded, wherever it is or on the first engine that runs it.
    ///
    /// # Errors
    /// No engine runs it, it does not fit, loading failed, or too many wait for it.
    pub async fn session(&self, model: &Model) -> Result<Lease, EngineError> {
        self.acquire(model, Task::Chat).await
    }

    /// The same where a task is done that not every engine does.
    ///
    /// # Errors
    /// As [`Pool::session`].
    pub async fn session_for(&self, model: &Model, task: Task) -> Result<Lease, EngineError> {
        self.acquire(model, task).await
    }

    /// Returns the model loaded on one lane of an engine, loading it first where needed.
    ///
    /// # Errors
    /// That engine does not run it, it does not fit, loading failed, or too many wait for it.
    pub async fn session_on(
        &self,
        model: &Model,
        engine: &'static str,
        lane: &'static str,
    ) -> Result<Lease, EngineError> {
        self.ask(model, Some((engine, lane)), Task::Chat).await
    }

    /// Where no lane is named, one that cannot load the model is followed by the next.
    async fn acquire(&self, model: &Model, task: Task) -> Result<Lease, EngineError> {
        let mut first = None;
        for _ in 0..LANES_TRIED {
            match self.ask(model, None, task).await {
                Err(error @ EngineError::LoadFailed { .. }) => first.get_or_insert(error),
                outcome => return outcome,
            };
        }
        Err(first.unwrap_or(EngineError::Stopped))
    }

    async fn ask(
        &self,
        model: &Model,
        on: Option<(&'static str, &'static str)>,
        task: Task,
    ) -> Result<Lease, EngineError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Acquire {
            model: Box::new(model.clone()),
            on,
            task,
            reply,
        };
        self.commands
            .send(command)
            .map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }

    /// Says how long a model stays once it is loaded. A pinned one is loaded at once.
    pub fn stay(&self, model: &Model, stay: Stay) {
        // The pool has gone when the appliance stops; nothing stays then.
        let _ = self.commands.send(Command::Stay {
            model: Box::new(model.clone()),
            stay,
        });
    }

    /// Unloads a model everywhere as soon as nobody uses it; `false` when it is not loaded.
    pub async fn unload(&self, id: &str) -> bool {
        let (reply, answer) = oneshot::channel();
        let command = Command::Unload {
            id: id.to_owned(),
            reply,
        };
        self.commands.send(command).is_ok() && answer.await.unwrap_or(false)
    }

    /// Returns what each model that was asked for is doing; those never asked for are missing.
    pub async fn states(&self) -> HashMap<String, ModelState> {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::States { reply }).is_err() {
            return HashMap::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Returns all that the pool knows now. The caller has the machine's facts: a look may do with some that are a
    /// moment old, while loading reads them itself.
    pub async fn survey(&self, machine: Machine) -> Survey {
        let (reply, answer) = oneshot::channel();
        let command = Command::Survey { machine, reply };
        if self.commands.send(command).is_err() {
            return Survey::default();
        }
        answer.await.unwrap_or_default()
    }
}
