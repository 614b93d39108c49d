//! Small vocabularies written by hand; the published ones are in `tests/vocabularies.rs`.

use super::*;
use crate::format::gguf::{Array, GgufBuilder, Value};

fn strings(texts: &[&str]) -> Value {
    Value::Array(Array::String(
        texts.iter().map(|&text| text.to_owned()).collect(),
    ))
}

fn build(fill: impl FnOnce(&mut GgufBuilder)) -> Result<Tokenizer, TokenizerError> {
    let mut file = GgufBuilder::new();
    fill(&mut file);
    Tokenizer::from_gguf(&Gguf::from_bytes(file.to_bytes(&[]).unwrap()).unwrap())
}

/// All bytes, a few merges, two markers and a user-defined token.
fn byte_level() -> Tokenizer {
    build(|file| {
        let mut tokens: Vec<String> = bytes::alphabet().iter().map(char::to_string).collect();
        tokens.extend(["Ġa", "ab", "Ġab", "<|im_end|>", "<think>"].map(str::to_owned));
        let mut kinds = vec![1; 256 + 3];
        kinds.extend([3, 4]);
        file.value("tokenizer.ggml.model", Value::String("gpt2".into()))
            .value("tokenizer.ggml.pre", Value::String("gpt-2".into()))
            .value("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)))
            .value("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)))
            .value("tokenizer.ggml.merges", strings(&["a b", "Ġ a", "Ġ ab"]))
            .value("tokenizer.ggml.eos_token_id", Value::U32(259));
    })
    .unwrap()
}

#[test]
fn merges_go_by_rank() {
    let tokenizer = byte_level();
    let plain = Encode::default();
    assert_eq!(tokenizer.encode(" ab a", plain), [258, 256]);
    assert_eq!(tokenizer.encode("é", plain).len(), 2);
    assert_eq!(
        tokenizer.decode(&tokenizer.encode("é ab\n", plain)),
        "é ab\n"
    );
    assert_eq!(
        tokenizer.encode(
            "",
            Encode {
                add_special: true,
                parse_special: true
            }
        ),
        [] as [u32; 0]
    );
}

#[test]
fn markers_are_parsed_only_when_asked() {
    let tokenizer = byte_level();
    let text = " a<|im_end|><think>";
    let parsed = tokenizer.encode(
        text,
        Encode {
            add_special: false,
            parse_special: true,
        },
    );
    assert_eq!(parsed, [256, 259, 260]);
    let plain = tokenizer.encode(text, Encode::default());
    assert!(!plain.contains(&259));
    assert_eq!(plain.last(), Some(&260));
    assert_eq!(tokenizer.decode(&plain), text);
    assert_eq!(tokenizer.decode(&parsed), " a<think>");
    assert!(tokenizer.is_end(259) && tokenizer.is_special(259));
    assert!(!tokenizer.is_special(260) && !tokenizer.is_end(260));
    assert_eq!(tokenizer.token("<|im_end|>"), Some(259));
    assert_eq!(tokenizer.token_bytes(9999), b"");
}

#[test]
fn streams_give_whole_characters() {
    let tokenizer = byte_level();
    let mut decoder = StreamDecoder::new();
    let text: Vec<String> = tokenizer
        .encode("a語", Encode::default())
        .into_iter()
        .map(|id| decoder.push(&tokenizer, id))
        .collect();
    assert_eq!(text, ["a", "", "", "語"]);
    assert_eq!(decoder.push(&tokenizer, 259), "");
    assert_eq!(decoder.finish(), "");
}

fn sentence_pieces() -> Tokenizer {
    build(|file| {
        let tokens = [
            "<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", "▁", "a", "b", "ab", "▁a", "▁ab",
        ];
        let kinds = vec![2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1];
        let scores = vec![0.0, 0.0, 0.0, 0.0, 0.0, -9.0, -8.0, -7.0, -1.0, -2.0, -3.0];
        file.value("tokenizer.ggml.model", Value::String("llama".into()))
            .value("tokenizer.ggml.tokens", strings(&tokens))
            .value("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)))
            .value("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    })
    .unwrap()
}

#[test]
fn sentence_pieces_join_by_score() {
    let tokenizer = sentence_pieces();
    let with = Encode {
        add_special: true,
        parse_special: true,
    };
    assert_eq!(tokenizer.encode("ab b", with), [1, 10, 5, 7]);
    assert_eq!(tokenizer.encode("é", Encode::default()), [5, 3, 4]);
    assert_eq!(tokenizer.encode("x", Encode::default()), [5, 0]);
    assert_eq!(tokenizer.decode(&[1, 10, 5, 7, 2]), "ab b");
    assert_eq!(tokenizer.encode("a</s>a", with), [1, 9, 2, 9]);
    assert!(tokenizer.is_end(2));
}

#[test]
fn word_pieces_take_the_longest() {
    let tokenizer = build(|file| {
        let tokens = [
            "[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁cafe", "s", "▁,", "▁un", "▁",
        ];
        file.value("tokenizer.ggml.model", Value::String("bert".into()))
            .value("tokenizer.ggml.tokens", strings(&tokens))
            .value(
                "tokenizer.ggml.token_type",
                Value::Array(Array::I32(vec![3, 3, 3, 3, 1, 1, 1, 1, 1])),
            )
            .value("tokenizer.ggml.unknown_token_id", Value::U32(1))
            .value("tokenizer.ggml.cls_token_id", Value::U32(2))
            .value("tokenizer.ggml.seperator_token_id", Value::U32(3));
    })
    .unwrap();
    let with = Encode {
        add_special: true,
        parse_special: false,
    };
    assert_eq!(tokenizer.encode("CAFÉS, unknown", with), [2, 4, 5, 6, 1, 3]);
    assert_eq!(tokenizer.decode(&[2, 4, 5, 6, 3]), "cafes ,");
}

#[test]
fn what_is_not_supported_is_named() {
    let pre = |model: &str, pre: Option<&str>| {
        build(|file| {
            file.value("tokenizer.ggml.model", Value::String(model.into()))
                .value("tokenizer.ggml.tokens", strings(&["a"]))
                .value("tokenizer.ggml.merges", strings(&[]));
            if let Some(pre) = pre {
                file.value("tokenizer.ggml.pre", Value::String(pre.into()));
            }
        })
        .unwrap_err()
        .to_string()
    };
    assert!(pre("gpt2", Some("kimi-k2")).starts_with("pre-tokenizer \"kimi-k2\" is not supported"));
    assert!(pre("gpt2", None).contains("names no pre-tokenizer"));
    assert!(pre("t5", None).starts_with("tokenizer model \"t5\""));
    assert!(pre("llama", None).contains("tokenizer.ggml.scores"));
    assert!(pre("bert", None).contains("cls_token_id"));
}

#[test]
fn damaged_vocabularies_are_refused() {
    let damaged = |change: &dyn Fn(&mut GgufBuilder)| {
        build(|file| {
            file.value("tokenizer.ggml.model", Value::String("gpt2".into()))
                .value("tokenizer.ggml.pre", Value::String("gpt-2".into()))
                .value("tokenizer.ggml.tokens", strings(&["a", "b"]))
                .value("tokenizer.ggml.merges", strings(&[]));
            change(file);
        })
        .unwrap_err()
        .to_string()
    };
    let types = damaged(&|file| {
        file.value(
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(vec![1])),
        );
    });
    assert_eq!(
        types,
        "tokenizer.ggml.token_type has 1 entries, but there are 2 tokens"
    );
    let bos = damaged(&|file| {
        file.value("tokenizer.ggml.bos_token_id", Value::U32(2));
    });
    assert_eq!(
        bos,
        "tokenizer.ggml.bos_token_id is 2, but there are 2 tokens"
    );
    let merge = damaged(&|file| {
        file.value("tokenizer.ggml.merges", strings(&["ab"]));
    });
    assert!(merge.starts_with("merge 0 is \"ab\""), "{merge}");
    let byte = damaged(&|file| {
        file.value(
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(vec![1, 6])),
        );
    });
    assert!(byte.starts_with("token 1 is marked as a byte"), "{byte}");
}
