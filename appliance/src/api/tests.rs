//! The whole HTTP surface without a socket, on a tiny random model.

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Arrival, facts, router};
use crate::app::{App, NewModel};
use crate::config::Config;
use crate::domain::{PersonId, Scope};
use crate::engines::ternary::tests::write_tiny_model;

struct Box {
    _folder: tempfile::TempDir,
    app: App,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The data of each server-sent event.
    fn events(&self) -> Vec<&str> {
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect()
    }
}

async fn open() -> Box {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny.gguf");
    write_tiny_model(&file);
    let mut config = Config {
        data_dir: folder.path().join("data"),
        ..Config::default()
    };
    config.server.body_bytes_max = 10_000;
    config.pool.memory_bytes_max = 1 << 30;
    let app = App::open(config).unwrap();
    app.import(NewModel {
        path: file,
        name: None,
    })
    .await
    .unwrap();
    Box {
        _folder: folder,
        router: router(app.clone()),
        app,
    }
}

/// Streams that end with their reader only.
const ENDLESS: &[&str] = &["/api/sessions/events"];

impl Box {
    async fn send(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost:8000");
        }
        for (name, value) in headers.iter().filter(|(name, _)| *name != "peer") {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        let peer = headers
            .iter()
            .find(|(name, _)| *name == "peer")
            .map_or("127.0.0.1:9", |(_, a)| a);
        request.extensions_mut().insert(Arrival::Socket {
            address: peer.parse::<SocketAddr>().unwrap(),
            secure: headers.contains(&("secure", "yes")),
        });
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = match status == StatusCode::OK && ENDLESS.contains(&path) {
            true => Body::empty(),
            false => response.into_body(),
        };
        let bytes = to_bytes(body, 10 << 20).await.unwrap();
        Answer {
            status,
            headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", &[]).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, &body.to_string(), &[]).await
    }
}

fn chat() -> Value {
    json!({
        "model": "tiny", "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 6, "temperature": 0, "ignore_eos": true
    })
}

#[tokio::test]
async fn refusals_have_the_dialects_shape() {
    let onebit = open().await;
    let chat_path = "/v1/chat/completions";
    let with = |field: &str, value: Value| {
        let mut body = chat();
        body[field] = value;
        body.to_string()
    };
    let long = with(
        "messages",
        json!([{"role": "user", "content": "x".repeat(400)}]),
    );
    let cases: Vec<(&str, &str, String, StatusCode, &str)> = vec![
        (
            "POST",
            chat_path,
            "{".into(),
            StatusCode::BAD_REQUEST,
            "null",
        ),
        (
            "POST",
            chat_path,
            "{}".into(),
            StatusCode::BAD_REQUEST,
            "null",
        ),
        (
            "POST",
            chat_path,
            with("model", json!("tinny")),
            StatusCode::NOT_FOUND,
            "model_not_found",
        ),
        (
            "POST",
            chat_path,
            long,
            StatusCode::BAD_REQUEST,
            "context_length_exceeded",
        ),
        (
            "POST",
            chat_path,
            with("temperature", json!(9)),
            StatusCode::BAD_REQUEST,
            "invalid_value",
        ),
        (
            "POST",
            chat_path,
            with("tools", json!([{"type": "web_search"}])),
            StatusCode::BAD_REQUEST,
            "unsupported_parameter",
        ),
        (
            "POST",
            chat_path,
            with("pad", json!("x".repeat(20_000))),
            StatusCode::PAYLOAD_TOO_LARGE,
            "null",
        ),
        (
            "GET",
            chat_path,
            String::new(),
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
        ),
        (
            "GET",
            "/v1/nothing",
            String::new(),
            StatusCode::NOT_FOUND,
            "unknown_url",
        ),
        (
            "GET",
            "/v1/models/nobody",
            String::new(),
            StatusCode::NOT_FOUND,
            "model_not_found",
        ),
        (
            "GET",
            "/onebit/chats/nobody",
            String::new(),
            StatusCode::NOT_FOUND,
            "not_found",
        ),
        (
            "GET",
            "/onebit/chats?limit=x",
            String::new(),
            StatusCode::BAD_REQUEST,
            "null",
        ),
        (
            "POST",
            "/onebit/turns/nobody/stop",
            String::new(),
            StatusCode::NOT_FOUND,
            "turn_not_found",
        ),
    ];
    for (method, path, body, status, code) in cases {
        let answer = onebit.send(method, path, &body, &[]).await;
        assert_eq!(answer.status, status, "{method} {path} {}", answer.text);
        let error = &answer.json()["error"];
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty()),
            "{error}"
        );
        assert_eq!(
            error["code"].as_str().unwrap_or("null"),
            code,
            "{method} {path} {error}"
        );
    }
}

#[tokio::test]
async fn strangers_stay_outside() {
    let onebit = open().await;
    let cases = [
        (
            "GET",
            "/health",
            ("host", "evil.example"),
            StatusCode::MISDIRECTED_REQUEST,
        ),
        (
            "GET",
            "/v1/models",
            ("origin", "https://evil.example"),
            StatusCode::FORBIDDEN,
        ),
        (
            "OPTIONS",
            "/v1/models",
            ("origin", "https://evil.example"),
            StatusCode::FORBIDDEN,
        ),
        (
            "GET",
            "/v1/models",
            ("sec-fetch-site", "cross-site"),
            StatusCode::FORBIDDEN,
        ),
        ("GET", "/health", ("peer", "10.0.0.7:1"), StatusCode::OK),
        (
            "GET",
            "/v1/models",
            ("peer", "10.0.0.7:1"),
            StatusCode::UNAUTHORIZED,
        ),
        (
            "POST",
            "/onebit/models/tiny/load",
            ("x-forwarded-for", "127.0.0.1"),
            StatusCode::UNAUTHORIZED,
        ),
        (
            "POST",
            "/onebit/models/tiny/load",
            ("peer", "[::1]:1"),
            StatusCode::OK,
        ),
    ];
    for (method, path, header, status) in cases {
        let answer = onebit.send(method, path, "", &[header]).await;
        assert_eq!(
            answer.status, status,
            "{method} {path} {header:?} {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn a_stream_and_a_whole_answer_say_the_same() {
    let onebit = open().await;
    let whole = onebit.post("/v1/chat/completions", chat()).await.json();
    assert_eq!(whole["usage"]["completion_tokens"], 6, "{whole}");
    let mut body = chat();
    body["stream"] = json!(true);
    body["stream_options"] = json!({ "include_usage": true });
    let stream = onebit.post("/v1/chat/completions", body).await;
    assert_eq!(
        stream.headers["content-type"],
        "text/event-stream; charset=utf-8"
    );
    let events = stream.events();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(
        text,
        whole["choices"][0]["message"]["content"].as_str().unwrap()
    );
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 6);
    assert_eq!(chunks.last().unwrap()["choices"], json!([]));

    let text = json!({"model": "tiny", "prompt": ["a", "b"], "max_tokens": 4, "n": 2, "temperature": 0, "ignore_eos": true});
    let text = onebit.post("/v1/completions", text).await.json();
    let indexes: Vec<_> = text["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indexes, [0, 1, 2, 3]);
    assert_eq!(
        text["usage"],
        json!({
            "prompt_tokens": 4, "completion_tokens": 16, "total_tokens": 20,
            "prompt_tokens_details": text["usage"]["prompt_tokens_details"],
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    );
}

#[tokio::test]
async fn a_turn_is_stored_and_its_events_can_be_read_again() {
    let onebit = open().await;
    let chat = onebit
        .post("/onebit/chats", json!({ "model": "tiny" }))
        .await
        .json();
    let id = chat["id"].as_str().unwrap();
    let body = json!({"parent_id": null, "content": "hello", "model": "tiny", "options": {"max_tokens": 5}});
    let answer = onebit
        .post(&format!("/onebit/chats/{id}/turns"), body)
        .await;
    let first: Value = serde_json::from_str(answer.events()[0]).unwrap();
    let last: Value = serde_json::from_str(answer.events().last().unwrap()).unwrap();
    let turn = first["turn_id"].as_str().unwrap();
    assert_eq!(last["id"], first["assistant_message_id"]);
    let detail = onebit.get(&format!("/onebit/chats/{id}")).await.json();
    assert_eq!(detail["chat"]["title"], "hello");
    assert_eq!(detail["messages"][1], last);
    assert_eq!(detail["turns"], json!([]));

    let path = format!("/onebit/turns/{turn}/events");
    assert_eq!(onebit.get(&path).await.text, answer.text);
    let rest = onebit
        .send("GET", &path, "", &[("last-event-id", "0")])
        .await;
    assert!(
        answer.text.ends_with(&rest.text) && rest.text.starts_with("id: 1\n"),
        "{}",
        rest.text
    );

    // Another answer to the same question is a sibling and becomes the head.
    let question = first["user_message"]["id"].as_str().unwrap();
    let again = json!({"parent_id": question, "model": "tiny", "options": {"max_tokens": 3}});
    let again = onebit
        .post(&format!("/onebit/chats/{id}/turns"), again)
        .await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
    let detail = onebit.get(&format!("/onebit/chats/{id}")).await.json();
    let messages = detail["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert_eq!(detail["chat"]["head"], messages[2]["id"]);
    assert_eq!(messages[2]["parent_id"], messages[1]["parent_id"]);
}

#[tokio::test]
async fn a_closed_stream_does_not_end_a_turn_but_stopping_does() {
    let onebit = open().await;
    let owner = crate::domain::PersonId::owner();
    let chat = onebit
        .app
        .store()
        .chats()
        .create(&owner, "x", None)
        .await
        .unwrap();
    let path = format!("/onebit/chats/{}/turns", chat.id);
    let body = json!({"content": "hello", "model": "tiny"}).to_string();
    let request = Request::post(path)
        .header("host", "localhost")
        .extension(Arrival::Socket {
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
            secure: false,
        })
        .body(Body::from(body))
        .unwrap();
    let response = onebit.router.clone().oneshot(request).await.unwrap();
    drop(response);
    let running = onebit.app.running_turns(&owner);
    // It may have come to its end already; then there is nothing to stop.
    for turn in &running {
        onebit.app.stop_turn(&owner, &turn.id).unwrap();
    }
    onebit.app.close_turns().await;
    let (_, messages) = onebit
        .app
        .store()
        .chats()
        .get(&owner, &chat.id)
        .await
        .unwrap();
    let reason = messages[1].finish_reason.as_deref().unwrap();
    assert!(
        ["cancelled", "stop", "length"].contains(&reason),
        "{reason}"
    );
    assert!(onebit.app.running_turns(&owner).is_empty());
}

/// A path that a route answers, with names of nothing in it.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| match part.starts_with('{') {
        true => "nothing",
        false => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Nothing, what opens nothing, and one of each scope: name, token, scope.
async fn all_credentials(onebit: &Box) -> Vec<(&'static str, String, Scope)> {
    let mut credentials = vec![
        ("none", String::new(), Scope::Public),
        (
            "wrong",
            format!("ob_{}_{}", "0".repeat(24), "0".repeat(64)),
            Scope::Public,
        ),
        ("foreign", "sk-proj-1234".to_owned(), Scope::Public),
    ];
    for (name, scope) in [
        ("infer", Scope::Infer),
        ("chat", Scope::Chat),
        ("owner", Scope::Owner),
    ] {
        let trust = onebit.app.trust();
        let made = trust
            .add_key(PersonId::owner(), name, scope, None, "test")
            .await
            .unwrap();
        credentials.push((name, made.token, scope));
    }
    credentials
}

/// Each route, with each credential, carried in each way, over http and https: the verdict follows from the
/// credential and the way alone. Prints the matrix with `--nocapture`.
#[tokio::test]
async fn every_route_gives_every_carrier_the_same_verdict() {
    let onebit = open().await;
    type Carrier = (&'static str, fn(&str) -> String);
    let carriers: [Carrier; 4] = [
        ("authorization", |token| format!("Bearer {token}")),
        ("x-api-key", str::to_owned),
        ("cookie", |token| format!("a=b; onebit={token}")),
        ("cookie", |token| format!("__Host-onebit={token}")),
    ];
    let mut credentials = Vec::new();
    let (mut routes, mut verdicts, mut addresses) = (0, 0, 0u32);
    for fact in facts() {
        if routes % 40 == 0 {
            // New ones in time: a device has its rate of requests.
            credentials = all_credentials(&onebit).await;
        }
        let (method, path) = (fact.method.as_str(), filled(fact.path));
        let mut row = String::new();
        for (name, token, holds) in &credentials {
            for (way, held) in [("http", (*holds).min(Scope::Chat)), ("https", *holds)] {
                let mut got = Vec::new();
                for (header, write) in &carriers {
                    // Each from an address of its own: how often one may try is another test's business.
                    addresses += 1;
                    let peer = format!("{}:9", std::net::Ipv4Addr::from(0x0a00_0000 + addresses));
                    let value = write(token);
                    let secure = if way == "https" { "yes" } else { "no" };
                    let mut headers = vec![("peer", peer.as_str()), ("secure", secure)];
                    if !token.is_empty() {
                        headers.push((header, value.as_str()));
                    }
                    let body = if method == "GET" { "" } else { "[]" };
                    let answer = onebit.send(method, &path, body, &headers).await;
                    let code = |code: &str| answer.text.contains(code);
                    got.push(match answer.status.as_u16() {
                        401 => "401",
                        403 if code("scope, and this device") || code("https only") => "403",
                        _ => "in",
                    });
                }
                verdicts += got.len();
                let expected = match held >= fact.scope {
                    true => "in",
                    false if held == Scope::Public => "401",
                    false => "403",
                };
                assert!(
                    got.iter().all(|g| *g == expected),
                    "{method} {path} {name} {way}: {got:?}, not {expected}"
                );
                row += &format!("{expected:<4}");
            }
        }
        routes += 1;
        println!(
            "{method:<6} {:<34} {:<6} {row}",
            fact.path,
            fact.scope.as_str()
        );
    }
    println!("{routes} routes, {verdicts} verdicts");
}
