//! The program's own manners: exit codes, and one line on stderr that says what to do.

use std::net::TcpListener;

use crate::support::App;
use crate::support::app::onebit;

#[test]
fn help_and_version_succeed() {
    for argument in ["--help", "--version"] {
        let output = onebit([argument]);
        assert_eq!(output.status.code(), Some(0), "{argument}");
        assert!(!output.stdout.is_empty(), "{argument}");
    }
}

#[test]
fn wrong_usage_is_two() {
    assert_eq!(onebit(["no-such-command"]).status.code(), Some(2));
    assert_eq!(
        onebit(["serve", "--listen", "nonsense"]).status.code(),
        Some(2)
    );
}

#[test]
fn failures_are_one_line_that_names_the_cause() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap().to_owned();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below_a_file = file.join("data").to_str().unwrap().to_owned();
    let cases: [(&[&str], &str); 4] = [
        (&["serve", "--listen", &address, "--data", &data], &address),
        (
            &["serve", "--listen", "127.0.0.1:0", "--data", &below_a_file],
            &below_a_file,
        ),
        (
            &["import", "/nonexistent/model.gguf", "--data", &data],
            "/nonexistent/model.gguf",
        ),
        (&["show", "no-such-model", "--data", &data], "no-such-model"),
    ];
    for (arguments, named) in cases {
        let output = std::process::Command::new(crate::support::app::binary())
            .args(arguments)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(
            error.trim().lines().count() == 1,
            "{arguments:?} said more than one line: {error}"
        );
        assert!(
            error.contains(named),
            "{arguments:?} does not name {named}: {error}"
        );
    }
}

#[test]
fn chat_asks_the_running_appliance() {
    let app = App::shared();
    let output = std::process::Command::new(crate::support::app::binary())
        .env("ONEBIT_MODELS_BUILTIN", "false")
        .args(["models", "--json", "--data"])
        .arg(app.data())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        list.to_string().to_lowercase().contains("smollm2"),
        "{list}"
    );
}
