//! WireGuard as a change of bytes into bytes: the seam, and boringtun behind it.
//!
//! Whoever has no tunnel is not answered: handshakes that our key does not open, or that come from a key we do not
//! know, end here without a byte.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

/// A key of 32 bytes: public, private or shared.
pub(super) type Key = [u8; 32];

/// Handshakes in a second before senders have to prove their address. A household makes one in two minutes a device.
const HANDSHAKES_MAX: u64 = 50;

/// The largest datagram that UDP carries.
pub(super) const DATAGRAM_MAX: usize = 65_535;

/// Bits of an index that the sessions of one peer share.
const SESSION_BITS: u32 = 8;

/// A device at the other end.
pub(super) struct Far {
    /// Which device: the last part of its address inside.
    pub(super) number: u8,
    /// Its public key.
    pub(super) public: Key,
    /// What both share beside their keys.
    pub(super) shared: Key,
    /// Where it was last.
    pub(super) endpoint: Option<SocketAddr>,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Outcome {
    /// Datagrams to send.
    pub(super) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// IP packets that came out of tunnels, and out of whose.
    pub(super) packets: Vec<(u8, Vec<u8>)>,
    /// Devices that are elsewhere now.
    pub(super) moved: Vec<(u8, SocketAddr)>,
}

/// How a tunnel is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Since the last handshake; `None` where there is no session.
    pub handshake: Option<Duration>,
    /// Where the device is.
    pub endpoint: Option<SocketAddr>,
    /// Bytes that came from it.
    pub received_bytes: usize,
    /// Bytes that went to it.
    pub sent_bytes: usize,
}

/// What the mesh needs of WireGuard. It has no socket and no clock thread: datagrams are handed in and out, and
/// [`Tunnels::tick`] is called a few times a second.
pub(super) trait Tunnels: Send {
    /// Adds a device, or gives the one of that number other keys.
    fn put(&mut self, far: &Far);
    /// Forgets a device: it is a stranger from now on.
    fn remove(&mut self, number: u8);
    /// Takes a datagram.
    fn receive(&mut self, from: SocketAddr, datagram: &[u8], out: &mut Outcome);
    /// Sends an IP packet to a device.
    fn send(&mut self, number: u8, packet: &[u8], out: &mut Outcome);
    /// Lets timers run.
    fn tick(&mut self, out: &mut Outcome);
    /// Asks every device whose place is known for a new session: it would notice our restart only by its timers.
    fn greet(&mut self, out: &mut Outcome);
    /// How a device's tunnel is doing.
    fn traffic(&self, number: u8) -> Option<Traffic>;
}

/// The public key of a private one.
pub(super) fn public_of(private: &Key) -> Key {
    PublicKey::from(&StaticSecret::from(*private)).to_bytes()
}

/// boringtun, which does one peer at a time; who is meant is found here.
pub(super) struct Boring {
    private: StaticSecret,
    public: PublicKey,
    /// Counts handshakes of everybody, before any peer is looked for.
    limiter: Arc<RateLimiter>,
    /// Counts nothing: a datagram reaches a peer only after the one above.
    unlimited: Arc<RateLimiter>,
    peers: HashMap<u8, Peer>,
    by_key: HashMap<Key, u8>,
    by_index: HashMap<u32, u8>,
    buffer: Vec<u8>,
}

struct Peer {
    tunnel: Tunn,
    index: u32,
    public: Key,
    endpoint: Option<SocketAddr>,
}

impl Boring {
    pub(super) fn new(private: &Key) -> Boring {
        let private = StaticSecret::from(*private);
        let public = PublicKey::from(&private);
        Boring {
            limiter: Arc::new(RateLimiter::new(&public, HANDSHAKES_MAX)),
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            private,
            public,
            peers: HashMap::new(),
            by_key: HashMap::new(),
            by_index: HashMap::new(),
            buffer: vec![0; DATAGRAM_MAX + 1],
        }
    }

    /// An index that no peer has.
    fn free_index(&self) -> u32 {
        let mut bytes = [0; 4];
        loop {
            // Without random numbers there is no handshake either; any number does until then.
            let _ = getrandom::fill(&mut bytes);
            let index = u32::from_le_bytes(bytes) >> SESSION_BITS;
            if !self.by_index.contains_key(&index) {
                return index;
            }
            bytes = (index.wrapping_add(1) << SESSION_BITS).to_le_bytes();
            let next = u32::from_le_bytes(bytes) >> SESSION_BITS;
            if !self.by_index.contains_key(&next) {
                return next;
            }
        }
    }
}

impl Tunnels for Boring {
    fn put(&mut self, far: &Far) {
        self.remove(far.number);
        let index = self.free_index();
        let tunnel = Tunn::new(
            self.private.clone(),
            PublicKey::from(far.public),
            Some(far.shared),
            None,
            index,
            Some(Arc::clone(&self.unlimited)),
        );
        self.by_key.insert(far.public, far.number);
        self.by_index.insert(index, far.number);
        let peer = Peer {
            tunnel,
            index,
            public: far.public,
            endpoint: far.endpoint,
        };
        self.peers.insert(far.number, peer);
    }

    fn remove(&mut self, number: u8) {
        if let Some(peer) = self.peers.remove(&number) {
            self.by_key.remove(&peer.public);
            self.by_index.remove(&peer.index);
        }
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8], out: &mut Outcome) {
        let mut cookie = [0; 64];
        let ip = Some(from.ip());
        let number = match self.limiter.verify_packet(ip, datagram, &mut cookie) {
            Ok(Packet::HandshakeInit(first)) => {
                let opened = parse_handshake_anon(&self.private, &self.public, &first).ok();
                opened.and_then(|half| self.by_key.get(&half.peer_static_public))
            }
            Ok(Packet::HandshakeResponse(p)) => {
                self.by_index.get(&(p.receiver_idx >> SESSION_BITS))
            }
            Ok(Packet::PacketCookieReply(p)) => {
                self.by_index.get(&(p.receiver_idx >> SESSION_BITS))
            }
            Ok(Packet::PacketData(p)) => self.by_index.get(&(p.receiver_idx >> SESSION_BITS)),
            // Only who knows our public key gets here: "prove your address first".
            Err(TunnResult::WriteToNetwork(reply)) => {
                out.datagrams.push((from, reply.to_vec()));
                None
            }
            Err(_) => None,
        };
        let Some(&number) = number else { return };
        let Some(peer) = self.peers.get_mut(&number) else {
            return;
        };
        // Everything but an error has proved that it comes from the device.
        match peer.tunnel.decapsulate(ip, datagram, &mut self.buffer) {
            TunnResult::Err(_) => return,
            TunnResult::Done => {}
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                out.packets.push((number, packet.to_vec()));
            }
            TunnResult::WriteToNetwork(answer) => {
                out.datagrams.push((from, answer.to_vec()));
                // What waited for the session.
                while let TunnResult::WriteToNetwork(next) =
                    peer.tunnel.decapsulate(None, &[], &mut self.buffer)
                {
                    out.datagrams.push((from, next.to_vec()));
                }
            }
        }
        if peer.endpoint != Some(from) {
            peer.endpoint = Some(from);
            out.moved.push((number, from));
        }
    }

    fn send(&mut self, number: u8, packet: &[u8], out: &mut Outcome) {
        let Some(peer) = self.peers.get_mut(&number) else {
            return;
        };
        let made = peer.tunnel.encapsulate(packet, &mut self.buffer);
        if let (TunnResult::WriteToNetwork(datagram), Some(place)) = (made, peer.endpoint) {
            out.datagrams.push((place, datagram.to_vec()));
        }
    }

    fn tick(&mut self, out: &mut Outcome) {
        self.limiter.reset_count();
        for peer in self.peers.values_mut() {
            let due = peer.tunnel.update_timers(&mut self.buffer);
            if let (TunnResult::WriteToNetwork(datagram), Some(place)) = (due, peer.endpoint) {
                out.datagrams.push((place, datagram.to_vec()));
            }
        }
    }

    fn greet(&mut self, out: &mut Outcome) {
        for peer in self.peers.values_mut() {
            let Some(place) = peer.endpoint else { continue };
            let made = peer
                .tunnel
                .format_handshake_initiation(&mut self.buffer, true);
            if let TunnResult::WriteToNetwork(datagram) = made {
                out.datagrams.push((place, datagram.to_vec()));
            }
        }
    }

    fn traffic(&self, number: u8) -> Option<Traffic> {
        let peer = self.peers.get(&number)?;
        let (handshake, sent_bytes, received_bytes, ..) = peer.tunnel.stats();
        Some(Traffic {
            handshake,
            endpoint: peer.endpoint,
            received_bytes,
            sent_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ([u8; 4], u16) = ([192, 0, 2, 1], 51820);
    const THERE: ([u8; 4], u16) = ([192, 0, 2, 2], 4000);

    fn pair() -> (Boring, Boring) {
        let (box_key, phone_key) = ([7; 32], [9; 32]);
        let mut home = Boring::new(&box_key);
        let mut phone = Boring::new(&phone_key);
        home.put(&Far {
            number: 2,
            public: public_of(&phone_key),
            shared: [5; 32],
            endpoint: None,
        });
        phone.put(&Far {
            number: 1,
            public: public_of(&box_key),
            shared: [5; 32],
            endpoint: Some(HERE.into()),
        });
        (home, phone)
    }

    /// A packet of nothing, with a header that says so.
    fn packet() -> Vec<u8> {
        let mut packet = vec![0; 20];
        (packet[0], packet[3]) = (0x45, 20);
        packet
    }

    /// Hands everything across until nobody says anything more; returns what came out here and there.
    fn settle(home: &mut Boring, phone: &mut Boring, first: Outcome) -> (Outcome, Outcome) {
        let (mut at_home, mut at_phone) = (Outcome::default(), first);
        for _ in 0..8 {
            for (_, datagram) in std::mem::take(&mut at_phone.datagrams) {
                home.receive(THERE.into(), &datagram, &mut at_home);
            }
            for (_, datagram) in std::mem::take(&mut at_home.datagrams) {
                phone.receive(HERE.into(), &datagram, &mut at_phone);
            }
        }
        (at_home, at_phone)
    }

    #[test]
    fn a_packet_arrives_after_a_handshake_and_the_place_is_learnt() {
        let (mut home, mut phone) = pair();
        let mut out = Outcome::default();
        phone.send(1, &packet(), &mut out);
        assert_eq!(out.datagrams.len(), 1, "the handshake comes first");
        let (at_home, _) = settle(&mut home, &mut phone, out);
        assert_eq!(at_home.packets, [(2, packet())]);
        assert_eq!(at_home.moved, [(2, THERE.into())]);
        let mut back = Outcome::default();
        home.send(2, &packet(), &mut back);
        assert_eq!(back.datagrams[0].0, THERE.into());
        assert!(home.traffic(2).unwrap().handshake.is_some());
    }

    #[test]
    fn strangers_and_who_was_removed_hear_nothing() {
        let (mut home, _) = pair();
        let mut stranger = Boring::new(&[3; 32]);
        stranger.put(&Far {
            number: 1,
            public: public_of(&[7; 32]),
            shared: [5; 32],
            endpoint: Some(HERE.into()),
        });
        let mut out = Outcome::default();
        stranger.send(1, &packet(), &mut out);
        let (_, datagram) = out.datagrams.remove(0);
        let mut heard = Outcome::default();
        home.receive(THERE.into(), &datagram, &mut heard);
        for length in [0, 1, 4, 148, 200] {
            home.receive(THERE.into(), &vec![1; length], &mut heard);
        }
        assert!(heard.datagrams.is_empty() && heard.packets.is_empty());

        let (mut home, mut phone) = pair();
        let mut out = Outcome::default();
        phone.send(1, &packet(), &mut out);
        let _ = settle(&mut home, &mut phone, out);
        home.remove(2);
        let mut out = Outcome::default();
        phone.send(1, &packet(), &mut out);
        let (at_home, at_phone) = settle(&mut home, &mut phone, out);
        assert!(at_home.packets.is_empty() && at_phone.packets.is_empty());
    }

    #[test]
    fn the_wrong_shared_key_opens_nothing() {
        let (mut home, mut phone) = pair();
        home.put(&Far {
            number: 2,
            public: public_of(&[9; 32]),
            shared: [6; 32],
            endpoint: None,
        });
        let mut out = Outcome::default();
        phone.send(1, &packet(), &mut out);
        let (at_home, _) = settle(&mut home, &mut phone, out);
        assert!(at_home.packets.is_empty());
    }

    #[test]
    fn after_a_restart_the_device_is_greeted_where_it_was() {
        let (mut home, mut phone) = pair();
        let mut out = Outcome::default();
        phone.send(1, &packet(), &mut out);
        let _ = settle(&mut home, &mut phone, out);
        let mut again = Boring::new(&[7; 32]);
        again.put(&Far {
            number: 2,
            public: public_of(&[9; 32]),
            shared: [5; 32],
            endpoint: Some(THERE.into()),
        });
        let mut hello = Outcome::default();
        again.greet(&mut hello);
        assert_eq!(hello.datagrams[0].0, THERE.into());
        let mut at_phone = Outcome::default();
        phone.receive(HERE.into(), &hello.datagrams[0].1, &mut at_phone);
        let (_, _) = settle(&mut again, &mut phone, at_phone);
        let mut out = Outcome::default();
        phone.send(1, &packet(), &mut out);
        let (at_home, _) = settle(&mut again, &mut phone, out);
        assert_eq!(at_home.packets, [(2, packet())]);
    }
}
