//! Small values that a person has chosen, such as the page's theme.

use super::{Store, StoreError};
use crate::domain::PersonId;

/// Each person's settings.
pub struct Settings<'a>(pub(super) &'a Store);

impl Settings<'_> {
    /// Returns all settings of a person as (key, JSON text), by key.
    pub async fn all(&self, person: &PersonId) -> Result<Vec<(String, String)>, StoreError> {
        let person = person.as_str().to_owned();
        self.0
            .read(move |connection| {
                let mut rows = connection.prepare_cached(
                    "SELECT key, value FROM settings WHERE person = ? ORDER BY key",
                )?;
                let rows = rows.query_map([person], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Writes one setting; `value` is JSON text.
    pub async fn set(&self, person: &PersonId, key: &str, value: &str) -> Result<(), StoreError> {
        let row = (person.as_str().to_owned(), key.to_owned(), value.to_owned());
        self.0
            .write(move |transaction| {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO settings (person, key, value) VALUES (?, ?, ?)",
                    )?
                    .execute(row)?;
                Ok(())
            })
            .await
    }
}
