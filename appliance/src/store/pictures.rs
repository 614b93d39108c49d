//! Pictures that were shown with messages. They are kept beside the rows, so that a list of messages stays light.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Store, StoreError};
use crate::domain::PersonId;

/// The pictures of messages.
pub struct Pictures<'a>(pub(super) &'a Store);

impl Pictures<'_> {
    /// The addresses of a message's pictures in order; they begin with `data:`.
    ///
    /// # Errors
    /// The store fails.
    pub async fn of(&self, message: &str) -> Result<Vec<String>, StoreError> {
        let message = message.to_owned();
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT address FROM pictures WHERE message = ? ORDER BY number",
                )?;
                let rows = statement.query_map([&message], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The addresses of all pictures of a chat, by message.
    ///
    /// # Errors
    /// The store fails; somebody else's chat has none.
    pub async fn of_chat(
        &self,
        person: &PersonId,
        chat: &str,
    ) -> Result<HashMap<String, Vec<String>>, StoreError> {
        let (person, chat) = (person.as_str().to_owned(), chat.to_owned());
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT p.message, p.address FROM pictures p JOIN messages m ON m.id = p.message
                     JOIN chats c ON c.id = m.chat WHERE c.id = ? AND c.person = ?
                     ORDER BY p.message, p.number",
                )?;
                let rows = statement.query_map([&chat, &person], |row| {
                    Ok((row.get::<_, String>(0)?, row.get(1)?))
                })?;
                let mut all: HashMap<String, Vec<String>> = HashMap::new();
                for row in rows {
                    let (message, address) = row?;
                    all.entry(message).or_default().push(address);
                }
                Ok(all)
            })
            .await
    }

    /// The address of one picture.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none or it is somebody else's.
    pub async fn one(
        &self,
        person: &PersonId,
        message: &str,
        number: usize,
    ) -> Result<String, StoreError> {
        let (person, message) = (person.as_str().to_owned(), message.to_owned());
        let at = i64::try_from(number).unwrap_or(i64::MAX);
        self.0
            .read(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT address FROM pictures p JOIN messages m ON m.id = p.message
                         JOIN chats c ON c.id = m.chat
                         WHERE p.message = ? AND p.number = ? AND c.person = ?",
                    )?
                    .query_row(params![message, at, person], |row| row.get(0))
                    .optional()?
                    .ok_or_else(|| StoreError::NotFound {
                        what: "picture",
                        id: format!("{message}/{number}"),
                    })
            })
            .await
    }
}

/// Keeps a new message's pictures.
pub(super) fn keep(
    transaction: &Transaction<'_>,
    message: &str,
    pictures: &[String],
) -> Result<(), StoreError> {
    for (number, address) in pictures.iter().enumerate() {
        transaction
            .prepare_cached("INSERT INTO pictures (message, number, address) VALUES (?,?,?)")?
            .execute(params![message, number as i64, address])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Role;
    use crate::store::NewMessage;

    #[tokio::test]
    async fn pictures_belong_to_their_message_and_go_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (me, other) = (PersonId::owner(), PersonId::from_row("guest".into()));
        let chat = store.chats().create(&me, "eyes", None).await.unwrap();
        let shown = vec![
            "data:image/png;base64,AA==".to_owned(),
            "data:image/gif;base64,AQ==".into(),
        ];
        let new = NewMessage {
            parent_id: None,
            role: Role::User,
            content: "look".into(),
            model: None,
            pictures: shown.clone(),
        };
        let rows = store.chats().add(&me, &chat.id, vec![new]).await.unwrap();
        let id = &rows[0].id;
        assert_eq!(rows[0].pictures, 2);
        assert_eq!(store.pictures().of(id).await.unwrap(), shown);
        assert_eq!(store.pictures().one(&me, id, 1).await.unwrap(), shown[1]);
        assert!(store.pictures().one(&me, id, 2).await.is_err());
        assert!(store.pictures().one(&other, id, 0).await.is_err());
        let all = store.pictures().of_chat(&me, &chat.id).await.unwrap();
        assert_eq!((all.len(), &all[id]), (1, &shown));
        let theirs = store.pictures().of_chat(&other, &chat.id).await.unwrap();
        assert!(theirs.is_empty());
        let (_, read) = store.chats().get(&me, &chat.id).await.unwrap();
        assert_eq!(read[0].pictures, 2);
        store.chats().delete(&me, &chat.id).await.unwrap();
        assert_eq!(store.pictures().of(id).await.unwrap(), Vec::<String>::new());
    }
}
