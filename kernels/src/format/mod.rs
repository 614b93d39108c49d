//! Bit layouts: containers, block formats, packings. Knows sizes and bytes, never models or speed.

pub mod gguf;
mod kind;

pub use gguf::{Gguf, GgufError, Tensor, TensorInfo};
pub use kind::TensorKind;
