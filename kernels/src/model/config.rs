//! The dimensions and constants of a model, read from GGUF metadata and checked against each other.

use super::LoadError;
use crate::cpu::attention::Layout;
use crate::cpu::rope::Pairing;
use crate::format::Gguf;
use crate::kv::{KvKind, PAGE};

/// The graphs this engine computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// RMSNorm, grouped-query attention, SwiGLU.
    Llama,
    /// Llama with a norm for each query and key head.
    Qwen3,
    /// Llama with norms before the output and down projections, SiLU gate.
    BitNet,
    /// The same with a squared-ReLU gate (2B-4T).
    BitNet158,
}

impl Architecture {
    /// Every architecture that this engine computes.
    pub const ALL: [Architecture; 4] = [
        Architecture::Llama,
        Architecture::Qwen3,
        Architecture::BitNet,
        Architecture::BitNet158,
    ];

    /// The name in `general.architecture`.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen3 => "qwen3",
            Architecture::BitNet => "bitnet",
            Architecture::BitNet158 => "bitnet-b1.58",
        }
    }

    pub(crate) fn sub_norms(self) -> bool {
        matches!(self, Architecture::BitNet | Architecture::BitNet158)
    }

    fn pairing(self) -> Pairing {
        match self {
            Architecture::Llama => Pairing::Interleaved,
            _ => Pairing::SplitHalf,
        }
    }
}

/// How positions rotate queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which values form a pair.
    pub pairing: Pairing,
    /// Rotated values of a head.
    pub dimensions: usize,
    /// Base of the frequencies.
    pub base: f32,
    /// Factor on all frequencies: 1, or less under linear scaling.
    pub scale: f32,
}

/// Dimensions and constants of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which graph.
    pub architecture: Architecture,
    /// Blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the feed-forward layer.
    pub n_ff: usize,
    /// Tokens.
    pub n_vocab: usize,
    /// Positions the model was made for.
    pub context_length: usize,
    /// Added to the mean square in norms.
    pub norm_epsilon: f32,
    /// Rotary embedding.
    pub rope: Rope,
    /// Block of the Hadamard rotation that the inputs of all block matrices go through (`onebit.hadamard`).
    pub hadamard: Option<usize>,
}

/// Widest head: attention's kernels are tested up to here.
const HEAD_DIM_MAX: usize = 512;

impl Config {
    /// Reads and checks the metadata.
    ///
    /// # Errors
    /// An unknown architecture, a missing key, or dimensions that contradict each other or exceed sane limits.
    pub fn from_gguf(gguf: &Gguf) -> Result<Config, LoadError> {
        let name = gguf.str("general.architecture")?;
        let architecture = Architecture::ALL
            .into_iter()
            .find(|a| a.name() == name)
            .ok_or_else(|| LoadError::Architecture {
                name: name.to_owned(),
            })?;
        let key = |suffix: &str| format!("{name}.{suffix}");
        let number = |suffix: &str| gguf.u32(&key(suffix)).map(|n| n as usize);
        let n_embd = number("embedding_length")?;
        let n_heads = number("attention.head_count")?;
        let n_kv_heads = gguf
            .optional_u32(&key("attention.head_count_kv"))?
            .map_or(n_heads, |n| n as usize);
        let head_dim = match gguf.optional_u32(&key("attention.key_length"))? {
            Some(n) => n as usize,
            None => n_embd.checked_div(n_heads).unwrap_or(0),
        };
        let embedding = gguf
            .tensor("token_embd.weight")
            .ok_or_else(|| LoadError::Missing {
                name: "token_embd.weight".to_owned(),
            })?;
        let config = Config {
            architecture,
            n_layers: number("block_count")?,
            n_heads,
            n_kv_heads,
            head_dim,
            n_embd,
            n_ff: number("feed_forward_length")?,
            n_vocab: embedding.info.rows(),
            context_length: number("context_length")?,
            norm_epsilon: gguf.f32(&key("attention.layer_norm_rms_epsilon"))?,
            rope: Rope {
                pairing: architecture.pairing(),
                dimensions: gguf
                    .optional_u32(&key("rope.dimension_count"))?
                    .map_or(head_dim, |n| n as usize),
                base: gguf
                    .optional_f32(&key("rope.freq_base"))?
                    .unwrap_or(10_000.0),
                scale: rope_scale(gguf, &key)?,
            },
            hadamard: gguf.optional_u32("onebit.hadamard")?.map(|n| n as usize),
        };
        if let Some(length) = gguf.optional_u32(&key("attention.value_length"))?
            && length as usize != head_dim
        {
            return Err(LoadError::Config {
                what: "attention.value_length",
                why: format!("{length} differs from the key length {head_dim}"),
            });
        }
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), LoadError> {
        let fail = |what, why: String| Err(LoadError::Config { what, why });
        for (what, n, most) in [
            ("block_count", self.n_layers, 1024),
            ("attention.head_count", self.n_heads, 4096),
            ("attention.head_count_kv", self.n_kv_heads, 4096),
            ("embedding_length", self.n_embd, 1 << 20),
            ("feed_forward_length", self.n_ff, 1 << 22),
            ("context_length", self.context_length, 1 << 28),
            ("head size", self.head_dim, HEAD_DIM_MAX),
        ] {
            if n == 0 || n > most {
                return fail(what, format!("{n} is not within 1..={most}"));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return fail(
                "attention.head_count_kv",
                format!("{} does not divide {} heads", self.n_kv_heads, self.n_heads),
            );
        }
        if !self.head_dim.is_multiple_of(8) {
            return fail(
                "head size",
                format!(
                    "{} is not a multiple of 8; run this model with the llama.cpp engine",
                    self.head_dim
                ),
            );
        }
        if self.rope.dimensions > self.head_dim
            || !self.rope.dimensions.is_multiple_of(2)
            || self.rope.dimensions == 0
        {
            return fail(
                "rope.dimension_count",
                format!(
                    "{} does not fit a head of {}",
                    self.rope.dimensions, self.head_dim
                ),
            );
        }
        if let Some(block) = self.hadamard {
            let widths = [self.n_embd, self.n_heads * self.head_dim, self.n_ff];
            if !block.is_power_of_two() || widths.iter().any(|w| !w.is_multiple_of(block)) {
                return fail(
                    "hadamard",
                    format!("{block} is not a power of two that divides the widths {widths:?}"),
                );
            }
        }
        if !(self.rope.base.is_finite() && self.rope.base > 0.0) {
            return fail(
                "rope.freq_base",
                format!("{} is not a positive number", self.rope.base),
            );
        }
        if !(self.norm_epsilon.is_finite() && self.norm_epsilon >= 0.0) {
            return fail(
                "attention.layer_norm_rms_epsilon",
                format!("{} is not a positive number", self.norm_epsilon),
            );
        }
        Ok(())
    }

    /// Bytes of KV cache for each position.
    pub fn kv_bytes_per_position(&self, kind: KvKind) -> usize {
        Layout::new(kind, self.n_layers, self.n_kv_heads, self.head_dim).page_bytes() / PAGE
    }

    #[cfg(test)]
    pub(crate) fn for_tests(n_layers: usize, n_kv_heads: usize, head_dim: usize) -> Config {
        Config {
            architecture: Architecture::Llama,
            n_layers,
            n_heads: n_kv_heads,
            n_kv_heads,
            head_dim,
            n_embd: n_kv_heads * head_dim,
            n_ff: 32,
            n_vocab: 16,
            context_length: 128,
            norm_epsilon: 1e-5,
            rope: Rope {
                pairing: Pairing::Interleaved,
                dimensions: head_dim,
                base: 10_000.0,
                scale: 1.0,
            },
            hadamard: None,
        }
    }
}

fn rope_scale(gguf: &Gguf, key: &dyn Fn(&str) -> String) -> Result<f32, LoadError> {
    match gguf.optional_str(&key("rope.scaling.type"))? {
        None | Some("none") => Ok(1.0),
        Some("linear") => {
            let factor = gguf.f32(&key("rope.scaling.factor"))?;
            if factor > 0.0 && factor.is_finite() {
                Ok(1.0 / factor)
            } else {
                Err(LoadError::Config {
                    what: "rope.scaling.factor",
                    why: format!("{factor} is not a positive number"),
                })
            }
        }
        Some(other) => Err(LoadError::Config {
            what: "rope.scaling.type",
            why: format!(
                "\"{other}\" is not computed by the built-in engine; run this model with the llama.cpp engine"
            ),
        }),
    }
}
