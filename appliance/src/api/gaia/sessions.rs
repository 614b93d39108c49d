//! Sessions and their messages: list, begin, change, delete, export, and the documents that they are answered from.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::failure::json as answer;
use super::super::mine::Mine;
use super::super::time::offset;
use super::fields::{Text, number};
use super::{Gaia, Json, Query, Refused, missing, system, views};
use crate::app::{App, NewSession, SessionChange, UNTITLED};
use crate::domain::{PersonId, Role};

/// Sessions of one page, and where none is asked for.
const SESSIONS_MAX: i64 = 200;
const SESSIONS_USUAL: i64 = 50;

/// Messages of one page, and where none is asked for.
const MESSAGES_MAX: i64 = 10_000;
const MESSAGES_USUAL: i64 = 100;

/// An agent's name.
pub(super) const AGENT: Text = Text {
    most: Some(64),
    name: true,
};

/// Which part of a list is wanted; what is out of bounds is moved into them, as there.
fn part(mut query: super::Fields, usual: i64, most: i64) -> Result<(usize, usize), Refused> {
    let limit = query.whole("limit").unwrap_or(usual).clamp(1, most);
    let offset = query.whole("offset").unwrap_or(0).max(0);
    query.done()?;
    let size = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
    Ok((size(limit), size(offset).min(1 << 40)))
}

/// `GET /api/sessions`
pub(in super::super) async fn list(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Query(query): Query,
) -> Result<Response, Refused> {
    let (limit, offset) = part(query, SESSIONS_USUAL, SESSIONS_MAX)?;
    let (sessions, total) = app
        .store()
        .chats()
        .sessions(&mine.person, limit, offset)
        .await?;
    let model = system::model_of(&app, &mine.person).await?;
    let views: Vec<Value> = sessions
        .iter()
        .map(|session| views::session(session, &model))
        .collect();
    Ok(answer(
        StatusCode::OK,
        &json!({ "sessions": views, "total": total }),
    ))
}

async fn told(
    app: &App,
    person: &PersonId,
    session: &crate::app::Session,
) -> Result<Response, Refused> {
    let model = system::model_of(app, person).await?;
    Ok(answer(StatusCode::OK, &views::session(session, &model)))
}

/// `POST /api/sessions`
pub(in super::super) async fn create(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let plain = Text::default();
    let title = body.maybe_text("title", plain);
    let model = body.maybe_text("model", plain);
    let instructions = body.maybe_text("system_prompt", plain);
    let documents = body.list("document_ids");
    let agent = body.maybe_text("agent_type", AGENT);
    body.done()?;
    let new = NewSession {
        title: title.map_or_else(|| UNTITLED.to_owned(), |title| views::title(&title)),
        model,
        instructions,
        agent: agent.filter(|agent| agent != views::PLAIN_AGENT),
        documents,
    };
    let begun = app.store().chats().begin_session(&mine.person, new).await;
    told(&app, &mine.person, &begun.map_err(missing)?).await
}

/// `GET /api/sessions/{id}`
pub(in super::super) async fn one(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    let session = app.store().chats().session(&mine.person, &id).await;
    told(&app, &mine.person, &session.map_err(missing)?).await
}

/// `PUT /api/sessions/{id}`
pub(in super::super) async fn change(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let title = body.maybe_text("title", Text::default());
    let change = SessionChange {
        title: title.map(|title| views::title(&title)),
        instructions: body.maybe_text("system_prompt", Text::default()),
        documents: body.texts("document_ids"),
        agent: body.maybe_text("agent_type", AGENT),
    };
    body.done()?;
    let changed = app
        .store()
        .chats()
        .change_session(&mine.person, &id, change)
        .await;
    told(&app, &mine.person, &changed.map_err(missing)?).await
}

/// `DELETE /api/sessions/{id}`
pub(in super::super) async fn delete(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    stop(&app, &mine.person, &id)?;
    let deleted = app.store().chats().delete(&mine.person, &id).await;
    deleted.map_err(missing)?;
    Ok(answer(StatusCode::OK, &json!({ "deleted": true })))
}

/// Ends what is being written in a chat; tells whether anything was.
pub(super) fn stop(app: &App, person: &PersonId, chat: &str) -> Result<bool, Refused> {
    let mut any = false;
    for turn in app.running_turns(person) {
        if turn.chat == chat {
            app.stop_turn(person, &turn.id)?;
            any = true;
        }
    }
    if let Some(run) = app.run_of_chat(person, chat) {
        app.cancel_run(person, &run.id)?;
        any = true;
    }
    Ok(any)
}

/// `GET /api/sessions/{id}/messages`
pub(in super::super) async fn messages(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
    Query(query): Query,
) -> Result<Response, Refused> {
    let (limit, offset) = part(query, MESSAGES_USUAL, MESSAGES_MAX)?;
    let line = app
        .store()
        .chats()
        .line(&mine.person, &id, limit, offset)
        .await;
    let (messages, total) = line.map_err(missing)?;
    let runs = app.transcripts_of_chat(&mine.person, &id).await?;
    let views = views::messages(&id, &messages, &runs);
    Ok(answer(
        StatusCode::OK,
        &json!({ "messages": views, "total": total }),
    ))
}

/// `DELETE /api/sessions/{id}/messages/{message}`
pub(in super::super) async fn delete_message(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path((id, message)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let message = number("message_id", &message)?;
    stop(&app, &mine.person, &id)?;
    let deleted = app
        .store()
        .chats()
        .delete_message(&mine.person, &id, message)
        .await;
    deleted.map_err(missing)?;
    Ok(answer(StatusCode::OK, &json!({ "deleted": true })))
}

/// `DELETE /api/sessions/{id}/messages/{message}/and-below`
pub(in super::super) async fn delete_from(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path((id, message)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let message = number("message_id", &message)?;
    stop(&app, &mine.person, &id)?;
    let deleted = app
        .store()
        .chats()
        .delete_from(&mine.person, &id, message)
        .await;
    let count = deleted.map_err(missing)?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "deleted": true, "count": count }),
    ))
}

/// `GET /api/sessions/{id}/export`
pub(in super::super) async fn export(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
    Query(mut query): Query,
) -> Result<Response, Refused> {
    let format = query.maybe_text("format", Text::default());
    query.done()?;
    let chats = app.store().chats();
    let session = chats.session(&mine.person, &id).await.map_err(missing)?;
    let most = usize::try_from(MESSAGES_MAX).unwrap_or(usize::MAX);
    let (messages, _) = chats
        .line(&mine.person, &id, most, 0)
        .await
        .map_err(missing)?;
    let model = system::model_of(&app, &mine.person).await?;
    let shown = views::session(&session, &model);
    let body = match format.as_deref().unwrap_or("markdown") {
        "markdown" => {
            let words = |field: &str| shown[field].as_str().unwrap_or_default().to_owned();
            let mut text = format!(
                "# {}\n\n*Created: {}*\n\n*Model: {}*\n\n---\n\n",
                words("title"),
                offset(session.chat.created_at),
                words("model"),
            );
            for one in &messages {
                let who = match one.message.role {
                    Role::User => "User",
                    _ => "Assistant",
                };
                text.push_str(&format!("**{who}:**\n\n{}\n\n", one.message.content));
                for cited in &one.message.citations {
                    let page = cited.page.map(|page| format!(", page {page}"));
                    let page = page.unwrap_or_default();
                    text.push_str(&format!("> [{}] {}{page}\n", cited.number, cited.name));
                }
                text.push_str("---\n\n");
            }
            json!({ "content": text, "format": "markdown" })
        }
        "json" => {
            let runs = app.transcripts_of_chat(&mine.person, &id).await?;
            let views = views::messages(&id, &messages, &runs);
            json!({ "session": shown, "messages": views, "format": "json" })
        }
        other => {
            let why = format!("Unsupported format: {other}");
            return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
        }
    };
    Ok(answer(StatusCode::OK, &body))
}

/// `POST /api/sessions/{id}/documents`
pub(in super::super) async fn attach(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path(id): Path<String>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let document = body.text("document_id", Text::default());
    body.done()?;
    let attached = app
        .store()
        .chats()
        .attach(&mine.person, &id, &document)
        .await;
    attached.map_err(missing)?;
    Ok(answer(StatusCode::OK, &json!({ "attached": true })))
}

/// `DELETE /api/sessions/{id}/documents/{document}`
pub(in super::super) async fn detach(
    State(app): State<App>,
    mine: Mine<Gaia>,
    Path((id, document)): Path<(String, String)>,
) -> Result<Response, Refused> {
    app.store()
        .chats()
        .detach(&mine.person, &id, &document)
        .await?;
    Ok(answer(StatusCode::OK, &json!({ "detached": true })))
}
