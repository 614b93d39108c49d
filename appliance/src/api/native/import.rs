//! `POST /onebit/chats/import`: a saved conversation comes back as a new chat, with all its versions, and with what was
//! shown, thought and cited in it.

use std::collections::HashSet;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::body::{Body, RequestError, Wire};
use super::super::cited::CitationView;
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use super::chats::{ChatView, StatsView, checked_title};
use super::person;
use super::turns::{PICTURES_MAX, opened};
use crate::app::{App, BroughtMessage, UNTITLED, now_ms};
use crate::domain::{Peer, Role};

/// Messages of one file: ten times the longest conversation that we measure with.
const MESSAGES_MAX: usize = 100_000;

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct ImportBody {
    title: Option<String>,
    messages: Vec<ImportedMessage>,
    head: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct ImportedMessage {
    id: String,
    parent_id: Option<String>,
    /// `system`, `user` or `assistant`.
    role: String,
    content: String,
    model: Option<String>,
    /// Unix milliseconds.
    #[serde(default)]
    created_at: i64,
    finish_reason: Option<String>,
    /// What the model thought before it spoke.
    reasoning: Option<String>,
    stats: Option<StatsView>,
    /// The passages that it was made from.
    #[serde(default)]
    citations: Vec<CitationView>,
    /// Pictures that were shown with it: PNG, JPEG, WebP or GIF at `data:` addresses.
    #[serde(default)]
    shown: Vec<String>,
}

impl Wire for ImportBody {
    type Dialect = OpenAi;
}

/// Checks that it is a tree: every parent stands before its children.
fn messages(body: Vec<ImportedMessage>) -> Result<Vec<BroughtMessage>, RequestError> {
    let wrong = |why: String| RequestError::field("messages", why);
    match body.len() {
        0 => return Err(wrong("is empty".to_owned())),
        n if n > MESSAGES_MAX => {
            return Err(wrong(format!("has {n} of at most {MESSAGES_MAX}")));
        }
        _ => {}
    }
    let mut known = HashSet::new();
    let mut all = Vec::with_capacity(body.len());
    let now = now_ms();
    for message in body {
        if let Some(parent) = &message.parent_id
            && !known.contains(parent)
        {
            return Err(wrong(format!(
                "`{parent}` must stand before what answers it"
            )));
        }
        let role = match message.role.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => return Err(wrong(format!("have no role `{other}`"))),
        };
        if !known.insert(message.id.clone()) {
            return Err(wrong(format!("has `{}` twice", message.id)));
        }
        if message.shown.len() > PICTURES_MAX {
            let n = message.shown.len();
            return Err(wrong(format!(
                "show {n} pictures at once, of at most {PICTURES_MAX}"
            )));
        }
        if message.shown.iter().any(|one| opened(one).is_none()) {
            return Err(wrong(format!(
                "show with `{}` what is not data:image/png, jpeg, webp or gif in base64",
                message.id
            )));
        }
        all.push(BroughtMessage {
            id: message.id,
            parent_id: message.parent_id,
            role,
            content: message.content,
            reasoning: message.reasoning,
            model: message.model,
            finish_reason: message.finish_reason.unwrap_or_else(|| "stop".to_owned()),
            stats: message.stats.map(Into::into),
            citations: message.citations.into_iter().map(Into::into).collect(),
            pictures: message.shown,
            created_at: if message.created_at > 0 {
                message.created_at
            } else {
                now
            },
        });
    }
    Ok(all)
}

pub(in super::super) async fn import(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<ImportBody>,
) -> Result<Response, Failure<OpenAi>> {
    let title = checked_title(body.title)?;
    let title = title.as_deref().unwrap_or(UNTITLED);
    let messages = messages(body.messages)?;
    if let Some(head) = &body.head
        && !messages.iter().any(|message| message.id == *head)
    {
        return Err(RequestError::field("head", "is none of the messages").into());
    }
    let chats = app.store().chats();
    let chat = chats
        .bring(person(&peer)?, title, messages, body.head)
        .await?;
    Ok(answer(StatusCode::CREATED, &ChatView::of(chat, false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, parent: Option<&str>, role: &str) -> ImportedMessage {
        ImportedMessage {
            id: id.to_owned(),
            parent_id: parent.map(str::to_owned),
            role: role.to_owned(),
            content: "text".to_owned(),
            model: None,
            created_at: 0,
            finish_reason: None,
            reasoning: None,
            stats: None,
            citations: Vec::new(),
            shown: Vec::new(),
        }
    }

    fn showing(pictures: &[&str]) -> ImportedMessage {
        ImportedMessage {
            shown: pictures.iter().map(|&one| one.to_owned()).collect(),
            ..message("a", None, "user")
        }
    }

    #[test]
    fn only_trees_come_in() {
        let why = |all| messages(all).map_err(|error| error.to_string());
        let tree = vec![
            message("a", None, "user"),
            message("b", Some("a"), "assistant"),
        ];
        assert_eq!(why(tree).map(|all| all.len()), Ok(2));
        for (bad, said) in [
            (vec![], "is empty"),
            (vec![message("a", Some("b"), "user")], "must stand before"),
            (vec![message("a", Some("a"), "user")], "must stand before"),
            (
                vec![message("a", None, "user"), message("a", None, "user")],
                "twice",
            ),
            (vec![message("a", None, "tool")], "no role `tool`"),
            (
                vec![showing(&["data:text/html;base64,AA=="])],
                "with `a` what is not",
            ),
            (
                vec![showing(&["data:image/png;base64,AA=="; 9])],
                "9 pictures at once",
            ),
        ] {
            let error = why(bad).map(|all| all.len()).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
