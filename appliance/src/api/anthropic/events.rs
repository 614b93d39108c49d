//! A streamed answer: Anthropic's events, block by block.

use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::super::answers::{Events, place};
use super::super::failure::{Dialect, tell};
use super::super::frames::{Frame, sse_with};
use super::super::outgrown::notice;
use super::messages::Head;
use super::{Anthropic, citations, stop, tool_use, tool_use_id, usage};
use crate::app::{AppError, EngineError};
use crate::domain::{ChatEvent, Citation, Usage};

/// What Anthropic sends while nothing happens.
const PING: &[u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// The kind of the block that is being written.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Thinking,
    Text,
    Call,
}

/// Writes the events of one message.
struct Writer {
    head: Head,
    open: Option<Open>,
    /// Blocks that have begun.
    blocks: usize,
    /// White space that no block has taken yet.
    held: String,
    /// Passages that the first text is made from.
    sources: Vec<Citation>,
    /// Messages that the model has not read.
    left_out: usize,
    ended: bool,
}

impl Writer {
    fn new(head: Head) -> Writer {
        Writer {
            head,
            open: None,
            blocks: 0,
            held: String::new(),
            sources: Vec::new(),
            left_out: 0,
            ended: false,
        }
    }

    fn frames(&mut self, event: ChatEvent) -> Vec<Frame> {
        let mut out = Vec::new();
        match event {
            ChatEvent::Queued { prompt_tokens } => self.start(prompt_tokens, &mut out),
            ChatEvent::Waits { ahead } => out.push(place(ahead)),
            ChatEvent::LeftOut { messages } => self.left_out = messages,
            ChatEvent::Sources(sources) => self.sources = sources,
            ChatEvent::Reasoning(text) => {
                let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
                self.begin(Open::Thinking, block, &mut out);
                self.delta(
                    json!({ "type": "thinking_delta", "thinking": text }),
                    &mut out,
                );
            }
            ChatEvent::Piece(piece) => self.say(&piece.text, &mut out),
            ChatEvent::CallBegins { id, name, .. } => {
                self.end_block(&mut out);
                let id = tool_use_id(&id);
                let block = tool_use(&id, &name, &json!({}));
                self.begin(Open::Call, block, &mut out);
            }
            ChatEvent::CallArguments { json, .. } => {
                let delta = json!({ "type": "input_json_delta", "partial_json": json });
                self.delta(delta, &mut out);
            }
            ChatEvent::Finished(finish) => {
                self.end_block(&mut out);
                let (stop_reason, stop_sequence) = stop(&finish, &self.head.stops);
                let mut delta = json!({
                    "delta": {
                        "stop_reason": stop_reason, "stop_sequence": stop_sequence,
                        "stop_details": null, "container": null,
                    },
                    "usage": usage(&finish.usage),
                });
                if let Some(notice) = notice(self.left_out) {
                    delta["notice"] = notice;
                }
                out.push(frame("message_delta", delta));
                out.push(frame("message_stop", json!({})));
                self.ended = true;
            }
        }
        out
    }

    fn start(&mut self, prompt_tokens: Option<usize>, out: &mut Vec<Frame>) {
        // What the cache held is known at the end, which counts again.
        let read = Usage {
            prompt_tokens: prompt_tokens.unwrap_or_default(),
            ..Usage::default()
        };
        let message = json!({
            "id": self.head.id,
            "type": "message",
            "role": "assistant",
            "model": self.head.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "stop_details": null,
            "container": null,
            "diagnostics": null,
            "usage": usage(&read),
        });
        out.push(frame("message_start", json!({ "message": message })));
        out.push(frame("ping", json!({})));
    }

    /// Words. White space alone opens no block: clients may not send such a block back.
    fn say(&mut self, text: &str, out: &mut Vec<Frame>) {
        let mut text = text.to_owned();
        if self.open != Some(Open::Text) {
            self.held.push_str(&text);
            if self.held.trim().is_empty() {
                return;
            }
            text = std::mem::take(&mut self.held);
            self.begin(
                Open::Text,
                json!({ "type": "text", "text": "", "citations": null }),
                out,
            );
            for citation in citations(&std::mem::take(&mut self.sources)) {
                let delta = json!({ "type": "citations_delta", "citation": citation });
                self.delta(delta, out);
            }
        }
        if !text.is_empty() {
            self.delta(json!({ "type": "text_delta", "text": text }), out);
        }
    }

    /// Begins a block, unless one of the kind is open.
    fn begin(&mut self, kind: Open, block: Value, out: &mut Vec<Frame>) {
        if self.open == Some(kind) {
            return;
        }
        self.end_block(out);
        let index = self.blocks;
        out.push(frame(
            "content_block_start",
            json!({ "index": index, "content_block": block }),
        ));
        self.blocks += 1;
        self.open = Some(kind);
    }

    fn delta(&self, delta: Value, out: &mut Vec<Frame>) {
        let index = self.blocks.saturating_sub(1);
        out.push(frame(
            "content_block_delta",
            json!({ "index": index, "delta": delta }),
        ));
    }

    fn end_block(&mut self, out: &mut Vec<Frame>) {
        self.held.clear();
        if self.open.take().is_some() {
            let index = self.blocks.saturating_sub(1);
            out.push(frame("content_block_stop", json!({ "index": index })));
        }
    }

    fn error(&mut self, error: &AppError) -> Vec<Frame> {
        self.ended = true;
        let data = Anthropic::error_body(&tell(error)).to_string();
        vec![Frame {
            event: Some("error"),
            ..Frame::data(data)
        }]
    }
}

/// An event; its name stands in its data again.
fn frame(name: &'static str, mut data: Value) -> Frame {
    data["type"] = name.into();
    Frame {
        event: Some(name),
        ..Frame::data(data.to_string())
    }
}

/// Streams the answer; an error after the first word is framed and is the last event.
pub(super) fn stream(head: Head, events: Events) -> Response {
    let frames = stream::unfold(
        (events, Writer::new(head)),
        |(mut events, mut writer)| async move {
            if writer.ended {
                return None;
            }
            let frames = match events.next().await {
                Some(Ok((_, event))) => writer.frames(event),
                Some(Err(error)) => writer.error(&error),
                None => writer.error(&AppError::Engine(EngineError::Stopped)),
            };
            Some((stream::iter(frames), (events, writer)))
        },
    );
    sse_with(frames.flatten(), PING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Finish, FinishReason, Piece, Timings};

    fn names(events: Vec<ChatEvent>) -> Vec<(&'static str, Value)> {
        let mut writer = Writer::new(Head {
            id: "msg_1".into(),
            model: "m".into(),
            stops: vec!["END".into()],
        });
        let frames = events.into_iter().flat_map(|event| writer.frames(event));
        frames
            .map(|frame| {
                (
                    frame.event.unwrap(),
                    serde_json::from_str(&frame.data).unwrap(),
                )
            })
            .collect()
    }

    fn said(text: &str) -> ChatEvent {
        ChatEvent::Piece(Piece {
            text: text.into(),
            ..Piece::default()
        })
    }

    #[test]
    fn blocks_open_and_close_in_order() {
        let events = names(vec![
            ChatEvent::Queued {
                prompt_tokens: Some(9),
            },
            ChatEvent::Reasoning("hm".into()),
            said("\n"),
            said("yes"),
            said(" "),
            ChatEvent::CallBegins {
                index: 0,
                id: "call_k0".into(),
                name: "look".into(),
            },
            ChatEvent::CallArguments {
                index: 0,
                json: "{}".into(),
            },
            said("\n"),
            ChatEvent::CallBegins {
                index: 1,
                id: "call_k1".into(),
                name: "look".into(),
            },
            ChatEvent::Finished(Finish {
                reason: FinishReason::ToolCalls,
                stop: None,
                joules: None,
                usage: Usage {
                    prompt_tokens: 9,
                    cached_tokens: 4,
                    completion_tokens: 3,
                    reasoning_tokens: 0,
                },
                timings: Timings::default(),
            }),
        ]);
        let order: Vec<_> = events.iter().map(|(name, _)| *name).collect();
        let block = [
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
        ];
        let mut expected = vec!["message_start", "ping"];
        expected.extend(block);
        expected.extend([block[0], block[1], block[1], block[2]]);
        expected.extend(block);
        expected.extend([block[0], block[2], "message_delta", "message_stop"]);
        assert_eq!(order, expected);
        for (name, data) in &events {
            assert_eq!(data["type"], **name);
        }
        assert_eq!(events[0].1["message"]["usage"]["input_tokens"], 9);
        assert_eq!(events[2].1["content_block"]["type"], "thinking");
        assert_eq!(events[6].1["delta"]["text"], "\nyes");
        assert_eq!(events[9].1["content_block"]["id"], "toolu_k0");
        assert_eq!(events[12].1["index"], 3);
        let last = &events[events.len() - 2].1;
        assert_eq!(last["delta"]["stop_reason"], "tool_use");
        assert_eq!(last["usage"]["input_tokens"], 5);
        assert_eq!(last["usage"]["cache_read_input_tokens"], 4);
        assert_eq!(last["usage"]["output_tokens"], 3);
    }

    #[test]
    fn an_error_is_framed_and_is_the_end() {
        let mut writer = Writer::new(Head {
            id: "msg_1".into(),
            model: "m".into(),
            stops: Vec::new(),
        });
        let frames = writer.error(&AppError::Engine(EngineError::Stopped));
        assert!(writer.ended);
        assert_eq!(frames[0].event, Some("error"));
        let data: Value = serde_json::from_str(&frames[0].data).unwrap();
        assert_eq!(data["error"]["type"], "api_error");
    }
}
