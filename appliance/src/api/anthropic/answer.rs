//! A whole answer: events gathered into one message.

use futures_util::StreamExt;
use serde_json::{Map, Value, json};

use super::super::answers::Events;
use super::super::outgrown::notice;
use super::messages::Head;
use super::{citations, stop, tool_use, tool_use_id, usage};
use crate::app::{AppError, EngineError};
use crate::domain::{ChatEvent, Citation, Finish};

/// One block of the message.
#[derive(Debug, PartialEq)]
enum Block {
    Thinking(String),
    Text(String),
    Call {
        id: String,
        name: String,
        input: String,
    },
}

/// Blocks in the order in which they began.
#[derive(Default)]
struct Blocks {
    blocks: Vec<Block>,
    /// Passages that the first text is made from.
    sources: Vec<Citation>,
    left_out: usize,
    finish: Option<Finish>,
}

impl Blocks {
    fn take(&mut self, event: ChatEvent) {
        match event {
            ChatEvent::Queued { .. } | ChatEvent::Waits { .. } => {}
            ChatEvent::LeftOut { messages } => self.left_out = messages,
            ChatEvent::Sources(sources) => self.sources = sources,
            ChatEvent::Reasoning(more) => match self.blocks.last_mut() {
                Some(Block::Thinking(text)) => text.push_str(&more),
                _ => self.blocks.push(Block::Thinking(more)),
            },
            ChatEvent::Piece(piece) => match self.blocks.last_mut() {
                Some(Block::Text(text)) => text.push_str(&piece.text),
                _ => self.blocks.push(Block::Text(piece.text)),
            },
            ChatEvent::CallBegins { id, name, .. } => self.blocks.push(Block::Call {
                id: tool_use_id(&id),
                name,
                input: String::new(),
            }),
            ChatEvent::CallArguments { json, .. } => {
                if let Some(Block::Call { input, .. }) = self.blocks.last_mut() {
                    input.push_str(&json);
                }
            }
            ChatEvent::Finished(finish) => self.finish = Some(finish),
        }
    }

    /// The blocks as Anthropic writes them; white space alone makes no block, as its clients may not send one back.
    fn view(&self) -> Vec<Value> {
        let view = |block: &Block| match block {
            Block::Text(text) if text.trim().is_empty() => None,
            Block::Text(text) => Some(json!({ "type": "text", "text": text, "citations": null })),
            // A signature proves to Anthropic that it wrote the thought; here there is nothing to prove.
            Block::Thinking(text) => {
                Some(json!({ "type": "thinking", "thinking": text, "signature": "" }))
            }
            Block::Call { id, name, input } => Some(tool_use(id, name, &object(input))),
        };
        let mut views: Vec<Value> = self.blocks.iter().filter_map(view).collect();
        if !self.sources.is_empty()
            && let Some(text) = views.iter_mut().find(|view| view["type"] == "text")
        {
            text["citations"] = citations(&self.sources).into();
        }
        views
    }
}

/// The arguments as an object. A call that was cut off is no JSON; it is handed over under the key that Anthropic's
/// guide gives to such input.
fn object(input: &str) -> Value {
    if input.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str(input) {
        Ok(object @ Value::Object(_)) => object,
        _ => json!({ "INVALID_JSON": input }),
    }
}

/// Waits for the end and writes the message.
pub(super) async fn whole(head: Head, mut events: Events) -> Result<Value, AppError> {
    let mut blocks = Blocks::default();
    while let Some(event) = events.next().await {
        blocks.take(event?.1);
    }
    let Some(finish) = blocks.finish else {
        return Err(AppError::Engine(EngineError::Stopped));
    };
    let (stop_reason, stop_sequence) = stop(&finish, &head.stops);
    let mut message = json!({
        "id": head.id,
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": blocks.view(),
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "stop_details": null,
        "container": null,
        "diagnostics": null,
        "usage": usage(&finish.usage),
    });
    if let Some(notice) = notice(blocks.left_out) {
        message["notice"] = notice;
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Piece;

    fn said(text: &str) -> ChatEvent {
        ChatEvent::Piece(Piece {
            text: text.into(),
            ..Piece::default()
        })
    }

    #[test]
    fn events_become_blocks_in_order() {
        let mut blocks = Blocks::default();
        for event in [
            ChatEvent::Reasoning("h".into()),
            ChatEvent::Reasoning("m".into()),
            said("\n"),
            said("yes"),
            ChatEvent::CallBegins {
                index: 0,
                id: "call_a0".into(),
                name: "look".into(),
            },
            ChatEvent::CallArguments {
                index: 0,
                json: r#"{"at""#.into(),
            },
            ChatEvent::CallArguments {
                index: 0,
                json: ":1}".into(),
            },
            said("\n"),
        ] {
            blocks.take(event);
        }
        assert_eq!(
            blocks.view(),
            [
                json!({"type": "thinking", "thinking": "hm", "signature": ""}),
                json!({"type": "text", "text": "\nyes", "citations": null}),
                json!({"type": "tool_use", "id": "toolu_a0", "name": "look", "input": {"at": 1}, "caller": {"type": "direct"}}),
            ]
        );
    }

    #[test]
    fn arguments_that_were_cut_off_are_not_lost() {
        assert_eq!(object(""), json!({}));
        assert_eq!(object("{\"a\":"), json!({"INVALID_JSON": "{\"a\":"}));
    }
}
