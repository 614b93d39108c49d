//! A phone as its WireGuard app makes it: Debian's `wireguard-go` on the other machine of a wire.
#![allow(clippy::print_stdout, reason = "a test that does nothing says so")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::wire::{Kept, Wire};

/// A program that does not come up in so long does not come up.
const START_MAX: Duration = Duration::from_secs(20);

/// Whether everything that these tests need of others is here; says loudly what is not.
pub(crate) fn have(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs
        .iter()
        .filter(|program| {
            let found = Command::new("sh")
                .args(["-c", "command -v \"$1\"", "sh", program])
                .stdout(Stdio::null())
                .status();
            !found.is_ok_and(|status| status.success())
        })
        .collect();
    if !missing.is_empty() {
        println!("SKIPPED: these programs are not here: {missing:?}");
    }
    missing.is_empty()
}

/// Reads a QR code as a camera does: the drawing as the page draws it, dark and light, to zbar.
pub(crate) fn scan(picture: &Value, folder: &Path) -> String {
    const SCALE: usize = 4;
    let size = picture["size"].as_u64().expect("a size") as usize;
    let mut pixels = vec![255; size * size * SCALE * SCALE];
    let path = picture["path"].as_str().expect("a path");
    for run in path.split('M').skip(1) {
        let (at, rest) = run.split_once('h').expect("a run");
        let (x, y) = at.split_once(' ').expect("a place");
        let (length, _) = rest.split_once('v').expect("a length");
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let (x, y, length) = (number(x), number(y), number(length));
        for row in y * SCALE..(y + 1) * SCALE {
            let start = row * size * SCALE + x * SCALE;
            pixels[start..start + length * SCALE].fill(0);
        }
    }
    let file = folder.join("code.pgm");
    let mut bytes = format!("P5 {0} {0} 255\n", size * SCALE).into_bytes();
    bytes.extend(pixels);
    std::fs::write(&file, bytes).expect("written");
    let read = Command::new("zbarimg")
        .args(["--quiet", "--raw", "-Sdisable", "-Sqrcode.enable"])
        .arg(&file)
        .output()
        .expect("zbarimg runs");
    assert!(read.status.success(), "zbar sees no code");
    String::from_utf8(read.stdout).expect("text")
}

/// The value of a key in the app's settings.
pub(crate) fn value<'a>(settings: &'a str, key: &str) -> &'a str {
    let line = settings
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    line.unwrap_or_else(|| panic!("no {key}"))
}

/// A phone whose tunnel is on.
pub(crate) struct Phone {
    name: String,
    _engine: Kept,
}

impl Phone {
    /// Takes the app's settings and turns the tunnel on.
    pub(crate) fn new(wire: &Wire, settings: &str) -> Phone {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ob{}x{number}", std::process::id());
        let machine = wire.other();
        let (engine, _) = machine.keep("wireguard-go", &["--foreground", &name]);
        let socket = PathBuf::from(format!("/var/run/wireguard/{name}.sock"));
        let begun = Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed() < START_MAX, "wireguard-go does not start");
            std::thread::park_timeout(Duration::from_millis(10));
        }
        // What the app keeps to itself is the interface's; the rest is WireGuard's.
        let plain: String = settings
            .lines()
            .filter(|line| !line.starts_with("Address") && !line.starts_with("MTU"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let mut set = machine
            .command("wg")
            .args(["setconf", &name, "/dev/stdin"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("wg runs");
        let mut input = set.stdin.take().expect("piped");
        input.write_all(plain.as_bytes()).expect("read");
        drop(input);
        assert!(set.wait().expect("it ends").success(), "{plain}");
        for address in value(settings, "Address").split(", ") {
            assert!(machine.ip(&format!("addr add {address} dev {name}")));
        }
        let mtu = value(settings, "MTU");
        assert!(machine.ip(&format!("link set {name} mtu {mtu} up")));
        for to in value(settings, "AllowedIPs").split(", ") {
            assert!(machine.ip(&format!("route add {to} dev {name}")));
        }
        Phone {
            name,
            _engine: engine,
        }
    }

    /// Changes something of the tunnel, as another network or an attacker would.
    pub(crate) fn set(&self, wire: &Wire, arguments: &[&str]) {
        let mut command = wire.other().command("wg");
        let status = command.args(["set", &self.name]).args(arguments).status();
        assert!(status.is_ok_and(|status| status.success()), "{arguments:?}");
    }

    /// Bytes that have come through the tunnel's socket.
    pub(crate) fn received(&self, wire: &Wire) -> u64 {
        let mut command = wire.other().command("wg");
        let shown = command.args(["show", &self.name, "transfer"]).output();
        let shown = shown.expect("wg runs").stdout;
        let line = String::from_utf8_lossy(&shown).into_owned();
        let received = line.split_whitespace().nth(1);
        received.and_then(|n| n.parse().ok()).expect("a number")
    }
}
