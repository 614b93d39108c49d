//! Other people's clients against the real appliance. The official OpenAI, Anthropic and Ollama ones, and a Lemonade one, must list,
//! chat, stream, stop and raise their own typed errors; a browser must show the page and hold a conversation. `tests/run` installs
//! what they need and names the programs.
#![allow(
    clippy::print_stdout,
    reason = "how many checks passed goes into the log"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use onebit::domain::{Model, ModelFormat};
use onebit::store::Store;
use serde_json::{Value, json};

use crate::speech::{HEARD, voice, wav, with_ear};
use crate::support::engine::fake_engine;
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
#[ignore = "needs the openai package; tests/run installs it"]
fn the_realtime_interfaces_of_openai_and_lemonade_work() {
    let app = App::prepared(with_ear);
    let folder = tempfile::tempdir().expect("a folder");
    for (script, rate) in [
        ("tests/clients/realtime_client.py", 24_000),
        ("tests/clients/lemonade_realtime.py", 16_000),
    ] {
        let sound = folder.path().join(format!("{rate}.wav"));
        std::fs::write(&sound, wav(&voice(3, rate), rate, 1)).expect("a file");
        live(script, &app, &sound, HEARD);
    }
}

/// Runs a script of live speech with a recording and what is said in it.
pub(crate) fn live(script: &str, app: &App, sound: &Path, said: &str) {
    let output = Command::new(program("ONEBIT_TEST_PYTHON"))
        .arg(root().join(script))
        .arg(format!("http://{}", app.address()))
        .arg(sound)
        .arg(said)
        .output()
        .expect("python runs");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {told}");
}

#[test]
#[ignore = "needs schemathesis; tests/run installs it"]
fn schemathesis_finds_no_mismatch() {
    let python = program("ONEBIT_TEST_PYTHON");
    // It creates, changes and deletes, so it has an appliance of its own.
    let app = App::with_model(&[]);
    // And what it keeps for its next run goes away.
    let folder = tempfile::tempdir().expect("a folder");
    let checks = [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
    ];
    let output = Command::new(python.with_file_name("schemathesis"))
        .arg("--config-file")
        .arg(root().join("tests/clients/schemathesis.toml"))
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
        // The page's files are no JSON, and nothing is to be fetched.
        .args(["--exclude-path", "/"])
        .args([
            "--exclude-path-regex",
            // Further prefixes are the same routes again; what pulls, deletes or only refuses has its own tests.
            "^/(app|favicon|mcp$|onebit/(hub|update)|api/sessions/events|api/(create|push|pull|blobs|v0|v1)|v0|internal|logs|infill|embedding|rerank|slots/|props|lora|v1/(pull|delete|unload|downloads|install|uninstall|logs|rerank|slots/|models/register|embeddings))",
        ])
        .args([
            "--generation-database",
            "none",
            "--suppress-health-check",
            "all",
        ])
        .args(["--request-timeout", "60", "--no-color", "--warnings", "off"])
        .current_dir(folder.path())
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
#[ignore = "needs the langchain-ollama package; tests/run installs it"]
fn a_client_of_ollama_alone_does_its_job() {
    let python = program("ONEBIT_TEST_PYTHON");
    run(python, "tests/clients/ollama_only.py", App::shared(), "");
}

#[test]
#[ignore = "needs the jsonschema package; tests/run installs it"]
fn random_schemas_are_kept() {
    // 50 take some seconds; tests/run --full asks for 500.
    let count = std::env::var("ONEBIT_TEST_SCHEMAS").unwrap_or_else(|_| "50".to_owned());
    let app = App::fresh();
    let output = Command::new(program("ONEBIT_TEST_PYTHON"))
        .arg(root().join("tests/clients/schemas.py"))
        .arg(format!("http://{}", app.address()))
        .arg(count)
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("schemas: {said}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{told}");
}

#[test]
#[ignore = "needs the Claude Code package; tests/run --full installs it"]
fn claude_code_does_a_scripted_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = scripted(folder.path(), &[]);
    let home = folder.path().join("home");
    let work = folder.path().join("work");
    for new in [&home, &work] {
        std::fs::create_dir(new).expect("a folder");
    }
    let note = work.join("note.txt");
    // The engine calls the tool that the question names, and says a few words when the result comes.
    let arguments = json!({"file_path": note, "content": "written by a scripted engine"});
    let question = format!("[[call:Write:{arguments}]]");
    let address = format!("http://{}", app.address());
    let output = Command::new(program("ONEBIT_TEST_CLAUDE_CODE"))
        .args(["--print", &question, "--model", "scripted"])
        .args(["--output-format", "json", "--max-turns", "6"])
        .args([
            "--allowedTools",
            "Write",
            "--permission-mode",
            "acceptEdits",
        ])
        .current_dir(&work)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &home)
        .env("ANTHROPIC_BASE_URL", &address)
        .env("ANTHROPIC_API_KEY", "unused")
        .env("ANTHROPIC_SMALL_FAST_MODEL", "scripted")
        .env("ANTHROPIC_DEFAULT_HAIKU_MODEL", "scripted")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("DISABLE_AUTOUPDATER", "1")
        .env("DISABLE_TELEMETRY", "1")
        // Whatever it would ask elsewhere goes to a closed door of this machine.
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .env("NO_PROXY", "127.0.0.1")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("claude runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let told = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    let result: Value = serde_json::from_str(said.trim()).expect("one JSON result");
    assert_eq!(result["is_error"], false, "{told}");
    let written = std::fs::read_to_string(&note).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert_eq!(written, "written by a scripted engine");
    println!(
        "Claude Code: {} turns, the note is written",
        result["num_turns"]
    );
}

/// An appliance whose only model is answered by the fake engine, which plays llama-server.
pub(crate) fn scripted(folder: &Path, arguments: &[&str]) -> App {
    let data = folder.join("data");
    let engine = data.join("engines/llama-server/current");
    std::fs::create_dir_all(&engine).expect("a folder");
    std::fs::copy(fake_engine(), engine.join("llama-server")).expect("a copy of the fake engine");
    let weights = folder.join("scripted.gguf");
    std::fs::write(&weights, "no weights").expect("a file");
    let model = Model {
        id: "scripted".into(),
        name: "scripted".into(),
        format: ModelFormat::Gguf,
        path: weights,
        file_bytes: 10,
        sha256: "0".repeat(64),
        architecture: "scripted".into(), // none that the built-in engine knows
        quantisation: "F16".into(),
        context_length: 200_000,
        kv_bytes_per_position: 1,
        has_template: true,
        imported_at: 0,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = Store::open(&data).expect("a store");
        store.models().put(&model).await.expect("a row");
    });
    drop(runtime);
    App::start(&data, arguments)
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

/// GAIA's own page, unmodified: the last of the backend whose operations we have, and one half a year newer.
#[test]
#[ignore = "needs chromium, playwright-core and the wheels of amd-gaia; tests/run fetches them"]
fn gaias_page_works_in_a_browser() {
    for version in ["0.17.5", "0.25.1"] {
        let folder = program("ONEBIT_TEST_GAIA").join(version);
        let folder = folder.display().to_string();
        let app = App::with_model(&["--gaia-ui", folder.as_str()]);
        let output = Command::new("npm")
            .arg("--prefix")
            .arg(root().join("tests/e2e"))
            .args(["run", "gaia"])
            .env("ONEBIT_URL", format!("http://{}", app.address()))
            .env("ONEBIT_GAIA", version)
            .output()
            .expect("npm runs");
        assert!(
            output.status.success(),
            "{version}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// GAIA's operations one by one, judged by the models of its own backend.
#[test]
#[ignore = "needs pydantic and the wheels of amd-gaia; tests/run fetches them"]
fn gaias_operations_are_as_there() {
    let shared = tempfile::tempdir().expect("a temporary folder");
    let shared = shared.path().canonicalize().expect("it is there");
    let roots = shared.display().to_string();
    let app = App::with_model_in(&[("ONEBIT_DOCUMENTS_ROOTS", roots.as_str())]);
    let output = Command::new(program("ONEBIT_TEST_PYTHON"))
        .arg(root().join("tests/clients/gaia_client.py"))
        .arg(format!("http://{}", app.address()))
        .arg(program("ONEBIT_TEST_GAIA").join("0.17.5"))
        .arg(&shared)
        .output()
        .expect("python runs");
    print!("{}", String::from_utf8_lossy(&output.stdout));
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
