//! What a request says beside its body about how it is to be run, and what is told back beside the answer.
//!
//! Every dialect has these headers in common, so they travel beside the request: the edge puts them down with
//! [`carrying`], [`App::chat`](super::App::chat) picks them up. Work that nobody waits for does the same.

use std::sync::{Arc, Mutex, PoisonError};

use crate::engines::route::{Preset, Priority};

/// How a request would like to be run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// The lane that it insists on.
    pub lane: Option<String>,
    /// Whether somebody waits for it.
    pub priority: Priority,
    /// The conversation that it belongs to; told apart by its beginning when `None`.
    pub session: Option<String>,
    /// What to prefer, where the model's name does not say.
    pub preset: Option<Preset>,
}

impl Wish {
    /// Of work that nobody waits for.
    pub fn background() -> Wish {
        Wish {
            priority: Priority::Background,
            ..Wish::default()
        }
    }
}

/// Where the route of an answer is written once it is decided; clones share it.
#[derive(Debug, Clone, Default)]
pub struct RouteNote(Arc<Mutex<Option<String>>>);

impl RouteNote {
    /// The route, as `x-onebit-route` says it; `None` when nothing was routed.
    pub fn read(&self) -> Option<String> {
        let note = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        note.clone()
    }

    pub(super) fn write(&self, route: String) {
        let mut note = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *note = Some(route);
    }
}

tokio::task_local! {
    static CARRIED: (Wish, RouteNote);
}

/// Does work whose requests are run as wished, and whose route is noted.
pub async fn carrying<F: Future>(wish: Wish, note: RouteNote, work: F) -> F::Output {
    CARRIED.scope((wish, note), work).await
}

/// What the present work carries.
pub(super) fn carried() -> (Wish, RouteNote) {
    CARRIED.try_with(Clone::clone).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wishes_are_carried_and_end_with_the_work() {
        let note = RouteNote::default();
        let work = async {
            let (wish, note) = carried();
            note.write("lane=x".into());
            wish
        };
        let wish = carrying(Wish::background(), note.clone(), work).await;
        assert_eq!(wish, Wish::background());
        assert_eq!(note.read().as_deref(), Some("lane=x"));
        assert_eq!(carried().0, Wish::default());
    }
}
