//! How long models stay: pinned ones for ever, others until nobody has used them for a while.

use std::time::Duration;

use tokio::sync::oneshot;

use super::entry::{Entry, State};
use super::owner::{Owner, RETRY_AFTER};
use super::{Place, Stay};
use crate::domain::Model;

impl Owner {
    pub(super) fn stay(&mut self, model: Model, stay: Stay) {
        let id = model.id.clone();
        match stay {
            Stay::Usual => {
                self.stays.remove(&id);
            }
            Stay::Idle(_) | Stay::Pinned => {
                self.stays.insert(id, (model, stay));
            }
        }
        self.restore_pinned();
    }

    pub(super) fn is_pinned(&self, model: &str) -> bool {
        matches!(self.stays.get(model), Some((_, Stay::Pinned)))
    }

    /// Loads what is pinned and not there, be it the first time or after it has ended.
    pub(super) fn restore_pinned(&mut self) {
        let missing = |model: &Model| {
            let mut mine = self.entries.iter().filter(|(at, _)| at.model == model.id);
            !mine.any(|(_, entry)| match &entry.state {
                State::Loading { .. } => true,
                State::Loaded { session, .. } => session.alive(),
                State::Failed { at, .. } => at.elapsed() <= RETRY_AFTER,
            })
        };
        let pinned = |(model, stay): &(Model, Stay)| match stay {
            Stay::Pinned if missing(model) => Some(model.clone()),
            _ => None,
        };
        let wanted: Vec<Model> = self.stays.values().filter_map(pinned).collect();
        for model in wanted {
            // Nobody waits for it: the lease goes back at once.
            let (reply, _) = oneshot::channel();
            match self.place(&model, None, None) {
                Ok(place) => self.acquire(model, place, reply),
                Err(error) => self.cannot(model, error, reply),
            }
        }
    }

    /// How long a model may be idle; `None` where it stays until its room is needed.
    pub(super) fn idle_limit(&self, model: &str) -> Option<Duration> {
        let usual = self.settings.idle_unload_s;
        match self.stays.get(model) {
            Some((_, Stay::Pinned | Stay::Idle(Duration::MAX))) => None,
            Some((_, Stay::Idle(limit))) => Some(*limit),
            Some((_, Stay::Usual)) | None => (usual > 0).then(|| Duration::from_secs(usual)),
        }
    }

    pub(super) fn unload_idle(&mut self) {
        let is_idle = |(at, entry): &(&Place, &Entry)| match &entry.state {
            State::Loaded {
                leases: 0,
                idle_since,
                ..
            } => self
                .idle_limit(&at.model)
                .is_some_and(|limit| idle_since.elapsed() > limit),
            _ => false,
        };
        let idle: Vec<Place> = self
            .entries
            .iter()
            .filter(is_idle)
            .map(|(at, _)| at.clone())
            .collect();
        for at in idle {
            tracing::info!(model = at.model, "idle model unloaded");
            self.remove(&at);
        }
    }
}
