//! Chat: a question in a session, answered in one piece or as events of which each says its `type`.
//!
//! The answer is a turn of ours, or, where an agent was chosen, its run. Whoever leaves the stream stops it, because leaving
//! is how that page stops an answer; what has come stays.

use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::ready;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};

use super::super::failure::{json as answer, status as status_of, tell};
use super::super::frames::{Frame, sse};
use super::super::mine::Mine;
use super::fields::Text;
use super::sessions::AGENT;
use super::{Gaia, Json, Refused, missing, missing_row, runs, steps, system, views};
use crate::app::{AgentRun, App, AppError, Session, Turn, TurnEvent, TurnRequest};
use crate::domain::{
    ChatEvent, Citation, Finding, Limits, Overflow, PersonId, RunEvent, RunRequest, Sampling, Stats,
};
use crate::error::{Failing, Kind};

/// What the plain agent is called, in April and by the page of 0.25.1.
const PLAIN: [&str; 2] = [views::PLAIN_AGENT, views::NEWER_PLAIN_AGENT];

/// Characters of a question.
const QUESTION_CHARS_MAX: usize = 100_000;

/// What is asked.
struct Question {
    session: Session,
    text: String,
    /// Which agent answers; `None` is the model alone, with the session's documents.
    agent: Option<String>,
    documents: Option<Vec<String>>,
}

/// `POST /api/chat/send`
pub(in super::super) async fn send(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let id = body.text("session_id", Text::default());
    let long = Text {
        most: Some(QUESTION_CHARS_MAX),
        ..Text::default()
    };
    let text = body.text("message", long);
    let documents = body.texts("document_ids");
    let streamed = body.flag("stream", true);
    let agent = body.maybe_text("agent_type", AGENT);
    body.done()?;
    let session = app.store().chats().session(&mine.person, &id).await;
    let session = session.map_err(missing)?;
    if text.trim().is_empty() {
        return Err(Refused::plain(
            StatusCode::BAD_REQUEST,
            "`message` is empty",
        ));
    }
    let documents = documents.filter(|documents| !documents.is_empty());
    let question = Question {
        agent: agent_of(&app, &session, agent, documents.is_some()).await?,
        session,
        text,
        documents,
    };
    if streamed {
        return Ok(sse(events(app, mine.person, question)));
    }
    let (mut all, stop) = begin(&app, &mine.person, question)
        .await
        .map_err(missing_row)?;
    while let Some(step) = all.next().await {
        match step {
            Step::Told(_) => {}
            Step::Ended(ending) => {
                stop.over();
                let number = app.store().chats().number(&ending.message).await?;
                return Ok(answer(StatusCode::OK, &whole(number, &ending)));
            }
            Step::Failed { kind, why } => {
                stop.over();
                return Err(Refused::plain(status_of(kind), why));
            }
        }
    }
    Err(AppError::Errand("the answer ended without a word".to_owned()).into())
}

/// Which agent answers: the one that was chosen. The plain one is the model alone, unless the owner's MCP servers offer it
/// tools; where documents are attached they are always looked into, which no agent has to think of.
async fn agent_of(
    app: &App,
    session: &Session,
    asked: Option<String>,
    documents: bool,
) -> Result<Option<String>, AppError> {
    let chosen = asked.or_else(|| session.agent.clone());
    match chosen {
        Some(agent) if !PLAIN.contains(&agent.as_str()) => Ok(Some(agent)),
        _ if documents || !session.documents.is_empty() => Ok(None),
        _ => {
            let servers = app.mcp_servers().await?;
            let tools = servers.iter().any(|server| server.enabled);
            Ok(tools.then(|| views::PLAIN_AGENT.to_owned()))
        }
    }
}

/// How an answer goes on.
enum Step {
    /// Events of that page.
    Told(Vec<Value>),
    /// It is stored.
    Ended(Ending),
    /// There is none.
    Failed { kind: Kind, why: String },
}

/// An answer that is stored.
struct Ending {
    message: String,
    content: String,
    citations: Vec<Citation>,
    stats: Option<Stats>,
    /// Whether it has been told as a whole already.
    told: bool,
}

fn whole(number: i64, ending: &Ending) -> Value {
    let sources = match views::sources(&ending.citations) {
        Value::Null => json!([]),
        sources => sources,
    };
    let tokens = ending.stats.as_ref().map(|stats| {
        json!({ "input_tokens": stats.prompt_tokens, "output_tokens": stats.completion_tokens })
    });
    json!({
        "message_id": number,
        "content": ending.content,
        "sources": sources,
        "tokens": tokens,
    })
}

type Steps = BoxStream<'static, Step>;

/// Asks; the answer begins.
async fn begin(
    app: &App,
    person: &PersonId,
    question: Question,
) -> Result<(Steps, StopOnDrop), AppError> {
    let chosen = system::chosen_model(app, person).await?;
    let Session {
        chat, instructions, ..
    } = question.session;
    let model = chosen.or(chat.model).unwrap_or_default();
    let stop = |what| StopOnDrop {
        app: app.clone(),
        person: person.clone(),
        what,
        over: std::cell::Cell::new(false),
    };
    if let Some(agent) = question.agent {
        let request = RunRequest {
            agent,
            task: question.text,
            chat: Some(chat.id),
            parent_id: chat.head,
            model,
            system: instructions,
            only: question.documents.unwrap_or_default(),
            ..RunRequest::default()
        };
        let run = app.start_run(person, request).await?;
        return Ok((of_run(&run), stop(Answering::Run(run.id))));
    }
    let request = TurnRequest {
        chat: chat.id,
        parent_id: chat.head,
        content: Some(question.text),
        pictures: Vec::new(),
        model,
        sampling: Sampling::default(),
        limits: Limits::default(),
        system: None,
        shelves: question.documents,
        overflow: Overflow::LeaveOut,
    };
    let turn = app.turn(person, request).await?;
    Ok((of_turn(&turn), stop(Answering::Turn(turn.id))))
}

fn of_turn(turn: &Turn) -> Steps {
    let step = |event| match event {
        TurnEvent::Started { .. } => None,
        TurnEvent::Chat(event) => Some(Step::Told(told(event))),
        TurnEvent::Stored(row) => Some(Step::Ended(Ending {
            message: row.id,
            content: row.content,
            citations: row.citations,
            stats: row.stats,
            told: false,
        })),
        TurnEvent::Failed { error } => {
            let told = tell(&*error);
            Some(Step::Failed {
                kind: told.kind,
                why: told.message,
            })
        }
    };
    turn.events(0)
        .filter_map(move |(_, event)| ready(step(event)))
        .boxed()
}

/// What a run has found so far.
#[derive(Default)]
struct Found {
    sources: Vec<Citation>,
    /// Whether a tool's result has shown passages, which then need not be shown again.
    shown: bool,
}

fn of_run(run: &AgentRun) -> Steps {
    let step = |found: &mut Found, (_, event)| {
        let step = match event {
            RunEvent::Sources(citations) => {
                let first = found.sources.is_empty() && !citations.is_empty() && !found.shown;
                let events = match first {
                    true => steps::searched(&citations).into(),
                    false => Vec::new(),
                };
                found.sources = citations;
                Step::Told(events)
            }
            RunEvent::Failed(why) => Step::Failed {
                kind: Kind::EngineDown,
                why,
            },
            RunEvent::Done {
                message: Some(message),
                content,
                stats,
                ..
            } => Step::Ended(Ending {
                message,
                content,
                citations: std::mem::take(&mut found.sources),
                stats,
                told: true,
            }),
            event => {
                found.shown |= matches!(
                    &event,
                    RunEvent::ToolResult {
                        finding: Some(Finding::Passages(_)),
                        ..
                    }
                );
                Step::Told(runs::told(&event))
            }
        };
        ready(Some(step))
    };
    run.events(0).scan(Found::default(), step).boxed()
}

/// What writes an answer.
enum Answering {
    Turn(String),
    Run(String),
}

/// Stops an answer whose reader has gone.
struct StopOnDrop {
    app: App,
    person: PersonId,
    what: Answering,
    over: std::cell::Cell<bool>,
}

impl StopOnDrop {
    fn over(&self) {
        self.over.set(true);
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if self.over.get() {
            return;
        }
        // One that has been forgotten has ended.
        let _ = match &self.what {
            Answering::Turn(id) => self.app.stop_turn(&self.person, id),
            Answering::Run(id) => self.app.cancel_run(&self.person, id),
        };
    }
}

/// A stream's way from the question to its end.
enum Way {
    Asked(Box<Question>),
    Writing(Steps, StopOnDrop),
    Over,
}

fn frame(event: &Value) -> Frame {
    Frame::data(event.to_string())
}

fn status(status: &str, message: impl Into<String>) -> Value {
    json!({ "type": "status", "status": status, "message": message.into() })
}

fn failed(why: &str) -> Value {
    json!({ "type": "error", "content": why })
}

/// The events of an answer. The first comes before the model has been asked, which may have to be loaded first.
fn events(app: App, person: PersonId, question: Question) -> impl Stream<Item = Frame> {
    let begun = Instant::now();
    let first = stream::iter([frame(&status("working", "Asking the model"))]);
    let state = (app, person, Way::Asked(Box::new(question)));
    let rest = stream::unfold(state, move |(app, person, way)| async move {
        let (events, way) = match way {
            Way::Over => return None,
            Way::Asked(question) => match begin(&app, &person, *question).await {
                Ok((steps, stop)) => (Vec::new(), Way::Writing(steps, stop)),
                Err(error) => (vec![failed(&tell(&error).message)], Way::Over),
            },
            Way::Writing(mut steps, stop) => match steps.next().await {
                None => (Vec::new(), Way::Over),
                Some(Step::Told(events)) => (events, Way::Writing(steps, stop)),
                Some(Step::Ended(ending)) => {
                    stop.over();
                    (last(&app, &ending, begun).await, Way::Over)
                }
                Some(Step::Failed { why, .. }) => {
                    stop.over();
                    (vec![failed(&why)], Way::Over)
                }
            },
        };
        let frames: Vec<Frame> = events.iter().map(frame).collect();
        Some((stream::iter(frames), (app, person, way)))
    });
    first.chain(rest.flatten())
}

/// What an event of the engine is called there.
fn told(event: ChatEvent) -> Vec<Value> {
    match event {
        ChatEvent::Queued { .. } => vec![status("working", "Reading the question")],
        ChatEvent::Waits { ahead } => {
            vec![status(
                "working",
                format!("{ahead} requests are before this one"),
            )]
        }
        ChatEvent::LeftOut { messages } => vec![status(
            "info",
            format!(
                "The conversation is longer than the model reads: its {messages} oldest messages are left out"
            ),
        )],
        ChatEvent::Sources(citations) if citations.is_empty() => {
            vec![status("info", "The documents hold nothing about this")]
        }
        ChatEvent::Sources(citations) => steps::searched(&citations).into(),
        ChatEvent::Reasoning(text) => vec![json!({ "type": "thinking", "content": text })],
        ChatEvent::Piece(piece) if piece.text.is_empty() => Vec::new(),
        ChatEvent::Piece(piece) => vec![json!({ "type": "chunk", "content": piece.text })],
        // A turn offers no tools of its own.
        ChatEvent::CallBegins { .. } | ChatEvent::CallArguments { .. } | ChatEvent::Finished(_) => {
            Vec::new()
        }
    }
}

/// The end of an answer that is stored.
async fn last(app: &App, ending: &Ending, begun: Instant) -> Vec<Value> {
    let number = match app.store().chats().number(&ending.message).await {
        Ok(number) => number,
        // Somebody deleted it in the same moment.
        Err(error) => return vec![failed(&tell(&error).message)],
    };
    let mut events = Vec::new();
    if !ending.told {
        let used = usize::from(!ending.citations.is_empty());
        events.push(json!({
            "type": "answer",
            "content": ending.content,
            "elapsed": views::rounded(begun.elapsed().as_secs_f64(), 100.0),
            "steps": used,
            "tools_used": used,
        }));
    }
    events.push(json!({
        "type": "done",
        "message_id": number,
        "content": ending.content,
        "stats": ending.stats.as_ref().map(views::stats),
        "rag_sources": views::sources(&ending.citations),
    }));
    events
}

/// `POST /api/chat/confirm-tool`
pub(in super::super) async fn confirm(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let session = body.text("session_id", Text::default());
    let approved = body.must_flag("approved");
    body.done()?;
    let run = app.run_of_chat(&mine.person, &session);
    let run = run.ok_or_else(nothing_waits)?;
    app.decide_call(&mine.person, &run.id, None, approved)
        .map_err(|error| match error.kind() {
            Kind::NotFound => nothing_waits(),
            _ => error.into(),
        })?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "status": "ok", "approved": approved }),
    ))
}

fn nothing_waits() -> Refused {
    let why = "No active chat session found for this session ID";
    Refused::plain(StatusCode::NOT_FOUND, why)
}
