//! What a model wrote, read back into what it meant: thoughts, words and calls of tools.

use super::calls::{Calls, Part};
use super::thoughts::{Place, Thought, Thoughts};
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
    /// Tokens of the thinking so far, its marks included.
    reasoning: usize,
    /// Tokens that may turn out to be the first of a thinking.
    undecided: usize,
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
            reasoning: 0,
            undecided: 0,
            logprobs: Vec::new(),
        }
    }

    /// Turns one event of the engine into those that a client sees.
    pub(in crate::app) fn read(&mut self, event: ChatEvent) -> Vec<ChatEvent> {
        match event {
            ChatEvent::Piece(piece) => {
                self.tokens += piece.tokens;
                self.logprobs.extend(piece.logprobs);
                let before = self.thoughts.place();
                let thoughts = self.thoughts.push(&piece.text);
                self.count(before, piece.tokens);
                self.sort(thoughts)
            }
            ChatEvent::Finished(finish) => self.finish(finish),
            event => vec![event],
        }
    }

    /// Counts the tokens of a piece that began in a place: what began in the thinking belongs to it, and so does
    /// what turns out to have opened it.
    fn count(&mut self, before: Place, tokens: usize) {
        match (before, self.thoughts.place()) {
            (Place::Before, Place::Before) => self.undecided += tokens,
            (Place::Before, Place::Speaking) => self.undecided = 0,
            (Place::Before, Place::Thinking | Place::Over) => {
                self.reasoning += std::mem::take(&mut self.undecided) + tokens;
            }
            (Place::Thinking, _) => self.reasoning += tokens,
            (Place::Over | Place::Speaking, _) => {}
        }
    }

    fn finish(&mut self, finish: Finish) -> Vec<ChatEvent> {
        let thoughts = std::mem::replace(&mut self.thoughts, Thoughts::after(""));
        let mut usage = finish.usage;
        // An engine that tells thoughts apart itself has counted them itself.
        if usage.reasoning_tokens == 0 {
            usage.reasoning_tokens = match thoughts.place() {
                Place::Thinking => usage.completion_tokens, // it never spoke
                Place::Before | Place::Over | Place::Speaking => self.reasoning,
            };
        }
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
        events.push(ChatEvent::Finished(Finish {
            reason,
            usage,
            ..finish
        }));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Timings, Usage};

    /// Reasoning tokens of an answer in pieces of one token each.
    fn reasoning(prompt: &str, pieces: &[&str]) -> usize {
        let mut reader = Reader::new(prompt, None, "k".into());
        for text in pieces {
            reader.read(ChatEvent::Piece(Piece {
                text: (*text).to_owned(),
                tokens: 1,
                logprobs: Vec::new(),
            }));
        }
        let finish = Finish {
            reason: FinishReason::Stop,
            stop: None,
            usage: Usage {
                completion_tokens: pieces.len(),
                ..Usage::default()
            },
            timings: Timings::default(),
            joules: None,
        };
        match reader.read(ChatEvent::Finished(finish)).pop() {
            Some(ChatEvent::Finished(finish)) => finish.usage.reasoning_tokens,
            other => panic!("{other:?} is no end"),
        }
    }

    #[test]
    fn tokens_of_the_thinking_are_counted_apart() {
        for (prompt, pieces, expected) in [
            ("", &["plain", " words"][..], 0),
            ("", &["<think>", "a", " b", "</think>", "\n\n", "yes"], 4),
            ("", &["\n", "<th", "ink>", "a", "</think>", "yes"], 5),
            ("", &["\n", "<th", "in", " ice"], 0),
            ("<think>\n", &["a", "b", "</think>", "yes"], 3),
            ("<think>\n", &["a", "b", "c"], 3),
        ] {
            assert_eq!(reasoning(prompt, pieces), expected, "{pieces:?}");
        }
    }
}
