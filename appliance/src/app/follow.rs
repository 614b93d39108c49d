//! A log of events that any number of readers follow, from the beginning or from where they left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, stream};
use tokio::sync::watch;

/// Events so far; clones share them. Closing a reader stops nothing.
pub(super) struct Log<E> {
    inner: Arc<Inner<E>>,
}

struct Inner<E> {
    /// A std mutex: held for a push or a read, never across an await.
    events: Mutex<Vec<E>>,
    /// (events so far, whether it has ended).
    grown: watch::Sender<(usize, bool)>,
}

impl<E> Clone for Log<E> {
    fn clone(&self) -> Self {
        Log {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<E: Clone + Send + 'static> Log<E> {
    pub(super) fn new() -> Log<E> {
        Log {
            inner: Arc::new(Inner {
                events: Mutex::default(),
                grown: watch::channel((0, false)).0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<E>> {
        self.inner
            .events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event and wakes the readers.
    pub(super) fn push(&self, event: E) {
        let mut events = self.lock();
        events.push(event);
        let count = events.len();
        drop(events);
        self.inner.grown.send_modify(|grown| grown.0 = count);
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        self.inner.grown.send_modify(|grown| grown.1 = true);
    }

    /// Resolves at the end.
    pub(super) async fn ended(&self) {
        // The sender lives in the value that we hold.
        let _ = self
            .inner
            .grown
            .subscribe()
            .wait_for(|(_, ended)| *ended)
            .await;
    }

    /// Follows the events from number `from` on (0 is the first), each with its number.
    pub(super) fn from(&self, from: usize) -> impl Stream<Item = (usize, E)> + Send + use<E> {
        let log = self.clone();
        let grown = self.inner.grown.subscribe();
        stream::unfold((log, grown, from), |(log, mut grown, next)| async move {
            loop {
                let event = log.lock().get(next).cloned();
                if let Some(event) = event {
                    return Some(((next, event), (log, grown, next + 1)));
                }
                let (count, ended) = *grown.borrow_and_update();
                if next < count {
                    continue;
                }
                if ended || grown.changed().await.is_err() {
                    return None;
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn readers_start_anywhere_and_all_see_the_end() {
        let log = Log::new();
        log.push('a');
        let (early, late) = (log.from(0), log.from(1));
        let writer = tokio::spawn({
            let log = log.clone();
            async move {
                log.push('b');
                log.push('c');
                log.end();
            }
        });
        let (early, late) = tokio::join!(
            early.map(|e| e.1).collect::<String>(),
            late.map(|e| e.0).collect::<Vec<_>>()
        );
        writer.await.unwrap();
        assert_eq!((early.as_str(), late), ("abc", vec![1, 2]));
        log.ended().await;
    }
}
