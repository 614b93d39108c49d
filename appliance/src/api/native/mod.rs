//! What no dialect has: the page's chats with their trees, turns that outlive connections, model states.
//! Errors have OpenAI's shape.

pub(super) mod chats;
pub(super) mod models;
pub(super) mod settings;
pub(super) mod turns;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::failure::{Failure, json as answer};
use super::openai::OpenAi;
use crate::app::{App, VERSION};
use crate::domain::{Peer, PersonId};
use crate::error::{Failing, Kind};

/// A route of the page needs somebody whose rows it reads.
#[derive(Debug, thiserror::Error)]
#[error("sign in first")]
struct NobodySignedIn;

impl Failing for NobodySignedIn {
    fn kind(&self) -> Kind {
        Kind::Unauthorized
    }
}

/// Whose rows a request reads and writes.
fn person(peer: &Peer) -> Result<&PersonId, Failure<OpenAi>> {
    peer.person.as_ref().ok_or_else(|| NobodySignedIn.into())
}

/// `GET /onebit/status`
pub(super) async fn status(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let status = app.status().await?;
    let models: Vec<_> = status.models.iter().map(models::view).collect();
    Ok(answer(
        StatusCode::OK,
        &json!({
            "version": VERSION,
            "uptime_s": status.uptime.as_secs(),
            "models": models,
            "memory": {
                "total_bytes": status.machine.memory_total_bytes,
                "available_bytes": status.machine.memory_available_bytes,
                "used_by_models_bytes": status.models_bytes,
            },
            "queue": { "active": status.active, "waiting": status.waiting },
        }),
    ))
}
