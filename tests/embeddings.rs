//! Vectors from texts, by OpenAI's route and by llama.cpp's: with an engine that makes them, and without.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use onebit::domain::{Model, ModelFormat};
use onebit::store::Store;
use serde_json::{Value, json};

use crate::openai::model;
use crate::support::engine::fake_engine;
use crate::support::{App, model_file};

/// A model that the built-in engine does not run, so that llama-server does: the fake one, which makes
/// `[1, NUMBER, 0.5]` of each text.
fn appliance(folder: &Path) -> App {
    appliance_with(folder, "")
}

/// The same with settings of its own.
fn appliance_with(folder: &Path, settings: &str) -> App {
    let data = folder.join("data");
    std::fs::create_dir_all(data.join("onebit")).unwrap();
    std::fs::write(data.join("onebit/onebit.toml"), settings).unwrap();
    let place = data.join("engines/llama-server/current");
    std::fs::create_dir_all(&place).unwrap();
    // A copy, because the sandbox of a child lets it read its own folder.
    let program = place.join("llama-server");
    std::fs::copy(fake_engine(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let model = Model {
        id: "embedder".into(),
        name: "Embedder".into(),
        format: ModelFormat::Gguf,
        path: model_file(),
        file_bytes: 1 << 20,
        sha256: "00".into(),
        architecture: "nomic-bert".into(),
        quantisation: "F16".into(),
        context_length: 2048,
        kv_bytes_per_position: 0,
        has_template: false,
        imported_at: 1,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(&data).unwrap();
        store.models().put(&model).await.unwrap();
    });
    App::start(&data, &[])
}

#[test]
fn vectors_come_as_floats_and_as_base64() {
    let folder = tempfile::tempdir().unwrap();
    let app = appliance(folder.path());
    let client = app.client();
    let ask = |more: Value| {
        let mut body = json!({ "model": "embedder", "input": ["one", "two words"] });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        client.post("/v1/embeddings", &body)
    };
    let answer = ask(json!({})).json();
    assert_eq!(
        (&answer["object"], &answer["model"]),
        (&json!("list"), &json!("embedder")),
        "{answer}"
    );
    assert_eq!(
        answer["data"][1],
        json!({ "object": "embedding", "index": 1, "embedding": [1.0, 1.0, 0.5] })
    );
    let tokens = |texts: [&str; 2]| -> usize {
        let count = |text: &str| {
            let split = client.post(
                "/tokenize",
                &json!({ "model": "embedder", "content": text, "add_special": true }),
            );
            split.json()["tokens"].as_array().unwrap().len()
        };
        texts.into_iter().map(count).sum()
    };
    assert_eq!(
        answer["usage"]["prompt_tokens"],
        tokens(["one", "two words"])
    );
    assert_eq!(
        ask(json!({ "encoding_format": "base64" })).json()["data"][0]["embedding"],
        "AACAPwAAAAAAAAA/"
    );

    let short = ask(json!({ "dimensions": 2 })).json();
    let length = 2f64.sqrt();
    for number in short["data"][1]["embedding"].as_array().unwrap() {
        assert!(
            (number.as_f64().unwrap() - 1.0 / length).abs() < 1e-6,
            "{short}"
        );
    }
    let long = ask(json!({ "dimensions": 4 }));
    assert_eq!(
        (long.status, long.json()["error"]["param"].clone()),
        (400, json!("dimensions"))
    );
    let by_tokens = ask(json!({ "input": [[1000, 2000], [3000]] })).json();
    assert_eq!(by_tokens["data"].as_array().unwrap().len(), 2);

    let native = client.post(
        "/embedding",
        &json!({ "model": "embedder", "content": ["a", "b"], "embd_normalize": -1 }),
    );
    assert_eq!(
        native.json()[1],
        json!({ "index": 1, "embedding": [[1.0, 1.0, 0.5]] })
    );
}

#[test]
fn a_reranker_orders_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let app = appliance_with(folder.path(), "[documents]\nreranker = \"embedder\"\n");
    let client = app.client();
    // The fake engine likes long texts best; by words and meaning the short one is first.
    let texts = [
        "The lighthouse keeper.",
        "A keeper of bees, of sheep and of accounts walked past the lighthouse on a rainy day.",
        "Rain on the lighthouse: an account of a day, of its clouds, its puddles, its umbrellas, and of \
         nobody in particular who might have kept anything at all in those years.",
    ];
    for (at, text) in texts.iter().enumerate() {
        let id = crate::documents::upload(&client, &format!("{at}.txt"), text.as_bytes());
        crate::documents::settled(&client, id["id"].as_str().unwrap());
    }
    let names = |mode: &str| -> Vec<String> {
        let asked = json!({"query": "lighthouse keeper", "k": 3, "mode": mode});
        let found = client.post("/v1/search", &asked).json();
        let passages = found["passages"].as_array().unwrap().clone();
        let name = |one: &Value| one["filename"].as_str().unwrap().to_owned();
        passages.iter().map(name).collect()
    };
    assert_eq!(names("words")[0], "0.txt");
    assert_eq!(names("hybrid"), ["2.txt", "1.txt", "0.txt"]);
    drop(app);

    let folder = tempfile::tempdir().unwrap();
    let app = appliance_with(folder.path(), "[documents]\nreranker = \"nobody\"\n");
    let client = app.client();
    let id = crate::documents::upload(&client, "a.txt", b"The lighthouse keeper.");
    crate::documents::settled(&client, id["id"].as_str().unwrap());
    let refused = client.post("/v1/search", &json!({"query": "lighthouse"}));
    let error = refused.json()["error"].clone();
    assert_eq!(error["code"], "reranker_failed", "{error}");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("documents.reranker"),
        "{error}"
    );
}

#[test]
fn a_model_that_makes_none_says_what_would() {
    let client = App::shared().client();
    let chats = model(&client);
    let answer = client.post("/v1/embeddings", &json!({ "model": chats, "input": "a" }));
    let error = answer.json()["error"].clone();
    assert_eq!(
        (answer.status, &error["code"]),
        (400, &json!("unsupported_operation"))
    );
    assert!(
        error["message"].as_str().unwrap().contains("onebit pull"),
        "{error}"
    );
    let unknown = client.post(
        "/v1/embeddings",
        &json!({ "input": "a", "model": "text-embedding-3-small" }),
    );
    assert_eq!(
        (unknown.status, unknown.json()["error"]["code"].clone()),
        (404, json!("model_not_found"))
    );
}

/// The cosine of two vectors of length one.
fn likeness(one: &Value, other: &Value) -> f64 {
    let numbers = |vector: &Value| -> Vec<f64> {
        let numbers = vector
            .as_array()
            .unwrap_or_else(|| panic!("{vector} is no vector"));
        numbers
            .iter()
            .map(|number| number.as_f64().unwrap())
            .collect()
    };
    let pairs = numbers(one).into_iter().zip(numbers(other));
    pairs.map(|(a, b)| a * b).sum()
}

#[test]
fn the_encoder_that_comes_with_the_program_answers_every_dialect() {
    let client = App::shared().client();
    let texts = json!(["A cat sleeps.", "A kitten naps.", "Steel prices rose."]);
    let openai = client
        .post("/v1/embeddings", &json!({ "input": texts }))
        .json();
    assert_eq!(openai["model"], "all-minilm-l6-v2", "{openai}");
    let vector = |at: usize| &openai["data"][at]["embedding"];
    assert_eq!(vector(0).as_array().unwrap().len(), 384);
    assert!((likeness(vector(0), vector(0)) - 1.0).abs() < 1e-4);
    assert!(likeness(vector(0), vector(1)) > likeness(vector(0), vector(2)) + 0.3);
    assert!(
        openai["usage"]["prompt_tokens"].as_u64() > Some(12),
        "{}",
        openai["usage"]
    );

    let lemonade = client.post(
        "/api/v1/embeddings",
        &json!({ "model": "all-minilm-l6-v2", "input": texts }),
    );
    assert_eq!(lemonade.json()["data"], openai["data"]);
    let ollama = client
        .post(
            "/api/embed",
            &json!({ "model": "all-minilm", "input": texts }),
        )
        .json();
    assert!(
        (likeness(&ollama["embeddings"][2], vector(2)) - 1.0).abs() < 1e-4,
        "{ollama}"
    );
    let older = client.post(
        "/api/embeddings",
        &json!({ "model": "all-minilm:latest", "prompt": "A cat sleeps." }),
    );
    assert!((likeness(&older.json()["embedding"], vector(0)) - 1.0).abs() < 1e-4);
    let llama = client.post(
        "/embedding",
        &json!({ "model": "all-minilm-l6-v2", "content": "A cat sleeps." }),
    );
    assert!((likeness(&llama.json()[0]["embedding"][0], vector(0)) - 1.0).abs() < 1e-4);

    // A text that it cannot read whole is refused, or cut where the dialect cuts.
    let long = "sea ".repeat(300);
    let refused = client.post(
        "/v1/embeddings",
        &json!({ "model": "all-minilm", "input": long }),
    );
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
    assert_eq!(
        client
            .post(
                "/api/embed",
                &json!({ "model": "all-minilm", "input": long })
            )
            .status,
        200
    );
    let whole = json!({ "model": "all-minilm", "input": long, "truncate": false });
    assert_eq!(client.post("/api/embed", &whole).status, 400);
    let unknown = client.post("/api/embed", &json!({ "model": "nobody", "input": "a" }));
    assert_eq!(unknown.status, 404, "{}", unknown.text());
}
