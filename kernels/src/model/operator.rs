//! One linear operator: one or more matrices that multiply the same rows in one pass over the threads.

use crate::cpu::dense::{DenseMatrix, GROUP};
use crate::cpu::inputs::{Inputs, Wants};
use crate::cpu::shared::Shared;
use crate::threads::Threads;

/// Tokens of one kernel call: their activations stay in the second-level cache (64 × 2560 bytes) while the rows of a
/// block pass over them.
const TOKENS: usize = 64;

/// Groups of rows in a block of work when many tokens share it: 32 rows of weights stay in the first-level cache.
const BATCH_GROUPS: usize = 4;

/// Blocks a thread should get in decode, so that a slow core can be relieved of some.
const BLOCKS_A_THREAD: usize = 6;

/// What happens to the destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Set,
    Add,
}

struct Part {
    matrix: DenseMatrix,
    scale: f32,
    first_row: usize,
    first_group: usize,
}

/// Matrices stacked upon each other.
pub(crate) struct Operator {
    parts: Vec<Part>,
    rows: usize,
    groups: usize,
    wants: Vec<Wants>,
}

impl Operator {
    /// Stacks matrices of equal columns; each product is multiplied by its scale.
    pub(crate) fn new(matrices: Vec<(DenseMatrix, f32)>) -> Operator {
        let mut operator = Operator {
            parts: Vec::with_capacity(matrices.len()),
            rows: 0,
            groups: 0,
            wants: Vec::new(),
        };
        for (matrix, scale) in matrices {
            if !operator.wants.contains(&matrix.wants()) {
                operator.wants.push(matrix.wants());
            }
            let (first_row, first_group) = (operator.rows, operator.groups);
            operator.rows += matrix.rows();
            operator.groups += matrix.groups();
            operator.parts.push(Part {
                matrix,
                scale,
                first_row,
                first_group,
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

    /// `out[token][row]` becomes, or grows by, the products of the first `tokens` rows of `inputs`.
    pub(crate) fn multiply(
        &self,
        threads: &Threads,
        inputs: &Inputs,
        tokens: usize,
        out: &mut [f32],
        store: Store,
    ) {
        let bundle = if tokens > 8 {
            BATCH_GROUPS
        } else {
            self.groups.div_ceil(threads.count() * BLOCKS_A_THREAD)
        };
        let out = Shared::new(&mut out[..tokens * self.rows]);
        threads.run(self.groups.div_ceil(bundle), &|block| {
            let groups = block * bundle..self.groups.min((block + 1) * bundle);
            let mut tile = [0.0_f32; TOKENS * GROUP];
            for first in (0..tokens).step_by(TOKENS) {
                let count = TOKENS.min(tokens - first);
                for group in groups.clone() {
                    let part = self.part(group);
                    let local = group - part.first_group;
                    part.matrix.group(local, inputs, first, count, &mut tile);
                    let rows = GROUP.min(part.matrix.rows() - local * GROUP);
                    let at = part.first_row + local * GROUP;
                    for (t, tile) in tile.as_chunks::<GROUP>().0[..count].iter().enumerate() {
                        // SAFETY: these rows of the output belong to this group, and the group to this block.
                        let out = unsafe { out.range((first + t) * self.rows + at, rows) };
                        for (out, y) in out.iter_mut().zip(tile) {
                            let y = y * part.scale;
                            *out = if store == Store::Add { *out + y } else { y };
                        }
                    }
                }
            }
        });
    }

    fn part(&self, group: usize) -> &Part {
        let mut found = &self.parts[0];
        for part in &self.parts[1..] {
            if part.first_group <= group {
                found = part;
            }
        }
        found
    }
}
