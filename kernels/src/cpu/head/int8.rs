//! Eight-bit rows, each contiguous with one scale: w ≈ scale · q with −127 ≤ q ≤ 127, scale = max|w| / 127.
//!
//! Columns are stored in the order of the activations ([`crate::cpu::ternary::activations`]), padded with zero
//! to 64, so a dot product walks both front to back. AVX2 multiplies |x| by w with x's sign: a pair is at most
//! 2 · 127 · 127 = 32,258 and does not saturate. VNNI wants one unsigned side: w + 128, minus 128 · sum(x).

use super::quantise;
use crate::cpu::shared::Shared;
use crate::cpu::ternary::activations::{Int8Rows, position};
use crate::huge::{HugeBuffer, HugeError, HugeMemory};

/// Rows are padded to whole vectors of this many columns.
const PAD: usize = 64;
/// Largest |q|.
const LARGEST: f32 = 127.0;

/// `sum of w · x` over equally long slices, a multiple of 64; `sum` is the sum of all x. x and w from −127.
pub type Dot = fn(w: &[u8], x: &[i8], sum: i32) -> i32;

/// The variants this machine can run, slowest first. `[0]` is always `scalar`.
pub fn variants() -> Vec<(&'static str, Dot)> {
    #[allow(unused_mut, reason = "other architectures add nothing")]
    let mut list: Vec<(&'static str, Dot)> = vec![("scalar", scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: avx2 was detected on the line above.
            list.push(("avx2", |w, x, sum| unsafe { x86::avx2(w, x, sum) }));
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: both were detected on the line above.
            list.push(("avx512vnni", |w, x, sum| unsafe {
                x86::avx512vnni(w, x, sum)
            }));
        }
    }
    list
}

/// The definition. Bytes of w are signed.
pub fn scalar(w: &[u8], x: &[i8], _sum: i32) -> i32 {
    w.iter()
        .zip(x)
        .map(|(w, x)| i32::from(w.cast_signed()) * i32::from(*x))
        .sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::PAD;
    use crate::cpu::ternary::x86::{AHEAD, load, load_i8, load512, load512_i8, prefetch};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(w: &[u8], x: &[i8], _sum: i32) -> i32 {
        let ones = _mm256_set1_epi16(1);
        let mut sums = [_mm256_setzero_si256(); 2];
        for (w, x) in w.as_chunks::<PAD>().0.iter().zip(x.as_chunks::<PAD>().0) {
            prefetch(w, AHEAD);
            for (i, sum) in sums.iter_mut().enumerate() {
                let (w, x) = (load(w, 32 * i), load_i8(x, 32 * i));
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
        let v = _mm256_add_epi32(sums[0], sums[1]);
        let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b0100_1110>(v));
        _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<0b1011_0001>(v)))
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn avx512vnni(w: &[u8], x: &[i8], sum: i32) -> i32 {
        let top = _mm512_set1_epi8(i8::MIN);
        let mut all = _mm512_setzero_si512();
        for (w, x) in w.as_chunks::<PAD>().0.iter().zip(x.as_chunks::<PAD>().0) {
            prefetch(w, AHEAD);
            all = _mm512_dpbusd_epi32(all, _mm512_xor_si512(load512(w, 0), top), load512_i8(x, 0));
        }
        _mm512_reduce_add_epi32(all) - 128 * sum
    }
}

/// Eight-bit rows.
#[derive(Debug)]
pub struct Int8Matrix {
    columns: usize,
    stride: usize,
    weights: HugeBuffer,
    scales: Vec<f32>,
    dot: Dot,
}

impl Int8Matrix {
    /// Room for `rows` rows of `columns`, all zero.
    ///
    /// # Errors
    /// [`HugeError`] without memory for it.
    pub(super) fn zeroed(
        rows: usize,
        columns: usize,
        memory: &HugeMemory,
    ) -> Result<Int8Matrix, HugeError> {
        let stride = columns.next_multiple_of(PAD);
        let weights = memory.take(rows.saturating_mul(stride))?;
        let dot = variants().last().map_or(scalar as Dot, |v| v.1);
        Ok(Int8Matrix {
            columns,
            stride,
            weights,
            scales: vec![0.0; rows],
            dot,
        })
    }

    /// Lets several threads set rows of their own.
    pub(super) fn writer(&mut self) -> Writer<'_> {
        Writer {
            stride: self.stride,
            weights: Shared::new(self.weights.bytes_mut()),
            scales: Shared::new(&mut self.scales),
        }
    }

    /// Rows held.
    pub fn rows(&self) -> usize {
        self.scales.len()
    }

    /// Bytes of one full scan.
    pub fn bytes(&self) -> usize {
        self.weights.len()
    }

    /// Chooses a variant by name (tests, benches); `false` if this machine does not have it.
    pub fn use_variant(&mut self, name: &str) -> bool {
        let found = variants().into_iter().find(|v| v.0 == name);
        self.dot = found.map_or(self.dot, |v| v.1);
        found.is_some()
    }

    /// One weight as the eight bits give it.
    pub fn weight(&self, row: usize, column: usize) -> f32 {
        f32::from(self.weights.bytes()[row * self.stride + position(column)].cast_signed())
            * self.scales[row]
    }

    /// The exact integer sum of one row times one token.
    pub fn dot(&self, row: usize, x: &Int8Rows, token: usize) -> i32 {
        assert_eq!(
            x.columns(),
            self.columns,
            "activations and head have the same columns"
        );
        (self.dot)(
            &self.weights.bytes()[row * self.stride..][..self.stride],
            &x.row(token)[..self.stride],
            x.sum(token),
        )
    }

    /// The logit of one row for one token.
    pub fn logit(&self, row: usize, x: &Int8Rows, token: usize) -> f32 {
        self.dot(row, x, token) as f32 * (self.scales[row] * x.scale(token))
    }
}

/// Writes rows from several threads.
pub(super) struct Writer<'a> {
    stride: usize,
    weights: Shared<'a, u8>,
    scales: Shared<'a, f32>,
}

impl Writer<'_> {
    /// Quantises one row, in place and into `codes`; values are finite. Returns its scale.
    ///
    /// # Safety
    /// No two threads may set the same row at once.
    pub(super) unsafe fn set(&self, row: usize, values: &[f32], codes: &mut [i8]) -> f32 {
        let scale = quantise(values, LARGEST, codes);
        // SAFETY: rows are disjoint, and each row is set by one thread (the contract).
        let (out, scales) = unsafe {
            (
                self.weights.range(row * self.stride, self.stride),
                self.scales.range(row, 1),
            )
        };
        scales[0] = scale;
        for (column, code) in codes.iter().enumerate() {
            out[position(column)] = code.cast_unsigned();
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
        fn variants_equal_scalar(
            pairs in prop::collection::vec((-127i8..=127, -127i8..=127), 0..300),
            extreme in prop::sample::select(vec![None, Some((127i8, 127i8)), Some((-127, 127)), Some((-127, -127))]),
        ) {
            let len = pairs.len().next_multiple_of(PAD);
            let (mut w, mut x) = (vec![0u8; len], vec![0i8; len]);
            for (i, pair) in pairs.into_iter().enumerate() {
                let (a, b) = extreme.unwrap_or(pair);
                (w[i], x[i]) = (a.cast_unsigned(), b);
            }
            let sum = x.iter().map(|&v| i32::from(v)).sum();
            for (name, dot) in variants() {
                prop_assert_eq!(dot(&w, &x, sum), scalar(&w, &x, sum), "{}, {} columns", name, len);
            }
        }
    }
}
