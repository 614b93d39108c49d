//! The end of a long conversation: what a page shows first.

use rusqlite::params;

use super::StoreError;
use super::chats::{Chat, Chats, MESSAGE, StoredMessage, find, message};
use crate::domain::PersonId;

impl Chats<'_> {
    /// Returns a chat with the last `n` messages of the branch that is shown, their other versions beside them, and
    /// whether that is all of it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none or it belongs to somebody else.
    pub async fn tail(
        &self,
        person: &PersonId,
        id: &str,
        n: usize,
    ) -> Result<(Chat, Vec<StoredMessage>, bool), StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        let depth = i64::try_from(n).unwrap_or(i64::MAX);
        self.0
            .read(move |connection| {
                let found = find(connection, &person, &id)?;
                let mut statement = connection.prepare_cached(&format!(
                    "WITH RECURSIVE line (id, parent, depth) AS (
                         SELECT id, parent, 1 FROM messages
                         WHERE chat = ?1 AND id = (SELECT head FROM chats WHERE id = ?1)
                         UNION ALL
                         SELECT m.id, m.parent, depth + 1 FROM messages m JOIN line ON m.id = line.parent
                         WHERE depth < ?2)
                     SELECT {MESSAGE} FROM messages WHERE chat = ?1
                     AND (id IN (SELECT id FROM line) OR parent IN (SELECT parent FROM line))
                     ORDER BY created_at, rowid"
                ))?;
                let rows = statement.query_map(params![id, depth], |row| Ok(message(row)))?;
                let mut messages = Vec::new();
                for row in rows {
                    messages.push(row??);
                }
                let all: i64 = connection
                    .prepare_cached("SELECT count(*) FROM messages WHERE chat = ?")?
                    .query_row([&id], |row| row.get(0))?;
                let whole = usize::try_from(all).is_ok_and(|all| all == messages.len());
                Ok((found, messages, whole))
            })
            .await
    }
}
