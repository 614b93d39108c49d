//! `POST /api/generate`.
//!
//! `context` is opaque to clients, who only send back what they got. Here it is the conversation itself, as
//! bytes of JSON, so that it holds for any engine and any model; one made by another server is refused.

use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::cited;
use super::super::failure::Failure;
use super::chat::{can_see, can_think, may_unload, touch};
use super::messages;
use super::options::{self, Options};
use super::reply::{Form, Reply};
use super::{Ollama, OllamaError, find};
use crate::app::{App, AppError, Gap};
use crate::domain::{ChatRequest, Input, Message, Peer, Role};

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct GenerateBody {
    #[serde(default)]
    model: String,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    suffix: String,
    #[serde(default)]
    system: String,
    #[serde(default)]
    template: String,
    context: Option<Vec<i64>>,
    stream: Option<bool>,
    #[serde(default)]
    raw: bool,
    images: Option<Vec<Value>>,
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

impl Wire for GenerateBody {
    type Dialect = Ollama;
}

/// What was said so far, for `context`.
pub(super) struct Conversation(Vec<Message>);

impl Conversation {
    /// Reads what [`Conversation::context`] wrote.
    fn read(context: &[i64]) -> Result<Conversation, RequestError> {
        let foreign = || {
            let why = "was not made by this appliance; send the conversation to /api/chat";
            RequestError::field("context", why)
        };
        let bytes: Vec<u8> = context
            .iter()
            .map(|&byte| u8::try_from(byte).map_err(|_| foreign()))
            .collect::<Result<_, _>>()?;
        if bytes.is_empty() {
            return Ok(Conversation(Vec::new()));
        }
        let pairs: Vec<(String, String)> = serde_json::from_slice(&bytes).map_err(|_| foreign())?;
        let message = |(role, content): (String, String)| {
            Ok(Message::new(
                Role::parse(&role).ok_or_else(foreign)?,
                content,
            ))
        };
        let messages: Result<_, RequestError> = pairs.into_iter().map(message).collect();
        Ok(Conversation(messages?))
    }

    /// The conversation with the answer, as numbers.
    pub(super) fn context(&self, answer: &str) -> Vec<u8> {
        let said = self.0.iter();
        let mut pairs: Vec<Value> = said
            .map(|message| json!([message.role.as_str(), message.content]))
            .collect();
        pairs.push(json!([Role::Assistant.as_str(), answer]));
        Value::from(pairs).to_string().into_bytes()
    }

    /// Adds a question. A system text replaces the one before.
    fn ask(&mut self, system: String, prompt: String) {
        if !system.is_empty() {
            self.0.retain(|message| message.role != Role::System);
            self.0.insert(0, Message::new(Role::System, system));
        }
        self.0.push(Message::new(Role::User, prompt));
    }
}

pub(in super::super) async fn answer(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<GenerateBody>,
) -> Result<Response, Failure<Ollama>> {
    let arrived = Instant::now();
    if body.model.is_empty() {
        return Err(RequestError::field("model", "is required").into());
    }
    let model = find(&app, &body.model).await?;
    let context = body.context.unwrap_or_default();
    let framed = !body.template.is_empty() || !body.system.is_empty() || !context.is_empty();
    if body.raw && framed {
        let why = "mode does not support template, system, or context";
        return Err(RequestError::field("raw", why).into());
    }
    if !body.template.is_empty() {
        let why = "the model's own is used; send text in your own form with `raw`";
        return Err(RequestError::Unsupported {
            param: "template",
            why,
        }
        .into());
    }
    let named = model.id.clone();
    let cannot = |what| OllamaError::Cannot {
        model: named.clone(),
        what,
    };
    let mut pictures = messages::pictures(body.images.unwrap_or_default())?;
    let keep = options::keep(body.keep_alive.as_ref())?;
    let mut reply = Reply {
        model: body.model,
        form: Form::Generate(None),
        stream: body.stream.unwrap_or(true),
        keep: keep.by(&peer),
        arrived,
    };
    if body.prompt.is_empty() {
        return Ok(touch(&app, &peer, &model, keep, reply).await?);
    }
    may_unload(&peer, keep)?;
    // A model without a template reads plain text whichever way it is asked.
    let input = if !body.suffix.is_empty() {
        let gap = Gap {
            before: body.prompt,
            after: body.suffix,
            ..Gap::default()
        };
        match app.gap_prompt(&model.id, &gap).await {
            Err(AppError::FillsNoGaps(_)) => return Err(cannot("insert").into()),
            tokens => Input::Tokens(tokens.map_err(OllamaError::from)?),
        }
    } else if body.raw || !model.has_template {
        Input::Text {
            text: body.prompt,
            parse_special: true,
        }
    } else {
        let mut conversation = Conversation::read(&context)?;
        conversation.ask(body.system, body.prompt);
        let mut messages = conversation.0.clone();
        if let Some(question) = messages.last_mut() {
            question.pictures = std::mem::take(&mut pictures);
        }
        reply.form = Form::Generate(Some(conversation));
        Input::Messages(messages)
    };
    let options = Options(body.options.unwrap_or_default());
    let thinking = options::thinking(body.think)?;
    can_think(&app, &model, thinking).await?;
    let request = ChatRequest {
        sampling: options.sampling()?,
        limits: options.limits()?,
        logprobs: options::logprobs(body.logprobs, body.top_logprobs)?,
        shape: options::shape(body.format)?,
        thinking,
        shelf: cited::shelf(&peer, body.collections),
        overflow: options::overflow(body.truncate),
        ..ChatRequest::new(model.id, input)
    };
    can_see(&app, &request).await?;
    if !pictures.is_empty() {
        // They had no message to stand in.
        return Err(cannot("vision").into());
    }
    Ok(reply.answer(app, request).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_brings_the_conversation_back() {
        let mut first = Conversation::read(&[]).unwrap();
        first.ask("be kind".into(), "hi ☀".into());
        let context: Vec<i64> = first.context("hello").into_iter().map(i64::from).collect();
        let mut second = Conversation::read(&context).unwrap();
        second.ask("be brief".into(), "again".into());
        let said: Vec<_> = second.0.iter().map(|m| (m.role, &*m.content)).collect();
        assert_eq!(
            said,
            [
                (Role::System, "be brief"),
                (Role::User, "hi ☀"),
                (Role::Assistant, "hello"),
                (Role::User, "again")
            ]
        );
    }

    #[test]
    fn a_context_from_elsewhere_is_refused() {
        for foreign in [&[151_644, 872][..], &[1, 2, 3], &[-1]] {
            let error = Conversation::read(foreign).err().unwrap().to_string();
            assert!(error.contains("/api/chat"), "{error}");
        }
    }
}
