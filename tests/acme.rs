//! Certificates of others: by ACME's DNS challenge from Let's Encrypt's own test authority (`pebble`), with a hook as an
//! owner writes it, and from a tailscaled, which is played. openssl judges what is served.
#![allow(clippy::print_stdout, reason = "a test that does nothing says so")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use serde_json::json;

use crate::support::app::onebit_on;
use crate::support::phone::have;
use crate::support::wire::{AWAY, HOME, Wire};
use crate::support::{App, Client};

/// The owner's name, which leads nowhere.
const NAME: &str = "box.example.org";
/// The name of the appliance in a tailnet.
const TAILNET_NAME: &str = "box.t.ts.net";

/// Pebble refuses some requests on purpose, and validates at its own pace.
const GIVEN_MAX: Duration = Duration::from_secs(60);

/// A program that ends with this value, and with this process.
struct Kept(Child);

impl Kept {
    fn new(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Kept {
        let script = r#"exec 3<&0; "$@" </dev/null & pid=$!; trap 'kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null' EXIT TERM; read -r _ <&3; exit 0"#;
        let child = Command::new("sh")
            .args(["-c", script, "sh", program])
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Kept(child.expect("sh runs"))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(mut input) = self.0.stdin.take() {
            let _ = input.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}

/// Free ports of this machine.
fn ports<const N: usize>() -> [u16; N] {
    let all = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    all.map(|one| one.local_addr().expect("bound").port())
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// An authority of the test's own: its certificate, and the certificate and the key that it gives a name.
fn certified(name: &str) -> [String; 3] {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A name of its own: a leaf of the same name would look as if it had signed itself.
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "an authority of the test");
    let authority = params.self_signed(&key).expect("signed");
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&key, &issuer).expect("signed");
    [authority.pem(), leaf.pem(), key.serialize_pem()]
}

/// The first certificate that is served for a name, as openssl sees it, where its chain leads to the authority.
fn served(address: &str, name: &str, root: &str) -> Option<String> {
    let checked = Command::new("openssl")
        .args(["s_client", "-connect", address, "-servername", name])
        .args(["-CAfile", root, "-verify_return_error"])
        .args(["-verify_hostname", name])
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let end = text.find("-----END CERTIFICATE-----")?;
    text.contains("Verify return code: 0 (ok)")
        .then(|| text[begin..end].to_owned())
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < GIVEN_MAX, "{what}");
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

#[test]
fn a_name_of_the_owners_gets_a_public_certificate_and_keeps_it() {
    if !have(&["pebble", "pebble-challtestsrv", "openssl", "curl"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path();
    let [api, management, dns, records] = ports();
    let [ca, certificate, key] = certified("127.0.0.1");
    let ca = written(here, "https-ca.pem", &ca);
    let certificate = written(here, "https.pem", &certificate);
    let key = written(here, "https.key", &key);
    let config = written(
        here,
        "pebble.json",
        &format!(
            r#"{{"pebble":{{"listenAddress":"127.0.0.1:{api}","managementListenAddress":"127.0.0.1:{management}",
            "certificate":"{certificate}","privateKey":"{key}","httpPort":1,"tlsPort":1}}}}"#
        ),
    );
    let (dns, records) = (format!("127.0.0.1:{dns}"), format!("127.0.0.1:{records}"));
    let _dns = Kept::new(
        "pebble-challtestsrv",
        &[
            "-dns01",
            &dns,
            "-management",
            &records,
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
        ],
        &[],
    );
    let _pebble = Kept::new(
        "pebble",
        &["-config", &config, "-dnsserver", &dns],
        &[("PEBBLE_VA_NOSLEEP", "1")],
    );
    let root = until("pebble does not start", || {
        let asked = Command::new("curl")
            .args(["-s", "--cacert", &ca])
            .arg(format!("https://127.0.0.1:{management}/roots/0"))
            .output()
            .expect("curl runs");
        let text = String::from_utf8(asked.stdout).ok()?;
        text.contains("BEGIN CERTIFICATE").then_some(text)
    });
    let root = written(here, "root.pem", &root);
    let log = here.join("hook.log");
    let hook = written(
        here,
        "hook",
        &format!(
            "#!/bin/sh\necho \"$*\" >>{log}\n\
             case $1 in present) verb=set-txt ;; cleanup) verb=clear-txt ;; *) exit 2 ;; esac\n\
             exec curl -sf -d \"{{\\\"host\\\":\\\"$2\\\",\\\"value\\\":\\\"$3\\\"}}\" http://{records}/$verb\n",
            log = log.display()
        ),
    );
    std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).expect("executable");
    let settings = written(
        here,
        "onebit.toml",
        &format!(
            "[acme]\nnames = [\"{NAME}\"]\nhook = \"{hook}\"\naccept_terms = true\nwait_s = 0\n\
             contact = \"ada@example.org\"\ndirectory = \"https://127.0.0.1:{api}/dir\"\n\
             [fetch]\nprivate_hosts = [\"127.0.0.1\"]\n"
        ),
    );
    let app = App::with_environment(&[("ONEBIT_CONFIG", &settings), ("SSL_CERT_FILE", &ca)]);
    let first = until("no certificate", || served(app.address(), NAME, &root));
    // The name is one of ours now, and others' names are not.
    let ask = |host: &str| app.client().with_header("Host", host).get("/health").status;
    assert_eq!((ask(NAME), ask("other.example.org")), (200, 421));
    let said = until("the record stays", || {
        let said = std::fs::read_to_string(&log).ok()?;
        said.contains("cleanup").then_some(said)
    });
    let calls: Vec<&str> = said.lines().collect();
    assert_eq!(calls.len(), 2, "{said}");
    let value = calls[0]
        .strip_prefix(&format!("present _acme-challenge.{NAME}. "))
        .expect("what to set");
    assert_eq!(calls[1], format!("cleanup _acme-challenge.{NAME}. {value}"));
    // Its key and the account's are ours alone, and a restart asks nobody.
    let mut kept = Vec::new();
    for file in [format!("named-{NAME}.pem"), "acme-account".to_owned()] {
        let path = app.data().join("trust").join(file);
        let mode = std::fs::metadata(&path).expect("kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        let mut text = String::new();
        std::fs::File::open(&path)
            .and_then(|mut file| file.read_to_string(&mut text))
            .expect("readable");
        kept.push(text);
    }
    let data = here.join("again");
    std::fs::create_dir_all(data.join("trust")).expect("a folder");
    written(&data.join("trust"), &format!("named-{NAME}.pem"), &kept[0]);
    let again = App::start(&data, &["--config", &settings]);
    assert_eq!(
        served(again.address(), NAME, &root).as_deref(),
        Some(first.as_str())
    );
    let calls = std::fs::read_to_string(&log).expect("the log");
    assert_eq!(calls.lines().count(), 2, "asked again: {calls}");
}

/// A tailscaled that has a certificate and knows the other machine.
fn tailscaled(socket: &Path, pair: String) {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut first = String::new();
            let copy = stream.try_clone().expect("a stream");
            let _ = BufReader::new(copy).read_line(&mut first);
            let path = first.split(' ').nth(1).unwrap_or_default();
            let verb = path.trim_start_matches("/localapi/v0/");
            let body = match verb.split(['?', '/']).next().unwrap_or_default() {
                "status" => format!(
                    r#"{{"BackendState":"Running","CertDomains":["{TAILNET_NAME}"],
                    "Self":{{"DNSName":"{TAILNET_NAME}.","TailscaleIPs":["100.64.0.9"]}}}}"#
                ),
                "whois" if path.contains(AWAY) => {
                    r#"{"Node":{"ComputedName":"pixel"},"UserProfile":{"LoginName":"ada@example.org"}}"#
                        .to_owned()
                }
                "cert" if path.ends_with(&format!("/{TAILNET_NAME}?type=pair")) => pair.clone(),
                _ => {
                    let _ = stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n");
                    continue;
                }
            };
            let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes());
        }
    });
}

#[test]
fn a_local_tailscaled_tells_our_name_who_comes_and_gives_a_certificate() {
    let Some(wire) = have(&["openssl"]).then(Wire::new).flatten() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("tailscaled.sock");
    let [ca, leaf, key] = certified(TAILNET_NAME);
    let root = written(folder.path(), "ca.pem", &ca);
    tailscaled(&socket, format!("{key}{leaf}{ca}"));
    let settings = format!("[mesh]\ntailscaled = \"{}\"\n", socket.display());
    let resident = wire.appliance(&settings);
    let address = format!("{HOME}:8443");
    until("no certificate", || {
        wire.away(|| served(&address, TAILNET_NAME, &root))
    });
    // Our own still speaks for home.
    let own = resident.data().join("trust/ca.pem").display().to_string();
    assert!(
        wire.away(|| served(&address, "onebit.local", &own))
            .is_some()
    );
    let away = wire.away(|| Client::new(&format!("{HOME}:8000")));
    let ask = |host: &str| wire.away(|| away.with_header("Host", host).get("/health").status);
    assert_eq!((ask(TAILNET_NAME), ask("other.t.ts.net")), (200, 421));
    // The owner is told who it is that waits.
    let owner = wire.at_home(|| Client::new("127.0.0.1:8000"));
    let opened = wire.at_home(|| owner.post("/onebit/pairing", &json!({ "scope": "chat" })));
    let claim = json!({ "code": opened.json()["code"], "name": "Pixel" });
    let claimed = wire.away(|| away.post("/onebit/pair", &claim));
    assert_eq!(claimed.status, 201, "{}", claimed.text());
    let waiting = wire.at_home(|| owner.get("/onebit/pairing")).json();
    assert_eq!(
        waiting["pairings"][0]["address"],
        format!("{AWAY} (ada@example.org, pixel)")
    );
}

#[test]
fn settings_that_no_authority_could_use_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for (settings, named) in [
        ("names = [\"box\"]", "acme.names"),
        (
            "names = [\"box.example.org\"]\nhook = \"hook\"",
            "acme.hook",
        ),
        (
            "names = [\"box.example.org\"]\nhook = \"/bin/true\"",
            "acme.accept_terms",
        ),
    ] {
        let file = written(
            folder.path(),
            "onebit.toml",
            &format!("[acme]\n{settings}\n"),
        );
        let refused = onebit_on(folder.path(), &["serve", "--config", &file]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(named), "{said}");
    }
}
