//! The models that a new appliance is worth having: offered, fetched beside everything else, never needed.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lemonade::hub::Hub;
use crate::support::app::onebit_on;
use crate::support::{App, Client, root};

/// An appliance whose hub is at this address.
fn with_hub(folder: &Path, address: &str, more: &str) -> App {
    let data = folder.join("data");
    std::fs::create_dir_all(data.join("onebit")).expect("a folder");
    let settings = format!(
        "[hub]\nendpoint = \"http://{address}\"\n[fetch]\nprivate_hosts = [\"127.0.0.1\"]\n{more}"
    );
    std::fs::write(data.join("onebit/onebit.toml"), settings).expect("a file");
    App::start(&data, &[])
}

fn set(client: &Client) -> Value {
    client.get("/onebit/starter").json()
}

/// The part that converses.
fn chat(set: &Value) -> Value {
    let parts = set["parts"].as_array().expect("parts");
    let found = parts.iter().find(|part| part["role"] == "chat");
    found.unwrap_or_else(|| panic!("{set}")).clone()
}

fn until(client: &Client, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let set = set(client);
        if holds(&set) {
            return set;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {set}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn it_is_offered_and_comes_when_the_owner_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::of(&root().join("packaging/models/onebit-mini.gguf"), false);
    let app = with_hub(folder.path(), &hub.address, "");
    let client = app.client();
    let offered = set(&client);
    assert_eq!(offered["state"], "offered", "{offered}");
    let name = chat(&offered)["model"].as_str().unwrap().to_owned();
    assert!(name.starts_with("qwen3-"), "{offered}");
    let status = |data: &Path| String::from_utf8(onebit_on(data, &["status"]).stdout).unwrap();
    assert!(status(app.data()).contains("onebit starter fetch"));
    // Nobody is asked before that.
    assert_eq!(hub.asked(), Vec::<String>::new());

    let said = onebit_on(app.data(), &["starter", "fetch"]);
    assert!(said.status.success(), "{said:?}");
    let half = until(&client, "half of it", |set| {
        let part = chat(set);
        let bytes = |key: &str| part[key].as_u64().unwrap();
        bytes("total_bytes") > 0 && bytes("done_bytes") == bytes("total_bytes") / 2
    });
    assert_eq!(
        (&half["state"], &chat(&half)["state"]),
        (&json!("fetching"), &json!("coming"))
    );
    let line = status(app.data());
    assert!(
        line.contains(&format!("starter {name} 49 %"))
            || line.contains(&format!("starter {name} 50 %")),
        "{line}"
    );

    // A start later it goes on by itself, with what had come.
    drop(app);
    let app = with_hub(folder.path(), &hub.address, "");
    let client = app.client();
    until(&client, "it goes on", |set| {
        set["state"] == "fetching" && chat(set)["done_bytes"].as_u64() > Some(0)
    });
    hub.let_go();
    let here = until(&client, "it is here", |set| set["state"] != "fetching");
    assert_eq!(chat(&here)["state"], "here", "{here}");
    let resolved = |path: &&String| path.contains("/resolve/");
    assert_eq!(
        hub.asked().iter().filter(resolved).count(),
        2,
        "{:?}",
        hub.asked()
    );
    let models = client.get("/onebit/models").json();
    assert_eq!(models["models"][0]["id"], json!(name));
    // What this hub has not is told of, by its name.
    assert_eq!(here["state"], "stopped");
    let why = here["why"].as_str().unwrap();
    assert!(why.contains("kokoro"), "{why}");
}

#[test]
fn a_hub_that_is_not_there_is_told_once_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A port that nobody has any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let app = with_hub(
        folder.path(),
        &gone.to_string(),
        "[models]\nstarter = \"fetch\"\n",
    );
    let client = app.client();
    let stopped = until(&client, "it gives up", |set| set["state"] == "stopped");
    let why = stopped["why"].as_str().unwrap();
    assert!(why.starts_with("the hub cannot be reached"), "{why}");
    assert_eq!(
        client.get("/api/v1/downloads").json(),
        json!([]),
        "no part failed in its turn"
    );
    assert_eq!(client.get("/health").status, 200);
    // The owner does not want it: that holds at the next start too, whatever the settings say.
    let no = client.post("/onebit/starter", &json!({ "action": "dismiss" }));
    assert_eq!(no.status, 200, "{}", no.text());
    drop(app);
    let app = with_hub(
        folder.path(),
        &gone.to_string(),
        "[models]\nstarter = \"fetch\"\n",
    );
    assert_eq!(set(&app.client())["state"], "dismissed");
}

#[test]
fn offline_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::of(&root().join("packaging/models/onebit-mini.gguf"), true);
    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("onebit")).expect("a folder");
    let settings = format!(
        "[hub]\nendpoint = \"http://{}\"\n[fetch]\noffline = true\n[models]\nstarter = \"fetch\"\n",
        hub.address
    );
    std::fs::write(data.join("onebit/onebit.toml"), settings).expect("a file");
    let app = App::start(&data, &[]);
    let client = app.client();
    let off = set(&client);
    assert_eq!(off["state"], "off", "{off}");
    assert!(off["why"].as_str().unwrap().contains("offline"), "{off}");
    let refused = client.post("/onebit/starter", &json!({ "action": "fetch" }));
    assert!(
        refused.text().contains("offline is set"),
        "{}",
        refused.text()
    );
    assert!(refused.status >= 400);
    // Only the owner decides.
    let guest = client
        .guest()
        .post("/onebit/starter", &json!({ "action": "fetch" }));
    assert!(matches!(guest.status, 401 | 403), "{}", guest.status);
    assert_eq!(hub.asked(), Vec::<String>::new());
}
