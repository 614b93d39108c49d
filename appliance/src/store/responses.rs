//! Stored responses, each of which may go on from an earlier one.

use rusqlite::{OptionalExtension, Row};

use super::{Store, StoreError};
use crate::domain::PersonId;

/// Responses in one chain; a longer one has long outgrown every context.
const CHAIN_MAX: usize = 1000;

/// One response with the input that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// Its identifier.
    pub id: String,
    /// The response that it went on from.
    pub previous: Option<String>,
    /// The items of the request, as a JSON array.
    pub input: String,
    /// The response as it was sent, as a JSON object.
    pub body: String,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// Stored responses.
pub struct Responses<'a>(pub(super) &'a Store);

impl Responses<'_> {
    /// Keeps a response.
    ///
    /// # Errors
    /// The store fails.
    pub async fn put(&self, person: &PersonId, response: StoredResponse) -> Result<(), StoreError> {
        let person = person.as_str().to_owned();
        self.0
            .write(move |transaction| {
                transaction.execute(
                    "INSERT INTO responses (id, person, previous, input, body, created_at) VALUES (?,?,?,?,?,?)",
                    rusqlite::params![
                        response.id,
                        person,
                        response.previous,
                        response.input,
                        response.body,
                        response.created_at
                    ],
                )?;
                Ok(())
            })
            .await
    }

    /// Returns the responses that lead to `id`, oldest first and `id` itself last.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] names the one that is missing: `id`, or one before it that was deleted.
    pub async fn chain(
        &self,
        person: &PersonId,
        id: &str,
    ) -> Result<Vec<StoredResponse>, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| {
                let mut query = connection.prepare_cached(
                    "SELECT id, previous, input, body, created_at FROM responses \
                     WHERE id = ? AND person = ?",
                )?;
                let mut chain: Vec<StoredResponse> = Vec::new();
                let mut next = Some(id);
                while let Some(id) = next.filter(|_| chain.len() < CHAIN_MAX) {
                    let found = query.query_row([&id, &person], response).optional()?;
                    let Some(found) = found else {
                        return Err(not_found(id));
                    };
                    next = found.previous.clone();
                    chain.push(found);
                }
                chain.reverse();
                Ok(chain)
            })
            .await
    }

    /// Returns one response.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none of that name.
    pub async fn get(&self, person: &PersonId, id: &str) -> Result<StoredResponse, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| {
                let found = connection
                    .prepare_cached(
                        "SELECT id, previous, input, body, created_at FROM responses \
                         WHERE id = ? AND person = ?",
                    )?
                    .query_row([&id, &person], response)
                    .optional()?;
                found.ok_or_else(|| not_found(id))
            })
            .await
    }

    /// Forgets a response.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none of that name.
    pub async fn delete(&self, person: &PersonId, id: &str) -> Result<(), StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .write(move |transaction| {
                let gone = transaction.execute(
                    "DELETE FROM responses WHERE id = ? AND person = ?",
                    [&id, &person],
                )?;
                if gone == 0 {
                    return Err(not_found(id));
                }
                Ok(())
            })
            .await
    }
}

fn not_found(id: String) -> StoreError {
    StoreError::NotFound {
        what: "response",
        id,
    }
}

fn response(row: &Row<'_>) -> Result<StoredResponse, rusqlite::Error> {
    Ok(StoredResponse {
        id: row.get(0)?,
        previous: row.get(1)?,
        input: row.get(2)?,
        body: row.get(3)?,
        created_at: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chain_is_read_from_its_beginning_and_breaks_where_one_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let owner = PersonId::owner();
        for (id, previous) in [("a", None), ("b", Some("a")), ("c", Some("b"))] {
            let response = StoredResponse {
                id: id.into(),
                previous: previous.map(str::to_owned),
                input: "[]".into(),
                body: "{}".into(),
                created_at: 1,
            };
            store.responses().put(&owner, response).await.unwrap();
        }
        let chain = store.responses().chain(&owner, "c").await.unwrap();
        let ids: Vec<_> = chain.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        assert_eq!(store.responses().get(&owner, "b").await.unwrap(), chain[1]);
        let stranger = PersonId::from_row("other".into());
        assert!(store.responses().get(&stranger, "b").await.is_err());
        store.responses().delete(&owner, "a").await.unwrap();
        let error = store.responses().chain(&owner, "c").await.unwrap_err();
        assert!(error.to_string().contains("`a`"), "{error}");
        assert!(store.responses().delete(&owner, "a").await.is_err());
    }
}
