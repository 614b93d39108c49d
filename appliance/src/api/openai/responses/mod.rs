//! `POST /v1/responses` and its stored responses: `GET` and `DELETE /v1/responses/{id}`, `GET .../input_items`.
//!
//! Ignored, because they change nothing here: `include`, `metadata` beyond being given back, `parallel_tool_calls`,
//! `prompt_cache_key`, `reasoning.summary`, `safety_identifier`, `service_tier`, `stream_options`, `user`.

mod items;
mod writer;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::answers::{Events, ask, first_word};
use super::super::body::{Body, RequestError, Wire};
use super::super::cited;
use super::super::failure::{Failure, json as answer_json};
use super::super::frames::sse;
use super::super::outgrown::overflow;
use super::messages::check_pictures;
use super::options::Options;
use super::tools::{self, FunctionBody, ToolChoiceBody};
use super::{OpenAi, created};
use crate::app::{App, AppError, EngineError, StoredResponse, new_id, now_ms};
use crate::domain::{ChatRequest, Input, Overflow, Peer, PersonId, Shape, Tool};
use writer::Writer;

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct ResponsesBody {
    #[serde(default)]
    model: String,
    #[serde(default)]
    input: Value,
    instructions: Option<String>,
    previous_response_id: Option<String>,
    #[serde(default)]
    stream: bool,
    store: Option<bool>,
    max_output_tokens: Option<i64>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    text: Option<TextBody>,
    reasoning: Option<ReasoningBody>,
    metadata: Option<Value>,
    background: Option<bool>,
    conversation: Option<Value>,
    /// `auto` leaves the oldest turns out of a conversation that is too long; `disabled`, the default, refuses it.
    truncation: Option<String>,
    prompt: Option<Value>,
    #[serde(flatten)]
    options: Options,
}

#[derive(Deserialize, JsonSchema)]
struct TextBody {
    format: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
struct ReasoningBody {
    effort: Option<String>,
}

impl Wire for ResponsesBody {
    type Dialect = OpenAi;
}

impl ResponsesBody {
    /// Refuses what we know and do not do.
    fn refuse(&self) -> Result<(), RequestError> {
        let refused = |param, why| Err(RequestError::Unsupported { param, why });
        if self.background == Some(true) {
            return refused("background", "ask with `stream` and read as it comes");
        }
        if self.conversation.as_ref().is_some_and(|it| !it.is_null()) {
            return refused("conversation", "go on with `previous_response_id`");
        }
        if self.prompt.as_ref().is_some_and(|it| !it.is_null()) {
            return refused("prompt", "there are no stored prompts; send `input`");
        }
        Ok(())
    }

    /// The request with these items as its conversation.
    fn request(&self, model: &str, items: &[Value]) -> Result<ChatRequest, RequestError> {
        let tools = functions(self.tools.as_deref().unwrap_or_default())?;
        let choice: Option<ToolChoiceBody> = match &self.tool_choice {
            None | Some(Value::Null) => None,
            Some(choice) => Some(serde_json::from_value(choice.clone()).map_err(|_| {
                RequestError::field("tool_choice", "is neither a word nor a named function")
            })?),
        };
        let effort = self.reasoning.as_ref().and_then(|r| r.effort.as_deref());
        let messages = items::messages(self.instructions.as_deref(), items)?;
        Ok(ChatRequest {
            sampling: self.options.sampling()?,
            limits: self
                .options
                .limits(self.max_output_tokens, "max_output_tokens")?,
            tool_choice: tools::choice(choice, &tools)?,
            tools,
            shape: shape(self.text.as_ref())?,
            thinking: effort.map(|effort| effort != "none"),
            overflow: overflow(self.truncation.as_deref(), Overflow::Refuse)?,
            ..ChatRequest::new(model, Input::Messages(messages))
        })
    }

    /// The response before its first word.
    fn response(&self, id: &str, model: &str) -> Value {
        let format = self.text.as_ref().and_then(|text| text.format.clone());
        json!({
            "id": id,
            "object": "response",
            "access_programs": null,
            "created_at": created(),
            "status": "in_progress",
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata.clone().unwrap_or_else(|| json!({})),
            "model": model,
            "output": [],
            "parallel_tool_calls": true,
            "previous_response_id": self.previous_response_id,
            "reasoning": { "effort": self.reasoning.as_ref().and_then(|r| r.effort.clone()), "summary": null },
            "store": self.store.unwrap_or(true),
            "temperature": self.options.temperature,
            "text": { "format": format.unwrap_or_else(|| json!({ "type": "text" })) },
            "tool_choice": self.tool_choice.clone().unwrap_or_else(|| json!("auto")),
            "tools": self.tools.clone().unwrap_or_default(),
            "top_p": self.options.top_p,
            "truncation": self.truncation.as_deref().unwrap_or("disabled"),
            "usage": null,
        })
    }
}

/// Reads `tools`, whose functions stand without the envelope that chat completions have.
fn functions(bodies: &[Value]) -> Result<Vec<Tool>, RequestError> {
    let read = |body: &Value| {
        if body["type"] != "function" {
            return Err(RequestError::Unsupported {
                param: "tools",
                why: "only tools of the types `function` and `file_search` are known here",
            });
        }
        let function: FunctionBody = serde_json::from_value(body.clone())
            .map_err(|error| RequestError::field("tools", format!("cannot be read: {error}")))?;
        tools::tool(function)
    };
    bodies
        .iter()
        .filter(|body| body["type"] != FILE_SEARCH)
        .map(read)
        .collect()
}

/// The tool that answers from documents.
const FILE_SEARCH: &str = "file_search";

/// The vector stores of `file_search`; one that names none asks all documents.
fn stores(bodies: &[Value]) -> Result<Option<Vec<String>>, RequestError> {
    let mut asked: Option<Vec<String>> = None;
    for body in bodies.iter().filter(|body| body["type"] == FILE_SEARCH) {
        let named = match &body["vector_store_ids"] {
            Value::Null => Vec::new(),
            ids => serde_json::from_value(ids.clone()).map_err(|_| {
                RequestError::field("tools", "has `vector_store_ids` that are no list of names")
            })?,
        };
        asked.get_or_insert_default().extend(named);
    }
    Ok(asked)
}

/// Reads `text.format`.
fn shape(text: Option<&TextBody>) -> Result<Shape, RequestError> {
    let Some(format) = text.and_then(|text| text.format.as_ref()) else {
        return Ok(Shape::Free);
    };
    match (
        format["type"].as_str().unwrap_or_default(),
        &format["schema"],
    ) {
        ("text", _) => Ok(Shape::Free),
        ("json_object", _) => Ok(Shape::Json),
        ("json_schema", schema @ Value::Object(_)) => Ok(Shape::Schema(schema.to_string())),
        ("json_schema", _) => Err(RequestError::field(
            "text",
            "has a format of the type json_schema and needs its `schema`",
        )),
        (other, _) => {
            let why = format!(
                "has a format of the type `{other}`; it can be text, json_object or json_schema"
            );
            Err(RequestError::field("text", why))
        }
    }
}

/// Where a finished response goes.
struct Shelf {
    app: App,
    person: Option<PersonId>,
    previous: Option<String>,
    input: Value,
}

impl Shelf {
    /// Keeps a response that has ended, where it is to be kept and somebody owns it.
    async fn keep(&self, response: &Value) -> Result<(), AppError> {
        let (Some(person), Some(id)) = (&self.person, response["id"].as_str()) else {
            return Ok(());
        };
        if response["store"] != true {
            return Ok(());
        }
        let stored = StoredResponse {
            id: id.to_owned(),
            previous: self.previous.clone(),
            input: self.input.to_string(),
            body: response.to_string(),
            created_at: now_ms(),
        };
        Ok(self.app.store().responses().put(person, stored).await?)
    }
}

pub(in super::super) async fn answer(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(mut body): Body<ResponsesBody>,
) -> Result<Response, Failure<OpenAi>> {
    body.refuse()?;
    let input = items::items(body.input.take())?;
    let mut conversation = Vec::new();
    if let Some(previous) = &body.previous_response_id {
        let chain = app.store().responses();
        for earlier in chain.chain(owner(&peer, previous)?, previous).await? {
            conversation.extend(array(&earlier.input, "input")?);
            let mut response = parse(&earlier.body, "response")?;
            if let Value::Array(output) = response["output"].take() {
                conversation.extend(output);
            }
        }
    }
    conversation.extend(input.iter().cloned());
    let model = app.name(&body.model).await?;
    let mut request = body.request(&model, &conversation)?;
    check_pictures(&app, &request, "input").await?;
    request.shelf = cited::shelf(&peer, stores(body.tools.as_deref().unwrap_or_default())?);
    let key = new_id()?.to_string();
    let mut writer = Writer::new(body.response(&format!("resp_{key}"), &model), key);
    let shelf = Shelf {
        app: app.clone(),
        person: peer.person,
        previous: body.previous_response_id,
        input: input.into(),
    };
    let mut events = ask(&app, vec![request]);
    first_word(&mut events).await?;
    if body.stream {
        return Ok(sse(streamed(shelf, writer, events)));
    }
    while let Some(event) = events.next().await {
        writer.take(event?.1);
    }
    if !writer.ended() {
        return Err(AppError::Engine(EngineError::Stopped).into());
    }
    shelf.keep(writer.response()).await?;
    Ok(answer_json(StatusCode::OK, writer.response()))
}

/// Frames of a streamed response. It is on the shelf before its last event goes out, so that the next request finds it.
fn streamed(
    shelf: Shelf,
    writer: Writer,
    events: Events,
) -> impl stream::Stream<Item = super::super::frames::Frame> {
    let state = (shelf, writer, events);
    let frames = stream::unfold(state, |(shelf, mut writer, mut events)| async move {
        if writer.ended() {
            return None;
        }
        let mut frames = match events.next().await {
            Some(Ok((_, event))) => writer.take(event),
            Some(Err(error)) => writer.fail(&error),
            None => writer.fail(&AppError::Engine(EngineError::Stopped)),
        };
        if writer.ended()
            && let Err(error) = shelf.keep(writer.response()).await
        {
            frames.pop();
            frames.extend(writer.fail(&error));
        }
        Some((stream::iter(frames), (shelf, writer, events)))
    });
    frames.flatten()
}

pub(in super::super) async fn one(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let stored = app.store().responses().get(owner(&peer, &id)?, &id).await?;
    Ok(answer_json(
        StatusCode::OK,
        &parse(&stored.body, "response")?,
    ))
}

pub(in super::super) async fn input_items(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let stored = app.store().responses().get(owner(&peer, &id)?, &id).await?;
    let mut items = array(&stored.input, "input")?;
    for (index, item) in items.iter_mut().enumerate() {
        if item["id"].is_null() {
            item["id"] = format!("item_{index}").into();
        }
        // What a client may abbreviate is written out when it is given back.
        if item["content"].is_string() {
            item["content"] = json!([{ "type": "input_text", "text": item["content"] }]);
        }
        if item["type"].is_null() {
            item["type"] = "message".into();
        }
    }
    items.reverse(); // newest first, as OpenAI lists them
    let id = |item: Option<&Value>| item.map(|item| item["id"].clone());
    Ok(answer_json(
        StatusCode::OK,
        &json!({
            "object": "list",
            "first_id": id(items.first()),
            "last_id": id(items.last()),
            "has_more": false,
            "data": items,
        }),
    ))
}

pub(in super::super) async fn delete(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let responses = app.store().responses();
    responses.delete(owner(&peer, &id)?, &id).await?;
    Ok(answer_json(
        StatusCode::OK,
        &json!({ "id": id, "object": "response", "deleted": true }),
    ))
}

/// Whose responses a request reads; nobody has none.
fn owner<'a>(peer: &'a Peer, id: &str) -> Result<&'a PersonId, RequestError> {
    peer.person.as_ref().ok_or_else(|| {
        let why = format!("names `{id}`, and responses are kept for persons who signed in");
        RequestError::field("previous_response_id", why)
    })
}

fn parse(text: &str, what: &'static str) -> Result<Value, AppError> {
    serde_json::from_str(text).map_err(|_| AppError::BadRow(what))
}

fn array(text: &str, what: &'static str) -> Result<Vec<Value>, AppError> {
    serde_json::from_str(text).map_err(|_| AppError::BadRow(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ToolChoice;

    fn read(changes: Value) -> Result<ChatRequest, String> {
        let mut body = json!({ "model": "m", "input": "x" });
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        let mut body: ResponsesBody =
            serde_json::from_value(body).map_err(|error| error.to_string())?;
        body.refuse().map_err(|error| error.to_string())?;
        let items = items::items(body.input.take()).map_err(|error| error.to_string())?;
        body.request("m", &items).map_err(|error| error.to_string())
    }

    #[test]
    fn every_field_finds_its_place() {
        let request = read(json!({
            "instructions": "s", "max_output_tokens": 7, "temperature": 0.5, "reasoning": {"effort": "low"},
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}],
            "tool_choice": {"type": "function", "name": "f"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}
        }))
        .unwrap();
        assert_eq!(request.limits.tokens_max, Some(7));
        assert_eq!(request.tool_choice, ToolChoice::Named("f".into()));
        assert_eq!(request.shape, Shape::Schema(r#"{"type":"object"}"#.into()));
        assert_eq!(request.thinking, Some(true));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (field, value) in [
            ("input", json!([])),
            ("background", json!(true)),
            ("conversation", json!("conv_1")),
            ("prompt", json!({"id": "p"})),
            ("tools", json!([{"type": "web_search"}])),
            ("tool_choice", json!(3)),
            ("text", json!({"format": {"type": "yaml"}})),
            ("temperature", json!(3)),
            ("max_output_tokens", json!(0)),
        ] {
            let error = read(json!({ field: value })).unwrap_err();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
    }
}
