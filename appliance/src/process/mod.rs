//! Every child of the appliance: how it is started, boxed in, watched, stopped and never orphaned.
//!
//! Owns spawning. Must not know what a child is for: engines, extraction, compilers, MCP servers and
//! helper programs all come as a [`Spec`]. Speaking HTTP to a child is `engines/upstream`'s business.
//!
//! A child is started through a re-exec of our own binary (`onebit supervise`, see [`shim`]), which sets
//! the parent-death signal, the limits and the sandbox and then becomes the program. A second small
//! process ([`guard`]) kills whole groups when the appliance vanishes, so nothing outlives `kill -9`.

mod child;
pub mod guard;
pub mod keeper;
pub mod log;
pub mod progress;
pub mod shim;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child as StdChild, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;

pub use child::{Child, Exit, Output, Talk};

/// What went wrong with a child.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not there or may not be run.
    #[error("cannot start {program}: {why}")]
    Start { program: String, why: String },
    /// It ended before it answered its readiness probe.
    #[error("{program} stopped while starting ({exit}): {last_line}")]
    DiedStarting {
        program: String,
        exit: String,
        last_line: String,
    },
    /// It is alive, but neither logs, nor computes, nor answers.
    #[error("{program} made no progress for {} s: {last_line}", idle.as_secs())]
    Stalled {
        program: String,
        idle: Duration,
        last_line: String,
    },
    /// A run-to-completion child printed more than its caller allowed.
    #[error("{program} printed more than {max_bytes} bytes")]
    TooMuchOutput { program: String, max_bytes: usize },
    /// The kernel refused a call that watches children.
    #[error("cannot watch {program}: {source}")]
    Watch {
        program: String,
        source: std::io::Error,
    },
}

/// Raises this process's limit of open files to what the system allows: every client is one, and the usual 1,024 are
/// fewer than the streams that may run at once. Children get limits of their own.
///
/// # Errors
/// The system refuses.
pub fn allow_many_files() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// What a child is allowed to consume. `None` leaves the system's own limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Address space. Leave open for GPU engines: they map far more than they use.
    pub address_bytes: Option<u64>,
    /// CPU seconds, for helpers that must end.
    pub cpu_s: Option<u64>,
    /// Largest file it may write.
    pub file_bytes: Option<u64>,
    /// Open files.
    pub files: Option<u64>,
    /// Raise locked memory as far as our own hard limit allows (NPU and GPU buffers).
    pub memlock_max: bool,
}

/// Which folders a child may touch. `None` in [`Spec::sandbox`] means no sandbox at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// May be read and executed, with everything below.
    pub read: Vec<PathBuf>,
    /// May be read, written and created in, with everything below.
    pub write: Vec<PathBuf>,
    /// Fail the start where the kernel cannot enforce this (agents' tools), instead of going on without.
    pub required: bool,
}

impl Sandbox {
    /// What nearly every program needs to start: the system's libraries and configuration, and the
    /// device nodes of GPU and NPU.
    #[must_use]
    pub fn system() -> Self {
        let read = [
            "/usr", "/lib", "/lib64", "/bin", "/etc", "/opt", "/proc", "/sys",
        ];
        let write = ["/dev"];
        Self {
            read: read.iter().map(PathBuf::from).collect(),
            write: write.iter().map(PathBuf::from).collect(),
            required: false,
        }
    }

    /// Adds a folder or file that may be read.
    #[must_use]
    pub fn reading(mut self, path: impl Into<PathBuf>) -> Self {
        self.read.push(path.into());
        self
    }

    /// Adds a folder that may be written.
    #[must_use]
    pub fn writing(mut self, path: impl Into<PathBuf>) -> Self {
        self.write.push(path.into());
        self
    }
}

/// Where the child's standard streams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pipes {
    /// stdin is empty, stdout and stderr go to the log ring.
    #[default]
    Log,
    /// stdin and stdout belong to the caller ([`Child::talk`]), stderr goes to the log ring.
    Talk,
}

/// A child to be: plain data, so that an engine's `command` can be snapshot-tested.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// The whole environment besides [`BASE_ENV`]; nothing is inherited.
    pub env: Vec<(String, OsString)>,
    /// Working directory; the system's temporary directory by default.
    pub dir: Option<PathBuf>,
    pub limits: Limits,
    pub sandbox: Option<Sandbox>,
    /// Whether it may open TCP connections. Engines answer and never ask, so none of them can come to the appliance's
    /// own port, where a program of this machine is the owner. What it starts itself is bound as well.
    pub connects: bool,
    /// Ports that it may not connect to all the same, on any address.
    pub avoids: Vec<u16>,
    pub pipes: Pipes,
    /// Between SIGTERM and SIGKILL. Zero means [`GRACE`].
    pub grace: Duration,
}

impl Spec {
    /// A child with no arguments, a clean environment and no sandbox.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    #[must_use]
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = Some(sandbox);
        self
    }

    /// Lets it open TCP connections: for helpers that the owner calls and that fetch something.
    #[must_use]
    pub fn connecting(mut self) -> Self {
        self.connects = true;
        self
    }

    /// Lets it open TCP connections, but none to these ports: for programs that ask the network and not the appliance.
    #[must_use]
    pub fn connecting_but(mut self, ports: &[u16]) -> Self {
        self.avoids = ports.to_vec();
        self.connecting()
    }

    /// The file name of the program, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.program
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

/// What every child finds in its environment, and all it finds unless its [`Spec`] says more.
pub const BASE_ENV: [(&str, &str); 3] = [
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("LANG", "C.UTF-8"),
    ("HOME", "/nonexistent"),
];

/// How long a child may take to end after SIGTERM: llama-server frees its buffers in well under a
/// second, an engine writing a slot file needs a few.
pub const GRACE: Duration = Duration::from_secs(5);

/// Starts children. Cheap to clone; one for the life of the process. Itself it starts nothing before
/// the first child.
#[derive(Clone)]
pub struct Launcher {
    inner: Arc<Inner>,
}

struct Inner {
    shim: PathBuf,
    running: Mutex<Option<Running>>,
}

struct Running {
    /// Spawning happens on one thread that lives as long as the process, because the kernel sends the
    /// parent-death signal when the *thread* that spawned ends, and runtime threads come and go.
    spawner: mpsc::Sender<Order>,
    guard: Option<ChildStdin>,
}

struct Order {
    command: Command,
    reply: oneshot::Sender<std::io::Result<StdChild>>,
}

impl Running {
    /// Starts the spawning thread and the guard.
    fn start(shim: &Path) -> std::io::Result<Self> {
        let (spawner, orders) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for Order { mut command, reply } in orders {
                    // Whoever asked may be gone already; then the child goes too.
                    if let Err(Ok(mut unwanted)) = reply.send(command.spawn()) {
                        let _ = unwanted.kill();
                        let _ = unwanted.wait();
                    }
                }
            })?;
        let guard = Command::new(shim)
            .arg(guard::SUBCOMMAND)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: a Ctrl-C on the terminal must not take the guard first.
            .process_group(0)
            .spawn()?
            .stdin;
        Ok(Self { spawner, guard })
    }
}

impl Launcher {
    /// A launcher for the running program. The link leads to our executable even while an update
    /// replaces it.
    #[must_use]
    pub fn of_this_program() -> Self {
        Self::new("/proc/self/exe")
    }

    /// A launcher whose shim is `shim`: our own executable.
    #[must_use]
    pub fn new(shim: impl Into<PathBuf>) -> Self {
        Self {
            inner: Arc::new(Inner {
                shim: shim.into(),
                running: Mutex::default(),
            }),
        }
    }

    /// The way to the spawning thread, which is started where it is not running yet.
    fn spawner(&self) -> std::io::Result<mpsc::Sender<Order>> {
        let mut running = self
            .inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            return Ok(running.spawner.clone());
        }
        Ok(running
            .insert(Running::start(&self.inner.shim)?)
            .spawner
            .clone())
    }

    /// Starts `spec` in its own process group and watches it until it ends.
    pub async fn spawn(&self, spec: Spec) -> Result<Child, ProcessError> {
        let program = spec.name();
        let (reply, answer) = oneshot::channel();
        let order = Order {
            command: self.command(&spec),
            reply,
        };
        let failed = |e: std::io::Error| ProcessError::Start {
            program: program.clone(),
            why: e.to_string(),
        };
        let gone = || ProcessError::Start {
            program: program.clone(),
            why: "the spawning thread is gone".into(),
        };
        self.spawner()
            .map_err(failed)?
            .send(order)
            .map_err(|_| gone())?;
        let started = answer
            .await
            .map_err(|_| gone())?
            .map_err(|e| ProcessError::Start {
                program: program.clone(),
                why: e.to_string(),
            })?;
        self.tell_guard('+', started.id());
        Child::watch(self.clone(), spec, started)
    }

    /// Runs `spec` to its end and returns what it printed on stdout, at most `max_bytes`.
    /// A child that makes no progress for `stall` is killed.
    pub async fn run(
        &self,
        spec: Spec,
        max_bytes: usize,
        stall: Duration,
    ) -> Result<Output, ProcessError> {
        let mut child = self
            .spawn(Spec {
                pipes: Pipes::Talk,
                ..spec
            })
            .await?;
        child.collect(max_bytes, stall).await
    }

    fn command(&self, spec: &Spec) -> Command {
        let mut command = Command::new(&self.inner.shim);
        command.args(shim::arguments(spec, std::process::id()));
        command
            .env_clear()
            .envs(BASE_ENV)
            .envs(spec.env.iter().map(|(k, v)| (k, v)));
        command.current_dir(spec.dir.as_deref().unwrap_or(Path::new("/tmp")));
        command.stdin(if spec.pipes == Pipes::Talk {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        command
    }

    /// Tells the guard that a group began ('+') or ended ('-'). A dead guard is not fatal: the
    /// parent-death signal still covers the direct child.
    fn tell_guard(&self, what: char, group: u32) {
        let mut running = self
            .inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(running) = &mut *running else { return };
        let told = running
            .guard
            .as_mut()
            .map(|pipe| writeln!(pipe, "{what}{group}"));
        if matches!(told, Some(Err(_))) {
            running.guard = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_plain_data() {
        let spec = Spec::new("/usr/bin/env")
            .arg("-0")
            .args(["a", "b"])
            .env("K", "v")
            .dir("/tmp");
        assert_eq!(spec.name(), "env");
        assert_eq!(spec.args, ["-0", "a", "b"]);
        assert_eq!(spec, spec.clone());
    }

    #[test]
    fn the_system_sandbox_never_opens_a_home() {
        let sandbox = Sandbox::system();
        assert!(
            sandbox
                .read
                .iter()
                .chain(&sandbox.write)
                .all(|p| !p.starts_with("/home") && !p.starts_with("/root"))
        );
    }
}
