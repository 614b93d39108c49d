//! Listeners: bind all or say why not, serve, and stop in order.

use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::router;
use crate::app::App;

/// Why the appliance cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody else has the port.
    #[error(
        "{address} is in use by another program; stop it, or choose another address with --listen"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system refuses the address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// Bound listeners, not yet answering.
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Binds every address.
    ///
    /// # Errors
    /// The first address that cannot be had; the others are given back.
    pub async fn bind(addresses: &[SocketAddr]) -> Result<Server, ServeError> {
        let mut server = Server {
            listeners: Vec::new(),
            addresses: Vec::new(),
        };
        for &address in addresses {
            let failed = |source: std::io::Error| match source.kind() {
                std::io::ErrorKind::AddrInUse => ServeError::InUse { address },
                _ => ServeError::Listen { address, source },
            };
            let listener = listen(address).map_err(failed)?;
            server
                .addresses
                .push(listener.local_addr().map_err(failed)?);
            server.listeners.push(listener);
        }
        Ok(server)
    }

    /// The addresses as bound: port 0 has become a real one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Answers until `stop` resolves; then takes no new connections and gives running answers
    /// `drain` to finish. Returns whether all of them did.
    pub async fn run(self, app: App, stop: impl Future<Output = ()>, drain: Duration) -> bool {
        let (stopping, stopped) = watch::channel(false);
        let mut serving = JoinSet::new();
        for listener in self.listeners {
            let mut stopped = stopped.clone();
            // Each token is its own small packet; waiting to fill packets would make the text stutter.
            let listener = listener.tap_io(|stream| {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "nodelay refused");
                }
            });
            let service = router(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
            serving.spawn(async move {
                let wait = async move {
                    // The sender lives until all servers have ended.
                    let _ = stopped.wait_for(|stop| *stop).await;
                };
                axum::serve(listener, service)
                    .with_graceful_shutdown(wait)
                    .await
            });
        }
        stop.await;
        stopping.send_replace(true);
        let drained = tokio::time::timeout(drain, async {
            while serving.join_next().await.is_some() {}
        })
        .await;
        drained.is_ok()
    }
}

/// Connections that may wait to be taken in: two thousand clients at once must not be reset. The kernel caps it by
/// `net.core.somaxconn`, which is 4,096 as well.
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart finds the port although old connections are still ending.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = Server::bind(&["127.0.0.1:0".parse().unwrap()])
            .await
            .unwrap();
        let error = Server::bind(first.addresses()).await.err().unwrap();
        assert!(matches!(error, ServeError::InUse { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains(&first.addresses()[0].to_string())
        );
    }
}
