//! What is noted beside models: documents by kind and name, kept as they came.

use rusqlite::OptionalExtension;

use super::{Store, StoreError};

/// The kinds of notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// How a model is to be loaded.
    Options,
    /// A model that is not here yet, or several under one name.
    Registration,
    /// A lane that could not load a model, as `LANE MODEL`.
    Failure,
}

impl NoteKind {
    fn as_str(self) -> &'static str {
        match self {
            NoteKind::Options => "options",
            NoteKind::Registration => "registration",
            NoteKind::Failure => "failure",
        }
    }
}

/// Notes.
pub struct Notes<'a>(pub(super) &'a Store);

impl Notes<'_> {
    /// Returns all notes of a kind as (name, JSON text), by name.
    pub async fn all(&self, kind: NoteKind) -> Result<Vec<(String, String)>, StoreError> {
        self.0
            .read(move |connection| {
                let mut query = connection
                    .prepare_cached("SELECT name, body FROM notes WHERE kind = ? ORDER BY name")?;
                let rows =
                    query.query_map([kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Returns one note.
    pub async fn get(&self, kind: NoteKind, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.0
            .read(move |connection| {
                let mut query = connection
                    .prepare_cached("SELECT body FROM notes WHERE kind = ? AND name = ?")?;
                let row = query.query_row((kind.as_str(), name), |row| row.get(0));
                Ok(row.optional()?)
            })
            .await
    }

    /// Writes a note, in place of the one before.
    pub async fn put(&self, kind: NoteKind, name: &str, body: &str) -> Result<(), StoreError> {
        let row = (kind.as_str(), name.to_owned(), body.to_owned());
        self.0
            .write(move |transaction| {
                let sql = "INSERT OR REPLACE INTO notes (kind, name, body) VALUES (?, ?, ?)";
                transaction.execute(sql, row)?;
                Ok(())
            })
            .await
    }

    /// Forgets a note; `false` when there was none.
    pub async fn remove(&self, kind: NoteKind, name: &str) -> Result<bool, StoreError> {
        let row = (kind.as_str(), name.to_owned());
        self.0
            .write(move |transaction| {
                let sql = "DELETE FROM notes WHERE kind = ? AND name = ?";
                Ok(transaction.execute(sql, row)? > 0)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn notes_are_kept_by_kind_and_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let notes = store.notes();
        notes.put(NoteKind::Options, "m", "1").await.unwrap();
        notes.put(NoteKind::Options, "m", "2").await.unwrap();
        notes.put(NoteKind::Registration, "m", "3").await.unwrap();
        let all = notes.all(NoteKind::Options).await.unwrap();
        assert_eq!(all, [("m".to_owned(), "2".to_owned())]);
        assert!(notes.remove(NoteKind::Options, "m").await.unwrap());
        assert!(!notes.remove(NoteKind::Options, "m").await.unwrap());
        let left = notes.get(NoteKind::Registration, "m").await.unwrap();
        assert_eq!(left.as_deref(), Some("3"));
    }
}
