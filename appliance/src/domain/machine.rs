//! What decisions need to know of this machine.

/// Facts of the machine at one moment; `host` reads them, everybody else is given them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Physical cores that this process may use.
    pub cores: usize,
    /// All memory.
    pub memory_total_bytes: u64,
    /// Memory that can be had without swapping.
    pub memory_available_bytes: u64,
}
