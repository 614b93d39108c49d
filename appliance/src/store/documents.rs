//! Documents and the jobs that read them.
//!
//! A document and its job are written together, and what a job made of a document comes in with the document's
//! new status in one transaction: there is no moment at which half a document can be found. Every function takes
//! the person and sees nothing of anybody else's, apart from those of the jobs, which belong to the appliance.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Store, StoreError, new_id, now_ms};
use crate::domain::document::{Passage, Text};
use crate::domain::library::{Document, Source, Status, Trouble};
use crate::domain::{Id, PersonId};

/// Documents in one listing.
const LIST_MAX: usize = 1000;

/// Starts of one job. A document that took the whole process with it this often is to blame itself. One that was read
/// when the process died waits behind the others, so that power cuts in a row do not all meet the same one.
pub(super) const ATTEMPTS_MAX: i64 = 5;

/// A document to add.
#[derive(Debug, Clone)]
pub struct NewDocument {
    /// The file's name.
    pub name: String,
    /// How it came in.
    pub source: Source,
    /// Where from.
    pub origin: Option<String>,
    /// Size of the file.
    pub bytes: u64,
    /// Hash of the file.
    pub sha256: String,
    /// Where the file is kept, relative to the data directory.
    pub file: String,
    /// When the file at the origin was last written, unix milliseconds.
    pub modified: Option<i64>,
    /// The collection that takes it.
    pub collection: Option<String>,
}

/// What became of an addition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// The document, which may have been there.
    pub document: Document,
    /// Files of the data directory that nothing refers to now.
    pub unused: Vec<String>,
}

/// Work to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The job.
    pub id: i64,
    /// The document; `None` is every passage anew, for another embedder.
    pub document: Option<JobDocument>,
}

/// The document of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDocument {
    /// Its short name in the store.
    pub key: i64,
    /// Identifier.
    pub id: String,
    /// The file's name.
    pub name: String,
    /// How it came in.
    pub source: Source,
    /// Where its file is.
    pub file: Option<String>,
}

/// What a job made of a document.
#[derive(Debug, Clone)]
pub struct Indexed {
    /// The whole text.
    pub text: Text,
    /// Its passages, in order.
    pub passages: Vec<Passage>,
    /// One vector for each passage.
    pub vectors: Vec<Vec<f32>>,
}

/// A file that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Whose it is.
    pub person: PersonId,
    /// The document.
    pub id: String,
    /// Its path.
    pub path: String,
    /// Size when it was read.
    pub bytes: u64,
    /// When it had been written, unix milliseconds.
    pub modified: Option<i64>,
    /// How far it is.
    pub status: Status,
}

/// Documents and jobs.
pub struct Documents<'a>(pub(super) &'a Store);

const DOCUMENT: &str = "d.id, d.name, d.source, d.origin, d.bytes, d.sha256, d.status, d.error_kind, d.error, d.title, \
    d.pages, d.passages, d.created_at, d.indexed_at, d.cited_at, \
    (SELECT group_concat(collection, char(10)) FROM collected WHERE document = d.key), \
    (SELECT count(DISTINCT chat) FROM chat_shelves WHERE shelf = d.id \
     OR shelf IN (SELECT collection FROM collected WHERE document = d.key))";

impl Documents<'_> {
    /// Adds a document with the job that reads it. One of the same content that is there already is returned as it
    /// is, and read again where that had failed. A document of the same path gets the new content.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the collection does not exist.
    pub async fn add(&self, person: &PersonId, new: NewDocument) -> Result<Added, StoreError> {
        let (person, id) = (person.as_str().to_owned(), new_uuid()?);
        self.0
            .write(move |transaction| add(transaction, &person, id, &new))
            .await
    }

    /// Lists a person's documents, latest first; those of one collection, or with a text in their name.
    pub async fn list(
        &self,
        person: &PersonId,
        collection: Option<String>,
        text: Option<String>,
    ) -> Result<Vec<Document>, StoreError> {
        let person = person.as_str().to_owned();
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {DOCUMENT} FROM documents d WHERE d.person = ?1
                     AND (?2 IS NULL OR d.key IN (SELECT document FROM collected WHERE collection = ?2))
                     AND (?3 IS NULL OR instr(lower(d.name), lower(?3)) > 0)
                     ORDER BY d.created_at DESC, d.key DESC LIMIT ?4"
                ))?;
                let rows = statement
                    .query_map(params![person, collection, text, LIST_MAX as i64], |row| Ok(document(row)))?;
                rows.map(|row| row?).collect()
            })
            .await
    }

    /// Returns one document.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none or it belongs to somebody else.
    pub async fn get(&self, person: &PersonId, id: &str) -> Result<Document, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| Ok(find(connection, &person, &id)?.1))
            .await
    }

    /// Where a document's file is kept, relative to the data directory; files at a path of their own have none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn file(&self, person: &PersonId, id: &str) -> Result<Option<String>, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| {
                let key = find(connection, &person, &id)?.0;
                Ok(connection.query_row(
                    "SELECT file FROM documents WHERE key = ?",
                    [key],
                    |row| row.get(0),
                )?)
            })
            .await
    }

    /// Deletes a document with its text, passages and vectors; returns its file, which the caller deletes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete(&self, person: &PersonId, id: &str) -> Result<Option<String>, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        let file = self
            .0
            .write(move |transaction| {
                let key = find(transaction, &person, &id)?.0;
                clear(transaction, key)?;
                transaction.execute("DELETE FROM chat_shelves WHERE shelf = ?", [&id])?;
                let file = transaction.query_row(
                    "DELETE FROM documents WHERE key = ? RETURNING file",
                    [key],
                    |row| row.get(0),
                )?;
                Ok(file)
            })
            .await?;
        self.0.wipe().await?;
        Ok(file)
    }

    /// Lets a document be read again.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn again(&self, person: &PersonId, id: &str) -> Result<Document, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .write(move |transaction| {
                let key = find(transaction, &person, &id)?.0;
                queue(transaction, key)?;
                Ok(find(transaction, &person, &id)?.1)
            })
            .await
    }

    /// Takes a document's job away and marks it; returns whether there was one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn cancel(&self, person: &PersonId, id: &str) -> Result<bool, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .write(move |transaction| {
                let (key, found) = find(transaction, &person, &id)?;
                let gone = transaction.execute("DELETE FROM jobs WHERE document = ?", [key])? > 0;
                if gone || matches!(found.status, Status::Pending | Status::Indexing) {
                    mark(transaction, key, Status::Cancelled, None)?;
                }
                Ok(gone)
            })
            .await
    }

    /// Marks a document whose file has gone; what was read of it is forgotten.
    pub async fn missing(&self, person: &PersonId, id: &str) -> Result<(), StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .write(move |transaction| {
                let key = find(transaction, &person, &id)?.0;
                clear(transaction, key)?;
                mark(transaction, key, Status::Missing, None)
            })
            .await
    }

    /// Notes that an answer cited these documents.
    pub async fn cited(&self, ids: Vec<String>) -> Result<(), StoreError> {
        let now = now_ms();
        self.0
            .write(move |transaction| {
                let mut statement =
                    transaction.prepare_cached("UPDATE documents SET cited_at = ? WHERE id = ?")?;
                for id in ids {
                    statement.execute(params![now, id])?;
                }
                Ok(())
            })
            .await
    }

    /// Every document that lies at a path of this machine.
    pub async fn watched(&self) -> Result<Vec<Watched>, StoreError> {
        self.0
            .read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT person, id, origin, bytes, modified, status FROM documents
                     WHERE source = 'path' AND origin IS NOT NULL",
                )?;
                let rows = statement.query_map([], |row| {
                    Ok(Watched {
                        person: PersonId::from_row(row.get(0)?),
                        id: row.get(1)?,
                        path: row.get(2)?,
                        bytes: row.get(3)?,
                        modified: row.get(4)?,
                        status: Status::parse(&row.get::<_, String>(5)?).unwrap_or(Status::Pending),
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Every file of the data directory that a document refers to.
    pub async fn files(&self) -> Result<Vec<String>, StoreError> {
        self.0
            .read(|connection| {
                let mut statement =
                    connection.prepare("SELECT file FROM documents WHERE file IS NOT NULL")?;
                let rows = statement.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Puts the jobs back that the last run had begun, and gives up those that end every run.
    /// Only for the process that serves, at its start.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        self.0
            .write(|transaction| {
                let blamed: Vec<i64> = transaction
                    .prepare("SELECT document FROM jobs WHERE running AND attempts >= ? AND document IS NOT NULL")?
                    .query_map([ATTEMPTS_MAX], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                for key in blamed {
                    let trouble = Trouble {
                        kind: "crashed".to_owned(),
                        message: "reading it ended the appliance several times; save it in another format, or remove it"
                            .to_owned(),
                    };
                    transaction.execute("DELETE FROM jobs WHERE document = ?", [key])?;
                    mark(transaction, key, Status::Failed, Some(&trouble))?;
                }
                transaction.execute(
                    "UPDATE documents SET status = 'pending' WHERE key IN (SELECT document FROM jobs WHERE running)",
                    [],
                )?;
                Ok(transaction.execute("UPDATE jobs SET running = 0 WHERE running", [])?)
            })
            .await
    }

    /// Begins the oldest job that waits; a change of the embedder comes before documents.
    pub async fn next_job(&self) -> Result<Option<Job>, StoreError> {
        self.0
            .write(|transaction| {
                let found: Option<(i64, Option<i64>)> = transaction
                    .prepare_cached(
                        "UPDATE jobs SET running = 1, attempts = attempts + 1 WHERE id =
                         (SELECT id FROM jobs WHERE NOT running ORDER BY document IS NOT NULL, attempts, id LIMIT 1)
                         RETURNING id, document",
                    )?
                    .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                let Some((id, key)) = found else { return Ok(None) };
                let Some(key) = key else { return Ok(Some(Job { id, document: None })) };
                mark(transaction, key, Status::Indexing, None)?;
                let document = transaction
                    .prepare_cached("SELECT id, name, source, file FROM documents WHERE key = ?")?
                    .query_row([key], |row| {
                        Ok(JobDocument {
                            key,
                            id: row.get(0)?,
                            name: row.get(1)?,
                            source: Source::parse(&row.get::<_, String>(2)?).unwrap_or(Source::Upload),
                            file: row.get(3)?,
                        })
                    })?;
                Ok(Some(Job { id, document: Some(document) }))
            })
            .await
    }

    /// Ends a job: text, passages, vectors and the new status become visible together. Returns the passages'
    /// identifiers, or `None` when the job had been taken away meanwhile.
    pub async fn finish(
        &self,
        job: i64,
        key: i64,
        indexed: std::sync::Arc<Indexed>,
    ) -> Result<Option<Vec<i64>>, StoreError> {
        self.0
            .write(move |transaction| {
                if transaction.execute("DELETE FROM jobs WHERE id = ?", [job])? == 0 {
                    return Ok(None);
                }
                clear(transaction, key)?;
                Ok(Some(super::passages::put(transaction, key, &indexed)?))
            })
            .await
    }

    /// Ends a job that could not be done. What an earlier reading of the document left is forgotten with it.
    pub async fn fail(&self, job: i64, key: i64, trouble: Trouble) -> Result<(), StoreError> {
        self.0
            .write(move |transaction| {
                if transaction.execute("DELETE FROM jobs WHERE id = ?", [job])? == 0 {
                    return Ok(());
                }
                clear(transaction, key)?;
                mark(transaction, key, Status::Failed, Some(&trouble))
            })
            .await
    }

    /// Forgets where a document's file is kept; a file at a path of its own needs no copy once it has been read.
    pub async fn drop_file(&self, key: i64) -> Result<(), StoreError> {
        self.0
            .write(move |transaction| {
                transaction.execute("UPDATE documents SET file = NULL WHERE key = ?", [key])?;
                Ok(())
            })
            .await
    }
}

/// A random identifier in the form of a UUID, which clients of documents and files expect.
pub(super) fn new_uuid() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Random(error.to_string()))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-"))
}

fn add(
    transaction: &Transaction<'_>,
    person: &str,
    id: String,
    new: &NewDocument,
) -> Result<Added, StoreError> {
    if let Some(collection) = &new.collection {
        super::collections::owned(transaction, person, collection)?;
    }
    let by = |column: &str, value: &str| {
        transaction
            .prepare_cached(&format!(
                "SELECT id FROM documents WHERE person = ? AND {column} = ?"
            ))?
            .query_row([person, value], |row| row.get::<_, String>(0))
            .optional()
    };
    let twin = by("sha256", &new.sha256)?;
    let at_path = match (&new.source, &new.origin) {
        (Source::Path | Source::Url, Some(origin)) => by("origin", origin)?,
        _ => None,
    };
    let mut unused = Vec::new();
    let id = match (twin, at_path) {
        (Some(twin), at_path) => {
            unused.push(new.file.clone());
            // The file now holds what another document holds; what it held before is nowhere any more.
            if let Some(old) = at_path.filter(|old| *old != twin) {
                let key = find(transaction, person, &old)?.0;
                clear(transaction, key)?;
                transaction.execute("DELETE FROM jobs WHERE document = ?", [key])?;
                mark(transaction, key, Status::Missing, None)?;
            }
            let (key, found) = find(transaction, person, &twin)?;
            if matches!(
                found.status,
                Status::Failed | Status::Cancelled | Status::Missing
            ) {
                let old: Option<String> = transaction.query_row(
                    "SELECT file FROM documents WHERE key = ?",
                    [key],
                    |row| row.get(0),
                )?;
                unused = old.into_iter().collect();
                transaction.execute(
                    "UPDATE documents SET file = ?2, modified = ?3 WHERE key = ?1",
                    params![key, new.file, new.modified],
                )?;
                queue(transaction, key)?;
            } else if new.modified.is_some() && found.origin == new.origin {
                transaction.execute(
                    "UPDATE documents SET modified = ?2 WHERE key = ?1",
                    params![key, new.modified],
                )?;
            }
            twin
        }
        (None, Some(old)) => {
            let key = find(transaction, person, &old)?.0;
            let file: Option<String> = transaction.query_row(
                "SELECT file FROM documents WHERE key = ?",
                [key],
                |row| row.get(0),
            )?;
            unused.extend(file);
            transaction.execute(
                "UPDATE documents SET name = ?2, bytes = ?3, sha256 = ?4, file = ?5, modified = ?6 WHERE key = ?1",
                params![key, new.name, new.bytes, new.sha256, new.file, new.modified],
            )?;
            queue(transaction, key)?;
            old
        }
        (None, None) => {
            transaction.execute(
                "INSERT INTO documents (id, person, name, source, origin, bytes, sha256, file, modified, status, created_at)
                 VALUES (?,?,?,?,?,?,?,?,?,'pending',?)",
                params![
                    id,
                    person,
                    new.name,
                    new.source.as_str(),
                    new.origin,
                    new.bytes,
                    new.sha256,
                    new.file,
                    new.modified,
                    now_ms()
                ],
            )?;
            queue(transaction, transaction.last_insert_rowid())?;
            id
        }
    };
    let key = find(transaction, person, &id)?.0;
    if let Some(collection) = &new.collection {
        transaction.execute(
            "INSERT OR IGNORE INTO collected (collection, document) VALUES (?, ?)",
            params![collection, key],
        )?;
    }
    Ok(Added {
        document: find(transaction, person, &id)?.1,
        unused,
    })
}

/// One job for a document, whatever there was.
fn queue(transaction: &Transaction<'_>, key: i64) -> Result<(), StoreError> {
    transaction.execute("DELETE FROM jobs WHERE document = ?", [key])?;
    transaction.execute(
        "INSERT INTO jobs (document, created_at) VALUES (?, ?)",
        params![key, now_ms()],
    )?;
    mark(transaction, key, Status::Pending, None)
}

fn mark(
    transaction: &Transaction<'_>,
    key: i64,
    status: Status,
    trouble: Option<&Trouble>,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "UPDATE documents SET status = ?2, error_kind = ?3, error = ?4 WHERE key = ?1",
        )?
        .execute(params![
            key,
            status.as_str(),
            trouble.map(|trouble| &trouble.kind),
            trouble.map(|trouble| &trouble.message)
        ])?;
    Ok(())
}

/// Forgets what was read of a document.
fn clear(transaction: &Transaction<'_>, key: i64) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM vectors WHERE passage IN (SELECT id FROM passages WHERE document = ?)",
        "DELETE FROM next_vectors WHERE passage IN (SELECT id FROM passages WHERE document = ?)",
        "DELETE FROM passages WHERE document = ?",
        "DELETE FROM texts WHERE document = ?",
        "UPDATE documents SET passages = 0, pages = NULL, indexed_at = NULL WHERE key = ?",
    ] {
        transaction.prepare_cached(statement)?.execute([key])?;
    }
    Ok(())
}

/// A person's document with its key.
pub(super) fn find(
    connection: &Connection,
    person: &str,
    id: &str,
) -> Result<(i64, Document), StoreError> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {DOCUMENT}, d.key FROM documents d WHERE d.id = ? AND d.person = ?"
        ))?
        .query_row([id, person], |row| Ok((row.get(17)?, document(row))))
        .optional()?;
    let (key, found): (i64, _) = found.ok_or_else(|| StoreError::NotFound {
        what: "document",
        id: id.to_owned(),
    })?;
    Ok((key, found?))
}

fn document(row: &Row<'_>) -> Result<Document, StoreError> {
    let (source, status): (String, String) = (row.get(2)?, row.get(6)?);
    let kind: Option<String> = row.get(7)?;
    let message: Option<String> = row.get(8)?;
    let collections: Option<String> = row.get(15)?;
    Ok(Document {
        id: row.get(0)?,
        name: row.get(1)?,
        source: Source::parse(&source).ok_or(StoreError::BadRow {
            what: "a document's source",
            value: source,
        })?,
        origin: row.get(3)?,
        bytes: row.get(4)?,
        sha256: row.get(5)?,
        status: Status::parse(&status).ok_or(StoreError::BadRow {
            what: "a document's status",
            value: status,
        })?,
        trouble: kind.map(|kind| Trouble {
            kind,
            message: message.unwrap_or_default(),
        }),
        title: row.get(9)?,
        pages: row.get(10)?,
        passages: row.get(11)?,
        created_at: row.get(12)?,
        indexed_at: row.get(13)?,
        cited_at: row.get(14)?,
        collections: collections
            .iter()
            .flat_map(|all| all.split('\n'))
            .map(str::to_owned)
            .collect(),
        chats: row.get(16)?,
    })
}

/// Whether a text may be the name of a row.
pub(super) fn checked(what: &'static str, id: &str) -> Result<(), StoreError> {
    match Id::parse(id) {
        Some(_) => Ok(()),
        None => Err(StoreError::NotFound {
            what,
            id: id.to_owned(),
        }),
    }
}

/// A short random name for a file.
pub fn file_name() -> Result<String, StoreError> {
    Ok(new_id()?.to_string())
}
