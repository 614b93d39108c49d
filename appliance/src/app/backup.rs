//! Everything that an owner would miss as one zip file, and back.
//!
//! The database is copied as it stands at one moment, other files as they lie; what can be had again (engines,
//! compiled kernels, and models unless asked for) stays out. Bringing a backup back moves what it replaces aside and
//! removes nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::VERSION;
use crate::store::{self, DATABASE_FILE, StoreError, now_ms};

/// Says what the file is; it comes first.
const MANIFEST: &str = "onebit-backup.json";
/// The form of the file.
const FORM: u32 = 1;
/// Folders whose contents can be had again, or belong to a running process.
const LEFT_OUT: [&str; 5] = ["run", "engines", "kernels", "downloads", "replaced"];
/// The folder of model files.
const MODELS: &str = "models";

/// Why a backup cannot be written or brought back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file to write is there already.
    #[error("{0} exists already; choose another name")]
    Exists(PathBuf),
    /// The data directory has no database.
    #[error("{0} holds nothing to back up; is it the data directory?")]
    Nothing(PathBuf),
    /// The file is no backup of ours, or a broken one.
    #[error("{path} is not a backup of onebit, or is damaged: {why}")]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The database cannot be copied or is not whole.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What went in or came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Files.
    pub files: usize,
    /// Their bytes, unpacked.
    pub bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    form: u32,
    version: String,
    made_ms: i64,
}

/// Writes what lies in the data directory `data` into the new file `to`, which only this user may read. Safe while
/// an appliance serves the directory.
///
/// # Errors
/// A file cannot be read or written, `to` exists, or there is nothing to back up. No half a file is left.
pub fn write(data: &Path, to: &Path, with_models: bool) -> Result<Amount, BackupError> {
    if !data.join(DATABASE_FILE).is_file() {
        return Err(BackupError::Nothing(data.to_owned()));
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to);
    let file = file.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(to.to_owned()),
        _ => at(to, source),
    })?;
    let copy = data.join(format!(".backup-{}.db", std::process::id()));
    let written = pack(data, file, to, &copy, with_models);
    // Neither may be there: the copy after an early error, the file after its own.
    let _ = fs::remove_file(&copy);
    if written.is_err() {
        let _ = fs::remove_file(to);
    }
    written
}

fn pack(
    data: &Path,
    file: File,
    to: &Path,
    copy: &Path,
    with_models: bool,
) -> Result<Amount, BackupError> {
    let mut zip = ZipWriter::new(file);
    let failed = |error: zip::result::ZipError| at(to, error.into());
    let manifest = Manifest {
        form: FORM,
        version: VERSION.to_owned(),
        made_ms: now_ms(),
    };
    zip.start_file(MANIFEST, options("")).map_err(failed)?;
    zip.write_all(&serde_json::to_vec(&manifest).map_err(|error| at(to, error.into()))?)
        .map_err(|error| at(to, error))?;

    store::snapshot(data, copy)?;
    let mut amount = Amount { files: 0, bytes: 0 };
    let mut add = |path: &Path, name: &str| -> Result<(), BackupError> {
        let mut from = File::open(path).map_err(|error| at(path, error))?;
        zip.start_file(name, options(name)).map_err(failed)?;
        amount.bytes += io::copy(&mut from, &mut zip).map_err(|error| at(path, error))?;
        amount.files += 1;
        Ok(())
    };
    add(copy, DATABASE_FILE)?;
    let mut folders = vec![PathBuf::new()];
    while let Some(inside) = folders.pop() {
        let folder = data.join(&inside);
        for entry in fs::read_dir(&folder).map_err(|error| at(&folder, error))? {
            let entry = entry.map_err(|error| at(&folder, error))?;
            let kind = entry
                .file_type()
                .map_err(|error| at(&entry.path(), error))?;
            let inside = inside.join(entry.file_name());
            let Some(name) = inside.to_str().filter(|name| belongs(name, with_models)) else {
                continue;
            };
            if kind.is_dir() {
                folders.push(inside);
            } else if kind.is_file() {
                add(&entry.path(), name)?;
            }
        }
    }
    let file = zip.finish().map_err(failed)?;
    file.sync_all().map_err(|error| at(to, error))?;
    Ok(amount)
}

/// Brings the backup `from` back into the data directory `data`, which nobody may serve meanwhile. What it replaces
/// lies in `replaced/TIME` afterwards, whose path comes back where there was something.
///
/// # Errors
/// The file is no backup, is damaged, or was written by a newer appliance: then nothing was changed.
pub fn restore(from: &Path, data: &Path) -> Result<(Amount, Option<PathBuf>), BackupError> {
    fs::create_dir_all(data).map_err(|error| at(data, error))?;
    let beside = data.join(format!(".restore-{}", std::process::id()));
    let restored = unpack(from, &beside).and_then(|amount| {
        store::check(&beside.join(DATABASE_FILE))?;
        Ok((amount, swap(&beside, data)?))
    });
    // After the swap it is an empty folder.
    let _ = fs::remove_dir_all(&beside);
    restored
}

fn unpack(from: &Path, into: &Path) -> Result<Amount, BackupError> {
    let file = File::open(from).map_err(|error| at(from, error))?;
    let not_ours = |why: String| BackupError::NotOurs {
        path: from.to_owned(),
        why,
    };
    let mut zip = ZipArchive::new(file).map_err(|error| not_ours(error.to_string()))?;
    let manifest = zip
        .by_name(MANIFEST)
        .map_err(|error| not_ours(error.to_string()))?;
    let manifest: Manifest =
        serde_json::from_reader(manifest).map_err(|error| not_ours(error.to_string()))?;
    if manifest.form > FORM {
        return Err(not_ours(format!(
            "onebit {} wrote it; update onebit",
            manifest.version
        )));
    }
    let mut amount = Amount { files: 0, bytes: 0 };
    for index in 0..zip.len() {
        let mut entry = zip
            .by_index(index)
            .map_err(|error| not_ours(error.to_string()))?;
        let name = entry
            .enclosed_name()
            .ok_or_else(|| not_ours("a name in it leads out of it".to_owned()))?;
        if entry.is_dir() || name == Path::new(MANIFEST) {
            continue;
        }
        let path = into.join(name);
        let parent = path.parent().unwrap_or(into);
        fs::create_dir_all(parent).map_err(|error| at(parent, error))?;
        let out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let mut out = out.map_err(|error| at(&path, error))?;
        // The checksum of an entry is compared when its last byte is read.
        amount.bytes +=
            io::copy(&mut entry, &mut out).map_err(|error| not_ours(error.to_string()))?;
        out.sync_all().map_err(|error| at(&path, error))?;
        amount.files += 1;
    }
    Ok(amount)
}

/// Moves what came back into place, and what it replaces aside. A database's journal goes with its database.
fn swap(beside: &Path, data: &Path) -> Result<Option<PathBuf>, BackupError> {
    let aside = data.join("replaced").join(now_ms().to_string());
    let mut moved = false;
    let mut put_aside = |name: &Path| -> Result<(), BackupError> {
        let old = data.join(name);
        if !old.exists() {
            return Ok(());
        }
        moved = true;
        fs::create_dir_all(&aside).map_err(|error| at(&aside, error))?;
        fs::rename(&old, aside.join(name)).map_err(|error| at(&old, error))
    };
    for journal in ["-wal", "-shm"] {
        put_aside(Path::new(&format!("{DATABASE_FILE}{journal}")))?;
    }
    for entry in fs::read_dir(beside).map_err(|error| at(beside, error))? {
        let entry = entry.map_err(|error| at(beside, error))?;
        let name = PathBuf::from(entry.file_name());
        put_aside(&name)?;
        fs::rename(entry.path(), data.join(&name)).map_err(|error| at(&entry.path(), error))?;
    }
    Ok(moved.then_some(aside))
}

/// Whether a path below the data directory goes into a backup.
fn belongs(name: &str, with_models: bool) -> bool {
    let first = name.split('/').next().unwrap_or(name);
    let passing = first.starts_with('.')
        || first.ends_with(".log")
        || first.ends_with(".pid")
        || first == "serving.json";
    // The database itself went in as a copy; its journal and older copies are not needed.
    let database = first.starts_with("onebit.") && first.contains(".db");
    !(passing || database || LEFT_OUT.contains(&first) || (first == MODELS && !with_models))
}

/// Model files do not shrink; everything else does.
fn options(name: &str) -> SimpleFileOptions {
    let method = match name.split('/').next() {
        Some(MODELS) => CompressionMethod::Stored,
        _ => CompressionMethod::Deflated,
    };
    SimpleFileOptions::default()
        .compression_method(method)
        .large_file(true)
        .unix_permissions(0o600)
}

fn at(path: &Path, source: io::Error) -> BackupError {
    BackupError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PersonId;
    use crate::store::Store;

    async fn data_with(folder: &Path, theme: &str) {
        let store = Store::open(folder).unwrap();
        store
            .settings()
            .set(&PersonId::owner(), "theme", theme)
            .await
            .unwrap();
        for (name, text) in [
            ("models/a.gguf", "weights"),
            ("keys/ca.pem", "secret"),
            ("run/x", "passing"),
            ("onebit.log", "line"),
        ] {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    async fn theme_of(folder: &Path) -> String {
        let settings = Store::open(folder)
            .unwrap()
            .settings()
            .all(&PersonId::owner())
            .await
            .unwrap();
        settings
            .into_iter()
            .find(|(key, _)| key == "theme")
            .unwrap()
            .1
    }

    #[tokio::test]
    async fn what_went_in_comes_back_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        data_with(&old, "\"dark\"").await;
        data_with(&new, "\"light\"").await;
        let file = folder.path().join("backup.zip");
        let amount = write(&old, &file, false).unwrap();
        assert_eq!(amount.files, 2, "the database and the key");
        assert!(matches!(
            write(&old, &file, false),
            Err(BackupError::Exists(_))
        ));

        let (back, aside) = restore(&file, &new).unwrap();
        assert_eq!(back, amount);
        assert_eq!(theme_of(&new).await, "\"dark\"");
        assert_eq!(theme_of(&aside.unwrap()).await, "\"light\"");
        assert_eq!(
            fs::read_to_string(new.join("models/a.gguf")).unwrap(),
            "weights"
        );
    }

    #[tokio::test]
    async fn a_damaged_backup_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        data_with(&data, "\"dark\"").await;
        let file = folder.path().join("backup.zip");
        write(&data, &file, true).unwrap();
        let whole = fs::read(&file).unwrap();
        for at in [whole.len() / 3, whole.len() / 2] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            fs::write(&file, &bytes).unwrap();
            assert!(
                matches!(restore(&file, &data), Err(BackupError::NotOurs { .. })),
                "byte {at}"
            );
        }
        fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        assert!(restore(&file, &data).is_err());
        assert_eq!(theme_of(&data).await, "\"dark\"");
        assert!(!data.join("replaced").exists());
    }

    #[test]
    fn nothing_is_not_backed_up() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("x.zip");
        assert!(matches!(
            write(folder.path(), &to, false),
            Err(BackupError::Nothing(_))
        ));
        assert!(!to.exists());
    }
}
