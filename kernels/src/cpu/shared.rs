//! One buffer that several blocks of a loop write in disjoint places.

use std::marker::PhantomData;

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
