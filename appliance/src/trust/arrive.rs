//! How somebody new comes in: by a pairing that the owner allows, or by the setup code of the first start.

use super::pairing::{self, Grant, PairingError, WINDOW_MS, WindowView, Word};
use super::secret::{self, hash, normal, same};
use super::{DAY_MS, DEVICE_DAYS, Made, Trust, TrustError, files, lock, name_of};
use crate::domain::{CredentialKind, PersonId, Scope, Transport};
use crate::store::{StoreError, new_id, now_ms};

/// What the owner shows a new device.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The pairing's identifier.
    pub id: String,
    /// The code in the link.
    pub link_code: String,
    /// The code that is typed, in two groups.
    pub typed_code: String,
    /// Unix milliseconds at which both end.
    pub until: i64,
}

/// A device that has used a code.
pub struct Claimed {
    /// The pairing's identifier.
    pub id: String,
    /// What the device asks with from now on.
    pub secret: String,
    /// What both sides show.
    pub digits: String,
    /// What the device will be able to do.
    pub until: i64,
}

/// How a device's pairing went on.
pub enum Progress {
    /// The owner thinks.
    Wait,
    /// It is in.
    In(Box<Made>),
}

impl Trust {
    /// Opens a pairing window.
    ///
    /// # Errors
    /// A scope that the person cannot have; too many windows.
    pub async fn open_pairing(&self, grant: Grant, from: &str) -> Result<Opened, TrustError> {
        if grant.scope == Scope::Owner && !grant.person.is_owner() {
            return Err(TrustError::MembersScope);
        }
        let persons = self.store.access().persons().await?;
        if !persons.iter().any(|person| person.id == grant.person) {
            return Err(StoreError::NotFound {
                what: "person",
                id: grant.person.as_str().to_owned(),
            }
            .into());
        }
        let id = new_id()?.to_string();
        let link = secret::code(pairing::LINK_SYMBOLS)?;
        let typed = secret::code(pairing::TYPED_SYMBOLS)?;
        let now = now_ms();
        lock(&self.pairings).open(now, id.clone(), (&link, &typed), grant)?;
        self.store
            .access()
            .audit("pairing_opened", "", from)
            .await?;
        Ok(Opened {
            id,
            link_code: link,
            typed_code: format!("{}-{}", &typed[..4], &typed[4..]),
            until: now + WINDOW_MS,
        })
    }

    /// A device uses a code; `known` is who it is by others' word, which the owner is told.
    ///
    /// # Errors
    /// The code is wrong in any way, or there were too many tries.
    pub async fn claim_pairing(
        &self,
        transport: &Transport,
        known: Option<&str>,
        code: &str,
        name: &str,
    ) -> Result<Claimed, TrustError> {
        self.try_code(transport)?;
        let name = name_of(name)?;
        let address = match known {
            Some(known) => format!("{} ({known})", transport.address()),
            None => transport.address().to_owned(),
        };
        let secret = secret::hex(&secret::random::<32>()?);
        let claim = lock(&self.pairings).claim(
            now_ms(),
            code,
            pairing::Device {
                name: &name,
                address: &address,
                private: transport.is_private(),
                secret: &secret,
                ours: self.certificates.authority_der().as_slice(),
            },
        );
        let event = if claim.is_ok() {
            "pairing_claimed"
        } else {
            "pairing_wrong_code"
        };
        self.store
            .access()
            .audit(event, &name, transport.address())
            .await?;
        let (id, digits) = claim?;
        self.pairing_changed.notify_waiters();
        Ok(Claimed {
            id,
            secret,
            digits,
            until: now_ms() + WINDOW_MS,
        })
    }

    /// The owner decides about the device that waits.
    ///
    /// # Errors
    /// Nobody waits, or the digits do not match.
    pub async fn decide_pairing(
        &self,
        id: &str,
        digits: &str,
        allow: bool,
        from: &str,
    ) -> Result<(), TrustError> {
        let decided = lock(&self.pairings).decide(now_ms(), id, digits, allow);
        self.pairing_changed.notify_waiters();
        let event = match (&decided, allow) {
            (Ok(_), true) => "pairing_allowed",
            (Ok(_), false) => "pairing_refused",
            (Err(PairingError::Digits), _) => "pairing_wrong_digits",
            (Err(error), _) => return Err((*error).into()),
        };
        let name = decided.as_deref().unwrap_or_default().to_owned();
        self.store.access().audit(event, &name, from).await?;
        decided?;
        Ok(())
    }

    /// The device asks how it stands.
    ///
    /// # Errors
    /// Refused, expired, or not this device's pairing.
    pub async fn collect_pairing(
        &self,
        transport: &Transport,
        id: &str,
        secret: &str,
    ) -> Result<Progress, TrustError> {
        let word = lock(&self.pairings).collect(now_ms(), id, secret)?;
        match word {
            Word::Wait => Ok(Progress::Wait),
            Word::Allowed {
                grant,
                name,
                private,
            } => {
                // Who could be overheard at any step never holds the owner's rights.
                let scope = if private && transport.is_private() {
                    grant.scope
                } else {
                    grant.scope.min(Scope::Chat)
                };
                let expires = Some(now_ms() + DEVICE_DAYS * DAY_MS);
                let via = match transport {
                    Transport::Mesh { device, .. } => Some(device.as_str()),
                    _ => None,
                };
                let grant = (grant.person, scope);
                let made = self
                    .make(CredentialKind::Device, grant, &name, expires, via)
                    .await?;
                self.store
                    .access()
                    .audit("device_paired", &name, transport.address())
                    .await?;
                if scope == Scope::Owner {
                    files::remove(&self.setup_file())?;
                }
                self.pairing_changed.notify_waiters();
                Ok(Progress::In(Box::new(made)))
            }
        }
    }

    /// All pairing windows.
    pub fn pairings(&self) -> Vec<WindowView> {
        lock(&self.pairings).views(now_ms())
    }

    /// Resolves when a pairing takes its next step.
    pub fn pairing_step(&self) -> tokio::sync::futures::Notified<'_> {
        self.pairing_changed.notified()
    }

    /// The first owner's device from elsewhere, by the code that lies on the appliance.
    ///
    /// # Errors
    /// Not private, too many tries, or a wrong code; a wrong code costs a try for everybody.
    pub async fn claim_appliance(
        &self,
        transport: &Transport,
        code: &str,
        name: &str,
    ) -> Result<Made, TrustError> {
        if !transport.is_private() {
            return Err(TrustError::NotPrivate);
        }
        self.try_code(transport)?;
        let name = name_of(name)?;
        let advice = || TrustError::Setup(format!("cat {}", self.setup_file().display()));
        let kept = files::read(&self.setup_file())?.ok_or_else(advice)?;
        let kept = String::from_utf8_lossy(&kept).trim().to_owned();
        let shown = normal(code).unwrap_or_default();
        if !same(&hash(kept.as_bytes()), &hash(shown.as_bytes())) {
            self.store
                .access()
                .audit("setup_wrong_code", &name, transport.address())
                .await?;
            return Err(advice());
        }
        // The file goes first: of two that know the code, one removes it.
        if !files::remove(&self.setup_file())? {
            return Err(advice());
        }
        let expires = Some(now_ms() + DEVICE_DAYS * DAY_MS);
        let made = self
            .make(
                CredentialKind::Device,
                (PersonId::owner(), Scope::Owner),
                &name,
                expires,
                None,
            )
            .await?;
        self.store
            .access()
            .audit("appliance_claimed", &name, transport.address())
            .await?;
        Ok(made)
    }
}
