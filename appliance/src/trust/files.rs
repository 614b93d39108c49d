//! Files that hold secrets: 0600 in a folder of 0700, written beside their place and moved there.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::TrustError;

fn failed<'a>(what: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> TrustError + 'a {
    move |source| TrustError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Makes the folder of secrets, or takes others' rights on it away.
pub(super) fn make_folder(folder: &Path) -> Result<(), TrustError> {
    match DirBuilder::new().mode(0o700).recursive(true).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("cannot make", folder)(error)),
    }
    std::fs::set_permissions(folder, Permissions::from_mode(0o700))
        .map_err(failed("cannot protect", folder))
}

/// Writes a file that only we can read; a reader sees the old one or the whole new one.
pub(super) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), TrustError> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    })();
    written.map_err(|error| {
        // What is left of a failed write is of no use; the first error is the one to tell.
        let _ = std::fs::remove_file(&beside);
        failed("cannot write", path)(error)
    })
}

/// Reads a file; `None` when it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, TrustError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("cannot read", path)(error)),
    }
}

/// Removes a file; returns whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool, TrustError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("cannot remove", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("trust");
        std::fs::create_dir(&inner).unwrap();
        std::fs::set_permissions(&inner, Permissions::from_mode(0o755)).unwrap();
        make_folder(&inner).unwrap();
        let file = inner.join("key");
        write_secret(&file, b"a").unwrap();
        write_secret(&file, b"bc").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&file)), (0o700, 0o600));
        assert_eq!(read(&file).unwrap().as_deref(), Some(&b"bc"[..]));
        assert!(remove(&file).unwrap() && !remove(&file).unwrap());
        assert_eq!(read(&file).unwrap(), None);
    }
}
