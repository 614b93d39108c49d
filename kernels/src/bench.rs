//! How fast the kernels are on this machine, as a share of what its memory can do.
//!
//! Every figure comes with the read bandwidth measured in the same run, over the same kind of memory, the same
//! number of bytes and the same number of threads: alternating passes, medians of both. The clock is handed
//! in. Knows nothing of models or reports.

use crate::cpu::packer::Packer;
use crate::cpu::ternary::{Int8Rows, Layout, PackError, TernaryMatrix};
use crate::huge::{HugeBuffer, HugeError};
use std::sync::Barrier;

/// Seconds since any fixed moment.
pub type Clock = fn() -> f64;

/// How to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The clock.
    pub clock: Clock,
    /// Threads, each with one contiguous range.
    pub threads: usize,
    /// Repetitions; the median counts.
    pub runs: usize,
    /// Weight bytes to read per pass; more than the last-level cache, or the figure is a cache's.
    pub bytes: usize,
    /// Bytes read before the clock is looked at again: a matrix in a cache is multiplied that often.
    pub timed_bytes: usize,
}

/// One kernel's speed.
#[derive(Clone, Debug)]
pub struct Speed {
    /// What was measured, e.g. `gemv p2`.
    pub kernel: String,
    /// Which variant, e.g. `avx2`.
    pub variant: &'static str,
    /// Columns of the matrix.
    pub columns: usize,
    /// Threads used.
    pub threads: usize,
    /// Tokens multiplied at once.
    pub tokens: usize,
    /// Bytes of weights read per pass.
    pub bytes: usize,
    /// Median seconds per pass.
    pub seconds: f64,
    /// Seconds of the fastest pass: nearer to the truth on a busy machine.
    pub seconds_best: f64,
    /// Weights per pass.
    pub weights: usize,
    /// Read bandwidth in bytes per second, measured between the passes over the same bytes and threads.
    pub bandwidth: f64,
}

impl Speed {
    /// Gigabytes of weights per second.
    pub fn gb_s(&self) -> f64 {
        self.bytes as f64 / self.seconds / 1e9
    }

    /// Share of the measured read bandwidth, 0 to about 1.
    pub fn share(&self) -> f64 {
        self.bytes as f64 / self.seconds / self.bandwidth
    }

    /// Billions of weight times activation per second.
    pub fn gmac_s(&self) -> f64 {
        self.weights as f64 * self.tokens as f64 / self.seconds / 1e9
    }
}

/// Runs `pass(thread)` on all threads at once and returns the seconds of the slowest.
pub fn time(plan: &Plan, pass: &(dyn Fn(usize) + Sync)) -> f64 {
    let barrier = Barrier::new(plan.threads);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let start = (plan.clock)();
                    pass(thread);
                    (plan.clock)() - start
                })
            })
            .collect();
        threads
            .into_iter()
            .filter_map(|t| t.join().ok())
            .fold(0.0, f64::max)
    })
}

/// The middle value.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Reads memory as fast as this core can and returns something that depends on all of it.
pub fn read(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: avx2 was detected on the line above.
        return unsafe { read_avx2(bytes) };
    }
    bytes
        .as_chunks::<8>()
        .0
        .iter()
        .fold(0, |all, word| all ^ u64::from_le_bytes(*word))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn read_avx2(bytes: &[u8]) -> u64 {
    use crate::cpu::ternary::x86::{AHEAD, load, prefetch};
    use std::arch::x86_64::*;
    let mut all = [_mm256_setzero_si256(); 4];
    for line in bytes.as_chunks::<128>().0 {
        prefetch(line, AHEAD);
        prefetch(line, AHEAD + 64);
        for (i, all) in all.iter_mut().enumerate() {
            *all = _mm256_or_si256(*all, load(line, 32 * i));
        }
    }
    let all = _mm256_or_si256(
        _mm256_or_si256(all[0], all[1]),
        _mm256_or_si256(all[2], all[3]),
    );
    _mm256_extract_epi64::<0>(all).cast_unsigned() ^ _mm256_extract_epi64::<3>(all).cast_unsigned()
}

/// Measures `pass` and plain reading of `memory` in alternation; returns median and best seconds of a
/// pass and the read bandwidth in bytes per second.
fn alternate(plan: &Plan, memory: &[u8], pass: &(dyn Fn(usize) + Sync)) -> (f64, f64, f64) {
    // Memory that fits a cache is read often enough to be timed.
    let repeat = (plan.timed_bytes / memory.len().max(1)).max(1);
    let part = memory.len().div_ceil(plan.threads).next_multiple_of(128);
    let read_pass = |thread: usize| {
        let range = (thread * part).min(memory.len())..((thread + 1) * part).min(memory.len());
        for _ in 0..repeat {
            std::hint::black_box(read(std::hint::black_box(&memory[range.clone()])));
        }
    };
    let (mut passes, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..plan.runs.max(1) {
        reads.push(time(plan, &read_pass));
        passes.push(time(plan, &|thread| (0..repeat).for_each(|_| pass(thread))));
    }
    let repeat = repeat as f64;
    let best = passes.iter().copied().fold(f64::INFINITY, f64::min) / repeat;
    (
        median(passes) / repeat,
        best,
        memory.len() as f64 * repeat / median(reads),
    )
}

/// Read bandwidth alone, in bytes per second.
///
/// # Errors
/// [`HugeError`] when there is no memory for `plan.bytes`.
pub fn bandwidth(plan: &Plan) -> Result<f64, HugeError> {
    let mut memory = HugeBuffer::zeroed(plan.bytes)?;
    memory.bytes_mut().fill(1);
    Ok(alternate(plan, memory.bytes(), &|_| {}).2)
}

/// The range of blocks that one of the threads works on.
fn share_of(n_blocks: usize, thread: usize, threads: usize) -> std::ops::Range<usize> {
    n_blocks * thread / threads..n_blocks * (thread + 1) / threads
}

/// A matrix of about `bytes` packed bytes, with the same weights in every block.
fn matrix(layout: Layout, columns: usize, bytes: usize) -> Result<TernaryMatrix, PackError> {
    let probe = TernaryMatrix::pack(layout, 32, columns, &Packer::new(1), |r, out| {
        pattern(layout, r, out)
    })?;
    let blocks = (bytes / probe.bytes()).max(1);
    TernaryMatrix::repeat(&probe, blocks)
}

/// Weights that every layout under test can hold.
fn pattern(layout: Layout, row: usize, out: &mut [i8]) {
    let mixed = |column: usize| (row * 7919 + column * 104_729) >> 3;
    let zeros: usize = match layout {
        Layout::P2 | Layout::B5 => {
            return out
                .iter_mut()
                .enumerate()
                .for_each(|(c, w)| *w = (mixed(c) % 3) as i8 - 1);
        }
        Layout::S34 => 1,
        Layout::S24 => 2,
    };
    for (group, four) in out.chunks_mut(4).enumerate() {
        let first = mixed(group) % 4;
        for (i, weight) in four.iter_mut().enumerate() {
            *weight = if (i + first) % 4 < zeros {
                0
            } else {
                (mixed(4 * group + i) / 5 % 2) as i8 * 2 - 1
            };
        }
    }
}

/// One token times a matrix of `columns` columns and `plan.bytes` bytes.
///
/// # Errors
/// [`PackError`] when there is no memory for it.
pub fn gemv(
    plan: &Plan,
    layout: Layout,
    variant: &str,
    columns: usize,
) -> Result<Speed, PackError> {
    multiply(plan, layout, variant, columns, 1)
}

/// `tokens` tokens times a matrix of `columns` columns and `plan.bytes` bytes.
///
/// # Errors
/// [`PackError`] when there is no memory for it.
pub fn multiply(
    plan: &Plan,
    layout: Layout,
    variant: &str,
    columns: usize,
    tokens: usize,
) -> Result<Speed, PackError> {
    let mut matrix = matrix(layout, columns, plan.bytes)?;
    matrix.use_variant(variant);
    let mut x = Int8Rows::new(tokens, columns);
    for token in 0..tokens {
        let codes: Vec<i8> = (0..columns)
            .map(|c| ((c * 31 + token * 17) % 255) as i8)
            .map(|v| v.max(-127))
            .collect();
        x.set(token, &codes, 1.0);
    }
    let pass = |thread: usize| {
        // Small ranges for one token, as a work-stealing caller would take; long ones for a batch.
        let range = share_of(matrix.n_blocks(), thread, plan.threads);
        let step = if tokens == 1 { 16 } else { 128 }.min(range.len().max(1));
        let mut sums = vec![0; step * 32 * tokens];
        for first in range.clone().step_by(step) {
            let blocks = first..(first + step).min(range.end);
            let n = blocks.len() * 32 * tokens;
            matrix.gemm(blocks, &x, &mut sums[..n]);
            std::hint::black_box(&sums);
        }
    };
    let (seconds, seconds_best, bandwidth) = alternate(plan, matrix.packed(), &pass);
    Ok(Speed {
        kernel: format!(
            "{} {}",
            if tokens == 1 { "gemv" } else { "gemm" },
            layout.name()
        ),
        variant: matrix.variant(),
        columns,
        threads: plan.threads,
        tokens,
        bytes: matrix.bytes(),
        seconds,
        seconds_best,
        weights: matrix.rows() * columns,
        bandwidth,
    })
}

/// Checks every variant this machine has against the scalar one, at odd widths and extremes; hands `report` a
/// line each and returns how many failed.
pub fn check(report: &mut dyn FnMut(&str)) -> usize {
    let mut failed = 0;
    for layout in Layout::ALL {
        for variant in TernaryMatrix::variants(layout) {
            let equal = [(33, 4), (70, 260), (64, 2560), (32, 6912)]
                .into_iter()
                .all(|(rows, columns)| {
                    (0..4).all(|kind| {
                        equals_scalar(layout, variant, rows, columns, kind).is_ok_and(|equal| equal)
                    })
                });
            failed += usize::from(!equal);
            report(&format!(
                "{} {variant}: {}",
                layout.name(),
                if equal { "equal" } else { "DIFFERENT" }
            ));
        }
    }
    failed
}

/// Compares one variant's products with scalar's; `kind` 0 and 1 are mixed activations, 2 and 3 the extremes.
fn equals_scalar(
    layout: Layout,
    variant: &str,
    rows: usize,
    columns: usize,
    kind: usize,
) -> Result<bool, PackError> {
    let mut matrix = TernaryMatrix::pack(layout, rows, columns, &Packer::new(1), |r, out| {
        pattern(layout, r, out)
    })?;
    for tokens in [1, 5, 29] {
        let mut x = Int8Rows::new(tokens, columns);
        for token in 0..tokens {
            let code = |c: usize| match kind {
                0 | 1 => (((c * 2_654_435_761 + token * 40_503 + kind) >> 5) % 255) as i32 - 127,
                2 => 127,
                _ => -127,
            };
            x.set(
                token,
                &(0..columns).map(|c| code(c) as i8).collect::<Vec<_>>(),
                1.0,
            );
        }
        let n = matrix.n_blocks() * 32 * tokens;
        let (mut want, mut got) = (vec![0; n], vec![1; n]);
        matrix.use_variant("scalar");
        matrix.gemm(0..matrix.n_blocks(), &x, &mut want);
        matrix.use_variant(variant);
        matrix.gemm(0..matrix.n_blocks(), &x, &mut got);
        if want != got {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_follow_from_bytes_and_seconds() {
        let speed = Speed {
            kernel: String::new(),
            variant: "scalar",
            columns: 8,
            threads: 1,
            tokens: 2,
            bytes: 2_000_000_000,
            seconds: 0.5,
            seconds_best: 0.4,
            weights: 1_000_000_000,
            bandwidth: 8e9,
        };
        assert_eq!(
            (speed.gb_s(), speed.share(), speed.gmac_s()),
            (4.0, 0.5, 4.0)
        );
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn every_layout_and_variant_can_be_measured() {
        let plan = Plan {
            clock: || 0.0,
            threads: 2,
            runs: 1,
            bytes: 100_000,
            timed_bytes: 0,
        };
        for layout in Layout::ALL {
            for variant in TernaryMatrix::variants(layout) {
                let speed = gemv(&plan, layout, variant, 256).unwrap();
                assert_eq!(
                    (speed.variant, speed.weights),
                    (variant, speed.weights / 32 * 32)
                );
                assert!(speed.bytes <= plan.bytes);
            }
        }
    }
}
