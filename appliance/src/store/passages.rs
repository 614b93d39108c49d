//! Passages: where words and vectors are searched, and what is shown of what was found.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::documents::{Indexed, find};
use super::{Store, StoreError, now_ms};
use crate::domain::PersonId;
use crate::domain::document::Heading;
#[cfg(test)]
use crate::domain::document::Text;

/// One passage as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The passage.
    pub id: i64,
    /// The document's key.
    pub key: i64,
    /// The document.
    pub document: String,
    /// The document's file name.
    pub name: String,
    /// Place in the document.
    pub number: u32,
    /// First scalar value.
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// One-based page.
    pub page: Option<u32>,
    /// Headings above it.
    pub headings: Vec<String>,
    /// What it says.
    pub text: String,
    /// Its vector, where it has one.
    pub vector: Option<Vec<f32>>,
}

/// Vectors of one document, in the order of its passages.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The document's key.
    pub key: i64,
    /// The passages.
    pub passages: Vec<i64>,
    /// Their vectors, one behind the other.
    pub vectors: Vec<f32>,
}

/// A stored text: offsets in Unicode scalar values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredText {
    /// The text.
    pub content: String,
    /// Where each page begins.
    pub pages: Vec<usize>,
    /// Headings in reading order, their `start` a scalar offset here.
    pub headings: Vec<Heading>,
}

/// Passages and vectors.
pub struct Passages<'a>(pub(super) &'a Store);

const FOUND: &str =
    "p.id, p.document, d.id, d.name, p.number, p.first, p.past, p.page, p.headings, p.text";

impl Passages<'_> {
    /// Keys of the documents that a search may look into: those of the person that are complete, all of them or
    /// those named by `only`, each a collection or a document. `None` in place of keys means that these are all there
    /// are in the store.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] names one of `only` that is neither.
    pub async fn allowed(
        &self,
        person: &PersonId,
        only: &[String],
    ) -> Result<Option<Vec<i64>>, StoreError> {
        let (person, only) = (person.as_str().to_owned(), only.to_vec());
        self.0
            .read(move |connection| {
                for id in &only {
                    let known: bool = connection
                        .prepare_cached(
                            "SELECT EXISTS (SELECT 1 FROM collections WHERE id = ?1 AND person = ?2)
                             OR EXISTS (SELECT 1 FROM documents WHERE id = ?1 AND person = ?2)",
                        )?
                        .query_row([id, &person], |row| row.get(0))?;
                    if !known {
                        return Err(StoreError::NotFound {
                            what: "collection or document",
                            id: id.clone(),
                        });
                    }
                }
                if only.is_empty() {
                    let others: bool = connection
                        .prepare_cached("SELECT EXISTS (SELECT 1 FROM documents WHERE person <> ?)")?
                        .query_row([&person], |row| row.get(0))?;
                    if !others {
                        return Ok(None);
                    }
                }
                let mut statement = connection.prepare_cached(
                    "SELECT key FROM documents WHERE person = ?1 AND status = 'complete' AND (?2 = '[]'
                     OR id IN (SELECT value FROM json_each(?2))
                     OR key IN (SELECT document FROM collected WHERE collection IN (SELECT value FROM json_each(?2))))",
                )?;
                let only = serde_json::json!(only).to_string();
                let rows = statement.query_map([person, only], |row| row.get(0))?;
                Ok(Some(rows.collect::<Result<_, _>>()?))
            })
            .await
    }

    /// The passages that fit an FTS5 query best, best first.
    pub async fn by_words(
        &self,
        query: String,
        allowed: Option<Vec<i64>>,
        limit: usize,
    ) -> Result<Vec<i64>, StoreError> {
        self.0
            .read(move |connection| {
                // A heading's word weighs half as much again as a word of the text.
                let (sql, keys) = match allowed {
                    None => (
                        "SELECT rowid FROM words WHERE words MATCH ?1 AND rank MATCH 'bm25(1.5, 1.0)'
                         ORDER BY rank LIMIT ?2",
                        None,
                    ),
                    Some(keys) => (
                        "SELECT words.rowid FROM words JOIN passages p ON p.id = words.rowid
                         WHERE words MATCH ?1 AND rank MATCH 'bm25(1.5, 1.0)'
                         AND p.document IN (SELECT value FROM json_each(?3)) ORDER BY rank LIMIT ?2",
                        Some(serde_json::json!(keys).to_string()),
                    ),
                };
                let mut statement = connection.prepare_cached(sql)?;
                let limit = limit as i64;
                let get = |row: &Row<'_>| row.get(0);
                let ids = match keys {
                    None => statement.query_map(params![query, limit], get)?.collect::<Result<_, _>>()?,
                    Some(keys) => {
                        statement.query_map(params![query, limit, keys], get)?.collect::<Result<_, _>>()?
                    }
                };
                Ok(ids)
            })
            .await
    }

    /// The rarest of some quoted words, as many as stand in at most `postings_max` passages together, whoever's these
    /// are; one that stands somewhere is always among them.
    pub async fn rarest(
        &self,
        words: Vec<String>,
        postings_max: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.0
            .read(move |connection| {
                let mut statement =
                    connection.prepare_cached("SELECT count(*) FROM words WHERE words MATCH ?")?;
                let mut counted = Vec::with_capacity(words.len());
                for word in words {
                    let count: i64 = statement.query_row([&word], |row| row.get(0))?;
                    counted.push((usize::try_from(count).unwrap_or(usize::MAX), word));
                }
                counted.sort();
                let mut left = postings_max;
                let mut found = false;
                counted.retain(|(count, _)| {
                    let keep = *count <= left || !found;
                    left = if keep { left.saturating_sub(*count) } else { 0 };
                    found |= *count > 0;
                    keep
                });
                Ok(counted.into_iter().map(|(_, word)| word).collect())
            })
            .await
    }

    /// Passages with their documents and vectors, in the order asked for; those that are gone are left out.
    pub async fn found(&self, ids: Vec<i64>) -> Result<Vec<Found>, StoreError> {
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {FOUND}, v.vector FROM passages p JOIN documents d ON d.key = p.document
                     LEFT JOIN vectors v ON v.passage = p.id WHERE p.id = ?"
                ))?;
                let mut all = Vec::with_capacity(ids.len());
                for id in ids {
                    all.extend(statement.query_row([id], found).optional()?);
                }
                Ok(all)
            })
            .await
    }

    /// The vectors of some passages.
    pub async fn vectors_of(&self, ids: Vec<i64>) -> Result<HashMap<i64, Vec<f32>>, StoreError> {
        self.0
            .read(move |connection| {
                let mut statement =
                    connection.prepare_cached("SELECT vector FROM vectors WHERE passage = ?")?;
                let mut all = HashMap::with_capacity(ids.len());
                for id in ids {
                    let blob: Option<Vec<u8>> =
                        statement.query_row([id], |row| row.get(0)).optional()?;
                    all.extend(blob.map(|blob| (id, floats(&blob))));
                }
                Ok(all)
            })
            .await
    }

    /// The passages of a person's document from number `from` on.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn of_document(
        &self,
        person: &PersonId,
        id: &str,
        from: u32,
        limit: u32,
    ) -> Result<Vec<Found>, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| {
                let key = find(connection, &person, &id)?.0;
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {FOUND}, NULL FROM passages p JOIN documents d ON d.key = p.document
                     WHERE p.document = ? AND p.number >= ? ORDER BY p.number LIMIT ?"
                ))?;
                let rows = statement.query_map(params![key, from, limit], found)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The passage of a document with a number.
    pub async fn numbered(&self, document: &str, number: u32) -> Result<Option<Found>, StoreError> {
        let document = document.to_owned();
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(&format!(
                    "SELECT {FOUND}, NULL FROM passages p JOIN documents d ON d.key = p.document
                     WHERE d.id = ? AND p.number = ?"
                ))?;
                Ok(statement
                    .query_row(params![document, number], found)
                    .optional()?)
            })
            .await
    }

    /// The whole text of a person's document.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], also while it has not been read.
    pub async fn text(&self, person: &PersonId, id: &str) -> Result<StoredText, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| {
                let key = find(connection, &person, &id)?.0;
                let row: Option<(String, String, String)> = connection
                    .prepare_cached(
                        "SELECT content, pages, headings FROM texts WHERE document = ?",
                    )?
                    .query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                    .optional()?;
                let (content, pages, headings) = row.ok_or(StoreError::NotFound {
                    what: "text of document",
                    id,
                })?;
                let bad = |value: &str| StoreError::BadRow {
                    what: "a text's pages",
                    value: value.to_owned(),
                };
                let headings_of: Vec<(usize, u8, String)> =
                    serde_json::from_str(&headings).map_err(|_| bad(&headings))?;
                Ok(StoredText {
                    content,
                    pages: serde_json::from_str(&pages).map_err(|_| bad(&pages))?,
                    headings: headings_of
                        .into_iter()
                        .map(|(start, level, title)| Heading {
                            start,
                            level,
                            title,
                        })
                        .collect(),
                })
            })
            .await
    }

    /// Hands every document's vectors to `take`, one document at a time.
    pub async fn blocks<F>(&self, mut take: F) -> Result<(), StoreError>
    where
        F: FnMut(Block) + Send + 'static,
    {
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare(
                    "SELECT p.document, p.id, v.vector FROM passages p JOIN vectors v ON v.passage = p.id
                     ORDER BY p.document, p.number",
                )?;
                let mut rows = statement.query([])?;
                let mut block: Option<Block> = None;
                while let Some(row) = rows.next()? {
                    let key: i64 = row.get(0)?;
                    if block.as_ref().is_some_and(|block| block.key != key) {
                        block.take().into_iter().for_each(&mut take);
                    }
                    let block = block.get_or_insert_with(|| Block {
                        key,
                        passages: Vec::new(),
                        vectors: Vec::new(),
                    });
                    block.passages.push(row.get(1)?);
                    extend_floats(row.get_ref(2)?.as_blob().unwrap_or_default(), &mut block.vectors);
                }
                block.into_iter().for_each(take);
                Ok(())
            })
            .await
    }

    /// The embedder whose vectors answer, and the one that is to take over.
    pub async fn embedder(&self) -> Result<Option<(String, Option<String>)>, StoreError> {
        self.0
            .read(|connection| {
                Ok(connection
                    .query_row("SELECT embedder, next FROM library", [], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .optional()?)
            })
            .await
    }

    /// Makes an embedder the one that answers where there is none yet; where there is another, orders every passage
    /// anew. Returns the one that answers now.
    pub async fn settle_embedder(&self, wanted: &str) -> Result<String, StoreError> {
        let wanted = wanted.to_owned();
        self.0
            .write(move |transaction| {
                let serving: Option<String> = transaction
                    .query_row("SELECT embedder FROM library", [], |row| row.get(0))
                    .optional()?;
                let any: bool =
                    transaction.query_row("SELECT EXISTS (SELECT 1 FROM vectors)", [], |row| {
                        row.get(0)
                    })?;
                match serving {
                    Some(serving) if serving == wanted || any => {
                        let next = (serving != wanted).then_some(&wanted);
                        let known: Option<String> =
                            transaction
                                .query_row("SELECT next FROM library", [], |row| row.get(0))?;
                        if known.as_ref() != next {
                            transaction.execute("DELETE FROM next_vectors", [])?;
                            transaction.execute("UPDATE library SET next = ?", [next])?;
                        }
                        transaction.execute("DELETE FROM jobs WHERE document IS NULL", [])?;
                        if next.is_some() {
                            transaction
                                .execute("INSERT INTO jobs (created_at) VALUES (?)", [now_ms()])?;
                        }
                        Ok(serving)
                    }
                    _ => {
                        transaction.execute(
                            "INSERT OR REPLACE INTO library (one, embedder) VALUES (1, ?)",
                            [&wanted],
                        )?;
                        Ok(wanted)
                    }
                }
            })
            .await
    }

    /// Passages that the next embedder has not read yet, as it reads them: headings, then text.
    pub async fn unread_by_next(
        &self,
        limit: usize,
    ) -> Result<Vec<(i64, Vec<String>, String)>, StoreError> {
        self.0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT id, headings, text FROM passages
                     WHERE id NOT IN (SELECT passage FROM next_vectors) ORDER BY id LIMIT ?",
                )?;
                let rows = statement.query_map([limit as i64], |row| {
                    Ok((row.get(0)?, lines(&row.get::<_, String>(1)?), row.get(2)?))
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Keeps vectors of the next embedder.
    pub async fn put_next(&self, vectors: Vec<(i64, Vec<f32>)>) -> Result<(), StoreError> {
        self.0
            .write(move |transaction| {
                let mut statement = transaction.prepare_cached(
                    "INSERT OR REPLACE INTO next_vectors (passage, vector) VALUES (?, ?)",
                )?;
                for (passage, vector) in vectors {
                    statement.execute(params![passage, blob(&vector)])?;
                }
                Ok(())
            })
            .await
    }

    /// Lets the next embedder take over, in one transaction, and ends its job.
    pub async fn take_over(&self, job: i64) -> Result<(), StoreError> {
        self.0
            .write(move |transaction| {
                transaction.execute_batch(
                    "DELETE FROM vectors;
                     INSERT INTO vectors SELECT passage, vector FROM next_vectors;
                     DELETE FROM next_vectors;
                     UPDATE library SET embedder = coalesce(next, embedder), next = NULL;",
                )?;
                transaction.execute("DELETE FROM jobs WHERE id = ?", [job])?;
                Ok(())
            })
            .await
    }
}

/// Writes what was read of a document and makes it complete.
pub(super) fn put(
    transaction: &Transaction<'_>,
    key: i64,
    indexed: &Indexed,
) -> Result<Vec<i64>, StoreError> {
    let text = &indexed.text;
    let pages = scalars(&text.content, text.page_starts.iter().copied());
    let starts = scalars(
        &text.content,
        text.headings.iter().map(|heading| heading.start),
    );
    let headings: Vec<_> = text
        .headings
        .iter()
        .zip(starts)
        .map(|(heading, start)| (start, heading.level, &heading.title))
        .collect();
    transaction.execute(
        "INSERT INTO texts (document, content, pages, headings) VALUES (?,?,?,?)",
        params![
            key,
            text.content,
            serde_json::json!(pages).to_string(),
            serde_json::json!(headings).to_string()
        ],
    )?;
    let mut passage = transaction.prepare_cached(
        "INSERT INTO passages (document, number, first, past, page, headings, text) VALUES (?,?,?,?,?,?,?)",
    )?;
    let mut vector =
        transaction.prepare_cached("INSERT INTO vectors (passage, vector) VALUES (?, ?)")?;
    let mut ids = Vec::with_capacity(indexed.passages.len());
    for (number, (one, numbers)) in indexed.passages.iter().zip(&indexed.vectors).enumerate() {
        passage.execute(params![
            key,
            number as i64,
            one.start as i64,
            one.end as i64,
            one.page,
            one.headings.join("\n"),
            one.text
        ])?;
        let id = transaction.last_insert_rowid();
        vector.execute(params![id, blob(numbers)])?;
        ids.push(id);
    }
    let page_count = (!text.page_starts.is_empty()).then_some(text.page_starts.len() as i64);
    transaction.execute(
        "UPDATE documents SET status = 'complete', error_kind = NULL, error = NULL, title = ?2, pages = ?3,
         passages = ?4, indexed_at = ?5 WHERE key = ?1",
        params![key, text.title, page_count, ids.len() as i64, now_ms()],
    )?;
    Ok(ids)
}

/// Scalar offsets of rising byte offsets.
fn scalars(content: &str, bytes: impl Iterator<Item = usize>) -> Vec<usize> {
    let (mut at, mut count) = (0, 0);
    bytes
        .map(|byte| {
            let byte = byte.clamp(at, content.len());
            count += content[at..byte].chars().count();
            at = byte;
            count
        })
        .collect()
}

fn found(row: &Row<'_>) -> Result<Found, rusqlite::Error> {
    Ok(Found {
        id: row.get(0)?,
        key: row.get(1)?,
        document: row.get(2)?,
        name: row.get(3)?,
        number: row.get(4)?,
        start: row.get(5)?,
        end: row.get(6)?,
        page: row.get(7)?,
        headings: lines(&row.get::<_, String>(8)?),
        text: row.get(9)?,
        vector: row.get::<_, Option<Vec<u8>>>(10)?.map(|blob| floats(&blob)),
    })
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn blob(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn floats(blob: &[u8]) -> Vec<f32> {
    let mut vector = Vec::with_capacity(blob.len() / 4);
    extend_floats(blob, &mut vector);
    vector
}

fn extend_floats(blob: &[u8], into: &mut Vec<f32>) {
    into.extend(
        blob.as_chunks::<4>()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes)),
    );
}

/// A text whose offsets are bytes, as extraction makes it; used by the tests of this folder.
#[cfg(test)]
pub(super) fn plain(content: &str) -> Text {
    Text {
        content: content.to_owned(),
        ..Text::default()
    }
}
