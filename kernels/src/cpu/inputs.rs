//! The rows of one batch in every shape that the matrices of an operator want.

use super::activation::{self, Q8Rows, Q8kRows, QuantiseQ8, QuantiseQ8k, grow};
use super::shared::{First, Shared};
use super::ternary::{Int8Rows, NotFinite, activations};
use super::{Isa, pick};
use crate::threads::Threads;

/// The activations a matrix multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Blocks of 32.
    Q8,
    /// Blocks of 256.
    Q8k,
    /// As they are.
    Float,
    /// Int8 with one scale for the whole row.
    Row,
}

/// Rows that one block of a parallel loop prepares: enough to outweigh handing it out.
const ROWS_A_BLOCK: usize = 8;

/// The quantisers, chosen at load.
#[derive(Clone, Copy)]
pub struct Quantisers {
    q8: QuantiseQ8,
    q8k: QuantiseQ8k,
    row: activations::Quantise,
}

impl Quantisers {
    /// The best within `isa`.
    pub fn new(isa: Isa) -> Quantisers {
        Quantisers {
            q8: pick(&activation::q8_variants(), isa),
            q8k: pick(&activation::q8k_variants(), isa),
            row: activations::best(),
        }
    }
}

/// f32 rows and their quantised forms.
#[derive(Default)]
pub struct Inputs {
    /// f32 rows of the columns last asked for.
    pub float: Vec<f32>,
    /// The same rows in blocks of 32, where wanted.
    pub q8: Q8Rows,
    /// The same rows in blocks of 256, where wanted.
    pub q8k: Q8kRows,
    /// The same rows in int8 with one scale each, where wanted.
    pub int8: Int8Rows,
    /// The first row that could not be quantised because a value is not finite.
    pub broken: Option<NotFinite>,
}

impl Inputs {
    /// Lets `fill(i, row)` write each of `rows` rows and quantises it in the shapes of `wants`.
    pub fn prepare(
        &mut self,
        threads: &Threads,
        quantisers: Quantisers,
        (rows, columns): (usize, usize),
        wants: &[Wants],
        fill: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        grow(&mut self.float, rows * columns);
        let (q8, q8k) = (wants.contains(&Wants::Q8), wants.contains(&Wants::Q8k));
        let whole = wants.contains(&Wants::Row);
        if q8 {
            self.q8.resize(rows, columns);
        }
        if q8k {
            self.q8k.resize(rows, columns);
        }
        if whole {
            self.int8.reset(rows, columns);
        }
        let (float, broken) = (Shared::new(&mut self.float), First::new());
        let (q8_rows, q8k_rows) = (self.q8.writer(), self.q8k.writer());
        let whole_rows = self.int8.writer();
        threads.run(rows.div_ceil(ROWS_A_BLOCK), &|block| {
            for i in block * ROWS_A_BLOCK..rows.min((block + 1) * ROWS_A_BLOCK) {
                // SAFETY: row `i` belongs to this block alone.
                unsafe {
                    let row = float.range(i * columns, columns);
                    fill(i, row);
                    if q8 {
                        q8_rows.set(i, row, quantisers.q8);
                    }
                    if q8k {
                        q8k_rows.set(i, row, quantisers.q8k);
                    }
                    if whole && let Err(error) = whole_rows.quantise(quantisers.row, i, row) {
                        broken.note(i, error);
                    }
                }
            }
        });
        if let Err(broken) = broken.result() {
            self.broken.get_or_insert(broken);
        }
    }
}
