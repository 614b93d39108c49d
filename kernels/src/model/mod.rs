//! A language model: weights, and the pass that turns tokens into logits.
//!
//! Owns what the tensors of a file mean. Knows nothing of text, sampling or requests; positions live in a
//! [`Cache`](crate::kv::Cache) that the caller owns, so one model serves many caches.

mod attend;
pub mod bert;
mod config;
mod forward;
mod head;
pub(crate) mod logits;
pub(crate) mod operator;
pub(crate) mod scratch;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod weights;

pub use config::{Architecture, Config, Rope};
pub use head::HeadScans;
pub use logits::Logits;

use crate::cpu::Isa;
use crate::cpu::dense::DenseError;
use crate::cpu::rope::Frequencies;
use crate::cpu::ternary::{Layout, NotFinite, PackError};
use crate::format::matrix::MatrixError;
use crate::format::row::RowError;
use crate::format::{Gguf, GgufError, TensorInfo};
use crate::huge::HugeError;
use crate::kv::{Cache, CacheError, SequenceId};
use crate::threads::Threads;
use std::sync::Arc;
use weights::Weights;

/// How activations meet ternary weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TernaryActivations {
    /// Int8 with one scale for each token, as BitNet models are trained; where a matrix has several scales, blocks.
    #[default]
    Rows,
    /// Int8 with one scale for each 256 columns, as llama.cpp computes TQ1_0 and TQ2_0: for comparing with it.
    Blocks,
}

/// How a model is loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Use no instruction set beyond this one; `None` is the best of the machine.
    pub isa: Option<Isa>,
    /// How activations meet ternary weights.
    pub ternary: TernaryActivations,
    /// Layout of ternary weights in memory; `None` follows the file (base 3 stays at 1.6 bits, and so on).
    pub layout: Option<Layout>,
    /// Quantise the head anew to four and eight bits, for [`Model::forward_best`] in two steps. The eight-bit rows then
    /// define all logits.
    pub two_step_head: bool,
    /// Count for each scan in two steps what a bound that never fails would have kept: for figures, at some cost.
    pub count_proven: bool,
}

/// Why a file cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Metadata that is missing or of the wrong type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// A graph that we do not compute.
    #[error(
        "architecture \"{name}\" is not one the built-in engine computes (llama, qwen3, bitnet, bitnet-b1.58); run this model with the llama.cpp engine"
    )]
    Architecture {
        /// The file's `general.architecture`.
        name: String,
    },
    /// A value that contradicts another or is out of range.
    #[error("model setting {what}: {why}")]
    Config {
        /// The metadata key, without the architecture.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A tensor that the graph needs.
    #[error("tensor {name} is missing; the file is incomplete or not of this architecture")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor that the graph does not know.
    #[error(
        "tensor {name} (and {others} more) belongs to a variant that the built-in engine does not compute; run this model with the llama.cpp engine"
    )]
    Unused {
        /// The first such tensor.
        name: String,
        /// How many more.
        others: usize,
    },
    /// A tensor of other dimensions than the metadata says.
    #[error("tensor {name} has shape {found:?}, expected {wanted:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Its dimensions.
        found: Vec<u64>,
        /// What the metadata asks for.
        wanted: Vec<usize>,
    },
    /// A matrix of a type without a kernel, or no memory for it.
    #[error(transparent)]
    Matrix(#[from] DenseError),
    /// A matrix that is stored in a way that cannot be read.
    #[error(transparent)]
    Stored(#[from] MatrixError),
    /// Ternary weights that the wanted layout cannot hold, or no memory for them.
    #[error("tensor {name}: {source}")]
    Pack {
        /// Its name.
        name: String,
        /// Why.
        source: PackError,
    },
    /// No memory for the two-step head.
    #[error("output head: {source}")]
    Head {
        /// Bytes asked for, and the system's error.
        source: HugeError,
    },
    /// A vector or embedding of a type that cannot be read.
    #[error("tensor {name}: {source}; run this model with the llama.cpp engine")]
    Row {
        /// Its name.
        name: String,
        /// Why.
        source: RowError,
    },
}

impl LoadError {
    fn shape(info: &TensorInfo, wanted: &[usize]) -> LoadError {
        LoadError::Shape {
            name: info.name.clone(),
            found: info.dims.clone(),
            wanted: wanted.to_vec(),
        }
    }

    fn size(name: &str, found: [usize; 2], wanted: [usize; 2]) -> LoadError {
        LoadError::Shape {
            name: name.to_owned(),
            found: found.map(|n| n as u64).to_vec(),
            wanted: wanted.to_vec(),
        }
    }
}

/// Why a batch cannot be run. Its sequences are as long as before.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The cache has no room, or does not know a sequence.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A token that is not in the vocabulary.
    #[error("token {token} is not below the vocabulary's {n_vocab}")]
    Token {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// A slice without tokens.
    #[error("a slice of the batch has no tokens")]
    Empty,
    /// A sequence in two slices of a batch.
    #[error("a sequence appears twice in one batch; join its tokens into one slice")]
    Twice,
    /// An embedding row whose codes stand for no weight.
    #[error(transparent)]
    Embedding(#[from] MatrixError),
    /// A value that is not finite.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// A cache made for another model, or for another device.
    #[error("the kv cache was made for a model of other dimensions, or for another device")]
    Mismatch,
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::GpuError),
}

/// Which positions of a slice the caller wants logits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// None: more of this prompt follows.
    None,
    /// The last.
    Last,
    /// Every one.
    All,
}

/// The next tokens of one sequence.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// Where they are appended.
    pub sequence: SequenceId,
    /// Tokens, at least one.
    pub tokens: &'a [u32],
    /// Wanted logits.
    pub logits: Want,
}

/// Weights ready to run.
pub struct Model {
    config: Config,
    weights: Weights,
    frequencies: Frequencies,
    kernels: forward::Kernels,
    spare: logits::Spare,
}

impl Model {
    /// Reads, checks and packs a file's weights. The file stays mapped: embeddings are read from it.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(gguf: Arc<Gguf>, options: &LoadOptions) -> Result<Model, LoadError> {
        let config = Config::from_gguf(&gguf)?;
        let isa = options.isa.unwrap_or_else(Isa::detect).min(Isa::detect());
        let weights = Weights::load(&gguf, &config, isa, options)?;
        let rope = &config.rope;
        let frequencies = Frequencies::new(
            rope.dimensions,
            rope.base,
            rope.scale,
            &weights.rope_factors,
        );
        Ok(Model {
            kernels: forward::Kernels::new(isa),
            config,
            weights,
            frequencies,
            spare: logits::Spare::default(),
        })
    }

    /// Dimensions and constants.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of packed weights in memory; about what one decoded token reads.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.bytes()
    }

    /// Appends the batch to its sequences and returns the wanted logits.
    ///
    /// A sequence's numbers do not depend on what else is in the batch, on how its tokens are cut into batches,
    /// or on the number of threads: they are equal bit for bit.
    ///
    /// # Errors
    /// See [`ForwardError`]; the sequences are then as long as before.
    pub fn forward(
        &self,
        threads: &Threads,
        cache: &mut Cache,
        batch: &[Slice<'_>],
    ) -> Result<Logits, ForwardError> {
        self.prepare(cache, batch)?;
        let logits = self.run(threads, cache, batch, |head, inputs, _, logits| {
            let rows = logits.rows().len();
            head.logits(threads, inputs, rows, logits);
        })?;
        advance(cache, batch);
        Ok(logits.0)
    }

    /// As [`Model::forward`], but only the best token of each wanted position and its logit (`None` where no logit is
    /// finite). With [`LoadOptions::two_step_head`] most rows of the head are then read in four bits alone.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn forward_best(
        &self,
        threads: &Threads,
        cache: &mut Cache,
        batch: &[Slice<'_>],
    ) -> Result<Vec<Option<(u32, f32)>>, ForwardError> {
        self.prepare(cache, batch)?;
        let (_, best) = self.run(threads, cache, batch, |head, inputs, coarse, logits| {
            head.best(threads, inputs, coarse, logits)
        })?;
        advance(cache, batch);
        Ok(best.unwrap_or_default())
    }

    /// Whether the head was quantised anew for a scan in two steps.
    pub fn has_two_step_head(&self) -> bool {
        matches!(self.weights.head, head::Head::TwoStep(..))
    }

    /// What the scans of [`Model::forward_best`] have cost since the model was loaded, if its head has two steps.
    pub fn head_scans(&self) -> HeadScans {
        self.weights.head.scans()
    }

    /// The packed weights and the rotation's frequencies, for a device that takes them over.
    pub(crate) fn parts(&self) -> (&Weights, &Frequencies) {
        (&self.weights, &self.frequencies)
    }

    fn prepare(&self, cache: &mut Cache, batch: &[Slice<'_>]) -> Result<(), ForwardError> {
        if cache.is_on_device() {
            return Err(ForwardError::Mismatch);
        }
        prepare(&self.config, cache, batch)
    }
}

/// Checks a batch and makes room for it.
pub(crate) fn prepare(
    config: &Config,
    cache: &mut Cache,
    batch: &[Slice<'_>],
) -> Result<(), ForwardError> {
    for (i, slice) in batch.iter().enumerate() {
        if slice.tokens.is_empty() {
            return Err(ForwardError::Empty);
        }
        if let Some(&token) = slice.tokens.iter().find(|t| **t as usize >= config.n_vocab) {
            return Err(ForwardError::Token {
                token,
                n_vocab: config.n_vocab,
            });
        }
        if batch[..i]
            .iter()
            .any(|other| other.sequence == slice.sequence)
        {
            return Err(ForwardError::Twice);
        }
    }
    if !cache.layout().fits(config) {
        return Err(ForwardError::Mismatch);
    }
    Ok(cache.reserve(batch.iter().map(|s| (s.sequence, s.tokens.len())))?)
}

/// Counts the positions of a batch that has been run.
pub(crate) fn advance(cache: &mut Cache, batch: &[Slice<'_>]) {
    for slice in batch {
        cache.advance(slice.sequence, slice.tokens.len());
    }
}
