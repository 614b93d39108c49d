//! Any OpenAI-compatible server elsewhere, another onebit among them, as one more engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

use super::lanes::{Abilities, Lane, Memory, Silicon, Work};
use super::upstream::openai::{self, Translator};
use super::upstream::{Upstream, UpstreamError, sse};
use super::{Card, Engine, EngineError, Events, Facts, Fit, Load, Means, Session, Slot, Task};
use crate::domain::{ChatEvent, ChatRequest, Machine, Model, ModelFormat};
use crate::fetch::Fetch;

/// Requests sent there at once; the other side has its own queue.
const SLOTS: usize = 8;
/// Silence allowed: somebody else's model may have to be loaded first.
const SILENCE: Duration = Duration::from_secs(120);
/// A list comes at once, or its server is not there.
const LIST_SILENCE: Duration = Duration::from_secs(15);
/// Events between reader and writer.
const EVENTS_AHEAD: usize = 64;

/// The engine itself; it holds nothing.
#[derive(Debug)]
pub struct Remote;

static CARD: Card = Card {
    name: "remote",
    tasks: &[Task::Chat],
    formats: &[ModelFormat::Remote],
    device: "elsewhere",
};

/// Its lane.
pub const LANE: Lane = Lane {
    name: "remote",
    silicon: Silicon::Away,
    works: &[Work::Chat],
    abilities: Abilities::ALL,
    slots: SLOTS,
    context_max: 1 << 20,
    memory: Memory::None,
};

impl Engine for Remote {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn lanes(&self, _model: &Model, _means: &Means) -> Vec<Lane> {
        vec![LANE]
    }

    fn fit(&self, _model: &Model, _machine: &Machine, means: &Means) -> Fit {
        match &means.fetch {
            Some(fetch) if !fetch.offline() => Fit::Runs {
                memory_bytes_min: 0,
                memory_bytes: 0,
            },
            Some(_) => Fit::No {
                why: "offline is set".into(),
            },
            None => Fit::No {
                why: "nothing may leave this machine".into(),
            },
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
            let fetch = slot
                .means
                .fetch
                .clone()
                .ok_or_else(|| failed("nothing may leave this machine"))?;
            let base = model
                .path
                .to_str()
                .ok_or_else(|| failed("its address is no text"))?;
            let key = key(&slot.means.remotes, &model.id).map_err(|why| failed(&why))?;
            let upstream = Upstream::away(fetch, base, key);
            Ok(Arc::new(RemoteSession::new(upstream, model)) as Arc<dyn Session>)
        })
    }
}

/// Where the key of a model elsewhere lies.
#[must_use]
pub fn key_file(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.key"))
}

fn key(folder: &Path, id: &str) -> Result<Option<String>, String> {
    let path = key_file(folder, id);
    match std::fs::read_to_string(&path) {
        Ok(key) => Ok(Some(key)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// What a server lists at `/v1/models`.
///
/// # Errors
/// It cannot be reached, or answers with something else.
pub async fn list(
    fetch: Fetch,
    base: &str,
    key: Option<String>,
) -> Result<Vec<Value>, UpstreamError> {
    let upstream = Upstream::away(fetch, base, key);
    let mut answer = upstream.get("/v1/models", LIST_SILENCE).await?;
    let bytes = answer.bytes(LIST_SILENCE).await?;
    let garbage = |why: String| UpstreamError::Garbage { why };
    let mut body: Value = serde_json::from_slice(&bytes).map_err(|e| garbage(e.to_string()))?;
    match body["data"].take() {
        Value::Array(entries) => Ok(entries),
        _ => Err(garbage("its /v1/models is no list".into())),
    }
}

/// A model elsewhere. Nothing is held here but the way to it.
pub struct RemoteSession {
    upstream: Upstream,
    /// The model's name over there.
    name: String,
    facts: Facts,
    slots: Arc<Semaphore>,
}

impl RemoteSession {
    fn new(upstream: Upstream, model: &Model) -> Self {
        let context_length = match model.context_length {
            // It does not tell; it will refuse what is too long.
            0 => LANE.context_max,
            tokens => usize::try_from(tokens).unwrap_or(usize::MAX),
        };
        let facts = Facts {
            engine: CARD.name,
            context_length,
            memory_bytes: 0,
            template: None,
        };
        Self {
            upstream,
            name: model.name.clone(),
            facts,
            slots: Arc::new(Semaphore::new(SLOTS)),
        }
    }
}

impl Session for RemoteSession {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn load(&self) -> Load {
        Load {
            active: SLOTS - self.slots.available_permits(),
            waiting: 0,
        }
    }

    fn chat(&self, request: ChatRequest) -> Result<Events, EngineError> {
        openai::check_shape(&request.shape)?;
        let (events, receiver) = mpsc::channel(EVENTS_AHEAD);
        let (upstream, name, slots) =
            (self.upstream.clone(), self.name.clone(), self.slots.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = events.closed() => {}
                outcome = answer(&upstream, &name, &slots, &request, &events) => if let Err(error) = outcome {
                    let error = match error {
                        UpstreamError::TooLong { tokens, context } => EngineError::PromptTooLong { tokens, context },
                        other => EngineError::Failed(other.to_string()),
                    };
                    // Nobody is left to be told when this fails.
                    let _ = events.send(Err(error)).await;
                }
            }
        });
        Ok(Box::pin(stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|event| (event, receiver))
        })))
    }
}

async fn answer(
    upstream: &Upstream,
    name: &str,
    slots: &Semaphore,
    request: &ChatRequest,
    events: &mpsc::Sender<Result<ChatEvent, EngineError>>,
) -> Result<(), UpstreamError> {
    let arrived = Instant::now();
    let _slot = slots
        .acquire()
        .await
        .map_err(|e| UpstreamError::Broken { why: e.to_string() })?;
    let begun = Instant::now();
    let (path, body) = openai::request(request, name, 0);
    let mut answer = upstream.post(path, &body, SILENCE).await?;
    let mut translator = Translator::default();
    let mut parser = sse::Parser::default();
    let mut first = None;
    while !translator.is_done() {
        let Some(chunk) = answer.chunk(SILENCE).await? else {
            break;
        };
        let mut found = Vec::new();
        parser
            .push(&chunk, |data| found.push(translator.frame(data)))
            .map_err(|e| UpstreamError::Garbage { why: e.to_string() })?;
        for event in found {
            for event in event? {
                first.get_or_insert_with(Instant::now);
                if events.send(Ok(event)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    let first = first.unwrap_or_else(Instant::now);
    let end = translator.finish(begun - arrived, first - begun, first.elapsed());
    let end = end.map_err(|error| parser.plain_error().unwrap_or(error))?;
    // The client may have left just before the end.
    let _ = events.send(Ok(end)).await;
    Ok(())
}
