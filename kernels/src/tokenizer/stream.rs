//! Text that arrives token by token: whole characters only, and nothing that may yet become a
//! stop string.

use super::Tokenizer;

/// Collects the bytes of tokens and gives them out as whole characters.
#[derive(Debug, Default, Clone)]
pub struct StreamDecoder {
    /// The start of a character whose rest is still to come: at most three bytes.
    pending: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the start of a text.
    pub fn new() -> StreamDecoder {
        StreamDecoder::default()
    }

    /// Adds a token; control tokens have no text. Bytes that can become no character come out as
    /// the replacement character.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        if tokenizer.is_special(id) {
            return String::new();
        }
        self.push_bytes(tokenizer.token_bytes(id))
    }

    /// Adds bytes that do not come from a token.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (whole, broken) = rest.split_at(error.valid_up_to());
                    // The prefix is valid by the error's own word, so nothing is replaced here.
                    text.push_str(&String::from_utf8_lossy(whole));
                    rest = broken;
                    match error.error_len() {
                        Some(length) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &rest[length..];
                        }
                        None => break,
                    }
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }

    /// Ends the text: an unfinished character comes out as the replacement character.
    pub fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.pending);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// Holds text back while it could be the start of a stop string or marker.
#[derive(Debug, Clone)]
pub struct Hold {
    stops: Vec<String>,
    held: String,
}

/// What came out of a [`Hold`].
#[derive(Debug, PartialEq, Eq)]
pub struct Released {
    /// Text that can be shown.
    pub text: String,
    /// Index of the stop string that was found; nothing comes out after it.
    pub stop: Option<usize>,
}

impl Hold {
    /// Watches for any of these strings; empty ones are ignored.
    pub fn new(stops: Vec<String>) -> Hold {
        Hold {
            stops,
            held: String::new(),
        }
    }

    /// Adds text and releases what no stop string can begin with. The stop string that starts
    /// first wins; the text from there on is dropped and stays available as [`Hold::held`].
    pub fn push(&mut self, text: &str) -> Released {
        self.held.push_str(text);
        let found = self
            .stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| !stop.is_empty())
            .filter_map(|(index, stop)| self.held.find(stop.as_str()).map(|at| (at, index)))
            .min();
        if let Some((at, index)) = found {
            let rest = self.held.split_off(at);
            let text = std::mem::replace(&mut self.held, rest);
            return Released {
                text,
                stop: Some(index),
            };
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Released {
            text: std::mem::replace(&mut self.held, rest),
            stop: None,
        }
    }

    /// What is held back now.
    pub fn held(&self) -> &str {
        &self.held
    }

    /// Ends the text: releases what was held back, as it did not become a stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes of the longest end of `text` with which `stop` starts, short of the whole stop.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices()
        .map(|(at, _)| at)
        .rev()
        .find(|&length| {
            length <= text.len() && text.as_bytes().ends_with(&stop.as_bytes()[..length])
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole() {
        let mut decoder = StreamDecoder::new();
        let euro = "€".as_bytes();
        assert_eq!(decoder.push_bytes(&euro[..1]), "");
        assert_eq!(decoder.push_bytes(&euro[1..2]), "");
        assert_eq!(decoder.push_bytes(&[euro[2], b'a', 0xf0]), "€a");
        assert_eq!(decoder.push_bytes(b"b"), "\u{fffd}b");
        assert_eq!(decoder.push_bytes(&[0xff, b'c', 0xe2, 0x82]), "\u{fffd}c");
        assert_eq!(decoder.finish(), "\u{fffd}");
        assert_eq!(decoder.finish(), "");
    }

    fn hold(stops: &[&str]) -> Hold {
        Hold::new(stops.iter().map(|&stop| stop.to_owned()).collect())
    }

    fn released(text: &str, stop: Option<usize>) -> Released {
        Released {
            text: text.to_owned(),
            stop,
        }
    }

    #[test]
    fn possible_starts_are_held() {
        let mut hold = hold(&["<|im_end|>", "\nUser:"]);
        assert_eq!(hold.push("a < b<|im"), released("a < b", None));
        assert_eq!(hold.push("portant|>\nUs"), released("<|important|>", None));
        assert_eq!(hold.held(), "\nUs");
        assert_eq!(hold.push("er: x"), released("", Some(1)));
        assert_eq!(hold.held(), "\nUser: x");
    }

    #[test]
    fn the_first_stop_wins_and_overlaps_are_seen() {
        let mut both = hold(&["bc", "ab"]);
        assert_eq!(both.push("xabc"), released("x", Some(1)));
        let mut twin = hold(&["aab"]);
        assert_eq!(twin.push("aaa"), released("a", None));
        assert_eq!(twin.push("b"), released("", Some(0)));
    }

    #[test]
    fn nothing_is_lost_at_the_end() {
        let mut hold = hold(&["", "stop"]);
        assert_eq!(hold.push("é sto"), released("é ", None));
        assert_eq!(hold.finish(), "sto");
    }
}
