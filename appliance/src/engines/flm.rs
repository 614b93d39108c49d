//! FastFlowLM: language models on the NPU, with all its peculiarities kept inside.
//!
//! It runs one request and dies of a second, dies of answers of one token, answers 200 with an error,
//! cannot reuse a connection, and sees no NPU when the XRT tools' variables are set. So: one slot and
//! our own queue, two tokens asked and one cut, every body searched for an error, a connection for each
//! request, and an environment that holds nothing but what is written here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::child::{ChildSession, Door, Recipe, Seat};
use super::lanes::{Abilities, Lane, Memory, Silicon, Work};
use super::upstream::Endpoint;
use super::{Card, Engine, EngineError, Facts, Fit, Means, Session, Slot, Task};
use crate::domain::{Machine, Model, ModelFormat};
use crate::process::{Launcher, Limits, ProcessError, Spec};

/// Requests that may wait for the one slot; more than that is minutes.
const QUEUE_MAX: usize = 32;
/// Its usual context window.
const CONTEXT: usize = 32_768;
/// `flm list` answers in well under a second.
const LIST_STALL: Duration = Duration::from_secs(10);
/// Its whole list is a few kilobytes.
const LIST_BYTES_MAX: usize = 1 << 20;

/// The engine itself; it holds nothing.
#[derive(Debug)]
pub struct Flm;

static CARD: Card = Card {
    name: "flm",
    tasks: &[Task::Chat],
    formats: &[ModelFormat::Flm],
    device: "npu",
};

/// Its lane.
pub const LANE: Lane = Lane {
    name: "flm.npu",
    silicon: Silicon::Npu,
    works: &[Work::Chat],
    abilities: Abilities::TOOLS,
    slots: 1,
    context_max: CONTEXT,
    memory: Memory::Pinned,
};

impl Engine for Flm {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn lanes(&self, _model: &Model, _means: &Means) -> Vec<Lane> {
        vec![LANE]
    }

    fn fit(&self, model: &Model, _machine: &Machine, means: &Means) -> Fit {
        if let Some(why) = means.probed.trouble("flm") {
            return Fit::No { why: why.into() };
        }
        if means.programs.get("flm").is_none() {
            return Fit::No {
                why: "FastFlowLM is not here; `onebit doctor` says how to get it".into(),
            };
        }
        Fit::Runs {
            memory_bytes_min: model.file_bytes,
            memory_bytes: model.file_bytes,
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
                .get("flm")
                .ok_or_else(|| failed("FastFlowLM is not here"))?;
            let children = slot
                .means
                .children
                .clone()
                .ok_or_else(|| failed("children are not allowed here"))?;
            let facts = Facts {
                engine: CARD.name,
                context_length: CONTEXT,
                memory_bytes: model.file_bytes,
                template: None,
            };
            let session = ChildSession::start(
                recipe(&program.path, &model.id, &model.name),
                children,
                facts,
            )
            .await?;
            Ok(Arc::new(session) as Arc<dyn Session>)
        })
    }
}

/// How to start and treat it. `tag` is FLM's own name of the model, such as `qwen3:0.6b`.
#[must_use]
pub fn recipe(program: &Path, id: &str, tag: &str) -> Recipe {
    let (program, tag) = (program.to_owned(), tag.to_owned());
    Recipe {
        model: id.to_owned(),
        model_inside: tag.clone(),
        door: Door::Port,
        ready_path: "/v1/models",
        slots: 1,
        queue_max: QUEUE_MAX,
        tokens_min: 2,
        command: Box::new(move |seat| command(&program, &tag, seat)),
    }
}

fn command(program: &Path, tag: &str, seat: &Seat) -> Spec {
    let port = match &seat.endpoint {
        Endpoint::Port(address) => address.port(),
        Endpoint::Socket(_) => 0,
    };
    let mut spec = Spec::new(program)
        .args(["serve", tag, "--port"])
        .arg(port.to_string());
    // The NPU's buffers are locked memory.
    spec.limits = Limits {
        memlock_max: true,
        ..Limits::default()
    };
    spec
}

/// One model of `flm list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub tag: String,
    pub installed: bool,
    /// Bytes of memory that it takes, where FLM tells.
    pub bytes: Option<u64>,
    /// Its context window, where FLM tells.
    pub context: Option<u64>,
}

/// Asks FLM which models it knows and has.
pub async fn list(launcher: &Launcher, program: &Path) -> Result<Vec<Listed>, ProcessError> {
    let output = launcher
        .run(
            Spec::new(program).args(["list", "--json"]),
            LIST_BYTES_MAX,
            LIST_STALL,
        )
        .await?;
    Ok(parse_list(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads the JSON of newer versions and the marked lines of older ones.
fn parse_list(text: &str) -> Vec<Listed> {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        let models = value["models"].as_array().cloned().unwrap_or_default();
        let one = |m: &Value| {
            Some(Listed {
                tag: m["name"].as_str()?.to_owned(),
                installed: m["installed"] == true,
                // Gigabytes, with decimals.
                bytes: m["footprint"].as_f64().map(|gb| (gb * 1e9) as u64),
                context: m["default_context_length"].as_u64(),
            })
        };
        return models.iter().filter_map(one).collect();
    }
    let line = |line: &str| {
        let tag = line
            .split_whitespace()
            .find(|word| word.contains(':') && !word.ends_with(':'))?;
        Some(Listed {
            tag: tag.to_owned(),
            installed: line.contains('\u{2705}'),
            bytes: None,
            context: None,
        })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_environment() {
        let seat = Seat {
            endpoint: Endpoint::Port(([127, 0, 0, 1], 5000).into()),
            secret: "s".into(),
        };
        let spec = command(Path::new("/usr/bin/flm"), "qwen3:0.6b", &seat);
        assert_eq!(spec.args, ["serve", "qwen3:0.6b", "--port", "5000"]);
        assert!(spec.env.is_empty() && spec.limits.memlock_max);
        let recipe = recipe(Path::new("/usr/bin/flm"), "a", "b");
        assert_eq!((recipe.slots, recipe.tokens_min), (1, 2));
    }

    #[test]
    fn both_kinds_of_list_are_read() {
        let json = r#"{"models":[{"name":"qwen3:0.6b","installed":true},{"name":"qwen3:4b","installed":false},{"x":1}]}"#;
        let lines = "Models:\n  - qwen3:0.6b \u{2705}\n  - qwen3:4b \u{23ec}\n";
        for text in [json, lines] {
            let list = parse_list(text);
            assert_eq!(
                list[0],
                Listed {
                    tag: "qwen3:0.6b".into(),
                    installed: true,
                    bytes: None,
                    context: None,
                },
                "{text}"
            );
            assert_eq!(
                list[1],
                Listed {
                    tag: "qwen3:4b".into(),
                    installed: false,
                    bytes: None,
                    context: None,
                }
            );
            assert_eq!(list.len(), 2);
        }
        assert!(parse_list("garbage").is_empty());
    }
}
