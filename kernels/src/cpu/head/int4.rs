//! Four-bit rows, 32 interleaved, one scale a row: w ≈ scale · q with −7 ≤ q ≤ 7, code = q + 8.
//!
//! A step is 128 bytes: 32 rows, each a 32-bit lane of four bytes, that is eight columns. The low half byte of
//! byte j meets activation 8·s + j of the stored order ([`crate::cpu::ternary::activations`]), the high half
//! 8·s + 4 + j. AVX2 sums in 16 bits for four steps: a pair is at most 2 · 15 · 127 = 3810, eight of them
//! 30,480. VNNI keeps the high halves times 16 and divides the sum at the end.

use super::quantise;
use crate::cpu::shared::Shared;
use crate::cpu::ternary::BLOCK_ROWS;
use crate::cpu::ternary::activations::{Int8Rows, position};
use crate::huge::{HugeBuffer, HugeError, HugeMemory};
use std::ops::Range;

/// Bytes of one step of eight columns.
const STEP_BYTES: usize = BLOCK_ROWS * 4;
/// Code of a zero weight.
const ZERO: u8 = 8;
/// Largest |q|.
const LARGEST: f32 = 7.0;

/// `y[r] = sum of code[r] · x` over one block of 32 rows, codes unsigned.
pub type GemvBlock = fn(w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]);

/// The variants this machine can run, slowest first. `[0]` is always `scalar`.
pub fn variants() -> Vec<(&'static str, GemvBlock)> {
    #[allow(unused_mut, reason = "other architectures add nothing")]
    let mut list: Vec<(&'static str, GemvBlock)> = vec![("scalar", scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: avx2 was detected on the line above.
            list.push(("avx2", |w, x, y| unsafe { x86::avx2(w, x, y) }));
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: both were detected on the line above.
            list.push(("avx512vnni", |w, x, y| unsafe { x86::avx512vnni(w, x, y) }));
        }
    }
    list
}

/// The definition.
pub fn scalar(w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
    y.fill(0);
    for (step, x) in w
        .as_chunks::<STEP_BYTES>()
        .0
        .iter()
        .zip(x.as_chunks::<8>().0)
    {
        for (y, bytes) in y.iter_mut().zip(step.as_chunks::<4>().0) {
            for (j, byte) in bytes.iter().enumerate() {
                *y += i32::from(byte & 15) * i32::from(x[j])
                    + i32::from(byte >> 4) * i32::from(x[4 + j]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK_ROWS, STEP_BYTES};
    use crate::cpu::ternary::x86::{
        AHEAD, broadcast, broadcast512, load, load512, prefetch, store, store512, sum_fields,
    };
    use std::arch::x86_64::*;

    /// Steps whose products fit 16 bits.
    const STEPS: usize = 4;

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
        let steps = w.as_chunks::<STEP_BYTES>().0;
        assert!(
            x.len() >= 8 * steps.len(),
            "activations are padded to whole steps"
        );
        let (half, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
        let mut sums = [_mm256_setzero_si256(); 4];
        for (run, x) in steps.chunks(STEPS).zip(x.chunks(8 * STEPS)) {
            let mut pairs = [_mm256_setzero_si256(); 4];
            for (step, x) in run.iter().zip(x.as_chunks::<8>().0) {
                prefetch(step, AHEAD);
                prefetch(step, AHEAD + 64);
                let x = [broadcast(x, 0), broadcast(x, 4)];
                for (i, pairs) in pairs.iter_mut().enumerate() {
                    let p = load(step, 32 * i);
                    sum_fields(p, half, x[0], pairs);
                    sum_fields(_mm256_srli_epi16::<4>(p), half, x[1], pairs);
                }
            }
            for i in 0..4 {
                sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs[i], ones));
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            store(y, 8 * i, sum);
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn avx512vnni(w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
        let steps = w.as_chunks::<STEP_BYTES>().0;
        assert!(
            x.len() >= 8 * steps.len(),
            "activations are padded to whole steps"
        );
        let (low, high) = (_mm512_set1_epi8(15), _mm512_set1_epi8(-16));
        let mut sums = [[_mm512_setzero_si512(); 2]; 2];
        for (step, x) in steps.iter().zip(x.as_chunks::<8>().0) {
            prefetch(step, AHEAD);
            prefetch(step, AHEAD + 64);
            let x = [broadcast512(x, 0), broadcast512(x, 4)];
            for (i, sums) in sums.iter_mut().enumerate() {
                let p = load512(step, 64 * i);
                sums[0] = _mm512_dpbusd_epi32(sums[0], _mm512_and_si512(p, low), x[0]);
                sums[1] = _mm512_dpbusd_epi32(sums[1], _mm512_and_si512(p, high), x[1]);
            }
        }
        for (i, s) in sums.iter().enumerate() {
            store512(
                y,
                16 * i,
                _mm512_add_epi32(s[0], _mm512_srai_epi32::<4>(s[1])),
            );
        }
    }
}

/// Four-bit rows.
#[derive(Debug)]
pub struct Int4Matrix {
    rows: usize,
    columns: usize,
    weights: HugeBuffer,
    scales: Vec<f32>,
    gemv: GemvBlock,
}

impl Int4Matrix {
    /// Room for `rows` rows of `columns`, whose blocks are yet to be cleared and set.
    ///
    /// # Errors
    /// [`HugeError`] without memory for it.
    pub(super) fn zeroed(
        rows: usize,
        columns: usize,
        memory: &HugeMemory,
    ) -> Result<Int4Matrix, HugeError> {
        let blocks = rows.div_ceil(BLOCK_ROWS);
        let weights = memory.take(blocks.saturating_mul(columns.div_ceil(16) * 2 * STEP_BYTES))?;
        let gemv = variants().last().map_or(scalar as GemvBlock, |v| v.1);
        Ok(Int4Matrix {
            rows,
            columns,
            weights,
            scales: vec![0.0; blocks * BLOCK_ROWS],
            gemv,
        })
    }

    fn block_bytes(&self) -> usize {
        self.columns.div_ceil(16) * 2 * STEP_BYTES
    }

    /// Lets several threads set rows of blocks of their own.
    pub(super) fn writer(&mut self) -> Writer<'_> {
        Writer {
            block_bytes: self.block_bytes(),
            weights: Shared::new(self.weights.bytes_mut()),
            scales: Shared::new(&mut self.scales),
        }
    }

    /// One weight as the four bits give it.
    pub fn weight(&self, row: usize, column: usize) -> f32 {
        let (byte, shift) = place(row % BLOCK_ROWS, column);
        let byte = row / BLOCK_ROWS * self.block_bytes() + byte;
        f32::from((self.weights.bytes()[byte] >> shift & 15).cast_signed() - 8) * self.scales[row]
    }

    /// Blocks of 32 rows; the last may be partly padding.
    pub fn n_blocks(&self) -> usize {
        self.rows.div_ceil(BLOCK_ROWS)
    }

    /// Bytes of one scan.
    pub fn bytes(&self) -> usize {
        self.weights.len()
    }

    /// Chooses a variant by name (tests, benches); `false` if this machine does not have it.
    pub fn use_variant(&mut self, name: &str) -> bool {
        let found = variants().into_iter().find(|v| v.0 == name);
        self.gemv = found.map_or(self.gemv, |v| v.1);
        found.is_some()
    }

    /// The logits of the rows of `blocks` for one token (`logits.len() == 32 · blocks.len()`; 0 beyond the rows).
    pub fn logits(&self, blocks: Range<usize>, x: &Int8Rows, token: usize, logits: &mut [f32]) {
        assert_eq!(
            x.columns(),
            self.columns,
            "activations and head have the same columns"
        );
        assert_eq!(logits.len(), blocks.len() * BLOCK_ROWS, "one logit a row");
        let bytes = self.block_bytes();
        let weights = &self.weights.bytes()[blocks.start * bytes..blocks.end * bytes];
        let scales = &self.scales[blocks.start * BLOCK_ROWS..blocks.end * BLOCK_ROWS];
        let (codes, zero, a) = (x.row(token), i32::from(ZERO) * x.sum(token), x.scale(token));
        let mut sums = [0; BLOCK_ROWS];
        let out = logits
            .chunks_exact_mut(BLOCK_ROWS)
            .zip(scales.chunks_exact(BLOCK_ROWS));
        for (w, (logits, scales)) in weights.chunks_exact(bytes).zip(out) {
            (self.gemv)(w, codes, &mut sums);
            for ((logit, scale), sum) in logits.iter_mut().zip(scales).zip(sums) {
                *logit = (sum - zero) as f32 * (scale * a);
            }
        }
    }
}

/// The byte of its block and the shift at which a weight stands.
fn place(row: usize, column: usize) -> (usize, usize) {
    let at = position(column);
    (at / 8 * STEP_BYTES + row * 4 + at % 4, at / 4 % 2 * 4)
}

/// Writes blocks from several threads.
pub(super) struct Writer<'a> {
    block_bytes: usize,
    weights: Shared<'a, u8>,
    scales: Shared<'a, f32>,
}

impl Writer<'_> {
    /// Makes all weights of a block zero.
    ///
    /// # Safety
    /// No two threads may change the same block at once.
    pub(super) unsafe fn clear(&self, block: usize) {
        // SAFETY: blocks are disjoint, and each is changed by one thread (the contract).
        let out = unsafe {
            self.weights
                .range(block * self.block_bytes, self.block_bytes)
        };
        out.fill(ZERO | ZERO << 4);
    }

    /// Quantises one row of a cleared block, in place and into `codes`; values are finite. Returns its scale.
    ///
    /// # Safety
    /// No two threads may change the same block at once.
    pub(super) unsafe fn set(&self, row: usize, values: &[f32], codes: &mut [i8]) -> f32 {
        let scale = quantise(values, LARGEST, codes);
        // SAFETY: blocks are disjoint, and each is changed by one thread (the contract).
        let (out, scales) = unsafe {
            (
                self.weights
                    .range(row / BLOCK_ROWS * self.block_bytes, self.block_bytes),
                self.scales.range(row, 1),
            )
        };
        scales[0] = scale;
        for (column, code) in codes.iter().enumerate() {
            let (byte, shift) = place(row % BLOCK_ROWS, column);
            // The weight is still 0 there, so its bits change from that code to this one.
            out[byte] ^= ((code + 8).cast_unsigned() ^ ZERO) << shift;
        }
        scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn variants_equal_scalar(steps in 0usize..60, seed in any::<u64>(), extreme in 0..4) {
            let mut state = seed | 1;
            let mut roll = || { state ^= state << 13; state ^= state >> 7; state ^= state << 17; (state >> 32) as u8 };
            let w: Vec<u8> = (0..steps * STEP_BYTES).map(|_| if extreme > 1 { 0xff } else { roll() }).collect();
            let x: Vec<i8> = (0..steps * 8).map(|_| match extreme { 2 => 127, 3 => -127, _ => roll().cast_signed().max(-127) }).collect();
            let mut want = [0; BLOCK_ROWS];
            scalar(&w, &x, &mut want);
            for (name, gemv) in variants() {
                let mut got = [1; BLOCK_ROWS];
                gemv(&w, &x, &mut got);
                prop_assert_eq!(got, want, "{}, {} steps", name, steps);
            }
        }
    }
}
