//! The official OpenAI clients against the real appliance: they must list, chat, stream, stop and raise
//! their own typed errors. `tests/run` installs them into the cache and names the programs.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{App, root};

#[test]
#[ignore = "needs the openai package; tests/run installs it"]
fn openai_for_python_works() {
    run(
        program("ONEBIT_TEST_PYTHON"),
        "tests/clients/openai_client.py",
    );
}

#[test]
#[ignore = "needs the openai package; tests/run installs it"]
fn openai_for_javascript_works() {
    run("node".into(), "tests/clients/openai_client.mjs");
}

fn program(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set; run tests/run"))
        .into()
}

fn run(program: PathBuf, script: &str) {
    let app = App::shared();
    let output = Command::new(&program)
        .arg(root().join(script))
        .arg(format!("http://{}/v1", app.address()))
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
