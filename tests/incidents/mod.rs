//! What has happened to others: nineteen kinds of incident, each tried from another machine on the network against
//! the real program with its default listeners.
//!
//! The other machine and the appliance are network namespaces on one wire (`support/wire.rs`). Rows that need more
//! than a stranger have it: the owner's own key over https is the most that an attacker can hope for.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use onebit::api::facts;
use serde_json::{Value, json};

use crate::access::filled;
use crate::support::Client;
use crate::support::client::Answer;
use crate::support::wire::{AWAY, HOME, Resident, Wire};

mod letting_in; // hosts, origins, keys, persons, forms, the first owner
mod taking_in; // files, names, numbers, addresses, releases

/// The hub of this test, and somebody else's server; both are on the other machine.
const HUB: u16 = 9000;
const OTHERS: u16 = 9001;

/// What an owner may have set, to the advantage of whoever attacks.
fn settings() -> String {
    format!(
        "[fetch]\nprivate_hosts = [\"{AWAY}:{HUB}\", \"{AWAY}:{OTHERS}\"]\n\
         [hub]\nendpoint = \"http://{AWAY}:{HUB}\"\ntoken = \"hub-secret\"\n\
         [update]\nreleases = \"http://{AWAY}:{HUB}/releases\"\n"
    )
}

/// The appliance, its wire, and a key of each scope.
struct Town {
    wire: Wire,
    resident: Resident,
    authority: String,
    owner: String,
    chat: String,
    infer: String,
}

static HEADS: Mutex<Vec<(u16, String)>> = Mutex::new(Vec::new());

/// The town, for one row at a time: some compare all that there is before and after.
struct Turn {
    town: &'static Town,
    _alone: MutexGuard<'static, ()>,
}

impl Deref for Turn {
    type Target = Town;

    fn deref(&self) -> &Town {
        self.town
    }
}

/// One appliance for all rows; `None` where namespaces are not permitted.
fn town() -> Option<Turn> {
    static ALONE: Mutex<()> = Mutex::new(());
    static TOWN: OnceLock<Option<Town>> = OnceLock::new();
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let town = TOWN.get_or_init(|| {
        let wire = Wire::new()?;
        for port in [HUB, OTHERS] {
            wire.leave_away(move || serve(port));
        }
        let resident = wire.appliance(&settings());
        let key = |scope| key(&wire, &resident, scope);
        let (owner, chat, infer) = (key("owner"), key("chat"), key("infer"));
        let authority = wire.away(|| Client::new(&format!("{HOME}:8000")).get("/ca.pem").text());
        Some(Town {
            wire,
            resident,
            authority,
            owner,
            chat,
            infer,
        })
    });
    let town = town.as_ref()?;
    Some(Turn {
        town,
        _alone: alone,
    })
}

fn key(wire: &Wire, resident: &Resident, scope: &str) -> String {
    let output = wire.onebit(
        resident,
        &["keys", "add", scope, "--scope", scope, "--json"],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    let made: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    made["key"].as_str().expect("a key").to_owned()
}

impl Town {
    /// Somebody on the network.
    fn stranger(&self) -> Client {
        Client::new(&format!("{HOME}:8000"))
    }

    /// Somebody with a key, by https.
    fn with(&self, key: &str) -> Client {
        Client::secure(&format!("{HOME}:8443"), &self.authority)
            .with_header("Authorization", &format!("Bearer {key}"))
    }

    /// Runs a row on the other machine.
    fn row(&self, work: impl FnOnce() + Send) {
        self.wire.away(work);
    }
}

/// A server that plays every foul there is, by path.
fn serve(port: u16) {
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("a port of our own");
    for stream in listener.incoming().map_while(Result::ok) {
        std::thread::spawn(move || answer(port, stream));
    }
}

fn answer(port: u16, mut stream: TcpStream) {
    let mut head = vec![0; 16 << 10];
    let read = stream.read(&mut head).unwrap_or(0);
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
    HEADS.lock().expect("whole").push((port, head));
    let to = |place: &str| {
        format!(
            "HTTP/1.1 302 X\r\nlocation: {place}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
    };
    let reply = match path.split('/').rev().find(|part| part.starts_with("to-")) {
        Some("to-loopback") => to("http://127.0.0.1:8000/onebit/devices"),
        Some("to-home") => to(&format!("http://{HOME}:8000/health")),
        Some("to-file") => to("file:///etc/passwd"),
        Some("to-others") => to(&format!("http://{AWAY}:{OTHERS}/taken")),
        _ if path.contains("endless") => {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n[";
            let piece = "{\"type\":\"file\",\"path\":\"x\"},".repeat(4096);
            let mut sent = stream.write_all(head.as_bytes());
            // Ten gigabytes, or until somebody has had enough.
            for _ in 0..(10usize << 30) / piece.len() {
                if sent.is_err() {
                    return;
                }
                sent = stream.write_all(piece.as_bytes());
            }
            return;
        }
        _ => "HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
    };
    // The other side may have hung up.
    let _ = stream.write_all(reply.as_bytes());
}

/// The heads of requests to one of the two servers that hold a word.
fn seen(port: u16, word: &str) -> Vec<String> {
    let heads = HEADS.lock().expect("whole");
    let of = heads
        .iter()
        .filter(|(at, head)| *at == port && head.contains(word));
    of.map(|(_, head)| head.clone()).collect()
}

/// All that could have changed by a request that should not have been let in.
fn rows(owner: &Client) -> Value {
    let paths = [
        "/onebit/chats",
        "/onebit/devices",
        "/onebit/keys",
        "/onebit/persons",
        "/api/documents",
        "/onebit/settings",
    ];
    let mut all = json!({});
    for path in paths {
        let mut rows = owner.get(path).json();
        // When a key was last seen changes by looking.
        for key in rows["keys"].as_array_mut().into_iter().flatten() {
            key["seen_at"] = Value::Null;
        }
        all[path] = rows;
    }
    all
}

fn every_route(client: &Client, mut check: impl FnMut(&str, Answer)) {
    for fact in facts() {
        let body = if fact.method == "GET" { "" } else { "{}" };
        let path = filled(fact.path);
        check(fact.path, client.send(fact.method.as_str(), &path, body));
    }
}

/// Paths, digests and names that leave their folder.
const ESCAPES: [&str; 8] = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "sha256:../../../../etc/passwd",
    "sha256:%2e%2e/%2e%2e/etc/passwd",
    "/etc/passwd",
    "....//....//etc/passwd",
    "sha256-0000",
    "sha256:%00",
];
