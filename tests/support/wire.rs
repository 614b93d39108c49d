//! Two machines on one wire: the appliance in a network namespace, the test in another.
//!
//! Both namespaces live as long as the helper that holds them, whose input is ours: not even a killed test run leaves
//! one behind.
#![allow(clippy::print_stdout, reason = "a test that does nothing says so")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::app::binary;
use super::cache;

/// Moves this thread into a namespace: the sockets that it opens from now on are there.
fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("a thread may move");
}

/// The appliance's address.
pub(crate) const HOME: &str = "192.168.77.1";
/// The other machine's.
pub(crate) const AWAY: &str = "192.168.77.2";
/// The other machine's, where a router stands between the two: that of nobody in particular.
pub(crate) const ABROAD: &str = "11.0.0.2";
/// The router's outside.
pub(crate) const OUTSIDE: &str = "11.0.0.1";
/// The appliance's address of version 6 behind a router that has any, which everybody reaches where its firewall lets them.
pub(crate) const HOME6: &str = "2a0f:77::1";

/// An appliance that says nothing for so long does not start.
const START_MAX: Duration = Duration::from_secs(60);

/// Whoever kills this test kills what runs below this script.
const GUARD: &str = r#"exec 3<&0; "$@" </dev/null & pid=$!; trap 'kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null' EXIT TERM; echo "pid $pid"; read -r _ <&3; exit 0"#;

/// Who runs the appliance.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// Whoever runs the test.
    Us,
    /// Nobody, without a single right and no way to any.
    Nobody,
}

/// The number of the user who owns nothing.
const NOBODY: u32 = 65534;

/// One machine of the two.
pub(crate) struct Machine {
    holder: Child,
}

impl Machine {
    /// `None` where this user or this system may not make one.
    fn new() -> Option<Machine> {
        let mut holder = Command::new("unshare")
            .args([
                "--net",
                "sh",
                "-c",
                // Addresses that become valid seconds later would interrupt whoever is talking already.
                "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; ip link set lo up && echo up && read -r _",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take()?)
            .read_line(&mut line)
            .ok()?;
        if line.trim() != "up" {
            let _ = holder.wait();
            return None;
        }
        Some(Machine { holder })
    }

    /// A command inside.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--net", "--target", &self.holder.id().to_string(), "--"])
            .arg(program);
        command
    }

    /// A program that lasts as long as the value that is returned, whose output is at its second part.
    pub(crate) fn keep(&self, program: &str, arguments: &[&str]) -> (Kept, mpsc::Receiver<String>) {
        let mut child = self
            .command("sh")
            .args(["-c", GUARD, "sh", program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter runs");
        let said = Arc::default();
        let (found, lines) = mpsc::channel();
        follow(child.stdout.take().expect("piped"), &said, found.clone());
        follow(child.stderr.take().expect("piped"), &said, found);
        (Kept(child), lines)
    }

    pub(crate) fn ip(&self, line: &str) -> bool {
        let status = self.command("ip").args(line.split(' ')).status();
        status.is_ok_and(|status| status.success())
    }

    fn namespace(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("the namespace is there")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A program that ends with this value.
pub(crate) struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(mut input) = self.0.stdin.take() {
            let _ = input.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}

/// The two machines and what joins them.
pub(crate) struct Wire {
    home: Machine,
    away: Machine,
}

impl Wire {
    /// Two machines that reach each other by IPv4 and IPv6 and nothing else. `None`, said loudly, where namespaces
    /// are not permitted.
    pub(crate) fn new() -> Option<Wire> {
        let made = Wire::make();
        if made.is_none() {
            println!("SKIPPED: network namespaces are not permitted here");
        }
        made
    }

    fn make() -> Option<Wire> {
        let (home, away) = (Machine::new()?, Machine::new()?);
        let joined = home.ip(&format!(
            "link add wire type veth peer name wire netns {}",
            away.holder.id()
        ));
        if !joined {
            return None;
        }
        for (machine, last) in [(&home, 1), (&away, 2)] {
            for line in [
                format!("addr add 192.168.77.{last}/24 dev wire"),
                format!("addr add fd77::{last}/64 dev wire nodad"),
                "link set wire up".to_owned(),
                "route add 224.0.0.0/4 dev wire".to_owned(),
            ] {
                assert!(machine.ip(&line), "ip {line}");
            }
        }
        Some(Wire { home, away })
    }

    /// Two machines with a router between them; the appliance's is behind it. `None` as above.
    pub(crate) fn with_router(outside: &str) -> Option<(Wire, Machine)> {
        let machines = (Machine::new(), Machine::new(), Machine::new());
        let (Some(home), Some(router), Some(away)) = machines else {
            println!("SKIPPED: network namespaces are not permitted here");
            return None;
        };
        let id = router.holder.id();
        for (machine, name) in [(&home, "lan"), (&away, "wan")] {
            let line = format!("link add wire type veth peer name {name} netns {id}");
            assert!(machine.ip(&line), "ip {line}");
        }
        let steps: [(&Machine, &[&str]); 3] = [
            (
                &home,
                &[
                    "addr add 192.168.77.1/24 dev wire",
                    "link set wire up",
                    "route add default via 192.168.77.254",
                ],
            ),
            (
                &router,
                &[
                    "addr add 192.168.77.254/24 dev lan",
                    &format!("addr add {outside}/24 dev wan"),
                    "link set lan up",
                    "link set wan up",
                ],
            ),
            (
                &away,
                &[
                    &format!("addr add {ABROAD}/24 dev wire"),
                    "link set wire up",
                ],
            ),
        ];
        for (machine, lines) in steps {
            for line in lines {
                assert!(machine.ip(line), "ip {line}");
            }
        }
        let forward = router
            .command("sh")
            .args(["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])
            .status();
        assert!(forward.is_ok_and(|status| status.success()));
        Some((Wire { home, away }, router))
    }

    /// Gives the three machines version 6 as well: addresses that need no translation, and a router that announces nothing.
    pub(crate) fn with_version_6(&self, router: &Machine) {
        let steps: [(&Machine, &[&str]); 3] = [
            (
                &self.home,
                &[
                    &format!("addr add {HOME6}/64 dev wire nodad"),
                    "-6 route add default via fe80::fe dev wire",
                ],
            ),
            (
                router,
                &[
                    "addr add fe80::fe/64 dev lan nodad",
                    "addr add 2a0f:77::fe/64 dev lan nodad",
                    "addr add 2a0f:88::fe/64 dev wan nodad",
                ],
            ),
            (
                &self.away,
                &[
                    "addr add 2a0f:88::2/64 dev wire nodad",
                    "-6 route add default via 2a0f:88::fe dev wire",
                ],
            ),
        ];
        for (machine, lines) in steps {
            for line in lines {
                assert!(machine.ip(line), "ip {line}");
            }
        }
        let forward = router
            .command("sh")
            .args(["-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"])
            .status();
        assert!(forward.is_ok_and(|status| status.success()));
    }

    /// Does something on the other machine: every socket that `work` opens is opened there.
    pub(crate) fn away<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.inside(&self.away, work)
    }

    /// Does something beside the appliance.
    pub(crate) fn at_home<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.inside(&self.home, work)
    }

    fn inside<T: Send>(&self, machine: &Machine, work: impl FnOnce() -> T + Send) -> T {
        let namespace = machine.namespace();
        let done = std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                enter(&namespace);
                work()
            });
            thread.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts something on the other machine that goes on until this process ends.
    pub(crate) fn leave_away(&self, work: impl FnOnce() + Send + 'static) {
        let namespace = self.away.namespace();
        std::thread::spawn(move || {
            enter(&namespace);
            work();
        });
    }

    /// A command on the other machine.
    pub(crate) fn command_away(&self, program: &str) -> Command {
        self.away.command(program)
    }

    /// The other machine.
    pub(crate) fn other(&self) -> &Machine {
        &self.away
    }

    /// Starts the appliance with `settings` and nothing on its command line but its folder.
    pub(crate) fn appliance(&self, settings: &str) -> Resident {
        self.appliance_as(As::Us, settings)
    }

    /// The same as somebody.
    pub(crate) fn appliance_as(&self, user: As, settings: &str) -> Resident {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("onebit.toml"), settings).expect("written");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("a folder");
        if user == As::Nobody {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(folder.path(), open).expect("its own folder");
            std::os::unix::fs::chown(&data, Some(NOBODY), Some(NOBODY)).expect("given away");
            let own = folder.path().join("onebit");
            // Its build folder may be one that nobody can enter.
            if std::fs::hard_link(binary(), &own).is_err() {
                std::fs::copy(binary(), &own).expect("a copy");
            }
        }
        self.appliance_in(folder, user)
    }

    /// Starts the appliance on a folder that another one has left.
    pub(crate) fn appliance_in(&self, folder: tempfile::TempDir, user: As) -> Resident {
        let (data, file) = (
            folder.path().join("data"),
            folder.path().join("onebit.toml"),
        );
        let mut command = self.home.command("sh");
        command.args(["-c", GUARD, "sh"]);
        match user {
            As::Us => _ = command.arg(binary()),
            As::Nobody => {
                let number = NOBODY.to_string();
                command
                    .args(["setpriv", "--reuid", &number, "--regid", &number])
                    .args(["--clear-groups", "--no-new-privs"])
                    .args(["--bounding-set=-all", "--inh-caps=-all"])
                    .arg(folder.path().join("onebit"));
            }
        }
        let mut guard = command
            .args(["serve", "--data"])
            .arg(&data)
            .arg("--config")
            .arg(&file)
            .env("ONEBIT_LOG_LEVEL", "debug")
            .env(
                "ONEBIT_DOCUMENTS_EMBEDDER",
                cache().join("models/all-minilm-l6-v2"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter runs");
        let said = Arc::new(Mutex::new(String::new()));
        let (found, lines) = mpsc::channel();
        follow(guard.stdout.take().expect("piped"), &said, found.clone());
        follow(guard.stderr.take().expect("piped"), &said, found);
        let mut pid = 0;
        loop {
            let line = lines.recv_timeout(START_MAX).unwrap_or_else(|_| {
                panic!(
                    "the appliance does not start: {}",
                    said.lock().expect("whole")
                )
            });
            if let Some(number) = line.strip_prefix("pid ") {
                pid = number.parse().expect("a number");
            }
            if line.contains("on this network") {
                break;
            }
        }
        Resident {
            guard,
            pid,
            data,
            file,
            said,
            folder: Some(folder),
        }
    }

    /// Runs a command of ours beside the appliance.
    pub(crate) fn onebit(&self, resident: &Resident, arguments: &[&str]) -> Output {
        self.home
            .command(binary())
            .args(arguments)
            .arg("--data")
            .arg(&resident.data)
            .arg("--config")
            .arg(&resident.file)
            .stdin(Stdio::null())
            .output()
            .expect("onebit runs")
    }
}

fn follow(from: impl Read + Send + 'static, said: &Arc<Mutex<String>>, to: mpsc::Sender<String>) {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut said = said.lock().expect("whole");
            said.push_str(&line);
            said.push('\n');
            drop(said);
            let _ = to.send(line);
        }
    });
}

/// A running appliance on a wire.
pub(crate) struct Resident {
    guard: Child,
    pid: u32,
    data: PathBuf,
    file: PathBuf,
    said: Arc<Mutex<String>>,
    folder: Option<tempfile::TempDir>,
}

impl Resident {
    /// The data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// All that it has printed and logged, at level debug.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("whole").clone()
    }

    /// Kills it, and gives what it leaves behind.
    pub(crate) fn kill(mut self) -> tempfile::TempDir {
        self.folder.take().expect("there until now")
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(self) {
        let process = rustix::process::Pid::from_raw(self.pid as i32).expect("a process");
        let signal = rustix::process::Signal::TERM;
        rustix::process::kill_process(process, signal).expect("it runs");
        let begun = std::time::Instant::now();
        while Path::new(&format!("/proc/{}/exe", self.pid)).exists()
            && std::fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok()
        {
            assert!(begun.elapsed() < START_MAX, "it does not stop");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// A line of what the kernel says about it.
    pub(crate) fn status(&self, key: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("alive");
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.expect("such a line")
            .trim_start_matches(':')
            .trim()
            .to_owned()
    }

    /// Bytes of memory that it has used at most.
    pub(crate) fn memory_max(&self) -> u64 {
        let line = self.status("VmHWM");
        let kib = line
            .split(' ')
            .next()
            .and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("kilobytes") << 10
    }

    /// The TCP ports that anything beside it listens on.
    pub(crate) fn listening(&self) -> Vec<u16> {
        // 0A: it listens.
        self.ports(["tcp", "tcp6"], |state| state == "0A")
    }

    /// The UDP ports that are open beside it.
    pub(crate) fn datagram_ports(&self) -> Vec<u16> {
        self.ports(["udp", "udp6"], |_| true)
    }

    fn ports(&self, tables: [&str; 2], wanted: impl Fn(&str) -> bool) -> Vec<u16> {
        let mut ports = Vec::new();
        for table in tables {
            let text = std::fs::read_to_string(format!("/proc/{}/net/{table}", self.pid))
                .expect("a table");
            for line in text.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                if wanted(fields[3]) {
                    let port = fields[1].rsplit(':').next().expect("a port");
                    ports.push(u16::from_str_radix(port, 16).expect("hexadecimal"));
                }
            }
        }
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        if let Some(mut input) = self.guard.stdin.take() {
            let _ = input.write_all(b"\n");
        }
        let _ = self.guard.wait();
    }
}
