//! What a service manager hears and gives: a fake one, that is a socket, starts the real program and stops it.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::app::binary;

/// Long enough for a debug build on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[test]
fn ready_alive_and_stopping_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let heard = || {
        let mut bytes = [0; 256];
        let length = socket
            .recv(&mut bytes)
            .expect("the manager hears something");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut program = Command::new(binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .env("XDG_CONFIG_HOME", folder.path())
        .env("ONEBIT_MODELS_BUILTIN", "false")
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("WATCHDOG_USEC", "200000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();

    assert!(heard().starts_with("READY=1"));
    assert_eq!(heard(), "WATCHDOG=1");
    assert_eq!(heard(), "WATCHDOG=1");
    let pid = Pid::from_raw(program.id().try_into().unwrap()).unwrap();
    // A stopped program cannot say that it lives.
    kill_process(pid, Signal::STOP).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(600)))
        .unwrap();
    let mut bytes = [0; 256];
    // One beat may have been on its way.
    while socket.recv(&mut bytes).is_ok() {}
    kill_process(pid, Signal::CONT).unwrap();
    socket.set_read_timeout(Some(WAIT_MAX)).unwrap();
    assert_eq!(heard(), "WATCHDOG=1");

    kill_process(pid, Signal::TERM).unwrap();
    let last = std::iter::from_fn(|| Some(heard())).find(|message| message != "WATCHDOG=1");
    assert!(last.is_some_and(|message| message.starts_with("STOPPING=1")));
    assert!(program.wait().unwrap().success());
}

/// Starts the appliance as a manager with a socket unit does: descriptor 3 is `socket`, and meant for this process.
fn activated(data: &Path, socket: impl Into<OwnedFd>) -> Child {
    Command::new("sh")
        .args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null",
        ])
        .arg(binary())
        .args(["serve", "--listen", "127.0.0.1:1", "--data"])
        .arg(data)
        .env("XDG_CONFIG_HOME", data)
        .env("ONEBIT_MODELS_BUILTIN", "false")
        .stdin(Stdio::from(socket.into()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_socket_of_the_managers_takes_connections_while_we_restart() {
    let folder = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    for round in 0..2 {
        // Nobody serves: the connection is taken and the request waits.
        let mut waiting = TcpStream::connect(address).unwrap();
        waiting.set_read_timeout(Some(WAIT_MAX)).unwrap();
        waiting
            .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut program = activated(folder.path(), socket.try_clone().unwrap());
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "round {round}: {answer}"
        );
        let pid = Pid::from_raw(program.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(program.wait().unwrap().success());
    }
}

#[test]
fn what_is_no_socket_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let program = activated(folder.path(), File::open("/dev/null").unwrap());
    let output = program.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("ListenStream="), "{error}");
}
