//! `GET /v1/models`: the default chat model first.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::super::failure::{Failure, json as answer};
use super::OpenAi;
use crate::app::App;
use crate::domain::Model;

#[derive(Serialize)]
struct ModelView {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
    context_length: u64,
}

impl From<Model> for ModelView {
    fn from(model: Model) -> ModelView {
        ModelView {
            id: model.id,
            object: "model",
            created: model.imported_at / 1000,
            owned_by: "onebit",
            context_length: model.context_length,
        }
    }
}

pub(in super::super) async fn list(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let models: Vec<ModelView> = app
        .models()
        .await?
        .into_iter()
        .map(|status| status.model.into())
        .collect();
    Ok(answer(
        StatusCode::OK,
        &json!({ "object": "list", "data": models }),
    ))
}

pub(in super::super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    Ok(answer(
        StatusCode::OK,
        &ModelView::from(app.model(&id).await?),
    ))
}
