//! Attention of query rows over the pages of one KV head, with the softmax computed on the way.
//!
//! Owns the encoding of a page: for each layer and KV head, keys as `[head_dim][TILE]` (transposed, so that a
//! vector holds one dimension of eight positions and no sum crosses lanes) and values as `[TILE][head_dim]`; in
//! f16, or in int8 followed by one f32 scale a position. All query heads that share a KV head (and, in prefill,
//! several tokens) are rows of one pass, so every key and value is read once for all of them.
//!
//! Positions are taken in tiles of 32 and tiles in chunks of 64 that are softened apart and merged in order.
//! The split depends on absolute positions alone: a row's bits are the same in prefill and decode, on any
//! number of threads and beside any neighbours.

mod kernels;

use super::elementwise::exp;
use super::{Isa, compiled_twice, pick};
use crate::kv::KvKind;
use half::f16;

pub use kernels::{Gather, Score, gather_variants, score_variants};

/// Positions of a tile, which is a page of the KV cache.
pub const TILE: usize = 32;
/// Positions of a chunk: what one thread, or one workgroup of a GPU, takes at the least when a long context is split. Few
/// enough that 2048 positions of five KV heads keep a large GPU busy.
pub const CHUNK: usize = 64;

/// Where things lie in a page.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    kind: KvKind,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Layout {
    /// The layout for a model of these dimensions.
    pub fn new(kind: KvKind, layers: usize, kv_heads: usize, head_dim: usize) -> Layout {
        Layout {
            kind,
            layers,
            kv_heads,
            head_dim,
        }
    }

    /// Whether the layout was made for a model of these dimensions.
    pub(crate) fn fits(&self, config: &crate::model::Config) -> bool {
        (self.layers, self.kv_heads, self.head_dim)
            == (config.n_layers, config.n_kv_heads, config.head_dim)
    }

    /// Bytes of the keys (or values) of one layer, head and page.
    pub fn side_bytes(&self) -> usize {
        match self.kind {
            KvKind::F16 => TILE * self.head_dim * 2,
            KvKind::Int8 => TILE * (self.head_dim + size_of::<f32>()),
        }
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.layers * self.kv_heads * 2 * self.side_bytes()
    }

    /// Offset of the keys of a layer and head in the pool; the values follow them.
    pub fn offset(&self, page: u32, layer: usize, head: usize) -> usize {
        page as usize * self.page_bytes() + (layer * self.kv_heads + head) * 2 * self.side_bytes()
    }

    /// Writes one position's key and value into `sides` (keys, then values, of one page, layer and head).
    pub fn write(&self, sides: &mut [u8], slot: usize, key: &[f32], value: &[f32]) {
        let (keys, values) = sides.split_at_mut(self.side_bytes());
        match self.kind {
            KvKind::F16 => {
                for (d, k) in key.iter().enumerate() {
                    keys[2 * (d * TILE + slot)..][..2]
                        .copy_from_slice(&f16::from_f32(*k).to_le_bytes());
                }
                let row = &mut values[2 * slot * self.head_dim..][..2 * self.head_dim];
                for (v, out) in value.iter().zip(row.as_chunks_mut::<2>().0) {
                    *out = f16::from_f32(*v).to_le_bytes();
                }
            }
            KvKind::Int8 => {
                let scales = TILE * self.head_dim + size_of::<f32>() * slot;
                let scale = scale_of(key);
                for (d, k) in key.iter().enumerate() {
                    keys[d * TILE + slot] = code(*k, scale);
                }
                keys[scales..][..4].copy_from_slice(&scale.to_le_bytes());
                let scale = scale_of(value);
                for (v, out) in value
                    .iter()
                    .zip(&mut values[slot * self.head_dim..][..self.head_dim])
                {
                    *out = code(*v, scale);
                }
                values[scales..][..4].copy_from_slice(&scale.to_le_bytes());
            }
        }
    }
}

fn scale_of(row: &[f32]) -> f32 {
    row.iter().fold(0.0_f32, |a, v| a.max(v.abs())) / 127.0
}

fn code(value: f32, scale: f32) -> u8 {
    if scale == 0.0 {
        0
    } else {
        (value / scale).round_ties_even() as i8 as u8
    }
}

/// The kernels of one encoding, chosen at load.
#[derive(Clone, Copy)]
pub struct Attention {
    score: Score,
    gather: Gather,
    soften: Soften,
    rescale: Rescale,
    blend: Blend,
}

/// What a pass over one chunk leaves behind, for each row: the largest score, the sum of exponentials, and the
/// unnormalised output. `rows`, `head_dim` and the query rows (already scaled) are the caller's.
pub struct State<'a> {
    /// Largest score of each row.
    pub largest: &'a mut [f32],
    /// Sum of exponentials of each row.
    pub total: &'a mut [f32],
    /// Unnormalised output, `[rows][head_dim]`.
    pub output: &'a mut [f32],
}

impl State<'_> {
    /// Empties the state.
    pub fn clear(&mut self) {
        self.largest.fill(f32::NEG_INFINITY);
        self.total.fill(0.0);
        self.output.fill(0.0);
    }
}

impl Attention {
    /// The best kernels within `isa`.
    pub fn new(kind: KvKind, isa: Isa) -> Attention {
        Attention {
            score: pick(&score_variants(kind), isa),
            gather: pick(&gather_variants(kind), isa),
            soften: pick(&soften_variants(), isa),
            rescale: pick(&rescale_variants(), isa),
            blend: pick(&blend_variants(), isa),
        }
    }

    /// Adds one tile to the state: `sides` are its keys and values, `visible[r]` the positions of this tile that
    /// row `r` may see (0 to [`TILE`]), `scores` scratch of `rows * TILE`.
    pub fn tile(
        &self,
        queries: &[f32],
        sides: &[u8],
        visible: impl Fn(usize) -> usize,
        scores: &mut [f32],
        state: &mut State<'_>,
    ) {
        let rows = state.largest.len();
        let head_dim = queries.len() / rows;
        let (keys, values) = sides.split_at(sides.len() / 2);
        (self.score)(queries, head_dim, keys, scores);
        let mut positions = 0;
        for (r, scores) in scores.as_chunks_mut::<TILE>().0[..rows]
            .iter_mut()
            .enumerate()
        {
            let visible = visible(r);
            positions = positions.max(visible);
            let before = state.largest[r];
            let mut outcome = [before, state.total[r], 1.0];
            (self.soften)(scores, visible, &mut outcome);
            let [largest, total, scale] = outcome;
            (state.largest[r], state.total[r]) = (largest, total);
            if scale != 1.0 && before != f32::NEG_INFINITY {
                (self.rescale)(&mut state.output[r * head_dim..][..head_dim], scale);
            }
        }
        (self.gather)(scores, positions, values, head_dim, state.output);
    }

    /// Merges a later chunk's state into `into`.
    pub fn merge(&self, into: &mut State<'_>, chunk: &State<'_>) {
        let rows = into.largest.len();
        let head_dim = into.output.len() / rows;
        for r in 0..rows {
            let largest = if chunk.largest[r] > into.largest[r] {
                chunk.largest[r]
            } else {
                into.largest[r]
            };
            if largest == f32::NEG_INFINITY {
                continue;
            }
            let (old, new) = (
                exp(into.largest[r] - largest),
                exp(chunk.largest[r] - largest),
            );
            into.largest[r] = largest;
            into.total[r] = into.total[r] * old + chunk.total[r] * new;
            let output = &mut into.output[r * head_dim..][..head_dim];
            (self.blend)(output, &chunk.output[r * head_dim..][..head_dim], old, new);
        }
    }
}

compiled_twice! {
    /// `(scores, visible, [largest, total, scale])`: turns a tile's scores into weights relative to the new
    /// largest score, adds them up, and says by what the earlier output must be multiplied.
    fn soften_variants / Soften = soften(scores: &mut [f32], visible: usize, outcome: &mut [f32; 3])
}

// A slice and plain loops: the compiler vectorises those, and unrolls fixed-size arrays instead.
#[inline(always)]
fn soften(scores: &mut [f32], visible: usize, outcome: &mut [f32; 3]) {
    scores[visible..].fill(f32::NEG_INFINITY);
    let mut lanes = [f32::NEG_INFINITY; 8];
    for chunk in scores.as_chunks::<8>().0 {
        for (lane, &s) in lanes.iter_mut().zip(chunk) {
            *lane = if s > *lane { s } else { *lane };
        }
    }
    let mut largest = outcome[0];
    for lane in lanes {
        largest = if lane > largest { lane } else { largest };
    }
    if largest == f32::NEG_INFINITY {
        // Nothing seen so far and nothing to see here.
        scores.fill(0.0);
        return;
    }
    for s in scores.iter_mut() {
        *s = exp(*s - largest);
    }
    let mut sums = [0.0_f32; 8];
    for chunk in scores.as_chunks::<8>().0 {
        for (sum, s) in sums.iter_mut().zip(chunk) {
            *sum += s;
        }
    }
    let sum =
        ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
    let scale = exp(outcome[0] - largest);
    *outcome = [largest, outcome[1] * scale + sum, scale];
}

compiled_twice! {
    /// `(values, factor)`: multiplies in place.
    fn rescale_variants / Rescale = rescale(values: &mut [f32], factor: f32)
}

#[inline(always)]
fn rescale(values: &mut [f32], factor: f32) {
    for v in values {
        *v *= factor;
    }
}

compiled_twice! {
    /// `(values, others, old, new)`: `values[i] = values[i] · old + others[i] · new`, each product rounded.
    fn blend_variants / Blend = blend(values: &mut [f32], others: &[f32], old: f32, new: f32)
}

#[inline(always)]
fn blend(values: &mut [f32], others: &[f32], old: f32, new: f32) {
    for (value, other) in values.iter_mut().zip(others) {
        *value = *value * old + *other * new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::dense::check::Noise;

    /// Softmax attention by the book, in f64.
    fn naive(q: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<f64> {
        let scores: Vec<f64> = keys
            .iter()
            .map(|k| {
                k.iter()
                    .zip(q)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum()
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        (0..q.len())
            .map(|d| {
                weights
                    .iter()
                    .zip(values)
                    .map(|(w, v)| w * f64::from(v[d]))
                    .sum::<f64>()
                    / total
            })
            .collect()
    }

    fn attend(
        kind: KvKind,
        isa: Isa,
        head_dim: usize,
        length: usize,
        rows: usize,
    ) -> (Vec<f32>, f64) {
        let mut noise = Noise(7);
        let layout = Layout::new(kind, 1, 1, head_dim);
        let row = |noise: &mut Noise| -> Vec<f32> {
            (0..head_dim)
                .map(|_| f16::from_f32(noise.float()).to_f32())
                .collect()
        };
        let keys: Vec<_> = (0..length).map(|_| row(&mut noise)).collect();
        let values: Vec<_> = (0..length).map(|_| row(&mut noise)).collect();
        let queries: Vec<f32> = (0..rows).flat_map(|_| row(&mut noise)).collect();
        let mut pool = vec![0; layout.page_bytes() * length.div_ceil(TILE)];
        for i in 0..length {
            let at = layout.offset((i / TILE) as u32, 0, 0);
            layout.write(
                &mut pool[at..][..2 * layout.side_bytes()],
                i % TILE,
                &keys[i],
                &values[i],
            );
        }
        let attention = Attention::new(kind, isa);
        let (mut largest, mut total, mut output) =
            (vec![0.0; rows], vec![0.0; rows], vec![0.0; rows * head_dim]);
        let (mut l2, mut t2, mut o2) = (largest.clone(), total.clone(), output.clone());
        let mut state = State {
            largest: &mut largest,
            total: &mut total,
            output: &mut output,
        };
        state.clear();
        let mut scores = vec![0.0; rows * TILE];
        for chunk in 0..length.div_ceil(CHUNK) {
            let mut part = State {
                largest: &mut l2,
                total: &mut t2,
                output: &mut o2,
            };
            part.clear();
            for tile in chunk * CHUNK / TILE..length.min((chunk + 1) * CHUNK).div_ceil(TILE) {
                let sides = &pool[layout.offset(tile as u32, 0, 0)..][..2 * layout.side_bytes()];
                // Row r sees all but the last r positions.
                attention.tile(
                    &queries,
                    sides,
                    |r| (length - r).saturating_sub(tile * TILE).min(TILE),
                    &mut scores,
                    &mut part,
                );
            }
            attention.merge(&mut state, &part);
        }
        let mut error = 0.0_f64;
        for r in 0..rows {
            let wanted = naive(
                &queries[r * head_dim..][..head_dim],
                &keys[..length - r],
                &values[..length - r],
            );
            for d in 0..head_dim {
                output[r * head_dim + d] /= total[r];
                error = error.max((f64::from(output[r * head_dim + d]) - wanted[d]).abs());
            }
        }
        (output, error)
    }

    #[test]
    fn equals_softmax_by_the_book_in_every_variant() {
        for (head_dim, length, rows) in [
            (64, 1, 1),
            (64, 33, 3),
            (8, 700, 5),
            (128, 300, 4),
            (24, 257, 13),
        ] {
            for (kind, tolerance) in [
                // f32 accumulation of at most 700 terms of magnitude 1.
                (KvKind::F16, 1e-5),
                // Half a step of 1/127 in values, and scores off by sqrt(head_dim) such steps.
                (KvKind::Int8, 0.03),
            ] {
                let (scalar, error) = attend(kind, Isa::Scalar, head_dim, length, rows);
                assert!(
                    error < tolerance,
                    "{kind:?} {head_dim} {length} {rows}: {error}"
                );
                for (isa, _) in score_variants(kind) {
                    let (fast, _) = attend(kind, isa, head_dim, length, rows);
                    assert_eq!(scalar, fast, "{kind:?} {isa:?} {head_dim} {length} {rows}");
                }
            }
        }
    }
}
