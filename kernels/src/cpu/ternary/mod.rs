//! Ternary matrices times int8 activations, exactly: every sum is a 32-bit integer and every variant (scalar,
//! AVX2, AVX-VNNI, AVX-512) gives the same one.
//!
//! A [`TernaryMatrix`] is packed once, at load, into huge-page memory in the order in which its kernel reads
//! it: blocks of 32 rows one after the other, each block front to back, so a thread that owns a range of
//! blocks reads one sequential stream. A 32-bit lane belongs to one row: no horizontal sums.
//!
//! | layout | bits a weight | weights it can hold |
//! |---|---|---|
//! | [`Layout::P2`] | 2.0 | any ternary |
//! | [`Layout::B5`] | 1.6 | any ternary |
//! | [`Layout::S34`] | 1.25 | exactly one zero in every four columns |
//! | [`Layout::S24`] | 1.25 | exactly two zeros in every four columns |
//!
//! Knows nothing of files, layers, scales of weights, or threads: callers choose which blocks they compute.

pub mod activations;
mod b5;
mod gemm;
mod kernel;
mod lut;
mod matrix;
mod p2;
mod sparse;

pub use activations::{Int8Rows, NotFinite};
pub use matrix::{Layout, PackError, TernaryMatrix};

#[cfg(target_arch = "x86_64")]
pub(crate) use kernel::x86;

/// Rows of a block: two 64-byte vectors of 32-bit lanes, or four of 32 bytes.
pub const BLOCK_ROWS: usize = 32;

#[cfg(test)]
mod tests;
