//! Perplexity on the same 20 kB of English as llama.cpp's own measure.

use crate::support::app::onebit;
use crate::support::model_file;

/// Where the text lies on Debian and Ubuntu; its first bytes are used.
const TEXT: &str = "/usr/share/common-licenses/GPL-3";
const TEXT_BYTES: usize = 20_000;
/// What llama.cpp b11434 prints for these bytes: `llama-perplexity -m MODEL -f TEXT -c 512 -t 2`.
const LLAMA_CPP: f64 = 18.3800;
/// Rounding in other orders moves the mean this much at most.
const RELATIVE_MAX: f64 = 0.005;

#[test]
#[ignore = "minutes; tests/run --full runs it"]
fn perplexity_is_llama_cpps() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, &std::fs::read(TEXT).unwrap()[..TEXT_BYTES]).unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let imported = onebit([
        "import",
        model_file().to_str().unwrap(),
        "--json",
        "--data",
        data,
    ]);
    let imported: serde_json::Value = serde_json::from_slice(&imported.stdout).unwrap();
    let model = imported["id"].as_str().unwrap();
    let output = onebit([
        "ppl",
        model,
        "--text",
        text.to_str().unwrap(),
        "--context",
        "512",
        "--json",
        "--data",
        data,
    ]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let measured: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ours = measured["perplexity"].as_f64().unwrap();
    println!("perplexity {ours:.4}, llama.cpp {LLAMA_CPP:.4}");
    assert!(
        (ours / LLAMA_CPP - 1.0).abs() < RELATIVE_MAX,
        "{ours} against {LLAMA_CPP}"
    );
}
