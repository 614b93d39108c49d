//! Our own certificate authority, the certificate that it gives this machine, and the owner's own one. Those that others
//! gave this machine are in `named.rs`.
//!
//! Whoever installs the authority trusts it for names and addresses of homes only: its certificate says, in a
//! critical extension, that it may speak for nothing public, so that not even its stolen key could. The leaf
//! lives in memory and is made anew at each start and whenever the machine's addresses change.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, version};

use super::named::Named;
use super::secret::{hex, words};
use super::{TrustError, files};
use crate::config::TrustConfig;

/// The authority lasts as long as such a machine.
const AUTHORITY_DAYS: i64 = 20 * 365;
/// Apple's systems accept 825 days at most of a private authority; a year is enough for what each start renews.
const LEAF_DAYS: i64 = 397;
/// A leaf that has served this long is made anew without a restart.
const LEAF_RENEW_DAYS: i64 = 180;
/// Clocks of phones differ; a certificate from the future is refused.
const BACKDATED: Duration = Duration::days(2);

/// Names that belong to homes: `home.arpa` by RFC 8375, `local` by RFC 6762.
const HOME_SUFFIXES: [&str; 3] = ["local", "home.arpa", "localhost"];

/// Networks that belong to homes, and this machine itself: address, prefix.
const HOME_V4: [([u8; 4], u8); 6] = [
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
];
const HOME_V6: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::LOCALHOST, 128),
    (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0), 8),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
];

/// Our certificates, once [`Certificates::prepare`] has run.
pub struct Certificates {
    folder: PathBuf,
    config: TrustConfig,
    authority: OnceLock<Authority>,
    named: Arc<Named>,
    resolver: Arc<Resolver>,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
    pem: String,
    server: Arc<ServerConfig>,
}

/// What a handshake is answered with.
struct Resolver {
    named: Arc<Named>,
    ours: RwLock<Option<Leaf>>,
    owners: RwLock<Option<Owners>>,
}

struct Leaf {
    key: Arc<CertifiedKey>,
    subjects: Vec<SanType>,
    made_at: OffsetDateTime,
}

struct Owners {
    key: Arc<CertifiedKey>,
    /// Of the two files, to notice that they were replaced.
    changed_at: [Option<SystemTime>; 2],
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if let Some(given) = hello.server_name().and_then(|name| self.named.find(name)) {
            return Some(given);
        }
        let of_home = hello.server_name().is_none_or(is_home_name);
        let owners = read(&self.owners)
            .as_ref()
            .map(|owners| Arc::clone(&owners.key));
        let ours = read(&self.ours).as_ref().map(|leaf| Arc::clone(&leaf.key));
        match of_home {
            true => ours.or(owners),
            false => owners.or(ours),
        }
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn failed(what: &str) -> impl Fn(&dyn fmt::Display) -> TrustError + '_ {
    move |error| TrustError::Certificate(format!("{what}: {error}"))
}

impl Certificates {
    pub(super) fn new(folder: PathBuf, config: TrustConfig) -> Certificates {
        let named = Arc::new(Named::new(folder.clone()));
        Certificates {
            folder,
            config,
            authority: OnceLock::new(),
            resolver: Arc::new(Resolver {
                named: Arc::clone(&named),
                ours: RwLock::default(),
                owners: RwLock::default(),
            }),
            named,
        }
    }

    /// Those that others gave this machine for one of its names.
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// Reads the authority, or makes it at the first start, and gives this machine its certificate.
    pub(super) fn prepare(&self, addresses: &[IpAddr], names: &[String]) -> Result<(), TrustError> {
        if self.authority.get().is_none() {
            let authority = self.open_authority()?;
            // A second caller at the same time has read the same files.
            let _ = self.authority.set(authority);
            self.named.open();
        }
        self.refresh(addresses, names)?;
        Ok(())
    }

    /// Makes the leaf anew when the machine's addresses have changed or it has become old, and reads the owner's
    /// own certificate when its files have. Returns whether anything changed.
    ///
    /// # Errors
    /// The owner's files cannot be used; what was served before is served on.
    pub fn refresh(&self, addresses: &[IpAddr], names: &[String]) -> Result<bool, TrustError> {
        let Some(authority) = self.authority.get() else {
            return Ok(false);
        };
        let subjects = subjects(addresses, names);
        let now = OffsetDateTime::now_utc();
        let fits = read(&self.resolver.ours).as_ref().is_some_and(|leaf| {
            leaf.subjects == subjects && now - leaf.made_at < Duration::days(LEAF_RENEW_DAYS)
        });
        if !fits {
            let key = issue(&authority.issuer, &authority.der, subjects.clone(), now)?;
            *write(&self.resolver.ours) = Some(Leaf {
                key,
                subjects,
                made_at: now,
            });
        }
        Ok(self.refresh_owners()? || !fits)
    }

    fn refresh_owners(&self) -> Result<bool, TrustError> {
        let (chain, key) = (&self.config.certificate, &self.config.certificate_key);
        if chain.is_empty() && key.is_empty() {
            return Ok(false);
        }
        let (chain, key) = (Path::new(chain), Path::new(key));
        let changed = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        let changed_at = [changed(chain), changed(key)];
        if read(&self.resolver.owners)
            .as_ref()
            .is_some_and(|owners| owners.changed_at == changed_at)
        {
            return Ok(false);
        }
        let key = owners_key(chain, key)?;
        *write(&self.resolver.owners) = Some(Owners { key, changed_at });
        Ok(true)
    }

    /// What a listener answers handshakes with; `None` before [`Certificates::prepare`].
    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.authority.get().map(|a| Arc::clone(&a.server))
    }

    /// The authority's certificate in DER; empty before [`Certificates::prepare`].
    pub fn authority_der(&self) -> Vec<u8> {
        self.authority
            .get()
            .map(|a| a.der.clone())
            .unwrap_or_default()
    }

    /// The authority's certificate in PEM.
    pub fn authority_pem(&self) -> Option<String> {
        self.authority.get().map(|a| a.pem.clone())
    }

    /// The authority's SHA-256 fingerprint: as digits, and as words to compare by eye or ear. Five words are 80
    /// bits: more than anybody can search for a second key with the same ones.
    pub fn fingerprint(&self) -> Option<(String, String)> {
        let digest: [u8; 32] = Sha256::digest(&self.authority.get()?.der).into();
        Some((hex(&digest), words(&digest, 5)))
    }

    /// The authority as a profile that iOS installs.
    pub fn profile(&self) -> Option<String> {
        let authority = self.authority.get()?;
        let base64: String = authority
            .pem
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let digest: [u8; 32] = Sha256::digest(&authority.der).into();
        let name = authority_name(&authority.der_key_hash());
        Some(profile(&name, &base64, &digest))
    }

    fn open_authority(&self) -> Result<Authority, TrustError> {
        let (key_file, cert_file) = (self.folder.join("ca.key"), self.folder.join("ca.pem"));
        let kept = files::read(&key_file)?.zip(files::read(&cert_file)?);
        let (key, pem) = match kept {
            Some((key, pem)) => {
                let wrong = failed(
                    "the certificate authority in the data directory cannot be read; remove trust/ca.key and trust/ca.pem to make a new one",
                );
                let key = String::from_utf8(key).map_err(|e| wrong(&e))?;
                let pem = String::from_utf8(pem).map_err(|e| wrong(&e))?;
                (KeyPair::from_pem(&key).map_err(|e| wrong(&e))?, pem)
            }
            None => {
                let wrong = failed("no certificate authority could be made");
                let key = KeyPair::generate().map_err(|e| wrong(&e))?;
                let certificate = authority_params(&key, OffsetDateTime::now_utc())
                    .and_then(|params| params.self_signed(&key))
                    .map_err(|e| wrong(&e))?;
                // The certificate last: with it, the pair is whole.
                files::write_secret(&key_file, key.serialize_pem().as_bytes())?;
                files::write_secret(&cert_file, certificate.pem().as_bytes())?;
                (key, certificate.pem())
            }
        };
        let wrong = failed("the certificate authority in the data directory cannot be used");
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|e| wrong(&e))?
            .to_vec();
        let params = authority_params(&key, OffsetDateTime::now_utc()).map_err(|e| wrong(&e))?;
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|e| wrong(&e))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.resolver) as Arc<dyn ResolvesServerCert>);
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Authority {
            issuer: Issuer::new(params, key),
            der,
            pem,
            server: Arc::new(server),
        })
    }
}

impl Authority {
    fn der_key_hash(&self) -> [u8; 32] {
        key_hash(self.issuer.key())
    }
}

fn key_hash(key: &KeyPair) -> [u8; 32] {
    Sha256::digest(key.public_key_raw()).into()
}

/// Each box has a name of its own, so that a phone that knows two of them can tell which profile to remove.
fn authority_name(key_hash: &[u8; 32]) -> String {
    format!("onebit {}", hex(&key_hash[..4]))
}

/// What the authority's certificate says. The same key gives the same name, so nothing else has to be kept.
fn authority_params(key: &KeyPair, now: OffsetDateTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, authority_name(&key_hash(key)));
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::days(AUTHORITY_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let names = HOME_SUFFIXES.map(|suffix| GeneralSubtree::DnsName(suffix.to_owned()));
    let v4 = HOME_V4.map(|(address, prefix)| {
        GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(address, prefix))
    });
    let v6 = HOME_V6.map(|(address, prefix)| {
        GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(address.octets(), prefix))
    });
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: names.into_iter().chain(v4).chain(v6).collect(),
        excluded_subtrees: Vec::new(),
    });
    Ok(params)
}

/// Makes this machine's certificate.
fn issue(
    issuer: &Issuer<'static, KeyPair>,
    authority_der: &[u8],
    subjects: Vec<SanType>,
    now: OffsetDateTime,
) -> Result<Arc<CertifiedKey>, TrustError> {
    let wrong = failed("no certificate could be made for this machine");
    let key = KeyPair::generate().map_err(|e| wrong(&e))?;
    let mut params = CertificateParams::new(Vec::new()).map_err(|e| wrong(&e))?;
    params.distinguished_name.push(DnType::CommonName, "onebit");
    params.subject_alt_names = subjects;
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::days(LEAF_DAYS) - BACKDATED;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(&key, issuer).map_err(|e| wrong(&e))?;
    let chain = vec![
        leaf.der().clone(),
        CertificateDer::from(authority_der.to_vec()),
    ];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key =
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|e| wrong(&e))?;
    Ok(Arc::new(key))
}

/// Reads the owner's own certificate.
fn owners_key(chain: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TrustError> {
    let wrong = |path: &Path, why: &dyn fmt::Display| {
        TrustError::Certificate(format!(
            "trust.certificate and trust.certificate_key: {}: {why}",
            path.display()
        ))
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .map_err(|e| wrong(chain, &e))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| wrong(chain, &e))?;
    if certificates.is_empty() {
        return Err(wrong(chain, &"holds no certificate in PEM"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
    // Refuses a key that is not the certificate's.
    let pair = CertifiedKey::from_der(certificates, private, &ring::default_provider())
        .map_err(|e| wrong(key, &e))?;
    Ok(Arc::new(pair))
}

/// What the certificate is for: of the machine's names and addresses, those that the authority may speak for.
fn subjects(addresses: &[IpAddr], names: &[String]) -> Vec<SanType> {
    let mut all: Vec<IpAddr> = addresses
        .iter()
        .map(IpAddr::to_canonical)
        .chain([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
        .filter(|address| is_home_address(*address))
        .collect();
    all.sort();
    all.dedup();
    let mut known: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    known.push("localhost".to_owned());
    known.retain(|name| is_home_name(name));
    known.sort();
    known.dedup();
    let names = known
        .into_iter()
        .filter_map(|name| Some(SanType::DnsName(name.try_into().ok()?)));
    names
        .chain(all.into_iter().map(SanType::IpAddress))
        .collect()
}

fn is_home_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    HOME_SUFFIXES.iter().any(|suffix| {
        name == *suffix
            || name
                .strip_suffix(suffix)
                .is_some_and(|rest| rest.ends_with('.'))
    })
}

fn is_home_address(address: IpAddr) -> bool {
    let shares = |a: u128, b: u128, bits: u32| bits == 0 || (a ^ b) >> (128 - bits) == 0;
    match address {
        IpAddr::V4(address) => {
            let wide = |a: [u8; 4]| u128::from(u32::from_be_bytes(a)) << 96;
            HOME_V4
                .iter()
                .any(|(net, bits)| shares(wide(*net), wide(address.octets()), u32::from(*bits)))
        }
        IpAddr::V6(address) => HOME_V6
            .iter()
            .any(|(net, bits)| shares(net.to_bits(), address.to_bits(), u32::from(*bits))),
    }
}

/// An unsigned configuration profile with one root certificate in it.
fn profile(name: &str, base64: &str, digest: &[u8; 32]) -> String {
    let uuid = |bytes: &[u8]| {
        let h = hex(bytes);
        format!(
            "{}-{}-{}-{}-{}",
            &h[..8],
            &h[8..12],
            &h[12..16],
            &h[16..20],
            &h[20..32]
        )
        .to_uppercase()
    };
    let (outer, inner) = (uuid(&digest[..16]), uuid(&digest[16..]));
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>PayloadContent</key><array><dict>
<key>PayloadContent</key><data>{base64}</data>
<key>PayloadCertificateFileName</key><string>onebit.cer</string>
<key>PayloadDisplayName</key><string>{name}</string>
<key>PayloadIdentifier</key><string>onebit.ca.{inner}</string>
<key>PayloadType</key><string>com.apple.security.root</string>
<key>PayloadUUID</key><string>{inner}</string>
<key>PayloadVersion</key><integer>1</integer>
</dict></array>
<key>PayloadDescription</key><string>Lets this device recognise your own onebit. It can vouch for home addresses and .local names only.</string>
<key>PayloadDisplayName</key><string>{name}</string>
<key>PayloadIdentifier</key><string>onebit.{outer}</string>
<key>PayloadRemovalDisallowed</key><false/>
<key>PayloadType</key><string>Configuration</string>
<key>PayloadUUID</key><string>{outer}</string>
<key>PayloadVersion</key><integer>1</integer>
</dict></plist>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificates(folder: &Path) -> Certificates {
        files::make_folder(folder).unwrap();
        Certificates::new(folder.to_owned(), TrustConfig::default())
    }

    fn shown(certificates: &Certificates) -> Vec<u8> {
        let ours = read(&certificates.resolver.ours);
        ours.as_ref().unwrap().key.cert[0].to_vec()
    }

    #[test]
    fn homes_are_homes() {
        for yes in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.2",
            "100.64.0.1",
            "127.0.0.1",
            "::1",
            "fd12::1",
            "fe80::1",
        ] {
            assert!(is_home_address(yes.parse().unwrap()), "{yes}");
        }
        for no in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "11.0.0.0",
            "2001:db8::1",
            "::2",
            "fc00::1",
        ] {
            assert!(!is_home_address(no.parse().unwrap()), "{no}");
        }
        for yes in ["onebit.local", "LOCALHOST", "a.b.home.arpa"] {
            assert!(is_home_name(yes), "{yes}");
        }
        for no in ["notlocal", "bank.example", "local.example", ""] {
            assert!(!is_home_name(no), "{no}");
        }
    }

    #[test]
    fn the_authority_stays_and_the_leaf_follows_the_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let (home, away): (IpAddr, IpAddr) =
            ("192.168.1.2".parse().unwrap(), "10.0.0.9".parse().unwrap());
        let names = ["onebit.local".to_owned(), "onebit.example".to_owned()];
        let first = certificates(folder.path());
        assert!(first.server_config().is_none() && first.authority_pem().is_none());
        first.prepare(&[home], &names).unwrap();
        let leaf = shown(&first);
        assert!(!first.refresh(&[home], &names).unwrap());
        assert_eq!(shown(&first), leaf);
        assert!(first.refresh(&[home, away], &names).unwrap());
        assert_ne!(shown(&first), leaf);
        let second = certificates(folder.path());
        second.prepare(&[home], &names).unwrap();
        assert_eq!(first.authority_der(), second.authority_der());
        assert_eq!(first.fingerprint(), second.fingerprint());
        let subjects = subjects(&[home, "8.8.8.8".parse().unwrap()], &names);
        assert_eq!(subjects.len(), 2 + 3, "{subjects:?}");
    }

    #[test]
    fn the_profile_holds_the_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let ours = certificates(folder.path());
        ours.prepare(&[], &[]).unwrap();
        let profile = ours.profile().unwrap();
        let line = ours
            .authority_pem()
            .unwrap()
            .lines()
            .nth(1)
            .unwrap()
            .to_owned();
        assert!(profile.contains(&line) && profile.contains("com.apple.security.root"));
    }

    #[test]
    fn the_owners_files_are_taken_when_they_fit_and_named_when_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["box.example".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let mut config = TrustConfig {
            certificate: write("own.pem", &own.pem()),
            certificate_key: write("own.key", &key.serialize_pem()),
            ..TrustConfig::default()
        };
        let trust = folder.path().join("trust");
        files::make_folder(&trust).unwrap();
        let good = Certificates::new(trust.clone(), config.clone());
        good.prepare(&[], &[]).unwrap();
        assert!(read(&good.resolver.owners).is_some());
        config.certificate_key = write("other.key", &KeyPair::generate().unwrap().serialize_pem());
        let bad = Certificates::new(trust, config)
            .prepare(&[], &[])
            .unwrap_err()
            .to_string();
        assert!(bad.contains("other.key"), "{bad}");
    }
}
