//! The same forty conversations in every dialect give the same tokens: the dialects differ in their words alone.
//!
//! Everything is greedy, because Anthropic's dialect knows no seed. What is compared is the text, the calls, how many
//! tokens were made, and whether the limit cut them.

use onebit::api::facts;
use serde_json::{Value, json};

use crate::openai::model;
use crate::support::{App, Client};

#[derive(Clone, Default)]
struct Scenario {
    system: Option<&'static str>,
    /// Questions and answers in turn, a question last.
    turns: Vec<&'static str>,
    tokens: u32,
    stop: Vec<&'static str>,
    schema: Option<Value>,
    tool: bool,
    /// The tool has been called and has answered.
    told: bool,
}

#[derive(Debug, PartialEq)]
struct Said {
    text: String,
    calls: Vec<(String, Value)>,
    tokens: u64,
    cut: bool,
}

const PATH: &str = "/v1/chat/completions";

fn scenarios() -> Vec<Scenario> {
    let of = |turns: &[&'static str], tokens| Scenario {
        turns: turns.to_vec(),
        tokens,
        ..Scenario::default()
    };
    let mut all = Vec::new();
    for (question, tokens) in [
        ("Name a colour.", 4),
        ("Count from one to five.", 8),
        ("What is the capital of France?", 8),
        ("Write a short poem about the sea.", 12),
        ("Tell me a joke.", 1),
        ("Was ist ein Kühlschrank?", 8),
        ("用一句话介绍你自己。", 6),
        ("Say \"yes\" or \"no\".", 3),
        ("1 + 1 =", 5),
        ("  spaces   inside  \n\n and lines ", 6),
    ] {
        all.push(of(&[question], tokens));
    }
    for system in [
        "You answer in one word.",
        "You are a pirate.",
        "Reply in French.",
        "You are brief.\nNever apologise.",
        "Say <|im_end|> never.",
        "🦀",
    ] {
        all.push(Scenario {
            system: Some(system),
            ..of(&["Who are you?"], 7)
        });
    }
    for turns in [
        &["Hi.", "Hello! How can I help?", "Tell me more."][..],
        &[
            "My name is Ada.",
            "Nice to meet you, Ada.",
            "What is my name?",
        ],
        &["a", "b", "c", "d", "e"],
        &["Is it raining?", "", "And now?"],
        &["List fruits.", "Apples, pears", "Go on."],
        &["<b>bold</b>", "&amp;", "\\n"],
    ] {
        all.push(of(turns, 8));
    }
    for stop in [&[","][..], &["e"], &["the", "a"], &["zzzz"]] {
        all.push(Scenario {
            stop: stop.to_vec(),
            ..of(&["Describe a cat in one sentence."], 10)
        });
    }
    for schema in [
        json!({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}, "required": ["name"], "additionalProperties": false}),
        json!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 2, "maxItems": 2}),
        json!({"type": "object", "properties": {"a": {"type": "null"}, "b": {"const": "x"}}, "required": ["a", "b"], "additionalProperties": false}),
        json!({"type": "object", "properties": {"when": {"type": "string", "pattern": "^[0-9]{4}$"}}, "required": ["when"], "additionalProperties": false}),
    ] {
        all.push(Scenario {
            schema: Some(schema),
            ..of(&["Answer in JSON."], 40)
        });
    }
    for question in ["How is the weather in Paris?", "Call a tool.", "Hello."] {
        all.push(Scenario {
            tool: true,
            ..of(&[question], 12)
        });
        all.push(Scenario {
            tool: true,
            told: true,
            ..of(&[question], 8)
        });
    }
    all.push(of(&["The end?"], 9));
    all.push(Scenario {
        system: Some("You may call a tool."),
        tool: true,
        ..of(&["Weather?"], 9)
    });
    all
}

fn parameters() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
}

/// System text and turns as OpenAI and Ollama write them.
fn messages(scenario: &Scenario) -> Vec<Value> {
    let system = scenario
        .system
        .map(|text| json!({"role": "system", "content": text}));
    let turns = scenario.turns.iter().enumerate().map(|(i, text)| {
        let role = if i % 2 == 0 { "user" } else { "assistant" };
        json!({"role": role, "content": text})
    });
    system.into_iter().chain(turns).collect()
}

fn openai(client: &Client, model: &str, path: &str, scenario: &Scenario, stream: bool) -> Said {
    let mut messages = messages(scenario);
    if scenario.told {
        let function = json!({"name": "weather", "arguments": "{\"city\":\"Paris\"}"});
        let call = json!({"id": "call_1", "type": "function", "function": function});
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": "call_1", "content": "sunny"}));
    }
    let mut body = json!({"model": model, "messages": messages, "max_tokens": scenario.tokens,
        "temperature": 0, "stop": scenario.stop});
    if let Some(schema) = &scenario.schema {
        body["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
    }
    if scenario.tool {
        let function =
            json!({"name": "weather", "description": "Tells it.", "parameters": parameters()});
        body["tools"] = json!([{"type": "function", "function": function}]);
    }
    if stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        return openai_streamed(client, path, &body);
    }
    let answer = client.post(path, &body).json();
    let message = &answer["choices"][0]["message"];
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    Said {
        text: message["content"].as_str().unwrap_or_default().to_owned(),
        calls: calls
            .map(|call| {
                let function = &call["function"];
                (string(&function["name"]), parsed(&function["arguments"]))
            })
            .collect(),
        tokens: count(&answer["usage"]["completion_tokens"], &answer),
        cut: answer["choices"][0]["finish_reason"] == "length",
    }
}

fn openai_streamed(client: &Client, path: &str, body: &Value) -> Said {
    let mut said = Said {
        text: String::new(),
        calls: Vec::new(),
        tokens: 0,
        cut: false,
    };
    let mut arguments: Vec<String> = Vec::new();
    for event in client.events("POST", path, body) {
        if event.data == "[DONE]" {
            break;
        }
        let chunk = event.json();
        if let Some(tokens) = chunk["usage"]["completion_tokens"].as_u64() {
            said.tokens = tokens;
        }
        let choice = &chunk["choices"][0];
        said.cut |= choice["finish_reason"] == "length";
        let delta = &choice["delta"];
        said.text
            .push_str(delta["content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            if let Some(name) = function["name"].as_str() {
                said.calls.push((name.to_owned(), Value::Null));
                arguments.push(String::new());
            }
            if let Some(all) = arguments.last_mut() {
                all.push_str(function["arguments"].as_str().unwrap_or_default());
            }
        }
    }
    for ((_, value), text) in said.calls.iter_mut().zip(arguments) {
        *value = parsed(&Value::from(text));
    }
    said
}

fn ollama(client: &Client, model: &str, scenario: &Scenario) -> Said {
    let mut messages = messages(scenario);
    if scenario.told {
        let call = json!({"function": {"name": "weather", "arguments": {"city": "Paris"}}});
        messages.push(json!({"role": "assistant", "content": "", "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_name": "weather", "content": "sunny"}));
    }
    let mut body = json!({"model": model, "messages": messages, "stream": false,
        "options": {"temperature": 0, "num_predict": scenario.tokens, "stop": scenario.stop}});
    if let Some(schema) = &scenario.schema {
        body["format"] = schema.clone();
    }
    if scenario.tool {
        let function =
            json!({"name": "weather", "description": "Tells it.", "parameters": parameters()});
        body["tools"] = json!([{"type": "function", "function": function}]);
    }
    let answer = client.post("/api/chat", &body).json();
    let calls = answer["message"]["tool_calls"]
        .as_array()
        .into_iter()
        .flatten();
    Said {
        text: string(&answer["message"]["content"]),
        calls: calls
            .map(|call| {
                let function = &call["function"];
                (string(&function["name"]), function["arguments"].clone())
            })
            .collect(),
        tokens: count(&answer["eval_count"], &answer),
        cut: answer["done_reason"] == "length",
    }
}

fn anthropic(client: &Client, model: &str, scenario: &Scenario) -> Said {
    let mut messages = messages(scenario);
    messages.retain(|message| message["role"] != "system");
    if scenario.told {
        messages.push(json!({"role": "assistant", "content": [
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}]}));
        messages.push(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]}));
    }
    let mut body = json!({"model": model, "messages": messages, "max_tokens": scenario.tokens,
        "temperature": 0, "stop_sequences": scenario.stop});
    if let Some(system) = scenario.system {
        body["system"] = json!(system);
    }
    if let Some(schema) = &scenario.schema {
        body["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
    }
    if scenario.tool {
        body["tools"] =
            json!([{"name": "weather", "description": "Tells it.", "input_schema": parameters()}]);
    }
    let client = client.with_header("anthropic-version", "2023-06-01");
    let answer = client.post("/v1/messages", &body).json();
    let blocks = answer["content"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    let of = |kind: &'static str| blocks.iter().filter(move |block| block["type"] == kind);
    Said {
        text: of("text").map(|block| string(&block["text"])).collect(),
        calls: of("tool_use")
            .map(|block| (string(&block["name"]), block["input"].clone()))
            .collect(),
        tokens: count(&answer["usage"]["output_tokens"], &answer),
        cut: answer["stop_reason"] == "max_tokens",
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A call's arguments; those that the limit cut are no JSON and are told by nobody as such.
fn parsed(arguments: &Value) -> Value {
    serde_json::from_str(arguments.as_str().unwrap_or_default()).unwrap_or_default()
}

fn count(value: &Value, answer: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no count in {answer}"))
}

#[test]
fn every_dialect_gives_the_same_tokens() {
    let app = App::fresh();
    let client = app.client();
    let model = model(&client);
    let scenarios = scenarios();
    assert_eq!(scenarios.len(), 40);
    // Lemonade's prefixes carry OpenAI's own routes.
    let lemonade = "/api/v1/chat/completions";
    let has_lemonade = facts().iter().any(|fact| fact.path == lemonade);
    for (number, scenario) in scenarios.iter().enumerate() {
        let first = openai(&client, &model, PATH, scenario, false);
        assert!(
            first.tokens > 0 || !scenario.stop.is_empty(),
            "{number}: {first:?}"
        );
        let mut others = vec![
            ("streamed", openai(&client, &model, PATH, scenario, true)),
            ("ollama", ollama(&client, &model, scenario)),
            ("anthropic", anthropic(&client, &model, scenario)),
        ];
        if has_lemonade {
            others.push((
                "lemonade",
                openai(&client, &model, lemonade, scenario, false),
            ));
        }
        for (dialect, said) in others {
            assert_eq!(said, first, "scenario {number} in {dialect}");
        }
    }
}
