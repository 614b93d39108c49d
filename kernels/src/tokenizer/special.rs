//! Finds special tokens in text: leftmost first, the longest of those that start there.

use aho_corasick::{AhoCorasick, MatchKind};

use super::TokenizerError;
use super::vocabulary::{Kind, Vocabulary};

/// A stretch of ordinary text, or a token that stood in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fragment<'a> {
    Text(&'a str),
    Token(u32),
}

/// The special tokens of a vocabulary.
#[derive(Debug)]
pub(super) struct Specials {
    /// Those that are cut out of any text.
    user_defined: Finder,
    /// Those and the control tokens, for text that may contain markers.
    all: Finder,
    /// Tokens that swallow the whitespace behind them.
    strips_right: Vec<u32>,
}

#[derive(Debug)]
struct Finder {
    ids: Vec<u32>,
    automaton: AhoCorasick,
}

impl Specials {
    /// Collects the special tokens. `name` is the model's name: Phi-3's markers swallow the
    /// whitespace behind them, which its file says nowhere else.
    pub(super) fn new(vocabulary: &Vocabulary, name: &str) -> Result<Specials, TokenizerError> {
        let of = |wanted: &[Kind]| -> Result<Finder, TokenizerError> {
            let ids: Vec<u32> = (0..vocabulary.len() as u32)
                .filter(|&id| wanted.contains(&vocabulary.kind(id)))
                .filter(|&id| vocabulary.text(id).is_some_and(|text| !text.is_empty()))
                .collect();
            let texts = ids.iter().filter_map(|&id| vocabulary.text(id));
            let automaton = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(texts)
                .map_err(|_| TokenizerError::TooLarge)?;
            Ok(Finder { ids, automaton })
        };
        let all = of(&[Kind::UserDefined, Kind::Control, Kind::Unknown])?;
        let name = name.to_lowercase();
        let strips_right = if name.contains("phi-3") || name.contains("phi3") {
            let keeps = |id: &u32| {
                vocabulary
                    .text(*id)
                    .is_some_and(|text| matches!(text, "<unk>" | "<s>" | "<|endoftext|>"))
            };
            all.ids.iter().copied().filter(|id| !keeps(id)).collect()
        } else {
            Vec::new()
        };
        Ok(Specials {
            user_defined: of(&[Kind::UserDefined])?,
            all,
            strips_right,
        })
    }

    /// Cuts `text` at its special tokens; control tokens are only seen when `markers` is set.
    pub(super) fn cut<'a>(&self, text: &'a str, markers: bool, mut each: impl FnMut(Fragment<'a>)) {
        let finder = if markers {
            &self.all
        } else {
            &self.user_defined
        };
        let mut at = 0;
        for found in finder.automaton.find_iter(text) {
            // Whitespace swallowed by the token before may reach into this match's place.
            if found.start() < at {
                continue;
            }
            if at < found.start() {
                each(Fragment::Text(&text[at..found.start()]));
            }
            let id = finder.ids[found.pattern().as_usize()];
            each(Fragment::Token(id));
            at = found.end();
            if self.strips_right.contains(&id) {
                at = text.len() - text[at..].trim_ascii_start().len();
            }
        }
        if at < text.len() {
            each(Fragment::Text(&text[at..]));
        }
    }
}
