//! How the appliance is, in the words of that page: health, status, tasks, settings, loading and fetching models.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::super::failure::json as answer;
use super::super::mine::Mine;
use super::fields::Text;
use super::views::rounded;
use super::{Gaia, Json, Refused};
use crate::app::{
    App, AppError, Download, DownloadState, Errand, ErrandState, ModelState, ModelStatus, VERSION,
};
use crate::domain::library::Status;
use crate::domain::{ModelFormat, Peer, PersonId, Scope};

/// Bytes of a gigabyte, as there.
const GIB: f64 = (1u64 << 30) as f64;

/// The person's setting that names the model which answers everywhere.
const MODEL_SETTING: &str = "model";

/// What a fetch's failure is told under.
const FETCH: &str = "Fetch ";

fn gib(bytes: u64) -> f64 {
    rounded(bytes as f64 / GIB, 10.0)
}

/// `GET /api/health`: anybody may ask whether it runs; what is kept is told to those whose it is.
pub(in super::super) async fn health(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Refused> {
    let mut body = json!({ "status": "ok", "service": "gaia-agent-ui" });
    if let Some(person) = peer.person.as_ref().filter(|_| peer.holds(Scope::Chat)) {
        let kept = app.store().chats().kept(person).await?;
        body["stats"] = json!({
            "sessions": kept.sessions,
            "messages": kept.messages,
            "documents": kept.documents,
            "total_chunks": kept.passages,
            "total_size_bytes": kept.bytes,
        });
    }
    Ok(answer(StatusCode::OK, &body))
}

/// The model that the person has chosen for everything, where one was.
pub(super) async fn chosen_model(app: &App, person: &PersonId) -> Result<Option<String>, AppError> {
    let settings = app.store().settings().all(person).await?;
    let text = settings
        .into_iter()
        .find_map(|(key, text)| (key == MODEL_SETTING).then_some(text));
    let chosen = text.and_then(|text| serde_json::from_str::<String>(&text).ok());
    Ok(chosen.filter(|name| !name.is_empty()))
}

/// The model that answers in a session which has none: the chosen one or the default; empty where there is none.
pub(super) async fn model_of(app: &App, person: &PersonId) -> Result<String, AppError> {
    if let Some(chosen) = chosen_model(app, person).await? {
        return Ok(chosen);
    }
    match app.model("").await {
        Ok(model) => Ok(model.id),
        Err(AppError::NoModels) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Whether a model talks.
pub(super) fn talks(status: &ModelStatus) -> bool {
    !matches!(
        status.model.format,
        ModelFormat::Whisper | ModelFormat::Kokoro | ModelFormat::Diffusion
    )
}

/// `GET /api/system/status`
pub(in super::super) async fn status(
    State(app): State<App>,
    mine: Mine<Gaia>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let wanted = model_of(&app, &mine.person).await?;
    let models = app.models().await?;
    let named = app.model(&wanted).await.ok();
    let default = models
        .iter()
        .find(|one| named.as_ref().is_some_and(|model| model.id == one.model.id));
    // A model is loaded when it is asked; until then the one that would be is named, for there is nothing to mend.
    let loaded = models.iter().filter(|one| talks(one)).find_map(|one| {
        let Some(ModelState::Loaded {
            engine,
            context_length,
            ..
        }) = &one.state
        else {
            return None;
        };
        Some((one, Some(*engine), *context_length as u64))
    });
    let loaded = loaded.or_else(|| {
        let ready = default.filter(|one| one.present)?;
        Some((ready, None, ready.model.context_length))
    });
    let hardware = app.hardware().await?;
    let gpu = hardware.host.gpus.first();
    let last = app.tally().last;
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    let status = app.status().await?;
    let bytes = loaded.as_ref().map(|(one, ..)| one.model.file_bytes);
    Ok(answer(
        StatusCode::OK,
        &json!({
            // We are that server ourselves.
            "lemonade_running": true,
            "initialized": true,
            "device_supported": true,
            "init_state": "ready",
            "init_tasks": [],
            "version": VERSION,
            "lemonade_version": VERSION,
            "lemonade_url": format!("http://{host}"),
            "model_loaded": loaded.as_ref().map(|(one, ..)| one.model.id.as_str()),
            "model_size_gb": bytes.map(|bytes| rounded(bytes as f64 / GIB, 100.0)),
            "model_device": loaded.as_ref().and_then(|(_, engine, _)| *engine),
            "model_context_size": loaded.as_ref().map(|(.., context)| context),
            "model_labels": loaded.as_ref().map(|(one, ..)| {
                [one.model.quantisation.as_str(), one.model.architecture.as_str()]
            }),
            "embedding_model_loaded": app.can_embed().await,
            "default_model_name": wanted,
            "default_model_size_gb": default.map(|one| rounded(one.model.file_bytes as f64 / GIB, 100.0)),
            "model_downloaded": default.is_some_and(|one| one.present),
            // What outgrows a model's context is left out and said, so no size is too small; and any model may be loaded.
            "context_size_sufficient": true,
            "expected_model_loaded": true,
            "disk_space_gb": hardware.disk.map_or(0.0, |(_, free)| gib(free)),
            "memory_available_gb": gib(status.machine.memory_available_bytes),
            "processor_name": hardware.host.cpu.model,
            "gpu_name": gpu.and_then(|gpu| gpu.name.as_deref()),
            "gpu_vram_gb": gpu.and_then(|gpu| gpu.vram_total_bytes).map(gib),
            "tokens_per_second": last
                .and_then(|finish| finish.timings.decode_rate(&finish.usage))
                .map(|rate| rounded(rate, 10.0)),
            "time_to_first_token": last
                .map(|finish| rounded(finish.timings.first_token().as_secs_f64(), 1000.0)),
            "download_progress": progress(&app.downloads(), &app.errands(), &wanted),
        }),
    ))
}

/// The fetch that the page shows: the wanted model's, else the last that runs or failed.
fn progress(downloads: &[Download], errands: &[Errand], wanted: &str) -> Value {
    let shown = |one: &&Download| {
        matches!(
            one.state,
            DownloadState::Downloading | DownloadState::Failed
        )
    };
    let found = downloads
        .iter()
        .filter(shown)
        .find(|one| one.model == wanted)
        .or_else(|| {
            downloads
                .iter()
                .find(|one| one.state == DownloadState::Downloading)
        });
    if let Some(one) = found {
        let percent = match one.total_bytes {
            0 => 0,
            total => (one.done_bytes.saturating_mul(100) / total).min(100),
        };
        let state = match (one.state, one.total_bytes) {
            (DownloadState::Failed, _) => "error",
            (_, 0) => "starting",
            _ => "downloading",
        };
        return json!({
            "state": state,
            "model_name": one.model,
            "percent": percent,
            "file": one.checkpoint,
            "file_index": 1,
            "total_files": 1,
            "downloaded_bytes": one.done_bytes,
            "total_bytes": one.total_bytes,
            "message": one.error,
        });
    }
    // One that could not even begin.
    let refused = errands.iter().rev().find(|one| {
        one.state == ErrandState::Failed && one.model == wanted && one.what.starts_with(FETCH)
    });
    refused.map_or(Value::Null, |one| {
        json!({
            "state": "error",
            "model_name": one.model,
            "percent": 0,
            "file": null,
            "file_index": 0,
            "total_files": 0,
            "downloaded_bytes": 0,
            "total_bytes": 0,
            "message": one.error,
        })
    })
}

/// `GET /api/system/tasks`: what is ordered and done meanwhile: models, and the person's own documents.
pub(in super::super) async fn tasks(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
) -> Result<Response, Refused> {
    let mut tasks = Vec::new();
    if peer.holds(Scope::Owner) {
        for one in app.errands() {
            let state = match one.state {
                ErrandState::Running => "running",
                ErrandState::Done => "done",
                ErrandState::Failed => "failed",
            };
            tasks.push(
                json!({ "id": one.id, "name": one.what, "status": state, "error": one.error }),
            );
        }
    }
    let documents = app.store().documents();
    for one in documents.list(&mine.person, None, None).await? {
        let state = match one.status {
            Status::Pending => "pending",
            Status::Indexing => "running",
            _ => continue,
        };
        let name = format!("Read {}", one.name);
        tasks.push(json!({ "id": one.id, "name": name, "status": state, "error": null }));
    }
    Ok(answer(StatusCode::OK, &json!({ "tasks": tasks })))
}

async fn settings_view(app: &App, person: &PersonId) -> Result<Response, Refused> {
    let chosen = chosen_model(app, person).await?;
    let status = match &chosen {
        None => Value::Null,
        Some(name) => {
            let model = app.model(name).await.ok();
            let models = app.models().await?;
            let known = models
                .iter()
                .find(|one| model.as_ref().is_some_and(|model| model.id == one.model.id));
            json!({
                "found": known.is_some(),
                "downloaded": known.is_some_and(|one| one.present),
                "loaded": known.is_some_and(|one| matches!(one.state, Some(ModelState::Loaded { .. }))),
            })
        }
    };
    Ok(answer(
        StatusCode::OK,
        &json!({ "custom_model": chosen, "model_status": status }),
    ))
}

/// `GET /api/settings`
pub(in super::super) async fn settings(
    State(app): State<App>,
    mine: Mine<Gaia>,
) -> Result<Response, Refused> {
    settings_view(&app, &mine.person).await
}

/// `PUT /api/settings`: an empty name takes the choice back, none leaves it.
pub(in super::super) async fn set_settings(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let model = body.maybe_text("custom_model", Text::default());
    body.done()?;
    if let Some(model) = model {
        let text = Value::from(model.trim()).to_string();
        app.store()
            .settings()
            .set(&mine.person, MODEL_SETTING, &text)
            .await?;
    }
    settings_view(&app, &mine.person).await
}

fn named(name: &str) -> Result<String, Refused> {
    match name.trim() {
        "" => {
            let why = "model_name must not be empty";
            Err(Refused::plain(StatusCode::BAD_REQUEST, why))
        }
        name => Ok(name.to_owned()),
    }
}

/// `POST /api/system/load-model`: begun; how it went stands among the tasks.
pub(in super::super) async fn load_model(
    State(app): State<App>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let name = body.text("model_name", Text::default());
    let context = body.positive("ctx_size");
    body.done()?;
    let name = named(&name)?;
    let model = app.model(&name).await.ok();
    app.load_later(&name)?;
    Ok(answer(
        StatusCode::ACCEPTED,
        &json!({
            "status": "loading",
            "model": name,
            "ctx_size": context.or_else(|| i64::try_from(model?.context_length).ok()),
        }),
    ))
}

/// `POST /api/system/download-model`: begun; how far it is stands in the status.
pub(in super::super) async fn download_model(
    State(app): State<App>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let name = body.text("model_name", Text::default());
    // Every fetch checks what is here by its hash and mends it, forced or not.
    body.flag("force", false);
    body.done()?;
    let name = named(&name)?;
    app.pull_later(&name)?;
    Ok(answer(
        StatusCode::ACCEPTED,
        &json!({ "status": "downloading", "model": name }),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_that_could_not_begin_is_told_like_one_that_failed() {
        let errand = |what: &str, state| Errand {
            id: "e".into(),
            what: what.into(),
            model: "m".into(),
            state,
            error: Some("no".into()),
        };
        let failed = [errand("Fetch m", ErrandState::Failed)];
        let told = progress(&[], &failed, "m");
        assert_eq!(
            (&told["state"], &told["message"]),
            (&json!("error"), &json!("no"))
        );
        assert_eq!(progress(&[], &failed, "other"), Value::Null);
        assert_eq!(
            progress(&[], &[errand("Load m", ErrandState::Failed)], "m"),
            Value::Null
        );
        let download = Download {
            model: "x".into(),
            imported: None,
            checkpoint: "o/x".into(),
            state: DownloadState::Downloading,
            total_bytes: 200,
            done_bytes: 50,
            resumed_bytes: 0,
            error: None,
            code: None,
        };
        let told = progress(&[download], &failed, "m");
        assert_eq!(
            (&told["state"], &told["percent"]),
            (&json!("downloading"), &json!(25))
        );
    }
}
