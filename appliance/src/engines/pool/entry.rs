//! One model in one place: loading, loaded or failed, and how much it is used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::{EngineError, Session};
use super::{Lease, ModelState, Place};
use crate::domain::Model;

pub(super) type Waiter = oneshot::Sender<Result<Lease, EngineError>>;

pub(super) enum State {
    /// Waits for room, or is being loaded.
    Loading {
        waiters: Vec<Waiter>,
        memory_bytes: u64,
    },
    Loaded {
        session: Arc<dyn Session>,
        leases: usize,
        last_used: u64,
        idle_since: Instant,
        drain: Drain,
        loaded_in: Duration,
        uses: Uses,
    },
    Failed {
        error: EngineError,
        at: Instant,
    },
}

/// Whether a loaded model takes new requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    /// It does.
    No,
    /// Its room is needed: new requests wait until that is settled.
    ForRoom,
    /// It was told to leave: it goes when its last lease ends.
    Leaving,
}

/// Requests of about the last hour: a count that halves in 42 minutes.
#[derive(Clone, Copy)]
pub(super) struct Uses {
    pub(super) count: f64,
    pub(super) at: Instant,
}

impl Uses {
    pub(super) fn new() -> Uses {
        Uses {
            count: 0.0,
            at: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> f64 {
        self.count * (-self.at.elapsed().as_secs_f64() / 3600.0).exp()
    }

    pub(super) fn one_more(&mut self) {
        *self = Uses {
            count: self.now() + 1.0,
            at: Instant::now(),
        };
    }
}

pub(super) struct Entry {
    pub(super) model: Model,
    pub(super) serial: u64,
    pub(super) state: State,
}

impl Entry {
    /// What it is doing; `limit` is how long it may be idle.
    pub(super) fn view(&self, limit: Option<Duration>) -> ModelState {
        match &self.state {
            State::Loading { .. } => ModelState::Loading,
            State::Loaded {
                session,
                leases,
                idle_since,
                ..
            } => ModelState::Loaded {
                engine: session.facts().engine,
                memory_bytes: session.facts().memory_bytes,
                context_length: session.facts().context_length,
                load: session.load(),
                leaves_in: limit.map(|limit| match leases {
                    0 => limit.saturating_sub(idle_since.elapsed()),
                    _ => limit,
                }),
            },
            State::Failed { error, .. } => ModelState::Failed {
                why: error.to_string(),
            },
        }
    }
}

/// A place's name in plans.
pub(super) fn name_of(place: &Place) -> String {
    format!("{}@{}/{}", place.model, place.engine, place.lane)
}
