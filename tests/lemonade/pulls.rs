//! Pulls that go on when nobody listens, and can be paused and gone on with.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::hub::{Hub, REPOSITORY};
use super::ok;
use crate::support::{App, root};

/// An appliance whose hub is ours.
fn with_hub(folder: &Path, hub: &Hub) -> App {
    let data = folder.join("data");
    std::fs::create_dir_all(data.join("onebit")).expect("a folder");
    let settings = format!(
        "[hub]\nendpoint = \"http://{}\"\n[fetch]\nprivate_hosts = [\"127.0.0.1\"]\n",
        hub.address
    );
    std::fs::write(data.join("onebit/onebit.toml"), settings).expect("settings");
    App::start(&data, &[])
}

fn mini() -> PathBuf {
    root().join("packaging/models/onebit-mini.gguf")
}

#[test]
fn pulls_belong_to_the_appliance() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::of(&mini(), false);
    let app = with_hub(folder.path(), &hub);
    let client = app.client();
    let pull = json!({
        "model_name": "user.Pulled-Mini", "checkpoint": REPOSITORY, "recipe": "llamacpp", "stream": true, "subscribe": false
    });
    let job = ok(&client.post("/api/v1/pull", &pull));
    assert_eq!(
        (&job["id"], &job["status"]),
        (&json!("model:Pulled-Mini"), &json!("downloading"))
    );
    let same = ok(&client.post("/api/v1/pull", &pull));
    assert_eq!(
        same["id"], job["id"],
        "one pull, however often it is asked for"
    );

    // Whoever listens hears how far it is, and hanging up stops nothing.
    let mut body = pull.clone();
    body["subscribe"] = json!(true);
    let half = client
        .events("POST", "/api/v1/pull", &body)
        .find(|event| event.json()["bytes_downloaded"].as_u64() > Some(0))
        .expect("progress");
    assert_eq!(half.name, "progress");
    assert!(half.json()["percent"].as_u64() <= Some(50), "{half:?}");
    let list = ok(&client.get("/api/v1/downloads"));
    assert_eq!(
        (list.as_array().unwrap().len(), &list[0]["running"]),
        (1, &json!(true))
    );

    let control = |action: &str| {
        client.post(
            "/api/v1/downloads/control",
            &json!({ "id": "model:Pulled-Mini", "action": action }),
        )
    };
    let paused = ok(&control("pause"));
    assert_eq!(
        (&paused["status"], &paused["running"]),
        (&json!("paused"), &json!(false))
    );
    assert_eq!(control("dance").status, 400);

    // It goes on where it was.
    hub.let_go();
    let mut body = pull.clone();
    body["stream"] = json!(false);
    let done = ok(&client.post("/api/v1/pull", &body));
    assert_eq!(
        (&done["status"], &done["message"]),
        (
            &json!("success"),
            &json!("Installed model: user.Pulled-Mini")
        )
    );
    let job = ok(&client.get("/api/v1/downloads"))[0].clone();
    assert_eq!(
        (&job["status"], &job["percent"], &job["complete"]),
        (&json!("completed"), &json!(100), &json!(true))
    );
    assert!(
        job["bytes_previously_downloaded"].as_u64() > Some(0),
        "{job}"
    );
    let entry = ok(&client.get("/api/v1/models/user.Pulled-Mini"));
    assert_eq!(
        (&entry["id"], &entry["checkpoint"]),
        (&json!("pulled-mini"), &json!(REPOSITORY))
    );
    assert_eq!(
        (&entry["source"], &entry["downloaded"]),
        (&json!("huggingface"), &json!(true))
    );
    let events: Vec<_> = client
        .events(
            "POST",
            "/api/v1/pull",
            &json!({ "model_name": "user.Pulled-Mini", "stream": true }),
        )
        .collect();
    assert_eq!(
        (events.len(), &*events[0].name),
        (1, "complete"),
        "what is here is done at once: {events:?}"
    );
    assert_eq!(ok(&control("remove")), json!({ "status": "ok" }));
    assert_eq!(
        ok(&control("remove")),
        json!({ "status": "ok", "missing": true })
    );

    let variants = ok(&client.get(&format!("/api/v1/pull/variants?checkpoint={REPOSITORY}")));
    assert_eq!(
        (
            &variants["suggested_name"],
            &variants["variants"][0]["primary_file"]
        ),
        (&json!("Mini-GGUF"), &json!("Mini-T5.gguf"))
    );
    for (body, word) in [
        (json!({ "model_name": "Nobody-GGUF" }), "unknown_model"),
        (
            json!({ "model_name": "Mine", "checkpoint": REPOSITORY, "recipe": "llamacpp" }),
            "user.",
        ),
        (
            json!({ "model_name": "user.x", "checkpoint": "a/b", "recipe": "vllm" }),
            "vllm",
        ),
        (json!({}), "model_name"),
    ] {
        let refused = client.post("/api/v1/pull", &body);
        assert!(
            refused.status == 400 && refused.text().contains(word),
            "{body}: {}",
            refused.text()
        );
    }
    let missing =
        json!({ "model_name": "user.gone", "checkpoint": "maker/Gone-GGUF", "recipe": "llamacpp" });
    let missing = client.post("/api/v1/pull", &missing);
    assert!(
        missing.status == 500 && missing.json()["error"].is_string(),
        "{}",
        missing.text()
    );
}
