//! What the owner chose about models: which stay loaded, and which artifacts share a name.

use super::{Store, StoreError};

/// Choices about models.
pub struct Choices<'a>(pub(super) &'a Store);

impl Choices<'_> {
    /// Returns the names of the models that stay loaded.
    pub async fn pins(&self) -> Result<Vec<String>, StoreError> {
        self.0
            .read(|connection| {
                let mut query = connection.prepare("SELECT model FROM pins ORDER BY model")?;
                let rows = query.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Says whether a model stays loaded.
    pub async fn pin(&self, model: &str, pinned: bool) -> Result<(), StoreError> {
        let model = model.to_owned();
        self.0
            .write(move |transaction| {
                let sql = match pinned {
                    true => "INSERT OR IGNORE INTO pins (model) VALUES (?)",
                    false => "DELETE FROM pins WHERE model = ?",
                };
                transaction.execute(sql, [model])?;
                Ok(())
            })
            .await
    }

    /// Returns every pair of a shared name and an artifact, by name.
    pub async fn logical(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.0
            .read(|connection| {
                let mut query = connection
                    .prepare("SELECT name, model FROM logical_models ORDER BY name, model")?;
                let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Makes a name stand for these artifacts, and for nothing when there are none.
    pub async fn set_logical(&self, name: &str, models: Vec<String>) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.0
            .write(move |transaction| {
                transaction.execute("DELETE FROM logical_models WHERE name = ?", [&name])?;
                let mut insert = transaction.prepare_cached(
                    "INSERT OR IGNORE INTO logical_models (name, model) VALUES (?, ?)",
                )?;
                for model in models {
                    insert.execute((&name, model))?;
                }
                Ok(())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn choices_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let choices = store.choices();
        for pinned in [true, true, false, true] {
            choices.pin("a", pinned).await.unwrap();
        }
        assert_eq!(choices.pins().await.unwrap(), ["a"]);
        for models in [vec!["x".to_owned()], vec!["b".to_owned(), "a".to_owned()]] {
            choices.set_logical("q", models).await.unwrap();
        }
        let pair = |model: &str| ("q".to_owned(), model.to_owned());
        assert_eq!(choices.logical().await.unwrap(), [pair("a"), pair("b")]);
        choices.set_logical("q", Vec::new()).await.unwrap();
        assert!(choices.logical().await.unwrap().is_empty());
    }
}
