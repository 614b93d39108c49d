//! `GET /props`, `GET /slots` and `GET /lora-adapters`: what the server tells of itself; and what it does not do here.

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::failure::{Failure, json as answer};
use super::options::Options;
use super::settings::settings;
use super::{LlamaCpp, refuse};
use crate::app::{App, AppError, ModelState, VERSION};
use crate::domain::{Peer, Scope};

#[derive(Deserialize)]
pub(in super::super) struct Which {
    #[serde(default)]
    model: String,
}

/// The file's path is told to the owner only; others get the model's name.
pub(in super::super) async fn props(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Query(which): Query<Which>,
) -> Result<Response, Failure<LlamaCpp>> {
    let model = app.model(&which.model).await?;
    let details = app.details(&model).await?;
    let (seats, context) = seats(&app, &model.id).await?;
    let path = match peer.holds(Scope::Owner) {
        true => model.path.display().to_string(),
        false => model.id.clone(),
    };
    let usual = app.usual_sampling(&model);
    Ok(answer(
        StatusCode::OK,
        &json!({
            "default_generation_settings": {
                "id": 0,
                "id_task": -1,
                "n_ctx": context.unwrap_or(usize::try_from(model.context_length).unwrap_or(usize::MAX)),
                "speculative": false,
                "is_processing": false,
                "params": settings(&Options::default(), &usual),
                "prompt": "",
            },
            "total_slots": seats.len(),
            "model_path": path,
            "model_alias": model.id,
            "modalities": { "vision": false, "audio": false },
            "chat_template": details.template.clone().unwrap_or_default(),
            "build_info": format!("onebit {VERSION}"),
            "is_sleeping": context.is_none(),
        }),
    ))
}

/// The places for answers of a loaded model. They are not tied to a cache: prompts are shared by what they begin with.
pub(in super::super) async fn slots(
    State(app): State<App>,
    Query(which): Query<Which>,
) -> Result<Response, Failure<LlamaCpp>> {
    let model = app.model(&which.model).await?;
    let (seats, _) = seats(&app, &model.id).await?;
    Ok(answer(StatusCode::OK, &seats))
}

/// Seats and, where the model is loaded, the positions of each.
async fn seats(app: &App, id: &str) -> Result<(Vec<Value>, Option<usize>), AppError> {
    let models = app.models().await?;
    let status = models.into_iter().find(|status| status.model.id == id);
    let seats = app.config().ternary.active_max;
    let (context, active) = match status.and_then(|status| status.state) {
        Some(ModelState::Loaded {
            context_length,
            load,
            ..
        }) => (Some(context_length), load.active),
        _ => (None, 0),
    };
    let seat = |id: usize| {
        json!({
            "id": id,
            "n_ctx": context,
            "speculative": false,
            "is_processing": id < active,
        })
    };
    let count = if context.is_some() { seats } else { 0 };
    Ok(((0..count).map(seat).collect(), context))
}

pub(in super::super) async fn lora_adapters() -> Response {
    answer(StatusCode::OK, &json!([]))
}

pub(in super::super) async fn no_lora() -> Response {
    refuse(
        "lora",
        "no adapters can be loaded; convert the model with the adapter merged",
    )
}

pub(in super::super) async fn no_props() -> Response {
    refuse(
        "props",
        "settings are the owner's; they stand in onebit.toml",
    )
}

pub(in super::super) async fn no_slots() -> Response {
    refuse(
        "action",
        "prompts are kept in memory by themselves, and not in files",
    )
}

pub(in super::super) async fn no_rerank() -> Response {
    refuse(
        "rerank",
        "no engine here runs models that rank; compare vectors of /v1/embeddings",
    )
}
