//! Models that come from elsewhere: another server's, and what other programs have fetched.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::openai::model;
use crate::support::app::binary;
use crate::support::{App, model_file};

fn run(data: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    std::process::Command::new(binary())
        .args(arguments)
        .arg("--json")
        .arg("--data")
        .arg(data)
        .env("XDG_CONFIG_HOME", data)
        .env("ONEBIT_MODELS_BUILTIN", "false")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn said(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn failed(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn another_onebits_models_answer_here() {
    let there = App::shared();
    let theirs = model(&there.client());
    let address = format!("http://{}", there.address());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    // What lies in a private network is not spoken to unless the owner has said so.
    let refused = failed(&run(data, &[], &["remote", &address]));
    assert!(refused.contains("private_hosts"), "{refused}");
    let allowed = [("ONEBIT_FETCH_PRIVATE_HOSTS", "127.0.0.1")];
    let unknown = failed(&run(data, &allowed, &["remote", &address, "nobody"]));
    assert!(
        unknown.contains("nobody") && unknown.contains(&theirs),
        "{unknown}"
    );
    let key = data.join("key");
    std::fs::write(&key, "s3cret\n").unwrap();
    let key = key.to_str().unwrap();
    let remote = [
        "remote",
        &address,
        &theirs,
        "--name",
        "away",
        "--key-file",
        key,
    ];
    assert_eq!(
        said(&run(data, &allowed, &remote))["models"],
        json!(["away"])
    );
    let kept = data.join("remotes/away.key");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "s3cret");
    let file = data.join("onebit.toml");
    std::fs::write(&file, "[fetch]\nprivate_hosts = [\"127.0.0.1\"]\n").unwrap();
    let app = App::start(data, &["--config", file.to_str().unwrap()]);
    let client = app.client();
    let listed = client.get("/onebit/models/away").json();
    assert_eq!(listed["state"], "ready", "{listed}");
    let body = json!({"model": "away", "max_tokens": 4, "temperature": 0, "messages": [{"role": "user", "content": "Hi"}]});
    let here = client.post("/v1/chat/completions", &body);
    assert_eq!(here.status, 200, "{}", here.text());
    let route = here.header("x-onebit-route").unwrap();
    assert!(route.starts_with("lane=remote "), "{route}");
    let mut direct = body.clone();
    direct["model"] = theirs.into();
    let direct = there.client().post("/v1/chat/completions", &direct).json();
    let text = |answer: &Value| answer["choices"][0]["message"]["content"].clone();
    assert_eq!(text(&here.json()), text(&direct));
    drop(app);
    said(&run(data, &allowed, &["rm", "away"]));
    assert!(!kept.exists(), "its key went with it");
}

#[test]
fn what_the_hubs_programs_have_fetched_is_taken_from_their_cache() {
    let folder = tempfile::tempdir().unwrap();
    let (data, cache) = (folder.path().join("data"), folder.path().join("hub"));
    let repo = cache.join("models--org--Smol-GGUF");
    let (blobs, snapshot) = (repo.join("blobs"), repo.join("snapshots/abc"));
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink(model_file(), blobs.join("blob")).unwrap();
    std::os::unix::fs::symlink(blobs.join("blob"), snapshot.join("smol-Q4_1.gguf")).unwrap();
    let cached = [("HF_HUB_CACHE", cache.to_str().unwrap())];
    let listed = said(&run(&data, &cached, &["catalogue"]));
    assert_eq!(listed["cached"], json!(["org/Smol-GGUF"]));
    assert!(listed["models"].as_array().unwrap().len() > 3);
    let missing = failed(&run(&data, &cached, &["import", "org/Other-GGUF"]));
    assert!(missing.contains("onebit pull org/Other-GGUF"), "{missing}");
    let other = failed(&run(&data, &cached, &["import", "org/Smol-GGUF:Q8_0"]));
    assert!(other.contains("it has Q4_1"), "{other}");
    let model = said(&run(&data, &cached, &["import", "org/Smol-GGUF"]));
    assert_eq!(model["id"], "smol-gguf-q4_1");
    assert!(
        Path::new(model["path"].as_str().unwrap()).starts_with(&data),
        "{model}"
    );
    assert!(blobs.join("blob").exists(), "theirs stays where it is");
}
