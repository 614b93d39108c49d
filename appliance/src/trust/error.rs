//! Everything that letting somebody in can fail with.

use std::path::PathBuf;

use super::NAME_CHARS_MAX;
use super::pairing::PairingError;
use crate::error::{Failing, Kind};
use crate::store::StoreError;

/// Why somebody is not let in, or something about it cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The credential does not exist, has ended or was revoked.
    #[error(
        "this key or device is not known here (any more); pair the device again, or make a new key"
    )]
    Unknown,
    /// Two credentials at once.
    #[error("the request carries two different credentials; send one")]
    Several,
    /// A step of pairing.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// The setup code is wrong, or the appliance has its owner.
    #[error("the setup code is wrong or has been used; read it on the appliance: {0}")]
    Setup(String),
    /// The step hands out the owner's rights and must not be overheard.
    #[error(
        "the owner's rights are given over https only; open the https address of this appliance"
    )]
    NotPrivate,
    /// Too often.
    #[error("too many tries; wait {0} s")]
    TooOften(u32),
    /// Keys are not renewed.
    #[error("a key stays as it is until it is removed; only devices renew their tokens")]
    KeyStays,
    /// A name of nothing or of too much.
    #[error("a name has 1 to {NAME_CHARS_MAX} characters and none that cannot be seen")]
    Name,
    /// A member cannot have the owner's scope.
    #[error("only the owner's own devices and keys can have owner scope")]
    MembersScope,
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
    /// The folder of secrets.
    #[error("{what} {path}: {source}")]
    File {
        /// What failed, as "cannot read".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// Certificates.
    #[error("{0}")]
    Certificate(String),
    /// Rows.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failing for TrustError {
    fn kind(&self) -> Kind {
        match self {
            TrustError::Unknown | TrustError::Several => Kind::Unauthorized,
            TrustError::Pairing(error) => match error {
                PairingError::Code | PairingError::Refused | PairingError::Expired => {
                    Kind::Forbidden
                }
                PairingError::Full | PairingError::Digits => Kind::Conflict,
                PairingError::NotWaiting => Kind::NotFound,
            },
            TrustError::Setup(_) | TrustError::NotPrivate => Kind::Forbidden,
            TrustError::TooOften(_) => Kind::Overloaded,
            TrustError::Name | TrustError::MembersScope | TrustError::KeyStays => Kind::BadRequest,
            TrustError::Random(_) | TrustError::File { .. } | TrustError::Certificate(_) => {
                Kind::Internal
            }
            TrustError::Store(error) => error.kind(),
        }
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            TrustError::Unknown => "credential_unknown",
            TrustError::Several => "credentials_differ",
            TrustError::Pairing(error) => match error {
                PairingError::Code => "pairing_code",
                PairingError::Full => "pairing_full",
                PairingError::NotWaiting => "pairing_not_waiting",
                PairingError::Digits => "pairing_digits",
                PairingError::Refused => "pairing_refused",
                PairingError::Expired => "pairing_expired",
            },
            TrustError::Setup(_) => "setup_code",
            TrustError::NotPrivate => "needs_https",
            TrustError::TooOften(_) => "too_often",
            TrustError::Name | TrustError::MembersScope | TrustError::KeyStays => "invalid_value",
            TrustError::Store(error) => return error.code(),
            TrustError::Random(_) | TrustError::File { .. } | TrustError::Certificate(_) => {
                return None;
            }
        })
    }

    fn retry_after_s(&self) -> Option<u32> {
        match self {
            TrustError::TooOften(seconds) => Some(*seconds),
            _ => None,
        }
    }
}
