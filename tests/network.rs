//! The appliance as another machine on the network finds it: its name, its certificate, its pairing.
//!
//! The other machine is a network namespace (`support/wire.rs`). What strangers may not do is in `incidents/`.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::wire::{AWAY, HOME, Resident, Wire};
use crate::support::{App, Client, root};

const SECURE: &str = "192.168.77.1:8443";
const PLAIN: &str = "192.168.77.1:8000";

/// Multicast DNS: its group and port.
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);

fn secure(wire: &Wire) -> Client {
    wire.away(|| Client::secure(SECURE, &Client::new(PLAIN).get("/ca.pem").text()))
}

fn pairing(wire: &Wire, resident: &Resident) -> Value {
    let opened = wire.onebit(resident, &["pair", "--json"]);
    let said = String::from_utf8_lossy(&opened.stderr);
    serde_json::from_slice(&opened.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Allows the device that waits, as soon as one does, and tells its digits.
fn allow(wire: &Wire, resident: &Resident) -> String {
    let begun = Instant::now();
    loop {
        let waiting = wire.at_home(|| Client::new("127.0.0.1:8000").get("/onebit/pairing").json());
        let all = waiting["pairings"].as_array().expect("pairings");
        if let Some(one) = all.iter().find(|one| one["state"] == "waiting") {
            let digits = one["digits"].as_str().expect("digits").to_owned();
            let output = wire.onebit(resident, &["pair", "--approve", &digits]);
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            return digits;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(100),
            "nobody came: {waiting}"
        );
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

#[test]
fn the_network_is_told_the_name() {
    let Some(wire) = Wire::new() else { return };
    let resident = wire.appliance("[trust]\nname = \"attic\"\n");
    assert!(
        resident.said().contains("http://attic.local:8000/app"),
        "{}",
        resident.said()
    );
    let status = wire.onebit(&resident, &["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        status.contains("network http://attic.local:8000/app"),
        "{status}"
    );
    wire.away(|| {
        let socket = UdpSocket::bind(("0.0.0.0", GROUP.1)).expect("the port is free here");
        let own = AWAY.parse().expect("an address");
        socket.join_multicast_v4(&GROUP.0, &own).expect("joined");
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .expect("a limit");
        // One question: the address (A, class IN) of attic.local.
        let question = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x05attic\x05local\0\0\x01\0\x01";
        let mut heard = vec![0; 9000];
        for _ in 0..10 {
            socket.send_to(question, GROUP).expect("sent");
            while let Ok(read) = socket.recv(&mut heard) {
                let packet = &heard[..read];
                let is_answer = packet.len() > 2 && packet[2] & 0x80 != 0;
                if is_answer && packet.windows(4).any(|bytes| bytes == [192, 168, 77, 1]) {
                    return;
                }
            }
        }
        panic!("nobody answers to attic.local");
    });
    wire.away(|| {
        let named = Client::new(PLAIN).with_header("Host", "attic.local:8000");
        assert_eq!(named.get("/health").status, 200);
    });
}

#[test]
fn a_phone_comes_in_by_https_and_nothing_secret_is_logged() {
    let Some(wire) = Wire::new() else { return };
    let resident = wire.appliance("");
    let opened = pairing(&wire, &resident);
    let text = |key: &str| opened[key].as_str().expect("text").to_owned();
    let code = text("code");
    let link = text("link");
    assert!(
        link.starts_with(&format!("https://{SECURE}/pair#c=")),
        "{link}"
    );
    let phone = secure(&wire);
    // Four at once with one code: one is first.
    let claims: Vec<_> = wire.away(|| {
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (phone, code) = (phone.clone(), code.clone());
                std::thread::spawn(move || {
                    phone.post(
                        "/onebit/pair",
                        &json!({ "code": code, "name": format!("Phone {n}") }),
                    )
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("an answer"))
            .collect()
    });
    let mut statuses: Vec<u16> = claims.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 403, 403, 403]);
    let claimed = claims
        .iter()
        .find(|answer| answer.status == 201)
        .expect("one")
        .json();
    assert_eq!(
        allow(&wire, &resident),
        claimed["digits"].as_str().expect("digits")
    );
    let path = format!("/onebit/pair/{}", claimed["id"].as_str().expect("an id"));
    let mine = json!({ "secret": claimed["secret"], "token": true });
    let token = wire.away(|| {
        let thief = phone.post(&path, &json!({ "secret": "0".repeat(64), "token": true }));
        assert_eq!(thief.status, 404, "{}", thief.text());
        let token = phone.post(&path, &mine).json()["token"]
            .as_str()
            .expect("a token")
            .to_owned();
        assert_eq!(
            phone.post(&path, &mine).status,
            404,
            "a token is collected once"
        );
        let bearer = format!("Bearer {token}");
        assert_eq!(
            phone
                .with_header("Authorization", &bearer)
                .get("/onebit/chats")
                .status,
            200
        );
        // What a proxy may say of the way changes nothing for the better.
        let spoofed = Client::new(PLAIN).with_header("X-Forwarded-For", "127.0.0.1");
        assert_eq!(
            spoofed
                .with_header("X-Real-Ip", "::1")
                .get("/onebit/devices")
                .status,
            401
        );
        token
    });
    let said = resident.said();
    assert!(said.contains("request"), "the log is at level debug");
    let link_code = link.rsplit('=').next().expect("a code").to_owned();
    for secret in [
        &code,
        &link_code,
        &token,
        &claimed["secret"].as_str().expect("text").to_owned(),
    ] {
        assert!(!said.contains(secret.as_str()), "a secret is in the log");
    }
}

/// Any message at all: an answer that is no failure of ours, and an appliance that lives on.
#[test]
fn pairing_messages_of_any_shape_are_answered() {
    let app = App::empty();
    let client = app.client();
    let mut seed = 7u64;
    let mut next = move |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    const VALUES: [&str; 14] = [
        "null",
        "true",
        "-1",
        "1e999",
        "\"\"",
        "\"0000-0000\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "[]",
        "{}",
        "[[[[[[[[",
        "\"ÄÖ\\u202e\"",
        "{\"a\":",
        "\"AAAAAAAAAAAAAAAAAAAAAAAAAA\"",
    ];
    const KEYS: [&str; 9] = [
        "code", "name", "secret", "token", "allow", "digits", "scope", "person", "x",
    ];
    for round in 0..600 {
        let fields: Vec<String> = (0..next(5))
            .map(|_| {
                format!(
                    "\"{}\":{}",
                    KEYS[next(KEYS.len())],
                    VALUES[next(VALUES.len())]
                )
            })
            .collect();
        let mut body = format!("{{{}}}", fields.join(",")).into_bytes();
        if next(4) == 0 {
            let at = next(body.len());
            body[at] = next(256) as u8;
        }
        let path = [
            "/onebit/pair",
            "/onebit/claim",
            "/onebit/pairing",
            "/onebit/pair/x",
            "/onebit/pairing/x",
        ][next(5)];
        let answer = client.send_bytes("POST", path, &body);
        assert!(
            answer.status < 500,
            "{round} {path} {:?}: {}",
            String::from_utf8_lossy(&body),
            answer.text()
        );
    }
    assert_eq!(client.get("/health").status, 200);
}

fn openssl(folder: &Path, arguments: &[&str]) -> Output {
    Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs")
}

/// Even with the authority's own key nobody can speak for a public name.
#[test]
fn a_stolen_authority_speaks_for_homes_only() {
    let app = App::empty();
    let folder = tempfile::tempdir().expect("a folder");
    let authority = app.data().join("trust/ca.pem");
    let key = app.data().join("trust/ca.key");
    let (authority, key) = (
        authority.to_str().expect("text"),
        key.to_str().expect("text"),
    );
    for (subject, is_home) in [
        ("IP:192.168.1.9", true),
        ("DNS:attic.local", true),
        ("DNS:box.home.arpa", true),
        ("DNS:bank.example", false),
        ("DNS:local.example", false),
        ("IP:8.8.8.8", false),
        ("IP:2001:db8::1", false),
    ] {
        let extension = folder.path().join("san");
        std::fs::write(&extension, format!("subjectAltName={subject}\n")).expect("written");
        let curve = "ec_paramgen_curve:P-256";
        let asked = openssl(
            folder.path(),
            &[
                "req", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-keyout", "leaf.key", "-out",
                "leaf.csr", "-subj", "/CN=x",
            ],
        );
        assert!(
            asked.status.success(),
            "{}",
            String::from_utf8_lossy(&asked.stderr)
        );
        let signed = openssl(
            folder.path(),
            &[
                "x509",
                "-req",
                "-in",
                "leaf.csr",
                "-CA",
                authority,
                "-CAkey",
                key,
                "-set_serial",
                "7",
                "-days",
                "30",
                "-extfile",
                "san",
                "-out",
                "leaf.pem",
            ],
        );
        assert!(
            signed.status.success(),
            "{}",
            String::from_utf8_lossy(&signed.stderr)
        );
        let verdict = openssl(folder.path(), &["verify", "-CAfile", authority, "leaf.pem"]);
        let said = String::from_utf8_lossy(&verdict.stderr);
        assert_eq!(verdict.status.success(), is_home, "{subject}: {said}");
        assert!(
            is_home || said.contains("permitted subtree violation"),
            "{subject}: {said}"
        );
    }
    let host = format!(
        "127.0.0.1:{}",
        app.address().rsplit(':').next().expect("a port")
    );
    let shaken = openssl(
        folder.path(),
        &[
            "s_client",
            "-connect",
            &host,
            "-CAfile",
            authority,
            "-verify_return_error",
            "-verify_ip",
            "127.0.0.1",
        ],
    );
    let said = String::from_utf8_lossy(&shaken.stdout);
    assert!(
        shaken.status.success() && said.contains("Verify return code: 0 (ok)"),
        "{said}"
    );
}

/// A browser on the other machine that has our authority: a secure context with a microphone, and its way in.
#[test]
#[ignore = "needs chromium, playwright-core and certutil; tests/run installs them"]
fn a_browser_elsewhere_is_let_in_and_has_a_microphone() {
    let Some(wire) = Wire::new() else { return };
    let resident = wire.appliance("");
    let home = tempfile::tempdir().expect("a folder");
    let certificates = home.path().join(".pki/nssdb");
    std::fs::create_dir_all(&certificates).expect("made");
    let database = format!("sql:{}", certificates.display());
    let authority = resident.data().join("trust/ca.pem");
    for arguments in [
        vec!["-N", "--empty-password", "-d", &database],
        vec![
            "-A",
            "-d",
            &database,
            "-t",
            "C,,",
            "-n",
            "onebit",
            "-i",
            authority.to_str().expect("text"),
        ],
    ] {
        let output = Command::new("certutil")
            .args(&arguments)
            .output()
            .expect("certutil runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let link = pairing(&wire, &resident)["link"]
        .as_str()
        .expect("a link")
        .to_owned();
    let suite = wire
        .command_away("npm")
        .arg("--prefix")
        .arg(root().join("tests/e2e"))
        .args(["run", "secure"])
        .env("HOME", home.path())
        .env("ONEBIT_HTTPS", format!("https://{SECURE}"))
        .env("ONEBIT_HTTP", format!("http://{PLAIN}"))
        .env("ONEBIT_LINK", link)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("npm runs");
    let digits = allow(&wire, &resident);
    let output = suite.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.contains(&format!("digits {digits}")),
        "{digits}: {said}"
    );
    println!("{HOME} let {AWAY} in: {digits}");
}
