//! Lanes that could not load a model: left alone for a while, with the reason, also after a start.
//!
//! Owns how long. The router is told; where nothing else can answer, it asks all the same.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{App, AppError, NoteKind, now_ms};

/// How long a lane is left alone after its first failure, in milliseconds; four times as long after each further one,
/// at most [`AWAY_MAX_MS`]. A full disk or another program's memory passes in minutes, a driver stays as it is for days.
const AWAY_MS: i64 = 60_000;
/// Six hours: an owner who has mended something in the morning is served in the afternoon without a word.
const AWAY_MAX_MS: i64 = 6 * 3_600_000;

/// One lane and model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    why: String,
    /// In a row.
    count: u32,
    /// Unix milliseconds.
    until: i64,
}

/// All of them, by lane and the model's key.
#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<(String, String), Failure>>);

impl Failures {
    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a lane is left alone with a model at the moment.
    pub(super) fn why(&self, lane: &str, model: &str, now: i64) -> Option<String> {
        let table = self.lock();
        let failure = table.get(&(lane.to_owned(), model.to_owned()))?;
        let left_s = (failure.until - now) / 1000;
        (left_s > 0).then(|| {
            let times = match failure.count {
                1 => "once".to_owned(),
                n => format!("{n} times"),
            };
            format!(
                "it failed to load {times} ({}); it is tried again in {left_s} s",
                failure.why
            )
        })
    }

    fn add(&self, lane: &str, model: &str, why: &str, now: i64) -> Failure {
        let mut table = self.lock();
        let place = (lane.to_owned(), model.to_owned());
        let count = table.get(&place).map_or(0, |before| before.count) + 1;
        let away = AWAY_MS.saturating_mul(4_i64.saturating_pow(count - 1));
        let failure = Failure {
            why: why.to_owned(),
            count,
            until: now + away.min(AWAY_MAX_MS),
        };
        table.insert(place, failure.clone());
        failure
    }
}

/// The row's name: lanes have no spaces.
fn row(lane: &str, model: &str) -> String {
    format!("{lane} {model}")
}

impl App {
    /// A lane could not load a model.
    pub(super) async fn note_failure(&self, lane: &str, model: &str, why: &str) {
        let failure = self.inner.failures.add(lane, model, why, now_ms());
        let Ok(body) = serde_json::to_string(&failure) else {
            return;
        };
        let notes = self.inner.store.notes();
        if let Err(error) = notes.put(NoteKind::Failure, &row(lane, model), &body).await {
            tracing::warn!(%error, "a failed load is not remembered");
        }
    }

    /// A lane has loaded a model: what went before is forgotten.
    pub(super) async fn forget_failure(&self, lane: &str, model: &str) {
        let place = (lane.to_owned(), model.to_owned());
        if self.inner.failures.lock().remove(&place).is_none() {
            return;
        }
        let notes = self.inner.store.notes();
        if let Err(error) = notes.remove(NoteKind::Failure, &row(lane, model)).await {
            tracing::warn!(%error, "a failed load is not forgotten");
        }
    }

    /// Something about a lane has changed for all models: each may be tried again.
    ///
    /// # Errors
    /// The store fails.
    pub(super) async fn forget_failures_of(&self, lane: &str) -> Result<(), AppError> {
        self.inner.failures.lock().retain(|(of, _), _| of != lane);
        let notes = self.inner.store.notes();
        for (name, _) in notes.all(NoteKind::Failure).await? {
            if name.split(' ').next() == Some(lane) {
                notes.remove(NoteKind::Failure, &name).await?;
            }
        }
        Ok(())
    }

    /// Takes what earlier processes could not load.
    ///
    /// # Errors
    /// The store fails.
    pub(super) async fn remember_failures(&self) -> Result<(), AppError> {
        let rows = self.inner.store.notes().all(NoteKind::Failure).await?;
        let mut table = self.inner.failures.lock();
        for (name, body) in rows {
            // A row of another version is no reason to leave a lane alone.
            if let (Some((lane, model)), Ok(failure)) =
                (name.split_once(' '), serde_json::from_str(&body))
            {
                table.insert((lane.to_owned(), model.to_owned()), failure);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_left_alone_longer_each_time_and_then_tried_again() {
        let failures = Failures::default();
        assert_eq!(failures.why("llama.vulkan", "m", 0), None);
        assert_eq!(
            failures.add("llama.vulkan", "m", "no device", 0).until,
            60_000
        );
        let why = failures.why("llama.vulkan", "m", 1000).unwrap();
        assert!(
            why.contains("once") && why.contains("no device") && why.contains("59 s"),
            "{why}"
        );
        assert_eq!(failures.why("llama.cpu", "m", 1000), None);
        assert_eq!(failures.why("llama.vulkan", "m", 60_000), None);
        assert_eq!(
            failures.add("llama.vulkan", "m", "x", 60_000).until,
            300_000
        );
        for _ in 0..40 {
            failures.add("llama.vulkan", "m", "x", 0);
        }
        let last = failures.add("llama.vulkan", "m", "x", 0);
        assert_eq!((last.until, last.count), (AWAY_MAX_MS, 43));
    }
}
