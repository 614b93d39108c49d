//! What the owner chose about models: pins, and names that several artifacts share.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{Body, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use crate::app::App;

/// `POST /onebit/models/{id}/pin`
pub(in super::super) async fn pin(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    set(&app, &id, true).await
}

/// `POST /onebit/models/{id}/unpin`
pub(in super::super) async fn unpin(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    set(&app, &id, false).await
}

async fn set(app: &App, id: &str, pinned: bool) -> Result<Response, Failure<OpenAi>> {
    let model = app.pin(id, pinned).await?;
    let view = json!({ "id": model.id, "pinned": pinned });
    Ok(answer(StatusCode::OK, &view))
}

/// `GET /onebit/logical`
pub(in super::super) async fn list(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let groups = app.logical_models().await?;
    let views: Vec<Value> = groups
        .iter()
        .map(|(name, models)| json!({ "name": name, "models": models }))
        .collect();
    let view = json!({ "logical": views, "pins": app.pins().await? });
    Ok(answer(StatusCode::OK, &view))
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct LogicalBody {
    models: Vec<String>,
}

impl Wire for LogicalBody {
    type Dialect = OpenAi;
}

/// `PUT /onebit/logical/{name}`: an empty list takes the name away.
pub(in super::super) async fn put(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(body): Body<LogicalBody>,
) -> Result<Response, Failure<OpenAi>> {
    app.set_logical(&name, &body.models).await?;
    let view = json!({ "name": name, "models": body.models });
    Ok(answer(StatusCode::OK, &view))
}
