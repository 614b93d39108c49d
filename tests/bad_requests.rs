//! Refusals: each in OpenAI's shape, with what to do, and the appliance lives on.

use serde_json::json;

use crate::openai::model;
use crate::support::App;

#[test]
fn every_refusal_has_its_status_and_code() {
    let client = App::shared().client();
    let model = model(&client);
    let hello = json!([{"role": "user", "content": "hello"}]);
    let chat = |changes: serde_json::Value| {
        let mut body = json!({"model": model, "messages": hello, "max_tokens": 2});
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.to_string()
    };
    let long = "word ".repeat(40_000);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: Vec<(&str, &str, &str, String, u16)> = vec![
        (
            "not JSON",
            "POST",
            "/v1/chat/completions",
            "{\"model\":".into(),
            400,
        ),
        (
            "wrong type",
            "POST",
            "/v1/chat/completions",
            chat(json!({"messages": "hello"})),
            400,
        ),
        (
            "no messages",
            "POST",
            "/v1/chat/completions",
            json!({"model": model}).to_string(),
            400,
        ),
        (
            "empty messages",
            "POST",
            "/v1/chat/completions",
            chat(json!({"messages": []})),
            400,
        ),
        (
            "unknown role",
            "POST",
            "/v1/chat/completions",
            chat(json!({"messages": [{"role": "wizard", "content": "x"}]})),
            400,
        ),
        (
            "negative temperature",
            "POST",
            "/v1/chat/completions",
            chat(json!({"temperature": -1})),
            400,
        ),
        (
            "top_p above one",
            "POST",
            "/v1/chat/completions",
            chat(json!({"top_p": 1.5})),
            400,
        ),
        (
            "too long",
            "POST",
            "/v1/chat/completions",
            chat(json!({"messages": [{"role": "user", "content": long}]})),
            400,
        ),
        ("deep JSON", "POST", "/v1/chat/completions", deep, 400),
        (
            "unknown model",
            "POST",
            "/v1/chat/completions",
            chat(json!({"model": "no-such-model"})),
            404,
        ),
        (
            "unknown model by name",
            "GET",
            "/v1/models/no-such-model",
            String::new(),
            404,
        ),
        ("no such route", "GET", "/v1/nothing", String::new(), 404),
        (
            "wrong method",
            "DELETE",
            "/v1/chat/completions",
            String::new(),
            405,
        ),
    ];
    for (name, method, path, body, status) in cases {
        let answer = client.send(method, path, &body);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        let error = &answer.json()["error"];
        let message = error["message"]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: no message in {}", answer.text()));
        assert!(
            message.len() > 8 && !message.contains("panicked"),
            "{name}: {message}"
        );
        assert!(error["type"].is_string(), "{name}: {error}");
    }
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn a_body_that_is_not_json_by_its_header_is_refused() {
    let client = App::shared()
        .client()
        .with_header("Content-Type", "text/plain");
    let answer = client.send("POST", "/v1/chat/completions", "{}");
    assert!(matches!(answer.status, 400 | 415), "{}", answer.text());
    assert!(answer.json()["error"]["message"].is_string());
}

#[test]
fn without_a_model_the_answer_says_how_to_get_one() {
    let app = App::empty();
    let body = json!({"model": "any", "messages": [{"role": "user", "content": "hello"}]});
    let answer = app.client().post("/v1/chat/completions", &body);
    assert_eq!(answer.status, 404);
    let message = answer.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains("onebit"),
        "does not say what to do: {message}"
    );
}

/// Files that are no usable models: each import fails on one line, and nothing is left behind.
#[test]
fn unusable_model_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let real = std::fs::read(crate::support::model_file()).unwrap();
    let files: [(&str, Vec<u8>); 4] = [
        ("empty.gguf", Vec::new()),
        ("text.gguf", b"this is no model".to_vec()),
        ("truncated.gguf", real[..real.len() / 2].to_vec()),
        (
            "hostile.gguf",
            [&b"GGUF\x03\0\0\0"[..], &[0xff; 16], &[0; 64]].concat(),
        ),
    ];
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let data = folder.path().join("data");
        let output = crate::support::app::onebit([
            "import",
            path.to_str().unwrap(),
            "--data",
            data.to_str().unwrap(),
        ]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {error}");
        assert_eq!(error.trim().lines().count(), 1, "{name}: {error}");
        assert!(!error.contains("panicked"), "{name}: {error}");
    }
}
