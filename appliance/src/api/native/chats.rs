//! Chats: list, search, open, rename, pin, move the head, delete.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, extract::rejection::QueryRejection};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use super::person;
use crate::app::{App, Chat, ChatChange, ChatQuery, StoredMessage, UNTITLED};
use crate::domain::Peer;

/// Characters of a title; a list shows fewer.
const TITLE_CHARS_MAX: usize = 200;

#[derive(Deserialize)]
pub(in super::super) struct ListQuery {
    query: Option<String>,
    before: Option<i64>,
    limit: Option<usize>,
}

#[derive(Deserialize, Default)]
pub(in super::super) struct CreateBody {
    title: Option<String>,
    model: Option<String>,
}

#[derive(Deserialize)]
pub(in super::super) struct ChangeBody {
    title: Option<String>,
    head: Option<String>,
    pinned: Option<bool>,
}

impl Wire for CreateBody {
    type Dialect = OpenAi;
}

impl Wire for ChangeBody {
    type Dialect = OpenAi;
}

fn chat_view(chat: &Chat, running: bool) -> Value {
    json!({
        "id": chat.id,
        "title": chat.title,
        "model": chat.model,
        "pinned": chat.pinned,
        "head": chat.head,
        "created_at": chat.created_at,
        "updated_at": chat.updated_at,
        "running": running,
    })
}

/// A message as the page reads it, in lists and in turns.
pub(super) fn message_view(message: &StoredMessage) -> Value {
    let stats = message.stats.as_ref().map(|stats| {
        json!({
            "prompt_tokens": stats.prompt_tokens,
            "cached_tokens": stats.cached_tokens,
            "completion_tokens": stats.completion_tokens,
            "ttft_ms": stats.ttft_ms,
            "prefill_tps": stats.prefill_tps,
            "decode_tps": stats.decode_tps,
            "finish_reason": message.finish_reason,
        })
    });
    json!({
        "id": message.id,
        "parent_id": message.parent_id,
        "role": message.role.as_str(),
        "content": message.content,
        "model": message.model,
        "created_at": message.created_at,
        "finish_reason": message.finish_reason,
        "stats": stats,
    })
}

fn checked_title(title: Option<String>) -> Result<Option<String>, RequestError> {
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
    let chats: Vec<Value> = app
        .store()
        .chats()
        .list(person, query)
        .await?
        .iter()
        .map(|chat| chat_view(chat, is_running(chat)))
        .collect();
    Ok(answer(StatusCode::OK, &json!({ "chats": chats })))
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
    Ok(answer(StatusCode::CREATED, &chat_view(&chat, false)))
}

pub(in super::super) async fn one(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let person = person(&peer)?;
    // Turns first: one that ends in between is then shown as running, and its events still end it.
    let turns: Vec<Value> = app
        .running_turns(person)
        .into_iter()
        .filter(|turn| turn.chat == id)
        .map(|turn| json!({ "turn_id": turn.id, "assistant_message_id": turn.assistant_id }))
        .collect();
    let (chat, messages) = app.store().chats().get(person, &id).await?;
    let messages: Vec<Value> = messages.iter().map(message_view).collect();
    Ok(answer(
        StatusCode::OK,
        &json!({ "chat": chat_view(&chat, !turns.is_empty()), "messages": messages, "turns": turns }),
    ))
}

pub(in super::super) async fn change(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Body(body): Body<ChangeBody>,
) -> Result<Response, Failure<OpenAi>> {
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
    Ok(answer(StatusCode::OK, &chat_view(&chat, false)))
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
    Ok(answer(StatusCode::OK, &json!({ "deleted": true })))
}
