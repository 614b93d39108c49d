//! What a model's passes run on: the processor, or a GPU that has taken the weights over.

use std::sync::Arc;

use onebit_kernels::gpu::GpuError;
use onebit_kernels::gpu::decoder::Decoder;
use onebit_kernels::kv::{Cache, CacheError, CacheOptions};
use onebit_kernels::model::{ForwardError, Logits, Model, Slice};
use onebit_kernels::threads::Threads;

use super::gpu;
use crate::engines::{EngineError, Means};

/// A model that can be run.
pub(super) enum Compute {
    Cpu(Box<Model>, Arc<Threads>),
    Gpu(Box<Decoder>),
}

/// A pass that failed.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct ComputeError {
    why: String,
    /// Whether the device is gone, and with it everything on it.
    pub(super) lost: bool,
}

impl ComputeError {
    /// What those who waited for the pass are told.
    pub(super) fn told(&self) -> EngineError {
        EngineError::Failed(self.why.clone())
    }
}

impl From<ForwardError> for ComputeError {
    fn from(error: ForwardError) -> ComputeError {
        ComputeError {
            why: error.to_string(),
            lost: matches!(error, ForwardError::Gpu(GpuError::Lost { .. })),
        }
    }
}

impl Compute {
    /// Puts a model where the settings and this machine say. A GPU that cannot take it is no failure: the log says
    /// why, and the processor serves.
    ///
    /// # Errors
    /// No memory for the cache.
    pub(super) fn open(
        model: Model,
        options: CacheOptions,
        threads: Arc<Threads>,
        means: &Means,
    ) -> Result<(Compute, Cache), CacheError> {
        match gpu::decoder(&model, options, means) {
            Ok(Some((decoder, cache))) => return Ok((Compute::Gpu(Box::new(decoder)), cache)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the gpu does not serve this model; the processor does");
            }
        }
        let cache = Cache::new(model.config(), options)?;
        Ok((Compute::Cpu(Box::new(model), threads), cache))
    }

    /// Runs a batch; see [`Model::forward`].
    pub(super) fn forward(
        &mut self,
        cache: &mut Cache,
        batch: &[Slice<'_>],
    ) -> Result<Logits, ComputeError> {
        Ok(match self {
            Compute::Cpu(model, threads) => model.forward(threads, cache, batch)?,
            Compute::Gpu(decoder) => decoder.forward(cache, batch)?,
        })
    }
}
