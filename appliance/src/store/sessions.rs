//! Chats as clients see them that know no branches: a session is a chat, its messages are the branch that is shown, and
//! each has a number.
//!
//! Answers that are still being written, and those of which nothing came, are not in the line. Deleting is real: what is
//! deleted is gone from every branch.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::chats::{Chat, Chats, MESSAGE, StoredMessage, find, message};
use super::{StoreError, new_id, now_ms};
use crate::domain::PersonId;

/// A chat with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The chat.
    pub chat: Chat,
    /// What its model is told before anything is said.
    pub instructions: Option<String>,
    /// Which agent answers; `None` is the model alone.
    pub agent: Option<String>,
    /// Messages of the branch that is shown.
    pub messages: u64,
    /// Single documents that it is answered from; collections are not among them.
    pub documents: Vec<String>,
}

/// A session to begin.
#[derive(Debug, Clone, Default)]
pub struct NewSession {
    /// What the list shows.
    pub title: String,
    /// The model.
    pub model: Option<String>,
    /// What the model is told first.
    pub instructions: Option<String>,
    /// Which agent answers.
    pub agent: Option<String>,
    /// Documents that it is answered from.
    pub documents: Vec<String>,
}

/// What to change; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct SessionChange {
    /// A new title.
    pub title: Option<String>,
    /// New instructions; empty takes them away.
    pub instructions: Option<String>,
    /// Another agent.
    pub agent: Option<String>,
    /// Other documents; collections stay.
    pub documents: Option<Vec<String>>,
}

/// A message and its number, which is never given twice.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbered {
    /// The number.
    pub number: i64,
    /// The message.
    pub message: StoredMessage,
}

/// Sums over what a person keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptRows {
    /// Chats.
    pub sessions: u64,
    /// Messages of all their branches.
    pub messages: u64,
    /// Documents.
    pub documents: u64,
    /// Their passages.
    pub passages: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// The branch of chat `?1` from its head upwards; the head has depth 0.
const LINE: &str = "WITH RECURSIVE line (id, parent, depth) AS (
         SELECT id, parent, 0 FROM messages WHERE id = (SELECT head FROM chats WHERE id = ?1)
         UNION ALL
         SELECT m.id, m.parent, depth + 1 FROM messages m JOIN line ON m.id = line.parent)";

/// What of a branch is shown.
const SHOWN: &str = "m.finish_reason IS NOT NULL AND (m.role <> 'assistant' OR m.content <> '')";

const SESSION: &str =
    "c.id, c.title, c.model, c.pinned, c.head, c.created_at, c.updated_at, c.instructions, c.agent,
     (WITH RECURSIVE line (id, parent) AS (
          SELECT id, parent FROM messages WHERE id = c.head
          UNION ALL SELECT m.id, m.parent FROM messages m JOIN line ON m.id = line.parent)
      SELECT count(*) FROM messages m JOIN line ON m.id = line.id
      WHERE m.finish_reason IS NOT NULL AND (m.role <> 'assistant' OR m.content <> ''))";

impl Chats<'_> {
    /// Lists a person's chats, the latest first, and tells how many there are.
    pub async fn sessions(
        &self,
        person: &PersonId,
        limit: usize,
        offset: usize,
    ) -> Result<(Vec<Session>, u64), StoreError> {
        let person = person.as_str().to_owned();
        self.0
            .read(move |connection| {
                let total = connection
                    .prepare_cached("SELECT count(*) FROM chats WHERE person = ?")?
                    .query_row([&person], |row| row.get(0))?;
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {SESSION} FROM chats c WHERE c.person = ?1
                     ORDER BY c.updated_at DESC, c.id LIMIT ?2 OFFSET ?3"
                ))?;
                let rows = statement.query_map(params![person, limit, offset], session)?;
                let mut sessions: Vec<Session> = rows.collect::<Result<_, _>>()?;
                for session in &mut sessions {
                    session.documents = documents(connection, &session.chat.id)?;
                }
                Ok((sessions, total))
            })
            .await
    }

    /// Returns one of them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none or it belongs to somebody else.
    pub async fn session(&self, person: &PersonId, id: &str) -> Result<Session, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| one(connection, &person, &id))
            .await
    }

    /// Begins one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when a document is not the person's.
    pub async fn begin_session(
        &self,
        person: &PersonId,
        new: NewSession,
    ) -> Result<Session, StoreError> {
        let (id, now, person) = (new_id()?.to_string(), now_ms(), person.as_str().to_owned());
        self.0
            .write(move |transaction| {
                transaction.execute(
                    "INSERT INTO chats (id, person, title, model, created_at, updated_at, instructions, agent)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7)",
                    params![id, person, new.title, new.model, now, new.instructions, new.agent],
                )?;
                attach(transaction, &person, &id, &new.documents)?;
                one(transaction, &person, &id)
            })
            .await
    }

    /// Changes one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it or a document is not the person's.
    pub async fn change_session(
        &self,
        person: &PersonId,
        id: &str,
        change: SessionChange,
    ) -> Result<Session, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .write(move |transaction| {
                find(transaction, &person, &id)?;
                transaction.execute(
                    "UPDATE chats SET title = coalesce(?2, title), agent = coalesce(?3, agent),
                     instructions = nullif(coalesce(?4, instructions), ''), updated_at = ?5 WHERE id = ?1",
                    params![id, change.title, change.agent, change.instructions, now_ms()],
                )?;
                if let Some(documents) = change.documents {
                    transaction.execute(
                        "DELETE FROM chat_shelves WHERE chat = ? AND shelf IN (SELECT id FROM documents)",
                        [&id],
                    )?;
                    attach(transaction, &person, &id, &documents)?;
                }
                one(transaction, &person, &id)
            })
            .await
    }

    /// What a chat's model is told first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the chat is not the person's.
    pub async fn instructions(
        &self,
        person: &PersonId,
        id: &str,
    ) -> Result<Option<String>, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| {
                find(connection, &person, &id)?;
                Ok(connection
                    .prepare_cached("SELECT instructions FROM chats WHERE id = ?")?
                    .query_row([&id], |row| row.get(0))?)
            })
            .await
    }

    /// Answers a chat from one more document.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the chat or the document is not the person's.
    pub async fn attach(
        &self,
        person: &PersonId,
        id: &str,
        document: &str,
    ) -> Result<(), StoreError> {
        let (person, id, document) = (
            person.as_str().to_owned(),
            id.to_owned(),
            document.to_owned(),
        );
        self.0
            .write(move |transaction| {
                find(transaction, &person, &id)?;
                attach(transaction, &person, &id, &[document])
            })
            .await
    }

    /// Answers a chat from a document no longer; `false` when it was not.
    pub async fn detach(
        &self,
        person: &PersonId,
        id: &str,
        document: &str,
    ) -> Result<bool, StoreError> {
        let row = (
            id.to_owned(),
            document.to_owned(),
            person.as_str().to_owned(),
        );
        self.0
            .write(move |transaction| {
                let gone = transaction.execute(
                    "DELETE FROM chat_shelves WHERE chat = ?1 AND shelf = ?2
                     AND chat IN (SELECT id FROM chats WHERE person = ?3)",
                    row,
                )?;
                Ok(gone > 0)
            })
            .await
    }

    /// Returns messages of the branch that is shown, oldest first, and tells how many there are.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the chat is not the person's.
    pub async fn line(
        &self,
        person: &PersonId,
        id: &str,
        limit: usize,
        offset: usize,
    ) -> Result<(Vec<Numbered>, u64), StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| {
                find(connection, &person, &id)?;
                let total = connection
                    .prepare_cached(&format!(
                        "{LINE} SELECT count(*) FROM messages m JOIN line ON m.id = line.id WHERE {SHOWN}"
                    ))?
                    .query_row([&id], |row| row.get(0))?;
                let columns = MESSAGE
                    .split(',')
                    .map(|column| format!("m.{}", column.trim()))
                    .collect::<Vec<_>>()
                    .join(", ");
                let mut statement = connection.prepare_cached(&format!(
                    "{LINE} SELECT {columns}, n.number FROM messages m JOIN line ON m.id = line.id
                     JOIN message_numbers n ON n.message = m.id WHERE {SHOWN}
                     ORDER BY line.depth DESC LIMIT ?2 OFFSET ?3"
                ))?;
                let rows = statement.query_map(params![id, limit, offset], |row| {
                    Ok(message(row).and_then(|message| {
                        Ok(Numbered {
                            number: row.get("number")?,
                            message,
                        })
                    }))
                })?;
                let mut messages = Vec::new();
                for row in rows {
                    messages.push(row??);
                }
                Ok((messages, total))
            })
            .await
    }

    /// The number of a message.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none.
    pub async fn number(&self, message: &str) -> Result<i64, StoreError> {
        let id = message.to_owned();
        self.0
            .read(move |connection| {
                connection
                    .prepare_cached("SELECT number FROM message_numbers WHERE message = ?")?
                    .query_row([&id], |row| row.get(0))
                    .optional()?
                    .ok_or(StoreError::NotFound {
                        what: "message",
                        id,
                    })
            })
            .await
    }

    /// Deletes one message; what answered it answers the one before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the chat is not the person's, or has no such message.
    pub async fn delete_message(
        &self,
        person: &PersonId,
        id: &str,
        number: i64,
    ) -> Result<(), StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .write(move |transaction| {
                let (gone, parent) = numbered(transaction, &person, &id, number)?;
                transaction.execute(
                    "UPDATE messages SET parent = ?2 WHERE parent = ?1",
                    params![gone, parent],
                )?;
                transaction.execute(
                    "UPDATE chats SET head = ?3, updated_at = ?4 WHERE id = ?1 AND head = ?2",
                    params![id, gone, parent, now_ms()],
                )?;
                transaction.execute("DELETE FROM messages WHERE id = ?", [&gone])?;
                Ok(())
            })
            .await
    }

    /// Deletes a message and all that follows it, in every branch; tells how many there were.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the chat is not the person's, or has no such message.
    pub async fn delete_from(
        &self,
        person: &PersonId,
        id: &str,
        number: i64,
    ) -> Result<usize, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .write(move |transaction| {
                let (first, parent) = numbered(transaction, &person, &id, number)?;
                let mut below = vec![first];
                let mut at = 0;
                while let Some(one) = below.get(at) {
                    let mut statement =
                        transaction.prepare_cached("SELECT id FROM messages WHERE parent = ?")?;
                    let rows = statement.query_map([one], |row| row.get(0))?;
                    let mut answers: Vec<String> = rows.collect::<Result<_, _>>()?;
                    below.append(&mut answers);
                    at += 1;
                }
                // The last first: a long chain of parents is deeper than a cascade may go.
                for one in below.iter().rev() {
                    transaction
                        .prepare_cached("UPDATE chats SET head = ?3 WHERE id = ?1 AND head = ?2")?
                        .execute(params![id, one, parent])?;
                    transaction
                        .prepare_cached("DELETE FROM messages WHERE id = ?")?
                        .execute([one])?;
                }
                Ok(below.len())
            })
            .await
    }

    /// Sums over what a person keeps.
    pub async fn kept(&self, person: &PersonId) -> Result<KeptRows, StoreError> {
        let person = person.as_str().to_owned();
        self.0
            .read(move |connection| {
                let (sessions, messages) = connection.query_row(
                    "SELECT count(*), coalesce(sum((SELECT count(*) FROM messages WHERE chat = chats.id)), 0)
                     FROM chats WHERE person = ?",
                    [&person],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?;
                let (documents, passages, bytes) = connection.query_row(
                    "SELECT count(*), coalesce(sum(passages), 0), coalesce(sum(bytes), 0)
                     FROM documents WHERE person = ?",
                    [&person],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )?;
                Ok(KeptRows {
                    sessions,
                    messages,
                    documents,
                    passages,
                    bytes,
                })
            })
            .await
    }
}

fn session(row: &Row<'_>) -> Result<Session, rusqlite::Error> {
    Ok(Session {
        chat: Chat {
            id: row.get(0)?,
            title: row.get(1)?,
            model: row.get(2)?,
            pinned: row.get(3)?,
            head: row.get(4)?,
            created_at: row.get(5)?,
            updated_at: row.get(6)?,
        },
        instructions: row.get(7)?,
        agent: row.get(8)?,
        messages: row.get(9)?,
        documents: Vec::new(),
    })
}

fn one(connection: &Connection, person: &str, id: &str) -> Result<Session, StoreError> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {SESSION} FROM chats c WHERE c.id = ? AND c.person = ?"
        ))?
        .query_row([id, person], session)
        .optional()?;
    let mut found = found.ok_or_else(|| StoreError::NotFound {
        what: "chat",
        id: id.to_owned(),
    })?;
    found.documents = documents(connection, id)?;
    Ok(found)
}

fn documents(connection: &Connection, chat: &str) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT d.id FROM chat_shelves s JOIN documents d ON d.id = s.shelf WHERE s.chat = ? ORDER BY d.created_at, d.key",
    )?;
    let rows = statement.query_map([chat], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn attach(
    transaction: &Transaction<'_>,
    person: &str,
    chat: &str,
    documents: &[String],
) -> Result<(), StoreError> {
    for document in documents {
        let known: bool = transaction
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM documents WHERE id = ? AND person = ?)")?
            .query_row([document.as_str(), person], |row| row.get(0))?;
        if !known {
            return Err(StoreError::NotFound {
                what: "document",
                id: document.clone(),
            });
        }
        transaction
            .prepare_cached("INSERT OR IGNORE INTO chat_shelves (chat, shelf) VALUES (?, ?)")?
            .execute([chat, document])?;
    }
    Ok(())
}

/// A message's identifier and parent, by its number.
fn numbered(
    transaction: &Transaction<'_>,
    person: &str,
    chat: &str,
    number: i64,
) -> Result<(String, Option<String>), StoreError> {
    find(transaction, person, chat)?;
    transaction
        .prepare_cached(
            "SELECT m.id, m.parent FROM messages m JOIN message_numbers n ON n.message = m.id
             WHERE n.number = ? AND m.chat = ?",
        )?
        .query_row(params![number, chat], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or_else(|| StoreError::NotFound {
            what: "message",
            id: number.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::super::{NewMessage, Store};
    use super::*;
    use crate::domain::Role;

    fn open() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    fn said(role: Role, content: &str) -> NewMessage {
        NewMessage {
            parent_id: None,
            role,
            content: content.to_owned(),
            pictures: Vec::new(),
            model: None,
        }
    }

    async fn texts(store: &Store, chat: &str) -> (Vec<String>, Vec<i64>, u64) {
        let me = PersonId::owner();
        let (line, total) = store.chats().line(&me, chat, 100, 0).await.unwrap();
        let texts = line.iter().map(|one| one.message.content.clone()).collect();
        (texts, line.iter().map(|one| one.number).collect(), total)
    }

    #[tokio::test]
    async fn the_line_is_the_branch_that_is_shown_without_what_is_unfinished() {
        let (_folder, store) = open();
        let me = PersonId::owner();
        let new = NewSession {
            title: "t".into(),
            instructions: Some("brief".into()),
            ..NewSession::default()
        };
        let begun = store.chats().begin_session(&me, new).await.unwrap();
        let id = begun.chat.id.clone();
        let pair = vec![said(Role::User, "a"), said(Role::Assistant, "b")];
        let first = store.chats().add(&me, &id, pair).await.unwrap();
        let other = vec![NewMessage {
            parent_id: Some(first[0].id.clone()),
            ..said(Role::Assistant, "c")
        }];
        let other = store.chats().add(&me, &id, other).await.unwrap();
        let more = vec![
            NewMessage {
                parent_id: Some(other[0].id.clone()),
                ..said(Role::User, "d")
            },
            said(Role::Assistant, ""),
        ];
        store.chats().add(&me, &id, more).await.unwrap();
        let (line, numbers, total) = texts(&store, &id).await;
        assert_eq!((line, total), (vec!["a".into(), "c".into(), "d".into()], 3));
        assert!(numbers.is_sorted());
        let (page, _) = store.chats().line(&me, &id, 1, 1).await.unwrap();
        assert_eq!(page[0].message.content, "c");
        let (list, count) = store.chats().sessions(&me, 10, 0).await.unwrap();
        assert_eq!((list[0].messages, count), (3, 1));
        assert_eq!(list[0].instructions.as_deref(), Some("brief"));
        let guest = PersonId::from_row("guest".into());
        assert!(store.chats().line(&guest, &id, 1, 0).await.is_err());
        assert!(store.chats().session(&guest, &id).await.is_err());
    }

    #[tokio::test]
    async fn deleting_goes_through_every_branch_and_a_gap_closes() {
        let (_folder, store) = open();
        let me = PersonId::owner();
        let chat = store.chats().create(&me, "t", None).await.unwrap();
        let all = ["a", "b", "c", "d"].map(|text| said(Role::User, text));
        let rows = store.chats().add(&me, &chat.id, all.into()).await.unwrap();
        let (_, numbers, _) = texts(&store, &chat.id).await;
        store
            .chats()
            .delete_message(&me, &chat.id, numbers[1])
            .await
            .unwrap();
        assert_eq!(texts(&store, &chat.id).await.0, ["a", "c", "d"]);
        let twin = vec![NewMessage {
            parent_id: Some(rows[2].id.clone()),
            ..said(Role::User, "e")
        }];
        store.chats().add(&me, &chat.id, twin).await.unwrap();
        let gone = store.chats().delete_from(&me, &chat.id, numbers[2]).await;
        assert_eq!(gone.unwrap(), 3, "c, d and e");
        assert_eq!(texts(&store, &chat.id).await.0, ["a"]);
        let missing = store.chats().delete_from(&me, &chat.id, numbers[2]).await;
        assert!(matches!(missing, Err(StoreError::NotFound { .. })));
        store
            .chats()
            .delete_message(&me, &chat.id, numbers[0])
            .await
            .unwrap();
        let session = store.chats().session(&me, &chat.id).await.unwrap();
        assert_eq!((session.chat.head, session.messages), (None, 0));
        let again = vec![said(Role::User, "f")];
        store.chats().add(&me, &chat.id, again).await.unwrap();
        let fresh = texts(&store, &chat.id).await.1[0];
        assert!(fresh > numbers[3], "a number is never given twice");
    }

    #[tokio::test]
    async fn only_ones_own_documents_are_attached() {
        let (_folder, store) = open();
        let me = PersonId::owner();
        let chat = store.chats().create(&me, "t", None).await.unwrap();
        let attached = store.chats().attach(&me, &chat.id, "none").await;
        assert!(matches!(
            attached,
            Err(StoreError::NotFound {
                what: "document",
                ..
            })
        ));
        assert!(!store.chats().detach(&me, &chat.id, "none").await.unwrap());
        let cleared = SessionChange {
            instructions: Some(String::new()),
            agent: Some("docs".into()),
            ..SessionChange::default()
        };
        let changed = store.chats().change_session(&me, &chat.id, cleared).await;
        let changed = changed.unwrap();
        assert_eq!(
            (changed.instructions, changed.agent.as_deref()),
            (None, Some("docs"))
        );
        assert_eq!(store.chats().kept(&me).await.unwrap().sessions, 1);
    }
}
