//! The built-in engine's lane on a GPU: which device, whether its kernels are ready, and the work of the first run.
//!
//! Knows devices and the folder of compiled kernels; nothing of requests. Children are started by [`crate::app`].

mod devices;
#[cfg(test)]
mod faults;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onebit_kernels::format::gguf::Gguf;
use onebit_kernels::gpu::cache::{BYTES_MAX, Cache as Shelf, Checked};
use onebit_kernels::gpu::decoder::{Choices, Decoder, Plan};
use onebit_kernels::gpu::first_run::{FirstRun, Progress};
use onebit_kernels::gpu::{Driver, GpuError};
use onebit_kernels::kv::{Cache, CacheOptions, KvKind};
use onebit_kernels::model::{LoadOptions, Model, Slice, Want};

pub use self::devices::{Way, device, lane, lanes, ways};
use crate::config::{CacheKind, ComputeDevice};
use crate::engines::Means;

fn shelf(folder: &Path) -> Result<Shelf, GpuError> {
    Shelf::open(folder, BYTES_MAX).map_err(|error| GpuError::Call {
        call: "the folder of compiled kernels",
        reason: error.to_string(),
    })
}

/// Puts a model on the device that the settings ask for; `None` where that is the processor.
///
/// # Errors
/// Why it cannot be there: no device, kernels that are not compiled, an operation that devices do not do, no memory.
pub(super) fn decoder(
    model: &Model,
    options: CacheOptions,
    means: &Means,
) -> Result<Option<(Decoder, Cache)>, GpuError> {
    let wanted = means.ternary.device;
    let found = match device(wanted) {
        Ok(found) => found,
        // Nobody asked for a GPU by name, and none is there: nothing to tell at every load; `doctor` does.
        Err(_) if wanted == ComputeDevice::Auto => None,
        Err(error) => return Err(error),
    };
    if found.is_none() || means.kernels.as_os_str().is_empty() {
        return Ok(None);
    }
    let Some(driver) = devices::open(wanted)? else {
        return Ok(None);
    };
    let shelf = shelf(&means.kernels)?;
    let choices = shelf.choices(driver.identity());
    let identity = driver.identity().clone();
    let loaded = Decoder::new(driver, model, options, &mut Checked(&shelf), &choices)?;
    tracing::info!(
        device = identity.device,
        backend = identity.backend,
        "the model computes on the gpu"
    );
    Ok(Some(loaded))
}

/// The device for work in a child, which is told of one.
fn opened(wanted: ComputeDevice) -> Result<Box<dyn Driver>, GpuError> {
    devices::open(wanted)?.ok_or_else(|| GpuError::NoDevice {
        reason: "the processor was asked for".to_owned(),
    })
}

/// What the first run's child is told to do.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// On which device.
    pub device: ComputeDevice,
    /// How keys and values are kept.
    pub kind: CacheKind,
    /// Whether parameters are timed, and those known already as well.
    pub tune: bool,
    pub anew: bool,
}

/// Compiles, checks and times a model's kernels in this process; `say` hears what happens. Run it in a child.
///
/// # Errors
/// No device, a model that devices do not compute, or a device that is lost.
pub fn work(
    folder: &Path,
    model: &Path,
    work: Work,
    say: &mut dyn FnMut(Progress),
) -> Result<(), GpuError> {
    let unreadable = |error: String| GpuError::Unsupported(error);
    let shelf = shelf(folder)?;
    let _held = shelf
        .lock()
        .map_err(|error| unreadable(error.to_string()))?;
    // Told when its turn comes, once.
    let _ = shelf.interrupted("the process that worked on it ended");
    let gguf = Gguf::open(model).map_err(|error| unreadable(error.to_string()))?;
    let model = Model::load(Arc::new(gguf), &LoadOptions::default())
        .map_err(|error| unreadable(error.to_string()))?;
    let mut driver = opened(work.device)?;
    let kind = match work.kind {
        CacheKind::F16 => KvKind::F16,
        CacheKind::Int8 => KvKind::Int8,
    };
    let plan = Plan::new(&model, kind, &Choices::new())?;
    let ops = plan.ops();
    let mut run = FirstRun {
        driver: &mut *driver,
        cache: &shelf,
        say,
    };
    // Without one kernel the model does not run there, however fast the others are.
    let all = run.compile(&ops)?;
    if work.tune && all {
        run.tune(&ops, work.anew)?;
    }
    Ok(())
}

/// The name under which [`figures`] tells how far it is, so that slow work is not taken for a hang.
pub const AT: &str = "at";

/// Measures what a device does with a model, for the owner's report; `say` hears each figure with its unit.
///
/// # Errors
/// As [`work`], and kernels that are not compiled.
pub fn figures(
    folder: &Path,
    model: &Path,
    work: Work,
    say: &mut dyn FnMut(&str, f64),
) -> Result<(), GpuError> {
    /// Positions of the prompt and of what follows.
    const PROMPT: usize = 512;
    const DECODED: usize = 64;
    /// Positions of the prompt between two signs of life. A device takes a prompt in passes of half of it, so fewer cost
    /// nothing that shows; on one that is made of the processor 64 take some 8 s.
    const STEP: usize = PROMPT / 2;
    const STEP_SOFTWARE: usize = 64;
    let unreadable = |error: String| GpuError::Unsupported(error);
    let gguf = Gguf::open(model).map_err(|error| unreadable(error.to_string()))?;
    let model = Model::load(Arc::new(gguf), &LoadOptions::default())
        .map_err(|error| unreadable(error.to_string()))?;
    let driver = opened(work.device)?;
    let shelf = shelf(folder)?;
    let choices = shelf.choices(driver.identity());
    let options = CacheOptions {
        positions_max: PROMPT + DECODED,
        kind: match work.kind {
            CacheKind::F16 => KvKind::F16,
            CacheKind::Int8 => KvKind::Int8,
        },
    };
    let (mut decoder, mut cache) =
        Decoder::new(driver, &model, options, &mut Checked(&shelf), &choices)?;
    let step = if decoder.driver().identity().software {
        STEP_SOFTWARE
    } else {
        STEP
    };
    say("copy_gb_per_s", decoder.copy_gb_per_s()?);
    let (sequence, vocabulary) = (cache.create(), model.config().n_vocab as u32);
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| i * 7919 % vocabulary).collect();
    let mut forward = |decoder: &mut Decoder, tokens: &[u32]| {
        let logits = Want::Last;
        let batch = [Slice {
            sequence,
            tokens,
            logits,
        }];
        let best = decoder.forward_best(&mut cache, &batch);
        best.map_err(|error| unreadable(error.to_string()))
    };
    let started = Instant::now();
    let mut next = Vec::new();
    for (i, piece) in prompt.chunks(step).enumerate() {
        next = forward(&mut decoder, piece)?;
        say(AT, (i * step + piece.len()) as f64);
    }
    say(
        "prefill_512_tokens_per_s",
        PROMPT as f64 / started.elapsed().as_secs_f64(),
    );
    let (started, mut on_device) = (Instant::now(), Duration::ZERO);
    for i in 0..DECODED {
        let token = next
            .first()
            .copied()
            .flatten()
            .map_or(0, |(token, _)| token);
        next = forward(&mut decoder, &[token])?;
        on_device += decoder.driver().elapsed().unwrap_or_default();
        say(AT, (PROMPT + i + 1) as f64);
    }
    let seconds = started.elapsed().as_secs_f64();
    say("decode_tokens_per_s", DECODED as f64 / seconds);
    say("decode_ms_per_token", seconds * 1e3 / DECODED as f64);
    say(
        "decode_ms_per_token_on_device",
        on_device.as_secs_f64() * 1e3 / DECODED as f64,
    );
    say("launches_per_token", decoder.launches() as f64);
    say("weight_bytes", model.weight_bytes() as f64);
    Ok(())
}

/// What the folder holds; see [`Shelf::entries`].
///
/// # Errors
/// The folder cannot be used.
pub fn entries(folder: &Path) -> Result<Vec<onebit_kernels::gpu::cache::Entry>, GpuError> {
    Ok(shelf(folder)?.entries())
}

/// Forgets all compiled kernels and choices; returns how many files that were.
///
/// # Errors
/// A file cannot be removed.
pub fn clear(folder: &Path) -> Result<usize, GpuError> {
    let shelf = shelf(folder)?;
    let failed = |error: std::io::Error| GpuError::Call {
        call: "removing compiled kernels",
        reason: error.to_string(),
    };
    let _held = shelf.lock().map_err(failed)?;
    shelf.clear().map_err(failed)
}

/// Sets aside what a child was working on when it ended without a word; returns the kernel's name.
///
/// # Errors
/// The folder cannot be used.
pub fn set_aside(folder: &Path, why: &str) -> Result<Option<String>, GpuError> {
    let shelf = shelf(folder)?;
    let _held = shelf
        .lock()
        .map_err(|error| GpuError::Unsupported(error.to_string()))?;
    Ok(shelf.interrupted(why))
}

/// How long a child may work on one kernel before it counts as hung. A driver's compiler takes milliseconds, the
/// slowest seen a second; the definitions of the largest shapes take two.
pub const STALL: Duration = Duration::from_secs(60);
