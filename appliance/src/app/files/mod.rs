//! Files of this machine below the shared folders (`documents.roots`): listed, searched, looked into.
//!
//! A path is judged by its words before the disk is touched: whole, below a shared folder, no hidden name on the way, not
//! our own data. Then it is opened from that folder's descriptor with a rule of the kernel that no link is followed and
//! nothing above is reached (`openat2`), so that what was judged is what is opened, whoever renames things meanwhile.

mod look;

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, statat,
};
use rustix::io::Errno;

use super::{App, AppError};
use crate::error::{Failing, Kind};

pub use look::{Preview, PreviewText};

/// Endings of files that the library reads, which are the ones that are listed.
pub const READABLE: &[&str] = &[
    "pdf", "txt", "md", "mdx", "markdown", "rst", "csv", "tsv", "json", "xlsx", "docx", "pptx",
    "epub", "eml", "html", "htm", "xml", "svg", "yaml", "yml", "py", "js", "ts", "java", "c",
    "cpp", "h", "rs", "go", "rb", "sh", "bat", "ps1", "log", "cfg", "ini", "toml",
];

/// Entries of one listing; a picker shows fewer.
const ENTRIES_MAX: usize = 5000;

/// How deep a search goes below a shared folder, how many entries it looks at, and for how long.
const DEPTH_MAX: usize = 6;
const LOOKED_AT_MAX: usize = 200_000;
const SEARCH_MAX: Duration = Duration::from_secs(5);

/// Folders that hold no documents of people.
const SKIPPED: [&str; 4] = ["node_modules", "target", "lost+found", "AppData"];

/// Why a file of this machine is not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// The path cannot be one.
    #[error("invalid path: {0}")]
    Bad(&'static str),
    /// It lies elsewhere.
    #[error("{} is outside of the shared folders; the owner can add its folder to documents.roots", .0.display())]
    Outside(PathBuf),
    /// It is hidden, or below something that is.
    #[error("{} is hidden, and hidden files are not shown", .0.display())]
    Hidden(PathBuf),
    /// It is a link, or there is one on the way.
    #[error("{} is a symbolic link or lies behind one; name what it leads to", .0.display())]
    Link(PathBuf),
    /// Nothing is there.
    #[error("there is no {}", .0.display())]
    Missing(PathBuf),
    /// It is something else than was asked for.
    #[error("{} is no {}", .0.display(), .1)]
    Other(PathBuf, &'static str),
    /// The system refuses.
    #[error("{} cannot be read: {}", .0.display(), .1)]
    Denied(PathBuf, String),
}

impl Failing for FilesError {
    fn kind(&self) -> Kind {
        match self {
            FilesError::Bad(_) | FilesError::Link(_) | FilesError::Other(..) => Kind::BadRequest,
            FilesError::Outside(_) | FilesError::Hidden(_) | FilesError::Denied(..) => {
                Kind::Forbidden
            }
            FilesError::Missing(_) => Kind::NotFound,
        }
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            FilesError::Bad(_) => "bad_path",
            FilesError::Outside(_) => "outside_roots",
            FilesError::Hidden(_) => "hidden_file",
            FilesError::Link(_) => "link",
            FilesError::Missing(_) => "file_not_found",
            FilesError::Other(..) => "wrong_kind_of_file",
            FilesError::Denied(..) => "unreadable",
        })
    }
}

/// A file or folder of a listing or a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// The whole path.
    pub path: PathBuf,
    /// Whether it is a folder.
    pub folder: bool,
    /// Size of a file.
    pub bytes: u64,
    /// When it was last written, unix milliseconds.
    pub modified_ms: i64,
}

impl FileEntry {
    /// What stands behind the last dot of the name, in small letters.
    pub fn extension(&self) -> Option<String> {
        extension(&self.path)
    }
}

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Where it is.
    pub path: PathBuf,
    /// The folder above, where that is shared too.
    pub parent: Option<PathBuf>,
    /// What is in it, folders first, then by name.
    pub entries: Vec<FileEntry>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFiles {
    /// The files, those written last first.
    pub files: Vec<FileEntry>,
    /// Where it looked.
    pub folders: Vec<PathBuf>,
}

/// A place below a shared folder.
struct Place {
    root: PathBuf,
    rest: PathBuf,
}

impl Place {
    fn whole(&self) -> PathBuf {
        match self.rest.as_os_str().is_empty() {
            true => self.root.clone(),
            false => self.root.join(&self.rest),
        }
    }

    /// Opens it from its shared folder, following nothing.
    fn open(&self) -> Result<(OwnedFd, Stat), FilesError> {
        let whole = self.whole();
        let base = File::options()
            .read(true)
            .open(&self.root)
            .map_err(|error| refused(&whole, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        let rest = match self.rest.as_os_str().is_empty() {
            true => Path::new("."),
            false => &self.rest,
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let rule = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(&base, rest, flags, Mode::empty(), rule)
            .map_err(|errno| refused(&whole, errno))?;
        let stat = fstat(&opened).map_err(|errno| refused(&whole, errno))?;
        Ok((opened, stat))
    }

    fn entry(&self, stat: &Stat) -> FileEntry {
        let path = self.whole();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        entry(name, path, stat)
    }
}

impl App {
    /// The shared folders.
    pub fn shared_roots(&self) -> &[PathBuf] {
        &self.config().documents.roots
    }

    /// Lists a shared folder, or the first one where none is named.
    ///
    /// # Errors
    /// It may not be shown, is not there, or is no folder.
    pub async fn list_folder(&self, path: Option<&str>) -> Result<Listing, AppError> {
        let place = match path.filter(|path| !path.is_empty()) {
            Some(path) => self.place(path)?,
            None => Place {
                root: self
                    .shared_roots()
                    .first()
                    .cloned()
                    .ok_or(FilesError::Bad("no folder is shared; set documents.roots"))?,
                rest: PathBuf::new(),
            },
        };
        let data = self.config().data_dir.clone();
        blocking(move || list(&place, &data)).await
    }

    /// Finds files by a part of their names, in all shared folders.
    ///
    /// # Errors
    /// Nothing is looked for.
    pub async fn find_files(
        &self,
        query: &str,
        extensions: Option<Vec<String>>,
        most: usize,
    ) -> Result<FoundFiles, AppError> {
        if query.contains('\0') {
            return Err(FilesError::Bad("the query holds a NUL byte").into());
        }
        let wanted = query.trim().to_lowercase();
        if wanted.is_empty() {
            return Err(FilesError::Bad("search for something").into());
        }
        let (roots, data) = (self.shared_roots().to_vec(), self.config().data_dir.clone());
        blocking(move || Ok(find(roots, &data, &wanted, extensions.as_deref(), most))).await
    }

    /// Looks into a file.
    ///
    /// # Errors
    /// It may not be shown, is not there, or is no file.
    pub async fn preview_file(&self, path: &str, lines: usize) -> Result<Preview, AppError> {
        let place = self.place(path)?;
        blocking(move || look::preview(&place, lines)).await
    }

    /// Opens a file to be read.
    ///
    /// # Errors
    /// It may not be shown, is not there, or is no file.
    pub async fn open_shared(&self, path: &str) -> Result<(File, FileEntry), AppError> {
        let place = self.place(path)?;
        blocking(move || {
            let (opened, stat) = regular(&place)?;
            Ok((opened, place.entry(&stat)))
        })
        .await
    }

    /// Tells what is at a path.
    ///
    /// # Errors
    /// It may not be shown, or is not there.
    pub async fn shared_entry(&self, path: &str) -> Result<FileEntry, AppError> {
        let place = self.place(path)?;
        blocking(move || Ok(place.entry(&place.open()?.1))).await
    }

    /// Judges a path by its words alone.
    fn place(&self, path: &str) -> Result<Place, FilesError> {
        place(path, self.shared_roots(), &self.config().data_dir)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, AppError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|panic| AppError::Measure(panic.to_string()))??)
}

fn place(path: &str, roots: &[PathBuf], data: &Path) -> Result<Place, FilesError> {
    if path.contains('\0') {
        return Err(FilesError::Bad("it holds a NUL byte"));
    }
    if path.is_empty() {
        return Err(FilesError::Bad("it is empty"));
    }
    let mut plain = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    let root = roots.iter().find(|root| plain.starts_with(root));
    let Some(root) = root.filter(|_| plain.is_absolute() && !plain.starts_with(data)) else {
        return Err(FilesError::Outside(plain));
    };
    let rest = plain.strip_prefix(root).unwrap_or(&plain).to_owned();
    if rest.iter().any(is_hidden) {
        return Err(FilesError::Hidden(plain));
    }
    Ok(Place {
        root: root.clone(),
        rest,
    })
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

fn refused(path: &Path, errno: Errno) -> FilesError {
    let path = path.to_owned();
    match errno {
        Errno::LOOP => FilesError::Link(path),
        Errno::NOENT | Errno::NOTDIR => FilesError::Missing(path),
        Errno::XDEV => FilesError::Outside(path),
        errno => FilesError::Denied(path, errno.to_string()),
    }
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_string_lossy().to_lowercase())
}

fn entry(name: String, path: PathBuf, stat: &Stat) -> FileEntry {
    let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    FileEntry {
        name,
        path,
        folder,
        bytes: match folder {
            true => 0,
            false => u64::try_from(stat.st_size).unwrap_or(0),
        },
        modified_ms: stat.st_mtime.saturating_mul(1000),
    }
}

/// What is in an open folder: names that are not hidden, links left out, in no order.
fn inside(folder: &OwnedFd, path: &Path) -> Result<Vec<FileEntry>, FilesError> {
    let failed = |errno| refused(path, errno);
    let mut entries = Vec::new();
    for item in Dir::read_from(folder).map_err(failed)? {
        let item = item.map_err(failed)?;
        let name = OsStr::from_bytes(item.file_name().to_bytes());
        if is_hidden(name) || entries.len() == ENTRIES_MAX {
            continue;
        }
        let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue; // gone, or not ours to see
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if matches!(kind, FileType::Directory | FileType::RegularFile) {
            let shown = name.to_string_lossy().into_owned();
            entries.push(entry(shown, path.join(name), &stat));
        }
    }
    Ok(entries)
}

fn list(place: &Place, data: &Path) -> Result<Listing, FilesError> {
    let path = place.whole();
    let (folder, stat) = place.open()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(FilesError::Other(path, "folder"));
    }
    let mut entries = inside(&folder, &path)?;
    let readable = |one: &FileEntry| {
        one.folder
            || one
                .extension()
                .is_some_and(|end| READABLE.contains(&end.as_str()))
    };
    entries.retain(|one| readable(one) && !one.path.starts_with(data));
    entries.sort_by_key(|one| (!one.folder, one.name.to_lowercase()));
    Ok(Listing {
        parent: (!place.rest.as_os_str().is_empty())
            .then(|| path.parent().map(Path::to_owned))
            .flatten(),
        path,
        entries,
    })
}

fn find(
    roots: Vec<PathBuf>,
    data: &Path,
    wanted: &str,
    extensions: Option<&[String]>,
    most: usize,
) -> FoundFiles {
    let begun = Instant::now();
    let mut found = FoundFiles {
        files: Vec::new(),
        folders: roots.clone(),
    };
    let mut looked_at = 0;
    // The shallow ones first: what people keep lies near the top.
    let mut waiting: std::collections::VecDeque<(Place, usize)> = roots
        .into_iter()
        .map(|root| {
            let rest = PathBuf::new();
            (Place { root, rest }, 0)
        })
        .collect();
    while let Some((place, depth)) = waiting.pop_front() {
        if looked_at > LOOKED_AT_MAX || begun.elapsed() > SEARCH_MAX {
            break;
        }
        let path = place.whole();
        // One that cannot be opened hides nothing that could be shown.
        let Ok(entries) = place.open().and_then(|(folder, _)| inside(&folder, &path)) else {
            continue;
        };
        looked_at += entries.len();
        for one in entries {
            if one.path.starts_with(data) {
                continue;
            }
            if one.folder {
                let skipped = SKIPPED.contains(&one.name.as_str())
                    || one.name.starts_with(['$'])
                    || one.name.starts_with("__");
                if depth < DEPTH_MAX && !skipped {
                    let below = Place {
                        root: place.root.clone(),
                        rest: place.rest.join(&one.name),
                    };
                    waiting.push_back((below, depth + 1));
                }
                continue;
            }
            let fits =
                extensions.is_none_or(|all| one.extension().is_some_and(|end| all.contains(&end)));
            if fits && one.name.to_lowercase().contains(wanted) {
                found.files.push(one);
            }
        }
        if found.files.len() >= most {
            break;
        }
    }
    found
        .files
        .sort_by_key(|one| std::cmp::Reverse(one.modified_ms));
    found.files.truncate(most);
    found
}

fn regular(place: &Place) -> Result<(File, Stat), FilesError> {
    let (opened, stat) = place.open()?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((File::from(opened), stat)),
        _ => Err(FilesError::Other(place.whole(), "file")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    pub(super) fn shared() -> (tempfile::TempDir, PathBuf, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap().join("home");
        std::fs::create_dir_all(root.join("docs/.git")).unwrap();
        std::fs::create_dir_all(root.join("data")).unwrap();
        std::fs::write(root.join("docs/report.csv"), "a,b\n1,2\n3,4\n").unwrap();
        std::fs::write(root.join("docs/photo.png"), b"\x89PNG\0").unwrap();
        std::fs::write(root.join("docs/.secret.txt"), "s").unwrap();
        std::fs::write(folder.path().join("outside.txt"), "o").unwrap();
        std::os::unix::fs::symlink(folder.path().join("outside.txt"), root.join("link.txt"))
            .unwrap();
        std::os::unix::fs::symlink(folder.path(), root.join("way")).unwrap();
        let roots = vec![root.clone()];
        (folder, root, roots)
    }

    fn judged(path: &str, root: &Path, roots: &[PathBuf]) -> Result<(), FilesError> {
        place(path, roots, &root.join("data"))?.open().map(drop)
    }

    #[test]
    fn words_are_judged_before_the_disk_is_touched() {
        let (_folder, root, roots) = shared();
        let below = |rest: &str| root.join(rest).display().to_string();
        for (path, kind) in [
            (below("docs/a\0b"), Kind::BadRequest),
            ("/etc/passwd".into(), Kind::Forbidden),
            ("docs/report.csv".into(), Kind::Forbidden),
            (below("../outside.txt"), Kind::Forbidden),
            (below("docs/../../../../etc/passwd"), Kind::Forbidden),
            (below("docs/.secret.txt"), Kind::Forbidden),
            (below("docs/.git"), Kind::Forbidden),
            (below("data/onebit.db"), Kind::Forbidden),
            (below("link.txt"), Kind::BadRequest),
            (below("way/outside.txt"), Kind::BadRequest),
            (below("docs/none.txt"), Kind::NotFound),
        ] {
            let error = judged(&path, &root, &roots).unwrap_err();
            assert_eq!(error.kind(), kind, "{path}: {error}");
        }
        judged(&below("docs/../docs/report.csv"), &root, &roots).unwrap();
    }

    /// Somebody swaps a folder for a link while it is opened: the link is never followed.
    #[test]
    fn a_race_is_lost_by_the_racer() {
        let (folder, root, roots) = shared();
        let (real, spare) = (root.join("docs"), root.join("spare"));
        std::fs::write(folder.path().join("report.csv"), "stolen").unwrap();
        let target = place(
            &real.join("report.csv").display().to_string(),
            &roots,
            &root.join("data"),
        )
        .unwrap();
        let (stop, elsewhere) = (AtomicBool::new(false), folder.path().to_owned());
        let (mut read, mut stolen) = (0, false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = std::fs::rename(&real, &spare);
                    let _ = std::os::unix::fs::symlink(&elsewhere, &real);
                    let _ = std::fs::remove_file(&real);
                    let _ = std::fs::rename(&spare, &real);
                }
            });
            for _ in 0..2000 {
                if let Ok((mut file, _)) = regular(&target) {
                    let mut text = String::new();
                    stolen |= file.read_to_string(&mut text).is_ok() && text == "stolen";
                    read += 1;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(!stolen, "a link was followed");
        assert!(read > 0, "it was never there");
    }

    #[test]
    fn listings_and_searches_leave_out_what_is_not_for_them() {
        let (_folder, root, roots) = shared();
        let data = root.join("data");
        let top = list(
            &place(&root.display().to_string(), &roots, &data).unwrap(),
            &data,
        )
        .unwrap();
        let names: Vec<&str> = top.entries.iter().map(|one| one.name.as_str()).collect();
        assert_eq!((names, top.parent), (vec!["docs"], None));
        let docs = root.join("docs").display().to_string();
        let docs = list(&place(&docs, &roots, &data).unwrap(), &data).unwrap();
        assert_eq!(docs.entries.len(), 1);
        assert_eq!(docs.parent, Some(root.clone()));
        assert_eq!(find(roots.clone(), &data, "t", None, 9).files.len(), 2);
        let only = ["csv".to_owned()];
        assert_eq!(
            find(roots.clone(), &data, "t", Some(&only), 9).files.len(),
            1
        );
        assert!(find(roots, &data, "secret", None, 9).files.is_empty());
    }
}
