//! Files: those of this machine below the shared folders, for its owner; and those that a person sends beside a message.

use std::fs::File;
use std::path::Path as FilePath;

use axum::extract::multipart::{Multipart, MultipartRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::super::documents::add::bad_form;
use super::super::failure::json as answer;
use super::super::mine::Mine;
use super::super::sent;
use super::super::time::offset;
use super::fields::{Text, no_file};
use super::views::size;
use super::{Gaia, Json, Query, Refused};
use crate::app::{App, FileEntry, READABLE};

/// Largest file of this form.
const UPLOAD_BYTES_MAX: usize = 20 << 20;

/// Pictures, and what they are.
const PICTURES: [(&str, &str); 7] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("bmp", "image/bmp"),
    ("svg", "image/svg+xml"),
];

/// What a served file may do in a browser: an SVG holds scripts, and none may run in our origin.
const SANDBOX: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox";

/// Results of a search, and where none are asked for.
const RESULTS_MAX: i64 = 100;
const RESULTS_USUAL: i64 = 20;

/// Lines of a preview, and where none are asked for.
const LINES_MAX: i64 = 200;
const LINES_USUAL: i64 = 50;

/// Folders that people look for first.
const USUAL_FOLDERS: [&str; 4] = ["Documents", "Downloads", "Desktop", "Pictures"];

fn small(number: i64) -> usize {
    usize::try_from(number).unwrap_or_default()
}

fn dotted(one: &FileEntry) -> Option<String> {
    one.extension().map(|end| format!(".{end}"))
}

/// `GET /api/files/browse`
pub(in super::super) async fn browse(
    State(app): State<App>,
    Query(mut query): Query,
) -> Result<Response, Refused> {
    let path = query.maybe_text("path", Text::default());
    query.done()?;
    let listing = app.list_folder(path.as_deref()).await?;
    let entries: Vec<Value> = listing
        .entries
        .iter()
        .map(|one| {
            json!({
                "name": one.name,
                "path": one.path,
                "type": if one.folder { "folder" } else { "file" },
                "size": one.bytes,
                "extension": if one.folder { None } else { dotted(one) },
                "modified": offset(one.modified_ms),
            })
        })
        .collect();
    let mut links = Vec::new();
    for root in app.shared_roots() {
        let name = root.file_name().unwrap_or(root.as_os_str());
        links.push(json!({ "name": name.to_string_lossy(), "path": root, "icon": "home" }));
        for name in USUAL_FOLDERS {
            let folder = root.join(name);
            let entry = app.shared_entry(&folder.display().to_string()).await;
            if entry.is_ok_and(|entry| entry.folder) {
                links.push(json!({ "name": name, "path": folder, "icon": "folder" }));
            }
        }
    }
    Ok(answer(
        StatusCode::OK,
        &json!({
            "current_path": listing.path,
            "parent_path": listing.parent,
            "entries": entries,
            "quick_links": links,
        }),
    ))
}

/// `GET /api/files/search`
pub(in super::super) async fn search(
    State(app): State<App>,
    Query(mut query): Query,
) -> Result<Response, Refused> {
    let wanted = query.text("query", Text::default());
    let types = query.maybe_text("file_types", Text::default());
    let most = query
        .whole("max_results")
        .unwrap_or(RESULTS_USUAL)
        .clamp(1, RESULTS_MAX);
    query.done()?;
    let types = types.map(|types| {
        types
            .split(',')
            .map(|end| end.trim().trim_start_matches('.').to_lowercase())
            .filter(|end| !end.is_empty())
            .collect::<Vec<_>>()
    });
    let types = types.filter(|types| !types.is_empty());
    let found = app.find_files(&wanted, types, small(most)).await?;
    let results: Vec<Value> = found
        .files
        .iter()
        .map(|one| {
            json!({
                "name": one.name,
                "path": one.path,
                "size": one.bytes,
                "size_display": size(one.bytes),
                "extension": dotted(one).unwrap_or_default(),
                "modified": offset(one.modified_ms),
                "directory": one.path.parent(),
            })
        })
        .collect();
    Ok(answer(
        StatusCode::OK,
        &json!({
            "results": results,
            "total": results.len(),
            "query": wanted,
            "searched_locations": found.folders,
        }),
    ))
}

fn path_of(query: &mut super::Fields) -> String {
    query.text("path", Text::default())
}

/// `GET /api/files/preview`
pub(in super::super) async fn preview(
    State(app): State<App>,
    Query(mut query): Query,
) -> Result<Response, Refused> {
    let path = path_of(&mut query);
    let lines = query
        .whole("lines")
        .unwrap_or(LINES_USUAL)
        .clamp(1, LINES_MAX);
    query.done()?;
    let seen = app.preview_file(&path, small(lines)).await?;
    let (file, text) = (&seen.file, seen.text.as_ref());
    let table = text.and_then(|text| text.table.as_ref());
    Ok(answer(
        StatusCode::OK,
        &json!({
            "path": file.path,
            "name": file.name,
            "size": file.bytes,
            "size_display": size(file.bytes),
            "extension": dotted(file).unwrap_or_default(),
            "modified": offset(file.modified_ms),
            "is_text": text.is_some(),
            "preview_lines": text.map(|text| text.lines.as_slice()).unwrap_or_default(),
            "total_lines": text.and_then(|text| text.total),
            "columns": table.map(|(columns, _)| columns),
            "row_count": table.map(|(_, rows)| rows),
            "encoding": text.map(|text| text.encoding),
        }),
    ))
}

/// `POST /api/files/open`: an appliance has no desktop to open a window on, and says so once the path is a good one.
pub(in super::super) async fn open(
    State(app): State<App>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let path = body.text("path", Text::default());
    body.flag("reveal", true);
    body.done()?;
    let entry = app.shared_entry(&path).await?;
    let why = format!(
        "this appliance opens no windows; {} lies on the machine that it runs on",
        entry.path.display()
    );
    Err(Refused::plain(StatusCode::NOT_IMPLEMENTED, why))
}

/// The media type of a picture, by its ending.
fn picture(path: &FilePath) -> Option<&'static str> {
    let end = path.extension()?.to_string_lossy().to_lowercase();
    PICTURES
        .iter()
        .find_map(|(one, kind)| (*one == end).then_some(*kind))
}

/// `GET /api/files/image`
pub(in super::super) async fn image(
    State(app): State<App>,
    Query(mut query): Query,
) -> Result<Response, Refused> {
    let path = path_of(&mut query);
    query.done()?;
    let (file, entry) = app.open_shared(&path).await?;
    let Some(kind) = picture(&entry.path) else {
        let names: Vec<&str> = PICTURES.iter().map(|(end, _)| *end).collect();
        let why = format!("Not an image file (supported: {})", names.join(", "));
        return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
    };
    Ok(served(file, kind, true))
}

/// A file as an answer. What is no picture is kept, never shown.
fn served(file: File, kind: &'static str, shown: bool) -> Response {
    let length = file.metadata().map(|metadata| metadata.len());
    let mut response = Response::new(sent::file(file));
    let headers = response.headers_mut();
    if let Ok(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(SANDBOX),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );
    if !shown {
        headers.insert(
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment"),
        );
    }
    response
}

/// `POST /api/files/upload`
pub(in super::super) async fn upload(
    State(app): State<App>,
    mine: Mine<Gaia>,
    form: Result<Multipart, MultipartRejection>,
) -> Result<Response, Refused> {
    let Ok(mut parts) = form else {
        return Err(no_file("file"));
    };
    let broken = |error: axum::extract::multipart::MultipartError| bad_form(&error.body_text());
    while let Some(mut part) = parts.next_field().await.map_err(broken)? {
        if part.name() != Some("file") {
            continue;
        }
        let Some(original) = part.file_name().map(str::to_owned) else {
            continue;
        };
        let kind = part
            .content_type()
            .unwrap_or("application/octet-stream")
            .to_owned();
        let path = FilePath::new(&original);
        let end = path
            .extension()
            .map(|end| end.to_string_lossy().to_lowercase())
            .unwrap_or_default();
        let is_image = picture(path).is_some();
        if !is_image && !READABLE.contains(&end.as_str()) {
            let why = format!(
                "File type '.{end}' is not allowed; send a picture (png, jpg, gif, webp, bmp, svg) or a document (pdf, txt, md, csv, json, docx, xlsx, html, code)"
            );
            return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = part.chunk().await.map_err(broken)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > UPLOAD_BYTES_MAX {
                let why = format!("File too large; at most {}", size(UPLOAD_BYTES_MAX as u64));
                return Err(Refused::plain(StatusCode::PAYLOAD_TOO_LARGE, why));
            }
        }
        if bytes.is_empty() {
            let why = "Uploaded file is empty";
            return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
        }
        let length = bytes.len();
        let name = app.keep_upload(&mine.person, &end, bytes).await?;
        return Ok(answer(
            StatusCode::OK,
            &json!({
                "filename": name,
                "original_name": original,
                "url": format!("/api/files/uploads/{name}"),
                "size": length,
                "content_type": kind,
                "is_image": is_image,
            }),
        ));
    }
    Err(no_file("file"))
}

/// `GET /api/files/uploads/{name}`: one's own.
pub(in super::super) async fn uploaded(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    let file = app.open_upload(&mine.person, &name)?;
    let kind = picture(FilePath::new(&name));
    Ok(served(
        file,
        kind.unwrap_or("application/octet-stream"),
        kind.is_some(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_known_by_their_endings() {
        assert_eq!(picture(FilePath::new("/a/B.PNG")), Some("image/png"));
        assert_eq!(picture(FilePath::new("/a/png")), None);
        assert_eq!(picture(FilePath::new("/a/b.txt")), None);
    }
}
