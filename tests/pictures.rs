//! Images in every dialect: they reach an engine that sees, and are refused by name where none does.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use onebit::domain::{Model, ModelFormat};
use onebit::store::Store;
use serde_json::{Value, json};

use crate::openai::model;
use crate::support::App;
use crate::support::engine::fake_engine;

/// The eight bytes with which every PNG begins.
const PNG: &str = "iVBORw0KGgo=";

/// An engine on another machine, which is this one.
struct Elsewhere {
    process: Child,
    address: String,
}

impl Elsewhere {
    fn start() -> Elsewhere {
        let mut process = Command::new(fake_engine())
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        lines.read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        Elsewhere { process, address }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An appliance that knows SmolLM2 and a model elsewhere.
fn start(elsewhere: &Elsewhere) -> App {
    App::prepared(|data| {
        std::fs::create_dir_all(data.join("onebit")).unwrap();
        let settings = "[fetch]\nprivate_hosts = [\"127.0.0.1\"]\n";
        std::fs::write(data.join("onebit/onebit.toml"), settings).unwrap();
        let model = Model {
            id: "eye".into(),
            name: "eye".into(),
            format: ModelFormat::Remote,
            path: format!("http://{}", elsewhere.address).into(),
            file_bytes: 0,
            sha256: "00".into(),
            architecture: "remote".into(),
            quantisation: String::new(),
            context_length: 4096,
            kv_bytes_per_position: 0,
            has_template: true,
            imported_at: 1,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = Store::open(data).unwrap();
            store.models().put(&model).await.unwrap();
        });
    })
}

/// One question with a picture by each dialect: path, body, and where the answer's text stands.
fn questions(model: &str) -> [(&'static str, Value, &'static str); 5] {
    let address = format!("data:image/png;base64,{PNG}");
    let parts = json!([{"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": address}}]);
    let items = json!([{"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": address}]);
    let source = json!({"type": "base64", "media_type": "image/png", "data": PNG});
    let blocks =
        json!([{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]);
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    let ollama = json!([{"role": "user", "content": "What is it?", "images": [PNG]}]);
    [
        (
            "/v1/chat/completions",
            json!({"model": model, "messages": user(parts)}),
            "/choices/0/message/content",
        ),
        (
            "/v1/responses",
            json!({"model": model, "input": user(items)}),
            "/output/0/content/0/text",
        ),
        (
            "/v1/messages",
            json!({"model": model, "max_tokens": 64, "messages": user(blocks)}),
            "/content/0/text",
        ),
        (
            "/api/chat",
            json!({"model": model, "messages": ollama, "stream": false}),
            "/message/content",
        ),
        (
            "/api/generate",
            json!({"model": model, "prompt": "What is it?", "images": [PNG], "stream": false}),
            "/response",
        ),
    ]
}

#[test]
fn pictures_reach_an_engine_that_sees() {
    let elsewhere = Elsewhere::start();
    let app = start(&elsewhere);
    let client = app.client();
    for (path, body, text) in questions("eye") {
        let answer = client.post(path, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let said = answer.json();
        let said = said
            .pointer(text)
            .and_then(Value::as_str)
            .unwrap_or_default();
        assert_eq!(
            said,
            format!("I see data:image/png;base64,{PNG}."),
            "{path}"
        );
    }
}

#[test]
fn a_model_that_does_not_see_says_so() {
    let client = App::shared().client();
    for (path, body, _) in questions(&model(&client)) {
        let answer = client.post(path, &body);
        let said = answer.text();
        assert_eq!(answer.status, 400, "{path}: {said}");
        assert!(
            said.contains("images") || said.contains("vision"),
            "{path}: {said}"
        );
    }
}

#[test]
fn a_chat_of_the_page_keeps_the_pictures_that_it_shows() {
    let elsewhere = Elsewhere::start();
    let app = start(&elsewhere);
    let client = app.client();
    let models = client.get("/onebit/models").json();
    let sees = |id: &str| {
        let all = models["models"].as_array().unwrap().iter();
        all.filter(|one| one["id"] == id)
            .map(|one| one["sees"] == true)
            .next()
    };
    assert_eq!(sees("eye"), Some(true));
    let mut others = models["models"].as_array().unwrap().iter();
    let blind = others.find(|one| one["id"] != "eye").unwrap();
    let blind = blind["id"].as_str().unwrap();
    assert_eq!(sees(blind), Some(false));
    let chat = client.post("/onebit/chats", &json!({})).json();
    let turns = format!("/onebit/chats/{}/turns", chat["id"].as_str().unwrap());
    let address = format!("data:image/png;base64,{PNG}");
    let turn = |model: &str, parent: &Value| {
        let body = json!({"model": model, "content": "What is it?", "parent_id": parent, "pictures": [address]});
        client.post(&turns, &body)
    };
    let refused = turn(blind, &Value::Null);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(
        refused.text().contains("does not see"),
        "{}",
        refused.text()
    );
    let answered = turn("eye", &Value::Null);
    assert!(
        answered.text().contains("I see data:image"),
        "{}",
        answered.text()
    );
    let tree = client
        .get(&format!("/onebit/chats/{}", chat["id"].as_str().unwrap()))
        .json();
    let question = &tree["messages"][0];
    assert_eq!(question["pictures"], 1);
    let at = format!(
        "/onebit/messages/{}/pictures/0",
        question["id"].as_str().unwrap()
    );
    let picture = client.get(&at);
    assert_eq!(
        (picture.status, picture.header("content-type")),
        (200, Some("image/png"))
    );
    assert_eq!(
        picture.body,
        [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]
    );
    // What was shown is part of the conversation: a model that is blind cannot go on with it.
    let on = json!({"model": blind, "content": "And now?", "parent_id": tree["messages"][1]["id"]});
    assert_eq!(client.post(&turns, &on).status, 400);
}
