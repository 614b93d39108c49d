//! What a document says: its text with pages and headings, and its passages.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::failure::{Failure, json as answer};
use super::super::mine::Mine;
use super::Gaia;
use crate::app::{App, Found};
use crate::error::{Failing, Kind};

/// Passages in one listing.
const PASSAGES_MAX: u32 = 1000;

#[derive(Deserialize)]
pub(in super::super) struct WindowQuery {
    /// First scalar value wanted.
    start: Option<usize>,
    /// One past the last.
    end: Option<usize>,
}

/// `GET /api/documents/{id}/content`: the text, or a part of it. Offsets count Unicode scalar values of the whole.
pub(in super::super) async fn content(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
    Query(window): Query<WindowQuery>,
) -> Result<Response, Failure<Gaia>> {
    let person = mine.person;
    let document = app.store().documents().get(&person, &id).await?;
    let text = app.store().passages().text(&person, &id).await?;
    let total = text.content.chars().count();
    let end = window.end.unwrap_or(total).min(total);
    let start = window.start.unwrap_or(0).min(end);
    let part: String = text.content.chars().skip(start).take(end - start).collect();
    let headings: Vec<Value> = text
        .headings
        .iter()
        .map(|heading| json!({ "start": heading.start, "level": heading.level, "title": heading.title }))
        .collect();
    Ok(answer(
        StatusCode::OK,
        &json!({
            "id": document.id,
            "filename": document.name,
            "title": document.title,
            "content": part,
            "start": start,
            "end": end,
            "length": total,
            "pages": text.pages,
            "headings": headings,
        }),
    ))
}

#[derive(Deserialize)]
pub(in super::super) struct ChunksQuery {
    from: Option<u32>,
    limit: Option<u32>,
}

fn passage_view(one: &Found) -> Value {
    json!({
        "number": one.number,
        "start": one.start,
        "end": one.end,
        "page": one.page,
        "headings": one.headings,
        "text": one.text,
    })
}

/// `GET /api/documents/{id}/chunks`
pub(in super::super) async fn chunks(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
    Query(query): Query<ChunksQuery>,
) -> Result<Response, Failure<Gaia>> {
    let limit = query.limit.unwrap_or(PASSAGES_MAX).min(PASSAGES_MAX);
    let from = query.from.unwrap_or(0);
    let found = app
        .store()
        .passages()
        .of_document(&mine.person, &id, from, limit)
        .await?;
    let views: Vec<Value> = found.iter().map(passage_view).collect();
    Ok(answer(
        StatusCode::OK,
        &json!({ "id": id, "chunks": views }),
    ))
}

/// No passage of this number.
#[derive(Debug, thiserror::Error)]
#[error("document `{id}` has no passage {number}")]
struct NoPassage {
    id: String,
    number: u32,
}

impl Failing for NoPassage {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }
}

/// `GET /api/documents/{id}/chunks/{number}`
pub(in super::super) async fn chunk(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path((id, number)): Path<(String, u32)>,
) -> Result<Response, Failure<Gaia>> {
    let found = app
        .store()
        .passages()
        .of_document(&mine.person, &id, number, 1)
        .await?;
    match found.first().filter(|one| one.number == number) {
        Some(one) => Ok(answer(StatusCode::OK, &passage_view(one))),
        None => Err(NoPassage { id, number }.into()),
    }
}
