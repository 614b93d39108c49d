//! The only place with SQL: one SQLite database in the data directory.
//!
//! One thread owns the writing connection and runs one transaction after the other; readers have a few
//! connections of their own and never wait for it (WAL). A write is acknowledged after its commit has
//! reached the disk, so that neither a kill nor a power cut loses it. Nothing here knows who asks for
//! a row beyond the person whose row it is.

mod access;
mod agents;
mod answered;
mod brought;
mod chats;
mod choices;
mod collections;
mod documents;
mod measurements;
mod mesh;
mod migrations;
mod models;
mod notes;
mod passages;
mod pictures;
mod responses;
mod run_events;
mod sessions;
mod settings;
mod snapshot;
mod tail;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, Transaction};
use tokio::sync::oneshot;

use crate::domain::Id;
use crate::error::{Failing, Kind};

pub use access::{Access, Kept, SecretHash};
pub use agents::{Agents, OpenRun};
pub use brought::BroughtMessage;
pub use chats::{Chat, ChatChange, ChatQuery, Chats, NewMessage, StoredMessage};
pub use choices::Choices;
pub use collections::{Collections, Watch};
pub use documents::{Added, Documents, Indexed, Job, JobDocument, NewDocument, Watched, file_name};
pub use measurements::{Measured, Measurements};
pub use mesh::{Mesh, MeshPeer};
pub use models::Models;
pub use notes::{NoteKind, Notes};
pub use passages::{Block, Found, Passages, StoredText};
pub use pictures::Pictures;
pub use responses::{Responses, StoredResponse};
pub use sessions::{KeptRows, NewSession, Numbered, Session, SessionChange};
pub use settings::Settings;
pub use snapshot::{check, snapshot};

/// The database's name in the data directory.
pub const DATABASE_FILE: &str = "onebit.db";

/// Connections for reading. Two cores' worth of short queries; more would only wait for the disk.
const READERS: usize = 4;

/// How long a connection waits for another process (`onebit import` beside a running appliance).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory cannot be written.
    #[error(
        "the data directory {path} cannot be written: {source}; make it writable or give another with --data DIR"
    )]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is there and is no database of ours.
    #[error("{path} is damaged ({why}); move it away to start empty, or restore a copy")]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// A newer appliance has written it.
    #[error(
        "{path} was written by a newer onebit (layout {found}, this one knows {known}); update onebit"
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// Its layout number.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// The row does not exist, or belongs to somebody else.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// The kind of row.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// A row with this name exists.
    #[error("{what} `{id}` exists already")]
    Exists {
        /// The kind of row.
        what: &'static str,
        /// The name.
        id: String,
    },
    /// SQLite refused.
    #[error("the database failed: {0}")]
    Sql(#[from] rusqlite::Error),
    /// A row says what we never wrote.
    #[error("the database holds {what} that cannot be read: {value}")]
    BadRow {
        /// The column.
        what: &'static str,
        /// What it holds.
        value: String,
    },
    /// The writer has gone, because the appliance is stopping.
    #[error("the store is closed")]
    Closed,
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
}

impl Failing for StoreError {
    fn kind(&self) -> Kind {
        match self {
            StoreError::NotFound { .. } => Kind::NotFound,
            StoreError::Exists { .. } => Kind::Conflict,
            StoreError::Closed => Kind::Overloaded,
            StoreError::NotWritable { .. }
            | StoreError::Damaged { .. }
            | StoreError::TooNew { .. }
            | StoreError::Sql(_)
            | StoreError::BadRow { .. }
            | StoreError::Random(_) => Kind::Internal,
        }
    }

    fn code(&self) -> Option<&'static str> {
        matches!(self, StoreError::NotFound { .. }).then_some("not_found")
    }
}

type Order = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle on the store; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    writer: mpsc::Sender<Order>,
    /// Idle reading connections. A std mutex: held for a push or a pop, never across an await.
    readers: Mutex<Vec<Connection>>,
    /// The registry as last read, which every request asks for. A std mutex, held for microseconds.
    registry: Mutex<models::Remembered>,
}

impl Store {
    /// Opens or creates the database in `folder` and brings its layout up to date.
    ///
    /// # Errors
    /// A folder that cannot be written, a damaged file, a layout that is newer than this program.
    pub fn open(folder: &Path) -> Result<Store, StoreError> {
        std::fs::create_dir_all(folder).map_err(|source| StoreError::NotWritable {
            path: folder.to_owned(),
            source,
        })?;
        probe_writable(folder)?;
        let path = folder.join(DATABASE_FILE);
        let mut connection = connect(&path, false).map_err(|error| blame(&path, error))?;
        migrations::run(&mut connection, &path)?;
        let mut readers = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            readers.push(connect(&path, true).map_err(|error| blame(&path, error))?);
        }
        let (writer, jobs) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                while let Ok(job) = jobs.recv() {
                    job(&mut connection);
                }
            })
            .map_err(|source| StoreError::NotWritable {
                path: folder.to_owned(),
                source,
            })?;
        let inner = Inner {
            folder: folder.to_owned(),
            writer,
            readers: Mutex::new(readers),
            registry: Mutex::new(models::Remembered::new(
                connect(&path, true).map_err(|error| blame(&path, error))?,
            )),
        };
        Ok(Store {
            inner: Arc::new(inner),
        })
    }

    /// Persons, devices, keys and the audit log.
    pub fn access(&self) -> Access<'_> {
        Access(self)
    }

    /// Chats and their messages.
    pub fn chats(&self) -> Chats<'_> {
        Chats(self)
    }

    /// Agents, their runs, and MCP servers.
    pub fn agents(&self) -> Agents<'_> {
        Agents(self)
    }

    /// Pictures that were shown with messages.
    pub fn pictures(&self) -> Pictures<'_> {
        Pictures(self)
    }

    /// Imported models.
    pub fn models(&self) -> Models<'_> {
        Models(self)
    }

    /// What the owner chose about models.
    pub fn choices(&self) -> Choices<'_> {
        Choices(self)
    }

    /// Measured rates.
    pub fn measurements(&self) -> Measurements<'_> {
        Measurements(self)
    }

    /// Answers that a later request may go on from.
    pub fn responses(&self) -> Responses<'_> {
        Responses(self)
    }

    /// Documents and the jobs that read them.
    pub fn documents(&self) -> Documents<'_> {
        Documents(self)
    }

    /// Passages of documents and their vectors.
    pub fn passages(&self) -> Passages<'_> {
        Passages(self)
    }

    /// Collections of documents.
    pub fn collections(&self) -> Collections<'_> {
        Collections(self)
    }

    /// What clients have noted beside models.
    pub fn notes(&self) -> Notes<'_> {
        Notes(self)
    }

    /// The devices that have a tunnel.
    pub fn mesh(&self) -> Mesh<'_> {
        Mesh(self)
    }

    /// Each person's settings.
    pub fn settings(&self) -> Settings<'_> {
        Settings(self)
    }

    /// The data directory.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Runs one transaction on the writer's thread; it is on disk when this resolves.
    async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Order = Box::new(move |connection| {
            let result =
                connection
                    .transaction()
                    .map_err(StoreError::from)
                    .and_then(|transaction| {
                        let value = work(&transaction)?;
                        transaction.commit()?;
                        Ok(value)
                    });
            // A caller that has gone away does not undo the write.
            let _ = reply.send(result);
        });
        self.inner
            .writer
            .send(job)
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Carries the log over into the database and empties it, so that deleted rows are nowhere any more. A reader
    /// that is at work delays that until the next time.
    async fn wipe(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Order = Box::new(move |connection| {
            let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            let _ = reply.send(done);
        });
        self.inner
            .writer
            .send(job)
            .map_err(|_| StoreError::Closed)?;
        Ok(answer.await.map_err(|_| StoreError::Closed)??)
    }

    /// Runs a query on a reading connection, away from the asynchronous threads.
    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            let connection = match inner.take_reader() {
                Some(connection) => connection,
                None => connect(&inner.folder.join(DATABASE_FILE), true)?,
            };
            let result = work(&connection);
            inner.give_reader(connection);
            result
        })
        .await
        .map_err(|_| StoreError::Closed)?
    }
}

impl Inner {
    fn take_reader(&self) -> Option<Connection> {
        self.readers
            .lock()
            .ok()
            .and_then(|mut readers| readers.pop())
    }

    fn give_reader(&self, connection: Connection) {
        if let Ok(mut readers) = self.readers.lock()
            && readers.len() < READERS
        {
            readers.push(connection);
        }
    }
}

/// Makes a new random identifier.
///
/// # Errors
/// The system has no random numbers to give.
pub fn new_id() -> Result<Id, StoreError> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Random(error.to_string()))?;
    Ok(Id::from_bytes(bytes))
}

/// Unix time in milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn connect(path: &Path, read_only: bool) -> Result<Connection, rusqlite::Error> {
    let access = if read_only {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
    };
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if !read_only {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Each commit waits for the disk: what was acknowledged survives a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        // What is deleted is overwritten: a document that its owner removed leaves no text behind.
        connection.pragma_update(None, "secure_delete", "ON")?;
    }
    connection.pragma_update(None, "foreign_keys", "ON")?;
    Ok(connection)
}

/// Says at once, with the path, when the folder is read-only; SQLite would say it later and worse.
fn probe_writable(folder: &Path) -> Result<(), StoreError> {
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"")
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|source| StoreError::NotWritable {
            path: folder.to_owned(),
            source,
        })
}

fn blame(path: &Path, error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => StoreError::Damaged {
            path: path.to_owned(),
            why: error.to_string(),
        },
        _ => StoreError::Sql(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(DATABASE_FILE), vec![7u8; 8192]).unwrap();
        let Err(error) = Store::open(folder.path()) else {
            panic!("opened rubbish")
        };
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(DATABASE_FILE));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        let Err(error) = Store::open(&file.join("data")) else {
            panic!("opened below a file")
        };
        assert!(matches!(error, StoreError::NotWritable { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_failing_write_changes_nothing_and_the_writer_lives_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let failed: Result<(), _> = store
            .write(|t| {
                t.execute("INSERT INTO settings VALUES ('owner', 'a', '1')", [])?;
                t.execute("INSERT INTO nowhere VALUES (1)", [])?;
                Ok(())
            })
            .await;
        assert!(failed.is_err());
        let rows: i64 = store
            .read(|c| Ok(c.query_row("SELECT count(*) FROM settings", [], |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(rows, 0);
    }

    #[tokio::test]
    async fn it_opens_again_with_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let owner = crate::domain::PersonId::owner();
        let store = Store::open(folder.path()).unwrap();
        store
            .settings()
            .set(&owner, "theme", "\"dark\"")
            .await
            .unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(
            store.settings().all(&owner).await.unwrap(),
            [("theme".into(), "\"dark\"".into())]
        );
    }
}
