//! What trust needs of this machine: its names and addresses, and a task that keeps the certificate true to them.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use super::{App, AppError};
use crate::host::network;
use crate::process::shim;
use crate::trust::Trust;
use crate::trust::announce::Announcement;

/// How soon a new address of this machine is in its certificate; a laptop that changes networks waits this long.
const LOOK: Duration = Duration::from_secs(10);

/// Where the appliance listens, once it does.
#[derive(Default)]
pub(super) struct Addresses(OnceLock<Vec<SocketAddr>>);

/// Under which addresses others reach the appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Addresses for https, the best first, as `https://192.168.1.2:8443`.
    pub https: Vec<String>,
    /// The same for http.
    pub http: Vec<String>,
    /// Whether any of them is more than this machine.
    pub lan: bool,
}

impl App {
    /// Who is let in.
    pub fn trust(&self) -> &Trust {
        &self.inner.trust
    }

    /// The names of this machine on its network.
    pub fn names(&self) -> Vec<String> {
        let own = format!("{}.local", self.config().trust.name);
        let system = network::hostname().map(|name| format!("{name}.local"));
        let mut names: Vec<String> = std::iter::once(own).chain(system).collect();
        names.dedup();
        names.extend(self.config().server.allowed_hosts.iter().cloned());
        names.extend(self.config().acme.names.iter().cloned());
        names.extend(self.tailnet().map(|net| net.name));
        names
    }

    /// Makes what trust needs at the first start, and tells the addresses that are listened on.
    ///
    /// # Errors
    /// The data directory cannot be written, or the owner's certificate cannot be used.
    pub async fn open_trust(&self, listening: Vec<SocketAddr>) -> Result<(), AppError> {
        self.trust()
            .prepare(&self.own_addresses()?, &self.names())
            .await?;
        if self.config().trust.loopback_is_owner && !shim::can_keep_unconnected() {
            tracing::warn!(
                "this kernel cannot keep engines from the appliance's own port, where they would be its owner; use \
                 Linux 6.7 or later with Landlock, or set trust.loopback_is_owner = false"
            );
        }
        // Set once, by the one process that serves.
        let _ = self.inner.reach.0.set(listening);
        Ok(())
    }

    /// All addresses under which devices may reach this machine.
    fn own_addresses(&self) -> Result<Vec<IpAddr>, AppError> {
        let mut own = network::addresses();
        own.extend(self.mesh_addresses()?);
        Ok(own)
    }

    /// The ports that are listened on.
    pub(super) fn listening_ports(&self) -> Vec<u16> {
        let listening = self.inner.reach.0.get();
        let all = listening.map(Vec::as_slice).unwrap_or_default();
        all.iter().map(SocketAddr::port).collect()
    }

    /// Tells the network this machine's name, where the appliance listens to it and the owner has not forbidden it.
    pub fn announce(&self) -> Option<Announcement> {
        Announcement::make(&self.config().trust.name, self.announced_port()?)
            .inspect_err(
                |error| tracing::warn!(%error, "the name is not announced; use the address"),
            )
            .ok()
    }

    /// The name and port that the network is told; `None` where it is told none.
    pub fn announced(&self) -> Option<String> {
        let name = &self.config().trust.name;
        let port = self.announced_port()?;
        Some(format!("{name}.local:{port}"))
    }

    fn announced_port(&self) -> Option<u16> {
        let listening = self.inner.reach.0.get()?;
        let open = listening.iter().find(|a| !a.ip().is_loopback())?;
        self.config().trust.announce.then(|| open.port())
    }

    /// Keeps the certificate true to this machine's addresses; never ends.
    pub async fn keep_certificates(self) {
        let mut tick = tokio::time::interval(LOOK);
        let mut last = None;
        loop {
            tick.tick().await;
            self.look_for_tailnet().await;
            let refreshed = self.own_addresses().and_then(|own| {
                let certificates = self.trust().certificates();
                Ok(certificates.refresh(&own, &self.names())?)
            });
            match refreshed {
                Ok(true) => tracing::info!("the certificate of this machine was made anew"),
                Ok(false) => {}
                Err(error) => {
                    let text = error.to_string();
                    if last.as_ref() != Some(&text) {
                        tracing::error!(error = text, "the certificate stays as it was");
                    }
                    last = Some(text);
                }
            }
        }
    }

    /// Tells where others reach the appliance.
    pub fn reach(&self) -> Reach {
        let listening = self
            .inner
            .reach
            .0
            .get()
            .map(Vec::as_slice)
            .unwrap_or_default();
        reach(listening, &network::addresses())
    }
}

fn reach(listening: &[SocketAddr], interfaces: &[IpAddr]) -> Reach {
    // Phones are at home in IPv4; a link-local address needs a zone that no link can carry.
    let mut homes: Vec<IpAddr> = interfaces
        .iter()
        .copied()
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        })
        .collect();
    homes.sort_by_key(|ip| {
        (
            ip.is_ipv6(),
            matches!(ip, IpAddr::V4(v4) if !v4.is_private()),
        )
    });
    let mut found = Vec::new();
    for address in listening {
        let ips: Vec<IpAddr> = match address.ip() {
            ip if ip.is_unspecified() => homes
                .iter()
                .copied()
                .filter(|h| h.is_ipv4() == ip.is_ipv4())
                .collect(),
            ip => vec![ip],
        };
        found.extend(
            ips.into_iter()
                .map(|ip| SocketAddr::new(ip, address.port())),
        );
    }
    let rank = |wanted: u16| {
        let mut ranked: Vec<&SocketAddr> = found.iter().collect();
        ranked.sort_by_key(|a| (a.ip().is_loopback(), a.is_ipv6(), a.port() != wanted));
        ranked
    };
    Reach {
        https: rank(8443).iter().map(|a| format!("https://{a}")).collect(),
        http: rank(8000).iter().map(|a| format!("http://{a}")).collect(),
        lan: found.iter().any(|a| !a.ip().is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_for_a_phone_is_the_home_address_and_the_https_port() {
        let listening: Vec<SocketAddr> = ["0.0.0.0:8000", "[::]:8000", "0.0.0.0:8443"]
            .map(|a| a.parse().unwrap())
            .into();
        let interfaces: Vec<IpAddr> = ["fe80::1", "2001:db8::1", "203.0.113.5", "192.168.1.2"]
            .map(|a| a.parse().unwrap())
            .into();
        let found = reach(&listening, &interfaces);
        assert_eq!(found.https[0], "https://192.168.1.2:8443");
        assert_eq!(found.http[0], "http://192.168.1.2:8000");
        assert!(found.lan && found.https.iter().all(|a| !a.contains("fe80")));
        let here = reach(&["127.0.0.1:9".parse().unwrap()], &interfaces);
        assert_eq!(
            (here.https, here.lan),
            (vec!["https://127.0.0.1:9".to_owned()], false)
        );
    }
}
