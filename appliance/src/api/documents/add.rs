//! Documents on their way in: forms as GAIA sends them, raw bytes, paths, folders, addresses, notes.

use std::time::Duration;

use axum::Extension;
use axum::body::Body as RawBody;
use axum::extract::multipart::{Multipart, MultipartError, MultipartRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::gaia::{Fields, Json, Refused, TextRule, no_file};
use super::super::mine::Mine;
use super::{Gaia, view};
use crate::app::documents::{Incoming, LibraryError, Origin};
use crate::app::{App, AppError};
use crate::domain::library::Status;
use crate::domain::{Document, Peer, PersonId};

/// GAIA's own limit for this form. Larger files come as raw bytes.
const FORM_BYTES_MAX: u64 = 20 << 20;

/// Files up to this size are read before the call is answered, as there, unless that takes too long.
const READ_IN_THE_CALL: u64 = 5 << 20;
const READ_MAX: Duration = Duration::from_secs(20);

/// Pause between two looks at a document that is being read.
const LOOK: Duration = Duration::from_millis(40);

/// What the refusal names as the limit's setting.
const FORM_LIMIT: &str = "of forms; POST /api/documents/raw?name=NAME takes larger ones";

/// A form that cannot be read.
pub(in super::super) fn bad_form(error: &impl std::fmt::Display) -> RequestError {
    RequestError::Malformed(error.to_string())
}

/// One file of a form, and the fields before it.
pub(in super::super) struct Form {
    pub(in super::super) file: Option<Incoming>,
    pub(in super::super) fields: Vec<(String, String)>,
}

/// Longest text field of a form.
const FIELD_BYTES_MAX: usize = 4096;

/// Reads a form: its file goes to disk as it comes.
pub(in super::super) async fn form(
    app: &App,
    form: Result<Multipart, MultipartRejection>,
    limit: Option<(u64, &'static str)>,
) -> Result<Form, FormError> {
    let mut parts = form.map_err(|error| bad_form(&error.body_text()))?;
    let mut read = Form {
        file: None,
        fields: Vec::new(),
    };
    while let Some(mut part) = parts.next_field().await? {
        let name = part.name().unwrap_or_default().to_owned();
        match part.file_name().map(str::to_owned) {
            Some(file) if name == "file" => {
                let mut incoming = app.receive(&file, limit)?;
                while let Some(piece) = part.chunk().await? {
                    incoming.write(&piece)?;
                }
                read.file = Some(incoming);
            }
            _ => {
                let mut text = Vec::new();
                while let Some(piece) = part.chunk().await? {
                    text.extend_from_slice(&piece);
                    if text.len() > FIELD_BYTES_MAX {
                        return Err(bad_form(&format!("the field `{name}` is too long")).into());
                    }
                }
                read.fields
                    .push((name, String::from_utf8_lossy(&text).into_owned()));
            }
        }
    }
    Ok(read)
}

/// What can be wrong with a form.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum FormError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the form broke off: {0}; send it again")]
    Broken(#[from] MultipartError),
    #[error(transparent)]
    App(#[from] crate::app::AppError),
    #[error(transparent)]
    Library(#[from] LibraryError),
}

impl crate::error::Failing for FormError {
    fn kind(&self) -> crate::error::Kind {
        match self {
            FormError::Request(error) => error.kind(),
            FormError::Broken(_) => crate::error::Kind::BadRequest,
            FormError::App(error) => error.kind(),
            FormError::Library(error) => error.kind(),
        }
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            FormError::Request(error) => error.code(),
            FormError::Broken(_) => None,
            FormError::App(error) => error.code(),
            FormError::Library(error) => error.code(),
        }
    }
}

fn told(app: &App, peer: &Peer, document: &Document) -> Response {
    answer(StatusCode::OK, &view(app, peer, document))
}

/// `POST /api/documents/upload`
pub(in super::super) async fn upload(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
    parts: Result<Multipart, MultipartRejection>,
) -> Result<Response, Refused> {
    let person = mine.person;
    if parts.is_err() {
        return Err(no_file("file"));
    }
    let read = form(&app, parts, Some((FORM_BYTES_MAX, FORM_LIMIT))).await?;
    let collection = read
        .fields
        .into_iter()
        .find(|(name, _)| name == "collection")
        .map(|(_, id)| id);
    let Some(file) = read.file else {
        return Err(no_file("file"));
    };
    let document = file
        .finish(
            &person,
            Origin {
                collection,
                ..Origin::default()
            },
        )
        .await?;
    let document = settled(&app, &person, document).await?;
    Ok(told(&app, &peer, &document))
}

#[derive(Deserialize)]
pub(in super::super) struct RawQuery {
    name: String,
    collection: Option<String>,
}

/// `POST /api/documents/raw?name=NAME`: the body is the file.
pub(in super::super) async fn raw(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
    Query(query): Query<RawQuery>,
    body: RawBody,
) -> Result<Response, Failure<Gaia>> {
    let person = mine.person;
    let mut incoming = app.receive(&query.name, None)?;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| LibraryError::Broken(error.to_string()))?;
        incoming.write(&piece)?;
    }
    let origin = Origin {
        collection: query.collection,
        ..Origin::default()
    };
    let document = incoming.finish(&person, origin).await?;
    Ok(told(&app, &peer, &document))
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct UrlBody {
    url: String,
    collection: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct NoteBody {
    title: String,
    text: String,
    collection: Option<String>,
}

impl Wire for UrlBody {
    type Dialect = Gaia;
}

impl Wire for NoteBody {
    type Dialect = Gaia;
}

/// `POST /api/documents/upload-path`
pub(in super::super) async fn path(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let path = body.text("filepath", TextRule::default());
    let collection = collection(&mut body);
    body.done()?;
    let document = app.add_path(&mine.person, &path, collection).await?;
    let document = settled(&app, &mine.person, document).await?;
    Ok(told(&app, &peer, &document))
}

fn collection(body: &mut Fields) -> Option<String> {
    body.maybe_text("collection", TextRule::default())
}

/// Waits until a small document is read, as the original does; one that has to wait for others is told as it is.
async fn settled(
    app: &App,
    person: &PersonId,
    mut document: Document,
) -> Result<Document, AppError> {
    if document.bytes > READ_IN_THE_CALL {
        return Ok(document);
    }
    let mut looks = tokio::time::interval(LOOK);
    let until = tokio::time::Instant::now() + READ_MAX;
    while matches!(document.status, Status::Pending | Status::Indexing)
        && looks.tick().await < until
    {
        document = app.store().documents().get(person, &document.id).await?;
    }
    Ok(document)
}

/// `POST /api/documents/index-folder`
pub(in super::super) async fn folder(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let person = mine.person;
    let path = body.text("folder_path", TextRule::default());
    let recursive = body.flag("recursive", true);
    // Also take what comes later.
    let watch = body.flag("watch", false);
    let collection = collection(&mut body);
    body.done()?;
    let report = match watch {
        true => {
            app.watch_folder(&person, &path, recursive, collection)
                .await?
                .1
        }
        false => {
            app.add_folder(&person, &path, recursive, collection)
                .await?
        }
    };
    let documents: Vec<Value> = report
        .documents
        .iter()
        .map(|one| view(&app, &peer, one))
        .collect();
    Ok(answer(
        StatusCode::OK,
        &json!({
            "indexed": documents.len(),
            "failed": report.errors.len(),
            "documents": documents,
            "errors": report.errors,
        }),
    ))
}

/// `POST /api/documents/url`
pub(in super::super) async fn url(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
    Body(body): Body<UrlBody>,
) -> Result<Response, Failure<Gaia>> {
    let document = app
        .add_url(&mine.person, &body.url, body.collection)
        .await?;
    Ok(told(&app, &peer, &document))
}

/// `POST /api/documents/note`
pub(in super::super) async fn note(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
    Body(body): Body<NoteBody>,
) -> Result<Response, Failure<Gaia>> {
    let document = app
        .add_note(&mine.person, &body.title, &body.text, body.collection)
        .await?;
    Ok(told(&app, &peer, &document))
}
