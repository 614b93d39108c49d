//! The registry of imported models.

use std::path::Path;
use std::sync::PoisonError;

use rusqlite::{Connection, OptionalExtension, Row};

use super::{Store, StoreError};
use crate::domain::{Model, ModelFormat};

const COLUMNS: &str = "id, name, format, file, file_bytes, sha256, architecture, quantisation, \
                       context_length, kv_bytes_per_position, has_template, imported_at";

/// The registry at one version of the database.
pub(super) struct Remembered {
    /// Asked for its version by every request, which takes microseconds: it reads shared memory.
    connection: Connection,
    known: Option<(i64, Vec<Model>)>,
}

impl Remembered {
    pub(super) fn new(connection: Connection) -> Remembered {
        Remembered {
            connection,
            known: None,
        }
    }

    /// A number that changes with every commit of any other connection.
    fn version(&self) -> Result<i64, StoreError> {
        let mut query = self.connection.prepare_cached("PRAGMA data_version")?;
        Ok(query.query_row([], |row| row.get(0))?)
    }

    fn read_all(&self, folder: &Path) -> Result<Vec<Model>, StoreError> {
        let mut query = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM models ORDER BY imported_at, id"
        ))?;
        let rows = query.query_map([], |row| Ok(model(row, folder)))?;
        let mut models = Vec::new();
        for row in rows {
            models.push(row??);
        }
        Ok(models)
    }

    fn at(&self, version: i64) -> Option<Vec<Model>> {
        let known = self.known.as_ref().filter(|(at, _)| *at == version);
        known.map(|(_, models)| models.clone())
    }
}

/// Imported models.
pub struct Models<'a>(pub(super) &'a Store);

impl Models<'_> {
    /// Returns all models, oldest import first. Reads them again only when somebody has written to the
    /// database, be it another process.
    ///
    /// Read where it is asked for: a table of some dozen rows takes less than handing the question to another thread.
    pub async fn all(&self) -> Result<Vec<Model>, StoreError> {
        let registry = &self.0.inner.registry;
        let mut remembered = registry.lock().unwrap_or_else(PoisonError::into_inner);
        let version = remembered.version()?;
        if let Some(models) = remembered.at(version) {
            return Ok(models);
        }
        let models = remembered.read_all(self.0.folder())?;
        remembered.known = Some((version, models.clone()));
        Ok(models)
    }

    /// Returns one model by its name.
    pub async fn get(&self, id: &str) -> Result<Option<Model>, StoreError> {
        let (id, folder) = (id.to_owned(), self.0.folder().to_owned());
        self.0
            .read(move |connection| {
                let mut query = connection
                    .prepare_cached(&format!("SELECT {COLUMNS} FROM models WHERE id = ?"))?;
                query
                    .query_row([id], |row| Ok(model(row, &folder)))
                    .optional()?
                    .transpose()
            })
            .await
    }

    /// Adds a model, or replaces the one of the same name and the same content.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the name belongs to another file.
    pub async fn put(&self, model: &Model) -> Result<(), StoreError> {
        let (model, folder) = (model.clone(), self.0.folder().to_owned());
        self.0
            .write(move |transaction| {
                let other: Option<String> = transaction
                    .query_row(
                        "SELECT sha256 FROM models WHERE id = ?",
                        [&model.id],
                        |row| row.get(0),
                    )
                    .optional()?;
                if other.is_some_and(|sha256| sha256 != model.sha256) {
                    return Err(StoreError::Exists {
                        what: "model",
                        id: model.id,
                    });
                }
                let file = model.path.strip_prefix(&folder).unwrap_or(&model.path);
                transaction.execute(
                    &format!(
                        "INSERT OR REPLACE INTO models ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
                    ),
                    rusqlite::params![
                        model.id,
                        model.name,
                        model.format.as_str(),
                        file.to_string_lossy(),
                        model.file_bytes as i64,
                        model.sha256,
                        model.architecture,
                        model.quantisation,
                        model.context_length as i64,
                        model.kv_bytes_per_position as i64,
                        model.has_template,
                        model.imported_at,
                    ],
                )?;
                Ok(())
            })
            .await
    }

    /// Forgets a model and returns how many others still use the same file.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none of that name.
    pub async fn remove(&self, id: &str) -> Result<usize, StoreError> {
        let id = id.to_owned();
        self.0
            .write(move |transaction| {
                let sha256: Option<String> = transaction
                    .query_row(
                        "DELETE FROM models WHERE id = ? RETURNING sha256",
                        [&id],
                        |row| row.get(0),
                    )
                    .optional()?;
                let Some(sha256) = sha256 else {
                    return Err(StoreError::NotFound { what: "model", id });
                };
                let left: i64 = transaction.query_row(
                    "SELECT count(*) FROM models WHERE sha256 = ?",
                    [sha256],
                    |row| row.get(0),
                )?;
                Ok(usize::try_from(left).unwrap_or(0))
            })
            .await
    }
}

fn model(row: &Row<'_>, folder: &Path) -> Result<Model, StoreError> {
    let format: String = row.get(2)?;
    let format = ModelFormat::parse(&format).ok_or(StoreError::BadRow {
        what: "a model format",
        value: format,
    })?;
    let file: String = row.get(3)?;
    let count = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(Model {
        id: row.get(0)?,
        name: row.get(1)?,
        path: if format == ModelFormat::Remote {
            file.into() // an address
        } else {
            folder.join(file)
        },
        format,
        file_bytes: count(row.get(4)?),
        sha256: row.get(5)?,
        architecture: row.get(6)?,
        quantisation: row.get(7)?,
        context_length: count(row.get(8)?),
        kv_bytes_per_position: count(row.get(9)?),
        has_template: row.get(10)?,
        imported_at: row.get(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(folder: &std::path::Path, id: &str, sha256: &str) -> Model {
        Model {
            id: id.into(),
            name: "Sample".into(),
            format: ModelFormat::Gguf,
            path: folder.join("models").join(sha256),
            file_bytes: 98_362_432,
            sha256: sha256.into(),
            architecture: "llama".into(),
            quantisation: "Q4_1".into(),
            context_length: 2048,
            kv_bytes_per_position: 23_040,
            has_template: true,
            imported_at: 5,
        }
    }

    #[tokio::test]
    async fn models_come_back_as_they_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let a = sample(folder.path(), "a", "11");
        store.models().put(&a).await.unwrap();
        store.models().put(&a).await.unwrap();
        assert_eq!(store.models().get("a").await.unwrap(), Some(a.clone()));
        let other = sample(folder.path(), "a", "22");
        assert!(matches!(
            store.models().put(&other).await,
            Err(StoreError::Exists { .. })
        ));
        store
            .models()
            .put(&sample(folder.path(), "b", "11"))
            .await
            .unwrap();
        assert_eq!(store.models().remove("a").await.unwrap(), 1);
        assert_eq!(store.models().remove("b").await.unwrap(), 0);
        assert!(matches!(
            store.models().remove("b").await,
            Err(StoreError::NotFound { .. })
        ));
    }
}
