//! Pictures, with the fake engine in sd-server's place: forms, steps, refusals, and a client that leaves.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::app::onebit_on;
use crate::support::engine::install;
use crate::support::{App, Client};

/// A safetensors file with the one tensor by which such models are known.
fn model(folder: &Path) -> std::path::PathBuf {
    let head = json!({"model.diffusion_model.input_blocks.0.0.weight": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}).to_string();
    let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(&[0, 0]);
    let path = folder.join("Tiny SD.safetensors");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// An appliance that draws: each step takes so long.
fn drawing(folder: &Path, step_us: u32) -> App {
    let data = folder.join("data");
    install(&data, "sd-server", &format!("--token-us {step_us}"));
    let file = model(folder);
    let output = onebit_on(&data, &["import", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    App::start(&data, &[])
}

/// What the fake engine was asked: it draws that, in hexadecimal.
fn asked(picture: &Value) -> Value {
    let text = picture["b64_json"].as_str().unwrap();
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..text.len()).step_by(2).map(byte).collect();
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn a_text_becomes_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let app = drawing(folder.path(), 20_000);
    let client = app.client();
    let models = client.get("/v1/models").json();
    assert!(models.to_string().contains("tiny-sd"), "{models}");
    for path in ["/v1/images/generations", "/api/v1/images/generations"] {
        let body = json!({"model": "dall-e-3", "prompt": "a lighthouse", "n": 2, "size": "512x768", "steps": 3, "seed": 7});
        let answer = client.post(path, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(
            answer
                .header("x-onebit-route")
                .unwrap()
                .starts_with("lane=sd.cpu model=tiny-sd ")
        );
        let pictures = answer.json();
        assert_eq!(pictures["data"].as_array().unwrap().len(), 2);
        let job = asked(&pictures["data"][0]);
        assert_eq!(
            (&job["width"], &job["height"], &job["seed"]),
            (&json!(512), &json!(768), &json!(7))
        );
        assert_eq!(job["prompt"], "a lighthouse");
    }
    let stream = json!({"prompt": "a sea", "steps": 5, "stream": true});
    let events: Vec<Value> = client
        .events("POST", "/v1/images/generations", &stream)
        .map(|event| event.json())
        .collect();
    let steps: Vec<u64> = events
        .iter()
        .filter_map(|event| event["step"].as_u64())
        .collect();
    assert!(!steps.is_empty() && steps.is_sorted(), "{events:?}");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "image_generation.completed", "{events:?}");
    assert_eq!(asked(last)["prompt"], "a sea");
}

fn form(client: &Client, path: &str, parts: &[(&str, &[u8])]) -> crate::support::client::Answer {
    let mark = "a-mark-that-no-picture-holds";
    let mut body = Vec::new();
    for (name, bytes) in parts {
        let file = if matches!(*name, "image" | "mask") {
            "; filename=\"p.png\""
        } else {
            ""
        };
        body.extend_from_slice(
            format!("--{mark}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n")
                .as_bytes(),
        );
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{mark}--\r\n").as_bytes());
    let kind = format!("multipart/form-data; boundary={mark}");
    client
        .with_header("content-type", &kind)
        .send_bytes("POST", path, &body)
}

#[test]
fn a_picture_is_changed_and_varied() {
    let folder = tempfile::tempdir().unwrap();
    let app = drawing(folder.path(), 20_000);
    let client = app.client();
    let parts: [(&str, &[u8]); 4] = [
        ("prompt", b"at night"),
        ("image", b"\x89PNG-1"),
        ("mask", b"\x89PNG-2"),
        ("n", b"1"),
    ];
    let edited = form(&client, "/v1/images/edits", &parts);
    assert_eq!(edited.status, 200, "{}", edited.text());
    let job = asked(&edited.json()["data"][0]);
    assert_eq!(
        (&job["init_image"], &job["mask_image"]),
        (&json!("iVBORy0x"), &json!("iVBORy0y"))
    );
    let varied = form(&client, "/v1/images/variations", &[("image", b"\x89PNG-1")]);
    let job = asked(&varied.json()["data"][0]);
    assert!(job["strength"].as_f64().unwrap() > 0.5, "{job}");
    let none = form(&client, "/v1/images/edits", &[("prompt", b"x")]);
    assert_eq!(
        (none.status, none.json()["error"]["param"].clone()),
        (400, json!("image"))
    );
    // Programs for the web interface find its routes; everything else of that server is out of reach.
    let own = client.post("/sd/sdapi/v1/txt2img", &json!({"prompt": "a hill"}));
    assert_eq!(
        own.json()["parameters"]["prompt"],
        "a hill",
        "{}",
        own.text()
    );
    for path in ["/sd/health", "/sd/sdapi/v1/../../health", "/sd/v1/models"] {
        assert!(client.get(path).status >= 400, "{path}");
    }
}

#[test]
fn what_cannot_be_drawn_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let app = drawing(folder.path(), 20_000);
    let client = app.client();
    let failed = client.post(
        "/v1/images/generations",
        &json!({"prompt": "[[fault:sd-fails]]"}),
    );
    assert_eq!(failed.status, 503, "{}", failed.text());
    assert!(
        failed.text().contains("generate_image returned no results"),
        "{}",
        failed.text()
    );
    let empty = client.post("/v1/images/generations", &json!({"prompt": " "}));
    assert_eq!(empty.status, 400, "{}", empty.text());
    // Without a model it is said how one comes.
    let bare = tempfile::tempdir().unwrap();
    let app = App::start(&bare.path().join("data"), &[]);
    let none = app
        .client()
        .post("/v1/images/generations", &json!({"prompt": "a"}));
    assert_eq!(
        (none.status, none.json()["error"]["code"].clone()),
        (409, json!("no_picture_model"))
    );
}

/// A picture of half a minute, whose client leaves: the next one does not wait for it.
#[test]
fn a_client_that_leaves_frees_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let app = drawing(folder.path(), 500_000);
    let client = app.client();
    let long = json!({"prompt": "long", "steps": 60, "stream": true});
    let mut events = client.events("POST", "/v1/images/generations", &long);
    let step = events.find(|event| event.json()["step"].as_u64() == Some(1));
    assert!(step.is_some(), "it was begun");
    drop(events);
    let begun = Instant::now();
    let short = client.post(
        "/v1/images/generations",
        &json!({"prompt": "short", "steps": 1}),
    );
    assert_eq!(short.status, 200, "{}", short.text());
    assert_eq!(asked(&short.json()["data"][0])["prompt"], "short");
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
}
