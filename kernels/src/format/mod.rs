//! Bit layouts: containers, block formats, packings. Knows sizes and bytes, never models or speed.

// Containers.
pub mod convert;
pub mod gguf;
pub mod h1b;
pub mod htok;
mod kind;
pub mod safetensors;

// Dense formats, one file each, and the row that any of them decodes to.
pub mod float;
pub mod i6;
pub mod q4;
pub mod q4_k;
pub mod q5;
pub mod q6_k;
pub mod q8_0;
pub mod row;

// Ternary packings, one view over all of them, and one over every matrix of a file.
pub mod matrix;
pub mod ternary;

pub use gguf::{Gguf, GgufError, Tensor, TensorInfo};
pub use kind::TensorKind;
pub use matrix::{Matrix, MatrixError};
pub use ternary::{Packing, TernaryError, TernaryRows};
