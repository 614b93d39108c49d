//! The operations of the ternary decoder: for each its text, its parameters, its scalar definition and a check of the
//! one against the other on random data.
//!
//! The definitions are those of the CPU kernels, so a device that passes its checks computes what the processor does.
//! Knows drivers and numbers; nothing of models or files.

pub mod attend;
pub mod best;
pub mod blocks;
mod catalogue;
pub mod embed;
pub mod gemv;
pub mod head;
pub mod merge;
pub mod prepare;
pub mod rope;
#[cfg(test)]
pub(crate) mod tests;

pub use catalogue::catalogue;

use super::driver::{Driver, GpuError, Identity, Kernel, Launch, Place, Step};
use super::source::Source;
use std::fmt::Debug;

/// Threads of a workgroup where nothing else decides: enough for a row, not more than any device allows.
pub const THREADS: u32 = 256;

/// An operation of fixed shape and parameters.
pub trait Op: Debug + Send + Sync {
    /// Its text and constants.
    fn source(&self) -> Source;

    /// Random data with what the definition makes of it.
    fn case(&self, seed: u64) -> Case;

    /// The same operation with each set of parameters that may be faster on a device; empty where there is nothing to choose.
    fn candidates(&self, _identity: &Identity) -> Vec<Box<dyn Op>> {
        Vec::new()
    }

    /// What the choice among [`Op::candidates`] is kept under: operation and shape, without the parameters.
    fn shape(&self) -> String {
        self.source().name()
    }

    /// The chosen parameters, as they are kept.
    fn choice(&self) -> String {
        String::new()
    }

    /// Data that keeps the device as busy as a real model does, for timing: launches over memory larger than caches,
    /// and the bytes that one of them reads. `None` where timing decides nothing.
    fn load(&self) -> Option<Load> {
        None
    }
}

/// What is timed.
#[derive(Debug)]
pub struct Load {
    /// Bytes of each buffer.
    pub buffers: Vec<u64>,
    /// The buffer that a launch reads most of; as many copies of it rotate as exceed the device's caches.
    pub rotating: usize,
    /// Workgroups.
    pub grid: [u32; 3],
    /// Numbers passed by value.
    pub args: Vec<u32>,
}

/// How two words are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// Integers, codes, indices: every bit.
    Bits,
    /// Single-precision numbers: within [`TOLERANCE`] of the largest.
    Floats,
    /// Four int8 codes in a word, which may each be off by one where a quotient lies on an edge.
    Codes,
    /// Two half-precision numbers in a word, which may each be off by one in the last place.
    Halves,
    /// Pairs of a scale (as [`Same::Floats`], by itself) and the sum of a row's codes (off by one for each code that is).
    Scales,
}

/// Share of the largest number that floats may differ by: 16 units in the last place, for devices whose exponentials,
/// divisions or underflows are off by a few. On a device that keeps to the standard nothing differs at all.
pub const TOLERANCE: f32 = 16.0 * f32::EPSILON;

/// One check.
#[derive(Debug)]
pub struct Case {
    /// Words of each buffer before the launch.
    pub buffers: Vec<Vec<u32>>,
    /// Workgroups.
    pub grid: [u32; 3],
    /// Numbers passed by value.
    pub args: Vec<u32>,
    /// Buffers, how to compare them, and the words that the definition leaves there.
    pub wanted: Vec<(usize, Same, Vec<u32>)>,
}

impl Case {
    /// Runs the kernel on the data and compares; `exactly` allows no tolerance anywhere.
    ///
    /// # Errors
    /// [`GpuError::Wrong`], or the device fails.
    pub fn check(
        &self,
        driver: &mut dyn Driver,
        op: &str,
        kernel: Kernel,
        exactly: bool,
    ) -> Result<(), GpuError> {
        let mut buffers = Vec::new();
        let outcome = self.compare(driver, op, kernel, exactly, &mut buffers);
        for buffer in buffers {
            driver.free(buffer);
        }
        outcome
    }

    fn compare(
        &self,
        driver: &mut dyn Driver,
        op: &str,
        kernel: Kernel,
        exactly: bool,
        buffers: &mut Vec<super::Buffer>,
    ) -> Result<(), GpuError> {
        for words in &self.buffers {
            let buffer = driver.alloc(4 * words.len() as u64, Place::Device)?;
            buffers.push(buffer);
            driver.write(buffer, 0, &bytes_of(words))?;
        }
        driver.run(&[Step::Launch(Launch {
            kernel,
            grid: self.grid,
            buffers: buffers.clone(),
            args: self.args.clone(),
        })])?;
        for (binding, same, wanted) in &self.wanted {
            let mut bytes = vec![0; 4 * wanted.len()];
            driver.read(buffers[*binding], 0, &mut bytes)?;
            let found = words_of(&bytes);
            let same = if exactly { Same::Bits } else { *same };
            if let Some(what) = difference(same, &found, wanted) {
                return Err(GpuError::Wrong {
                    op: op.to_owned(),
                    what: format!("buffer {binding}: {what}"),
                });
            }
        }
        Ok(())
    }
}

/// The first difference, in words.
fn difference(same: Same, found: &[u32], wanted: &[u32]) -> Option<String> {
    let largest = wanted
        .iter()
        .map(|w| f32::from_bits(*w).abs())
        .filter(|w| w.is_finite())
        .fold(0.0_f32, f32::max);
    let close = |a: u32, b: u32, largest: f32| {
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        a == b || (x - y).abs() <= largest * TOLERANCE
    };
    let differs = |i: usize, found: u32, wanted: u32| match same {
        Same::Bits => found != wanted,
        Same::Floats => !close(found, wanted, largest),
        Same::Halves => [0, 16].into_iter().any(|shift| {
            let half = |word: u32| i32::from((word >> shift) as u16 & 0x7fff);
            half(found).abs_diff(half(wanted)) > 1
        }),
        Same::Scales if i.is_multiple_of(2) => !close(found, wanted, f32::from_bits(wanted).abs()),
        // A handful of codes on edges in a row is what rounding can explain.
        Same::Scales => found.cast_signed().abs_diff(wanted.cast_signed()) > 8,
        Same::Codes => found
            .to_le_bytes()
            .iter()
            .zip(wanted.to_le_bytes())
            .any(|(a, b)| (*a as i8).abs_diff(b as i8) > 1),
    };
    let wrong: Vec<usize> = (0..wanted.len())
        .filter(|i| differs(*i, found[*i], wanted[*i]))
        .collect();
    let at = *wrong.first()?;
    let (a, b) = (found[at], wanted[at]);
    Some(format!(
        "{} of {} words, first at {at}: {a:#010x} ({}) for {b:#010x} ({})",
        wrong.len(),
        wanted.len(),
        f32::from_bits(a),
        f32::from_bits(b)
    ))
}

pub(crate) fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn words_of(bytes: &[u8]) -> Vec<u32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word))
        .collect()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Random numbers for checks: xorshift, the same everywhere.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Noise {
        Noise(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    pub(crate) fn below(&mut self, n: u32) -> u32 {
        self.next() % n
    }

    /// In -1..1.
    pub(crate) fn float(&mut self) -> f32 {
        self.next() as f32 / 2_147_483_648.0 - 1.0
    }

    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// The texts that several operations share.
pub(crate) const EXACT: &str = include_str!("exact.wgsl");
pub(crate) const ROW: &str = include_str!("row.wgsl");
pub const PORT: &str = include_str!("port.h");
pub(crate) const ROW_HIP: &str = include_str!("row.h");
