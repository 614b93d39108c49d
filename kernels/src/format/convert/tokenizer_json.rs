//! Hugging Face's tokenizer.json (byte-level BPE) as GGUF's vocabulary keys.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::super::gguf::{Array, Value};
use super::ConvertError;

fn wrong(what: impl Into<String>) -> ConvertError {
    ConvertError::Json {
        file: "tokenizer.json",
        what: what.into(),
    }
}

/// GGUF's token types.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// The keys of a vocabulary of `size` tokens; ids that nobody names become unused tokens, as the
/// embedding has rows for them.
pub(super) fn values(json: &Json, size: u32) -> Result<Vec<(String, Value)>, ConvertError> {
    let model = json.get("model").ok_or_else(|| wrong("model is missing"))?;
    let kind = model.get("type").and_then(Json::as_str).unwrap_or("(none)");
    if kind != "BPE" || model.get("byte_fallback").and_then(Json::as_bool) == Some(true) {
        return Err(wrong(format!(
            "the model {kind} is not byte-level BPE, which alone is supported here"
        )));
    }
    let size = size as usize;
    let mut tokens: Vec<Option<(String, i32)>> = vec![None; size];
    let mut put = |id: u64, text: &str, kind: i32| -> Result<(), ConvertError> {
        let place = usize::try_from(id).ok().and_then(|id| tokens.get_mut(id));
        let place = place.ok_or_else(|| {
            wrong(format!(
                "token {text:?} has the id {id}, but vocab_size is {size}"
            ))
        })?;
        *place = Some((text.to_owned(), kind));
        Ok(())
    };
    let vocabulary = model
        .get("vocab")
        .and_then(Json::as_object)
        .ok_or_else(|| wrong("model.vocab is missing"))?;
    for (text, id) in vocabulary {
        put(
            id.as_u64()
                .ok_or_else(|| wrong(format!("the id of {text:?} is no number")))?,
            text,
            NORMAL,
        )?;
    }
    for added in json
        .get("added_tokens")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
    {
        let id = added.get("id").and_then(Json::as_u64);
        let text = added.get("content").and_then(Json::as_str);
        let (Some(id), Some(text)) = (id, text) else {
            return Err(wrong("an added token has no id or content"));
        };
        let special = added.get("special").and_then(Json::as_bool) == Some(true);
        put(id, text, if special { CONTROL } else { USER_DEFINED })?;
    }
    let mut known = HashSet::new();
    let (mut texts, mut kinds) = (Vec::with_capacity(size), Vec::with_capacity(size));
    for (id, token) in tokens.into_iter().enumerate() {
        let (text, kind) = token.unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED));
        if !known.insert(text.clone()) {
            return Err(wrong(format!("the token {text:?} appears twice")));
        }
        texts.push(text);
        kinds.push(kind);
    }
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    Ok(vec![
        (key("model"), Value::String("gpt2".to_owned())),
        (key("pre"), Value::String(pre_tokenizer(json)?.to_owned())),
        (key("tokens"), Value::Array(Array::String(texts))),
        (key("token_type"), Value::Array(Array::I32(kinds))),
        (key("merges"), Value::Array(Array::String(merges(model)?))),
    ])
}

/// Merges are `"a b"` in older files and `["a", "b"]` in newer ones.
fn merges(model: &Json) -> Result<Vec<String>, ConvertError> {
    let list = model
        .get("merges")
        .and_then(Json::as_array)
        .ok_or_else(|| wrong("model.merges is missing"))?;
    let read = |(rank, merge): (usize, &Json)| {
        let text = match merge {
            Json::String(text) => Some(text.clone()),
            Json::Array(pair) => match &pair[..] {
                [Json::String(left), Json::String(right)] => Some(format!("{left} {right}")),
                _ => None,
            },
            _ => None,
        };
        text.ok_or_else(|| wrong(format!("merge {rank} is no pair of texts")))
    };
    list.iter().enumerate().map(read).collect()
}

/// The patterns that published files spell out, with our names for them.
const PATTERNS: [(&str, &str); 4] = [
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "llama-bpe",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen2",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen35",
    ),
    (
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        "gpt-2",
    ),
];

fn pre_tokenizer(json: &Json) -> Result<&'static str, ConvertError> {
    let pre = json
        .get("pre_tokenizer")
        .ok_or_else(|| wrong("pre_tokenizer is missing"))?;
    let steps: Vec<&Json> = match pre.get("pretokenizers").and_then(Json::as_array) {
        Some(steps) => steps.iter().collect(),
        None => vec![pre],
    };
    let kind = |step: &Json| {
        step.get("type")
            .and_then(Json::as_str)
            .unwrap_or("(none)")
            .to_owned()
    };
    let flag = |step: &Json, name: &str| step.get(name).and_then(Json::as_bool);
    let kinds: Vec<String> = steps.iter().map(|step| kind(step)).collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    if steps
        .iter()
        .any(|step| flag(step, "add_prefix_space") == Some(true))
    {
        return Err(wrong("add_prefix_space is not supported"));
    }
    match kinds[..] {
        ["ByteLevel"] if flag(steps[0], "use_regex") != Some(false) => Ok("gpt-2"),
        ["Digits", "ByteLevel"] if flag(steps[0], "individual_digits") == Some(true) => {
            Ok("smollm")
        }
        ["Split", "ByteLevel"] => {
            let pattern = steps[0]
                .pointer("/pattern/Regex")
                .and_then(Json::as_str)
                .unwrap_or_default();
            PATTERNS
                .iter()
                .find(|(known, _)| *known == pattern)
                .map(|(_, name)| *name)
                .ok_or_else(|| {
                    wrong(format!(
                        "the pre-tokenizer pattern {pattern:?} is not known"
                    ))
                })
        }
        _ => Err(wrong(format!(
            "the pre-tokenizer {} is not known",
            kinds.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(pre: Json) -> Json {
        json!({
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
            "added_tokens": [{"id": 4, "content": "<|end|>", "special": true}],
            "pre_tokenizer": pre,
        })
    }

    #[test]
    fn a_vocabulary_with_gaps() {
        let values = values(&file(json!({"type": "ByteLevel"})), 6).unwrap();
        let get = |key: &str| {
            values
                .iter()
                .find(|(known, _)| known.ends_with(key))
                .map(|(_, value)| value.clone())
        };
        let texts = ["a", "b", "ab", "[PAD3]", "<|end|>", "[PAD5]"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(get(".tokens"), Some(Value::Array(Array::String(texts))));
        assert_eq!(
            get(".token_type"),
            Some(Value::Array(Array::I32(vec![1, 1, 1, 5, 3, 5])))
        );
        assert_eq!(
            get(".merges"),
            Some(Value::Array(Array::String(vec!["a b".to_owned()])))
        );
        assert_eq!(get(".pre"), Some(Value::String("gpt-2".to_owned())));
    }

    #[test]
    fn pre_tokenizers_by_their_pattern() {
        let name = |pre: Json| pre_tokenizer(&file(pre)).map_err(|error| error.to_string());
        for (pattern, expected) in PATTERNS {
            let split = json!({"type": "Split", "pattern": {"Regex": pattern}});
            let pre = json!({"type": "Sequence", "pretokenizers": [split, {"type": "ByteLevel", "use_regex": false}]});
            assert_eq!(name(pre), Ok(expected));
        }
        let digits = json!({"type": "Digits", "individual_digits": true});
        assert_eq!(
            name(json!({"pretokenizers": [digits, {"type": "ByteLevel"}]})),
            Ok("smollm")
        );
        assert!(
            name(json!({"type": "Metaspace"}))
                .unwrap_err()
                .contains("Metaspace is not known")
        );
        let split = json!({"type": "Split", "pattern": {"Regex": "x"}});
        assert!(
            name(json!({"pretokenizers": [split, {"type": "ByteLevel"}]}))
                .unwrap_err()
                .contains("\"x\"")
        );
    }

    #[test]
    fn other_models_are_refused() {
        let refused = |json: &Json| values(json, 3).unwrap_err().to_string();
        assert!(refused(&json!({"model": {"type": "Unigram"}})).contains("Unigram"));
        assert!(
            refused(&file(json!({"type": "ByteLevel"})))
                .contains("has the id 4, but vocab_size is 3")
        );
        assert!(refused(&json!({})).contains("model is missing"));
    }
}
