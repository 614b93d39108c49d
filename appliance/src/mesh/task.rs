//! The one task that moves the mesh's bytes: socket, tunnels, sockets inside, and back.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::netstack::{MeshStream, Netstack, Shared};
use super::wireguard::{DATAGRAM_MAX, Far, Outcome, Traffic, Tunnels};
use crate::store::Store;

/// How often WireGuard's timers are looked at; they count in seconds.
const TICK: Duration = Duration::from_millis(250);

/// Datagrams in one go, so that what they cause is sent before the socket overflows on the other side.
const BATCH: usize = 64;

/// What the system may keep for us while this task is busy; it gives what its limit allows.
const SOCKET_BYTES: usize = 4 << 20;

/// What the task is told.
pub(super) enum Command {
    /// A device has a tunnel.
    Put(Far, String, oneshot::Sender<()>),
    /// A device has none any more.
    Remove(String, oneshot::Sender<()>),
    /// How everybody is doing, and how many streams they have.
    Tell(oneshot::Sender<HashMap<u8, (Traffic, usize)>>),
    /// Nobody has a tunnel any more.
    Close(oneshot::Sender<()>),
}

/// What the task speaks to.
pub(super) struct Ends {
    pub(super) store: Store,
    pub(super) accepted: mpsc::Sender<MeshStream>,
    pub(super) commands: mpsc::Receiver<Command>,
}

/// Opens the port for both families, or for version 4 where there is no other.
pub(super) fn bind(port: u16) -> std::io::Result<UdpSocket> {
    let open = |ip: IpAddr| {
        let address = SocketAddr::new(ip, port);
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if ip.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        for set in [Socket::set_recv_buffer_size, Socket::set_send_buffer_size] {
            if let Err(error) = set(&socket, SOCKET_BYTES) {
                tracing::debug!(%error, "the mesh's socket keeps its size");
            }
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into())
    };
    match open(Ipv6Addr::UNSPECIFIED.into()) {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
            open(Ipv4Addr::UNSPECIFIED.into())
        }
        opened => opened,
    }
}

/// Everything that the mesh's bytes pass through.
pub(super) struct Task {
    socket: UdpSocket,
    /// Whether the socket takes addresses of version 4 in the clothes of version 6.
    mapped: bool,
    tunnels: Box<dyn Tunnels>,
    shared: Arc<Shared>,
    ends: Ends,
    names: HashMap<u8, String>,
    buffer: Vec<u8>,
    out: Outcome,
}

impl Task {
    pub(super) fn new(
        socket: UdpSocket,
        tunnels: Box<dyn Tunnels>,
        stack: Netstack,
        ends: Ends,
    ) -> Task {
        Task {
            mapped: socket.local_addr().is_ok_and(|own| own.is_ipv6()),
            socket,
            tunnels,
            shared: Arc::new(Shared::new(stack)),
            ends,
            names: HashMap::new(),
            buffer: vec![0; DATAGRAM_MAX],
            out: Outcome::default(),
        }
    }

    pub(super) fn put(&mut self, far: &Far, device: String) {
        self.tunnels.put(far);
        self.names.insert(far.number, device);
    }

    /// Runs until nobody can tell it anything any more.
    pub(super) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.tunnels.greet(&mut self.out);
        loop {
            self.pump().await;
            let shared = Arc::clone(&self.shared);
            let due = shared.stack().delay().map(|delay| Instant::now() + delay);
            tokio::select! {
                ready = self.socket.readable() => match ready {
                    Ok(()) => self.receive(),
                    Err(error) => tracing::debug!(%error, "the mesh's socket"),
                },
                () = shared.wake.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = tick.tick() => {
                    self.tunnels.tick(&mut self.out);
                }
                command = self.ends.commands.recv() => match command {
                    Some(Command::Close(done)) => {
                        self.send().await;
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.obey(command).await,
                    None => return,
                },
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Put(far, device, done) => {
                self.forget(far.number).await;
                self.put(&far, device);
                let _ = done.send(());
            }
            Command::Remove(device, done) => {
                let found = self.names.iter().find(|(_, name)| **name == device);
                if let Some((&number, _)) = found {
                    self.forget(number).await;
                }
                let _ = done.send(());
            }
            Command::Tell(tell) => {
                let stack = self.shared.stack();
                let of = |&number: &u8| {
                    let traffic = self.tunnels.traffic(number)?;
                    Some((number, (traffic, stack.streams(number))))
                };
                let _ = tell.send(self.names.keys().filter_map(of).collect());
            }
            Command::Close(done) => _ = done.send(()),
        }
    }

    /// Breaks a device's streams off, tells it so while it can still be told, and forgets it.
    async fn forget(&mut self, number: u8) {
        self.shared.stack().cut(number);
        self.pump().await;
        self.tunnels.remove(number);
        self.names.remove(&number);
    }

    /// Takes what has come, at most a batch of it.
    fn receive(&mut self) {
        for _ in 0..BATCH {
            let Ok((length, from)) = self.socket.try_recv_from(&mut self.buffer) else {
                break; // nothing more, or an old datagram's "nobody there"
            };
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let datagram = &self.buffer[..length];
            self.tunnels.receive(from, datagram, &mut self.out);
        }
        let mut stack = self.shared.stack();
        for (number, packet) in self.out.packets.drain(..) {
            stack.receive(number, packet);
        }
        drop(stack);
        self.save_places();
    }

    /// Lets streams send until they have nothing more, taking answers in between, and hands new ones on.
    async fn pump(&mut self) {
        loop {
            let (packets, more) = self.shared.stack().flush();
            for (number, packet) in packets {
                self.tunnels.send(number, &packet, &mut self.out);
            }
            self.send().await;
            self.hand_on();
            if !more {
                return;
            }
            self.receive();
            tokio::task::yield_now().await;
        }
    }

    async fn send(&mut self) {
        for (to, datagram) in self.out.datagrams.drain(..) {
            let to = match (to.ip(), self.mapped) {
                (IpAddr::V4(ip), true) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
                _ => to,
            };
            // A network that is gone for a moment loses datagrams; TCP inside sends them again.
            if let Err(error) = self.socket.send_to(&datagram, to).await {
                tracing::debug!(%error, %to, "a datagram was not sent");
            }
        }
    }

    fn hand_on(&mut self) {
        let opened = self.shared.stack().opened();
        for opened in opened {
            let Some(device) = self.names.get(&opened.number) else {
                continue;
            };
            let stream = MeshStream::new(&self.shared, &opened, device.clone());
            // A stream that nobody takes is dropped, which closes it.
            if self.ends.accepted.try_send(stream).is_err() {
                tracing::warn!(device, "a stream of the mesh was not taken in");
            }
        }
    }

    /// Writes down where devices are, so that a restart can greet them.
    fn save_places(&mut self) {
        if self.out.moved.is_empty() {
            return;
        }
        let named = |(number, place)| Some((self.names.get(&number)?.clone(), place));
        let places: Vec<_> = self.out.moved.drain(..).filter_map(named).collect();
        let store = self.ends.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.mesh().moved(places).await {
                tracing::warn!(%error, "where a device is was not written down");
            }
        });
    }
}
