//! Chats: list, search, open, rename, pin, move the head, delete.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, extract::rejection::QueryRejection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::body::{Body, RequestError, Wire};
use super::super::cited::{self, CitationView};
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use super::person;
use crate::app::{App, Chat, ChatChange, ChatQuery, StoredMessage, UNTITLED};
use crate::domain::{Peer, Stats};

/// Characters of a title; a list shows fewer.
const TITLE_CHARS_MAX: usize = 200;

#[derive(Deserialize)]
pub(in super::super) struct ListQuery {
    query: Option<String>,
    before: Option<i64>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
pub(in super::super) struct OneQuery {
    last: Option<usize>,
    #[serde(default)]
    pictures: bool,
}

#[derive(Deserialize, Default, JsonSchema)]
pub(in super::super) struct CreateBody {
    title: Option<String>,
    model: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct ChangeBody {
    title: Option<String>,
    head: Option<String>,
    pinned: Option<bool>,
    collections: Option<Vec<String>>,
}

impl Wire for CreateBody {
    type Dialect = OpenAi;
}

impl Wire for ChangeBody {
    type Dialect = OpenAi;
}

/// A chat without its messages.
#[derive(Serialize, JsonSchema)]
pub(super) struct ChatView {
    id: String,
    title: String,
    /// The model last used in it.
    model: Option<String>,
    pinned: bool,
    /// The leaf that the page shows.
    head: Option<String>,
    /// Unix milliseconds.
    created_at: i64,
    /// Unix milliseconds of the last message.
    updated_at: i64,
    /// Whether an answer is being written in it.
    running: bool,
}

impl ChatView {
    pub(super) fn of(chat: Chat, running: bool) -> ChatView {
        ChatView {
            id: chat.id,
            title: chat.title,
            model: chat.model,
            pinned: chat.pinned,
            head: chat.head,
            created_at: chat.created_at,
            updated_at: chat.updated_at,
            running,
        }
    }
}

/// What an answer cost.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct StatsView {
    prompt_tokens: usize,
    /// Those that came from the cache; unknown when the answer was stopped.
    cached_tokens: Option<usize>,
    completion_tokens: usize,
    /// From the question to the first token, milliseconds.
    ttft_ms: f64,
    /// Prompt tokens read a second, cached ones left out.
    prefill_tps: Option<f64>,
    /// Tokens made a second after the first.
    decode_tps: Option<f64>,
    finish_reason: Option<String>,
    /// Energy above idle, where it was measured.
    joules: Option<f64>,
    /// From the first thought to the first word, milliseconds.
    thought_ms: Option<f64>,
}

impl From<StatsView> for Stats {
    fn from(stats: StatsView) -> Stats {
        Stats {
            prompt_tokens: stats.prompt_tokens,
            cached_tokens: stats.cached_tokens,
            completion_tokens: stats.completion_tokens,
            ttft_ms: stats.ttft_ms,
            prefill_tps: stats.prefill_tps,
            decode_tps: stats.decode_tps,
            joules: stats.joules,
            thought_ms: stats.thought_ms,
        }
    }
}

/// A message as the page reads it, in lists and in turns.
#[derive(Serialize, JsonSchema)]
pub(super) struct MessageView {
    id: String,
    /// The message that it answers.
    parent_id: Option<String>,
    #[schemars(extend("enum" = ["system", "user", "assistant", "tool"]))]
    role: &'static str,
    content: String,
    /// What the model thought before it spoke.
    reasoning: Option<String>,
    /// The model that said it.
    model: Option<String>,
    /// Unix milliseconds.
    created_at: i64,
    /// Why it ended; null while it is being written.
    finish_reason: Option<String>,
    stats: Option<StatsView>,
    /// The passages that it was made from.
    citations: Vec<CitationView>,
    /// How many pictures were shown with it, from number 0 on.
    pictures: usize,
    /// The pictures themselves at `data:` addresses, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shown: Vec<String>,
}

impl From<&StoredMessage> for MessageView {
    fn from(message: &StoredMessage) -> MessageView {
        let stats = message.stats.as_ref().map(|stats| StatsView {
            prompt_tokens: stats.prompt_tokens,
            cached_tokens: stats.cached_tokens,
            completion_tokens: stats.completion_tokens,
            ttft_ms: stats.ttft_ms,
            prefill_tps: stats.prefill_tps,
            decode_tps: stats.decode_tps,
            joules: stats.joules,
            thought_ms: stats.thought_ms,
            finish_reason: message.finish_reason.clone(),
        });
        MessageView {
            id: message.id.clone(),
            parent_id: message.parent_id.clone(),
            role: message.role.as_str(),
            content: message.content.clone(),
            reasoning: message.reasoning.clone(),
            model: message.model.clone(),
            created_at: message.created_at,
            finish_reason: message.finish_reason.clone(),
            stats,
            citations: cited::views(&message.citations),
            pictures: message.pictures,
            shown: Vec::new(),
        }
    }
}

/// A page of the list, newest first.
#[derive(Serialize, JsonSchema)]
pub(super) struct ChatsView {
    chats: Vec<ChatView>,
}

/// An answer that is being written.
#[derive(Serialize, JsonSchema)]
struct TurnView {
    turn_id: String,
    assistant_message_id: String,
}

/// A chat with its tree of messages.
#[derive(Serialize, JsonSchema)]
pub(super) struct ChatTreeView {
    chat: ChatView,
    messages: Vec<MessageView>,
    turns: Vec<TurnView>,
    /// Collections or documents that it is answered from.
    collections: Vec<String>,
    /// Whether these are all of its messages.
    whole: bool,
}

/// It is gone.
#[derive(Serialize, JsonSchema)]
pub(super) struct DeletedView {
    deleted: bool,
}

pub(super) fn checked_title(title: Option<String>) -> Result<Option<String>, RequestError> {
    match title.map(|title| title.trim().to_owned()) {
        Some(title) if title.is_empty() => Err(RequestError::field("title", "is empty")),
        Some(title) if title.chars().count() > TITLE_CHARS_MAX => Err(RequestError::field(
            "title",
            format!("may have at most {TITLE_CHARS_MAX} characters"),
        )),
        title => Ok(title),
    }
}

pub(in super::super) async fn list(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Failure<OpenAi>> {
    let Query(query) = query.map_err(|error| RequestError::Malformed(error.body_text()))?;
    let person = person(&peer)?;
    let query = ChatQuery {
        text: query.query,
        before: query.before,
        limit: query.limit,
    };
    let running = app.running_turns(person);
    let is_running = |chat: &Chat| running.iter().any(|turn| turn.chat == chat.id);
    let view = |chat: Chat| {
        let running = is_running(&chat);
        ChatView::of(chat, running)
    };
    let chats = app.store().chats().list(person, query).await?;
    let chats = chats.into_iter().map(view).collect();
    Ok(answer(StatusCode::OK, &ChatsView { chats }))
}

pub(in super::super) async fn create(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<CreateBody>,
) -> Result<Response, Failure<OpenAi>> {
    let title = checked_title(body.title)?;
    let title = title.as_deref().unwrap_or(UNTITLED);
    let chat = app
        .store()
        .chats()
        .create(person(&peer)?, title, body.model.as_deref())
        .await?;
    Ok(answer(StatusCode::CREATED, &ChatView::of(chat, false)))
}

pub(in super::super) async fn one(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    query: Result<Query<OneQuery>, QueryRejection>,
) -> Result<Response, Failure<OpenAi>> {
    let Query(query) = query.map_err(|error| RequestError::Malformed(error.body_text()))?;
    let person = person(&peer)?;
    // Turns first: one that ends in between is then shown as running, and its events still end it.
    let turns: Vec<TurnView> = app
        .running_turns(person)
        .into_iter()
        .filter(|turn| turn.chat == id)
        .map(|turn| TurnView {
            turn_id: turn.id,
            assistant_message_id: turn.assistant_id,
        })
        .collect();
    let (chat, messages, whole) = match query.last {
        Some(n) => app.store().chats().tail(person, &id, n).await?,
        None => {
            let (chat, messages) = app.store().chats().get(person, &id).await?;
            (chat, messages, true)
        }
    };
    let collections = app.store().collections().of_chat(&id).await?;
    let mut messages: Vec<_> = messages.iter().map(MessageView::from).collect();
    if query.pictures {
        let mut all = app.store().pictures().of_chat(person, &id).await?;
        for message in &mut messages {
            message.shown = all.remove(&message.id).unwrap_or_default();
        }
    }
    let view = ChatTreeView {
        chat: ChatView::of(chat, !turns.is_empty()),
        messages,
        turns,
        collections,
        whole,
    };
    Ok(answer(StatusCode::OK, &view))
}

pub(in super::super) async fn change(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Body(body): Body<ChangeBody>,
) -> Result<Response, Failure<OpenAi>> {
    if let Some(collections) = body.collections {
        app.store()
            .collections()
            .set_chat(person(&peer)?, &id, collections)
            .await?;
    }
    let change = ChatChange {
        title: checked_title(body.title)?,
        head: body.head,
        pinned: body.pinned,
    };
    let chat = app
        .store()
        .chats()
        .change(person(&peer)?, &id, change)
        .await?;
    Ok(answer(StatusCode::OK, &ChatView::of(chat, false)))
}

pub(in super::super) async fn delete(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let person = person(&peer)?;
    for turn in app
        .running_turns(person)
        .iter()
        .filter(|turn| turn.chat == id)
    {
        app.stop_turn(person, &turn.id)?;
    }
    app.store().chats().delete(person, &id).await?;
    Ok(answer(StatusCode::OK, &DeletedView { deleted: true }))
}
