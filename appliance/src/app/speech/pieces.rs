//! A text in pieces that are said one after the other, as it comes.
//!
//! Whoever listens waits for the first piece only, so it is a clause of a few words; all later ones are sentences. Pure:
//! must not know who speaks.

/// Words of the first piece.
const FIRST_WORDS_MAX: usize = 8;
/// A sentence of so many words that nothing follows is said in one breath: what a cut wins is less than what it spoils.
const ALONE_WORDS_MAX: usize = 12;
/// A clause mark before this many words makes no first piece: it would sound cut off.
const FIRST_WORDS_MIN: usize = 3;
/// Characters of a piece: what is said at once, and about what a voice model takes.
const PIECE_CHARS_MAX: usize = 280;

/// Words that end in a point and end no sentence.
const SHORT: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e", "no", "fig", "approx", "jr",
    "sr", "inc", "ltd",
];

/// Words before which a clause may begin.
const JOINTS: &[&str] = &[
    "and", "but", "or", "so", "because", "which", "that", "when", "while", "if", "as", "for",
    "with", "to", "of", "in", "on", "at", "by", "from", "than",
];

/// Something to be said in one breath.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What is said.
    pub text: String,
    /// Silence behind it, in milliseconds.
    pub pause_ms: u32,
}

/// Cuts a text that comes bit by bit.
#[derive(Debug, Default)]
pub struct Cutter {
    text: String,
    begun: bool,
}

impl Cutter {
    /// Goes on with a text that is being heard already: no clause comes first.
    pub fn sentences() -> Cutter {
        Cutter {
            begun: true,
            ..Cutter::default()
        }
    }

    /// All pieces of a text that is known to its end.
    pub fn all(&mut self, text: &str) -> Vec<Piece> {
        self.text.push_str(text);
        self.cut(true)
    }

    /// Takes more of the text and gives what can be said by now.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.text.push_str(text);
        self.cut(false)
    }

    /// What is left, once the text has ended.
    pub fn finish(&mut self) -> Vec<Piece> {
        self.cut(true)
    }

    fn cut(&mut self, last: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        loop {
            let begin = self.text.len() - self.text.trim_start().len();
            self.text.drain(..begin);
            if self.text.is_empty() {
                return pieces;
            }
            let Some((end, pause_ms)) = self.next(last) else {
                return pieces;
            };
            let rest = self.text.split_off(end);
            let text = std::mem::replace(&mut self.text, rest);
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            if text.chars().any(char::is_alphanumeric) {
                self.begun = true;
                pieces.push(Piece { text, pause_ms });
            }
        }
    }

    /// Where the next piece ends, and the pause behind it; `None` while that cannot be told.
    fn next(&self, last: bool) -> Option<(usize, u32)> {
        let sentence = sentence(&self.text, last);
        let whole = sentence.map_or(self.text.as_str(), |(end, _)| &self.text[..end]);
        let alone = last && whole.len() == self.text.trim_end().len();
        let most = if alone {
            ALONE_WORDS_MAX
        } else {
            FIRST_WORDS_MAX
        };
        if !self.begun && words(whole) > most {
            return first(whole).map(|end| (end, pause_at(&whole[..end])));
        }
        if whole.chars().count() > PIECE_CHARS_MAX {
            let end = clause(whole);
            return Some((end, pause_at(&whole[..end])));
        }
        sentence
    }
}

/// A piece of a model's answer without what is only for the eye: Markdown's marks and the numbers of citations.
pub fn sayable(text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let behind = &rest[c.len_utf8()..];
        let mark = behind
            .split_once(']')
            .filter(|(inside, _)| c == '[' && !inside.is_empty())
            .filter(|(inside, _)| inside.chars().all(|c| c.is_ascii_digit()));
        rest = match mark {
            Some((_, after)) => {
                said.truncate(said.trim_end().len());
                after
            }
            None => {
                if !matches!(c, '*' | '`' | '#' | '~' | '|') {
                    said.push(c);
                }
                behind
            }
        };
    }
    said.trim().to_owned()
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Silence after a piece that ends inside a sentence.
fn pause_at(piece: &str) -> u32 {
    match piece.trim_end().chars().next_back() {
        Some(',' | ';' | ':' | '–' | '—' | ')') => 120,
        Some('.' | '!' | '?' | '…') => 280,
        _ => 0,
    }
}

/// Where the first sentence ends, and the pause behind it; `None` when it may go on.
fn sentence(text: &str, last: bool) -> Option<(usize, u32)> {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let behind = at + c.len_utf8();
        match c {
            '\n' if text[behind..].starts_with(['\n', '-', '*', '#']) => {
                return Some((behind, 500));
            }
            '\n' if text[..at].trim_end().ends_with([':', '.', '!', '?']) => {
                return Some((behind, 350));
            }
            '.' | '!' | '?' | '…' => {
                // Marks and closing signs that stand together end it together.
                let end = text[behind..]
                    .find(|c: char| {
                        !matches!(
                            c,
                            '.' | '!' | '?' | '…' | '"' | '\'' | ')' | '”' | '’' | '*'
                        )
                    })
                    .map_or(text.len(), |more| behind + more);
                let next = text[end..].chars().next();
                match next {
                    None if last => return Some((end, 280)),
                    None => return None,
                    Some(space)
                        if space.is_whitespace() && !(c == '.' && goes_on(text, at, end)) =>
                    {
                        return Some((end, 280));
                    }
                    _ => {
                        while chars.peek().is_some_and(|(at, _)| *at < end) {
                            chars.next();
                        }
                    }
                }
            }
            '。' | '！' | '？' => return Some((behind, 280)),
            _ => {}
        }
    }
    last.then_some((text.len(), 280))
}

/// Whether a point belongs to a short form, an initial or a numbered line.
fn goes_on(text: &str, at: usize, end: usize) -> bool {
    let word = text[..at]
        .rsplit(char::is_whitespace)
        .next()
        .unwrap_or_default();
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let lower = word.to_lowercase();
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    let numbered =
        !word.is_empty() && word.chars().all(|c| c.is_ascii_digit()) && text[..at].trim() == word;
    let small = text[end..]
        .trim_start()
        .chars()
        .next()
        .is_some_and(char::is_lowercase);
    SHORT.contains(&lower.as_str()) || initial || numbered || small
}

/// Where the first clause of a sentence ends: at a mark, else before a joint, else after as many words as may be.
fn first(sentence: &str) -> Option<usize> {
    let ends: Vec<usize> = ends(sentence).take(FIRST_WORDS_MAX).collect();
    let word = |i: usize| {
        let begin = if i == 0 { 0 } else { ends[i - 1] };
        sentence[begin..ends[i]].trim()
    };
    let from = FIRST_WORDS_MIN.min(ends.len()) - 1;
    let mark = (from..ends.len())
        .rev()
        .find(|&i| word(i).ends_with([',', ';', ':', '–', '—', ')']));
    let joint = (from..ends.len().saturating_sub(1))
        .rev()
        .find(|&i| JOINTS.contains(&word(i + 1).to_lowercase().as_str()));
    mark.or(joint)
        .or(ends.len().checked_sub(1))
        .map(|i| ends[i])
}

/// Where a long sentence can be cut: at the last mark or space that a piece has room for.
fn clause(sentence: &str) -> usize {
    let room = sentence
        .char_indices()
        .nth(PIECE_CHARS_MAX)
        .map_or(sentence.len(), |(at, _)| at);
    let inside = &sentence[..room];
    let mark = inside
        .rfind([',', ';', ':', '–', '—'])
        .filter(|at| *at > room / 3);
    let space = inside.rfind(char::is_whitespace).filter(|at| *at > 0);
    mark.or(space).map_or(room, |at| {
        at + inside[at..].chars().next().map_or(0, char::len_utf8)
    })
}

/// Where each word ends.
fn ends(text: &str) -> impl Iterator<Item = usize> {
    let mut inside = false;
    let changes = text.char_indices().chain([(text.len(), ' ')]);
    changes.filter_map(move |(at, c)| {
        let ended = inside && c.is_whitespace();
        inside = !c.is_whitespace();
        ended.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<String> {
        let mut cutter = Cutter::default();
        let mut pieces = cutter.push(text);
        pieces.extend(cutter.finish());
        pieces.into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn the_first_piece_is_a_clause_and_the_rest_are_sentences() {
        let text = "When the sun goes down, the street lights come on one after another. People walk home. \
                    Dr. Smith paid 3.50 for it, e.g. at the market!";
        assert_eq!(
            cut(text),
            [
                "When the sun goes down,",
                "the street lights come on one after another.",
                "People walk home.",
                "Dr. Smith paid 3.50 for it, e.g. at the market!",
            ]
        );
        let alone = "It is easy to tell the depth of a well.";
        assert_eq!(Cutter::default().all(alone).len(), 1);
        assert_eq!(Cutter::default().all(&format!("{alone} Yes.")).len(), 3);
        let first = cut(
            "Photosynthesis lets green plants turn the light of the sun into sugar and oxygen today.",
        );
        assert_eq!(first[0], "Photosynthesis lets green plants turn the light");
        assert_eq!(
            cut("one two three four five six seven eight nine ten")[0]
                .split(' ')
                .count(),
            8
        );
        assert_eq!(cut("Yes."), ["Yes."]);
        let mut whole = Cutter::sentences();
        let text = "When the sun goes down, the street lights come on one after another. Yes.";
        let first = whole.push(text).swap_remove(0).text;
        assert!(first.ends_with("another."), "{first}");
        assert_eq!(cut(" \n ... \n"), [""; 0]);
    }

    #[test]
    fn what_is_for_the_eye_is_not_said() {
        assert_eq!(
            sayable("## It is **hot** [1][12]. Take `two` [sic]"),
            "It is hot. Take two [sic]"
        );
        assert_eq!(sayable("* a [3]"), "a");
        assert_eq!(sayable("[ü"), "[ü");
    }

    #[test]
    fn nothing_is_lost_however_the_text_comes() {
        let text = "First, a short one. Then \"quotes?\" And 1. numbers, Mr. X… and a very long sentence, that goes on, and \
                    on, without any point at all, because whoever wrote it could not stop, and so it is cut, somewhere, \
                    in the middle, at a comma, as a speaker would breathe, when the breath is gone, and then it goes on \
                    until there is really nothing left to be said\n\nA new paragraph";
        let whole = cut(text);
        let words = |pieces: &[String]| {
            pieces
                .join(" ")
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(&whole), words(&[text.to_owned()]));
        assert!(
            whole
                .iter()
                .all(|piece| piece.chars().count() <= PIECE_CHARS_MAX)
        );
        assert!(whole[0].split(' ').count() <= FIRST_WORDS_MAX);
        for size in [1, 2, 7] {
            let mut cutter = Cutter::default();
            let mut pieces = Vec::new();
            let chars: Vec<char> = text.chars().collect();
            for bit in chars.chunks(size) {
                pieces.extend(cutter.push(&bit.iter().collect::<String>()));
            }
            pieces.extend(cutter.finish());
            let pieces: Vec<String> = pieces.into_iter().map(|piece| piece.text).collect();
            assert_eq!(words(&pieces), words(&[text.to_owned()]), "{size}");
        }
    }

    #[test]
    fn a_sentence_is_given_as_soon_as_it_has_ended() {
        let mut cutter = Cutter::default();
        assert!(cutter.push("It works").is_empty());
        assert!(cutter.push(".").is_empty(), "more marks may come");
        assert_eq!(cutter.push(" And").len(), 1);
        assert_eq!(cutter.finish()[0].text, "And");
    }
}
