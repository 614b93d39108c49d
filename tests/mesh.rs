//! Phones that come in by the built-in mesh: the real program and Debian's `wireguard-go`, on two machines that are
//! network namespaces, once on one wire and once with `miniupnpd` as the router between them.
//!
//! Where namespaces or those programs are not to be had, each test says so and does nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lemonade::socket::Socket;
use crate::support::Client;
use crate::support::phone::{Phone, have, scan, value};
use crate::support::wire::{As, HOME, HOME6, Machine, OUTSIDE, Resident, Wire};

/// The appliance's address inside.
const INSIDE: &str = "10.77.0.1";
const PLAIN: &str = "10.77.0.1:8000";

/// What a phone must be able to move in a second, in each direction, on a machine that is busy with other tests. Without
/// congestion control it was 35 kB.
const BYTES_A_SECOND: f64 = 5e6;

/// What is moved; ONEBIT_TEST_MESH_MB says more.
fn megabytes() -> usize {
    let set = std::env::var("ONEBIT_TEST_MESH_MB").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// The owner's hand on the appliance itself.
fn owner(wire: &Wire) -> Client {
    wire.at_home(|| Client::new("127.0.0.1:8000"))
}

fn tunnel(wire: &Wire, body: &Value) -> Value {
    let owner = owner(wire);
    let made = wire.at_home(|| owner.post("/onebit/mesh/peers", body));
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()
}

/// A phone that has scanned the code for home.
fn phone_at_home(wire: &Wire) -> (Phone, Value) {
    let made = tunnel(wire, &json!({ "name": "Phone" }));
    let phone = Phone::new(wire, made["home"]["settings"].as_str().expect("settings"));
    (phone, made)
}

fn key(wire: &Wire, scope: &str) -> String {
    let owner = owner(wire);
    let made = wire.at_home(|| owner.post("/onebit/keys", &json!({ "name": "k", "scope": scope })));
    format!("Bearer {}", made.json()["key"].as_str().expect("a key"))
}

/// Bytes that no compression and no repetition helps with.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn a_phone_scans_a_code_and_is_known_by_its_tunnel() {
    let tools = ["wireguard-go", "wg", "zbarimg"];
    let Some(wire) = have(&tools).then(Wire::new).flatten() else {
        return;
    };
    let resident = wire.appliance("");
    let udp = |resident: &Resident| resident.datagram_ports().contains(&51820);
    assert!(
        !udp(&resident),
        "nothing is open before a device has a tunnel"
    );
    // As the owner does it, on a terminal's side.
    let made = wire.onebit(&resident, &["mesh", "add", "Ada's phone", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    assert!(udp(&resident));
    let settings = made["home"]["settings"].as_str().expect("settings");
    let seen = scan(&made["home"]["picture"], resident.data());
    assert_eq!(seen.trim_end(), settings.trim_end());
    assert_eq!(value(settings, "Endpoint"), format!("{HOME}:51820"));
    assert_eq!(made["anywhere"], Value::Null);
    assert_eq!(made["verdict"]["state"], "closed", "{made}");

    let phone = Phone::new(&wire, settings);
    let plain = wire.away(|| Client::new(PLAIN));
    assert_eq!(wire.away(|| plain.get("/health")).status, 200);
    let session = wire.away(|| plain.get("/onebit/session")).json();
    assert_eq!(session["transport"], "mesh");
    assert_eq!(session["scope"], "infer", "the tunnel alone asks models");
    assert_eq!(session["device"], made["device"]);
    for path in ["/onebit/devices", "/onebit/chats", "/onebit/mesh"] {
        assert_eq!(wire.away(|| plain.get(path)).status, 403, "{path}");
    }
    let chat = wire.away(|| plain.with_header("Authorization", &key(&wire, "chat")));
    assert_eq!(wire.away(|| chat.get("/onebit/chats")).status, 200);
    // The whole appliance by version 6, by https with our own certificate, and by the ports that a browser tries.
    let six = value(settings, "AllowedIPs")
        .rsplit_once(", ")
        .expect("two")
        .1;
    let six = format!("[{}]:80", six.trim_end_matches("/128"));
    assert_eq!(wire.away(|| Client::new(&six).get("/health")).status, 200);
    let authority = wire.away(|| plain.get("/ca.pem")).text();
    let secure = wire.away(|| Client::secure(&format!("{INSIDE}:8443"), &authority));
    assert_eq!(wire.away(|| secure.get("/health")).status, 200);
    // And nothing else of this machine.
    for port in [22, 53, 51820] {
        let to: SocketAddr = format!("{INSIDE}:{port}").parse().expect("an address");
        let opened = wire.away(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)));
        let error = opened.expect_err("refused");
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused,
            "{port}"
        );
    }

    // An answer as it is made.
    let ask = json!({
        "model": "onebit-mini", "stream": true, "max_tokens": 12,
        "messages": [{ "role": "user", "content": "Hello" }]
    });
    let events = wire.away(|| plain.events("POST", "/v1/chat/completions", &ask).count());
    assert!(events > 2, "{events} events");
    // A socket both ways: the log, for the owner's own device.
    let header = format!("Authorization: {}\r\n", key(&wire, "owner"));
    wire.away(|| {
        let mut socket = Socket::open(PLAIN, "/logs/stream", &header).expect("it switches");
        socket.send(r#"{"type":"logs.subscribe","after_seq":null}"#);
        assert_eq!(socket.next()["type"], "logs.snapshot");
    });
    let status = wire.onebit(&resident, &["mesh"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        status.contains("Ada's phone") && status.contains("s ago"),
        "{status}"
    );
    assert!(phone.received(&wire) > 0);
    // Its private key was told once and is nowhere.
    let private = value(settings, "PrivateKey");
    assert!(!resident.said().contains(private), "in the log");
    let shared = value(settings, "PresharedKey");
    for file in ["onebit.db", "onebit.db-wal"] {
        let bytes = std::fs::read(resident.data().join(file)).unwrap_or_default();
        for secret in [private, shared] {
            let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!found, "in {file}");
        }
    }
}

/// Reads an answer to its end; `between` happens after its first quarter.
fn download(request: &str, length: usize, between: impl FnOnce()) -> Vec<u8> {
    let mut stream = TcpStream::connect(PLAIN).expect("the tunnel is on");
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).expect("a time limit");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut bytes = Vec::with_capacity(length + 1024);
    let mut piece = vec![0; 64 << 10];
    let mut between = Some(between);
    loop {
        let read = stream.read(&mut piece).expect("it goes on");
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&piece[..read]);
        if bytes.len() > length / 4
            && let Some(between) = between.take()
        {
            between();
        }
    }
    let body = bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("a head")
        + 4;
    assert!(
        bytes.starts_with(b"HTTP/1.1 200"),
        "{:?}",
        String::from_utf8_lossy(&bytes[..body])
    );
    bytes.split_off(body)
}

#[test]
fn what_is_sent_arrives_whole_and_fast_also_when_the_phones_port_changes() {
    let tools = ["wireguard-go", "wg"];
    let Some(wire) = have(&tools).then(Wire::new).flatten() else {
        return;
    };
    let _resident = wire.appliance("");
    let (phone, _) = phone_at_home(&wire);
    let bearer = key(&wire, "chat");
    let chat = wire.away(|| Client::new(PLAIN).with_header("Authorization", &bearer));
    let sent = noise(megabytes() * 1_000_000);
    let begun = Instant::now();
    let path = "/api/documents/raw?name=noise.pdf";
    let kept = wire.away(|| chat.send_bytes("POST", path, &sent));
    let up = begun.elapsed();
    assert!(kept.status < 300, "{}: {}", kept.status, kept.text());
    let id = kept.json()["id"]
        .as_str()
        .expect("an identifier")
        .to_owned();
    let request = format!(
        "GET /v1/files/{id}/content HTTP/1.1\r\nHost: {PLAIN}\r\nAuthorization: {bearer}\r\nConnection: close\r\n\r\n"
    );
    // Other tests run beside this one: the best of three counts, the bytes of each.
    let down = (0..3).map(|_| {
        let begun = Instant::now();
        let back = wire.away(|| download(&request, sent.len(), || {}));
        assert!(back == sent, "the bytes differ");
        begun.elapsed()
    });
    let down = down.min().expect("three");
    let rate = |time: Duration| sent.len() as f64 / time.as_secs_f64();
    println!(
        "up {:.1} MB/s, down {:.1} MB/s",
        rate(up) / 1e6,
        rate(down) / 1e6
    );
    assert!(
        rate(up) > BYTES_A_SECOND && rate(down) > BYTES_A_SECOND,
        "{up:?} {down:?}"
    );
    // As a router does that forgets: the same phone, from another port, in the middle of an answer.
    let begun = Instant::now();
    let back = wire.away(|| {
        download(&request, sent.len(), || {
            phone.set(&wire, &["listen-port", "40001"]);
        })
    });
    let moved = begun.elapsed();
    assert!(back == sent, "the bytes differ");
    println!("with a new port: {:.1} MB/s", rate(moved) / 1e6);
    assert!(
        moved < down + Duration::from_secs(10),
        "{moved:?} after {down:?}"
    );
}

/// Asks until it is answered, at most so long.
fn answered(limit: Duration) -> Option<Duration> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        let left = limit
            .saturating_sub(begun.elapsed())
            .max(Duration::from_millis(1));
        let to: SocketAddr = PLAIN.parse().expect("an address");
        let Ok(mut stream) = TcpStream::connect_timeout(&to, left) else {
            continue;
        };
        let _ = stream.set_read_timeout(Some(left));
        let request = format!("GET /health HTTP/1.1\r\nHost: {PLAIN}\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        if stream.write_all(request.as_bytes()).is_ok()
            && stream.read_to_string(&mut text).is_ok()
            && text.starts_with("HTTP/1.1 200")
        {
            return Some(begun.elapsed());
        }
    }
    None
}

#[test]
fn a_restart_is_noticed_at_once_and_who_is_revoked_hears_nothing_more() {
    let tools = ["wireguard-go", "wg"];
    let Some(wire) = have(&tools).then(Wire::new).flatten() else {
        return;
    };
    let resident = wire.appliance("");
    let (phone, made) = phone_at_home(&wire);
    assert!(wire.away(|| answered(Duration::from_secs(10))).is_some());
    until("where the phone is is not written down", || {
        let file = resident.data().join("onebit.db");
        let rows = rusqlite::Connection::open(file).expect("its database");
        let ask = "SELECT endpoint FROM mesh_peers";
        rows.query_row(ask, [], |row| row.get::<_, Option<String>>(0))
            .expect("a row")
    });
    let resident = wire.appliance_in(resident.kill(), As::Us);
    let after = wire.away(|| answered(Duration::from_secs(30)));
    println!("after a restart: {after:?}");
    assert!(
        after.is_some_and(|time| time < Duration::from_secs(2)),
        "{after:?}"
    );

    // A stranger who knows our key and our port, and the settings of somebody else's tunnel.
    let settings = made["home"]["settings"].as_str().expect("settings");
    let other = "[Interface]\nPrivateKey = KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=\n";
    let rest = settings.split_once("Address").expect("an address").1;
    let forged = format!("{other}Address{rest}").replace("10.77.0.2", "10.77.0.9");
    let forged = forged.replace(":51820", ":51820\nPersistentKeepalive = 1");
    let forged = forged
        .replace(INSIDE, "10.77.0.77")
        .replace("::1/128", "::77/128");
    let stranger = Phone::new(&wire, &forged);
    let noise = wire.away(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let limit = Some(Duration::from_millis(300));
        socket.set_read_timeout(limit).expect("a time limit");
        for length in [1, 32, 92, 148, 1200] {
            let sent = socket.send_to(&vec![1; length], (HOME, 51820));
            assert_eq!(sent.expect("sent"), length);
        }
        socket.recv(&mut [0; 2000]).is_ok()
    });
    assert!(!noise, "noise was answered");
    assert!(!wire.away(|| {
        let to: SocketAddr = "10.77.0.77:8000".parse().expect("an address");
        TcpStream::connect_timeout(&to, Duration::from_secs(3)).is_ok()
    }));
    assert_eq!(stranger.received(&wire), 0, "a stranger was answered");

    // Revoked in the middle of a stream.
    let header = format!("Authorization: {}\r\n", key(&wire, "owner"));
    let mut socket =
        wire.away(|| Socket::open(PLAIN, "/logs/stream", &header).expect("it switches"));
    socket.send(r#"{"type":"logs.subscribe","after_seq":null}"#);
    assert_eq!(socket.next()["type"], "logs.snapshot");
    let before = phone.received(&wire);
    assert!(before > 0);
    let begun = Instant::now();
    let gone = wire.onebit(&resident, &["devices", "rm", "Phone"]);
    assert!(
        gone.status.success(),
        "{}",
        String::from_utf8_lossy(&gone.stderr)
    );
    socket.until_broken();
    println!("revoked and cut: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5));
    let then = phone.received(&wire);
    assert_eq!(wire.away(|| answered(Duration::from_secs(3))), None);
    assert_eq!(
        phone.received(&wire),
        then,
        "it was answered after it was revoked"
    );
    assert!(
        !resident.datagram_ports().contains(&51820),
        "nobody has a tunnel"
    );
}

#[test]
fn it_needs_no_rights_at_all() {
    let tools = ["wireguard-go", "wg", "setpriv"];
    let Some(wire) = have(&tools).then(Wire::new).flatten() else {
        return;
    };
    let resident = wire.appliance_as(As::Nobody, "[models]\nbuiltin = false\n");
    let _phone = phone_at_home(&wire);
    assert!(wire.away(|| answered(Duration::from_secs(10))).is_some());
    let ids = resident.status("Uid");
    assert!(ids.split_whitespace().all(|id| id == "65534"), "{ids}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(resident.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(resident.status("NoNewPrivs"), "1");
}

/// A household's router: nothing comes in that nobody asked for, except through the doors that `miniupnpd` opens.
fn route(router: &Machine, folder: &Path, pcp: &str) -> crate::support::wire::Kept {
    const RULES: &str = "table inet filter {
        chain miniupnpd { }
        chain prerouting_miniupnpd { }
        chain postrouting_miniupnpd { }
        chain forward {
            type filter hook forward priority 0; policy drop;
            ct state established,related accept
            iifname \"lan\" accept
            jump miniupnpd
        }
        chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
        chain postrouting {
            type nat hook postrouting priority 100;
            jump postrouting_miniupnpd
            meta nfproto ipv4 oifname \"wan\" masquerade
        }
    }";
    let rules = folder.join("rules.nft");
    std::fs::write(&rules, RULES).expect("written");
    let set = router.command("nft").arg("-f").arg(&rules).status();
    assert!(set.is_ok_and(|status| status.success()));
    if pcp == "no" {
        // The daemon answers PCP of version 6 whatever its settings say.
        let silent = "add chain inet filter input { type filter hook input priority 0; }\n\
                      add rule inet filter input udp dport 5351 drop\n";
        std::fs::write(&rules, silent).expect("written");
        let set = router.command("nft").arg("-f").arg(&rules).status();
        assert!(set.is_ok_and(|status| status.success()));
    }
    let settings = format!(
        "ext_ifname=wan\nlistening_ip=lan\nenable_natpmp={pcp}\nenable_upnp=yes\n\
         min_lifetime=2\nmax_lifetime={LEASE_S}\nlease_file={0}/leases\nlease_file6={0}/leases6\n\
         upnp_table_name=filter\nupnp_nat_table_name=filter\nupnp_forward_chain=miniupnpd\n\
         upnp_nat_chain=prerouting_miniupnpd\nupnp_nat_postrouting_chain=postrouting_miniupnpd\n\
         secure_mode=yes\nallow 1024-65535 192.168.77.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
        folder.display()
    );
    let file = folder.join("miniupnpd.conf");
    std::fs::write(&file, settings).expect("written");
    let (file, pid) = (file.display().to_string(), folder.join("pid"));
    let arguments = ["-d", "-f", &file, "-P", &pid.display().to_string()];
    let (kept, lines) = router.keep("miniupnpd", &arguments);
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(10)) {
        let last = match pcp {
            "yes" => "Listening for NAT-PMP",
            _ => "HTTP IPv6 address given",
        };
        if line.contains(last) {
            return kept;
        }
    }
    panic!("miniupnpd does not start");
}

/// What the router lets through, and how long.
const LEASE_S: u64 = 6;

/// When the router forgets the door to our port.
fn forgotten_at(folder: &Path) -> Option<u64> {
    let leases = std::fs::read_to_string(folder.join("leases")).unwrap_or_default();
    let line = leases.lines().find(|line| line.starts_with("UDP:51820:"))?;
    line.split(':').nth(4)?.parse().ok()
}

/// Looks until it is so.
fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

#[test]
fn a_router_is_asked_to_let_phones_through_and_asked_again() {
    let tools = ["wireguard-go", "wg", "miniupnpd", "nft"];
    let Some((wire, router)) = have(&tools).then(|| Wire::with_router(OUTSIDE)).flatten() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let _daemon = route(&router, folder.path(), "yes");
    let resident = wire.appliance("");
    assert_eq!(
        forgotten_at(folder.path()),
        None,
        "nothing is asked before a device has a tunnel"
    );
    let made = tunnel(&wire, &json!({ "name": "Phone" }));
    assert_eq!(made["verdict"]["state"], "open", "{made}");
    let settings = made["anywhere"]["settings"].as_str().expect("settings");
    assert_eq!(value(settings, "Endpoint"), format!("{OUTSIDE}:51820"));
    let _phone = Phone::new(&wire, settings);
    let first = wire.away(|| answered(Duration::from_secs(10)));
    assert!(first.is_some(), "not through the router");
    let until_then = forgotten_at(folder.path()).expect("a lease");
    let renewed = until("the lease is not renewed", || {
        forgotten_at(folder.path()).filter(|at| *at > until_then + LEASE_S)
    });
    assert!(renewed > until_then);
    assert!(wire.away(|| answered(Duration::from_secs(5))).is_some());
    let status = wire.onebit(&resident, &["mesh"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        status.contains("the router lets it through, PCP"),
        "{status}"
    );
    // A polite guest closes the door behind itself.
    resident.stop();
    assert_eq!(forgotten_at(folder.path()), None);
}

#[test]
fn a_router_behind_the_providers_is_told_as_such() {
    let tools = ["miniupnpd", "nft"];
    let Some((wire, router)) = have(&tools)
        .then(|| Wire::with_router("100.64.7.1"))
        .flatten()
    else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let _daemon = route(&router, folder.path(), "yes");
    let resident = wire.appliance("");
    let made = tunnel(&wire, &json!({ "name": "Phone" }));
    assert_eq!(made["verdict"]["state"], "carrier", "{made}");
    assert_eq!(made["anywhere"], Value::Null);
    assert!(made["home"]["settings"].is_string());
    let status = wire.onebit(&resident, &["mesh"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        status.contains("from anywhere: no") && status.contains("provider"),
        "{status}"
    );
}

/// The rules by which the router lets something in.
fn doors(router: &Machine) -> String {
    let mut command = router.command("nft");
    let listed = command.args(["list", "chain", "inet", "filter", "miniupnpd"]);
    let listed = listed.output().expect("nft runs");
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

/// Behind a provider's own router there is no way in by version 4; where there is version 6, one by that.
#[test]
fn the_firewall_of_version_6_is_asked_where_version_4_leads_nowhere() {
    let tools = ["wireguard-go", "wg", "miniupnpd", "nft"];
    for (pcp, by) in [("yes", "PCP"), ("no", "UPnP")] {
        let Some((wire, router)) = have(&tools)
            .then(|| Wire::with_router("100.64.7.1"))
            .flatten()
        else {
            return;
        };
        wire.with_version_6(&router);
        let folder = tempfile::tempdir().expect("a folder");
        let _daemon = route(&router, folder.path(), pcp);
        let resident = wire.appliance("");
        let made = tunnel(&wire, &json!({ "name": "Phone" }));
        assert_eq!(made["verdict"]["state"], "open", "{by}: {made}");
        assert_eq!(made["verdict"]["by"], by, "{made}");
        let settings = made["anywhere"]["settings"].as_str().expect("settings");
        assert_eq!(value(settings, "Endpoint"), format!("[{HOME6}]:51820"));
        assert!(doors(&router).contains("dport 51820"), "{}", doors(&router));
        let _phone = Phone::new(&wire, settings);
        let first = wire.away(|| answered(Duration::from_secs(10)));
        assert!(first.is_some(), "{by}: not through the firewall");
        // Nothing else of this machine is open to the world.
        let other: SocketAddr = format!("[{HOME6}]:8000").parse().expect("an address");
        let opened = wire.away(|| TcpStream::connect_timeout(&other, Duration::from_secs(1)));
        assert!(opened.is_err(), "{by}: the firewall lets everything in");
        resident.stop();
        assert!(
            !doors(&router).contains("51820"),
            "{by}: {}",
            doors(&router)
        );
    }
}
