//! What an answer costs the processor's package: its energy counter before and after, less what it takes when idle.
//!
//! Owns the arithmetic. Counters are read where the machine has them and this user may; elsewhere the router goes by
//! what such silicon usually takes, and says so.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engines::lanes::{Lane, Silicon};
use crate::host;

/// Shorter spans say nothing: the counters move in steps of milliseconds.
const SPAN_MIN: Duration = Duration::from_millis(200);
/// Idle spans shorter than this still hold the end of an answer.
const IDLE_MIN: Duration = Duration::from_secs(2);

/// One look at the counters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    at: Instant,
    joules: f64,
}

#[derive(Default)]
struct Known {
    /// Where the last answer ended.
    ended: Option<Look>,
    /// The least that was taken between answers.
    idle_watts: Option<f64>,
}

/// The package's counter, as answers see it.
pub(super) struct Energy {
    readable: bool,
    known: Mutex<Known>,
}

impl Energy {
    /// Looks whether there are counters.
    pub(super) fn new() -> Self {
        let first = look();
        Self {
            readable: first.is_some(),
            known: Mutex::new(Known {
                ended: first,
                idle_watts: None,
            }),
        }
    }

    /// An answer begins alone on a lane of the package.
    pub(super) fn begin(&self, lane: &Lane) -> Option<Look> {
        let inside = matches!(lane.silicon, Silicon::Cpu | Silicon::Igpu | Silicon::Npu);
        if !self.readable || !inside {
            return None;
        }
        let now = look()?;
        self.idle_until(now);
        Some(now)
    }

    /// An answer has ended; the watts that it took above idle, where nothing ran beside it.
    pub(super) fn end(&self, begun: Look) -> Option<f64> {
        self.ended(begun, look()?)
    }

    fn idle_until(&self, now: Look) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watts) = known.ended.and_then(|last| between(last, now, IDLE_MIN)) {
            known.idle_watts = Some(known.idle_watts.map_or(watts, |least| least.min(watts)));
        }
    }

    fn ended(&self, begun: Look, now: Look) -> Option<f64> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.ended = Some(now);
        let watts = between(begun, now, SPAN_MIN)? - known.idle_watts?;
        (watts > 0.0).then_some(watts)
    }
}

/// Mean watts of a span; `None` for one that is too short, or in which a counter has wrapped.
fn between(from: Look, to: Look, least: Duration) -> Option<f64> {
    let span = to.at.saturating_duration_since(from.at);
    let joules = to.joules - from.joules;
    (span >= least && joules >= 0.0).then(|| joules / span.as_secs_f64())
}

fn look() -> Option<Look> {
    let parts = host::energy_now(Path::new("/"));
    (!parts.is_empty()).then(|| Look {
        at: Instant::now(),
        joules: parts.iter().map(|part| part.joules).sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_what_is_above_idle() {
        let energy = Energy {
            readable: true,
            known: Mutex::default(),
        };
        let start = Instant::now();
        let at = |s: f64, joules: f64| Look {
            at: start + Duration::from_secs_f64(s),
            joules,
        };
        assert_eq!(
            energy.ended(at(0.0, 0.0), at(1.0, 50.0)),
            None,
            "idle is not known"
        );
        energy.idle_until(at(11.0, 150.0)); // 10 W
        energy.idle_until(at(12.0, 151.0)); // the least counts
        let watts = energy.ended(at(11.0, 151.0), at(13.0, 251.0)).unwrap();
        assert!((watts - (50.0 - 100.0 / 11.0)).abs() < 5.0, "{watts}");
        assert_eq!(
            energy.ended(at(13.0, 251.0), at(13.1, 300.0)),
            None,
            "too short"
        );
        assert_eq!(
            energy.ended(at(14.0, 300.0), at(15.0, 2.0)),
            None,
            "it wrapped"
        );
        let busy_before = energy.ended(at(20.0, 100.0), at(21.0, 101.0));
        assert_eq!(busy_before, None, "below idle is no measurement");
    }
}
