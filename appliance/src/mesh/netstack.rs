//! TCP inside the tunnels: smoltcp over packets, and its streams as tokio knows them.
//!
//! Only our own addresses and the appliance's own ports are answered: a device gets this machine, not the network
//! around it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Bytes of a packet inside. With 80 of WireGuard's around them they fit every path that phones use.
pub(super) const MTU: usize = 1280;

/// Each way of each stream. Twice of what 20 MB/s with 5 ms of delay have under way.
const BUFFER_BYTES: usize = 256 << 10;

/// Streams of all devices at once.
const STREAMS_MAX: usize = 512;

/// Streams of one device: a page has six, and some more while it reloads.
const DEVICE_STREAMS_MAX: usize = 128;

/// Packets that wait to be sent before sockets have to wait.
const SENDING_MAX: usize = 64;

/// A device that has not answered for so long is gone; its streams end.
const SILENCE_MAX: Duration = Duration::from_secs(180);
/// How often an idle stream asks whether the other side is there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// What was written before a stream was closed has this long to arrive.
const CLOSING_MAX: Duration = Duration::from_secs(60);

/// Who has which address inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    network: Ipv4Addr,
    prefix: [u8; 8],
}

/// Our number.
const OURS: u8 = 1;

impl Addresses {
    /// `network` ends in 0; the prefix of version 6 is made of our public key, so that no two appliances share it.
    pub(super) fn new(network: Ipv4Addr, public: &[u8; 32]) -> Addresses {
        let mut prefix = [0xfd, 0, 0, 0, 0, 0, 0, 0];
        prefix[1..8].copy_from_slice(&public[..7]);
        Addresses { network, prefix }
    }

    /// Both addresses of a number.
    pub(super) fn of(&self, number: u8) -> (Ipv4Addr, Ipv6Addr) {
        let [a, b, c, _] = self.network.octets();
        let mut six = [0; 16];
        six[..8].copy_from_slice(&self.prefix);
        six[15] = number;
        (Ipv4Addr::new(a, b, c, number), Ipv6Addr::from(six))
    }

    /// Our own.
    pub(super) fn ours(&self) -> (Ipv4Addr, Ipv6Addr) {
        self.of(OURS)
    }

    /// Whose address it is.
    fn number(&self, ip: IpAddr) -> Option<u8> {
        let last = match ip {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[15],
        };
        let (four, six) = self.of(last);
        (ip == IpAddr::V4(four) || ip == IpAddr::V6(six)).then_some(last)
    }
}

/// What matters of a packet before TCP reads it.
struct Head {
    from: IpAddr,
    to: IpAddr,
    /// The ports of a stream that it opens: theirs and ours.
    opens: Option<(u16, u16)>,
}

fn head(packet: &[u8]) -> Option<Head> {
    let (from, to, protocol, payload): (IpAddr, IpAddr, _, _) = match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            (
                ip.src_addr().into(),
                ip.dst_addr().into(),
                ip.next_header(),
                ip.payload(),
            )
        }
        6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            (
                ip.src_addr().into(),
                ip.dst_addr().into(),
                ip.next_header(),
                ip.payload(),
            )
        }
        _ => return None,
    };
    let tcp = match protocol {
        IpProtocol::Tcp => TcpPacket::new_checked(payload).ok(),
        _ => None,
    };
    let opens = tcp
        .filter(|tcp| tcp.syn() && !tcp.ack() && !tcp.rst())
        .map(|tcp| (tcp.src_port(), tcp.dst_port()));
    Some(Head { from, to, opens })
}

/// The packets that smoltcp takes and gives.
#[derive(Default)]
struct Queue {
    received: Option<Vec<u8>>,
    sending: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let written = write(&mut packet);
        self.0.push(packet);
        written
    }
}

impl Device for Queue {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let packet = self.received.take()?;
        Some((Received(packet), Sending(&mut self.sending)))
    }

    /// Refuses while enough waits: sockets then wait, and nothing is lost.
    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        (self.sending.len() < SENDING_MAX).then_some(Sending(&mut self.sending))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

/// How far a socket has come.
enum Phase {
    /// A device has begun to open it.
    Opening,
    /// A stream has it.
    Open,
    /// Its stream is gone; what was written still goes out, until then.
    Closing(std::time::Instant),
}

struct Held {
    number: u8,
    phase: Phase,
}

/// A stream that has just been opened.
pub(super) struct Opened {
    handle: SocketHandle,
    /// By which device.
    pub(super) number: u8,
    /// Its address inside.
    pub(super) address: IpAddr,
}

/// The sockets of all devices.
pub(super) struct Netstack {
    addresses: Addresses,
    ports: Vec<u16>,
    interface: Interface,
    queue: Queue,
    sockets: SocketSet<'static>,
    held: HashMap<SocketHandle, Held>,
}

fn now() -> Instant {
    std::time::Instant::now().into()
}

impl Netstack {
    /// `seed` makes sequence numbers hard to guess.
    pub(super) fn new(addresses: Addresses, ports: Vec<u16>, seed: u64) -> Netstack {
        let mut queue = Queue::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut queue, now());
        let (four, six) = addresses.ours();
        interface.update_ip_addrs(|own| {
            for cidr in [IpCidr::new(four.into(), 24), IpCidr::new(six.into(), 64)] {
                // There is room for two.
                let _ = own.push(cidr);
            }
        });
        Netstack {
            addresses,
            ports,
            interface,
            queue,
            sockets: SocketSet::new(Vec::new()),
            held: HashMap::new(),
        }
    }

    /// Takes a packet that came out of a device's tunnel. One that claims another address than the device's, or goes
    /// anywhere but to us, is dropped.
    pub(super) fn receive(&mut self, number: u8, packet: Vec<u8>) {
        let Some(head) = head(&packet) else { return };
        let (four, six) = self.addresses.ours();
        let is_theirs = number != OURS && self.addresses.number(head.from) == Some(number);
        if !is_theirs || ![IpAddr::V4(four), IpAddr::V6(six)].contains(&head.to) {
            return;
        }
        let listener = head
            .opens
            .and_then(|(theirs, ours)| self.listen(number, (head.from, theirs), ours));
        self.queue.received = Some(packet);
        let _ = self
            .interface
            .poll_ingress_single(now(), &mut self.queue, &mut self.sockets);
        if let Some(handle) = listener {
            let socket = self.sockets.get::<Socket<'_>>(handle);
            match socket.state() {
                // The packet was not what it seemed.
                State::Listen | State::Closed => _ = self.sockets.remove(handle),
                _ => {
                    let phase = Phase::Opening;
                    self.held.insert(handle, Held { number, phase });
                }
            }
        }
    }

    /// A socket for one opening packet: there is no backlog to fill, and none that waits for nobody.
    fn listen(
        &mut self,
        number: u8,
        (address, theirs): (IpAddr, u16),
        port: u16,
    ) -> Option<SocketHandle> {
        let remote = (address, theirs).into();
        let mut of_device = 0;
        for (&handle, held) in &self.held {
            of_device += usize::from(held.number == number);
            let socket = self.sockets.get::<Socket<'_>>(handle);
            if socket.remote_endpoint() == Some(remote) && socket.state() != State::TimeWait {
                return None; // sent again, since our answer has not arrived
            }
        }
        if !self.ports.contains(&port)
            || self.held.len() >= STREAMS_MAX
            || of_device >= DEVICE_STREAMS_MAX
        {
            return None;
        }
        let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        // Without it one answer floods the phone's socket and crawls ever after.
        socket.set_congestion_control(CongestionControl::Cubic);
        // Each token is its own small packet.
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(SILENCE_MAX.into()));
        socket.set_keep_alive(Some(KEEP_ALIVE.into()));
        socket.listen(port).ok()?;
        Some(self.sockets.add(socket))
    }

    /// Lets sockets send; returns packets for devices, and whether there may be more.
    pub(super) fn flush(&mut self) -> (Vec<(u8, Vec<u8>)>, bool) {
        let at = now();
        self.interface.poll_maintenance(at);
        loop {
            let polled = self
                .interface
                .poll_egress(at, &mut self.queue, &mut self.sockets);
            if polled == PollResult::None || self.queue.sending.len() >= SENDING_MAX {
                break;
            }
        }
        let full = self.queue.sending.len() >= SENDING_MAX;
        let packets = std::mem::take(&mut self.queue.sending);
        let addressed = packets
            .into_iter()
            .filter_map(|packet| Some((self.addresses.number(head(&packet)?.to)?, packet)));
        (addressed.collect(), full)
    }

    /// Streams that have been opened since the last call; sockets that nobody needs any more are put away.
    pub(super) fn opened(&mut self) -> Vec<Opened> {
        let mut opened = Vec::new();
        let mut done = Vec::new();
        for (&handle, held) in &mut self.held {
            let socket = self.sockets.get_mut::<Socket<'_>>(handle);
            match (&held.phase, socket.state()) {
                (Phase::Opening, State::Established | State::CloseWait) => {
                    let Some(remote) = socket.remote_endpoint() else {
                        continue;
                    };
                    held.phase = Phase::Open;
                    opened.push(Opened {
                        handle,
                        number: held.number,
                        address: remote.addr.into(),
                    });
                }
                // One that was broken off while it was being opened listens again.
                (Phase::Opening, State::Listen | State::Closed)
                | (Phase::Closing(_), State::Closed | State::TimeWait) => done.push(handle),
                (Phase::Closing(until), _) if *until <= std::time::Instant::now() => socket.abort(),
                _ => {}
            }
        }
        for handle in done {
            self.held.remove(&handle);
            self.sockets.remove(handle);
        }
        opened
    }

    /// Breaks a device's streams off.
    pub(super) fn cut(&mut self, number: u8) {
        for (&handle, held) in &self.held {
            if held.number == number {
                self.sockets.get_mut::<Socket<'_>>(handle).abort();
            }
        }
    }

    /// When sockets want to be looked at again, if nothing happens before.
    pub(super) fn delay(&mut self) -> Option<Duration> {
        let delay = self.interface.poll_delay(now(), &self.sockets)?;
        Some(delay.into())
    }

    /// Streams that are open.
    pub(super) fn streams(&self, number: u8) -> usize {
        let of = |held: &&Held| held.number == number && matches!(held.phase, Phase::Open);
        self.held.values().filter(of).count()
    }
}

/// The sockets, and how to wake who moves their packets.
pub(super) struct Shared {
    stack: Mutex<Netstack>,
    /// Woken when a stream has written or read.
    pub(super) wake: Notify,
}

impl Shared {
    pub(super) fn new(stack: Netstack) -> Shared {
        Shared {
            stack: Mutex::new(stack),
            wake: Notify::new(),
        }
    }

    pub(super) fn stack(&self) -> MutexGuard<'_, Netstack> {
        // Each holder leaves the sockets whole, so a panic elsewhere does not spoil them.
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream of a device, out of its tunnel.
pub struct MeshStream {
    shared: Arc<Shared>,
    handle: SocketHandle,
    device: String,
    address: IpAddr,
}

impl MeshStream {
    pub(super) fn new(shared: &Arc<Shared>, opened: &Opened, device: String) -> MeshStream {
        MeshStream {
            shared: Arc::clone(shared),
            handle: opened.handle,
            device,
            address: opened.address,
        }
    }

    /// The device whose key opened the tunnel.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Its address inside.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The first byte that can be read, which stays; `None` when none will come.
    pub async fn peek(&mut self) -> Option<u8> {
        poll_fn(|context| {
            let mut stack = self.shared.stack();
            let socket = stack.sockets.get_mut::<Socket<'_>>(self.handle);
            let first = socket.peek(1).map(|bytes| bytes.first().copied());
            match first {
                Ok(Some(byte)) => Poll::Ready(Some(byte)),
                Ok(None) => {
                    socket.register_recv_waker(context.waker());
                    Poll::Pending
                }
                Err(_) => Poll::Ready(None),
            }
        })
        .await
    }
}

impl AsyncRead for MeshStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut stack = self.shared.stack();
        let socket = stack.sockets.get_mut::<Socket<'_>>(self.handle);
        match socket.recv_slice(buffer.initialize_unfilled()) {
            Ok(0) if buffer.remaining() > 0 => {
                socket.register_recv_waker(context.waker());
                Poll::Pending
            }
            Ok(read) => {
                buffer.advance(read);
                drop(stack);
                // The other side may send more now.
                self.shared.wake.notify_one();
                Poll::Ready(Ok(()))
            }
            Err(RecvError::Finished) => Poll::Ready(Ok(())),
            Err(RecvError::InvalidState) => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for MeshStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let mut stack = self.shared.stack();
        let socket = stack.sockets.get_mut::<Socket<'_>>(self.handle);
        match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(context.waker());
                Poll::Pending
            }
            Ok(written) => {
                drop(stack);
                self.shared.wake.notify_one();
                Poll::Ready(Ok(written))
            }
            Err(error) => Poll::Ready(Err(Error::new(ErrorKind::BrokenPipe, error))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let mut stack = self.shared.stack();
        stack.sockets.get_mut::<Socket<'_>>(self.handle).close();
        drop(stack);
        self.shared.wake.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl Drop for MeshStream {
    fn drop(&mut self) {
        let mut stack = self.shared.stack();
        stack.sockets.get_mut::<Socket<'_>>(self.handle).close();
        if let Some(held) = stack.held.get_mut(&self.handle) {
            held.phase = Phase::Closing(std::time::Instant::now() + CLOSING_MAX);
        }
        drop(stack);
        self.shared.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack() -> Netstack {
        Netstack::new(addresses(), vec![80], 7)
    }

    fn addresses() -> Addresses {
        Addresses::new(Ipv4Addr::new(10, 77, 0, 0), &[0xab; 32])
    }

    /// An opening packet of TCP by IPv4.
    fn syn((from, source): (Ipv4Addr, u16), (to, port): (Ipv4Addr, u16)) -> Vec<u8> {
        use smoltcp::phy::ChecksumCapabilities;
        use smoltcp::wire::{Ipv4Repr, TcpControl, TcpRepr, TcpSeqNumber};
        let tcp = TcpRepr {
            src_port: source,
            dst_port: port,
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(1),
            ack_number: None,
            window_len: 9000,
            window_scale: None,
            max_seg_size: Some(1200),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let ip = Ipv4Repr {
            src_addr: from,
            dst_addr: to,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let mut packet = vec![0; ip.buffer_len() + tcp.buffer_len()];
        let sums = ChecksumCapabilities::default();
        let mut head = Ipv4Packet::new_unchecked(&mut packet[..]);
        ip.emit(&mut head, &sums);
        let mut body = TcpPacket::new_unchecked(head.payload_mut());
        tcp.emit(&mut body, &from.into(), &to.into(), &sums);
        packet
    }

    #[test]
    fn numbers_and_addresses_belong_together() {
        let addresses = addresses();
        let (four, six) = addresses.of(9);
        assert_eq!(four, Ipv4Addr::new(10, 77, 0, 9));
        assert_eq!(six.to_string(), "fdab:abab:abab:abab::9");
        assert_eq!(addresses.number(four.into()), Some(9));
        assert_eq!(addresses.number(six.into()), Some(9));
        for foreign in ["10.78.0.9", "fdab:abab:abab:abab:0:1::9", "fd00::9"] {
            assert_eq!(addresses.number(foreign.parse().unwrap()), None);
        }
    }

    #[test]
    fn an_opening_is_answered_to_its_device() {
        let mut stack = stack();
        let (ours, theirs) = (addresses().ours().0, addresses().of(5).0);
        stack.receive(5, syn((theirs, 4000), (ours, 80)));
        let (packets, _) = stack.flush();
        assert_eq!(packets.len(), 1);
        assert_eq!(packets[0].0, 5);
        let head = head(&packets[0].1).unwrap();
        assert_eq!((head.from, head.to), (ours.into(), theirs.into()));
        assert_eq!(stack.held.len(), 1);
        // Sent again: the same stream.
        stack.receive(5, syn((theirs, 4000), (ours, 80)));
        assert_eq!(stack.held.len(), 1);
    }

    #[test]
    fn others_addresses_and_what_lies_behind_us_are_not_reached() {
        let mut stack = stack();
        let (ours, theirs, others) = (
            addresses().ours().0,
            addresses().of(5).0,
            addresses().of(6).0,
        );
        for (from, to) in [
            (others, ours),
            (ours, ours),
            (Ipv4Addr::LOCALHOST, ours),
            (theirs, others),
            (theirs, Ipv4Addr::new(192, 168, 1, 1)),
            (theirs, Ipv4Addr::LOCALHOST),
            (theirs, Ipv4Addr::BROADCAST),
        ] {
            stack.receive(5, syn((from, 4000), (to, 80)));
            assert!(stack.flush().0.is_empty(), "{from} to {to}");
        }
        assert!(stack.held.is_empty());
        // Another port of ours is refused by TCP itself.
        stack.receive(5, syn((theirs, 4000), (ours, 22)));
        assert_eq!(stack.flush().0.len(), 1);
        assert!(stack.held.is_empty());
    }

    #[test]
    fn noise_and_floods_are_bounded() {
        let mut stack = stack();
        for length in [0, 1, 19, 20, 40, 1280] {
            stack.receive(5, vec![0x45; length]);
            stack.receive(5, vec![0x60; length]);
        }
        let (ours, theirs) = (addresses().ours().0, addresses().of(5).0);
        for source in 1..=2 * DEVICE_STREAMS_MAX {
            let source = u16::try_from(source).unwrap();
            stack.receive(5, syn((theirs, source), (ours, 80)));
            let _ = stack.flush();
        }
        assert_eq!(stack.held.len(), DEVICE_STREAMS_MAX);
        stack.cut(5);
        let _ = stack.flush();
        let _ = stack.opened();
        assert!(stack.held.is_empty());
    }
}
