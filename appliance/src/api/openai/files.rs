//! `/v1/files`: documents by OpenAI's name. Their identifiers are the library's own.
//!
//! `purpose` is given back as `assistants` whatever was sent: every file is for being searched. `expires_after` is
//! refused by name, because nothing here disappears by itself.

use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::body::RequestError;
use super::super::documents::add::form;
use super::super::failure::{Failure, json as answer};
use super::super::mine::Mine;
use super::OpenAi;
use crate::app::App;
use crate::app::documents::Origin;
use crate::domain::Document;
use crate::domain::library::Status;

fn view(document: &Document) -> Value {
    let status = match document.status {
        Status::Pending | Status::Indexing => "uploaded",
        Status::Complete => "processed",
        Status::Failed | Status::Cancelled | Status::Missing => "error",
    };
    json!({
        "id": document.id,
        "object": "file",
        "bytes": document.bytes,
        "created_at": document.created_at / 1000,
        "expires_at": null,
        "filename": document.name,
        "purpose": "assistants",
        "status": status,
        "status_details": document.trouble.as_ref().map(|trouble| &trouble.message),
    })
}

/// `POST /v1/files`
pub(in super::super) async fn create(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    parts: Result<Multipart, MultipartRejection>,
) -> Result<Response, Failure<OpenAi>> {
    let person = mine.person;
    let read = form(&app, parts, None).await?;
    if read
        .fields
        .iter()
        .any(|(name, _)| name.starts_with("expires_after"))
    {
        return Err(RequestError::Unsupported {
            param: "expires_after",
            why: "files stay until they are deleted",
        }
        .into());
    }
    let Some(file) = read.file else {
        return Err(RequestError::field("file", "is missing from the form").into());
    };
    let document = file.finish(&person, Origin::default()).await?;
    Ok(answer(StatusCode::OK, &view(&document)))
}

/// `GET /v1/files`
pub(in super::super) async fn list(
    State(app): State<App>,
    mine: Mine<OpenAi>,
) -> Result<Response, Failure<OpenAi>> {
    let documents = app
        .store()
        .documents()
        .list(&mine.person, None, None)
        .await?;
    Ok(answer(
        StatusCode::OK,
        &page(documents.iter().map(view).collect()),
    ))
}

/// A list as OpenAI writes it; everything is on its first page.
pub(super) fn page(data: Vec<Value>) -> Value {
    json!({
        "object": "list",
        "first_id": data.first().map(|one| one["id"].clone()),
        "last_id": data.last().map(|one| one["id"].clone()),
        "data": data,
        "has_more": false,
    })
}

/// `GET /v1/files/{id}`
pub(in super::super) async fn one(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let document = app.store().documents().get(&mine.person, &id).await?;
    Ok(answer(StatusCode::OK, &view(&document)))
}

/// `DELETE /v1/files/{id}`
pub(in super::super) async fn delete(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    app.delete_document(&mine.person, &id).await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "id": id, "object": "file", "deleted": true }),
    ))
}

/// `GET /v1/files/{id}/content`: the bytes, as an attachment that no browser runs.
pub(in super::super) async fn content(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let bytes = app.document_bytes(&mine.person, &id).await?;
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment"),
    );
    Ok(response)
}
