//! What a service manager is told while we serve: ready, alive, stopping. The protocol is sd_notify(3)'s: one datagram
//! for each message, to the socket that `NOTIFY_SOCKET` names; nothing where there is none. And what it gives: sockets
//! that listen already, as sd_listen_fds(3) has them, which take connections while we restart.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use listenfd::ListenFd;

use super::Failed;
use super::client::Client;
use crate::config::Variables;

/// The listening sockets that a manager opened for us, in its order; none where it opened none.
///
/// # Errors
/// One of them is not a TCP socket.
pub(super) fn sockets() -> Result<Vec<TcpListener>, Failed> {
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::with_capacity(given.len());
    for i in 0..given.len() {
        let socket = given.take_tcp_listener(i).map_err(|error| {
            format!(
                "socket {i} of the service manager cannot be listened on: {error}; its unit needs ListenStream=ADDRESS:PORT"
            )
        })?;
        // Ours is a duplicate: unlike the original it does not pass to the engines that we start.
        sockets.extend(socket.map(|socket| socket.try_clone()).transpose()?);
    }
    Ok(sockets)
}

/// The service manager that started us, if one did.
pub(super) struct Service {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that we live.
    watchdog: Option<Duration>,
}

impl Service {
    /// Reads what the manager left in the environment.
    pub(super) fn find(variables: Variables<'_>) -> Service {
        let socket = variables("NOTIFY_SOCKET").and_then(|name| {
            let connected = connect(&name);
            if let Err(error) = &connected {
                tracing::warn!(%error, name, "the service manager cannot be told anything");
            }
            connected.ok()
        });
        let ours =
            variables("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = variables("WATCHDOG_USEC")
            .filter(|_| ours)
            .and_then(|text| text.parse().ok())
            .map(Duration::from_micros);
        Service { socket, watchdog }
    }

    /// The listeners and the store are open.
    pub(super) fn ready(&self) {
        self.say("READY=1\nSTATUS=answering");
    }

    /// No new requests are taken.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=running answers may finish");
    }

    /// Says again and again that we live, as long as our own `/health` answers; ends at once where nobody asked.
    pub(super) async fn keep_alive(&self, data: &Path) {
        let Some(within) = self.watchdog.filter(|_| self.socket.is_some()) else {
            return;
        };
        // Half of it, as sd_watchdog_enabled(3) advises.
        let mut beat = tokio::time::interval(within / 2);
        loop {
            beat.tick().await;
            match Client::find(data).await {
                Some(_) => self.say("WATCHDOG=1"),
                None => tracing::error!("our own /health does not answer"),
            }
        }
    }

    fn say(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::warn!(%error, message, "the service manager was not told");
        }
    }
}

/// A name that begins with @ is in the abstract namespace, which has no files.
fn connect(name: &str) -> std::io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not hold us up.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn messages_reach_files_and_abstract_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("onebit-test-{}", std::process::id());
        let sockets = [
            (
                UnixDatagram::bind(&path).unwrap(),
                path.display().to_string(),
            ),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap())
                    .unwrap(),
                format!("@{abstract_name}"),
            ),
        ];
        for (socket, name) in sockets {
            let service = Service::find(&|asked| (asked == "NOTIFY_SOCKET").then(|| name.clone()));
            service.ready();
            assert!(heard(&socket).starts_with("READY=1\n"));
            service.stopping();
            assert!(heard(&socket).starts_with("STOPPING=1\n"));
        }
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let service = Service::find(&|name| match name {
            "WATCHDOG_USEC" => Some("1000000".into()),
            "WATCHDOG_PID" => Some("1".into()),
            _ => None,
        });
        assert!(service.watchdog.is_none() && service.socket.is_none());
        service.ready();
    }
}
