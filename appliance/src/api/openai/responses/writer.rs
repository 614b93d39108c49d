//! An answer as a response: its items grow event by event, and each step has its own event for streams.

use serde_json::{Value, json};

use super::super::super::answers::place;
use super::super::super::cited::file_citation;
use super::super::super::failure::{Dialect, tell};
use super::super::super::frames::Frame;
use super::super::super::outgrown::notice;
use super::super::OpenAi;
use crate::app::AppError;
use crate::domain::{ChatEvent, Citation, Finish, FinishReason};

/// The kind of the item that is being written.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Reasoning,
    Message,
    Call,
}

impl Open {
    /// The type of the item's only part.
    fn part(self) -> Option<&'static str> {
        match self {
            Open::Reasoning => Some("reasoning_text"),
            Open::Message => Some("output_text"),
            Open::Call => None,
        }
    }
}

/// Writes one response.
pub(super) struct Writer {
    /// The response as it stands, its finished items in `output`.
    response: Value,
    /// Random part of the items' identifiers.
    key: String,
    sequence: u64,
    open: Option<(Open, Value)>,
    /// Text or arguments of the open item.
    text: String,
    /// Passages that the first message is made from.
    sources: Vec<Citation>,
    started: bool,
    ended: bool,
}

impl Writer {
    /// A writer of `response`, whose `output` is empty and whose status is `in_progress`.
    pub(super) fn new(response: Value, key: String) -> Writer {
        Writer {
            response,
            key,
            sequence: 0,
            open: None,
            text: String::new(),
            sources: Vec::new(),
            started: false,
            ended: false,
        }
    }

    /// Whether the last event has been written.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// The response as it stands.
    pub(super) fn response(&self) -> &Value {
        &self.response
    }

    /// Takes one event of the answer; returns those of the stream.
    pub(super) fn take(&mut self, event: ChatEvent) -> Vec<Frame> {
        let mut out = Vec::new();
        match event {
            ChatEvent::Queued { .. } => self.start(&mut out),
            ChatEvent::Waits { ahead } => out.push(place(ahead)),
            ChatEvent::LeftOut { messages } => self.response["notice"] = json!(notice(messages)),
            ChatEvent::Sources(sources) => self.sources = sources,
            ChatEvent::Reasoning(text) => {
                self.begin(Open::Reasoning, &mut out);
                self.more(&text, &mut out);
            }
            ChatEvent::Piece(piece) if !piece.text.is_empty() => {
                self.begin(Open::Message, &mut out);
                self.more(&piece.text, &mut out);
            }
            ChatEvent::Piece(_) => {}
            ChatEvent::CallBegins { id, name, .. } => {
                self.end_item("completed", &mut out);
                self.begin(Open::Call, &mut out);
                if let Some((_, item)) = &mut self.open {
                    item["call_id"] = id.into();
                    item["name"] = name.into();
                }
                self.added(&mut out);
            }
            ChatEvent::CallArguments { json, .. } => self.more(&json, &mut out),
            ChatEvent::Finished(finish) => self.finish(&finish, &mut out),
        }
        out
    }

    /// Ends the response with an error.
    pub(super) fn fail(&mut self, error: &AppError) -> Vec<Frame> {
        let mut out = Vec::new();
        self.start(&mut out);
        self.end_item("incomplete", &mut out);
        let told = OpenAi::error_body(&tell(error));
        self.response["status"] = "failed".into();
        self.response["error"] =
            json!({ "code": "server_error", "message": told["error"]["message"] });
        self.whole("response.failed", &mut out);
        self.ended = true;
        out
    }

    fn start(&mut self, out: &mut Vec<Frame>) {
        if !self.started {
            self.started = true;
            self.whole("response.created", out);
            self.whole("response.in_progress", out);
        }
    }

    /// Begins an item, unless one of the kind is open.
    fn begin(&mut self, kind: Open, out: &mut Vec<Frame>) {
        if self.open.as_ref().is_some_and(|(open, _)| *open == kind) {
            return;
        }
        self.end_item("completed", out);
        let id = |prefix: &str, at: usize| format!("{prefix}_{}{at}", self.key);
        let at = self.at();
        let item = match kind {
            Open::Reasoning => {
                json!({ "type": "reasoning", "id": id("rs", at), "summary": [], "content": [] })
            }
            Open::Message => json!({
                "type": "message", "id": id("msg", at), "role": "assistant", "content": [],
            }),
            Open::Call => json!({
                "type": "function_call", "id": id("fc", at), "call_id": "", "name": "", "arguments": "",
            }),
        };
        self.open = Some((kind, item));
        if kind != Open::Call {
            self.added(out);
        }
    }

    /// Tells of the open item, and of its part where it has one.
    fn added(&mut self, out: &mut Vec<Frame>) {
        let Some((kind, item)) = &mut self.open else {
            return;
        };
        item["status"] = "in_progress".into();
        let (kind, item) = (*kind, item.clone());
        let added = json!({ "output_index": self.at(), "item": item });
        self.write("response.output_item.added", added, out);
        if let Some(part) = kind.part() {
            let data = self.inside(json!({ "part": part_view(part, "", &[]) }));
            self.write("response.content_part.added", data, out);
        }
    }

    /// More text or arguments of the open item.
    fn more(&mut self, text: &str, out: &mut Vec<Frame>) {
        let Some((kind, _)) = &self.open else {
            return;
        };
        self.text.push_str(text);
        let name = match kind {
            Open::Reasoning => "response.reasoning_text.delta",
            Open::Message => "response.output_text.delta",
            Open::Call => "response.function_call_arguments.delta",
        };
        let data = self.inside(json!({ "delta": text }));
        self.write(name, data, out);
    }

    fn end_item(&mut self, status: &str, out: &mut Vec<Frame>) {
        let Some((kind, _)) = &self.open else {
            return;
        };
        let kind = *kind;
        let text = std::mem::take(&mut self.text);
        let annotations: Vec<Value> = match kind {
            Open::Message => std::mem::take(&mut self.sources),
            Open::Reasoning | Open::Call => Vec::new(),
        }
        .iter()
        .map(|source| file_citation(source, &text))
        .collect();
        match kind.part() {
            Some(part) => {
                for (at, annotation) in annotations.iter().enumerate() {
                    let data = json!({ "annotation_index": at, "annotation": annotation });
                    let data = self.inside(data);
                    self.write("response.output_text.annotation.added", data, out);
                }
                let name = match kind {
                    Open::Reasoning => "response.reasoning_text.done",
                    Open::Message | Open::Call => "response.output_text.done",
                };
                let data = self.inside(json!({ "text": text }));
                self.write(name, data, out);
                let part = part_view(part, &text, &annotations);
                let data = self.inside(json!({ "part": part }));
                self.write("response.content_part.done", data, out);
            }
            None => {
                let data = self.inside(json!({ "arguments": text }));
                self.write("response.function_call_arguments.done", data, out);
            }
        }
        let at = self.at();
        let Some((_, mut item)) = self.open.take() else {
            return;
        };
        item["status"] = status.into();
        match kind.part() {
            Some(part) => item["content"] = json!([part_view(part, &text, &annotations)]),
            None => item["arguments"] = text.into(),
        }
        let done = json!({ "output_index": at, "item": item });
        self.write("response.output_item.done", done, out);
        if let Some(output) = self.response["output"].as_array_mut() {
            output.push(item);
        }
    }

    fn finish(&mut self, finish: &Finish, out: &mut Vec<Frame>) {
        let cut = finish.reason == FinishReason::Length;
        let status = if cut { "incomplete" } else { "completed" };
        self.end_item(status, out);
        let usage = &finish.usage;
        self.response["status"] = status.into();
        self.response["usage"] = json!({
            "input_tokens": usage.prompt_tokens,
            // Nobody asks for a cache to be written: it writes itself.
            "input_tokens_details": { "cached_tokens": usage.cached_tokens, "cache_write_tokens": 0 },
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": { "reasoning_tokens": usage.reasoning_tokens },
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        });
        if cut {
            self.response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
            self.whole("response.incomplete", out);
        } else {
            self.whole("response.completed", out);
        }
        self.ended = true;
    }

    /// Where the open item will stand in the output.
    fn at(&self) -> usize {
        self.response["output"].as_array().map_or(0, Vec::len)
    }

    /// Data of an event inside the open item.
    fn inside(&self, mut data: Value) -> Value {
        if let Some((kind, item)) = &self.open {
            data["item_id"] = item["id"].clone();
            data["output_index"] = self.at().into();
            match kind {
                Open::Call => data["name"] = item["name"].clone(),
                Open::Reasoning | Open::Message => data["content_index"] = 0.into(),
            }
            if *kind == Open::Message && data["part"].is_null() {
                data["logprobs"] = json!([]);
            }
        }
        data
    }

    /// An event with the response as it stands.
    fn whole(&mut self, name: &'static str, out: &mut Vec<Frame>) {
        let data = json!({ "response": self.response });
        self.write(name, data, out);
    }

    fn write(&mut self, name: &'static str, mut data: Value, out: &mut Vec<Frame>) {
        data["type"] = name.into();
        data["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        out.push(Frame {
            event: Some(name),
            ..Frame::data(data.to_string())
        });
    }
}

fn part_view(kind: &str, text: &str, annotations: &[Value]) -> Value {
    match kind {
        "output_text" => {
            json!({ "type": kind, "text": text, "annotations": annotations, "logprobs": [] })
        }
        _ => json!({ "type": kind, "text": text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Piece, Timings, Usage};

    fn said(text: &str) -> ChatEvent {
        ChatEvent::Piece(Piece {
            text: text.into(),
            ..Piece::default()
        })
    }

    fn end(reason: FinishReason) -> ChatEvent {
        ChatEvent::Finished(Finish {
            reason,
            stop: None,
            joules: None,
            usage: Usage::default(),
            timings: Timings::default(),
        })
    }

    #[test]
    fn every_event_comes_in_its_place() {
        let mut writer = Writer::new(json!({ "output": [] }), "k".into());
        let events = [
            ChatEvent::Queued {
                prompt_tokens: Some(3),
            },
            ChatEvent::Reasoning("hm".into()),
            said("a"),
            said("b"),
            ChatEvent::CallBegins {
                index: 0,
                id: "call_1".into(),
                name: "f".into(),
            },
            ChatEvent::CallArguments {
                index: 0,
                json: "{}".into(),
            },
            end(FinishReason::ToolCalls),
        ];
        let frames: Vec<Frame> = events.into_iter().flat_map(|e| writer.take(e)).collect();
        let names: Vec<_> = frames
            .iter()
            .map(|frame| frame.event.unwrap().trim_start_matches("response."))
            .collect();
        assert_eq!(
            names,
            [
                "created",
                "in_progress",
                "output_item.added",
                "content_part.added",
                "reasoning_text.delta",
                "reasoning_text.done",
                "content_part.done",
                "output_item.done",
                "output_item.added",
                "content_part.added",
                "output_text.delta",
                "output_text.delta",
                "output_text.done",
                "content_part.done",
                "output_item.done",
                "output_item.added",
                "function_call_arguments.delta",
                "function_call_arguments.done",
                "output_item.done",
                "completed",
            ]
        );
        for (number, frame) in frames.iter().enumerate() {
            let data: Value = serde_json::from_str(&frame.data).unwrap();
            assert_eq!(data["sequence_number"], number);
            assert_eq!(data["type"], frame.event.unwrap());
        }
        let output = writer.response()["output"].as_array().unwrap();
        assert_eq!(output[1]["content"][0]["text"], "ab");
        assert_eq!(output[2]["arguments"], "{}");
        assert_eq!(output[2]["call_id"], "call_1");
        assert!(writer.ended());
    }

    #[test]
    fn a_cut_answer_and_a_failed_one_say_so() {
        let mut writer = Writer::new(json!({ "output": [] }), "k".into());
        writer.take(said("a"));
        writer.take(end(FinishReason::Length));
        assert_eq!(writer.response()["status"], "incomplete");
        assert_eq!(writer.response()["output"][0]["status"], "incomplete");

        let mut writer = Writer::new(json!({ "output": [] }), "k".into());
        let frames = writer.fail(&AppError::Engine(crate::app::EngineError::Stopped));
        assert_eq!(frames.last().unwrap().event, Some("response.failed"));
        assert_eq!(writer.response()["status"], "failed");
    }
}
