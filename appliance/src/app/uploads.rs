//! Files that a person sends beside a message, such as a picture: kept by name, shown to that person alone.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::{App, AppError};
use crate::domain::{Id, PersonId};
use crate::error::{Failing, Kind};
use crate::store::new_id;

/// Their folder below the data directory, with one folder for each person.
const FOLDER: &str = "uploads";

/// Bytes that one person's files may take together.
const BYTES_MAX: u64 = 2 << 30;

/// Why an upload is not kept or not found.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is none of that name.
    #[error("there is no upload `{0}`")]
    Missing(String),
    /// A person's room is used up.
    #[error(
        "the files sent so far take {0} bytes, which is all the room there is; delete some from {1}"
    )]
    Full(u64, String),
    /// The disk fails.
    #[error("cannot keep {path}: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

impl Failing for UploadError {
    fn kind(&self) -> Kind {
        match self {
            UploadError::Missing(_) => Kind::NotFound,
            UploadError::Full(..) => Kind::TooLarge,
            UploadError::Disk { .. } => Kind::Internal,
        }
    }
}

impl App {
    fn uploads(&self, person: &PersonId) -> PathBuf {
        self.config().data_dir.join(FOLDER).join(person.as_str())
    }

    /// Keeps a file and returns the name that it gets; `extension` is without its dot.
    ///
    /// # Errors
    /// The person's room is used up, or the disk fails.
    pub async fn keep_upload(
        &self,
        person: &PersonId,
        extension: &str,
        bytes: Vec<u8>,
    ) -> Result<String, AppError> {
        let folder = self.uploads(person);
        let name = format!("{}.{extension}", new_id()?);
        let kept = name.clone();
        let work = move || {
            let path = folder.join(&kept);
            let failed = |source| UploadError::Disk {
                path: path.clone(),
                source,
            };
            std::fs::create_dir_all(&folder).map_err(failed)?;
            let sizes = std::fs::read_dir(&folder).map_err(failed)?.flatten();
            let taken: u64 = sizes
                .filter_map(|entry| entry.metadata().ok())
                .map(|metadata| metadata.len())
                .sum();
            if taken + bytes.len() as u64 > BYTES_MAX {
                return Err(UploadError::Full(taken, folder.display().to_string()));
            }
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(failed)?;
            file.write_all(&bytes)
                .and_then(|()| file.sync_all())
                .map_err(failed)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|panic| AppError::Measure(panic.to_string()))??;
        Ok(name)
    }

    /// Opens a file that the person sent.
    ///
    /// # Errors
    /// There is none of that name among theirs.
    pub fn open_upload(&self, person: &PersonId, name: &str) -> Result<File, AppError> {
        let missing = || UploadError::Missing(name.to_owned());
        // Only names that we give: no path can be made of them.
        let (id, extension) = name.split_once('.').ok_or_else(missing)?;
        if Id::parse(id).is_none() || !extension.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(missing().into());
        }
        let file = File::options()
            .read(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(self.uploads(person).join(name))
            .map_err(|_| missing())?;
        Ok(file)
    }
}
