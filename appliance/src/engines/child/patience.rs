//! How long a child may be silent.

use std::time::Duration;

/// How long silence is believed to be work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// No sign of life at all (no CPU, no memory, no output) while starting.
    pub starting: Duration,
    /// The same while requests are running.
    pub working: Duration,
    /// Silence of one answer, before it and inside it, beyond [`Patience::per_token`].
    pub answer: Duration,
    /// For each prompt token before the first byte: 20 tokens a second is the slowest lane we know.
    pub per_token: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            starting: Duration::from_secs(60),
            working: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            per_token: Duration::from_millis(50),
        }
    }
}
