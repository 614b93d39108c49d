//! `/v1/vector_stores`: collections by OpenAI's name, with their files and their search.
//!
//! `expires_after`, `chunking_strategy`, `attributes` and `metadata` are refused by name where they ask for something:
//! passages are cut by structure, and nothing disappears by itself.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::mine::Mine;
use super::OpenAi;
use super::files::page;
use crate::app::App;
use crate::app::documents::{FOUND_MAX, Mode, SearchRequest};
use crate::domain::library::Status;
use crate::domain::{Collection, Document, PersonId, Shelf};

/// What a store is called that nobody named.
const UNNAMED: &str = "Vector store";

/// Results of a search that asks for no number: OpenAI's own default.
const RESULTS: usize = 10;

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct StoreBody {
    name: Option<String>,
    #[serde(default)]
    file_ids: Vec<String>,
    expires_after: Option<Value>,
    chunking_strategy: Option<Value>,
    metadata: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct FileBody {
    file_id: String,
    attributes: Option<Value>,
    chunking_strategy: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct BatchBody {
    file_ids: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct SearchBody {
    query: Query,
    max_num_results: Option<usize>,
    filters: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Query {
    One(String),
    Many(Vec<String>),
}

impl Wire for StoreBody {
    type Dialect = OpenAi;
}

impl Wire for FileBody {
    type Dialect = OpenAi;
}

impl Wire for BatchBody {
    type Dialect = OpenAi;
}

impl Wire for SearchBody {
    type Dialect = OpenAi;
}

/// Refuses what asks for something that is not done; empty objects and `auto` ask for nothing.
fn refuse(fields: &[(&'static str, &Option<Value>)]) -> Result<(), RequestError> {
    for (param, value) in fields {
        let asks = match value {
            None | Some(Value::Null) => false,
            Some(Value::Object(fields)) => {
                !fields.is_empty() && fields.get("type") != Some(&json!("auto"))
            }
            Some(_) => true,
        };
        if asks {
            return Err(RequestError::Unsupported {
                param,
                why: "passages are cut by a document's structure and stay until it is deleted",
            });
        }
    }
    Ok(())
}

async fn view(
    app: &App,
    person: &PersonId,
    collection: &Collection,
) -> Result<Value, Failure<OpenAi>> {
    let inside = app
        .store()
        .documents()
        .list(person, Some(collection.id.clone()), None)
        .await?;
    let count = |wanted: &[Status]| {
        inside
            .iter()
            .filter(|one| wanted.contains(&one.status))
            .count()
    };
    let waiting = count(&[Status::Pending, Status::Indexing]);
    Ok(json!({
        "id": collection.id,
        "object": "vector_store",
        "created_at": collection.created_at / 1000,
        "name": collection.name,
        "usage_bytes": inside.iter().map(|one| one.bytes).sum::<u64>(),
        "file_counts": {
            "in_progress": waiting,
            "completed": count(&[Status::Complete]),
            "failed": count(&[Status::Failed, Status::Missing]),
            "cancelled": count(&[Status::Cancelled]),
            "total": inside.len(),
        },
        "status": if waiting > 0 { "in_progress" } else { "completed" },
        "expires_after": null,
        "expires_at": null,
        "last_active_at": inside.iter().filter_map(|one| one.cited_at).max().map(|ms| ms / 1000),
        "metadata": {},
    }))
}

fn file_view(store: &str, document: &Document) -> Value {
    let status = match document.status {
        Status::Pending | Status::Indexing => "in_progress",
        Status::Complete => "completed",
        Status::Failed | Status::Missing => "failed",
        Status::Cancelled => "cancelled",
    };
    let error = document.trouble.as_ref().map(|trouble| {
        let code = if trouble.kind == "unsupported" {
            "unsupported_file"
        } else {
            "invalid_file"
        };
        json!({ "code": code, "message": trouble.message })
    });
    json!({
        "id": document.id,
        "object": "vector_store.file",
        "usage_bytes": document.bytes,
        "created_at": document.created_at / 1000,
        "vector_store_id": store,
        "status": status,
        "last_error": error,
        "attributes": {},
    })
}

/// `POST /v1/vector_stores`
pub(in super::super) async fn create(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Body(body): Body<StoreBody>,
) -> Result<Response, Failure<OpenAi>> {
    refuse(&[
        ("expires_after", &body.expires_after),
        ("chunking_strategy", &body.chunking_strategy),
        ("metadata", &body.metadata),
    ])?;
    let person = mine.person;
    let wanted = body
        .name
        .filter(|name| !name.trim().is_empty())
        .unwrap_or_else(|| UNNAMED.to_owned());
    let collections = app.store().collections();
    // Names may repeat at OpenAI; here a number tells them apart.
    let taken = collections.all(&person).await?;
    let free = |name: &String| taken.iter().all(|one| one.name != *name);
    let numbered = (2..).map(|number| format!("{wanted} {number}"));
    let name = std::iter::once(wanted.clone())
        .chain(numbered)
        .find(free)
        .unwrap_or(wanted.clone());
    let made = collections.create(&person, &name).await?;
    for file in &body.file_ids {
        collections.put(&person, &made.id, file).await?;
    }
    Ok(answer(StatusCode::OK, &view(&app, &person, &made).await?))
}

/// `GET /v1/vector_stores`
pub(in super::super) async fn list(
    State(app): State<App>,
    mine: Mine<OpenAi>,
) -> Result<Response, Failure<OpenAi>> {
    let person = mine.person;
    let mut views = Vec::new();
    for one in app.store().collections().all(&person).await? {
        views.push(view(&app, &person, &one).await?);
    }
    Ok(answer(StatusCode::OK, &page(views)))
}

/// `GET /v1/vector_stores/{id}`
pub(in super::super) async fn one(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let person = mine.person;
    let found = app.store().collections().get(&person, &id).await?;
    Ok(answer(StatusCode::OK, &view(&app, &person, &found).await?))
}

/// `POST /v1/vector_stores/{id}`: another name.
pub(in super::super) async fn change(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
    Body(body): Body<StoreBody>,
) -> Result<Response, Failure<OpenAi>> {
    refuse(&[
        ("expires_after", &body.expires_after),
        ("metadata", &body.metadata),
    ])?;
    let person = mine.person;
    let found = match body.name.filter(|name| !name.trim().is_empty()) {
        Some(name) => {
            app.store()
                .collections()
                .rename(&person, &id, name.trim())
                .await?
        }
        None => app.store().collections().get(&person, &id).await?,
    };
    Ok(answer(StatusCode::OK, &view(&app, &person, &found).await?))
}

/// `DELETE /v1/vector_stores/{id}`: its files stay, as at OpenAI.
pub(in super::super) async fn delete(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    app.store().collections().delete(&mine.person, &id).await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "id": id, "object": "vector_store.deleted", "deleted": true }),
    ))
}

/// `POST /v1/vector_stores/{id}/files`
pub(in super::super) async fn put(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
    Body(body): Body<FileBody>,
) -> Result<Response, Failure<OpenAi>> {
    refuse(&[
        ("attributes", &body.attributes),
        ("chunking_strategy", &body.chunking_strategy),
    ])?;
    let person = mine.person;
    app.store()
        .collections()
        .put(&person, &id, &body.file_id)
        .await?;
    let document = app.store().documents().get(&person, &body.file_id).await?;
    Ok(answer(StatusCode::OK, &file_view(&id, &document)))
}

/// `GET /v1/vector_stores/{id}/files`
pub(in super::super) async fn files(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let person = mine.person;
    let store = app.store().collections().get(&person, &id).await?.id;
    let inside = app
        .store()
        .documents()
        .list(&person, Some(store), None)
        .await?;
    Ok(answer(
        StatusCode::OK,
        &page(inside.iter().map(|one| file_view(&id, one)).collect()),
    ))
}

/// `GET /v1/vector_stores/{id}/files/{file}`
pub(in super::super) async fn file(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path((id, file)): Path<(String, String)>,
) -> Result<Response, Failure<OpenAi>> {
    let document = app.store().documents().get(&mine.person, &file).await?;
    if !document.collections.contains(&id) {
        let what = RequestError::field("file_id", "is not in this vector store");
        return Err(what.into());
    }
    Ok(answer(StatusCode::OK, &file_view(&id, &document)))
}

/// `DELETE /v1/vector_stores/{id}/files/{file}`: the file itself stays.
pub(in super::super) async fn take(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path((id, file)): Path<(String, String)>,
) -> Result<Response, Failure<OpenAi>> {
    app.store()
        .collections()
        .take(&mine.person, &id, &file)
        .await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "id": file, "object": "vector_store.file.deleted", "deleted": true }),
    ))
}

/// `POST /v1/vector_stores/{id}/file_batches`
pub(in super::super) async fn batch(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
    Body(body): Body<BatchBody>,
) -> Result<Response, Failure<OpenAi>> {
    let person = mine.person;
    for file in &body.file_ids {
        app.store().collections().put(&person, &id, file).await?;
    }
    let found = app.store().collections().get(&person, &id).await?;
    let store = view(&app, &person, &found).await?;
    Ok(answer(
        StatusCode::OK,
        &json!({
            // A batch is done when its store is; its name is the store's.
            "id": id,
            "object": "vector_store.files_batch",
            "created_at": store["created_at"],
            "vector_store_id": id,
            "status": store["status"],
            "file_counts": store["file_counts"],
        }),
    ))
}

/// `POST /v1/vector_stores/{id}/search`
pub(in super::super) async fn search(
    State(app): State<App>,
    mine: Mine<OpenAi>,
    Path(id): Path<String>,
    Body(body): Body<SearchBody>,
) -> Result<Response, Failure<OpenAi>> {
    refuse(&[("filters", &body.filters)])?;
    let person = mine.person;
    let store = app.store().collections().get(&person, &id).await?.id;
    let query = match body.query {
        Query::One(query) => query,
        Query::Many(all) => all.join(" "),
    };
    let wanted = body.max_num_results.unwrap_or(RESULTS);
    if wanted == 0 || wanted > FOUND_MAX {
        let why = format!("must be between 1 and {FOUND_MAX}");
        return Err(RequestError::field("max_num_results", why).into());
    }
    let shelf = Shelf {
        person,
        only: vec![store],
    };
    let request = SearchRequest {
        shelf,
        query: query.clone(),
        wanted,
        mode: Mode::Hybrid,
    };
    let found = app.search(request).await?;
    let one = |passage: &crate::domain::Citation| {
        json!({
            "file_id": passage.document,
            "filename": passage.name,
            "score": passage.score,
            "attributes": { "page": passage.page, "start": passage.start, "end": passage.end },
            "content": [{ "type": "text", "text": passage.text }],
        })
    };
    Ok(answer(
        StatusCode::OK,
        &json!({
            "object": "vector_store.search_results.page",
            "search_query": [query],
            "data": found.passages.iter().map(one).collect::<Vec<_>>(),
            "has_more": false,
            "next_page": null,
        }),
    ))
}
