//! An answer on its way out: the same events, written as `/api/chat` or as `/api/generate` writes them, in
//! lines or as one object.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::TryFutureExt;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use serde_json::{Map, Value, json};

use super::super::failure::{Dialect, json as answer, tell};
use super::super::frames::json_lines;
use super::super::outgrown::notice;
use super::super::{cited, time};
use super::options::Keep;
use super::{Ollama, OllamaError};
use crate::app::{App, AppError, EngineError};
use crate::domain::{
    ChatEvent, ChatRequest, Citation, Finish, FinishReason, TokenLogprob, ToolCall,
};
use crate::error::Failing;

/// How long headers wait for the first word of an answer: within it an error has its own status.
const FIRST_WORD: Duration = Duration::from_secs(3);

/// Which of the two routes answers.
pub(super) enum Form {
    /// `/api/chat`
    Chat,
    /// `/api/generate`; with a conversation that goes on, its text so far.
    Generate(Option<super::generate::Conversation>),
}

/// How one request is to be answered.
pub(super) struct Reply {
    /// The model's name as the client wrote it, which comes back.
    pub(super) model: String,
    pub(super) form: Form,
    pub(super) stream: bool,
    /// How long the model stays when it has answered.
    pub(super) keep: Keep,
    pub(super) arrived: Instant,
}

/// What one line says.
#[derive(Default)]
struct Part {
    text: String,
    thinking: String,
    calls: Vec<ToolCall>,
    logprobs: Vec<TokenLogprob>,
    sources: Vec<Citation>,
    left_out: usize,
    /// Requests that are before it in the queue.
    ahead: Option<usize>,
    finish: Option<Finish>,
}

impl Part {
    fn says_nothing(&self) -> bool {
        self.text.is_empty()
            && self.thinking.is_empty()
            && self.calls.is_empty()
            && self.logprobs.is_empty()
            && self.sources.is_empty()
            && self.left_out == 0
            && self.ahead.is_none()
            && self.finish.is_none()
    }

    fn add(&mut self, more: Part) {
        self.text.push_str(&more.text);
        self.thinking.push_str(&more.thinking);
        self.calls.extend(more.calls);
        self.logprobs.extend(more.logprobs);
        self.sources.extend(more.sources);
        self.left_out += more.left_out;
        self.finish = more.finish.or(self.finish);
    }
}

/// Turns events into parts and parts into objects.
struct Writer {
    model: String,
    form: Form,
    arrived: Instant,
    /// From arrival until the model was loaded and the prompt counted.
    load: Option<Duration>,
    /// A call whose arguments are still being written.
    call: Option<ToolCall>,
    calls: usize,
    said: String,
}

impl Writer {
    /// What an event says. A call is told whole, as Ollama does.
    fn take(&mut self, event: ChatEvent) -> Part {
        self.load.get_or_insert_with(|| self.arrived.elapsed());
        let mut part = Part::default();
        match event {
            ChatEvent::Queued { .. } => {}
            ChatEvent::Waits { ahead } => part.ahead = Some(ahead),
            ChatEvent::LeftOut { messages } => part.left_out = messages,
            ChatEvent::Sources(sources) => part.sources = sources,
            ChatEvent::Piece(piece) => {
                self.said.push_str(&piece.text);
                part.text = piece.text;
                part.logprobs = piece.logprobs;
            }
            ChatEvent::Reasoning(text) => part.thinking = text,
            ChatEvent::CallBegins { id, name, .. } => {
                part.calls.extend(self.call.take());
                let arguments = String::new();
                self.call = Some(ToolCall {
                    id,
                    name,
                    arguments,
                });
            }
            ChatEvent::CallArguments { json, .. } => {
                if let Some(call) = &mut self.call {
                    call.arguments.push_str(&json);
                }
            }
            ChatEvent::Finished(finish) => {
                part.calls.extend(self.call.take());
                part.finish = Some(finish);
            }
        }
        part
    }

    fn head(&self) -> Map<String, Value> {
        let mut head = Map::new();
        head.insert("model".into(), self.model.as_str().into());
        head.insert("created_at".into(), time::now().into());
        head
    }

    /// A line that only says that the answer is still coming.
    fn beat(model: &str, chat: bool) -> Value {
        let (name, nothing) = match chat {
            true => ("message", json!({ "role": "assistant", "content": "" })),
            false => ("response", json!("")),
        };
        json!({ "model": model, "created_at": time::now(), name: nothing, "done": false })
    }

    fn object(&mut self, part: &Part) -> Value {
        let mut object = self.head();
        match self.form {
            Form::Chat => {
                let mut message = json!({ "role": "assistant", "content": part.text });
                if !part.thinking.is_empty() {
                    message["thinking"] = part.thinking.as_str().into();
                }
                let calls: Vec<Value> = part
                    .calls
                    .iter()
                    .filter_map(|call| call_view(call, &mut self.calls))
                    .collect();
                if !calls.is_empty() {
                    message["tool_calls"] = calls.into();
                }
                object.insert("message".into(), message);
            }
            Form::Generate(_) => {
                object.insert("response".into(), part.text.as_str().into());
                if !part.thinking.is_empty() {
                    object.insert("thinking".into(), part.thinking.as_str().into());
                }
            }
        }
        if !part.logprobs.is_empty() {
            object.insert("logprobs".into(), logprobs_view(&part.logprobs));
        }
        if !part.sources.is_empty() {
            object.insert("citations".into(), json!(cited::views(&part.sources)));
        }
        if let Some(notice) = notice(part.left_out) {
            object.insert("notice".into(), notice);
        }
        if let Some(ahead) = part.ahead {
            object.insert("queue".into(), json!({ "ahead": ahead }));
        }
        object.insert("done".into(), part.finish.is_some().into());
        if let Some(finish) = &part.finish {
            self.end(&mut object, finish);
        }
        Value::Object(object)
    }

    /// Why it ended, and what it took: nanoseconds, measured.
    fn end(&self, object: &mut Map<String, Value>, finish: &Finish) {
        let done_reason = match finish.reason {
            FinishReason::Length => "length",
            FinishReason::Stop
            | FinishReason::ToolCalls
            | FinishReason::Cancelled
            | FinishReason::Error => "stop",
        };
        object.insert("done_reason".into(), done_reason.into());
        if let Form::Generate(Some(conversation)) = &self.form {
            object.insert("context".into(), conversation.context(&self.said).into());
        }
        for (name, time) in [
            ("total_duration", self.arrived.elapsed()),
            ("load_duration", self.load.unwrap_or_default()),
            ("prompt_eval_duration", finish.timings.prefill),
            ("eval_duration", finish.timings.decode),
        ] {
            object.insert(name.into(), nanoseconds(time).into());
        }
        let usage = finish.usage;
        object.insert("prompt_eval_count".into(), usage.prompt_tokens.into());
        object.insert("eval_count".into(), usage.completion_tokens.into());
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A call with its arguments as an object. One that the token limit cut has no object and is not told:
/// `done_reason` says why.
fn call_view(call: &ToolCall, told: &mut usize) -> Option<Value> {
    let text = match call.arguments.trim() {
        "" => "{}",
        text => text,
    };
    let arguments: Map<String, Value> = serde_json::from_str(text)
        .inspect_err(|error| tracing::debug!(%error, "a call was cut"))
        .ok()?;
    let index = *told;
    *told += 1;
    let function = json!({ "index": index, "name": call.name, "arguments": arguments });
    Some(json!({ "id": call.id, "function": function }))
}

fn logprobs_view(tokens: &[TokenLogprob]) -> Value {
    // JSON has no word for minus infinity.
    let finite = |logprob: f32| logprob.max(-9999.0);
    let one = |bytes: &[u8], logprob| json!({ "token": String::from_utf8_lossy(bytes), "logprob": finite(logprob), "bytes": bytes });
    let view = |token: &TokenLogprob| {
        let mut view = one(&token.bytes, token.logprob);
        if !token.top.is_empty() {
            let top = token.top.iter();
            view["top_logprobs"] = top
                .map(|(_, bytes, logprob)| one(bytes, *logprob))
                .collect();
        }
        view
    };
    tokens.iter().map(view).collect()
}

type Events = BoxStream<'static, Result<ChatEvent, AppError>>;

impl Reply {
    /// Asks, and answers as the client wants it.
    pub(super) async fn answer(
        self,
        app: App,
        request: ChatRequest,
    ) -> Result<Response, OllamaError> {
        let after = (app.clone(), request.model.clone(), self.keep);
        let asked = async move { app.chat(request).await };
        let events = asked.try_flatten_stream().boxed();
        let mut writer = Writer {
            model: self.model,
            form: self.form,
            arrived: self.arrived,
            load: None,
            call: None,
            calls: 0,
            said: String::new(),
        };
        if !self.stream {
            let whole = whole(&mut writer, events).await;
            let (app, name, keep) = after;
            keep.settle(&app, &name).await?;
            return Ok(answer(StatusCode::OK, &whole?));
        }
        let mut events = events.peekable();
        let first = tokio::time::timeout(FIRST_WORD, std::pin::Pin::new(&mut events).peek()).await;
        if let Ok(Some(Err(_))) = first
            && let Some(Err(error)) = events.next().await
        {
            return Err(error.into());
        }
        let (model, chat) = (writer.model.clone(), matches!(writer.form, Form::Chat));
        let lines = lines(writer, events.boxed(), Some(after));
        Ok(json_lines(lines, move || Writer::beat(&model, chat)))
    }

    /// What is answered when there was nothing to say: the model was loaded, or unloaded.
    pub(super) fn silent(&self, done_reason: &'static str) -> Response {
        let mut object = Writer::beat(&self.model, matches!(self.form, Form::Chat));
        object["done"] = true.into();
        object["done_reason"] = done_reason.into();
        if self.stream {
            json_lines(stream::iter([object]), || Value::Null)
        } else {
            answer(StatusCode::OK, &object)
        }
    }
}

async fn whole(writer: &mut Writer, mut events: Events) -> Result<Value, AppError> {
    let mut all = Part::default();
    while let Some(event) = events.next().await {
        all.add(writer.take(event?));
    }
    if all.finish.is_none() {
        return Err(AppError::Engine(EngineError::Stopped));
    }
    Ok(writer.object(&all))
}

/// The lines of a streamed answer. The last one says `done`, unless an error does.
fn lines(
    writer: Writer,
    events: Events,
    after: Option<(App, String, Keep)>,
) -> impl Stream<Item = Value> {
    let state = Some((writer, events, after));
    stream::unfold(state, |state| async move {
        let (mut writer, mut events, after) = state?;
        loop {
            let part = match events.next().await {
                Some(Ok(event)) => writer.take(event),
                Some(Err(error)) => return Some((error_line(&error), None)),
                None => {
                    let cut = AppError::Engine(EngineError::Stopped);
                    return Some((error_line(&cut), None));
                }
            };
            if part.finish.is_some() {
                // Nobody uses the model any more when it is to go.
                drop(events);
                if let Some((app, name, keep)) = after
                    && let Err(error) = keep.settle(&app, &name).await
                {
                    tracing::warn!(%error, model = name, "the model stays as it was told before");
                }
                return Some((writer.object(&part), None));
            }
            if !part.says_nothing() {
                return Some((writer.object(&part), Some((writer, events, after))));
            }
        }
    })
}

/// An error inside a stream that has begun.
pub(super) fn error_line(error: &dyn Failing) -> Value {
    Ollama::error_body(&tell(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Piece, Timings, Usage};

    fn writer(form: Form) -> Writer {
        Writer {
            model: "m:latest".into(),
            form,
            arrived: Instant::now(),
            load: None,
            call: None,
            calls: 0,
            said: String::new(),
        }
    }

    fn piece(text: &str) -> ChatEvent {
        ChatEvent::Piece(Piece {
            text: text.into(),
            tokens: 1,
            logprobs: Vec::new(),
        })
    }

    fn finished() -> ChatEvent {
        ChatEvent::Finished(Finish {
            stop: None,
            joules: None,
            reason: FinishReason::Length,
            usage: Usage {
                prompt_tokens: 5,
                cached_tokens: 1,
                completion_tokens: 3,
                reasoning_tokens: 0,
            },
            timings: Timings {
                queued: Duration::ZERO,
                prefill: Duration::from_micros(2),
                decode: Duration::from_micros(7),
            },
        })
    }

    fn events(events: Vec<ChatEvent>) -> Events {
        stream::iter(events).map(Ok).boxed()
    }

    #[tokio::test]
    async fn a_stream_ends_once_and_says_what_it_took() {
        let all = events(vec![
            ChatEvent::Queued {
                prompt_tokens: Some(5),
            },
            ChatEvent::Reasoning("hm".into()),
            piece("a"),
            piece(""),
            finished(),
        ]);
        let lines: Vec<Value> = lines(writer(Form::Chat), all, None).collect().await;
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0]["message"]["thinking"], "hm");
        assert_eq!(lines[1]["message"]["content"], "a");
        let last = &lines[2];
        assert_eq!(
            (&last["done"], &last["done_reason"]),
            (&json!(true), &json!("length"))
        );
        assert_eq!(last["prompt_eval_count"], 5);
        assert_eq!(last["prompt_eval_duration"], 2000);
        assert_eq!(last["eval_duration"], 7000);
        assert!(last["total_duration"].as_u64() >= last["load_duration"].as_u64());
    }

    #[tokio::test]
    async fn calls_are_told_whole_with_objects() {
        let begin = |index: usize, name: &str| ChatEvent::CallBegins {
            index,
            id: format!("c{index}"),
            name: name.into(),
        };
        let more = |index, json: &str| ChatEvent::CallArguments {
            index,
            json: json.into(),
        };
        let all = events(vec![
            begin(0, "f"),
            more(0, "{\"x\""),
            more(0, ":1}"),
            begin(1, "g"),
            begin(2, "cut"),
            more(2, "{\"x"),
            finished(),
        ]);
        let whole = whole(&mut writer(Form::Chat), all).await.unwrap();
        let calls = whole["message"]["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 2, "{whole}");
        assert_eq!(calls[0]["function"]["arguments"], json!({"x": 1}));
        assert_eq!(calls[1]["function"]["arguments"], json!({}));
        assert_eq!(calls[1]["function"]["index"], 1);
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_an_error() {
        let lines: Vec<Value> = lines(writer(Form::Chat), events(vec![piece("a")]), None)
            .collect()
            .await;
        assert!(
            lines[1]["error"].is_string() && lines.len() == 2,
            "{lines:?}"
        );
        assert!(
            whole(&mut writer(Form::Chat), events(vec![]))
                .await
                .is_err()
        );
    }
}
