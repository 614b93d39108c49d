//! Measured rates: one row for each lane, model and rate.

use super::{Store, StoreError, now_ms};

/// Measured rates.
pub struct Measurements<'a>(pub(super) &'a Store);

/// One average.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The lane's name.
    pub lane: String,
    /// The file's hash, or the model's name where there is no file.
    pub model: String,
    /// The rate's name.
    pub rate: String,
    /// The average.
    pub value: f64,
    /// Observations so far.
    pub count: u32,
}

impl Measurements<'_> {
    /// Returns every average.
    pub async fn all(&self) -> Result<Vec<Measured>, StoreError> {
        self.0
            .read(|connection| {
                let mut query = connection
                    .prepare("SELECT lane, model, rate, value, count FROM measurements")?;
                let rows = query.query_map([], |row| {
                    Ok(Measured {
                        lane: row.get(0)?,
                        model: row.get(1)?,
                        rate: row.get(2)?,
                        value: row.get(3)?,
                        count: row.get(4)?,
                    })
                })?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Writes averages over what was there.
    pub async fn put(&self, averages: Vec<Measured>) -> Result<(), StoreError> {
        self.0
            .write(move |transaction| {
                let mut insert = transaction.prepare_cached(
                    "INSERT OR REPLACE INTO measurements (lane, model, rate, value, count, updated_at) \
                     VALUES (?, ?, ?, ?, ?, ?)",
                )?;
                for m in averages {
                    insert.execute((m.lane, m.model, m.rate, m.value, m.count, now_ms()))?;
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
    async fn averages_come_back_and_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut one = Measured {
            lane: "llama.cpu".into(),
            model: "11".into(),
            rate: "decode".into(),
            value: 31.5,
            count: 2,
        };
        for value in [31.5, 30.0] {
            one.value = value;
            store.measurements().put(vec![one.clone()]).await.unwrap();
        }
        assert_eq!(store.measurements().all().await.unwrap(), [one]);
    }
}
