//! One response: the model's text as it comes, said piece by piece while the rest is being written.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::events::{Out, id};
use super::live::Inner;
use super::session::Settings;
use crate::api::{base64, cited};
use crate::app::{App, AppError, Cutter, Piece, sayable};
use crate::domain::{
    ChatEvent, ChatRequest, Citation, Finish, FinishReason, Input, Limits, Message, Overflow,
    Sampling, Shelf, ToolCall,
};

/// Samples of one event of sound: a fifth of a second.
const CHUNK: usize = 4800;
/// Pieces of text that wait to be said.
const PIECES_MAX: usize = 64;

/// What is to be answered.
pub(super) struct Asked {
    pub(super) response: String,
    pub(super) item: String,
    pub(super) settings: Settings,
    pub(super) messages: Vec<Message>,
    /// The documents that it is answered from.
    pub(super) shelf: Option<Shelf>,
    /// What has been said so far, for whoever interrupts.
    pub(super) said: Arc<Mutex<String>>,
}

/// What was answered.
pub(super) struct Said {
    pub(super) response: String,
    pub(super) item: String,
    pub(super) text: String,
    pub(super) calls: Vec<ToolCall>,
}

/// Answers, and tells every step. Aborting it stops the model and the voice.
pub(super) async fn respond(app: App, asked: Asked, out: Out, inner: mpsc::Sender<Inner>) {
    let view = |status: &str| json!({ "id": asked.response, "object": "realtime.response", "status": status, "output": [] });
    out.send(
        "response.created",
        json!({ "response": view("in_progress") }),
    )
    .await;
    match answer(&app, &asked, &out).await {
        Ok(Answered {
            text,
            calls,
            sources,
            finish,
        }) => {
            let status = if finish.reason == FinishReason::Length {
                "incomplete"
            } else {
                "completed"
            };
            let mut response = view(status);
            if status == "incomplete" {
                response["status_details"] =
                    json!({ "type": "incomplete", "reason": "max_output_tokens" });
            }
            response["output"] = output(&asked, &text, &calls, &sources).into();
            let usage = finish.usage;
            response["usage"] = json!({
                "input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
                "input_token_details": { "cached_tokens": usage.cached_tokens },
            });
            out.send("response.done", json!({ "response": response }))
                .await;
            let said = Said {
                response: asked.response,
                item: asked.item,
                text,
                calls,
            };
            let _ = inner.send(Inner::Said(Box::new(said))).await;
        }
        Err(error) => {
            out.fail(&error.to_string()).await;
            let mut response = view("failed");
            let told =
                json!({ "type": "server_error", "code": null, "message": error.to_string() });
            response["status_details"] = json!({ "type": "failed", "error": told });
            out.send("response.done", json!({ "response": response }))
                .await;
            let said = Said {
                response: asked.response,
                item: asked.item,
                text: String::new(),
                calls: Vec::new(),
            };
            let _ = inner.send(Inner::Said(Box::new(said))).await;
        }
    }
}

fn output(asked: &Asked, text: &str, calls: &[ToolCall], sources: &[Citation]) -> Vec<Value> {
    let mut items = Vec::new();
    if !text.is_empty() {
        let mut content = part(asked.settings.speaks, text);
        if !sources.is_empty() {
            let all = sources.iter().map(|one| cited::file_citation(one, text));
            content["annotations"] = all.collect();
        }
        items.push(json!({ "id": asked.item, "object": "realtime.item", "type": "message", "role": "assistant",
            "status": "completed", "content": [content] }));
    }
    items.extend(calls.iter().map(call));
    items
}

fn part(speaks: bool, text: &str) -> Value {
    if speaks {
        json!({ "type": "output_audio", "transcript": text })
    } else {
        json!({ "type": "output_text", "text": text })
    }
}

/// Events of parts call their kinds by shorter names than messages do.
fn event_part(speaks: bool, text: &str) -> Value {
    if speaks {
        json!({ "type": "audio", "transcript": text })
    } else {
        json!({ "type": "text", "text": text })
    }
}

fn call(call: &ToolCall) -> Value {
    json!({ "id": call.id, "object": "realtime.item", "type": "function_call", "status": "completed",
        "call_id": call.id, "name": call.name, "arguments": call.arguments })
}

/// What the model has written.
struct Answered {
    text: String,
    calls: Vec<ToolCall>,
    /// The passages that it was made from.
    sources: Vec<Citation>,
    finish: Finish,
}

async fn answer(app: &App, asked: &Asked, out: &Out) -> Result<Answered, AppError> {
    let settings = &asked.settings;
    let request = ChatRequest {
        sampling: Sampling {
            temperature: settings.temperature,
            ..Sampling::default()
        },
        limits: Limits {
            tokens_max: settings.tokens_max,
            ..Limits::default()
        },
        tools: settings.tools.clone(),
        tool_choice: settings.tool_choice.clone(),
        // A long call goes on without its beginning.
        overflow: Overflow::LeaveOut,
        // Whoever listens waits; nobody hears thoughts.
        thinking: Some(false),
        shelf: asked.shelf.clone(),
        ..ChatRequest::new(
            settings.model.clone(),
            Input::Messages(asked.messages.clone()),
        )
    };
    let mouth = match settings.speaks {
        true => Some(
            app.mouth("", settings.voice.as_deref(), settings.speed)
                .await?,
        ),
        false => None,
    };
    let place = json!({ "response_id": asked.response, "item_id": asked.item, "output_index": 0, "content_index": 0 });
    let item = json!({ "id": asked.item, "object": "realtime.item", "type": "message", "role": "assistant",
        "status": "in_progress", "content": [] });
    let fields = json!({ "response_id": asked.response, "output_index": 0, "item": item });
    out.send("response.output_item.added", fields).await;
    out.send(
        "response.content_part.added",
        with(&place, "part", event_part(settings.speaks, "")),
    )
    .await;
    let (pieces, mut to_say) = mpsc::channel::<Piece>(PIECES_MAX);
    let write = write(
        app,
        asked,
        out,
        request,
        &place,
        mouth.is_some().then_some(pieces),
    );
    let say = async {
        let Some(mouth) = &mouth else { return Ok(()) };
        while let Some(piece) = to_say.recv().await {
            let spoken = mouth.say(piece).await?;
            let delta = format!("{} ", spoken.text);
            if let Ok(mut said) = asked.said.lock() {
                said.push_str(&delta);
            }
            out.send(
                "response.output_audio_transcript.delta",
                with(&place, "delta", delta.into()),
            )
            .await;
            for chunk in spoken.sound.pcm16().chunks(CHUNK * 2) {
                out.send(
                    "response.output_audio.delta",
                    with(&place, "delta", base64::encode(chunk).into()),
                )
                .await;
            }
        }
        Ok::<_, AppError>(())
    };
    let (answered, ()) = tokio::try_join!(write, say)?;
    let Answered {
        text,
        calls,
        sources,
        ..
    } = &answered;
    if settings.speaks {
        out.send("response.output_audio.done", place.clone()).await;
        out.send(
            "response.output_audio_transcript.done",
            with(&place, "transcript", text.clone().into()),
        )
        .await;
    } else {
        out.send(
            "response.output_text.done",
            with(&place, "text", text.clone().into()),
        )
        .await;
    }
    out.send(
        "response.content_part.done",
        with(&place, "part", event_part(settings.speaks, text)),
    )
    .await;
    for (index, item) in output(asked, text, calls, sources).into_iter().enumerate() {
        if item["type"] == "function_call" {
            let fields = json!({ "response_id": asked.response, "item_id": item["id"], "output_index": index,
                "call_id": item["call_id"], "name": item["name"], "arguments": item["arguments"] });
            out.send("response.function_call_arguments.done", fields)
                .await;
        }
        let fields = json!({ "response_id": asked.response, "output_index": index, "item": item });
        out.send("response.output_item.done", fields).await;
    }
    Ok(answered)
}

/// Reads the model's answer; what may be said goes to the voice as soon as it is a piece.
async fn write(
    app: &App,
    asked: &Asked,
    out: &Out,
    request: ChatRequest,
    place: &Value,
    pieces: Option<mpsc::Sender<Piece>>,
) -> Result<Answered, AppError> {
    let (mut text, mut calls, mut cutter) =
        (String::new(), Vec::<ToolCall>::new(), Cutter::default());
    let mut sources = Vec::new();
    let mut events = app.chat(request).await?;
    let mut finish = None;
    while let Some(event) = events.next().await {
        match event? {
            ChatEvent::Piece(piece) => {
                text.push_str(&piece.text);
                match &pieces {
                    Some(pieces) => {
                        for piece in cutter.push(&piece.text) {
                            speak(pieces, piece).await;
                        }
                    }
                    None => {
                        if let Ok(mut said) = asked.said.lock() {
                            said.push_str(&piece.text);
                        }
                        out.send(
                            "response.output_text.delta",
                            with(place, "delta", piece.text.into()),
                        )
                        .await;
                    }
                }
            }
            ChatEvent::CallBegins {
                id: given, name, ..
            } => calls.push(ToolCall {
                id: if given.is_empty() { id("call") } else { given },
                name,
                arguments: String::new(),
            }),
            ChatEvent::CallArguments { index, json } => {
                if let Some(call) = calls.get_mut(index) {
                    call.arguments.push_str(&json);
                }
            }
            ChatEvent::Finished(end) => finish = Some(end),
            ChatEvent::Queued { .. }
            | ChatEvent::Waits { .. }
            | ChatEvent::LeftOut { .. }
            | ChatEvent::Reasoning(_) => {}
            ChatEvent::Sources(found) => sources = found,
        }
    }
    if let Some(pieces) = &pieces {
        for piece in cutter.finish() {
            speak(pieces, piece).await;
        }
    }
    let finish = finish.ok_or(AppError::Engine(crate::app::EngineError::Stopped))?;
    Ok(Answered {
        text,
        calls,
        sources,
        finish,
    })
}

async fn speak(pieces: &mpsc::Sender<Piece>, mut piece: Piece) {
    piece.text = sayable(&piece.text);
    if piece.text.chars().any(char::is_alphanumeric) {
        // The voice may have failed; its error ends this too.
        let _ = pieces.send(piece).await;
    }
}

fn with(place: &Value, name: &str, value: Value) -> Value {
    let mut fields = place.clone();
    fields[name] = value;
    fields
}
