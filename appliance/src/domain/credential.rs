//! Devices and keys: what a person's other machines and programs show to be let in.

use super::{PersonId, Scope};

/// What a credential is held by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// A paired phone or browser; its secret is renewed while it is used.
    Device,
    /// A program's key; its secret stays.
    Key,
}

impl CredentialKind {
    /// The word for it in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            CredentialKind::Device => "device",
            CredentialKind::Key => "key",
        }
    }

    /// Reads the word of a row.
    pub fn parse(word: &str) -> Option<CredentialKind> {
        [CredentialKind::Device, CredentialKind::Key]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// One device or key, without its secret. Times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its identifier, which is no secret.
    pub id: String,
    /// Whose it is.
    pub person: PersonId,
    /// What holds it.
    pub kind: CredentialKind,
    /// What its person calls it.
    pub name: String,
    /// The widest scope that it can give.
    pub scope: Scope,
    /// When it was made.
    pub created_at: i64,
    /// When it was last used.
    pub seen_at: Option<i64>,
    /// From which address.
    pub seen_from: Option<String>,
    /// When it ends; `None` never.
    pub expires_at: Option<i64>,
}

/// Somebody whose chats, documents and devices are kept apart from others'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The identifier.
    pub id: PersonId,
    /// What they are called.
    pub name: String,
    /// When they were added, in Unix milliseconds.
    pub created_at: i64,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// When, in Unix milliseconds.
    pub at: i64,
    /// What happened, as a stable word.
    pub event: String,
    /// What it happened to: a device's or a person's name, never a secret.
    pub subject: String,
    /// From where.
    pub address: String,
}
