//! Models with what they are doing; loading and unloading by hand.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use crate::app::{App, AppError, ModelState, ModelStatus};

/// A model as the page reads it.
#[derive(Serialize, JsonSchema)]
pub(super) struct ModelView {
    id: String,
    name: String,
    architecture: String,
    file_bytes: u64,
    sha256: String,
    /// Tokens that one conversation may have: of the session where it is loaded, else of the file.
    context_length: u64,
    quantisation: String,
    /// Whether it has a template for conversations.
    chat: bool,
    /// Whether an engine that runs it sees pictures.
    sees: bool,
    state: StateView,
    /// The engine that has loaded it.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<&'static str>,
    /// Bytes that it holds in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    /// Answers being made.
    #[serde(skip_serializing_if = "Option::is_none")]
    active: Option<usize>,
    /// Requests that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<usize>,
    /// Why it could not be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What a model is doing.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StateView {
    /// Its file is gone.
    Absent,
    /// It can be loaded.
    Ready,
    Loading,
    Loaded,
    Failed,
}

/// All models, the default one first.
#[derive(Serialize, JsonSchema)]
pub(super) struct ModelsView {
    models: Vec<ModelView>,
}

/// Whether there was something to unload.
#[derive(Serialize, JsonSchema)]
pub(super) struct UnloadedView {
    unloaded: bool,
}

/// It is gone.
#[derive(Serialize, JsonSchema)]
pub(super) struct RemovedView {
    deleted: bool,
    id: String,
}

impl ModelView {
    /// A model as it is now.
    pub(super) fn of(app: &App, status: &ModelStatus) -> ModelView {
        let model = &status.model;
        let mut view = ModelView {
            id: model.id.clone(),
            name: model.name.clone(),
            architecture: model.architecture.clone(),
            file_bytes: model.file_bytes,
            sha256: model.sha256.clone(),
            context_length: model.context_length,
            quantisation: model.quantisation.clone(),
            chat: model.has_template,
            sees: app.may_see(model),
            state: match status.present {
                true => StateView::Ready,
                false => StateView::Absent,
            },
            engine: None,
            memory_bytes: None,
            active: None,
            waiting: None,
            error: None,
        };
        match &status.state {
            None => {}
            Some(ModelState::Loading) => view.state = StateView::Loading,
            Some(ModelState::Loaded {
                engine,
                memory_bytes,
                context_length,
                load,
                ..
            }) => {
                view.state = StateView::Loaded;
                view.engine = Some(engine);
                view.memory_bytes = Some(*memory_bytes);
                view.context_length = *context_length as u64;
                view.active = Some(load.active);
                view.waiting = Some(load.waiting);
            }
            Some(ModelState::Failed { why }) => {
                view.state = StateView::Failed;
                view.error = Some(why.clone());
            }
        }
        view
    }
}

/// Models as they are now.
pub(super) fn views(app: &App, all: &[ModelStatus]) -> Vec<ModelView> {
    all.iter().map(|one| ModelView::of(app, one)).collect()
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
    let models = views(&app, &app.models().await?);
    Ok(answer(StatusCode::OK, &ModelsView { models }))
}

pub(in super::super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let view = ModelView::of(&app, &status_of(&app, &id).await?);
    Ok(answer(StatusCode::OK, &view))
}

pub(in super::super) async fn load(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let (model, lease) = app.load(&id).await?;
    let status = status_of(&app, &model.id).await?;
    drop(lease);
    Ok(answer(StatusCode::OK, &ModelView::of(&app, &status)))
}

pub(in super::super) async fn unload(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let unloaded = app.unload(&id).await?;
    Ok(answer(StatusCode::OK, &UnloadedView { unloaded }))
}

pub(in super::super) async fn remove(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let model = app.remove_model(&id).await?;
    Ok(answer(
        StatusCode::OK,
        &RemovedView {
            deleted: true,
            id: model.id,
        },
    ))
}
