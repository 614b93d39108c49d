//! Models with what they are doing; loading and unloading by hand.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use crate::app::{App, AppError, ModelState, ModelStatus};

/// A model as the page reads it.
pub(super) fn view(status: &ModelStatus) -> Value {
    let model = &status.model;
    let mut view = json!({
        "id": model.id,
        "name": model.name,
        "architecture": model.architecture,
        "file_bytes": model.file_bytes,
        "sha256": model.sha256,
        "context_length": model.context_length,
        "quantisation": model.quantisation,
        "chat": model.has_template,
        "state": if status.present { "ready" } else { "absent" },
    });
    match &status.state {
        None => {}
        Some(ModelState::Loading) => view["state"] = json!("loading"),
        Some(ModelState::Loaded {
            engine,
            memory_bytes,
            context_length,
            load,
        }) => {
            view["state"] = json!("loaded");
            view["engine"] = json!(engine);
            view["memory_bytes"] = json!(memory_bytes);
            view["context_length"] = json!(context_length);
            view["active"] = json!(load.active);
            view["waiting"] = json!(load.waiting);
        }
        Some(ModelState::Failed { why }) => {
            view["state"] = json!("failed");
            view["error"] = json!(why);
        }
    }
    view
}

async fn status_of(app: &App, id: &str) -> Result<ModelStatus, AppError> {
    let id = app.model(id).await?.id;
    let all = app.models().await?;
    // It was there a moment ago; somebody may have removed it since.
    all.into_iter()
        .find(|status| status.model.id == id)
        .ok_or(AppError::NoModels)
}

pub(in super::super) async fn list(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let models: Vec<Value> = app.models().await?.iter().map(view).collect();
    Ok(answer(StatusCode::OK, &json!({ "models": models })))
}

pub(in super::super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    Ok(answer(StatusCode::OK, &view(&status_of(&app, &id).await?)))
}

pub(in super::super) async fn load(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let (model, lease) = app.load(&id).await?;
    let status = status_of(&app, &model.id).await?;
    drop(lease);
    Ok(answer(StatusCode::OK, &view(&status)))
}

pub(in super::super) async fn unload(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let unloaded = app.unload(&id).await?;
    Ok(answer(StatusCode::OK, &json!({ "unloaded": unloaded })))
}

pub(in super::super) async fn remove(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let model = app.remove_model(&id).await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "deleted": true, "id": model.id }),
    ))
}
