//! Who is let in, and how they prove it: devices, keys, pairing, our certificates.
//!
//! One [`Trust`] lives as long as the appliance. It knows rows and the clock, and nothing of HTTP, pages or
//! engines. Secrets leave it once, when they are made; it keeps their hashes.

pub mod announce;
mod arrive;
mod error;
mod files;
mod limits;
pub mod named;
pub mod pairing;
pub mod qr;
mod secret;
pub mod tls;
mod tunnel;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::config::TrustConfig;
use crate::domain::{Credential, CredentialKind, Peer, PersonId, Scope, Transport};
use crate::store::{Kept, SecretHash, Store, new_id, now_ms};
use limits::{Limiter, Rate, who};
use pairing::Pairings;
use secret::{Token, hash, same};
use tls::Certificates;

pub use arrive::{Claimed, Opened, Progress};
pub use error::TrustError;

/// The folder of secrets in the data directory.
pub const FOLDER: &str = "trust";

/// The file with the key of this machine's own commands.
const LOCAL_KEY: &str = "local-key";
/// What it is called in the list of keys.
const LOCAL_KEY_NAME: &str = "this machine's command line";

/// A device that is not used for this long has to be paired again.
const DEVICE_DAYS: i64 = 90;
const DAY_MS: i64 = 86_400_000;

/// A device's secret is renewed when it is older than this.
const RENEW_MS: i64 = DAY_MS;

/// Requests that were under way while a secret was renewed still carry the old one for so long.
const RENEWING_MS: i64 = 60_000;

/// How often the time of a credential's last use is written.
const TOUCH_MS: i64 = 60_000;

/// A WebSocket ticket is used at once or never.
const TICKET_MS: i64 = 30_000;
const TICKETS_MAX: usize = 256;

/// Names of devices, keys and persons.
const NAME_CHARS_MAX: usize = 64;

/// Pairing and claiming: a person mistypes a few times.
const TRIES: Rate = Rate {
    burst: 5.0,
    minute: 5.0,
};
/// Unknown credentials: a page with an old cookie sends a handful of requests before it gives up.
const WRONG: Rate = Rate {
    burst: 30.0,
    minute: 20.0,
};
/// Requests of one device, or of one address that has not signed in. A page that opens sends about thirty.
const REQUESTS: Rate = Rate {
    burst: 600.0,
    minute: 1200.0,
};

/// A token that a request carries, and how.
#[derive(Debug, Clone, Copy)]
pub struct Carried<'a> {
    /// The text, of our form or not.
    pub text: &'a str,
    /// Whether a cookie carries it, which a renewal can replace.
    pub cookie: bool,
}

/// Who a request is from.
pub struct Recognised {
    /// The peer; a stranger where nothing was shown or `wrong` says why not.
    pub peer: Peer,
    /// Why the credential that was shown is not accepted.
    pub wrong: Option<TrustError>,
    /// The renewed token, for the cookie.
    pub renewed: Option<String>,
    /// Ends when the credential is revoked.
    pub live: Option<Live>,
}

/// Ends when its credential is revoked.
#[derive(Clone)]
pub struct Live(watch::Receiver<()>);

impl Live {
    /// Resolves at the revocation; never before.
    pub async fn revoked(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// A new credential and its secret, which is shown once.
pub struct Made {
    /// What was made.
    pub credential: Credential,
    /// The token.
    pub token: String,
}

/// Everything about who is let in.
pub struct Trust {
    store: Store,
    folder: PathBuf,
    config: TrustConfig,
    certificates: Certificates,
    pairings: Mutex<Pairings>,
    pairing_changed: Notify,
    tickets: Mutex<HashMap<SecretHash, (Peer, i64)>>,
    live: Mutex<HashMap<String, watch::Sender<()>>>,
    tries: Mutex<Limiter>,
    wrong: Mutex<Limiter>,
    requests: Mutex<Limiter>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holder leaves the value whole, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trust {
    /// Makes the value; reads and writes nothing yet.
    pub fn new(store: Store, config: TrustConfig) -> Trust {
        let folder = store.folder().join(FOLDER);
        Trust {
            certificates: Certificates::new(folder.clone(), config.clone()),
            store,
            folder,
            config,
            pairings: Mutex::default(),
            pairing_changed: Notify::new(),
            tickets: Mutex::default(),
            live: Mutex::default(),
            tries: Mutex::new(Limiter::new(TRIES)),
            wrong: Mutex::new(Limiter::new(WRONG)),
            requests: Mutex::new(Limiter::new(REQUESTS)),
        }
    }

    /// Makes what the first start needs: the folder, the certificates, and the setup code while nobody has claimed
    /// the appliance from elsewhere. For the process that serves.
    ///
    /// # Errors
    /// The folder cannot be written, or the store fails.
    pub async fn prepare(
        &self,
        addresses: &[std::net::IpAddr],
        names: &[String],
    ) -> Result<(), TrustError> {
        files::make_folder(&self.folder)?;
        self.certificates.prepare(addresses, names)?;
        self.prepare_local_key().await?;
        let devices = self.store.access().all(CredentialKind::Device).await?;
        let claimed = devices.iter().any(|device| device.scope == Scope::Owner);
        if claimed {
            files::remove(&self.setup_file())?;
        } else if files::read(&self.setup_file())?.is_none() {
            files::write_secret(&self.setup_file(), secret::code(16)?.as_bytes())?;
        }
        Ok(())
    }

    /// Gives this machine's own commands a key where they need one, a new one at each start.
    async fn prepare_local_key(&self) -> Result<(), TrustError> {
        let file = self.folder.join(LOCAL_KEY);
        let access = self.store.access();
        for old in access.all(CredentialKind::Key).await? {
            if old.name == LOCAL_KEY_NAME {
                access.remove(CredentialKind::Key, &old.id).await?;
            }
        }
        if self.config.loopback_is_owner {
            files::remove(&file)?;
            return Ok(());
        }
        let made = self
            .make(
                CredentialKind::Key,
                (PersonId::owner(), Scope::Owner),
                LOCAL_KEY_NAME,
                None,
                None,
            )
            .await?;
        files::write_secret(&file, made.token.as_bytes())
    }

    /// Our certificates.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Where the setup code lies.
    pub fn setup_file(&self) -> PathBuf {
        self.folder.join("setup-code")
    }

    /// Whether the setup code still waits to be used.
    pub fn is_unclaimed(&self) -> bool {
        self.setup_file().is_file()
    }

    /// Decides who a request is from.
    ///
    /// # Errors
    /// The store fails, or the other side has guessed too often; a wrong credential is no error but a stranger.
    pub async fn recognise(
        &self,
        transport: Transport,
        carried: &[Carried<'_>],
    ) -> Result<Recognised, TrustError> {
        let stranger = |transport, wrong| Recognised {
            peer: Peer::stranger(transport),
            wrong,
            renewed: None,
            live: None,
        };
        let mut ours = carried.iter().filter(|c| Token::is_ours(c.text));
        let Some(first) = ours.next() else {
            if transport == Transport::Loopback && self.config.loopback_is_owner {
                // Clients that insist on a key send any; on this machine none is needed.
                return Ok(Recognised {
                    peer: Peer::loopback(),
                    ..stranger(transport, None)
                });
            }
            let foreign = carried.iter().any(|c| !c.text.is_empty());
            return Ok(match transport {
                // The tunnel's key names the device, which may ask models; what is kept needs its token.
                Transport::Mesh { .. } if !foreign => self.tunnel(transport).await?,
                transport => stranger(transport, foreign.then_some(TrustError::Unknown)),
            });
        };
        if ours.any(|other| other.text != first.text) {
            return Ok(stranger(transport, Some(TrustError::Several)));
        }
        let now = now_ms();
        let from = who(transport.address());
        let cookie = carried.iter().any(|c| c.cookie && c.text == first.text);
        match self.check(first.text, &transport, cookie, now).await? {
            Some((credential, renewed)) => Ok(Recognised {
                live: Some(self.live(&credential.id)),
                peer: Peer::bearer(transport, &credential),
                wrong: None,
                renewed,
            }),
            None => {
                // A right one is let in however many wrong ones come from the same address.
                if transport != Transport::Loopback {
                    lock(&self.wrong)
                        .take(&from, now)
                        .map_err(TrustError::TooOften)?;
                }
                Ok(stranger(transport, Some(TrustError::Unknown)))
            }
        }
    }

    /// Holds a token against what is kept; `None` when it does not open anything.
    async fn check(
        &self,
        text: &str,
        transport: &Transport,
        cookie: bool,
        now: i64,
    ) -> Result<Option<(Credential, Option<String>)>, TrustError> {
        let Some(token) = Token::parse(text) else {
            return Ok(None);
        };
        let access = self.store.access();
        let Some(kept) = access.find(&token.id).await? else {
            return Ok(None);
        };
        let credential = &kept.credential;
        if credential.expires_at.is_some_and(|at| at <= now) {
            return Ok(None);
        }
        let age = now.saturating_sub(kept.renewed_at);
        let is_present = same(&kept.secret, &token.secret);
        let is_previous = kept
            .previous
            .is_some_and(|previous| same(&previous, &token.secret));
        let mut renewed = None;
        if is_present {
            if !kept.confirmed {
                access.confirm(&credential.id, kept.secret).await?;
            }
            if cookie && credential.kind == CredentialKind::Device && age >= RENEW_MS {
                renewed = self.renew_from(&kept, token.secret).await?;
            }
        } else if is_previous && (!kept.confirmed || age < RENEWING_MS) {
            // The answer with the new secret has not arrived, or is still under way beside this request.
            if cookie && age >= RENEWING_MS {
                renewed = self.renew_from(&kept, token.secret).await?;
            }
        } else if is_previous {
            // The new secret is in use, and so is the old one: one of the two has been copied.
            let name = credential.name.clone();
            self.remove(CredentialKind::Device, &token.id, transport.address())
                .await?;
            access
                .audit("token_reused", &name, transport.address())
                .await?;
            tracing::warn!(
                device = name,
                "an old token of a device was used again; the device is out"
            );
            return Ok(None);
        } else {
            return Ok(None);
        }
        self.touch(credential, transport, now).await?;
        Ok(Some((kept.credential, renewed)))
    }

    /// Notes that a credential is in use, once a minute, and lets a device last from now on.
    async fn touch(
        &self,
        credential: &Credential,
        transport: &Transport,
        now: i64,
    ) -> Result<(), TrustError> {
        let address = transport.address();
        let seen = credential.seen_at.unwrap_or(0);
        if now.saturating_sub(seen) >= TOUCH_MS || credential.seen_from.as_deref() != Some(address)
        {
            let expires_at = match credential.kind {
                CredentialKind::Device => Some(now + DEVICE_DAYS * DAY_MS),
                CredentialKind::Key => credential.expires_at,
            };
            let access = self.store.access();
            access.touch(&credential.id, address, expires_at).await?;
        }
        Ok(())
    }

    async fn renew_from(
        &self,
        kept: &Kept,
        shown: SecretHash,
    ) -> Result<Option<String>, TrustError> {
        let (text, new) = Token::make(&kept.credential.id)?;
        let access = self.store.access();
        let done = access
            .renew(&kept.credential.id, shown, kept.secret, new)
            .await?;
        Ok(done.then_some(text))
    }

    /// Renews a device's token at its own wish.
    ///
    /// # Errors
    /// [`TrustError::Unknown`] for everything but a device.
    pub async fn renew(&self, peer: &Peer) -> Result<String, TrustError> {
        let id = peer.device.as_deref().ok_or(TrustError::KeyStays)?;
        let kept = self
            .store
            .access()
            .find(id)
            .await?
            .ok_or(TrustError::Unknown)?;
        if kept.credential.kind != CredentialKind::Device {
            return Err(TrustError::KeyStays);
        }
        let present = kept.secret;
        self.renew_from(&kept, present)
            .await?
            .ok_or(TrustError::TooOften(1))
    }

    /// What ends when a credential is revoked, for whoever serves it without a request.
    pub fn live(&self, id: &str) -> Live {
        let mut live = lock(&self.live);
        let sender = live
            .entry(id.to_owned())
            .or_insert_with(|| watch::channel(()).0);
        Live(sender.subscribe())
    }

    /// Counts a request of a device or an address.
    ///
    /// # Errors
    /// [`TrustError::TooOften`].
    pub fn count(&self, peer: &Peer) -> Result<(), TrustError> {
        if peer.transport == Transport::Loopback {
            return Ok(());
        }
        let who = peer
            .device
            .clone()
            .unwrap_or_else(|| who(peer.transport.address()));
        lock(&self.requests)
            .take(&who, now_ms())
            .map_err(TrustError::TooOften)
    }

    /// Counts one try of a code.
    fn try_code(&self, transport: &Transport) -> Result<(), TrustError> {
        lock(&self.tries)
            .take(&who(transport.address()), now_ms())
            .map_err(TrustError::TooOften)
    }

    /// Makes a ticket with which the peer's page can open one WebSocket.
    ///
    /// # Errors
    /// No random numbers, or too many tickets at once.
    pub fn ticket(&self, peer: &Peer) -> Result<String, TrustError> {
        let text = secret::hex(&secret::random::<32>()?);
        let now = now_ms();
        let mut tickets = lock(&self.tickets);
        tickets.retain(|_, (_, until)| *until > now);
        if tickets.len() >= TICKETS_MAX {
            return Err(TrustError::TooOften(30));
        }
        tickets.insert(hash(text.as_bytes()), (peer.clone(), now + TICKET_MS));
        Ok(text)
    }

    /// Takes a ticket; it is gone afterwards. The peer keeps the transport that it comes by now, which must be as
    /// private as the one that the ticket was asked for over.
    ///
    /// # Errors
    /// The store fails.
    pub async fn redeem(
        &self,
        ticket: &str,
        transport: Transport,
    ) -> Result<Recognised, TrustError> {
        let found = lock(&self.tickets).remove(&hash(ticket.as_bytes()));
        let found = found.filter(|(peer, until)| {
            *until > now_ms() && (transport.is_private() || !peer.transport.is_private())
        });
        // Revoked in the seconds between: the ticket is worth nothing.
        let still = match &found {
            Some((
                Peer {
                    device: Some(id), ..
                },
                _,
            )) => self.store.access().find(id).await?.is_some(),
            Some(_) => true,
            None => false,
        };
        Ok(match found {
            Some((peer, _)) if still => Recognised {
                live: peer.device.as_deref().map(|id| self.live(id)),
                peer: Peer { transport, ..peer },
                wrong: None,
                renewed: None,
            },
            _ => Recognised {
                peer: Peer::stranger(transport),
                wrong: Some(TrustError::Unknown),
                renewed: None,
                live: None,
            },
        })
    }

    /// Makes a key for a program.
    ///
    /// # Errors
    /// A bad name, a scope that its person cannot have, a person that does not exist.
    pub async fn add_key(
        &self,
        person: PersonId,
        name: &str,
        scope: Scope,
        days: Option<u32>,
        from: &str,
    ) -> Result<Made, TrustError> {
        let expires_at = days.map(|days| now_ms() + i64::from(days) * DAY_MS);
        let made = self
            .make(CredentialKind::Key, (person, scope), name, expires_at, None)
            .await?;
        self.store
            .access()
            .audit("key_added", &made.credential.name, from)
            .await?;
        Ok(made)
    }

    async fn make(
        &self,
        kind: CredentialKind,
        (person, scope): (PersonId, Scope),
        name: &str,
        expires_at: Option<i64>,
        via: Option<&str>,
    ) -> Result<Made, TrustError> {
        let name = name_of(name)?;
        if scope == Scope::Owner && !person.is_owner() {
            return Err(TrustError::MembersScope);
        }
        let id = new_id()?.to_string();
        let (token, secret) = Token::make(&id)?;
        let credential = Credential {
            id,
            person,
            kind,
            name,
            scope,
            created_at: now_ms(),
            seen_at: None,
            seen_from: None,
            expires_at,
        };
        self.store.access().add(&credential, secret, via).await?;
        Ok(Made { credential, token })
    }

    /// Revokes a device or key: its streams end now, its next request is refused.
    ///
    /// # Errors
    /// There is none of that kind and identifier.
    pub async fn remove(
        &self,
        kind: CredentialKind,
        id: &str,
        from: &str,
    ) -> Result<Credential, TrustError> {
        let mut ended = self.store.access().through(id).await?;
        let credential = self.store.access().remove(kind, id).await?;
        ended.push(id.to_owned());
        // After the row has gone, so that no request between the two is let in again.
        self.end(&ended);
        let event = match kind {
            CredentialKind::Device => "device_revoked",
            CredentialKind::Key => "key_removed",
        };
        self.store
            .access()
            .audit(event, &credential.name, from)
            .await?;
        Ok(credential)
    }

    /// Ends what runs by credentials that are gone.
    fn end(&self, ids: &[String]) {
        lock(&self.live).retain(|id, _| !ids.contains(id));
        lock(&self.tickets)
            .retain(|_, (peer, _)| peer.device.as_ref().is_none_or(|id| !ids.contains(id)));
    }

    /// Removes a person with everything that is theirs.
    ///
    /// # Errors
    /// There is none, or it is the owner.
    pub async fn remove_person(&self, id: &str, from: &str) -> Result<(), TrustError> {
        let ended = self.store.access().remove_person(id).await?;
        self.end(&ended);
        self.store
            .access()
            .audit("person_removed", id, from)
            .await?;
        Ok(())
    }
}

/// A name that people can read: trimmed, not empty, without control characters.
pub fn name_of(name: &str) -> Result<String, TrustError> {
    let name = name.trim();
    let chars = name.chars().count();
    let visible = name
        .chars()
        .all(|c| !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    match (1..=NAME_CHARS_MAX).contains(&chars) && visible {
        true => Ok(name.to_owned()),
        false => Err(TrustError::Name),
    }
}

/// The key of this machine's own commands, where `trust.loopback_is_owner` is off and this user may read it.
pub fn local_key(data: &Path) -> Option<String> {
    let key = std::fs::read_to_string(data.join(FOLDER).join(LOCAL_KEY)).ok()?;
    Some(key.trim().to_owned()).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests;
