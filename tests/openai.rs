//! OpenAI's dialect on the real small model: models, chat, completions, streams, and what they count.
//!
//! The model is weak: tests assert structure, counts and determinism, never knowledge.

use serde_json::{Value, json};

use crate::support::{App, Client, app::onebit_on, model_file};

/// The id under which the default model was imported.
pub(crate) fn model(client: &Client) -> String {
    let list = client.get("/v1/models").json();
    let id = list["data"][0]["id"]
        .as_str()
        .unwrap_or_else(|| panic!("no model in {list}"));
    id.to_owned()
}

fn chat(model: &str, text: &str, max_tokens: u32) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, "temperature": 0})
}

#[test]
fn models_are_listed_and_found() {
    let client = App::shared().client();
    let list = client.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    let id = model(&client);
    let one = client.get(&format!("/v1/models/{id}")).json();
    assert_eq!(
        (one["id"].as_str(), one["object"].as_str()),
        (Some(id.as_str()), Some("model"))
    );
}

#[test]
fn an_answer_counts_its_tokens() {
    let client = App::shared().client();
    let answer = client
        .post(
            "/v1/chat/completions",
            &chat(&model(&client), "Name a colour.", 12),
        )
        .json();
    assert_eq!(answer["object"], "chat.completion");
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(!choice["message"]["content"].as_str().unwrap().is_empty());
    let usage = &answer["usage"];
    let [prompt, completion, total] = ["prompt_tokens", "completion_tokens", "total_tokens"]
        .map(|name| usage[name].as_u64().expect("a count"));
    assert!(prompt > 5 && (1..=12).contains(&completion), "{usage}");
    assert_eq!(total, prompt + completion);
    let reason = choice["finish_reason"].as_str();
    assert_eq!(
        reason,
        Some(if completion == 12 { "length" } else { "stop" })
    );
}

#[test]
fn a_stream_says_the_same_as_a_whole_answer() {
    let client = App::shared().client();
    let mut body = chat(&model(&client), "Count from one to five.", 24);
    let whole = client.post("/v1/chat/completions", &body).json();

    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let events: Vec<_> = client
        .events("POST", "/v1/chat/completions", &body)
        .collect();
    assert_eq!(events.last().unwrap().data, "[DONE]");
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| event.json())
        .collect();
    let id = chunks[0]["id"].as_str().unwrap();
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["id"] == id && chunk["object"] == "chat.completion.chunk")
    );
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(
        text,
        whole["choices"][0]["message"]["content"].as_str().unwrap()
    );
    let reasons: Vec<_> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str())
        .collect();
    assert_eq!(
        reasons,
        [whole["choices"][0]["finish_reason"].as_str().unwrap()]
    );
    assert_eq!(
        chunks.last().unwrap()["usage"]["completion_tokens"],
        whole["usage"]["completion_tokens"]
    );
}

#[test]
fn a_stop_text_ends_the_answer_and_is_not_part_of_it() {
    let client = App::shared().client();
    let mut body = chat(&model(&client), "Tell me about the sea.", 24);
    let whole = client.post("/v1/chat/completions", &body).json();
    let text = whole["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned();
    // A piece from the middle of the known answer, which then must end just before it.
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.len() > 6, "too short to stop in: {text:?}");
    let stop = words[4];
    body["stop"] = json!([stop]);
    let cut = client.post("/v1/chat/completions", &body).json();
    assert_eq!(
        cut["choices"][0]["message"]["content"].as_str().unwrap(),
        &text[..text.find(stop).unwrap()]
    );
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_seed_repeats_an_answer() {
    let client = App::shared().client();
    let mut body = chat(&model(&client), "Tell me something.", 16);
    body["temperature"] = json!(1.2);
    body["seed"] = json!(7);
    let ask = |body: &Value| {
        let answer = client.post("/v1/chat/completions", body).json();
        answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first = ask(&body);
    assert_eq!(ask(&body), first);
    let others: Vec<String> = (8..12)
        .map(|seed| {
            body["seed"] = json!(seed);
            ask(&body)
        })
        .collect();
    assert!(
        others.iter().any(|other| *other != first),
        "four other seeds all said {first:?}"
    );
}

#[test]
fn completions_continue_a_text() {
    let client = App::shared().client();
    let body = json!({"model": model(&client), "prompt": "The capital of France is", "max_tokens": 5, "temperature": 0});
    let answer = client.post("/v1/completions", &body).json();
    assert_eq!(answer["object"], "text_completion");
    assert!(!answer["choices"][0]["text"].as_str().unwrap().is_empty());
    assert_eq!(answer["usage"]["completion_tokens"], 5);
}

#[test]
fn log_probabilities_are_those_of_the_chosen_tokens() {
    let client = App::shared().client();
    let mut body = chat(&model(&client), "Name a colour.", 4);
    body["logprobs"] = json!(true);
    body["top_logprobs"] = json!(3);
    let answer = client.post("/v1/chat/completions", &body).json();
    let tokens = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .expect("log probabilities")
        .clone();
    assert_eq!(
        tokens.len() as u64,
        answer["usage"]["completion_tokens"].as_u64().unwrap()
    );
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        let best = top[0]["logprob"].as_f64().unwrap();
        assert!(best <= 0.0);
        // Greedy: the chosen token is the best one.
        assert_eq!(token["token"], top[0]["token"]);
        assert!((token["logprob"].as_f64().unwrap() - best).abs() < 1e-4);
    }
}

/// A client that goes away must not keep a seat: with room for one, the next one is answered.
#[test]
fn a_lost_client_frees_its_seat() {
    let app = App::with_model(&[]);
    let client = app.client();
    let mut body = chat(&model(&client), "Write a very long story.", 2000);
    body["stream"] = json!(true);
    for _ in 0..8 {
        let mut events = client.events("POST", "/v1/chat/completions", &body);
        assert!(events.next().is_some());
    }
    let answer = client.post("/v1/chat/completions", &chat(&model(&client), "Hi.", 3));
    assert_eq!(answer.status, 200);
    // All eight abandoned answers end by themselves; the queue says so without waiting for 2000 tokens.
    let started = std::time::Instant::now();
    loop {
        let status = client.get("/onebit/status").json();
        if status["queue"]["active"] == 0 && status["queue"]["waiting"] == 0 {
            break;
        }
        assert!(
            started.elapsed().as_secs() < 30,
            "abandoned answers go on: {status}"
        );
        std::thread::yield_now();
    }
}

/// SmolLM2 with three of its unused marks renamed to those around a gap: it fills gaps badly, but it fills them.
fn gap_filler(folder: &std::path::Path) -> App {
    let mut bytes = std::fs::read(model_file()).expect("the model");
    for (old, new) in [
        ("<jupyter_text>", "<|fim_prefix|>"),
        ("<jupyter_code>", "<|fim_suffix|>"),
        ("<empty_output>", "<|fim_middle|>"),
    ] {
        let mut places = bytes.windows(old.len()).enumerate();
        let at = places.find_map(|(at, window)| (window == old.as_bytes()).then_some(at));
        let at = at.unwrap_or_else(|| panic!("the vocabulary has no {old}"));
        bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
    }
    let file = folder.join("gap-filler.gguf");
    std::fs::write(&file, bytes).expect("a copy");
    let data = folder.join("data");
    let file = file.to_str().expect("a path of text");
    let imported = onebit_on(&data, &["import", file, "--name", "gap-filler"]);
    assert!(
        imported.status.success(),
        "{}",
        String::from_utf8_lossy(&imported.stderr)
    );
    App::start(&data, &[])
}

#[test]
fn a_suffix_is_what_stands_behind_the_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = gap_filler(folder.path());
    let client = app.client();
    let gap = json!({"input_prefix": "def add(a, b):\n    return ", "input_suffix": "\n\nprint(add(1, 2))",
        "n_predict": 6, "temperature": 0});
    let native = client.post("/infill", &gap).json();
    let filled = native["content"]
        .as_str()
        .unwrap_or_else(|| panic!("{native}"));
    let mut asked = json!({"prompt": gap["input_prefix"], "suffix": gap["input_suffix"], "max_tokens": 6, "temperature": 0});
    let openai = client.post("/v1/completions", &asked).json();
    assert_eq!(openai["choices"][0]["text"], filled, "{openai}");
    let ollama = client.post("/api/generate", &json!({"model": "gap-filler", "prompt": gap["input_prefix"],
        "suffix": gap["input_suffix"], "stream": false, "options": {"num_predict": 6, "temperature": 0}}));
    assert_eq!(ollama.json()["response"], filled, "{}", ollama.text());
    asked["suffix"] = json!("");
    let without = client.post("/v1/completions", &asked).json();
    assert_ne!(
        without["usage"]["prompt_tokens"],
        openai["usage"]["prompt_tokens"]
    );
}

#[test]
fn a_suffix_is_refused_where_the_model_fills_no_gaps() {
    let client = App::shared().client();
    let mut asked = json!({"model": model(&client), "prompt": "a", "suffix": "b", "max_tokens": 1});
    for prompt in [json!("a"), json!([1, 2])] {
        asked["prompt"] = prompt;
        let refused = client.post("/v1/completions", &asked);
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert_eq!(refused.json()["error"]["param"], "suffix");
    }
}
