//! The two scans and the choice of rows between them; the reasoning is in the parent module's comment.

use super::int4::Int4Matrix;
use super::int8::Int8Matrix;
use crate::cpu::packer::Packer;
use crate::cpu::shared::Shared;
use crate::cpu::ternary::{BLOCK_ROWS, Int8Rows};
use crate::huge::HugeError;
use std::ops::Range;

/// Standard deviations that [`Bound::Statistical`] allows: Q(6) = 1.0e-9.
const SIGMAS: f32 = 6.0;

/// Slack for the few f32 roundings between the integer sums and a logit, relative to the logit: each is 2⁻²⁴.
const ROUNDING: f32 = 1e-6;

/// How much a coarse logit may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Six standard deviations of the rounding error: keeps few rows, fails about once in 10⁹ tokens.
    Statistical,
    /// Never fails, keeps nearly all rows of a real model: for measuring.
    Proven,
}

/// A head in four and in eight bits.
#[derive(Debug)]
pub struct Head {
    columns: usize,
    coarse: Int4Matrix,
    fine: Int8Matrix,
    /// ‖fine − coarse‖ of every row.
    errors: Vec<f32>,
}

impl Head {
    /// Quantises `rows` rows of `columns`; `row(r, out)` writes row r's (finite) values, on any thread.
    ///
    /// # Errors
    /// [`HugeError`] without memory for 1.5 bytes a weight.
    pub fn quantise(
        rows: usize,
        columns: usize,
        packer: &Packer,
        row: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Head, HugeError> {
        let (mut coarse, mut fine) = (
            Int4Matrix::zeroed(rows, columns, &packer.memory)?,
            Int8Matrix::zeroed(rows, columns, &packer.memory)?,
        );
        let mut errors = vec![0.0; rows];
        let (fours, eights, out) = (coarse.writer(), fine.writer(), Shared::new(&mut errors));
        packer.threads.run(rows.div_ceil(BLOCK_ROWS), &|block| {
            let mut values = vec![0.0; columns];
            let (mut four, mut eight) = (vec![0; columns], vec![0; columns]);
            let rows = block * BLOCK_ROWS..rows.min((block + 1) * BLOCK_ROWS);
            // SAFETY: the block and its rows belong to this call alone.
            unsafe {
                fours.clear(block);
                for r in rows {
                    row(r, &mut values);
                    let (a, b) = (
                        fours.set(r, &values, &mut four),
                        eights.set(r, &values, &mut eight),
                    );
                    let square: f64 = four
                        .iter()
                        .zip(&eight)
                        .map(|(&q, &p)| f64::from(f32::from(p) * b - f32::from(q) * a).powi(2))
                        .sum();
                    out.range(r, 1)[0] = square.sqrt() as f32;
                }
            }
        });
        Ok(Head {
            columns,
            coarse,
            fine,
            errors,
        })
    }

    /// Rows (the size of the vocabulary).
    pub fn rows(&self) -> usize {
        self.errors.len()
    }

    /// Columns (the width of the model).
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The eight-bit rows: they define the logits.
    pub fn fine(&self) -> &Int8Matrix {
        &self.fine
    }

    /// The four-bit rows, to be scanned by ranges of blocks.
    pub fn coarse(&self) -> &Int4Matrix {
        &self.coarse
    }

    /// Full scan: the logits of `rows` for one token.
    pub fn logits(&self, rows: Range<usize>, x: &Int8Rows, token: usize, logits: &mut [f32]) {
        assert_eq!(logits.len(), rows.len(), "one logit a row");
        for (logit, row) in logits.iter_mut().zip(rows) {
            *logit = self.fine.logit(row, x, token);
        }
    }

    /// Two-step scan, second step: from all coarse logits (of [`Int4Matrix::logits`], in row order) the rows
    /// that can be among the best `k`, with their exact logits; `None` if they are more than `limit`, then take
    /// the full scan. Rows are in rising order.
    pub fn best(
        &self,
        coarse: &[f32],
        x: &Int8Rows,
        token: usize,
        k: usize,
        bound: Bound,
        limit: usize,
    ) -> Option<Vec<(u32, f32)>> {
        let mut rows = Vec::with_capacity(limit.min(self.rows()));
        for row in self.candidates(coarse, x, token, k, bound) {
            if rows.len() == limit {
                return None;
            }
            rows.push((row as u32, 0.0));
        }
        for (row, logit) in &mut rows {
            *logit = self.fine.logit(*row as usize, x, token);
        }
        Some(rows)
    }

    /// The rows whose coarse logit plus its allowance reaches the worst of the `k` rows that look best.
    pub fn candidates(
        &self,
        coarse: &[f32],
        x: &Int8Rows,
        token: usize,
        k: usize,
        bound: Bound,
    ) -> impl Iterator<Item = usize> {
        let coarse = &coarse[..self.rows()];
        let floor = top(coarse, k)
            .into_iter()
            .map(|row| self.fine.logit(row, x, token))
            .fold(f32::INFINITY, f32::min);
        let allowed = self.allowance(x, token, bound);
        let reaches = move |(logit, error): (&f32, &f32)| {
            logit + allowed * error + ROUNDING * logit.abs() >= floor
        };
        coarse
            .iter()
            .zip(&self.errors)
            .enumerate()
            .filter_map(move |(row, pair)| reaches(pair).then_some(row))
    }

    /// Allowed error of a coarse logit per unit of a row's ‖fine − coarse‖.
    fn allowance(&self, x: &Int8Rows, token: usize, bound: Bound) -> f32 {
        let square: i64 = x
            .row(token)
            .iter()
            .map(|&v| i64::from(v) * i64::from(v))
            .sum();
        let norm = x.scale(token) * (square as f64).sqrt() as f32;
        // Rounded up by more than all roundings of this product.
        let norm = norm * (1.0 + ROUNDING);
        match bound {
            Bound::Proven => norm,
            Bound::Statistical => norm * SIGMAS / (self.columns as f32).sqrt(),
        }
    }

    /// Chooses a variant of both scans by name (tests, benches); `false` if this machine does not have it.
    pub fn use_variant(&mut self, name: &str) -> bool {
        self.coarse.use_variant(name) && self.fine.use_variant(name)
    }
}

/// The rows of the `k` largest values.
fn top(values: &[f32], k: usize) -> Vec<usize> {
    let mut best: Vec<(f32, usize)> = Vec::with_capacity(k + 1);
    let mut floor = f32::NEG_INFINITY;
    for (row, &value) in values.iter().enumerate() {
        if best.len() == k && value <= floor {
            continue;
        }
        let at = best.partition_point(|b| b.0 >= value);
        best.insert(at, (value, row));
        best.truncate(k);
        floor = best.last().map_or(f32::NEG_INFINITY, |b| b.0);
    }
    best.into_iter().map(|b| b.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dice(u64);

    impl Dice {
        /// Roughly normal: the sum of twelve uniform numbers.
        fn normal(&mut self) -> f32 {
            (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
        }

        fn uniform(&mut self) -> f32 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 40) as f32 / (1u64 << 24) as f32
        }
    }

    fn head(rows: usize, columns: usize, dice: &mut Dice) -> Head {
        let values: Vec<f32> = (0..rows * columns).map(|_| dice.normal()).collect();
        Head::quantise(rows, columns, &Packer::new(2), |r, out| {
            out.copy_from_slice(&values[r * columns..][..columns])
        })
        .unwrap()
    }

    /// Activations with a few large ones, as real ones have, leaning towards row `towards`.
    fn activations(head: &Head, towards: usize, dice: &mut Dice) -> Int8Rows {
        let values: Vec<f32> = (0..head.columns())
            .map(|c| {
                dice.normal() * if c % 97 == 0 { 6.0 } else { 1.0 }
                    + 0.2 * head.fine().weight(towards, c)
            })
            .collect();
        let mut x = Int8Rows::new(1, head.columns());
        x.quantise(0, &values).unwrap();
        x
    }

    fn coarse(head: &Head, x: &Int8Rows) -> Vec<f32> {
        let n = head.coarse().n_blocks();
        let mut logits = vec![0.0; 32 * n];
        let (a, b) = logits.split_at_mut(32);
        head.coarse().logits(0..1, x, 0, a);
        head.coarse().logits(1..n, x, 0, b);
        logits
    }

    #[test]
    fn two_steps_find_the_best_of_the_full_scan() {
        let mut dice = Dice(7);
        let head = head(3000, 520, &mut dice);
        let mut kept = 0;
        for trial in 0..200 {
            let x = activations(&head, trial * 13, &mut dice);
            let mut full = vec![0.0; head.rows()];
            head.logits(0..head.rows(), &x, 0, &mut full);
            let coarse = coarse(&head, &x);
            for k in [1, 5] {
                let mut want = top(&full, k);
                want.sort_unstable();
                for bound in [Bound::Statistical, Bound::Proven] {
                    let found = head.best(&coarse, &x, 0, k, bound, head.rows()).unwrap();
                    let logits: Vec<f32> = found.iter().map(|f| f.1).collect();
                    let mut got: Vec<usize> = top(&logits, k)
                        .into_iter()
                        .map(|i| found[i].0 as usize)
                        .collect();
                    got.sort_unstable();
                    assert_eq!(got, want, "trial {trial}, k {k}, {bound:?}");
                    assert!(found.iter().all(|f| f.1 == full[f.0 as usize]));
                    if k == 1 && bound == Bound::Statistical {
                        kept += found.len();
                    }
                }
            }
        }
        // The point of it: few rows are read twice.
        assert!(
            kept < 200 * head.rows() / 5,
            "{kept} rows kept in 200 trials"
        );
    }

    #[test]
    fn errors_are_as_large_as_the_model_says() {
        let mut dice = Dice(11);
        let head = head(2000, 768, &mut dice);
        let (mut square, mut n, mut worst) = (0.0, 0.0, 0f32);
        for trial in 0..20 {
            let x = activations(&head, trial, &mut dice);
            let sigma = head.allowance(&x, 0, Bound::Statistical) / SIGMAS;
            for (row, logit) in coarse(&head, &x)[..head.rows()].iter().enumerate() {
                let z = (head.fine().logit(row, &x, 0) - logit) / (sigma * head.errors[row]);
                (square, n, worst) = (square + f64::from(z * z), n + 1.0, worst.max(z.abs()));
            }
        }
        // 40,000 normal deviates: standard deviation 1 and the largest between 3.5 and 6.
        let deviation = (square / n).sqrt();
        assert!((0.9..1.1).contains(&deviation), "{deviation}");
        assert!((3.0..SIGMAS).contains(&worst), "{worst}");
    }

    #[test]
    fn too_many_candidates_ask_for_the_full_scan() {
        let mut dice = Dice(3);
        let head = head(64, 40, &mut dice);
        let mut x = Int8Rows::new(1, 40);
        x.quantise(0, &[0.0; 40]).unwrap();
        // All logits are equal, so every row is a candidate.
        assert!(
            head.best(&coarse(&head, &x), &x, 0, 1, Bound::Statistical, 63)
                .is_none()
        );
        assert_eq!(
            head.best(&coarse(&head, &x), &x, 0, 1, Bound::Statistical, 64)
                .unwrap()
                .len(),
            64
        );
    }

    #[test]
    fn variants_agree_and_weights_come_back() {
        let mut dice = Dice(5);
        let mut head = head(70, 333, &mut dice);
        let x = activations(&head, 2, &mut dice);
        let (mut want, mut fine) = (Vec::new(), vec![0.0; 70]);
        for name in super::super::int4::variants().into_iter().map(|v| v.0) {
            assert!(head.use_variant(name));
            let got = coarse(&head, &x);
            assert!(got[70..].iter().all(|&l| l == 0.0));
            let mut logits = vec![0.0; 70];
            head.logits(0..70, &x, 0, &mut logits);
            if want.is_empty() {
                (want, fine) = (got.clone(), logits.clone());
            }
            assert_eq!((&got, &logits), (&want, &fine), "{name}");
        }
        for (row, logit) in want[..70].iter().enumerate() {
            let plain: f64 = (0..333)
                .map(|c| f64::from(head.coarse().weight(row, c)) * f64::from(x.code(0, c)))
                .sum();
            let plain = plain * f64::from(x.scale(0));
            // Two f32 roundings of a sum that is exact.
            assert!(
                (plain - f64::from(*logit)).abs() <= 1e-6 * plain.abs() + 1e-4,
                "{plain} {logit}"
            );
        }
    }
}
