//! Cuts text into words before BPE merges, as the patterns of published tokenizers do.
//!
//! A pre-tokenizer is a list of stages. Each stage cuts every piece that the stage before left:
//! what its pattern matches becomes a piece, and so does each stretch between matches.
//! The patterns are written as small matchers: no run of text is looked at more than twice.

use super::class::{LETTER, LOWER, MARK, NUMBER, PUNCTUATION, SPACE, SYMBOL, UPPER, classes, is};

/// One pattern. The comment above each variant is its regular expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stage {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)`
    Gpt2,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?L+|\p{N}{1,digits}| ?[^\s L\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    /// where L is `letters`.
    Words {
        contractions: bool,
        letters: u16,
        digits: usize,
    },
    /// The same with words cut at an upper-case letter after a lower-case one; `/` joins the line
    /// ends after symbols, and a contraction may follow the word it belongs to.
    Cased { contractions: bool, digits: usize },
    /// `[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Symbols,
    /// `C{1,most}` or, with `space`, `\s?C+`
    Run {
        space: bool,
        class: Class,
        most: usize,
    },
    /// Exactly three of `[0-9]`
    ThreeDigits,
    /// `\s+$`
    TrailingSpace,
    /// `[^\n]+|[\n]+`
    Lines,
}

/// A set of characters: Unicode classes, or a predicate where a pattern spells its ranges out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Class {
    Of(u16),
    Chars(fn(char) -> bool),
}

impl PartialEq for Class {
    fn eq(&self, other: &Class) -> bool {
        match (self, other) {
            (Class::Of(a), Class::Of(b)) => a == b,
            _ => false,
        }
    }
}

impl Class {
    fn has(self, c: char) -> bool {
        match self {
            Class::Of(wanted) => is(c, wanted),
            Class::Chars(has) => has(c),
        }
    }
}

/// What a matcher finds at the start of a text, in bytes.
enum Found {
    Match(usize),
    /// No match starts within so many bytes.
    Miss(usize),
}

/// Calls `word` for every piece of `text`, in order; together they are the whole text.
pub(super) fn split(stages: &[Stage], text: &str, word: &mut impl FnMut(&str)) {
    let Some((stage, rest)) = stages.split_first() else {
        if !text.is_empty() {
            word(text);
        }
        return;
    };
    let (mut gap, mut at) = (0, 0);
    while at < text.len() {
        match stage.find(&text[at..]) {
            Found::Match(length) if length > 0 => {
                if gap < at {
                    split(rest, &text[gap..at], &mut *word);
                }
                split(rest, &text[at..at + length], &mut *word);
                at += length;
                gap = at;
            }
            Found::Match(_) => at += first_len(&text[at..]),
            Found::Miss(length) => at += length.max(1),
        }
    }
    if gap < text.len() {
        split(rest, &text[gap..], word);
    }
}

fn first_len(text: &str) -> usize {
    text.chars().next().map_or(1, char::len_utf8)
}

/// Bytes of the longest prefix whose characters all satisfy `has`, at most `most` characters.
fn run(text: &str, most: usize, has: impl Fn(char) -> bool) -> usize {
    text.char_indices()
        .take(most)
        .find(|&(_, c)| !has(c))
        .map_or_else(
            || {
                text.char_indices()
                    .nth(most)
                    .map_or(text.len(), |(at, _)| at)
            },
            |(at, _)| at,
        )
}

fn is_line_end(c: char) -> bool {
    c == '\r' || c == '\n'
}

/// `'s|'t|'re|'ve|'m|'ll|'d` at the start, in bytes; 0 if there is none.
fn contraction(text: &str, any_case: bool) -> usize {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'\'') {
        return 0;
    }
    let letter = |at: usize| {
        bytes.get(at).map(|byte| {
            if any_case {
                byte.to_ascii_lowercase()
            } else {
                *byte
            }
        })
    };
    match (letter(1), letter(2)) {
        (Some(b's' | b't' | b'm' | b'd'), _) => 2,
        (Some(b'r' | b'v'), Some(b'e')) | (Some(b'l'), Some(b'l')) => 3,
        _ => 0,
    }
}

/// `\s*[\r\n]+|\s+(?!\S)` and, with `lone`, `|\s+`, at the start of whitespace.
fn whitespace(text: &str, lines: bool, lone: bool) -> usize {
    let length = run(text, usize::MAX, |c| is(c, SPACE));
    let space = &text[..length];
    if lines && let Some(end) = space.rfind(is_line_end) {
        return end + 1;
    }
    if length == text.len() {
        return length;
    }
    // All but the last, which belongs to what follows.
    match space.char_indices().next_back() {
        Some((last, _)) if last > 0 => last,
        _ if lone => length,
        _ => 0,
    }
}

impl Stage {
    fn find(self, text: &str) -> Found {
        match self {
            Stage::Gpt2 => Found::Match(gpt2(text)),
            Stage::Words {
                contractions,
                letters,
                digits,
            } => Found::Match(words(text, contractions, letters, digits)),
            Stage::Cased {
                contractions,
                digits,
            } => Found::Match(cased(text, contractions, digits)),
            Stage::Symbols => Found::Match(symbols(text)),
            Stage::Run { space, class, most } => {
                let skip = if space && text.starts_with(char::is_whitespace) {
                    first_len(text)
                } else {
                    0
                };
                match run(&text[skip..], most, |c| class.has(c)) {
                    // The space may itself belong to the class.
                    0 if skip > 0 => Found::Match(run(text, most, |c| class.has(c))),
                    0 => Found::Miss(first_len(text)),
                    length => Found::Match(skip + length),
                }
            }
            Stage::ThreeDigits => match run(text, 3, |c| c.is_ascii_digit()) {
                3 => Found::Match(3),
                fewer => Found::Miss(fewer.max(first_len(text))),
            },
            Stage::TrailingSpace => match run(text, usize::MAX, |c| is(c, SPACE)) {
                0 => Found::Miss(first_len(text)),
                length if length == text.len() => Found::Match(length),
                length => Found::Miss(length),
            },
            Stage::Lines => {
                let newline = text.starts_with('\n');
                Found::Match(run(text, usize::MAX, |c| (c == '\n') == newline))
            }
        }
    }
}

fn gpt2(text: &str) -> usize {
    match contraction(text, false) {
        0 => {}
        length => return length,
    }
    let skip = usize::from(text.starts_with(' '));
    let Some(c) = text[skip..].chars().next() else {
        return text.len();
    };
    let class = classes(c);
    skip + if class & LETTER != 0 {
        run(&text[skip..], usize::MAX, |c| is(c, LETTER))
    } else if class & NUMBER != 0 {
        run(&text[skip..], usize::MAX, |c| is(c, NUMBER))
    } else if class & SPACE == 0 {
        run(&text[skip..], usize::MAX, |c| {
            !is(c, SPACE | LETTER | NUMBER)
        })
    } else {
        return whitespace(text, false, false);
    }
}

fn words(text: &str, contractions: bool, letters: u16, digits: usize) -> usize {
    if contractions {
        match contraction(text, true) {
            0 => {}
            length => return length,
        }
    }
    match prefixed(text, LETTER | NUMBER, |rest| {
        run(rest, usize::MAX, |c| is(c, letters))
    }) {
        0 => {}
        length => return length,
    }
    match run(text, digits, |c| is(c, NUMBER)) {
        0 => {}
        length => return length,
    }
    match marks(text, SPACE | NUMBER | letters, is_line_end) {
        0 => whitespace(text, true, true),
        length => length,
    }
}

/// ` ?[^not]+` and then whatever `after` accepts.
fn marks(text: &str, not: u16, after: impl Fn(char) -> bool) -> usize {
    let skip = usize::from(text.starts_with(' '));
    match run(&text[skip..], usize::MAX, |c| !is(c, not)) {
        0 => 0,
        length => skip + length + run(&text[skip + length..], usize::MAX, after),
    }
}

/// `[^\r\n not]?` before what `word` finds.
fn prefixed(text: &str, not: u16, word: impl Fn(&str) -> usize) -> usize {
    let Some(c) = text.chars().next() else {
        return 0;
    };
    if !is_line_end(c) && !is(c, not) {
        match word(&text[c.len_utf8()..]) {
            0 => {}
            length => return c.len_utf8() + length,
        }
    }
    word(text)
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, called U below.
fn is_upper(c: char) -> bool {
    is(c, LETTER | MARK) && !is(c, LOWER)
}

/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`, called W below.
fn is_lower(c: char) -> bool {
    is(c, LETTER | MARK) && !is(c, UPPER)
}

/// `U*W+`
fn lower_word(text: &str) -> usize {
    let head = run(text, usize::MAX, is_upper);
    match run(&text[head..], usize::MAX, is_lower) {
        // U* gives back until a character that is in both sets ends the word.
        0 => text[..head]
            .char_indices()
            .rev()
            .find(|&(_, c)| is_lower(c))
            .map_or(0, |(at, c)| at + c.len_utf8()),
        tail => head + tail,
    }
}

/// `U+W*`, tried only where `U*W+` matches nothing: no W follows.
fn upper_word(text: &str) -> usize {
    run(text, usize::MAX, is_upper)
}

fn cased(text: &str, contractions: bool, digits: usize) -> usize {
    let mut length = prefixed(text, LETTER | NUMBER, lower_word);
    if length == 0 {
        length = prefixed(text, LETTER | NUMBER, upper_word);
    }
    if length > 0 {
        return length
            + if contractions {
                contraction(&text[length..], true)
            } else {
                0
            };
    }
    match run(text, digits, |c| is(c, NUMBER)) {
        0 => {}
        length => return length,
    }
    match marks(text, SPACE | LETTER | NUMBER, |c| {
        is_line_end(c) || c == '/'
    }) {
        0 => whitespace(text, true, true),
        length => length,
    }
}

fn symbols(text: &str) -> usize {
    let letters = |text: &str| run(text, usize::MAX, |c| c.is_ascii_alphabetic());
    if text.starts_with(|c: char| c.is_ascii_punctuation()) {
        match letters(&text[1..]) {
            0 => {}
            length => return 1 + length,
        }
    }
    match prefixed(text, LETTER | PUNCTUATION | SYMBOL, |rest| {
        run(rest, usize::MAX, |c| is(c, LETTER | MARK))
    }) {
        0 => {}
        length => return length,
    }
    let skip = usize::from(text.starts_with(' '));
    match run(&text[skip..], usize::MAX, |c| is(c, PUNCTUATION | SYMBOL)) {
        0 => whitespace(text, true, true),
        length => skip + length + run(&text[skip + length..], usize::MAX, is_line_end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stages: &[Stage], text: &str, expected: &[&str]) {
        let mut words = Vec::new();
        split(stages, text, &mut |word| words.push(word.to_owned()));
        assert_eq!(words, expected, "{text:?}");
        assert_eq!(words.concat(), text);
    }

    const LLAMA3: Stage = Stage::Words {
        contractions: true,
        letters: LETTER,
        digits: 3,
    };

    #[test]
    fn gpt2_words() {
        check(
            &[Stage::Gpt2],
            "I'll  go,\nto 12 moons!!  ",
            &[
                "I", "'ll", " ", " go", ",", "\n", "to", " 12", " moons", "!!", "  ",
            ],
        );
        check(&[Stage::Gpt2], "it'S", &["it", "'", "S"]);
        check(&[Stage::Gpt2], "\n a", &["\n", " a"]);
    }

    #[test]
    fn llama3_words() {
        check(
            &[LLAMA3],
            "We'LL pay 12345€\n\n  now",
            &["We", "'LL", " pay", " ", "123", "45", "€\n\n", " ", " now"],
        );
        check(&[LLAMA3], "(x) \n \n y", &["(x", ")", " \n \n", " y"]);
        check(&[LLAMA3], "a  ", &["a", "  "]);
        check(&[LLAMA3], "\ta", &["\ta"]);
    }

    #[test]
    fn marks_join_letters_where_the_pattern_says_so() {
        let text = "e\u{301}a";
        check(&[LLAMA3], text, &["e", "\u{301}a"]);
        check(
            &[Stage::Words {
                contractions: true,
                letters: LETTER | MARK,
                digits: 1,
            }],
            text,
            &[text],
        );
    }

    #[test]
    fn cased_words() {
        let tekken = Stage::Cased {
            contractions: false,
            digits: 1,
        };
        check(
            &[tekken],
            "HTTPServer42 camelCase",
            &["HTTPServer", "4", "2", " camel", "Case"],
        );
        check(&[tekken], "ABC語 X", &["ABC語", " X"]);
        check(&[tekken], "A語B ", &["A語", "B", " "]);
        check(
            &[Stage::Cased {
                contractions: true,
                digits: 3,
            }],
            "don't 1234//\n",
            &["don't", " ", "123", "4", "//\n"],
        );
    }

    #[test]
    fn stages_follow_each_other() {
        let digits = Stage::Run {
            space: false,
            class: Class::Of(NUMBER),
            most: 1,
        };
        check(
            &[digits, Stage::Gpt2],
            "on 2024-01",
            &["on", " ", "2", "0", "2", "4", "-", "0", "1"],
        );
        check(
            &[Stage::ThreeDigits],
            "a1234567b",
            &["a", "123", "456", "7b"],
        );
        check(&[Stage::TrailingSpace], "  a b  ", &["  a b", "  "]);
        check(&[Stage::Lines], "a\n\nb", &["a", "\n\n", "b"]);
    }

    #[test]
    fn symbols_words() {
        check(
            &[Stage::Symbols],
            "x.foo (bar) #1 \n",
            &["x", ".foo", " (", "bar", ")", " #", "1", " \n"],
        );
    }

    #[test]
    fn long_runs_take_linear_time() {
        let spaces = " ".repeat(1 << 20) + "x";
        for stages in [
            &[Stage::TrailingSpace][..],
            &[Stage::Gpt2],
            &[LLAMA3],
            &[Stage::Symbols],
        ] {
            let mut bytes = 0;
            split(stages, &spaces, &mut |word| bytes += word.len());
            assert_eq!(bytes, spaces.len());
        }
    }

    /// The matchers against the regular expressions in their comments, as another engine reads
    /// them, on texts that are mostly corner cases.
    #[test]
    fn matchers_equal_their_patterns() {
        use proptest::prelude::*;

        let run = |class, most| Stage::Run {
            space: false,
            class,
            most,
        };
        let spaced = |class| Stage::Run {
            space: true,
            class: Class::Of(class),
            most: usize::MAX,
        };
        let words = |letters, digits| Stage::Words {
            contractions: true,
            letters,
            digits,
        };
        let table: &[(Stage, String)] = &[
            (Stage::Gpt2, r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)".into()),
            (words(LETTER, 3), pattern_of_words("", "{1,3}")),
            (words(LETTER | MARK, 1), pattern_of_words(r"\p{M}", "")),
            (Stage::Cased { contractions: false, digits: 1 }, pattern_of_cased(false, "")),
            (Stage::Cased { contractions: true, digits: 3 }, pattern_of_cased(true, "{1,3}")),
            (
                Stage::Symbols,
                r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+".into(),
            ),
            (run(Class::Of(NUMBER), 3), r"\p{N}{1,3}".into()),
            (run(Class::Of(NUMBER), usize::MAX), r"\p{N}+".into()),
            (spaced(LETTER), r"\s?\p{L}+".into()),
            (spaced(SPACE | PUNCTUATION), r"\s?[\s\p{P}]+".into()),
            (Stage::ThreeDigits, "[0-9][0-9][0-9]".into()),
            (Stage::TrailingSpace, r"\s+$".into()),
            (Stage::Lines, r"[^\n]+|[\n]+".into()),
        ];
        let corners = "aZsStTrReEvVlLmMdDéÜ語ʰǅ\u{301}\u{903}'''0059½٣..,!/_$€+   \t\n\n\r\u{a0}\u{3000}\u{85}";
        let alphabet: Vec<char> = corners.chars().collect();
        let text = proptest::collection::vec(proptest::sample::select(alphabet), 0..24)
            .prop_map(String::from_iter);
        for (stage, pattern) in table {
            let pattern = fancy_regex::Regex::new(pattern).unwrap();
            let config = ProptestConfig {
                cases: 2000,
                failure_persistence: None,
                ..Default::default()
            };
            proptest!(config, |(text in &text)| {
                let mut expected = Vec::new();
                let mut at = 0;
                for found in pattern.find_iter(&text) {
                    let found = found.unwrap();
                    expected.extend([&text[at..found.start()], found.as_str()]);
                    at = found.end();
                }
                expected.push(&text[at..]);
                expected.retain(|piece| !piece.is_empty());
                let mut pieces = Vec::new();
                split(&[*stage], &text, &mut |piece| pieces.push(piece.to_owned()));
                prop_assert_eq!(pieces, expected, "{:?}", stage);
            });
        }
    }

    const CONTRACTION: &str = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]";

    fn pattern_of_words(also: &str, digits: &str) -> String {
        format!(
            r"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}{also}]+|\p{{N}}{digits}| ?[^\s\p{{L}}{also}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    }

    fn pattern_of_cased(contractions: bool, digits: &str) -> String {
        let after = if contractions {
            format!("(?:{CONTRACTION})?")
        } else {
            String::new()
        };
        let (upper, lower) = (
            r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]",
        );
        let before = r"[^\r\n\p{L}\p{N}]?";
        format!(
            r"{before}{upper}*{lower}+{after}|{before}{upper}+{lower}*{after}|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    }
}
