//! Ollama's dialect on the real small model: what its clients look at, field by field.

use serde_json::{Value, json};

use crate::openai;
use crate::support::client::Answer;
use crate::support::{App, Client};

/// The default model's name as Ollama's clients know it.
fn model(client: &Client) -> String {
    let name = client.get("/api/tags").json()["models"][0]["name"].clone();
    name.as_str().expect("a name").to_owned()
}

fn chat(model: &str, text: &str, tokens: i32) -> Value {
    json!({
        "model": model, "stream": false, "messages": [{"role": "user", "content": text}],
        "options": {"num_predict": tokens, "temperature": 0}
    })
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let text = answer.text();
    assert!(text.ends_with('\n'), "{text:?}");
    let line = |line: &str| serde_json::from_str(line).expect("each line is JSON");
    text.lines().map(line).collect()
}

#[test]
fn a_server_is_known_by_its_words() {
    let client = App::shared().client();
    let root = client.get("/");
    assert_eq!((root.status, &*root.text()), (200, "Ollama is running"));
    let page = client.with_header("Accept", "text/html,*/*").get("/");
    assert_eq!(page.header("location"), Some("/app/"));
    for path in ["/", "/api/version", "/api/tags"] {
        let head = client.send("HEAD", path, "");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
    let version = client.get("/api/version").json();
    assert!(
        version["version"]
            .as_str()
            .is_some_and(|v| v.split('.').count() == 3)
    );
}

#[test]
fn models_have_real_digests_sizes_and_times() {
    let client = App::shared().client();
    let list = client.get("/api/tags").json();
    let entry = &list["models"][0];
    let name = entry["name"].as_str().unwrap();
    assert_eq!(name, format!("{}:latest", openai::model(&client)));
    let digest = entry["digest"].as_str().unwrap();
    assert!(
        digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()),
        "{digest}"
    );
    assert!(entry["size"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    let modified = entry["modified_at"].as_str().unwrap();
    assert!(
        modified.starts_with("20") && modified.ends_with('Z'),
        "{modified}"
    );
    assert_eq!(entry["details"]["format"], "gguf");
    assert_eq!(entry["details"]["parameter_size"], "134.52M");
    assert_eq!(
        client
            .send("HEAD", &format!("/api/blobs/sha256:{digest}"), "")
            .status,
        200
    );
    assert_eq!(client.send("HEAD", "/api/blobs/sha256:00", "").status, 404);

    let bare = name.trim_end_matches(":latest");
    for name in [name, bare] {
        let shown = client.post("/api/show", &json!({"model": name})).json();
        assert_eq!(
            shown["model_info"]["general.architecture"], "llama",
            "{shown}"
        );
        assert_eq!(shown["model_info"]["general.parameter_count"], 134_515_008);
        assert_eq!(shown["model_info"]["tokenizer.ggml.tokens"], Value::Null);
        assert!(shown["template"].as_str().unwrap().contains("im_start"));
        assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    }
}

#[test]
fn an_answer_counts_and_measures() {
    let client = App::shared().client();
    let model = model(&client);
    let answer = client
        .post("/api/chat", &chat(&model, "Name a colour.", 8))
        .json();
    assert_eq!(
        (&answer["model"], &answer["done"]),
        (&json!(model), &json!(true))
    );
    assert_eq!(answer["message"]["role"], "assistant");
    let n = |name: &str| {
        answer[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name} in {answer}"))
    };
    assert!(n("eval_count") <= 8 && n("prompt_eval_count") > 5);
    assert!(n("total_duration") >= n("eval_duration") + n("prompt_eval_duration"));
    let ended = if n("eval_count") == 8 {
        "length"
    } else {
        "stop"
    };
    assert_eq!(answer["done_reason"], ended);

    let running = client.get("/api/ps").json();
    let loaded = running["models"].as_array().unwrap().iter();
    let loaded = loaded.into_iter().find(|entry| entry["name"] == model);
    assert!(
        loaded.is_some_and(|entry| entry["size"].as_u64() > Some(1 << 20)),
        "{running}"
    );
}

#[test]
fn lines_say_the_same_as_a_whole_answer_in_every_dialect() {
    let client = App::shared().client();
    let model = model(&client);
    let mut body = chat(&model, "Count from one to five.", 20);
    let whole = client.post("/api/chat", &body).json();
    body.as_object_mut().unwrap().remove("stream");
    let lines = lines(&client.post("/api/chat", &body));
    let (last, parts) = lines.split_last().unwrap();
    assert!(parts.iter().all(|part| part["done"] == false));
    let text: String = parts
        .iter()
        .map(|part| part["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(text, whole["message"]["content"].as_str().unwrap());
    assert_eq!(last["done"], true);
    assert_eq!(last["message"]["content"], "");
    assert_eq!(last["eval_count"], whole["eval_count"]);

    let question = json!({
        "model": openai::model(&client), "max_tokens": 20, "temperature": 0,
        "messages": [{"role": "user", "content": "Count from one to five."}]
    });
    let same = client.post("/v1/chat/completions", &question).json();
    assert_eq!(
        same["choices"][0]["message"]["content"],
        whole["message"]["content"]
    );
}

#[test]
fn generate_goes_on_from_its_context() {
    let client = App::shared().client();
    let model = model(&client);
    let ask = |changes: Value| {
        let mut body = json!({
            "model": model, "prompt": "Say a word.", "stream": false,
            "options": {"num_predict": 6, "temperature": 0}
        });
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        client.post("/api/generate", &body)
    };
    let first = ask(json!({})).json();
    assert!(!first["response"].as_str().unwrap().is_empty(), "{first}");
    let second = ask(json!({"context": first["context"], "prompt": "Another."})).json();
    let count = |answer: &Value| answer["prompt_eval_count"].as_u64().unwrap();
    assert!(count(&second) > count(&first), "{second}");
    let framed = ask(json!({"system": "You speak only of the sea and of ships."})).json();
    assert_ne!(count(&framed), count(&first));
    let raw = ask(json!({"raw": true})).json();
    assert!(
        count(&raw) < count(&first) && raw.get("context").is_none(),
        "{raw}"
    );
    for (changes, word) in [
        (json!({"raw": true, "system": "x"}), "raw"),
        (json!({"suffix": "x"}), "insert"),
        (json!({"template": "{{ .Prompt }}"}), "template"),
        (json!({"images": ["iVBORw0KGgo="]}), "vision"),
        (json!({"images": ["aGk="]}), "images"),
        (json!({"context": [151_644]}), "context"),
    ] {
        let refused = ask(changes.clone());
        let error = refused.json()["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            refused.status == 400 && error.contains(word),
            "{changes}: {error}"
        );
    }
}

#[test]
fn an_answer_keeps_its_shape() {
    let client = App::shared().client();
    let mut body = chat(&model(&client), "Describe a cat.", 60);
    body["format"] = json!({
        "type": "object", "additionalProperties": false, "required": ["legs"],
        "properties": {"legs": {"enum": [3, 4]}}
    });
    let answer = client.post("/api/chat", &body).json();
    let said: Value = serde_json::from_str(answer["message"]["content"].as_str().unwrap()).unwrap();
    assert!(said["legs"] == 3 || said["legs"] == 4, "{said}");
}

#[test]
fn log_probabilities_come_where_asked() {
    let client = App::shared().client();
    let mut body = chat(&model(&client), "Hello", 3);
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(2);
    let answer = client.post("/api/chat", &body).json();
    let tokens = answer["logprobs"].as_array().unwrap();
    assert_eq!(Some(tokens.len() as u64), answer["eval_count"].as_u64());
    assert!(tokens.iter().all(|token| {
        token["logprob"].as_f64() <= Some(0.0)
            && token["top_logprobs"]
                .as_array()
                .is_some_and(|top| top.len() == 2)
    }));
}

#[test]
fn a_model_stays_as_long_as_it_is_told() {
    let app = App::with_model(&[]);
    let client = app.client();
    let model = model(&client);
    let keep = |keep_alive: Value| {
        let mut body = chat(&model, "hi", 2);
        body["keep_alive"] = keep_alive;
        assert_eq!(client.post("/api/chat", &body).json()["done"], true);
        client.get("/api/ps").json()["models"].clone()
    };
    let expires = |running: &Value| running[0]["expires_at"].as_str().unwrap().to_owned();
    let never = expires(&keep(json!(-1)));
    let later = expires(&keep(json!("1h")));
    let soon = expires(&keep(json!(300)));
    assert!(soon < later && later < never, "{soon} {later} {never}");
    keep(json!("1s"));
    let begun = std::time::Instant::now();
    while client.get("/api/ps").json()["models"] != json!([]) {
        assert!(begun.elapsed().as_secs() < 60, "it stays");
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    assert!(begun.elapsed().as_millis() > 500, "it left at once");
}

#[test]
fn a_model_is_loaded_and_let_go_by_an_empty_question() {
    let app = App::with_model(&[]);
    let client = app.client();
    let model = model(&client);
    let ask = |route: &str, keep_alive: Value| {
        let body = json!({"model": model, "stream": false, "keep_alive": keep_alive});
        client.post(route, &body).json()
    };
    let running = || {
        client.get("/api/ps").json()["models"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(ask("/api/chat", json!("5m"))["done_reason"], "load");
    assert_eq!(running(), 1);
    assert_eq!(ask("/api/generate", json!(0))["done_reason"], "unload");
    assert_eq!(running(), 0);
    let mut body = chat(&model, "hi", 2);
    body["keep_alive"] = json!("0s");
    assert_eq!(client.post("/api/chat", &body).json()["done"], true);
    assert_eq!(running(), 0);
    body["stream"] = json!(true);
    assert_eq!(
        lines(&client.post("/api/chat", &body)).last().unwrap()["done"],
        true
    );
    assert_eq!(running(), 0);
}

#[test]
fn models_are_copied_and_deleted() {
    let app = App::with_model(&[]);
    let client = app.client();
    let model = model(&client);
    let names = || {
        let list = client.get("/api/tags").json();
        let models = list["models"].as_array().unwrap().clone();
        models
            .into_iter()
            .map(|entry| entry["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let copy = json!({"source": model, "destination": "second"});
    assert_eq!(client.post("/api/copy", &copy).status, 200);
    assert_eq!(names(), [model.clone(), "second:latest".to_owned()]);
    assert_eq!(
        client
            .post("/api/chat", &chat("second:latest", "hi", 1))
            .status,
        200
    );
    let body = json!({"model": "second"}).to_string();
    assert_eq!(client.send("DELETE", "/api/delete", &body).status, 200);
    assert_eq!(client.send("DELETE", "/api/delete", &body).status, 404);
    assert_eq!(names(), std::slice::from_ref(&model));
    assert_eq!(client.post("/api/chat", &chat(&model, "hi", 1)).status, 200);
    let bad = json!({"source": model, "destination": "../x"});
    assert_eq!(client.post("/api/copy", &bad).status, 400);
}

#[test]
fn every_refusal_is_an_error_with_a_text() {
    let client = App::shared().client();
    let model = model(&client);
    let with = |name: &str, value: Value| {
        let mut body = chat(&model, "hi", 1);
        body[name] = value;
        body.to_string()
    };
    let named = |name: &str| json!({"model": name}).to_string();
    let cases = [
        ("/api/chat", "{".to_owned(), 400, "cannot be read"),
        ("/api/chat", "{}".to_owned(), 400, "model"),
        (
            "/api/chat",
            with("model", json!("no-such")),
            404,
            "not found",
        ),
        (
            "/api/chat",
            with("messages", json!([{"role": "king", "content": ""}])),
            400,
            "king",
        ),
        ("/api/chat", with("format", json!("xml")), 400, "format"),
        ("/api/chat", with("think", json!(true)), 400, "thinking"),
        (
            "/api/chat",
            with("keep_alive", json!("soon")),
            400,
            "keep_alive",
        ),
        (
            "/api/chat",
            with("options", json!({"temperature": "hot"})),
            400,
            "temperature",
        ),
        (
            "/api/chat",
            with("format", json!({"type": "nonsense"})),
            400,
            "shape",
        ),
        ("/api/show", named("no-such"), 404, "not found"),
        (
            "/api/embed",
            json!({"model": model, "input": "x"}).to_string(),
            400,
            "embeddings",
        ),
        (
            "/api/embeddings",
            json!({"model": model, "prompt": "x"}).to_string(),
            400,
            "embeddings",
        ),
        ("/api/pull", named("nothing"), 400, "repository"),
        ("/api/create", named("x"), 501, "/api/create"),
        ("/api/push", named("x"), 501, "/api/push"),
        ("/api/blobs/sha256:00", String::new(), 501, "blobs"),
    ];
    for (path, body, status, word) in cases {
        let answer = client.send("POST", path, &body);
        let json = answer.json();
        let error = json["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{path}: {json}"));
        assert_eq!(answer.status, status, "{path} {body}: {error}");
        assert!(error.contains(word), "{path}: {error}");
    }
    let unknown = client.get("/api/unknown");
    assert_eq!(
        (unknown.status, unknown.json()),
        (404, json!({"detail": "Not Found"}))
    );
    assert_eq!(client.get("/api/chat").status, 405);
    assert!(client.get("/api/chat").json()["error"].is_string());
    let foreign = client.with_header("Host", "evil.example").get("/api/tags");
    assert!(foreign.status == 421 && foreign.json()["error"].is_string());
}

/// Whoever is not the owner may chat, but not send models away or bring them.
#[test]
fn a_guest_only_chats() {
    let client = App::shared().client();
    let model = model(&client);
    let guest = client.guest();
    let mut body = chat(&model, "hi", 1);
    assert_eq!(guest.post("/api/chat", &body).status, 200);
    body["keep_alive"] = json!(0);
    assert_eq!(guest.post("/api/chat", &body).status, 403);
    assert_eq!(
        guest.post("/api/pull", &json!({"model": "a/b"})).status,
        403
    );
    let body = json!({"model": model}).to_string();
    assert_eq!(guest.send("DELETE", "/api/delete", &body).status, 403);
}
