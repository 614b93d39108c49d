//! FastFlowLM with every one of its faults, as the fake engine plays it: none of them reaches a client.

use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::App;
use crate::support::engine::install;

const MODEL: &str = "qwen3-0.6b-flm";

fn body(tokens: usize, content: &str) -> Value {
    json!({"model": MODEL, "max_tokens": tokens, "messages": [{"role": "user", "content": content}]})
}

/// An appliance whose only engine for these models is FLM. The environment that it is started in would hide the NPU.
fn start(args: &str) -> App {
    let app = App::bare(|data| install(data, "flm", args));
    let client = app.client();
    // `flm list` has told what is installed.
    while client.get(&format!("/onebit/models/{MODEL}")).status != 200 {
        std::thread::yield_now();
    }
    app
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default()
}

#[test]
fn its_models_are_those_it_lists_as_installed() {
    let app = start("");
    let models = app.client().get("/v1/models").json();
    let ids: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|m| m["id"].as_str())
        .collect();
    assert_eq!(ids, [MODEL], "qwen3:4b is known to FLM but not installed");
}

#[test]
fn it_answers_with_its_own_counters_and_survives_one_token() {
    let app = start("");
    let client = app.client();
    let answer = client.post("/v1/chat/completions", &body(5, "Hi"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(text(&answer.json()), "t0 t1 t2 t3 t4 ");
    assert!(
        answer
            .header("x-onebit-route")
            .unwrap()
            .contains("lane=flm.npu")
    );
    // 93 tokens a second are FLM's word, not our clock.
    let rate = answer.json()["timings"]["predicted_per_second"].as_f64();
    assert!(
        rate.is_some_and(|rate| (rate - 93.0).abs() < 1.0),
        "{}",
        answer.text()
    );
    // One token crashes it, so two are asked for and one is kept back.
    let one = client.post("/v1/chat/completions", &body(1, "Hi")).json();
    assert_eq!(
        (text(&one), &one["usage"]["completion_tokens"]),
        ("t0 ", &json!(1))
    );
    // Each request has a connection of its own: a second one on the first would not be answered.
    for _ in 0..3 {
        assert_eq!(
            client
                .post("/v1/chat/completions", &body(3, "Again"))
                .status,
            200
        );
    }
}

#[test]
fn one_request_runs_and_the_others_hear_their_place() {
    // 30 ms a token: the queue is there long enough to be seen.
    let app = start("--token-us 30000");
    let client = app.client();
    let mut first = client.events("POST", "/v1/chat/completions", &{
        let mut body = body(20, "long");
        body["stream"] = true.into();
        body
    });
    first.next().expect("it has begun");
    let (done, ends) = mpsc::channel();
    std::thread::scope(|scope| {
        for n in 0..3 {
            let (client, done) = (&client, done.clone());
            scope.spawn(move || {
                let answer = client.post("/v1/chat/completions", &body(4, "short"));
                assert_eq!(answer.status, 200, "request {n}: {}", answer.text());
                assert_eq!(text(&answer.json()), "t0 t1 t2 t3 ");
                let route = answer.header("x-onebit-route").unwrap().to_owned();
                done.send(route).unwrap();
            });
        }
    });
    drop(done);
    assert_eq!(first.last().unwrap().data, "[DONE]");
    let mut places: Vec<String> = ends
        .iter()
        .filter_map(|route| Some(route.split(" queue=").nth(1)?.to_owned()))
        .collect();
    places.sort();
    assert_eq!(places.len(), 3, "all waited: {places:?}");
    assert_eq!(places[0], "1", "{places:?}");
}

#[test]
fn a_person_goes_before_background_work() {
    let app = start("--token-us 30000");
    let client = app.client();
    let mut first = client.events("POST", "/v1/chat/completions", &{
        let mut body = body(20, "long");
        body["stream"] = true.into();
        body
    });
    first.next().expect("it has begun");
    let (done, ends) = mpsc::channel();
    std::thread::scope(|scope| {
        let ask = |name: &'static str, priority: &'static str| {
            let client = client.with_header("x-onebit-priority", priority);
            let done = done.clone();
            scope.spawn(move || {
                let answer = client.post("/v1/chat/completions", &body(4, name));
                assert_eq!(answer.status, 200, "{}", answer.text());
                done.send(name).unwrap();
            });
        };
        ask("nobody waits", "background");
        // The background request has been decided on before the person's comes.
        while client.get("/stats").json()["routing"]["decided"] != 2 {
            std::thread::yield_now();
        }
        ask("a person waits", "interactive");
        drop(done);
    });
    assert_eq!(first.last().unwrap().data, "[DONE]");
    assert_eq!(
        ends.iter().collect::<Vec<_>>(),
        ["a person waits", "nobody waits"]
    );
}

#[test]
fn success_with_an_error_inside_is_a_failure_told_in_its_words() {
    let app = start("--fault error-200");
    let answer = app.client().post("/v1/chat/completions", &body(4, "Hi"));
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(
        answer.text().contains("basic_string::substr"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_crash_before_the_first_byte_is_not_seen() {
    let app = App::bare(|data| {
        let once = data.join("once");
        std::fs::create_dir_all(&once).unwrap();
        install(data, "flm", &format!("--once {}", once.display()));
    });
    let client = app.client();
    while client.get(&format!("/onebit/models/{MODEL}")).status != 200 {
        std::thread::yield_now();
    }
    for fault in ["crash-before", "not-http", "wrong-length"] {
        let content = format!("[[fault:{fault}:{fault}]]");
        let answer = client.post("/v1/chat/completions", &body(4, &content));
        assert_eq!(answer.status, 200, "{fault}: {}", answer.text());
        assert_eq!(text(&answer.json()), "t0 t1 t2 t3 ", "{fault}");
    }
}

#[test]
fn what_it_cannot_do_is_refused_by_name() {
    let app = start("");
    let mut asked = body(4, "Hi");
    asked["logprobs"] = true.into();
    let answer = app.client().post("/v1/chat/completions", &asked);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(
        answer.text().contains("has no logprobs"),
        "{}",
        answer.text()
    );
}
