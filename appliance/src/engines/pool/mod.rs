//! Who is loaded: one task that owns every session.
//!
//! Callers ask for a model and get a [`Lease`]; they never look at states first, so nothing can race.
//! The task decides through [`super::plan`], loads and unloads outside itself, and hears of both by
//! message. A lease holds its session in memory; when the last one ends the session may be evicted.

mod owner;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use onebit_kernels::threads::Threads;
use tokio::sync::{mpsc, oneshot};

use self::owner::Owner;
use super::{Engine, EngineError, Load, Means, Session};
use crate::config::PoolConfig;
use crate::domain::{Machine, Model};

/// Reads the machine's facts at the moment of a decision.
pub type ReadMachine = Arc<dyn Fn() -> Machine + Send + Sync>;

/// A handle on the pool; clones share it.
#[derive(Clone)]
pub struct Pool {
    commands: mpsc::UnboundedSender<Command>,
}

/// A loaded model, held in memory while this value lives.
pub struct Lease {
    session: Arc<dyn Session>,
    id: String,
    serial: u64,
    commands: mpsc::UnboundedSender<Command>,
}

impl Deref for Lease {
    type Target = dyn Session;

    fn deref(&self) -> &Self::Target {
        &*self.session
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let id = std::mem::take(&mut self.id);
        // The pool has gone when the appliance stops; nothing is left to return to.
        let _ = self.commands.send(Command::Return {
            id,
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
    },
    /// Loading failed.
    Failed {
        /// Why.
        why: String,
    },
}

enum Command {
    Acquire {
        model: Box<Model>,
        reply: oneshot::Sender<Result<Lease, EngineError>>,
    },
    Return {
        id: String,
        serial: u64,
    },
    Ready {
        id: String,
        serial: u64,
        result: Result<Arc<dyn Session>, EngineError>,
    },
    Unloaded {
        memory_bytes: u64,
    },
    Unload {
        id: String,
        reply: oneshot::Sender<bool>,
    },
    States {
        reply: oneshot::Sender<HashMap<String, ModelState>>,
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

    /// Returns the model loaded, loading it first where needed.
    ///
    /// # Errors
    /// No engine runs it, it does not fit, loading failed, or too many wait for it.
    pub async fn session(&self, model: &Model) -> Result<Lease, EngineError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Acquire {
            model: Box::new(model.clone()),
            reply,
        };
        self.commands
            .send(command)
            .map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }

    /// Unloads a model as soon as nobody uses it; `false` when it is not loaded.
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
}
