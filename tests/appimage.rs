//! The AppImage, and install.sh with it: started from awkward places, damaged, packed twice. `tests/run` builds it
//! and names it.

use std::fs::{self, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

use crate::support::root;

fn image() -> PathBuf {
    std::env::var_os("ONEBIT_TEST_APPIMAGE")
        .expect("ONEBIT_TEST_APPIMAGE is not set; run tests/run")
        .into()
}

/// Runs a program in a world of its own: nothing but PATH and what is given.
fn run(program: &Path, arguments: &[&str], environment: &[(&str, &Path)], here: &Path) -> Output {
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(environment.iter().copied())
        .current_dir(here)
        .output()
        .expect("it runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn copy_to(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    fs::copy(image(), &path).expect("it is there");
    path
}

/// Changes one byte of a file, counted from its start.
fn flip(path: &Path, at: u64) {
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("it is there");
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).expect("it is there");
    file.read_exact(&mut byte).expect("it is there");
    file.seek(SeekFrom::Start(at)).expect("it is there");
    file.write_all(&[byte[0] ^ 1]).expect("it is there");
}

#[test]
#[ignore = "needs the AppImage; tests/run builds it"]
fn it_runs_from_anywhere_and_unpacks_once() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let path = copy_to(folder.path(), "my own onebit.AppImage");
    for _ in 0..2 {
        let output = run(&path, &["--version"], &[("HOME", &home)], folder.path());
        assert_eq!(
            text(&output),
            format!("onebit {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
    let cache = home.join(".cache/onebit/appimage");
    assert_eq!(
        fs::metadata(&cache).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let unpacked = fs::read_dir(&cache)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(unpacked.count(), 1);
    // The exit code is the program's.
    let output = run(&path, &["--nonsense"], &[("HOME", &home)], folder.path());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    // Without a home it has a place of its own; one that cannot be written is passed over.
    let elsewhere = run(
        &path,
        &["--version"],
        &[("XDG_CACHE_HOME", Path::new("/proc"))],
        folder.path(),
    );
    assert!(elsewhere.status.success(), "{}", text(&elsewhere));
    // Its file may be read-only.
    fs::set_permissions(&path, Permissions::from_mode(0o555)).unwrap();
    let output = run(&path, &["--version"], &[("HOME", &home)], folder.path());
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
#[ignore = "needs the AppImage; tests/run builds it"]
fn what_is_unpacked_is_what_was_packed() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&image(), &["--appimage-extract"], &[], folder.path());
    assert!(output.status.success(), "{}", text(&output));
    let unpacked = folder.path().join("squashfs-root");
    let same = |inside: &str, source: &str| {
        fs::read(unpacked.join(inside)).unwrap() == fs::read(root().join(source)).unwrap()
    };
    assert!(same(
        "usr/lib/onebit/models/onebit-mini.gguf",
        "packaging/models/onebit-mini.gguf"
    ));
    assert!(same(".DirIcon", "web/public/icon-512.png"));
    assert!(same("usr/share/doc/onebit/LICENSE", "LICENSE"));
    assert!(
        fs::metadata(unpacked.join("usr/share/doc/onebit/NOTICES"))
            .unwrap()
            .len()
            > 100_000
    );

    // Another reader finds the same files at the offset that ours names.
    let offset = text(&run(&image(), &["--appimage-offset"], &[], folder.path()));
    let list = Command::new("unsquashfs")
        .args(["-o", offset.trim(), "-d", "again", "-n", "-q"])
        .arg(image())
        .current_dir(folder.path())
        .output()
        .expect("unsquashfs runs");
    assert!(list.status.success(), "{}", text(&list));
    let difference = Command::new("diff")
        .args(["-r", "--no-dereference", "squashfs-root", "again"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(text(&difference), "");
}

#[test]
#[ignore = "needs the AppImage; tests/run builds it"]
fn one_changed_byte_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_to(folder.path(), "damaged.AppImage");
    let length = fs::metadata(&path).unwrap().len();
    flip(&path, length / 2);
    let output = run(
        &path,
        &["--version"],
        &[("HOME", folder.path())],
        folder.path(),
    );
    assert!(!output.status.success());
    assert!(text(&output).contains("is damaged"), "{}", text(&output));
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(length - 1)
        .unwrap();
    let output = run(
        &path,
        &["--version"],
        &[("HOME", folder.path())],
        folder.path(),
    );
    assert!(text(&output).contains("cut short"), "{}", text(&output));
}

#[test]
#[ignore = "needs the AppImage; tests/run builds it"]
fn a_full_disk_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A file system of 8 MB in a mount namespace of its own; where that is not allowed, the limit on a file's
    // size fails a write in the same place.
    let script = r#"
        if unshare -rm true 2>/dev/null; then
            exec unshare -rm sh -c 'mount -t tmpfs -o size=8m none "$1" && XDG_CACHE_HOME=$1 "$2" --version; ls -A "$1/onebit/appimage" | grep -v lock' sh "$1" "$2"
        fi
        trap '' XFSZ; ulimit -f 8192; XDG_CACHE_HOME=$1 "$2" --version; ls -A "$1/onebit/appimage" | grep -v lock"#;
    let small = folder.path().join("small");
    fs::create_dir(&small).unwrap();
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&small)
        .arg(image())
        .env_remove("HOME")
        .output()
        .unwrap();
    let said = text(&output);
    assert!(said.contains("unpacking needs some"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
#[ignore = "needs the AppImage; tests/run builds it"]
fn packed_twice_it_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let again = folder.path().join("again.AppImage");
    let mut pack = Command::new(root().join("packaging/appimage/build"));
    // What cargo tells a test about its package is not the packer's: crates whose build looks at it would be built anew,
    // and again by whoever comes next.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        let package = ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"];
        if package.iter().any(|one| told.starts_with(one)) {
            pack.env_remove(name);
        }
    }
    let output = pack.arg(&again).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let hash = |path: &Path| Sha256::digest(fs::read(path).unwrap());
    assert_eq!(hash(&again), hash(&image()));
}

/// What desktops ask their own library of an AppImage.
#[test]
#[ignore = "needs the AppImage; tests/run builds it"]
fn libappimage_reads_it() {
    let script = r"
import ctypes, sys
library = ctypes.CDLL('libappimage.so.1.0abi1')
path = sys.argv[1].encode()
print(library.appimage_get_type(path, False))
library.appimage_list_files.restype = ctypes.POINTER(ctypes.c_char_p)
files = library.appimage_list_files(path)
i = 0
while files[i]:
    print(files[i].decode())
    i += 1
";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(image())
        .output()
        .unwrap();
    let said = text(&output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.first(), Some(&"2"), "{said}");
    for file in ["AppRun", ".DirIcon", "onebit.desktop", "usr/bin/onebit"] {
        assert!(lines.contains(&file), "{file} is missing: {said}");
    }
}

/// install.sh from the AppImage: installs, changes nothing the second time, refuses what is damaged or older, and
/// leaves nothing.
#[test]
#[ignore = "needs the AppImage; tests/run builds it"]
fn the_installer_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("prefix");
    let name = format!("onebit-{}-x86_64.AppImage", env!("CARGO_PKG_VERSION"));
    let file = copy_to(folder.path(), &name);
    let install = |more: &[&str]| {
        let mut arguments = vec![
            "--no-service",
            "--no-start",
            "--prefix",
            prefix.to_str().unwrap(),
        ];
        arguments.extend(more);
        run(
            &root().join("install.sh"),
            &arguments,
            &[("HOME", folder.path())],
            folder.path(),
        )
    };
    let image = ["--file", file.to_str().unwrap()];

    let output = install(&image);
    assert!(
        text(&output).contains("nothing says what"),
        "{}",
        text(&output)
    );
    assert!(!prefix.exists());

    let sums = text(&run(Path::new("sha256sum"), &[&name], &[], folder.path()));
    fs::write(folder.path().join("SHA256SUMS"), sums).unwrap();
    let output = install(&image);
    assert!(output.status.success(), "{}", text(&output));
    let program = prefix.join("bin/1bit");
    let output = run(&program, &["--version"], &[], folder.path());
    assert!(text(&output).starts_with("onebit "), "{}", text(&output));
    let tree = || {
        let output = run(
            Path::new("find"),
            &[prefix.to_str().unwrap(), "-printf", "%p %i %T@\n"],
            &[],
            folder.path(),
        );
        let mut lines: Vec<String> = text(&output).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = tree();
    let output = install(&image);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(tree(), before, "the second run changes nothing");

    // Over a loopback mirror, as `curl | sh` would fetch it.
    let channel = folder.path().join("mirror/stable");
    fs::create_dir_all(&channel).unwrap();
    for file in ["SHA256SUMS", name.as_str()] {
        fs::copy(folder.path().join(file), channel.join(file)).unwrap();
    }
    let mirror = format!("file://{}", folder.path().join("mirror").display());
    let output = install(&["--from", &mirror]);
    assert!(output.status.success(), "{}", text(&output));
    let output = install(&["--from", &mirror, "--version", "9.9.9"]);
    assert!(
        text(&output).contains("has no release 9.9.9"),
        "{}",
        text(&output)
    );
    flip(&channel.join(&name), 1_000_000);
    let output = install(&["--from", &mirror]);
    assert!(text(&output).contains("is damaged"), "{}", text(&output));
    assert_eq!(tree(), before, "a damaged release changes nothing");

    // A newer one is not replaced.
    fs::remove_file(prefix.join("bin/onebit")).unwrap();
    fs::write(prefix.join("bin/onebit"), "#!/bin/sh\necho onebit 99.0.0\n").unwrap();
    fs::set_permissions(prefix.join("bin/onebit"), Permissions::from_mode(0o755)).unwrap();
    let output = install(&image);
    assert!(
        text(&output).contains("99.0.0 is installed"),
        "{}",
        text(&output)
    );

    let output = install(&["--uninstall", "--purge"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!prefix.exists(), "{}", text(&output));
}
