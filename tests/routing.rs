//! Every answer takes a route, and tells which: lanes, fall-back, priorities, measurements, pins.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::openai::model;
use crate::support::engine::install;
use crate::support::{App, Client};

fn body(model: &str, tokens: usize) -> Value {
    json!({"model": model, "max_tokens": tokens, "messages": [{"role": "user", "content": "Hello."}]})
}

/// The parts of a route by name.
fn part<'a>(route: &'a str, name: &str) -> Option<&'a str> {
    route
        .split(' ')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn route_of(answer: &crate::support::client::Answer) -> String {
    let route = answer.header("x-onebit-route");
    route
        .unwrap_or_else(|| panic!("no route: {} {}", answer.status, answer.text()))
        .to_owned()
}

/// Waits for what another task of the appliance is about to do.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The state of a model in the page's list.
fn state(client: &Client, model: &str) -> Value {
    client.get(&format!("/onebit/models/{model}")).json()["state"].clone()
}

#[test]
fn every_dialect_tells_its_route() {
    let client = App::shared().client();
    let model = model(&client);
    let content = json!([{"role": "user", "content": "Hi"}]);
    for (path, body) in [
        ("/v1/chat/completions", body(&model, 2)),
        ("/v1/chat/completions", body("auto", 2)),
        (
            "/v1/completions",
            json!({"model": model, "prompt": "Hi", "max_tokens": 2}),
        ),
        (
            "/v1/responses",
            json!({"model": model, "input": "Hi", "max_output_tokens": 16}),
        ),
        ("/v1/messages", body(&model, 2)),
        (
            "/api/chat",
            json!({"model": model, "messages": content, "stream": false, "options": {"num_predict": 2}}),
        ),
        (
            "/api/generate",
            json!({"model": model, "prompt": "Hi", "stream": false, "options": {"num_predict": 2}}),
        ),
    ] {
        let answer = client.post(path, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let route = route_of(&answer);
        assert_eq!(part(&route, "lane"), Some("ternary.cpu"), "{path}: {route}");
        assert_eq!(part(&route, "model"), Some(&*model), "{path}: {route}");
        assert!(part(&route, "eta_ms").is_some_and(|ms| ms.parse::<u64>().is_ok()));
    }
    assert_eq!(client.get("/v1/models").header("x-onebit-route"), None);
}

#[test]
fn wishes_that_cannot_be_had_are_refused_by_name() {
    let client = App::shared().client();
    let model = model(&client);
    for (name, value, word) in [
        ("x-onebit-priority", "soon", "x-onebit-priority"),
        ("x-onebit-prefer", "beauty", "x-onebit-prefer"),
        ("x-onebit-lane", "flm.npu", "another lane was asked for"),
    ] {
        let answer = client
            .with_header(name, value)
            .post("/v1/chat/completions", &body(&model, 2));
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(word), "{message}");
    }
    let answer = client.get("/v1/route/explain?model=auto&prefer=beauty");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(client.get("/v1/route/explain?model=nobody").status, 404);
}

#[test]
fn the_score_table_is_told_without_an_answer() {
    let client = App::shared().client();
    let told = client
        .get("/v1/route/explain?model=auto:quality&prompt_tokens=500&max_tokens=50")
        .json();
    assert_eq!(told["lane"], "ternary.cpu");
    let best = &told["ranked"][0];
    let parts: f64 = best["parts"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_f64)
        .sum();
    assert!((parts - best["cost"].as_f64().unwrap()).abs() < 1e-9);
    assert!(told["table"].as_str().unwrap().contains("ternary.cpu"));
    assert!(
        told["refused"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["lane"] == "llama.cpu")
    );
}

/// A model on two engines, an engine that fails, and names that stand for several models.
#[test]
fn a_failing_lane_is_followed_by_the_next_one_before_the_first_byte() {
    let app = App::prepared(|data| {
        install(data, "llama-server", "--fault error-500");
        install(data, "flm", "--fault error-200");
    });
    let client = app.client();
    let model = model(&client);
    until("FastFlowLM's models are listed", || {
        (client.get("/onebit/models/qwen3-0.6b-flm").status == 200).then_some(())
    });
    // An engine that is asked for by name has nobody to follow it.
    for lane in ["llama.cpu", "npu"] {
        let named = if lane == "npu" {
            "qwen3-0.6b-flm"
        } else {
            &*model
        };
        let answer = client
            .with_header("x-onebit-lane", lane)
            .post("/v1/chat/completions", &body(named, 2));
        assert_eq!(answer.status, 503, "{lane}: {}", answer.text());
        assert!(answer.text().contains("the engine"), "{}", answer.text());
    }
    // One name for the NPU's model and ours: thrift prefers the NPU, which fails.
    let group = json!({"models": ["qwen3-0.6b-flm", model]});
    assert_eq!(
        client
            .send("PUT", "/onebit/logical/assistant", &group.to_string())
            .status,
        200
    );
    let eco = client.with_header("x-onebit-prefer", "eco");
    let told = eco
        .get("/v1/route/explain?model=assistant&prefer=eco")
        .json();
    assert_eq!(told["lane"], "flm.npu", "{told}");
    for streamed in [false, true] {
        let mut asked = body("assistant", 3);
        asked["stream"] = streamed.into();
        let answer = eco.post("/v1/chat/completions", &asked);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let route = route_of(&answer);
        assert_eq!(part(&route, "lane"), Some("ternary.cpu"), "{route}");
        let from = part(&route, "from").unwrap_or_default();
        assert!(from.starts_with("flm.npu"), "{route}");
        if streamed {
            assert!(
                answer.text().ends_with("data: [DONE]\n\n"),
                "{}",
                answer.text()
            );
        } else {
            assert!(answer.json()["choices"][0]["finish_reason"].is_string());
        }
    }
    let stats = client.get("/stats").json();
    assert!(stats["routing"]["moved"].as_u64() >= Some(2), "{stats}");
    // An exact artifact, by name and lane.
    let exact = client.post("/v1/chat/completions", &body("assistant@ternary.cpu", 2));
    assert_eq!(exact.status, 200, "{}", exact.text());
    let gone = client.send("PUT", "/onebit/logical/assistant", r#"{"models": []}"#);
    assert_eq!(gone.status, 200);
    let answer = client.post("/v1/chat/completions", &body("assistant", 2));
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].clone()),
        (404, json!("model_not_found"))
    );
}

#[test]
fn after_the_first_byte_a_failure_is_one_framed_error() {
    let app = App::prepared(|data| install(data, "llama-server", ""));
    let model = model(&app.client());
    let client = app.client().with_header("x-onebit-lane", "llama.cpu");
    let mut asked = body(&model, 6);
    asked["stream"] = true.into();
    asked["messages"][0]["content"] = "[[fault:crash-mid:1]]".into();
    let events: Vec<_> = client
        .events("POST", "/v1/chat/completions", &asked)
        .collect();
    let texts: String = events
        .iter()
        .filter_map(|e| {
            Some(
                e.json()["choices"][0]["delta"]["content"]
                    .as_str()?
                    .to_owned(),
            )
        })
        .collect();
    assert_eq!(texts, "t0 t1 t2 ");
    let last = events.last().unwrap().json();
    assert!(last["error"]["message"].is_string(), "{last}");
    // It is up again for the next one, on two engines at once.
    asked["messages"][0]["content"] = "again".into();
    let events: Vec<_> = client
        .events("POST", "/v1/chat/completions", &asked)
        .collect();
    assert_eq!(events[0].json()["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events.last().unwrap().data, "[DONE]");
    let ours = app.client().with_header("x-onebit-lane", "ternary.cpu");
    let answer = ours.post("/v1/chat/completions", &body(&model, 2));
    assert_eq!(part(&route_of(&answer), "lane"), Some("ternary.cpu"));
    let told = client
        .get(&format!("/v1/route/explain?model={model}"))
        .json();
    let loads = told["ranked"].as_array().unwrap().iter();
    let loads: Vec<f64> = loads
        .map(|r| r["parts"]["load"].as_f64().unwrap())
        .collect();
    assert_eq!(loads, [0.0, 0.0], "both are loaded: {told}");
}

#[test]
fn requests_are_measured_and_the_measurements_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = App::prepared(|prepared| std::fs::rename(prepared, &data).unwrap());
    drop(first);
    let app = App::start(&data, &[]);
    let client = app.client();
    let model = model(&client);
    assert_eq!(client.get("/stats").json()["lanes"], json!([]));
    for _ in 0..2 {
        let mut asked = body(&model, 12);
        asked["messages"][0]["content"] = "Tell me about the sea and its many ships. "
            .repeat(8)
            .into();
        assert_eq!(client.post("/v1/chat/completions", &asked).status, 200);
    }
    let stats = client.get("/stats").json();
    let lane = &stats["lanes"][0];
    assert_eq!(
        (&lane["lane"], &lane["requests"]["answered"]),
        (&json!("ternary.cpu"), &json!(2))
    );
    assert_eq!(lane["load_s"]["count"], 1);
    assert_eq!(lane["first_token_s"]["count"], 2);
    assert!(
        lane["between_tokens_s"]["count"].as_u64().unwrap() > 10,
        "{lane}"
    );
    assert!(
        stats["routing"]["last"][0]["route"]
            .as_str()
            .unwrap()
            .contains("ternary.cpu")
    );
    let metrics = client.get("/metrics");
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let text = metrics.text();
    for line in [
        r#"onebit_requests_total{lane="ternary.cpu",outcome="answered"} 2"#,
        r#"onebit_first_token_seconds_count{lane="ternary.cpu"} 2"#,
        r#"onebit_first_token_seconds_bucket{lane="ternary.cpu",le="+Inf"} 2"#,
        r#"onebit_load_seconds_count{lane="ternary.cpu"} 1"#,
        "onebit_routing_decisions_total 2",
        &*format!(
            r#"onebit_made_tokens_total{{lane="ternary.cpu"}} {}"#,
            lane["made_tokens"]
        ),
    ] {
        assert!(
            text.lines().any(|known| known == line),
            "{line} is missing in {text}"
        );
    }
    let measured = |client: &Client| client.get("/stats").json()["rates"].clone();
    let before = measured(&client);
    assert!(
        before[0]["rates"]["load"]["measured"].as_u64() == Some(1),
        "{before}"
    );
    assert!(before[0]["rates"]["decode"]["average"].as_f64().unwrap() > 0.0);
    // A little later they are in the store.
    until("the rates are written", || {
        (client.get("/stats").json()["rates_unsaved"] == 0).then_some(())
    });
    drop(app);
    let app = App::start(&data, &[]);
    assert_eq!(measured(&app.client()), before);
}

#[test]
fn a_pinned_model_is_there_before_anybody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    drop(App::prepared(|prepared| {
        std::fs::rename(prepared, &data).unwrap()
    }));
    let app = App::start(&data, &[]);
    let model = model(&app.client());
    assert_eq!(state(&app.client(), &model), "ready");
    assert_eq!(
        app.client()
            .send("POST", &format!("/onebit/models/{model}/pin"), "")
            .status,
        200
    );
    until("a pinned model is loaded", || {
        (state(&app.client(), &model) == "loaded").then_some(())
    });
    drop(app);
    let app = App::start(&data, &[]);
    let client = app.client();
    until("and so it is after a start", || {
        (state(&client, &model) == "loaded").then_some(())
    });
    assert_eq!(client.get("/onebit/logical").json()["pins"], json!([model]));
    // Unloading it by hand is unpinning it.
    assert_eq!(
        client
            .send("POST", &format!("/onebit/models/{model}/unload"), "")
            .status,
        200
    );
    assert_eq!(client.get("/onebit/logical").json()["pins"], json!([]));
    until("it has left", || {
        (state(&client, &model) == "ready").then_some(())
    });
}

/// The only model of one appliance with a llama-server that drives a GPU.
fn with_gpu(args: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    drop(App::prepared(|prepared| {
        install(prepared, "llama-server", args);
        std::fs::rename(prepared, &data).unwrap();
    }));
    (folder, data)
}

#[test]
fn a_build_is_told_by_the_silicon_that_it_drives() {
    let (_folder, data) = with_gpu("--gpu");
    let app = App::start(&data, &[]);
    let model = model(&app.client());
    for lane in ["llama.vulkan", "igpu", "llama.cpu", "ternary.cpu"] {
        let client = app.client().with_header("x-onebit-lane", lane);
        let answer = client.post("/v1/chat/completions", &body(&model, 2));
        assert_eq!(answer.status, 200, "{lane}: {}", answer.text());
        let route = route_of(&answer);
        let wanted = if lane == "igpu" { "llama.vulkan" } else { lane };
        assert_eq!(part(&route, "lane"), Some(wanted), "{route}");
    }
    // All three hold the model now, each in its own process or memory.
    let told = app
        .client()
        .get(&format!("/v1/route/explain?model={model}"));
    let told = told.json();
    let ranked = told["ranked"].as_array().unwrap();
    assert_eq!(ranked.len(), 3, "{told}");
    assert!(ranked.iter().all(|r| r["parts"]["load"] == 0.0), "{told}");
    // No counter of this machine has told what they take.
    let guessed = ranked.iter().all(|r| r["joules_measured"] == false);
    assert_eq!(
        guessed,
        told["table"].as_str().unwrap().contains("has not told")
    );
}

#[test]
fn a_lane_that_cannot_load_a_model_is_left_alone_also_after_a_start() {
    let (_folder, data) = with_gpu("--gpu --fault crash-on-gpu");
    let told = |client: &Client, model: &str| -> Value {
        let told = client.get(&format!("/v1/route/explain?model={model}"));
        let refused = told.json()["refused"].clone();
        let vulkan = |r: &&Value| r["lane"] == "llama.vulkan";
        let found = refused.as_array().unwrap().iter().find(vulkan);
        found.map_or(Value::Null, |refused| refused["why"].clone())
    };
    let app = App::start(&data, &[]);
    let client = app.client();
    let model = model(&client);
    assert_eq!(told(&client, &model), Value::Null);
    // Who insists has it tried, and hears why it fails.
    let insist = |client: &Client| {
        let answer = client
            .with_header("x-onebit-lane", "llama.vulkan")
            .post("/v1/chat/completions", &body(&model, 2));
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains("device lost"), "{}", answer.text());
    };
    insist(&client);
    let why = told(&client, &model).to_string();
    assert!(
        why.contains("device lost") && why.contains("tried again in"),
        "{why}"
    );
    drop(app);
    let app = App::start(&data, &[]);
    let client = app.client();
    assert!(told(&client, &model).to_string().contains("device lost"));
    let answer = client.post("/v1/chat/completions", &body(&model, 2));
    let route = route_of(&answer);
    assert_ne!(part(&route, "lane"), Some("llama.vulkan"), "{route}");
    assert_eq!(part(&route, "from"), None, "it was tried");
    insist(&client);
    let why = told(&client, &model).to_string();
    assert!(why.contains("2 times"), "{why}");
}
