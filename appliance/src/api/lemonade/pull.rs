//! `POST pull`, `GET downloads` and `POST downloads/control`: models brought in by the appliance, whoever listens.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::Stream;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::body::{Body, Wire};
use super::super::failure::json as answer;
use super::super::frames::{Frame, sse};
use super::registry::{RegisterBody, is_collection, register};
use super::{Lemonade, Refused, bare, find, key};
use crate::app::{App, Download, DownloadAction, DownloadState};

/// Pause between two progress events.
const TICK: Duration = Duration::from_millis(250);

#[derive(Deserialize)]
pub(in super::super) struct ControlBody {
    #[serde(default)]
    id: String,
    action: String,
}

impl Wire for ControlBody {
    type Dialect = Lemonade;
}

/// One model that a pull brings in.
struct Wanted {
    /// As the client named it.
    name: String,
    checkpoint: String,
    /// The name that it gets.
    id: String,
}

pub(in super::super) async fn pull(
    State(app): State<App>,
    Body(RegisterBody(body)): Body<RegisterBody>,
) -> Result<Response, Refused> {
    let text = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    let flag = |field: &str, none: bool| body.get(field).and_then(Value::as_bool).unwrap_or(none);
    let name = text("model_name").to_owned();
    if name.is_empty() {
        return Err(Refused::plain(
            StatusCode::BAD_REQUEST,
            "`model_name` is required",
        ));
    }
    let (stream, subscribe) = (flag("stream", false), flag("subscribe", true));
    let wanted = wanted(&app, &name, &body).await?;
    let mut jobs = Vec::new();
    for one in &wanted {
        let started = app.start_download(bare(&one.name), &one.checkpoint, Some(one.id.clone()));
        jobs.push(started?.model);
    }
    if stream && !subscribe {
        let seen = jobs.first().and_then(|job| app.download(job));
        let view = seen.map_or_else(|| done_view(&name), |seen| view(&seen));
        return Ok(answer(StatusCode::OK, &view));
    }
    if stream {
        return Ok(sse(events(app, jobs)));
    }
    for job in jobs {
        let seen = ended(&app, &job).await;
        if let Some(error) = seen.as_ref().and_then(|seen| seen.error.as_deref()) {
            let code = seen.as_ref().and_then(|seen| seen.code);
            let body = json!({ "error": error, "code": code.unwrap_or("download_error") });
            return Ok(answer(StatusCode::INTERNAL_SERVER_ERROR, &body));
        }
        if seen.is_none_or(|seen| seen.state != DownloadState::Completed) {
            let why = "the pull was stopped before it was done";
            return Err(Refused::plain(StatusCode::CONFLICT, why));
        }
    }
    let message = format!("Installed model: {name}");
    Ok(answer(
        StatusCode::OK,
        &json!({ "status": "success", "message": message, "model_name": name }),
    ))
}

/// What has to come: nothing for a model that is here. A new description is kept first.
async fn wanted(app: &App, name: &str, body: &Map<String, Value>) -> Result<Vec<Wanted>, Refused> {
    let id = key(name)?;
    if body.contains_key("recipe") || body.contains_key("checkpoint") {
        register(app, body).await?;
    }
    let registrations = app.registrations().await?;
    let members: Vec<String> = match registrations.get(&id) {
        Some(note) if is_collection(note) => {
            let names = note["components"].as_array().into_iter().flatten();
            names
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect()
        }
        _ => vec![name.to_owned()],
    };
    let mut wanted = Vec::new();
    for member in members {
        if find(app, &member).await.is_ok() {
            continue;
        }
        let id = key(&member)?;
        let note = registrations.get(&id);
        let told = note.and_then(|note| {
            note["checkpoint"]
                .as_str()
                .or(note["checkpoints"]["main"].as_str())
        });
        let checkpoint = match told {
            Some(checkpoint) => checkpoint.to_owned(),
            // A repository's own name is enough.
            None if bare(&member).split('/').count() == 2 => bare(&member).to_owned(),
            None => {
                let why = format!(
                    "there is no model `{member}` in the catalogue; give its repository as `checkpoint`, with a `user.` name"
                );
                let body = json!({ "error": why, "code": "unknown_model" });
                return Err(Refused::with(StatusCode::BAD_REQUEST, &body));
            }
        };
        if app.config().fetch.offline {
            let why = format!("offline is set, so `{checkpoint}` cannot be fetched");
            let body = json!({ "error": why, "code": "lemond_offline" });
            return Err(Refused::with(StatusCode::BAD_REQUEST, &body));
        }
        wanted.push(Wanted {
            name: member,
            checkpoint,
            id,
        });
    }
    Ok(wanted)
}

/// Waits until a pull is over; `None` when it was taken off the list.
async fn ended(app: &App, job: &str) -> Option<Download> {
    let mut bell = app.download_bell();
    loop {
        bell.borrow_and_update();
        match app.download(job) {
            Some(seen) if seen.state == DownloadState::Downloading => {}
            other => return other,
        }
        if bell.changed().await.is_err() {
            return None;
        }
    }
}

/// Progress until all pulls are over. Whoever stops listening stops nothing.
fn events(app: App, jobs: Vec<String>) -> impl Stream<Item = Frame> {
    let total = jobs.len().max(1);
    let state = Some((app, jobs, 0));
    stream::unfold(state, move |state| async move {
        let (app, jobs, at) = state?;
        let event = |event: &'static str, data: Value| Frame {
            event: Some(event),
            id: None,
            data: data.to_string(),
            aside: false,
        };
        let over = || {
            event(
                "complete",
                json!({ "file_index": total, "total_files": total, "percent": 100 }),
            )
        };
        let Some(job) = jobs.get(at) else {
            return Some((over(), None));
        };
        // A change ends the wait; silence is filled with how far it is.
        let waited = tokio::time::timeout(TICK, ended(&app, job)).await;
        let seen = waited.ok().flatten().or_else(|| app.download(job));
        let Some(seen) = seen else {
            let gone = json!({ "error": "the pull was taken off the list" });
            return Some((event("error", gone), None));
        };
        match seen.state {
            DownloadState::Downloading | DownloadState::Completed => {
                let done = seen.state == DownloadState::Completed;
                let next = at + usize::from(done);
                let data = json!({
                    "file": file(&seen),
                    "file_index": at + 1,
                    "total_files": total,
                    "bytes_downloaded": seen.done_bytes,
                    "bytes_total": seen.total_bytes,
                    "percent": percent(&seen),
                });
                Some((event("progress", data), Some((app, jobs, next))))
            }
            DownloadState::Failed => {
                let why = seen.error.unwrap_or_default();
                let data = json!({ "error": why, "code": seen.code });
                Some((event("error", data), None))
            }
            DownloadState::Paused | DownloadState::Cancelled => {
                let data = json!({ "error": format!("the pull is {}", name_of(seen.state)) });
                Some((event("error", data), None))
            }
        }
    })
}

pub(in super::super) async fn downloads(State(app): State<App>) -> Response {
    let views: Vec<Value> = app.downloads().iter().map(view).collect();
    answer(StatusCode::OK, &views)
}

pub(in super::super) async fn control(
    State(app): State<App>,
    Body(body): Body<ControlBody>,
) -> Result<Response, Refused> {
    let action = match body.action.as_str() {
        "pause" => DownloadAction::Pause,
        "cancel" => DownloadAction::Cancel,
        "remove" => DownloadAction::Remove,
        other => {
            let why = format!("there is no action `{other}`; use pause, cancel or remove");
            return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
        }
    };
    let name = body.id.strip_prefix("model:").unwrap_or(&body.id);
    let seen = app.control_download(bare(name), action);
    Ok(match (seen, action) {
        (Some(_), DownloadAction::Remove) => answer(StatusCode::OK, &json!({ "status": "ok" })),
        (None, DownloadAction::Remove) => {
            answer(StatusCode::OK, &json!({ "status": "ok", "missing": true }))
        }
        (Some(seen), _) => answer(StatusCode::OK, &view(&seen)),
        (None, _) => {
            let why = format!("Download not found: {}", body.id);
            return Err(Refused::plain(StatusCode::NOT_FOUND, why));
        }
    })
}

fn name_of(state: DownloadState) -> &'static str {
    match state {
        DownloadState::Downloading => "downloading",
        DownloadState::Paused => "paused",
        DownloadState::Cancelled => "cancelled",
        DownloadState::Completed => "completed",
        DownloadState::Failed => "error",
    }
}

fn percent(seen: &Download) -> u64 {
    match (seen.state, seen.total_bytes) {
        (DownloadState::Completed, _) => 100,
        (_, 0) => 0,
        (_, total) => (seen.done_bytes.saturating_mul(100) / total).min(100),
    }
}

fn file(seen: &Download) -> &str {
    seen.checkpoint.as_str()
}

fn view(seen: &Download) -> Value {
    let mut view = json!({
        "id": format!("model:{}", seen.model),
        "type": "model",
        "model_name": seen.model,
        "status": name_of(seen.state),
        "running": seen.state == DownloadState::Downloading,
        "file": file(seen),
        "file_index": 1,
        "total_files": 1,
        "bytes_downloaded": seen.done_bytes,
        "bytes_total": seen.total_bytes,
        "total_download_size": seen.total_bytes,
        "bytes_previously_downloaded": seen.resumed_bytes,
        "completed_files_bytes": 0,
        "cumulative_bytes_downloaded": seen.done_bytes,
        "overall_bytes_downloaded": seen.done_bytes,
        "percent": percent(seen),
        "complete": seen.state == DownloadState::Completed,
    });
    if let Some(error) = &seen.error {
        view["error"] = error.as_str().into();
    }
    view
}

/// A model that was here already.
fn done_view(name: &str) -> Value {
    view(&Download {
        model: bare(name).to_owned(),
        imported: None,
        checkpoint: String::new(),
        state: DownloadState::Completed,
        total_bytes: 0,
        done_bytes: 0,
        resumed_bytes: 0,
        error: None,
        code: None,
    })
}
