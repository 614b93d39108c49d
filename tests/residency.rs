//! Many models loaded at once: each answers as itself, and stays.

use serde_json::json;

use crate::support::app::onebit;
use crate::support::{App, root};

/// What the original promised to hold.
const MODELS: usize = 13;

/// Small models of different content: the shipped one, its name changed in place.
fn import(data: &str, folder: &std::path::Path, count: usize) -> Vec<String> {
    const NAME: &[u8] = b"onebit-mini";
    let shipped =
        std::fs::read(root().join("packaging/models/onebit-mini.gguf")).expect("it is there");
    let at = shipped
        .windows(NAME.len())
        .position(|w| w == NAME)
        .expect("it is there");
    (0..count)
        .map(|i| {
            let name = format!("resident-{i:02}");
            let (path, mut bytes) = (folder.join(format!("{name}.gguf")), shipped.clone());
            bytes[at..][..NAME.len()].copy_from_slice(name.as_bytes());
            std::fs::write(&path, bytes).expect("it is there");
            let file = path.to_str().expect("it is there");
            let output = onebit(["import", file, "--name", &name, "--data", data]);
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            std::fs::remove_file(&path).expect("it is there");
            name
        })
        .collect()
}

/// Loads `count` models one after the other, then asks them all, twice: nobody was evicted for another.
fn all_stay_and_answer(count: usize) {
    let folder = tempfile::tempdir().expect("it is there");
    let data = folder.path().join("data");
    let names = import(data.to_str().expect("it is there"), folder.path(), count);
    let app = App::start(&data, &[]);
    let client = app.client();
    for name in &names {
        let loaded = client.post(&format!("/onebit/models/{name}/load"), &json!({}));
        assert_eq!(loaded.status, 200, "{name}: {}", loaded.text());
    }
    let ask = |name: &String| {
        let messages = json!([{"role": "user", "content": "What is the capital of France?"}]);
        let body = json!({"model": name, "messages": messages, "max_tokens": 8, "temperature": 0});
        let answer = client.post("/v1/chat/completions", &body).json();
        assert_eq!(answer["model"], name.as_str(), "{answer}");
        let text = answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_default();
        assert!(text.contains("Paris"), "{answer}");
        text.to_owned()
    };
    let first: Vec<String> = names.iter().map(ask).collect();
    let again: Vec<String> = names.iter().rev().map(ask).collect();
    assert!(first.iter().eq(again.iter().rev()));
    let list = client.get("/onebit/models").json();
    let models = list["models"].as_array().expect("it is there");
    assert_eq!(models.len(), count, "{list}");
    assert!(
        models.iter().all(|model| model["state"] == "loaded"),
        "{list}"
    );
}

#[test]
fn three_models_stay_loaded_and_answer() {
    all_stay_and_answer(3);
}

#[test]
#[ignore = "half a gigabyte of files; tests/run --full runs it"]
fn thirteen_models_stay_loaded_and_answer() {
    all_stay_and_answer(MODELS);
}
