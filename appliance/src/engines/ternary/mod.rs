//! The built-in engine: the kernels in this process, on a thread of their own.
//!
//! It computes llama-shaped and ternary models on the CPU, ternary ones on the GPU where there is one. Knows tokens and caches; knows nothing of
//! conversations (prompts arrive rendered) and nothing of other engines.

mod admission;
mod answer;
mod compute;
pub mod gpu;
mod grammar;
mod prefix;
mod scheduler;
mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, mpsc};

use futures_util::future::BoxFuture;
use onebit_kernels::format::TensorKind;
use onebit_kernels::format::gguf::Gguf;
use onebit_kernels::kv::{CacheOptions, KvKind};
use onebit_kernels::model::{Architecture, LoadOptions, Model as Weights};
use onebit_kernels::tokenizer::Tokenizer;

use self::admission::Admission;
use self::compute::{Compute, Device, OnGpu};
use self::scheduler::{Scheduler, SchedulerLimits};
use self::session::TernarySession;
pub(crate) use self::session::usual_sampling;
use super::lanes::{Abilities, Lane, Memory, Silicon, Work};
use super::{Card, Engine, EngineError, Facts, Fit, Means, Session, Slot, Task, Template};
use crate::config::{CacheKind, HeadKind, TernaryConfig};
use crate::domain::{Machine, Model, ModelFormat};

/// Positions of one answer that a model is given at least, unless it was trained for fewer: room for a
/// question with a page of text and its answer.
const CONTEXT_MIN: u64 = 2048;

/// Positions of one answer when the owner sets none: a model trained for 128k would take all memory.
const CONTEXT_AUTO: u64 = 32_768;

/// Full contexts that the cache of one model holds when the owner sets no number.
const CONTEXTS_AUTO: u64 = 4;

/// The part of a ternary file's size that its weights may take in memory beyond it: rows are packed into whole blocks of 64
/// to 128 columns, which adds a tenth at 576 columns and less at more.
const PACKING_SHARE: u64 = 8;

/// The engine itself; it holds nothing.
#[derive(Debug)]
pub struct Ternary;

/// Its lane on the processor.
pub const LANE: Lane = Lane {
    name: "ternary.cpu",
    silicon: Silicon::Cpu,
    works: &[Work::Chat],
    abilities: Abilities::ALL
        .without(Abilities::VISION)
        .and(Abilities::PATTERN),
    slots: 16,
    context_max: 1 << 20,
    memory: Memory::Ram,
};

static CARD: Card = Card {
    name: "ternary",
    tasks: &[Task::Chat, Task::Score, Task::Count],
    formats: &[ModelFormat::Gguf],
    device: "cpu",
};

impl Engine for Ternary {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn lanes(&self, model: &Model, means: &Means) -> Vec<Lane> {
        gpu::lanes(means, model)
    }

    fn fit(&self, model: &Model, _machine: &Machine, means: &Means) -> Fit {
        let settings = &means.ternary;
        if !Architecture::ALL
            .iter()
            .any(|known| known.name() == model.architecture)
        {
            return Fit::No {
                why: format!("the architecture `{}` is not supported", model.architecture),
            };
        }
        let context = context_wanted(model.context_length, settings);
        let per_position = match settings.cache_kind {
            CacheKind::F16 => model.kv_bytes_per_position,
            CacheKind::Int8 => model.kv_bytes_per_position.div_ceil(2),
        };
        let positions = match settings.cache_positions {
            0 => context.saturating_mul(CONTEXTS_AUTO),
            set => set as u64,
        };
        let packing = if model.architecture.starts_with("bitnet") {
            model.file_bytes / PACKING_SHARE
        } else {
            0
        };
        let bytes = |positions: u64| {
            model
                .file_bytes
                .saturating_add(packing)
                .saturating_add(positions.saturating_mul(per_position))
        };
        Fit::Runs {
            memory_bytes_min: bytes(context.min(CONTEXT_MIN)),
            memory_bytes: bytes(positions),
        }
    }

    fn load<'a>(
        &'a self,
        model: &'a Model,
        slot: Slot,
    ) -> BoxFuture<'a, Result<Arc<dyn Session>, EngineError>> {
        let model = model.clone();
        Box::pin(async move {
            let name = model.id.clone();
            let failed = |why: String| EngineError::LoadFailed { model: name, why };
            let on_gpu = move || {
                let means = Arc::clone(&slot.means);
                open(&model, &slot, &move |weights, options| {
                    gpu::decoder(weights, options, &means)
                })
            };
            match tokio::task::spawn_blocking(on_gpu).await {
                Ok(Ok(session)) => Ok(Arc::new(session) as Arc<dyn Session>),
                Ok(Err(error)) => Err(error),
                Err(panic) => Err(failed(panic.to_string())),
            }
        })
    }
}

/// Positions that one answer may use.
fn context_wanted(trained: u64, settings: &TernaryConfig) -> u64 {
    let set = match settings.context_max {
        0 => CONTEXT_AUTO,
        set => set as u64,
    };
    if trained == 0 { set } else { trained.min(set) }
}

/// Reads the file, makes the cache, starts the thread.
fn open(model: &Model, slot: &Slot, on_gpu: OnGpu<'_>) -> Result<TernarySession, EngineError> {
    let failed = |why: String| EngineError::LoadFailed {
        model: model.id.clone(),
        why,
    };
    let device = wanted_device(slot).map_err(&failed)?;
    let gguf = Arc::new(Gguf::open(&model.path).map_err(|e| failed(e.to_string()))?);
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf).map_err(|e| failed(e.to_string()))?);
    let template = template(&gguf, &tokenizer).map_err(&failed)?;
    let options = LoadOptions {
        two_step_head: two_step_head(&gguf, &model.architecture, slot.means.ternary.head),
        ..LoadOptions::default()
    };
    let weights = Weights::load(gguf, &options).map_err(|e| failed(e.to_string()))?;
    let config = weights.config();
    let kind = match slot.means.ternary.cache_kind {
        CacheKind::F16 => KvKind::F16,
        CacheKind::Int8 => KvKind::Int8,
    };
    let per_position = (config.kv_bytes_per_position(kind) as u64).max(1);
    let context = context_wanted(config.context_length as u64, &slot.means.ternary);
    let room = slot.memory_bytes_max.saturating_sub(weights.weight_bytes()) / per_position;
    let wanted = match slot.means.ternary.cache_positions {
        0 => context.saturating_mul(CONTEXTS_AUTO),
        set => set as u64,
    };
    let positions = wanted.min(room);
    let context = context.min(positions);
    if context < context_wanted(config.context_length as u64, &slot.means.ternary).min(CONTEXT_MIN)
    {
        return Err(EngineError::TooBig {
            model: model.id.clone(),
            needed_bytes: weights
                .weight_bytes()
                .saturating_add(CONTEXT_MIN * per_position),
            budget_bytes: slot.memory_bytes_max,
        });
    }
    let options = CacheOptions {
        positions_max: positions as usize,
        kind,
    };
    let (vocabulary, weight_bytes) = (config.n_vocab, weights.weight_bytes());
    let threads = Arc::clone(&slot.threads);
    let (compute, cache) =
        Compute::open(weights, options, threads, device, on_gpu).map_err(&failed)?;
    let facts = Facts {
        engine: CARD.name,
        context_length: context as usize,
        memory_bytes: weight_bytes.saturating_add(cache.bytes()),
        template,
    };
    let settings = &slot.means.ternary;
    let admission = Admission::new(settings.active_max.saturating_add(settings.queue_max));
    let limits = SchedulerLimits {
        active_max: settings.active_max,
        prefill_tokens: settings.prefill_tokens,
        kept_max: settings.kept_max,
    };
    let scheduler = Scheduler::new(
        compute,
        Arc::clone(&tokenizer),
        cache,
        limits,
        Arc::clone(&admission),
    );
    let (jobs, inbox) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("ternary".to_owned())
        .spawn(move || scheduler.run(inbox))
        .map_err(|error| failed(error.to_string()))?;
    Ok(TernarySession::new(
        facts, tokenizer, vocabulary, admission, jobs, thread,
    ))
}

/// What the slot's lane computes on: [`None`] is whatever the settings and this machine give.
///
/// # Errors
/// A GPU whose kernels are not compiled, found out before anything is read.
fn wanted_device(slot: &Slot) -> Result<Option<Device>, String> {
    match slot.lane {
        "" => Ok(None),
        name if name == LANE.name => Ok(Some(Device::Processor)),
        _ => match gpu::entries(&slot.means.kernels) {
            Ok(entries) if entries.is_empty() => {
                Err("its kernels are not compiled; run `onebit kernels compile`".into())
            }
            // Which one is missing or broken is told when it is loaded.
            Ok(_) | Err(_) => Ok(Some(Device::Gpu)),
        },
    }
}

/// Whether the output head is quantised anew for finding greedy tokens in two steps. Where a file has fewer than 16 bits
/// that gains little and rounds a second time. Only ternary models have all other activations in eight bits by their
/// training; on SmolLM2, widened, the head alone chooses another token at 2.8 % of positions. A GPU reads the file's own
/// head, which is never so wide.
fn two_step_head(gguf: &Gguf, architecture: &str, kind: HeadKind) -> bool {
    let head = ["output.weight", "token_embd.weight"]
        .into_iter()
        .find_map(|name| gguf.tensor(name));
    match kind {
        HeadKind::TwoStep => true,
        HeadKind::File => false,
        HeadKind::Auto if !architecture.starts_with("bitnet") => false,
        HeadKind::Auto => head.is_some_and(|head| {
            let wide = [TensorKind::F32, TensorKind::F16, TensorKind::Bf16];
            wide.contains(&head.info.kind)
        }),
    }
}

/// The model's own chat template with the markers that it may write.
fn template(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Option<Template>, String> {
    let source = gguf
        .optional_str("tokenizer.chat_template")
        .map_err(|e| e.to_string())?;
    let text = |id: Option<u32>| {
        id.map(|id| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned())
            .unwrap_or_default()
    };
    Ok(source.map(|source| Template {
        source: source.to_owned(),
        bos: text(tokenizer.bos()),
        eos: text(tokenizer.eos()),
    }))
}

#[cfg(test)]
mod fit_tests {
    use super::*;
    use std::path::PathBuf;

    fn model(architecture: &str, context_length: u64) -> Model {
        Model {
            id: "m".into(),
            name: "m".into(),
            format: ModelFormat::Gguf,
            path: PathBuf::from("/nowhere"),
            file_bytes: 1000,
            sha256: String::new(),
            architecture: architecture.into(),
            quantisation: "Q4_1".into(),
            context_length,
            kv_bytes_per_position: 10,
            has_template: true,
            imported_at: 0,
        }
    }

    #[test]
    fn fit_counts_weights_and_cache_and_refuses_by_name() {
        let machine = Machine {
            cores: 2,
            memory_total_bytes: 1 << 30,
            memory_available_bytes: 1 << 30,
        };
        let mut settings = TernaryConfig::default();
        let fit = |m: &Model, s: &TernaryConfig| {
            let ternary = s.clone();
            Ternary.fit(
                m,
                &machine,
                &Means {
                    ternary,
                    ..Means::default()
                },
            )
        };
        let runs = |min: u64, like: u64| Fit::Runs {
            memory_bytes_min: min,
            memory_bytes: like,
        };
        assert_eq!(
            fit(&model("llama", 1024), &settings),
            runs(1000 + 10_240, 1000 + 40_960)
        );
        assert_eq!(
            fit(&model("llama", 8192), &settings),
            runs(1000 + 20_480, 1000 + 327_680)
        );
        settings.context_max = 512;
        settings.cache_positions = 600;
        settings.cache_kind = CacheKind::Int8;
        assert_eq!(
            fit(&model("llama", 8192), &settings),
            runs(1000 + 2560, 1000 + 3000)
        );
        // What rows in whole blocks take is counted, or a cache of exactly one context would find no room.
        settings.cache_kind = CacheKind::F16;
        assert_eq!(
            fit(&model("bitnet", 512), &settings),
            runs(1125 + 5120, 1125 + 6000)
        );
        let Fit::No { why } = fit(&model("mamba", 1024), &settings) else {
            panic!("mamba fits")
        };
        assert!(why.contains("`mamba`"));
    }
}
