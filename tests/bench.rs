//! `onebit bench` on the shipped model: the report is one, as a table and as JSON.

use crate::support::app::onebit;
use crate::support::root;

#[test]
fn decode_tells_speed_bandwidth_and_perplexity() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let model = root().join("packaging/models/onebit-mini.gguf");
    let text = root().join("packaging/models/held-out/held-chats.u16");
    let [model, text] = [&model, &text].map(|path| path.to_str().unwrap());
    let output = onebit([
        "bench",
        "decode",
        model,
        "--text",
        text,
        "--windows",
        "1",
        "--threads",
        "1",
        "--json",
        "--data",
        data,
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let line = &report["lines"][0];
    assert_eq!(
        (line["name"].as_str(), line["kind"].as_str()),
        (Some("onebit-mini"), Some("t5"))
    );
    for key in [
        "tokens_per_s",
        "bytes_read",
        "gb_per_s",
        "bandwidth_gb_per_s",
        "bandwidth_share",
    ] {
        assert!(
            line[key].as_f64().is_some_and(|n| n > 0.0),
            "{key} in {line}"
        );
    }
    // The model card has 4.85 on the whole set; one window is close to that or the kernels are wrong.
    let perplexity = line["perplexities"][0]["perplexity"].as_f64().unwrap();
    assert!((2.0..12.0).contains(&perplexity), "{perplexity}");
}

#[test]
fn a_model_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = onebit([
        "bench",
        "decode",
        "no-such",
        "--data",
        folder.path().to_str().unwrap(),
    ]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("no-such"), "{error}");
}

#[test]
fn two_reports_are_compared_and_another_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, rate: f64| {
        let path = folder.path().join(name);
        let report = serde_json::json!({
            "machine": {"processor": "p"},
            "served": {"vectors": {"texts_per_s": rate}, "at_once": [{"requests": 8, "write_tokens_per_s": 80.0}]},
        });
        std::fs::write(&path, report.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (old, new) = (file("old.json", 50.0), file("new.json", 75.0));
    let output = onebit(["bench", "--compare", &old, &new]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("| | old | new | ratio | |"), "{text}");
    assert!(
        text.contains("| vectors | 50.0 | 75.0 | 1.50 | texts/s |"),
        "{text}"
    );
    assert!(
        text.contains("| 8 at once, writing | 80.0 | 80.0 | 1.00 | tokens/s |"),
        "{text}"
    );

    let wrong = root().join("packaging/models/onebit-mini.gguf");
    let output = onebit(["bench", "--compare", &old, wrong.to_str().unwrap()]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("onebit-mini.gguf"), "{error}");
    let output = onebit([
        "bench",
        "--vs",
        "example",
        "--data",
        folder.path().to_str().unwrap(),
    ]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("http://HOST:PORT"), "{error}");
}
