//! What the cache already knows: finished conversations that are kept, and the longest start that a new
//! prompt shares with one of them.

use onebit_kernels::kv::{Cache, SequenceId};

/// A start shorter than this is read again rather than shared: half a page is cheaper to compute than to copy.
const SHARED_MIN: usize = 16;

/// A conversation whose keys and values are still in the cache.
struct Entry {
    tokens: Vec<u32>,
    sequence: SequenceId,
    last_used: u64,
}

/// Conversations that are kept for their next turn.
pub(super) struct Kept {
    entries: Vec<Entry>,
    entries_max: usize,
    clock: u64,
}

impl Kept {
    pub(super) fn new(entries_max: usize) -> Kept {
        Kept {
            entries: Vec::new(),
            entries_max,
            clock: 0,
        }
    }

    /// Keeps a finished conversation; those that it continues are let go.
    pub(super) fn add(&mut self, cache: &mut Cache, tokens: Vec<u32>, sequence: SequenceId) {
        if self.entries_max == 0 || tokens.len() < SHARED_MIN {
            cache.remove(sequence);
            return;
        }
        self.entries.retain(|entry| {
            let continued = tokens.starts_with(&entry.tokens);
            if continued {
                cache.remove(entry.sequence);
            }
            !continued
        });
        while self.entries.len() >= self.entries_max && self.evict(cache) {}
        self.clock += 1;
        self.entries.push(Entry {
            tokens,
            sequence,
            last_used: self.clock,
        });
    }

    /// Finds the conversation that shares the longest start with `tokens`, as (sequence, shared length).
    pub(super) fn find(&mut self, tokens: &[u32]) -> Option<(SequenceId, usize)> {
        let best = self
            .entries
            .iter_mut()
            .map(|entry| (shared(&entry.tokens, tokens), entry))
            .max_by_key(|(length, entry)| (*length, entry.last_used))?;
        let (length, entry) = best;
        if length < SHARED_MIN {
            return None;
        }
        self.clock += 1;
        entry.last_used = self.clock;
        Some((entry.sequence, length))
    }

    /// Lets the longest unused conversation go; `false` when none is left.
    pub(super) fn evict(&mut self, cache: &mut Cache) -> bool {
        let oldest = self
            .entries
            .iter()
            .enumerate()
            .min_by_key(|(_, entry)| entry.last_used);
        let Some((index, _)) = oldest else {
            return false;
        };
        cache.remove(self.entries.swap_remove(index).sequence);
        true
    }
}

/// Length of the start that a new prompt can take from known tokens. Its last token is always read anew,
/// for its logits are wanted.
pub(super) fn shared(known: &[u32], prompt: &[u32]) -> usize {
    let common = known.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    common.min(prompt.len().saturating_sub(1))
}

/// Whether sharing `length` tokens is worth it.
pub(super) fn worth_sharing(length: usize) -> bool {
    length >= SHARED_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_token_is_always_read() {
        assert_eq!(shared(&[1, 2, 3], &[1, 2, 3]), 2);
        assert_eq!(shared(&[1, 2, 3], &[1, 2, 4, 5]), 2);
        assert_eq!(shared(&[1, 2, 3, 4], &[1, 2, 3]), 2);
        assert_eq!(shared(&[], &[1]), 0);
        assert_eq!(shared(&[1], &[]), 0);
    }
}
