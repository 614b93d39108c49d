//! Settings of the built-in mesh.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// How phones reach the appliance from anywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshConfig {
    /// Whether devices may be given a tunnel; its port is open only while one has.
    pub enabled: bool,
    /// The UDP port.
    pub port: u16,
    /// The first address of the 254 inside: ours is the one after it.
    pub network: Ipv4Addr,
    /// A name or address, with its port, under which this port is reached from anywhere; empty to ask the router.
    pub endpoint: String,
    /// Whether the router is asked to let the port through.
    pub map_port: bool,
    /// Where a tailscaled of this machine listens.
    pub tailscaled: String,
}

impl Default for MeshConfig {
    fn default() -> Self {
        MeshConfig {
            enabled: true,
            port: 51820,
            network: Ipv4Addr::new(10, 77, 0, 0),
            endpoint: String::new(),
            map_port: true,
            tailscaled: "/var/run/tailscale/tailscaled.sock".to_owned(),
        }
    }
}

impl MeshConfig {
    /// What is wrong with these settings: the key, and what it needs.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        if self.port == 0 {
            return Some(("mesh.port", "must not be 0: phones remember it"));
        }
        if !self.network.is_private() || self.network.octets()[3] != 0 {
            return Some((
                "mesh.network",
                "must be a private address that ends in .0, such as 10.77.0.0",
            ));
        }
        let named = self.endpoint.rsplit_once(':');
        let usable = named.is_some_and(|(name, port)| {
            !name.is_empty()
                && port.parse::<u16>().is_ok_and(|port| port > 0)
                && !self
                    .endpoint
                    .chars()
                    .any(|c| c.is_whitespace() || c.is_control())
        });
        if !self.endpoint.is_empty() && !usable {
            return Some((
                "mesh.endpoint",
                "needs a name and a port, such as home.example.org:51820",
            ));
        }
        None
    }
}

/// A Headscale server of the owner's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadscaleConfig {
    /// Its address as devices know it; empty for none.
    pub url: String,
    /// An API key of it.
    pub key: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_phone_could_not_use_is_refused() {
        let with = |endpoint: &str| MeshConfig {
            endpoint: endpoint.to_owned(),
            ..MeshConfig::default()
        };
        assert_eq!(MeshConfig::default().fault(), None);
        assert_eq!(with("home.example.org:51820").fault(), None);
        assert_eq!(with("[2001:db8::1]:9").fault(), None);
        for bad in ["home.example.org", ":9", "a:0", "a\nb:9", "a:99999"] {
            assert!(with(bad).fault().is_some(), "{bad}");
        }
        let public = MeshConfig {
            network: Ipv4Addr::new(8, 8, 8, 0),
            ..MeshConfig::default()
        };
        assert!(public.fault().is_some());
    }
}
