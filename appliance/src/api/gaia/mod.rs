//! The dialect of GAIA's page (its backend of April 2026): sessions, chat, system, files, agents, MCP, tunnel below `/api`,
//! on our own chats, documents, devices and engines; beside it the page itself, where the owner has one.
//!
//! A session is a chat and its messages are the branch that is shown. Errors are `{"detail": "..."}`; what is wrong with
//! a request's fields is a list there, with status 422, as FastAPI writes it (`fields.rs`). Ollama's routes stand
//! below `/api` too: [`owns`] tells whose a path is.

pub(super) mod agents;
pub(super) mod chat;
mod describe;
mod fields;
pub(super) mod files;
pub(super) mod mcp;
pub(super) mod newer;
pub(super) mod page;
mod runs;
pub(super) mod sessions;
mod steps;
pub(super) mod system;
pub(super) mod tunnel;
mod views;

pub(super) use describe::{describe, wrong_field};
pub(super) use fields::{Fields, Json, Query, Text as TextRule, no_file};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::failure::{Dialect, Failure, Told, json as answer};
use crate::app::{AppError, StoreError};
use crate::error::Failing;

/// The dialect's name as a type.
pub(super) struct Gaia;

impl Dialect for Gaia {
    fn error_body(told: &Told<'_>) -> Value {
        json!({ "detail": told.message, "code": told.code })
    }
}

/// A refusal, written out.
pub(super) struct Refused(Box<Response>);

impl Refused {
    /// A text of our own.
    pub(super) fn plain(status: StatusCode, why: impl std::fmt::Display) -> Refused {
        Refused::with(status, &json!({ "detail": why.to_string() }))
    }

    /// Fields that are wrong.
    fn fields(errors: &[Value]) -> Refused {
        Refused::with(
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!({ "detail": errors }),
        )
    }

    fn with(status: StatusCode, body: &Value) -> Refused {
        Refused(Box::new(answer(status, body)))
    }
}

impl<E: Failing + Send + Sync + 'static> From<E> for Refused {
    fn from(error: E) -> Refused {
        Refused(Box::new(Failure::<Gaia>::from(error).into_response()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// A row that is not there, in the words by which clients know it.
fn missing(error: StoreError) -> Refused {
    let words = match &error {
        StoreError::NotFound { what: "chat", .. } => "Session not found",
        StoreError::NotFound {
            what: "message", ..
        } => "Message not found",
        StoreError::NotFound {
            what: "document", ..
        } => "Document not found",
        _ => return error.into(),
    };
    Refused::plain(StatusCode::NOT_FOUND, words)
}

/// The same out of a verb.
fn missing_row(error: AppError) -> Refused {
    match error {
        AppError::Store(error) => missing(error),
        error => error.into(),
    }
}

/// What stands below `/api` and is GAIA's.
const OWN: [&str; 12] = [
    "sessions",
    "documents",
    "files",
    "agents",
    "mcp",
    "tunnel",
    "system",
    "settings",
    "schedules",
    "setup",
    "onboarding",
    "providers",
];

/// Whether a path is this dialect's. Ollama has `/api/chat` alone, and no path below it.
pub(super) fn owns(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/api/") else {
        return false;
    };
    let first = rest.split('/').next().unwrap_or_default();
    OWN.contains(&first) || rest == "health" || rest.starts_with("chat/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_ollamas() {
        for path in [
            "/api/sessions",
            "/api/sessions/x/messages",
            "/api/chat/send",
            "/api/documents",
            "/api/health",
            "/api/settings",
        ] {
            assert!(owns(path), "{path}");
        }
        for path in [
            "/api/chat",
            "/api/tags",
            "/api/v1/health",
            "/api",
            "/sessions",
        ] {
            assert!(!owns(path), "{path}");
        }
    }
}
