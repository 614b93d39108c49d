//! The model that comes with the program: there at the first start, without a download or a network.

use std::process::{Command, Output};

use serde_json::json;

use crate::support::App;
use crate::support::app::binary;

const NAME: &str = "onebit-mini";

/// Runs the program as an owner does, with the shipped model.
fn run(program: &mut Command, data: &std::path::Path) -> Output {
    let output = program
        .env("XDG_CONFIG_HOME", data)
        .env_remove("ONEBIT_DATA_DIR")
        .env_remove("ONEBIT_MODELS_BUILTIN")
        .arg("--data")
        .arg(data);
    output.output().expect("the program runs")
}

#[test]
fn a_fresh_appliance_lists_it_first_and_answers_with_it() {
    let app = App::fresh();
    let client = app.client();
    let list = client.get("/v1/models").json();
    assert_eq!(list["data"][0]["id"], NAME, "{list}");
    let messages = json!([{"role": "user", "content": "What is the capital of France?"}]);
    let body = json!({"model": NAME, "messages": messages, "max_tokens": 12, "temperature": 0});
    let named = client.post("/v1/chat/completions", &body).json();
    let text = named["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains("Paris"), "{named}");
    assert!(
        std::fs::read_dir(app.data().join("models")).map_or(0, Iterator::count) == 0,
        "it is not copied"
    );
}

#[test]
fn it_stays_when_asked_to_go_and_a_setting_takes_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let removed = run(Command::new(binary()).args(["rm", NAME]), folder.path());
    let error = String::from_utf8_lossy(&removed.stderr);
    assert_eq!(removed.status.code(), Some(1), "{error}");
    assert!(error.contains("builtin = false"), "{error}");
    let list = |builtin: &str| {
        let output = Command::new(binary())
            .args(["models", "--json", "--data"])
            .arg(folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .env("ONEBIT_MODELS_BUILTIN", builtin)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(list("true").contains(NAME));
    assert!(!list("false").contains(NAME));
    assert!(list("true").contains(NAME), "and comes back");
}

/// A name space without any network device but a dead loopback: what would go out fails at once.
#[test]
fn it_chats_with_the_network_cut_off() {
    let alone = ["--net", "--map-root-user", "--"];
    let allowed = Command::new("unshare").args(alone).arg("true").status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: this machine allows no network name space of one's own");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new("unshare");
    program.args(alone).arg(binary());
    program.args([
        "chat",
        "Say hello in one sentence.",
        "--max-tokens",
        "16",
        "--seed",
        "1",
        "--json",
    ]);
    let output = run(&mut program, folder.path());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["model"], NAME);
    assert!(
        answer["content"]
            .as_str()
            .is_some_and(|text| !text.trim().is_empty()),
        "{answer}"
    );
}
