//! A Headscale of the owner's, played: what two of its generations answer, and what we make of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::App;

/// The API key that the server takes.
const KEY: &str = "hs-api-key";

/// Which generation is played.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    /// Users by number, a version, nodes.
    Newer,
    /// Users by name, no version, nodes.
    Older,
    /// Machines instead of nodes.
    Ancient,
}

/// What the server was sent: method, path, body.
type Heard = Arc<Mutex<Vec<(String, String, Value)>>>;

/// Answers until the test ends.
fn serve(age: Age) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let heard = Heard::default();
    let told = Arc::clone(&heard);
    std::thread::spawn(move || {
        let mut users = vec![json!({ "id": "1", "name": "ada" })];
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) < 3 {
                    break;
                }
                lines.push(line.trim().to_ascii_lowercase());
            }
            let Some(first) = lines.first() else { continue };
            let mut words = first.split(' ');
            let method = words.next().unwrap_or_default().to_uppercase();
            let path = words.next().unwrap_or_default().to_owned();
            let length = lines
                .iter()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).expect("the body");
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let known = lines.contains(&format!("authorization: bearer {KEY}"));
            let (status, answer) = match known || path == "/version" {
                true => answer(age, &mut users, &method, &path, &body),
                false => (401, json!({ "message": "Unauthorized" })),
            };
            told.lock().expect("whole").push((method, path, body));
            let text = answer.to_string();
            let length = text.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(format!("{head}{text}").as_bytes());
        }
    });
    (format!("http://{address}"), heard)
}

fn answer(
    age: Age,
    users: &mut Vec<Value>,
    method: &str,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    let none = (404, json!({ "message": "Not Found" }));
    match (method, path) {
        ("GET", "/version") if age == Age::Newer => (200, json!({ "version": "v0.28.0" })),
        ("GET", "/api/v1/node") if age != Age::Ancient => {
            let node = json!({
                "id": "7", "name": "pixel-9", "givenName": "pixel", "user": { "id": "1", "name": "ada" },
                "ipAddresses": ["100.64.0.3", "fd7a:115c:a1e0::3"], "online": true
            });
            (200, json!({ "nodes": [node] }))
        }
        ("GET", "/api/v1/user") => (200, json!({ "users": users })),
        ("POST", "/api/v1/user") => {
            let made = json!({ "id": (users.len() + 1).to_string(), "name": body["name"] });
            users.push(made.clone());
            (200, json!({ "user": made }))
        }
        ("POST", "/api/v1/preauthkey") => {
            let by = if age == Age::Newer { "id" } else { "name" };
            match users.iter().any(|user| user[by] == body["user"]) {
                true => (200, json!({ "preAuthKey": { "key": "hskey-once" } })),
                false => (500, json!({ "message": "User not found" })),
            }
        }
        ("POST", "/api/v1/node/7/expire") => (200, json!({ "node": { "id": "7" } })),
        ("POST", path) if path.ends_with("/expire") => {
            (400, json!({ "message": "node not found" }))
        }
        _ => none,
    }
}

fn app(url: &str, key: &str) -> App {
    App::with_environment(&[
        ("ONEBIT_HEADSCALE_URL", url),
        ("ONEBIT_HEADSCALE_KEY", key),
        ("ONEBIT_FETCH_PRIVATE_HOSTS", "127.0.0.1"),
    ])
}

#[test]
fn devices_are_listed_invited_and_ended_in_either_generation() {
    for age in [Age::Newer, Age::Older] {
        let (url, heard) = serve(age);
        let app = app(&url, KEY);
        let client = app.client();
        let listed = client.get("/onebit/headscale");
        assert_eq!(listed.status, 200, "{}", listed.text());
        let listed = listed.json();
        let version = if age == Age::Newer {
            json!("v0.28.0")
        } else {
            Value::Null
        };
        assert_eq!(listed["version"], version);
        assert_eq!(
            listed["nodes"][0],
            json!({
                "id": "7", "name": "pixel", "user": "ada", "online": true,
                "addresses": ["100.64.0.3", "fd7a:115c:a1e0::3"]
            })
        );
        for user in ["ada", "grace"] {
            let body = json!({ "user": user });
            let made = client.post("/onebit/headscale/invitations", &body);
            assert_eq!(made.status, 201, "{}", made.text());
            let made = made.json();
            assert_eq!(
                (&made["server"], &made["key"]),
                (&json!(url), &json!("hskey-once"))
            );
            assert!(made["picture"]["path"].is_string());
        }
        let ended = client.delete("/onebit/headscale/nodes/7");
        assert_eq!(ended.status, 200, "{}", ended.text());
        let unknown = client.delete("/onebit/headscale/nodes/9");
        assert_eq!(unknown.status, 400);
        assert!(
            unknown.text().contains("node not found"),
            "{}",
            unknown.text()
        );
        // A number is a number: nothing else becomes a part of the path.
        let sideways = client.delete("/onebit/headscale/nodes/..%2fuser");
        assert_eq!(sideways.status, 400, "{}", sideways.text());

        let heard = heard.lock().expect("whole");
        let keys: Vec<&Value> = heard
            .iter()
            .filter(|(method, path, _)| method == "POST" && path == "/api/v1/preauthkey")
            .map(|(.., body)| body)
            .collect();
        assert!(
            keys.iter()
                .all(|key| key["reusable"] == false && key["ephemeral"] == false)
        );
        assert!(keys.iter().all(|key| {
            key["expiration"]
                .as_str()
                .is_some_and(|at| at.ends_with('Z'))
        }));
        let made: Vec<&Value> = heard
            .iter()
            .filter(|(method, path, _)| method == "POST" && path == "/api/v1/user")
            .map(|(.., body)| &body["name"])
            .collect();
        assert_eq!(made, [&json!("grace")], "only who was not there is made");
    }
}

#[test]
fn what_is_missing_is_named() {
    let unset = app("", "");
    let answer = unset.client().get("/onebit/headscale");
    assert_eq!(answer.status, 409);
    assert!(answer.text().contains("[headscale]"), "{}", answer.text());

    let (url, _) = serve(Age::Newer);
    let wrong = app(&url, "another");
    let answer = wrong.client().get("/onebit/headscale");
    assert_eq!(answer.status, 409);
    assert!(answer.text().contains("API key"), "{}", answer.text());
    assert!(!answer.text().contains("another"), "{}", answer.text());

    let (url, _) = serve(Age::Ancient);
    let old = app(&url, KEY);
    let answer = old.client().get("/onebit/headscale");
    assert_eq!(answer.status, 409);
    assert!(answer.text().contains("0.23"), "{}", answer.text());
}
