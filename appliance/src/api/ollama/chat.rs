//! `POST /api/chat`.
//!
//! Ignored, because they change nothing here: `shift` (an answer ends where its context does), `num_ctx` and the rest
//! of what [`super::options`] names.

use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::body::{Body, RequestError, Wire};
use super::super::cited;
use super::super::failure::Failure;
use super::messages::{self, MessageBody, ToolBody};
use super::options::{self, Keep, Options};
use super::reply::{Form, Reply};
use super::{Ollama, OllamaError, find};
use crate::app::App;
use crate::domain::{ChatRequest, Input, Model, Peer, Scope};

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct ChatBody {
    #[serde(default)]
    model: String,
    #[serde(default)]
    messages: Vec<MessageBody>,
    tools: Option<Vec<ToolBody>>,
    stream: Option<bool>,
    format: Option<Value>,
    options: Option<Map<String, Value>>,
    think: Option<Value>,
    keep_alive: Option<Value>,
    #[serde(default)]
    logprobs: bool,
    top_logprobs: Option<i64>,
    /// Documents to answer from: collections by identifier, or an empty list for all. Not Ollama's own.
    collections: Option<Vec<String>>,
    /// Whether the oldest turns are left out of a conversation that is too long; so it is unless this is false.
    truncate: Option<bool>,
}

impl Wire for ChatBody {
    type Dialect = Ollama;
}

pub(in super::super) async fn answer(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<ChatBody>,
) -> Result<Response, Failure<Ollama>> {
    let arrived = Instant::now();
    if body.model.is_empty() {
        return Err(RequestError::field("model", "is required").into());
    }
    let model = find(&app, &body.model).await?;
    let keep = options::keep(body.keep_alive.as_ref())?;
    let reply = Reply {
        model: body.model,
        form: Form::Chat,
        stream: body.stream.unwrap_or(true),
        keep: keep.by(&peer),
        arrived,
    };
    if body.messages.is_empty() {
        return Ok(touch(&app, &peer, &model, keep, reply).await?);
    }
    may_unload(&peer, keep)?;
    let messages = messages::messages(body.messages)?;
    let options = Options(body.options.unwrap_or_default());
    let thinking = options::thinking(body.think)?;
    can_think(&app, &model, thinking).await?;
    let request = ChatRequest {
        sampling: options.sampling()?,
        limits: options.limits()?,
        logprobs: options::logprobs(body.logprobs, body.top_logprobs)?,
        tools: messages::tools(body.tools.unwrap_or_default())?,
        shape: options::shape(body.format)?,
        thinking,
        shelf: cited::shelf(&peer, body.collections),
        overflow: options::overflow(body.truncate),
        ..ChatRequest::new(model.id, Input::Messages(messages))
    };
    can_see(&app, &request).await?;
    Ok(reply.answer(app, request).await?)
}

/// A request without a question loads the model, or unloads it.
pub(super) async fn touch(
    app: &App,
    peer: &Peer,
    model: &Model,
    keep: Keep,
    reply: Reply,
) -> Result<Response, OllamaError> {
    may_unload(peer, keep)?;
    if keep.unloads() {
        keep.settle(app, &model.id).await?;
        return Ok(reply.silent("unload"));
    }
    app.load(&model.id).await?;
    reply.keep.settle(app, &model.id).await?;
    Ok(reply.silent("load"))
}

/// Whoever only chats must not take a model away from others.
pub(super) fn may_unload(peer: &Peer, keep: Keep) -> Result<(), OllamaError> {
    match keep.unloads() && !peer.holds(Scope::Owner) {
        true => Err(OllamaError::NotOwner),
        false => Ok(()),
    }
}

/// Refuses pictures where no lane of the model sees them.
pub(super) async fn can_see(app: &App, request: &ChatRequest) -> Result<(), OllamaError> {
    if !request.shows_pictures() || app.sees(&request.model).await? {
        return Ok(());
    }
    Err(OllamaError::Cannot {
        model: request.model.clone(),
        what: "vision",
    })
}

/// Refuses thinking of a model that knows no thinking.
pub(super) async fn can_think(
    app: &App,
    model: &Model,
    thinking: Option<bool>,
) -> Result<(), OllamaError> {
    // Models that are no file here have no template to look into.
    if thinking != Some(true) || !model.has_template || app.details(model).await?.thinks() {
        return Ok(());
    }
    Err(OllamaError::Cannot {
        model: model.id.clone(),
        what: "thinking",
    })
}
