//! What a model thinks before it speaks, told apart from what it says.
//!
//! Models that think write `<think> … </think>` at the start of an answer; some templates write the opening marker
//! themselves, so that the answer begins inside.

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Thought {
    /// Thinking.
    Reasoning(String),
    /// Speaking.
    Said(String),
}

/// Reads one answer. Feed it pieces of any length.
pub(super) struct Thoughts {
    place: Place,
    held: String,
    /// The thinking has begun with a word: white space before it belongs to nobody.
    thought: bool,
}

/// Where in an answer the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing but white space, or what may be the start of the opening marker.
    Before,
    /// In the thinking.
    Thinking,
    /// Behind it, before the first word.
    Over,
    /// Among the words.
    Speaking,
}

impl Thoughts {
    /// A reader of the answer to `prompt`, which may already have opened the thinking.
    pub(super) fn after(prompt: &str) -> Thoughts {
        let inside = prompt.trim_end().ends_with(OPEN);
        Thoughts {
            place: if inside {
                Place::Thinking
            } else {
                Place::Before
            },
            held: String::new(),
            thought: false,
        }
    }

    /// Where the reader stands.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &str) -> Vec<Thought> {
        self.held.push_str(piece);
        let mut out = Vec::new();
        loop {
            match self.place {
                Place::Before => {
                    let front = self.held.trim_start();
                    if let Some(rest) = front.strip_prefix(OPEN) {
                        self.held = rest.to_owned();
                        self.place = Place::Thinking;
                    } else if OPEN.starts_with(front) {
                        return out; // also where nothing is left
                    } else {
                        self.place = Place::Speaking;
                    }
                }
                Place::Thinking => {
                    if !self.thought {
                        self.held = self.held.trim_start().to_owned();
                        self.thought = !self.held.is_empty();
                    }
                    if let Some(at) = self.held.find(CLOSE) {
                        let thought = self.held[..at].trim_end().to_owned();
                        self.held.drain(..at + CLOSE.len());
                        give(&mut out, Thought::Reasoning(thought));
                        self.place = Place::Over;
                        continue;
                    }
                    // White space and a beginning of the closing marker wait for what follows.
                    let solid = self.held.trim_end().len();
                    let tail = (1..CLOSE.len().min(self.held.len() + 1))
                        .rev()
                        .find(|length| self.held.ends_with(&CLOSE[..*length]))
                        .unwrap_or(0);
                    let keep = self.held[..self.held.len() - tail]
                        .trim_end()
                        .len()
                        .min(solid);
                    give(
                        &mut out,
                        Thought::Reasoning(self.held.drain(..keep).collect()),
                    );
                    return out;
                }
                Place::Over => {
                    let front = self.held.trim_start();
                    if front.is_empty() {
                        self.held.clear();
                        return out;
                    }
                    self.held = front.to_owned();
                    self.place = Place::Speaking;
                }
                Place::Speaking => {
                    give(&mut out, Thought::Said(std::mem::take(&mut self.held)));
                    return out;
                }
            }
        }
    }

    /// Ends the answer: what waited goes where it belongs.
    pub(super) fn finish(self) -> Option<Thought> {
        let rest = self.held;
        let thought = match self.place {
            Place::Thinking => Thought::Reasoning(rest),
            Place::Before | Place::Over | Place::Speaking => Thought::Said(rest),
        };
        let mut out = Vec::new();
        give(&mut out, thought);
        out.pop()
    }
}

fn give(out: &mut Vec<Thought>, thought: Thought) {
    let (Thought::Reasoning(text) | Thought::Said(text)) = &thought;
    if !text.is_empty() {
        out.push(thought);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(prompt: &str, answer: &str, size: usize) -> (String, String) {
        let mut thoughts = Thoughts::after(prompt);
        let (mut reasoning, mut said) = (String::new(), String::new());
        let chars: Vec<char> = answer.chars().collect();
        let mut parts = Vec::new();
        for piece in chars.chunks(size) {
            parts.extend(thoughts.push(&piece.iter().collect::<String>()));
        }
        parts.extend(thoughts.finish());
        for part in parts {
            match part {
                Thought::Reasoning(text) => reasoning.push_str(&text),
                Thought::Said(text) => said.push_str(&text),
            }
        }
        (reasoning, said)
    }

    #[test]
    fn thinking_is_told_from_speaking_wherever_the_pieces_are_cut() {
        for (prompt, answer, reasoning, said) in [
            ("", "plain", "", "plain"),
            ("", "<think>\nhm \n</think>\n\nyes", "hm", "yes"),
            (
                "…<think>\n",
                "hm</think> yes </think>",
                "hm",
                "yes </think>",
            ),
            ("", "\n<think>cut off </thi", "cut off </thi", ""),
            ("", "say <think> aloud", "", "say <think> aloud"),
            ("", "<thinner", "", "<thinner"),
        ] {
            for size in [1, 2, 5, 100] {
                let expected = (reasoning.to_owned(), said.to_owned());
                assert_eq!(
                    read(prompt, answer, size),
                    expected,
                    "{answer:?} in pieces of {size}"
                );
            }
        }
    }
}
