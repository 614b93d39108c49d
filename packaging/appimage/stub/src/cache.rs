//! Where images are unpacked: a folder of this user's alone, one folder in it for each payload.
//!
//! A payload is unpacked beside its place and renamed, so that a break leaves no half a program. Whoever runs from a
//! folder holds a shared lock on `DIGEST.lock`; folders that nobody holds and nobody needs are removed when a new
//! version moves in.

use std::env;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;

use rustix::io::FdFlags;

use crate::Failed;
use crate::image::Image;

/// The cache, which is there and belongs to this user.
pub(crate) struct Cache(PathBuf);

impl Cache {
    /// The first place that can be used: XDG_CACHE_HOME, ~/.cache, and for users without a home /var/tmp and /tmp.
    pub(crate) fn find() -> Result<Cache, Failed> {
        let user = rustix::process::getuid().as_raw();
        let places = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .into_iter()
            .chain(env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .filter(|place| place.is_absolute())
            .map(|place| place.join("onebit/appimage"))
            .chain(
                ["/var/tmp", "/tmp"]
                    .map(|place| Path::new(place).join(format!("onebit-appimage-{user}"))),
            );
        let mut why = Vec::new();
        for place in places {
            match own(&place, user) {
                Ok(()) => return Ok(Cache(place)),
                Err(error) => why.push(format!("{}: {error}", place.display())),
            }
        }
        Err(format!(
            "there is no folder to unpack into; set XDG_CACHE_HOME to one ({})",
            why.join("; ")
        ))
    }

    /// The folder with the contents of `image`, unpacked now or before; it stays as long as this process and what
    /// it becomes.
    pub(crate) fn folder_of(&self, image: &Image) -> Result<PathBuf, Failed> {
        let folder = self.0.join(image.digest());
        let lock = |why: io::Error| format!("cannot lock {}: {why}", self.0.display());
        let held = File::create(self.lock_of(image.digest())).map_err(lock)?;
        held.lock_shared().map_err(lock)?;
        if !folder.is_dir() {
            self.unpack(image, &folder)?;
            self.prune(image.digest());
        }
        // Kept open over exec: the lock is the program's from here on.
        rustix::io::fcntl_setfd(&held, FdFlags::empty()).map_err(|why| lock(why.into()))?;
        std::mem::forget(held);
        Ok(folder)
    }

    fn lock_of(&self, digest: &str) -> PathBuf {
        self.0.join(format!("{digest}.lock"))
    }

    fn unpack(&self, image: &Image, folder: &Path) -> Result<(), Failed> {
        image.verify()?;
        let beside = self
            .0
            .join(format!(".{}.{}", image.digest(), process::id()));
        let unpacked =
            image
                .extract(&beside, None)
                .and_then(|_| match fs::rename(&beside, folder) {
                    // Another start was faster.
                    Err(why)
                        if matches!(
                            why.kind(),
                            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                        ) =>
                    {
                        fs::remove_dir_all(&beside).map_err(|why| why.to_string())
                    }
                    moved => {
                        moved.map_err(|why| format!("cannot rename {}: {why}", beside.display()))
                    }
                });
        unpacked.map_err(|why| {
            // What is there of it is no use; that it cannot be removed either changes nothing of the message.
            let _ = fs::remove_dir_all(&beside);
            format!(
                "{why}; unpacking needs some {} MB in {}, or set XDG_CACHE_HOME to another folder",
                2 * image.bytes() / 1_000_000 + 1,
                self.0.display()
            )
        })
    }

    /// Removes the folders of other versions that nothing runs from. What cannot be removed stays until next time.
    fn prune(&self, keep: &str) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(digest) = name
                .to_str()
                .filter(|name| *name != keep && name.len() == keep.len())
            else {
                continue;
            };
            let lock = self.lock_of(digest);
            let free = File::create(&lock)
                .is_ok_and(|file| !matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
            if free && fs::remove_dir_all(entry.path()).is_ok() {
                let _ = fs::remove_file(lock);
            }
        }
    }
}

/// Makes sure that `place` is a folder of this user's that nobody else can write to.
fn own(place: &Path, user: u32) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(place)?;
    let found = fs::symlink_metadata(place)?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o022 != 0 {
        return Err(io::Error::other(
            "it is somebody else's, or others may write to it",
        ));
    }
    // A folder on a read-only file system is there all the same.
    let probe = place.join(format!(".probe.{}", process::id()));
    fs::write(&probe, b"")?;
    fs::remove_file(probe)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_folder_of_ones_own_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let user = rustix::process::getuid().as_raw();
        let place = folder.path().join("a/b");
        own(&place, user).unwrap();
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o777, 0o700);
        assert!(own(&place, user + 1).is_err());
        fs::set_permissions(&place, Permissions::from_mode(0o777)).unwrap();
        assert!(own(&place, user).is_err());
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(own(&file, user).is_err());
    }

    #[test]
    fn versions_that_nothing_runs_from_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache(folder.path().to_owned());
        for digest in ["aa", "bb", "cc"] {
            fs::create_dir(folder.path().join(digest)).unwrap();
        }
        let used = File::create(cache.lock_of("bb")).unwrap();
        used.lock_shared().unwrap();
        cache.prune("cc");
        let left: Vec<bool> = ["aa", "bb", "cc"]
            .map(|digest| folder.path().join(digest).is_dir())
            .into();
        assert_eq!(left, [false, true, true]);
    }
}
