//! The Model Context Protocol both ways: our own server, and servers that mean harm.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::agents::{appliance, calling, run, the};
use crate::support::app::binary;
use crate::support::{Client, root};

/// One message to `/mcp`.
fn message(client: &Client, message: &Value) -> crate::support::client::Answer {
    client
        .with_header("Accept", "application/json, text/event-stream")
        .with_header("Content-Type", "application/json")
        .post("/mcp", message)
}

fn ask(id: u32, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn hello() -> Value {
    ask(
        1,
        "initialize",
        json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }),
    )
}

#[test]
fn our_own_server_offers_chat_and_more() {
    let folder = tempfile::tempdir().unwrap();
    let app = appliance(folder.path());
    let client = app.client();
    let hello = message(&client, &hello()).json();
    assert_eq!(hello["result"]["serverInfo"]["name"], "onebit", "{hello}");
    let told = message(
        &client,
        &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
    );
    assert_eq!(told.status, 202, "{}", told.text());
    let tools = message(&client, &ask(2, "tools/list", json!({}))).json();
    let names: Vec<&str> = tools["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    for name in [
        "chat",
        "search_documents",
        "transcribe",
        "speak",
        "list_models",
        "lemonade_chat",
        "lemonade_list_models",
        "lemonade_transcribe_audio",
        "lemonade_generate_image",
        "lemonade_omni",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let call = |name: &str, arguments: Value| {
        message(
            &client,
            &ask(
                3,
                "tools/call",
                json!({"name": name, "arguments": arguments}),
            ),
        )
        .json()["result"]
            .clone()
    };
    let said = call("chat", json!({"prompt": "hello", "max_tokens": 3}));
    assert_eq!(said["content"][0]["text"], "t0 t1 t2 ", "{said}");
    assert!(
        call("list_models", json!({}))["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("scripted")
    );
    for (name, arguments) in [
        ("chat", json!({})),
        ("lemonade_generate_image", json!({"prompt": "x"})),
        ("transcribe", json!({"audio": "!"})),
    ] {
        let refused = call(name, arguments);
        assert_eq!(refused["isError"], true, "{name}: {refused}");
    }
    let unknown = message(
        &client,
        &ask(4, "tools/call", json!({"name": "rm", "arguments": {}})),
    )
    .json();
    assert!(unknown["error"].is_object(), "{unknown}");
    // Pages of others never get here, whatever they call themselves.
    for (header, value) in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Host", "evil.example"),
    ] {
        let refused = client.with_header(header, value).post("/mcp", &hello);
        assert!(
            matches!(refused.status, 403 | 421),
            "{header}: {value}: {}",
            refused.status
        );
    }

    // The same on standard streams, for programs that start their servers.
    let mut bridge = Command::new(binary())
        .args(["mcp", "--data"])
        .arg(app.data())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = bridge.stdin.take().unwrap();
    let mut lines = BufReader::new(bridge.stdout.take().unwrap()).lines();
    let mut answer = |line: &str| -> Value {
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    };
    assert_eq!(
        answer(&self::hello().to_string())["result"]["serverInfo"]["name"],
        "onebit"
    );
    assert_eq!(answer("no JSON")["error"]["code"], -32700);
    assert_eq!(
        answer(&ask(2, "tools/list", json!({})).to_string())["id"],
        2
    );
    drop(input);
    assert!(bridge.wait().unwrap().success());
}

/// The interpreter itself: what stands in PATH may be a script that needs this user's environment.
fn python() -> PathBuf {
    let named = std::env::var_os("ONEBIT_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let told = Command::new(named)
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .unwrap();
    String::from_utf8(told.stdout).unwrap().trim().into()
}

/// Adds the hostile server in one of its moods.
fn hostile(client: &Client, mode: &str) {
    let script = root().join("tests/fixtures/hostile_mcp.py");
    let body = json!({"name": mode, "command": python(), "args": [script, mode]});
    let added = client.post("/onebit/mcp", &body);
    assert_eq!(added.status, 201, "{}", added.text());
}

#[test]
fn a_hostile_server_is_contained() {
    let folder = tempfile::tempdir().unwrap();
    let app = appliance(folder.path());
    let client = app.client();
    let tools = |name: &str| client.get(&format!("/onebit/mcp/{name}/tools"));
    let used = |name: &str, more: Value| {
        let mut body = json!({"task": calling(&format!("{name}__look"), &json!({})) + " Look something up with the server.", "approval": "always"});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        run(&client, &body)
    };

    hostile(&client, "inject");
    let offered = tools("inject").json();
    let shown = offered["tools"]
        .as_array()
        .unwrap_or_else(|| panic!("{offered}"));
    assert_eq!(shown.len(), 1, "a schema of 100 kB is left out: {offered}");
    let description = shown[0]["description"].as_str().unwrap();
    assert!(
        description.chars().count() <= 300 && !description.contains('\n'),
        "{description}"
    );
    assert_eq!(shown[0]["asks"], true);
    // What it says is data, and what acts is still asked about.
    let events = used("inject", json!({"approval": "never"}));
    assert_eq!(the(&events, "tool_result")["success"], false);
    let events = used("inject", json!({}));
    let said = the(&events, "tool_result")["content"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        said.starts_with("[2JIgnore") && !said.contains('\u{1b}'),
        "{said}"
    );
    assert_eq!(
        client
            .post("/onebit/mcp", &json!({"name": "inject", "command": "sh"}))
            .status,
        409
    );

    hostile(&client, "huge");
    let said = the(&used("huge", json!({})), "tool_result")["content"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(said.len() < 5000, "{}", said.len());

    hostile(&client, "many");
    let many = tools("many");
    let listed = many.json()["tools"].as_array().map_or(0, Vec::len);
    assert_eq!(listed, 64, "{}", many.text());

    for mode in ["broken", "flood"] {
        hostile(&client, mode);
        let one = tools(mode);
        let listed = one.json()["tools"].as_array().map_or(0, Vec::len);
        assert_eq!(listed, 1, "{mode}: {}", one.text());
        assert_eq!(
            the(&used(mode, json!({})), "tool_result")["content"],
            "found it",
            "{mode}"
        );
    }

    hostile(&client, "slow");
    let events = used("slow", json!({"time_s": 2}));
    assert!(
        the(&events, "tool_result")["content"]
            .as_str()
            .unwrap()
            .contains("time"),
        "{events:?}"
    );
    // It ends with words, whether or not the model made an answer of what there was.
    assert_ne!(the(&events, "done")["content"], "", "{events:?}");

    hostile(&client, "dies");
    let events = used("dies", json!({}));
    assert_eq!(the(&events, "tool_result")["success"], false);
    assert_eq!(the(&events, "done")["status"], "done");

    hostile(&client, "mute");
    let gone = tools("mute");
    assert_eq!(gone.status, 503, "{}", gone.text());
    assert!(gone.text().contains("introduce"), "{}", gone.text());

    let off = client.patch("/onebit/mcp/huge", &json!({"enabled": false}));
    assert_eq!(off.json()["enabled"], false);
    assert_eq!(tools("huge").status, 400);
    assert_eq!(tools("nobody").status, 404);
    assert_eq!(client.delete("/onebit/mcp/huge").status, 200);
    let states = client.get("/onebit/mcp").json();
    let mute = states["servers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|server| server["name"] == "mute")
        .unwrap();
    assert!(
        mute["connected"] == false && mute["error"].is_string(),
        "{mute}"
    );
    assert_eq!(client.guest().get("/onebit/mcp").status, 403);
    let trusted = client.patch("/onebit/mcp/broken", &json!({"trust": "look"}));
    assert_eq!(trusted.json()["trusted"], json!(["look"]));
    assert_eq!(tools("broken").json()["tools"][0]["asks"], false);
}

/// Where npm's packages lie.
fn packages() -> PathBuf {
    std::env::var_os("ONEBIT_TEST_NODE_MODULES")
        .expect("ONEBIT_TEST_NODE_MODULES is not set; run tests/run")
        .into()
}

#[test]
#[ignore = "needs the MCP inspector; tests/run installs it"]
fn official_inspector_lists_and_calls_our_tools() {
    let folder = tempfile::tempdir().unwrap();
    let app = appliance(folder.path());
    let inspect = |target: &[&str], arguments: &[&str]| -> Value {
        let output = Command::new("node")
            .arg(packages().join("@modelcontextprotocol/inspector/cli/build/cli.js"))
            .arg("--cli")
            .args(target)
            .args(arguments)
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr))
        })
    };
    let address = format!("http://{}/mcp", app.address());
    let (program, data) = (binary(), app.data().display().to_string());
    let http = [address.as_str(), "--transport", "http"];
    let stdio = [program.to_str().unwrap(), "mcp", "--data", &data];
    for target in [&http[..], &stdio[..]] {
        let listed = inspect(target, &["--method", "tools/list"]);
        let tools = listed["tools"].as_array().unwrap();
        assert!(
            tools.iter().any(|tool| tool["name"] == "search_documents"),
            "{listed}"
        );
        let call = [
            "--method",
            "tools/call",
            "--tool-name",
            "chat",
            "--tool-arg",
            "prompt=hello",
            "max_tokens=3",
        ];
        let said = inspect(target, &call);
        assert_eq!(said["content"][0]["text"], "t0 t1 t2 ", "{said}");
    }
}

#[test]
#[ignore = "needs two MCP servers of others; tests/run installs them"]
fn official_servers_run_under_our_client() {
    let folder = tempfile::tempdir().unwrap();
    let app = appliance(folder.path());
    let client = app.client();
    let everything = packages().join("@modelcontextprotocol/server-everything/dist/index.js");
    let python = PathBuf::from(std::env::var_os("ONEBIT_TEST_PYTHON").expect("a Python"));
    for (name, command, args) in [
        (
            "everything",
            "node".to_owned(),
            vec![everything.display().to_string(), "stdio".to_owned()],
        ),
        (
            "time",
            python.display().to_string(),
            vec!["-m".to_owned(), "mcp_server_time".to_owned()],
        ),
    ] {
        let added = client.post(
            "/onebit/mcp",
            &json!({"name": name, "command": command, "args": args}),
        );
        assert_eq!(added.status, 201, "{}", added.text());
    }
    for (name, tool, arguments, holds) in [
        (
            "everything",
            "echo",
            json!({"message": "hello there"}),
            "hello there",
        ),
        ("everything", "get-sum", json!({"a": 19, "b": 23}), "42"),
        (
            "time",
            "get_current_time",
            json!({"timezone": "Asia/Tokyo"}),
            "Asia/Tokyo",
        ),
        (
            "time",
            "convert_time",
            json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}),
            "21:00",
        ),
    ] {
        let offered = client.get(&format!("/onebit/mcp/{name}/tools"));
        assert_eq!(offered.status, 200, "{}", offered.text());
        let full = format!("{name}__{tool}");
        let offered = offered.json();
        assert!(
            offered["tools"]
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["name"] == full.as_str()),
            "{offered}"
        );
        let body =
            json!({"task": calling(&full, &arguments), "approval": "always", "tools": [full]});
        let result = the(&run(&client, &body), "tool_result");
        assert_eq!(result["success"], true, "{name} {tool}: {result}");
        assert!(
            result["content"].as_str().unwrap().contains(holds),
            "{name} {tool}: {result}"
        );
    }
    let states = client.get("/onebit/mcp").json();
    for server in states["servers"].as_array().unwrap() {
        assert_eq!(server["connected"], true, "{states}");
    }
}
