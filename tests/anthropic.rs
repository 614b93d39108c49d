//! Anthropic's dialect on the real small model: messages, their events, their token count, models, refusals.
//!
//! The model is weak: tests assert structure, counts and determinism, never knowledge.

use serde_json::{Value, json};

use crate::openai::model;
use crate::support::{App, Client};

fn ask(client: &Client, changes: Value) -> Value {
    let mut body = json!({
        "model": model(client), "max_tokens": 16, "temperature": 0,
        "messages": [{"role": "user", "content": "Count from one to five."}]
    });
    for (name, value) in changes.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

fn weather() -> Value {
    json!({
        "name": "weather", "description": "Tells the weather.",
        "input_schema": {
            "type": "object", "required": ["city"], "additionalProperties": false,
            "properties": {"city": {"type": "string", "enum": ["Berlin", "Paris"]}}
        }
    })
}

#[test]
fn a_message_counts_its_tokens_as_the_counter_does() {
    let client = App::shared().client();
    let body = ask(
        &client,
        json!({"system": [{"type": "text", "text": "Be brief."}]}),
    );
    let counted = client.post("/v1/messages/count_tokens", &body).json();
    let answer = client.post("/v1/messages", &body);
    assert!(
        answer
            .header("request-id")
            .is_some_and(|id| id.starts_with("req_"))
    );
    let message = answer.json();
    assert_eq!(
        (message["type"].as_str(), message["role"].as_str()),
        (Some("message"), Some("assistant"))
    );
    assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(message["content"][0]["type"], "text");
    let usage = &message["usage"];
    let [fresh, cached, made] = ["input_tokens", "cache_read_input_tokens", "output_tokens"]
        .map(|name| usage[name].as_u64().expect("a count"));
    assert_eq!(
        counted["input_tokens"].as_u64(),
        Some(fresh + cached),
        "{usage}"
    );
    let expected = if made == 16 { "max_tokens" } else { "end_turn" };
    assert_eq!(message["stop_reason"], expected);
}

#[test]
fn the_words_are_those_of_the_other_dialect() {
    let client = App::shared().client();
    let message = client.post("/v1/messages", &ask(&client, json!({}))).json();
    let same = client
        .post("/v1/chat/completions", &ask(&client, json!({})))
        .json();
    assert_eq!(
        message["content"][0]["text"],
        same["choices"][0]["message"]["content"]
    );
}

#[test]
fn events_come_in_order_and_say_the_same() {
    let client = App::shared().client();
    let whole = client.post("/v1/messages", &ask(&client, json!({}))).json();
    let body = ask(&client, json!({"stream": true}));
    let events: Vec<_> = client.events("POST", "/v1/messages", &body).collect();
    let mut names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    names.dedup();
    assert_eq!(
        names,
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert!(
        events
            .iter()
            .all(|event| event.json()["type"] == event.name)
    );
    let text: String = events
        .iter()
        .filter_map(|event| event.json()["delta"]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, whole["content"][0]["text"].as_str().unwrap());
    let end = events[events.len() - 2].json();
    assert_eq!(end["delta"]["stop_reason"], whole["stop_reason"]);
    assert_eq!(
        end["usage"]["output_tokens"],
        whole["usage"]["output_tokens"]
    );
}

#[test]
fn a_stop_sequence_is_told_by_name() {
    let client = App::shared().client();
    let whole = client.post("/v1/messages", &ask(&client, json!({}))).json();
    let text = whole["content"][0]["text"].as_str().unwrap();
    let stop = text
        .split_whitespace()
        .nth(2)
        .expect("three words")
        .to_owned();
    let body = ask(&client, json!({"stop_sequences": ["never said", stop]}));
    let cut = client.post("/v1/messages", &body).json();
    assert_eq!(cut["stop_reason"], "stop_sequence");
    assert_eq!(cut["stop_sequence"], stop);
    assert_eq!(
        cut["content"][0]["text"].as_str().unwrap_or_default(),
        &text[..text.find(&stop).unwrap()]
    );
}

#[test]
fn a_tool_that_must_be_called_is_called_and_its_result_read() {
    let client = App::shared().client();
    let question = json!({"role": "user", "content": "How is the weather in Paris?"});
    let changes = json!({
        "max_tokens": 60, "tools": [weather()], "tool_choice": {"type": "tool", "name": "weather"}, "messages": [question]
    });
    let message = client
        .post("/v1/messages", &ask(&client, changes.clone()))
        .json();
    assert_eq!(message["stop_reason"], "tool_use", "{message}");
    let call = &message["content"][0];
    assert_eq!(
        (call["type"].as_str(), call["name"].as_str()),
        (Some("tool_use"), Some("weather"))
    );
    assert!(["Berlin", "Paris"].contains(&call["input"]["city"].as_str().expect("a city")));

    let mut body = ask(&client, changes);
    body["stream"] = json!(true);
    let events: Vec<_> = client.events("POST", "/v1/messages", &body).collect();
    let input: String = events
        .iter()
        .filter_map(|event| {
            event.json()["delta"]["partial_json"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(
        serde_json::from_str::<Value>(&input).unwrap(),
        call["input"]
    );

    let result = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "sunny"}]});
    let messages = json!([question, {"role": "assistant", "content": message["content"]}, result]);
    let body = ask(
        &client,
        json!({"tools": [weather()], "tool_choice": {"type": "none"}, "messages": messages}),
    );
    let answer = client.post("/v1/messages", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn models_come_in_the_shape_of_the_client() {
    let client = App::shared().client();
    let id = model(&client);
    let client = client.with_header("anthropic-version", "2023-06-01");
    let list = client.get("/v1/models").json();
    assert_eq!(
        (list["first_id"].as_str(), list["has_more"].as_bool()),
        (Some(id.as_str()), Some(false))
    );
    assert_eq!(list["data"][0]["type"], "model");
    let one = client.get(&format!("/v1/models/{id}")).json();
    assert_eq!(one["id"].as_str(), Some(id.as_str()));
    assert!(one["created_at"].as_str().unwrap().ends_with('Z'));
    let none = client.get("/v1/models/nobody");
    assert_eq!(
        (none.status, none.json()["error"]["type"].as_str()),
        (404, Some("not_found_error"))
    );
}

#[test]
fn refusals_have_anthropics_shape() {
    let client = App::shared().client();
    let image = json!([{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    ]}]);
    let cases = [
        (
            ask(&client, json!({"max_tokens": null})),
            400,
            "invalid_request_error",
            "max_tokens",
        ),
        (
            ask(&client, json!({"max_tokens": 0})),
            400,
            "invalid_request_error",
            "max_tokens",
        ),
        (
            ask(&client, json!({"messages": []})),
            400,
            "invalid_request_error",
            "messages",
        ),
        (
            ask(&client, json!({"messages": image})),
            400,
            "invalid_request_error",
            "images",
        ),
        (
            ask(&client, json!({"temperature": 1.5})),
            400,
            "invalid_request_error",
            "temperature",
        ),
        (
            ask(&client, json!({"model": "nobody"})),
            404,
            "not_found_error",
            "nobody",
        ),
        (
            ask(
                &client,
                json!({"messages": [{"role": "user", "content": "word ".repeat(40_000)}]}),
            ),
            400,
            "invalid_request_error",
            "context",
        ),
    ];
    for (body, status, kind, word) in cases {
        let answer = client.post("/v1/messages", &body);
        let told = answer.json();
        assert_eq!(
            (answer.status, told["type"].as_str()),
            (status, Some("error")),
            "{told}"
        );
        assert_eq!(told["error"]["type"], kind);
        assert!(
            told["error"]["message"].as_str().unwrap().contains(word),
            "{told}"
        );
    }
    for (method, path, status) in [
        ("GET", "/v1/messages", 405),
        ("POST", "/v1/messages/batches", 404),
    ] {
        let answer = client.send(method, path, "{}");
        assert_eq!(
            (answer.status, answer.json()["type"].as_str()),
            (status, Some("error")),
            "{path}"
        );
    }
    let foreign = client.with_header("Origin", "http://evil.example");
    let answer = foreign.post("/v1/messages", &ask(&client, json!({})));
    assert_eq!(
        (answer.status, answer.json()["error"]["type"].as_str()),
        (403, Some("permission_error"))
    );
}
