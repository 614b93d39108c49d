//! Agents, as that page chooses among them, and as files that go out and come in.

use std::path::Path as FilePath;

use axum::Extension;
use axum::body::Body;
use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::super::documents::add::bad_form;
use super::super::failure::json as answer;
use super::Refused;
use super::fields::no_file;
use super::views::{NEWER_PLAIN_AGENT, PLAIN_AGENT, size};
use crate::app::App;
use crate::domain::{Agent, Peer, Transport};
use crate::error::{Failing, Kind};

/// Largest file of agents.
const BUNDLE_BYTES_MAX: usize = 100 << 20;

/// The header that a form of another page cannot send.
const OWN_PAGE: &str = "x-gaia-ui";

fn view(agent: &Agent) -> Value {
    json!({
        "id": agent.id,
        "name": agent.name,
        "description": agent.description,
        "source": if agent.builtin { "builtin" } else { "custom_python" },
        "conversation_starters": agent.starters,
        "models": agent.model.iter().collect::<Vec<_>>(),
        // Any model that is here will do; what memory it needs is the model's own.
        "min_memory_gb": null,
    })
}

/// `GET /api/agents`; pages newer than April's say who they are in every request, and find the plain agent by its newer name
/// too.
pub(in super::super) async fn list(
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let agents = app.agents().await?;
    let mut views: Vec<Value> = agents.iter().map(view).collect();
    let named = |id: &str| agents.iter().find(|agent| agent.id == id);
    let newer = headers.get(OWN_PAGE).is_some_and(|value| value == "1");
    if newer
        && named(NEWER_PLAIN_AGENT).is_none()
        && let Some(plain) = named(PLAIN_AGENT)
    {
        let mut same = view(plain);
        same["id"] = NEWER_PLAIN_AGENT.into();
        views.insert(0, same);
    }
    Ok(answer(
        StatusCode::OK,
        &json!({ "agents": views, "total": views.len() }),
    ))
}

/// `GET /api/agents/{id}`: the name may hold slashes.
pub(in super::super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    let agent = app.agent(&id).await.map_err(|error| match error.kind() {
        Kind::NotFound => Refused::plain(StatusCode::NOT_FOUND, format!("Agent '{id}' not found")),
        _ => error.into(),
    })?;
    Ok(answer(StatusCode::OK, &view(&agent)))
}

/// Agents go out and come in on this machine only, by this page only, and while no phone is being let in.
fn at_home(app: &App, peer: &Peer, headers: &HeaderMap) -> Result<(), Refused> {
    if !matches!(peer.transport, Transport::Loopback) {
        let why = "endpoint only available on localhost";
        return Err(Refused::plain(StatusCode::FORBIDDEN, why));
    }
    if headers.get(OWN_PAGE).is_none_or(|value| value != "1") {
        let why = "missing X-Gaia-UI header";
        return Err(Refused::plain(StatusCode::FORBIDDEN, why));
    }
    if app.tunnel().is_some() {
        let why = "import/export not available while tunnel is active";
        return Err(Refused::plain(StatusCode::SERVICE_UNAVAILABLE, why));
    }
    Ok(())
}

/// `POST /api/agents/export`: all of the owner's.
pub(in super::super) async fn export(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    at_home(&app, &peer, &headers)?;
    if app.agents().await?.iter().all(|agent| agent.builtin) {
        let why = "there are no agents of your own to export";
        return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
    }
    let zip = app.export_agents(&[]).await?;
    let mut response = Response::new(Body::from(zip));
    for (name, value) in [
        (header::CONTENT_TYPE, "application/zip"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"gaia-agents-export.zip\"",
        ),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// `POST /api/agents/import`
pub(in super::super) async fn import(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, Refused> {
    at_home(&app, &peer, &headers)?;
    let Ok(mut parts) = form else {
        return Err(no_file("bundle"));
    };
    let broken = |error: axum::extract::multipart::MultipartError| bad_form(&error.body_text());
    while let Some(mut part) = parts.next_field().await.map_err(broken)? {
        let named = part
            .file_name()
            .is_some_and(|name| !FilePath::new(name).as_os_str().is_empty());
        if part.name() != Some("bundle") || !named {
            continue;
        }
        let mut bytes = Vec::new();
        while let Some(piece) = part.chunk().await.map_err(broken)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > BUNDLE_BYTES_MAX {
                let why = format!("bundle exceeds {}", size(BUNDLE_BYTES_MAX as u64));
                return Err(Refused::plain(StatusCode::PAYLOAD_TOO_LARGE, why));
            }
        }
        let came = app.import_agents(bytes).await?;
        let errors: Vec<Value> = came
            .errors
            .iter()
            .map(|(id, error)| json!({ "id": id, "error": error }))
            .collect();
        return Ok(answer(
            StatusCode::OK,
            &json!({
                "imported": came.imported,
                "overwritten": came.overwritten,
                "errors": errors,
                // Agents are words here, not programs: the next task uses the new ones.
                "requires_restart": false,
            }),
        ));
    }
    Err(no_file("bundle"))
}
