//! `POST /v1/chat/completions`.
//!
//! Ignored, because they change nothing here: `user`, `store`, `metadata`, `service_tier`,
//! `prompt_cache_key`, `safety_identifier`, `parallel_tool_calls` without tools.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer_json};
use super::super::frames::{Frame, sse};
use super::options::{Options, StreamOptions};
use super::{
    Events, OpenAi, UsageView, ask, created, done, error_frame, finish_reason, first_word, frame,
    timings, total,
};
use crate::app::{App, AppError, new_id};
use crate::domain::{ChatEvent, ChatRequest, Finish, Input, Message, Piece, Role, TokenLogprob};

/// OpenAI's own limit.
const TOP_LOGPROBS_MAX: usize = 20;

#[derive(Deserialize)]
pub(in super::super) struct ChatBody {
    #[serde(default)]
    model: String,
    messages: Vec<MessageBody>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(alias = "max_completion_tokens")]
    max_tokens: Option<i64>,
    #[serde(default)]
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    tools: Option<Vec<Value>>,
    functions: Option<Vec<Value>>,
    response_format: Option<Value>,
    modalities: Option<Vec<String>>,
    #[serde(flatten)]
    options: Options,
}

#[derive(Deserialize)]
struct MessageBody {
    role: String,
    content: Option<Content>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

impl Wire for ChatBody {
    type Dialect = OpenAi;
}

impl TryFrom<MessageBody> for Message {
    type Error = RequestError;

    fn try_from(body: MessageBody) -> Result<Message, RequestError> {
        let role = Role::parse(&body.role).ok_or_else(|| {
            RequestError::field(
                "messages",
                format!("has a role `{}` that does not exist", body.role),
            )
        })?;
        let content = match body.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => join(parts)?,
        };
        Ok(Message {
            role,
            content,
            name: body.name,
        })
    }
}

fn join(parts: Vec<Part>) -> Result<String, RequestError> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        match (part.r#type.as_str(), part.text) {
            ("text" | "input_text", Some(text)) => texts.push(text),
            ("text" | "input_text", None) => {
                return Err(RequestError::field(
                    "messages",
                    "has a text part without `text`",
                ));
            }
            _ => {
                return Err(RequestError::Unsupported {
                    param: "messages",
                    why: "this model reads text parts only",
                });
            }
        }
    }
    Ok(texts.join("\n"))
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
        let tools = body
            .tools
            .iter()
            .chain(&body.functions)
            .any(|list| !list.is_empty());
        if tools {
            return Err(RequestError::Unsupported {
                param: "tools",
                why: "tool calls are not built yet",
            });
        }
        if body
            .response_format
            .as_ref()
            .is_some_and(|format| format["type"] != "text")
        {
            let why = "answers in JSON by schema are not built yet";
            return Err(RequestError::Unsupported {
                param: "response_format",
                why,
            });
        }
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
        let request = ChatRequest {
            model: body.model,
            input: Input::Messages(messages),
            sampling: body.options.sampling()?,
            limits: body.options.limits(body.max_tokens, "max_tokens")?,
            logprobs,
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
    Body(body): Body<ChatBody>,
) -> Result<Response, Failure<OpenAi>> {
    let mut asked = Asked::try_from(body)?;
    let Some(first) = asked.requests.first() else {
        return Err(RequestError::field("n", "asks for no answer").into());
    };
    let model = app.model(&first.model).await?.id;
    for request in &mut asked.requests {
        request.model.clone_from(&model);
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
        return Ok(sse(chunks(head, events, choices, asked.include_usage)));
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
    logprobs: Option<Vec<TokenLogprob>>,
    finish: Option<Finish>,
}

impl Choice {
    fn take(&mut self, event: ChatEvent) {
        match event {
            ChatEvent::Queued { .. } => {}
            ChatEvent::Piece(Piece { text, logprobs, .. }) => {
                self.content.push_str(&text);
                if !logprobs.is_empty() {
                    self.logprobs.get_or_insert_default().extend(logprobs);
                }
            }
            ChatEvent::Finished(finish) => self.finish = Some(finish),
        }
    }
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
                "message": { "role": "assistant", "content": answer.content, "refusal": null },
                "logprobs": answer.logprobs.as_deref().map(logprobs_view),
                "finish_reason": answer.finish.map(|finish| finish_reason(finish.reason)),
            })
        })
        .collect();
    let last = finishes.last();
    Ok(answer_json(
        StatusCode::OK,
        &json!({
            "id": head.id,
            "object": "chat.completion",
            "created": head.created,
            "model": head.model,
            "choices": views,
            "usage": UsageView::from(total(&finishes)),
            "timings": last.map(|finish| timings(&finish.timings, &finish.usage)),
            "system_fingerprint": concat!("onebit-", env!("CARGO_PKG_VERSION")),
        }),
    ))
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
                },
                None,
                None,
            ),
            ChatEvent::Piece(piece) => {
                let logprobs = (!piece.logprobs.is_empty()).then(|| logprobs_view(&piece.logprobs));
                self.write(
                    index,
                    Delta {
                        role: None,
                        content: Some(&piece.text),
                    },
                    logprobs,
                    None,
                )
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
            ("response_format", json!({"type": "json_object"})),
            ("modalities", json!(["audio"])),
            ("top_logprobs", json!(2)),
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
