//! Other people's clients against the real appliance. The official OpenAI, Anthropic and Ollama ones must list,
//! chat, stream, stop and raise their own typed errors; a browser must show the page and hold a conversation. `tests/run` installs
//! what they need and names the programs.

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
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
