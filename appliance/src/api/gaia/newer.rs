//! What the page of 0.25.1 asks beyond April's operations before it lets anybody chat. Each answer says what is so here;
//! what that page can do and we cannot (skills, schedules, spending) is not pretended: its lists are empty or it is told 404.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream;
use serde_json::{Map, Value, json};

use super::super::failure::json as answer;
use super::super::frames::sse;
use super::super::mine::Mine;
use super::fields::Text;
use super::system::{chosen_model, model_of, talks};
use super::views::rounded;
use super::{Gaia, Json, Refused, missing};
use crate::app::{App, ModelState, ModelStatus};
use crate::domain::{PersonId, RunStatus};

/// Bytes of a gigabyte, as there.
const GIB: f64 = (1u64 << 30) as f64;

/// The latest runs, among which those that go on are looked for.
const RUNS_LOOKED_AT: usize = 64;

/// The only rule for tools that act: each time is asked.
const ASK: &str = "ask";

fn ok(body: &Value) -> Response {
    answer(StatusCode::OK, body)
}

async fn known(app: &App, person: &PersonId, session: &str) -> Result<(), Refused> {
    let found = app.store().chats().session(person, session).await;
    found.map(drop).map_err(missing)
}

/// `GET /api/chat/active`: the chats in which an answer is being written.
pub(in super::super) async fn active(
    State(app): State<App>,
    mine: Mine<Gaia>,
) -> Result<Response, Refused> {
    let turns = app.running_turns(&mine.person);
    let mut chats: Vec<String> = turns.into_iter().map(|turn| turn.chat).collect();
    let mut waiting = Map::new();
    for run in app.runs(&mine.person, None, RUNS_LOOKED_AT).await? {
        let Some(chat) = run.chat.filter(|_| !run.status.ended()) else {
            continue;
        };
        if run.status == RunStatus::Waiting {
            waiting.insert(chat.clone(), "permission".into());
        }
        chats.push(chat);
    }
    chats.sort();
    chats.dedup();
    Ok(ok(
        &json!({ "session_ids": chats, "queued": [], "awaiting_user": waiting }),
    ))
}

/// `POST /api/chat/cancel`
pub(in super::super) async fn cancel(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let session = body.text("session_id", Text::default());
    body.done()?;
    if !super::sessions::stop(&app, &mine.person, &session)? {
        let why = "No active chat session found for this session ID";
        return Err(Refused::plain(StatusCode::NOT_FOUND, why));
    }
    Ok(ok(&json!({ "status": "ok", "cancelled": true })))
}

/// `GET /api/schedules`: there are none here.
pub(in super::super) async fn schedules() -> Response {
    ok(&json!({ "schedules": [], "total": 0 }))
}

/// `GET /api/sessions/events`: open as long as the page is; nobody else moves it to another session.
pub(in super::super) async fn events() -> Response {
    sse(stream::pending())
}

/// `GET /api/setup/check`: an installation is ready as soon as a model is there.
pub(in super::super) async fn setup(
    State(app): State<App>,
    mine: Mine<Gaia>,
) -> Result<Response, Refused> {
    let ready = !model_of(&app, &mine.person).await?.is_empty();
    let reasons = match ready {
        true => Vec::new(),
        false => vec![
            "no model is here yet; run `onebit pull` on the machine, or fetch one on its own page",
        ],
    };
    Ok(ok(&json!({
        "ready": ready,
        "stage": if ready { Value::Null } else { "models".into() },
        "reasons": reasons,
        "steps": [],
        "cloud_steps": [],
    })))
}

/// `GET /api/onboarding/start`: no cards; chats work in no folder.
pub(in super::super) async fn start_screen() -> Response {
    ok(&json!({ "cards": [], "working_folder": null, "skills_error": null }))
}

/// How far the model is that would answer in a new chat.
async fn warmth(app: &App, person: &PersonId) -> Result<(String, &'static str), Refused> {
    let wanted = model_of(app, person).await?;
    if wanted.is_empty() {
        return Ok((wanted, "skipped"));
    }
    let named = app.model(&wanted).await?.id;
    let models = app.models().await?;
    let state = models.iter().find(|one| one.model.id == named);
    let state = match state.and_then(|one| one.state.as_ref()) {
        Some(ModelState::Loaded { .. }) => "ready",
        Some(ModelState::Loading) => "warming",
        Some(ModelState::Failed { .. }) => "failed",
        None => "idle",
    };
    Ok((named, state))
}

fn warm_view(model: &str, state: &str) -> Response {
    ok(&json!({
        "state": state,
        "elapsed_seconds": null,
        "prompt_tokens": null,
        "cached_tokens": null,
        "error": null,
        "model": if model.is_empty() { Value::Null } else { model.into() },
        "device": null,
    }))
}

/// `GET /api/system/warm-up`
pub(in super::super) async fn warm(
    State(app): State<App>,
    mine: Mine<Gaia>,
) -> Result<Response, Refused> {
    let (model, state) = warmth(&app, &mine.person).await?;
    Ok(warm_view(&model, state))
}

/// `POST /api/system/warm-up`: loads the model that would answer, as its first question would.
pub(in super::super) async fn warm_up(
    State(app): State<App>,
    mine: Mine<Gaia>,
) -> Result<Response, Refused> {
    let (model, mut state) = warmth(&app, &mine.person).await?;
    if state == "idle" {
        app.load_later(&model)?;
        state = "warming";
    }
    Ok(warm_view(&model, state))
}

/// `GET /api/providers/active`: every model answers here.
pub(in super::super) async fn provider(
    State(app): State<App>,
    mine: Mine<Gaia>,
) -> Result<Response, Refused> {
    let chosen = chosen_model(&app, &mine.person).await?;
    let model = model_of(&app, &mine.person).await?;
    let present = app.model(&model).await.is_ok();
    let name = if model.is_empty() {
        Value::Null
    } else {
        model.into()
    };
    Ok(ok(&json!({
        "provider": "local",
        "model": name,
        "display_name": name,
        "label": name,
        "remote": false,
        "is_default": chosen.is_none(),
        "config_error": null,
        "inference_remote": false,
        "inference_description": null,
        "downloaded": present,
        "restore": { "status": "none", "message": null },
    })))
}

/// `GET /api/providers/local/models`
pub(in super::super) async fn models(State(app): State<App>) -> Result<Response, Refused> {
    let models = app.models().await?;
    let views: Vec<Value> = models
        .iter()
        .filter(|one| talks(one))
        .map(model_view)
        .collect();
    let memory = app.status().await?.machine.memory_total_bytes;
    Ok(ok(&json!({
        "provider": "local",
        "models": views,
        "memory_gb": rounded(memory as f64 / GIB, 10.0),
        "memory_source": "system",
        "capacity_error": null,
    })))
}

fn model_view(one: &ModelStatus) -> Value {
    let model = &one.model;
    let loaded = matches!(one.state, Some(ModelState::Loaded { .. }));
    json!({
        "id": model.id,
        "display_name": model.name,
        "context_length": model.context_length,
        "downloaded": one.present,
        "labels": [model.quantisation, model.architecture],
        "recipe": null,
        "size_gb": rounded(model.file_bytes as f64 / GIB, 100.0),
        "rank": null,
        "note": null,
        "evidence": null,
        "price": null,
        "state": match (loaded, one.present) {
            (true, _) => "loaded",
            (false, true) => "downloaded",
            (false, false) => "not_downloaded",
        },
        "placement": null,
        "fits": null,
        "available": one.present,
        "unavailable_reason": null,
        "tokens_per_second": null,
        "download_progress": null,
    })
}

/// `GET /api/providers/local/status`
pub(in super::super) async fn provider_status(
    State(app): State<App>,
    mine: Mine<Gaia>,
) -> Result<Response, Refused> {
    let (model, warmth) = warmth(&app, &mine.person).await?;
    let models = app.models().await?;
    let loaded = models.iter().find_map(|one| match &one.state {
        Some(ModelState::Loaded {
            context_length,
            load,
            ..
        }) if one.model.id == model => Some((*context_length, load.active > 0)),
        _ => None,
    });
    let name = if model.is_empty() {
        Value::Null
    } else {
        Value::from(model)
    };
    let busy = loaded.is_some_and(|(_, busy)| busy);
    let shown = match loaded {
        Some(_) => name.clone(),
        None => Value::Null,
    };
    Ok(ok(&json!({
        "state": match warmth {
            "ready" => "loaded",
            "warming" => "warming",
            // It is loaded when it is asked.
            _ => "idle",
        },
        "active_model": name,
        "active_display_name": name,
        "active_remote": false,
        "model": shown,
        "display_name": shown,
        "placement": null,
        "ctx_size": loaded.map(|(context, _)| context),
        "memory": null,
        "memory_error": null,
        "error": null,
        "error_detail": null,
        "base_url": null,
        "owner": "user",
        "busy": busy,
        "busy_reason": if busy { "request".into() } else { Value::Null },
        "restarting": false,
        "restart_error": null,
    })))
}

fn permissions_view(session: &str) -> Response {
    ok(&json!({ "session_id": session, "mode": ASK, "grants": [] }))
}

/// `GET /api/chat/permissions`
pub(in super::super) async fn all_permissions() -> Response {
    ok(&json!({ "default_mode": ASK, "sessions": [] }))
}

/// `GET /api/chat/permissions/{id}`
pub(in super::super) async fn permissions(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    known(&app, &mine.person, &id).await?;
    Ok(permissions_view(&id))
}

/// `PUT /api/chat/permissions/{id}`
pub(in super::super) async fn set_permissions(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let mode = body.text("mode", Text::default());
    body.done()?;
    known(&app, &mine.person, &id).await?;
    if mode != ASK {
        let why =
            "this appliance asks each time before a tool changes or runs something; keep `ask`";
        return Err(Refused::plain(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    Ok(permissions_view(&id))
}

/// `GET /api/chat/context/{id}`: measured with each answer (its `stats`), not before one.
pub(in super::super) async fn context(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    known(&app, &mine.person, &id).await?;
    let reason = "Each answer tells how many tokens it read.";
    Ok(ok(&json!({ "available": false, "reason": reason })))
}

/// `GET /api/sessions/{id}/environment`: chats reach no folder; documents are read by the library.
pub(in super::super) async fn environment(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    known(&app, &mine.person, &id).await?;
    Ok(ok(&json!({
        "session_id": id,
        "folders": [],
        "removed": [],
        "internet": false,
        "enforced": true,
    })))
}

/// `GET /api/sessions/{id}/outputs`: answers make no files.
pub(in super::super) async fn outputs(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    known(&app, &mine.person, &id).await?;
    Ok(ok(&json!({ "session_id": id, "items": [] })))
}

/// `GET /api/sessions/{id}/changes`: no answer changed a file.
pub(in super::super) async fn turns(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    known(&app, &mine.person, &id).await?;
    Ok(ok(&json!({ "turns": [] })))
}

/// `GET /api/sessions/{id}/changes/total`: answers change no files.
pub(in super::super) async fn changes(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    known(&app, &mine.person, &id).await?;
    Ok(ok(&json!({
        "files": [],
        "totals": { "files": 0, "additions": 0, "deletions": 0, "uncounted": 0 },
        "turns": 0,
        "pending": false,
        "untracked": [],
        "incomplete": false,
    })))
}
