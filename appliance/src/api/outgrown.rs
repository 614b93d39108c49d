//! A conversation that outgrows its context, the same in every dialect: what a request wants, and what it is told.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::body::RequestError;
use crate::domain::Overflow;

/// Reads `truncation`, the word of OpenAI's Responses.
pub(super) fn overflow(word: Option<&str>, usual: Overflow) -> Result<Overflow, RequestError> {
    match word {
        None => Ok(usual),
        Some("auto") => Ok(Overflow::LeaveOut),
        Some("disabled") => Ok(Overflow::Refuse),
        Some(other) => Err(RequestError::field(
            "truncation",
            format!("is `{other}`; it can be auto or disabled"),
        )),
    }
}

/// What a client is told of an answer to less than it sent.
#[derive(Serialize, JsonSchema)]
pub(super) struct Notice {
    r#type: &'static str,
    /// How many of the oldest messages the model has not read.
    messages: usize,
    /// The same for people.
    text: String,
}

impl Notice {
    pub(super) fn left_out(messages: usize) -> Notice {
        let were = match messages {
            1 => "message was",
            _ => "messages were",
        };
        Notice {
            r#type: "oldest_turns_left_out",
            messages,
            text: format!(
                "the conversation is longer than the model's context: its {messages} oldest {were} left out"
            ),
        }
    }
}

/// The same as JSON; nothing where nothing was left out.
pub(super) fn notice(messages: usize) -> Option<Value> {
    (messages > 0).then(|| json!(Notice::left_out(messages)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_words_are_known() {
        let read = |word| overflow(word, Overflow::Refuse).ok();
        assert_eq!(read(None), Some(Overflow::Refuse));
        assert_eq!(read(Some("auto")), Some(Overflow::LeaveOut));
        assert_eq!(read(Some("disabled")), Some(Overflow::Refuse));
        assert_eq!(read(Some("middle")), None);
    }

    #[test]
    fn a_notice_counts() {
        assert_eq!(notice(0), None);
        let one = notice(1).unwrap();
        assert!(
            one["text"]
                .as_str()
                .unwrap()
                .ends_with("its 1 oldest message was left out")
        );
        assert_eq!(notice(3).unwrap()["messages"], 3);
    }
}
