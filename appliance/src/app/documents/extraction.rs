//! Reading one foreign file in a child: boxed in by Landlock, with limits of time and memory.

use std::path::Path;
use std::time::Duration;

use super::{App, LibraryError};
use crate::domain::document::Text;
use crate::domain::library::Trouble;
use crate::process::{Limits, Pipes, ProcessError, Sandbox, Spec};
use crate::rag::child::{SUBCOMMAND, read};

/// A child that neither computes nor writes for this long hangs.
const STALL: Duration = Duration::from_secs(30);

/// Most that a child may print: the largest text, escaped, with room for what readers print themselves.
const OUTPUT_BYTES_MAX: usize = 160 << 20;

impl App {
    /// The text of a kept file, or why there is none. Dropping the future ends the child.
    pub(in super::super) async fn extract(&self, file: &Path, name: &str) -> Result<Text, Trouble> {
        let settings = &self.inner.config.documents;
        let mut spec = Spec::new("/proc/self/exe")
            .arg(SUBCOMMAND)
            .arg(file)
            .arg(name);
        spec.limits = Limits {
            address_bytes: Some(settings.reader_memory_bytes_max),
            cpu_s: Some(settings.reader_seconds_max),
            file_bytes: Some(0),
            ..Limits::default()
        };
        spec.sandbox = Some(sandbox(file));
        spec.pipes = Pipes::Talk;
        let run = self
            .inner
            .library
            .launcher
            .run(spec, OUTPUT_BYTES_MAX, STALL)
            .await;
        let output = match run {
            Ok(output) => output,
            Err(ProcessError::Stalled { .. }) => return Err(too_slow(settings.reader_seconds_max)),
            Err(ProcessError::TooMuchOutput { .. }) => {
                return Err(trouble(
                    "too_large",
                    "the file unfolds to more text than is read; split it",
                ));
            }
            Err(error) => {
                let why = format!("the reader could not be started ({error}); try again");
                return Err(trouble("reader", &why));
            }
        };
        if let Some(result) = read(&output.stdout) {
            return result;
        }
        use std::os::unix::process::ExitStatusExt;
        // The kernel sends SIGXCPU at the limit and SIGKILL a second later.
        match (output.status.signal(), output.status.code()) {
            (Some(SIGXCPU | SIGKILL), _) => Err(too_slow(settings.reader_seconds_max)),
            (Some(SIGABRT), _)
                if output.stderr.contains("allocation") || output.stderr.contains("memory") =>
            {
                let megabytes = settings.reader_memory_bytes_max >> 20;
                let why = format!(
                    "reading it takes more than {megabytes} MiB of memory (documents.reader_memory_bytes_max); split it or raise the limit"
                );
                Err(trouble("too_large", &why))
            }
            (_, Some(127)) => {
                let why = format!(
                    "the reader could not be started ({}); try again",
                    last_line(&output.stderr)
                );
                Err(trouble("reader", &why))
            }
            _ => {
                tracing::warn!(
                    name,
                    stderr = last_line(&output.stderr),
                    "a document's reader crashed"
                );
                Err(trouble(
                    "broken",
                    "its reader crashed on it; open it in its own program and save it again",
                ))
            }
        }
    }
}

/// Signal numbers of Linux.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;

/// Our own program with its libraries, and the one file.
pub(super) fn sandbox(file: &Path) -> Sandbox {
    let mut sandbox = Sandbox::default();
    let program = std::fs::read_link("/proc/self/exe").ok();
    for path in [
        "/usr",
        "/lib",
        "/lib64",
        "/etc/ld.so.cache",
        "/proc/self",
        "/dev/null",
    ] {
        sandbox = sandbox.reading(path);
    }
    for path in program.into_iter().chain([file.to_owned()]) {
        sandbox = sandbox.reading(path);
    }
    sandbox
}

fn too_slow(seconds: u64) -> Trouble {
    let why = format!(
        "reading it takes longer than {seconds} s of computing (documents.reader_seconds_max); split it or raise the limit"
    );
    trouble("too_slow", &why)
}

pub(super) fn trouble(kind: &str, message: &str) -> Trouble {
    Trouble {
        kind: kind.to_owned(),
        message: message.to_owned(),
    }
}

fn last_line(text: &str) -> &str {
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing")
}

impl From<LibraryError> for Trouble {
    fn from(error: LibraryError) -> Trouble {
        error.trouble()
    }
}
