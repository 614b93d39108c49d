//! What is kept with an answer as JSON: what it cost, and the passages that it was made from.

use super::StoreError;
use crate::domain::{Citation, Stats};

/// The stats column: a JSON object, so that SQL can read it too.
pub(super) fn stats_text(stats: &Stats) -> String {
    serde_json::json!({
        "prompt_tokens": stats.prompt_tokens,
        "cached_tokens": stats.cached_tokens,
        "completion_tokens": stats.completion_tokens,
        "ttft_ms": stats.ttft_ms,
        "prefill_tps": stats.prefill_tps,
        "decode_tps": stats.decode_tps,
        "joules": stats.joules,
        "thought_ms": stats.thought_ms,
    })
    .to_string()
}

/// Reads the column back.
pub(super) fn stats(text: &str) -> Result<Stats, StoreError> {
    let bad = || StoreError::BadRow {
        what: "an answer's stats",
        value: text.to_owned(),
    };
    let value: serde_json::Value = serde_json::from_str(text).map_err(|_| bad())?;
    let count = |key: &str| {
        value[key]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(bad)
    };
    Ok(Stats {
        prompt_tokens: count("prompt_tokens")?,
        cached_tokens: count("cached_tokens").ok(),
        completion_tokens: count("completion_tokens")?,
        ttft_ms: value["ttft_ms"].as_f64().ok_or_else(bad)?,
        prefill_tps: value["prefill_tps"].as_f64(),
        decode_tps: value["decode_tps"].as_f64(),
        joules: value["joules"].as_f64(),
        thought_ms: value["thought_ms"].as_f64(),
    })
}

/// The citations column: a JSON array, empty where there is none.
pub(super) fn cites_text(citations: &[Citation]) -> Option<String> {
    let one = |cited: &Citation| {
        serde_json::json!({
            "number": cited.number,
            "document": cited.document,
            "name": cited.name,
            "passage": cited.passage,
            "page": cited.page,
            "headings": cited.headings,
            "start": cited.start,
            "end": cited.end,
            "score": cited.score,
            "text": cited.text,
        })
    };
    let all: Vec<_> = citations.iter().map(one).collect();
    (!all.is_empty()).then(|| serde_json::Value::from(all).to_string())
}

/// Reads the column back.
pub(super) fn cites(text: &str) -> Result<Vec<Citation>, StoreError> {
    let bad = || StoreError::BadRow {
        what: "an answer's citations",
        value: text.to_owned(),
    };
    let all: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|_| bad())?;
    let one = |value: &serde_json::Value| {
        let string = |key: &str| value[key].as_str().map(str::to_owned);
        let number = |key: &str| value[key].as_u64();
        let headings = value["headings"].as_array()?.iter();
        Some(Citation {
            number: u32::try_from(number("number")?).ok()?,
            document: string("document")?,
            name: string("name")?,
            passage: u32::try_from(number("passage")?).ok()?,
            page: number("page").and_then(|page| u32::try_from(page).ok()),
            headings: headings
                .filter_map(|one| one.as_str().map(str::to_owned))
                .collect(),
            start: usize::try_from(number("start")?).ok()?,
            end: usize::try_from(number("end")?).ok()?,
            score: value["score"].as_f64()? as f32,
            text: string("text")?,
        })
    };
    all.iter().map(|value| one(value).ok_or_else(bad)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn citations_read_back() {
        let cited = Citation {
            number: 1,
            document: "d".into(),
            name: "a.pdf".into(),
            passage: 7,
            page: Some(3),
            headings: vec!["One".into(), "Two".into()],
            start: 10,
            end: 20,
            score: 0.5,
            text: "ä \"b\"".into(),
        };
        let all = [
            cited.clone(),
            Citation {
                page: None,
                headings: Vec::new(),
                ..cited
            },
        ];
        assert_eq!(cites(&cites_text(&all).unwrap()).unwrap(), all);
        assert_eq!(cites_text(&[]), None);
        assert!(cites("[{}]").is_err());
    }
}
