//! Persons, their devices and keys, and the audit log. Secrets come in and go out as hashes only.

use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, new_id, now_ms};
use crate::domain::{AuditRow, Credential, CredentialKind, Person, PersonId, Scope};

/// Lines of the audit log that are kept: years of a household, a day of an attack.
const AUDIT_ROWS_MAX: i64 = 10_000;

/// The hash of a secret.
pub type SecretHash = [u8; 32];

/// A credential with the hashes that a secret is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is.
    pub credential: Credential,
    /// The hash of its present secret.
    pub secret: SecretHash,
    /// The hash of the secret before.
    pub previous: Option<SecretHash>,
    /// Whether the present secret has been used.
    pub confirmed: bool,
    /// When the present secret was made.
    pub renewed_at: i64,
}

/// Persons, devices, keys and the audit log.
pub struct Access<'a>(pub(super) &'a Store);

impl Access<'_> {
    /// Keeps a new credential; one that came in through a device's tunnel ends with that device.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the person does not exist.
    pub async fn add(
        &self,
        credential: &Credential,
        secret: SecretHash,
        via: Option<&str>,
    ) -> Result<(), StoreError> {
        let c = credential.clone();
        let via = via.map(str::to_owned);
        self.0
            .write(move |transaction| {
                person_exists(transaction, &c.person)?;
                transaction.execute(
                    "INSERT INTO credentials (id, person, kind, name, scope, secret, renewed_at, created_at, expires_at, via) \
                     VALUES (?,?,?,?,?,?,?,?,?,?)",
                    params![
                        c.id, c.person.as_str(), c.kind.as_str(), c.name, c.scope.as_str(), secret, c.created_at,
                        c.created_at, c.expires_at, via
                    ],
                )?;
                Ok(())
            })
            .await
    }

    /// Finds a credential by its identifier.
    ///
    /// # Errors
    /// The store fails.
    pub async fn find(&self, id: &str) -> Result<Option<Kept>, StoreError> {
        let id = id.to_owned();
        self.0
            .read(move |connection| {
                connection
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM credentials WHERE id = ?"))?
                    .query_row([id], |row| Ok(kept(row)))
                    .optional()?
                    .transpose()
            })
            .await
    }

    /// Returns all credentials of a kind, newest first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn all(&self, kind: CredentialKind) -> Result<Vec<Credential>, StoreError> {
        self.0
            .read(move |connection| {
                let mut rows = connection.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM credentials WHERE kind = ? ORDER BY created_at DESC, id"
                ))?;
                let rows = rows.query_map([kind.as_str()], |row| Ok(kept(row)))?;
                rows.map(|row| Ok(row??.credential)).collect()
            })
            .await
    }

    /// Returns the devices that came in through another's tunnel.
    ///
    /// # Errors
    /// The store fails.
    pub async fn through(&self, id: &str) -> Result<Vec<String>, StoreError> {
        let id = id.to_owned();
        self.0
            .read(move |connection| {
                let mut rows =
                    connection.prepare_cached("SELECT id FROM credentials WHERE via = ?")?;
                let rows = rows.query_map([id], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Removes a credential, with those that came in through its tunnel, and returns what it was.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none of that kind and identifier.
    pub async fn remove(&self, kind: CredentialKind, id: &str) -> Result<Credential, StoreError> {
        let id = id.to_owned();
        self.0
            .write(move |transaction| {
                let found = transaction
                    .query_row(
                        &format!(
                            "DELETE FROM credentials WHERE id = ? AND kind = ? RETURNING {COLUMNS}"
                        ),
                        params![id, kind.as_str()],
                        |row| Ok(kept(row)),
                    )
                    .optional()?;
                let found = found.ok_or(StoreError::NotFound {
                    what: kind.as_str(),
                    id,
                })?;
                Ok(found?.credential)
            })
            .await
    }

    /// Gives a device another name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none.
    pub async fn rename(&self, id: &str, name: &str) -> Result<(), StoreError> {
        let (id, name) = (id.to_owned(), name.to_owned());
        self.0
            .write(move |transaction| {
                let changed = transaction.execute(
                    "UPDATE credentials SET name = ? WHERE id = ? AND kind = 'device'",
                    params![name, id],
                )?;
                match changed {
                    0 => Err(StoreError::NotFound { what: "device", id }),
                    _ => Ok(()),
                }
            })
            .await
    }

    /// Notes that a credential was used, and until when it now lasts.
    ///
    /// # Errors
    /// The store fails.
    pub async fn touch(
        &self,
        id: &str,
        from: &str,
        expires_at: Option<i64>,
    ) -> Result<(), StoreError> {
        let (id, from) = (id.to_owned(), from.to_owned());
        self.0
            .write(move |transaction| {
                transaction.execute(
                    "UPDATE credentials SET seen_at = ?, seen_from = ?, expires_at = ? WHERE id = ?",
                    params![now_ms(), from, expires_at, id],
                )?;
                Ok(())
            })
            .await
    }

    /// Puts a new secret in the place of `old`, which stays as the previous one. Returns whether it did: of two
    /// requests that renew at once, one does.
    ///
    /// # Errors
    /// The store fails.
    pub async fn renew(
        &self,
        id: &str,
        old: SecretHash,
        present: SecretHash,
        new: SecretHash,
    ) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.0
            .write(move |transaction| {
                let changed = transaction.execute(
                    "UPDATE credentials SET previous = ?, secret = ?, confirmed = 0, renewed_at = ? \
                     WHERE id = ? AND secret = ?",
                    params![old, new, now_ms(), id, present],
                )?;
                Ok(changed == 1)
            })
            .await
    }

    /// Notes that the present secret has reached its device.
    ///
    /// # Errors
    /// The store fails.
    pub async fn confirm(&self, id: &str, secret: SecretHash) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.0
            .write(move |transaction| {
                transaction.execute(
                    "UPDATE credentials SET confirmed = 1 WHERE id = ? AND secret = ?",
                    params![id, secret],
                )?;
                Ok(())
            })
            .await
    }

    /// Moves the time of a credential's renewal, as if the clock had gone on.
    #[cfg(test)]
    pub(crate) async fn shift_renewed_at(&self, id: &str, by_ms: i64) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.0
            .write(move |transaction| {
                transaction.execute(
                    "UPDATE credentials SET renewed_at = renewed_at + ? WHERE id = ?",
                    params![by_ms, id],
                )?;
                Ok(())
            })
            .await
    }

    /// Returns all persons, the owner first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn persons(&self) -> Result<Vec<Person>, StoreError> {
        self.0
            .read(|connection| {
                let mut rows = connection.prepare_cached(
                    "SELECT id, name, created_at FROM persons ORDER BY id <> 'owner', created_at",
                )?;
                let rows = rows.query_map([], |row| {
                    Ok(Person {
                        id: PersonId::from_row(row.get(0)?),
                        name: row.get(1)?,
                        created_at: row.get(2)?,
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Adds a person.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when somebody has that name.
    pub async fn add_person(&self, name: &str) -> Result<Person, StoreError> {
        let person = Person {
            id: PersonId::from_row(new_id()?.to_string()),
            name: name.to_owned(),
            created_at: now_ms(),
        };
        let row = person.clone();
        self.0
            .write(move |transaction| {
                let taken: bool = transaction.query_row(
                    "SELECT EXISTS (SELECT 1 FROM persons WHERE name = ? COLLATE NOCASE)",
                    [&row.name],
                    |row| row.get(0),
                )?;
                if taken {
                    return Err(StoreError::Exists {
                        what: "person",
                        id: row.name,
                    });
                }
                transaction.execute(
                    "INSERT INTO persons (id, name, created_at) VALUES (?,?,?)",
                    params![row.id.as_str(), row.name, row.created_at],
                )?;
                Ok(())
            })
            .await?;
        Ok(person)
    }

    /// Removes a person with everything that is theirs; returns the identifiers of their devices and keys.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none; the owner cannot be removed and counts as none.
    pub async fn remove_person(&self, id: &str) -> Result<Vec<String>, StoreError> {
        let id = id.to_owned();
        self.0
            .write(move |transaction| {
                let devices = transaction
                    .prepare("SELECT id FROM credentials WHERE person = ?")?
                    .query_map([&id], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                let removed = transaction
                    .execute("DELETE FROM persons WHERE id = ? AND id <> 'owner'", [&id])?;
                match removed {
                    0 => Err(StoreError::NotFound { what: "person", id }),
                    _ => Ok(devices),
                }
            })
            .await
    }

    /// Writes one line of the audit log.
    ///
    /// # Errors
    /// The store fails.
    pub async fn audit(&self, event: &str, subject: &str, address: &str) -> Result<(), StoreError> {
        let row = (
            now_ms(),
            event.to_owned(),
            subject.to_owned(),
            address.to_owned(),
        );
        self.0
            .write(move |transaction| {
                transaction.execute(
                    "INSERT INTO audit (at, event, subject, address) VALUES (?,?,?,?)",
                    row,
                )?;
                transaction.execute(
                    "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?",
                    [AUDIT_ROWS_MAX],
                )?;
                Ok(())
            })
            .await
    }

    /// Returns the newest lines of the audit log.
    ///
    /// # Errors
    /// The store fails.
    pub async fn audit_rows(&self, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.0
            .read(move |connection| {
                let mut rows = connection.prepare_cached(
                    "SELECT at, event, subject, address FROM audit ORDER BY id DESC LIMIT ?",
                )?;
                let rows = rows.query_map([limit], |row| {
                    Ok(AuditRow {
                        at: row.get(0)?,
                        event: row.get(1)?,
                        subject: row.get(2)?,
                        address: row.get(3)?,
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }
}

const COLUMNS: &str = "id, person, kind, name, scope, secret, previous, confirmed, renewed_at, created_at, seen_at, \
                       seen_from, expires_at";

fn kept(row: &Row<'_>) -> Result<Kept, StoreError> {
    let (kind, scope): (String, String) = (row.get("kind")?, row.get("scope")?);
    let bad = |what, value: &str| StoreError::BadRow {
        what,
        value: value.to_owned(),
    };
    Ok(Kept {
        credential: Credential {
            id: row.get("id")?,
            person: PersonId::from_row(row.get("person")?),
            kind: CredentialKind::parse(&kind).ok_or_else(|| bad("a credential's kind", &kind))?,
            name: row.get("name")?,
            scope: Scope::parse(&scope).ok_or_else(|| bad("a scope", &scope))?,
            created_at: row.get("created_at")?,
            seen_at: row.get("seen_at")?,
            seen_from: row.get("seen_from")?,
            expires_at: row.get("expires_at")?,
        },
        secret: row.get("secret")?,
        previous: row.get("previous")?,
        confirmed: row.get("confirmed")?,
        renewed_at: row.get("renewed_at")?,
    })
}

fn person_exists(
    transaction: &rusqlite::Transaction<'_>,
    person: &PersonId,
) -> Result<(), StoreError> {
    let exists: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM persons WHERE id = ?)",
        [person.as_str()],
        |row| row.get(0),
    )?;
    match exists {
        true => Ok(()),
        false => Err(StoreError::NotFound {
            what: "person",
            id: person.as_str().to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(id: &str, person: &PersonId, kind: CredentialKind) -> Credential {
        Credential {
            id: id.into(),
            person: person.clone(),
            kind,
            name: "Phone".into(),
            scope: Scope::Chat,
            created_at: 1,
            seen_at: None,
            seen_from: None,
            expires_at: Some(9),
        }
    }

    #[tokio::test]
    async fn credentials_are_kept_renewed_once_and_go_with_their_person() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let access = store.access();
        let ada = access.add_person("Ada").await.unwrap();
        assert!(access.add_person("ada").await.is_err());
        let phone = credential("p", &ada.id, CredentialKind::Device);
        access.add(&phone, [1; 32], None).await.unwrap();
        access
            .add(
                &credential("k", &PersonId::owner(), CredentialKind::Key),
                [2; 32],
                Some("p"),
            )
            .await
            .unwrap();
        assert_eq!(access.through("p").await.unwrap(), ["k"]);
        let nobody = PersonId::from_row("nobody".into());
        assert!(
            access
                .add(
                    &credential("x", &nobody, CredentialKind::Key),
                    [3; 32],
                    None
                )
                .await
                .is_err()
        );

        assert!(access.renew("p", [1; 32], [1; 32], [4; 32]).await.unwrap());
        assert!(!access.renew("p", [1; 32], [1; 32], [5; 32]).await.unwrap());
        let found = access.find("p").await.unwrap().unwrap();
        assert_eq!(
            (found.secret, found.previous, found.confirmed),
            ([4; 32], Some([1; 32]), false)
        );
        access.confirm("p", [4; 32]).await.unwrap();
        access.touch("p", "10.0.0.2", Some(77)).await.unwrap();
        let found = access.find("p").await.unwrap().unwrap();
        assert!(found.confirmed && found.credential.seen_at.is_some());
        assert_eq!(found.credential.expires_at, Some(77));

        assert!(
            access.remove(CredentialKind::Key, "p").await.is_err(),
            "a device is no key"
        );
        assert!(access.remove_person("owner").await.is_err());
        assert_eq!(access.remove_person(ada.id.as_str()).await.unwrap(), ["p"]);
        assert!(access.find("p").await.unwrap().is_none());
        assert!(
            access.all(CredentialKind::Key).await.unwrap().is_empty(),
            "what came in through a tunnel ends with it"
        );
    }

    #[tokio::test]
    async fn the_audit_log_is_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for event in ["a", "b", "c"] {
            store.access().audit(event, "x", "here").await.unwrap();
        }
        let rows = store.access().audit_rows(2).await.unwrap();
        let events: Vec<_> = rows.iter().map(|row| row.event.as_str()).collect();
        assert_eq!(events, ["c", "b"]);
    }
}
