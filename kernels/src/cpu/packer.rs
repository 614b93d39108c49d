//! What packing a matrix needs: cores to do it, and memory in which the packed matrices lie one behind the other.

use crate::huge::HugeMemory;
use crate::threads::Threads;

/// Packs the matrices of one model, in the order in which a token reads them.
pub struct Packer {
    /// All of them work on each matrix.
    pub threads: Threads,
    /// Where the matrices go.
    pub memory: HugeMemory,
}

impl Packer {
    /// A packer with fresh memory on `threads` threads.
    pub fn new(threads: usize) -> Packer {
        Packer {
            threads: Threads::new(threads),
            memory: HugeMemory::default(),
        }
    }
}
