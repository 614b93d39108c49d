//! Conversations that outgrow their context: refused with their length, or answered without their oldest turns and
//! with a notice, as the request says, in every dialect.

use serde_json::{Value, json};

use crate::openai::model;
use crate::support::engine::install;
use crate::support::{App, Client};

/// SmolLM2 with a short context, so that a few turns fill it.
fn start() -> App {
    App::prepared(|data| {
        std::fs::create_dir_all(data.join("onebit")).expect("a folder for settings");
        let settings = "[ternary]\ncontext_max = 512\n";
        std::fs::write(data.join("onebit/onebit.toml"), settings).expect("settings");
        install(data, "llama-server", "--words 300");
    })
}

/// Twelve turns of about sixty tokens and a last question.
fn conversation() -> Vec<Value> {
    let mut messages = Vec::new();
    for turn in 0..12 {
        let question = format!("Question {turn}: what do ships carry over the wide sea? ");
        let answer = format!("Answer {turn}: grain, coal, cars and people, and letters too. ");
        messages.push(json!({"role": "user", "content": question.repeat(2)}));
        messages.push(json!({"role": "assistant", "content": answer.repeat(2)}));
    }
    messages.push(json!({"role": "user", "content": "Say hello."}));
    messages
}

fn ok(client: &Client, path: &str, body: &Value) -> Value {
    let answer = client.post(path, body);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

fn refused(client: &Client, path: &str, body: &Value) -> Value {
    let answer = client.post(path, body);
    assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    answer.json()
}

fn gone(notice: &Value) -> u64 {
    assert_eq!(notice["type"], "oldest_turns_left_out", "{notice}");
    let messages = notice["messages"].as_u64().expect("a number of messages");
    let text = notice["text"].as_str().expect("a sentence");
    assert!(text.contains(&messages.to_string()), "{notice}");
    let whole_turns = messages.is_multiple_of(2);
    assert!(whole_turns && (1..24).contains(&messages), "{notice}");
    messages
}

#[test]
fn every_dialect_refuses_or_leaves_turns_out_as_it_is_told() {
    let app = start();
    let client = app.client().with_header("x-onebit-lane", "ternary.cpu");
    let model = &model(&client);
    let all = conversation();

    // OpenAI
    let chat = |messages: &[Value]| json!({"model": model, "messages": messages, "max_tokens": 12, "temperature": 0});
    let error = refused(&client, "/v1/chat/completions", &chat(&all));
    assert_eq!(error["error"]["code"], "context_length_exceeded", "{error}");
    let mut asked = chat(&all);
    asked["truncation"] = "auto".into();
    let answer = ok(&client, "/v1/chat/completions", &asked);
    let left_out = gone(&answer["notice"]);
    // It is the answer to the rest alone, and the rest and an answer have room.
    let rest = ok(
        &client,
        "/v1/chat/completions",
        &chat(&all[usize::try_from(left_out).unwrap()..]),
    );
    assert_eq!(rest["notice"], Value::Null);
    assert_eq!(
        rest["choices"][0]["message"],
        answer["choices"][0]["message"]
    );
    assert_eq!(
        rest["usage"]["prompt_tokens"],
        answer["usage"]["prompt_tokens"]
    );
    let text = &rest["choices"][0]["message"]["content"];
    asked["stream"] = true.into();
    let events: Vec<_> = client
        .events("POST", "/v1/chat/completions", &asked)
        .collect();
    let notices: Vec<_> = events
        .iter()
        .filter(|event| event.data.contains("\"notice\""))
        .collect();
    assert_eq!(notices.len(), 1);
    assert_eq!(gone(&notices[0].json()["notice"]), left_out);
    asked["truncation"] = "middle".into();
    let error = refused(&client, "/v1/chat/completions", &asked);
    assert_eq!(error["error"]["param"], "truncation");
    asked["truncation"] = "disabled".into();
    refused(&client, "/v1/chat/completions", &asked);

    // Responses
    let mut asked =
        json!({"model": model, "input": all, "max_output_tokens": 12, "temperature": 0});
    let error = refused(&client, "/v1/responses", &asked);
    assert_eq!(error["error"]["code"], "context_length_exceeded", "{error}");
    asked["truncation"] = "auto".into();
    let answer = ok(&client, "/v1/responses", &asked);
    assert_eq!(
        (gone(&answer["notice"]), &answer["truncation"]),
        (left_out, &json!("auto"))
    );
    assert_eq!(&answer["output"][0]["content"][0]["text"], text);

    // Anthropic
    let mut asked = chat(&all);
    let error = refused(&client, "/v1/messages", &asked);
    assert_eq!(error["error"]["type"], "invalid_request_error");
    assert!(
        error["error"]["message"]
            .as_str()
            .unwrap()
            .contains("the context holds 512"),
        "{error}"
    );
    asked["truncation"] = "auto".into();
    let answer = ok(&client, "/v1/messages", &asked);
    assert_eq!(gone(&answer["notice"]), left_out);
    assert_eq!(&answer["content"][0]["text"], text);
    asked["stream"] = true.into();
    let events: Vec<_> = client.events("POST", "/v1/messages", &asked).collect();
    let end = events
        .iter()
        .find(|event| event.name == "message_delta")
        .unwrap();
    assert_eq!(gone(&end.json()["notice"]), left_out);

    // Ollama leaves out unless it is told not to.
    let mut asked = json!({"model": model, "messages": all, "stream": false, "options": {"num_predict": 12, "temperature": 0}});
    let answer = ok(&client, "/api/chat", &asked);
    assert_eq!(gone(&answer["notice"]), left_out);
    assert_eq!(&answer["message"]["content"], text);
    asked["truncate"] = false.into();
    let error = refused(&client, "/api/chat", &asked);
    assert!(
        error["error"]
            .as_str()
            .unwrap()
            .contains("the context holds 512"),
        "{error}"
    );

    // What is too long by itself is refused whatever the request says.
    let mut asked = chat(&[json!({"role": "user", "content": "sea ".repeat(900)})]);
    asked["truncation"] = "auto".into();
    let error = refused(&client, "/v1/chat/completions", &asked);
    assert_eq!(error["error"]["code"], "context_length_exceeded", "{error}");
}

#[test]
fn an_engine_that_counts_by_itself_is_asked_again_with_less() {
    let app = start();
    let client = app.client().with_header("x-onebit-lane", "llama.cpu");
    let mut asked = json!({"model": model(&client), "messages": conversation(), "max_tokens": 3});
    let error = refused(&client, "/v1/chat/completions", &asked);
    assert_eq!(error["error"]["code"], "context_length_exceeded", "{error}");
    asked["truncation"] = "auto".into();
    let answer = ok(&client, "/v1/chat/completions", &asked);
    assert_eq!(answer["choices"][0]["message"]["content"], "t0 t1 t2 ");
    gone(&answer["notice"]);
}

#[test]
fn a_chat_of_the_page_goes_on_and_says_so() {
    let app = start();
    let client = app.client().with_header("x-onebit-lane", "ternary.cpu");
    let model = model(&client);
    let chat = client.post("/onebit/chats", &json!({})).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/onebit/chats/{chat}/turns");
    let mut parent = Value::Null;
    let mut told = None;
    for turn in 0..12 {
        let content = format!(
            "Turn {turn}. {}",
            "The sea is wide and full of ships. ".repeat(8)
        );
        let body = json!({"parent_id": parent, "content": content, "model": model, "options": {"max_tokens": 4}});
        let events: Vec<_> = client.events("POST", &path, &body).collect();
        assert!(
            events.iter().all(|event| event.name != "error"),
            "{events:?}"
        );
        let stored = events.iter().find(|event| event.name == "message").unwrap();
        parent = stored.json()["id"].clone();
        if let Some(notice) = events.iter().find(|event| event.name == "notice") {
            told = Some(notice.json());
        }
    }
    let told = told.expect("twelve turns do not fit");
    assert!(told["messages"].as_u64().unwrap() >= 2, "{told}");
    let body = json!({"parent_id": parent, "content": "And now?", "model": model, "options": {"truncation": "disabled"}});
    let error = refused(&client, &path, &body);
    assert_eq!(error["error"]["code"], "context_length_exceeded");
}
