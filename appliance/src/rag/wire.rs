//! How the extracting child hands its text over: one JSON object behind a separator that JSON cannot hold.
//!
//! Readers of foreign formats may print what they like before it.

use serde_json::{Value, json};

use super::extract::ExtractError;
use crate::domain::document::{Heading, Text};
use crate::domain::library::Trouble;

/// ASCII's record separator.
const MARK: u8 = 0x1e;

/// Writes what was made of a file.
pub(super) fn write(result: &Result<Text, ExtractError>) -> Vec<u8> {
    let value = match result {
        Ok(text) => {
            let headings: Vec<Value> = text
                .headings
                .iter()
                .map(|heading| json!([heading.start, heading.level, heading.title]))
                .collect();
            json!({
                "content": text.content,
                "pages": text.page_starts,
                "headings": headings,
                "title": text.title,
            })
        }
        Err(error) => json!({ "kind": error.kind(), "message": error.to_string() }),
    };
    let mut bytes = vec![MARK];
    bytes.extend(value.to_string().into_bytes());
    bytes
}

/// Reads it back; `None` where the child said nothing that makes sense.
pub fn read(output: &[u8]) -> Option<Result<Text, Trouble>> {
    let begin = memchr::memrchr(MARK, output)? + 1;
    let value: Value = serde_json::from_slice(&output[begin..]).ok()?;
    if let Some(kind) = value["kind"].as_str() {
        return Some(Err(Trouble {
            kind: kind.to_owned(),
            message: value["message"].as_str()?.to_owned(),
        }));
    }
    let content = value["content"].as_str()?.to_owned();
    let offset = |value: &Value| {
        let at = usize::try_from(value.as_u64()?).ok()?;
        content.is_char_boundary(at).then_some(at)
    };
    let heading = |value: &Value| {
        Some(Heading {
            start: offset(&value[0])?,
            level: u8::try_from(value[1].as_u64()?).ok()?,
            title: value[2].as_str()?.to_owned(),
        })
    };
    let headings = value["headings"]
        .as_array()?
        .iter()
        .map(heading)
        .collect::<Option<_>>()?;
    let page_starts = value["pages"]
        .as_array()?
        .iter()
        .map(offset)
        .collect::<Option<_>>()?;
    let title = value["title"].as_str().map(str::to_owned);
    Some(Ok(Text {
        content,
        page_starts,
        headings,
        title,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_trouble_come_over_whatever_was_printed_before() {
        let text = Text {
            content: "ä \u{1e} {\"".into(),
            page_starts: vec![0, 2],
            headings: vec![Heading {
                start: 2,
                level: 1,
                title: "H".into(),
            }],
            title: None,
        };
        let mut output = b"warning: {\x1e odd font\n".to_vec();
        output.extend(write(&Ok(text.clone())));
        assert_eq!(read(&output), Some(Ok(text)));
        let trouble = Trouble {
            kind: "empty".into(),
            message: "the file is empty".into(),
        };
        assert_eq!(read(&write(&Err(ExtractError::Empty))), Some(Err(trouble)));
    }

    #[test]
    fn nonsense_is_nothing() {
        for output in [
            &b""[..],
            b"{}",
            b"\x1e{}",
            b"\x1e{\"content\": \"\xc3\xa4\", \"pages\": [1], \"headings\": []}",
            b"\x1e{\"content\": \"a\", \"pages\": [], \"headings\": [[9, 1, \"x\"]]}",
        ] {
            assert_eq!(read(output), None, "{output:?}");
        }
    }
}
