//! What several blocks of a loop share: a buffer that they write in disjoint places, and their failures.

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

/// A mutable slice that may be handed to several threads, each of which takes its own range.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `range`, whose contract is that concurrent ranges are disjoint.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Shared<'a, T> {
        Shared {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            owner: PhantomData,
        }
    }

    /// Elements `at..at+len`.
    ///
    /// # Safety
    /// No two ranges that are alive at the same time may overlap.
    ///
    /// # Panics
    /// If the range is not inside the slice.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's contract")]
    pub(crate) unsafe fn range(&self, at: usize, len: usize) -> &mut [T] {
        assert!(
            at <= self.len && len <= self.len - at,
            "range {at}+{len} of {}",
            self.len
        );
        // SAFETY: inside the slice (asserted), and disjoint from all other live ranges (the contract).
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }
}

/// The failure of the lowest row among all that the blocks of a loop met: what a loop in order would have met first.
pub(crate) struct First<E>(Mutex<Option<(usize, E)>>);

impl<E> First<E> {
    pub(crate) fn new() -> First<E> {
        First(Mutex::new(None))
    }

    /// Notes that `row` failed.
    pub(crate) fn note(&self, row: usize, error: E) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|known| row < known.0) {
            *first = Some((row, error));
        }
    }

    /// The failure, if there was one.
    pub(crate) fn result(self) -> Result<(), E> {
        match self.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}
