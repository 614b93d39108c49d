//! Rows of ours as GAIA's page reads them.

use serde_json::{Value, json};

use super::{runs, steps};
use crate::api::time::offset;
use crate::app::{Numbered, Session, Transcript, UNTITLED};
use crate::domain::{Citation, Stats};

/// The agent of a session for which none was chosen.
pub(super) const PLAIN_AGENT: &str = "chat";

/// What the page of 0.25.1 calls it, which says that none is installed where the list has no such name.
pub(super) const NEWER_PLAIN_AGENT: &str = "gaia";

/// What the original calls a session that nobody has named.
const UNNAMED: &str = "New Chat";

/// A session. `model` is the one that answers where the chat has none yet.
pub(super) fn session(session: &Session, model: &str) -> Value {
    let chat = &session.chat;
    let title = match chat.title.as_str() {
        UNTITLED => UNNAMED,
        title => title,
    };
    json!({
        "id": chat.id,
        "title": title,
        "created_at": offset(chat.created_at),
        "updated_at": offset(chat.updated_at),
        "model": chat.model.as_deref().unwrap_or(model),
        "system_prompt": session.instructions,
        "message_count": session.messages,
        "document_ids": session.documents,
        "agent_type": session.agent.as_deref().unwrap_or(PLAIN_AGENT),
    })
}

/// The title that a client means: the original's word for none is ours.
pub(super) fn title(asked: &str) -> String {
    match asked.trim() {
        "" | UNNAMED => UNTITLED.to_owned(),
        title => title.to_owned(),
    }
}

/// Messages with the steps of the runs that made them.
pub(super) fn messages(session: &str, line: &[Numbered], runs: &[Transcript]) -> Vec<Value> {
    let of = |id: &str| {
        runs.iter()
            .find(|one| one.run.message.as_deref() == Some(id))
    };
    line.iter()
        .map(|one| message(session, one, of(&one.message.id)))
        .collect()
}

fn message(session: &str, one: &Numbered, run: Option<&Transcript>) -> Value {
    let message = &one.message;
    let steps = run.map(runs::kept).filter(|steps| !steps.is_null());
    json!({
        "id": one.number,
        "session_id": session,
        "role": message.role.as_str(),
        "content": message.content,
        "created_at": offset(message.created_at),
        "rag_sources": sources(&message.citations),
        "agent_steps": steps.unwrap_or_else(|| steps::kept(message)),
        "stats": message.stats.as_ref().map(stats),
    })
}

/// The passages that an answer was made from; null where it was made from none.
pub(super) fn sources(citations: &[Citation]) -> Value {
    let one = |cited: &Citation| {
        json!({
            "document_id": cited.document,
            "filename": cited.name,
            "chunk": cited.text,
            "score": cited.score,
            "page": cited.page,
            // Ours, beside theirs: the mark in the answer, and where the passage stands in the document's text.
            "number": cited.number,
            "passage": cited.passage,
            "start": cited.start,
            "end": cited.end,
        })
    };
    match citations {
        [] => Value::Null,
        all => all.iter().map(one).collect::<Vec<_>>().into(),
    }
}

/// What an answer cost.
pub(super) fn stats(stats: &Stats) -> Value {
    json!({
        "tokens_per_second": rounded(stats.decode_tps.unwrap_or(0.0), 10.0),
        "time_to_first_token": rounded(stats.ttft_ms / 1e3, 1000.0),
        "input_tokens": stats.prompt_tokens,
        "output_tokens": stats.completion_tokens,
    })
}

/// A number with as many parts of one as `parts`.
pub(super) fn rounded(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    if bytes == 0 {
        return "0 B".to_owned();
    }
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_titles_read_as_there() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1), "1.0 B");
        assert_eq!(size(1536), "1.5 KB");
        assert_eq!(title(" New Chat "), UNTITLED);
        assert_eq!(title(" x "), "x");
    }
}
