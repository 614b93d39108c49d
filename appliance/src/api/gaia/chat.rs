//! Chat: a question in a session, answered in one piece or as events of which each says its `type`.
//!
//! The answer is a turn of ours. Whoever leaves the stream stops it, because leaving is how that page stops an answer; what
//! has come stays.

use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};

use super::super::failure::{json as answer, tell};
use super::super::frames::{Frame, sse};
use super::super::mine::Mine;
use super::fields::Text;
use super::sessions::AGENT;
use super::{Gaia, Json, Refused, missing, missing_row, steps, system, views};
use crate::app::{App, AppError, Session, StoredMessage, Turn, TurnEvent, TurnRequest};
use crate::domain::{ChatEvent, Limits, Overflow, PersonId, Sampling};

/// Characters of a question.
const QUESTION_CHARS_MAX: usize = 100_000;

/// What is asked.
struct Question {
    session: Session,
    text: String,
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
    body.maybe_text("agent_type", AGENT);
    body.done()?;
    let session = app.store().chats().session(&mine.person, &id).await;
    let question = Question {
        session: session.map_err(missing)?,
        text,
        documents: documents.filter(|documents| !documents.is_empty()),
    };
    if question.text.trim().is_empty() {
        return Err(Refused::plain(
            StatusCode::BAD_REQUEST,
            "`message` is empty",
        ));
    }
    if streamed {
        return Ok(sse(events(app, mine.person, question)));
    }
    let turn = begin(&app, &mine.person, question)
        .await
        .map_err(missing_row)?;
    let stop = StopOnDrop::new(&app, &mine.person, &turn);
    let mut all = std::pin::pin!(turn.events(0));
    while let Some((_, event)) = all.next().await {
        match event {
            TurnEvent::Stored(row) => {
                stop.over();
                let number = app.store().chats().number(&row.id).await?;
                return Ok(answer(StatusCode::OK, &whole(number, &row)));
            }
            TurnEvent::Failed { error } => {
                stop.over();
                let told = tell(&*error);
                let status = super::super::failure::status(told.kind);
                return Err(Refused::plain(status, told.message));
            }
            TurnEvent::Started { .. } | TurnEvent::Chat(_) => {}
        }
    }
    Err(AppError::Errand("the answer ended without a word".to_owned()).into())
}

fn whole(number: i64, row: &StoredMessage) -> Value {
    let sources = match views::sources(&row.citations) {
        Value::Null => json!([]),
        sources => sources,
    };
    let tokens = row.stats.as_ref().map(|stats| {
        json!({ "input_tokens": stats.prompt_tokens, "output_tokens": stats.completion_tokens })
    });
    json!({
        "message_id": number,
        "content": row.content,
        "sources": sources,
        "tokens": tokens,
    })
}

/// Asks; the answer begins.
async fn begin(app: &App, person: &PersonId, question: Question) -> Result<Turn, AppError> {
    let chosen = system::chosen_model(app, person).await?;
    let chat = question.session.chat;
    let request = TurnRequest {
        chat: chat.id,
        parent_id: chat.head,
        content: Some(question.text),
        pictures: Vec::new(),
        model: chosen.or(chat.model).unwrap_or_default(),
        sampling: Sampling::default(),
        limits: Limits::default(),
        system: None,
        shelves: question.documents,
        overflow: Overflow::LeaveOut,
    };
    app.turn(person, request).await
}

/// Stops a turn whose reader has gone.
struct StopOnDrop {
    app: App,
    person: PersonId,
    turn: String,
    over: std::cell::Cell<bool>,
}

impl StopOnDrop {
    fn new(app: &App, person: &PersonId, turn: &Turn) -> StopOnDrop {
        StopOnDrop {
            app: app.clone(),
            person: person.clone(),
            turn: turn.id.clone(),
            over: std::cell::Cell::new(false),
        }
    }

    fn over(&self) {
        self.over.set(true);
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        // One that has been forgotten has ended.
        if !self.over.get() {
            let _ = self.app.stop_turn(&self.person, &self.turn);
        }
    }
}

/// A stream's way from the question to its end.
enum Way {
    Asked(Question),
    Writing {
        turn: std::pin::Pin<Box<dyn Stream<Item = (usize, TurnEvent)> + Send>>,
        stop: StopOnDrop,
    },
    Over,
}

fn frame(event: &Value) -> Frame {
    Frame::data(event.to_string())
}

fn status(status: &str, message: impl Into<String>) -> Value {
    json!({ "type": "status", "status": status, "message": message.into() })
}

fn failed(error: &AppError) -> Value {
    json!({ "type": "error", "content": tell(error).message })
}

/// The events of an answer. The first comes before the model has been asked, which may have to be loaded first.
fn events(app: App, person: PersonId, question: Question) -> impl Stream<Item = Frame> {
    let begun = Instant::now();
    let first = stream::iter([frame(&status("working", "Asking the model"))]);
    let state = (app, person, Way::Asked(question));
    let rest = stream::unfold(state, move |(app, person, way)| async move {
        let (events, way) = match way {
            Way::Over => return None,
            Way::Asked(question) => match begin(&app, &person, question).await {
                Ok(turn) => {
                    let stop = StopOnDrop::new(&app, &person, &turn);
                    let turn = turn.events(0).boxed();
                    (Vec::new(), Way::Writing { turn, stop })
                }
                Err(error) => (vec![failed(&error)], Way::Over),
            },
            Way::Writing { mut turn, stop } => match turn.next().await {
                None => (Vec::new(), Way::Over),
                Some((_, TurnEvent::Started { .. })) => (Vec::new(), Way::Writing { turn, stop }),
                Some((_, TurnEvent::Chat(event))) => (told(event), Way::Writing { turn, stop }),
                Some((_, TurnEvent::Stored(row))) => {
                    stop.over();
                    (ending(&app, &row, begun).await, Way::Over)
                }
                Some((_, TurnEvent::Failed { error })) => {
                    stop.over();
                    (vec![failed(&error)], Way::Over)
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
async fn ending(app: &App, row: &StoredMessage, begun: Instant) -> Vec<Value> {
    let number = match app.store().chats().number(&row.id).await {
        Ok(number) => number,
        // Somebody deleted it in the same moment.
        Err(error) => return vec![failed(&error.into())],
    };
    let elapsed = views::rounded(begun.elapsed().as_secs_f64(), 100.0);
    let used: Vec<&str> = match row.citations.is_empty() {
        true => Vec::new(),
        false => vec![steps::SEARCH],
    };
    vec![
        json!({
            "type": "answer",
            "content": row.content,
            "elapsed": elapsed,
            "steps": used.len(),
            "tools_used": used.len(),
        }),
        json!({
            "type": "done",
            "message_id": number,
            "content": row.content,
            "stats": row.stats.as_ref().map(views::stats),
            "rag_sources": views::sources(&row.citations),
        }),
    ]
}

/// `POST /api/chat/confirm-tool`
pub(in super::super) async fn confirm(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let session = body.text("session_id", Text::default());
    body.must_flag("approved");
    body.done()?;
    app.store()
        .chats()
        .session(&mine.person, &session)
        .await
        .map_err(|_| nothing_waits())?;
    // Plain answers ask for nothing to be confirmed.
    Err(nothing_waits())
}

fn nothing_waits() -> Refused {
    let why = "No active chat session found for this session ID";
    Refused::plain(StatusCode::NOT_FOUND, why)
}
