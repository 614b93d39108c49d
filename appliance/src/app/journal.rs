//! The log of this process as clients may follow it, and its level, which may change while it runs.
//!
//! The process has one log, so this is the one place that everybody shares.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::now_ms;

/// Entries that are kept.
const ENTRIES_MAX: usize = 5000;
/// Longest line.
const LINE_BYTES_MAX: usize = 8 << 10;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counts up from 1.
    pub number: u64,
    /// When, unix milliseconds.
    pub at: i64,
    /// How bad it is.
    pub level: tracing::Level,
    /// Which part says so.
    pub part: String,
    /// What it says.
    pub text: String,
}

struct Journal {
    entries: Mutex<VecDeque<Entry>>,
    last: watch::Sender<u64>,
}

static JOURNAL: LazyLock<Journal> = LazyLock::new(|| Journal {
    entries: Mutex::default(),
    last: watch::Sender::new(0),
});

type SetLevel = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

static SET_LEVEL: OnceLock<SetLevel> = OnceLock::new();

/// Writes every event into the journal; the log's filter stands before it.
#[derive(Debug)]
pub struct JournalLayer;

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let meta = event.metadata();
        let part = meta.target().rsplit("::").next().unwrap_or_default();
        write(*meta.level(), part, line.0);
    }
}

/// The message first, then the fields.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing into a String cannot fail.
        if field.name() == "message" {
            let fields = std::mem::take(&mut self.0);
            let _ = write!(self.0, "{value:?}{fields}");
        } else {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }
}

fn write(level: tracing::Level, part: &str, mut text: String) {
    text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
    let mut entries = JOURNAL
        .entries
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let number = *JOURNAL.last.borrow() + 1;
    if entries.len() == ENTRIES_MAX {
        entries.pop_front();
    }
    entries.push_back(Entry {
        number,
        at: now_ms(),
        level,
        part: part.to_owned(),
        text,
    });
    JOURNAL.last.send_replace(number);
}

/// Every kept line after `number`.
pub fn entries_after(number: u64) -> Vec<Entry> {
    let entries = JOURNAL
        .entries
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let from = entries.partition_point(|entry| entry.number <= number);
    entries.range(from..).cloned().collect()
}

/// Wakes with every new line.
pub fn follow() -> watch::Receiver<u64> {
    JOURNAL.last.subscribe()
}

/// Says how the level is changed; for whoever starts the log.
pub fn on_set_level(set: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) {
    // The log starts once; a second start has failed before it comes here.
    let _ = SET_LEVEL.set(Box::new(set));
}

/// Changes the level until the process ends.
///
/// # Errors
/// It is no level, or this process has no log.
pub fn set_level(level: &str) -> Result<(), String> {
    let set = SET_LEVEL.get().ok_or("this process keeps no log")?;
    set(level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn lines_are_numbered_and_say_their_fields() {
        let before = follow().borrow().to_owned();
        let log = tracing_subscriber::registry().with(JournalLayer);
        tracing::subscriber::with_default(log, || {
            tracing::info!(model = "m", bytes = 5, "a model was loaded");
        });
        let found = entries_after(before);
        let entry = found
            .iter()
            .find(|entry| entry.text.contains("a model was loaded"));
        let entry = entry.expect("the line");
        assert_eq!(entry.text, "a model was loaded model=\"m\" bytes=5");
        assert_eq!((entry.level, &*entry.part), (tracing::Level::INFO, "tests"));
        assert!(
            entries_after(entry.number)
                .iter()
                .all(|later| later.number > entry.number)
        );
    }
}
