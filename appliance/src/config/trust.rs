//! Settings of who is let in.

use serde::{Deserialize, Serialize};

/// Who is let in, and what we are called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrustConfig {
    /// Whether a program on this machine is the owner without showing anything.
    pub loopback_is_owner: bool,
    /// The name on the network, without its `.local`.
    pub name: String,
    /// Whether the network is told that name.
    pub announce: bool,
    /// The owner's own certificate chain in PEM, empty for none.
    pub certificate: String,
    /// Its key.
    pub certificate_key: String,
}

impl Default for TrustConfig {
    fn default() -> Self {
        TrustConfig {
            loopback_is_owner: true,
            name: "onebit".to_owned(),
            announce: true,
            certificate: String::new(),
            certificate_key: String::new(),
        }
    }
}
