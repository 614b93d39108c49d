//! Byte-pair encoding: the pair of the lowest rank is joined first, leftmost among equals.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::TokenizerError;
use super::bytes::alphabet;
use super::pretokenizer::PreTokenizer;
use super::seams::Seams;
use super::split::split;
use super::vocabulary::Vocabulary;

/// The merge table and the way to words.
#[derive(Debug)]
pub(super) struct Bpe {
    pre: PreTokenizer,
    alphabet: Box<[char; 256]>,
    /// Symbols of the single bytes; see `interned`.
    byte_symbols: Box<[u32; 256]>,
    /// (left, right) to (rank, joined). Numbers below the vocabulary's length are tokens; those
    /// above are texts that only occur on the way to a token.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// Texts of the symbols that are not tokens.
    interned: Vec<Box<str>>,
    /// For raw text, whose words are whole lines.
    seams: Seams,
}

/// One place in a word being merged.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    /// Neighbours; `NONE` at the ends.
    left: u32,
    right: u32,
}

/// A possible merge, ordered by its fields as they stand. It is out of date when the symbols at
/// `place` and behind it are no longer `left` and `right`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Join {
    rank: u32,
    place: u32,
    left: u32,
    right: u32,
    joined: u32,
}

const NONE: u32 = u32::MAX;
/// A symbol that was joined to its left neighbour.
const GONE: u32 = u32::MAX;

/// Space for one word's merges, kept between words.
#[derive(Default)]
struct Work {
    symbols: Vec<Symbol>,
    /// Lowest rank first.
    queue: BinaryHeap<Reverse<Join>>,
    mapped: String,
}

/// Numbers texts: tokens by id, other texts from the vocabulary's length on.
struct Interner<'a> {
    vocabulary: &'a Vocabulary,
    others: HashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl Interner<'_> {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(id) = self.vocabulary.id(text) {
            return id;
        }
        if let Some(&number) = self.others.get(text) {
            return number;
        }
        let number = (self.vocabulary.len() + self.texts.len()) as u32;
        self.others.insert(text.into(), number);
        self.texts.push(text.into());
        number
    }
}

impl Bpe {
    pub(super) fn new(
        vocabulary: &Vocabulary,
        merges: &[String],
        pre: PreTokenizer,
    ) -> Result<Bpe, TokenizerError> {
        let alphabet = Box::new(alphabet());
        let mut interner = Interner {
            vocabulary,
            others: HashMap::new(),
            texts: Vec::new(),
        };
        let byte_symbols = Box::new(alphabet.map(|c| interner.number(c.encode_utf8(&mut [0; 4]))));
        let mut table = HashMap::with_capacity(merges.len());
        for (rank, merge) in merges.iter().enumerate() {
            // The left part may itself start with a space.
            let cut = merge
                .char_indices()
                .skip(1)
                .find(|&(_, c)| c == ' ')
                .map(|(at, _)| at);
            let Some(cut) = cut else {
                return Err(TokenizerError::Merge {
                    rank,
                    merge: merge.clone(),
                });
            };
            let (left, right) = (&merge[..cut], &merge[cut + 1..]);
            let pair = (interner.number(left), interner.number(right));
            let joined = interner.number(&format!("{left}{right}"));
            table.entry(pair).or_insert((rank as u32, joined));
        }
        let interned = interner.texts.iter().map(|text| &**text);
        let seams = Seams::new(vocabulary.texts().chain(interned));
        Ok(Bpe {
            seams,
            pre,
            alphabet,
            byte_symbols,
            merges: table,
            interned: interner.texts,
        })
    }

    /// Appends the tokens of ordinary text.
    pub(super) fn encode(&self, vocabulary: &Vocabulary, text: &str, out: &mut Vec<u32>) {
        let mut work = Work::default();
        if self.pre.raw {
            let escaped = text.replace(' ', "▁");
            split(self.pre.stages, &escaped, &mut |word| {
                self.raw_word(vocabulary, word, &mut work, out)
            });
        } else {
            split(self.pre.stages, text, &mut |word| {
                self.word(vocabulary, word, &mut work, out)
            });
        }
    }

    fn word(&self, vocabulary: &Vocabulary, word: &str, work: &mut Work, out: &mut Vec<u32>) {
        if self.pre.whole_words {
            work.mapped.clear();
            work.mapped
                .extend(word.bytes().map(|byte| self.alphabet[byte as usize]));
            if let Some(id) = vocabulary.id(&work.mapped) {
                out.push(id);
                return;
            }
        }
        work.start(word.bytes().map(|byte| self.byte_symbols[byte as usize]));
        self.merge(work);
        for id in work.ids() {
            if (id as usize) < vocabulary.len() {
                out.push(id);
            } else if let Some(text) = self.interned.get(id as usize - vocabulary.len()) {
                // A text on the way to a token that never came: its bytes one by one.
                let mut single = [0; 4];
                out.extend(text.chars().filter_map(|c| {
                    vocabulary
                        .id(c.encode_utf8(&mut single))
                        .or(vocabulary.unknown)
                }));
            }
        }
    }

    fn raw_word(&self, vocabulary: &Vocabulary, word: &str, work: &mut Work, out: &mut Vec<u32>) {
        if word.starts_with('\n')
            && let Some(id) = vocabulary.id(word)
        {
            out.push(id);
            return;
        }
        self.seams
            .cut(word, |text| self.raw_stretch(vocabulary, text, work, out));
    }

    fn raw_stretch(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        work: &mut Work,
        out: &mut Vec<u32>,
    ) {
        // A character that is no symbol at all can take part in no merge: what is between such
        // characters is merged by itself.
        let mut rest = text;
        while !rest.is_empty() {
            let known = |c: &char| vocabulary.id(c.encode_utf8(&mut [0; 4]));
            let end = rest
                .char_indices()
                .find(|(_, c)| known(c).is_none())
                .map_or(rest.len(), |(at, _)| at);
            work.start(rest[..end].chars().filter_map(|c| known(&c)));
            self.merge(work);
            out.extend(work.ids().filter(|&id| (id as usize) < vocabulary.len()));
            let strange = rest[end..].chars().next().map_or(0, char::len_utf8);
            for byte in rest[end..end + strange].bytes() {
                out.extend(vocabulary.byte_token(byte).or(vocabulary.unknown));
            }
            rest = &rest[end + strange..];
        }
    }

    fn merge(&self, work: &mut Work) {
        for place in 1..work.symbols.len() {
            self.offer(work, place as u32 - 1, place as u32);
        }
        while let Some(Reverse(join)) = work.queue.pop() {
            let Join {
                place,
                left,
                right,
                joined,
                ..
            } = join;
            let symbol = work.symbols[place as usize];
            if symbol.id != left || symbol.right == NONE {
                continue;
            }
            let neighbour = work.symbols[symbol.right as usize];
            if neighbour.id != right {
                continue;
            }
            work.symbols[symbol.right as usize].id = GONE;
            work.symbols[place as usize] = Symbol {
                id: joined,
                right: neighbour.right,
                ..symbol
            };
            if neighbour.right != NONE {
                work.symbols[neighbour.right as usize].left = place;
                self.offer(work, place, neighbour.right);
            }
            if symbol.left != NONE {
                self.offer(work, symbol.left, place);
            }
        }
    }

    fn offer(&self, work: &mut Work, left: u32, right: u32) {
        let pair = (
            work.symbols[left as usize].id,
            work.symbols[right as usize].id,
        );
        if let Some(&(rank, joined)) = self.merges.get(&pair) {
            work.queue.push(Reverse(Join {
                rank,
                place: left,
                left: pair.0,
                right: pair.1,
                joined,
            }));
        }
    }
}

impl Work {
    fn start(&mut self, ids: impl Iterator<Item = u32>) {
        self.queue.clear();
        self.symbols.clear();
        for (place, id) in ids.enumerate() {
            let place = place as u32;
            self.symbols.push(Symbol {
                id,
                left: place.wrapping_sub(1),
                right: place + 1,
            });
        }
        if let Some(last) = self.symbols.last_mut() {
            last.right = NONE;
        }
    }

    fn ids(&self) -> impl Iterator<Item = u32> {
        self.symbols
            .iter()
            .map(|symbol| symbol.id)
            .filter(|&id| id != GONE)
    }
}
