//! What a service manager hears: a fake one, that is a socket, starts the real program and stops it.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
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
