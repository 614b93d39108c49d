//! Chats: each a tree of messages, owned by one person.
//!
//! A message has at most one parent; editing or regenerating adds a sibling, so nothing that was said
//! is lost. The chat's `head` is the leaf that the page shows. Every function takes the person and sees
//! nothing of anybody else's.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::answered::{cites, cites_text, stats, stats_text};
use super::pictures::keep;
use super::{Store, StoreError, new_id, now_ms};
use crate::domain::{Citation, PersonId, Role, Stats};

/// Chats that one listing returns at most; a page shows fewer.
const LIST_MAX: usize = 200;

/// One conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// Identifier.
    pub id: String,
    /// What the list shows.
    pub title: String,
    /// The model last used in it.
    pub model: Option<String>,
    /// Whether it stays on top of the list.
    pub pinned: bool,
    /// The leaf that the page shows.
    pub head: Option<String>,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds of the last message.
    pub updated_at: i64,
}

/// One message of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMessage {
    /// Identifier.
    pub id: String,
    /// The message that it answers; `None` for the first.
    pub parent_id: Option<String>,
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// What the model thought before it spoke.
    pub reasoning: Option<String>,
    /// The model that said it.
    pub model: Option<String>,
    /// Why it ended; `None` while it is being written.
    pub finish_reason: Option<String>,
    /// What it cost.
    pub stats: Option<Stats>,
    /// The passages that it was made from.
    pub citations: Vec<Citation>,
    /// How many pictures were shown with it.
    pub pictures: usize,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// A message to add.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// The message that it answers.
    pub parent_id: Option<String>,
    /// Who says it.
    pub role: Role,
    /// What is said; empty for an answer that is about to be written.
    pub content: String,
    /// The model that says it.
    pub model: Option<String>,
    /// Pictures that are shown with it, at `data:` addresses.
    pub pictures: Vec<String>,
}

/// Which chats to list.
#[derive(Debug, Clone, Default)]
pub struct ChatQuery {
    /// Text in the title or in a message.
    pub text: Option<String>,
    /// Only those updated before this, unix milliseconds.
    pub before: Option<i64>,
    /// How many at most.
    pub limit: Option<usize>,
}

/// What to change; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct ChatChange {
    /// A new title.
    pub title: Option<String>,
    /// Another leaf.
    pub head: Option<String>,
    /// On top of the list or not.
    pub pinned: Option<bool>,
}

/// Chats and their messages.
pub struct Chats<'a>(pub(super) &'a Store);

const CHAT: &str = "id, title, model, pinned, head, created_at, updated_at";
pub(super) const MESSAGE: &str = "id, parent, role, content, model, finish_reason, stats, created_at, citations, pictures, reasoning";

impl Chats<'_> {
    /// Lists a person's chats, pinned ones first, then the latest first.
    pub async fn list(&self, person: &PersonId, query: ChatQuery) -> Result<Vec<Chat>, StoreError> {
        let person = person.as_str().to_owned();
        self.0
            .read(move |connection| {
                let pattern = query.text.filter(|text| !text.is_empty()).map(|text| like(&text));
                let limit = query.limit.unwrap_or(LIST_MAX).min(LIST_MAX) as i64;
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {CHAT} FROM chats WHERE person = ?1 AND updated_at < ?2
                     AND (?3 IS NULL OR title LIKE ?3 ESCAPE '\\' OR EXISTS (
                         SELECT 1 FROM messages WHERE chat = chats.id AND content LIKE ?3 ESCAPE '\\'))
                     ORDER BY pinned DESC, updated_at DESC, id LIMIT ?4"
                ))?;
                let before = query.before.unwrap_or(i64::MAX);
                let rows = statement.query_map(params![person, before, pattern, limit], chat)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Starts an empty chat.
    pub async fn create(
        &self,
        person: &PersonId,
        title: &str,
        model: Option<&str>,
    ) -> Result<Chat, StoreError> {
        let now = now_ms();
        let made = Chat {
            id: new_id()?.to_string(),
            title: title.to_owned(),
            model: model.map(str::to_owned),
            pinned: false,
            head: None,
            created_at: now,
            updated_at: now,
        };
        let (row, person) = (made.clone(), person.as_str().to_owned());
        self.0
            .write(move |transaction| {
                transaction.execute(
                    "INSERT INTO chats (id, person, title, model, created_at, updated_at) VALUES (?,?,?,?,?,?)",
                    params![row.id, person, row.title, row.model, row.created_at, row.updated_at],
                )?;
                Ok(())
            })
            .await?;
        Ok(made)
    }

    /// Returns a chat with all its messages, oldest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none or it belongs to somebody else.
    pub async fn get(
        &self,
        person: &PersonId,
        id: &str,
    ) -> Result<(Chat, Vec<StoredMessage>), StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| {
                let found = find(connection, &person, &id)?;
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {MESSAGE} FROM messages WHERE chat = ? ORDER BY created_at, rowid"
                ))?;
                let rows = statement.query_map([&id], |row| Ok(message(row)))?;
                let mut messages = Vec::new();
                for row in rows {
                    messages.push(row??);
                }
                Ok((found, messages))
            })
            .await
    }

    /// Returns the messages from the root down to `leaf`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the chat or the message does not exist.
    pub async fn path(
        &self,
        person: &PersonId,
        id: &str,
        leaf: &str,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let (person, id, leaf) = (person.as_str().to_owned(), id.to_owned(), leaf.to_owned());
        self.0
            .read(move |connection| {
                find(connection, &person, &id)?;
                let mut statement = connection.prepare_cached(&format!(
                    "WITH RECURSIVE line AS (
                         SELECT *, 0 AS depth FROM messages WHERE id = ?1 AND chat = ?2
                         UNION ALL
                         SELECT m.*, depth + 1 FROM messages m JOIN line ON m.id = line.parent)
                     SELECT {MESSAGE} FROM line ORDER BY depth DESC"
                ))?;
                let rows = statement.query_map([&leaf, &id], |row| Ok(message(row)))?;
                let mut messages = Vec::new();
                for row in rows {
                    messages.push(row??);
                }
                if messages.is_empty() {
                    return Err(StoreError::NotFound {
                        what: "message",
                        id: leaf,
                    });
                }
                Ok(messages)
            })
            .await
    }

    /// Changes title, head or pin.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the chat, or the message given as head, does not exist.
    pub async fn change(
        &self,
        person: &PersonId,
        id: &str,
        change: ChatChange,
    ) -> Result<Chat, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .write(move |transaction| {
                find(transaction, &person, &id)?;
                if let Some(head) = &change.head {
                    belongs(transaction, &id, head)?;
                }
                transaction.execute(
                    "UPDATE chats SET title = coalesce(?2, title), head = coalesce(?3, head),
                     pinned = coalesce(?4, pinned) WHERE id = ?1",
                    params![id, change.title, change.head, change.pinned],
                )?;
                find(transaction, &person, &id)
            })
            .await
    }

    /// Deletes a chat with its messages.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none.
    pub async fn delete(&self, person: &PersonId, id: &str) -> Result<(), StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .write(move |transaction| {
                find(transaction, &person, &id)?;
                // A long conversation is a chain of parents, deeper than a cascade may go.
                transaction.execute("UPDATE messages SET parent = NULL WHERE chat = ?", [&id])?;
                transaction.execute("DELETE FROM chats WHERE id = ?", [&id])?;
                Ok(())
            })
            .await
    }

    /// Adds messages, each below the one before it, the first below its own `parent_id`; the last
    /// becomes the head. One transaction: a question is never stored without its answer's row.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the chat or the parent does not exist.
    pub async fn add(
        &self,
        person: &PersonId,
        id: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let mut rows = Vec::with_capacity(messages.len());
        let mut shown = Vec::with_capacity(messages.len());
        let now = now_ms();
        for new in messages {
            let above = rows.last().map(|row: &StoredMessage| row.id.clone());
            let written = new.role == Role::Assistant && new.content.is_empty();
            rows.push(StoredMessage {
                id: new_id()?.to_string(),
                parent_id: above.or(new.parent_id),
                role: new.role,
                content: new.content,
                reasoning: None,
                model: new.model,
                finish_reason: (!written).then(|| "stop".to_owned()),
                stats: None,
                citations: Vec::new(),
                pictures: new.pictures.len(),
                created_at: now,
            });
            shown.push(new.pictures);
        }
        let (person, id, returned) = (person.as_str().to_owned(), id.to_owned(), rows.clone());
        self.0
            .write(move |transaction| {
                find(transaction, &person, &id)?;
                for (row, shown) in rows.iter().zip(&shown) {
                    if let Some(parent) = &row.parent_id {
                        belongs(transaction, &id, parent)?;
                    }
                    transaction
                        .prepare_cached(&format!(
                            "INSERT INTO messages (chat, {MESSAGE}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
                        ))?
                        .execute(params![
                            id,
                            row.id,
                            row.parent_id,
                            row.role.as_str(),
                            row.content,
                            row.model,
                            row.finish_reason,
                            row.stats.as_ref().map(stats_text),
                            row.created_at,
                            cites_text(&row.citations),
                            row.pictures as i64,
                            row.reasoning,
                        ])?;
                    keep(transaction, &row.id, shown)?;
                }
                if let Some(last) = rows.last() {
                    transaction.execute(
                        "UPDATE chats SET head = ?2, updated_at = ?3, model = coalesce(?4, model) WHERE id = ?1",
                        params![id, last.id, now, last.model],
                    )?;
                }
                Ok(())
            })
            .await?;
        Ok(returned)
    }

    /// Marks answers that the last run left unfinished: a kill or a power cut came in between.
    /// Only for the process that serves, at its start; another one would mark running answers.
    pub async fn close_interrupted(&self) -> Result<usize, StoreError> {
        self.0
            .write(|transaction| {
                Ok(transaction.execute(
                    "UPDATE messages SET finish_reason = 'interrupted' WHERE finish_reason IS NULL",
                    [],
                )?)
            })
            .await
    }

    /// Keeps the passages that an answer is made from.
    pub async fn write_citations(
        &self,
        message_id: &str,
        citations: &[Citation],
    ) -> Result<(), StoreError> {
        let (id, citations) = (message_id.to_owned(), cites_text(citations));
        self.0
            .write(move |transaction| {
                transaction.execute(
                    "UPDATE messages SET citations = ?2 WHERE id = ?1",
                    params![id, citations],
                )?;
                Ok(())
            })
            .await
    }

    /// Writes what an answer has become; `finish_reason` `None` means that it goes on.
    pub async fn write_answer(
        &self,
        message_id: &str,
        content: &str,
        reasoning: Option<&str>,
        finish_reason: Option<&str>,
        stats: Option<&Stats>,
    ) -> Result<(), StoreError> {
        let row = (
            message_id.to_owned(),
            content.to_owned(),
            reasoning.map(str::to_owned),
            finish_reason.map(str::to_owned),
            stats.map(stats_text),
            now_ms(),
        );
        self.0
            .write(move |transaction| {
                let (id, content, reasoning, finish_reason, stats, now) = row;
                transaction.execute(
                    "UPDATE messages SET content = ?2, finish_reason = ?3, stats = ?4,
                     reasoning = coalesce(?5, reasoning) WHERE id = ?1",
                    params![id, content, finish_reason, stats, reasoning],
                )?;
                transaction.execute(
                    "UPDATE chats SET updated_at = ?2 WHERE id = (SELECT chat FROM messages WHERE id = ?1)",
                    params![id, now],
                )?;
                Ok(())
            })
            .await
    }
}

fn like(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('%', "\\%")
        .replace('_', "\\_");
    format!("%{escaped}%")
}

pub(super) fn find(connection: &Connection, person: &str, id: &str) -> Result<Chat, StoreError> {
    connection
        .prepare_cached(&format!(
            "SELECT {CHAT} FROM chats WHERE id = ? AND person = ?"
        ))?
        .query_row([id, person], chat)
        .optional()?
        .ok_or_else(|| StoreError::NotFound {
            what: "chat",
            id: id.to_owned(),
        })
}

fn belongs(connection: &Connection, chat: &str, message: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached("SELECT 1 FROM messages WHERE id = ? AND chat = ?")?
        .query_row([message, chat], |_| Ok(()))
        .optional()?
        .ok_or_else(|| StoreError::NotFound {
            what: "message",
            id: message.to_owned(),
        })
}

fn chat(row: &Row<'_>) -> Result<Chat, rusqlite::Error> {
    Ok(Chat {
        id: row.get(0)?,
        title: row.get(1)?,
        model: row.get(2)?,
        pinned: row.get(3)?,
        head: row.get(4)?,
        created_at: row.get(5)?,
        updated_at: row.get(6)?,
    })
}

pub(super) fn message(row: &Row<'_>) -> Result<StoredMessage, StoreError> {
    let role: String = row.get(2)?;
    Ok(StoredMessage {
        id: row.get(0)?,
        parent_id: row.get(1)?,
        role: Role::parse(&role).ok_or(StoreError::BadRow {
            what: "a role",
            value: role,
        })?,
        content: row.get(3)?,
        reasoning: row.get(10)?,
        model: row.get(4)?,
        finish_reason: row.get(5)?,
        stats: row
            .get::<_, Option<String>>(6)?
            .map(|text| stats(&text))
            .transpose()?,
        created_at: row.get(7)?,
        citations: row
            .get::<_, Option<String>>(8)?
            .map(|text| cites(&text))
            .transpose()?
            .unwrap_or_default(),
        pictures: usize::try_from(row.get::<_, i64>(9)?).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    fn said(role: Role, content: &str, parent: Option<&str>) -> NewMessage {
        NewMessage {
            parent_id: parent.map(str::to_owned),
            role,
            content: content.into(),
            model: None,
            pictures: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_regenerated_answer_is_a_sibling_and_both_paths_stay() {
        let (_folder, store) = open();
        let me = PersonId::owner();
        let chat = store
            .chats()
            .create(&me, "New chat", Some("m"))
            .await
            .unwrap();
        let pair = vec![
            said(Role::User, "hi", None),
            said(Role::Assistant, "hello", None),
        ];
        let first = store.chats().add(&me, &chat.id, pair).await.unwrap();
        assert_eq!(first[1].parent_id.as_ref(), Some(&first[0].id));
        let again = vec![said(Role::Assistant, "good day", Some(&first[0].id))];
        let second = store.chats().add(&me, &chat.id, again).await.unwrap();
        let (chat, all) = store.chats().get(&me, &chat.id).await.unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(chat.head.as_ref(), Some(&second[0].id));
        for (leaf, expected) in [(&first[1].id, "hello"), (&second[0].id, "good day")] {
            let path = store.chats().path(&me, &chat.id, leaf).await.unwrap();
            let texts: Vec<_> = path.iter().map(|m| m.content.as_str()).collect();
            assert_eq!(texts, ["hi", expected]);
        }
    }

    #[tokio::test]
    async fn another_person_sees_nothing() {
        let (_folder, store) = open();
        let (me, other) = (PersonId::owner(), PersonId::from_row("guest".into()));
        let chat = store.chats().create(&me, "mine", None).await.unwrap();
        assert!(
            store
                .chats()
                .list(&other, ChatQuery::default())
                .await
                .unwrap()
                .is_empty()
        );
        for result in [
            store.chats().get(&other, &chat.id).await.map(drop),
            store.chats().delete(&other, &chat.id).await,
            store
                .chats()
                .change(&other, &chat.id, ChatChange::default())
                .await
                .map(drop),
            store
                .chats()
                .add(&other, &chat.id, vec![said(Role::User, "x", None)])
                .await
                .map(drop),
        ] {
            assert!(
                matches!(result, Err(StoreError::NotFound { .. })),
                "{result:?}"
            );
        }
    }

    #[tokio::test]
    async fn search_takes_signs_literally_and_looks_into_messages() {
        let (_folder, store) = open();
        let me = PersonId::owner();
        let a = store.chats().create(&me, "100% sure", None).await.unwrap();
        let b = store.chats().create(&me, "other", None).await.unwrap();
        store
            .chats()
            .add(&me, &b.id, vec![said(Role::User, "a_b", None)])
            .await
            .unwrap();
        let ids = |text: &str| {
            let (store, me) = (store.clone(), me.clone());
            let query = ChatQuery {
                text: Some(text.to_owned()),
                ..ChatQuery::default()
            };
            async move {
                let found = store.chats().list(&me, query).await.unwrap();
                found.into_iter().map(|c| c.id).collect::<Vec<_>>()
            }
        };
        assert_eq!(ids("0%").await, std::slice::from_ref(&a.id));
        assert_eq!(ids("a_b").await, std::slice::from_ref(&b.id));
        assert!(ids("axb").await.is_empty());
    }

    #[tokio::test]
    async fn pins_come_first_and_a_deleted_chat_takes_its_messages_along() {
        let (_folder, store) = open();
        let me = PersonId::owner();
        let a = store.chats().create(&me, "a", None).await.unwrap();
        let b = store.chats().create(&me, "b", None).await.unwrap();
        store
            .chats()
            .add(&me, &b.id, vec![said(Role::User, "x", None)])
            .await
            .unwrap();
        let pin = ChatChange {
            pinned: Some(true),
            ..ChatChange::default()
        };
        store.chats().change(&me, &a.id, pin).await.unwrap();
        let list = store.chats().list(&me, ChatQuery::default()).await.unwrap();
        assert_eq!(
            list.iter().map(|c| c.title.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        store.chats().delete(&me, &b.id).await.unwrap();
        let left: i64 = store
            .read(|c| Ok(c.query_row("SELECT count(*) FROM messages", [], |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(left, 0);
    }

    #[tokio::test]
    async fn an_answer_cut_by_a_kill_is_marked() {
        let (folder, store) = open();
        let me = PersonId::owner();
        let chat = store.chats().create(&me, "a", None).await.unwrap();
        let pair = vec![
            said(Role::User, "hi", None),
            said(Role::Assistant, "", None),
        ];
        let rows = store.chats().add(&me, &chat.id, pair).await.unwrap();
        assert_eq!(rows[1].finish_reason, None);
        let stats = Stats {
            prompt_tokens: 3,
            cached_tokens: Some(1),
            completion_tokens: 2,
            ttft_ms: 12.5,
            prefill_tps: Some(100.0),
            decode_tps: None,
            joules: Some(1.5),
            thought_ms: Some(250.0),
        };
        store
            .chats()
            .write_answer(&rows[1].id, "hel", Some("hm"), None, Some(&stats))
            .await
            .unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.chats().close_interrupted().await.unwrap(), 1);
        let (_, messages) = store.chats().get(&me, &chat.id).await.unwrap();
        assert_eq!(messages[1].content, "hel");
        assert_eq!(messages[1].stats.as_ref(), Some(&stats));
        assert_eq!(messages[1].finish_reason.as_deref(), Some("interrupted"));
    }
}
