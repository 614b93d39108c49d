//! The library over HTTP: GAIA's paths and shapes for documents, with progress, the reason of a failure, and texts.
//!
//! What GAIA has no path for stands below `/api/documents` too where it is about one document. Errors are
//! `{"detail": "..."}` as there. Paths of this machine are shown to its owner alone.

pub(super) mod add;
mod describe;
pub(super) mod texts;

pub(super) use describe::describe;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::{Failure, json as answer};
use super::gaia::Gaia;
use super::mine::Mine;
use super::time::offset;
use crate::app::App;
use crate::domain::library::Status;
use crate::domain::{Document, Peer, Scope};
use crate::error::{Failing, Kind};

/// A document as GAIA's page reads it, and what ours reads beside that.
pub(super) fn view(app: &App, peer: &Peer, document: &Document) -> Value {
    let shown = match &document.origin {
        Some(place) if peer.holds(Scope::Owner) => place,
        _ => &document.name,
    };
    let reading = app.progress(&document.id);
    let progress = match document.status {
        Status::Complete => 1.0,
        _ => reading.unwrap_or(0.0),
    };
    json!({
        "id": document.id,
        "filename": document.name,
        "filepath": shown,
        "file_size": document.bytes,
        "chunk_count": document.passages,
        // Clients of this dialect want a moment always: until it is read, when it came.
        "indexed_at": offset(document.indexed_at.unwrap_or(document.created_at)),
        "last_accessed_at": document.cited_at.map(offset),
        "sessions_using": document.chats,
        "indexing_status": document.status.as_str(),
        "progress": progress,
        "error_kind": document.trouble.as_ref().map(|trouble| &trouble.kind),
        "last_error": document.trouble.as_ref().map(|trouble| &trouble.message),
        "title": document.title,
        "pages": document.pages,
        "source": document.source.as_str(),
        "sha256": document.sha256,
        "collections": document.collections,
        "created_at": offset(document.created_at),
    })
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    collection: Option<String>,
    query: Option<String>,
}

/// `GET /api/documents`
pub(super) async fn list(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Failure<Gaia>> {
    let documents = app
        .store()
        .documents()
        .list(&mine.person, query.collection, query.query)
        .await?;
    let bytes: u64 = documents.iter().map(|document| document.bytes).sum();
    let passages: u64 = documents
        .iter()
        .map(|document| u64::from(document.passages))
        .sum();
    let views: Vec<Value> = documents
        .iter()
        .map(|document| view(&app, &peer, document))
        .collect();
    Ok(answer(
        StatusCode::OK,
        &json!({
            "documents": views,
            "total": views.len(),
            "total_size_bytes": bytes,
            "total_chunks": passages,
        }),
    ))
}

/// `GET /api/documents/{id}`
pub(super) async fn one(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Failure<Gaia>> {
    let document = app.store().documents().get(&mine.person, &id).await?;
    Ok(answer(StatusCode::OK, &view(&app, &peer, &document)))
}

/// `GET /api/documents/{id}/status`
pub(super) async fn status(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Failure<Gaia>> {
    let document = app.store().documents().get(&mine.person, &id).await?;
    let mut view = view(&app, &peer, &document);
    view["is_active"] = matches!(document.status, Status::Pending | Status::Indexing).into();
    Ok(answer(StatusCode::OK, &view))
}

/// There is nothing to cancel.
#[derive(Debug, thiserror::Error)]
#[error("document `{0}` is not being read, nor does it wait for that")]
struct NothingRuns(String);

impl Failing for NothingRuns {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

/// `POST /api/documents/{id}/cancel`
pub(super) async fn cancel(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Failure<Gaia>> {
    if !app.cancel_document(&mine.person, &id).await? {
        return Err(NothingRuns(id).into());
    }
    Ok(answer(
        StatusCode::OK,
        &json!({ "cancelled": true, "id": id }),
    ))
}

/// `POST /api/documents/{id}/retry`
pub(super) async fn retry(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Failure<Gaia>> {
    let document = app.read_again(&mine.person, &id).await?;
    Ok(answer(StatusCode::OK, &view(&app, &peer, &document)))
}

/// `DELETE /api/documents/{id}`
pub(super) async fn delete(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Failure<Gaia>> {
    app.delete_document(&mine.person, &id).await?;
    Ok(answer(StatusCode::OK, &json!({ "deleted": true })))
}

/// `GET /api/documents/monitor/status`
pub(super) async fn monitor(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
) -> Result<Response, Failure<Gaia>> {
    let person = mine.person;
    let watches = app.store().collections().watches(Some(&person)).await?;
    let owner = peer.holds(Scope::Owner);
    let watched: Vec<Value> = watches
        .iter()
        .filter(|_| owner)
        .map(|watch| json!({ "id": watch.id, "path": watch.path, "recursive": watch.recursive, "collection": watch.collection }))
        .collect();
    let reading = app.reading();
    let mine = app.store().documents().list(&person, None, None).await?;
    let reading: Vec<&String> = reading
        .iter()
        .filter(|id| mine.iter().any(|document| document.id == **id))
        .collect();
    Ok(answer(
        StatusCode::OK,
        &json!({
            "running": true,
            "interval_seconds": app.watch_interval().as_secs_f64(),
            "reindexing": reading,
            "watched": watched,
        }),
    ))
}

/// `DELETE /api/documents/monitor/{id}`
pub(super) async fn unwatch(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Failure<Gaia>> {
    app.store().collections().unwatch(&mine.person, &id).await?;
    Ok(answer(StatusCode::OK, &json!({ "deleted": true })))
}
