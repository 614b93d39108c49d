//! Lemonade's dialect: models, loading, pulling, the machine, the log, aliases, pins and routing policies, below each of
//! its four prefixes. Inference below them speaks OpenAI's dialect, as there.
//!
//! Its errors have two shapes, and clients know both: an object for a model that is not there, a bare text for the rest.
//! Names come with `user.`, `extra.` and `builtin.` before them, or without. What it has and we have not is answered by
//! name in [`absent`].

mod absent;
mod describe;
pub(super) mod engines;
pub(super) mod health;
pub(super) mod load;
pub(super) mod logs;
pub(super) mod machine;
pub(super) mod models;
pub(super) mod names;
pub(super) mod options;
pub(super) mod params;
mod policy;
pub(super) mod pull;
pub(super) mod registry;
pub(super) mod routing;
pub(super) mod stats;

pub(super) use describe::describe;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::failure::{Dialect, Failure, Told, json as answer, status};
use crate::app::{App, AppError};
use crate::domain::Model;
use crate::domain::model::slug;
use crate::error::{Failing, Kind};

/// The Lemonade whose routes these are; clients refuse older ones than they were made for.
const LEMONADE_VERSION: &str = "11.7.0";

/// Where its routes stand. Below the last one OpenAI's own stand too.
const PREFIXES: [&str; 4] = ["/api/v0", "/api/v1", "/v0", "/v1"];

/// What may stand before a name without changing it.
const NAMESPACES: [&str; 3] = ["user.", "extra.", "builtin."];

/// The dialect's name as a type.
pub(super) struct Lemonade;

impl Dialect for Lemonade {
    fn error_body(told: &Told<'_>) -> Value {
        match told.code {
            Some(code @ ("model_not_found" | "model_not_supported" | "model_load_error")) => {
                json!({ "error": {
                    "message": told.message,
                    "type": code,
                    "param": "model",
                    "code": code,
                }})
            }
            Some(code) => json!({ "error": told.message, "code": code }),
            None => json!({ "error": told.message }),
        }
    }

    fn status(kind: Kind) -> StatusCode {
        match kind {
            Kind::EngineDown => StatusCode::INTERNAL_SERVER_ERROR,
            kind => status(kind),
        }
    }
}

/// A refusal, written out.
pub(super) struct Refused(Box<Response>);

impl Refused {
    /// A bare text.
    fn plain(status: StatusCode, why: impl std::fmt::Display) -> Refused {
        Refused::with(status, &json!({ "error": why.to_string() }))
    }

    /// A model that is not there.
    fn no_model(asked: &str, error: &AppError) -> Refused {
        let body = json!({ "error": {
            "message": error.to_string(),
            "type": "model_not_found",
            "param": "model",
            "code": "model_not_found",
            "requested_model": asked,
        }});
        Refused::with(StatusCode::NOT_FOUND, &body)
    }

    fn with(status: StatusCode, body: &Value) -> Refused {
        Refused(Box::new(answer(status, body)))
    }
}

impl<E: Failing + Send + Sync + 'static> From<E> for Refused {
    fn from(error: E) -> Refused {
        Refused(Box::new(Failure::<Lemonade>::from(error).into_response()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// A name without what may stand before it.
fn bare(name: &str) -> &str {
    let stripped = NAMESPACES.iter().find_map(|space| name.strip_prefix(space));
    stripped.unwrap_or(name)
}

/// The name under which notes about a model are kept.
fn key(name: &str) -> Result<String, Refused> {
    let why = "`model_name` has nothing that a name can be made of";
    slug(bare(name)).ok_or_else(|| Refused::plain(StatusCode::BAD_REQUEST, why))
}

/// Finds a model by any of its names.
async fn find(app: &App, name: &str) -> Result<Model, Refused> {
    if name.is_empty() {
        let why = "`model_name` is required";
        return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
    }
    let first = match app.model(bare(name)).await {
        Ok(model) => return Ok(model),
        Err(error @ (AppError::ModelNotFound { .. } | AppError::NoModels)) => error,
        Err(error) => return Err(error.into()),
    };
    if let Some(local) = slug(bare(name))
        && let Ok(model) = app.model(&local).await
    {
        return Ok(model);
    }
    Err(Refused::no_model(name, &first))
}

/// Whether a path is Lemonade's: below a prefix that no other dialect has.
pub(super) fn owns(path: &str) -> bool {
    let own = PREFIXES[..3].iter();
    path.starts_with("/internal/") || own.into_iter().any(|prefix| below(path, prefix).is_some())
}

fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// What a path that nothing answers is told, where it is Lemonade's.
pub(super) fn no_route(method: &str, path: &str) -> Option<Response> {
    let rest = PREFIXES.iter().find_map(|prefix| below(path, prefix));
    if let Some(rest) = rest.or(Some(path))
        && let Some(response) = absent::answer_by_name(method, rest)
    {
        return Some(response);
    }
    owns(path).then(|| {
        let body = json!({ "error": {
            "message": "The requested endpoint does not exist",
            "type": "not_found",
            "path": path,
        }});
        answer(StatusCode::NOT_FOUND, &body)
    })
}

/// What a path that answers other methods is told.
pub(super) fn no_method() -> Response {
    let why = "Method Not Allowed. Use POST for this endpoint";
    answer(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": why }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_namespace_only() {
        assert_eq!(bare("user.Phi-4-GGUF"), "Phi-4-GGUF");
        assert_eq!(bare("extra.x"), "x");
        assert_eq!(bare("username"), "username");
    }

    #[test]
    fn only_its_own_prefixes_speak_its_shape() {
        assert!(owns("/api/v1/x") && owns("/api/v0") && owns("/v0/models"));
        assert!(!owns("/v1/models") && !owns("/api/v10/x") && !owns("/api/chat"));
        assert!(no_route("GET", "/v1/nothing").is_none());
        assert_eq!(no_route("POST", "/v1/classify").unwrap().status(), 501);
        assert_eq!(no_route("GET", "/api/v1/nothing").unwrap().status(), 404);
    }
}
