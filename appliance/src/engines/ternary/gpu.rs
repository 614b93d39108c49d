//! The built-in engine's lane on a GPU: which device, whether its kernels are ready, and the work of the first run.
//!
//! Knows devices and the folder of compiled kernels; nothing of requests. Children are started by [`crate::app`].

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use onebit_kernels::format::gguf::Gguf;
use onebit_kernels::gpu::cache::{BYTES_MAX, Cache as Shelf, Checked};
use onebit_kernels::gpu::decoder::{Choices, Decoder, Plan};
use onebit_kernels::gpu::first_run::{FirstRun, Progress};
use onebit_kernels::gpu::vulkan::{self, Choice, Vulkan};
use onebit_kernels::gpu::{Driver, GpuError, Identity};
use onebit_kernels::kv::{Cache, CacheOptions, KvKind};
use onebit_kernels::model::{LoadOptions, Model, Slice, Want};

use super::LANE;
use crate::config::{CacheKind, ComputeDevice};
use crate::engines::Means;
use crate::engines::lanes::{Lane, Memory, Silicon};

/// Its lane on a GPU that shares the machine's memory.
pub const LANE_SHARED: Lane = Lane {
    name: "ternary.vulkan",
    silicon: Silicon::Igpu,
    memory: Memory::Gtt,
    ..LANE
};

/// Its lane on a card.
pub const LANE_CARD: Lane = Lane {
    silicon: Silicon::Dgpu,
    memory: Memory::Vram,
    ..LANE_SHARED
};

/// Its lane on a device that is made of the processor.
pub const LANE_SOFTWARE: Lane = Lane {
    name: LANE_SHARED.name,
    ..LANE
};

/// The device that the settings ask for, as the loader describes it; `None` where none computes.
///
/// # Errors
/// Why there is none although one was asked for.
pub fn device(wanted: ComputeDevice) -> Result<Option<Identity>, GpuError> {
    static FOUND: OnceLock<Result<Vec<Identity>, GpuError>> = OnceLock::new();
    let software = match wanted {
        ComputeDevice::Cpu => return Ok(None),
        ComputeDevice::Auto => false,
        ComputeDevice::Software => true,
    };
    // Asked once a process: loading all drivers takes some 50 ms.
    let found = FOUND.get_or_init(vulkan::devices).clone()?;
    let mut usable: Vec<Identity> = found
        .into_iter()
        .filter(|d| d.software == software)
        .collect();
    usable.sort_by_key(|device| device.shared_memory);
    if usable.is_empty() {
        return Err(GpuError::NoDevice {
            reason: "the vulkan loader offers no gpu".to_owned(),
        });
    }
    Ok(usable.into_iter().next())
}

/// The lanes of this machine for a model, the one that it is loaded on first.
pub fn lanes(means: &Means, model: &crate::domain::Model) -> Vec<Lane> {
    // What is not ternary stays on the processor; of the others a few turn out at loading to do so.
    let ternary = model.architecture.starts_with("bitnet");
    let on_gpu = match device(means.ternary.device) {
        _ if !ternary || means.kernels.as_os_str().is_empty() => None,
        Ok(Some(device)) if device.software => Some(LANE_SOFTWARE),
        Ok(Some(device)) if !device.shared_memory => Some(LANE_CARD),
        Ok(Some(_)) => Some(LANE_SHARED),
        Ok(None) | Err(_) => None,
    };
    on_gpu.into_iter().chain([LANE]).collect()
}

fn open(wanted: ComputeDevice) -> Result<Vulkan, GpuError> {
    Vulkan::open(match wanted {
        ComputeDevice::Software => Choice::Software,
        ComputeDevice::Auto | ComputeDevice::Cpu => Choice::Gpu,
    })
}

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
    let driver = open(wanted)?;
    let shelf = shelf(&means.kernels)?;
    let choices = shelf.choices(driver.identity());
    let name = driver.identity().device.clone();
    let loaded = Decoder::new(
        Box::new(driver),
        model,
        options,
        &mut Checked(&shelf),
        &choices,
    )?;
    tracing::info!(device = name, "the model computes on the gpu");
    Ok(Some(loaded))
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
    let mut driver = open(work.device)?;
    let kind = match work.kind {
        CacheKind::F16 => KvKind::F16,
        CacheKind::Int8 => KvKind::Int8,
    };
    let plan = Plan::new(&model, kind, &Choices::new())?;
    let ops = plan.ops();
    let mut run = FirstRun {
        driver: &mut driver,
        cache: &shelf,
        say,
    };
    run.compile(&ops)?;
    if work.tune {
        run.tune(&ops, work.anew)?;
    }
    Ok(())
}

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
    let unreadable = |error: String| GpuError::Unsupported(error);
    let gguf = Gguf::open(model).map_err(|error| unreadable(error.to_string()))?;
    let model = Model::load(Arc::new(gguf), &LoadOptions::default())
        .map_err(|error| unreadable(error.to_string()))?;
    let driver = open(work.device)?;
    let shelf = shelf(folder)?;
    let choices = shelf.choices(driver.identity());
    let options = CacheOptions {
        positions_max: PROMPT + DECODED,
        kind: match work.kind {
            CacheKind::F16 => KvKind::F16,
            CacheKind::Int8 => KvKind::Int8,
        },
    };
    let (mut decoder, mut cache) = Decoder::new(
        Box::new(driver),
        &model,
        options,
        &mut Checked(&shelf),
        &choices,
    )?;
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
    let mut next = forward(&mut decoder, &prompt)?;
    say(
        "prefill_512_tokens_per_s",
        PROMPT as f64 / started.elapsed().as_secs_f64(),
    );
    let (started, mut on_device) = (Instant::now(), Duration::ZERO);
    for _ in 0..DECODED {
        let token = next
            .first()
            .copied()
            .flatten()
            .map_or(0, |(token, _)| token);
        next = forward(&mut decoder, &[token])?;
        on_device += decoder.driver().elapsed().unwrap_or_default();
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
