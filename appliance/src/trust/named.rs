//! Certificates that others gave this machine for one of its names: a public authority, or the tailnet that it is in.
//!
//! Each is one file of key and chain in the folder of secrets, so that a start needs nobody's answer. What is in a
//! certificate says which names it is for and how long; who gave it is not known here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rcgen::{CertificateParams, DnType, KeyPair};
use time::OffsetDateTime;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{TrustError, files};

/// What such files are called.
const PREFIX: &str = "named-";

/// The account at a public authority.
const ACCOUNT_FILE: &str = "acme-account";

/// The certificates that are here, by name.
pub struct Named {
    folder: PathBuf,
    given: RwLock<HashMap<String, Given>>,
}

#[derive(Clone)]
struct Given {
    key: Arc<CertifiedKey>,
    /// Unix seconds.
    from: i64,
    until: i64,
}

/// What an authority is asked to sign.
pub struct Ask {
    /// The request in DER.
    pub request: Vec<u8>,
    /// The key that it is for, in PEM.
    pub key: String,
}

fn wrong(what: &str, error: impl std::fmt::Display) -> TrustError {
    TrustError::Certificate(format!("{what}: {error}"))
}

impl Named {
    pub(super) fn new(folder: PathBuf) -> Named {
        Named {
            folder,
            given: RwLock::default(),
        }
    }

    /// Reads what is kept. A file that is no certificate is said and left out.
    pub(super) fn open(&self) {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str());
            let ours = name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(".pem"));
            if !ours {
                continue;
            }
            let taken = files::read(&path).and_then(|pem| self.take(&pem.unwrap_or_default()));
            if let Err(error) = taken {
                tracing::error!(file = %path.display(), %error, "a certificate is left out; it is asked for again");
            }
        }
    }

    /// The certificate for a name that a handshake asks for.
    pub(super) fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let given = self.given.read().unwrap_or_else(PoisonError::into_inner);
        let name = name.to_ascii_lowercase();
        let wild = || Some(format!("*.{}", name.split_once('.')?.1));
        let found = given.get(&name).or_else(|| given.get(&wild()?));
        found.map(|given| Arc::clone(&given.key))
    }

    /// Unix seconds at which a name's certificate should be replaced: when a third of its time is left. `None` where
    /// there is none.
    pub fn renew_at(&self, name: &str) -> Option<i64> {
        let given = self.given.read().unwrap_or_else(PoisonError::into_inner);
        let found = given.get(&name.to_ascii_lowercase())?;
        Some(found.until - (found.until - found.from) / 3)
    }

    /// Takes a key and its chain, both in PEM, and keeps them under a name.
    ///
    /// # Errors
    /// They do not belong together, name nothing, or cannot be written.
    pub fn keep(&self, name: &str, pem: &[u8]) -> Result<(), TrustError> {
        self.take(pem)?;
        let file: String = name.replace('*', "_");
        files::write_secret(&self.folder.join(format!("{PREFIX}{file}.pem")), pem)
    }

    fn take(&self, pem: &[u8]) -> Result<(), TrustError> {
        let what = "a certificate that was given cannot be used";
        let chain = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(what, error))?;
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| wrong(what, error))?;
        let first = chain.first().ok_or_else(|| wrong(what, "it is empty"))?;
        let (names, from, until) = read(first)?;
        // Refuses a key that is not the certificate's.
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| wrong(what, error))?;
        let given = Given {
            key: Arc::new(key),
            from,
            until,
        };
        let mut all = self.given.write().unwrap_or_else(PoisonError::into_inner);
        all.extend(names.into_iter().map(|name| (name, given.clone())));
        Ok(())
    }

    /// A new key, and what an authority signs for it.
    ///
    /// # Errors
    /// A name is none.
    pub fn ask(names: &[String]) -> Result<Ask, TrustError> {
        let what = "no request for a certificate could be made";
        let key = KeyPair::generate().map_err(|error| wrong(what, error))?;
        let mut params =
            CertificateParams::new(names.to_vec()).map_err(|error| wrong(what, error))?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, names.first().map_or("", String::as_str));
        let request = params.serialize_request(&key);
        Ok(Ask {
            request: request.map_err(|error| wrong(what, error))?.der().to_vec(),
            key: key.serialize_pem(),
        })
    }

    /// What was kept of the account at the public authority.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn account(&self) -> Result<Option<Vec<u8>>, TrustError> {
        files::read(&self.account_file())
    }

    /// Keeps the account at the public authority.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_account(&self, bytes: &[u8]) -> Result<(), TrustError> {
        files::write_secret(&self.account_file(), bytes)
    }

    fn account_file(&self) -> PathBuf {
        Path::join(&self.folder, ACCOUNT_FILE)
    }
}

/// Which names a certificate is for, and from when to when in Unix seconds.
fn read(der: &CertificateDer<'_>) -> Result<(Vec<String>, i64, i64), TrustError> {
    let what = "a certificate that was given cannot be read";
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| wrong(what, error))?;
    let subjects = certificate
        .subject_alternative_name()
        .map_err(|error| wrong(what, error))?;
    let names: Vec<String> = subjects
        .iter()
        .flat_map(|subjects| &subjects.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        return Err(wrong(what, "it is for no name"));
    }
    let validity = certificate.validity();
    let (from, until) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    if until <= OffsetDateTime::now_utc().unix_timestamp() {
        return Err(wrong(what, "it has ended"));
    }
    Ok((names, from, until))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    /// Key and certificate for a name that ends in so many days, ninety after it began.
    fn pem(name: &str, days: i64) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
        params.not_before = params.not_after - Duration::days(90);
        let own = params.self_signed(&key).unwrap();
        format!("{}{}", key.serialize_pem(), own.pem())
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart_and_renewed_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let named = || Named::new(folder.path().to_owned());
        let first = named();
        assert!(first.find("box.example").is_none() && first.renew_at("box.example").is_none());
        first
            .keep("box.example", pem("box.example", 89).as_bytes())
            .unwrap();
        first
            .keep("*.wild.example", pem("*.wild.example", 29).as_bytes())
            .unwrap();
        let second = named();
        second.open();
        for (name, there) in [
            ("box.example", true),
            ("BOX.example", true),
            ("a.wild.example", true),
            ("a.b.wild.example", false),
            ("a.box.example", false),
            ("example", false),
        ] {
            assert_eq!(second.find(name).is_some(), there, "{name}");
        }
        let now = OffsetDateTime::now_utc().unix_timestamp();
        assert!(second.renew_at("box.example").unwrap() > now);
        assert!(second.renew_at("*.wild.example").unwrap() < now);
    }

    #[test]
    fn what_nobody_could_use_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let named = Named::new(folder.path().to_owned());
        let good = pem("box.example", 89);
        let (key, certificate) = good.split_at(good.find("-----BEGIN CERT").unwrap());
        let other = KeyPair::generate().unwrap().serialize_pem();
        for bad in [
            String::new(),
            key.to_owned(),
            certificate.to_owned(),
            format!("{other}{certificate}"),
            pem("box.example", -1),
        ] {
            assert!(named.keep("box.example", bad.as_bytes()).is_err(), "{bad}");
        }
        std::fs::write(folder.path().join("named-x.pem"), "broken").unwrap();
        named.open();
        assert!(named.find("box.example").is_none());
    }

    #[test]
    fn a_request_names_what_it_is_for() {
        let asked = Named::ask(&["a.example".to_owned(), "b.example".to_owned()]).unwrap();
        let holds = |word: &[u8]| asked.request.windows(word.len()).any(|w| w == word);
        assert!(holds(b"a.example") && holds(b"b.example"));
        assert!(asked.key.contains("PRIVATE KEY"));
    }
}
