//! Cuts a document's text into passages that an embedder can see whole.
//!
//! Structure decides first (a heading always begins a passage, blank lines separate blocks), the token limit second:
//! small neighbouring blocks of one section and page are joined, a block above the limit is cut at sentences, a sentence above
//! it at words, and a word above it at characters. A passage repeats the last sentences of its predecessor in the same
//! section, so that an answer on the seam is found from both sides. Pure: the token count is handed in.

use crate::domain::document::{Heading, Passage, Text};

/// How long a passage may be, in tokens of the embedder that will read it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A passage, its heading path included, never exceeds this.
    pub tokens_max: usize,
    /// Tokens repeated from the passage before.
    pub overlap: usize,
}

/// A byte range of the document's text.
type Span = std::ops::Range<usize>;

/// Cuts `text` into passages in reading order. `count` gives the number of tokens of a string.
///
/// Every non-blank character of the text lies in at least one passage.
pub fn chunk(text: &Text, limits: Limits, count: &dyn Fn(&str) -> usize) -> Vec<Passage> {
    let mut passages = Vec::new();
    let mut position = Position::new(text);
    for section in sections(text) {
        let path = heading_path(&text.headings, section.start);
        let room = limits
            .tokens_max
            .saturating_sub(count(&prefix(&path)))
            .max(limits.tokens_max / 2);
        let fits = |span: &Span| count(&text.content[span.clone()]) <= room;
        let pieces = pieces(&text.content, section, &fits);
        // What is cited by its page stands on one; only the tail that it repeats may stand on the page before.
        let page = |span: &Span| page(&text.page_starts, span.end - 1);
        let apart = |one: &Span, next: &Span| page(one) != page(next);
        for span in join(&text.content, &pieces, room, limits.overlap, count, &apart) {
            let body = &text.content[span.clone()];
            let start = position.scalar(span.start);
            passages.push(Passage {
                text: body.to_owned(),
                start,
                end: start + body.chars().count(),
                page: page(&span),
                headings: path.clone(),
            });
        }
    }
    passages
}

/// The text that an embedder reads for a passage: its heading path, then its body.
pub fn prefix(headings: &[String]) -> String {
    if headings.is_empty() {
        String::new()
    } else {
        format!("{}\n", headings.join(" > "))
    }
}

/// Turns rising byte offsets into scalar offsets without counting from the start each time.
struct Position<'a> {
    content: &'a str,
    byte: usize,
    scalar: usize,
}

impl<'a> Position<'a> {
    fn new(text: &'a Text) -> Self {
        Self {
            content: &text.content,
            byte: 0,
            scalar: 0,
        }
    }

    fn scalar(&mut self, byte: usize) -> usize {
        if byte >= self.byte {
            self.scalar += self.content[self.byte..byte].chars().count();
        } else {
            // An overlap steps back a few sentences, never far.
            self.scalar -= self.content[byte..self.byte].chars().count();
        }
        self.byte = byte;
        self.scalar
    }
}

/// The text between two headings, heading line included.
fn sections(text: &Text) -> Vec<Span> {
    let mut starts: Vec<usize> = text.headings.iter().map(|heading| heading.start).collect();
    starts.retain(|start| *start > 0 && *start < text.content.len());
    starts.insert(0, 0);
    starts.dedup();
    let ends = starts.iter().skip(1).copied().chain([text.content.len()]);
    starts
        .iter()
        .copied()
        .zip(ends)
        .map(|(start, end)| start..end)
        .collect()
}

/// Titles above `offset`, outermost first: the last heading of each level that no higher heading has closed.
fn heading_path(headings: &[Heading], offset: usize) -> Vec<String> {
    let mut path: Vec<&Heading> = Vec::new();
    for heading in headings
        .iter()
        .take_while(|heading| heading.start <= offset)
    {
        path.retain(|above| above.level < heading.level);
        path.push(heading);
    }
    path.into_iter()
        .map(|heading| heading.title.clone())
        .collect()
}

fn page(starts: &[usize], byte: usize) -> Option<u32> {
    let before = starts.partition_point(|start| *start <= byte);
    (before > 0).then(|| u32::try_from(before).unwrap_or(u32::MAX))
}

/// The smallest parts that are never cut: blocks, or sentences of a long block, or words of a long sentence.
fn pieces(content: &str, section: Span, fits: &dyn Fn(&Span) -> bool) -> Vec<Span> {
    let mut out = Vec::new();
    for block in split(content, section, block_end) {
        if fits(&block) {
            out.push(block);
            continue;
        }
        for sentence in split(content, block, sentence_end) {
            if fits(&sentence) {
                out.push(sentence);
                continue;
            }
            for word in split(content, sentence, word_end) {
                cut_to_fit(content, word, fits, &mut out);
            }
        }
    }
    out
}

/// Halves a span until it fits; a single character is kept whatever the limit.
fn cut_to_fit(content: &str, span: Span, fits: &dyn Fn(&Span) -> bool, out: &mut Vec<Span>) {
    let half = span.start + span.len() / 2;
    let boundary = |at: &usize| *at > span.start && content.is_char_boundary(*at);
    let middle = (half..span.end)
        .find(boundary)
        .or_else(|| (span.start..half).rfind(boundary));
    match middle {
        Some(middle) if !fits(&span) => {
            cut_to_fit(content, span.start..middle, fits, out);
            cut_to_fit(content, middle..span.end, fits, out);
        }
        _ => out.push(span),
    }
}

/// Cuts `span` after every place that `end` finds, dropping white space around the parts.
fn split(content: &str, span: Span, end: fn(&str) -> usize) -> Vec<Span> {
    let mut out = Vec::new();
    let mut at = span.start;
    while at < span.end {
        let rest = &content[at..span.end];
        let length = end(rest).clamp(1, rest.len());
        let part = &rest[..length];
        let trimmed = part.trim();
        if !trimmed.is_empty() {
            let start = at + (part.len() - part.trim_start().len());
            out.push(start..start + trimmed.len());
        }
        at += length;
    }
    out
}

/// A block ends after a blank line.
fn block_end(rest: &str) -> usize {
    let mut at = 0;
    let mut blank = true; // leading blank lines belong to no block
    for line in rest.split_inclusive('\n') {
        let empty = line.trim().is_empty();
        if empty && !blank {
            return at + line.len();
        }
        blank &= empty;
        at += line.len();
    }
    rest.len()
}

/// A sentence ends after `.`, `!`, `?` or their full-width forms when white space follows, or at a line's end.
fn sentence_end(rest: &str) -> usize {
    let mut seen_text = false;
    let mut previous = ' ';
    for (at, c) in rest.char_indices() {
        let full_width = matches!(previous, '。' | '！' | '？');
        let stop = matches!(previous, '.' | '!' | '?' | ':' | ';') && c.is_whitespace();
        if seen_text && (stop || full_width || previous == '\n') {
            return at;
        }
        seen_text |= !c.is_whitespace();
        previous = c;
    }
    rest.len()
}

fn word_end(rest: &str) -> usize {
    let begin = rest.len() - rest.trim_start().len();
    rest[begin..]
        .find(char::is_whitespace)
        .map_or(rest.len(), |at| begin + at)
}

/// Joins neighbouring pieces up to `room` tokens, unless they stand `apart`; each passage but the first begins with the
/// tail of its predecessor.
fn join(
    content: &str,
    pieces: &[Span],
    room: usize,
    overlap: usize,
    count: &dyn Fn(&str) -> usize,
    apart: &dyn Fn(&Span, &Span) -> bool,
) -> Vec<Span> {
    let tokens = |span: Span| count(&content[span]);
    let mut out: Vec<Span> = Vec::new();
    let mut first = 0; // of the passage that grows
    for next in 0..pieces.len() {
        let full = next > first
            && (apart(&pieces[next - 1], &pieces[next])
                || tokens(pieces[first].start..pieces[next].end) > room);
        if full {
            out.push(pieces[first].start..pieces[next - 1].end);
            first = next;
            while first > 0
                && tokens(pieces[first - 1].start..pieces[next - 1].end) <= overlap
                && tokens(pieces[first - 1].start..pieces[next].end) <= room
                && out
                    .last()
                    .is_some_and(|last| pieces[first - 1].start > last.start)
            {
                first -= 1;
            }
        }
    }
    if let (Some(begin), Some(last)) = (pieces.get(first), pieces.last()) {
        out.push(begin.start..last.end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token a word: easy to reason about in a table.
    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn plain(content: &str) -> Text {
        Text {
            content: content.to_owned(),
            ..Text::default()
        }
    }

    fn texts(text: &Text, tokens_max: usize, overlap: usize) -> Vec<String> {
        chunk(
            text,
            Limits {
                tokens_max,
                overlap,
            },
            &words,
        )
        .into_iter()
        .map(|passage| passage.text)
        .collect()
    }

    #[test]
    fn small_blocks_are_joined_and_large_ones_cut_at_sentences() {
        let text = plain("One two.\n\nThree four.\n\nA b c d e. F g h i j. K l.");
        assert_eq!(
            texts(&text, 5, 0),
            [
                "One two.\n\nThree four.",
                "A b c d e.",
                "F g h i j.",
                "K l."
            ]
        );
    }

    #[test]
    fn the_tail_of_a_passage_is_repeated() {
        let text = plain("A b. C d. E f. G h.");
        assert_eq!(texts(&text, 4, 2), ["A b. C d.", "C d. E f.", "E f. G h."]);
    }

    #[test]
    fn a_heading_begins_a_passage_and_names_it() {
        let content = "# One\nalpha\n\n## Two\nbeta\n\n# Three\ngamma";
        let heading = |title: &str, level| Heading {
            start: content
                .find(&format!("{} {title}", "#".repeat(level)))
                .expect("heading is in the text"),
            level: level as u8,
            title: title.to_owned(),
        };
        let text = Text {
            content: content.to_owned(),
            headings: vec![heading("One", 1), heading("Two", 2), heading("Three", 1)],
            ..Text::default()
        };
        let passages = chunk(
            &text,
            Limits {
                tokens_max: 50,
                overlap: 10,
            },
            &words,
        );
        let paths: Vec<_> = passages
            .iter()
            .map(|passage| passage.headings.join("/"))
            .collect();
        assert_eq!(paths, ["One", "One/Two", "Three"]);
    }

    #[test]
    fn a_passage_stands_on_one_page_and_may_repeat_the_end_of_the_page_before() {
        let content = "One two three.\n\nFour five.\n\nSix.\n\nSeven.\n\nEight.";
        let at = |word| content.find(word).expect("in the text");
        let text = Text {
            content: content.to_owned(),
            page_starts: vec![0, at("Six"), at("Eight")],
            ..Text::default()
        };
        let limits = Limits {
            tokens_max: 9,
            overlap: 2,
        };
        let passages: Vec<_> = chunk(&text, limits, &words)
            .into_iter()
            .map(|passage| (passage.text, passage.page))
            .collect();
        let wanted = [
            ("One two three.\n\nFour five.", 1),
            ("Four five.\n\nSix.\n\nSeven.", 2),
            ("Six.\n\nSeven.\n\nEight.", 3),
        ];
        assert_eq!(
            passages,
            wanted.map(|(text, page)| (text.to_owned(), Some(page)))
        );
    }

    #[test]
    fn offsets_are_scalar_values_and_pages_are_one_based() {
        let content = "äöü first.\n\nsecond ß here.";
        let text = Text {
            content: content.to_owned(),
            page_starts: vec![0, content.find("second").expect("in the text")],
            ..Text::default()
        };
        let passages = chunk(
            &text,
            Limits {
                tokens_max: 3,
                overlap: 0,
            },
            &words,
        );
        assert_eq!(passages.len(), 2);
        assert_eq!(
            (passages[1].start, passages[1].end, passages[1].page),
            (12, 26, Some(2))
        );
        let scalars: Vec<char> = content.chars().collect();
        for passage in &passages {
            assert_eq!(
                passage.text,
                scalars[passage.start..passage.end]
                    .iter()
                    .collect::<String>()
            );
        }
    }

    #[test]
    fn nothing_is_lost_and_no_limit_is_broken() {
        let mut seed = 7u64;
        let mut next = move |n: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for _ in 0..200 {
            let content: String = (0..next(400))
                .map(|_| ['a', 'ß', ' ', ' ', '.', '\n', '\n', '。', 'z', '😀'][next(10) as usize])
                .collect();
            let text = plain(&content);
            let limit = 1 + next(20) as usize;
            let passages = chunk(
                &text,
                Limits {
                    tokens_max: limit,
                    overlap: limit / 4,
                },
                &|s| s.chars().count(),
            );
            let mut covered = vec![false; content.chars().count()];
            for passage in &passages {
                assert!(
                    passage.text.chars().count() <= limit,
                    "{:?} is longer than {limit}",
                    passage.text
                );
                covered[passage.start..passage.end].fill(true);
            }
            for (c, covered) in content.chars().zip(covered) {
                assert!(
                    covered || c.is_whitespace(),
                    "{c:?} of {content:?} is in no passage"
                );
            }
        }
    }
}
