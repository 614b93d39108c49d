//! Ollama's dialect: chat, generate, embeddings, and its models by their names.
//!
//! Names are taken with and without `:latest`, and as `organisation/name:QUANT` for what was pulled so.
//! What Ollama has and we have not is refused by name: making models of Modelfiles, pushing, uploading.

pub(super) mod chat;
mod describe;
pub(super) mod embed;
pub(super) mod generate;
pub(super) mod manage;
mod messages;
pub(super) mod models;
mod options;
pub(super) mod pull;
mod reply;

pub(super) use describe::describe;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::{Value, json};

use super::failure::{Dialect, Told, json as answer, status};
use crate::app::{App, AppError};
use crate::domain::Model;
use crate::domain::model::slug;
use crate::error::{Failing, Kind};

/// The Ollama whose routes these are. Its clients refuse to talk to an older one than they were made for.
const OLLAMA_VERSION: &str = "0.13.0";

/// The tag that every name has that says none.
const TAG: &str = ":latest";

/// The dialect's name as a type.
pub(super) struct Ollama;

impl Dialect for Ollama {
    fn error_body(told: &Told<'_>) -> Value {
        json!({ "error": told.message })
    }

    fn status(kind: Kind) -> StatusCode {
        match kind {
            Kind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Kind::EngineDown => StatusCode::INTERNAL_SERVER_ERROR,
            kind => status(kind),
        }
    }
}

/// What only Ollama says in these words, which its clients look for.
#[derive(Debug, thiserror::Error)]
enum OllamaError {
    #[error("model '{asked}' not found{}", instead(suggestions))]
    NotFound {
        asked: String,
        suggestions: Vec<String>,
    },
    #[error("{model:?} does not support {what}")]
    Cannot { model: String, what: &'static str },
    #[error("unloading a model needs owner rights; use the machine that onebit runs on")]
    NotOwner,
    #[error(transparent)]
    App(#[from] AppError),
}

fn instead(suggestions: &[String]) -> String {
    match suggestions {
        [] => ", try pulling it first".to_owned(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

impl Failing for OllamaError {
    fn kind(&self) -> Kind {
        match self {
            OllamaError::NotFound { .. } => Kind::NotFound,
            OllamaError::Cannot { .. } => Kind::Unsupported,
            OllamaError::NotOwner => Kind::Forbidden,
            OllamaError::App(error) => error.kind(),
        }
    }

    fn retry_after_s(&self) -> Option<u32> {
        match self {
            OllamaError::App(error) => error.retry_after_s(),
            _ => None,
        }
    }
}

/// A name without the tag that says nothing.
fn untagged(name: &str) -> &str {
    name.strip_suffix(TAG).unwrap_or(name)
}

/// A model's name as Ollama lists it.
fn tagged(id: &str) -> String {
    format!("{id}{TAG}")
}

/// What a pulled `organisation/name:QUANT` is called here.
fn local(name: &str) -> Option<String> {
    slug(name.rsplit('/').next().unwrap_or(name))
}

/// Finds a model by any of its names.
async fn find(app: &App, name: &str) -> Result<Model, OllamaError> {
    let first = match app.model(untagged(name)).await {
        Err(AppError::ModelNotFound { suggestions, .. }) => suggestions,
        found => return Ok(found?),
    };
    if let Some(local) = local(untagged(name))
        && let Ok(model) = app.model(&local).await
    {
        return Ok(model);
    }
    Err(OllamaError::NotFound {
        asked: name.to_owned(),
        suggestions: first,
    })
}

/// `GET /`: a person gets the page; Ollama's clients get the words by which they know a server.
pub(super) async fn root(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let wants_page = accept
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("text/html"));
    if wants_page {
        Redirect::temporary("/app/").into_response()
    } else {
        "Ollama is running".into_response()
    }
}

/// `GET /api/version`
pub(super) async fn version() -> Response {
    answer(StatusCode::OK, &json!({ "version": OLLAMA_VERSION }))
}

/// A path under `/api` that nothing answers; three dialects share the prefix, and none expects a page.
pub(super) fn no_route() -> Response {
    answer(StatusCode::NOT_FOUND, &json!({ "detail": "Not Found" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_says_nothing() {
        assert_eq!(untagged("m:latest"), "m");
        assert_eq!(untagged("m:q4"), "m:q4");
        assert_eq!(
            local("hub.example/org/Name-GGUF:Q4_K_M").as_deref(),
            Some("name-gguf-q4_k_m")
        );
        assert_eq!(local("llama3.2:1b").as_deref(), Some("llama3.2-1b"));
    }

    #[test]
    fn a_missing_model_is_told_in_the_words_that_clients_look_for() {
        let error = OllamaError::NotFound {
            asked: "x".into(),
            suggestions: Vec::new(),
        };
        assert_eq!(
            error.to_string(),
            "model 'x' not found, try pulling it first"
        );
        assert_eq!(
            Ollama::status(Kind::Overloaded),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(Ollama::status(error.kind()), StatusCode::NOT_FOUND);
    }
}
