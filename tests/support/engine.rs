//! Finding and starting the fake engine.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use onebit::process::{Child, Launcher, Spec};

/// The fake engine's program, built beside the test binary by plain `cargo test`.
pub(crate) fn fake_engine() -> PathBuf {
    let onebit = Path::new(env!("CARGO_BIN_EXE_onebit"));
    let path = onebit.with_file_name("examples").join("fake_engine");
    assert!(
        path.exists(),
        "{} is missing: run `cargo build -p onebit --examples` first",
        path.display()
    );
    path
}

/// Puts the fake engine where the appliance on `data` looks for `program`, with arguments of the test's own.
pub(crate) fn install(data: &Path, program: &str, args: &str) {
    let folder = data.join("engines").join(program).join("current");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(program);
    std::fs::copy(fake_engine(), &path).unwrap();
    std::fs::write(path.with_extension("args"), args).unwrap();
}

pub(crate) fn launcher() -> Launcher {
    Launcher::new(env!("CARGO_BIN_EXE_onebit"))
}

/// A folder of this test's own, removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("onebit-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts the fake engine on a socket in `folder` with `args`.
pub(crate) async fn start(launcher: &Launcher, folder: &Folder, args: &[&str]) -> (Child, PathBuf) {
    let socket = folder.0.join("engine.sock");
    let _ = std::fs::remove_file(&socket);
    let mut spec = Spec::new(fake_engine())
        .arg("--host")
        .arg(&socket)
        .args(args.iter().copied());
    spec.grace = Duration::from_millis(300);
    (launcher.spawn(spec).await.unwrap(), socket)
}

/// Whether the socket answers `/health` with 200: the smallest real probe.
pub(crate) async fn healthy(socket: &Path) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut stream) = tokio::net::UnixStream::connect(socket).await else {
        return false;
    };
    if stream
        .write_all(b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n")
        .await
        .is_err()
    {
        return false;
    }
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.is_ok() && &head == b"HTTP/1.1 200"
}

/// Whether any process of this number is alive (a zombie is not).
pub(crate) fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
