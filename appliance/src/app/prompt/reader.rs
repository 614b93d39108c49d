//! What a model wrote, read back into what it meant: thoughts, words and calls of tools.

use super::calls::{Calls, Part};
use super::thoughts::{Thought, Thoughts};
use crate::domain::{ChatEvent, Finish, FinishReason, Piece, TokenLogprob};

/// Reads the events of one answer.
pub(in crate::app) struct Reader {
    thoughts: Thoughts,
    /// `None` when the request offered no tools.
    calls: Option<Calls>,
    /// Makes the calls' identifiers differ between answers.
    key: String,
    /// Tokens of thoughts, calls and text held back, which the next piece of text counts.
    tokens: usize,
    /// Log probabilities whose text is still held back.
    logprobs: Vec<TokenLogprob>,
}

impl Reader {
    /// A reader of the answer to `prompt`; identifiers of calls begin with `call_` and `key`.
    pub(super) fn new(prompt: &str, calls: Option<Calls>, key: String) -> Reader {
        Reader {
            thoughts: Thoughts::after(prompt),
            calls,
            key,
            tokens: 0,
            logprobs: Vec::new(),
        }
    }

    /// Turns one event of the engine into those that a client sees.
    pub(in crate::app) fn read(&mut self, event: ChatEvent) -> Vec<ChatEvent> {
        match event {
            ChatEvent::Piece(piece) => {
                self.tokens += piece.tokens;
                self.logprobs.extend(piece.logprobs);
                let thoughts = self.thoughts.push(&piece.text);
                self.sort(thoughts)
            }
            ChatEvent::Finished(finish) => self.finish(finish),
            event => vec![event],
        }
    }

    fn finish(&mut self, finish: Finish) -> Vec<ChatEvent> {
        let thoughts = std::mem::replace(&mut self.thoughts, Thoughts::after(""));
        let mut events = self.sort(thoughts.finish().into_iter().collect());
        let mut reason = finish.reason;
        if let Some(calls) = self.calls.take() {
            if calls.any() && reason == FinishReason::Stop {
                reason = FinishReason::ToolCalls;
            }
            let parts = calls.finish();
            self.write(parts, &mut events);
        }
        if !self.logprobs.is_empty() {
            events.push(self.piece(String::new()));
        }
        events.push(ChatEvent::Finished(Finish { reason, ..finish }));
        events
    }

    fn sort(&mut self, thoughts: Vec<Thought>) -> Vec<ChatEvent> {
        let mut events = Vec::with_capacity(thoughts.len());
        for thought in thoughts {
            match (thought, &mut self.calls) {
                (Thought::Reasoning(text), _) => events.push(ChatEvent::Reasoning(text)),
                (Thought::Said(text), None) => events.push(self.piece(text)),
                (Thought::Said(text), Some(calls)) => {
                    let parts = calls.push(&text);
                    self.write(parts, &mut events);
                }
            }
        }
        events
    }

    fn write(&mut self, parts: Vec<Part>, events: &mut Vec<ChatEvent>) {
        for part in parts {
            match part {
                Part::Text(text) => events.push(self.piece(text)),
                Part::Begin { index, name } => {
                    let id = format!("call_{}{index}", self.key);
                    events.push(ChatEvent::CallBegins { index, id, name });
                }
                Part::Arguments { index, json } => {
                    events.push(ChatEvent::CallArguments { index, json })
                }
                Part::End { .. } => {}
            }
        }
    }

    fn piece(&mut self, text: String) -> ChatEvent {
        ChatEvent::Piece(Piece {
            text,
            tokens: std::mem::take(&mut self.tokens),
            logprobs: std::mem::take(&mut self.logprobs),
        })
    }
}
