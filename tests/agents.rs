//! Agents: tasks worked through with tools, asked about, stopped and taken up again; files of them.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::path::Path;

use serde_json::{Value, json};

use crate::clients::scripted;
use crate::support::app::onebit_on;
use crate::support::client::Event;
use crate::support::{App, Client};

/// A task that the scripted engine answers with this call, and then with a few words.
pub(crate) fn calling(tool: &str, arguments: &Value) -> String {
    format!("[[call:{tool}:{arguments}]]")
}

/// Runs a task to its end.
pub(crate) fn run(client: &Client, body: &Value) -> Vec<Event> {
    client.events("POST", "/onebit/runs", body).collect()
}

fn named<'a>(events: &'a [Event], name: &str) -> Vec<&'a Event> {
    events.iter().filter(|event| event.name == name).collect()
}

pub(crate) fn the(events: &[Event], name: &str) -> Value {
    named(events, name)
        .first()
        .unwrap_or_else(|| panic!("no {name}: {events:?}"))
        .json()
}

/// A scripted appliance with a shared folder `notes`, whose person has a second to allow a call.
pub(crate) fn appliance(folder: &Path) -> App {
    let notes = folder.join("notes");
    std::fs::create_dir(&notes).unwrap();
    std::fs::write(notes.join("todo.md"), "buy bread\ncall Anna\n").unwrap();
    std::fs::write(notes.join(".secret"), "hidden").unwrap();
    std::fs::write(folder.join("outside.txt"), "outside").unwrap();
    std::os::unix::fs::symlink("../outside.txt", notes.join("link.txt")).unwrap();
    let settings = folder.join("onebit.toml");
    let text = format!(
        "[agents]\nroots = [{:?}]\nconfirm_s = 1\n",
        notes.display().to_string()
    );
    std::fs::write(&settings, text).unwrap();
    scripted(folder, &["--config", settings.to_str().unwrap()])
}

#[test]
fn a_task_is_worked_through_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let app = appliance(folder.path());
    let client = app.client();
    let task = calling("calculate", &json!({"expression": "6 * 7"})) + " How much is 6 * 7?";
    let events = run(&client, &json!({"task": task}));
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names.first(), Some(&"started"));
    assert_eq!(names.last(), Some(&"done"));
    assert!(
        events.iter().all(|event| event.id.is_some()),
        "every event has a number"
    );
    assert_eq!(
        the(&events, "tool_start")["args"],
        json!({"expression": "6 * 7"})
    );
    let result = the(&events, "tool_result");
    assert_eq!(
        (&result["content"], &result["success"]),
        (&json!("6 * 7 = 42"), &json!(true))
    );
    assert_eq!(the(&events, "answer")["content"], "The tool has answered.");
    let done = the(&events, "done");
    assert_eq!(
        (&done["status"], &done["content"]),
        (&json!("done"), &json!("The tool has answered."))
    );

    let id = the(&events, "started")["run"].as_str().unwrap().to_owned();
    let kept = client.get(&format!("/onebit/runs/{id}")).json();
    assert_eq!(kept["run"]["status"], "done");
    let kinds: Vec<&str> = kept["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    for kind in [
        "started",
        "step",
        "tool_start",
        "tool_result",
        "chunk",
        "answer",
        "done",
    ] {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    // Whoever comes late follows from where they like.
    let again: Vec<Event> = client
        .with_header("Last-Event-ID", &(events.len() - 2).to_string())
        .events("GET", &format!("/onebit/runs/{id}/events"), &Value::Null)
        .collect();
    assert_eq!(again, events[events.len() - 1..]);
    assert_eq!(
        client.get("/onebit/runs?limit=1").json()["runs"][0]["id"],
        id.as_str()
    );
    assert_eq!(
        client.guest().get(&format!("/onebit/runs/{id}")).status,
        200,
        "a key of the same person's"
    );

    // The same from the command line: the answer alone on stdout, what happened on stderr.
    let output = onebit_on(app.data(), &["agent", "run", "chat", &task]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "The tool has answered.\n"
    );
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("→ calculate(6 * 7)") && told.contains("6 * 7 = 42"),
        "{told}"
    );
    for wrong in [
        json!({"task": ""}),
        json!({"task": "x", "agent": "nobody"}),
        json!({"task": "x", "chat": "none"}),
    ] {
        let answer = client.post("/onebit/runs", &wrong);
        assert!(
            (400..500).contains(&answer.status),
            "{wrong}: {}",
            answer.text()
        );
    }
}

#[test]
fn a_task_of_a_chat_is_answered_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let app = appliance(folder.path());
    let client = app.client();
    let chat = client.post("/onebit/chats", &json!({})).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let task = calling("now", &json!({})) + " What time is it?";
    let events = run(&client, &json!({"task": task, "chat": chat}));
    let started = the(&events, "started");
    let tree = client.get(&format!("/onebit/chats/{chat}")).json();
    let messages = tree["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 2, "{tree}");
    assert_eq!(messages[0]["id"], started["user_message_id"]);
    assert_eq!(
        (&messages[1]["id"], &messages[1]["content"]),
        (
            &started["assistant_message_id"],
            &json!("The tool has answered.")
        )
    );
    assert_eq!(messages[1]["finish_reason"], "stop");
    assert_eq!(
        client.get(&format!("/onebit/runs?chat={chat}")).json()["runs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // Asked again, the same question gets another answer.
    let body = json!({"chat": chat, "parent_id": messages[0]["id"]});
    assert_eq!(the(&run(&client, &body), "done")["status"], "done");
    let tree = client.get(&format!("/onebit/chats/{chat}")).json();
    assert_eq!(tree["messages"].as_array().unwrap().len(), 3);
}

#[test]
fn what_acts_waits_for_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let app = appliance(folder.path());
    let client = app.client();
    let task = calling("remember", &json!({"note": "Anna is my sister"}))
        + " Remember that Anna is my sister.";
    let decided = |allow: Option<bool>| -> Vec<Event> {
        let mut seen = Vec::new();
        let mut id = String::new();
        for event in client.events("POST", "/onebit/runs", &json!({"task": task})) {
            match event.name.as_str() {
                "started" => id = event.json()["run"].as_str().unwrap().to_owned(),
                "tool_confirm" => {
                    assert_eq!(event.json()["args"]["note"], "Anna is my sister");
                    let run = client.get(&format!("/onebit/runs/{id}")).json();
                    assert_eq!(run["run"]["status"], "waiting");
                    if let Some(allow) = allow {
                        let place = format!("/onebit/runs/{id}/decide");
                        assert_eq!(client.post(&place, &json!({"allow": allow})).status, 200);
                        assert_eq!(
                            client.post(&place, &json!({"allow": allow})).status,
                            404,
                            "decided already"
                        );
                    }
                }
                _ => {}
            }
            seen.push(event);
        }
        seen
    };
    for (allow, decision) in [
        (Some(false), "denied"),
        (None, "timed_out"),
        (Some(true), "allowed"),
    ] {
        let events = decided(allow);
        assert_eq!(the(&events, "tool_decided")["decision"], decision);
        assert_eq!(
            the(&events, "tool_result")["success"],
            allow == Some(true),
            "{events:?}"
        );
        assert_eq!(the(&events, "done")["status"], "done");
    }
    let never = run(&client, &json!({"task": task, "approval": "never"}));
    assert!(
        named(&never, "tool_confirm").is_empty() && the(&never, "tool_result")["success"] == false
    );
    let task =
        calling("recall", &json!({"about": "sister"})) + " What do you remember about my sister?";
    let found = the(&run(&client, &json!({"task": task})), "tool_result");
    assert_eq!(
        found["content"], "- Anna is my sister",
        "kept once, by the one that was allowed"
    );
}

#[test]
fn files_are_read_below_the_shared_folders_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let app = appliance(folder.path());
    let client = app.client();
    let asked = |tool: &str, arguments: Value| {
        let body = json!({"agent": "files", "task": calling(tool, &arguments)});
        run(&client, &body)
    };
    let listed = the(&asked("list_files", json!({"path": ""})), "tool_result");
    assert_eq!(listed["content"], "notes/todo.md (20 bytes)");
    assert_eq!(listed["finding"]["files"][0]["path"], "notes/todo.md");
    let read = the(
        &asked("read_file", json!({"path": "notes/todo.md"})),
        "tool_result",
    );
    assert_eq!(read["content"], "buy bread\ncall Anna\n");
    let found = the(
        &asked("search_files", json!({"words": "anna"})),
        "tool_result",
    );
    assert_eq!(found["content"], "notes/todo.md, line 2: call Anna");
    for (path, rule) in [
        ("../outside.txt", "path_outside"),
        ("notes/../../outside.txt", "path_outside"),
        ("/etc/passwd", "path_outside"),
        ("notes/.secret", "hidden"),
        ("notes/todo.md\0.txt", "nul_byte"),
        ("notes/link.txt", "symlink"),
    ] {
        let events = asked("read_file", json!({"path": path}));
        assert_eq!(the(&events, "refused")["rule"], rule, "{path}");
        assert_eq!(the(&events, "tool_result")["success"], false);
        assert!(
            !events
                .iter()
                .any(|event| event.data.contains("hidden\\n") || event.data.contains("outside\\n"))
        );
    }
    let tools = client.get("/onebit/tools").json();
    let web = tools["tools"]
        .as_array()
        .unwrap()
        .iter()
        .find(|tool| tool["name"] == "fetch_page")
        .unwrap();
    assert!(
        web["off"].as_str().unwrap().contains("web = true"),
        "the web is off unless the owner says so"
    );
}

#[test]
fn a_run_is_stopped_and_an_interrupted_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut app = appliance(folder.path());
    let settings = folder.path().join("onebit.toml");
    // Time enough that nothing is refused meanwhile.
    let text = std::fs::read_to_string(&settings)
        .unwrap()
        .replace("confirm_s = 1", "confirm_s = 600");
    std::fs::write(&settings, text).unwrap();
    let arguments = ["--config", settings.to_str().unwrap()];
    let data = app.data().to_owned();
    drop(app);
    app = App::start(&data, &arguments);
    let client = app.client();
    let task = calling("remember", &json!({"note": "x"})) + " Remember x.";
    let waits = |client: &Client| {
        let mut events = client.events("POST", "/onebit/runs", &json!({"task": task}));
        let id = events.next().unwrap().json()["run"]
            .as_str()
            .unwrap()
            .to_owned();
        events
            .find(|event| event.name == "tool_confirm")
            .expect("it asks");
        (id, events)
    };
    let (id, rest) = waits(&client);
    assert_eq!(
        client
            .post(&format!("/onebit/runs/{id}/stop"), &json!({}))
            .status,
        200
    );
    let rest: Vec<Event> = rest.collect();
    assert_eq!(the(&rest, "done")["status"], "cancelled");

    let (id, rest) = waits(&client);
    drop(app); // killed while it waits
    drop(rest);
    let app = App::start(&data, &arguments);
    let client = app.client();
    let events: Vec<Event> = client
        .events("GET", &format!("/onebit/runs/{id}/events"), &Value::Null)
        .collect();
    // Whether it was carried out is not known, so it is not done again; the model hears that and answers.
    let result = the(&events, "tool_result");
    assert!(
        result["content"].as_str().unwrap().contains("not known"),
        "{result}"
    );
    assert_eq!(the(&events, "done")["status"], "done");
    assert_eq!(
        client.get(&format!("/onebit/runs/{id}")).json()["run"]["status"],
        "done"
    );
    let task = calling("recall", &json!({})) + " What do you remember?";
    let found = the(&run(&client, &json!({"task": task})), "tool_result");
    assert_eq!(found["content"], "no note was kept about this");
}

#[test]
fn agents_are_files_that_come_and_go() {
    let app = App::empty();
    let client = app.client();
    let put = |id: &str, body: &Value| {
        client.send("PUT", &format!("/onebit/agents/{id}"), &body.to_string())
    };
    let mine = json!({"name": "Mine", "instructions": "Do it.", "tools": ["now"], "starters": ["Go."], "steps": 3});
    let kept = put("mine", &mine);
    assert_eq!(
        (kept.status, &kept.json()["steps"]),
        (200, &json!(3)),
        "{}",
        kept.text()
    );
    assert_eq!(
        put("chat", &mine).status,
        409,
        "a built-in one stays as it is"
    );
    assert_eq!(put("a%20b", &mine).status, 400);
    assert_eq!(
        put("mine2", &json!({"name": "", "instructions": ""})).status,
        400
    );
    assert_eq!(
        client
            .guest()
            .send("PUT", "/onebit/agents/mine", &mine.to_string())
            .status,
        403
    );
    let all = client.get("/onebit/agents").json();
    let ids: Vec<&str> = all["agents"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|agent| agent["id"].as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "chat",
            "documents",
            "files",
            "summarise",
            "research",
            "mine"
        ]
    );

    let zip = client.send("POST", "/onebit/agents/export", "{}");
    assert_eq!(
        (zip.status, zip.header("content-type")),
        (200, Some("application/zip"))
    );
    assert_eq!(client.delete("/onebit/agents/mine").status, 200);
    assert_eq!(client.get("/onebit/agents/mine").status, 404);
    let brought = client
        .send_bytes("POST", "/onebit/agents/import", &zip.body)
        .json();
    assert_eq!(
        (&brought["imported"], &brought["errors"]),
        (&json!(["mine"]), &json!([]))
    );
    assert_eq!(
        client.get("/onebit/agents/mine").json()["instructions"],
        "Do it."
    );
    let again = client
        .send_bytes("POST", "/onebit/agents/import", &zip.body)
        .json();
    assert_eq!(again["overwritten"], json!(["mine"]));
    let refused = client.send_bytes("POST", "/onebit/agents/import", b"no zip");
    assert_eq!(refused.status, 400, "{}", refused.text());
}
