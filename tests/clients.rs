//! Other people's clients against the real appliance. The official OpenAI, Anthropic and Ollama ones, and a Lemonade one, must list,
//! chat, stream, stop and raise their own typed errors; a browser must show the page and hold a conversation. `tests/run` installs
//! what they need and names the programs.
#![allow(
    clippy::print_stdout,
    reason = "how many checks passed goes into the log"
)]

use std::path::PathBuf;
use std::process::Command;

use crate::support::{App, root};

#[test]
#[ignore = "needs the openai package; tests/run installs it"]
fn openai_for_python_works() {
    run(
        program("ONEBIT_TEST_PYTHON"),
        "tests/clients/openai_client.py",
        App::shared(),
        "/v1",
    );
}

#[test]
#[ignore = "needs the openai package; tests/run installs it"]
fn openai_for_javascript_works() {
    run(
        "node".into(),
        "tests/clients/openai_client.mjs",
        App::shared(),
        "/v1",
    );
}

#[test]
#[ignore = "needs the ollama package; tests/run installs it"]
fn ollama_for_python_works() {
    let python = program("ONEBIT_TEST_PYTHON");
    // It copies and deletes, so it has an appliance of its own.
    let app = App::with_model(&[]);
    run(python, "tests/clients/ollama_client.py", &app, "");
}

#[test]
#[ignore = "needs the ollama package; tests/run installs it"]
fn ollama_for_javascript_works() {
    let app = App::with_model(&[]);
    run("node".into(), "tests/clients/ollama_client.mjs", &app, "");
}

#[test]
#[ignore = "needs the anthropic package; tests/run installs it"]
fn anthropic_for_python_works() {
    run(
        program("ONEBIT_TEST_PYTHON"),
        "tests/clients/anthropic_client.py",
        App::shared(),
        "/v1",
    );
}

#[test]
#[ignore = "needs the anthropic package; tests/run installs it"]
fn anthropic_for_javascript_works() {
    run(
        "node".into(),
        "tests/clients/anthropic_client.mjs",
        App::shared(),
        "/v1",
    );
}

#[test]
#[ignore = "needs the lemonade-python-sdk package; tests/run installs it"]
fn lemonade_for_python_works() {
    let python = program("ONEBIT_TEST_PYTHON");
    // It loads and unloads, so it has an appliance of its own.
    let app = App::with_model(&[]);
    run(python, "tests/clients/lemonade_client.py", &app, "");
}

#[test]
#[ignore = "needs schemathesis; tests/run installs it"]
fn schemathesis_finds_no_mismatch() {
    let python = program("ONEBIT_TEST_PYTHON");
    // It creates, changes and deletes, so it has an appliance of its own.
    let app = App::with_model(&[]);
    let checks = [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
    ];
    let output = Command::new(python.with_file_name("schemathesis"))
        .arg("run")
        .arg(format!("http://{}/openapi.json", app.address()))
        .args([
            "--max-examples",
            "6",
            "--seed",
            "1",
            "--phases",
            "coverage,fuzzing",
        ])
        .args(["--checks", &checks.join(",")])
        // The page's files are no JSON; what is refused by name answers 501, which is meant.
        .args(["--exclude-path", "/"])
        .args([
            "--exclude-path-regex",
            // Further prefixes are the same routes again; what pulls, deletes or only refuses has its own tests.
            "^/(app|favicon|api/(create|push|pull|blobs|v0|v1)|v0|internal|logs|infill|embedding|rerank|slots/|props|lora|v1/(pull|delete|unload|downloads|install|uninstall|logs|rerank|slots/|models/register|embeddings))",
        ])
        .args([
            "--generation-database",
            "none",
            "--suppress-health-check",
            "all",
        ])
        .args(["--request-timeout", "60", "--no-color", "--warnings", "off"])
        .env(
            "SCHEMATHESIS_HOOKS",
            root().join("tests/clients/schemathesis_hooks.py"),
        )
        .output()
        .expect("schemathesis runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "needs chromium and playwright-core; tests/run installs them"]
fn the_page_works_in_a_browser() {
    let app = App::with_model(&[]);
    let output = Command::new("npm")
        .arg("--prefix")
        .arg(root().join("tests/e2e"))
        .args(["run", "real"])
        .env("ONEBIT_URL", format!("http://{}", app.address()))
        .output()
        .expect("npm runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn program(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set; run tests/run"))
        .into()
}

fn run(program: PathBuf, script: &str, app: &App, prefix: &str) {
    let output = Command::new(&program)
        .arg(root().join(script))
        .arg(format!("http://{}{prefix}", app.address()))
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    print!("{script}: {}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
