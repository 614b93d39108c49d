//! A person's own settings: small JSON values by name.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use super::person;
use crate::app::App;
use crate::domain::{Id, Peer};

/// A setting is a choice, not a document.
const VALUE_BYTES_MAX: usize = 16 << 10;

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct SetBody {
    value: Value,
}

/// All settings by their names.
#[derive(Serialize, JsonSchema)]
pub(super) struct SettingsView {
    settings: Map<String, Value>,
}

/// One setting.
#[derive(Serialize, JsonSchema)]
pub(super) struct SettingView {
    key: String,
    value: Value,
}

impl Wire for SetBody {
    type Dialect = OpenAi;
}

pub(in super::super) async fn all(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Failure<OpenAi>> {
    let mut settings = Map::new();
    for (key, text) in app.store().settings().all(person(&peer)?).await? {
        let value =
            serde_json::from_str(&text).map_err(|e| RequestError::Malformed(e.to_string()))?;
        settings.insert(key, value);
    }
    Ok(answer(StatusCode::OK, &SettingsView { settings }))
}

pub(in super::super) async fn set(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(key): Path<String>,
    Body(body): Body<SetBody>,
) -> Result<Response, Failure<OpenAi>> {
    if Id::parse(&key).is_none() {
        return Err(RequestError::field("key", "may hold letters, digits, `-` and `_`").into());
    }
    let text = body.value.to_string();
    if text.len() > VALUE_BYTES_MAX {
        return Err(RequestError::field(
            "value",
            format!("may have at most {VALUE_BYTES_MAX} bytes"),
        )
        .into());
    }
    app.store()
        .settings()
        .set(person(&peer)?, &key, &text)
        .await?;
    Ok(answer(
        StatusCode::OK,
        &SettingView {
            key,
            value: body.value,
        },
    ))
}
