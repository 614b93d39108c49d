//! `POST /v1/completions`: text goes on, without a template.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::answers::{Events, ask, first_word, place, waiting};
use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer_json};
use super::super::frames::{Frame, sse_telling};
use super::chat::finite;
use super::options::{Options, StreamOptions};
use super::{OpenAi, UsageView, created, done, error_frame, finish_reason, frame, timings};
use crate::app::{App, AppError, EngineError, Gap, new_id};
use crate::domain::{ChatEvent, ChatRequest, Finish, Input, TokenLogprob, Usage};

/// What OpenAI makes when nothing is said.
const TOKENS_DEFAULT: i64 = 16;

/// OpenAI's own limit is 5; more is harmless.
const LOGPROBS_MAX: usize = 20;

/// Prompts in one request; each takes a place in the queue.
const PROMPTS_MAX: usize = 64;

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct CompletionBody {
    #[serde(default)]
    model: String,
    prompt: Prompt,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<i64>,
    logprobs: Option<usize>,
    #[serde(default)]
    echo: bool,
    suffix: Option<String>,
    best_of: Option<usize>,
    #[serde(flatten)]
    options: Options,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

impl Wire for CompletionBody {
    type Dialect = OpenAi;
}

impl Prompt {
    fn inputs(self) -> Vec<Input> {
        let text = |text| Input::Text {
            text,
            parse_special: true,
        };
        match self {
            Prompt::Text(prompt) => vec![text(prompt)],
            Prompt::Texts(prompts) => prompts.into_iter().map(text).collect(),
            Prompt::Tokens(tokens) => vec![Input::Tokens(tokens)],
            Prompt::TokenLists(lists) => lists.into_iter().map(Input::Tokens).collect(),
        }
    }
}

struct Asked {
    /// `choices` requests for each prompt, prompt by prompt.
    requests: Vec<ChatRequest>,
    choices: usize,
    stream: bool,
    include_usage: bool,
    echo: bool,
    /// What stands behind the text that is to be made.
    suffix: Option<String>,
}

impl Asked {
    /// Asks for what stands between each prompt and the suffix, in the model's own marks.
    async fn fill_gaps(&mut self, app: &App, model: &str) -> Result<(), Failure<OpenAi>> {
        let Some(suffix) = self.suffix.take() else {
            return Ok(());
        };
        for request in &mut self.requests {
            let Input::Text { text, .. } = &mut request.input else {
                continue;
            };
            let gap = Gap {
                before: std::mem::take(text),
                after: suffix.clone(),
                ..Gap::default()
            };
            let tokens = match app.gap_prompt(model, &gap).await {
                Err(AppError::FillsNoGaps(_)) => {
                    let why = "this model does not fill in the middle";
                    let param = "suffix";
                    return Err(RequestError::Unsupported { param, why }.into());
                }
                tokens => tokens?,
            };
            request.input = Input::Tokens(tokens);
        }
        Ok(())
    }
}

impl TryFrom<CompletionBody> for Asked {
    type Error = RequestError;

    fn try_from(body: CompletionBody) -> Result<Asked, RequestError> {
        let choices = body.options.choices()?;
        if body.best_of.is_some_and(|best| best > choices) {
            let why = "answers are not ranked; ask for `n` of them";
            return Err(RequestError::Unsupported {
                param: "best_of",
                why,
            });
        }
        if body.logprobs.is_some_and(|top| top > LOGPROBS_MAX) {
            return Err(RequestError::field(
                "logprobs",
                format!("must be at most {LOGPROBS_MAX}"),
            ));
        }
        let inputs = body.prompt.inputs();
        if inputs.is_empty() || inputs.len() > PROMPTS_MAX {
            return Err(RequestError::field(
                "prompt",
                format!("must hold 1 to {PROMPTS_MAX} prompts"),
            ));
        }
        if body.echo && body.logprobs.is_some() {
            return Err(RequestError::Unsupported {
                param: "logprobs",
                why: "the tokens of a prompt are read and not judged; leave `echo` out",
            });
        }
        if body.echo && inputs.iter().any(|input| matches!(input, Input::Tokens(_))) {
            return Err(RequestError::Unsupported {
                param: "echo",
                why: "prompts of token ids are not echoed",
            });
        }
        let suffix = body.suffix.filter(|suffix| !suffix.is_empty());
        if suffix.is_some() && inputs.iter().any(|input| matches!(input, Input::Tokens(_))) {
            return Err(RequestError::Unsupported {
                param: "suffix",
                why: "a text stands behind a text; send the prompt as one",
            });
        }
        let (sampling, limits) = (
            body.options.sampling()?,
            body.options
                .limits(body.max_tokens.or(Some(TOKENS_DEFAULT)), "max_tokens")?,
        );
        let mut requests = Vec::with_capacity(inputs.len() * choices);
        for input in inputs {
            for choice in 0..choices {
                let mut sampling = sampling.clone();
                sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(choice as u64));
                requests.push(ChatRequest {
                    sampling,
                    limits: limits.clone(),
                    logprobs: body.logprobs,
                    ..ChatRequest::new(body.model.as_str(), input.clone())
                });
            }
        }
        Ok(Asked {
            requests,
            choices,
            stream: body.stream,
            include_usage: body
                .stream_options
                .is_some_and(|options| options.include_usage),
            echo: body.echo,
            suffix,
        })
    }
}

pub(in super::super) async fn answer(
    State(app): State<App>,
    Body(body): Body<CompletionBody>,
) -> Result<Response, Failure<OpenAi>> {
    let mut asked = Asked::try_from(body)?;
    let named = asked
        .requests
        .first()
        .map(|request| request.model.clone())
        .unwrap_or_default();
    let model = app.name(&named).await?;
    for request in &mut asked.requests {
        request.model.clone_from(&model);
    }
    let echoes: Vec<String> = asked
        .requests
        .iter()
        .map(|request| match &request.input {
            Input::Text { text, .. } if asked.echo => text.clone(),
            _ => String::new(),
        })
        .collect();
    asked.fill_gaps(&app, &model).await?;
    let writer = Writer {
        id: format!("cmpl-{}", new_id()?),
        created: created(),
        model,
        choices: asked.choices,
        include_usage: asked.include_usage,
    };
    let mut events = ask(&app, asked.requests);
    first_word(&mut events).await?;
    if asked.stream {
        let beat = waiting(&app, &writer.model);
        return Ok(sse_telling(writer.frames(events, echoes), beat));
    }
    writer.whole(events, echoes).await
}

struct Writer {
    id: String,
    created: i64,
    model: String,
    choices: usize,
    include_usage: bool,
}

impl Writer {
    fn envelope(&self, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    /// Each prompt counts once, however many answers it has.
    fn usage(&self, finishes: &[(usize, Finish)]) -> Value {
        let mut sum = Usage::default();
        for (index, finish) in finishes {
            sum.completion_tokens += finish.usage.completion_tokens;
            sum.reasoning_tokens += finish.usage.reasoning_tokens;
            if index.is_multiple_of(self.choices) {
                sum.prompt_tokens += finish.usage.prompt_tokens;
                sum.cached_tokens += finish.usage.cached_tokens;
            }
        }
        json!(UsageView::from(sum))
    }

    async fn whole(
        &self,
        mut events: Events,
        echoes: Vec<String>,
    ) -> Result<Response, Failure<OpenAi>> {
        let mut texts = echoes;
        let mut logprobs: Vec<Vec<TokenLogprob>> = vec![Vec::new(); texts.len()];
        let mut finishes = Vec::new();
        while let Some(event) = events.next().await {
            match event? {
                // Only conversations have thoughts and calls.
                (
                    _,
                    ChatEvent::Queued { .. }
                    | ChatEvent::Waits { .. }
                    | ChatEvent::LeftOut { .. }
                    | ChatEvent::Sources(_)
                    | ChatEvent::Reasoning(_)
                    | ChatEvent::CallBegins { .. }
                    | ChatEvent::CallArguments { .. },
                ) => {}
                (index, ChatEvent::Piece(piece)) => {
                    texts[index].push_str(&piece.text);
                    logprobs[index].extend(piece.logprobs);
                }
                (index, ChatEvent::Finished(finish)) => finishes.push((index, finish)),
            }
        }
        finishes.sort_by_key(|(index, _)| *index);
        let choices = finishes
            .iter()
            .map(|(index, finish)| {
                json!({
                    "index": index,
                    "text": texts[*index],
                    "logprobs": logprobs_view(&logprobs[*index], 0),
                    "finish_reason": finish_reason(finish.reason),
                })
            })
            .collect();
        let mut body = self.envelope(choices);
        body["usage"] = self.usage(&finishes);
        if let Some((_, finish)) = finishes.last() {
            body["timings"] = timings(&finish.timings, &finish.usage);
        }
        Ok(answer_json(StatusCode::OK, &body))
    }

    fn frames(self, events: Events, echoes: Vec<String>) -> impl stream::Stream<Item = Frame> {
        let wanted = echoes.len();
        let texts: Vec<Sent> = echoes.into_iter().map(Sent::after).collect();
        let state = (self, events, texts, Vec::new(), false);
        let frames = stream::unfold(
            state,
            move |(writer, mut events, mut texts, mut finishes, ended)| async move {
                if ended {
                    return None;
                }
                let (frames, ended) = match events.next().await {
                    Some(Ok((index, event))) => {
                        if let ChatEvent::Finished(finish) = &event {
                            finishes.push((index, *finish));
                        }
                        let chunk = writer.chunk(index, &event, &mut texts[index]);
                        (chunk.into_iter().collect(), false)
                    }
                    Some(Err(error)) => (vec![error_frame(&error)], true),
                    None if finishes.len() < wanted => (
                        vec![error_frame(&AppError::Engine(EngineError::Stopped))],
                        true,
                    ),
                    None => {
                        let usage = writer.include_usage.then(|| {
                            let mut body = writer.envelope(Vec::new());
                            body["usage"] = writer.usage(&finishes);
                            frame(&body)
                        });
                        (usage.into_iter().chain([done()]).collect::<Vec<_>>(), true)
                    }
                };
                Some((
                    stream::iter(frames),
                    (writer, events, texts, finishes, ended),
                ))
            },
        );
        frames.flatten()
    }

    fn chunk(&self, index: usize, event: &ChatEvent, sent: &mut Sent) -> Option<Frame> {
        let (text, logprobs, finish) = match event {
            ChatEvent::LeftOut { .. }
            | ChatEvent::Sources(_)
            | ChatEvent::Reasoning(_)
            | ChatEvent::CallBegins { .. }
            | ChatEvent::CallArguments { .. } => return None,
            ChatEvent::Waits { ahead } => return Some(place(*ahead)),
            ChatEvent::Queued { .. } if sent.echo.is_empty() => return None,
            ChatEvent::Queued { .. } => (std::mem::take(&mut sent.echo), Value::Null, None),
            ChatEvent::Piece(piece) => {
                let logprobs = logprobs_view(&piece.logprobs, sent.chars);
                sent.chars += piece.logprobs.iter().map(chars).sum::<usize>();
                (piece.text.clone(), logprobs, None)
            }
            ChatEvent::Finished(finish) => (String::new(), Value::Null, Some(finish)),
        };
        let choice = json!({
            "index": index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish.map(|finish| finish_reason(finish.reason)),
        });
        let mut body = self.envelope(vec![choice]);
        if self.include_usage {
            body["usage"] = Value::Null;
        }
        if let Some(finish) = finish {
            body["timings"] = timings(&finish.timings, &finish.usage);
        }
        Some(frame(&body))
    }
}

/// What one streamed answer has sent.
struct Sent {
    /// The prompt, while it is still to be sent back.
    echo: String,
    /// Characters of the tokens whose log probabilities have gone out.
    chars: usize,
}

impl Sent {
    fn after(echo: String) -> Sent {
        Sent { echo, chars: 0 }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn chars(token: &TokenLogprob) -> usize {
    text(&token.bytes).chars().count()
}

/// Log probabilities as text completions write them; the first token stands at `offset` of the answer.
fn logprobs_view(logprobs: &[TokenLogprob], mut offset: usize) -> Value {
    if logprobs.is_empty() {
        return Value::Null;
    }
    let mut offsets = Vec::with_capacity(logprobs.len());
    for token in logprobs {
        offsets.push(offset);
        offset += chars(token);
    }
    let top = |token: &TokenLogprob| -> Value {
        token
            .top
            .iter()
            .map(|(_, bytes, logprob)| (text(bytes), json!(finite(*logprob))))
            .collect()
    };
    json!({
        "tokens": logprobs.iter().map(|token| text(&token.bytes)).collect::<Vec<_>>(),
        "token_logprobs": logprobs.iter().map(|token| finite(token.logprob)).collect::<Vec<_>>(),
        "top_logprobs": logprobs.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: Value) -> Result<Asked, String> {
        let body: CompletionBody =
            serde_json::from_value(json).map_err(|error| error.to_string())?;
        Asked::try_from(body).map_err(|error| error.to_string())
    }

    #[test]
    fn prompts_come_in_four_forms() {
        for (prompt, count) in [
            (json!("a"), 1),
            (json!(["a", "b"]), 2),
            (json!([1, 2, 3]), 1),
            (json!([[1], [2, 3]]), 2),
        ] {
            let asked =
                parse(json!({ "model": "m", "prompt": prompt, "n": 2, "seed": 1 })).unwrap();
            assert_eq!(asked.requests.len(), count * 2, "{prompt}");
            assert_eq!(asked.requests[1].sampling.seed, Some(2));
            assert_eq!(asked.requests[0].limits.tokens_max, Some(16));
        }
    }

    #[test]
    fn what_we_do_not_do_is_refused_by_name() {
        for (field, value) in [
            ("best_of", json!(3)),
            ("logprobs", json!(99)),
            ("prompt", json!([])),
        ] {
            let mut body = json!({ "model": "m", "prompt": "a" });
            body[field] = value;
            let error = parse(body).err().unwrap_or_default();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
        assert!(parse(json!({"prompt": [1], "echo": true})).is_err());
        let judged = parse(json!({"prompt": "a", "echo": true, "logprobs": 1})).err();
        assert!(judged.unwrap().contains("`logprobs`"));
    }

    #[test]
    fn offsets_go_on_where_the_last_piece_ended() {
        let token = |text: &str| TokenLogprob {
            id: 0,
            bytes: text.as_bytes().to_vec(),
            logprob: -1.0,
            top: Vec::new(),
        };
        let view = logprobs_view(&[token("äb"), token("er")], 5);
        assert_eq!(view["text_offset"], json!([5, 7]));
        assert_eq!(logprobs_view(&[], 5), Value::Null);
    }
}
