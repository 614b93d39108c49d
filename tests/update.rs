//! `onebit update` against a loopback mirror: a signed release is installed, anything else changes nothing, and a
//! version that does not start is taken back. `tests/run` builds the AppImage that is installed first.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::root;

/// A folder of releases, its address, and the keys that it is signed with.
struct Mirror {
    folder: PathBuf,
    address: String,
    key: String,
}

impl Mirror {
    fn new(folder: PathBuf) -> Mirror {
        fs::create_dir_all(folder.join("stable")).expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let served = folder.clone();
        // It ends with this process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serve(stream, &served);
            }
        });
        let key = new_key(&folder, "release");
        Mirror {
            folder,
            address,
            key,
        }
    }

    /// Lists `image` as the release `version`, signed with the key called `signer`.
    fn release(&self, version: &str, image: &Path, signer: &str) {
        let channel = self.folder.join("stable");
        let name = format!("onebit-{version}-x86_64.AppImage");
        fs::copy(image, channel.join(&name)).expect("copied");
        let sums = Command::new("sha256sum")
            .arg(&name)
            .current_dir(&channel)
            .output()
            .expect("sha256sum runs");
        fs::write(channel.join("SHA256SUMS"), sums.stdout).expect("written");
        sign(&self.folder, signer);
    }
}

/// Makes a key pair without a password and returns its public half.
fn new_key(folder: &Path, name: &str) -> String {
    let made = Command::new("minisign")
        .args([
            "-G",
            "-W",
            "-f",
            "-p",
            &format!("{name}.pub"),
            "-s",
            &format!("{name}.key"),
        ])
        .current_dir(folder)
        .output()
        .expect("minisign runs; tests/run installs it");
    assert!(made.status.success(), "{}", text(&made));
    let public = fs::read_to_string(folder.join(format!("{name}.pub"))).expect("a key");
    public.lines().nth(1).expect("two lines").to_owned()
}

fn sign(folder: &Path, signer: &str) {
    let signed = Command::new("minisign")
        .args([
            "-S",
            "-s",
            &format!("{signer}.key"),
            "-m",
            "stable/SHA256SUMS",
        ])
        .current_dir(folder)
        .output()
        .expect("minisign runs");
    assert!(signed.status.success(), "{}", text(&signed));
}

fn serve(mut stream: TcpStream, folder: &Path) {
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    // What a client that hung up does not read is no matter of ours.
    let _ = reader.read_line(&mut line);
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
        header.clear();
    }
    let path = line
        .split(' ')
        .nth(1)
        .unwrap_or("/")
        .trim_start_matches('/')
        .to_owned();
    let _ = match File::open(folder.join(path)) {
        Ok(mut file) => {
            let length = file.metadata().map_or(0, |file| file.len());
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            stream
                .write_all(head.as_bytes())
                .and_then(|()| std::io::copy(&mut file, &mut stream).map(|_| ()))
        }
        Err(_) => stream
            .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
    };
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// An image in name: unpacks into a version that says 9.9.9 and cannot serve.
fn stillborn(path: &Path) {
    let script = format!(
        r#"#!/bin/sh
mkdir -p squashfs-root/usr/bin squashfs-root/usr/lib/onebit/models squashfs-root/usr/lib/onebit/systemd
cp '{0}/install.sh' squashfs-root/usr/lib/onebit/
cp '{0}/packaging/models/onebit-mini.gguf' squashfs-root/usr/lib/onebit/models/
printf '#!/bin/sh\n[ "$1" = --version ] && echo onebit 9.9.9 && exit\necho this version is broken >&2\nexit 1\n' >squashfs-root/usr/bin/onebit
chmod 755 squashfs-root/usr/bin/onebit
"#,
        root().display()
    );
    fs::write(path, script).expect("written");
}

#[test]
#[ignore = "needs the AppImage; tests/run builds it"]
fn only_a_signed_release_that_starts_stays() {
    let folder = tempfile::tempdir().unwrap();
    let image =
        PathBuf::from(std::env::var_os("ONEBIT_TEST_APPIMAGE").expect("tests/run builds it"));
    let mirror = Mirror::new(folder.path().join("mirror"));
    let prefix = folder.path().join("prefix");
    let data = prefix.join("var/lib/onebit");
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let installer = |more: &[&str]| {
        Command::new(root().join("install.sh"))
            .args([
                "--no-service",
                "--prefix",
                prefix.to_str().unwrap(),
                "--listen",
                &port.to_string(),
            ])
            .args(more)
            .env("HOME", folder.path())
            .output()
            .unwrap()
    };
    let sum = Command::new("sha256sum").arg(&image).output().unwrap();
    let sum = text(&sum).split(' ').next().unwrap().to_owned();
    let installed = installer(&["--file", image.to_str().unwrap(), "--sha256", &sum]);
    assert!(installed.status.success(), "{}", text(&installed));
    let settings = folder.path().join("onebit.toml");
    let host = mirror.address.trim_start_matches("http://");
    fs::write(
        &settings,
        format!(
            "[server]\nlisten = [\"{port}\"]\n[fetch]\nprivate_hosts = [\"{host}\"]\n[update]\nreleases = \"{}\"\nkey = \"{}\"\n",
            mirror.address, mirror.key
        ),
    )
    .unwrap();
    let update = |more: &[&str]| {
        Command::new(prefix.join("bin/onebit"))
            .args(["update", "--no-service", "--config"])
            .arg(&settings)
            .arg("--data")
            .arg(&data)
            .args(more)
            .env("HOME", folder.path())
            .output()
            .unwrap()
    };
    let program = || fs::read(prefix.join("bin/onebit")).unwrap();
    let pid = || fs::read_to_string(data.join("onebit.pid")).unwrap();
    let (before, first) = (program(), pid());
    let healthy = || TcpStream::connect(port).is_ok();
    assert!(healthy());

    // Nothing there; the same version; an older one.
    assert!(text(&update(&[])).contains("answered 404"));
    mirror.release(env!("CARGO_PKG_VERSION"), &image, "release");
    assert!(text(&update(&[])).contains("is the newest"));
    mirror.release("0.0.1", &image, "release");
    assert!(text(&update(&[])).contains("is the newest"), "no way back");

    // Signed by somebody else; changed after it was signed; an image that is not the one listed.
    new_key(&mirror.folder, "stranger");
    mirror.release("9.9.9", &image, "stranger");
    assert!(text(&update(&[])).contains("is not signed by the release key"));
    mirror.release("9.9.9", &image, "release");
    let list = mirror.folder.join("stable/SHA256SUMS");
    let changed = fs::read_to_string(&list).unwrap().replace("9.9.9", "9.9.8");
    fs::write(&list, changed).unwrap();
    assert!(text(&update(&[])).contains("is not signed by the release key"));
    mirror.release("9.9.9", &image, "release");
    fs::write(
        mirror.folder.join("stable/onebit-9.9.9-x86_64.AppImage"),
        "not it",
    )
    .unwrap();
    let output = update(&[]);
    assert!(
        text(&output).contains("nothing was changed"),
        "{}",
        text(&output)
    );
    assert_eq!(
        (program() == before, pid()),
        (true, first.clone()),
        "nothing was touched so far"
    );

    // A version that does not start: the old one serves again.
    let broken = folder.path().join("broken");
    stillborn(&broken);
    fs::set_permissions(&broken, Permissions::from_mode(0o755)).unwrap();
    mirror.release("9.9.9", &broken, "release");
    assert!(text(&update(&["--check"])).contains("9.9.9 can be had"));
    let output = update(&[]);
    assert!(!output.status.success());
    assert!(
        text(&output).contains("the version before it serves again"),
        "{}",
        text(&output)
    );
    assert!(program() == before && healthy());

    // And one that does.
    mirror.release("9.9.9", &image, "release");
    let again = pid();
    let output = update(&[]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("is now 9.9.9"), "{}", text(&output));
    assert!(healthy(), "{again} became {}", pid());
    assert!(
        !data.join("downloads/update").exists() && !prefix.join("bin/onebit.previous").exists()
    );

    let removed = installer(&["--uninstall", "--purge"]);
    assert!(
        removed.status.success() && !prefix.exists(),
        "{}",
        text(&removed)
    );
}
