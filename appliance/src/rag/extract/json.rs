//! JSON and JSON Lines: one line per leaf, its path before it, so that a passage says what its values mean.

use super::plain::decode;
use super::writer::Writer;
use super::{ExtractError, Limits};
use crate::domain::document::Text;
use serde_json::Value;

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    let source = decode(bytes);
    let broken = |error: serde_json::Error| ExtractError::Broken {
        format: "JSON",
        why: error.to_string(),
    };
    let mut writer = Writer::new(limits);
    // serde_json's own depth limit of 128 answers deep nesting with an error.
    for value in serde_json::Deserializer::from_str(&source).into_iter::<Value>() {
        let mut lines = String::new();
        leaves(&mut String::new(), &value.map_err(broken)?, &mut lines);
        writer.block(&lines)?;
    }
    writer.finish(ExtractError::Empty)
}

fn leaves(path: &mut String, value: &Value, lines: &mut String) {
    let length = path.len();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                leaves(path, value, lines);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                leaves(path, value, lines);
                path.truncate(length);
            }
        }
        Value::String(text) => leaf(path, text, lines),
        other => leaf(path, &other.to_string(), lines),
    }
}

fn leaf(path: &str, text: &str, lines: &mut String) {
    if !path.is_empty() {
        lines.push_str(path);
        lines.push_str(": ");
    }
    lines.push_str(text);
    lines.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_names_its_path() {
        let text =
            read(br#"{"a":{"b":[1,"two"]},"c":null}"#, Limits::default()).expect("valid JSON");
        assert_eq!(text.content, "a.b[0]: 1\na.b[1]: two\nc: null");
        let lines = read(b"{\"n\":1}\n{\"n\":2}\n", Limits::default()).expect("valid JSON lines");
        assert_eq!(lines.content, "n: 1\n\nn: 2");
    }

    #[test]
    fn deep_nesting_is_a_broken_file_and_no_crash() {
        let error = read("[".repeat(100_000).as_bytes(), Limits::default()).expect_err("too deep");
        assert_eq!(error.kind(), "broken");
    }
}
