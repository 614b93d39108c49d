//! `POST /v1/audio/speech`: text to sound, and `GET /v1/audio/voices`.
//!
//! Without `response_format` the answer is WAV, which every player knows and needs no other program; OpenAI's own default
//! is mp3. `instructions` is refused by name: these voices take none.

use axum::body::Body as RawBody;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::base64;
use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::frames::{Frame, sse};
use super::{OpenAi, error_frame, frame};
use crate::app::{App, AppError, Container, SpeakAsk, Speaking, TEXT_BYTES_MAX};
use crate::domain::speech::wav_head;

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct SpeechBody {
    #[serde(default)]
    model: String,
    input: String,
    voice: Option<Voice>,
    response_format: Option<String>,
    speed: Option<f32>,
    stream_format: Option<String>,
    instructions: Option<String>,
    /// `clause` (what is heard soon) or `sentence` (for a text that goes on one that is being heard).
    first_piece: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Voice {
    Name(String),
    Own { id: String },
}

impl Wire for SpeechBody {
    type Dialect = OpenAi;
}

/// A checked request.
struct Asked {
    model: String,
    ask: SpeakAsk,
    form: Form,
    events: bool,
}

/// What the sound comes as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Wav,
    Pcm,
    Coded(Container),
}

impl Form {
    fn media(self) -> &'static str {
        match self {
            Form::Wav => "audio/wav",
            Form::Pcm => "audio/pcm",
            Form::Coded(container) => container.media(),
        }
    }
}

impl TryFrom<SpeechBody> for Asked {
    type Error = RequestError;

    fn try_from(body: SpeechBody) -> Result<Asked, RequestError> {
        if body.input.trim().is_empty() || body.input.len() > TEXT_BYTES_MAX {
            let why = format!("must hold 1 to {TEXT_BYTES_MAX} bytes of text");
            return Err(RequestError::field("input", why));
        }
        let speed = body.speed.unwrap_or(1.0);
        if !(0.25..=4.0).contains(&speed) {
            return Err(RequestError::field("speed", "must be 0.25 to 4"));
        }
        if body
            .instructions
            .is_some_and(|text| !text.trim().is_empty())
        {
            return Err(RequestError::Unsupported {
                param: "instructions",
                why: "these voices take none; choose a voice and a speed",
            });
        }
        let form = match body.response_format.as_deref() {
            None | Some("" | "wav") => Form::Wav,
            Some("pcm") => Form::Pcm,
            Some(name) => Form::Coded(Container::parse(name).ok_or_else(|| {
                let why = format!("is `{name}`; it can be wav, pcm, mp3, opus, aac or flac");
                RequestError::field("response_format", why)
            })?),
        };
        let events = match body.stream_format.as_deref() {
            None | Some("" | "audio") => false,
            Some("sse") => true,
            Some(other) => {
                let why = format!("is `{other}`; it can be audio or sse");
                return Err(RequestError::field("stream_format", why));
            }
        };
        let in_clauses = match body.first_piece.as_deref() {
            None | Some("" | "clause") => true,
            Some("sentence") => false,
            Some(other) => {
                let why = format!("is `{other}`; it can be clause or sentence");
                return Err(RequestError::field("first_piece", why));
            }
        };
        Ok(Asked {
            model: body.model,
            ask: SpeakAsk {
                text: body.input,
                voice: body.voice.map(|voice| match voice {
                    Voice::Name(name) | Voice::Own { id: name } => name,
                }),
                speed,
                in_clauses,
            },
            form,
            events,
        })
    }
}

pub(in super::super) async fn speak(
    State(app): State<App>,
    Body(body): Body<SpeechBody>,
) -> Result<Response, Failure<OpenAi>> {
    let asked = Asked::try_from(body)?;
    let characters = asked.ask.text.chars().count();
    if let Form::Coded(container) = asked.form {
        // Refused before anything is computed.
        app.can_code(container)?;
    }
    let speaking = app.speak(&asked.model, asked.ask).await?;
    let rate_hz = speaking.rate_hz;
    let voice = speaking.voice.clone();
    let model = speaking.model.id.clone();
    let pieces = coded(&app, speaking, asked.form).await?;
    if asked.events {
        return Ok(events(pieces, characters));
    }
    let mut response = Response::new(RawBody::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(asked.form.media()),
    );
    for (name, value) in [
        ("x-onebit-model", model),
        ("x-onebit-voice", voice),
        ("x-onebit-sample-rate", rate_hz.to_string()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

/// Bytes of the answer, piece by piece as they are made.
type Pieces = stream::BoxStream<'static, Result<Bytes, AppError>>;

async fn coded(app: &App, speaking: Speaking, form: Form) -> Result<Pieces, AppError> {
    let rate_hz = speaking.rate_hz;
    let pcm = speaking
        .parts
        .map_ok(|spoken| Bytes::from(spoken.sound.pcm16()))
        .boxed();
    Ok(match form {
        Form::Pcm => pcm,
        // Nobody knows yet how long it will be.
        Form::Wav => {
            let head = Bytes::from(wav_head(rate_hz, u32::MAX));
            stream::once(async { Ok(head) }).chain(pcm).boxed()
        }
        Form::Coded(container) => app.code(pcm, rate_hz, container).await?,
    })
}

fn events(pieces: Pieces, characters: usize) -> Response {
    let state = Some((pieces, 0_usize));
    let frames = stream::unfold(state, move |state| async move {
        let (mut pieces, bytes) = state?;
        Some(match pieces.next().await {
            Some(Ok(piece)) => {
                let event =
                    json!({ "type": "speech.audio.delta", "audio": base64::encode(&piece) });
                (frame(&event), Some((pieces, bytes + piece.len())))
            }
            Some(Err(error)) => (error_frame(&error), None),
            None => {
                // Characters in and bytes out: there are no tokens here.
                let usage = json!({
                    "input_tokens": characters, "output_tokens": bytes, "total_tokens": characters + bytes,
                });
                let event: Value = json!({ "type": "speech.audio.done", "usage": usage });
                (frame(&event), None)
            }
        })
    });
    let frames: stream::BoxStream<'static, Frame> = frames.boxed();
    sse(frames)
}

#[derive(Deserialize)]
pub(in super::super) struct VoicesQuery {
    #[serde(default)]
    model: String,
}

/// `GET /v1/audio/voices`
pub(in super::super) async fn voices(
    State(app): State<App>,
    Query(query): Query<VoicesQuery>,
) -> Result<Response, Failure<OpenAi>> {
    let (model, voices) = app.voices(&query.model).await?;
    let view = |voice: &String| {
        let british = voice.starts_with('b');
        json!({
            "id": voice,
            "name": voice.split_once('_').map_or(voice.as_str(), |(_, name)| name),
            "language": if british { "en-GB" } else { "en-US" },
        })
    };
    let voices: Vec<Value> = voices.iter().map(view).collect();
    Ok(answer(
        StatusCode::OK,
        &json!({ "object": "list", "model": model.id, "data": voices, "voices": voices }),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: Value) -> Result<Asked, String> {
        let body: SpeechBody = serde_json::from_value(json).map_err(|error| error.to_string())?;
        Asked::try_from(body).map_err(|error| error.to_string())
    }

    #[test]
    fn wishes_are_read() {
        let asked =
            parse(json!({ "input": "Hi.", "voice": { "id": "af_sky" }, "response_format": "pcm" }))
                .unwrap();
        assert_eq!(asked.ask.voice.as_deref(), Some("af_sky"));
        assert_eq!(asked.form, Form::Pcm);
        assert_eq!(parse(json!({ "input": "Hi." })).unwrap().form, Form::Wav);
        assert!(
            parse(json!({ "input": "Hi.", "stream_format": "sse" }))
                .unwrap()
                .events
        );
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (field, value) in [
            ("input", json!("")),
            ("input", json!("x".repeat(TEXT_BYTES_MAX + 1))),
            ("speed", json!(5)),
            ("speed", json!(0)),
            ("response_format", json!("midi")),
            ("stream_format", json!("smoke")),
            ("instructions", json!("whisper it")),
        ] {
            let mut body = json!({ "input": "a" });
            body[field] = value;
            let error = parse(body).err().unwrap_or_default();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
    }
}
