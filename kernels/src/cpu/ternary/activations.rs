//! Activations as the ternary kernels read them: int8, one scale per token, and the sum that the kernels'
//! unsigned weight codes need.
//!
//! For each token `a = max(max|x| / 127, 1e-8)` and `x8 = round(x / a)`, ties away from zero, so that
//! −127 ≤ x8 ≤ 127 (−128 never occurs; the kernels' 16-bit sums rely on that). All in f32, division
//! included, so every variant gives the same bits.
//!
//! **Order.** Within each 16 columns the codes are stored as the transpose of a 4 by 4 square: position
//! 4·f + j holds column 4·j + f. A byte of packed weights holds four *consecutive* columns in its four 2-bit
//! fields; the four bytes of a 32-bit lane, masked to field f, then meet exactly the four activations at
//! 4·f .. 4·f + 4, and one broadcast of 32 bits serves all rows of a block.

use crate::cpu::shared::Shared;

/// Smallest scale: a token of zeros still divides.
pub const SCALE_MIN: f32 = 1e-8;

/// Rows are padded to whole groups of this many columns (one super-step of the 1.25-bit kernels), and one
/// more, so that a kernel may round its last step up.
const COLUMN_PAD: usize = 128;

/// A token's activations contain a value that is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "activation {column} is not a finite number; the model's weights or an earlier layer are broken"
)]
pub struct NotFinite {
    /// First column with such a value.
    pub column: usize,
}

/// Int8 activations of several tokens, one scale each.
#[derive(Debug, Clone, Default)]
pub struct Int8Rows {
    columns: usize,
    stride: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl Int8Rows {
    /// Room for `tokens` tokens of `columns` activations, all zero.
    pub fn new(tokens: usize, columns: usize) -> Int8Rows {
        let mut rows = Int8Rows::default();
        rows.reset(tokens, columns);
        rows
    }

    /// Changes the shape and keeps the memory; tokens hold anything until they are quantised or set.
    pub fn reset(&mut self, tokens: usize, columns: usize) {
        self.columns = columns;
        self.stride = columns.next_multiple_of(COLUMN_PAD) + COLUMN_PAD;
        self.codes.resize(tokens * self.stride, 0);
        self.scales.resize(tokens, SCALE_MIN);
        self.sums.resize(tokens, 0);
    }

    /// Lets several threads quantise tokens of their own.
    pub(crate) fn writer(&mut self) -> Writer<'_> {
        Writer {
            columns: self.columns,
            stride: self.stride,
            codes: Shared::new(&mut self.codes),
            scales: Shared::new(&mut self.scales),
            sums: Shared::new(&mut self.sums),
        }
    }

    /// Quantises one token; `x.len()` must equal `columns()`.
    ///
    /// # Errors
    /// [`NotFinite`] for an infinity or a NaN; the token may then hold anything.
    pub fn quantise(&mut self, token: usize, x: &[f32]) -> Result<(), NotFinite> {
        self.quantise_with(best(), token, x)
    }

    /// [`Int8Rows::quantise`] by one given variant.
    ///
    /// # Errors
    /// As [`Int8Rows::quantise`].
    pub fn quantise_with(
        &mut self,
        quantise: Quantise,
        token: usize,
        x: &[f32],
    ) -> Result<(), NotFinite> {
        // SAFETY: the writer is used for one token at a time.
        unsafe { self.writer().quantise(quantise, token, x) }
    }

    /// Takes ready int8 codes in column order (tests, benches); −128 is not allowed.
    pub fn set(&mut self, token: usize, codes: &[i8], scale: f32) {
        assert_eq!(
            codes.len(),
            self.columns,
            "a token has as many activations as the rows have columns"
        );
        assert!(codes.iter().all(|&c| c != i8::MIN), "codes are -127..=127");
        let row = &mut self.codes[token * self.stride..][..self.stride];
        row.fill(0);
        for (column, &code) in codes.iter().enumerate() {
            row[position(column)] = code;
        }
        self.scales[token] = scale;
        self.sums[token] = codes.iter().map(|&c| i32::from(c)).sum();
    }

    /// Tokens held.
    pub fn tokens(&self) -> usize {
        self.scales.len()
    }

    /// Activations per token.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The scale `a` of one token: x is about `a * x8`.
    pub fn scale(&self, token: usize) -> f32 {
        self.scales[token]
    }

    /// Sum of one token's int8 codes.
    pub fn sum(&self, token: usize) -> i32 {
        self.sums[token]
    }

    /// One activation's int8 code.
    pub fn code(&self, token: usize, column: usize) -> i8 {
        assert!(column < self.columns, "column {column} of {}", self.columns);
        self.codes[token * self.stride + position(column)]
    }

    /// All tokens' codes in stored order, `stride()` apart.
    pub(super) fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// Codes from one token to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// One token's codes in stored order, zero-padded.
    pub(crate) fn row(&self, token: usize) -> &[i8] {
        &self.codes[token * self.stride..][..self.stride]
    }
}

/// Quantises tokens from several threads.
pub(crate) struct Writer<'a> {
    columns: usize,
    stride: usize,
    codes: Shared<'a, i8>,
    scales: Shared<'a, f32>,
    sums: Shared<'a, i32>,
}

impl Writer<'_> {
    /// Quantises one token; `x.len()` must equal the rows' columns.
    ///
    /// # Errors
    /// As [`Int8Rows::quantise`].
    ///
    /// # Safety
    /// No two threads may quantise the same token at once.
    pub(crate) unsafe fn quantise(
        &self,
        quantise: Quantise,
        token: usize,
        x: &[f32],
    ) -> Result<(), NotFinite> {
        assert_eq!(
            x.len(),
            self.columns,
            "a token has as many activations as the rows have columns"
        );
        // SAFETY: tokens are disjoint, and each is quantised by one thread (the contract).
        let (codes, scales, sums) = unsafe {
            (
                self.codes.range(token * self.stride, self.stride),
                self.scales.range(token, 1),
                self.sums.range(token, 1),
            )
        };
        // Behind the last whole group of 16 stands what the quantiser does not write.
        codes[self.columns & !15..].fill(0);
        let Some((scale, sum)) = quantise(x, codes) else {
            let column = x.iter().position(|v| !v.is_finite()).unwrap_or(0);
            return Err(NotFinite { column });
        };
        (scales[0], sums[0]) = (scale, sum);
        Ok(())
    }
}

/// Where a column's code is stored.
pub(crate) fn position(column: usize) -> usize {
    (column & !15) | (column & 3) << 2 | (column >> 2 & 3)
}

/// Quantises `x` into stored order (`codes` is zero beyond it) and returns scale and sum; `None` if a value
/// is not finite.
pub type Quantise = fn(x: &[f32], codes: &mut [i8]) -> Option<(f32, i32)>;

/// The variants this machine can run, slowest first. `[0]` is always `scalar`.
pub fn variants() -> Vec<(&'static str, Quantise)> {
    #[allow(unused_mut, reason = "other architectures add nothing")]
    let mut list: Vec<(&'static str, Quantise)> = vec![("scalar", scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: avx2 was detected on the line above.
            list.push(("avx2", |x, codes| unsafe { x86::avx2(x, codes) }));
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: avx512f was detected on the line above; it implies avx2 and sse4.1.
            list.push(("avx512", |x, codes| unsafe { x86::avx512(x, codes) }));
        }
    }
    list
}

/// The fastest variant of this machine.
pub(crate) fn best() -> Quantise {
    static BEST: std::sync::OnceLock<Quantise> = std::sync::OnceLock::new();
    *BEST.get_or_init(|| variants().last().map_or(scalar, |v| v.1))
}

/// The definition.
pub fn scalar(x: &[f32], codes: &mut [i8]) -> Option<(f32, i32)> {
    let scale = scale_of(x.iter().fold(0, |max, v| max.max(magnitude(*v))))?;
    let mut sum = 0;
    for (column, v) in x.iter().enumerate() {
        let code = code(*v, scale);
        codes[position(column)] = code;
        sum += i32::from(code);
    }
    Some((scale, sum))
}

/// The bits of |v|: they order like the numbers, and infinities and NaNs come last.
fn magnitude(v: f32) -> u32 {
    v.to_bits() & 0x7fff_ffff
}

fn scale_of(magnitude_max: u32) -> Option<f32> {
    let max = f32::from_bits(magnitude_max);
    max.is_finite().then(|| (max / 127.0).max(SCALE_MIN))
}

fn code(v: f32, scale: f32) -> i8 {
    (v / scale).round().clamp(-127.0, 127.0) as i8
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{code, magnitude, position, scale_of};
    use std::arch::x86_64::*;

    /// Eight quotients rounded half away from zero and clamped, as integers.
    #[target_feature(enable = "avx2")]
    fn round8(v: __m256, scale: __m256) -> __m256i {
        let sign = _mm256_set1_ps(-0.0);
        let q = _mm256_div_ps(v, scale);
        let t = _mm256_round_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(q);
        // The fraction is exact, so this is f32::round: away from zero from one half on.
        let up = _mm256_cmp_ps::<_CMP_GE_OQ>(
            _mm256_andnot_ps(sign, _mm256_sub_ps(q, t)),
            _mm256_set1_ps(0.5),
        );
        let one = _mm256_or_ps(_mm256_and_ps(q, sign), _mm256_set1_ps(1.0));
        let r = _mm256_add_ps(t, _mm256_and_ps(up, one));
        let r = _mm256_max_ps(
            _mm256_set1_ps(-127.0),
            _mm256_min_ps(_mm256_set1_ps(127.0), r),
        );
        _mm256_cvttps_epi32(r)
    }

    /// The stored order of 16 bytes: see [`position`].
    #[target_feature(enable = "avx2")]
    fn order() -> __m128i {
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
    }

    #[target_feature(enable = "avx2")]
    fn sum_of(v: __m256i) -> i32 {
        let v = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
        let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b0100_1110>(v));
        _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32::<0b1011_0001>(v)))
    }

    /// The last columns, fewer than 16, by the definition.
    fn tail(x: &[f32], done: usize, scale: f32, codes: &mut [i8]) -> i32 {
        let mut sum = 0;
        for (column, v) in x.iter().enumerate().skip(done) {
            let code = code(*v, scale);
            codes[position(column)] = code;
            sum += i32::from(code);
        }
        sum
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(x: &[f32], codes: &mut [i8]) -> Option<(f32, i32)> {
        let (chunks, rest) = x.as_chunks::<16>();
        let mut max = _mm256_setzero_si256();
        let bits = _mm256_set1_epi32(0x7fff_ffff);
        for chunk in chunks {
            // SAFETY: a chunk holds 16 floats: two unaligned loads of eight.
            let (a, b) = unsafe {
                (
                    _mm256_loadu_si256(chunk.as_ptr().cast()),
                    _mm256_loadu_si256(chunk.as_ptr().add(8).cast()),
                )
            };
            max = _mm256_max_epu32(
                max,
                _mm256_max_epu32(_mm256_and_si256(a, bits), _mm256_and_si256(b, bits)),
            );
        }
        let mut lanes = [0u32; 8];
        // SAFETY: `lanes` is 32 bytes.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), max) };
        let max = lanes
            .into_iter()
            .chain(rest.iter().map(|v| magnitude(*v)))
            .max()
            .unwrap_or(0);
        let scale = scale_of(max)?;
        let by = _mm256_set1_ps(scale);
        let (mut sum, order) = (_mm256_setzero_si256(), order());
        for (chunk, out) in chunks.iter().zip(codes.as_chunks_mut::<16>().0) {
            // SAFETY: a chunk holds 16 floats: two unaligned loads of eight.
            let (a, b) = unsafe {
                (
                    _mm256_loadu_ps(chunk.as_ptr()),
                    _mm256_loadu_ps(chunk.as_ptr().add(8)),
                )
            };
            let (a, b) = (round8(a, by), round8(b, by));
            sum = _mm256_add_epi32(sum, _mm256_add_epi32(a, b));
            // packs works per half: the permute restores column order.
            let words = _mm256_permute4x64_epi64::<0b1101_1000>(_mm256_packs_epi32(a, b));
            let bytes = _mm_packs_epi16(
                _mm256_castsi256_si128(words),
                _mm256_extracti128_si256::<1>(words),
            );
            // SAFETY: `out` is 16 bytes.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm_shuffle_epi8(bytes, order)) };
        }
        Some((
            scale,
            sum_of(sum) + tail(x, chunks.len() * 16, scale, codes),
        ))
    }

    #[target_feature(enable = "avx2,avx512f")]
    pub(super) fn avx512(x: &[f32], codes: &mut [i8]) -> Option<(f32, i32)> {
        let (chunks, rest) = x.as_chunks::<16>();
        let bits = _mm512_set1_epi32(0x7fff_ffff);
        let mut max = _mm512_setzero_si512();
        for chunk in chunks {
            // SAFETY: a chunk holds 16 floats, one unaligned load.
            let v = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
            max = _mm512_max_epu32(max, _mm512_and_si512(v, bits));
        }
        let max =
            _mm512_reduce_max_epu32(max).max(rest.iter().map(|v| magnitude(*v)).max().unwrap_or(0));
        let scale = scale_of(max)?;
        let (by, half, one) = (
            _mm512_set1_ps(scale),
            _mm512_set1_ps(0.5),
            _mm512_set1_epi32(1.0f32.to_bits().cast_signed()),
        );
        let sign = _mm512_set1_epi32(i32::MIN);
        let (mut sum, order) = (_mm512_setzero_si512(), order());
        for (chunk, out) in chunks.iter().zip(codes.as_chunks_mut::<16>().0) {
            // SAFETY: a chunk holds 16 floats, one unaligned load.
            let q = _mm512_div_ps(unsafe { _mm512_loadu_ps(chunk.as_ptr()) }, by);
            let t = _mm512_roundscale_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(q);
            let up = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(_mm512_abs_ps(_mm512_sub_ps(q, t)), half);
            let away = _mm512_castsi512_ps(_mm512_or_si512(
                _mm512_and_si512(_mm512_castps_si512(q), sign),
                one,
            ));
            let r = _mm512_mask_add_ps(t, up, t, away);
            let r = _mm512_max_ps(
                _mm512_set1_ps(-127.0),
                _mm512_min_ps(_mm512_set1_ps(127.0), r),
            );
            let r = _mm512_cvttps_epi32(r);
            sum = _mm512_add_epi32(sum, r);
            // SAFETY: `out` is 16 bytes.
            unsafe {
                _mm_storeu_si128(
                    out.as_mut_ptr().cast(),
                    _mm_shuffle_epi8(_mm512_cvtepi32_epi8(r), order),
                )
            };
        }
        Some((
            scale,
            _mm512_reduce_add_epi32(sum) + tail(x, chunks.len() * 16, scale, codes),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(x: &[f32]) {
        let mut want = Int8Rows::new(1, x.len());
        want.quantise_with(scalar, 0, x).unwrap();
        for (name, quantise) in variants() {
            let mut got = Int8Rows::new(1, x.len());
            got.quantise_with(quantise, 0, x).unwrap();
            assert_eq!(got.row(0), want.row(0), "{name}, {} columns", x.len());
            assert_eq!(got.scale(0).to_bits(), want.scale(0).to_bits(), "{name}");
            assert_eq!(got.sum(0), want.sum(0), "{name}");
        }
    }

    proptest! {
        #[test]
        fn variants_equal_scalar(x in prop::collection::vec(-1e4f32..1e4, 0..200)) {
            check(&x);
        }

        #[test]
        fn ties_go_away_from_zero(mut halves in prop::collection::vec(-126i32..126, 1..80)) {
            // With 127 among the values the scale is exactly 1, so n + 0.5 is a tie.
            halves.push(127);
            let x: Vec<f32> = halves.iter().map(|&n| if n == 127 { 127.0 } else { n as f32 + 0.5 }).collect();
            check(&x);
            let mut rows = Int8Rows::new(1, x.len());
            rows.quantise(0, &x).unwrap();
            for (column, &n) in halves.iter().enumerate() {
                let want = if n == 127 { 127 } else if n >= 0 { n + 1 } else { n };
                prop_assert_eq!(i32::from(rows.code(0, column)), want);
            }
        }
    }

    #[test]
    fn extremes() {
        check(&[0.0; 37]);
        check(&[f32::MAX; 33]);
        check(&[-f32::MAX; 16]);
        check(&[f32::MIN_POSITIVE / 2.0; 48]);
        check(&[
            0.499_999_97,
            127.0,
            -0.499_999_97,
            -127.0,
            0.5,
            -0.5,
            126.5,
            -126.5,
            1.0,
            2.0,
            3.0,
            4.0,
            5.0,
            6.0,
            7.0,
            8.0,
        ]);
        let mut zero = Int8Rows::new(1, 5);
        zero.quantise(0, &[0.0; 5]).unwrap();
        assert_eq!(zero.scale(0), SCALE_MIN);
    }

    #[test]
    fn not_finite_is_an_error_in_every_variant() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for columns in [3, 40] {
                let mut x = vec![1.0; columns];
                x[columns - 2] = bad;
                for (name, quantise) in variants() {
                    let error = Int8Rows::new(1, columns)
                        .quantise_with(quantise, 0, &x)
                        .unwrap_err();
                    assert_eq!(error.column, columns - 2, "{name}");
                }
            }
        }
    }

    #[test]
    fn ready_codes_round_trip() {
        let codes: Vec<i8> = (0..45).map(|i| (i * 5 - 110) as i8).collect();
        let mut rows = Int8Rows::new(2, 45);
        rows.set(1, &codes, 0.5);
        assert!((0..45).all(|c| rows.code(1, c) == codes[c]));
        assert_eq!(
            rows.sum(1),
            codes.iter().map(|&c| i32::from(c)).sum::<i32>()
        );
        assert_eq!(rows.sum(0), 0);
    }
}
