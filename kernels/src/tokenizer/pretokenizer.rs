//! The pre-tokenizers by the name that stands in a GGUF file, and what else that name implies.

use super::class::{LETTER, MARK, NUMBER, PUNCTUATION};
use super::split::{Class, Stage};

/// How text becomes words for a byte-pair encoding.
#[derive(Debug, Clone, Copy)]
pub(super) struct PreTokenizer {
    pub(super) stages: &'static [Stage],
    /// A word that is a token as it stands is not merged.
    pub(super) whole_words: bool,
    /// Whether a begin token is added when the file does not say.
    pub(super) add_bos: bool,
    /// Words are raw text with `▁` for a space, not the byte alphabet.
    pub(super) raw: bool,
}

const ANY: usize = usize::MAX;

const fn digits(most: usize) -> Stage {
    Stage::Run {
        space: false,
        class: Class::Of(NUMBER),
        most,
    }
}

const fn words(digits: usize) -> Stage {
    Stage::Words {
        contractions: true,
        letters: LETTER,
        digits,
    }
}

const fn chars(class: fn(char) -> bool) -> Stage {
    Stage::Run {
        space: false,
        class: Class::Chars(class),
        most: ANY,
    }
}

const LINE_ENDS: Stage = Stage::Run {
    space: false,
    class: Class::Chars(|c| c == '\r' || c == '\n'),
    most: 1,
};

/// `[一-龥ࠀ-一가-퟿]+`
const CJK_AND_ABOVE: Stage =
    chars(|c| matches!(c, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}'));

/// `[一-龥぀-ゟ゠-ヿ]+`
const HAN_AND_KANA: Stage =
    chars(|c| matches!(c, '\u{4e00}'..='\u{9fa5}' | '\u{3040}'..='\u{30ff}'));

/// `[\p{P}$+<=>^~|]+`, with the grave accent where the tokenizer has it.
const PUNCTUATION_RUN: Stage =
    chars(|c| super::class::is(c, PUNCTUATION) || "$+<=>^~|".contains(c));
const PUNCTUATION_AND_GRAVE: Stage =
    chars(|c| super::class::is(c, PUNCTUATION) || "$+<=>^~|`".contains(c));

const GPT2: &[Stage] = &[Stage::Gpt2];
const DIGIT_GPT2: &[Stage] = &[digits(1), Stage::Gpt2];
const LLAMA3: &[Stage] = &[words(3)];
const QWEN2: &[Stage] = &[words(1)];
const QWEN35: &[Stage] = &[Stage::Words {
    contractions: true,
    letters: LETTER | MARK,
    digits: 1,
}];
const DEEPSEEK_CODER: &[Stage] = &[
    LINE_ENDS,
    Stage::Run {
        space: true,
        class: Class::Of(LETTER),
        most: ANY,
    },
    Stage::Run {
        space: true,
        class: Class::Of(PUNCTUATION),
        most: ANY,
    },
    CJK_AND_ABOVE,
    digits(1),
];
const DEEPSEEK_LLM: &[Stage] = &[
    LINE_ENDS,
    Stage::Run {
        space: true,
        class: Class::Chars(is_deepseek_letter),
        most: ANY,
    },
    Stage::Run {
        space: true,
        class: Class::Chars(is_deepseek_mark),
        most: ANY,
    },
    Stage::TrailingSpace,
    CJK_AND_ABOVE,
    digits(ANY),
];
const DEEPSEEK_V3: &[Stage] = &[digits(3), HAN_AND_KANA, Stage::Symbols];
const FALCON: &[Stage] = &[PUNCTUATION_AND_GRAVE, Stage::Gpt2, Stage::ThreeDigits];
const DEFAULT: &[Stage] = &[
    PUNCTUATION_RUN,
    Stage::Gpt2,
    digits(ANY),
    Stage::ThreeDigits,
];
const TEKKEN: &[Stage] = &[Stage::Cased {
    contractions: false,
    digits: 1,
}];
const GPT4O: &[Stage] = &[Stage::Cased {
    contractions: true,
    digits: 3,
}];
const LINES: &[Stage] = &[Stage::Lines];

/// The pre-tokenizer of that name; `None` for a name that is not supported.
pub(super) fn named(name: &str) -> Option<PreTokenizer> {
    let plain = |stages| PreTokenizer {
        stages,
        whole_words: false,
        add_bos: false,
        raw: false,
    };
    Some(match name {
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "exaone4" | "modern-bert" | "trillion" => {
            plain(GPT2)
        }
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b" => {
            plain(DIGIT_GPT2)
        }
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "lfm2" => {
            PreTokenizer {
                whole_words: true,
                add_bos: true,
                ..plain(LLAMA3)
            }
        }
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => plain(LLAMA3),
        "glm4" => PreTokenizer {
            whole_words: true,
            ..plain(LLAMA3)
        },
        "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "megrez" | "hunyuan" => plain(QWEN2),
        "qwen35" => plain(QWEN35),
        "deepseek-llm" => plain(DEEPSEEK_LLM),
        "deepseek-coder" => plain(DEEPSEEK_CODER),
        "deepseek-v3" | "hunyuan-dense" => plain(DEEPSEEK_V3),
        "falcon" => plain(FALCON),
        "default" => plain(DEFAULT),
        "tekken" => PreTokenizer {
            whole_words: true,
            add_bos: true,
            ..plain(TEKKEN)
        },
        "gpt-4o" | "llama4" => plain(GPT4O),
        "gemma4" => PreTokenizer {
            raw: true,
            add_bos: true,
            ..plain(LINES)
        },
        _ => return None,
    })
}

/// DeepSeek LLM's own list of letters: cased scripts only, as its tokenizer spells them out.
fn is_deepseek_letter(c: char) -> bool {
    LETTERS
        .binary_search_by(|&(first, last)| {
            if last < c {
                std::cmp::Ordering::Less
            } else if first > c {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        })
        .is_ok()
}

/// DeepSeek LLM's own list of marks.
fn is_deepseek_mark(c: char) -> bool {
    matches!(c, '!'..='/' | ':'..='~' | '！'..='／' | '：'..='～' | '‘'..='‟' | '\u{3000}'..='。')
}

/// Sorted, for the binary search.
#[rustfmt::skip] // one line a range would be a hundred lines of nothing
const LETTERS: &[(char, char)] = &[
    ('\u{41}', '\u{5a}'), ('\u{61}', '\u{7a}'), ('\u{b5}', '\u{b5}'), ('\u{c0}', '\u{d6}'),
    ('\u{d8}', '\u{f6}'), ('\u{f8}', '\u{1ba}'), ('\u{1bc}', '\u{1bf}'), ('\u{1c4}', '\u{293}'),
    ('\u{295}', '\u{2af}'), ('\u{370}', '\u{373}'), ('\u{376}', '\u{376}'),
    ('\u{377}', '\u{377}'), ('\u{37b}', '\u{37d}'), ('\u{37f}', '\u{37f}'),
    ('\u{386}', '\u{386}'), ('\u{388}', '\u{38a}'), ('\u{38c}', '\u{38c}'),
    ('\u{38e}', '\u{3a1}'), ('\u{3a3}', '\u{3f5}'), ('\u{3f7}', '\u{481}'),
    ('\u{48a}', '\u{52f}'), ('\u{531}', '\u{556}'), ('\u{10a0}', '\u{10c5}'),
    ('\u{13a0}', '\u{13f5}'), ('\u{13f8}', '\u{13fd}'), ('\u{1c90}', '\u{1cba}'),
    ('\u{1cbd}', '\u{1cbf}'), ('\u{1d00}', '\u{1d2b}'), ('\u{1d6b}', '\u{1d77}'),
    ('\u{1d79}', '\u{1d9a}'), ('\u{1e00}', '\u{1f15}'), ('\u{1f18}', '\u{1f1d}'),
    ('\u{1f20}', '\u{1f45}'), ('\u{1f48}', '\u{1f4d}'), ('\u{1f50}', '\u{1f57}'),
    ('\u{1f59}', '\u{1f59}'), ('\u{1f5b}', '\u{1f5b}'), ('\u{1f5d}', '\u{1f5d}'),
    ('\u{1f5f}', '\u{1f7d}'), ('\u{1f80}', '\u{1fb4}'), ('\u{1fb6}', '\u{1fbc}'),
    ('\u{1fbe}', '\u{1fbe}'), ('\u{1fc2}', '\u{1fc4}'), ('\u{1fc6}', '\u{1fcc}'),
    ('\u{1fd0}', '\u{1fd3}'), ('\u{1fd6}', '\u{1fdb}'), ('\u{1fe0}', '\u{1fec}'),
    ('\u{1ff2}', '\u{1ff4}'), ('\u{1ff6}', '\u{1ffc}'), ('\u{2102}', '\u{2102}'),
    ('\u{2107}', '\u{2107}'), ('\u{210a}', '\u{2113}'), ('\u{2115}', '\u{2115}'),
    ('\u{2119}', '\u{211d}'), ('\u{2124}', '\u{2124}'), ('\u{2126}', '\u{2126}'),
    ('\u{2128}', '\u{2128}'), ('\u{212a}', '\u{212d}'), ('\u{212f}', '\u{2134}'),
    ('\u{2139}', '\u{2139}'), ('\u{213c}', '\u{213f}'), ('\u{2145}', '\u{2149}'),
    ('\u{214e}', '\u{214e}'), ('\u{2183}', '\u{2183}'), ('\u{2184}', '\u{2184}'),
    ('\u{2c00}', '\u{2c7b}'), ('\u{2c7e}', '\u{2ce4}'), ('\u{2ceb}', '\u{2cee}'),
    ('\u{2cf2}', '\u{2cf2}'), ('\u{2cf3}', '\u{2cf3}'), ('\u{a640}', '\u{a66d}'),
    ('\u{a680}', '\u{a69b}'), ('\u{a722}', '\u{a76f}'), ('\u{a771}', '\u{a787}'),
    ('\u{a78b}', '\u{a78e}'), ('\u{ab70}', '\u{abbf}'), ('\u{fb00}', '\u{fb06}'),
    ('\u{fb13}', '\u{fb17}'), ('\u{ff21}', '\u{ff3a}'), ('\u{ff41}', '\u{ff5a}'),
    ('\u{10400}', '\u{1044f}'), ('\u{104b0}', '\u{104d3}'), ('\u{104d8}', '\u{104fb}'),
    ('\u{10c80}', '\u{10cb2}'), ('\u{10cc0}', '\u{10cf2}'), ('\u{118a0}', '\u{118df}'),
    ('\u{1e900}', '\u{1e943}'),
];
