//! The routes of llama.cpp's own server, as its clients use them.

use serde_json::{Value, json};

use crate::openai;
use crate::support::{App, Client};

fn complete(client: &Client, more: Value) -> Value {
    let mut body =
        json!({ "prompt": "The capital of France is", "n_predict": 8, "temperature": 0 });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let answer = client.post("/completion", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn a_completion_tells_what_it_did() {
    let client = App::shared().client();
    let answer = complete(&client, json!({ "return_tokens": true, "n_probs": 3 }));
    let text = answer["content"].as_str().expect("a text");
    assert!(text.contains("Paris"), "{answer}");
    assert_eq!(
        (&answer["stop"], &answer["stop_type"]),
        (&json!(true), &json!("limit"))
    );
    assert_eq!(
        (&answer["truncated"], &answer["stopping_word"]),
        (&json!(false), &json!(""))
    );
    assert_eq!(answer["model"], openai::model(&client));
    assert_eq!(answer["prompt"], "The capital of France is");
    let tokens: Vec<u64> = answer["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap())
        .collect();
    assert_eq!((tokens.len(), &answer["tokens_predicted"]), (8, &json!(8)));
    let joined = client
        .post("/detokenize", &json!({ "tokens": tokens }))
        .json();
    assert_eq!(joined["content"], text);

    let probabilities = answer["completion_probabilities"].as_array().unwrap();
    assert_eq!(probabilities.len(), 8);
    for (one, id) in probabilities.iter().zip(&tokens) {
        assert_eq!(one["id"], *id);
        let top = one["top_logprobs"].as_array().unwrap();
        assert_eq!(
            (top.len(), &top[0]["id"]),
            (3, &one["id"]),
            "greedy takes the likeliest"
        );
        assert!(top[0]["logprob"].as_f64() >= top[1]["logprob"].as_f64());
    }
    let timings = &answer["timings"];
    assert_eq!(timings["predicted_n"], 8);
    let number = |name: &str| {
        timings[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} in {timings}"))
    };
    assert!(number("predicted_ms") > 0.0 && number("predicted_per_second") > 0.0);
    assert_eq!(
        number("prompt_n") + number("cache_n"),
        answer["tokens_evaluated"].as_f64().unwrap()
    );
    let settings = &answer["generation_settings"];
    assert_eq!(
        (&settings["n_predict"], &settings["temperature"]),
        (&json!(8), &json!(0.0))
    );
    assert_eq!(
        (&settings["top_k"], &settings["n_probs"]),
        (&json!(40), &json!(3))
    );

    let few = complete(
        &client,
        json!({ "response_fields": ["content", "generation_settings/n_predict"] }),
    );
    assert_eq!(few, json!({ "content": text, "n_predict": 8 }));
}

#[test]
fn a_stream_says_the_same_and_ends_with_its_last_frame() {
    let client = App::shared().client();
    let whole = complete(&client, json!({ "return_tokens": true }));
    let body = json!({
        "prompt": "The capital of France is", "n_predict": 8, "temperature": 0, "stream": true, "return_progress": true
    });
    let events: Vec<Value> = client
        .events("POST", "/completion", &body)
        .map(|event| event.json())
        .collect();
    let (last, parts) = events.split_last().expect("frames");
    assert!(parts.iter().all(|part| part["stop"] == false), "{events:?}");
    assert_eq!(
        parts[0]["prompt_progress"]["total"],
        whole["tokens_evaluated"]
    );
    let text: String = parts
        .iter()
        .map(|part| part["content"].as_str().unwrap())
        .collect();
    assert_eq!(text, whole["content"].as_str().unwrap());
    let tokens: Vec<&Value> = parts
        .iter()
        .flat_map(|part| part["tokens"].as_array().unwrap())
        .collect();
    assert_eq!(
        tokens,
        whole["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .collect::<Vec<_>>()
    );
    assert_eq!(
        (&last["stop"], &last["content"]),
        (&json!(true), &json!(""))
    );
    assert_eq!(last["stop_type"], "limit");
    assert_eq!(last["tokens_predicted"], 8);
}

#[test]
fn answers_end_at_words_marks_and_limits() {
    let client = App::shared().client();
    let word = complete(
        &client,
        json!({ "n_predict": 30, "stop": ["Paris", "never"] }),
    );
    assert_eq!(
        (&word["stop_type"], &word["stopping_word"]),
        (&json!("word"), &json!("Paris"))
    );
    assert!(!word["content"].as_str().unwrap().contains("Paris"));
    let mark = complete(
        &client,
        json!({ "n_predict": 200, "prompt": "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n" }),
    );
    assert_eq!(mark["stop_type"], "eos", "{mark}");
    assert!(mark["tokens_predicted"].as_u64() < Some(200));
}

#[test]
fn prompts_are_texts_tokens_and_lists() {
    let client = App::shared().client();
    let text = complete(&client, json!({}));
    let tokens = client
        .post(
            "/tokenize",
            &json!({ "content": "The capital of France is", "add_special": true }),
        )
        .json()["tokens"]
        .clone();
    assert_eq!(
        complete(&client, json!({ "prompt": tokens }))["content"],
        text["content"]
    );
    let front = client
        .post("/tokenize", &json!({ "content": "The capital" }))
        .json()["tokens"]
        .clone();
    let mut mixed = front.as_array().unwrap().clone();
    mixed.push(json!(" of France is"));
    assert_eq!(
        complete(&client, json!({ "prompt": mixed }))["content"],
        text["content"]
    );
    let two = complete(
        &client,
        json!({ "prompt": ["The capital of France is", "One, two,"] }),
    );
    assert_eq!(
        (two.as_array().unwrap().len(), &two[0]["content"]),
        (2, &text["content"])
    );
    assert_eq!(two[1]["index"], 1);
    let twice = complete(
        &client,
        json!({ "n_cmpl": 2, "temperature": 1.0, "seed": 5 }),
    );
    assert_eq!(twice.as_array().unwrap().len(), 2);
    let never = complete(
        &client,
        json!({ "logit_bias": [[" Paris", false], ["Paris", false]] }),
    );
    assert!(
        !never["content"].as_str().unwrap().contains("Paris"),
        "{never}"
    );
}

#[test]
fn grammars_and_schemas_are_kept_to() {
    let client = App::shared().client();
    let ask = |more: Value| {
        let answer = complete(&client, more);
        (
            answer["content"].as_str().unwrap().to_owned(),
            answer["stop_type"].clone(),
        )
    };
    let (text, end) =
        ask(json!({ "grammar": "root ::= \" \" (\"yes\" | \"no\")", "n_predict": 20 }));
    assert!(text == " yes" || text == " no", "{text:?}");
    assert_eq!(end, "eos");

    // A list: one expression. Items end before their lines do.
    let list = "root ::= item{2,3}\nitem ::= \"- \" [a-z]{1,9} \"\\n\" # a line";
    let (text, _) = ask(json!({ "grammar": list, "n_predict": 60, "temperature": 0.8, "seed": 3 }));
    let lines: Vec<&str> = text.lines().collect();
    assert!((2..=3).contains(&lines.len()), "{text:?}");
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("- ") && line.len() <= 11),
        "{text:?}"
    );

    // JSON as llama.cpp's own sample writes it: recursion, with strings as lexemes.
    let json_grammar = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value){0,2} )? "}" ws
array  ::= "[" ws ( value ("," ws value){0,2} )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) ){0,12} "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,3})) ("." [0-9]{1,2})? ws
ws     ::= [ \t\n]{0,1}
"#;
    for seed in 0..6 {
        let (text, end) = ask(
            json!({ "grammar": json_grammar, "n_predict": 120, "temperature": 1.0, "seed": seed }),
        );
        if end == "eos" {
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
            assert!(value.is_object(), "{text:?}");
        }
    }

    // What follows a number is not taken for more of it.
    let sum =
        "root ::= sum \"\\n\"\nsum ::= num ws (\"+\" ws sum)?\nnum ::= [0-9]{1,3}\nws ::= [ \\n]*";
    let (text, end) = ask(json!({ "grammar": sum, "n_predict": 40, "prompt": "1 + 2 =" }));
    assert!(end != "eos" || text.ends_with('\n'), "{text:?}");
    assert!(
        text.chars()
            .all(|c| c.is_ascii_digit() || " +\n".contains(c)),
        "{text:?}"
    );

    let schema = json!({ "type": "object", "properties": { "city": { "enum": ["Paris", "Rome"] } }, "required": ["city"], "additionalProperties": false });
    let (text, end) = ask(json!({ "json_schema": schema, "n_predict": 40 }));
    assert_eq!(end, "eos");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(value["city"] == "Paris" || value["city"] == "Rome");
}

#[test]
fn tokens_go_there_and_back() {
    let client = App::shared().client();
    let split = |more: Value| {
        let mut body = json!({ "content": "<|im_start|>na\u{ef}ve \u{1f600}" });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        client.post("/tokenize", &body).json()["tokens"].clone()
    };
    let tokens = split(json!({}));
    assert_eq!(tokens[0], 1, "the mark is one token: {tokens}");
    let plain = split(json!({ "parse_special": false }));
    assert!(plain.as_array().unwrap().len() > tokens.as_array().unwrap().len());
    let pieces = split(json!({ "with_pieces": true }));
    assert_eq!(pieces[0], json!({ "id": 1, "piece": "<|im_start|>" }));
    // A token that is half a character is told in bytes; together they are the text.
    let mut bytes = Vec::new();
    for piece in pieces.as_array().unwrap() {
        match &piece["piece"] {
            Value::String(text) => bytes.extend_from_slice(text.as_bytes()),
            halves => bytes.extend(
                halves
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|b| b.as_u64().unwrap() as u8),
            ),
        }
    }
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        "<|im_start|>na\u{ef}ve \u{1f600}"
    );
    let back = client
        .post("/detokenize", &json!({ "tokens": plain }))
        .json();
    assert_eq!(back["content"], "<|im_start|>na\u{ef}ve \u{1f600}");
    assert_eq!(
        client.post("/tokenize", &json!({})).json(),
        json!({ "tokens": [] })
    );

    let messages = json!([{ "role": "user", "content": [{ "type": "text", "text": "Hi" }] }]);
    let prompt = client
        .post("/apply-template", &json!({ "messages": messages }))
        .json();
    let prompt = prompt["prompt"].as_str().unwrap();
    assert!(
        prompt.ends_with("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        "{prompt:?}"
    );
    // The same prompt by hand and by messages: the same tokens.
    let by_hand = complete(&client, json!({ "prompt": prompt, "n_predict": 12 }));
    let chat = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 12, "temperature": 0 });
    let chat = client.post("/chat/completions", &chat).json();
    assert_eq!(chat["choices"][0]["message"]["content"], by_hand["content"]);
}

#[test]
fn the_server_tells_of_itself() {
    let client = App::shared().client();
    complete(&client, json!({ "n_predict": 1 }));
    let props = client.get("/props").json();
    assert!(
        props["chat_template"]
            .as_str()
            .unwrap()
            .contains("im_start")
    );
    assert!(
        props["model_path"].as_str().unwrap().ends_with(".gguf"),
        "{props}"
    );
    let usual = &props["default_generation_settings"];
    assert_eq!(usual["params"]["top_k"], 40);
    assert!(usual["n_ctx"].as_u64() >= Some(2048), "{props}");
    let slots = client.get("/slots").json();
    assert_eq!(
        slots.as_array().unwrap().len() as u64,
        props["total_slots"].as_u64().unwrap()
    );
    assert_eq!(slots[0]["n_ctx"], usual["n_ctx"]);
    assert_eq!(client.get("/lora-adapters").json(), json!([]));
    assert_eq!(client.get("/health").json()["status"], "ok");
    assert_eq!(
        client.get("/models").json()["data"][0]["id"],
        openai::model(&client)
    );
    let key = client.post("/onebit/keys", &json!({ "name": "props" }));
    let key = key.json()["key"].as_str().expect("a key").to_owned();
    let lan = client
        .with_header("X-Forwarded-For", "10.0.0.7")
        .with_header("Authorization", &format!("Bearer {key}"))
        .get("/props")
        .json();
    assert_eq!(
        lan["model_path"],
        openai::model(&client),
        "paths are the owner's"
    );
}

#[test]
fn refusals_have_the_servers_shape() {
    let client = App::shared().client();
    let cases = [
        (
            "/completion",
            json!({ "prompt": "a", "mirostat": 2 }),
            501,
            "not_supported_error",
            "mirostat",
        ),
        (
            "/completion",
            json!({ "prompt": [] }),
            400,
            "invalid_request_error",
            "prompt",
        ),
        (
            "/completion",
            json!({ "prompt": "a", "grammar": "root ::= x" }),
            400,
            "invalid_request_error",
            "`x`",
        ),
        (
            "/completion",
            json!({ "prompt": "a", "model": "nobody" }),
            404,
            "not_found_error",
            "nobody",
        ),
        (
            "/completion",
            json!({ "prompt": "word ".repeat(40_000), "n_predict": 1 }),
            400,
            "exceed_context_size_error",
            "tokens",
        ),
        (
            "/infill",
            json!({ "input_prefix": "a", "input_suffix": "b" }),
            501,
            "not_supported_error",
            "gaps",
        ),
        (
            "/embedding",
            json!({ "content": "a", "model": crate::openai::model(&client) }),
            501,
            "not_supported_error",
            "onebit pull",
        ),
        (
            "/rerank",
            json!({ "query": "a", "documents": ["b"] }),
            501,
            "not_supported_error",
            "rank",
        ),
        (
            "/slots/0?action=save",
            json!({ "filename": "x" }),
            501,
            "not_supported_error",
            "files",
        ),
        (
            "/detokenize",
            json!({ "tokens": [4_000_000] }),
            400,
            "invalid_request_error",
            "4000000",
        ),
        (
            "/apply-template",
            json!({ "messages": [] }),
            400,
            "invalid_request_error",
            "messages",
        ),
    ];
    for (path, body, status, kind, word) in cases {
        let answer = client.post(path, &body);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let error = answer.json()["error"].clone();
        assert_eq!(
            (&error["code"], &error["type"]),
            (&json!(status), &json!(kind)),
            "{path}: {error}"
        );
        assert!(
            error["message"].as_str().unwrap().contains(word),
            "{path}: {error}"
        );
    }
    let wrong_method = client.get("/completion");
    assert_eq!(
        (
            wrong_method.status,
            wrong_method.json()["error"]["type"].clone()
        ),
        (405, json!("not_found_error"))
    );
}
