//! Who is let in: what a stranger sees, pairing, persons, keys. (Every route by every carrier: `api/tests.rs`.)
//!
//! A forwarded header makes a request from loopback one from nowhere in particular, so these tests are another
//! machine on the network without needing one; `tests/network.rs` really is one.

use std::process::Output;

use onebit::api::facts;
use onebit::domain::Scope;
use serde_json::json;

use crate::support::{App, Client, app::binary};

/// Runs a command beside the appliance.
fn command(app: &App, arguments: &[&str]) -> Output {
    std::process::Command::new(binary())
        .args(arguments)
        .arg("--data")
        .arg(app.data())
        .env("XDG_CONFIG_HOME", app.data())
        .output()
        .expect("onebit runs")
}

fn key(app: &App, scope: &str) -> String {
    let output = command(
        app,
        &[
            "keys",
            "add",
            &format!("a {scope} key"),
            "--scope",
            scope,
            "--json",
        ],
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    made["key"].as_str().expect("a key").to_owned()
}

/// Somebody on the network.
fn stranger(app: &App) -> Client {
    app.client().with_header("X-Forwarded-For", "192.0.2.7")
}

/// A path that a route answers, with names of nothing in it.
pub(crate) fn filled(path: &str) -> String {
    let mut out = String::new();
    for part in path.split('/').skip(1) {
        out.push('/');
        out.push_str(if part.starts_with('{') {
            "nothing"
        } else {
            part
        });
    }
    out
}

/// The crawl: without a credential only the public list answers.
#[test]
fn a_stranger_reaches_the_public_list_and_nothing_else() {
    let app = App::shared();
    let mut answered = Vec::new();
    for fact in facts() {
        let path = filled(fact.path);
        let body = if fact.method == "GET" { "" } else { "{}" };
        let answer = stranger(app).send(fact.method.as_str(), &path, body);
        if answer.status == 401 {
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Bearer realm=\"onebit\"")
            );
            assert!(
                answer.text().contains("sign in"),
                "{path}: {}",
                answer.text()
            );
        } else {
            answered.push(fact.path);
        }
    }
    let public: Vec<_> = facts()
        .iter()
        .filter(|fact| fact.scope == Scope::Public)
        .map(|fact| fact.path)
        .collect();
    assert_eq!(answered, public);
}

/// A pairing from beginning to end by command and by page, and the end of the device while it reads a stream.
#[test]
fn a_phone_is_paired_and_its_stream_ends_with_its_revocation() {
    let app = App::with_model(&[]);
    let opened = command(&app, &["pair", "--json"]);
    let opened: serde_json::Value = serde_json::from_slice(&opened.stdout).expect("JSON");
    let code = opened["code"].as_str().expect("a code");
    let link = opened["link"].as_str().expect("a link");
    assert!(
        link.contains("/pair#c="),
        "the code is in the fragment: {link}"
    );

    let phone = stranger(&app);
    let claimed = phone.post("/onebit/pair", &json!({ "code": code, "name": "Pixel" }));
    assert_eq!(claimed.status, 201, "{}", claimed.text());
    let claimed = claimed.json();
    let again = phone.post("/onebit/pair", &json!({ "code": code, "name": "Thief" }));
    assert_eq!(again.status, 403, "a code is used once: {}", again.text());

    let wrong = command(&app, &["pair", "--approve", "000 000"]);
    assert!(!wrong.status.success() || claimed["digits"] == "000 000");
    let approved = command(
        &app,
        &[
            "pair",
            "--approve",
            claimed["digits"].as_str().expect("digits"),
        ],
    );
    assert!(
        approved.status.success(),
        "{}",
        String::from_utf8_lossy(&approved.stderr)
    );
    let path = format!("/onebit/pair/{}", claimed["id"].as_str().expect("an id"));
    let collected = phone.post(&path, &json!({ "secret": claimed["secret"] }));
    assert_eq!(collected.status, 200, "{}", collected.text());
    let cookie = collected.header("set-cookie").expect("a cookie").to_owned();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(
        collected.json()["token"].is_null(),
        "scripts do not see the token"
    );
    let replayed = phone.post(&path, &json!({ "secret": claimed["secret"] }));
    assert_eq!(replayed.status, 404, "{}", replayed.text());

    let phone = phone.with_header("Cookie", cookie.split(';').next().expect("a pair"));
    assert_eq!(phone.get("/v1/models").status, 200);
    assert_eq!(phone.get("/onebit/devices").status, 403);
    let session = phone.get("/onebit/session").json();
    assert_eq!(
        (&session["signed_in"], &session["scope"]),
        (&json!(true), &json!("chat"))
    );

    let chat = phone.post(
        "/onebit/chats",
        &json!({ "model": "smollm2-135m-instruct" }),
    );
    let chat = chat.json()["id"].as_str().expect("a chat").to_owned();
    let body = json!({ "parent_id": null, "content": "Tell a long story.", "options": { "max_tokens": 4000 } });
    let mut events = phone.events("POST", &format!("/onebit/chats/{chat}/turns"), &body);
    assert!(events.next().is_some());
    let device = session["device"].as_str().expect("a device");
    let begun = std::time::Instant::now();
    assert_eq!(
        app.client()
            .delete(&format!("/onebit/devices/{device}"))
            .status,
        200
    );
    // The rest that was under way comes, and then the stream breaks off instead of ending well.
    let rest = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| events.count()));
    assert!(
        rest.is_err(),
        "the stream went on or ended as if it were whole"
    );
    println!("cut after {:?}", begun.elapsed());
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    assert_eq!(phone.get("/v1/models").status, 401);
}

/// Five wrong codes by anybody close the window; the sixth answer is to wait.
#[test]
fn guessing_codes_ends_the_window_and_the_guesser() {
    let app = App::empty();
    let opened = app.client().post("/onebit/pairing", &json!({})).json();
    let guess = |n: usize| {
        let body = json!({ "code": format!("0000-000{n}"), "name": "x" });
        stranger(&app).post("/onebit/pair", &body).status
    };
    assert_eq!(
        (0..6).map(guess).collect::<Vec<_>>(),
        [403, 403, 403, 403, 403, 429]
    );
    let right = json!({ "code": opened["code"], "name": "Late" });
    let late = app.client().post("/onebit/pair", &right);
    assert_eq!(late.status, 403, "{}", late.text());
    let pairings = app.client().get("/onebit/pairing").json();
    assert_eq!(pairings["pairings"][0]["state"], "void");
}

/// The owner's setup code works from elsewhere, but never in the open.
#[test]
fn the_setup_code_is_not_taken_in_the_open() {
    let app = App::empty();
    let file = app.data().join("trust/setup-code");
    let code = std::fs::read_to_string(&file).expect("a setup code");
    let body = json!({ "code": code, "name": "Laptop" });
    let answer = stranger(&app).post("/onebit/claim", &body);
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("https"), "{}", answer.text());
    assert!(file.is_file(), "the code is still good");
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path)
            .expect("is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&app.data().join("trust")), 0o700);
    for entry in std::fs::read_dir(app.data().join("trust")).expect("a folder") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

/// Members have their own rows; another's identifiers are as good as none.
#[test]
fn a_members_rows_are_theirs_alone() {
    let app = App::empty();
    let owner = app.client();
    let ada = owner
        .post("/onebit/persons", &json!({ "name": "Ada" }))
        .json();
    let made = owner.post(
        "/onebit/keys",
        &json!({ "name": "hers", "scope": "chat", "person": ada["id"] }),
    );
    let made = made.json();
    let hers = owner.with_header(
        "Authorization",
        &format!("Bearer {}", made["key"].as_str().expect("a key")),
    );
    let refused = owner.post(
        "/onebit/keys",
        &json!({ "name": "x", "scope": "owner", "person": ada["id"] }),
    );
    assert_eq!(refused.status, 400, "{}", refused.text());

    let chat = owner.post("/onebit/chats", &json!({})).json()["id"]
        .as_str()
        .expect("a chat")
        .to_owned();
    let path = format!("/onebit/chats/{chat}");
    assert_eq!(hers.get(&path).status, 404);
    assert_eq!(hers.patch(&path, &json!({ "title": "mine" })).status, 404);
    assert_eq!(hers.delete(&path).status, 404);
    let turn = json!({ "parent_id": null, "content": "hi" });
    assert_eq!(hers.post(&format!("{path}/turns"), &turn).status, 404);
    assert_eq!(hers.get("/onebit/chats").json()["chats"], json!([]));
    assert_eq!(owner.get(&path).status, 200);

    let own = hers.post("/onebit/chats", &json!({})).json()["id"]
        .as_str()
        .expect("a chat")
        .to_owned();
    assert_eq!(
        owner.get(&format!("/onebit/chats/{own}")).status,
        404,
        "not even the owner reads it"
    );
    let person = ada["id"].as_str().expect("an id");
    assert_eq!(
        owner.delete(&format!("/onebit/persons/{person}")).status,
        200
    );
    assert_eq!(hers.get("/onebit/chats").status, 401);
    assert_eq!(owner.delete("/onebit/persons/owner").status, 400);
}

/// Keys by command: shown once, listed without their secret, and gone when removed.
#[test]
fn keys_are_made_listed_and_removed() {
    let app = App::empty();
    let key = key(&app, "infer");
    let client = stranger(&app).with_header("Authorization", &format!("Bearer {key}"));
    assert_eq!(client.get("/v1/models").status, 200);
    assert_eq!(client.get("/onebit/chats").status, 403);
    let list = command(&app, &["keys", "ls"]);
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(
        list.contains("a infer key") && !list.contains(&key),
        "{list}"
    );
    assert!(
        command(&app, &["keys", "rm", "a infer key"])
            .status
            .success()
    );
    assert_eq!(client.get("/v1/models").status, 401);
    let events = app.client().get("/onebit/audit").json();
    let events: Vec<_> = events["events"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|e| e["event"].clone())
        .collect();
    assert_eq!(events, ["key_removed", "key_added"]);
}

/// A page cannot make a browser send a form; a program may send what it likes.
#[test]
fn browsers_send_json_or_nothing() {
    let client = App::shared().client();
    let browser = client.with_header("Sec-Fetch-Site", "same-origin");
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        let form = browser.with_header("Content-Type", kind);
        assert_eq!(
            form.send("POST", "/onebit/chats", "{}").status,
            415,
            "{kind}"
        );
        let program = client.with_header("Content-Type", kind);
        assert_ne!(
            program.send("POST", "/api/show", "{}").status,
            415,
            "{kind}"
        );
    }
    assert_eq!(
        browser
            .post(
                "/onebit/pair",
                &json!({ "code": "x".repeat(40_000), "name": "x" })
            )
            .status,
        413
    );
}
