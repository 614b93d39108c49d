//! Keys and values of all positions of all sequences: one pool of pages shared by reference count.
//!
//! A page holds [`PAGE`] positions of all layers. A fork shares pages with its parent until either writes into
//! one; then that page is copied. Knows positions and pages; how keys and values are encoded inside a page is
//! `cpu/attention`'s business, what they mean is the model's.

use crate::cpu::attention::{self, Layout};
use crate::huge::{HugeBuffer, HugeError};
use crate::model::Config;
use crate::model::scratch::Scratch;
use std::collections::HashMap;

/// Positions in a page: the unit of sharing, and 4 vectors of keys. 32 positions of a 2B model are 2.4 MB in
/// f16, small enough that a fork wastes little and large enough that attention runs over whole tiles.
pub const PAGE: usize = attention::TILE;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvKind {
    /// Half precision.
    F16,
    /// Int8 with one scale for each position and KV head: about half the bytes.
    Int8,
}

/// What a cache is made for.
#[derive(Clone, Copy, Debug)]
pub struct CacheOptions {
    /// Positions of all sequences together; rounded up to whole pages.
    pub positions_max: usize,
    /// Encoding.
    pub kind: KvKind,
}

/// A sequence of one cache. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(u64);

/// A cache that cannot be made or has no room.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The system refused the memory.
    #[error("kv cache of {positions} positions: {source}")]
    Memory {
        /// Positions asked for.
        positions: usize,
        /// Bytes asked for, and the system's error.
        source: HugeError,
    },
    /// More positions than the pool has.
    #[error(
        "the kv cache has room for {free} more positions in whole pages, the batch needs {wanted}; end or shorten a sequence"
    )]
    Full {
        /// Positions in free pages.
        free: usize,
        /// Positions in the pages that the batch would take.
        wanted: usize,
    },
    /// Not a live sequence of this cache.
    #[error("the sequence is not in this kv cache")]
    Unknown,
}

#[derive(Default)]
struct Sequence {
    pages: Vec<u32>,
    len: usize,
}

/// The pool, its sequences, and the scratch memory of the forward passes that run on it.
pub struct Cache {
    kind: KvKind,
    layout: Layout,
    page_bytes: usize,
    memory: HugeBuffer,
    /// Whether the pages are a device's, and which of them it has yet to copy: source and copy.
    device: bool,
    copies: Vec<(u32, u32)>,
    references: Vec<u32>,
    free: Vec<u32>,
    sequences: HashMap<SequenceId, Sequence>,
    next: u64,
    pub(crate) scratch: Scratch,
}

/// Which pages belong to which sequence.
#[derive(Clone, Copy)]
pub(crate) struct PageTables<'a>(&'a HashMap<SequenceId, Sequence>);

impl<'a> PageTables<'a> {
    /// The pages of a sequence, in order of positions.
    pub(crate) fn of(self, id: SequenceId) -> &'a [u32] {
        self.0.get(&id).map_or(&[], |s| &s.pages)
    }
}

impl Cache {
    /// Maps a pool of `options.positions_max` positions. Pages cost memory when they are first written.
    ///
    /// # Errors
    /// [`CacheError::Memory`].
    pub fn new(config: &Config, options: CacheOptions) -> Result<Cache, CacheError> {
        Cache::make(config, options, false)
    }

    /// The bookkeeping of a pool whose pages a device holds.
    ///
    /// # Errors
    /// [`CacheError::Memory`].
    pub fn on_device(config: &Config, options: CacheOptions) -> Result<Cache, CacheError> {
        Cache::make(config, options, true)
    }

    fn make(config: &Config, options: CacheOptions, device: bool) -> Result<Cache, CacheError> {
        let layout = Layout::new(
            options.kind,
            config.n_layers,
            config.n_kv_heads,
            config.head_dim,
        );
        let pages = options.positions_max.div_ceil(PAGE);
        let positions = pages * PAGE;
        let page_bytes = layout.page_bytes();
        let bytes = page_bytes.saturating_mul(pages);
        let memory = HugeBuffer::zeroed(if device { 0 } else { bytes })
            .map_err(|source| CacheError::Memory { positions, source })?;
        Ok(Cache {
            kind: options.kind,
            layout,
            page_bytes,
            memory,
            device,
            copies: Vec::new(),
            references: vec![0; pages],
            free: (0..pages as u32).rev().collect(),
            sequences: HashMap::new(),
            next: 0,
            scratch: Scratch::default(),
        })
    }

    /// Starts an empty sequence.
    pub fn create(&mut self) -> SequenceId {
        let id = SequenceId(self.next);
        self.next += 1;
        self.sequences.insert(id, Sequence::default());
        id
    }

    /// Positions of a sequence; 0 for one that was removed.
    pub fn len(&self, id: SequenceId) -> usize {
        self.sequences.get(&id).map_or(0, |s| s.len)
    }

    /// Whether the cache holds no sequence.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, id: SequenceId, len: usize) {
        let Some(sequence) = self.sequences.get_mut(&id) else {
            return;
        };
        sequence.len = sequence.len.min(len);
        let keep = sequence.len.div_ceil(PAGE);
        for page in sequence.pages.drain(keep..) {
            release(&mut self.references, &mut self.free, page);
        }
    }

    /// A new sequence that starts with the first `len` positions of `id` (fewer if `id` is shorter), without
    /// copying them.
    pub fn fork(&mut self, id: SequenceId, len: usize) -> SequenceId {
        let copy = match self.sequences.get(&id) {
            Some(parent) => {
                let len = len.min(parent.len);
                Sequence {
                    pages: parent.pages[..len.div_ceil(PAGE)].to_vec(),
                    len,
                }
            }
            None => Sequence::default(),
        };
        for &page in &copy.pages {
            self.references[page as usize] += 1;
        }
        let fork = self.create();
        self.sequences.insert(fork, copy);
        fork
    }

    /// Ends a sequence and frees the pages that nobody else uses.
    pub fn remove(&mut self, id: SequenceId) {
        self.truncate(id, 0);
        self.sequences.remove(&id);
    }

    /// Positions in pages that no sequence uses.
    pub fn positions_free(&self) -> usize {
        self.free.len() * PAGE
    }

    /// Bytes of the pool when every page has been written.
    pub fn bytes(&self) -> u64 {
        self.page_bytes as u64 * self.references.len() as u64
    }

    /// Encoding of the pool.
    pub fn kind(&self) -> KvKind {
        self.kind
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether the pages are a device's.
    pub(crate) fn is_on_device(&self) -> bool {
        self.device
    }

    /// Pages that the device has to copy before its next pass, in this order.
    pub(crate) fn take_copies(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.copies)
    }

    /// Pages of the pool.
    pub(crate) fn n_pages(&self) -> usize {
        self.references.len()
    }

    /// The pool's memory, and the page tables beside it.
    pub(crate) fn parts(&mut self) -> (&mut [u8], PageTables<'_>) {
        (self.memory.bytes_mut(), PageTables(&self.sequences))
    }

    /// The pool's memory.
    pub(crate) fn memory(&self) -> &[u8] {
        self.memory.bytes()
    }

    /// The pages of a sequence, in order of positions.
    pub(crate) fn pages(&self, id: SequenceId) -> &[u32] {
        PageTables(&self.sequences).of(id)
    }

    /// Makes room for more positions in several sequences, or changes nothing. Every page that will be written
    /// belongs to its sequence alone afterwards.
    pub(crate) fn reserve(
        &mut self,
        wanted: impl Iterator<Item = (SequenceId, usize)> + Clone,
    ) -> Result<(), CacheError> {
        let mut pages = 0;
        for (id, more) in wanted.clone() {
            let sequence = self.sequences.get(&id).ok_or(CacheError::Unknown)?;
            pages += (sequence.len + more).div_ceil(PAGE) - sequence.pages.len();
            pages += usize::from(more > 0 && self.shared_tail(sequence).is_some());
        }
        if pages > self.free.len() {
            return Err(CacheError::Full {
                free: self.positions_free(),
                wanted: pages * PAGE,
            });
        }
        for (id, more) in wanted {
            let Some(mut sequence) = self.sequences.remove(&id) else {
                continue;
            };
            if more > 0
                && let Some(tail) = self.shared_tail(&sequence)
            {
                let shared = sequence.pages[tail];
                if let Some(own) = self.take_page() {
                    if self.device {
                        self.copies.push((shared, own));
                    } else {
                        let from = shared as usize * self.page_bytes;
                        let to = own as usize * self.page_bytes;
                        self.memory
                            .bytes_mut()
                            .copy_within(from..from + self.page_bytes, to);
                    }
                    sequence.pages[tail] = own;
                    release(&mut self.references, &mut self.free, shared);
                }
            }
            while sequence.pages.len() < (sequence.len + more).div_ceil(PAGE)
                && let Some(page) = self.take_page()
            {
                sequence.pages.push(page);
            }
            self.sequences.insert(id, sequence);
        }
        Ok(())
    }

    /// Counts positions that a forward pass has written after [`Cache::reserve`].
    pub(crate) fn advance(&mut self, id: SequenceId, by: usize) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.len += by;
        }
    }

    fn take_page(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.references[page as usize] = 1;
        Some(page)
    }

    /// The half-filled last page of a sequence, if others use it too.
    fn shared_tail(&self, sequence: &Sequence) -> Option<usize> {
        let tail = sequence.len / PAGE;
        let partly = !sequence.len.is_multiple_of(PAGE);
        (partly && self.references[sequence.pages[tail] as usize] > 1).then_some(tail)
    }
}

fn release(references: &mut [u32], free: &mut Vec<u32>, page: u32) {
    references[page as usize] -= 1;
    if references[page as usize] == 0 {
        free.push(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(positions: usize) -> Cache {
        let config = Config::for_tests(2, 1, 8);
        Cache::new(
            &config,
            CacheOptions {
                positions_max: positions,
                kind: KvKind::F16,
            },
        )
        .unwrap()
    }

    fn grow(cache: &mut Cache, id: SequenceId, by: usize) -> Result<(), CacheError> {
        cache.reserve([(id, by)].into_iter())?;
        cache.advance(id, by);
        Ok(())
    }

    #[test]
    fn pages_are_taken_shared_copied_and_freed() {
        let mut cache = cache(6 * PAGE);
        let a = cache.create();
        grow(&mut cache, a, 2 * PAGE + 5).unwrap();
        assert_eq!(cache.positions_free(), 3 * PAGE);
        let b = cache.fork(a, PAGE + 3);
        assert_eq!((cache.len(b), cache.positions_free()), (PAGE + 3, 3 * PAGE));
        assert_eq!(cache.pages(b), &cache.pages(a)[..2]);
        // Writing into the shared half-filled page copies it, with its contents.
        let shared = cache.pages(b)[1] as usize * cache.page_bytes;
        cache.memory.bytes_mut()[shared] = 77;
        grow(&mut cache, b, 1).unwrap();
        assert_ne!(cache.pages(b)[1], cache.pages(a)[1]);
        assert_eq!(
            cache.memory.bytes()[cache.pages(b)[1] as usize * cache.page_bytes],
            77
        );
        assert_eq!(cache.pages(b)[0], cache.pages(a)[0]);
        assert_eq!(cache.positions_free(), 2 * PAGE);
        cache.remove(a);
        assert_eq!(cache.positions_free(), 4 * PAGE);
        cache.truncate(b, PAGE);
        assert_eq!(cache.positions_free(), 5 * PAGE);
        cache.remove(b);
        assert_eq!((cache.positions_free(), cache.is_empty()), (6 * PAGE, true));
    }

    #[test]
    fn a_batch_that_does_not_fit_changes_nothing() {
        let mut cache = cache(3 * PAGE);
        let (a, b) = (cache.create(), cache.create());
        grow(&mut cache, a, PAGE).unwrap();
        let error = cache
            .reserve([(a, PAGE), (b, PAGE + 1)].into_iter())
            .unwrap_err();
        assert!(
            matches!(error, CacheError::Full { free, wanted } if free == 2 * PAGE && wanted == 3 * PAGE)
        );
        assert_eq!((cache.pages(a).len(), cache.pages(b).len()), (1, 0));
        cache.remove(b);
        assert!(matches!(
            cache.reserve([(b, 1)].into_iter()),
            Err(CacheError::Unknown)
        ));
    }
}
