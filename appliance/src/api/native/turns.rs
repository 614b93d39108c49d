//! Turns: start, follow, come back to, stop. The stream carries OpenAI's chunks between a `turn` event and
//! a `message` event; every event has a number, and `Last-Event-ID` goes on after it.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::{StreamExt, future};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::base64;
use super::super::body::{Body, RequestError, Wire};
use super::super::cited::{self, CitationView};
use super::super::failure::{Failure, json as answer};
use super::super::frames::{Frame, sse};
use super::super::openai::{OpenAi, chat::Chunks, error_frame, frame as written};
use super::super::outgrown::{Notice, overflow};
use super::chats::MessageView;
use super::person;
use crate::app::{App, AppError, Turn, TurnEvent, TurnRequest, now_ms};
use crate::domain::{ChatEvent, Limits, Overflow, Peer, Sampling};

/// Pictures of one question; more than a screen shows.
pub(super) const PICTURES_MAX: usize = 8;

/// Kinds of pictures that browsers show and engines open.
const KINDS: [&str; 4] = ["image/png", "image/jpeg", "image/webp", "image/gif"];

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct TurnBody {
    parent_id: Option<String>,
    content: Option<String>,
    /// Shown with the question: PNG, JPEG, WebP or GIF at `data:` addresses.
    #[serde(default)]
    pictures: Vec<String>,
    #[serde(default)]
    model: String,
    #[serde(default)]
    options: OptionsBody,
}

#[derive(Deserialize, Default, JsonSchema)]
struct OptionsBody {
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    seed: Option<u64>,
    max_tokens: Option<usize>,
    system: Option<String>,
    /// `auto`, the default, leaves the oldest turns out of a chat that is too long; `disabled` refuses it.
    truncation: Option<String>,
}

/// The first event of a turn.
#[derive(Serialize, JsonSchema)]
pub(super) struct TurnStarted {
    turn_id: String,
    user_message: Option<MessageView>,
    assistant_message_id: String,
    assistant_message: MessageView,
}

/// It has been told to stop.
#[derive(Serialize, JsonSchema)]
pub(super) struct StoppedView {
    stopped: bool,
}

impl Wire for TurnBody {
    type Dialect = OpenAi;
}

fn within(
    param: &'static str,
    value: Option<f32>,
    low: f32,
    high: f32,
) -> Result<Option<f32>, RequestError> {
    match value {
        Some(v) if !(low..=high).contains(&v) => Err(RequestError::field(
            param,
            format!("must be between {low} and {high}"),
        )),
        value => Ok(value),
    }
}

/// Pictures come with a question, and in forms that engines open and browsers show.
fn check_pictures(pictures: &[String], asked: bool) -> Result<(), RequestError> {
    let wrong = |why: String| Err(RequestError::field("pictures", why));
    if !asked && !pictures.is_empty() {
        return wrong(
            "come with `content`: another answer is made from those that are there".into(),
        );
    }
    if pictures.len() > PICTURES_MAX {
        return wrong(format!("are {} of at most {PICTURES_MAX}", pictures.len()));
    }
    match pictures.iter().all(|address| opened(address).is_some()) {
        true => Ok(()),
        false => wrong("must be data:image/png, jpeg, webp or gif in base64".into()),
    }
}

/// A picture's kind and bytes by its address.
pub(super) fn opened(address: &str) -> Option<(&'static str, Vec<u8>)> {
    KINDS.into_iter().find_map(|kind| {
        let rest = address.strip_prefix("data:")?.strip_prefix(kind)?;
        Some((kind, base64::decode(rest.strip_prefix(";base64,")?)?))
    })
}

/// `GET /onebit/messages/{id}/pictures/{number}`
pub(in super::super) async fn picture(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path((id, number)): Path<(String, usize)>,
) -> Result<Response, Failure<OpenAi>> {
    let address = app
        .store()
        .pictures()
        .one(person(&peer)?, &id, number)
        .await?;
    let (kind, bytes) = opened(&address).ok_or(AppError::BadRow("picture"))?;
    let mut response = Response::new(bytes.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=31536000, immutable"),
    );
    Ok(response)
}

fn request(chat: String, body: TurnBody) -> Result<TurnRequest, RequestError> {
    let options = body.options;
    if body
        .content
        .as_deref()
        .is_some_and(|content| content.trim().is_empty())
    {
        return Err(RequestError::field("content", "is empty"));
    }
    check_pictures(&body.pictures, body.content.is_some())?;
    if options.max_tokens == Some(0) {
        return Err(RequestError::field("max_tokens", "must be at least 1"));
    }
    Ok(TurnRequest {
        chat,
        parent_id: body.parent_id,
        content: body.content,
        pictures: body.pictures,
        model: body.model,
        sampling: Sampling {
            temperature: within("temperature", options.temperature, 0.0, 2.0)?,
            top_p: within("top_p", options.top_p, 0.0, 1.0)?,
            top_k: options.top_k,
            min_p: within("min_p", options.min_p, 0.0, 1.0)?,
            repetition_penalty: within(
                "repetition_penalty",
                options.repetition_penalty,
                0.01,
                10.0,
            )?,
            seed: options.seed,
            ..Sampling::default()
        },
        limits: Limits {
            tokens_max: options.max_tokens,
            ..Limits::default()
        },
        overflow: overflow(options.truncation.as_deref(), Overflow::LeaveOut)?,
        system: options.system,
        shelves: None,
    })
}

/// `POST /onebit/chats/{id}/turns`
pub(in super::super) async fn start(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(chat): Path<String>,
    Body(body): Body<TurnBody>,
) -> Result<Response, Failure<OpenAi>> {
    let turn = app.turn(person(&peer)?, request(chat, body)?).await?;
    Ok(follow(&turn, 0))
}

/// `GET /onebit/turns/{id}/events`
pub(in super::super) async fn events(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure<OpenAi>> {
    let turn = app.find_turn(person(&peer)?, &id)?;
    let from = match headers.get("last-event-id") {
        None => 0,
        Some(seen) => seen
            .to_str()
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .and_then(|seen| seen.checked_add(1))
            .ok_or_else(|| {
                RequestError::field("last-event-id", "must be the number of an event")
            })?,
    };
    Ok(follow(&turn, from))
}

/// `POST /onebit/turns/{id}/stop`
pub(in super::super) async fn stop(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    app.stop_turn(person(&peer)?, &id)?;
    Ok(answer(StatusCode::OK, &StoppedView { stopped: true }))
}

fn follow(turn: &Turn, from: usize) -> Response {
    let id = turn.id.clone();
    let chunks = Chunks::new(
        format!("chatcmpl-{id}"),
        now_ms() / 1000,
        turn.model().to_owned(),
    );
    let frames = turn.events(from).filter_map(move |(number, event)| {
        let frame = frame(&id, &chunks, &event).map(|frame| Frame {
            id: Some(number),
            ..frame
        });
        future::ready(frame)
    });
    sse(frames)
}

/// What an answer is made from; comes before its first word.
#[derive(Serialize, JsonSchema)]
pub(super) struct TurnCitations {
    citations: Vec<CitationView>,
}

/// It waits in the engine's queue; comes again whenever that changes.
#[derive(Serialize, JsonSchema)]
pub(super) struct TurnWaits {
    /// Requests that are before it.
    ahead: usize,
}

fn named(event: &'static str, data: &impl Serialize) -> Frame {
    Frame {
        event: Some(event),
        ..written(data)
    }
}

fn frame(turn_id: &str, chunks: &Chunks, event: &TurnEvent) -> Option<Frame> {
    Some(match event {
        TurnEvent::Started { user, assistant } => {
            let started = TurnStarted {
                turn_id: turn_id.to_owned(),
                user_message: user.as_deref().map(MessageView::from),
                assistant_message_id: assistant.id.clone(),
                assistant_message: MessageView::from(&**assistant),
            };
            named("turn", &started)
        }
        TurnEvent::Chat(ChatEvent::LeftOut { messages }) => {
            named("notice", &Notice::left_out(*messages))
        }
        TurnEvent::Chat(ChatEvent::Waits { ahead }) => named("queue", &TurnWaits { ahead: *ahead }),
        TurnEvent::Chat(ChatEvent::Sources(sources)) => {
            let citations = cited::views(sources);
            named("citations", &TurnCitations { citations })
        }
        TurnEvent::Chat(event) => return chunks.chunk(0, event),
        TurnEvent::Stored(message) => named("message", &MessageView::from(message)),
        TurnEvent::Failed { error } => Frame {
            event: Some("error"),
            ..error_frame(error)
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bodies_are_checked() {
        let parse = |json: serde_json::Value| {
            let body: TurnBody = serde_json::from_value(json).map_err(|error| error.to_string())?;
            request("c".into(), body).map_err(|error| error.to_string())
        };
        let turn = parse(json!({
            "parent_id": null, "content": "hi", "model": "m",
            "options": {"temperature": 0.5, "max_tokens": 9, "system": "brief"}
        }))
        .unwrap();
        assert_eq!(
            (turn.limits.tokens_max, turn.sampling.temperature),
            (Some(9), Some(0.5))
        );
        assert_eq!(turn.system.as_deref(), Some("brief"));
        assert!(
            parse(json!({"content": " "}))
                .err()
                .unwrap()
                .contains("`content`")
        );
        let shown =
            |pictures: serde_json::Value| parse(json!({"content": "x", "pictures": pictures}));
        assert_eq!(
            shown(json!(["data:image/png;base64,AA=="]))
                .unwrap()
                .pictures
                .len(),
            1
        );
        for bad in [
            json!(["data:text/html;base64,AA=="]),
            json!(["https://a/b.png"]),
            json!(["data:image/png;base64,!"]),
            json!(vec!["data:image/png;base64,AA=="; 9]),
        ] {
            assert!(shown(bad).err().unwrap().contains("`pictures`"));
        }
        let again = json!({"parent_id": "p", "pictures": ["data:image/png;base64,AA=="]});
        assert!(parse(again).err().unwrap().contains("`pictures`"));
        let hot = json!({"content": "x", "options": {"temperature": 9}});
        assert!(parse(hot).err().unwrap().contains("`temperature`"));
    }
}
