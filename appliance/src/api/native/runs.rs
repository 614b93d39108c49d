//! Runs: start, follow, come back to, decide about, stop. The stream carries one named event for each thing that
//! happens; every event has a number, and `Last-Event-ID` goes on after it.

use std::collections::HashMap;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::cited;
use super::super::failure::{Failure, json as answer};
use super::super::frames::{Frame, sse};
use super::super::openai::OpenAi;
use super::super::openapi::{Operation, text};
use super::agents::whole_number;
use super::person;
use crate::app::{AgentRun, App, Transcript};
use crate::domain::{
    Approval, Decision, Finding, Note, Peer, Run, RunEvent, RunLimits, RunRequest, Stats,
};

/// Runs that a listing gives where no number is asked for.
const LISTED: usize = 50;

/// A task for an agent.
#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct RunBody {
    /// The agent; `chat` when left out.
    #[serde(default)]
    agent: String,
    /// May be left out with a `chat` and a `parent_id`: that question is answered again.
    #[serde(default)]
    task: String,
    /// The chat that it belongs to.
    chat: Option<String>,
    /// The message that it follows there.
    parent_id: Option<String>,
    #[serde(default)]
    model: String,
    /// Further instructions.
    system: Option<String>,
    /// Documents or collections to look in.
    #[serde(default)]
    documents: Vec<String>,
    /// Tools that it may use, of those that the agent has.
    tools: Option<Vec<String>>,
    /// What was decided about tools that act: `ask`, the default, `never` or `always`.
    approval: Option<String>,
    steps: Option<usize>,
    time_s: Option<u64>,
    tokens: Option<usize>,
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct DecideBody {
    /// The call; whichever waits when left out.
    call: Option<String>,
    allow: bool,
}

/// A run.
#[derive(Serialize, JsonSchema)]
pub(super) struct RunView {
    id: String,
    agent: String,
    model: String,
    task: String,
    chat: Option<String>,
    message: Option<String>,
    /// `running`, `waiting`, `done`, `failed` or `cancelled`.
    status: &'static str,
    answer: String,
    error: Option<String>,
    steps: usize,
    tokens: usize,
    created_at: i64,
    ended_at: Option<i64>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct RunsView {
    runs: Vec<RunView>,
}

/// A run with what happened in it.
#[derive(Serialize, JsonSchema)]
pub(super) struct TranscriptView {
    run: RunView,
    /// Each with `type`, as the stream names it, and `at`, unix milliseconds.
    events: Vec<Value>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct DecidedView {
    allowed: bool,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct StoppedRunView {
    stopped: bool,
}

impl Wire for RunBody {
    type Dialect = OpenAi;
}

impl Wire for DecideBody {
    type Dialect = OpenAi;
}

impl From<Run> for RunView {
    fn from(run: Run) -> RunView {
        RunView {
            id: run.id,
            agent: run.agent,
            model: run.model,
            task: run.task,
            chat: run.chat,
            message: run.message,
            status: run.status.as_str(),
            answer: run.answer,
            error: run.error,
            steps: run.steps,
            tokens: run.tokens,
            created_at: run.created_at,
            ended_at: run.ended_at,
        }
    }
}

fn request(body: RunBody) -> Result<RunRequest, RequestError> {
    let approval = match body.approval.as_deref() {
        None | Some("ask") => Approval::Ask,
        Some("never") => Approval::Never,
        Some("always") => Approval::Always,
        Some(_) => {
            return Err(RequestError::field(
                "approval",
                "must be ask, never or always",
            ));
        }
    };
    for (param, zero) in [
        ("steps", body.steps == Some(0)),
        ("time_s", body.time_s == Some(0)),
        ("tokens", body.tokens == Some(0)),
    ] {
        if zero {
            return Err(RequestError::field(param, "must be at least 1"));
        }
    }
    let limited = body.steps.is_some() || body.time_s.is_some() || body.tokens.is_some();
    let limits = limited.then(|| RunLimits {
        steps: body.steps.unwrap_or(usize::MAX),
        time: body.time_s.map_or(Duration::MAX, Duration::from_secs),
        tokens: body.tokens.unwrap_or(usize::MAX),
    });
    Ok(RunRequest {
        agent: body.agent,
        task: body.task,
        chat: body.chat,
        parent_id: body.parent_id,
        model: body.model,
        system: body.system,
        only: body.documents,
        tools: body.tools,
        approval,
        limits,
    })
}

/// `POST /onebit/runs`
pub(in super::super) async fn start(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<RunBody>,
) -> Result<Response, Failure<OpenAi>> {
    let run = app.start_run(person(&peer)?, request(body)?).await?;
    Ok(follow(&run, 0))
}

/// `GET /onebit/runs`
pub(in super::super) async fn list(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response, Failure<OpenAi>> {
    let limit = query
        .get("limit")
        .map_or(Ok(LISTED), |text| whole_number(text))?;
    let chat = query.get("chat").map(String::as_str);
    let runs = app.runs(person(&peer)?, chat, limit).await?;
    let runs = runs.into_iter().map(RunView::from).collect();
    Ok(answer(StatusCode::OK, &RunsView { runs }))
}

/// `GET /onebit/runs/{id}`
pub(in super::super) async fn one(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let Transcript { run, events } = app.transcript(person(&peer)?, &id).await?;
    let event = |(at, event): (i64, RunEvent)| {
        let (name, mut value) = view(&event);
        value["type"] = name.into();
        value["at"] = at.into();
        value
    };
    let view = TranscriptView {
        run: RunView::from(run),
        events: events.into_iter().map(event).collect(),
    };
    Ok(answer(StatusCode::OK, &view))
}

/// `GET /onebit/runs/{id}/events`
pub(in super::super) async fn events(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure<OpenAi>> {
    let run = app.find_run(person(&peer)?, &id)?;
    let seen = headers.get("last-event-id").map(|seen| {
        let number = seen
            .to_str()
            .ok()
            .and_then(|text| text.parse::<usize>().ok());
        number
            .and_then(|seen| seen.checked_add(1))
            .ok_or_else(|| RequestError::field("last-event-id", "must be the number of an event"))
    });
    Ok(follow(&run, seen.transpose()?.unwrap_or(0)))
}

/// `POST /onebit/runs/{id}/decide`
pub(in super::super) async fn decide(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Body(body): Body<DecideBody>,
) -> Result<Response, Failure<OpenAi>> {
    app.decide_call(person(&peer)?, &id, body.call.as_deref(), body.allow)?;
    Ok(answer(
        StatusCode::OK,
        &DecidedView {
            allowed: body.allow,
        },
    ))
}

/// `POST /onebit/runs/{id}/stop`
pub(in super::super) async fn stop(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    app.cancel_run(person(&peer)?, &id)?;
    Ok(answer(StatusCode::OK, &StoppedRunView { stopped: true }))
}

fn follow(run: &AgentRun, from: usize) -> Response {
    sse(run.events(from).map(|(number, event)| {
        let (name, value) = view(&event);
        Frame {
            event: Some(name),
            id: Some(number),
            data: value.to_string(),
            ..Frame::default()
        }
    }))
}

fn stats(stats: &Stats) -> Value {
    json!({
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.completion_tokens,
        "ttft_ms": stats.ttft_ms,
        "prefill_tps": stats.prefill_tps,
        "decode_tps": stats.decode_tps,
    })
}

fn finding(finding: &Finding) -> Value {
    match finding {
        Finding::Files { files, total } => {
            let file = |one: &crate::domain::FoundFile| {
                json!({
                    "name": one.name,
                    "path": one.path,
                    "folder": one.folder,
                    "bytes": one.bytes,
                    "modified_at": one.modified_at,
                })
            };
            let files: Vec<Value> = files.iter().map(file).collect();
            json!({ "files": files, "total": total })
        }
        Finding::Passages(passages) => json!({ "passages": cited::views(passages) }),
    }
}

/// A tool's arguments are JSON that was checked before the call.
fn arguments(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

/// An event's name and what it says.
fn view(event: &RunEvent) -> (&'static str, Value) {
    match event {
        RunEvent::Started {
            run,
            user,
            assistant,
        } => (
            "started",
            json!({ "run": run, "user_message_id": user, "assistant_message_id": assistant }),
        ),
        RunEvent::Status { note, message } => {
            let note = match note {
                Note::Working => "working",
                Note::Info => "info",
                Note::Warning => "warning",
            };
            ("status", json!({ "note": note, "message": message }))
        }
        RunEvent::Step { step, total } => ("step", json!({ "step": step, "total": total })),
        RunEvent::Thinking(content) => ("thinking", json!({ "content": content })),
        RunEvent::Plan { steps, current } => {
            ("plan", json!({ "steps": steps, "current": current }))
        }
        RunEvent::ToolStart {
            call,
            tool,
            detail,
            args,
            server,
        } => (
            "tool_start",
            json!({ "call": call, "tool": tool, "detail": detail, "args": arguments(args), "server": server }),
        ),
        RunEvent::ToolConfirm {
            call,
            tool,
            args,
            timeout,
        } => (
            "tool_confirm",
            json!({ "call": call, "tool": tool, "args": arguments(args), "timeout_s": timeout.as_secs() }),
        ),
        RunEvent::ToolDecided { call, decision } => {
            let decision = match decision {
                Decision::Allowed => "allowed",
                Decision::Denied => "denied",
                Decision::TimedOut => "timed_out",
            };
            (
                "tool_decided",
                json!({ "call": call, "decision": decision }),
            )
        }
        RunEvent::ToolResult {
            call,
            tool,
            summary,
            content,
            success,
            took,
            finding: found,
        } => (
            "tool_result",
            json!({
                "call": call,
                "tool": tool,
                "summary": summary,
                "content": content,
                "success": success,
                "took_ms": took.as_secs_f64() * 1e3,
                "finding": found.as_ref().map(finding),
            }),
        ),
        RunEvent::Refused { tool, reason, rule } => (
            "refused",
            json!({ "tool": tool, "reason": reason, "rule": rule }),
        ),
        RunEvent::Servers(servers) => {
            let one = |server: &crate::domain::ServerStatus| {
                json!({
                    "name": server.name,
                    "connected": server.connected,
                    "tools": server.tools,
                    "error": server.error,
                })
            };
            let servers: Vec<Value> = servers.iter().map(one).collect();
            ("servers", json!({ "servers": servers }))
        }
        RunEvent::Sources(sources) => ("sources", json!({ "citations": cited::views(sources) })),
        RunEvent::Chunk(content) => ("chunk", json!({ "content": content })),
        RunEvent::Answer {
            content,
            steps,
            tools,
            elapsed,
        } => (
            "answer",
            json!({ "content": content, "steps": steps, "tools": tools, "elapsed_s": elapsed.as_secs_f64() }),
        ),
        RunEvent::Trouble(content) => ("trouble", json!({ "content": content })),
        RunEvent::Failed(content) => ("failed", json!({ "content": content })),
        RunEvent::Done {
            message,
            status,
            reason,
            content,
            stats: cost,
        } => (
            "done",
            json!({
                "message_id": message,
                "status": status.as_str(),
                "finish_reason": reason.as_str(),
                "content": content,
                "stats": cost.as_ref().map(stats),
            }),
        ),
    }
}

/// The names of a stream's events, each an object.
const EVENTS: [&str; 17] = [
    "started",
    "status",
    "step",
    "thinking",
    "plan",
    "tool_start",
    "tool_confirm",
    "tool_decided",
    "tool_result",
    "refused",
    "servers",
    "sources",
    "chunk",
    "answer",
    "trouble",
    "failed",
    "done",
];

pub(super) fn describe() -> Vec<Operation> {
    let object = || json!({ "type": "object" });
    vec![
        Operation::post(
            "/onebit/runs",
            "Gives an agent a task, and streams what happens",
        )
        .takes::<RunBody>()
        .streams(EVENTS.map(|name| (name, object()))),
        Operation::get("/onebit/runs", "One's runs, newest first")
            .reads("chat", text(), "only those of this chat")
            .reads(
                "limit",
                json!({ "type": "integer", "minimum": 0 }),
                "how many",
            )
            .gives::<RunsView>(),
        Operation::get("/onebit/runs/{id}", "A run with what happened in it")
            .gives::<TranscriptView>(),
        Operation::get(
            "/onebit/runs/{id}/events",
            "A run's events, again from Last-Event-ID on",
        )
        .streams(EVENTS.map(|name| (name, object()))),
        Operation::post(
            "/onebit/runs/{id}/decide",
            "Allows or refuses a call that waits",
        )
        .takes::<DecideBody>()
        .gives::<DecidedView>(),
        Operation::post("/onebit/runs/{id}/stop", "Stops a run").gives::<StoppedRunView>(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_checked() {
        let parse = |json: Value| {
            let body: RunBody = serde_json::from_value(json).map_err(|error| error.to_string())?;
            request(body).map_err(|error| error.to_string())
        };
        let got = parse(json!({"task": "t", "approval": "never", "steps": 2})).unwrap();
        assert_eq!(
            (got.approval, got.limits.map(|limits| limits.steps)),
            (Approval::Never, Some(2))
        );
        assert_eq!(parse(json!({"task": "t"})).unwrap().limits, None);
        assert!(
            parse(json!({"task": "t", "approval": "perhaps"}))
                .unwrap_err()
                .contains("`approval`")
        );
        assert!(
            parse(json!({"task": "t", "steps": 0}))
                .unwrap_err()
                .contains("`steps`")
        );
    }

    #[test]
    fn every_event_has_a_name_that_is_described() {
        let events = [
            RunEvent::Step { step: 1, total: 2 },
            RunEvent::Failed("x".into()),
            RunEvent::ToolStart {
                call: "c".into(),
                tool: "now".into(),
                detail: String::new(),
                args: r#"{"zone":"UTC"}"#.into(),
                server: None,
            },
        ];
        for event in &events {
            assert!(EVENTS.contains(&view(event).0));
        }
        assert_eq!(view(&events[2]).1["args"]["zone"], "UTC");
    }
}
