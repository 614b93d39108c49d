//! Names that rules stand behind, and names for several models together.

use serde_json::{Value, json};

use super::ok;
use crate::openai;
use crate::support::App;

#[test]
fn policies_choose_a_model() {
    let app = App::with_model(&[]);
    let client = app.client();
    let small = openai::model(&client);
    ok(&client.get("/health"));
    assert_eq!(
        client
            .post(
                "/api/copy",
                &json!({ "source": small, "destination": "big" })
            )
            .status,
        200
    );
    let policy = json!({
        "version": "1", "model_name": "user.Chooser", "recipe": "collection.router", "components": [small, "big"],
        "routing": {
            "candidates": [small, "big"], "default_model": small,
            "rules": [
                {"id": "code", "match": {"keywords_any": ["function", "def "]}, "route_to": "big", "outputs": {"why": "code"}},
                {"id": "tools", "match": {"all": [{"has_tools": true}, {"not": {"regex": "^no"}}]}, "route_to": "big"},
                {"id": "denied", "match": {"metadata": {"key": "consent", "equals": "denied"}}, "route_to": small},
            ],
        },
    });
    // Decided without being registered.
    let validate = |prompt: &str| {
        let body = json!({ "policy": policy, "prompt": prompt });
        ok(&client.post("/api/v1/routing/validate", &body))
    };
    let decided = validate("please write a Function");
    assert_eq!(
        (
            &decided["decision"]["route_to"],
            &decided["decision"]["matched_rule"]
        ),
        (&json!("big"), &json!("code"))
    );
    assert_eq!(
        decided["decision"]["trace"][0],
        json!({ "condition": "keywords_any", "result": true })
    );
    assert_eq!(decided["normalized_policy"], policy);
    let fallen = validate("hello");
    assert_eq!(
        (
            &fallen["decision"]["default_used"],
            &fallen["decision"]["matched_rule"]
        ),
        (&json!(true), &json!(""))
    );
    let mut broken = policy.clone();
    broken["routing"]["default_model"] = json!("stranger");
    let refused = client.post("/api/v1/routing/validate", &json!({ "policy": broken }));
    assert!(
        refused.status == 400 && refused.text().contains("Invalid routing policy:"),
        "{}",
        refused.text()
    );
    assert_eq!(client.post("/api/v1/pull", &broken).status, 400);

    let registered = ok(&client.post("/api/v1/pull", &policy));
    assert_eq!(registered["status"], "success");
    let list = ok(&client.get("/v1/models"));
    let entry = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["id"] == "Chooser")
        .expect("the policy");
    assert_eq!(
        (&entry["recipe"], &entry["routing"]["default_model"]),
        (&json!("collection.router"), &json!(small))
    );

    let ask = |more: Value| {
        let mut body = json!({ "model": "user.Chooser", "max_tokens": 3, "temperature": 0, "messages": [{"role": "user", "content": "Hello"}] });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        client.post("/v1/chat/completions", &body)
    };
    let plain = ask(json!({}));
    assert_eq!(
        (plain.header("x-lemonade-route"), &ok(&plain)["model"]),
        (Some("default"), &json!(small))
    );
    let code =
        ask(json!({ "messages": [{"role": "user", "content": "def f"}], "route_trace": true }));
    assert_eq!(
        (code.header("x-lemonade-route"), &ok(&code)["model"]),
        (Some("code"), &json!("big"))
    );
    assert_eq!(
        code.json()["x_lemonade_route"]["outputs"],
        json!({ "why": "code" })
    );
    let denied = ask(json!({ "metadata": { "consent": "denied" } }));
    assert_eq!(denied.header("x-lemonade-route"), Some("denied"));
    let mut streamed = json!({ "model": "chooser", "stream": true, "max_tokens": 3, "route_trace": true, "prompt": "function" });
    let events: Vec<_> = client
        .events("POST", "/v1/completions", &streamed)
        .collect();
    assert_eq!(events[0].json()["x_lemonade_route"]["route_to"], "big");
    assert!(events[1].json().get("x_lemonade_route").is_none());
    assert_eq!(events.last().unwrap().data, "[DONE]");

    // What the last answer cost, and how often a policy decided.
    let stats = ok(&client.get("/api/v1/stats"));
    assert_eq!(stats["output_tokens"], 3, "{stats}");
    assert!(stats["time_to_first_token"].as_f64() > Some(0.0), "{stats}");
    let count = |name: &str| {
        stats[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name} in {stats}"))
    };
    assert_eq!(
        count("input_tokens") + count("cache_tokens"),
        count("prompt_tokens")
    );
    assert_eq!(count("request_count_total"), 4);
    assert_eq!(count("routing_decisions_total"), 6);

    // A model may choose as well: one label out of those there are, whatever it thinks.
    let mut by_model = policy.clone();
    by_model["routing"] = json!({
        "candidates": [small, "big"], "default_model": small,
        "router": { "type": "llm", "model": small, "prompt": "Pick any model." },
    });
    let decided = ok(&client.post(
        "/v1/routing/validate",
        &json!({ "policy": by_model, "prompt": "hi" }),
    ));
    let rule = decided["decision"]["matched_rule"].as_str().unwrap();
    assert!(rule == "__route_0" || rule == "__route_1", "{decided}");
    assert_eq!(
        decided["normalized_policy"]["routing"]["rules"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    // Several models under one name.
    let kit = json!({ "model_name": "user.Kit", "recipe": "collection.omni", "components": ["big", small] });
    ok(&client.post("/v1/models/register", &kit));
    streamed["model"] = json!("user.Kit");
    streamed["stream"] = json!(false);
    assert_eq!(
        ok(&client.post("/v1/completions", &streamed))["model"],
        "big"
    );
    assert_eq!(
        ok(&client.post("/v1/delete", &json!({ "model_name": "user.Chooser" })))["status"],
        "success"
    );
    assert_eq!(ask(json!({})).status, 404);
    assert_eq!(
        ok(&client.get("/v1/models"))["data"]
            .as_array()
            .unwrap()
            .len(),
        3,
        "its models stay"
    );
}
