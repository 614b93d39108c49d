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

/// A public certificate for names that the owner owns, by ACME's DNS challenge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AcmeConfig {
    /// The names; empty for none.
    pub names: Vec<String>,
    /// The program that sets and removes the record in the DNS.
    pub hook: String,
    /// Where the authority tells what it offers.
    pub directory: String,
    /// Whether the owner has read and accepts the authority's terms.
    pub accept_terms: bool,
    /// An address that the authority may write to; empty for none.
    pub contact: String,
    /// How long a record takes until everybody sees it, after the hook has ended.
    pub wait_s: u64,
}

impl Default for AcmeConfig {
    fn default() -> Self {
        AcmeConfig {
            names: Vec::new(),
            hook: String::new(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            accept_terms: false,
            contact: String::new(),
            wait_s: 30,
        }
    }
}

impl AcmeConfig {
    /// What is wrong with these settings: the key, and what it needs.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        if self.names.is_empty() {
            return None;
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let usable = |name: &String| {
            let name = name.strip_prefix("*.").unwrap_or(name);
            name.len() <= 253 && name.contains('.') && name.split('.').all(label)
        };
        if !self.names.iter().all(usable) {
            return Some((
                "acme.names",
                "are names that you own, such as box.example.org",
            ));
        }
        if !std::path::Path::new(&self.hook).is_absolute() {
            return Some((
                "acme.hook",
                "must be the whole path of a program that sets the record, such as /usr/local/bin/set-record",
            ));
        }
        (!self.accept_terms).then_some((
            "acme.accept_terms",
            "must be true: read the terms of the authority first",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_authority_could_sign_is_refused() {
        let good = AcmeConfig {
            names: vec!["box.example.org".into(), "*.box.example.org".into()],
            hook: "/bin/true".into(),
            accept_terms: true,
            ..AcmeConfig::default()
        };
        assert_eq!(AcmeConfig::default().fault(), None);
        assert_eq!(good.fault(), None);
        for name in ["box", "a b.example", "-/../x.example", "", "*", ".example"] {
            let bad = AcmeConfig {
                names: vec![name.into()],
                ..good.clone()
            };
            assert!(bad.fault().is_some(), "{name}");
        }
        for bad in [
            AcmeConfig {
                hook: "set-record".into(),
                ..good.clone()
            },
            AcmeConfig {
                accept_terms: false,
                ..good
            },
        ] {
            assert!(bad.fault().is_some(), "{bad:?}");
        }
    }
}
