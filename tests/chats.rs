//! The page's own routes: chats as trees, and turns that belong to the appliance, not to a stream.

use serde_json::{Value, json};

use crate::openai::model;
use crate::support::{App, Client};

fn new_chat(client: &Client) -> String {
    let chat = client.post("/onebit/chats", &json!({})).json();
    let id = chat["id"].as_str().or_else(|| chat["chat"]["id"].as_str());
    id.unwrap_or_else(|| panic!("no id in {chat}")).to_owned()
}

fn messages(client: &Client, chat: &str) -> Vec<Value> {
    let answer = client.get(&format!("/onebit/chats/{chat}")).json();
    answer["messages"]
        .as_array()
        .unwrap_or_else(|| panic!("no messages in {answer}"))
        .clone()
}

/// Asks and reads to the end; gives the stored assistant message.
fn ask(client: &Client, chat: &str, body: &Value) -> Value {
    let events: Vec<_> = client
        .events("POST", &format!("/onebit/chats/{chat}/turns"), body)
        .collect();
    assert_eq!(events[0].name, "turn", "{events:?}");
    assert!(
        events.iter().all(|event| event.id.is_some()),
        "every event has an id: {events:?}"
    );
    let stored = events
        .iter()
        .find(|event| event.name == "message")
        .unwrap_or_else(|| panic!("no message: {events:?}"));
    let text: String = events
        .iter()
        .filter(|event| event.name.is_empty() && event.data.starts_with('{'))
        .filter_map(|event| {
            event.json()["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(
        stored.json()["content"].as_str(),
        Some(text.as_str()),
        "what streamed is what was stored"
    );
    stored.json()
}

#[test]
fn regenerating_makes_a_sibling_and_editing_a_branch() {
    let app = App::with_model(&[]);
    let client = app.client();
    let model = model(&client);
    let chat = new_chat(&client);
    let options = json!({"max_tokens": 6, "temperature": 0});
    let first = ask(
        &client,
        &chat,
        &json!({"parent_id": null, "content": "Hello.", "model": model, "options": options}),
    );
    let question = first["parent_id"].as_str().unwrap().to_owned();

    let second = ask(
        &client,
        &chat,
        &json!({"parent_id": question, "model": model, "options": options}),
    );
    assert_eq!(
        second["parent_id"], first["parent_id"],
        "a new answer to the same question"
    );
    assert_ne!(second["id"], first["id"]);

    let edited = ask(
        &client,
        &chat,
        &json!({"parent_id": null, "content": "Hello again.", "model": model, "options": options}),
    );
    assert_ne!(edited["parent_id"].as_str(), Some(question.as_str()));
    assert_eq!(
        messages(&client, &chat).len(),
        5,
        "two questions, three answers"
    );
    let stats = &edited["stats"];
    assert!(
        stats["completion_tokens"]
            .as_u64()
            .is_some_and(|n| (1..=6).contains(&n)),
        "{stats}"
    );
}

#[test]
fn a_closed_stream_does_not_stop_the_turn_and_can_be_taken_up_again() {
    let app = App::with_model(&[]);
    let client = app.client();
    let chat = new_chat(&client);
    let body = json!({"parent_id": null, "content": "Count to twenty.", "model": model(&client),
        "options": {"max_tokens": 40, "temperature": 0}});
    let mut events = client.events("POST", &format!("/onebit/chats/{chat}/turns"), &body);
    let turn = events.next().unwrap().json()["turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let seen = events.next().unwrap();
    drop(events);
    let rest: Vec<_> = client
        .with_header("Last-Event-ID", seen.id.as_deref().unwrap())
        .events("GET", &format!("/onebit/turns/{turn}/events"), &Value::Null)
        .collect();
    assert!(
        rest.iter().all(|event| event.id != seen.id),
        "what was seen does not come again"
    );
    let stored = rest
        .iter()
        .find(|event| event.name == "message")
        .expect("the turn came to its end")
        .json();
    assert!(stored["stats"]["completion_tokens"].as_u64().unwrap() > 2);
    assert_eq!(
        messages(&client, &chat).last().unwrap()["content"],
        stored["content"]
    );
}

#[test]
fn stop_keeps_what_was_said() {
    let app = App::with_model(&[]);
    let client = app.client();
    let chat = new_chat(&client);
    let body = json!({"parent_id": null, "content": "Write a very long story.", "model": model(&client),
        "options": {"max_tokens": 1500, "temperature": 0}});
    let mut events = client.events("POST", &format!("/onebit/chats/{chat}/turns"), &body);
    let turn = events.next().unwrap().json()["turn_id"]
        .as_str()
        .unwrap()
        .to_owned();
    for _ in 0..4 {
        events.next();
    }
    let stop = client.post(&format!("/onebit/turns/{turn}/stop"), &json!({}));
    assert!((200..300).contains(&stop.status), "{}", stop.text());
    let stored = events
        .find(|event| event.name == "message")
        .expect("the message is stored")
        .json();
    let n = stored["stats"]["completion_tokens"].as_u64().unwrap();
    assert!((1..1500).contains(&n), "{n} tokens");
    assert!(!stored["content"].as_str().unwrap().is_empty());
}

#[test]
fn chats_survive_a_kill_and_can_be_renamed_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let id = {
        let app = App::start(&data, &[]);
        let client = app.client();
        let id = new_chat(&client);
        let answer = client.patch(
            &format!("/onebit/chats/{id}"),
            &json!({"title": "Kept", "pinned": true}),
        );
        assert!((200..300).contains(&answer.status), "{}", answer.text());
        id
    }; // killed with -9 here
    let app = App::start(&data, &[]);
    let client = app.client();
    let list = client.get("/onebit/chats").json();
    let chat = list["chats"]
        .as_array()
        .unwrap()
        .iter()
        .find(|chat| chat["id"] == id.as_str())
        .expect("it is listed");
    assert_eq!(
        (chat["title"].as_str(), chat["pinned"].as_bool()),
        (Some("Kept"), Some(true))
    );
    assert!((200..300).contains(&client.delete(&format!("/onebit/chats/{id}")).status));
    assert_eq!(client.get(&format!("/onebit/chats/{id}")).status, 404);
}

/// What was saved comes back as a tree under new ids; what is no tree is refused by name.
#[test]
fn a_saved_chat_comes_back_with_its_versions() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(&folder.path().join("data"), &[]);
    let client = app.client();
    let said = |id: &str, parent: Option<&str>, role: &str, content: &str| {
        json!({
            "id": id, "parent_id": parent, "role": role, "content": content,
            "model": "m", "created_at": 5, "finish_reason": "stop"
        })
    };
    let messages = [
        said("q", None, "user", "one?"),
        said("a", Some("q"), "assistant", "first"),
        said("b", Some("q"), "assistant", "second"),
    ];
    let body = json!({ "title": "Back", "messages": messages, "head": "a" });
    let made = client.post("/onebit/chats/import", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let chat = client.get(&format!("/onebit/chats/{id}")).json();
    let found = chat["messages"].as_array().unwrap();
    let of = |content: &str| found.iter().find(|one| one["content"] == content).unwrap();
    assert_eq!(
        (found.len(), chat["chat"]["title"].as_str()),
        (3, Some("Back"))
    );
    assert_eq!(of("first")["parent_id"], of("one?")["id"]);
    assert_eq!(of("second")["parent_id"], of("one?")["id"]);
    assert_eq!(chat["chat"]["head"], of("first")["id"]);
    assert_ne!(of("one?")["id"], "q");

    let orphan = json!({ "title": "Bad", "messages": [said("x", Some("y"), "user", "?")] });
    let refused = client.post("/onebit/chats/import", &orphan);
    assert_eq!(refused.status, 400);
    assert!(
        refused.text().contains("must stand before"),
        "{}",
        refused.text()
    );
    let listed = client.get("/onebit/chats").json();
    assert_eq!(
        listed["chats"].as_array().unwrap().len(),
        1,
        "nothing half of it stays"
    );
}

/// Nothing of a chat is lost on its way through a file: pictures, thoughts, passages and costs come back as they were,
/// and go on into the next file.
#[test]
fn a_saved_chat_keeps_what_was_shown_thought_and_cited() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(&folder.path().join("data"), &[]);
    let client = app.client();
    let shown = json!(["data:image/png;base64,AAEC", "data:image/gif;base64,AwQF"]);
    let stats = json!({
        "prompt_tokens": 7, "cached_tokens": 2, "completion_tokens": 3, "ttft_ms": 12.5, "prefill_tps": 90.0,
        "decode_tps": 30.5, "finish_reason": "length", "joules": 1.25, "thought_ms": 2500.0
    });
    let citations = json!([{
        "number": 1, "document_id": "d", "filename": "harbour.pdf", "passage": 4, "page": 2,
        "headings": ["Bread"], "start": 10, "end": 30, "score": 0.5, "text": "Fresh bread."
    }]);
    let messages = json!([
        { "id": "q", "parent_id": null, "role": "user", "content": "Which colour?", "pictures": 2, "shown": shown },
        {
            "id": "a", "parent_id": "q", "role": "assistant", "content": "Red [1].", "model": "m",
            "finish_reason": "length", "reasoning": "It looks red.", "stats": stats, "citations": citations
        },
    ]);
    let bring = |messages: &serde_json::Value| {
        let body = json!({ "title": "Eyes", "messages": messages, "head": null });
        let made = client.post("/onebit/chats/import", &body);
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["id"].as_str().unwrap().to_owned()
    };
    let read = |id: &str| {
        client
            .get(&format!("/onebit/chats/{id}?pictures=true"))
            .json()
    };
    let first = read(&bring(&messages));
    let again = read(&bring(&first["messages"]));
    for chat in [&first, &again] {
        let [question, answer] = [0_usize, 1].map(|at| &chat["messages"][at]);
        assert_eq!(
            (&question["shown"], &question["pictures"]),
            (&shown, &json!(2))
        );
        assert_eq!(answer["reasoning"], "It looks red.");
        assert_eq!(
            (&answer["stats"], &answer["citations"]),
            (&stats, &citations)
        );
        let address = format!(
            "/onebit/messages/{}/pictures/1",
            question["id"].as_str().unwrap()
        );
        assert_eq!(client.get(&address).body, [3, 4, 5]);
    }
    // A list of messages that nobody saves stays light.
    let id = first["chat"]["id"].as_str().unwrap();
    let light = client.get(&format!("/onebit/chats/{id}")).json();
    assert!(light["messages"][0].get("shown").is_none());
}

#[test]
fn the_page_hears_what_doctor_says() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(&folder.path().join("data"), &[]);
    let checks = app.client().get("/onebit/doctor").json();
    let checks = checks["checks"].as_array().unwrap();
    let of = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap();
    assert_eq!(of("port")["verdict"], "good", "{}", of("port"));
    assert!(
        checks
            .iter()
            .all(|check| check["verdict"] == "good" || check["why"].is_string())
    );
}

/// A page shows the end first; and what is long can be deleted too.
#[test]
fn a_long_chat_is_read_from_its_end_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::start(&folder.path().join("data"), &[]);
    let client = app.client();
    let said = |id: String, parent: Option<String>, n: usize, content: String| {
        let role = ["user", "assistant"][n % 2];
        json!({ "id": id, "parent_id": parent, "role": role, "content": content })
    };
    let line = |n: usize| {
        let parent = n.checked_sub(1).map(|above| format!("m{above}"));
        said(format!("m{n}"), parent, n, format!("text {n}"))
    };
    let other = said("other".into(), Some("m2998".into()), 1, "another".into());
    let messages: Vec<_> = (0..3000).map(line).chain([other]).collect();
    let body = json!({ "title": "Long", "messages": messages, "head": "m2999" });
    let made = client.post("/onebit/chats/import", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let read = |query: &str| client.get(&format!("/onebit/chats/{id}{query}")).json();
    let (end, all) = (read("?last=4"), read(""));
    let texts: Vec<_> = end["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["content"].as_str().unwrap())
        .collect();
    let wanted = [
        "text 2996",
        "text 2997",
        "text 2998",
        "text 2999",
        "another",
    ];
    assert_eq!(texts, wanted);
    let whole = |chat: &serde_json::Value| chat["whole"].as_bool();
    assert_eq!((whole(&end), whole(&all)), (Some(false), Some(true)));
    assert_eq!(all["messages"].as_array().unwrap().len(), 3001);
    assert_eq!(whole(&read("?last=9999")), Some(true));
    let gone = client.delete(&format!("/onebit/chats/{id}"));
    assert!((200..300).contains(&gone.status), "{}", gone.text());
}
