//! `POST /v1/images/generations`, `/v1/images/edits` and `/v1/images/variations`: pictures.
//!
//! Beside OpenAI's own fields `steps`, `cfg_scale`, `seed`, `negative_prompt` and `strength` are taken, as Lemonade and
//! others take them. `quality`, `style`, `background` and `moderation` are ignored, because they change nothing here;
//! addresses of pictures are refused, for none is kept. A stream tells the steps, which OpenAI's does not.

use axum::extract::State;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::base64;
use super::super::body::{Body, RequestError, Wire};
use super::super::documents::add::{FormError, bad_form};
use super::super::failure::{Failure, json as answer};
use super::super::frames::{Frame, sse};
use super::{OpenAi, created, error_frame, frame};
use crate::app::{App, AppError, Drawing};
use crate::domain::{PictureEvent, PictureFormat, PictureRequest};

/// Pictures of one request, as many as OpenAI's own limit.
const COUNT_MAX: u32 = 10;
/// Longest side: above it even large cards run out of memory.
const SIDE_MAX: u32 = 2048;
/// Sides are whole blocks of the model's own grid.
const SIDE_STEP: u32 = 8;
/// Steps that anybody has use for.
const STEPS_MAX: u32 = 200;
/// Largest picture that is sent in.
const PICTURE_BYTES_MAX: usize = 25 << 20;
/// Longest prompt.
const PROMPT_BYTES_MAX: usize = 32 << 10;
/// How far a variation goes from what it varies.
const VARIATION_STRENGTH: f32 = 0.6;

#[derive(Deserialize, JsonSchema, Default)]
pub(in super::super) struct ImageBody {
    #[serde(default)]
    model: String,
    prompt: String,
    /// Not OpenAI's own.
    negative_prompt: Option<String>,
    n: Option<u32>,
    /// `WIDTHxHEIGHT`, or `auto`.
    size: Option<String>,
    /// `b64_json`: no picture is kept here, so there are no addresses.
    response_format: Option<String>,
    /// `png`, `jpeg` or `webp`.
    output_format: Option<String>,
    #[serde(default)]
    stream: bool,
    /// Steps of the drawing. Not OpenAI's own.
    steps: Option<u32>,
    /// How closely the prompt is followed. Not OpenAI's own.
    cfg_scale: Option<f32>,
    /// The same one draws the same picture. Not OpenAI's own.
    seed: Option<i64>,
    /// How far from the picture that is changed, 0 to 1. Not OpenAI's own.
    strength: Option<f32>,
}

impl Wire for ImageBody {
    type Dialect = OpenAi;
}

/// A checked request.
#[derive(Debug)]
struct Asked {
    model: String,
    request: PictureRequest,
    stream: bool,
}

impl TryFrom<ImageBody> for Asked {
    type Error = RequestError;

    fn try_from(body: ImageBody) -> Result<Asked, RequestError> {
        if body.prompt.len() > PROMPT_BYTES_MAX {
            let why = format!("must hold at most {PROMPT_BYTES_MAX} bytes of text");
            return Err(RequestError::field("prompt", why));
        }
        let count = body.n.unwrap_or(1);
        if !(1..=COUNT_MAX).contains(&count) {
            return Err(RequestError::field(
                "n",
                format!("must be 1 to {COUNT_MAX}"),
            ));
        }
        if body
            .steps
            .is_some_and(|steps| !(1..=STEPS_MAX).contains(&steps))
        {
            return Err(RequestError::field(
                "steps",
                format!("must be 1 to {STEPS_MAX}"),
            ));
        }
        if body
            .strength
            .is_some_and(|strength| !(0.0..=1.0).contains(&strength))
        {
            return Err(RequestError::field("strength", "must be 0 to 1"));
        }
        if body
            .cfg_scale
            .is_some_and(|scale| !(0.0..=50.0).contains(&scale))
        {
            return Err(RequestError::field("cfg_scale", "must be 0 to 50"));
        }
        match body.response_format.as_deref() {
            None | Some("" | "b64_json") => {}
            Some("url") => {
                return Err(RequestError::Unsupported {
                    param: "response_format",
                    why: "no picture is kept here, so there is no address; ask for b64_json",
                });
            }
            Some(other) => {
                let why = format!("is `{other}`; it can be b64_json");
                return Err(RequestError::field("response_format", why));
            }
        }
        let format = match body.output_format.as_deref() {
            None | Some("") => PictureFormat::Png,
            Some(name) => PictureFormat::parse(name).ok_or_else(|| {
                let why = format!("is `{name}`; it can be png, jpeg or webp");
                RequestError::field("output_format", why)
            })?,
        };
        Ok(Asked {
            model: body.model,
            stream: body.stream,
            request: PictureRequest {
                prompt: body.prompt,
                negative_prompt: body.negative_prompt.unwrap_or_default(),
                size: size(body.size.as_deref())?,
                count,
                steps: body.steps,
                guidance: body.cfg_scale,
                seed: body.seed,
                strength: body.strength,
                format,
                ..PictureRequest::default()
            },
        })
    }
}

fn size(text: Option<&str>) -> Result<Option<(u32, u32)>, RequestError> {
    let Some(text) = text.filter(|text| !text.is_empty() && *text != "auto") else {
        return Ok(None);
    };
    let sides = text
        .split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let good = |side: u32| (64..=SIDE_MAX).contains(&side) && side.is_multiple_of(SIDE_STEP);
    match sides {
        Some((width, height)) if good(width) && good(height) => Ok(Some((width, height))),
        _ => {
            let why = format!(
                "is `{text}`; it is WIDTHxHEIGHT, each 64 to {SIDE_MAX} and a multiple of {SIDE_STEP}"
            );
            Err(RequestError::field("size", why))
        }
    }
}

/// `POST /v1/images/generations`
pub(in super::super) async fn generate(
    State(app): State<App>,
    Body(body): Body<ImageBody>,
) -> Result<Response, Failure<OpenAi>> {
    if body.prompt.trim().is_empty() {
        return Err(RequestError::field("prompt", "is empty").into());
    }
    drawn(&app, Asked::try_from(body)?).await
}

/// `POST /v1/images/edits`
pub(in super::super) async fn edit(
    State(app): State<App>,
    parts: Result<Multipart, MultipartRejection>,
) -> Result<Response, Failure<OpenAi>> {
    let form = read(parts).await?;
    if form.body.prompt.trim().is_empty() {
        return Err(RequestError::field("prompt", "is empty").into());
    }
    drawn(&app, form.asked()?).await
}

/// `POST /v1/images/variations`
pub(in super::super) async fn vary(
    State(app): State<App>,
    parts: Result<Multipart, MultipartRejection>,
) -> Result<Response, Failure<OpenAi>> {
    let mut form = read(parts).await?;
    form.body.strength.get_or_insert(VARIATION_STRENGTH);
    drawn(&app, form.asked()?).await
}

async fn drawn(app: &App, asked: Asked) -> Result<Response, Failure<OpenAi>> {
    let format = asked.request.format;
    let drawing = app.draw(&asked.model, asked.request).await?;
    if asked.stream {
        return Ok(streamed(drawing, format));
    }
    let mut events = drawing.events;
    while let Some(event) = events.next().await {
        if let PictureEvent::Finished(pictures) = event? {
            return Ok(answer(StatusCode::OK, &finished(&pictures, format)));
        }
    }
    Err(AppError::Engine(crate::app::EngineError::Stopped).into())
}

fn finished(pictures: &[String], format: PictureFormat) -> Value {
    let data: Vec<Value> = pictures
        .iter()
        .map(|text| json!({ "b64_json": text }))
        .collect();
    json!({ "created": created(), "data": data, "output_format": format.as_str() })
}

/// Steps as they are done, then every picture.
fn streamed(drawing: Drawing, format: PictureFormat) -> Response {
    let frames = drawing.events.flat_map(move |event| {
        let frames: Vec<Frame> = match event {
            Ok(PictureEvent::Queued(ahead)) => {
                vec![frame(
                    &json!({ "type": "image_generation.queued", "ahead": ahead }),
                )]
            }
            Ok(PictureEvent::Step { done, of }) => {
                vec![frame(
                    &json!({ "type": "image_generation.step", "step": done, "steps": of }),
                )]
            }
            Ok(PictureEvent::Finished(pictures)) => {
                let view = |text: &String| {
                    frame(&json!({
                        "type": "image_generation.completed", "b64_json": text,
                        "created_at": created(), "output_format": format.as_str(),
                    }))
                };
                pictures.iter().map(view).collect()
            }
            Err(error) => vec![error_frame(&error)],
        };
        stream::iter(frames)
    });
    sse(frames.boxed())
}

/// What a form holds.
#[derive(Default)]
struct Form {
    body: ImageBody,
    image: Option<String>,
    mask: Option<String>,
}

impl Form {
    fn asked(self) -> Result<Asked, RequestError> {
        let Some(image) = self.image else {
            return Err(RequestError::field("image", "is missing from the form"));
        };
        let mut asked = Asked::try_from(self.body)?;
        asked.request.from = Some(image);
        asked.request.mask = self.mask;
        Ok(asked)
    }
}

async fn read(form: Result<Multipart, MultipartRejection>) -> Result<Form, FormError> {
    let mut parts = form.map_err(|error| bad_form(&error.body_text()))?;
    let mut form = Form::default();
    while let Some(mut part) = parts.next_field().await? {
        let name = part
            .name()
            .unwrap_or_default()
            .trim_end_matches("[]")
            .to_owned();
        let is_picture = matches!(name.as_str(), "image" | "mask");
        let most = if is_picture {
            PICTURE_BYTES_MAX
        } else {
            PROMPT_BYTES_MAX
        };
        let mut bytes = Vec::new();
        while let Some(piece) = part.chunk().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > most {
                return Err(
                    bad_form(&format!("the field `{name}` has more than {most} bytes")).into(),
                );
            }
        }
        if is_picture {
            let place = if name == "image" {
                &mut form.image
            } else {
                &mut form.mask
            };
            if place.replace(base64::encode(&bytes)).is_some() {
                return Err(
                    bad_form(&format!("`{name}` comes more than once; one is taken")).into(),
                );
            }
            continue;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let wrong = || {
            bad_form(&format!(
                "the field `{name}` is `{text}`, which is no number"
            ))
        };
        let body = &mut form.body;
        match name.as_str() {
            "model" => body.model = text,
            "prompt" => body.prompt = text,
            "negative_prompt" => body.negative_prompt = Some(text),
            "size" => body.size = Some(text),
            "response_format" => body.response_format = Some(text),
            "output_format" => body.output_format = Some(text),
            "stream" => body.stream = matches!(text.as_str(), "true" | "1" | "True"),
            "n" => body.n = Some(text.parse().map_err(|_| wrong())?),
            "steps" => body.steps = Some(text.parse().map_err(|_| wrong())?),
            "seed" => body.seed = Some(text.parse().map_err(|_| wrong())?),
            "cfg_scale" => body.cfg_scale = Some(text.parse().map_err(|_| wrong())?),
            "strength" => body.strength = Some(text.parse().map_err(|_| wrong())?),
            _ => {}
        }
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: Value) -> Result<Asked, String> {
        let body: ImageBody = serde_json::from_value(json).map_err(|error| error.to_string())?;
        Asked::try_from(body).map_err(|error| error.to_string())
    }

    #[test]
    fn wishes_are_read() {
        let asked = parse(json!({
            "model": "sd", "prompt": "a sea", "n": 2, "size": "512x768", "steps": 8, "cfg_scale": 1.5,
            "seed": 7, "output_format": "jpeg", "quality": "high",
        }))
        .unwrap();
        let request = asked.request;
        assert_eq!(
            (request.size, request.count, request.seed),
            (Some((512, 768)), 2, Some(7))
        );
        assert_eq!(request.format, PictureFormat::Jpeg);
        assert_eq!(
            parse(json!({"prompt": "a", "size": "auto"}))
                .unwrap()
                .request
                .size,
            None
        );
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (field, value) in [
            ("n", json!(0)),
            ("n", json!(11)),
            ("size", json!("large")),
            ("size", json!("100x100")),
            ("size", json!("4096x4096")),
            ("steps", json!(0)),
            ("strength", json!(2.0)),
            ("cfg_scale", json!(-1.0)),
            ("response_format", json!("url")),
            ("output_format", json!("gif")),
        ] {
            let mut body = json!({ "prompt": "a" });
            body[field] = value.clone();
            let error = parse(body).err().unwrap_or_default();
            assert!(
                error.contains(&format!("`{field}`")),
                "{field} {value}: {error}"
            );
        }
    }
}
