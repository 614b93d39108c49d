//! What a model's passes run on: the processor, or a GPU that has taken the weights over.

use std::sync::Arc;

use onebit_kernels::gpu::GpuError;
use onebit_kernels::gpu::decoder::Decoder;
use onebit_kernels::kv::{Cache, CacheOptions};
use onebit_kernels::model::{ForwardError, Logits, Model, Slice};
use onebit_kernels::threads::Threads;

use crate::engines::EngineError;

/// What puts a model on a GPU; `None` where there is none.
pub(super) type OnGpu<'a> =
    &'a dyn Fn(&Model, CacheOptions) -> Result<Option<(Decoder, Cache)>, GpuError>;

/// A model that can be run.
pub(super) enum Compute {
    Cpu(Box<Model>, Arc<Threads>),
    Gpu(Box<Decoder>),
}

/// Where a lane computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Device {
    Processor,
    Gpu,
}

/// A pass that failed.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct ComputeError {
    why: String,
    /// Whether the device is gone, or has no room for what it holds: the model must be loaded anew, here or elsewhere.
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
            lost: matches!(
                error,
                ForwardError::Gpu(GpuError::Lost { .. } | GpuError::Memory { .. })
            ),
        }
    }
}

impl Compute {
    /// Puts a model on a device; `on_gpu` is what puts it on the GPU, where there is one. Where no device is named the
    /// settings and this machine decide, and a GPU that cannot take the model is no failure: the log says why, and the
    /// processor serves.
    ///
    /// # Errors
    /// No memory for the cache, or the GPU that was named cannot take the model.
    pub(super) fn open(
        model: Model,
        options: CacheOptions,
        threads: Arc<Threads>,
        device: Option<Device>,
        on_gpu: OnGpu<'_>,
    ) -> Result<(Compute, Cache), String> {
        if device != Some(Device::Processor) {
            match on_gpu(&model, options) {
                Ok(Some((decoder, cache))) => return Ok((Compute::Gpu(Box::new(decoder)), cache)),
                Ok(None) if device.is_none() => {}
                Ok(None) => return Err("there is no gpu any more".into()),
                Err(error) if device.is_none() => {
                    tracing::warn!(%error, "the gpu does not serve this model; the processor does");
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        let cache = Cache::new(model.config(), options).map_err(|error| error.to_string())?;
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

    /// Runs a batch whose positions only need their best token; see [`Model::forward_best`].
    pub(super) fn forward_best(
        &mut self,
        cache: &mut Cache,
        batch: &[Slice<'_>],
    ) -> Result<Vec<Option<(u32, f32)>>, ComputeError> {
        Ok(match self {
            Compute::Cpu(model, threads) => model.forward_best(threads, cache, batch)?,
            Compute::Gpu(decoder) => decoder.forward_best(cache, batch)?,
        })
    }
}
