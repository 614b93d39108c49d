//! What the last answer cost and what all have cost since the start, for clients that ask for it afterwards.

use std::sync::{Mutex, PoisonError};

use super::App;
use crate::domain::{Finish, Usage};

/// The last answer and the sums.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// How the last answer ended; `None` before the first.
    pub last: Option<Finish>,
    /// Answers so far.
    pub answers: u64,
    /// Their tokens, added up.
    pub tokens: Usage,
    /// Decisions that policies made.
    pub decisions: u64,
}

/// The tally as it is kept.
#[derive(Default)]
pub(super) struct Tallies(Mutex<Tally>);

impl App {
    /// Counts an answer that has ended.
    pub(super) fn count_answer(&self, finish: &Finish) {
        let mut tally = self
            .inner
            .tallies
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tally.last = Some(*finish);
        tally.answers += 1;
        let (sum, more) = (&mut tally.tokens, finish.usage);
        sum.prompt_tokens += more.prompt_tokens;
        sum.cached_tokens += more.cached_tokens;
        sum.completion_tokens += more.completion_tokens;
    }

    /// Counts a policy's decision.
    pub(super) fn count_decision(&self) {
        let tally = self.inner.tallies.0.lock();
        tally.unwrap_or_else(PoisonError::into_inner).decisions += 1;
    }

    /// What has been counted.
    pub fn tally(&self) -> Tally {
        let tally = self.inner.tallies.0.lock();
        *tally.unwrap_or_else(PoisonError::into_inner)
    }
}
