//! Search, collections, and the library in one file.

use axum::body::Body as RawBody;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::cited::{self, CitationView};
use super::super::failure::{Failure, json as answer};
use super::super::mine::Mine;
use super::super::openai::OpenAi;
use super::super::sent;
use super::super::time::rfc3339;
use crate::app::App;
use crate::app::documents::{LibraryError, Mode, SearchRequest};
use crate::domain::{Collection, Shelf};

/// Characters of a collection's name.
const NAME_CHARS_MAX: usize = 200;

/// Passages of a search that asks for no number.
const K: usize = 8;

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct SearchBody {
    query: String,
    k: Option<usize>,
    #[serde(default)]
    collections: Vec<String>,
    mode: Option<String>,
}

impl Wire for SearchBody {
    type Dialect = OpenAi;
}

/// `POST /v1/search`
pub(in super::super) async fn search(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Body(body): Body<SearchBody>,
) -> Result<Response, Failure<OpenAi>> {
    let wanted = body.k.unwrap_or(K);
    if wanted == 0 || wanted > crate::app::documents::FOUND_MAX {
        let why = format!("must be between 1 and {}", crate::app::documents::FOUND_MAX);
        return Err(RequestError::field("k", why).into());
    }
    let mode = match body.mode.as_deref() {
        None => Mode::Hybrid,
        Some(name) => Mode::parse(name)
            .ok_or_else(|| RequestError::field("mode", "must be hybrid, words or vectors"))?,
    };
    let shelf = Shelf {
        person: mine.person,
        only: body.collections,
    };
    let found = app
        .search(SearchRequest {
            shelf,
            query: body.query,
            wanted,
            mode,
        })
        .await?;
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let view = SearchView {
        object: "search.results",
        mode: mode.as_str(),
        passages: cited::views(&found.passages),
        embedding_ms: ms(found.embedding),
        search_ms: ms(found.searching),
    };
    Ok(answer(StatusCode::OK, &view))
}

/// What was found.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct SearchView {
    object: &'static str,
    mode: &'static str,
    /// Best first.
    passages: Vec<CitationView>,
    /// Turning the query into a vector.
    embedding_ms: f64,
    /// Everything else.
    search_ms: f64,
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct NameBody {
    name: String,
}

impl Wire for NameBody {
    type Dialect = OpenAi;
}

fn view(collection: &Collection) -> Value {
    json!({
        "id": collection.id,
        "name": collection.name,
        "documents": collection.documents,
        "created_at": rfc3339(collection.created_at),
    })
}

fn checked(name: &str) -> Result<&str, RequestError> {
    let name = name.trim();
    match name.chars().count() {
        0 => Err(RequestError::field("name", "is empty")),
        NAME_CHARS_MAX.. => Err(RequestError::field(
            "name",
            format!("may have fewer than {NAME_CHARS_MAX} characters"),
        )),
        _ => Ok(name),
    }
}

/// `GET /onebit/collections`
pub(in super::super) async fn collections(
    State(app): State<App>,
    mine: Mine<OpenAi>,
) -> Result<Response, Failure<OpenAi>> {
    let all = app.store().collections().all(&mine.person).await?;
    let views: Vec<Value> = all.iter().map(view).collect();
    Ok(answer(StatusCode::OK, &json!({ "collections": views })))
}

/// `POST /onebit/collections`
pub(in super::super) async fn create(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Body(body): Body<NameBody>,
) -> Result<Response, Failure<OpenAi>> {
    let made = app
        .store()
        .collections()
        .create(&mine.person, checked(&body.name)?)
        .await?;
    Ok(answer(StatusCode::CREATED, &view(&made)))
}

/// `PATCH /onebit/collections/{id}`
pub(in super::super) async fn rename(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
    Body(body): Body<NameBody>,
) -> Result<Response, Failure<OpenAi>> {
    let made = app
        .store()
        .collections()
        .rename(&mine.person, &id, checked(&body.name)?)
        .await?;
    Ok(answer(StatusCode::OK, &view(&made)))
}

/// `DELETE /onebit/collections/{id}`
pub(in super::super) async fn delete(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    app.store().collections().delete(&mine.person, &id).await?;
    Ok(answer(StatusCode::OK, &json!({ "deleted": true })))
}

/// `PUT /onebit/collections/{id}/documents/{document}`
pub(in super::super) async fn put(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path((id, document)): Path<(String, String)>,
) -> Result<Response, Failure<OpenAi>> {
    app.store()
        .collections()
        .put(&mine.person, &id, &document)
        .await?;
    Ok(answer(StatusCode::OK, &json!({ "attached": true })))
}

/// `DELETE /onebit/collections/{id}/documents/{document}`
pub(in super::super) async fn take(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path((id, document)): Path<(String, String)>,
) -> Result<Response, Failure<OpenAi>> {
    app.store()
        .collections()
        .take(&mine.person, &id, &document)
        .await?;
    Ok(answer(StatusCode::OK, &json!({ "detached": true })))
}

/// `GET /onebit/library`: everything in one file.
pub(in super::super) async fn export(
    State(app): State<App>,
    mine: Mine<OpenAi>,
) -> Result<Response, Failure<OpenAi>> {
    let export = app.export_library(&mine.person).await?;
    let bytes = export.bytes;
    let mut response = Response::new(sent::file(export.file));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/zip"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    let name = "attachment; filename=\"onebit-library.zip\"";
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(name));
    Ok(response)
}

/// `POST /onebit/library`: brings such a file in.
pub(in super::super) async fn import(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    body: RawBody,
) -> Result<Response, Failure<OpenAi>> {
    let person = mine.person;
    let mut spool = app.spool()?;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| LibraryError::Broken(error.to_string()))?;
        std::io::Write::write_all(&mut spool, &piece)
            .map_err(|error| LibraryError::Broken(error.to_string()))?;
    }
    let report = app.import_library(&person, spool).await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "documents": report.documents, "failed": report.errors.len(), "errors": report.errors }),
    ))
}
