//! What no dialect has: the page's chats with their trees, turns that outlive connections, model states.
//! Errors have OpenAI's shape.

pub(super) mod access;
pub(super) mod agents;
pub(super) mod chats;
pub(super) mod choices;
pub(super) mod doctor;
pub(super) mod import;
pub(super) mod library;
pub(super) mod machine;
pub(super) mod mcp;
pub(super) mod mesh;
pub(super) mod models;
pub(super) mod painter;
pub(super) mod pairing;
pub(super) mod route;
pub(super) mod runs;
pub(super) mod settings;
pub(super) mod starter;
pub(super) mod stats;
pub(super) mod turns;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::failure::{Failure, json as answer};
use super::openai::OpenAi;
use super::openapi::{Operation, Part, text, whole};
use super::outgrown::Notice;
use crate::app::{App, FirstRun, VERSION};
use crate::domain::{Peer, PersonId};
use crate::error::{Failing, Kind};

/// A route of the page needs somebody whose rows it reads.
#[derive(Debug, thiserror::Error)]
#[error("sign in first")]
struct NobodySignedIn;

impl Failing for NobodySignedIn {
    fn kind(&self) -> Kind {
        Kind::Unauthorized
    }
}

/// Whose rows a request reads and writes.
fn person(peer: &Peer) -> Result<&PersonId, Failure<OpenAi>> {
    peer.person.as_ref().ok_or_else(|| NobodySignedIn.into())
}

/// How the appliance is doing.
#[derive(Serialize, JsonSchema)]
struct StatusView {
    version: &'static str,
    uptime_s: u64,
    /// Models that are loaded or being loaded.
    models: Vec<models::ModelView>,
    memory: MemoryView,
    queue: QueueView,
    /// How far the built-in engine's kernels for the GPU are; null where no GPU is used.
    gpu: Option<GpuView>,
}

/// This machine's memory.
#[derive(Serialize, JsonSchema)]
struct MemoryView {
    total_bytes: u64,
    available_bytes: u64,
    used_by_models_bytes: u64,
}

/// Requests of all models.
#[derive(Serialize, JsonSchema)]
struct QueueView {
    active: usize,
    waiting: usize,
}

/// The first run of the built-in engine on a GPU.
#[derive(Serialize, JsonSchema)]
struct GpuView {
    /// The lane that it makes ready.
    lane: &'static str,
    device: String,
    /// `compiling` (and checking; the processor answers), `timing` (the GPU answers), `ready` or `failed`.
    phase: &'static str,
    /// Kernels or shapes that are done in this phase.
    done: usize,
    total: usize,
    /// Why the processor goes on to answer.
    why: Option<String>,
}

impl From<FirstRun> for GpuView {
    fn from(run: FirstRun) -> GpuView {
        GpuView {
            lane: run.lane,
            device: run.device,
            phase: run.phase.word(),
            done: run.done,
            total: run.total,
            why: run.why,
        }
    }
}

/// `GET /onebit/status`
pub(super) async fn status(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let status = app.status().await?;
    let view = StatusView {
        version: VERSION,
        uptime_s: status.uptime.as_secs(),
        models: models::views(&app, &status.models),
        memory: MemoryView {
            total_bytes: status.machine.memory_total_bytes,
            available_bytes: status.machine.memory_available_bytes,
            used_by_models_bytes: status.models_bytes,
        },
        queue: QueueView {
            active: status.active,
            waiting: status.waiting,
        },
        gpu: app.first_run_state().map(GpuView::from),
    };
    Ok(answer(StatusCode::OK, &view))
}

/// The routes of this folder in words.
pub(super) fn describe() -> Part {
    let mut part = Part {
        name: "Native",
        prefix: "",
        error: super::openai::error_schema(),
        operations: vec![
            Operation::get("/onebit/status", "How the appliance is doing").gives::<StatusView>(),
            Operation::get("/onebit/doctor", "What the machine has and lacks")
                .gives::<doctor::DoctorView>(),
            Operation::get(
                "/onebit/starter",
                "The models that this machine is worth having, and how far they are",
            )
            .gives::<starter::StarterView>(),
            Operation::post("/onebit/starter", "Fetches them, or says no to them")
                .takes::<starter::DecideBody>()
                .gives::<starter::StarterView>(),
            Operation::get("/onebit/update", "Whether there is a newer version")
                .gives::<machine::UpdateView>(),
            Operation::get("/onebit/hub", "Looks for models on the hub")
                .reads("query", text(), "words to look for")
                .gives::<machine::HubView>(),
            Operation::get("/onebit/models", "All models and what they are doing")
                .gives::<models::ModelsView>(),
            Operation::get("/onebit/models/{id}", "One model").gives::<models::ModelView>(),
            Operation::post("/onebit/models/{id}/load", "Loads a model")
                .gives::<models::ModelView>(),
            Operation::post("/onebit/models/{id}/unload", "Takes a model out of memory")
                .gives::<models::UnloadedView>(),
            Operation::delete("/onebit/models/{id}", "Removes a model and its file")
                .gives::<models::RemovedView>(),
            Operation::get("/sd/{*path}", "The picture engine's own routes").writes(json!({})),
            Operation::post("/sd/{*path}", "The picture engine's own routes").writes(json!({})),
            Operation::get("/onebit/chats", "Chats, newest first")
                .reads("query", text(), "words to look for in titles and messages")
                .reads(
                    "before",
                    whole(),
                    "unix milliseconds: only chats changed before",
                )
                .reads(
                    "limit",
                    json!({ "type": "integer", "minimum": 0 }),
                    "how many",
                )
                .gives::<chats::ChatsView>(),
            Operation::post("/onebit/chats", "Begins a chat")
                .takes::<chats::CreateBody>()
                .gives_as::<chats::ChatView>(201),
            Operation::post("/onebit/chats/import", "Brings in a saved chat")
                .takes::<import::ImportBody>()
                .gives_as::<chats::ChatView>(201),
            Operation::get("/onebit/chats/{id}", "A chat with its messages")
                .reads(
                    "last",
                    json!({ "type": "integer", "minimum": 0 }),
                    "only so many messages of the branch that is shown, with their versions",
                )
                .reads(
                    "pictures",
                    json!({ "type": "boolean" }),
                    "with the pictures themselves, for a file that keeps them",
                )
                .gives::<chats::ChatTreeView>(),
            Operation::new(
                Method::PATCH,
                "/onebit/chats/{id}",
                "Renames or pins a chat, or shows another branch",
            )
            .takes::<chats::ChangeBody>()
            .gives::<chats::ChatView>(),
            Operation::delete("/onebit/chats/{id}", "Deletes a chat and stops its answers")
                .gives::<chats::DeletedView>(),
            Operation::post("/onebit/chats/{id}/turns", "Asks, and streams the answer")
                .takes::<turns::TurnBody>()
                .streams([("", super::openai::chunk_schema()), ("error", error())])
                .event::<turns::TurnStarted>("turn")
                .event::<turns::TurnWaits>("queue")
                .event::<Notice>("notice")
                .event::<turns::TurnCitations>("citations")
                .event::<chats::MessageView>("message"),
            Operation::get(
                "/onebit/messages/{id}/pictures/{number}",
                "A picture that was shown with a message",
            )
            .text(200, "image/*"),
            Operation::post("/onebit/turns/{id}/stop", "Stops an answer")
                .gives::<turns::StoppedView>(),
            Operation::get(
                "/onebit/turns/{id}/events",
                "An answer's events, again from Last-Event-ID on",
            )
            .streams([("", super::openai::chunk_schema()), ("error", error())])
            .event::<turns::TurnStarted>("turn")
            .event::<turns::TurnWaits>("queue")
            .event::<Notice>("notice")
            .event::<turns::TurnCitations>("citations")
            .event::<chats::MessageView>("message"),
            Operation::get("/onebit/settings", "One's own settings")
                .gives::<settings::SettingsView>(),
            Operation::new(Method::PUT, "/onebit/settings/{key}", "Sets one of them")
                .takes::<settings::SetBody>()
                .gives::<settings::SettingView>(),
        ],
    };
    part.operations.extend(route::describe());
    part.operations.extend(agents::describe());
    part.operations.extend(mcp::describe());
    part.operations.extend(runs::describe());
    part
}

fn error() -> Value {
    super::openai::error_schema()
}
