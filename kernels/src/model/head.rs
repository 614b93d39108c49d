//! The output head: the file's rows as they are, or quantised anew for a scan in two steps.

use super::operator::{Operator, Store};
use super::{LoadError, Logits};
use crate::cpu::activation::grow;
use crate::cpu::head::{Bound, Head as TwoStep};
use crate::cpu::inputs::{Inputs, Wants};
use crate::cpu::packer::Packer;
use crate::cpu::shared::{First, Shared};
use crate::cpu::ternary::BLOCK_ROWS;
use crate::format::matrix::Matrix as Stored;
use crate::sampler::best;
use crate::threads::Threads;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Blocks of 32 rows that a thread takes at a time: 64 KiB or more of four-bit codes at usual widths.
const BLOCKS: usize = 64;

/// Share of the vocabulary that may be scored one by one before a full scan is cheaper: scoring reads two bytes where
/// the scan read one, out of order.
const CANDIDATES: usize = 50;

pub(super) enum Head {
    /// The file's own quantisation.
    Rows(Operator),
    /// Four-bit scan and eight-bit rows.
    TwoStep(Box<TwoStep>, Counters),
}

/// What the scans in two steps have cost so far; they run one after the other in a batch, several batches at once.
#[derive(Default)]
pub(super) struct Counters {
    tokens: AtomicU64,
    rows: AtomicU64,
    full: AtomicU64,
    proven: Option<Proven>,
}

/// What a bound that never fails would have cost.
#[derive(Default)]
struct Proven {
    rows: AtomicU64,
    full: AtomicU64,
}

/// Work of all scans of a two-step head since the model was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadScans {
    /// Tokens that were looked for.
    pub tokens: u64,
    /// Rows that were scored in eight bits, those of full scans included.
    pub rows: u64,
    /// Tokens that took the full scan because too many rows were left.
    pub full: u64,
    /// Rows that a proven bound would have kept, if [`LoadOptions::count_proven`](super::LoadOptions::count_proven).
    pub proven_rows: u64,
    /// Tokens for which it would have kept too many.
    pub proven_full: u64,
}

impl Counters {
    fn add(&self, rows: usize, full: bool) {
        self.tokens.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows as u64, Relaxed);
        self.full.fetch_add(u64::from(full), Relaxed);
    }
}

impl Head {
    /// Quantises the rows of `stored` for the two-step scan.
    pub(super) fn two_step(
        name: &str,
        stored: &Stored<'_>,
        wanted: [usize; 2],
        packer: &Packer,
        count_proven: bool,
    ) -> Result<Head, LoadError> {
        let found = [stored.columns(), stored.rows()];
        if found != wanted {
            return Err(LoadError::size(name, found, wanted));
        }
        let broken = First::new();
        let head = TwoStep::quantise(stored.rows(), stored.columns(), packer, |r, out| {
            if let Err(error) = stored.decode_row(name, r, out) {
                broken.note(r, error);
            }
        });
        broken.result()?;
        let head = head.map_err(|source| LoadError::Head { source })?;
        let counters = Counters {
            proven: count_proven.then(Proven::default),
            ..Counters::default()
        };
        Ok(Head::TwoStep(Box::new(head), counters))
    }

    pub(super) fn wants(&self) -> &[Wants] {
        match self {
            Head::Rows(operator) => operator.wants(),
            Head::TwoStep(..) => &[Wants::Row],
        }
    }

    /// Bytes of weights that one token's scan reads at the least.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Head::Rows(operator) => operator.bytes(),
            Head::TwoStep(head, _) => head.coarse().bytes() as u64,
        }
    }

    /// Work of the two-step scans; zeros for a head as the file has it.
    pub(super) fn scans(&self) -> HeadScans {
        match self {
            Head::Rows(_) => HeadScans::default(),
            Head::TwoStep(_, counters) => HeadScans {
                tokens: counters.tokens.load(Relaxed),
                rows: counters.rows.load(Relaxed),
                full: counters.full.load(Relaxed),
                proven_rows: counters.proven.as_ref().map_or(0, |p| p.rows.load(Relaxed)),
                proven_full: counters.proven.as_ref().map_or(0, |p| p.full.load(Relaxed)),
            },
        }
    }

    /// All logits of the prepared rows.
    pub(super) fn logits(&self, threads: &Threads, inputs: &Inputs, rows: usize, out: &mut Logits) {
        match self {
            Head::Rows(operator) => {
                operator.multiply(threads, inputs, rows, out.values_mut(), Store::Set)
            }
            Head::TwoStep(head, _) => {
                for (i, row) in out.rows_mut().enumerate() {
                    full(head, threads, inputs, i, row);
                }
            }
        }
    }

    /// The best token of each prepared row and its logit; `None` where nothing is finite.
    pub(super) fn best(
        &self,
        threads: &Threads,
        inputs: &Inputs,
        coarse: &mut Vec<f32>,
        out: &mut Logits,
    ) -> Vec<Option<(u32, f32)>> {
        let rows = out.rows().len();
        let pick = |row: &[f32]| best(row).map(|i| (i as u32, row[i]));
        match self {
            Head::Rows(_) => {
                self.logits(threads, inputs, rows, out);
                out.rows().map(pick).collect()
            }
            Head::TwoStep(head, counters) => {
                let blocks = head.coarse().n_blocks();
                grow(coarse, blocks * BLOCK_ROWS);
                let scan = |i: usize, row: &mut [f32]| {
                    let shared = Shared::new(&mut coarse[..]);
                    threads.run(blocks.div_ceil(BLOCKS), &|b| {
                        let range = b * BLOCKS..blocks.min((b + 1) * BLOCKS);
                        // SAFETY: these rows belong to this block of the loop.
                        let logits = unsafe {
                            shared.range(range.start * BLOCK_ROWS, range.len() * BLOCK_ROWS)
                        };
                        head.coarse().logits(range, &inputs.int8, i, logits);
                    });
                    let limit = head.rows() / CANDIDATES + 1;
                    if let Some(proven) = &counters.proven {
                        let rows = head
                            .candidates(coarse, &inputs.int8, i, 1, Bound::Proven)
                            .count();
                        proven.rows.fetch_add(rows as u64, Relaxed);
                        proven.full.fetch_add(u64::from(rows > limit), Relaxed);
                    }
                    let found = head.best(coarse, &inputs.int8, i, 1, Bound::Statistical, limit);
                    counters.add(
                        found.as_ref().map_or(head.rows(), Vec::len),
                        found.is_none(),
                    );
                    let Some(found) = found else {
                        full(head, threads, inputs, i, row);
                        return pick(row);
                    };
                    // Rising order of rows: the first of equals wins, as in a full scan.
                    found
                        .into_iter()
                        .reduce(|a, b| if b.1 > a.1 { b } else { a })
                };
                let mut scan = scan;
                out.rows_mut()
                    .enumerate()
                    .map(|(i, row)| scan(i, row))
                    .collect()
            }
        }
    }
}

fn full(head: &TwoStep, threads: &Threads, inputs: &Inputs, token: usize, out: &mut [f32]) {
    let rows = head.rows();
    let shared = Shared::new(out);
    let width = BLOCKS * BLOCK_ROWS;
    threads.run(rows.div_ceil(width), &|b| {
        let range = b * width..rows.min((b + 1) * width);
        // SAFETY: these rows belong to this block of the loop.
        let logits = unsafe { shared.range(range.start, range.len()) };
        head.logits(range, &inputs.int8, token, logits);
    });
}
