//! Aliases and pins: what the owner's tools set below `/internal`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::body::{Body, Wire};
use super::super::failure::json as answer;
use super::{Lemonade, Refused, find};
use crate::app::App;
use crate::domain::model::slug;

#[derive(Deserialize)]
pub(in super::super) struct PinBody {
    #[serde(default, alias = "model")]
    model_name: String,
    pinned: bool,
}

impl Wire for PinBody {
    type Dialect = Lemonade;
}

#[derive(Deserialize)]
pub(in super::super) struct AliasBody {
    alias: String,
    #[serde(alias = "model", alias = "model_name")]
    target: String,
}

impl Wire for AliasBody {
    type Dialect = Lemonade;
}

/// A pinned model stays, also over restarts; one that is not loaded yet is loaded.
pub(in super::super) async fn pin(
    State(app): State<App>,
    Body(body): Body<PinBody>,
) -> Result<Response, Refused> {
    let model = find(&app, &body.model_name).await?;
    app.pin(&model.id, body.pinned).await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "status": "success", "model_name": body.model_name, "pinned": body.pinned }),
    ))
}

/// Names that stand for one model. Those that stand for several are the router's and are not listed.
pub(in super::super) async fn aliases(State(app): State<App>) -> Result<Response, Refused> {
    let mut aliases = Map::new();
    for (name, models) in app.logical_models().await? {
        if let [model] = models.as_slice() {
            aliases.insert(name, Value::from(model.as_str()));
        }
    }
    Ok(answer(StatusCode::OK, &json!({ "aliases": aliases })))
}

pub(in super::super) async fn set_alias(
    State(app): State<App>,
    Body(body): Body<AliasBody>,
) -> Result<Response, Refused> {
    let alias = slug(&body.alias)
        .ok_or_else(|| Refused::plain(StatusCode::BAD_REQUEST, "`alias` has no usable letter"))?;
    let model = find(&app, &body.target).await?;
    app.set_logical(&alias, std::slice::from_ref(&model.id))
        .await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "status": "ok", "alias": alias, "target": model.id }),
    ))
}

pub(in super::super) async fn remove_alias(
    State(app): State<App>,
    Path(alias): Path<String>,
) -> Result<Response, Refused> {
    let alias = slug(&alias).unwrap_or(alias);
    let known = app.logical_models().await?;
    if !known.iter().any(|(name, _)| *name == alias) {
        let why =
            json!({ "error": format!("Alias not found: {alias}"), "code": "alias_not_found" });
        return Ok(answer(StatusCode::NOT_FOUND, &why));
    }
    app.set_logical(&alias, &[]).await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "status": "deleted", "alias": alias }),
    ))
}
