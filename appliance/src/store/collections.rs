//! Collections of documents, the folders that feed them, and which of them a chat is answered from.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::documents::{checked, find, new_uuid};
use super::{Store, StoreError, now_ms};
use crate::domain::PersonId;
use crate::domain::library::Collection;

/// A folder whose files are documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Identifier.
    pub id: String,
    /// Whose documents.
    pub person: PersonId,
    /// The folder.
    pub path: String,
    /// Whether folders inside count.
    pub recursive: bool,
    /// The collection that takes the documents.
    pub collection: Option<String>,
}

/// Collections, watched folders, and the shelves of chats.
pub struct Collections<'a>(pub(super) &'a Store);

const COLLECTION: &str =
    "c.id, c.name, c.created_at, (SELECT count(*) FROM collected WHERE collection = c.id)";

impl Collections<'_> {
    /// Lists a person's collections by name.
    pub async fn all(&self, person: &PersonId) -> Result<Vec<Collection>, StoreError> {
        let person = person.as_str().to_owned();
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {COLLECTION} FROM collections c WHERE person = ? ORDER BY name"
                ))?;
                let rows = statement.query_map([person], collection)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Returns one collection, by its identifier or its name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn get(&self, person: &PersonId, id: &str) -> Result<Collection, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| {
                let found = connection
                    .prepare_cached(&format!(
                        "SELECT {COLLECTION} FROM collections c WHERE person = ?1 AND (id = ?2 OR name = ?2)
                         ORDER BY id = ?2 DESC LIMIT 1"
                    ))?
                    .query_row([&person, &id], collection)
                    .optional()?;
                found.ok_or(StoreError::NotFound { what: "collection", id })
            })
            .await
    }

    /// Makes a collection.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the person has one of this name.
    pub async fn create(&self, person: &PersonId, name: &str) -> Result<Collection, StoreError> {
        let made = Collection {
            id: new_uuid()?,
            name: name.to_owned(),
            documents: 0,
            created_at: now_ms(),
        };
        let (row, person) = (made.clone(), person.as_str().to_owned());
        self.0
            .write(move |transaction| {
                let new = transaction.execute(
                    "INSERT OR IGNORE INTO collections (id, person, name, created_at) VALUES (?,?,?,?)",
                    params![row.id, person, row.name, row.created_at],
                )?;
                if new == 0 {
                    return Err(StoreError::Exists { what: "collection", id: row.name });
                }
                Ok(())
            })
            .await?;
        Ok(made)
    }

    /// Gives a collection another name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Exists`].
    pub async fn rename(
        &self,
        person: &PersonId,
        id: &str,
        name: &str,
    ) -> Result<Collection, StoreError> {
        let (person, id, name) = (person.as_str().to_owned(), id.to_owned(), name.to_owned());
        self.0
            .write(move |transaction| {
                owned(transaction, &person, &id)?;
                let changed = transaction.execute(
                    "UPDATE OR IGNORE collections SET name = ?2 WHERE id = ?1",
                    [&id, &name],
                )?;
                if changed == 0 {
                    return Err(StoreError::Exists {
                        what: "collection",
                        id: name,
                    });
                }
                Ok(transaction.query_row(
                    &format!("SELECT {COLLECTION} FROM collections c WHERE id = ?"),
                    [&id],
                    collection,
                )?)
            })
            .await
    }

    /// Deletes a collection; its documents stay.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete(&self, person: &PersonId, id: &str) -> Result<(), StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .write(move |transaction| {
                owned(transaction, &person, &id)?;
                transaction.execute("DELETE FROM chat_shelves WHERE shelf = ?", [&id])?;
                transaction.execute("DELETE FROM collections WHERE id = ?", [&id])?;
                Ok(())
            })
            .await
    }

    /// Puts a document into a collection.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when either is missing.
    pub async fn put(&self, person: &PersonId, id: &str, document: &str) -> Result<(), StoreError> {
        let (person, id, document) = (
            person.as_str().to_owned(),
            id.to_owned(),
            document.to_owned(),
        );
        self.0
            .write(move |transaction| {
                owned(transaction, &person, &id)?;
                let key = find(transaction, &person, &document)?.0;
                transaction.execute(
                    "INSERT OR IGNORE INTO collected (collection, document) VALUES (?, ?)",
                    params![id, key],
                )?;
                Ok(())
            })
            .await
    }

    /// Takes a document out of a collection.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when either is missing, or the document is not in it.
    pub async fn take(
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
                owned(transaction, &person, &id)?;
                let key = find(transaction, &person, &document)?.0;
                let gone = transaction.execute(
                    "DELETE FROM collected WHERE collection = ? AND document = ?",
                    params![id, key],
                )?;
                match gone {
                    0 => Err(StoreError::NotFound {
                        what: "document in this collection",
                        id: document,
                    }),
                    _ => Ok(()),
                }
            })
            .await
    }

    /// What a chat is answered from.
    pub async fn of_chat(&self, chat: &str) -> Result<Vec<String>, StoreError> {
        let chat = chat.to_owned();
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT shelf FROM chat_shelves WHERE chat = ? ORDER BY shelf",
                )?;
                let rows = statement.query_map([chat], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Sets what a chat is answered from: collections or single documents.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the chat or one of them is not the person's.
    pub async fn set_chat(
        &self,
        person: &PersonId,
        chat: &str,
        shelves: Vec<String>,
    ) -> Result<(), StoreError> {
        let (person, chat) = (person.as_str().to_owned(), chat.to_owned());
        self.0
            .write(move |transaction| {
                let known: bool = transaction.query_row(
                    "SELECT EXISTS (SELECT 1 FROM chats WHERE id = ? AND person = ?)",
                    [&chat, &person],
                    |row| row.get(0),
                )?;
                if !known {
                    return Err(StoreError::NotFound {
                        what: "chat",
                        id: chat,
                    });
                }
                transaction.execute("DELETE FROM chat_shelves WHERE chat = ?", [&chat])?;
                for shelf in shelves {
                    if owned(transaction, &person, &shelf).is_err() {
                        find(transaction, &person, &shelf)?;
                    }
                    transaction.execute(
                        "INSERT OR IGNORE INTO chat_shelves (chat, shelf) VALUES (?, ?)",
                        [&chat, &shelf],
                    )?;
                }
                Ok(())
            })
            .await
    }

    /// Watches a folder from now on; one that is watched already is returned.
    pub async fn watch(
        &self,
        person: &PersonId,
        path: &str,
        recursive: bool,
        collection: Option<String>,
    ) -> Result<Watch, StoreError> {
        let made = Watch {
            id: new_uuid()?,
            person: person.clone(),
            path: path.to_owned(),
            recursive,
            collection,
        };
        self.0
            .write(move |transaction| {
                let owner = made.person.as_str();
                if let Some(collection) = &made.collection {
                    owned(transaction, owner, collection)?;
                }
                transaction.execute(
                    "INSERT INTO watches (id, person, path, recursive, collection, created_at) VALUES (?,?,?,?,?,?)
                     ON CONFLICT (person, path) DO UPDATE SET recursive = excluded.recursive, collection = excluded.collection",
                    params![made.id, owner, made.path, made.recursive, made.collection, now_ms()],
                )?;
                Ok(transaction.query_row(
                    "SELECT id, person, path, recursive, collection FROM watches WHERE person = ? AND path = ?",
                    [owner, &made.path],
                    watch,
                )?)
            })
            .await
    }

    /// Every watched folder, of one person or of all.
    pub async fn watches(&self, person: Option<&PersonId>) -> Result<Vec<Watch>, StoreError> {
        let person = person.map(|person| person.as_str().to_owned());
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT id, person, path, recursive, collection FROM watches
                     WHERE ?1 IS NULL OR person = ?1 ORDER BY path",
                )?;
                let rows = statement.query_map([person], watch)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Watches a folder no longer; its documents stay.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn unwatch(&self, person: &PersonId, id: &str) -> Result<(), StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .write(move |transaction| {
                let gone = transaction.execute(
                    "DELETE FROM watches WHERE id = ? AND person = ?",
                    [&id, &person],
                )?;
                match gone {
                    0 => Err(StoreError::NotFound {
                        what: "watched folder",
                        id,
                    }),
                    _ => Ok(()),
                }
            })
            .await
    }
}

/// Refuses a collection that is not the person's.
pub(super) fn owned(connection: &Connection, person: &str, id: &str) -> Result<(), StoreError> {
    checked("collection", id)?;
    connection
        .prepare_cached("SELECT 1 FROM collections WHERE id = ? AND person = ?")?
        .query_row([id, person], |_| Ok(()))
        .optional()?
        .ok_or_else(|| StoreError::NotFound {
            what: "collection",
            id: id.to_owned(),
        })
}

fn collection(row: &Row<'_>) -> Result<Collection, rusqlite::Error> {
    Ok(Collection {
        id: row.get(0)?,
        name: row.get(1)?,
        created_at: row.get(2)?,
        documents: row.get(3)?,
    })
}

fn watch(row: &Row<'_>) -> Result<Watch, rusqlite::Error> {
    Ok(Watch {
        id: row.get(0)?,
        person: PersonId::from_row(row.get(1)?),
        path: row.get(2)?,
        recursive: row.get(3)?,
        collection: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::document::Passage;
    use crate::domain::library::{Source, Status};
    use crate::store::documents::{Indexed, NewDocument};
    use crate::store::passages::plain;

    fn new(name: &str, sha256: &str, collection: Option<String>) -> NewDocument {
        NewDocument {
            name: name.into(),
            source: Source::Upload,
            origin: None,
            bytes: 3,
            sha256: sha256.into(),
            file: format!("documents/{sha256}"),
            modified: None,
            collection,
        }
    }

    fn indexed(text: &str) -> std::sync::Arc<Indexed> {
        let passage = Passage {
            text: text.into(),
            start: 0,
            end: text.chars().count(),
            page: None,
            headings: Vec::new(),
        };
        std::sync::Arc::new(Indexed {
            text: plain(text),
            passages: vec![passage],
            vectors: vec![vec![1.0, 0.0]],
        })
    }

    #[tokio::test]
    async fn a_document_is_found_when_it_is_complete_and_gone_when_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (owner, stranger) = (PersonId::owner(), PersonId::from_row("other".into()));
        let shelf = store.collections().create(&owner, "Manuals").await.unwrap();
        let added = store
            .documents()
            .add(&owner, new("a.txt", "aa", Some(shelf.id.clone())))
            .await
            .unwrap();
        assert_eq!(added.document.status, Status::Pending);
        let passages = store.passages();
        let words = |query: &str, allowed| passages.by_words(query.to_owned(), allowed, 9);
        assert!(words("\"zebra\"", None).await.unwrap().is_empty());

        let job = store.documents().next_job().await.unwrap().unwrap();
        let key = job.document.as_ref().unwrap().key;
        let ids = store
            .documents()
            .finish(job.id, key, indexed("The zebra runs"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            words("\"zebras\"", None).await.unwrap(),
            ids,
            "found by its stem"
        );
        assert_eq!(
            words("\"zebra\"", Some(vec![key + 1])).await.unwrap(),
            Vec::<i64>::new()
        );
        let quoted = |words: &[&str]| words.iter().map(|word| format!("\"{word}\"")).collect();
        for (budget, rare) in [
            (0, &["quagga", "runs"][..]),
            (2, &["quagga", "runs", "zebra"]),
        ] {
            let asked: Vec<String> = quoted(&["zebra", "runs", "quagga"]);
            let kept: Vec<String> = quoted(rare);
            assert_eq!(passages.rarest(asked, budget).await.unwrap(), kept);
        }
        assert_eq!(
            store
                .passages()
                .allowed(&owner, std::slice::from_ref(&shelf.id))
                .await
                .unwrap(),
            Some(vec![key])
        );
        assert!(
            store
                .passages()
                .allowed(&stranger, std::slice::from_ref(&shelf.id))
                .await
                .is_err()
        );
        assert!(
            store
                .documents()
                .get(&stranger, &added.document.id)
                .await
                .is_err()
        );
        let found = store.passages().found(ids.clone()).await.unwrap();
        assert_eq!(found[0].vector.as_deref(), Some(&[1.0, 0.0][..]));
        assert!(store.documents().next_job().await.unwrap().is_none());

        let twin = store
            .documents()
            .add(&owner, new("b.txt", "aa", None))
            .await
            .unwrap();
        assert_eq!(
            twin.document.id, added.document.id,
            "the same content is the same document"
        );
        assert_eq!(twin.unused, ["documents/aa"]);

        store
            .documents()
            .delete(&owner, &added.document.id)
            .await
            .unwrap();
        assert!(words("\"zebra\"", None).await.unwrap().is_empty());
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(
                !bytes.windows(5).any(|five| five == b"zebra"),
                "no trace on the disk"
            );
        }
    }

    #[tokio::test]
    async fn a_job_that_was_taken_away_leaves_nothing_and_one_that_kills_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let owner = PersonId::owner();
        let id = store
            .documents()
            .add(&owner, new("a.txt", "aa", None))
            .await
            .unwrap()
            .document
            .id;
        let job = store.documents().next_job().await.unwrap().unwrap();
        assert!(store.documents().cancel(&owner, &id).await.unwrap());
        let key = job.document.unwrap().key;
        assert_eq!(
            store
                .documents()
                .finish(job.id, key, indexed("x"))
                .await
                .unwrap(),
            None
        );
        assert_eq!(
            store.documents().get(&owner, &id).await.unwrap().status,
            Status::Cancelled
        );

        store.documents().again(&owner, &id).await.unwrap();
        for _ in 0..crate::store::documents::ATTEMPTS_MAX {
            assert!(store.documents().next_job().await.unwrap().is_some());
            store.documents().recover().await.unwrap();
        }
        let document = store.documents().get(&owner, &id).await.unwrap();
        assert_eq!(
            (document.status, document.trouble.unwrap().kind.as_str()),
            (Status::Failed, "crashed")
        );
        assert!(store.documents().next_job().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn another_embedder_takes_over_when_it_has_read_everything() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let owner = PersonId::owner();
        assert_eq!(store.passages().settle_embedder("a").await.unwrap(), "a");
        store
            .documents()
            .add(&owner, new("a.txt", "aa", None))
            .await
            .unwrap();
        let job = store.documents().next_job().await.unwrap().unwrap();
        let ids = store
            .documents()
            .finish(job.id, job.document.unwrap().key, indexed("x"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            store.passages().settle_embedder("b").await.unwrap(),
            "a",
            "the old one answers meanwhile"
        );
        let job = store.documents().next_job().await.unwrap().unwrap();
        assert_eq!(job.document, None);
        let unread = store.passages().unread_by_next(10).await.unwrap();
        assert_eq!(unread, [(ids[0], Vec::new(), "x".to_owned())]);
        store
            .passages()
            .put_next(vec![(ids[0], vec![0.5])])
            .await
            .unwrap();
        assert!(
            store
                .passages()
                .unread_by_next(10)
                .await
                .unwrap()
                .is_empty()
        );
        assert_eq!(
            store.passages().vectors_of(ids.clone()).await.unwrap()[&ids[0]],
            [1.0, 0.0]
        );
        store.passages().take_over(job.id).await.unwrap();
        assert_eq!(
            store.passages().vectors_of(ids.clone()).await.unwrap()[&ids[0]],
            [0.5]
        );
        assert_eq!(
            store.passages().embedder().await.unwrap(),
            Some(("b".into(), None))
        );
    }
}
