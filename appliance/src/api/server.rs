//! Listeners: bind all or say why not, tell https from http by the first byte, serve, and stop in order.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::router;
use crate::app::{App, MeshStream};

/// Time for a request's head, and for a handshake: slow phones need one, an attacker that sends a byte a minute
/// must not keep a connection.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// Connections at once. Each takes about 20 kB; browsers open six, a household some dozens.
const CONNECTIONS_MAX: usize = 4096;

/// Connections that may wait to be taken in: two thousand clients at once must not be reset. The kernel caps it by
/// `net.core.somaxconn`, which is 4,096 as well.
const BACKLOG: i32 = 4096;

/// What a TLS handshake begins with.
const TLS_FIRST: u8 = 0x16;

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
    /// A socket that was opened for us is no use.
    #[error("the socket that was handed over does not listen: {0}")]
    Given(#[source] std::io::Error),
}

/// How a connection came in; every request carries it.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// A socket of this machine.
    Socket {
        /// The other side.
        address: SocketAddr,
        /// Whether it is encrypted to our certificate.
        secure: bool,
    },
    /// A stream out of the built-in mesh.
    Mesh {
        /// The device whose key opened the tunnel.
        device: String,
        /// Its address inside.
        address: IpAddr,
    },
}

/// Bound listeners, not yet answering.
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Binds every address; one of IPv6 that is every address of a machine without IPv6 is left out.
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
            let listener = match listen(address) {
                Ok(listener) => listener,
                Err(error) if no_ipv6(address, &error) && addresses.len() > 1 => {
                    tracing::info!(%address, "this machine has no IPv6");
                    continue;
                }
                Err(error) => return Err(failed(error)),
            };
            server
                .addresses
                .push(listener.local_addr().map_err(failed)?);
            server.listeners.push(listener);
        }
        Ok(server)
    }

    /// Takes sockets that somebody else opened and that listen already.
    ///
    /// # Errors
    /// One of them is not of this kind.
    pub fn take(sockets: Vec<std::net::TcpListener>) -> Result<Server, ServeError> {
        let mut server = Server {
            listeners: Vec::new(),
            addresses: Vec::new(),
        };
        for socket in sockets {
            socket.set_nonblocking(true).map_err(ServeError::Given)?;
            let address = socket.local_addr().map_err(ServeError::Given)?;
            server.addresses.push(address);
            let listener = TcpListener::from_std(socket).map_err(ServeError::Given)?;
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
        let mesh = app.mesh_streams();
        let doorman = Doorman {
            tls: app
                .trust()
                .certificates()
                .server_config()
                .map(TlsAcceptor::from),
            router: router(app),
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            stopped,
        };
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            accepting.spawn(doorman.clone().accept(listener));
        }
        if let Some(streams) = mesh {
            accepting.spawn(doorman.clone().take_in(streams));
        }
        stop.await;
        stopping.send_replace(true);
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let drained = tokio::time::timeout(drain, async {
            while accepting.join_next().await.is_some() {}
            // Every connection holds a place until it has ended.
            doorman.places.acquire_many(all).await.is_ok()
        })
        .await;
        drained.unwrap_or(false)
    }
}

/// Binds one address. IPv6 takes IPv6 only, so that both families can be listed side by side.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the kernel to forget old connections.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn no_ipv6(address: SocketAddr, error: &std::io::Error) -> bool {
    let absent = matches!(
        error.kind(),
        std::io::ErrorKind::AddrNotAvailable | std::io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(97); // EAFNOSUPPORT
    address.is_ipv6() && address.ip().is_unspecified() && absent
}

/// What every connection needs.
#[derive(Clone)]
struct Doorman {
    tls: Option<TlsAcceptor>,
    router: Router,
    places: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

impl Doorman {
    async fn accept(mut self, listener: TcpListener) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                // The sender lives until all listeners have ended.
                () = stop(&mut self.stopped) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    tokio::spawn(self.clone().open(stream, address, place));
                }
                Err(error) => {
                    // Out of file descriptors, mostly: others have to end first.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Tells TLS by its first byte, which no HTTP method begins with.
    async fn open(self, stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
        // Each token is its own small packet; waiting to fill packets would make the text stutter.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "nodelay refused");
        }
        let mut first = [0];
        let peeked = tokio::time::timeout(HEAD_MAX, stream.peek(&mut first)).await;
        if !matches!(peeked, Ok(Ok(1))) {
            return;
        }
        let arrival = |secure| Arrival::Socket { address, secure };
        self.greet(stream, first[0], arrival, place).await;
    }

    /// Takes streams of the mesh, which are never dialled to a socket of ours: one from this machine would be the owner.
    async fn take_in(mut self, mut streams: mpsc::Receiver<MeshStream>) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return;
            };
            let stream = tokio::select! {
                () = stop(&mut self.stopped) => return,
                stream = streams.recv() => stream,
            };
            let Some(mut stream) = stream else { return };
            let doorman = self.clone();
            tokio::spawn(async move {
                let peeked = tokio::time::timeout(HEAD_MAX, stream.peek()).await;
                let Ok(Some(first)) = peeked else { return };
                let (device, address) = (stream.device().to_owned(), stream.address());
                let arrival = |_| Arrival::Mesh { device, address };
                doorman.greet(stream, first, arrival, place).await;
            });
        }
    }

    /// Serves a stream, through TLS where it begins so.
    async fn greet<S>(
        self,
        stream: S,
        first: u8,
        arrival: impl FnOnce(bool) -> Arrival,
        place: OwnedSemaphorePermit,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match &self.tls {
            Some(tls) if first == TLS_FIRST => {
                let shaken = tokio::time::timeout(HEAD_MAX, tls.accept(stream)).await;
                match shaken {
                    Ok(Ok(stream)) => self.serve(stream, arrival(true), place).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                    Err(_) => tracing::debug!("a handshake took too long"),
                }
            }
            _ => self.serve(stream, arrival(false), place).await,
        }
    }

    /// Speaks HTTP on a stream until either side ends it.
    async fn serve<S>(mut self, stream: S, arrival: Arrival, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _place = place;
        let router = self.router;
        let service =
            hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(arrival.clone());
                router.clone().call(request)
            });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stop(&mut self.stopped) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }
}

/// Resolves when the appliance stops taking connections.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
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

    #[tokio::test]
    async fn both_families_share_a_port() {
        let v4 = Server::bind(&["0.0.0.0:0".parse().unwrap()]).await.unwrap();
        let port = v4.addresses()[0].port();
        let v6 = Server::bind(&[SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port))]).await;
        assert!(!matches!(v6, Err(ServeError::InUse { .. })));
    }
}
