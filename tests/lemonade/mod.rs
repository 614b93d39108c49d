//! Lemonade's dialect: what its clients read and change, field by field, below all four prefixes.

pub(crate) mod hub;
mod policies;
mod pulls;
pub(crate) mod socket;

use std::path::Path;

use serde_json::{Value, json};

use self::socket::Socket;
use crate::openai;
use crate::support::client::Answer;
use crate::support::{App, Client};

const PREFIXES: [&str; 4] = ["/api/v0", "/api/v1", "/v0", "/v1"];

fn ok(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The client of a machine on the network.
fn lan(client: &Client) -> Client {
    client.guest()
}

#[test]
fn every_prefix_answers_the_same() {
    let client = App::shared().client();
    let name = openai::model(&client);
    let mut seen: Vec<Value> = Vec::new();
    for prefix in PREFIXES {
        let models = ok(&client.get(&format!("{prefix}/models")));
        assert_eq!(models["data"][0]["id"], name, "{prefix}");
        let one = ok(&client.get(&format!("{prefix}/models/{name}")));
        assert_eq!(one, models["data"][0], "{prefix}");
        seen.push(models);
        assert_eq!(ok(&client.get(&format!("{prefix}/health")))["status"], "ok");
        let body = json!({
            "model": name, "max_tokens": 4, "temperature": 0, "messages": [{"role": "user", "content": "Hi"}]
        });
        let chat = ok(&client.post(&format!("{prefix}/chat/completions"), &body));
        assert_eq!(chat["object"], "chat.completion", "{prefix}");
        let tokens = ok(&client.post(
            &format!("{prefix}/tokenize"),
            &json!({"content": "one two"}),
        ));
        assert_eq!(tokens["tokens"].as_array().unwrap().len(), 2, "{prefix}");
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
    let entry = &seen[0]["data"][0];
    assert_eq!(
        (&entry["object"], &entry["recipe"]),
        (&json!("model"), &json!("llamacpp"))
    );
    assert_eq!(
        (&entry["downloaded"], &entry["update_available"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(entry["labels"], json!(["chat", "tool-calling"]));
    assert_eq!(entry["checkpoints"]["main"], entry["checkpoint"]);
    assert_eq!(entry["context_length"], entry["max_context_window"]);
    let size = entry["size"].as_f64().unwrap();
    assert!((0.05..0.2).contains(&size), "gigabytes: {size}");
    assert_eq!(ok(&client.get("/live")), json!({ "status": "ok" }));
    assert_eq!(client.send("HEAD", "/live", "").status, 200);
}

#[test]
fn health_tells_by_scope() {
    let client = App::shared().client();
    ok(&client.post(
        "/api/v1/load",
        &json!({ "model_name": openai::model(&client) }),
    ));
    let owner = ok(&client.get("/api/v1/health"));
    let loaded = &owner["all_models_loaded"][0];
    assert_eq!(
        (&loaded["model_name"], &owner["model_loaded"]),
        (&json!(openai::model(&client)), &loaded["model_name"])
    );
    assert_eq!(
        (&loaded["type"], &loaded["device"]),
        (&json!("llm"), &json!("cpu"))
    );
    assert_eq!(
        (&loaded["recipe"], &loaded["loaded"]),
        (&json!("llamacpp"), &json!(true))
    );
    assert!(
        loaded["pid"].as_u64() > Some(1)
            && loaded["recipe_options"]["ctx_size"].as_u64() >= Some(2048)
    );
    assert_eq!(
        (&owner["max_models"]["llm"], &owner["pinned_models"]["llm"]),
        (&json!(-1), &json!(0))
    );
    assert_eq!(
        (&owner["update_check_done"], &owner["telemetry"]["enabled"]),
        (&json!(true), &json!(false))
    );
    assert!(
        owner["version"]
            .as_str()
            .is_some_and(|version| version.split('.').count() == 3)
    );
    let lan = ok(&lan(&client).get("/api/v1/health"));
    assert_eq!(lan["model_loaded"], owner["model_loaded"]);
    assert_eq!(
        lan["all_models_loaded"][0]["pid"],
        Value::Null,
        "process numbers are the owner's"
    );
}

#[test]
fn the_machine_is_described() {
    let client = App::shared().client();
    let info = ok(&client.get("/api/v1/system-info"));
    assert!(
        info["Processor"].is_string() && info["devices"]["cpu"]["threads"].as_u64() >= Some(1),
        "{info}"
    );
    let storage = &info["model_storage"];
    let bytes = |name: &str| storage[name].as_u64().unwrap();
    assert!(bytes("free_bytes") + bytes("used_bytes") <= bytes("total_bytes"));
    assert!(storage["path"].as_str().unwrap().ends_with("models"));
    let llamacpp = &info["recipes"]["llamacpp"];
    assert_eq!(
        (
            &llamacpp["default_backend"],
            &llamacpp["backends"]["cpu"]["state"]
        ),
        (&json!("cpu"), &json!("installed"))
    );
    let whisper = &info["recipes"]["whispercpp"]["backends"]["cpu"];
    assert!(
        whisper["state"] == "installed" || whisper["action"] == "onebit engines build whisper.cpp",
        "{whisper}"
    );
    let stats = ok(&client.get("/v0/system-stats"));
    assert!(
        stats["memory_gb"].as_f64().is_some_and(|gb| gb > 0.05),
        "{stats}"
    );
    assert!(
        stats["cpu_percent"]
            .as_f64()
            .is_some_and(|share| (0.0..=100.0).contains(&share)),
        "{stats}"
    );
    assert_eq!(stats["npu_percent"], Value::Null);
    assert_eq!(
        ok(&lan(&client).get("/api/v1/system-info"))["model_storage"]["path"],
        Value::Null
    );

    let here = json!({ "recipe": "llamacpp", "backend": "cpu" });
    let done = json!({ "status": "success", "recipe": "llamacpp", "backend": "cpu" });
    assert_eq!(ok(&client.post("/v1/install", &here)), done);
    let missing = client.post(
        "/v1/install",
        &json!({ "recipe": "kokoro", "backend": "cpu" }),
    );
    assert!(
        missing.status == 200 || missing.text().contains("onebit engines"),
        "{}",
        missing.text()
    );
    let unknown = client.post(
        "/v1/install",
        &json!({ "recipe": "vllm", "backend": "rocm" }),
    );
    assert!(
        unknown.status == 400 && unknown.text().contains("llamacpp:cpu"),
        "{}",
        unknown.text()
    );
    assert_eq!(client.post("/v1/uninstall", &here).status, 501);
}

#[test]
fn models_are_loaded_unloaded_and_deleted() {
    let app = App::with_model(&[]);
    let client = app.client();
    let name = openai::model(&client);
    let upper = name.to_uppercase();
    let loaded = ok(&client.post(
        "/api/v1/load",
        &json!({ "model_name": upper, "ctx_size": -1, "llamacpp_backend": "vulkan" }),
    ));
    assert_eq!(
        (&loaded["status"], &loaded["recipe"]),
        (&json!("success"), &json!("llamacpp"))
    );
    assert_eq!(ok(&client.get("/api/v1/health"))["model_loaded"], name);
    let gone = ok(&client.post("/api/v1/unload", &json!({ "model_name": name })));
    assert_eq!(
        (&gone["status"], &gone["model_name"]),
        (&json!("success"), &json!(name))
    );
    let again = client.post("/api/v1/unload", &json!({ "model_name": name }));
    assert_eq!(
        (again.status, again.json()["error"].clone()),
        (404, json!(format!("Model not loaded: {name}")))
    );
    assert_eq!(
        client.send("POST", "/api/v1/unload", "").status,
        200,
        "nothing named is everything"
    );
    assert_eq!(
        ok(&client.get("/api/v1/health"))["model_loaded"],
        Value::Null
    );

    for (body, word) in [
        (
            json!({ "model_name": name, "ctx_size": 1_000_000 }),
            "ctx_size",
        ),
        (
            json!({ "model_name": name, "llamacpp_args": "--no-mmap" }),
            "llamacpp_args",
        ),
        (
            json!({ "model_name": name, "llamacpp_backend": "magic" }),
            "magic",
        ),
        (json!({ "model_name": name, "made_up": 1 }), "made_up"),
    ] {
        let refused = client.post("/api/v1/load", &body);
        assert!(
            refused.status == 400 && refused.text().contains(word),
            "{body}: {}",
            refused.text()
        );
    }

    let path = format!("/api/v1/models/{name}/options");
    let options = ok(&client.get(&path));
    assert_eq!(
        (&options["saved"], &options["effective"]),
        (&json!({}), &options["defaults"])
    );
    let set = ok(&client.post(
        &path,
        &json!({ "ctx_size": 512, "llamacpp_backend": "cpu" }),
    ));
    assert_eq!(
        (&set["saved"]["ctx_size"], &set["resolved_ctx_size"]),
        (&json!(512), &json!(512))
    );
    let dry = ok(&client.post(&path, &json!({ "ctx_size": 256, "dry_run": true })));
    assert_eq!(
        (&dry["effective"]["ctx_size"], &dry["saved"]["ctx_size"]),
        (&json!(256), &json!(512))
    );
    let less = ok(&client.post(&path, &json!({ "ctx_size": null })));
    assert_eq!(
        (&less["saved"], &less["effective"]["ctx_size"]),
        (&json!({ "llamacpp_backend": "cpu" }), &json!(-1))
    );
    assert_eq!(
        client.post(&path, &json!({ "ctx_size": "much" })).status,
        400
    );
    assert_eq!(
        ok(&client.get("/v1/models"))["data"][0]["recipe_options"],
        less["saved"]
    );
    assert_eq!(ok(&client.delete(&path))["saved"], json!({}));

    let files = ok(&client.get(&format!("/v1/models/{name}/files?include_paths=true")));
    assert_eq!(
        (&files["files"][0]["role"], &files["files"][0]["exists"]),
        (&json!("main"), &json!(true))
    );
    assert!(Path::new(files["files"][0]["path"].as_str().unwrap()).is_file());
    let none = ok(&lan(&client).get(&format!("/v1/models/{name}/files?include_paths=true")));
    assert_eq!(none["files"][0]["path"], Value::Null);

    let unknown = client.get("/api/v1/models/nobody");
    let error = unknown.json()["error"].clone();
    assert_eq!(
        (unknown.status, &error["type"], &error["requested_model"]),
        (404, &json!("model_not_found"), &json!("nobody"))
    );
    assert_eq!(
        client
            .post("/api/v1/load", &json!({ "model_name": "nobody" }))
            .status,
        404
    );
    assert_eq!(
        client
            .post("/api/v1/delete", &json!({ "model_name": "nobody" }))
            .status,
        422
    );
    assert_eq!(
        lan(&client)
            .post("/api/v1/delete", &json!({ "model_name": name }))
            .status,
        403
    );
    let deleted = ok(&client.post("/api/v1/delete", &json!({ "model_name": name })));
    assert_eq!(deleted["message"], format!("Deleted model: {name}"));
    assert_eq!(ok(&client.get("/api/v1/models"))["data"], json!([]));
}

#[test]
fn the_log_is_followed() {
    let app = App::with_model(&[]);
    let client = app.client();
    assert_eq!(
        Socket::open(
            app.address(),
            "/logs/stream",
            "X-Forwarded-For: 10.0.0.7\r\n"
        )
        .err(),
        Some(401)
    );
    let mut socket = Socket::open(app.address(), "/logs/stream", "").expect("it switches");
    socket.send("{\"type\":\"hello\"}");
    assert_eq!(socket.next()["type"], "error");
    socket.send("{\"type\":\"logs.subscribe\",\"after_seq\":null}");
    let snapshot = socket.next();
    assert_eq!(snapshot["type"], "logs.snapshot");
    let entries = snapshot["entries"].as_array().unwrap();
    let ready = entries
        .iter()
        .find(|entry| entry["line"].as_str().unwrap().contains("ready"))
        .expect("the start");
    assert_eq!(ready["severity"], "Info");
    assert!(
        ready["line"]
            .as_str()
            .unwrap()
            .starts_with(ready["timestamp"].as_str().unwrap())
    );
    let last = entries.last().unwrap()["seq"].as_u64().unwrap();
    // More is told from now on.
    ok(&client.post("/v1/log-level", &json!({ "level": "debug" })));
    ok(&client.get("/v1/health"));
    let entry = socket.next();
    assert_eq!(
        (&entry["type"], entry["entry"]["seq"].as_u64()),
        (&json!("logs.entry"), Some(last + 1))
    );
    assert_eq!(
        client
            .post("/v1/log-level", &json!({ "level": "loud" }))
            .status,
        400
    );
    let params = ok(&client.get("/v1/params"));
    assert_eq!(
        (&params["ctx_size"], &params["max_loaded_models"]),
        (&json!(-1), &json!(-1))
    );
    assert_eq!(
        ok(&client.post("/internal/set", &json!({ "log_level": "info" })))["updated"],
        json!({ "log_level": "info" })
    );
    let refused = client.post("/v1/params", &json!({ "port": 1 }));
    assert!(
        refused.status == 400 && refused.text().contains("onebit.toml"),
        "{}",
        refused.text()
    );
    assert_eq!(lan(&client).get("/v1/params").status, 403);
}

#[test]
fn what_is_not_here_is_answered_by_name() {
    let client = App::shared().client();
    for prefix in PREFIXES {
        for (path, status, word) in [
            ("/classify", 501, "classifiers"),
            ("/3d/generations", 501, "meshes"),
            ("/cloud/auth", 501, "this machine"),
            ("/rerank", 501, "rank"),
            ("/reranking", 501, "rank"),
            ("/reranker", 501, "rank"),
            ("/slots/0", 501, "files"),
        ] {
            let answer = client.post(&format!("{prefix}{path}"), &json!({}));
            assert_eq!(answer.status, status, "{prefix}{path}: {}", answer.text());
            let message = answer.json()["error"]["message"].clone();
            assert!(
                message.as_str().unwrap().contains(word),
                "{prefix}{path}: {message}"
            );
        }
    }
    for path in [
        "/api/v1/nothing",
        "/api/v0/nothing/at/all",
        "/v0/nothing",
        "/api/v1",
    ] {
        let answer = client.with_header("Accept", "text/html").get(path);
        assert_eq!(answer.status, 404, "{path}");
        let error = answer.json()["error"].clone();
        assert_eq!(
            error,
            json!({ "message": "The requested endpoint does not exist", "type": "not_found", "path": path })
        );
    }
    for path in ["/api/nothing", "/api/v2/models"] {
        let answer = client.with_header("Accept", "text/html").get(path);
        assert_eq!(
            (answer.status, answer.json()),
            (404, json!({ "detail": "Not Found" })),
            "{path}"
        );
    }
    let get = client.get("/api/v1/load");
    assert_eq!(
        (get.status, get.json()),
        (
            405,
            json!({ "error": "Method Not Allowed. Use POST for this endpoint" })
        )
    );
    let bad = client.send("POST", "/api/v1/load", "{");
    assert!(
        bad.status == 400 && bad.json()["error"].is_string(),
        "{}",
        bad.text()
    );
    let foreign = client
        .with_header("Origin", "https://evil.example")
        .get("/api/v1/models");
    assert!(
        foreign.status == 403 && foreign.json()["error"].is_string(),
        "{}",
        foreign.text()
    );
}

#[test]
fn models_are_pinned_and_have_second_names() {
    let app = App::with_model(&[]);
    let client = app.client();
    let model = openai::model(&client);
    let pinned = |client: &Client| ok(&client.get("/v1/health"))["pinned_models"]["llm"].clone();
    let load = json!({ "model_name": model, "pinned": true });
    ok(&client.post("/v1/load", &load));
    assert_eq!(pinned(&client), 1);
    ok(&client.post(
        "/internal/pin",
        &json!({ "model_name": model, "pinned": false }),
    ));
    assert_eq!(pinned(&client), 0);

    let alias = json!({ "alias": "helper", "target": model });
    assert_eq!(
        ok(&client.post("/internal/aliases", &alias))["target"],
        model
    );
    let known = ok(&client.get("/internal/aliases"));
    assert_eq!(known["aliases"], json!({ "helper": model }));
    let asked = json!({ "model": "helper", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}] });
    assert_eq!(client.post("/api/v1/chat/completions", &asked).status, 200);
    let gone = client.send("DELETE", "/internal/aliases/helper", "");
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(
        client.send("DELETE", "/internal/aliases/helper", "").status,
        404
    );
    assert_eq!(client.post("/api/v1/chat/completions", &asked).status, 404);
}
