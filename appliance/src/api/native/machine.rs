//! What the owner asks of other machines, and nobody else does: the hub for models, and whether there is a newer version.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::body::RequestError;
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use crate::app::{App, VERSION};

/// Words of one search: a title is shorter.
const WORDS_BYTES_MAX: usize = 200;

#[derive(Deserialize)]
pub(in super::super) struct SearchQuery {
    #[serde(default)]
    query: String,
}

/// Repositories that the hub found, those that most people fetch first.
#[derive(Serialize, JsonSchema)]
pub(super) struct HubView {
    models: Vec<HubModelView>,
}

/// A repository with GGUF files.
#[derive(Serialize, JsonSchema)]
struct HubModelView {
    repository: String,
    /// As the hub counts.
    downloads: u64,
    likes: u64,
    licence: Option<String>,
    /// Whether the hub wants an account that agreed to its terms.
    gated: bool,
}

/// `GET /onebit/hub`
pub(in super::super) async fn hub(
    State(app): State<App>,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Response, Failure<OpenAi>> {
    let Query(query) = query.map_err(|error| RequestError::Malformed(error.body_text()))?;
    let words = query.query.trim();
    if words.is_empty() || words.len() > WORDS_BYTES_MAX {
        let why = format!("must be 1 to {WORDS_BYTES_MAX} bytes of words");
        return Err(RequestError::field("query", why).into());
    }
    let found = app.search_hub(words).await?;
    let models = found
        .into_iter()
        .map(|one| HubModelView {
            repository: one.repo,
            downloads: one.downloads,
            likes: one.likes,
            licence: one.licence,
            gated: one.gated,
        })
        .collect();
    Ok(answer(StatusCode::OK, &HubView { models }))
}

/// The newest signed release.
#[derive(Serialize, JsonSchema)]
pub(super) struct UpdateView {
    installed: &'static str,
    newest: String,
    newer: bool,
    /// The line that installs it.
    command: &'static str,
}

/// `GET /onebit/update`
pub(in super::super) async fn update(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let release = app.newest_release().await?;
    let view = UpdateView {
        installed: VERSION,
        newer: release.is_newer(),
        newest: release.version,
        command: "onebit update",
    };
    Ok(answer(StatusCode::OK, &view))
}
