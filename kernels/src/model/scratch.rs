//! Working memory of forward passes, kept between them so that a decoded token allocates nothing.

use super::attend::Task;
use crate::cpu::inputs::Inputs;

/// Buffers that grow to the largest batch seen.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The residual stream, `[token][n_embd]`.
    pub(crate) x: Vec<f32>,
    /// Query, key and value, or gate and up, `[token][..]`.
    pub(crate) wide: Vec<f32>,
    /// Attention output, `[token][n_heads * head_dim]`.
    pub(crate) attended: Vec<f32>,
    /// Rows that the next operator multiplies.
    pub(crate) inputs: Inputs,
    /// Position of each token.
    pub(crate) positions: Vec<usize>,
    /// Cosines of each token, `[token][pairs]`.
    pub(crate) cos: Vec<f32>,
    /// Sines of each token.
    pub(crate) sin: Vec<f32>,
    /// The plan of the batch.
    pub(super) tasks: Vec<Task>,
    /// States of chunks that threads compute apart.
    pub(crate) partials: Vec<f32>,
    /// Four-bit logits of the two-step head.
    pub(crate) coarse: Vec<f32>,
    /// Tokens whose logits are wanted.
    pub(crate) wanted: Vec<usize>,
}
