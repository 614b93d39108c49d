//! OpenAI's Responses on the real small model: items, events in order, calls, and what is kept for later.
//!
//! The model is weak: tests assert structure, counts and determinism, never knowledge.

use serde_json::{Value, json};

use crate::openai::model;
use crate::support::{App, Client};

fn ask(client: &Client, changes: Value) -> Value {
    let mut body = json!({
        "model": model(client), "max_output_tokens": 16, "temperature": 0, "input": "Count from one to five."
    });
    for (name, value) in changes.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

#[test]
fn a_stream_says_the_same_as_a_whole_response() {
    let client = App::shared().client();
    let whole = client
        .post("/v1/responses", &ask(&client, json!({})))
        .json();
    assert_eq!(whole["object"], "response");
    let text = whole["output"][0]["content"][0]["text"]
        .as_str()
        .expect("a text");

    let body = ask(&client, json!({"stream": true, "store": false}));
    let events: Vec<_> = client.events("POST", "/v1/responses", &body).collect();
    let deltas: String = events
        .iter()
        .filter(|event| event.name == "response.output_text.delta")
        .filter_map(|event| event.json()["delta"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(deltas, text);
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event.json()["sequence_number"], number);
    }
    let mut names: Vec<&str> = events
        .iter()
        .map(|event| event.name.trim_start_matches("response."))
        .collect();
    names.dedup();
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        whole["status"].as_str().expect("a status"),
    ];
    assert_eq!(names, expected);
    let last = events.last().expect("an end").json();
    assert_eq!(
        last["response"]["usage"]["output_tokens"],
        whole["usage"]["output_tokens"]
    );
    let id = last["response"]["id"].as_str().expect("an id");
    assert_eq!(
        client.get(&format!("/v1/responses/{id}")).status,
        404,
        "kept against its will"
    );
}

#[test]
fn a_response_goes_on_from_an_earlier_one_until_that_is_deleted() {
    let client = App::shared().client();
    let first = client
        .post("/v1/responses", &ask(&client, json!({})))
        .json();
    let path = format!("/v1/responses/{}", first["id"].as_str().expect("an id"));
    assert_eq!(client.get(&path).json(), first);
    let items = client.get(&format!("{path}/input_items")).json();
    assert_eq!(
        items["data"][0]["content"][0]["text"],
        "Count from one to five."
    );

    let next = ask(
        &client,
        json!({"input": "And now?", "previous_response_id": first["id"]}),
    );
    let second = client.post("/v1/responses", &next).json();
    let by_hand = json!({"input": [
        {"role": "user", "content": "Count from one to five."},
        first["output"][0],
        {"role": "user", "content": "And now?"}
    ]});
    let same = client.post("/v1/responses", &ask(&client, by_hand)).json();
    assert_eq!(second["output"][0]["content"], same["output"][0]["content"]);
    assert_eq!(
        second["usage"]["input_tokens"],
        same["usage"]["input_tokens"]
    );

    assert_eq!(client.delete(&path).json()["deleted"], true);
    assert_eq!(client.delete(&path).status, 404);
    assert_eq!(client.post("/v1/responses", &next).status, 404);
}

#[test]
fn a_schema_is_obeyed_and_refusals_name_the_field() {
    let client = App::shared().client();
    let schema = json!({
        "type": "object", "required": ["n"], "additionalProperties": false,
        "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 5}}
    });
    let format = json!({"format": {"type": "json_schema", "name": "n", "schema": schema}});
    let answer = client.post(
        "/v1/responses",
        &ask(&client, json!({"text": format, "max_output_tokens": 40})),
    );
    let text = answer.json()["output"][0]["content"][0]["text"]
        .as_str()
        .expect("a text")
        .to_owned();
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert!((1..=5).contains(&value["n"].as_i64().expect("a number")));

    for (changes, word) in [
        (json!({"input": []}), "input"),
        (json!({"background": true}), "background"),
        (json!({"tools": [{"type": "web_search"}]}), "tools"),
    ] {
        let refused = client.post("/v1/responses", &ask(&client, changes));
        assert_eq!(
            (refused.status, refused.json()["error"]["param"].as_str()),
            (400, Some(word))
        );
    }
    let none = client.post("/v1/moderations", &json!({"input": "x"}));
    assert_eq!(
        (none.status, none.json()["error"]["code"].as_str()),
        (404, Some("unsupported_route"))
    );
}
