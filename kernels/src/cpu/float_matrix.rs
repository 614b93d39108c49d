//! Dense f32 matrices times many rows at once: what encoders such as BERT do all day.
//!
//! `y[t][n] = Σ_k x[t][k] · w[n][k] + b[n]`. Weights are packed in panels of 16 output columns, `[panel][k][16]`, so a
//! step of the inner loop reads one contiguous pair of vectors and multiplies it into a tile of 6 rows: 12 accumulators,
//! which is what 16 vector registers hold beside the operands. Products and sums are separate operations in the order
//! of `k`, so every variant gives the same bits.

use super::compiled_twice;
use super::shared::Shared;
use crate::threads::Threads;

/// Output columns of one panel: two AVX2 vectors.
const PANEL: usize = 16;

/// Rows of one register tile.
const TILE: usize = 6;

/// Rows that one block of the thread pool takes: 8 tiles, whose inputs stay in the first-level cache.
const BLOCK: usize = 8 * TILE;

/// A matrix `[rows][cols]` with a bias, packed for multiplication from the left.
pub struct FloatMatrix {
    rows: usize,
    cols: usize,
    panels: Vec<f32>,
    bias: Vec<f32>,
    kernel: Kernel,
}

compiled_twice! {
    /// `(x, cols, panel, bias, y)`: rows of `x` times one panel of weights.
    fn variants / Kernel = times_panel(x: &[f32], cols: usize, panel: &[f32], bias: &[f32], y: &mut [[f32; 16]])
}

/// `y[t]` = the panel's 16 outputs for row `t` of `x`.
#[inline(always)]
fn times_panel(x: &[f32], cols: usize, panel: &[f32], bias: &[f32], y: &mut [[f32; 16]]) {
    let (weights, _) = panel.as_chunks::<PANEL>();
    let mut rows = x.chunks_exact(cols * TILE);
    let (tiles, rest) = y.as_chunks_mut::<TILE>();
    for (x, y) in (&mut rows).zip(tiles) {
        tile::<TILE>(x, cols, weights, bias, y);
    }
    for (x, y) in rows.remainder().chunks_exact(cols).zip(rest) {
        tile::<1>(x, cols, weights, bias, std::array::from_mut(y));
    }
}

#[inline(always)]
fn tile<const N: usize>(
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
                *sum += x * w;
            }
        }
    }
    for (y, sum) in y.iter_mut().zip(sums) {
        for ((y, sum), b) in y.iter_mut().zip(sum).zip(bias) {
            *y = sum + b;
        }
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
        let kernel = super::pick(&variants(), super::Isa::detect());
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
        fn equals_the_definition_bit_for_bit(rows in 1usize..70, cols in 1usize..40, tokens in 0usize..110, seed in any::<u32>()) {
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / 8e6 - 1.0;
            let weights: Vec<f32> = (0..rows * cols).map(value).collect();
            let bias: Vec<f32> = (0..rows).map(|i| value(i + 7)).collect();
            let x: Vec<f32> = (0..tokens * cols).map(|i| value(i * 3)).collect();
            let mut expected = vec![0.0; tokens * rows];
            for t in 0..tokens {
                for n in 0..rows {
                    let mut sum = 0.0;
                    for k in 0..cols {
                        sum += x[t * cols + k] * weights[n * cols + k];
                    }
                    expected[t * rows + n] = sum + bias[n];
                }
            }
            let mut matrix = FloatMatrix::pack(rows, cols, &weights, &bias);
            for (isa, kernel) in variants() {
                matrix.kernel = kernel;
                let mut y = vec![0.0; tokens * rows];
                matrix.multiply(&Threads::new(2), &x, &mut y);
                prop_assert_eq!(&y, &expected, "{}", isa.name());
            }
        }
    }
}
