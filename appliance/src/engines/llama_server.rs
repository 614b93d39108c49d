//! llama.cpp's server: any GGUF, on Vulkan, ROCm or the CPU, whatever the build in place can do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::child::{ChildSession, Door, Recipe, Seat};
use super::lanes::{Abilities, Lane, Memory, Silicon, Work};
use super::upstream::Endpoint;
use super::{Card, Engine, EngineError, Facts, Fit, Means, Session, Slot, Task};
use crate::domain::{Machine, Model, ModelFormat};
use crate::process::{Limits, Sandbox, Spec};

/// Answers made at once. llama-server shares its context among them, and decodes them as one batch.
pub const SLOTS: usize = 4;
/// Requests that may wait for one of them.
const QUEUE_MAX: usize = 256;
/// Positions of all slots together when the owner sets none: four conversations of 8k.
const CONTEXT_AUTO: u64 = 32_768;
/// Positions below which it is not worth starting.
const CONTEXT_MIN: u64 = 2048;

/// The engine itself; it holds nothing.
#[derive(Debug)]
pub struct LlamaServer;

static CARD: Card = Card {
    name: "llama-server",
    tasks: &[Task::Chat, Task::Embed, Task::Rank],
    formats: &[ModelFormat::Gguf],
    device: "gpu or cpu",
};

/// Its lanes; which of them this machine has its build says, see [`super::probe`].
pub const VULKAN: Lane = lane("llama.vulkan", Silicon::Igpu, Memory::Gtt);
/// With AMD's own libraries.
pub const ROCM: Lane = lane("llama.rocm", Silicon::Igpu, Memory::Gtt);
/// With NVIDIA's.
pub const CUDA: Lane = lane("llama.cuda", Silicon::Dgpu, Memory::Vram);
/// What every build can do.
pub const CPU: Lane = lane("llama.cpu", Silicon::Cpu, Memory::Ram);

const fn lane(name: &'static str, silicon: Silicon, memory: Memory) -> Lane {
    Lane {
        name,
        silicon,
        works: &[Work::Chat, Work::Embed],
        // It sees with a projector, which no model here brings.
        abilities: Abilities::ALL.without(Abilities::VISION),
        slots: SLOTS,
        context_max: 1 << 20,
        memory,
    }
}

impl Engine for LlamaServer {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn lanes(&self, _model: &Model, means: &Means) -> Vec<Lane> {
        means.probed.llama().to_vec()
    }

    fn fit(&self, model: &Model, _machine: &Machine, means: &Means) -> Fit {
        if let Some(why) = means.probed.trouble("llama-server") {
            return Fit::No { why: why.into() };
        }
        if means.programs.get("llama-server").is_none() {
            return Fit::No {
                why: "llama-server is not here; run `onebit engines build llama.cpp`".into(),
            };
        }
        let bytes = |positions: u64| {
            let cache = positions.saturating_mul(model.kv_bytes_per_position);
            // Compute buffers: 3 to 6 % of the weights, and never below some 64 MiB.
            model
                .file_bytes
                .saturating_add(cache)
                .saturating_add((model.file_bytes / 16).max(64 << 20))
        };
        let context = context(model.context_length);
        Fit::Runs {
            memory_bytes_min: bytes(context.min(CONTEXT_MIN)),
            memory_bytes: bytes(context),
        }
    }

    fn load<'a>(
        &'a self,
        model: &'a Model,
        slot: Slot,
    ) -> BoxFuture<'a, Result<Arc<dyn Session>, EngineError>> {
        Box::pin(async move {
            let failed = |why: &str| EngineError::LoadFailed {
                model: model.id.clone(),
                why: why.into(),
            };
            let program = slot
                .means
                .programs
                .get("llama-server")
                .ok_or_else(|| failed("llama-server is not here"))?;
            let children = slot
                .means
                .children
                .clone()
                .ok_or_else(|| failed("children are not allowed here"))?;
            let spare = slot.memory_bytes_max.saturating_sub(
                model
                    .file_bytes
                    .saturating_add((model.file_bytes / 16).max(64 << 20)),
            );
            let room = spare
                .checked_div(model.kv_bytes_per_position)
                .unwrap_or(CONTEXT_AUTO);
            let context = context(model.context_length).min(room.max(CONTEXT_MIN));
            let (path, program, threads) = (
                model.path.clone(),
                program.path.clone(),
                slot.threads.count(),
            );
            let on_gpu = !matches!(slot.lane, "" | "llama.cpu");
            let only = only(model);
            let recipe = Recipe {
                model: model.id.clone(),
                model_inside: model.id.clone(),
                door: Door::Socket,
                ready_path: "/health",
                slots: SLOTS,
                queue_max: QUEUE_MAX,
                tokens_min: 0,
                command: Box::new(move |seat| {
                    command(&program, &path, context, threads, on_gpu, seat).args(only)
                }),
            };
            let facts = Facts {
                engine: CARD.name,
                // What one of the slots can use alone: they share one cache.
                context_length: usize::try_from(context).unwrap_or(usize::MAX),
                memory_bytes: model
                    .file_bytes
                    .saturating_add(context.saturating_mul(model.kv_bytes_per_position)),
                // It applies the model's own template.
                template: None,
            };
            let session = ChildSession::start(recipe, children, facts).await?;
            Ok(Arc::new(session) as Arc<dyn Session>)
        })
    }
}

fn context(trained: u64) -> u64 {
    if trained == 0 {
        CONTEXT_AUTO
    } else {
        trained.min(CONTEXT_AUTO)
    }
}

/// What the server must be told of a model that judges pairs of texts, which it is known by its name for.
fn only(model: &Model) -> Option<&'static str> {
    let called = format!("{} {}", model.id, model.name).to_lowercase();
    called.contains("rerank").then_some("--reranking")
}

/// The child for one model on one socket.
pub fn command(
    program: &Path,
    model: &Path,
    context: u64,
    threads: usize,
    on_gpu: bool,
    seat: &Seat,
) -> Spec {
    // All layers or none: what does not fit is another lane's.
    let device: &[&str] = match on_gpu {
        true => &["--gpu-layers", "999"],
        false => &["--device", "none"],
    };
    let mut spec = Spec::new(program)
        .arg("--model")
        .arg(model)
        .args(["--ctx-size".to_owned(), context.to_string()])
        .args([
            "--parallel".to_owned(),
            SLOTS.to_string(),
            "--kv-unified".to_owned(),
        ])
        .args(["--threads".to_owned(), threads.to_string()])
        .args(device.iter().copied())
        .args(["--jinja", "--reasoning-format", "none"])
        .args(["--no-ui", "--offline", "--log-colors", "off"])
        // Vectors as well as words; which a model gives well is the model's matter.
        .arg("--embeddings");
    let mut writable = None;
    spec = match &seat.endpoint {
        Endpoint::Socket(path) => {
            writable = path.parent().map(Path::to_owned);
            spec.arg("--host").arg(path)
        }
        Endpoint::Port(address) => spec.args([
            "--host".to_owned(),
            address.ip().to_string(),
            "--port".to_owned(),
            address.port().to_string(),
        ]),
    };
    let mut sandbox = Sandbox::system().reading(model);
    sandbox.read.extend(program.parent().map(Path::to_owned));
    sandbox.write.extend(writable);
    // Shader caches of the drivers.
    sandbox.write.push("/tmp".into());
    spec = spec.sandbox(sandbox).env("LLAMA_API_KEY", &seat.secret);
    spec.limits = Limits {
        memlock_max: true,
        ..Limits::default()
    };
    // Freeing some ten gigabytes of pinned memory takes a second or two.
    spec.grace = Duration::from_secs(5);
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line() {
        let seat = Seat {
            endpoint: Endpoint::Socket("/run/o/1.sock".into()),
            secret: "s3cret".into(),
        };
        let spec = command(
            Path::new("/opt/llama-server"),
            Path::new("/m/a b.gguf"),
            8192,
            4,
            true,
            &seat,
        );
        let line: Vec<_> = spec.args.iter().map(|a| a.to_string_lossy()).collect();
        assert_eq!(
            line.join(" "),
            "--model /m/a b.gguf --ctx-size 8192 --parallel 4 --kv-unified --threads 4 --gpu-layers 999 --jinja \
             --reasoning-format none --no-ui --offline --log-colors off --embeddings --host /run/o/1.sock"
        );
        assert!(
            !line.iter().any(|a| a.contains("s3cret")),
            "the secret must not be in the argument list"
        );
        assert_eq!(spec.env, [("LLAMA_API_KEY".to_owned(), "s3cret".into())]);
        let sandbox = spec.sandbox.unwrap();
        assert!(
            sandbox.read.contains(&"/m/a b.gguf".into())
                && sandbox.write.contains(&"/run/o".into())
        );
    }
}
