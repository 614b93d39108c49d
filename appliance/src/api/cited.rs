//! Documents in requests and answers, the same in every dialect: which are asked, and what a citation says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::{Citation, Peer, Shelf};

/// What a request's `collections` means: absent or null asks no documents, an empty list asks all of the person's.
/// Where nobody signed in there are none.
pub(super) fn shelf(peer: &Peer, collections: Option<Vec<String>>) -> Option<Shelf> {
    let only = collections?;
    let person = peer.person.clone()?;
    Some(Shelf { person, only })
}

/// A citation as our own routes write and read it; dialects add these fields to their own form.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(super) struct CitationView {
    /// The mark in an answer, from 1; in a search, the rank.
    number: u32,
    document_id: String,
    filename: String,
    /// Place of the passage in its document, from 0.
    passage: u32,
    /// From 1, where the format has pages.
    page: Option<u32>,
    /// Titles above it, outermost first.
    headings: Vec<String>,
    /// First Unicode scalar value in the document's text.
    start: usize,
    /// One past the last.
    end: usize,
    /// At most 1, which is first by words and by meaning.
    score: f32,
    text: String,
}

impl From<&Citation> for CitationView {
    fn from(one: &Citation) -> CitationView {
        CitationView {
            number: one.number,
            document_id: one.document.clone(),
            filename: one.name.clone(),
            passage: one.passage,
            page: one.page,
            headings: one.headings.clone(),
            start: one.start,
            end: one.end,
            score: one.score,
            text: one.text.clone(),
        }
    }
}

impl From<CitationView> for Citation {
    fn from(one: CitationView) -> Citation {
        Citation {
            number: one.number,
            document: one.document_id,
            name: one.filename,
            passage: one.passage,
            page: one.page,
            headings: one.headings,
            start: one.start,
            end: one.end,
            score: one.score,
            text: one.text,
        }
    }
}

/// The same as JSON, for dialects that add to it.
pub(super) fn view(one: &Citation) -> Value {
    json!(CitationView::from(one))
}

/// Several of them.
pub(super) fn views(all: &[Citation]) -> Vec<CitationView> {
    all.iter().map(CitationView::from).collect()
}

/// OpenAI's annotation of a file, at the place in the answer where its mark stands, or at the answer's end. Places are
/// counted in Unicode scalar values.
pub(super) fn file_citation(one: &Citation, answer: &str) -> Value {
    let mark = format!("[{}]", one.number);
    let at = answer.find(&mark).unwrap_or(answer.len());
    let mut view = view(one);
    view["type"] = "file_citation".into();
    view["file_id"] = one.document.as_str().into();
    view["index"] = answer[..at].chars().count().into();
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_stands_at_its_mark() {
        let one = Citation {
            number: 2,
            document: "d".into(),
            name: "a.txt".into(),
            passage: 0,
            page: None,
            headings: Vec::new(),
            start: 3,
            end: 9,
            score: 0.5,
            text: "t".into(),
        };
        let view = file_citation(&one, "Für immer [2].");
        assert_eq!(
            (view["index"].as_u64(), view["file_id"].as_str()),
            (Some(10), Some("d"))
        );
        assert_eq!(file_citation(&one, "Ja.")["index"], 3);
    }

    #[test]
    fn only_a_list_asks_documents() {
        let peer = Peer::loopback();
        assert_eq!(shelf(&peer, None), None);
        assert_eq!(
            shelf(&peer, Some(Vec::new())).unwrap().only,
            Vec::<String>::new()
        );
        let nobody = Peer {
            person: None,
            ..peer
        };
        assert_eq!(shelf(&nobody, Some(vec!["a".into()])), None);
    }
}
