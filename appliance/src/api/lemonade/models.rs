//! `GET models` and all that stands below `models/{id}`: entries with Lemonade's fields beside OpenAI's.
//!
//! An id may hold slashes, so what stands behind it (`/options`, `/files`) is told apart here.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::body::{Body, Wire};
use super::super::failure::json as answer;
use super::registry::is_collection;
use super::{Lemonade, Refused, bare, find, key, options};
use crate::app::{App, AppError, Details, ModelStatus};
use crate::domain::{Model, ModelFormat, Peer, Scope};

#[derive(Deserialize)]
pub(in super::super) struct ListQuery {
    #[serde(default)]
    show_all: bool,
}

#[derive(Deserialize)]
pub(in super::super) struct OneQuery {
    #[serde(default)]
    include_paths: bool,
}

/// Options as they come.
#[derive(Deserialize)]
#[serde(transparent)]
pub(in super::super) struct OptionsBody(Map<String, Value>);

impl Wire for OptionsBody {
    type Dialect = Lemonade;
}

/// Which software runs a model, by Lemonade's names.
pub(super) fn recipe(model: &Model) -> &'static str {
    match model.format {
        ModelFormat::Gguf => "llamacpp",
        ModelFormat::Flm => "flm",
        ModelFormat::Remote => "cloud",
        ModelFormat::Whisper => "whispercpp",
        ModelFormat::Kokoro => "kokoro",
        ModelFormat::Diffusion => "sd-cpp",
    }
}

/// What a model does, by Lemonade's names.
pub(super) fn kind(model: &Model) -> &'static str {
    match model.format {
        ModelFormat::Whisper => "transcription",
        ModelFormat::Kokoro => "tts",
        ModelFormat::Diffusion => "image",
        _ if model.architecture.contains("bert") => "embedding",
        _ => "llm",
    }
}

/// Where a model comes from: the file, where nobody has said more.
pub(super) fn checkpoint(model: &Model) -> String {
    let file = model.path.file_name();
    file.map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn labels(model: &Model, details: &Details) -> Vec<&'static str> {
    match kind(model) {
        "embedding" => return vec!["embeddings"],
        kind @ ("transcription" | "tts") => return vec![kind],
        _ => {}
    }
    let mut labels = vec!["chat"];
    if model.has_template {
        // Tools are spelled out for a template that does not know them.
        labels.push("tool-calling");
    }
    if details.thinks() {
        labels.push("reasoning");
    }
    labels
}

/// A model that is here; `note` is how a client has described it.
fn entry(
    status: &ModelStatus,
    details: &Details,
    kept: Value,
    note: Option<&Value>,
    folder: &std::path::Path,
) -> Value {
    let model = &status.model;
    let told = |name: &str| {
        note.and_then(|note| note.get(name))
            .filter(|value| !value.is_null())
    };
    let main = told("checkpoint")
        .cloned()
        .unwrap_or_else(|| checkpoint(model).into());
    let mut all: Vec<Value> = labels(model, details)
        .into_iter()
        .map(Value::from)
        .collect();
    for label in told("labels")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if !all.contains(label) {
            all.push(label.clone());
        }
    }
    let source = if told("checkpoint").is_some() {
        "huggingface"
    } else {
        "local"
    };
    json!({
        "id": model.id,
        "object": "model",
        "created": model.imported_at / 1000,
        "owned_by": "onebit",
        "name": model.name,
        "checkpoint": main,
        "checkpoints": told("checkpoints").cloned().unwrap_or_else(|| json!({ "main": main })),
        "recipe": recipe(model),
        "downloaded": status.present,
        "update_available": false,
        // What comes with the program is what it suggests.
        "suggested": model.format == ModelFormat::Gguf && !model.path.starts_with(folder),
        "source": source,
        "registry_source": source,
        "labels": all,
        "components": [],
        "recipe_options": kept,
        // Gigabytes, to a thousandth.
        "size": (model.file_bytes as f64 / 1e6).round() / 1e3,
        "max_context_window": model.context_length,
        "context_length": model.context_length,
    })
}

/// What was described and is not here, or is several models.
fn noted(name: &str, note: &Value, here: bool) -> Value {
    let of = |field: &str, none: Value| match note.get(field) {
        None | Some(Value::Null) => none,
        Some(value) => value.clone(),
    };
    let mut view = json!({
        "id": note["model_name"].as_str().map_or(name, bare),
        "object": "model",
        "created": 0,
        "owned_by": "onebit",
        "checkpoint": of("checkpoint", "".into()),
        "checkpoints": of("checkpoints", json!({ "main": of("checkpoint", "".into()) })),
        "recipe": of("recipe", "llamacpp".into()),
        "downloaded": here,
        "update_available": false,
        "suggested": false,
        "source": of("source", "huggingface".into()),
        "registry_source": of("registry_source", of("source", "huggingface".into())),
        "labels": of("labels", json!(["chat"])),
        "components": of("components", json!([])),
        "recipe_options": of("recipe_options", json!({})),
    });
    for field in ["version", "routing", "system_prompt", "models"] {
        if let Some(value) = note.get(field) {
            view[field] = value.clone();
        }
    }
    view
}

/// The default chat model first.
pub(in super::super) async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Refused> {
    Ok(answer(
        StatusCode::OK,
        &json!({ "object": "list", "data": all(&app, query.show_all).await? }),
    ))
}

async fn all(app: &App, show_all: bool) -> Result<Vec<Value>, Refused> {
    let registrations = app.registrations().await?;
    let mut views = Vec::new();
    let mut here = Vec::new();
    for status in app.models().await? {
        // A model whose file is gone cannot be asked.
        if !status.present && status.state.is_none() && status.model.format == ModelFormat::Gguf {
            continue;
        }
        let details = app.details(&status.model).await?;
        let kept = options::kept(app, &status.model).await?;
        let note = registrations.get(&status.model.id);
        views.push(entry(&status, &details, kept, note, app.store().folder()));
        here.push(status.model.id);
    }
    for (name, note) in registrations.iter() {
        if here.contains(name) {
            continue;
        }
        let members = note["components"].as_array().into_iter().flatten();
        let there = |member: &Value| {
            let id = member.as_str().and_then(|name| key(name).ok());
            id.is_some_and(|id| here.contains(&id))
        };
        let complete = is_collection(note) && members.into_iter().all(there);
        if complete || show_all {
            views.push(noted(name, note, complete));
        }
    }
    Ok(views)
}

/// `GET models/{id}`, `models/{id}/options` and `models/{id}/files`.
pub(in super::super) async fn one(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Query(query): Query<OneQuery>,
) -> Result<Response, Refused> {
    if let Some(name) = id.strip_suffix("/options") {
        return options::get(&app, name).await;
    }
    if let Some(name) = id.strip_suffix("/files") {
        let with_paths = query.include_paths && peer.holds(Scope::Owner);
        return files(&app, name, with_paths).await;
    }
    let registrations = app.registrations().await?;
    let described = key(&id).is_ok_and(|id| registrations.contains_key(&id));
    let wanted = match find(&app, &id).await {
        Ok(model) => model.id,
        // What is only described has an entry too.
        Err(_) if described => bare(&id).to_owned(),
        Err(refused) => return Err(refused),
    };
    let mut views = all(&app, true).await?.into_iter();
    let found = views.find(|view| {
        view["id"]
            .as_str()
            .is_some_and(|id| id.eq_ignore_ascii_case(&wanted))
    });
    match found {
        Some(view) => Ok(answer(StatusCode::OK, &view)),
        None => {
            let gone = AppError::ModelNotFound {
                asked: wanted.clone(),
                suggestions: Vec::new(),
            };
            Err(Refused::no_model(&id, &gone))
        }
    }
}

/// `POST models/{id}/options`
pub(in super::super) async fn set(
    State(app): State<App>,
    Path(id): Path<String>,
    Body(OptionsBody(options)): Body<OptionsBody>,
) -> Result<Response, Refused> {
    match id.strip_suffix("/options") {
        Some(name) => options::set(&app, name, options).await,
        None => Err(unknown(&id)),
    }
}

/// `DELETE models/{id}/options`
pub(in super::super) async fn reset(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    match id.strip_suffix("/options") {
        Some(name) => options::reset(&app, name).await,
        None => Err(unknown(&id)),
    }
}

fn unknown(id: &str) -> Refused {
    let why =
        format!("there is nothing to change at models/{id}; use models/{id}/options, or delete");
    Refused::plain(StatusCode::NOT_FOUND, why)
}

async fn files(app: &App, name: &str, with_paths: bool) -> Result<Response, Refused> {
    let model = find(app, name).await?;
    let mut file = json!({
        "name": checkpoint(&model),
        "role": "main",
        "size_bytes": model.file_bytes,
        "exists": model.path.is_file(),
    });
    if with_paths {
        file["path"] = model.path.display().to_string().into();
    }
    Ok(answer(
        StatusCode::OK,
        &json!({ "model_id": model.id, "files": [file] }),
    ))
}
