//! One running child: who owns it, how its end is noticed, how it is stopped.
//!
//! A single task owns the kernel's handle. Everyone else holds a [`Child`], reads the exit from a watch
//! channel and asks for a stop by dropping it. If even that task is gone (runtime shut down), the drop
//! of the owned handle kills the group on the spot.

use std::os::fd::OwnedFd;
use std::process::{Child as StdChild, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, test_kill_process_group,
};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{mpsc, watch};

use super::log::Ring;
use super::progress::{Sample, Watch};
use super::{GRACE, Launcher, Pipes, ProcessError, Spec};

/// How a child ended, and when we knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    pub status: ExitStatus,
    /// Whether we had asked it to end.
    pub asked: bool,
    pub noticed: Instant,
    /// How long it lived.
    pub lived: Duration,
}

/// What a run-to-completion child left.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// The caller's ends of a talking child.
pub struct Talk {
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
}

/// A running child. Dropping it stops the child and its whole group.
pub struct Child {
    program: String,
    pid: u32,
    log: Arc<Ring>,
    exit: watch::Receiver<Option<Exit>>,
    stop: mpsc::Sender<Stop>,
    talk: Option<Talk>,
}

/// How a child is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Ask,
    Kill,
}

/// Between two samples while waiting: fine enough for a start of 30 ms, and nearly free.
const POLL_FIRST: Duration = Duration::from_millis(5);
/// The slowest polling of a long load.
const POLL_MAX: Duration = Duration::from_millis(100);

impl Child {
    pub(super) fn watch(
        launcher: Launcher,
        spec: Spec,
        mut started: StdChild,
    ) -> Result<Self, ProcessError> {
        let program = spec.name();
        let pid = started.id();
        let failed = |source: std::io::Error| ProcessError::Watch {
            program: program.clone(),
            source,
        };
        let streams = (
            started.stdin.take(),
            started.stdout.take(),
            started.stderr.take(),
        );
        // From here on the handle kills on drop, so an early return leaves nothing behind.
        let mut owned = Owned {
            child: started,
            launcher,
            reaped: false,
        };
        let group = owned
            .group()
            .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let pidfd = pidfd_open(group, PidfdFlags::empty()).map_err(|e| failed(e.into()))?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe; an OwnedFd never changes or closes underneath"
        )]
        let pidfd = AsyncFd::new(pidfd).map_err(failed)?;

        let log = Arc::new(Ring::default());
        let mut talk = None;
        let (stdin, stdout, stderr) = streams;
        if let Some(stderr) = stderr {
            let stderr = tokio::process::ChildStderr::from_std(stderr).map_err(failed)?;
            let log = log.clone();
            tokio::spawn(async move { log.fill(stderr).await });
        }
        let stdout = stdout
            .map(ChildStdout::from_std)
            .transpose()
            .map_err(failed)?;
        let stdin = stdin
            .map(ChildStdin::from_std)
            .transpose()
            .map_err(failed)?;
        match (spec.pipes, stdin, stdout) {
            (Pipes::Talk, Some(stdin), Some(stdout)) => talk = Some(Talk { stdin, stdout }),
            (_, _, Some(stdout)) => {
                let log = log.clone();
                tokio::spawn(async move { log.fill(stdout).await });
            }
            _ => {}
        }
        let (stop, asked) = mpsc::channel(1);
        let (told, exit) = watch::channel(None);
        let grace = if spec.grace.is_zero() {
            GRACE
        } else {
            spec.grace
        };
        tokio::spawn(async move {
            let exit = own(&mut owned, &pidfd, asked, grace).await;
            told.send_replace(exit);
        });
        Ok(Self {
            program,
            pid,
            log,
            exit,
            stop,
            talk,
        })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    #[must_use]
    pub fn log(&self) -> &Arc<Ring> {
        &self.log
    }

    /// The caller's ends of stdin and stdout, once, for a child started with [`Pipes::Talk`].
    pub fn talk(&mut self) -> Option<Talk> {
        self.talk.take()
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// A receiver that tells of the end; holding it does not keep the child alive.
    #[must_use]
    pub fn watch_exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.clone()
    }

    /// Waits for the end. `None` only when the runtime is shutting down.
    pub async fn wait(&self) -> Option<Exit> {
        let mut exit = self.exit.clone();
        exit.wait_for(Option::is_some).await.map_or(None, |e| *e)
    }

    /// Kills it without asking: it hangs anyway.
    pub async fn kill(&self) -> Option<Exit> {
        // A full channel means that somebody asked to end it already.
        let _ = self.stop.try_send(Stop::Kill);
        self.wait().await
    }

    /// Asks it to end (SIGTERM, SIGKILL after the grace) and waits until it has.
    pub async fn stop(&self) -> Option<Exit> {
        // A full channel means that somebody asked already.
        let _ = self.stop.try_send(Stop::Ask);
        self.wait().await
    }

    /// What it has done so far; `None` once it is gone.
    #[must_use]
    pub fn sample(&self) -> Option<Sample> {
        Sample::read(self.pid, self.log.count())
    }

    /// Polls `probe` until it says yes. Fails at once when the child ends, and when it has made no
    /// progress for `stall`; there is no other time limit.
    pub async fn ready<F>(
        &self,
        stall: Duration,
        mut probe: impl FnMut() -> F,
    ) -> Result<(), ProcessError>
    where
        F: Future<Output = bool>,
    {
        let mut watch = Watch::new(Instant::now());
        let mut pause = POLL_FIRST;
        let mut exit = self.exit.clone();
        loop {
            tokio::select! {
                biased;
                _ = exit.wait_for(Option::is_some) => return Err(self.died_starting()),
                ready = probe() => if ready { return Ok(()) },
            }
            if let Some(sample) = self.sample() {
                let idle = watch.idle(sample, Instant::now());
                if idle >= stall {
                    return Err(self.stalled(idle));
                }
            }
            tokio::select! {
                biased;
                _ = exit.wait_for(Option::is_some) => return Err(self.died_starting()),
                () = tokio::time::sleep(pause) => pause = (pause * 3 / 2).min(POLL_MAX),
            }
        }
    }

    /// Resolves once the child has made no progress for `stall` while `busy` says that it should;
    /// never while it works or has nothing to do.
    pub async fn hung(&self, stall: Duration, busy: impl Fn() -> Option<u64>) -> Duration {
        let mut watch = Watch::new(Instant::now());
        // Eight looks per limit notice a hang at most an eighth late.
        let pause = (stall / 8).max(POLL_FIRST);
        loop {
            tokio::time::sleep(pause).await;
            let now = Instant::now();
            match (busy(), self.sample()) {
                (Some(output), Some(sample)) => {
                    let output = sample.output.saturating_add(output);
                    let idle = watch.idle(Sample { output, ..sample }, now);
                    if idle >= stall {
                        return idle;
                    }
                }
                _ => watch = Watch::new(now),
            }
        }
    }

    pub(super) async fn collect(
        &mut self,
        max_bytes: usize,
        stall: Duration,
    ) -> Result<Output, ProcessError> {
        let Some(Talk { stdin, mut stdout }) = self.talk.take() else {
            return Err(ProcessError::Start {
                program: self.program.clone(),
                why: "its output is not ours".into(),
            });
        };
        drop(stdin);
        let mut bytes = Vec::new();
        let mut watch = Watch::new(Instant::now());
        loop {
            tokio::select! {
                read = stdout.read_buf(&mut bytes) => match read {
                    // The end, or a broken pipe, which the exit status explains better.
                    Ok(0) | Err(_) => break,
                    Ok(_) if bytes.len() > max_bytes => {
                        self.stop().await;
                        return Err(ProcessError::TooMuchOutput { program: self.program.clone(), max_bytes });
                    }
                    Ok(_) => {}
                },
                () = tokio::time::sleep(POLL_MAX) => {
                    let Some(sample) = self.sample() else { continue };
                    let idle = watch.idle(Sample { output: sample.output + bytes.len() as u64, ..sample }, Instant::now());
                    if idle >= stall {
                        self.stop().await;
                        return Err(self.stalled(idle));
                    }
                }
            }
        }
        let exit = self.wait().await.ok_or_else(|| self.died_starting())?;
        let stderr = self
            .log
            .after(0)
            .into_iter()
            .map(|line| line.text)
            .collect::<Vec<_>>()
            .join("\n");
        Ok(Output {
            status: exit.status,
            stdout: bytes,
            stderr,
        })
    }

    fn died_starting(&self) -> ProcessError {
        let exit = self
            .exit()
            .map_or_else(|| "unknown".into(), |e| e.status.to_string());
        ProcessError::DiedStarting {
            program: self.program.clone(),
            exit,
            last_line: self.log.last_line(),
        }
    }

    fn stalled(&self, idle: Duration) -> ProcessError {
        ProcessError::Stalled {
            program: self.program.clone(),
            idle,
            last_line: self.log.last_line(),
        }
    }
}

/// The kernel's handle. Whatever drops it kills and reaps.
struct Owned {
    child: StdChild,
    launcher: Launcher,
    reaped: bool,
}

impl Owned {
    /// The child leads its own group, so both have one number.
    fn group(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group() {
            // Fails only when nobody is left, which is fine.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Kills what is left of the group and takes the leader's status. The leader is dead or dying.
    fn reap(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.child.wait().ok();
        self.reaped = true;
        // Grandchildren may need a moment in the kernel; the guard keeps an eye on them until then.
        if self
            .group()
            .is_none_or(|group| test_kill_process_group(group).is_err())
        {
            self.launcher.tell_guard('-', self.child.id());
        }
        status
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !self.reaped {
            self.reap();
        }
    }
}

/// Owns the child until it ended: one select over "it ended" and "end it".
async fn own(
    owned: &mut Owned,
    pidfd: &AsyncFd<OwnedFd>,
    mut asked: mpsc::Receiver<Stop>,
    grace: Duration,
) -> Option<Exit> {
    let started = Instant::now();
    let mut was_asked = false;
    tokio::select! {
        biased;
        _ = pidfd.readable() => {}
        // Either a request or the last handle dropped.
        how = asked.recv() => {
            was_asked = how != Some(Stop::Kill);
            if !was_asked {
                owned.signal(Signal::KILL);
            }
            owned.signal(Signal::TERM);
            // A stopped process acts on nothing but SIGCONT and SIGKILL.
            owned.signal(Signal::CONT);
            let _ = tokio::time::timeout(grace, pidfd.readable()).await;
        }
    }
    let noticed = Instant::now();
    let status = owned.reap()?;
    Some(Exit {
        status,
        asked: was_asked,
        noticed,
        lived: noticed - started,
    })
}
