//! Real engines, built by `onebit engines build`, behind our own routes.
//!
//! `tests/run --full` builds llama.cpp once into the user's cache and passes its data folder in ONEBIT_TEST_ENGINES.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::app::onebit;
use crate::support::{App, model_file};

/// The folder `engines` that the builds made.
fn built() -> PathBuf {
    let data = std::env::var_os("ONEBIT_TEST_ENGINES").expect("tests/run --full sets it");
    PathBuf::from(data).join("engines")
}

fn import(data: &Path, name: &str) {
    let data = data.to_str().expect("a plain path");
    let file = model_file();
    let file = file.to_str().expect("a plain path");
    let output = onebit(["import", file, "--name", name, "--data", data]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An appliance with the built engines and SmolLM2 under three names.
fn start(folder: &Path) -> App {
    let data = folder.join("data");
    for name in ["one", "two", "three"] {
        import(&data, name);
    }
    std::os::unix::fs::symlink(built(), data.join("engines")).expect("a fresh folder");
    App::start(&data, &[])
}

fn text(answer: &Value) -> String {
    answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
#[ignore = "needs a built llama.cpp; tests/run --full makes it"]
fn a_built_llama_server_answers_and_three_models_of_two_engines_stay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let app = start(folder.path());
    let ask = |model: &str, lane: &str| -> (String, String) {
        let body = json!({
            "model": model, "max_tokens": 16, "temperature": 0,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
        });
        let begun = Instant::now();
        let client = app.client().with_header("x-onebit-lane", lane);
        let answer = client.post("/v1/chat/completions", &body);
        assert_eq!(answer.status, 200, "{lane}: {}", answer.text());
        let route = answer.header("x-onebit-route").expect("a route").to_owned();
        println!("{model} on {lane}: {:?}, {route}", begun.elapsed());
        assert!(route.starts_with(&format!("lane={lane} ")), "{route}");
        (text(&answer.json()), route)
    };
    // Two models in llama-server's processes, one in ours, then each again.
    let places = [
        ("one", "llama.cpu"),
        ("two", "llama.cpu"),
        ("three", "ternary.cpu"),
    ];
    let said: Vec<String> = places.iter().map(|(m, lane)| ask(m, lane).0).collect();
    assert!(said.iter().all(|text| text.len() > 10), "{said:?}");
    assert_eq!(said[0], said[1], "one file, one engine, no chance");
    let list = app.client().get("/onebit/models").json();
    let models = list["models"].as_array().expect("a list");
    let engines: Vec<&str> = models.iter().filter_map(|m| m["engine"].as_str()).collect();
    assert_eq!(
        models.iter().filter(|m| m["state"] == "loaded").count(),
        3,
        "{list}"
    );
    assert!(
        engines.contains(&"llama-server") && engines.contains(&"ternary"),
        "{list}"
    );
    for ((model, lane), said) in places.iter().zip(said) {
        assert_eq!(ask(model, lane).0, said, "{lane}");
    }
    // It streams, embeds, and is gone with the appliance.
    let client = app.client().with_header("x-onebit-lane", "llama.cpu");
    let body = json!({"model": "one", "stream": true, "max_tokens": 8, "messages": [{"role": "user", "content": "Count."}]});
    let events: Vec<_> = client
        .events("POST", "/v1/chat/completions", &body)
        .collect();
    assert_eq!(events.last().map(|e| e.data.as_str()), Some("[DONE]"));
    let vectors = client.post(
        "/v1/embeddings",
        &json!({"model": "one", "input": ["sea", "ship"]}),
    );
    // A chat model pools no vectors, and its engine says so in words.
    assert_ne!(vectors.status, 200);
    assert!(vectors.text().contains("ooling"), "{}", vectors.text());
}
