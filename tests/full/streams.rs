//! Two hundred clients stream at once over the queue: none is lost, none hears another's answer.

use std::collections::BTreeMap;

use serde_json::json;

use crate::openai::model;
use crate::support::App;

const CLIENTS: usize = 200;
/// Different questions; every client of one question must hear the same answer.
const QUESTIONS: usize = 8;
const TOKENS: u32 = 6;

#[test]
#[ignore = "minutes; tests/run --full runs it"]
fn no_stream_is_lost_or_mixed() {
    let app = App::with_model(&[]);
    let client = app.client();
    let model = model(&client);
    let body = |question: usize| {
        let text = format!("Repeat exactly: number {question} of {QUESTIONS}.");
        json!({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": TOKENS,
            "temperature": 0, "stream": true})
    };
    let answers: Vec<(usize, String, String)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|i| {
                let (client, body) = (client.clone(), body(i % QUESTIONS));
                scope.spawn(move || {
                    let events: Vec<_> = client
                        .events("POST", "/v1/chat/completions", &body)
                        .collect();
                    assert_eq!(events.last().expect("events").data, "[DONE]");
                    let chunks: Vec<_> = events[..events.len() - 1]
                        .iter()
                        .map(|event| event.json())
                        .collect();
                    let id = chunks[0]["id"].as_str().unwrap().to_owned();
                    assert!(
                        chunks.iter().all(|chunk| chunk["id"] == id.as_str()),
                        "client {i} heard two answers"
                    );
                    let ends = chunks
                        .iter()
                        .filter(|chunk| chunk["choices"][0]["finish_reason"].is_string())
                        .count();
                    assert_eq!(ends, 1, "client {i} heard {ends} ends");
                    let text = chunks
                        .iter()
                        .filter_map(|c| c["choices"][0]["delta"]["content"].as_str())
                        .collect();
                    (i % QUESTIONS, id, text)
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("a client finished"))
            .collect()
    });
    assert_eq!(answers.len(), CLIENTS);
    let ids: std::collections::BTreeSet<_> = answers.iter().map(|(_, id, _)| id).collect();
    assert_eq!(ids.len(), CLIENTS, "every answer has an id of its own");
    let mut by_question: BTreeMap<usize, &String> = BTreeMap::new();
    for (question, _, text) in &answers {
        assert_eq!(
            *by_question.entry(*question).or_insert(text),
            text,
            "question {question} was answered in two ways"
        );
    }
}
