//! The whole database as one file at one moment, and whether such a file can be opened here.

use std::path::Path;

use super::migrations;
use super::{DATABASE_FILE, StoreError, blame, connect};

/// Copies the database in `folder` into the new file `to`, as it stands at one moment, while others write.
///
/// # Errors
/// There is no database, it is damaged, `to` exists or cannot be written.
pub fn snapshot(folder: &Path, to: &Path) -> Result<(), StoreError> {
    let path = folder.join(DATABASE_FILE);
    let connection = connect(&path, true).map_err(|error| blame(&path, error))?;
    connection
        .execute("VACUUM INTO ?1", [to.to_string_lossy()])
        .map_err(|error| blame(&path, error))?;
    Ok(())
}

/// Checks that a database file is whole and of a layout that this program knows.
///
/// # Errors
/// It is damaged, or a newer appliance has written it.
pub fn check(path: &Path) -> Result<(), StoreError> {
    let connection = connect(path, true).map_err(|error| blame(path, error))?;
    migrations::done(&connection, path)?;
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| blame(path, error))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(StoreError::Damaged {
        path: path.to_owned(),
        why: verdict,
    })
}
