//! install.sh really installing, a program in name only: killed before every step, told to stop, and with a firewall.
//! The commands that it finds are links that we chose, so that no test reaches this machine's own firewall.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::root;

/// What install.sh calls on its way from an image to an installation.
const COMMANDS: [&str; 33] = [
    "awk",
    "basename",
    "cat",
    "chmod",
    "cmp",
    "cp",
    "cut",
    "df",
    "dirname",
    "env",
    "getconf",
    "getent",
    "grep",
    "head",
    "id",
    "install",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "tail",
    "uname",
];
/// Those of them that change files.
const STEPS: [&str; 5] = ["chmod", "cp", "ln", "mkdir", "mv"];

/// A machine to install on: its commands, its prefix, and what its fakes wrote down.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        let machine = Machine {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(machine.path("bin")).unwrap();
        for name in COMMANDS {
            symlink(real(name), machine.path("bin").join(name)).unwrap();
        }
        // Whoever runs the tests may be no root; nothing here needs more rights.
        machine.fake("sudo", "exec \"$@\"");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fake(&self, name: &str, body: &str) {
        let path = self.path("bin").join(name);
        let _ = fs::remove_file(&path);
        script(&path, body);
    }

    /// An image that unpacks into a program that says `version`; `rest` is what the program does otherwise.
    fn image(&self, version: &str, rest: &str) -> PathBuf {
        let path = self.path(&format!("onebit-{version}-x86_64.AppImage"));
        let body = format!(
            "mkdir -p squashfs-root/usr/bin squashfs-root/usr/lib/onebit/models squashfs-root/usr/lib/onebit/engines\n\
             echo model {version} >squashfs-root/usr/lib/onebit/models/onebit-mini.gguf\n\
             echo engine {version} >squashfs-root/usr/lib/onebit/engines/llama-server\n\
             cat >squashfs-root/usr/bin/onebit <<'end'\n#!/bin/sh\n[ \"$1\" = --version ] && echo 'onebit {version}' && exit\n{rest}\nend\n\
             chmod 755 squashfs-root/usr/bin/onebit"
        );
        script(&path, &body);
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .arg(root().join("install.sh"))
            .args(["--no-service", "--listen", "0.0.0.0:8123", "--prefix"])
            .arg(self.path("prefix"))
            .args(arguments)
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.folder.path())
            .env("LOG", self.path("log"))
            .env("COUNT", self.path("count"));
        command
    }

    fn install(&self, image: &Path, more: &[&str]) -> Command {
        let sum = Command::new("sha256sum").arg(image).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        let sum = sum.split(' ').next().unwrap();
        let mut arguments = vec!["--file", image.to_str().unwrap(), "--sha256", sum];
        arguments.extend(more);
        self.command(&arguments)
    }

    /// What the installed program says it is.
    fn version(&self) -> String {
        let said = Command::new(self.path("prefix/bin/onebit"))
            .arg("--version")
            .output();
        said.map_or_else(
            |error| error.to_string(),
            |said| String::from_utf8_lossy(&said.stdout).trim().to_owned(),
        )
    }

    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        log.lines().map(str::to_owned).collect()
    }
}

fn real(name: &str) -> PathBuf {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .map(|folder| Path::new(folder).join(name))
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("no {name} on this machine"))
}

fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Killed before the n-th change, a copy half written: what stands is the old version or the new one, whole, and the
/// next run completes it.
#[test]
fn killed_at_every_step_a_whole_version_stands() {
    let mut killed = 0;
    for n in 1.. {
        let machine = Machine::new();
        let (old, new) = (machine.image("0.0.1", ""), machine.image("0.0.2", ""));
        let first = machine.install(&old, &["--no-start"]).output().unwrap();
        assert!(first.status.success(), "{}", text(&first));
        assert_eq!(machine.version(), "onebit 0.0.1");

        for name in STEPS {
            let half = match name {
                "cp" => "for last do :; done; printf half >\"$last\"; ",
                _ => "",
            };
            machine.fake(
                name,
                &format!(
                    "n=$(($(cat \"$COUNT\") + 1)); echo $n >\"$COUNT\"\n[ $n -ne {n} ] || {{ {half}kill -9 $PPID; exit 1; }}\nexec {} \"$@\"",
                    real(name).display()
                ),
            );
        }
        fs::write(machine.path("count"), "0\n").unwrap();
        let broken = machine.install(&new, &["--no-start"]).output().unwrap();
        let whole = ["onebit 0.0.1", "onebit 0.0.2"].contains(&machine.version().as_str());
        assert!(whole, "step {n}: {}\n{}", machine.version(), text(&broken));
        let finished = broken.status.success();
        killed += usize::from(!finished);

        fs::write(machine.path("count"), "1000\n").unwrap();
        let again = machine.install(&new, &["--no-start"]).output().unwrap();
        assert!(again.status.success(), "step {n}: {}", text(&again));
        assert_eq!(machine.version(), "onebit 0.0.2", "step {n}");
        let gone = machine
            .command(&["--uninstall", "--purge"])
            .output()
            .unwrap();
        assert!(gone.status.success(), "{}", text(&gone));
        assert!(!machine.path("prefix").exists(), "step {n} left something");
        if finished {
            break;
        }
    }
    assert!(killed >= 15, "only {killed} steps were interrupted");
}

/// Told to stop while the new version does not answer yet, the old one serves again, also when nobody reads how.
#[test]
fn told_to_stop_it_goes_back() {
    let machine = Machine::new();
    let serves = "[ \"$1\" != serve ] || exec sleep 20\n";
    let old = machine.image("0.0.1", serves);
    let new = machine.image("0.0.2", &format!("{serves}exit 1"));
    let first = machine.install(&old, &["--no-start"]).output().unwrap();
    assert!(first.status.success(), "{}", text(&first));
    let mut installer = machine
        .install(&new, &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(installer.stdout.take().unwrap()).lines();
    let pid = Pid::from_raw(installer.id().try_into().unwrap()).unwrap();
    let mut said = Vec::new();
    for line in lines {
        said.push(line.unwrap());
        if said.last().unwrap().contains("starting in the background") && said.len() < 100 {
            kill_process(pid, Signal::TERM).unwrap();
        }
        if said.last().unwrap().contains("going back") {
            break; // which closes the pipe
        }
    }
    let output = installer.wait_with_output().unwrap();
    assert!(
        text(&output).contains("interrupted; the version before it serves again"),
        "{said:?} {}",
        text(&output)
    );
    assert_eq!(machine.version(), "onebit 0.0.1");
}

#[test]
fn a_firewall_is_opened_when_asked_and_closed_again() {
    const FIREWALLD: &str = "echo firewall-cmd \"$@\" >>\"$LOG\"";
    const STOPPED: &str = "exit 252";
    const UFW: &str = "echo ufw \"$@\" >>\"$LOG\"";
    let nets = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
    let ufw = |verb: &str| {
        let mut lines = nets
            .map(|net| format!("ufw {verb} proto tcp from {net} to any port 8123"))
            .to_vec();
        // Phones come from anywhere.
        lines.push(format!("ufw {verb} 51820/udp"));
        lines
    };
    let firewalld = |verb: &str| {
        [
            "--state".to_owned(),
            format!("--permanent --{verb}-port=8123/tcp"),
            format!("--permanent --{verb}-port=51820/udp"),
            "--permanent --add-service=mdns".to_owned(),
            "--reload".to_owned(),
        ]
        .into_iter()
        .filter(|rest| verb == "add" || !rest.contains("mdns"))
        .map(|rest| format!("firewall-cmd -q {rest}"))
        .collect::<Vec<_>>()
    };
    type Case<'c> = (&'c [(&'c str, &'c str)], Vec<String>, Vec<String>);
    let cases: [Case<'_>; 4] = [
        (
            &[("firewall-cmd", FIREWALLD), ("ufw", UFW)],
            firewalld("add"),
            firewalld("remove"),
        ),
        (
            &[("firewall-cmd", STOPPED), ("ufw", UFW)],
            ufw("allow"),
            ufw("delete allow"),
        ),
        (&[("ufw", UFW)], ufw("allow"), ufw("delete allow")),
        (&[], vec![], vec![]),
    ];
    for (fakes, opened, closed) in cases {
        let machine = Machine::new();
        for (name, body) in fakes {
            machine.fake(name, body);
        }
        let image = machine.image("0.0.1", "");
        let unasked = machine.install(&image, &["--no-start"]).output().unwrap();
        assert!(unasked.status.success(), "{}", text(&unasked));
        assert!(machine.log().is_empty(), "{fakes:?} unasked");
        let asked = machine
            .install(&image, &["--no-start", "--open-firewall"])
            .output()
            .unwrap();
        assert!(asked.status.success(), "{}", text(&asked));
        assert_eq!(machine.log(), opened, "{fakes:?}");
        assert_eq!(
            text(&asked).contains("no firewall was changed"),
            opened.is_empty(),
            "{}",
            text(&asked)
        );
        let gone = machine.command(&["--uninstall"]).output().unwrap();
        assert!(gone.status.success(), "{}", text(&gone));
        assert_eq!(machine.log(), closed, "{fakes:?} {}", text(&gone));
    }
}
