//! `GET health` and `GET /live`: that it runs; what runs only for those who may know.
//!
//! Anybody may ask. Whoever may chat sees the models; process numbers and command lines are the owner's.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::super::failure::json as answer;
use super::models::{checkpoint, kind, recipe};
use super::{LEMONADE_VERSION, Refused};
use crate::app::{App, ModelState, ModelStatus, VERSION};
use crate::domain::{ModelFormat, Peer, Scope};

/// Lemonade's kinds of models. -1 is no limit: memory decides. 0 is that no engine here runs them.
const KINDS: [(&str, i32); 9] = [
    ("llm", -1),
    ("embedding", -1),
    ("reranking", 0),
    ("transcription", -1),
    ("image", 0),
    ("tts", -1),
    ("audio_generation", 0),
    ("classification", 0),
    ("3d", 0),
];

pub(in super::super) async fn live() -> Response {
    answer(StatusCode::OK, &json!({ "status": "ok" }))
}

pub(in super::super) async fn health(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let mut body = json!({
        "status": "ok",
        "version": LEMONADE_VERSION,
        "onebit_version": VERSION,
        "telemetry": { "enabled": false },
        "update_check_done": true,
        // Live speech and the log are on the port that was asked.
        "websocket_port": port(&headers),
    });
    if !peer.holds(Scope::Chat) {
        return Ok(answer(StatusCode::OK, &body));
    }
    let pins = app.pins().await?;
    let mut pinned: Map<String, Value> = KINDS
        .iter()
        .map(|(kind, _)| ((*kind).to_owned(), 0.into()))
        .collect();
    let mut loaded = Vec::new();
    for status in app.models().await? {
        let is_pinned = pins.contains(&status.model.id);
        let Some(view) = loaded_view(&status, is_pinned, peer.holds(Scope::Owner)) else {
            continue;
        };
        if is_pinned && let Some(count) = pinned.get_mut(kind(&status.model)) {
            *count = (count.as_u64().unwrap_or(0) + 1).into();
        }
        loaded.push(view);
    }
    let ready = loaded.iter().find(|view| view["loaded"] == true);
    body["model_loaded"] = ready.map_or(Value::Null, |view| view["model_name"].clone());
    body["all_models_loaded"] = loaded.into();
    body["max_models"] = KINDS
        .iter()
        .map(|(kind, most)| ((*kind).to_owned(), Value::from(*most)))
        .collect::<Map<_, _>>()
        .into();
    body["pinned_models"] = pinned.into();
    body["pinned_helper_models"] = json!({});
    Ok(answer(StatusCode::OK, &body))
}

/// The port that the client sees, whatever stands between.
fn port(headers: &HeaderMap) -> u16 {
    const HTTP: u16 = 80;
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let port = host.and_then(|host| host.rsplit_once(':')?.1.parse().ok());
    port.unwrap_or(HTTP)
}

/// A model that is loaded or being loaded.
fn loaded_view(status: &ModelStatus, pinned: bool, owner: bool) -> Option<Value> {
    let model = &status.model;
    let mut view = json!({
        "model_name": model.id,
        "checkpoint": checkpoint(model),
        "type": kind(model),
        "recipe": recipe(model),
        "pinned": pinned,
        "watchdog_reset": false,
        "max_context_window": model.context_length,
        "backend_url": null,
    });
    match status.state.as_ref()? {
        ModelState::Loaded {
            engine,
            context_length,
            load,
            ..
        } => {
            view["device"] = device(engine, model.format).into();
            view["status"] = "loaded".into();
            view["loaded"] = true.into();
            view["backend_alive"] = true.into();
            view["backend_health"] = "ok".into();
            view["is_busy"] = (load.active + load.waiting > 0).into();
            view["is_streaming"] = (load.active > 0).into();
            view["recipe_options"] = json!({ "ctx_size": context_length });
            // The built-in engine computes in this very process; what others run in is not told yet.
            if owner && *engine == "ternary" {
                view["pid"] = std::process::id().into();
            }
        }
        ModelState::Loading => {
            view["status"] = "loading".into();
            view["loaded"] = false.into();
        }
        ModelState::Failed { .. } => return None,
    }
    Some(view)
}

/// Where an engine computes. Which silicon a build of llama.cpp drives is its own matter.
fn device(engine: &str, format: ModelFormat) -> &'static str {
    match (engine, format) {
        ("ternary", _) => "cpu",
        (_, ModelFormat::Flm) => "npu",
        (_, ModelFormat::Remote) => "cloud",
        (_, ModelFormat::Whisper | ModelFormat::Kokoro) => "cpu",
        (_, ModelFormat::Diffusion) => "gpu cpu",
        (_, ModelFormat::Gguf) => "gpu cpu",
    }
}
