//! When to start a child again: back-off and circuit breaker, as plain state without a clock.
//!
//! Owns the decision only. Whoever keeps a child asks [`Keeper::after_exit`] and acts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// First wait after a crash. Short: most crashes are one-offs and a user is waiting.
pub const DELAY_FIRST: Duration = Duration::from_millis(100);
/// Longest wait between two attempts.
pub const DELAY_MAX: Duration = Duration::from_secs(30);
/// Crashes within [`WINDOW`] that open the breaker: more is a broken build or driver, not bad luck.
pub const CRASHES_MAX: usize = 5;
/// The window crashes are counted in.
pub const WINDOW: Duration = Duration::from_secs(120);
/// How long an open breaker keeps everybody away before one trial start.
pub const OPEN: Duration = Duration::from_secs(60);
/// A child that lived this long had a good start: its delay begins again at [`DELAY_FIRST`].
pub const HEALTHY: Duration = Duration::from_secs(30);

/// What to do about a child that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Start it again at this moment.
    Start { at: Instant },
    /// Too many crashes: leave it alone until this moment, then try once.
    Open { until: Instant },
}

/// The crash history of one child.
#[derive(Debug, Clone, Default)]
pub struct Keeper {
    crashes: VecDeque<Instant>,
    streak: u32,
    open_until: Option<Instant>,
    enduring: bool,
}

impl Keeper {
    /// One that always starts again at once: for children whose faults are wanted, in chaos tests.
    #[must_use]
    pub fn enduring() -> Self {
        Self {
            enduring: true,
            ..Self::default()
        }
    }

    /// Records an exit nobody asked for and says when to start again. `lived` is how long the child ran.
    pub fn after_exit(&mut self, now: Instant, lived: Duration) -> Next {
        if self.enduring {
            return Next::Start { at: now };
        }
        self.streak = if lived >= HEALTHY { 1 } else { self.streak + 1 };
        self.crashes.push_back(now);
        while self
            .crashes
            .front()
            .is_some_and(|&t| now.saturating_duration_since(t) > WINDOW)
        {
            self.crashes.pop_front();
        }
        if self.crashes.len() >= CRASHES_MAX {
            let until = now + OPEN;
            self.open_until = Some(until);
            return Next::Open { until };
        }
        // 100 ms, 200 ms, 400 ms, ...: 2^8 is already beyond DELAY_MAX.
        let delay = DELAY_FIRST.saturating_mul(1 << (self.streak - 1).min(9));
        Next::Start {
            at: now + delay.min(DELAY_MAX),
        }
    }

    /// Records a child that became ready.
    pub fn started(&mut self) {
        self.open_until = None;
    }

    /// Whether a start is refused now, and until when. After that moment one trial is let through; if
    /// it fails, [`Keeper::after_exit`] opens the breaker again at once.
    #[must_use]
    pub fn refused(&self, now: Instant) -> Option<Instant> {
        self.open_until.filter(|&until| now < until)
    }

    /// Crashes inside the window, for the status page.
    #[must_use]
    pub fn crashes(&self) -> usize {
        self.crashes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_the_breaker_opens() {
        let start = Instant::now();
        let mut keeper = Keeper::default();
        let mut now = start;
        for wanted_ms in [100, 200, 400, 800] {
            let Next::Start { at } = keeper.after_exit(now, Duration::ZERO) else {
                panic!("opened early")
            };
            assert_eq!((at - now).as_millis(), wanted_ms);
            now = at;
        }
        let Next::Open { until } = keeper.after_exit(now, Duration::ZERO) else {
            panic!("still closed")
        };
        assert_eq!(until, now + OPEN);
        assert_eq!(keeper.refused(now), Some(until));
        assert_eq!(keeper.refused(until), None, "one trial is let through");
        keeper.started();
        assert_eq!(keeper.refused(now), None);
    }

    #[test]
    fn a_long_life_forgives() {
        let start = Instant::now();
        let mut keeper = Keeper::default();
        for n in 0..3 {
            keeper.after_exit(start + Duration::from_secs(n), Duration::ZERO);
        }
        let late = start + WINDOW + Duration::from_secs(10);
        let next = keeper.after_exit(late, HEALTHY);
        assert_eq!(
            next,
            Next::Start {
                at: late + DELAY_FIRST
            }
        );
        assert_eq!(keeper.crashes(), 1);
    }

    #[test]
    fn slow_crashes_never_wait_longer_than_the_maximum() {
        let mut keeper = Keeper::default();
        let mut now = Instant::now();
        for _ in 0..40 {
            now += WINDOW;
            let Next::Start { at } = keeper.after_exit(now, Duration::ZERO) else {
                panic!("not a burst")
            };
            assert!(at - now <= DELAY_MAX);
        }
    }
}
