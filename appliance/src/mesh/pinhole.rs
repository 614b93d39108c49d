//! The router's door of version 6: no address is changed, only its firewall lets the port through. By PCP, then UPnP.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU16;
use std::time::Duration;

use igd_next::aio::tokio::Tokio;
use igd_next::{PortMappingProtocol, SearchOptions, aio};
use tokio::net::UdpSocket;

use super::ports::{By, LEASE_S, RENEW_MIN, SEARCH, Surroundings, is_public};

/// How often a router is asked by PCP, and how long it has the first time; twice that the next.
const TRIES: u32 = 3;
const ANSWER: Duration = Duration::from_millis(250);

/// A PCP MAP, question and answer alike (RFC 6887, 7.1, 7.2 and 11.1).
const MAP_BYTES: usize = 60;
const VERSION: u8 = 2;
const MAP: u8 = 1;
const ANSWERED: u8 = 0x80;
const UDP: u8 = 17;

/// What lets a mapping be renewed and nobody else change it.
type Nonce = [u8; 12];

/// The door, while it is open.
#[derive(Default)]
pub(super) struct Pinhole {
    nonce: Option<Nonce>,
    open: Option<Open>,
}

enum Open {
    Pcp(Ask),
    Upnp(Box<aio::Ipv6FirewallGateway<Tokio>>, u16),
}

/// A question by PCP.
#[derive(Clone, Copy)]
struct Ask {
    router: SocketAddrV6,
    own: Ipv6Addr,
    port: u16,
    nonce: Nonce,
}

impl Pinhole {
    /// Asks the router of version 6, where there is one and this machine has an address that everybody reaches: where
    /// phones find it, how it was asked, and for how long it holds.
    pub(super) async fn open(
        &mut self,
        around: &Surroundings,
        port: NonZeroU16,
    ) -> Option<(SocketAddr, By, Duration)> {
        let (gateway, scope) = around.gateway6?;
        let own = around.addresses.iter().find_map(|ip| match ip {
            IpAddr::V6(ip) if is_public(IpAddr::V6(*ip)) => Some(*ip),
            _ => None,
        })?;
        let at = SocketAddr::from((own, port.get()));
        let half = |seconds: u32| (Duration::from_secs(u64::from(seconds)) / 2).max(RENEW_MIN);
        let nonce = match self.nonce {
            Some(nonce) => nonce,
            None => {
                let mut nonce = Nonce::default();
                getrandom::fill(&mut nonce).ok()?;
                *self.nonce.insert(nonce)
            }
        };
        let ask = Ask {
            router: SocketAddrV6::new(gateway, crab_nat::GATEWAY_PORT, 0, scope),
            own,
            port: port.get(),
            nonce,
        };
        match ask.map(LEASE_S).await {
            Ok(seconds) => {
                self.open = Some(Open::Pcp(ask));
                return Some((at, By::Pcp, half(seconds)));
            }
            Err(why) => tracing::debug!(why, "no pinhole by PCP"),
        }
        match by_upnp(own, port.get(), scope).await {
            Ok((router, id)) => {
                self.open = Some(Open::Upnp(Box::new(router), id));
                Some((at, By::Upnp, half(LEASE_S)))
            }
            Err(why) => {
                tracing::debug!(why, "no pinhole by UPnP");
                self.open = None;
                None
            }
        }
    }

    /// Closes it behind ourselves, as far as the router listens.
    pub(super) async fn shut(self) {
        let shut = match self.open {
            None => return,
            Some(Open::Pcp(ask)) => ask.map(0).await.map(|_| ()),
            Some(Open::Upnp(router, id)) => {
                let removed = router.remove_pinhole(id).await;
                removed.map_err(|error| error.to_string())
            }
        };
        if let Err(why) = shut {
            tracing::debug!(why, "the router keeps the pinhole until it forgets it");
        }
    }
}

async fn by_upnp(
    own: Ipv6Addr,
    port: u16,
    scope: u32,
) -> Result<(aio::Ipv6FirewallGateway<Tokio>, u16), String> {
    let mut search = SearchOptions::ipv6(scope);
    // Whoever is asked by an address of this kind answers with one, and describes itself at the same.
    search.bind_addr = SocketAddr::from((own, 0));
    search.timeout = Some(SEARCH);
    search.single_search_timeout = Some(SEARCH);
    let found = aio::tokio::search_ipv6_firewall_gateway(search).await;
    let router = found.map_err(|error| error.to_string())?;
    let client = SocketAddrV6::new(own, port, 0, 0);
    let made = router.add_pinhole(PortMappingProtocol::UDP, client, LEASE_S);
    let id = made.await.map_err(|error| error.to_string())?;
    Ok((router, id))
}

impl Ask {
    /// The question; no seconds close the door.
    fn bytes(&self, seconds: u32) -> [u8; MAP_BYTES] {
        let mut bytes = [0; MAP_BYTES];
        bytes[0] = VERSION;
        bytes[1] = MAP;
        bytes[4..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..24].copy_from_slice(&self.own.octets());
        bytes[24..36].copy_from_slice(&self.nonce);
        bytes[36] = UDP;
        bytes[40..42].copy_from_slice(&self.port.to_be_bytes());
        bytes[42..44].copy_from_slice(&self.port.to_be_bytes());
        bytes[44..60].copy_from_slice(&self.own.octets());
        bytes
    }

    /// For how many seconds the router lets the port through; `None` where this is no answer to the question.
    fn read(&self, answer: &[u8]) -> Option<Result<u32, String>> {
        let ours = answer.len() >= 4 && answer[0] == VERSION && answer[1] == MAP | ANSWERED;
        if !ours {
            // One that knows an older version only says so, and nothing of what was asked.
            let older = answer.len() >= 4 && answer[0] < VERSION && answer[1] & ANSWERED != 0;
            return older.then(|| Err("the router knows an older version only".to_owned()));
        }
        if answer[3] != 0 {
            return Some(Err(format!("the router refuses with code {}", answer[3])));
        }
        let whole = answer.len() >= MAP_BYTES && answer[24..36] == self.nonce;
        let same_port = |answer: &[u8]| answer[42..44] == self.port.to_be_bytes();
        let seconds = || u32::from_be_bytes([answer[4], answer[5], answer[6], answer[7]]);
        whole.then(|| match same_port(answer) {
            true => Ok(seconds()),
            false => Err("the router opens another port".to_owned()),
        })
    }

    /// Asks from the very address that is to be reached: a router refuses what speaks for another.
    async fn map(&self, seconds: u32) -> Result<u32, String> {
        let asked = async {
            let socket = UdpSocket::bind(SocketAddr::from((self.own, 0))).await?;
            socket.connect(SocketAddr::V6(self.router)).await?;
            let mut wait = ANSWER;
            for _ in 0..TRIES {
                socket.send(&self.bytes(seconds)).await?;
                let until = tokio::time::Instant::now() + wait;
                let mut bytes = [0; 1100];
                while let Ok(heard) = tokio::time::timeout_at(until, socket.recv(&mut bytes)).await
                {
                    if let Some(said) = self.read(&bytes[..heard?]) {
                        return Ok(said);
                    }
                }
                wait *= 2;
            }
            std::io::Result::Ok(Err("the router does not answer".to_owned()))
        };
        asked.await.map_err(|error| error.to_string())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> Ask {
        Ask {
            router: SocketAddrV6::new(Ipv6Addr::LOCALHOST, 5351, 0, 0),
            own: "2a0f:77::1".parse().unwrap(),
            port: 51820,
            nonce: [7; 12],
        }
    }

    #[test]
    fn answers_are_taken_from_the_router_that_was_asked() {
        let ask = ask();
        let mut answer = ask.bytes(120);
        answer[1] |= ANSWERED;
        answer[8..24].fill(0);
        assert_eq!(ask.read(&answer), Some(Ok(120)));
        assert_eq!(ask.read(&ask.bytes(120)), None, "a question");
        assert_eq!(ask.read(&answer[..40]), None, "cut");
        assert_eq!(ask.read(&[]), None);
        let with = |change: fn(&mut [u8; MAP_BYTES])| {
            let mut changed = answer;
            change(&mut changed);
            ask.read(&changed)
        };
        assert_eq!(with(|a| a[30] ^= 1), None, "somebody else's");
        for (told, word) in [
            (with(|a| a[3] = 12), "code 12"),
            (with(|a| a[42] ^= 1), "another port"),
            (with(|a| a[0] = 0), "older"),
        ] {
            let why = told.unwrap().unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[tokio::test]
    async fn a_router_that_opens_is_asked_from_the_address_that_it_opens_for() {
        let router = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let SocketAddr::V6(at) = router.local_addr().unwrap() else {
            unreachable!()
        };
        let ask = Ask {
            router: at,
            own: Ipv6Addr::LOCALHOST,
            ..ask()
        };
        let answers = async {
            let mut bytes = [0; 200];
            // The first question is lost on the way.
            router.recv_from(&mut bytes).await.unwrap();
            let (length, from) = router.recv_from(&mut bytes).await.unwrap();
            assert_eq!(length, MAP_BYTES);
            bytes[1] |= ANSWERED;
            router.send_to(&bytes[..length], from).await.unwrap();
            from.ip()
        };
        let (given, from) = tokio::join!(ask.map(90), answers);
        assert_eq!((given, from), (Ok(90), IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }
}
