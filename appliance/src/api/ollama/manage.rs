//! Models under the owner's hand: `/api/delete`, `/api/copy`, blobs; and what we answer by name only.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::super::body::{Body, Wire};
use super::super::failure::{Failure, json as answer};
use super::{Ollama, find, untagged};
use crate::app::App;

/// `name` is the older field.
#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct NameBody {
    #[serde(default, alias = "name")]
    model: String,
}

impl Wire for NameBody {
    type Dialect = Ollama;
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct CopyBody {
    source: String,
    destination: String,
}

impl Wire for CopyBody {
    type Dialect = Ollama;
}

pub(in super::super) async fn delete(
    State(app): State<App>,
    Body(body): Body<NameBody>,
) -> Result<Response, Failure<Ollama>> {
    let model = find(&app, &body.model).await?;
    app.remove_model(&model.id).await?;
    Ok(StatusCode::OK.into_response())
}

/// A second name for the same file.
pub(in super::super) async fn copy(
    State(app): State<App>,
    Body(body): Body<CopyBody>,
) -> Result<Response, Failure<Ollama>> {
    let source = find(&app, &body.source).await?;
    app.copy_model(&source.id, untagged(&body.destination))
        .await?;
    Ok(StatusCode::OK.into_response())
}

/// Whether a file of this content is here.
pub(in super::super) async fn blob(
    State(app): State<App>,
    Path(digest): Path<String>,
) -> Result<Response, Failure<Ollama>> {
    let sha256 = digest.trim_start_matches("sha256:").to_ascii_lowercase();
    let models = app.models().await?;
    let here = models
        .iter()
        .any(|status| status.present && status.model.sha256 == sha256);
    let status = if here {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    };
    Ok(status.into_response())
}

pub(in super::super) async fn no_create() -> Response {
    refuse("/api/create is not supported: import a GGUF file with `onebit import FILE --name NAME`")
}

pub(in super::super) async fn no_push() -> Response {
    refuse("/api/push is not supported: onebit publishes no models")
}

pub(in super::super) async fn no_blob() -> Response {
    refuse("uploading blobs is not supported: import a GGUF file with `onebit import FILE`")
}

fn refuse(why: &str) -> Response {
    answer(StatusCode::NOT_IMPLEMENTED, &json!({ "error": why }))
}
