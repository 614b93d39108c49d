//! Dense f32 matrices times many rows at once: what encoders such as BERT do all day.
//!
//! `y[t][n] = Σ_k x[t][k] · w[n][k] + b[n]`, summed in the order of `k`. Weights are packed in panels of 16 output
//! columns, `[panel][k][16]`, so a step of the inner loop reads one contiguous row of the panel and multiplies it into
//! a tile of rows. With fused multiply-adds a product is not rounded before it is added: the vector variants give the
//! same bits as each other, and the definition's within the rounding of its products.

use super::Isa;
use super::shared::Shared;
use crate::threads::Threads;

/// Output columns of one panel: two AVX2 vectors, one of AVX-512.
const PANEL: usize = 16;

/// Rows of a register tile with 16 registers: 12 accumulators of half a panel, and room for the operands.
const TILE: usize = 6;

/// Rows of a register tile with 32 registers: 12 accumulators of a panel, more than the latency of two units hides.
#[cfg(target_arch = "x86_64")]
const TILE_WIDE: usize = 12;

/// Rows that one block of the thread pool takes: whole tiles, whose inputs stay in the second-level cache.
const BLOCK: usize = 8 * TILE;

/// A matrix `[rows][cols]` with a bias, packed for multiplication from the left.
pub struct FloatMatrix {
    rows: usize,
    cols: usize,
    panels: Vec<f32>,
    bias: Vec<f32>,
    kernel: Kernel,
}

/// `(x, cols, panel, bias, y)`: rows of `x` times one panel of weights.
type Kernel = fn(&[f32], usize, &[f32], &[f32], &mut [[f32; PANEL]]);

/// The variants this machine can run, slowest first.
fn variants() -> Vec<(Isa, Kernel)> {
    let mut list: Vec<(Isa, Kernel)> = vec![(Isa::Scalar, scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        if Isa::detect() >= Isa::Avx2 {
            // SAFETY: the features were detected on the line above.
            list.push((Isa::Avx2, |x, cols, panel, bias, y| unsafe {
                avx2(x, cols, panel, bias, y);
            }));
        }
        if Isa::detect() >= Isa::Avx512 {
            // SAFETY: the features were detected on the line above.
            list.push((Isa::Avx512, |x, cols, panel, bias, y| unsafe {
                avx512(x, cols, panel, bias, y);
            }));
        }
    }
    list
}

/// The definition.
fn scalar(x: &[f32], cols: usize, panel: &[f32], bias: &[f32], y: &mut [[f32; PANEL]]) {
    times_panel::<false>(x, cols, panel, bias, y);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(x: &[f32], cols: usize, panel: &[f32], bias: &[f32], y: &mut [[f32; PANEL]]) {
    times_panel::<true>(x, cols, panel, bias, y);
}

/// `y[t]` = the panel's 16 outputs for row `t` of `x`; `FUSED`: a product is not rounded before it is added.
#[inline(always)]
fn times_panel<const FUSED: bool>(
    x: &[f32],
    cols: usize,
    panel: &[f32],
    bias: &[f32],
    y: &mut [[f32; PANEL]],
) {
    let (weights, _) = panel.as_chunks::<PANEL>();
    let mut rows = x.chunks_exact(cols * TILE);
    let (tiles, rest) = y.as_chunks_mut::<TILE>();
    for (x, y) in (&mut rows).zip(tiles) {
        tile::<FUSED, TILE>(x, cols, weights, bias, y);
    }
    for (x, y) in rows.remainder().chunks_exact(cols).zip(rest) {
        tile::<FUSED, 1>(x, cols, weights, bias, std::array::from_mut(y));
    }
}

#[inline(always)]
fn tile<const FUSED: bool, const N: usize>(
    x: &[f32],
    cols: usize,
    weights: &[[f32; PANEL]],
    bias: &[f32],
    y: &mut [[f32; PANEL]; N],
) {
    let mut sums = [[0f32; PANEL]; N];
    let rows: [&[f32]; N] = std::array::from_fn(|row| &x[row * cols..(row + 1) * cols]);
    for (k, weight) in weights[..cols].iter().enumerate() {
        for (sum, row) in sums.iter_mut().zip(rows) {
            let x = row[k];
            for (sum, w) in sum.iter_mut().zip(weight) {
                *sum = if FUSED {
                    x.mul_add(*w, *sum)
                } else {
                    *sum + x * w
                };
            }
        }
    }
    for (y, sum) in y.iter_mut().zip(sums) {
        for ((y, sum), b) in y.iter_mut().zip(sum).zip(bias) {
            *y = sum + b;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(x: &[f32], cols: usize, panel: &[f32], bias: &[f32], y: &mut [[f32; PANEL]]) {
    let (mut x, mut y) = (x, y);
    while y.len() >= TILE_WIDE {
        let (rows, below) = x.split_at(TILE_WIDE * cols);
        let (tile, rest) = y.split_at_mut(TILE_WIDE);
        tile_wide::<TILE_WIDE>(rows, cols, panel, bias, tile);
        (x, y) = (below, rest);
    }
    // What is left takes the largest tiles it fills: a short text is one of them.
    for (size, tile) in [
        (8, tile_wide::<8> as Tile),
        (4, tile_wide::<4>),
        (2, tile_wide::<2>),
        (1, tile_wide::<1>),
    ] {
        while y.len() >= size {
            let (rows, below) = x.split_at(size * cols);
            let (into, rest) = y.split_at_mut(size);
            // SAFETY: the caller has the feature.
            unsafe { tile(rows, cols, panel, bias, into) };
            (x, y) = (below, rest);
        }
    }
}

#[cfg(target_arch = "x86_64")]
type Tile = unsafe fn(&[f32], usize, &[f32], &[f32], &mut [[f32; PANEL]]);

/// `N` rows times one panel: one accumulator a row.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn tile_wide<const N: usize>(
    x: &[f32],
    cols: usize,
    panel: &[f32],
    bias: &[f32],
    y: &mut [[f32; PANEL]],
) {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_storeu_ps,
    };
    assert!(
        x.len() >= N * cols && panel.len() >= cols * PANEL && y.len() >= N && bias.len() >= PANEL
    );
    let mut sums = [_mm512_setzero_ps(); N];
    let rows: [*const f32; N] = std::array::from_fn(|row| x[row * cols..].as_ptr());
    for k in 0..cols {
        // SAFETY: `k` is below `cols`; the panel holds `cols` times 16 numbers and every row `cols`, as asserted.
        let weight = unsafe { _mm512_loadu_ps(panel.as_ptr().add(k * PANEL)) };
        for (sum, row) in sums.iter_mut().zip(rows) {
            // SAFETY: as above.
            let x = _mm512_set1_ps(unsafe { *row.add(k) });
            *sum = _mm512_fmadd_ps(x, weight, *sum);
        }
    }
    // SAFETY: 16 numbers, as asserted.
    let bias = unsafe { _mm512_loadu_ps(bias.as_ptr()) };
    for (y, sum) in y.iter_mut().zip(sums) {
        // SAFETY: a row of the panel's outputs is 16 numbers.
        unsafe { _mm512_storeu_ps(y.as_mut_ptr(), _mm512_add_ps(sum, bias)) };
    }
}

impl FloatMatrix {
    /// Packs row-major `weights` of `[rows][cols]` and a bias of `[rows]`.
    ///
    /// # Panics
    /// If the lengths do not fit the shape.
    pub fn pack(rows: usize, cols: usize, weights: &[f32], bias: &[f32]) -> FloatMatrix {
        assert!(
            cols > 0 && weights.len() == rows * cols && bias.len() == rows,
            "weights [{rows}][{cols}] and bias [{rows}]"
        );
        let count = rows.div_ceil(PANEL);
        let mut panels = vec![0.0; count * cols * PANEL];
        for (row, values) in weights.chunks_exact(cols).enumerate() {
            let panel = &mut panels[row / PANEL * cols * PANEL..];
            for (k, value) in values.iter().enumerate() {
                panel[k * PANEL + row % PANEL] = *value;
            }
        }
        let mut padded = bias.to_vec();
        padded.resize(count * PANEL, 0.0);
        let kernel = super::pick(&variants(), Isa::detect());
        FloatMatrix {
            rows,
            cols,
            panels,
            bias: padded,
            kernel,
        }
    }

    /// Outputs a row gives.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// `y[t] = W·x[t] + b` for rows `x` of `[t][cols]` into `y` of `[t][rows]`.
    ///
    /// # Panics
    /// If the lengths do not fit the shape.
    pub fn multiply(&self, threads: &Threads, x: &[f32], y: &mut [f32]) {
        let tokens = x.len() / self.cols;
        assert!(
            x.len() == tokens * self.cols && y.len() == tokens * self.rows,
            "whole rows in and out"
        );
        let panels = self.panels.len() / (self.cols * PANEL);
        let bands = tokens.div_ceil(BLOCK);
        let out = Shared::new(y);
        threads.run(bands * panels, &|block| {
            let (band, panel) = (block / panels, block % panels);
            let first = band * BLOCK;
            let count = BLOCK.min(tokens - first);
            let mut tile = [[0f32; PANEL]; BLOCK];
            (self.kernel)(
                &x[first * self.cols..(first + count) * self.cols],
                self.cols,
                &self.panels[panel * self.cols * PANEL..(panel + 1) * self.cols * PANEL],
                &self.bias[panel * PANEL..(panel + 1) * PANEL],
                &mut tile[..count],
            );
            let column = panel * PANEL;
            let width = PANEL.min(self.rows - column);
            for (row, values) in tile[..count].iter().enumerate() {
                // SAFETY: each block owns its rows and columns of `y`; no two blocks share an element.
                let target = unsafe { out.range((first + row) * self.rows + column, width) };
                target.copy_from_slice(&values[..width]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn equals_the_definition_but_for_the_products_rounding(rows in 1usize..70, cols in 1usize..40, tokens in 0usize..110, seed in any::<u32>()) {
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / 8e6 - 1.0;
            let weights: Vec<f32> = (0..rows * cols).map(value).collect();
            let bias: Vec<f32> = (0..rows).map(|i| value(i + 7)).collect();
            let x: Vec<f32> = (0..tokens * cols).map(|i| value(i * 3)).collect();
            let (mut expected, mut fused) = (vec![0.0; tokens * rows], vec![0.0; tokens * rows]);
            for t in 0..tokens {
                for n in 0..rows {
                    let (mut sum, mut once) = (0.0f32, 0.0f32);
                    for k in 0..cols {
                        let (x, w) = (x[t * cols + k], weights[n * cols + k]);
                        sum += x * w;
                        once = x.mul_add(w, once);
                    }
                    expected[t * rows + n] = sum + bias[n];
                    fused[t * rows + n] = once + bias[n];
                }
            }
            let mut matrix = FloatMatrix::pack(rows, cols, &weights, &bias);
            for (isa, kernel) in variants() {
                matrix.kernel = kernel;
                let mut y = vec![0.0; tokens * rows];
                matrix.multiply(&Threads::new(2), &x, &mut y);
                let wanted = if isa == Isa::Scalar { &expected } else { &fused };
                prop_assert_eq!(&y, wanted, "{}", isa.name());
                for (a, b) in y.iter().zip(&expected) {
                    prop_assert!((a - b).abs() < 1e-5 * cols as f32, "{a} is far from {b}");
                }
            }
        }
    }
}
