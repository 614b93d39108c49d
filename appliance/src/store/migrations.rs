//! Layout changes, one numbered file each. A file is never edited after a release: add the next one.

use std::path::Path;

use rusqlite::Connection;

use super::{StoreError, blame};

/// The steps in order; `user_version` counts how many have run.
const STEPS: &[&str] = &[
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_responses.sql"),
    include_str!("migrations/0003_documents.sql"),
    include_str!("migrations/0004_notes.sql"),
    include_str!("migrations/0005_measurements.sql"),
    include_str!("migrations/0006_access.sql"),
    include_str!("migrations/0007_mesh.sql"),
    include_str!("migrations/0008_agents.sql"),
    include_str!("migrations/0009_sessions.sql"),
    include_str!("migrations/0010_pictures.sql"),
];

/// How many steps a database has seen.
pub(super) fn done(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
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
    Ok(done)
}

/// Runs the steps that this database has not seen, each in its own transaction. What an older appliance wrote is
/// copied first, to a file beside it that is named after its layout.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let done = done(connection, path)?;
    if (1..STEPS.len()).contains(&done) {
        let copy = path.with_extension(format!("before-{done}.db"));
        // A copy that an earlier, broken start left behind is not the newest.
        match std::fs::remove_file(&copy) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::NotWritable {
                    path: copy,
                    source: error,
                });
            }
            _ => connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?,
        };
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

    #[test]
    fn what_an_older_appliance_wrote_is_copied_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("onebit.db");
        let mut connection = Connection::open(&path).unwrap();
        connection.execute_batch(STEPS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        run(&mut connection, &path).unwrap();
        let copy = Connection::open(folder.path().join("onebit.before-1.db")).unwrap();
        assert_eq!(done(&copy, &path).unwrap(), 1);
        // Nothing to do is nothing to copy.
        run(&mut connection, &path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
