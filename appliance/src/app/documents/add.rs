//! How documents come in: bytes as they arrive, files at a path, addresses, notes.
//!
//! Every way ends in a file of our own, hashed and on disk, before its row is written; nothing is acknowledged
//! earlier. A file at a path is copied through one open descriptor, so that what was checked is what is read.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::{App, AppError, FOLDER, INCOMING, LibraryError};
use crate::domain::PersonId;
use crate::domain::library::{Document, Source};
use crate::fetch::Request;
use crate::store::{NewDocument, file_name};

/// A name is shown in lists; what is longer is cut at its beginning, where the extension is not.
const NAME_CHARS_MAX: usize = 200;

/// Bytes copied at a time.
const PIECE: usize = 256 << 10;

/// What no reader takes, by extension, and what to do instead.
const UNREAD: &[(&[&str], &str)] = &[
    (
        &["doc", "xls", "ppt", "rtf", "odt", "pages"],
        "save it as docx, xlsx, pptx or PDF",
    ),
    (
        &["zip", "tar", "gz", "tgz", "bz2", "xz", "7z", "rar"],
        "add the files inside",
    ),
    (
        &["exe", "dll", "so", "bin", "iso", "img", "msi", "deb", "rpm"],
        "add a document",
    ),
    (
        &[
            "mp3", "wav", "ogg", "flac", "m4a", "mp4", "mkv", "mov", "avi", "webm",
        ],
        "add a transcript",
    ),
];

/// Where a document comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// How it came in; an upload when left out.
    pub source: Option<Source>,
    /// The path or address.
    pub place: Option<String>,
    /// When the file there was last written, unix milliseconds.
    pub modified: Option<i64>,
    /// The collection that takes it.
    pub collection: Option<String>,
}

/// A document on its way in: bytes go to disk as they come. Dropping it forgets them.
pub struct Incoming {
    app: App,
    file: File,
    /// Relative to the data directory, until it is kept.
    place: Option<String>,
    name: String,
    hash: Sha256,
    bytes: u64,
    bytes_max: u64,
    setting: &'static str,
}

impl Incoming {
    /// Takes more bytes; blocking for as long as the page cache takes.
    ///
    /// # Errors
    /// The limit is reached, or the disk fails.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), LibraryError> {
        self.bytes += piece.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(LibraryError::TooLarge {
                limit_bytes: self.bytes_max,
                setting: self.setting,
            });
        }
        self.hash.update(piece);
        self.file
            .write_all(piece)
            .map_err(|source| LibraryError::disk("cannot write", Path::new(INCOMING), source))
    }

    /// Keeps what has come as a document and orders it to be read. It is on disk when this resolves.
    ///
    /// # Errors
    /// Nothing has come, or the disk or the store fails.
    pub async fn finish(mut self, person: &PersonId, origin: Origin) -> Result<Document, AppError> {
        if self.bytes == 0 {
            return Err(LibraryError::Empty.into());
        }
        let app = self.app.clone();
        let file = keep(&app, &mut self).await?;
        let new = NewDocument {
            name: self.name.clone(),
            source: origin.source.unwrap_or(Source::Upload),
            origin: origin.place,
            bytes: self.bytes,
            sha256: self
                .hash
                .clone()
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            file: file.clone(),
            modified: origin.modified,
            collection: origin.collection,
        };
        match app.inner.store.documents().add(person, new).await {
            Ok(added) => {
                added.unused.iter().for_each(|file| app.discard(file));
                app.inner.library.wake.notify_one();
                Ok(added.document)
            }
            Err(error) => {
                app.discard(&file);
                Err(error.into())
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.app.discard(&place);
        }
    }
}

/// Moves a file that is complete to its place, surviving a power cut.
async fn keep(app: &App, incoming: &mut Incoming) -> Result<String, AppError> {
    let kept = format!("{FOLDER}/{}", file_name()?);
    let from = app.library_path(incoming.place.as_deref().unwrap_or_default());
    let to = app.library_path(&kept);
    let file = incoming.file.try_clone();
    let moved = tokio::task::spawn_blocking(move || {
        let failed = |source| LibraryError::disk("cannot keep", &to, source);
        file.and_then(|file| file.sync_all()).map_err(failed)?;
        std::fs::rename(&from, &to).map_err(failed)?;
        let folder = to.parent().map(File::open).transpose().map_err(failed)?;
        folder
            .map(|folder| folder.sync_all())
            .transpose()
            .map_err(failed)?;
        Ok::<_, LibraryError>(())
    });
    moved
        .await
        .map_err(|panic| LibraryError::Broken(panic.to_string()))??;
    incoming.place = None;
    Ok(kept)
}

impl App {
    /// Opens a way in for a document's bytes. `limit_bytes` below the setting's own limit is the caller's.
    ///
    /// # Errors
    /// Its name says that no reader takes it, or the disk fails.
    pub fn receive(
        &self,
        name: &str,
        limit: Option<(u64, &'static str)>,
    ) -> Result<Incoming, AppError> {
        let name = clean(name);
        let extension = name
            .rsplit_once('.')
            .map(|(_, end)| end.to_ascii_lowercase())
            .unwrap_or_default();
        if let Some((_, instead)) = UNREAD
            .iter()
            .find(|(all, _)| all.contains(&extension.as_str()))
        {
            return Err(LibraryError::Extension { extension, instead }.into());
        }
        let place = format!("{INCOMING}/{}", file_name()?);
        let path = self.library_path(&place);
        let failed = |source| LibraryError::disk("cannot make", &path, source);
        std::fs::create_dir_all(self.library_path(INCOMING)).map_err(failed)?;
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let own = self.inner.config.documents.file_bytes_max;
        let (bytes_max, setting) = limit
            .filter(|(limit, _)| *limit < own)
            .unwrap_or((own, "documents.file_bytes_max"));
        Ok(Incoming {
            app: self.clone(),
            file,
            place: Some(place),
            name,
            hash: Sha256::new(),
            bytes: 0,
            bytes_max,
            setting,
        })
    }

    /// Adds what somebody typed.
    ///
    /// # Errors
    /// It is empty, or as [`Incoming::finish`].
    pub async fn add_note(
        &self,
        person: &PersonId,
        title: &str,
        text: &str,
        collection: Option<String>,
    ) -> Result<Document, AppError> {
        if text.trim().is_empty() {
            return Err(LibraryError::Empty.into());
        }
        let name = if title.contains('.') {
            title.to_owned()
        } else {
            format!("{title}.md")
        };
        let mut incoming = self.receive(&name, None)?;
        incoming.write(text.as_bytes())?;
        let origin = Origin {
            source: Some(Source::Note),
            collection,
            ..Origin::default()
        };
        incoming.finish(person, origin).await
    }

    /// Adds what an address holds.
    ///
    /// # Errors
    /// The address may not be spoken to or gives nothing, or as [`Incoming::finish`].
    pub async fn add_url(
        &self,
        person: &PersonId,
        url: &str,
        collection: Option<String>,
    ) -> Result<Document, AppError> {
        let Some(fetch) = &self.inner.means.fetch else {
            return Err(LibraryError::BadPath("nothing leaves this machine".to_owned()).into());
        };
        let limit = self.inner.config.documents.file_bytes_max;
        let answer = fetch
            .send(Request::get(url, limit))
            .await
            .map_err(LibraryError::from)?;
        let mut answer = answer.success().map_err(LibraryError::from)?;
        let name = name_of(url, answer.header("content-type").unwrap_or_default());
        let mut incoming = self.receive(&name, None)?;
        while let Some(piece) = answer.chunk().await.map_err(LibraryError::from)? {
            incoming.write(&piece)?;
        }
        let origin = Origin {
            source: Some(Source::Url),
            place: Some(url.to_owned()),
            collection,
            ..Origin::default()
        };
        incoming.finish(person, origin).await
    }

    /// Adds a file of this machine and watches it from now on.
    ///
    /// # Errors
    /// It lies outside of `documents.roots`, is no regular file or a link, or as [`Incoming::finish`].
    pub async fn add_path(
        &self,
        person: &PersonId,
        path: &str,
        collection: Option<String>,
    ) -> Result<Document, AppError> {
        let path = self.shared_path(path)?;
        let app = self.clone();
        let place = path.to_string_lossy().into_owned();
        let copied = tokio::task::spawn_blocking(move || copy(&app, &path));
        let (incoming, modified) = copied
            .await
            .map_err(|panic| LibraryError::Broken(panic.to_string()))??;
        let origin = Origin {
            source: Some(Source::Path),
            place: Some(place),
            modified: Some(modified),
            collection,
        };
        incoming.finish(person, origin).await
    }

    /// Gets a document's bytes anew from where it came from.
    pub(super) async fn fetch_again(
        &self,
        person: &PersonId,
        document: &Document,
    ) -> Result<Document, AppError> {
        let collection = document.collections.first().cloned();
        let fresh = match (document.source, &document.origin) {
            (Source::Path, Some(path)) => self.add_path(person, path, collection).await?,
            (Source::Url, Some(url)) => self.add_url(person, url, collection).await?,
            _ => return Err(LibraryError::NoFile(PathBuf::from(&document.name)).into()),
        };
        if fresh.id == document.id && fresh.sha256 == document.sha256 && fresh.indexed_at.is_some()
        {
            // The same bytes were not kept twice; they are wanted now.
            return Ok(self
                .inner
                .store
                .documents()
                .get(person, &document.id)
                .await?);
        }
        Ok(fresh)
    }

    /// Checks a path before the disk is touched: absolute, without `..`, below a shared folder, and not our own data.
    pub(super) fn shared_path(&self, path: &str) -> Result<PathBuf, LibraryError> {
        if path.contains('\0') {
            return Err(LibraryError::BadPath(
                "the path holds a NUL byte".to_owned(),
            ));
        }
        let path = PathBuf::from(path);
        let climbs = path.components().any(|part| part == Component::ParentDir);
        if !path.is_absolute() || climbs {
            let why = format!(
                "{} is not a whole path; give one from / on, without ..",
                path.display()
            );
            return Err(LibraryError::BadPath(why));
        }
        let config = &self.inner.config;
        let shared = config
            .documents
            .roots
            .iter()
            .any(|root| path.starts_with(root));
        if !shared || path.starts_with(&config.data_dir) {
            return Err(LibraryError::Outside(path));
        }
        Ok(path)
    }
}

/// Copies a regular file through one descriptor.
fn copy(app: &App, path: &Path) -> Result<(Incoming, i64), AppError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => LibraryError::NoFile(path.to_owned()),
        _ => LibraryError::BadPath(format!("{} cannot be read: {source}", path.display())),
    };
    // A link may lead anywhere; a folder on the way that is one leads out of the shared folders.
    let real = path.canonicalize().map_err(failed)?;
    if real != path {
        return Err(LibraryError::BadPath(format!(
            "{} is a link; add what it leads to",
            path.display()
        ))
        .into());
    }
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(LibraryError::BadPath(format!("{} is no regular file", path.display())).into());
    }
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut incoming = app.receive(&name, None)?;
    let mut piece = vec![0; PIECE];
    loop {
        let n = file.read(&mut piece).map_err(failed)?;
        if n == 0 {
            break;
        }
        incoming.write(&piece[..n])?;
    }
    Ok((incoming, modified_ms(&metadata)))
}

/// When a file was last written, unix milliseconds.
pub(super) fn modified_ms(metadata: &std::fs::Metadata) -> i64 {
    let since = metadata
        .modified()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.map_or(metadata.mtime() * 1000, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// A name that can be shown and that no file system is asked for.
fn clean(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = last.chars().filter(|c| !c.is_control()).collect();
    let length = name.chars().count();
    if length > NAME_CHARS_MAX {
        name = name.chars().skip(length - NAME_CHARS_MAX).collect();
    }
    let trimmed = name.trim();
    if trimmed.is_empty() {
        "unnamed".to_owned()
    } else {
        trimmed.to_owned()
    }
}

/// The name of what an address holds; its type adds the extension that its path lacks.
pub(super) fn name_of(url: &str, content_type: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let (host, last) = path.split_once('/').map_or((path, ""), |(host, rest)| {
        (
            host,
            rest.trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or_default(),
        )
    });
    let base = if last.is_empty() { host } else { last };
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let extension = match kind {
        "text/html" | "application/xhtml+xml" => "html",
        "application/pdf" => "pdf",
        "text/markdown" => "md",
        "text/plain" => "txt",
        "application/json" => "json",
        _ => "",
    };
    let has = last
        .rsplit_once('.')
        .is_some_and(|(_, end)| (1..=5).contains(&end.len()));
    if has || extension.is_empty() {
        base.to_owned()
    } else {
        format!("{base}.{extension}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names() {
        for (given, name) in [
            ("a.txt", "a.txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\x\\y.md", "y.md"),
            ("a\u{0}\n.md", "a.md"),
            (" / ", "unnamed"),
        ] {
            assert_eq!(clean(given), name, "{given:?}");
        }
        let long = format!("{}.pdf", "ä".repeat(500));
        assert_eq!(clean(&long).chars().count(), NAME_CHARS_MAX);
        assert!(clean(&long).ends_with(".pdf"));
    }

    #[test]
    fn addresses_have_names() {
        for (url, kind, name) in [
            (
                "https://a.example/x/guide.pdf?v=1",
                "application/pdf",
                "guide.pdf",
            ),
            (
                "https://a.example/docs/start/",
                "text/html; charset=utf-8",
                "start.html",
            ),
            ("https://a.example", "text/html", "a.example.html"),
            ("https://a.example/v1.2", "", "v1.2"),
        ] {
            assert_eq!(name_of(url, kind), name, "{url}");
        }
    }
}
