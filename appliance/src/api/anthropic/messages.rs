//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.
//!
//! Ignored, because they change nothing here: `metadata`, `cache_control`, `service_tier`, `container`,
//! `context_management`, `mcp_servers` without servers, `betas`, and the budget of `thinking`, which is checked and
//! cannot be enforced.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::super::answers::{ask, first_word};
use super::super::body::{Body, RequestError, Wire};
use super::super::cited;
use super::super::failure::{Failure, json as answer_json};
use super::super::outgrown::overflow;
use super::content::{self, Content, MessageBody};
use super::tools::{self, ChoiceBody, OutputBody, ToolBody};
use super::{Anthropic, answer::whole, events::stream};
use crate::app::{App, new_id};
use crate::domain::{ChatRequest, Input, Limits, Overflow, Peer, Sampling};

/// The smallest budget that Anthropic takes for thinking.
const THINKING_BUDGET_MIN: i64 = 1024;

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct MessagesBody {
    #[serde(default)]
    model: String,
    #[serde(default)]
    messages: Vec<MessageBody>,
    system: Option<Content>,
    max_tokens: Option<i64>,
    #[serde(default)]
    stream: bool,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    stop_sequences: Option<Vec<String>>,
    tools: Option<Vec<ToolBody>>,
    tool_choice: Option<ChoiceBody>,
    thinking: Option<ThinkingBody>,
    output_config: Option<OutputBody>,
    mcp_servers: Option<Vec<serde_json::Value>>,
    /// Documents to answer from: collections by identifier, or an empty list for all. Not Anthropic's own.
    collections: Option<Vec<String>>,
    /// `auto` leaves the oldest turns out of a conversation that is too long; `disabled`, the default, refuses it. Not
    /// Anthropic's own.
    truncation: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct ThinkingBody {
    r#type: String,
    budget_tokens: Option<i64>,
}

impl Wire for MessagesBody {
    type Dialect = Anthropic;
}

/// What is common to asking and counting.
impl TryFrom<MessagesBody> for ChatRequest {
    type Error = RequestError;

    fn try_from(body: MessagesBody) -> Result<ChatRequest, RequestError> {
        if body.mcp_servers.is_some_and(|servers| !servers.is_empty()) {
            return Err(RequestError::Unsupported {
                param: "mcp_servers",
                why: "this route calls no servers; offer their tools in `tools`",
            });
        }
        let tools = tools::tools(body.tools.unwrap_or_default())?;
        let tool_choice = tools::choice(body.tool_choice, &tools)?;
        let stop = body.stop_sequences.unwrap_or_default();
        if stop.iter().any(|text| text.trim().is_empty()) {
            return Err(RequestError::field(
                "stop_sequences",
                "holds a text of nothing but white space",
            ));
        }
        Ok(ChatRequest {
            sampling: Sampling {
                temperature: share("temperature", body.temperature)?,
                top_p: share("top_p", body.top_p)?,
                top_k: body
                    .top_k
                    .map(|k| u32::try_from(k.max(0)).unwrap_or(u32::MAX)),
                ..Sampling::default()
            },
            limits: Limits {
                tokens_max: body.max_tokens.and_then(|n| usize::try_from(n).ok()),
                stop,
                ignore_end: false,
            },
            thinking: Some(thinks(body.thinking, body.max_tokens)?),
            tools,
            tool_choice,
            shape: tools::shape(body.output_config)?,
            overflow: overflow(body.truncation.as_deref(), Overflow::Refuse)?,
            ..ChatRequest::new(
                body.model,
                Input::Messages(content::conversation(body.system, body.messages)?),
            )
        })
    }
}

/// Whether the model is to think first; without `thinking` it is not, as at Anthropic.
fn thinks(body: Option<ThinkingBody>, max_tokens: Option<i64>) -> Result<bool, RequestError> {
    let wrong = |why: String| Err(RequestError::field("thinking", why));
    let Some(body) = body else { return Ok(false) };
    match (body.r#type.as_str(), body.budget_tokens) {
        ("disabled", _) => Ok(false),
        ("adaptive", _) => Ok(true),
        ("enabled", None) => wrong("that is enabled needs `budget_tokens`".to_owned()),
        ("enabled", Some(budget)) if budget < THINKING_BUDGET_MIN => wrong(format!(
            "has a budget of {budget} tokens; it must be at least {THINKING_BUDGET_MIN}"
        )),
        ("enabled", Some(budget)) if max_tokens.is_some_and(|max| budget >= max) => wrong(format!(
            "has a budget of {budget} tokens, which must be smaller than `max_tokens`"
        )),
        ("enabled", Some(_)) => Ok(true),
        (other, _) => wrong(format!(
            "is of the type `{other}`; it can be enabled, adaptive or disabled"
        )),
    }
}

fn share(param: &'static str, value: Option<f32>) -> Result<Option<f32>, RequestError> {
    match value {
        Some(v) if !(0.0..=1.0).contains(&v) => Err(RequestError::field(
            param,
            format!("must be between 0 and 1, not {v}"),
        )),
        value => Ok(value),
    }
}

pub(in super::super) async fn answer(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(mut body): Body<MessagesBody>,
) -> Result<Response, Failure<Anthropic>> {
    match body.max_tokens {
        None => return Err(RequestError::field("max_tokens", "is required").into()),
        Some(..1) => return Err(RequestError::field("max_tokens", "must be at least 1").into()),
        Some(_) => {}
    }
    let streamed = body.stream;
    let shelf = cited::shelf(&peer, body.collections.take());
    let mut request = ChatRequest::try_from(body)?;
    request.shelf = shelf;
    request.model = app.name(&request.model).await?;
    if request.shows_pictures() && !app.sees(&request.model).await? {
        return Err(no_pictures("this model does not read images").into());
    }
    let head = Head {
        id: format!("msg_{}", new_id()?),
        model: request.model.clone(),
        stops: request.limits.stop.clone(),
    };
    let mut events = ask(&app, vec![request]);
    first_word(&mut events).await?;
    if streamed {
        return Ok(stream(head, events));
    }
    Ok(answer_json(StatusCode::OK, &whole(head, events).await?))
}

pub(in super::super) async fn count(
    State(app): State<App>,
    Body(body): Body<MessagesBody>,
) -> Result<Response, Failure<Anthropic>> {
    let request = ChatRequest::try_from(body)?;
    if request.shows_pictures() {
        return Err(no_pictures("the tokens of images are not known before they are read").into());
    }
    let tokens = app.count(request).await?;
    Ok(answer_json(
        StatusCode::OK,
        &json!({ "input_tokens": tokens }),
    ))
}

fn no_pictures(why: &'static str) -> RequestError {
    let param = "messages";
    RequestError::Unsupported { param, why }
}

/// What a message is called, and what may have ended it.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) stops: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Shape, ToolChoice};
    use serde_json::Value;

    fn parse(changes: Value) -> Result<ChatRequest, String> {
        let mut body = json!({
            "model": "m", "max_tokens": 5000, "messages": [{"role": "user", "content": "x"}]
        });
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        let body: MessagesBody = serde_json::from_value(body).map_err(|error| error.to_string())?;
        ChatRequest::try_from(body).map_err(|error| error.to_string())
    }

    #[test]
    fn every_field_finds_its_place() {
        let request = parse(json!({
            "temperature": 0.5, "top_p": 0.9, "top_k": 4, "stop_sequences": ["END"], "system": "s",
            "tools": [{"name": "a", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"},
            "thinking": {"type": "enabled", "budget_tokens": 2000}, "metadata": {"user_id": "u"},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}
        }))
        .unwrap();
        assert_eq!(
            (request.sampling.temperature, request.sampling.top_k),
            (Some(0.5), Some(4))
        );
        assert_eq!(request.limits.tokens_max, Some(5000));
        assert_eq!(request.limits.stop, ["END"]);
        assert_eq!(request.tool_choice, ToolChoice::Required);
        assert_eq!(request.thinking, Some(true));
        assert_eq!(request.shape, Shape::Schema(r#"{"type":"object"}"#.into()));
        assert_eq!(parse(json!({})).unwrap().thinking, Some(false));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (field, value) in [
            ("temperature", json!(1.5)),
            ("top_p", json!(-0.1)),
            ("stop_sequences", json!([" "])),
            ("messages", json!([])),
            ("tools", json!([{"name": "a"}])),
            ("tool_choice", json!({"type": "any"})),
            ("thinking", json!({"type": "enabled"})),
            ("thinking", json!({"type": "enabled", "budget_tokens": 100})),
            (
                "thinking",
                json!({"type": "enabled", "budget_tokens": 5000}),
            ),
            ("thinking", json!({"type": "deep"})),
            ("mcp_servers", json!([{"type": "url"}])),
            ("output_config", json!({"format": {"type": "json_schema"}})),
        ] {
            let error = parse(json!({ field: value })).unwrap_err();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
    }
}
