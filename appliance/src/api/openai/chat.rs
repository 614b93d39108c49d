//! `POST /v1/chat/completions`.
//!
//! Ignored, because they change nothing here: `user`, `store`, `metadata`, `service_tier`,
//! `prompt_cache_key`, `safety_identifier`, `parallel_tool_calls` without tools.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::answers::{Events, ask, first_word, place, waiting};
use super::super::body::{Body, RequestError, Wire};
use super::super::cited;
use super::super::failure::{Failure, json as answer_json};
use super::super::frames::{Frame, sse_telling};
use super::super::outgrown::{notice, overflow};
use super::messages::{MessageBody, check_pictures};
use super::options::{Options, StreamOptions};
use super::tools::{self, FormatBody, FunctionBody, ToolBody, ToolChoiceBody};
use super::{OpenAi, UsageView, created, done, error_frame, finish_reason, frame, timings, total};
use crate::app::{App, AppError, new_id};
use crate::domain::{
    ChatEvent, ChatRequest, Citation, Finish, Input, Message, Overflow, Peer, Piece, TokenLogprob,
    ToolCall,
};

/// OpenAI's own limit.
const TOP_LOGPROBS_MAX: usize = 20;

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct ChatBody {
    #[serde(default)]
    model: String,
    messages: Vec<MessageBody>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    /// Also as `max_completion_tokens`.
    #[serde(alias = "max_completion_tokens")]
    max_tokens: Option<i64>,
    #[serde(default)]
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    tools: Option<Vec<ToolBody>>,
    tool_choice: Option<ToolChoiceBody>,
    /// The older form of `tools`.
    functions: Option<Vec<FunctionBody>>,
    /// The older form of `tool_choice`.
    function_call: Option<ToolChoiceBody>,
    response_format: Option<FormatBody>,
    reasoning_effort: Option<String>,
    /// What Qwen's clients send to turn thinking off and on.
    enable_thinking: Option<bool>,
    /// The same, as llama-server and vLLM take it.
    chat_template_kwargs: Option<TemplateBody>,
    modalities: Option<Vec<String>>,
    /// Documents to answer from: collections by identifier, or an empty list for all. Not OpenAI's own.
    collections: Option<Vec<String>>,
    /// `auto` leaves the oldest turns out of a conversation that is too long; `disabled`, the default, refuses it.
    /// Responses' own.
    truncation: Option<String>,
    #[serde(flatten)]
    options: Options,
}

#[derive(Deserialize, JsonSchema)]
struct TemplateBody {
    enable_thinking: Option<bool>,
}

/// Reads `reasoning_effort`, of which models that only know yes and no take whether there is any.
fn effort(word: &str) -> Result<bool, RequestError> {
    match word {
        "none" => Ok(false),
        "minimal" | "low" | "medium" | "high" | "xhigh" => Ok(true),
        other => Err(RequestError::field(
            "reasoning_effort",
            format!("is `{other}`; it can be none, minimal, low, medium, high or xhigh"),
        )),
    }
}

impl Wire for ChatBody {
    type Dialect = OpenAi;
}

/// A checked request and how to answer it.
struct Asked {
    requests: Vec<ChatRequest>,
    stream: bool,
    include_usage: bool,
}

impl TryFrom<ChatBody> for Asked {
    type Error = RequestError;

    fn try_from(body: ChatBody) -> Result<Asked, RequestError> {
        if body
            .modalities
            .iter()
            .flatten()
            .any(|modality| modality != "text")
        {
            return Err(RequestError::Unsupported {
                param: "modalities",
                why: "this route answers in text",
            });
        }
        if body.messages.is_empty() {
            return Err(RequestError::field("messages", "is empty"));
        }
        let logprobs = match (body.logprobs.unwrap_or(false), body.top_logprobs) {
            (false, Some(1..)) => {
                return Err(RequestError::field(
                    "top_logprobs",
                    "needs `logprobs` to be true",
                ));
            }
            (false, _) => None,
            (true, top) => Some(top.unwrap_or(0)),
        };
        if logprobs.is_some_and(|top| top > TOP_LOGPROBS_MAX) {
            return Err(RequestError::field(
                "top_logprobs",
                format!("must be at most {TOP_LOGPROBS_MAX}"),
            ));
        }
        let messages: Vec<Message> = body
            .messages
            .into_iter()
            .map(Message::try_from)
            .collect::<Result<_, _>>()?;
        let mut tools = tools::tools(body.tools.unwrap_or_default())?;
        for function in body.functions.unwrap_or_default() {
            tools.push(tools::tool(function)?);
        }
        let tool_choice = tools::choice(body.tool_choice.or(body.function_call), &tools)?;
        let thinking = body
            .chat_template_kwargs
            .and_then(|template| template.enable_thinking)
            .or(body.enable_thinking);
        let thinking = match body.reasoning_effort.as_deref() {
            Some(word) => Some(effort(word)?),
            None => thinking,
        };
        let request = ChatRequest {
            sampling: body.options.sampling()?,
            limits: body.options.limits(body.max_tokens, "max_tokens")?,
            logprobs,
            tools,
            tool_choice,
            shape: tools::shape(body.response_format)?,
            thinking,
            overflow: overflow(body.truncation.as_deref(), Overflow::Refuse)?,
            ..ChatRequest::new(body.model, Input::Messages(messages))
        };
        let several = |index: usize| {
            let mut request = request.clone();
            request.sampling.seed = request
                .sampling
                .seed
                .map(|seed| seed.wrapping_add(index as u64));
            request
        };
        Ok(Asked {
            requests: (0..body.options.choices()?).map(several).collect(),
            stream: body.stream,
            include_usage: body
                .stream_options
                .is_some_and(|options| options.include_usage),
        })
    }
}

pub(in super::super) async fn answer(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(mut body): Body<ChatBody>,
) -> Result<Response, Failure<OpenAi>> {
    let shelf = cited::shelf(&peer, body.collections.take());
    let mut asked = Asked::try_from(body)?;
    let Some(first) = asked.requests.first() else {
        return Err(RequestError::field("n", "asks for no answer").into());
    };
    let model = app.name(&first.model).await?;
    for request in &mut asked.requests {
        request.model.clone_from(&model);
        request.shelf.clone_from(&shelf);
    }
    if let Some(first) = asked.requests.first() {
        check_pictures(&app, first, "messages").await?;
    }
    let head = Head {
        id: format!("chatcmpl-{}", new_id()?),
        created: created(),
        model,
    };
    let choices = asked.requests.len();
    let mut events = ask(&app, asked.requests);
    first_word(&mut events).await?;
    if asked.stream {
        let beat = waiting(&app, &head.model);
        let chunks = chunks(head, events, choices, asked.include_usage);
        return Ok(sse_telling(chunks, beat));
    }
    whole(&head, events, choices).await
}

struct Head {
    id: String,
    created: i64,
    model: String,
}

/// One answer as it grows.
#[derive(Default)]
struct Choice {
    content: String,
    reasoning: String,
    calls: Vec<ToolCall>,
    left_out: usize,
    sources: Vec<Citation>,
    logprobs: Option<Vec<TokenLogprob>>,
    finish: Option<Finish>,
}

impl Choice {
    fn take(&mut self, event: ChatEvent) {
        match event {
            ChatEvent::Queued { .. } | ChatEvent::Waits { .. } => {}
            ChatEvent::LeftOut { messages } => self.left_out = messages,
            ChatEvent::Sources(sources) => self.sources = sources,
            ChatEvent::Piece(Piece { text, logprobs, .. }) => {
                self.content.push_str(&text);
                if !logprobs.is_empty() {
                    self.logprobs.get_or_insert_default().extend(logprobs);
                }
            }
            ChatEvent::Reasoning(text) => self.reasoning.push_str(&text),
            ChatEvent::CallBegins { id, name, .. } => self.calls.push(ToolCall {
                id,
                name,
                arguments: String::new(),
            }),
            ChatEvent::CallArguments { index, json } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.arguments.push_str(&json);
                }
            }
            ChatEvent::Finished(finish) => self.finish = Some(finish),
        }
    }

    /// The message as OpenAI writes it; fields that say nothing are left out.
    fn message(&self) -> Value {
        let silent = self.content.is_empty() && !self.calls.is_empty();
        let content = (!silent).then_some(self.content.as_str());
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.as_str().into();
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = self.calls.iter().map(call_view).collect();
        }
        if !self.sources.is_empty() {
            message["annotations"] = annotations(&self.sources, &self.content);
        }
        message
    }
}

/// Where the answer comes from, in the form of OpenAI's annotations.
fn annotations(sources: &[Citation], answer: &str) -> Value {
    let one = |source: &Citation| {
        let view = cited::file_citation(source, answer);
        json!({ "type": "file_citation", "file_citation": view })
    };
    sources.iter().map(one).collect()
}

fn call_view(call: &ToolCall) -> Value {
    let function = json!({ "name": call.name, "arguments": call.arguments });
    json!({ "id": call.id, "type": "function", "function": function })
}

async fn whole(
    head: &Head,
    mut events: Events,
    choices: usize,
) -> Result<Response, Failure<OpenAi>> {
    let mut answers: Vec<Choice> = (0..choices).map(|_| Choice::default()).collect();
    while let Some(event) = events.next().await {
        let (index, event) = event?;
        answers[index].take(event);
    }
    let finishes: Vec<Finish> = answers.iter().filter_map(|answer| answer.finish).collect();
    let views: Vec<Value> = answers
        .iter()
        .enumerate()
        .map(|(index, answer)| {
            json!({
                "index": index,
                "message": answer.message(),
                "logprobs": answer.logprobs.as_deref().map(logprobs_view),
                "finish_reason": answer.finish.map(|finish| finish_reason(finish.reason)),
            })
        })
        .collect();
    let last = finishes.last();
    let mut body = json!({
            "id": head.id,
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": views,
            "usage": UsageView::from(total(&finishes)),
            "timings": last.map(|finish| timings(&finish.timings, &finish.usage)),
            "system_fingerprint": concat!("onebit-", env!("CARGO_PKG_VERSION")),
    });
    if let Some(notice) = answers.first().and_then(|answer| notice(answer.left_out)) {
        body["notice"] = notice;
    }
    Ok(answer_json(StatusCode::OK, &body))
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: Vec<ChunkChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notice: Option<Value>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<Value>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[Value; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Value>,
}

impl Delta<'_> {
    fn call(call: Value) -> Self {
        Delta {
            tool_calls: Some([call]),
            ..Delta::default()
        }
    }
}

/// Makes chunks; shared with the page's turns, which stream the same objects.
pub(in super::super) struct Chunks {
    head: Head,
    /// `Some(Null)` marks chunks of a stream that ends in a usage chunk.
    usage: Option<Value>,
}

impl Chunks {
    /// Chunks of one answer by `model`.
    pub(in super::super) fn new(id: String, created: i64, model: String) -> Chunks {
        Chunks {
            head: Head { id, created, model },
            usage: None,
        }
    }

    /// The chunk of an event; `None` when it has nothing to say.
    pub(in super::super) fn chunk(&self, index: usize, event: &ChatEvent) -> Option<Frame> {
        Some(match event {
            ChatEvent::Queued { .. } => self.write(
                index,
                Delta {
                    role: Some("assistant"),
                    content: Some(""),
                    ..Delta::default()
                },
                None,
                None,
            ),
            ChatEvent::Piece(piece) => {
                let logprobs = (!piece.logprobs.is_empty()).then(|| logprobs_view(&piece.logprobs));
                self.write(
                    index,
                    Delta {
                        content: Some(&piece.text),
                        ..Delta::default()
                    },
                    logprobs,
                    None,
                )
            }
            ChatEvent::Waits { ahead } => place(*ahead),
            // Once for all choices: they answer the same conversation.
            ChatEvent::LeftOut { messages } if index == 0 => {
                let chunk = self.envelope(Vec::new(), self.usage.clone(), None);
                let notice = notice(*messages);
                frame(&Chunk { notice, ..chunk })
            }
            ChatEvent::LeftOut { .. } => return None,
            ChatEvent::Sources(sources) => {
                let delta = Delta {
                    annotations: Some(annotations(sources, "")),
                    ..Delta::default()
                };
                self.write(index, delta, None, None)
            }
            ChatEvent::Reasoning(text) => {
                let delta = Delta {
                    reasoning_content: Some(text),
                    ..Delta::default()
                };
                self.write(index, delta, None, None)
            }
            ChatEvent::CallBegins {
                index: call,
                id,
                name,
            } => {
                let function = json!({ "name": name, "arguments": "" });
                let begun =
                    json!({ "index": call, "id": id, "type": "function", "function": function });
                self.write(index, Delta::call(begun), None, None)
            }
            ChatEvent::CallArguments { index: call, json } => {
                let more = json!({ "index": call, "function": { "arguments": json } });
                self.write(index, Delta::call(more), None, None)
            }
            ChatEvent::Finished(finish) => self.write(index, Delta::default(), None, Some(finish)),
        })
    }

    fn write(
        &self,
        index: usize,
        delta: Delta<'_>,
        logprobs: Option<Value>,
        finish: Option<&Finish>,
    ) -> Frame {
        let finish_reason = finish.map(|finish| finish_reason(finish.reason));
        let choice = ChunkChoice {
            index,
            delta,
            logprobs,
            finish_reason,
        };
        let timings = finish.map(|finish| timings(&finish.timings, &finish.usage));
        frame(&self.envelope(vec![choice], self.usage.clone(), timings))
    }

    fn envelope<'a>(
        &'a self,
        choices: Vec<ChunkChoice<'a>>,
        usage: Option<Value>,
        timings: Option<Value>,
    ) -> Chunk<'a> {
        Chunk {
            id: &self.head.id,
            object: "chat.completion.chunk",
            created: self.head.created,
            model: &self.head.model,
            system_fingerprint: concat!("onebit-", env!("CARGO_PKG_VERSION")),
            choices,
            usage,
            timings,
            notice: None,
        }
    }

    fn usage(&self, finishes: &[Finish]) -> Frame {
        let usage = serde_json::to_value(UsageView::from(total(finishes))).ok();
        frame(&self.envelope(Vec::new(), usage, None))
    }
}

/// Frames of a streamed answer: chunks, the usage where asked for, and the end mark, which stays away when
/// the stream ends in an error.
fn chunks(
    head: Head,
    events: Events,
    choices: usize,
    include_usage: bool,
) -> impl stream::Stream<Item = Frame> {
    let chunks = Chunks {
        head,
        usage: include_usage.then_some(Value::Null),
    };
    let state = (events, chunks, Vec::with_capacity(choices), false);
    let frames = stream::unfold(
        state,
        move |(mut events, chunks, mut finishes, ended)| async move {
            if ended {
                return None;
            }
            let (frames, ended) = match events.next().await {
                Some(Ok((index, event))) => {
                    if let ChatEvent::Finished(finish) = event {
                        finishes.push(finish);
                    }
                    (chunks.chunk(index, &event).into_iter().collect(), false)
                }
                Some(Err(error)) => (vec![error_frame(&error)], true),
                None if finishes.len() < choices => {
                    let cut = AppError::Engine(crate::app::EngineError::Stopped);
                    (vec![error_frame(&cut)], true)
                }
                None => {
                    let usage = include_usage.then(|| chunks.usage(&finishes));
                    (usage.into_iter().chain([done()]).collect::<Vec<_>>(), true)
                }
            };
            Some((stream::iter(frames), (events, chunks, finishes, ended)))
        },
    );
    frames.flatten()
}

/// Log probabilities as chat completions write them.
fn logprobs_view(logprobs: &[TokenLogprob]) -> Value {
    let one = |bytes: &[u8], logprob: f32| json!({ "token": String::from_utf8_lossy(bytes), "logprob": finite(logprob), "bytes": bytes });
    let content: Vec<Value> = logprobs
        .iter()
        .map(|token| {
            let mut view = one(&token.bytes, token.logprob);
            view["top_logprobs"] = token
                .top
                .iter()
                .map(|(_, bytes, logprob)| one(bytes, *logprob))
                .collect();
            view
        })
        .collect();
    json!({ "content": content, "refusal": null })
}

/// JSON has no infinity: an impossible token is as unlikely as OpenAI's own floor.
pub(super) fn finite(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Role;

    fn parse(json: Value) -> Result<Asked, String> {
        let body: ChatBody = serde_json::from_value(json).map_err(|error| error.to_string())?;
        Asked::try_from(body).map_err(|error| error.to_string())
    }

    #[test]
    fn messages_come_in_all_their_forms() {
        let asked = parse(json!({
            "model": "m", "n": 2, "seed": 7, "stream": true, "stream_options": {"include_usage": true},
            "max_completion_tokens": 5, "stop": ["a", "b"], "logprobs": true, "top_logprobs": 3,
            "messages": [
                {"role": "developer", "content": "d"},
                {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]},
                {"role": "assistant", "content": null}
            ]
        }))
        .unwrap();
        assert!(asked.stream && asked.include_usage);
        let seeds: Vec<_> = asked
            .requests
            .iter()
            .map(|request| request.sampling.seed)
            .collect();
        assert_eq!(seeds, [Some(7), Some(8)]);
        let request = &asked.requests[0];
        assert_eq!(request.logprobs, Some(3));
        assert_eq!(request.limits.tokens_max, Some(5));
        let Input::Messages(messages) = &request.input else {
            panic!("no messages")
        };
        let texts: Vec<_> = messages
            .iter()
            .map(|m| (m.role, m.content.as_str()))
            .collect();
        assert_eq!(
            texts,
            [
                (Role::System, "d"),
                (Role::User, "x\ny"),
                (Role::Assistant, "")
            ]
        );
    }

    #[test]
    fn what_we_do_not_do_is_refused_by_name() {
        let messages = json!([{"role": "user", "content": "x"}]);
        for (field, value) in [
            ("tools", json!([{"type": "function"}])),
            ("tool_choice", json!("required")),
            ("response_format", json!({"type": "json_schema"})),
            ("modalities", json!(["audio"])),
            ("top_logprobs", json!(2)),
            ("reasoning_effort", json!("much")),
            ("n", json!(0)),
            ("max_tokens", json!(0)),
            ("messages", json!([])),
            ("messages", json!([{"role": "king", "content": "x"}])),
            (
                "messages",
                json!([{"role": "user", "content": [{"type": "image_url"}]}]),
            ),
        ] {
            let mut body = json!({ "model": "m", "messages": messages });
            body[field] = value;
            let error = parse(body).err().unwrap_or_default();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
        assert!(
            parse(json!({"messages": messages, "tools": [], "response_format": {"type": "text"}}))
                .is_ok()
        );
        assert!(
            parse(json!({"model": "m"}))
                .err()
                .unwrap()
                .contains("messages")
        );
    }
}
