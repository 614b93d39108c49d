//! Layout changes, one numbered file each. A file is never edited after a release: add the next one.

use std::path::Path;

use rusqlite::Connection;

use super::{StoreError, blame};

/// The steps in order; `user_version` counts how many have run.
const STEPS: &[&str] = &[
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_responses.sql"),
];

/// Runs the steps that this database has not seen, each in its own transaction.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let done: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|error| blame(path, error))?;
    let done = usize::try_from(done).unwrap_or(0);
    if done > STEPS.len() {
        return Err(StoreError::TooNew {
            path: path.to_owned(),
            found: done,
            known: STEPS.len(),
        });
    }
    for (index, step) in STEPS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", (index + 1) as i64)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_run_once_and_a_newer_layout_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        let path = Path::new("x.db");
        run(&mut connection, path).unwrap();
        run(&mut connection, path).unwrap();
        connection.pragma_update(None, "user_version", 999).unwrap();
        let error = run(&mut connection, path).unwrap_err();
        assert!(
            matches!(error, StoreError::TooNew { found: 999, .. }),
            "{error}"
        );
    }
}
