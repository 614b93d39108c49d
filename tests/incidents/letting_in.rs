//! Rows of the table in which somebody is let in who should not be.

use onebit::api::facts;
use onebit::domain::Scope;
use serde_json::{Value, json};

use super::{ESCAPES, every_route, key, rows, town};
use crate::access::filled;
use crate::documents::{settled, upload};
use crate::support::Client;
use crate::support::client::Answer;
use crate::support::wire::{HOME, Wire};

#[test]
fn row_01_a_foreign_name_that_leads_here_is_nobody() {
    let Some(town) = town() else { return };
    town.row(|| {
        let owner = town.with(&town.owner);
        let before = rows(&owner);
        for client in [town.stranger(), owner.clone()] {
            every_route(
                &client.with_header("Host", "evil.example"),
                |path, answer| {
                    assert_eq!(answer.status, 421, "{path}: {}", answer.text());
                },
            );
        }
        assert_eq!(rows(&owner), before);
    });
}

#[test]
fn row_02_pages_of_others_are_refused() {
    let Some(town) = town() else { return };
    town.row(|| {
        let owner = town.with(&town.owner);
        let before = rows(&owner);
        for origin in [
            "https://evil.example",
            "null",
            "http://192.168.77.1:9",
            "file://",
        ] {
            every_route(&owner.with_header("Origin", origin), |path, answer| {
                assert_eq!(answer.status, 403, "{origin} {path}: {}", answer.text());
            });
        }
        every_route(
            &owner.with_header("Host", "0.0.0.0:8443"),
            |path, answer| {
                assert_eq!(answer.status, 421, "{path}: {}", answer.text());
            },
        );
        assert_eq!(rows(&owner), before);
    });
}

/// `api/tests.rs` holds the whole matrix against every credential without a socket; this is the same over the wire.
#[test]
fn row_11_every_way_to_carry_a_key_gives_the_same_verdict() {
    let Some(town) = town() else { return };
    let mut verdicts = 0;
    let mut row = String::new();
    for (number, routes) in facts().chunks(60).enumerate() {
        // A key has its rate of requests.
        let keys: Vec<(Scope, String)> = [("infer", Scope::Infer), ("owner", Scope::Chat)]
            .map(|(scope, holds)| (holds, key(&town.wire, &town.resident, scope)))
            .into();
        town.row(|| {
            // One stream ends with its reader only; the table's own unit test asks for it.
            for fact in routes
                .iter()
                .filter(|fact| fact.path != "/api/sessions/events")
            {
                for (holds, key) in &keys {
                    let mut got = Vec::new();
                    for (header, value) in [
                        ("Authorization", format!("Bearer {key}")),
                        ("X-Api-Key", key.clone()),
                        ("Cookie", format!("onebit={key}")),
                        ("Cookie", format!("__Host-onebit={key}")),
                    ] {
                        let body = if fact.method == "GET" { "" } else { "[]" };
                        let client = town.stranger().with_header(header, &value);
                        let answer = client.send(fact.method.as_str(), &filled(fact.path), body);
                        let ours = answer.text().contains("scope, and this device")
                            || answer.text().contains("https only");
                        got.push(if answer.status == 403 && ours {
                            "403"
                        } else if answer.status == 401 {
                            "401"
                        } else {
                            "in"
                        });
                    }
                    let expected = if *holds >= fact.scope { "in" } else { "403" };
                    assert!(
                        got.iter().all(|g| *g == expected),
                        "{} {} {holds:?}: {got:?}",
                        fact.method,
                        fact.path
                    );
                    verdicts += got.len();
                }
            }
        });
        row += &format!("{number} ");
    }
    println!("{verdicts} verdicts over the wire, in parts {row}");
}

#[test]
fn row_12_anothers_rows_are_as_good_as_none() {
    let Some(town) = town() else { return };
    town.row(|| {
        let owner = town.with(&town.owner);
        let ada = owner
            .post("/onebit/persons", &json!({ "name": "Ada" }))
            .json()["id"]
            .clone();
        let made = owner.post(
            "/onebit/keys",
            &json!({ "name": "hers", "scope": "chat", "person": ada }),
        );
        let hers = town.with(made.json()["key"].as_str().expect("a key"));
        let id = |answer: Answer| answer.json()["id"].as_str().expect("an id").to_owned();
        let chat = id(owner.post("/onebit/chats", &json!({})));
        let document = upload(
            &owner,
            "secret.md",
            b"# Secret\n\nThe safe opens with 4711.\n",
        );
        let document = document["id"].as_str().expect("an id").to_owned();
        settled(&owner, &document);
        let collection = id(owner.post("/onebit/collections", &json!({ "name": "Safes" })));
        let question = json!({ "model": "onebit-mini", "input": "hi", "max_output_tokens": 16 });
        let response = id(owner.post("/v1/responses", &question));
        let turn = json!({ "parent_id": null, "content": "hi" });
        let verbs: Vec<(&str, String, Value)> = vec![
            ("GET", format!("/onebit/chats/{chat}"), Value::Null),
            (
                "PATCH",
                format!("/onebit/chats/{chat}"),
                json!({ "title": "mine" }),
            ),
            ("POST", format!("/onebit/chats/{chat}/turns"), turn),
            ("DELETE", format!("/onebit/chats/{chat}"), Value::Null),
            ("GET", format!("/api/documents/{document}"), Value::Null),
            (
                "GET",
                format!("/api/documents/{document}/status"),
                Value::Null,
            ),
            (
                "GET",
                format!("/api/documents/{document}/content"),
                Value::Null,
            ),
            (
                "GET",
                format!("/api/documents/{document}/chunks"),
                Value::Null,
            ),
            (
                "GET",
                format!("/api/documents/{document}/chunks/0"),
                Value::Null,
            ),
            (
                "POST",
                format!("/api/documents/{document}/cancel"),
                json!({}),
            ),
            (
                "POST",
                format!("/api/documents/{document}/retry"),
                json!({}),
            ),
            ("DELETE", format!("/api/documents/{document}"), Value::Null),
            ("GET", format!("/v1/files/{document}"), Value::Null),
            ("GET", format!("/v1/files/{document}/content"), Value::Null),
            ("DELETE", format!("/v1/files/{document}"), Value::Null),
            (
                "GET",
                format!("/v1/vector_stores/{collection}"),
                Value::Null,
            ),
            (
                "GET",
                format!("/v1/vector_stores/{collection}/files"),
                Value::Null,
            ),
            (
                "DELETE",
                format!("/v1/vector_stores/{collection}"),
                Value::Null,
            ),
            (
                "PATCH",
                format!("/onebit/collections/{collection}"),
                json!({ "name": "mine" }),
            ),
            (
                "DELETE",
                format!("/onebit/collections/{collection}"),
                Value::Null,
            ),
            ("GET", format!("/v1/responses/{response}"), Value::Null),
            (
                "GET",
                format!("/v1/responses/{response}/input_items"),
                Value::Null,
            ),
            ("DELETE", format!("/v1/responses/{response}"), Value::Null),
        ];
        for (method, path, body) in &verbs {
            let body = if body.is_null() {
                String::new()
            } else {
                body.to_string()
            };
            let answer = hers.send(method, path, &body);
            assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
            assert!(!answer.text().contains("4711"), "{method} {path}");
        }
        let found = hers.post("/v1/search", &json!({ "query": "what opens the safe" }));
        assert!(!found.text().contains("4711"), "{}", found.text());
        assert_eq!(owner.get(&format!("/onebit/chats/{chat}")).status, 200);
        assert_eq!(owner.get(&format!("/api/documents/{document}")).status, 200);
        let id = ada.as_str().expect("an id");
        assert_eq!(owner.delete(&format!("/onebit/persons/{id}")).status, 200);
        owner.delete(&format!("/api/documents/{document}"));
    });
}

#[test]
fn row_13_without_a_key_only_the_public_list_answers() {
    let Some(town) = town() else { return };
    town.row(|| {
        let mut answered = Vec::new();
        every_route(&town.stranger(), |path, answer| {
            if answer.status != 401 {
                answered.push(path.to_owned());
            }
        });
        let public: Vec<String> = facts()
            .iter()
            .filter(|fact| fact.scope == Scope::Public)
            .map(|fact| fact.path.to_owned())
            .collect();
        assert_eq!(answered, public);
        println!("{} routes, {} of them public", facts().len(), public.len());
    });
}

#[test]
fn row_14_nobody_becomes_the_owner_by_being_first_and_nothing_runs_uploads() {
    let Some(wire) = Wire::new() else { return };
    // An appliance of its own: tries of the code are counted.
    let resident = wire.appliance("");
    let code = resident.data().join("trust/setup-code");
    let right = std::fs::read_to_string(&code).expect("a code");
    wire.away(|| {
        let stranger = Client::new(&format!("{HOME}:8000"));
        let secure = Client::secure(&format!("{HOME}:8443"), &stranger.get("/ca.pem").text());
        let claim = |client: &Client, code: &str| {
            client
                .post("/onebit/claim", &json!({ "code": code, "name": "First" }))
                .status
        };
        assert_eq!(claim(&stranger, &right), 403, "never in the open");
        let guesses: Vec<u16> = (0..6)
            .map(|n| claim(&secure, &format!("0000-0000-0000-000{n}")))
            .collect();
        assert_eq!(guesses, [403, 403, 403, 403, 403, 429]);
        assert_eq!(
            claim(&secure, &right),
            429,
            "the guesser waits even with the right one"
        );
        assert_eq!(stranger.get("/onebit/devices").status, 401);
    });
    assert!(code.is_file(), "the code is still good");
    let owner = key(&wire, &resident, "owner");
    wire.away(|| {
        let authority = Client::new(&format!("{HOME}:8000")).get("/ca.pem").text();
        let owner = Client::secure(&format!("{HOME}:8443"), &authority)
            .with_header("Authorization", &format!("Bearer {owner}"));
        let script = json!({ "model": "x", "from": "import os; os.system('id')", "files": {} });
        assert!((400..600).contains(&owner.post("/api/create", &script).status));
    });
    assert!(
        !resident.said().contains(right.trim()),
        "the code is in the log"
    );
}

#[test]
fn row_16_forms_names_and_deletions_do_what_they_say() {
    let Some(town) = town() else { return };
    town.row(|| {
        let browser = town.with(&town.owner).with_header("Cookie", "a=b");
        for kind in [
            "application/x-www-form-urlencoded",
            "text/plain",
            "multipart/form-data; boundary=x",
        ] {
            let form = browser.with_header("Content-Type", kind);
            let answer = form.send("POST", "/onebit/chats", "{}");
            assert_eq!(answer.status, 415, "{kind}: {}", answer.text());
            let cross = form.with_header("Sec-Fetch-Site", "cross-site");
            assert_eq!(
                cross.send("POST", "/onebit/chats", "{}").status,
                403,
                "{kind}"
            );
        }
        let owner = town.with(&town.owner);
        for name in [";id", "-i%20x", "%24(id).md", "%60id%60.txt"] {
            let document = upload(&owner, name, format!("text of {name}").as_bytes());
            let id = document["id"].as_str().expect("an id");
            settled(&owner, id);
            assert_eq!(owner.delete(&format!("/api/documents/{id}")).status, 200);
        }
        let before = rows(&owner);
        for name in ESCAPES {
            for answer in [
                owner.delete(&format!("/api/documents/{name}")),
                owner.delete(&format!("/onebit/chats/{name}")),
                owner.send(
                    "DELETE",
                    "/api/delete",
                    &json!({ "model": name }).to_string(),
                ),
            ] {
                assert!(
                    (400..500).contains(&answer.status),
                    "{name}: {}",
                    answer.text()
                );
            }
        }
        assert_eq!(rows(&owner), before);
    });
}

#[test]
fn row_17_a_default_installation_answers_nobody_it_does_not_know() {
    let Some(wire) = Wire::new() else { return };
    let resident = wire.appliance("");
    wire.away(|| {
        let addresses = [
            format!("{HOME}:8000"),
            format!("{HOME}:8443"),
            "[fd77::1]:8000".to_owned(),
        ];
        let closed: Vec<_> = facts()
            .into_iter()
            .filter(|fact| fact.scope > Scope::Public)
            .collect();
        for (number, address) in addresses.iter().enumerate() {
            let stranger = Client::new(address);
            assert_eq!(stranger.get("/health").status, 200, "{address}");
            assert!(stranger.get("/app/").text().contains("<html"), "{address}");
            // Every third route each: one who asks for all three times over is sent away before he is through.
            for fact in closed.iter().skip(number).step_by(addresses.len()) {
                let body = if fact.method == "GET" { "" } else { "{}" };
                let answer = stranger.send(fact.method.as_str(), &filled(fact.path), body);
                assert_eq!(
                    answer.status, 401,
                    "{address} {} {}",
                    fact.method, fact.path
                );
            }
        }
    });
    assert_eq!(resident.listening(), [8000, 8443]);
}
