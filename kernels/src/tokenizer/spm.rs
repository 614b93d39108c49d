//! SentencePiece's byte-pair encoding: of all neighbours whose joined text is a token, the pair
//! with the best score is joined first, leftmost among equals.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::seams::Seams;
use super::vocabulary::Vocabulary;

/// Scores by token, and whether a space stands before the first word.
#[derive(Debug)]
pub(super) struct Spm {
    scores: Vec<f32>,
    pub(super) space_prefix: bool,
    seams: Seams,
}

/// A stretch of text being merged; `length` is 0 once it was joined to its left neighbour.
struct Symbol {
    start: usize,
    length: usize,
    left: Option<usize>,
    right: Option<usize>,
}

/// Space for one stretch's merges, kept between stretches.
#[derive(Default)]
struct Work {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Join>,
}

/// A possible join, best score first. It is out of date when the two no longer span `length`.
struct Join {
    score: f32,
    left: usize,
    right: usize,
    length: usize,
}

impl Ord for Join {
    fn cmp(&self, other: &Join) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Join {
    fn partial_cmp(&self, other: &Join) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Join {
    fn eq(&self, other: &Join) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Join {}

impl Spm {
    /// `scores` has one entry a token.
    pub(super) fn new(vocabulary: &Vocabulary, scores: Vec<f32>, space_prefix: bool) -> Spm {
        Spm {
            scores,
            space_prefix,
            seams: Seams::new(vocabulary.texts()),
        }
    }

    /// Appends the tokens of ordinary text; `first` says that nothing or a special token stands before.
    pub(super) fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        first: bool,
        out: &mut Vec<u32>,
    ) {
        let mut escaped = String::with_capacity(text.len() + text.len() / 4 + 3);
        if self.space_prefix && first {
            escaped.push('▁');
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { '▁' } else { c }));

        let mut work = Work::default();
        self.seams.cut(&escaped, |text| {
            self.stretch(vocabulary, text, &mut work, out)
        });
    }

    fn stretch(&self, vocabulary: &Vocabulary, text: &str, work: &mut Work, out: &mut Vec<u32>) {
        let Work { symbols, queue } = work;
        symbols.clear();
        queue.clear();
        for (place, (start, c)) in text.char_indices().enumerate() {
            symbols.push(Symbol {
                start,
                length: c.len_utf8(),
                left: place.checked_sub(1),
                right: Some(place + 1),
            });
        }
        if let Some(last) = symbols.last_mut() {
            last.right = None;
        }
        for place in 1..symbols.len() {
            self.offer(vocabulary, text, symbols, place - 1, place, queue);
        }
        while let Some(Join {
            left,
            right,
            length,
            ..
        }) = queue.pop()
        {
            let (a, b) = (symbols[left].length, symbols[right].length);
            if a == 0 || b == 0 || a + b != length {
                continue;
            }
            let after = symbols[right].right;
            symbols[left].length = length;
            symbols[left].right = after;
            symbols[right].length = 0;
            if let Some(after) = after {
                symbols[after].left = Some(left);
                self.offer(vocabulary, text, symbols, left, after, queue);
            }
            if let Some(before) = symbols[left].left {
                self.offer(vocabulary, text, symbols, before, left, queue);
            }
        }
        for symbol in symbols.iter().filter(|symbol| symbol.length > 0) {
            let piece = &text[symbol.start..symbol.start + symbol.length];
            match vocabulary.id(piece) {
                Some(id) => out.push(id),
                None => out.extend(
                    piece
                        .bytes()
                        .filter_map(|byte| vocabulary.byte_token(byte).or(vocabulary.unknown)),
                ),
            }
        }
    }

    fn offer(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        symbols: &[Symbol],
        left: usize,
        right: usize,
        queue: &mut BinaryHeap<Join>,
    ) {
        let start = symbols[left].start;
        let length = symbols[left].length + symbols[right].length;
        if length > vocabulary.longest {
            return;
        }
        if let Some(id) = vocabulary.id(&text[start..start + length]) {
            queue.push(Join {
                score: self.scores[id as usize],
                left,
                right,
                length,
            });
        }
    }
}
