//! `POST load`, `unload` and `delete`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::json as answer;
use super::models::{checkpoint, recipe};
use super::options;
use super::{Lemonade, Refused, bare, find, key};
use crate::app::{App, AppError, NoteKind};
use crate::domain::Model;

/// `load`: a name, what is to be done with the options, and the options themselves.
#[derive(Deserialize)]
pub(in super::super) struct LoadBody {
    #[serde(default, alias = "model")]
    model_name: String,
    pinned: Option<bool>,
    #[serde(default)]
    save_options: bool,
    #[serde(flatten)]
    options: Map<String, Value>,
}

impl Wire for LoadBody {
    type Dialect = Lemonade;
}

#[derive(Deserialize)]
pub(in super::super) struct NameBody {
    #[serde(default, alias = "model")]
    model_name: String,
}

impl Wire for NameBody {
    type Dialect = Lemonade;
}

pub(in super::super) async fn load(
    State(app): State<App>,
    Body(body): Body<LoadBody>,
) -> Result<Response, Refused> {
    let components = collection(&app, &body.model_name).await?;
    if let Some(components) = components {
        for component in &components {
            let model = find(&app, component).await?;
            app.load(&model.id).await?;
        }
        let message = format!("Loaded model: {}", body.model_name);
        return Ok(answer(
            StatusCode::OK,
            &json!({ "status": "success", "model_name": body.model_name, "message": message }),
        ));
    }
    let model = find(&app, &body.model_name).await?;
    options::check(&model, &body.options)?;
    if body.save_options {
        options::save(&app, &model, &body.options).await?;
    }
    app.load(&model.id).await?;
    if let Some(pinned) = body.pinned {
        app.pin(&model.id, pinned).await?;
    }
    Ok(answer(
        StatusCode::OK,
        &json!({
            "status": "success",
            "model_name": body.model_name,
            "checkpoint": checkpoint(&model),
            "recipe": recipe(&model),
            "message": format!("Loaded model: {}", body.model_name),
        }),
    ))
}

/// The members of a collection of this name, where there is one.
async fn collection(app: &App, name: &str) -> Result<Option<Vec<String>>, Refused> {
    if name.is_empty() {
        return Ok(None);
    }
    let registrations = app.registrations().await?;
    let found = registrations.get(&key(name)?);
    let components = found.and_then(|body| body["components"].as_array());
    Ok(components.map(|names| {
        names
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    }))
}

/// The body may be missing: then every model goes.
pub(in super::super) async fn unload(
    State(app): State<App>,
    bytes: axum::body::Bytes,
) -> Result<Response, Refused> {
    let name = match bytes.is_empty() {
        true => String::new(),
        false => {
            let body: NameBody = serde_json::from_slice(&bytes)
                .map_err(|error| RequestError::Malformed(error.to_string()))?;
            body.model_name
        }
    };
    if name.is_empty() {
        for status in app.models().await? {
            if status.state.is_some() {
                app.unload(&status.model.id).await?;
            }
        }
        return Ok(answer(
            StatusCode::OK,
            &json!({ "status": "success", "message": "All models unloaded successfully" }),
        ));
    }
    let not_loaded = || Refused::plain(StatusCode::NOT_FOUND, format!("Model not loaded: {name}"));
    let mut members = vec![name.clone()];
    if let Some(components) = collection(&app, &name).await? {
        members = components;
    }
    let mut unloaded = false;
    for member in members {
        let model = find(&app, &member).await.map_err(|_| not_loaded())?;
        unloaded |= app.unload(&model.id).await?;
    }
    if !unloaded {
        return Err(not_loaded());
    }
    Ok(answer(
        StatusCode::OK,
        &json!({ "status": "success", "message": "Model unloaded successfully", "model_name": name }),
    ))
}

pub(in super::super) async fn delete(
    State(app): State<App>,
    Body(body): Body<NameBody>,
) -> Result<Response, Refused> {
    let name = body.model_name;
    let unknown = || {
        let why = format!("Model not found: {}", bare(&name));
        Refused::plain(StatusCode::UNPROCESSABLE_ENTITY, why)
    };
    let noted = app.unregister(&key(&name)?).await?;
    let model: Option<Model> = find(&app, &name).await.ok();
    match model {
        Some(model) => {
            match app.remove_model(&model.id).await {
                // It is unloaded first, as the original does.
                Err(AppError::InUse(_)) => {
                    app.unload(&model.id).await?;
                    app.remove_model(&model.id).await?;
                }
                removed => _ = removed?,
            }
            app.store()
                .notes()
                .remove(NoteKind::Options, &model.id)
                .await?;
        }
        None if noted => {}
        None => return Err(unknown()),
    }
    let message = format!("Deleted model: {name}");
    Ok(answer(
        StatusCode::OK,
        &json!({ "status": "success", "message": message }),
    ))
}
