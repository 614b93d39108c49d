//! How many requests a session takes in: a bounded count, and a permit that gives its place back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::engines::EngineError;

/// Counts requests from their arrival to their end.
#[derive(Debug)]
pub(super) struct Admission {
    inside: AtomicUsize,
    inside_max: usize,
    active: AtomicUsize,
    over: AtomicBool,
}

impl Admission {
    /// Takes in at most `inside_max` requests at a time.
    pub(super) fn new(inside_max: usize) -> Arc<Admission> {
        Arc::new(Admission {
            inside: AtomicUsize::new(0),
            inside_max,
            active: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        })
    }

    /// Takes a request in.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`] when there is no place.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Permit, EngineError> {
        let take = |inside: usize| (inside < self.inside_max).then_some(inside + 1);
        match self
            .inside
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
        {
            Ok(_) => Ok(Permit(Arc::clone(self))),
            Err(inside) => Err(EngineError::QueueFull {
                waiting: inside.saturating_sub(self.active()),
            }),
        }
    }

    /// Says that nothing more is answered here, before anybody hears why.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Whether nothing more is answered here.
    pub(super) fn over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Tells how many of those inside are being answered.
    pub(super) fn set_active(&self, active: usize) {
        self.active.store(active, Ordering::Release);
    }

    /// Requests that are being answered.
    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.inside
            .load(Ordering::Acquire)
            .saturating_sub(self.active())
    }
}

/// One place inside; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Permit(Arc<Admission>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_and_a_dropped_permit_makes_room() {
        let admission = Admission::new(2);
        let first = admission.enter().unwrap();
        let _second = admission.enter().unwrap();
        admission.set_active(1);
        assert_eq!(admission.waiting(), 1);
        assert!(matches!(
            admission.enter(),
            Err(EngineError::QueueFull { waiting: 1 })
        ));
        drop(first);
        admission.enter().unwrap();
    }
}
