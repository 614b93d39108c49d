//! The router's door: asks it to let our port through, keeps it open, and says how far we can be reached.
//!
//! PCP and NAT-PMP first, which cost one datagram, then UPnP. What they answer is judged here: a router whose own
//! address is no public one stands behind another, and no phone from outside gets through to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use crab_nat::{
    GatewayAddress, InternetProtocol, PortMapping, PortMappingOptions, PortMappingType,
    TimeoutConfig, natpmp,
};
use igd_next::aio::tokio::Tokio;
use igd_next::{GetExternalIpError, PortMappingProtocol, RequestError, SearchOptions, aio};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::pinhole::Pinhole;

/// What routers are asked for; they give what they like.
pub(super) const LEASE_S: u32 = 7200;

/// A router that did not answer is asked again after so long: it may have been restarted.
const AGAIN: Duration = Duration::from_secs(120);

/// How often this machine's own addresses are looked at.
const LOOK: Duration = Duration::from_secs(30);

/// The shortest time between two renewals.
pub(super) const RENEW_MIN: Duration = Duration::from_secs(1);

/// How long a router may take by UPnP.
pub(super) const SEARCH: Duration = Duration::from_secs(3);

/// A router on the same wire answers in milliseconds.
const ASK: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: None,
};

/// What it is called in the router's list.
const NAME: &str = "onebit";

/// What this machine's network looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The router of version 4.
    pub gateway: Option<Ipv4Addr>,
    /// The router of version 6, and the interface that it is behind.
    pub gateway6: Option<(Ipv6Addr, u32)>,
    /// This machine's addresses.
    pub addresses: Vec<IpAddr>,
}

/// How a door was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Port Control Protocol.
    Pcp,
    /// NAT Port Mapping Protocol.
    NatPmp,
    /// Universal Plug and Play.
    Upnp,
}

impl By {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            By::Pcp => "PCP",
            By::NatPmp => "NAT-PMP",
            By::Upnp => "UPnP",
        }
    }
}

/// Whether phones get through from anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody has looked yet.
    Looking,
    /// The owner does not want the router to be asked.
    NotAsked,
    /// The owner has named the place.
    Named(String),
    /// This machine has a public address itself; a firewall may still stand before it.
    Public(SocketAddr),
    /// The router lets the port through.
    Open {
        /// Where phones find it.
        at: SocketAddr,
        /// How the router was asked.
        by: By,
    },
    /// The router would, and stands behind another one itself: that of the provider, mostly.
    Carrier {
        /// The address that it takes for its own, where it tells.
        address: Option<IpAddr>,
    },
    /// No router lets anything through.
    Closed {
        /// Why.
        why: String,
    },
}

impl Verdict {
    /// A stable word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Verdict::Looking => "looking",
            Verdict::NotAsked => "not_asked",
            Verdict::Named(_) => "named",
            Verdict::Public(_) => "public",
            Verdict::Open { .. } => "open",
            Verdict::Carrier { .. } => "carrier",
            Verdict::Closed { .. } => "closed",
        }
    }

    /// Where phones find us from anywhere, as WireGuard writes it.
    pub fn endpoint(&self) -> Option<String> {
        match self {
            Verdict::Named(place) => Some(place.clone()),
            Verdict::Public(at) | Verdict::Open { at, .. } => Some(at.to_string()),
            _ => None,
        }
    }
}

/// Whether the whole internet could reach an address.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b); // carriers' own NAT, RFC 6598
            let tests = ip.is_documentation() || (a == 198 && (18..20).contains(&b));
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || shared
                || tests
                || a == 0
                || a >= 240)
        }
        IpAddr::V6(ip) => {
            ip.segments()[0] & 0xe000 == 0x2000 && ip.segments()[..2] != [0x2001, 0xdb8]
        }
    }
}

/// A door that is open.
enum Door {
    Asked(Box<PortMapping>, SocketAddr, By),
    Upnp(Box<aio::Gateway<Tokio>>, SocketAddr, SocketAddr),
}

impl Door {
    fn at(&self) -> SocketAddr {
        match self {
            Door::Asked(_, at, _) | Door::Upnp(_, at, _) => *at,
        }
    }

    fn by(&self) -> By {
        match self {
            Door::Asked(_, _, by) => *by,
            Door::Upnp(..) => By::Upnp,
        }
    }

    /// When it has to be renewed: in the middle of what the router gave.
    fn renew_after(&self) -> Duration {
        let seconds = match self {
            Door::Asked(mapping, ..) => mapping.lifetime(),
            Door::Upnp(..) => LEASE_S,
        };
        (Duration::from_secs(u64::from(seconds)) / 2).max(RENEW_MIN)
    }

    async fn renew(&mut self) -> Result<(), String> {
        match self {
            Door::Asked(mapping, at, by) => {
                mapping.renew().await.map_err(|error| error.to_string())?;
                *at = outside(mapping, *by).await?;
                Ok(())
            }
            Door::Upnp(gateway, at, local) => {
                gateway
                    .add_port(PortMappingProtocol::UDP, at.port(), *local, LEASE_S, NAME)
                    .await
                    .map_err(|error| error.to_string())?;
                let ip = gateway.get_external_ip().await;
                at.set_ip(ip.map_err(|error| error.to_string())?);
                Ok(())
            }
        }
    }

    async fn shut(self) {
        match self {
            Door::Asked(mapping, ..) => {
                if let Err((error, _)) = mapping.try_drop().await {
                    tracing::debug!(%error, "the router keeps the port open until it forgets it");
                }
            }
            Door::Upnp(gateway, at, _) => {
                let shut = gateway.remove_port(PortMappingProtocol::UDP, at.port());
                if let Err(error) = shut.await {
                    tracing::debug!(%error, "the router keeps the port open until it forgets it");
                }
            }
        }
    }
}

/// The address and port that a mapping has outside.
async fn outside(mapping: &PortMapping, by: By) -> Result<SocketAddr, String> {
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
        PortMappingType::NatPmp => natpmp::external_address(mapping.gateway(), Some(ASK))
            .await
            .map_err(|error| format!("{}: {error}", by.as_str()))?
            .into(),
    };
    Ok(SocketAddr::new(ip, mapping.external_port().get()))
}

/// The address from which this machine reaches its router.
async fn own_address(gateway: Ipv4Addr) -> Result<Ipv4Addr, String> {
    let found = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect((gateway, crab_nat::GATEWAY_PORT)).await?;
        socket.local_addr()
    };
    match found.await.map_err(|error| error.to_string())?.ip() {
        IpAddr::V4(ip) => Ok(ip),
        IpAddr::V6(_) => Err("the router is reached by IPv6 only".to_owned()),
    }
}

/// Why a router opens nothing.
enum Shut {
    /// It stands behind another one, with this address.
    Behind(Option<IpAddr>),
    /// It says, or nothing is heard of it.
    Why(String),
}

impl From<String> for Shut {
    fn from(why: String) -> Shut {
        Shut::Why(why)
    }
}

/// A router's own address as it tells it: all zeros is none.
fn behind(ip: IpAddr) -> Shut {
    Shut::Behind(Some(ip).filter(|ip| !ip.is_unspecified()))
}

async fn ask(gateway: Ipv4Addr, port: NonZeroU16) -> Result<Door, Shut> {
    let own = own_address(gateway).await?;
    let options = PortMappingOptions {
        external_port: Some(port),
        lifetime_seconds: Some(LEASE_S),
        timeout_config: Some(ASK),
    };
    let router = GatewayAddress::IpV4(gateway);
    let udp = InternetProtocol::Udp;
    // A router that knows the older question only says so, and is asked that one.
    let why = match PortMapping::new(router, own.into(), udp, port, options).await {
        Ok(mapping) => return Ok(opened(mapping).await?),
        Err(error) => error.to_string(),
    };
    // One without a public address often opens nothing, and says why only when it is asked for that.
    let (address, door) = tokio::join!(
        natpmp::external_address(router, Some(ASK)),
        ask_by_upnp(gateway, own, port)
    );
    match (address, door) {
        (_, Ok(door)) => Ok(door),
        (_, Err(Shut::Behind(address))) => Err(Shut::Behind(address)),
        (Ok(ip), Err(_)) if !is_public(ip.into()) => Err(behind(ip.into())),
        (Err(natpmp::Failure::NetworkFailure), Err(_)) => Err(Shut::Behind(None)),
        (_, Err(Shut::Why(error))) => Err(Shut::Why(format!("{why}; UPnP: {error}"))),
    }
}

async fn opened(mapping: PortMapping) -> Result<Door, String> {
    let by = match mapping.mapping_type() {
        PortMappingType::Pcp { .. } => By::Pcp,
        PortMappingType::NatPmp => By::NatPmp,
    };
    let at = outside(&mapping, by).await?;
    Ok(Door::Asked(Box::new(mapping), at, by))
}

async fn ask_by_upnp(gateway: Ipv4Addr, own: Ipv4Addr, port: NonZeroU16) -> Result<Door, Shut> {
    fn said(error: impl std::fmt::Display) -> Shut {
        Shut::Why(error.to_string())
    }
    let mut options = SearchOptions::default();
    options.bind_addr = (own, 0).into();
    options.timeout = Some(SEARCH);
    options.single_search_timeout = Some(SEARCH);
    let found = aio::tokio::search_gateway(options).await.map_err(said)?;
    // Anybody on the wire can answer such a search; only the router can open its door.
    if found.addr.ip() != IpAddr::V4(gateway) {
        return Err(Shut::Why(format!(
            "{} answers, which is not the router",
            found.addr.ip()
        )));
    }
    let ip = found.get_external_ip().await.map_err(|error| match error {
        // One without a public address has none to tell.
        GetExternalIpError::RequestError(RequestError::InvalidResponse(text))
            if text.contains("<NewExternalIPAddress></NewExternalIPAddress>") =>
        {
            Shut::Behind(None)
        }
        error => said(error),
    })?;
    if !is_public(ip) {
        return Err(behind(ip));
    }
    let local = SocketAddr::from((own, port.get()));
    let udp = PortMappingProtocol::UDP;
    let same = found.add_port(udp, port.get(), local, LEASE_S, NAME).await;
    let outer = match same {
        Ok(()) => port.get(),
        Err(error) => {
            tracing::debug!(%error, "the router has given the port to another");
            let any = found.add_any_port(udp, local, LEASE_S, NAME).await;
            any.map_err(said)?
        }
    };
    Ok(Door::Upnp(
        Box::new(found),
        SocketAddr::new(ip, outer),
        local,
    ))
}

/// What follows from what was found.
fn judge(around: &Surroundings, port: u16, door: Result<(SocketAddr, By), Shut>) -> Verdict {
    let own = around
        .addresses
        .iter()
        .find(|ip| ip.is_ipv4() && is_public(**ip));
    if let Some(own) = own {
        return Verdict::Public(SocketAddr::new(*own, port));
    }
    match door {
        Ok((at, by)) if is_public(at.ip()) => Verdict::Open { at, by },
        Ok((at, _)) => Verdict::Carrier {
            address: Some(at.ip()),
        },
        Err(Shut::Behind(address)) => Verdict::Carrier { address },
        Err(Shut::Why(why)) => Verdict::Closed { why },
    }
}

/// Looks around.
pub type Look = Arc<dyn Fn() -> Surroundings + Send + Sync>;

/// Keeps the door open until `stop`; tells each change.
pub(super) async fn keep(
    port: NonZeroU16,
    look: Look,
    verdict: watch::Sender<Verdict>,
    mut stop: watch::Receiver<bool>,
) {
    let mut door: Option<Door> = None;
    let mut hole = Pinhole::default();
    let mut around = look();
    loop {
        let wait = step(&mut door, &mut hole, &around, port, &verdict).await;
        let until = tokio::time::Instant::now() + wait;
        let changed = loop {
            let next = until.min(tokio::time::Instant::now() + LOOK);
            let stops = async { _ = stop.wait_for(|stop| *stop).await };
            tokio::select! {
                () = stops => {
                    if let Some(door) = door.take() {
                        door.shut().await;
                    }
                    hole.shut().await;
                    return;
                }
                () = tokio::time::sleep_until(next) => {}
            }
            let now = look();
            if now != around {
                around = now;
                break true;
            }
            if next == until {
                break false;
            }
        };
        if changed {
            // Another network has another router, and the old one forgets by itself.
            door = None;
            hole = Pinhole::default();
        }
    }
}

/// Opens or renews, tells the verdict, and says how long it holds.
async fn step(
    door: &mut Option<Door>,
    hole: &mut Pinhole,
    around: &Surroundings,
    port: NonZeroU16,
    verdict: &watch::Sender<Verdict>,
) -> Duration {
    let renewed = match door.as_mut() {
        Some(open) => open.renew().await,
        None => Err(String::new()),
    };
    let mut shut = Shut::Why(String::new());
    if renewed.is_err() {
        *door = None;
        match around.gateway {
            Some(gateway) => match ask(gateway, port).await {
                Ok(open) => *door = Some(open),
                Err(why) => shut = why,
            },
            None => shut = Shut::Why("this machine has no router".to_owned()),
        }
    }
    let found = match &door {
        Some(open) => Ok((open.at(), open.by())),
        None => Err(shut),
    };
    let mut wait = door.as_ref().map_or(AGAIN, Door::renew_after);
    let mut found = judge(around, port.get(), found);
    if found.endpoint().is_none()
        && let Some((at, by, renew)) = hole.open(around, port).await
    {
        wait = wait.min(renew);
        found = Verdict::Open { at, by };
    }
    verdict.send_if_modified(|old| {
        let changed = *old != found;
        if changed {
            tracing::info!(verdict = found.as_str(), endpoint = ?found.endpoint(), "reachable from anywhere?");
            *old = found;
        }
        changed
    });
    wait
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn public_is_what_everybody_reaches() {
        for public in ["8.8.8.8", "100.63.0.1", "100.128.0.1", "2a02::1"] {
            assert!(is_public(ip(public)), "{public}");
        }
        for inner in [
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.168.1.1",
            "169.254.0.1",
            "0.0.0.0",
            "203.0.113.9",
            "198.18.0.1",
            "255.255.255.255",
            "fe80::1",
            "fd00::1",
            "::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(ip(inner)), "{inner}");
        }
    }

    #[test]
    fn the_verdict_says_what_a_phone_would_meet() {
        let home = Surroundings {
            addresses: vec![ip("192.168.1.5"), ip("fe80::1")],
            ..Surroundings::default()
        };
        let door = |at: &str| (at.parse().unwrap(), By::Pcp);
        let open = judge(&home, 51820, Ok(door("8.8.4.4:51999")));
        assert_eq!(open.endpoint().as_deref(), Some("8.8.4.4:51999"));
        for behind in ["100.72.1.1:51820", "192.168.0.4:51820"] {
            let carrier = judge(&home, 51820, Ok(door(behind)));
            assert_eq!((carrier.as_str(), carrier.endpoint()), ("carrier", None));
        }
        let unknown = judge(&home, 51820, Err(behind(ip("0.0.0.0"))));
        assert_eq!(unknown, Verdict::Carrier { address: None });
        let closed = judge(&home, 51820, Err(Shut::Why("no answer".to_owned())));
        assert_eq!((closed.as_str(), closed.endpoint()), ("closed", None));
        let rented = Surroundings {
            addresses: vec![ip("8.8.8.8")],
            ..Surroundings::default()
        };
        let public = judge(&rented, 51820, Err(Shut::Why("no answer".to_owned())));
        assert_eq!(public.endpoint().as_deref(), Some("8.8.8.8:51820"));
    }
}
