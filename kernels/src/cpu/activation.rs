//! Activations quantised to int8 in blocks, the right-hand side of every integer dot product.
//!
//! Two shapes, both chosen so that results follow llama.cpp's closely: **Q8** (blocks of 32, one scale each)
//! for Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 weights, and **Q8K** (blocks of 256, one scale each, sums of 16) for
//! Q4_K, Q6_K and the ggml ternary types. Rows are quantised alone, so a token's numbers never depend on its
//! neighbours in a batch.

use super::compiled_twice;
use super::shared::Shared;
use half::f16;

/// Columns of one Q8 block.
pub const Q8_BLOCK: usize = 32;
/// Columns of one Q8K block.
pub const Q8K_BLOCK: usize = 256;
/// Columns whose sum a Q8K row keeps.
pub const Q8K_SUM: usize = 16;

/// Rows of Q8 blocks.
#[derive(Default)]
pub struct Q8Rows {
    columns: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    scaled_sums: Vec<f32>,
}

/// One Q8 row: `codes[columns]`, and per block of 32 the scale (rounded to f16), the integer sum of the codes
/// and scale times sum (rounded to f16).
#[derive(Clone, Copy)]
pub struct Q8Row<'a> {
    /// Int8 codes, −127..=127.
    pub codes: &'a [i8],
    /// Scale of each block.
    pub scales: &'a [f32],
    /// Sum of each block's codes.
    pub sums: &'a [i32],
    /// Scale times sum of each block.
    pub scaled_sums: &'a [f32],
}

impl Q8Rows {
    /// Makes room for `rows` rows of `columns` (a multiple of 32).
    pub fn resize(&mut self, rows: usize, columns: usize) {
        debug_assert!(columns.is_multiple_of(Q8_BLOCK));
        self.columns = columns;
        let blocks = rows * (columns / Q8_BLOCK);
        grow(&mut self.codes, rows * columns);
        grow(&mut self.scales, blocks);
        grow(&mut self.sums, blocks);
        grow(&mut self.scaled_sums, blocks);
    }

    /// Columns of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> Q8Row<'_> {
        let (c, b) = (self.columns, self.columns / Q8_BLOCK);
        Q8Row {
            codes: &self.codes[i * c..][..c],
            scales: &self.scales[i * b..][..b],
            sums: &self.sums[i * b..][..b],
            scaled_sums: &self.scaled_sums[i * b..][..b],
        }
    }

    /// Quantises `x` into row `i`.
    pub fn set(&mut self, i: usize, x: &[f32], quantise: QuantiseQ8) {
        // SAFETY: the writer is used for one row at a time.
        unsafe { self.writer().set(i, x, quantise) };
    }

    /// Lets several threads set rows of their own.
    pub(crate) fn writer(&mut self) -> Q8Writer<'_> {
        Q8Writer {
            columns: self.columns,
            codes: Shared::new(&mut self.codes),
            scales: Shared::new(&mut self.scales),
            sums: Shared::new(&mut self.sums),
            scaled_sums: Shared::new(&mut self.scaled_sums),
        }
    }
}

/// Writes rows from several threads.
pub(crate) struct Q8Writer<'a> {
    columns: usize,
    codes: Shared<'a, i8>,
    scales: Shared<'a, f32>,
    sums: Shared<'a, i32>,
    scaled_sums: Shared<'a, f32>,
}

impl Q8Writer<'_> {
    /// Quantises `x` into row `i`.
    ///
    /// # Safety
    /// No two threads may set the same row at once.
    pub(crate) unsafe fn set(&self, i: usize, x: &[f32], quantise: QuantiseQ8) {
        let (c, b) = (self.columns, self.columns / Q8_BLOCK);
        // SAFETY: rows are disjoint, and each row is set by one thread (the contract).
        unsafe {
            quantise(
                x,
                self.codes.range(i * c, c),
                self.scales.range(i * b, b),
                self.sums.range(i * b, b),
                self.scaled_sums.range(i * b, b),
            );
        }
    }
}

/// Rows of Q8K blocks.
#[derive(Default)]
pub struct Q8kRows {
    columns: usize,
    codes: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i16>,
}

/// One Q8K row: `codes[columns]`, one scale per 256, one sum per 16.
#[derive(Clone, Copy)]
pub struct Q8kRow<'a> {
    /// Int8 codes, −128..=127.
    pub codes: &'a [i8],
    /// Scale of each 256 columns.
    pub scales: &'a [f32],
    /// Sum of each 16 codes.
    pub sums: &'a [i16],
}

impl Q8kRows {
    /// Makes room for `rows` rows of `columns` (a multiple of 256).
    pub fn resize(&mut self, rows: usize, columns: usize) {
        debug_assert!(columns.is_multiple_of(Q8K_BLOCK));
        self.columns = columns;
        grow(&mut self.codes, rows * columns);
        grow(&mut self.scales, rows * (columns / Q8K_BLOCK));
        grow(&mut self.sums, rows * (columns / Q8K_SUM));
    }

    /// Columns of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> Q8kRow<'_> {
        let (c, b, s) = (
            self.columns,
            self.columns / Q8K_BLOCK,
            self.columns / Q8K_SUM,
        );
        Q8kRow {
            codes: &self.codes[i * c..][..c],
            scales: &self.scales[i * b..][..b],
            sums: &self.sums[i * s..][..s],
        }
    }

    /// Quantises `x` into row `i`.
    pub fn set(&mut self, i: usize, x: &[f32], quantise: QuantiseQ8k) {
        // SAFETY: the writer is used for one row at a time.
        unsafe { self.writer().set(i, x, quantise) };
    }

    /// Lets several threads set rows of their own.
    pub(crate) fn writer(&mut self) -> Q8kWriter<'_> {
        Q8kWriter {
            columns: self.columns,
            codes: Shared::new(&mut self.codes),
            scales: Shared::new(&mut self.scales),
            sums: Shared::new(&mut self.sums),
        }
    }
}

/// Writes rows from several threads.
pub(crate) struct Q8kWriter<'a> {
    columns: usize,
    codes: Shared<'a, i8>,
    scales: Shared<'a, f32>,
    sums: Shared<'a, i16>,
}

impl Q8kWriter<'_> {
    /// Quantises `x` into row `i`.
    ///
    /// # Safety
    /// No two threads may set the same row at once.
    pub(crate) unsafe fn set(&self, i: usize, x: &[f32], quantise: QuantiseQ8k) {
        let (c, b, s) = (
            self.columns,
            self.columns / Q8K_BLOCK,
            self.columns / Q8K_SUM,
        );
        // SAFETY: rows are disjoint, and each row is set by one thread (the contract).
        unsafe {
            quantise(
                x,
                self.codes.range(i * c, c),
                self.scales.range(i * b, b),
                self.sums.range(i * s, s),
            )
        };
    }
}

/// A block with no larger value is all zeros: its reciprocal scale would overflow.
const SMALLEST: f32 = 1e-30;

/// Grows a buffer without shrinking it: the hot path allocates only for its largest batch.
pub(crate) fn grow<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
}

compiled_twice! {
    /// `(x, codes, scales, sums, scaled_sums)`: quantises whole blocks of 32.
    pub fn q8_variants / QuantiseQ8 = quantise_q8(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i32], scaled_sums: &mut [f32])
}

#[inline(always)]
fn quantise_q8(
    x: &[f32],
    codes: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i32],
    scaled_sums: &mut [f32],
) {
    let blocks = x
        .as_chunks::<Q8_BLOCK>()
        .0
        .iter()
        .zip(codes.as_chunks_mut::<Q8_BLOCK>().0);
    for (i, (x, codes)) in blocks.enumerate() {
        let largest = largest(x);
        let scale = largest / 127.0;
        let inverse = if largest < SMALLEST {
            0.0
        } else {
            127.0 / largest
        };
        let mut sum = 0;
        for (code, &value) in codes.iter_mut().zip(x) {
            *code = round(value * inverse) as i8;
            sum += i32::from(*code);
        }
        scales[i] = f16::from_f32(scale).to_f32();
        sums[i] = sum;
        scaled_sums[i] = f16::from_f32(scale * sum as f32).to_f32();
    }
}

compiled_twice! {
    /// `(x, codes, scales, sums)`: quantises whole blocks of 256.
    pub fn q8k_variants / QuantiseQ8k = quantise_q8k(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i16])
}

#[inline(always)]
fn quantise_q8k(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [i16]) {
    let blocks = x
        .as_chunks::<Q8K_BLOCK>()
        .0
        .iter()
        .zip(codes.as_chunks_mut::<Q8K_BLOCK>().0);
    let sums = sums.as_chunks_mut::<{ Q8K_BLOCK / Q8K_SUM }>().0;
    for (i, (x, codes)) in blocks.enumerate() {
        let largest = largest(x);
        // The first value of the largest magnitude becomes exactly −127 (ggml's convention).
        let extreme = x
            .iter()
            .copied()
            .find(|v| v.abs() == largest)
            .unwrap_or(0.0);
        let inverse = if largest < SMALLEST {
            0.0
        } else {
            -127.0 / extreme
        };
        scales[i] = if largest < SMALLEST {
            0.0
        } else {
            1.0 / inverse
        };
        for (sum, (x, codes)) in sums[i].iter_mut().zip(
            x.as_chunks::<Q8K_SUM>()
                .0
                .iter()
                .zip(codes.as_chunks_mut::<Q8K_SUM>().0),
        ) {
            let mut total = 0;
            for (code, &value) in codes.iter_mut().zip(x) {
                *code = round(value * inverse) as i8;
                total += i32::from(*code);
            }
            *sum = total as i16;
        }
    }
}

/// The largest magnitude of a block.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for chunk in x.as_chunks::<8>().0 {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if value.abs() > *lane {
                value.abs()
            } else {
                *lane
            };
        }
    }
    lanes.iter().fold(0.0, |a, &b| if b > a { b } else { a })
}

/// Rounds to the nearest integer, ties to even, for magnitudes below 2²²: adding 1.5·2²³ leaves the integer in
/// the low bits of the mantissa. One add where a saturating cast would be four operations.
#[inline(always)]
fn round(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_q8(x: &[f32]) {
        let mut rows = Q8Rows::default();
        rows.resize(2, x.len());
        let variants = q8_variants();
        rows.set(0, x, variants[0].1);
        for (isa, quantise) in &variants {
            rows.set(1, x, *quantise);
            let (a, b) = (rows.row(0), rows.row(1));
            assert_eq!(a.codes, b.codes, "{}", isa.name());
            assert_eq!(
                (a.scales, a.sums, a.scaled_sums),
                (b.scales, b.sums, b.scaled_sums),
                "{}",
                isa.name()
            );
        }
    }

    proptest! {
        #[test]
        fn q8_variants_agree(x in proptest::collection::vec(-1e4f32..1e4, 96)) {
            check_q8(&x);
        }

        #[test]
        fn q8_is_close(x in proptest::collection::vec(-3f32..3.0, 64)) {
            let mut rows = Q8Rows::default();
            rows.resize(1, x.len());
            rows.set(0, &x, q8_variants()[0].1);
            let row = rows.row(0);
            for (i, v) in x.iter().enumerate() {
                let back = f32::from(row.codes[i]) * row.scales[i / 32];
                // Half a step of rounding, plus the f16 rounding of the scale (2^-11 of 127 steps).
                prop_assert!((back - v).abs() <= row.scales[i / 32] * (0.5 + 127.0 / 2048.0) + 1e-6);
            }
        }

        #[test]
        fn q8k_variants_agree(x in proptest::collection::vec(-1e4f32..1e4, 512)) {
            let mut rows = Q8kRows::default();
            rows.resize(2, x.len());
            rows.set(0, &x, q8k_variants()[0].1);
            for (isa, quantise) in q8k_variants() {
                rows.set(1, &x, quantise);
                let (a, b) = (rows.row(0), rows.row(1));
                prop_assert_eq!(a.codes, b.codes, "{}", isa.name());
                prop_assert_eq!((a.scales, a.sums), (b.scales, b.sums));
            }
        }
    }

    #[test]
    fn zeros_and_extremes() {
        check_q8(&[0.0; 32]);
        check_q8(&[f32::MIN_POSITIVE; 32]);
        let mut x = [0.0; 32];
        x[31] = -65504.0;
        check_q8(&x);
    }
}
