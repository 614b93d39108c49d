//! `onebit backup` and `restore`: a copy made under a running appliance opens elsewhere with everything in it.

use serde_json::json;

use crate::support::App;
use crate::support::app::onebit;

#[test]
fn a_backup_of_a_running_appliance_is_whole() {
    let app = App::empty();
    let client = app.client();
    let title = "the chat that must not be lost";
    let chat = client
        .post("/onebit/chats", &json!({ "title": title }))
        .json();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.zip");
    let (file, old) = (file.to_str().unwrap(), app.data().to_str().unwrap());
    let text = |output: std::process::Output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    };

    let said = text(onebit(["backup", file, "--data", old]));
    assert!(said.contains("--with-models"), "{said}");
    let refused = onebit(["restore", file, "--data", old]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(refused).contains("already serves"),
        "not while it is served"
    );

    let elsewhere = folder.path().join("elsewhere");
    let output = onebit([
        "restore",
        file,
        "--data",
        elsewhere.to_str().unwrap(),
        "--json",
    ]);
    assert!(output.status.success(), "{}", text(output));
    let restored = App::start(&elsewhere, &[]);
    let chats = restored.client().get("/onebit/chats").text();
    assert!(chats.contains(title), "{chat} is not in {chats}");
}
