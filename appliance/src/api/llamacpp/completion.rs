//! `POST /completion` and `POST /infill`: text goes on, without a template.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::answers::{Events, ask, first_word, place};
use super::super::body::{Body, Wire};
use super::super::failure::{Dialect, Failure, json as answer_json, tell};
use super::super::frames::{Frame, sse};
use super::options::Options;
use super::prompt::Prompts;
use super::settings::settings;
use super::{LlamaCpp, timings};
use crate::app::{App, AppError, EngineError, Gap};
use crate::domain::{
    ChatEvent, ChatRequest, Finish, FinishReason, Input, Model, ModelFormat, TokenLogprob, Usage,
};

#[derive(Deserialize)]
pub(in super::super) struct CompletionBody {
    #[serde(default)]
    model: String,
    #[serde(default)]
    prompt: Prompts,
    #[serde(flatten)]
    options: Options,
}

impl Wire for CompletionBody {
    type Dialect = LlamaCpp;
}

#[derive(Deserialize)]
pub(in super::super) struct InfillBody {
    #[serde(default)]
    model: String,
    #[serde(default)]
    input_prefix: String,
    #[serde(default)]
    input_suffix: String,
    #[serde(default)]
    input_extra: Vec<ExtraBody>,
    #[serde(default)]
    prompt: String,
    #[serde(flatten)]
    options: Options,
}

#[derive(Deserialize)]
struct ExtraBody {
    #[serde(default = "some_file")]
    filename: String,
    text: String,
}

fn some_file() -> String {
    "tmp".to_owned()
}

impl Wire for InfillBody {
    type Dialect = LlamaCpp;
}

pub(in super::super) async fn completion(
    State(app): State<App>,
    Body(body): Body<CompletionBody>,
) -> Result<Response, Failure<LlamaCpp>> {
    body.options.check()?;
    let model = app.model(&body.model).await?;
    let (inputs, list) = body.prompt.inputs(&app, &model.id).await?;
    answer(&app, model, inputs, list, body.options).await
}

pub(in super::super) async fn infill(
    State(app): State<App>,
    Body(body): Body<InfillBody>,
) -> Result<Response, Failure<LlamaCpp>> {
    body.options.check()?;
    let model = app.model(&body.model).await?;
    let extra = body.input_extra.into_iter();
    let gap = Gap {
        before: body.input_prefix,
        after: body.input_suffix,
        begins: body.prompt,
        files: extra.map(|file| (file.filename, file.text)).collect(),
    };
    let tokens = app.gap_prompt(&model.id, &gap).await?;
    answer(
        &app,
        model,
        vec![Input::Tokens(tokens)],
        false,
        body.options,
    )
    .await
}

async fn answer(
    app: &App,
    model: Model,
    inputs: Vec<Input>,
    list: bool,
    options: Options,
) -> Result<Response, Failure<LlamaCpp>> {
    let choices = options.choices()?;
    let sampling = options.sampling(app, &model.id).await?;
    let mut used = sampling.clone().or(app.usual_sampling(&model));
    used.repetition_window = sampling.repetition_window;
    let probabilities = options.probabilities()?;
    // A stream tells each token's id, which comes with its probability. Engines elsewhere may have neither.
    let ids = options.return_tokens || (options.stream && model.format == ModelFormat::Gguf);
    let first = ChatRequest {
        limits: options.limits()?,
        shape: options.shape().await?,
        logprobs: probabilities.or(ids.then_some(0)),
        sampling,
        ..ChatRequest::new(model.id.as_str(), Input::Tokens(Vec::new()))
    };
    let mut requests = Vec::with_capacity(inputs.len() * choices);
    let mut prompts = Vec::with_capacity(requests.capacity());
    for input in inputs {
        let shown = match &input {
            Input::Text { text, .. } => text.clone(),
            Input::Tokens(tokens) => app.detokenize(&model.id, tokens).await?,
            Input::Messages(_) => String::new(), // this route has none
        };
        for choice in 0..choices {
            let mut request = first.clone();
            request.input = input.clone();
            let seed = &mut request.sampling.seed;
            *seed = seed.map(|seed| seed.wrapping_add(choice as u64));
            requests.push(request);
            prompts.push(shown.clone());
        }
    }
    let writer = Writer {
        model: model.id,
        settings: settings(&options, &used),
        texts: requests
            .first()
            .map(|request| request.limits.stop.clone())
            .unwrap_or_default(),
        probabilities: probabilities.is_some(),
        options,
    };
    let stream = writer.options.stream;
    let list = list || choices > 1;
    let mut events = ask(app, requests);
    first_word(&mut events).await?;
    let answers: Vec<Answer> = prompts.into_iter().map(Answer::to).collect();
    if stream {
        return Ok(sse(writer.frames(events, answers)));
    }
    let mut whole = writer.whole(events, answers).await?;
    let body = match list {
        true => Value::from(whole),
        false => whole.swap_remove(0),
    };
    Ok(answer_json(StatusCode::OK, &body))
}

/// One answer as it grows.
#[derive(Default)]
struct Answer {
    prompt: String,
    prompt_tokens: usize,
    content: String,
    made: usize,
    tokens: Vec<TokenLogprob>,
    finish: Option<Finish>,
}

impl Answer {
    fn to(prompt: String) -> Answer {
        Answer {
            prompt,
            ..Answer::default()
        }
    }

    fn take(&mut self, event: &ChatEvent) {
        match event {
            ChatEvent::Queued { prompt_tokens } => {
                self.prompt_tokens = prompt_tokens.unwrap_or_default();
            }
            ChatEvent::Waits { .. } | ChatEvent::LeftOut { .. } | ChatEvent::Sources(_) => {}
            ChatEvent::Piece(piece) => {
                self.content.push_str(&piece.text);
                self.made += piece.tokens;
                self.tokens.extend(piece.logprobs.iter().cloned());
            }
            ChatEvent::Finished(finish) => self.finish = Some(*finish),
            // Only conversations have thoughts and calls.
            ChatEvent::Reasoning(_)
            | ChatEvent::CallBegins { .. }
            | ChatEvent::CallArguments { .. } => {}
        }
    }
}

/// Writes answers as this server does.
struct Writer {
    model: String,
    settings: Value,
    /// The texts that end an answer.
    texts: Vec<String>,
    probabilities: bool,
    options: Options,
}

impl Writer {
    async fn whole(
        &self,
        mut events: Events,
        mut answers: Vec<Answer>,
    ) -> Result<Vec<Value>, AppError> {
        while let Some(event) = events.next().await {
            let (index, event) = event?;
            answers[index].take(&event);
        }
        let write = |(index, answer): (usize, &Answer)| {
            let finish = answer.finish.ok_or(EngineError::Stopped)?;
            Ok(self.end(index, answer, &finish, true))
        };
        answers.iter().enumerate().map(write).collect()
    }

    /// Frames until every answer has ended. There is no mark at the end: the last frame of each says `stop`.
    fn frames(self, events: Events, answers: Vec<Answer>) -> impl stream::Stream<Item = Frame> {
        let state = Some((self, events, answers));
        let frames = stream::unfold(state, |state| async move {
            let (writer, mut events, mut answers) = state?;
            let frame = match events.next().await {
                Some(Ok((index, event))) => {
                    answers[index].take(&event);
                    writer.frame(index, &answers[index], &event)
                }
                Some(Err(error)) => return Some((Some(error_frame(&error)), None)),
                None if answers.iter().all(|answer| answer.finish.is_some()) => return None,
                None => {
                    let cut = AppError::Engine(EngineError::Stopped);
                    return Some((Some(error_frame(&cut)), None));
                }
            };
            Some((frame, Some((writer, events, answers))))
        });
        frames.filter_map(|frame| async move { frame })
    }

    fn frame(&self, index: usize, answer: &Answer, event: &ChatEvent) -> Option<Frame> {
        let mut body = json!({
            "index": index,
            "content": "",
            "tokens": [],
            "stop": false,
            "id_slot": index,
            "tokens_predicted": answer.made,
            "tokens_evaluated": answer.prompt_tokens,
        });
        match event {
            ChatEvent::Queued { prompt_tokens } if self.options.return_progress => {
                body["prompt_progress"] =
                    json!({ "total": prompt_tokens, "cache": 0, "processed": 0, "time_ms": 0 });
            }
            ChatEvent::Piece(piece) => {
                body["content"] = piece.text.as_str().into();
                body["tokens"] = piece.logprobs.iter().map(|token| token.id).collect();
                if self.probabilities {
                    body["completion_probabilities"] = probabilities(&piece.logprobs);
                }
                if self.options.timings_per_token {
                    // Rates are known when it has ended; until then, how far it is.
                    let usage = Usage {
                        prompt_tokens: answer.prompt_tokens,
                        completion_tokens: answer.made,
                        ..Usage::default()
                    };
                    body["timings"] = timings(&Default::default(), &usage);
                }
            }
            ChatEvent::Finished(finish) => body = self.end(index, answer, finish, false),
            ChatEvent::Waits { ahead } => return Some(place(*ahead)),
            _ => return None,
        }
        Some(Frame::data(body.to_string()))
    }

    /// An answer's end; with its text where it has not been told in pieces.
    fn end(&self, index: usize, answer: &Answer, finish: &Finish, whole: bool) -> Value {
        let word = finish.stop.and_then(|stop| self.texts.get(stop));
        let stop_type = match finish.reason {
            FinishReason::Length => "limit",
            _ if word.is_some() => "word",
            FinishReason::Stop | FinishReason::ToolCalls => "eos",
            FinishReason::Cancelled | FinishReason::Error => "none",
        };
        let usage = finish.usage;
        let asked = self.options.n_predict.filter(|n| *n >= 0);
        let full = finish.reason == FinishReason::Length
            && asked.is_none_or(|n| usize::try_from(n).is_ok_and(|n| usage.completion_tokens < n));
        let tokens: Vec<u32> = match self.options.return_tokens && whole {
            true => answer.tokens.iter().map(|token| token.id).collect(),
            false => Vec::new(),
        };
        let mut body = json!({
            "index": index,
            "content": if whole { answer.content.as_str() } else { "" },
            "tokens": tokens,
            "id_slot": index,
            "stop": true,
            "model": self.model,
            "tokens_predicted": usage.completion_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "generation_settings": self.settings,
            "prompt": answer.prompt,
            "has_new_line": answer.content.contains('\n'),
            "truncated": full,
            "stop_type": stop_type,
            "stopping_word": word.map_or("", String::as_str),
            "tokens_cached": usage.prompt_tokens + usage.completion_tokens,
            "timings": timings(&finish.timings, &usage),
        });
        if self.probabilities && whole {
            body["completion_probabilities"] = probabilities(&answer.tokens);
        }
        match &self.options.response_fields {
            Some(fields) if !fields.is_empty() => only(&body, fields),
            _ => body,
        }
    }
}

/// The fields asked for; one inside another is named with a slash and comes out under its own name.
fn only(body: &Value, fields: &[String]) -> Value {
    let mut out = Map::new();
    for field in fields {
        let found = field
            .split('/')
            .try_fold(body, |inside, name| inside.get(name));
        if let (Some(value), Some(name)) = (found, field.split('/').next_back()) {
            out.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(out)
}

fn probabilities(tokens: &[TokenLogprob]) -> Value {
    // JSON has no word for minus infinity.
    let one = |id: u32, bytes: &[u8], logprob: f32| {
        json!({
            "id": id,
            "token": String::from_utf8_lossy(bytes),
            "bytes": bytes,
            "logprob": logprob.max(-9999.0),
        })
    };
    let view = |token: &TokenLogprob| {
        let mut view = one(token.id, &token.bytes, token.logprob);
        let top = token.top.iter();
        view["top_logprobs"] = top
            .map(|(id, bytes, logprob)| one(*id, bytes, *logprob))
            .collect();
        view
    };
    tokens.iter().map(view).collect()
}

/// An error inside a stream that has begun.
fn error_frame(error: &AppError) -> Frame {
    Frame::data(LlamaCpp::error_body(&tell(error)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_picked_and_brought_up() {
        let body = json!({"content": "x", "generation_settings": {"n_predict": 3}, "stop": true});
        let fields = ["content", "generation_settings/n_predict", "missing/one"].map(String::from);
        assert_eq!(
            only(&body, &fields),
            json!({"content": "x", "n_predict": 3})
        );
    }

    #[test]
    fn probabilities_name_token_and_bytes() {
        let token = TokenLogprob {
            id: 7,
            bytes: vec![0xc3],
            logprob: f32::NEG_INFINITY,
            top: vec![(8, b"a".to_vec(), -0.5)],
        };
        let view = probabilities(&[token]);
        assert_eq!(view[0]["id"], 7);
        assert_eq!(view[0]["bytes"], json!([0xc3]));
        assert_eq!(view[0]["logprob"], -9999.0);
        assert_eq!(view[0]["top_logprobs"][0]["token"], "a");
    }
}
