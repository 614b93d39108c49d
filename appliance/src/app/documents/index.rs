//! The vectors in memory: one block of int8 for each document, scanned from end to end.
//!
//! A filter chooses blocks before anything is multiplied. The scan ranks roughly; whoever asks scores the best anew
//! with the stored floats.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use onebit_kernels::cpu::scan::{Scan, quantise, variants};
use onebit_kernels::threads::Threads;

use crate::store::Block;

/// Vectors that one thread takes at a time: 3 MB of MiniLM's, so that a hundred thousand keep all cores busy.
const PIECE: usize = 8192;

/// Vectors below which one thread is faster than waking the others.
const ALONE: usize = 2 * PIECE;

/// All vectors, by document.
pub(super) struct Index {
    blocks: RwLock<HashMap<i64, Arc<Packed>>>,
    scan: Scan,
}

/// One document's vectors.
pub(super) struct Packed {
    passages: Vec<i64>,
    vectors: Vec<i8>,
    scales: Vec<f32>,
}

impl Default for Index {
    fn default() -> Self {
        let fastest = variants().pop();
        Index {
            blocks: RwLock::default(),
            // There is always the scalar one.
            scan: fastest.map_or(|_, _, products| products.fill(0), |(_, scan)| scan),
        }
    }
}

impl Index {
    /// Takes a document's vectors, in place of those it had.
    pub(super) fn put(&self, block: &Block) {
        let packed = Arc::new(pack(block));
        self.write(|blocks| {
            blocks.insert(block.key, packed);
        });
    }

    /// Forgets a document.
    pub(super) fn remove(&self, key: i64) {
        self.write(|blocks| {
            blocks.remove(&key);
        });
    }

    /// Takes all documents' vectors, in place of everything.
    pub(super) fn replace(&self, all: impl IntoIterator<Item = (i64, Packed)>) {
        let all = all
            .into_iter()
            .map(|(key, packed)| (key, Arc::new(packed)))
            .collect();
        self.write(|blocks| *blocks = all);
    }

    fn write(&self, change: impl FnOnce(&mut HashMap<i64, Arc<Packed>>)) {
        change(&mut self.blocks.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The passages whose vectors point most nearly where `query` does, best first, among the documents allowed.
    pub(super) fn nearest(
        &self,
        query: &[f32],
        allowed: Option<&[i64]>,
        wanted: usize,
        threads: &Threads,
    ) -> Vec<i64> {
        let blocks: Vec<Arc<Packed>> = {
            let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
            match allowed {
                None => blocks.values().cloned().collect(),
                Some(keys) => keys
                    .iter()
                    .filter_map(|key| blocks.get(key).cloned())
                    .collect(),
            }
        };
        let width = query.len();
        let mut packed = vec![0i8; width];
        quantise(query, &mut packed);
        let pieces: Vec<(&Packed, usize, usize)> = blocks
            .iter()
            .filter(|block| block.vectors.len() == block.passages.len() * width)
            .flat_map(|block| {
                let count = block.passages.len();
                (0..count)
                    .step_by(PIECE)
                    .map(move |first| (&**block, first, (first + PIECE).min(count)))
            })
            .collect();
        let best = Mutex::new(Best::new(wanted));
        let scan = |(block, first, past): (&Packed, usize, usize)| {
            let mut products = vec![0i32; past - first];
            (self.scan)(
                &block.vectors[first * width..past * width],
                &packed,
                &mut products,
            );
            let mut own = Best::new(wanted);
            for (at, product) in (first..past).zip(products) {
                own.offer(product as f32 * block.scales[at], block.passages[at]);
            }
            best.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .merge(own);
        };
        let total: usize = pieces.iter().map(|(_, first, past)| past - first).sum();
        if total <= ALONE {
            pieces.into_iter().for_each(scan);
        } else {
            threads.run(pieces.len(), &|at| scan(pieces[at]));
        }
        best.into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .sorted()
    }
}

/// Quantises a document's vectors.
pub(super) fn pack(block: &Block) -> Packed {
    let count = block.passages.len();
    let width = block.vectors.len().checked_div(count).unwrap_or(0);
    let mut vectors = vec![0i8; block.vectors.len()];
    let mut scales = Vec::with_capacity(count);
    if width > 0 {
        for (vector, out) in block
            .vectors
            .chunks_exact(width)
            .zip(vectors.chunks_exact_mut(width))
        {
            scales.push(quantise(vector, out));
        }
    }
    Packed {
        passages: block.passages.clone(),
        vectors,
        scales,
    }
}

/// The best so many of a stream, smallest on top. Equal scores keep the smaller passage, so that the order is the same
/// whichever thread came first.
struct Best {
    wanted: usize,
    heap: BinaryHeap<Reverse<(Score, Reverse<i64>)>>,
}

#[derive(PartialEq)]
struct Score(f32);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Best {
    fn new(wanted: usize) -> Best {
        Best {
            wanted,
            heap: BinaryHeap::with_capacity(wanted + 1),
        }
    }

    fn offer(&mut self, score: f32, passage: i64) {
        let worst = self.heap.peek().map(|Reverse((score, _))| score.0);
        if self.heap.len() >= self.wanted && worst.is_none_or(|worst| score < worst) {
            return;
        }
        self.heap.push(Reverse((Score(score), Reverse(passage))));
        if self.heap.len() > self.wanted {
            self.heap.pop();
        }
    }

    fn merge(&mut self, other: Best) {
        for Reverse((score, Reverse(passage))) in other.heap {
            self.offer(score.0, passage);
        }
    }

    fn sorted(self) -> Vec<i64> {
        self.heap
            .into_sorted_vec()
            .into_iter()
            .map(|Reverse((_, Reverse(passage)))| passage)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(seed: usize) -> f32 {
        let mut x = (seed as u32 + 1).wrapping_mul(2_654_435_761);
        x = (x ^ (x >> 15)).wrapping_mul(0x85eb_ca6b);
        ((x ^ (x >> 13)) >> 8) as f32 / 8.4e6 - 1.0
    }

    /// Vectors of length one, as embedders make them.
    fn block(key: i64, count: usize, width: usize) -> Block {
        let first = key * 1_000_000;
        let mut vectors: Vec<f32> = (0..count * width)
            .map(|at| value(at * 7 + key as usize * 31))
            .collect();
        for vector in vectors.chunks_exact_mut(width) {
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            vector.iter_mut().for_each(|x| *x /= length);
        }
        Block {
            key,
            passages: (0..count as i64).map(|at| first + at).collect(),
            vectors,
        }
    }

    #[test]
    fn the_scan_finds_what_exact_arithmetic_finds() {
        let (width, index, threads) = (64, Index::default(), Threads::new(2));
        let blocks = [
            block(1, 20_000, width),
            block(2, 500, width),
            block(3, 9, width),
        ];
        blocks.iter().for_each(|block| index.put(block));
        for probe in [(0usize, 777usize), (1, 3), (2, 8)] {
            let (at, row) = probe;
            let query: Vec<f32> = blocks[at].vectors[row * width..][..width].to_vec();
            let found = index.nearest(&query, None, 10, &threads);
            assert_eq!(
                (found.len(), found[0]),
                (10, blocks[at].passages[row]),
                "a vector is nearest to itself"
            );
            let mut exact: Vec<(f32, i64)> = blocks
                .iter()
                .flat_map(|block| block.passages.iter().zip(block.vectors.chunks_exact(width)))
                .map(|(id, vector)| (vector.iter().zip(&query).map(|(a, b)| a * b).sum(), *id))
                .collect();
            exact.sort_by(|a, b| b.0.total_cmp(&a.0));
            let wide = index.nearest(&query, None, 40, &threads);
            assert!(
                exact[..10].iter().all(|(_, id)| wide.contains(id)),
                "rescoring has them all"
            );
        }
    }

    #[test]
    fn only_what_is_allowed_is_looked_at() {
        let (index, threads) = (Index::default(), Threads::new(1));
        index.put(&block(1, 50, 8));
        index.put(&block(2, 50, 8));
        let query: Vec<f32> = (0..8).map(value).collect();
        let found = index.nearest(&query, Some(&[2, 9]), 500, &threads);
        assert!(found.len() == 50 && found.iter().all(|id| *id >= 2_000_000));
        index.remove(2);
        assert!(index.nearest(&query, Some(&[2]), 5, &threads).is_empty());
        index.replace([(4, pack(&block(4, 3, 8)))]);
        assert_eq!(index.nearest(&query, None, 5, &threads).len(), 3);
        assert!(
            index.nearest(&query[..4], None, 5, &threads).is_empty(),
            "of another width"
        );
    }
}
