//! WordPiece (BERT): words by whitespace and punctuation, then the longest tokens from the left.

use unicode_normalization::UnicodeNormalization;

use super::class::{CONTROL, MARK, PUNCTUATION, SPACE, SYMBOL, is};
use super::vocabulary::Vocabulary;

/// What happens to text before it is cut.
#[derive(Debug)]
pub(super) struct WordPiece {
    pub(super) lowercase: bool,
    pub(super) strip_accents: bool,
}

impl WordPiece {
    /// Appends the tokens of ordinary text. A word that the vocabulary cannot spell is one
    /// unknown token.
    pub(super) fn encode(&self, vocabulary: &Vocabulary, text: &str, out: &mut Vec<u32>) {
        let mut word = String::new();
        if self.strip_accents {
            self.words(text.nfd(), &mut word, &mut |word| {
                pieces(vocabulary, word, out)
            });
        } else {
            self.words(text.chars(), &mut word, &mut |word| {
                pieces(vocabulary, word, out)
            });
        }
    }

    fn words(
        &self,
        text: impl Iterator<Item = char>,
        word: &mut String,
        end: &mut impl FnMut(&str),
    ) {
        for c in text {
            if is(c, SPACE) {
                close(word, end);
            } else if c == '\0'
                || c == '\u{fffd}'
                || is(c, CONTROL)
                || (self.strip_accents && is(c, MARK))
            {
                // Dropped, as BERT's own normalizer drops it.
            } else if is(c, PUNCTUATION) || (c.is_ascii() && is(c, SYMBOL)) || is_han(c) {
                close(word, end);
                word.push(c);
                close(word, end);
            } else if self.lowercase {
                word.extend(c.to_lowercase());
            } else {
                word.push(c);
            }
        }
        close(word, end);
    }
}

fn close(word: &mut String, end: &mut impl FnMut(&str)) {
    if !word.is_empty() {
        end(word);
        word.clear();
    }
}

/// The ideographs that BERT sets apart, one a word.
fn is_han(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{20000}'..='\u{2a6df}'
        | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}'
        | '\u{2b920}'..='\u{2ceaf}'
        | '\u{f900}'..='\u{faff}'
        | '\u{2f800}'..='\u{2fa1f}')
}

/// GGUF marks a word's first piece with `▁` and leaves the others bare.
fn pieces(vocabulary: &Vocabulary, word: &str, out: &mut Vec<u32>) {
    let marked = format!("▁{word}");
    let start = out.len();
    let mut at = 0;
    while at < marked.len() {
        let mut end = marked.len().min(at + vocabulary.longest);
        while !marked.is_char_boundary(end) {
            end -= 1;
        }
        let found = loop {
            if end <= at {
                break None;
            }
            if let Some(id) = vocabulary.id(&marked[at..end]) {
                break Some(id);
            }
            end = (at..end)
                .rev()
                .find(|&end| marked.is_char_boundary(end))
                .unwrap_or(at);
        };
        match found {
            Some(id) => {
                out.push(id);
                at = end;
            }
            None => {
                out.truncate(start);
                out.extend(vocabulary.unknown);
                return;
            }
        }
    }
}
