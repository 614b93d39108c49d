//! The rows of numbers that a forward pass ends in.

use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that were logits and will be again: a decoded token allocates none.
pub(crate) type Spare = Arc<Mutex<Vec<Vec<f32>>>>;

/// One row of `n_vocab` unnormalised log-probabilities for each wanted position, in batch order.
pub struct Logits {
    values: Vec<f32>,
    n_vocab: usize,
    spare: Spare,
}

impl Logits {
    pub(crate) fn new(spare: &Spare, rows: usize, n_vocab: usize) -> Logits {
        let mut values = spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default();
        values.resize(rows * n_vocab, 0.0);
        Logits {
            values,
            n_vocab,
            spare: Arc::clone(spare),
        }
    }

    /// All rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.n_vocab)
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.n_vocab..][..self.n_vocab]
    }

    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.values.chunks_exact_mut(self.n_vocab)
    }

    pub(crate) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

impl Drop for Logits {
    fn drop(&mut self) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        // Two are in flight at most when one pass follows another.
        if spare.len() < 2 {
            spare.push(std::mem::take(&mut self.values));
        }
    }
}
