//! Files that arrive whole and right or not at all, however the other side behaves.
//!
//! A file grows as `NAME.part` beside a note of what it is a part of. After any interruption the part is
//! hashed again and only the rest is asked for; a server that ignores the range, has another version or
//! lies about the content costs a fresh start or a clear error, never a wrong file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::StatusCode;
use http::header::{HeaderValue, IF_RANGE, RANGE};
use sha2::{Digest, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{CatalogError, Hub, HubFile, Source};
use crate::fetch::{FetchError, Response};

/// Files fetched at once: hubs limit each connection, and four fill any line.
const FILES_AT_ONCE: usize = 4;
/// Tries in a row without a single new byte before we give up.
const TRIES: usize = 5;
/// First pause between two tries; doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes left free on the disk: databases and logs must go on working.
const RESERVE_BYTES: u64 = 256 << 20;
/// Others write to the disk too: after so many bytes we look again.
const LOOK_EVERY_BYTES: u64 = 16 << 20;

/// How far a pull is; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    pub total_bytes: AtomicU64,
    pub done_bytes: AtomicU64,
    /// Of those, the ones that an earlier run had left.
    pub resumed_bytes: AtomicU64,
}

impl Progress {
    /// Everything was here already.
    pub(super) fn take_whole(&self, bytes: u64) {
        for n in [&self.total_bytes, &self.done_bytes, &self.resumed_bytes] {
            n.store(bytes, Ordering::Relaxed);
        }
    }
}

/// Fetches `files` of a repository into `folder` and returns where they lie, in order.
///
/// # Errors
/// The first file that cannot be had; what has arrived stays for the next try.
pub async fn download(
    hub: &Hub,
    source: &Source,
    files: &[HubFile],
    folder: &Path,
    progress: &Arc<Progress>,
) -> Result<Vec<PathBuf>, CatalogError> {
    tokio::fs::create_dir_all(folder)
        .await
        .map_err(disk("cannot make", folder))?;
    let total = files.iter().map(|f| f.bytes).sum();
    progress.total_bytes.store(total, Ordering::Relaxed);
    check_room(files, folder)?;
    let one = |file: HubFile| async move { fetch_one(hub, source, &file, folder, progress).await };
    stream::iter(files.to_vec())
        .map(one)
        .buffered(FILES_AT_ONCE)
        .try_collect()
        .await
}

/// Refuses before the first byte what would fill the disk.
fn check_room(files: &[HubFile], folder: &Path) -> Result<(), CatalogError> {
    let there = |file: &HubFile| {
        let (whole, part) = places(folder, file);
        let bytes = |path: &Path| path.metadata().map(|m| m.len()).unwrap_or(0);
        bytes(&whole).max(bytes(&part))
    };
    let needed: u64 = files.iter().map(|f| f.bytes.saturating_sub(there(f))).sum();
    let free_bytes = free(folder)?;
    if needed.saturating_add(RESERVE_BYTES) > free_bytes {
        return Err(CatalogError::DiskFull {
            file: files.first().map(|f| f.path.clone()).unwrap_or_default(),
            folder: folder.display().to_string(),
            needed_bytes: needed,
            free_bytes,
        });
    }
    Ok(())
}

/// Bytes that we may still write to a folder's disk.
fn free(folder: &Path) -> Result<u64, CatalogError> {
    let room = rustix::fs::statvfs(folder).map_err(|e| disk("cannot look at", folder)(e.into()))?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// Where a file lies when whole, and while it grows. Folders of the repository become part of the name.
fn places(folder: &Path, file: &HubFile) -> (PathBuf, PathBuf) {
    let name = file.path.replace('/', "_");
    (folder.join(&name), folder.join(format!("{name}.part")))
}

async fn fetch_one(
    hub: &Hub,
    source: &Source,
    file: &HubFile,
    folder: &Path,
    progress: &Progress,
) -> Result<PathBuf, CatalogError> {
    let (whole, part) = places(folder, file);
    if whole.metadata().is_ok_and(|m| m.len() == file.bytes) {
        progress
            .resumed_bytes
            .fetch_add(file.bytes, Ordering::Relaxed);
        progress.done_bytes.fetch_add(file.bytes, Ordering::Relaxed);
        return Ok(whole);
    }
    let mut growing = Growing::open(&part, file, progress).await?;
    let mut tries = 0;
    while growing.bytes < file.bytes || (file.bytes == 0 && tries == 0) {
        let before = growing.bytes;
        match growing.grow(hub, source, file).await {
            Ok(()) => {}
            Err(Trouble::Fatal(error)) => return Err(error),
            Err(Trouble::Cut(last)) => {
                tries = if growing.bytes > before { 1 } else { tries + 1 };
                if tries >= TRIES {
                    return Err(CatalogError::GaveUp {
                        file: file.path.clone(),
                        tries,
                        last,
                    });
                }
                tokio::time::sleep(PAUSE * (1 << (tries - 1))).await;
            }
        }
    }
    growing.finish(file, &whole).await?;
    Ok(whole)
}

/// Why a try ended.
enum Trouble {
    /// Worth another try.
    Cut(FetchError),
    Fatal(CatalogError),
}

/// A file on its way.
struct Growing<'a> {
    handle: File,
    part: PathBuf,
    note: PathBuf,
    bytes: u64,
    /// How far it had come when we last looked at the disk.
    looked_at: u64,
    hash: Sha256,
    /// Names the version of which we have a part.
    etag: Option<String>,
    progress: &'a Progress,
}

impl<'a> Growing<'a> {
    /// Opens what an earlier run left, hashing it again, or begins.
    async fn open(
        part: &Path,
        file: &HubFile,
        progress: &'a Progress,
    ) -> Result<Self, CatalogError> {
        let note = part.with_extension("part-of");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut handle = options
            .open(part)
            .await
            .map_err(disk("cannot open", part))?;
        let noted = tokio::fs::read_to_string(&note).await.unwrap_or_default();
        let (version, etag) = noted.split_once('\n').unwrap_or_default();
        let mut hash = Sha256::new();
        let mut bytes = 0;
        if version == identity(file) {
            let mut buffer = vec![0; 1 << 20];
            loop {
                let n = handle
                    .read(&mut buffer)
                    .await
                    .map_err(disk("cannot read", part))?;
                if n == 0 {
                    break;
                }
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
        let etag = Some(etag.to_owned()).filter(|e| !e.is_empty());
        let mut growing = Self {
            handle,
            part: part.to_owned(),
            note,
            bytes,
            looked_at: bytes,
            hash,
            etag,
            progress,
        };
        if version != identity(file) || bytes > file.bytes {
            growing.bytes = 0;
            growing.restart().await?;
            tokio::fs::write(&growing.note, format!("{}\n", identity(file)))
                .await
                .map_err(disk("cannot write", &growing.note))?;
        }
        progress
            .resumed_bytes
            .fetch_add(growing.bytes, Ordering::Relaxed);
        progress
            .done_bytes
            .fetch_add(growing.bytes, Ordering::Relaxed);
        Ok(growing)
    }

    async fn restart(&mut self) -> Result<(), CatalogError> {
        use tokio::io::AsyncSeekExt;
        let lost = std::mem::take(&mut self.bytes);
        self.progress.done_bytes.fetch_sub(lost, Ordering::Relaxed);
        self.progress
            .resumed_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                Some(n.saturating_sub(lost))
            })
            .ok();
        self.hash = Sha256::new();
        self.looked_at = 0;
        self.etag = None;
        self.handle
            .set_len(0)
            .await
            .map_err(disk("cannot cut", &self.part))?;
        self.handle
            .rewind()
            .await
            .map_err(disk("cannot rewind", &self.part))?;
        Ok(())
    }

    /// Asks for what is missing and writes it until it is there or the connection ends.
    async fn grow(&mut self, hub: &Hub, source: &Source, file: &HubFile) -> Result<(), Trouble> {
        let mut request = hub.request(source, file);
        if self.bytes > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.bytes));
            request
                .headers
                .extend(range.ok().map(|range| (RANGE, range)));
            let etag = self
                .etag
                .as_deref()
                .and_then(|etag| HeaderValue::from_str(etag).ok());
            request.headers.extend(etag.map(|etag| (IF_RANGE, etag)));
        }
        let mut response = hub.fetch().send(request).await.map_err(trouble)?;
        match response.status {
            StatusCode::PARTIAL_CONTENT
                if starts_at(&response) == Some((self.bytes, file.bytes)) => {}
            // Another place or another length than asked for: begin again, and never trust it blindly.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if self.bytes > 0 => {
                self.restart().await.map_err(Trouble::Fatal)?;
                return Err(Trouble::Cut(FetchError::Status {
                    host: String::new(),
                    status: response.status,
                }));
            }
            // The range was ignored, or the version changed: this is the whole file.
            StatusCode::OK => self.restart().await.map_err(Trouble::Fatal)?,
            _ => {
                let error = response.success().err();
                return Err(error.map_or_else(
                    || {
                        Trouble::Cut(FetchError::Status {
                            host: String::new(),
                            status: StatusCode::PARTIAL_CONTENT,
                        })
                    },
                    trouble,
                ));
            }
        }
        self.remember_version(&response, file)
            .await
            .map_err(Trouble::Fatal)?;
        loop {
            let chunk = response.chunk().await.map_err(trouble)?;
            let Some(chunk) = chunk else {
                if self.bytes < file.bytes {
                    let why = format!("the end came after {} of {} bytes", self.bytes, file.bytes);
                    return Err(Trouble::Cut(FetchError::Broken {
                        host: response.url.host().to_owned(),
                        why,
                    }));
                }
                return Ok(());
            };
            if self.bytes + chunk.len() as u64 > file.bytes {
                let found = self.bytes + chunk.len() as u64;
                self.restart().await.map_err(Trouble::Fatal)?;
                return Err(Trouble::Fatal(CatalogError::WrongSize {
                    file: file.path.clone(),
                    wanted: file.bytes,
                    found,
                }));
            }
            if let Err(error) = self.handle.write_all(&chunk).await {
                return Err(Trouble::Fatal(self.write_failed(file, error).await));
            }
            self.hash.update(&chunk);
            self.bytes += chunk.len() as u64;
            self.progress
                .done_bytes
                .fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if self.bytes - self.looked_at >= LOOK_EVERY_BYTES {
                self.look_at_disk(file).await.map_err(Trouble::Fatal)?;
            }
        }
    }

    /// Stops while databases and logs still have their room.
    async fn look_at_disk(&mut self, file: &HubFile) -> Result<(), CatalogError> {
        self.looked_at = self.bytes;
        match free(self.folder())? {
            free_bytes if free_bytes < RESERVE_BYTES => Err(self.filled(file, free_bytes).await),
            _ => Ok(()),
        }
    }

    fn folder(&self) -> &Path {
        self.part.parent().unwrap_or(&self.part)
    }

    async fn write_failed(&mut self, file: &HubFile, error: std::io::Error) -> CatalogError {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded) {
            self.filled(file, 0).await
        } else {
            disk("cannot write", &self.part)(error)
        }
    }

    /// The disk has filled in the middle. What is on it stays for the next try, which hashes it again.
    async fn filled(&mut self, file: &HubFile, free_bytes: u64) -> CatalogError {
        // Writes are handed over before they are done: what counts is what has reached the file.
        let _ = self.handle.flush().await;
        let kept_bytes = self.part.metadata().map_or(0, |m| m.len());
        CatalogError::DiskFilled {
            file: file.path.clone(),
            folder: self.folder().display().to_string(),
            kept_bytes,
            missing_bytes: file.bytes.saturating_sub(kept_bytes),
            free_bytes,
        }
    }

    async fn remember_version(
        &mut self,
        response: &Response,
        file: &HubFile,
    ) -> Result<(), CatalogError> {
        let etag = response
            .header("etag")
            .filter(|etag| !etag.starts_with("W/"))
            .map(str::to_owned);
        if etag != self.etag {
            self.etag = etag;
            let note = format!(
                "{}\n{}",
                identity(file),
                self.etag.as_deref().unwrap_or_default()
            );
            tokio::fs::write(&self.note, note)
                .await
                .map_err(disk("cannot write", &self.note))?;
        }
        Ok(())
    }

    /// Checks the content, makes it durable, and gives it its name.
    async fn finish(mut self, file: &HubFile, whole: &Path) -> Result<(), CatalogError> {
        let found: String = self
            .hash
            .finalize_reset()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        if let Some(wanted) = file.sha256.as_ref().filter(|wanted| **wanted != found) {
            self.restart().await?;
            return Err(CatalogError::WrongHash {
                file: file.path.clone(),
                wanted: wanted.clone(),
                found,
            });
        }
        let mut written = self.handle.flush().await;
        if written.is_ok() {
            written = self.handle.sync_all().await;
        }
        if let Err(error) = written {
            return Err(self.write_failed(file, error).await);
        }
        tokio::fs::rename(&self.part, whole)
            .await
            .map_err(disk("cannot name", whole))?;
        // The note is only for parts; one that stays does no harm.
        let _ = tokio::fs::remove_file(&self.note).await;
        if let Some(folder) = whole.parent() {
            let folder_handle = File::open(folder)
                .await
                .map_err(disk("cannot open", folder))?;
            folder_handle
                .sync_all()
                .await
                .map_err(disk("cannot write", folder))?;
        }
        Ok(())
    }
}

/// What a part is a part of: another size or hash is another file.
fn identity(file: &HubFile) -> String {
    format!("{} {}", file.bytes, file.sha256.as_deref().unwrap_or("-"))
}

/// First byte and whole length of a partial answer.
fn starts_at(response: &Response) -> Option<(u64, u64)> {
    let range = response.header("content-range")?.strip_prefix("bytes ")?;
    let (range, total) = range.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

fn trouble(error: FetchError) -> Trouble {
    let again = match &error {
        FetchError::Connect { .. }
        | FetchError::Silent { .. }
        | FetchError::Broken { .. }
        | FetchError::Resolve { .. } => true,
        FetchError::Status { status, .. } => {
            status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
        }
        _ => false,
    };
    if again {
        Trouble::Cut(error)
    } else {
        Trouble::Fatal(error.into())
    }
}

fn disk<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl Fn(std::io::Error) -> CatalogError + use<'a> {
    move |source| CatalogError::Disk {
        what,
        path: path.display().to_string(),
        source,
    }
}
