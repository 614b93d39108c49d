//! One linear operator: one or more matrices that multiply the same rows in one pass over the threads.

use crate::cpu::activation::grow;
use crate::cpu::dense::{DenseMatrix, GROUP};
use crate::cpu::elementwise::{self, Scale};
use crate::cpu::inputs::{Inputs, Wants};
use crate::cpu::shared::Shared;
use crate::cpu::ternary::{BLOCK_ROWS, TernaryMatrix};
use crate::cpu::{Isa, pick};
use crate::threads::Threads;
use std::cell::RefCell;
use std::ops::Range;

/// Tokens of one kernel call: their activations stay in the second-level cache (64 × 2560 bytes) while the rows of a
/// block pass over them.
const TOKENS: usize = 64;

/// Most units of rows in a block of work when many tokens share it: 32 rows of 4-bit weights stay in the first-level
/// cache.
const BATCH_UNITS: usize = 4;

/// Blocks a thread should get in decode, so that a slow core can be relieved of some.
const BLOCKS_A_THREAD: usize = 6;

/// What happens to the destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Set,
    Add,
}

/// A packed matrix.
pub(crate) enum Matrix {
    /// Any dense type, or ternary with block scales.
    Dense(DenseMatrix),
    /// Ternary with one scale, times int8 rows.
    Ternary(TernaryMatrix),
}

impl Matrix {
    fn rows(&self) -> usize {
        match self {
            Matrix::Dense(m) => m.rows(),
            Matrix::Ternary(m) => m.rows(),
        }
    }

    /// Rows of the unit that threads take.
    fn unit(&self) -> usize {
        match self {
            Matrix::Dense(_) => GROUP,
            Matrix::Ternary(_) => BLOCK_ROWS,
        }
    }

    fn wants(&self) -> Wants {
        match self {
            Matrix::Dense(m) => m.wants(),
            Matrix::Ternary(_) => Wants::Row,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Matrix::Dense(m) => m.bytes(),
            Matrix::Ternary(m) => m.bytes(),
        }
    }
}

struct Part {
    matrix: Matrix,
    scale: f32,
    first_row: usize,
    units: Range<usize>,
}

/// Matrices stacked upon each other.
pub(crate) struct Operator {
    parts: Vec<Part>,
    rows: usize,
    units: usize,
    wants: Vec<Wants>,
    scale: Scale,
}

impl Operator {
    /// Stacks matrices of equal columns; each product is multiplied by its scale.
    pub(crate) fn new(matrices: Vec<(Matrix, f32)>, isa: Isa) -> Operator {
        let parts = Vec::with_capacity(matrices.len());
        let mut operator = Operator {
            parts,
            rows: 0,
            units: 0,
            wants: Vec::new(),
            scale: pick(&elementwise::scale_variants(), isa),
        };
        for (matrix, scale) in matrices {
            if !operator.wants.contains(&matrix.wants()) {
                operator.wants.push(matrix.wants());
            }
            let units = operator.units..operator.units + matrix.rows().div_ceil(matrix.unit());
            let first_row = operator.rows;
            operator.rows += matrix.rows();
            operator.units = units.end;
            operator.parts.push(Part {
                matrix,
                scale,
                first_row,
                units,
            });
        }
        operator
    }

    /// Rows of all matrices: the length of an output row.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The shapes of activations that must be prepared.
    pub(crate) fn wants(&self) -> &[Wants] {
        &self.wants
    }

    /// Bytes of weights that one pass reads.
    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.matrix.bytes() as u64).sum()
    }

    /// The matrices with their scales, if all of them are ternary and lie alike.
    pub(crate) fn ternary(&self) -> Option<Vec<(&TernaryMatrix, f32)>> {
        let mut layout = None;
        self.parts
            .iter()
            .map(|part| match &part.matrix {
                Matrix::Ternary(matrix)
                    if *layout.get_or_insert(matrix.layout()) == matrix.layout() =>
                {
                    Some((matrix, part.scale))
                }
                _ => None,
            })
            .collect()
    }

    /// `out[token][row]` becomes, or grows by, the products of the first `tokens` rows of `inputs`.
    pub(crate) fn multiply(
        &self,
        threads: &Threads,
        inputs: &Inputs,
        tokens: usize,
        out: &mut [f32],
        store: Store,
    ) {
        let share = self.units.div_ceil(threads.count() * BLOCKS_A_THREAD);
        let bundle = if tokens > 8 {
            share.min(BATCH_UNITS)
        } else {
            share
        };
        let out = Output {
            shared: Shared::new(&mut out[..tokens * self.rows]),
            stride: self.rows,
            store,
            scale: self.scale,
        };
        threads.run(self.units.div_ceil(bundle), &|block| {
            let units = block * bundle..self.units.min((block + 1) * bundle);
            for part in &self.parts {
                let mine = units.start.max(part.units.start)..units.end.min(part.units.end);
                if !mine.is_empty() {
                    part.multiply(
                        mine.start - part.units.start..mine.end - part.units.start,
                        inputs,
                        tokens,
                        &out,
                    );
                }
            }
        });
    }
}

/// The destination of a product, written by several threads.
struct Output<'a> {
    shared: Shared<'a, f32>,
    stride: usize,
    store: Store,
    scale: Scale,
}

impl Output<'_> {
    /// Writes integer sums times their scale.
    ///
    /// # Safety
    /// No other thread may write these rows of this token.
    unsafe fn write_sums(&self, token: usize, row: usize, sums: &[i32], scale: f32) {
        // SAFETY: the caller's.
        let out = unsafe { self.shared.range(token * self.stride + row, sums.len()) };
        (self.scale)(sums, scale, self.store == Store::Add, out);
    }

    /// # Safety
    /// No other thread may write these rows of this token.
    unsafe fn write(&self, token: usize, row: usize, values: impl ExactSizeIterator<Item = f32>) {
        // SAFETY: the caller's.
        let out = unsafe { self.shared.range(token * self.stride + row, values.len()) };
        for (out, y) in out.iter_mut().zip(values) {
            *out = if self.store == Store::Add {
                *out + y
            } else {
                y
            };
        }
    }
}

impl Part {
    /// Multiplies some units of this matrix by all tokens.
    fn multiply(&self, units: Range<usize>, inputs: &Inputs, tokens: usize, out: &Output<'_>) {
        match &self.matrix {
            Matrix::Dense(matrix) => {
                let mut tile = [0.0_f32; TOKENS * GROUP];
                for first in (0..tokens).step_by(TOKENS) {
                    let count = TOKENS.min(tokens - first);
                    for group in units.clone() {
                        matrix.group(group, inputs, first, count, &mut tile);
                        let rows = GROUP.min(matrix.rows() - group * GROUP);
                        for (t, tile) in tile.as_chunks::<GROUP>().0[..count].iter().enumerate() {
                            let values = tile[..rows].iter().map(|y| y * self.scale);
                            // SAFETY: these rows of the output belong to this group, and the group to this call.
                            unsafe { out.write(first + t, self.first_row + group * GROUP, values) };
                        }
                    }
                }
            }
            Matrix::Ternary(matrix) => {
                let (first, width) = (units.start * BLOCK_ROWS, units.len() * BLOCK_ROWS);
                let rows = width.min(matrix.rows() - first);
                SUMS.with_borrow_mut(|sums| {
                    grow(sums, tokens * width);
                    let sums = &mut sums[..tokens * width];
                    matrix.gemm(units, &inputs.int8, sums);
                    for (t, sums) in sums.chunks_exact(width).enumerate() {
                        let scale = inputs.int8.scale(t) * self.scale;
                        // SAFETY: these rows of the output belong to these blocks, and the blocks to this call.
                        unsafe { out.write_sums(t, self.first_row + first, &sums[..rows], scale) };
                    }
                });
            }
        }
    }
}

thread_local! {
    /// Integer sums of the blocks that a thread works on; grows to the largest batch.
    static SUMS: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
}
