//! Turns weights and tokens into logits; knows nothing of networks, clocks or processes.

pub mod bench;
pub mod cpu;
pub mod drivers;
pub mod format;
pub mod gpu;
pub mod huge;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod hypot;
pub mod kv;
pub mod measure;
pub mod model;
pub mod sampler;
pub mod speculative;
pub mod threads;
pub mod tokenizer;
