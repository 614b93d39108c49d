//! `POST models/register`, `GET pull/variants` and `POST models/check-updates`: models by description and by repository.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::body::{Body, Wire};
use super::super::failure::json as answer;
use super::{Lemonade, Refused, bare, key, policy};
use crate::app::catalog::Source;
use crate::app::{App, AppError};

/// Largest description that is kept.
const BODY_BYTES_MAX: usize = 256 << 10;

/// A description: fields as they come.
#[derive(Deserialize)]
#[serde(transparent)]
pub(in super::super) struct RegisterBody(pub(super) Map<String, Value>);

impl Wire for RegisterBody {
    type Dialect = Lemonade;
}

#[derive(Deserialize)]
pub(in super::super) struct VariantsQuery {
    #[serde(default)]
    checkpoint: String,
}

/// Whether a description is of several models together.
pub(super) fn is_collection(note: &Value) -> bool {
    let recipe = note["recipe"].as_str();
    recipe.is_some_and(|recipe| recipe.starts_with("collection."))
}

/// Checks a description and keeps it; returns its name here.
pub(super) async fn register(app: &App, body: &Map<String, Value>) -> Result<String, Refused> {
    let wrong = |why: String| Refused::plain(StatusCode::BAD_REQUEST, why);
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    let name = text("model_name");
    if !name.starts_with("user.") {
        let why = "a new model's name begins with `user.`, such as user.My-Model";
        return Err(wrong(why.to_owned()));
    }
    let note = Value::Object(body.clone());
    let recipe = text("recipe");
    let components: Vec<&str> = body
        .get("components")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match recipe {
        "" => return Err(wrong("`recipe` is required".to_owned())),
        "llamacpp" | "flm" => {}
        "collection.omni" | "collection.router" if components.is_empty() => {
            return Err(wrong(format!(
                "`components` of a {recipe} names its models"
            )));
        }
        "collection.router" => {
            policy::read(&note).map_err(|why| wrong(format!("Invalid routing policy: {why}")))?;
        }
        "collection.omni" => {}
        other => {
            return Err(wrong(format!(
                "no engine here runs the recipe `{other}`; use llamacpp, flm, collection.omni or collection.router"
            )));
        }
    }
    if note.to_string().len() > BODY_BYTES_MAX {
        return Err(wrong(format!(
            "the description is larger than {BODY_BYTES_MAX} bytes"
        )));
    }
    let known = app.registrations().await?;
    let embedded = body
        .get("models")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for component in components {
        let id = key(component)?;
        let described = embedded
            .iter()
            .filter_map(|model| model["model_name"].as_str())
            .any(|name| bare(name) == bare(component));
        if !described && !known.contains_key(&id) && app.model(&id).await.is_err() {
            return Err(wrong(format!(
                "the component `{component}` is not known; pull or register it first"
            )));
        }
    }
    for model in embedded {
        if let Some(name) = model["model_name"].as_str()
            && app.model(&key(name)?).await.is_err()
        {
            app.register(&key(name)?, &model).await?;
        }
    }
    let mut kept = body.clone();
    for field in ["stream", "subscribe", "do_not_upgrade", "local_import"] {
        kept.remove(field);
    }
    let id = key(name)?;
    app.register(&id, &Value::Object(kept)).await?;
    Ok(id)
}

pub(in super::super) async fn register_only(
    State(app): State<App>,
    Body(RegisterBody(body)): Body<RegisterBody>,
) -> Result<Response, Refused> {
    let id = register(&app, &body).await?;
    let name = body
        .get("model_name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let here = app.model(&id).await.is_ok();
    Ok(answer(
        StatusCode::OK,
        &json!({
            "status": "success",
            "model_name": bare(name),
            "canonical_model_name": name,
            "model": { "id": bare(name), "recipe": body.get("recipe"), "downloaded": here },
        }),
    ))
}

/// The quantisations of a repository, at most five, those that are asked for most first.
pub(in super::super) async fn variants(
    State(app): State<App>,
    Query(query): Query<VariantsQuery>,
) -> Result<Response, Refused> {
    const SHOWN: usize = 5;
    let source = Source::parse(&query.checkpoint).map_err(AppError::from)?;
    let hub = app.hub().map_err(AppError::from)?;
    let files = hub.list(&source).await.map_err(AppError::from)?;
    let name = source.repo.rsplit('/').next().unwrap_or(&source.repo);
    let mmproj: Vec<&str> = files
        .iter()
        .map(|file| file.path.as_str())
        .filter(|path| {
            path.rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with("mmproj"))
        })
        .collect();
    let variants: Vec<Value> = crate::app::catalog::variants(&files)
        .into_iter()
        .take(SHOWN)
        .map(|choice| {
            let paths: Vec<&str> = choice.files.iter().map(|file| file.path.as_str()).collect();
            json!({
                "name": choice.quant,
                "primary_file": paths.first(),
                "sharded": paths.len() > 1,
                "size_bytes": choice.bytes(),
                "files": paths,
            })
        })
        .collect();
    let lower = name.to_ascii_lowercase();
    let mut labels = Vec::new();
    if !mmproj.is_empty() {
        labels.push("vision");
    }
    if lower.contains("embed") {
        labels.push("embeddings");
    }
    if lower.contains("rerank") {
        labels.push("reranking");
    }
    Ok(answer(
        StatusCode::OK,
        &json!({
            "checkpoint": query.checkpoint,
            "recipe": "llamacpp",
            "suggested_name": name,
            "suggested_labels": labels,
            "mmproj_files": mmproj,
            "variants": variants,
        }),
    ))
}

/// A model's file is named by its content and never changes, so nothing here can be updated in place.
pub(in super::super) async fn check_updates(State(app): State<App>) -> Result<Response, Refused> {
    if app.config().fetch.offline {
        let why = "offline is set, so nothing can be looked up";
        return Err(Refused::plain(StatusCode::CONFLICT, why));
    }
    Ok(answer(
        StatusCode::OK,
        &json!({ "status": "success", "updates_available": 0, "models": [] }),
    ))
}
