//! The owner's shared folders, as agents see them: listed, read and searched, never left and never written.
//!
//! A path begins with a shared folder's name. What it says is refused before the disk is touched: NUL, `..`, whole
//! paths, hidden names. What remains is opened by the kernel below the folder's own descriptor (`openat2`), which
//! follows no link anywhere on the way, so that nobody can swap a folder for a link between a check and its use:
//! there is no check on the path at all, and everything is read from the descriptor that was opened.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat,
};
use rustix::io::Errno;

use crate::domain::FoundFile;

/// Bytes of a file that one reading gives: a long page, and more than a small model can take in.
pub const READ_BYTES_MAX: usize = 64 << 10;

/// Entries of a folder that are listed.
pub const LISTED_MAX: usize = 200;

/// Entries that a search looks at, and how long: it must end on a disk of any size.
const SEARCHED_MAX: usize = 20_000;
const SEARCH_TIME: Duration = Duration::from_secs(5);

/// Folders inside folders that a search goes into.
const DEPTH_MAX: usize = 16;

/// Files above this are searched by name alone.
const SEARCHED_BYTES_MAX: u64 = 1 << 20;

/// Matches that a search gives.
pub const MATCHES_MAX: usize = 20;

/// Characters of a line that a match shows.
const LINE_CHARS: usize = 160;

/// Bytes of a path; the kernel takes no more either.
const PATH_BYTES_MAX: usize = 4096;

/// Why a path is refused or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error(
        "no folder is shared with agents; the owner names them under [agents], as roots = [\"/home/me/Documents\"]"
    )]
    NothingShared,
    #[error("the path holds a NUL byte")]
    Nul,
    #[error("the path is too long")]
    TooLong,
    #[error(
        "`{0}` leads out of the shared folders; give a path that begins with one of their names, without .."
    )]
    Outside(String),
    #[error("`{0}` is hidden, and hidden files are not shared")]
    Hidden(String),
    #[error("`{0}` is a link or lies behind one, and links are not followed")]
    Link(String),
    #[error("there is no shared folder `{name}`; there are {}", known.join(", "))]
    NoRoot { name: String, known: Vec<String> },
    #[error("there is no `{0}`")]
    Missing(String),
    #[error("`{0}` is a folder; list it")]
    IsFolder(String),
    #[error("`{0}` is a file; read it")]
    IsFile(String),
    #[error("`{0}` is neither a file nor a folder")]
    Special(String),
    #[error("`{0}` is no text; add it to the library, which reads documents and pictures")]
    NoText(String),
    #[error("`{path}` cannot be read: {why}")]
    Unreadable { path: String, why: String },
}

impl FileError {
    /// The rule that refused it, for those who watch; `None` where it was the disk.
    pub fn rule(&self) -> Option<&'static str> {
        match self {
            FileError::Nul => Some("nul_byte"),
            FileError::TooLong => Some("path_too_long"),
            FileError::Outside(_) | FileError::NoRoot { .. } | FileError::NothingShared => {
                Some("path_outside")
            }
            FileError::Hidden(_) => Some("hidden"),
            FileError::Link(_) => Some("symlink"),
            FileError::Special(_) => Some("not_regular"),
            _ => None,
        }
    }
}

/// The folders that are shared, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    named: Vec<(String, PathBuf)>,
}

/// A file's text, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The lines.
    pub text: String,
    /// Number of its first line, from 1.
    pub from: usize,
    /// Number of the line to go on with; `None` at the file's end.
    pub next: Option<usize>,
}

/// A place where a search's words stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The file.
    pub file: FoundFile,
    /// The line and its number, where the words are in the file and not in its name.
    pub line: Option<(usize, String)>,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matches {
    /// The first of them.
    pub found: Vec<Match>,
    /// Whether there was more than could be looked at.
    pub cut: bool,
}

/// A path that breaks no rule: a root and the names below it.
struct Place<'a> {
    name: &'a str,
    root: &'a Path,
    below: Vec<&'a str>,
}

impl Place<'_> {
    fn shown(&self) -> String {
        std::iter::once(self.name)
            .chain(self.below.iter().copied())
            .collect::<Vec<_>>()
            .join("/")
    }
}

impl Roots {
    /// Shares folders, each under its last name; a second one of a name gets a number.
    pub fn new(folders: &[PathBuf]) -> Roots {
        let mut named: Vec<(String, PathBuf)> = Vec::new();
        for folder in folders {
            let last = folder
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let plain = last
                .map(|name| name.trim_start_matches('.').to_owned())
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "root".to_owned());
            let taken = |name: &str| named.iter().any(|(known, _)| known == name);
            let name = (2..)
                .map(|number| format!("{plain}-{number}"))
                .find(|name| !taken(name))
                .filter(|_| taken(&plain))
                .unwrap_or(plain);
            named.push((name, folder.clone()));
        }
        Roots { named }
    }

    /// Names of the shared folders.
    pub fn names(&self) -> Vec<String> {
        self.named.iter().map(|(name, _)| name.clone()).collect()
    }

    /// What a path means, decided by its letters alone.
    fn place<'a>(&'a self, path: &'a str) -> Result<Place<'a>, FileError> {
        if path.contains('\0') {
            return Err(FileError::Nul);
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(FileError::TooLong);
        }
        if path.starts_with('/') || path.starts_with('~') || path.contains('\\') {
            return Err(FileError::Outside(path.to_owned()));
        }
        let parts: Vec<&str> = path
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        if parts.contains(&"..") {
            return Err(FileError::Outside(path.to_owned()));
        }
        if parts.iter().any(|part| part.starts_with('.')) {
            return Err(FileError::Hidden(path.to_owned()));
        }
        if self.named.is_empty() {
            return Err(FileError::NothingShared);
        }
        let known = |name: &str| self.named.iter().find(|(known, _)| known == name);
        match parts.split_first() {
            Some((first, below)) if known(first).is_some() => {
                // Found a line above.
                let (name, root) = known(first).ok_or(FileError::NothingShared)?;
                Ok(Place {
                    name,
                    root,
                    below: below.to_vec(),
                })
            }
            // Where one folder is shared, a path may leave its name out.
            _ if self.named.len() == 1 => {
                let (name, root) = &self.named[0];
                Ok(Place {
                    name,
                    root,
                    below: parts,
                })
            }
            Some((first, _)) => Err(FileError::NoRoot {
                name: (*first).to_owned(),
                known: self.names(),
            }),
            None => Err(FileError::NoRoot {
                name: String::new(),
                known: self.names(),
            }),
        }
    }

    /// Lists a folder: folders first, by name; an empty path lists the shared folders themselves. Gives the first
    /// entries and how many there are.
    ///
    /// # Errors
    /// The path breaks a rule, or is no folder.
    pub fn list(&self, path: &str) -> Result<(Vec<FoundFile>, usize), FileError> {
        let top = path.trim().trim_matches('/');
        if (top.is_empty() || top == ".") && self.named.len() > 1 {
            let folder = |(name, _): &(String, PathBuf)| FoundFile {
                name: name.clone(),
                path: name.clone(),
                folder: true,
                bytes: 0,
                modified_at: None,
            };
            return Ok((self.named.iter().map(folder).collect(), self.named.len()));
        }
        let place = self.place(path)?;
        let folder = open(&place, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut all = entries(&folder, &place.shown())?;
        all.sort_by(|a, b| (!a.folder, &a.name).cmp(&(!b.folder, &b.name)));
        let total = all.len();
        all.truncate(LISTED_MAX);
        Ok((all, total))
    }

    /// Reads lines of a text file from number `from` on, as many as fit into `bytes_max`.
    ///
    /// # Errors
    /// The path breaks a rule, or is no text file.
    pub fn read(&self, path: &str, from: usize, bytes_max: usize) -> Result<Reading, FileError> {
        let place = self.place(path)?;
        let shown = place.shown();
        let (file, _) = self.regular(&place)?;
        let mut bytes = Vec::new();
        // One more than is searched, so that a longer file is seen as such.
        file.take(SEARCHED_BYTES_MAX * 16)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&shown, &error))?;
        let text = text_of(&bytes).ok_or(FileError::NoText(shown))?;
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        let mut part = String::new();
        let mut next = None;
        let from = from.max(1);
        for (index, line) in text.lines().enumerate().skip(from - 1) {
            if part.len() + line.len() > bytes_max {
                if part.is_empty() {
                    let cut = line
                        .char_indices()
                        .map(|(at, _)| at)
                        .take_while(|at| *at <= bytes_max)
                        .last();
                    part.push_str(&line[..cut.unwrap_or(0)]);
                    part.push_str("…\n");
                    next = Some(index + 2);
                } else {
                    next = Some(index + 1);
                }
                break;
            }
            part.push_str(line);
            part.push('\n');
        }
        Ok(Reading {
            text: part,
            from,
            next,
        })
    }

    /// The bytes of a file, for those who hear or see it.
    ///
    /// # Errors
    /// The path breaks a rule, is no regular file, or is larger than `bytes_max`.
    pub fn bytes(&self, path: &str, bytes_max: u64) -> Result<(String, Vec<u8>), FileError> {
        let place = self.place(path)?;
        let shown = place.shown();
        let (file, _) = self.regular(&place)?;
        let mut bytes = Vec::new();
        file.take(bytes_max + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&shown, &error))?;
        if bytes.len() as u64 > bytes_max {
            return Err(FileError::Unreadable {
                path: shown,
                why: format!("it is larger than {bytes_max} bytes"),
            });
        }
        let name = place.below.last().copied().unwrap_or_default().to_owned();
        Ok((name, bytes))
    }

    fn regular(&self, place: &Place<'_>) -> Result<(File, u64), FileError> {
        // Without waiting: a pipe without a writer would never open.
        let opened = open(place, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let stat = fstat(&opened).map_err(|error| blame(&place.shown(), error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                Ok((File::from(opened), u64::try_from(stat.st_size).unwrap_or(0)))
            }
            FileType::Directory => Err(FileError::IsFolder(place.shown())),
            _ => Err(FileError::Special(place.shown())),
        }
    }

    /// Finds files below a folder whose name, or a line of which, holds all the words; an empty path searches all
    /// shared folders.
    ///
    /// # Errors
    /// The path breaks a rule, or is no folder.
    pub fn search(&self, words: &str, path: &str) -> Result<Matches, FileError> {
        let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
        let mut matches = Matches::default();
        if words.is_empty() {
            return Ok(matches);
        }
        let top = path.trim().trim_matches('/');
        let starts: Vec<&str> = if top.is_empty() || top == "." {
            if self.named.is_empty() {
                return Err(FileError::NothingShared);
            }
            self.named.iter().map(|(name, _)| name.as_str()).collect()
        } else {
            vec![path]
        };
        let mut left = SEARCHED_MAX;
        let end = Instant::now() + SEARCH_TIME;
        for start in starts {
            let place = self.place(start)?;
            let folder = open(&place, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let mut open_folders = vec![(folder, place.shown(), 0)];
            while let Some((folder, shown, depth)) = open_folders.pop() {
                let Ok(mut inside) = entries(&folder, &shown) else {
                    continue; // a folder that may not be read holds nothing for us
                };
                inside.sort_by(|a, b| a.name.cmp(&b.name));
                for file in inside {
                    if left == 0 || matches.found.len() >= MATCHES_MAX || Instant::now() > end {
                        matches.cut = true;
                        return Ok(matches);
                    }
                    left -= 1;
                    if file.folder {
                        if depth < DEPTH_MAX
                            && let Ok(below) =
                                beneath(&folder, &file.name, OFlags::RDONLY | OFlags::DIRECTORY)
                        {
                            open_folders.push((below, file.path.clone(), depth + 1));
                        }
                        continue;
                    }
                    let name = file.name.to_lowercase();
                    if words.iter().all(|word| name.contains(word)) {
                        matches.found.push(Match { file, line: None });
                    } else if file.bytes <= SEARCHED_BYTES_MAX
                        && let Some(line) = line_in(&folder, &file.name, &words)
                    {
                        matches.found.push(Match {
                            file,
                            line: Some(line),
                        });
                    }
                }
            }
        }
        Ok(matches)
    }
}

/// The first line of a file that holds all the words.
fn line_in(folder: &OwnedFd, name: &str, words: &[String]) -> Option<(usize, String)> {
    let file = beneath(folder, name, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    let stat = fstat(&file).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut bytes = Vec::new();
    File::from(file)
        .take(SEARCHED_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    let text = text_of(&bytes)?;
    let hit = |line: &str| {
        let line = line.to_lowercase();
        words.iter().all(|word| line.contains(word))
    };
    let (index, line) = text.lines().enumerate().find(|(_, line)| hit(line))?;
    Some((index + 1, line.trim().chars().take(LINE_CHARS).collect()))
}

/// Text, unless the bytes are something else.
fn text_of(bytes: &[u8]) -> Option<String> {
    if bytes.iter().take(8192).any(|byte| *byte == 0) {
        return None;
    }
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// What lies in an open folder and may be shown.
fn entries(folder: &OwnedFd, shown: &str) -> Result<Vec<FoundFile>, FileError> {
    let mut all = Vec::new();
    for entry in Dir::read_from(folder).map_err(|error| blame(shown, error))? {
        let entry = entry.map_err(|error| blame(shown, error))?;
        let Ok(name) = entry.file_name().to_str() else {
            continue; // a name that is no text can be asked for by nobody
        };
        if name.starts_with('.') {
            continue;
        }
        let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue; // gone since
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_folder = kind == FileType::Directory;
        if !is_folder && kind != FileType::RegularFile {
            continue;
        }
        all.push(FoundFile {
            name: name.to_owned(),
            path: format!("{shown}/{name}"),
            folder: is_folder,
            bytes: if is_folder {
                0
            } else {
                u64::try_from(stat.st_size).unwrap_or(0)
            },
            modified_at: Some(stat.st_mtime * 1000),
        });
    }
    Ok(all)
}

/// Opens a place below its root, following no link.
fn open(place: &Place<'_>, flags: OFlags) -> Result<OwnedFd, FileError> {
    let shown = place.shown();
    // The owner's own folder may be a link, which the owner has set.
    let root = rustix::fs::open(
        place.root,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| blame(place.name, error))?;
    let below = if place.below.is_empty() {
        ".".to_owned()
    } else {
        place.below.join("/")
    };
    beneath(&root, &below, flags).map_err(|error| match error {
        Errno::NOTDIR if flags.contains(OFlags::DIRECTORY) => FileError::IsFile(shown.clone()),
        error => blame(&shown, error),
    })
}

/// Opens what lies below an open folder, without following any link on the way.
fn beneath(folder: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(folder, path, flags, Mode::empty(), rules) {
        // Kernels before 5.6, and sandboxes that know no newer calls.
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(folder, path, flags),
        opened => opened,
    }
}

/// The same, one name after the other: none is `..`, and each folder must be one itself.
fn step_by_step(folder: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let names: Vec<&str> = path.split('/').collect();
    let mut at: Option<OwnedFd> = None;
    for (index, name) in names.iter().enumerate() {
        let last = index + 1 == names.len();
        let wanted = if last {
            flags
        } else {
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
        };
        let from = at.as_ref().unwrap_or(folder);
        let next = openat(from, *name, wanted, Mode::empty()).map_err(|error| {
            // A link where a folder is wanted is "no folder" to this older call.
            match statat(from, *name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    Errno::LOOP
                }
                _ => error,
            }
        })?;
        at = Some(next);
    }
    at.ok_or(Errno::NOENT)
}

fn unreadable(shown: &str, error: &std::io::Error) -> FileError {
    FileError::Unreadable {
        path: shown.to_owned(),
        why: error.to_string(),
    }
}

fn blame(shown: &str, error: Errno) -> FileError {
    let shown = shown.to_owned();
    match error {
        Errno::LOOP => FileError::Link(shown),
        Errno::XDEV => FileError::Outside(shown),
        Errno::NOENT | Errno::NOTDIR => FileError::Missing(shown),
        Errno::NAMETOOLONG => FileError::TooLong,
        // What opening a socket or a device without its driver gives.
        Errno::NXIO => FileError::Special(shown),
        error => FileError::Unreadable {
            path: shown,
            why: std::io::Error::from(error).to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
