//! The log ring of one child: the last lines it printed, numbered, with a wake-up for followers.
//!
//! Owns lines as text. Must not know files or formats; secrets never get here because none is printed.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// Lines kept: about a minute of a chatty engine at load, and enough to see why one died.
pub const LINES_MAX: usize = 2_000;
/// Longest line kept; the rest of a longer one is dropped (progress bars, dumped JSON).
pub const LINE_BYTES_MAX: usize = 4 * 1024;

/// One line of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counts up from 1 over the child's life.
    pub number: u64,
    pub text: String,
}

/// The ring. Shared between the readers of both streams and whoever looks.
pub struct Ring {
    lines: Mutex<VecDeque<Line>>,
    last: watch::Sender<u64>,
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            lines: Mutex::default(),
            last: watch::Sender::new(0),
        }
    }
}

impl Ring {
    /// Adds one line.
    pub fn push(&self, text: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *self.last.borrow() + 1;
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        let cut = text.floor_char_boundary(LINE_BYTES_MAX);
        lines.push_back(Line {
            number,
            text: text[..cut].to_owned(),
        });
        self.last.send_replace(number);
    }

    /// The number of the last line: a cheap sign of life.
    #[must_use]
    pub fn count(&self) -> u64 {
        *self.last.borrow()
    }

    /// Every kept line after `number`.
    #[must_use]
    pub fn after(&self, number: u64) -> Vec<Line> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .filter(|line| line.number > number)
            .cloned()
            .collect()
    }

    /// The last line that says something, for error messages.
    #[must_use]
    pub fn last_line(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let spoken = lines.iter().rev().find(|line| !line.text.trim().is_empty());
        spoken.map_or_else(
            || "it printed nothing".to_owned(),
            |line| line.text.trim().to_owned(),
        )
    }

    /// Wakes with every new line.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Reads `stream` to its end, line by line. A carriage return ends a line too, so that progress
    /// bars count as progress.
    pub(super) async fn fill(&self, mut stream: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 8 * 1024];
        let mut line = Vec::new();
        // A read error ends the stream like its end does: the pidfd tells of the child's fate, not the pipe.
        while let Ok(n) = stream.read(&mut buffer).await {
            if n == 0 {
                break;
            }
            for &byte in &buffer[..n] {
                match byte {
                    b'\n' | b'\r' if line.is_empty() => {}
                    b'\n' | b'\r' => {
                        self.push(&String::from_utf8_lossy(&line));
                        line.clear();
                    }
                    _ if line.len() < LINE_BYTES_MAX => line.push(byte),
                    _ => {}
                }
            }
        }
        if !line.is_empty() {
            self.push(&String::from_utf8_lossy(&line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_split_cut_and_numbered() {
        let ring = Ring::default();
        let long = "x".repeat(LINE_BYTES_MAX + 9);
        ring.fill(format!("one\r\ntwo\r50%\r\n\n{long}\nlast").as_bytes())
            .await;
        let texts: Vec<String> = ring.after(0).into_iter().map(|l| l.text).collect();
        assert_eq!(
            texts,
            ["one", "two", "50%", &long[..LINE_BYTES_MAX], "last"]
        );
        assert_eq!(ring.count(), 5);
        assert_eq!(ring.after(4).len(), 1);
        assert_eq!(ring.last_line(), "last");
    }

    #[test]
    fn old_lines_leave() {
        let ring = Ring::default();
        for n in 0..LINES_MAX + 10 {
            ring.push(&n.to_string());
        }
        let kept = ring.after(0);
        assert_eq!((kept.len(), kept[0].number), (LINES_MAX, 11));
        assert_eq!(Ring::default().last_line(), "it printed nothing");
    }
}
