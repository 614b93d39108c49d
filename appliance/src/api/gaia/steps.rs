//! The steps of an answer, as the page folds them: what was looked up.

use serde_json::{Value, json};

use crate::app::StoredMessage;
use crate::domain::Citation;

/// What the search in documents is called: a name that the page has a picture for.
pub(super) const SEARCH: &str = "semantic_search";

/// Passages that one result carries, and their characters.
const PASSAGES_MAX: usize = 8;
const PREVIEW_CHARS: usize = 150;
const CONTENT_CHARS: usize = 800;

/// The steps of an answer that is kept; null where it had none.
pub(super) fn kept(message: &StoredMessage) -> Value {
    match message.citations.as_slice() {
        [] => Value::Null,
        citations => json!([{
            "id": 1,
            "type": "tool",
            "label": "Searched the documents",
            "tool": SEARCH,
            "result": summary(citations),
            "success": true,
            "active": false,
            "timestamp": message.created_at,
            // The page shows these below the step, as it does while an answer is written.
            "retrievalChunks": chunks(citations),
        }]),
    }
}

/// The events of a search in the documents: it begins, it has found, it is over.
pub(super) fn searched(citations: &[Citation]) -> [Value; 3] {
    [
        json!({ "type": "tool_start", "tool": SEARCH, "detail": "Looking into the documents" }),
        json!({
            "type": "tool_result",
            "title": "Searched the documents",
            "summary": summary(citations),
            "success": true,
            "result_data": found(citations),
        }),
        json!({ "type": "tool_end", "success": true }),
    ]
}

fn summary(citations: &[Citation]) -> String {
    let names = names(citations);
    let passages = match citations.len() {
        1 => "1 passage".to_owned(),
        n => format!("{n} passages"),
    };
    format!("{passages} of {}", names.join(", "))
}

fn names(citations: &[Citation]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for cited in citations {
        if !names.contains(&cited.name.as_str()) {
            names.push(&cited.name);
        }
    }
    names
}

pub(super) fn chunks(citations: &[Citation]) -> Vec<Value> {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    citations
        .iter()
        .take(PASSAGES_MAX)
        .map(|cited| {
            json!({
                "id": cited.number,
                "source": cited.name,
                "sourcePath": cited.document,
                "page": cited.page,
                "score": cited.score,
                "preview": cut(&cited.text, PREVIEW_CHARS),
                "content": cut(&cited.text, CONTENT_CHARS),
            })
        })
        .collect()
}

pub(super) fn found(citations: &[Citation]) -> Value {
    json!({
        "type": "search_results",
        "count": citations.len(),
        "source_files": names(citations),
        "chunks": chunks(citations),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_names_each_document_once() {
        let cited = |number: u32, name: &str| Citation {
            number,
            document: "d".into(),
            name: name.into(),
            passage: 0,
            page: Some(2),
            headings: Vec::new(),
            start: 0,
            end: 4,
            score: 0.5,
            text: "ä".repeat(1000),
        };
        let all = [cited(1, "a.pdf"), cited(2, "b.md"), cited(3, "a.pdf")];
        let [start, result, end] = searched(&all);
        assert_eq!(
            (&start["type"], &end["type"]),
            (&json!("tool_start"), &json!("tool_end"))
        );
        assert_eq!(result["summary"], "3 passages of a.pdf, b.md");
        let data = &result["result_data"];
        assert_eq!(data["source_files"], json!(["a.pdf", "b.md"]));
        assert_eq!(
            data["chunks"][0]["content"]
                .as_str()
                .unwrap()
                .chars()
                .count(),
            CONTENT_CHARS
        );
    }
}
