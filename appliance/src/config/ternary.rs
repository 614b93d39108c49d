//! The settings of the built-in engine.

use serde::{Deserialize, Serialize};

/// The built-in engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TernaryConfig {
    /// CPU threads; 0 is one for each physical core.
    pub threads: usize,
    /// Answers in one forward pass.
    pub active_max: usize,
    /// Requests that may wait.
    pub queue_max: usize,
    /// Positions of one answer; 0 is the model's own.
    pub context_max: usize,
    /// Positions that all answers of one model share; 0 is automatic.
    pub cache_positions: usize,
    /// How keys and values are kept.
    pub cache_kind: CacheKind,
    /// Prompt tokens in one forward pass.
    pub prefill_tokens: usize,
    /// Finished conversations whose cache is kept.
    pub kept_max: usize,
    /// What computes.
    pub device: ComputeDevice,
    /// How the output head is kept.
    pub head: HeadKind,
}

/// How the output head is kept: the largest matrix of a small model, read for every token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadKind {
    /// In two steps where a ternary model's file has it in 16 bits or more, else as the file has it.
    #[default]
    Auto,
    /// In four and eight bits: a greedy token reads the four bits of all rows and the eight of the few that may win.
    TwoStep,
    /// As the file has it.
    File,
}

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheKind {
    /// 16-bit floats.
    F16,
    /// 8-bit integers with one scale for each position and head.
    Int8,
}

impl Default for TernaryConfig {
    fn default() -> Self {
        TernaryConfig {
            threads: 0,
            active_max: 16,
            queue_max: 512,
            context_max: 0,
            cache_positions: 0,
            cache_kind: CacheKind::F16,
            prefill_tokens: 256,
            kept_max: 32,
            device: ComputeDevice::Auto,
            head: HeadKind::Auto,
        }
    }
}

/// What the built-in engine computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDevice {
    /// The GPU where one can, through HIP, CUDA or Vulkan, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An AMD GPU through ROCm, and nothing else.
    Hip,
    /// An NVIDIA GPU through its own driver and compiler, and nothing else.
    Cuda,
    /// A GPU through Vulkan.
    Vulkan,
    /// A Vulkan device made of the processor: slow, for tests.
    Software,
}
