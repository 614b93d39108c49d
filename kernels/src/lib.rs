//! Turns weights and tokens into logits; knows nothing of networks, clocks or processes.

pub mod cpu;
pub mod format;
pub mod huge;
pub mod tokenizer;
