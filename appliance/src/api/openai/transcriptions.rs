//! `POST /v1/audio/transcriptions` and `/v1/audio/translations`: recordings to text.
//!
//! `chunking_strategy` is ignored, because long recordings are always cut in their pauses. Log probabilities and speakers
//! told apart are refused by name.

use std::io::Write;

use axum::extract::State;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::super::body::RequestError;
use super::super::documents::add::{FormError, bad_form};
use super::super::failure::{Failure, json as answer};
use super::super::frames::{Frame, sse};
use super::{OpenAi, error_frame, frame};
use crate::app::{App, Heard, Hearing, ListenAsk, Recording, language_name};
use crate::domain::{Segment, Transcript, Word};

/// Longest text field of the form.
const FIELD_BYTES_MAX: usize = 16 << 10;

/// How the text is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Form {
    #[default]
    Json,
    Verbose,
    Text,
    Srt,
    Vtt,
}

/// A checked form.
#[derive(Debug, Default, PartialEq)]
struct Asked {
    model: String,
    ask: ListenAsk,
    form: Form,
    words: bool,
    stream: bool,
}

pub(in super::super) async fn transcribe(
    State(app): State<App>,
    parts: Result<Multipart, MultipartRejection>,
) -> Result<Response, Failure<OpenAi>> {
    write_down(app, parts, false).await
}

pub(in super::super) async fn translate(
    State(app): State<App>,
    parts: Result<Multipart, MultipartRejection>,
) -> Result<Response, Failure<OpenAi>> {
    write_down(app, parts, true).await
}

async fn write_down(
    app: App,
    parts: Result<Multipart, MultipartRejection>,
    translate: bool,
) -> Result<Response, Failure<OpenAi>> {
    let (fields, recording) = read(&app, parts).await?;
    let mut asked = checked(fields)?;
    asked.ask.translate = translate;
    let Some(recording) = recording else {
        return Err(RequestError::field("file", "is missing from the form").into());
    };
    let temperature = asked.ask.temperature.unwrap_or(0.0);
    let hearing = app.listen(&asked.model, recording, asked.ask).await?;
    if asked.stream {
        return Ok(streamed(hearing));
    }
    let (mut heard, mut seconds) = (Transcript::default(), 0.0);
    let mut parts = hearing.parts;
    while let Some(part) = parts.try_next().await? {
        seconds = part.done_s;
        if heard.language.is_empty() {
            heard.language = part.transcript.language;
        }
        heard.segments.extend(part.transcript.segments);
    }
    let plain = |kind: &'static str, text: String| {
        (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response()
    };
    Ok(match asked.form {
        Form::Json => answer(
            StatusCode::OK,
            &json!({ "text": heard.text(), "usage": usage(seconds) }),
        ),
        Form::Verbose => {
            let task = if translate { "translate" } else { "transcribe" };
            let body = verbose(&heard, task, seconds, temperature, asked.words);
            answer(StatusCode::OK, &body)
        }
        Form::Text => plain("text/plain; charset=utf-8", heard.text() + "\n"),
        Form::Srt => plain("text/plain; charset=utf-8", srt(&heard.segments)),
        Form::Vtt => plain("text/plain; charset=utf-8", vtt(&heard.segments)),
    })
}

/// The text fields and the file; its bytes go to disk as they come.
async fn read(
    app: &App,
    form: Result<Multipart, MultipartRejection>,
) -> Result<(Vec<(String, String)>, Option<Recording>), FormError> {
    let mut parts = form.map_err(|error| bad_form(&error.body_text()))?;
    let (mut fields, mut recording) = (Vec::new(), None);
    while let Some(mut part) = parts.next_field().await? {
        let name = part.name().unwrap_or_default().to_owned();
        if name == "file" {
            let mut taken = app.recording()?;
            while let Some(piece) = part.chunk().await? {
                taken.write(&piece)?;
            }
            recording = Some(taken);
            continue;
        }
        let mut text = Vec::new();
        while let Some(piece) = part.chunk().await? {
            text.extend_from_slice(&piece);
            if text.len() > FIELD_BYTES_MAX {
                return Err(bad_form(&format!("the field `{name}` is too long")).into());
            }
        }
        fields.push((name, String::from_utf8_lossy(&text).into_owned()));
    }
    Ok((fields, recording))
}

fn checked(fields: Vec<(String, String)>) -> Result<Asked, RequestError> {
    let mut asked = Asked::default();
    for (name, value) in fields {
        match name.trim_end_matches("[]") {
            "model" => asked.model = value,
            "language" if value.is_empty() || value == "auto" => {}
            "language" => {
                let code = value.to_ascii_lowercase();
                // Clients send `en-US` as well.
                let code = code.split(['-', '_']).next().unwrap_or_default().to_owned();
                if language_name(&code).is_none() {
                    let why = format!(
                        "is `{value}`; it is a language's code of two letters, such as `en`"
                    );
                    return Err(RequestError::field("language", why));
                }
                asked.ask.language = Some(code);
            }
            "prompt" => asked.ask.prompt = Some(value).filter(|prompt| !prompt.is_empty()),
            "temperature" => {
                let number = value.parse().ok().filter(|t| (0.0..=1.0).contains(t));
                let why = format!("is `{value}`; it can be 0 to 1");
                asked.ask.temperature =
                    Some(number.ok_or_else(|| RequestError::field("temperature", why))?);
            }
            "response_format" => {
                asked.form = match value.as_str() {
                    "" | "json" => Form::Json,
                    "verbose_json" => Form::Verbose,
                    "text" => Form::Text,
                    "srt" => Form::Srt,
                    "vtt" => Form::Vtt,
                    "diarized_json" => {
                        return Err(RequestError::Unsupported {
                            param: "response_format",
                            why: "speakers are not told apart here",
                        });
                    }
                    other => {
                        let why =
                            format!("is `{other}`; it can be json, verbose_json, text, srt or vtt");
                        return Err(RequestError::field("response_format", why));
                    }
                }
            }
            "timestamp_granularities" => match value.as_str() {
                "word" => asked.words = true,
                "segment" => {}
                other => {
                    let why = format!("is `{other}`; it can be word or segment");
                    return Err(RequestError::field("timestamp_granularities", why));
                }
            },
            "stream" => asked.stream = matches!(value.as_str(), "true" | "1" | "True"),
            "include" => {
                return Err(RequestError::Unsupported {
                    param: "include",
                    why: "the tokens' log probabilities are not told; verbose_json has a segment's mean",
                });
            }
            _ => {}
        }
    }
    Ok(asked)
}

fn usage(seconds: f64) -> Value {
    json!({ "type": "duration", "seconds": seconds.ceil() })
}

/// Deltas window by window, then the whole.
fn streamed(hearing: Hearing) -> Response {
    struct So {
        said: String,
        seconds: f64,
    }
    let so = So {
        said: String::new(),
        seconds: 0.0,
    };
    let state = (hearing.parts, Some(so));
    let frames = stream::unfold(state, |(mut parts, so)| async {
        let mut so = so?;
        let frames: Vec<Frame> = match parts.next().await {
            Some(Ok(Heard { transcript, done_s })) => {
                so.seconds = done_s;
                let mut delta = transcript.text();
                if delta.is_empty() {
                    return Some((Vec::new(), (parts, Some(so))));
                }
                if !so.said.is_empty() {
                    delta.insert(0, ' ');
                }
                so.said.push_str(&delta);
                let event = json!({ "type": "transcript.text.delta", "delta": delta });
                return Some((vec![frame(&event)], (parts, Some(so))));
            }
            Some(Err(error)) => vec![error_frame(&error)],
            None => vec![frame(&json!({
                "type": "transcript.text.done",
                "text": so.said,
                "usage": usage(so.seconds),
            }))],
        };
        Some((frames, (parts, None)))
    });
    sse(frames.flat_map(stream::iter))
}

fn verbose(heard: &Transcript, task: &str, seconds: f64, temperature: f32, words: bool) -> Value {
    let segment = |(id, segment): (usize, &Segment)| {
        json!({
            "id": id,
            "seek": (segment.start_s * 100.0) as u64,
            "start": hundredths(segment.start_s),
            "end": hundredths(segment.end_s),
            "text": segment.text,
            "tokens": segment.tokens,
            "temperature": temperature,
            "avg_logprob": segment.avg_logprob,
            "compression_ratio": repetition(&segment.text),
            "no_speech_prob": segment.no_speech,
        })
    };
    let word = |word: &Word| json!({ "word": word.text, "start": hundredths(word.start_s), "end": hundredths(word.end_s) });
    let mut body = json!({
        "task": task,
        "language": language_name(&heard.language).unwrap_or(&heard.language),
        "duration": hundredths(seconds),
        "text": heard.text(),
        "segments": heard.segments.iter().enumerate().map(segment).collect::<Vec<_>>(),
        "usage": usage(seconds),
    });
    if words {
        let all = heard.segments.iter().flat_map(|segment| &segment.words);
        body["words"] = all.map(word).collect();
    }
    body
}

fn hundredths(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

/// How many times shorter zlib makes a text: above 2.4 it repeats itself, as Whisper's authors found.
fn repetition(text: &str) -> f64 {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing into memory cannot fail.
    let _ = zlib.write_all(text.as_bytes());
    let packed = zlib.finish().map_or(0, |bytes| bytes.len());
    text.len() as f64 / packed.max(1) as f64
}

/// `00:01:02,345`, with the mark before the thousandths.
fn clock(seconds: f64, mark: char) -> String {
    let ms = (seconds.max(0.0) * 1000.0).round() as u64;
    let (s, m, h) = (ms / 1000 % 60, ms / 60_000 % 60, ms / 3_600_000);
    format!("{h:02}:{m:02}:{s:02}{mark}{:03}", ms % 1000)
}

fn srt(segments: &[Segment]) -> String {
    let line = |(i, segment): (usize, &Segment)| {
        let (start, end) = (clock(segment.start_s, ','), clock(segment.end_s, ','));
        format!("{}\n{start} --> {end}\n{}\n\n", i + 1, segment.text.trim())
    };
    segments.iter().enumerate().map(line).collect()
}

fn vtt(segments: &[Segment]) -> String {
    let line = |segment: &Segment| {
        let (start, end) = (clock(segment.start_s, '.'), clock(segment.end_s, '.'));
        // An arrow inside a cue would begin another.
        let text = segment.text.trim().replace("-->", "->");
        format!("{start} --> {end}\n{text}\n\n")
    };
    "WEBVTT\n\n".to_owned() + &segments.iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> Vec<Segment> {
        let segment = |start_s, end_s, text: &str| Segment {
            start_s,
            end_s,
            text: text.to_owned(),
            ..Segment::default()
        };
        vec![
            segment(0.0, 1.5, " Hello there."),
            segment(3661.25, 3662.0, " a --> b"),
        ]
    }

    #[test]
    fn subtitles_have_their_clocks() {
        assert_eq!(
            srt(&segments()),
            "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n2\n01:01:01,250 --> 01:01:02,000\na --> b\n\n"
        );
        assert_eq!(
            vtt(&segments()),
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n01:01:01.250 --> 01:01:02.000\na -> b\n\n"
        );
    }

    fn parse(name: &str, value: &str) -> Result<Asked, String> {
        checked(vec![(name.to_owned(), value.to_owned())]).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_are_read_and_nonsense_is_refused_by_name() {
        assert_eq!(
            parse("language", "en-US").unwrap().ask.language.as_deref(),
            Some("en")
        );
        assert_eq!(parse("language", "").unwrap(), Asked::default());
        assert!(parse("timestamp_granularities[]", "word").unwrap().words);
        assert!(parse("stream", "true").unwrap().stream);
        assert_eq!(parse("unknown", "x").unwrap(), Asked::default());
        for (field, value) in [
            ("language", "klingon"),
            ("temperature", "2"),
            ("temperature", "warm"),
            ("response_format", "xml"),
            ("response_format", "diarized_json"),
            ("timestamp_granularities", "syllable"),
            ("include", "logprobs"),
        ] {
            let error = parse(field, value).unwrap_err();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
    }

    #[test]
    fn repetition_is_told() {
        assert!(repetition("and then and then and then and then and then and then") > 2.0);
        assert!(repetition("The quick brown fox jumps over the lazy dog.") < 1.2);
    }

    #[test]
    fn the_verbose_form_has_words_when_asked() {
        let heard = Transcript {
            language: "en".into(),
            segments: segments(),
        };
        let body = verbose(&heard, "transcribe", 11.004, 0.0, false);
        assert_eq!(body["language"], "english");
        assert_eq!(body["duration"], 11.0);
        assert_eq!(body["text"], "Hello there. a --> b");
        assert_eq!(body["words"], Value::Null);
        assert_eq!(
            verbose(&heard, "transcribe", 11.0, 0.0, true)["words"],
            json!([])
        );
    }
}
