//! Compiled kernels on disk, filed under everything that decides them; measured choices beside them.
//!
//! An entry is written under another name and renamed, carries its checksum, and is set aside when it is damaged, computes
//! other numbers than its definition, or was being worked on when its process ended: it is then never tried again under
//! the same key. Knows bytes and names; nothing of devices.

use super::decoder::{Choices, Codes};
use super::driver::{Driver, GpuError, Identity};
use super::source::{Source, hex};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Begins every entry; the digit is the format's.
const MAGIC: &[u8; 8] = b"obkern1\n";
/// Bytes of all entries: a model has about 25 kernels of 10 to 100 kB, so this holds dozens of models and drivers.
pub const BYTES_MAX: u64 = 64 << 20;
/// What the entry being worked on is noted in.
const CURRENT: &str = "current";

/// What is filed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is filed under.
    pub key: String,
    /// Operation and parameters, or what the choices are for.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Why it was set aside, if it was.
    pub bad: Option<String>,
}

/// A folder of entries.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    bytes_max: u64,
}

impl Cache {
    /// Opens or makes the folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Cache> {
        fs::create_dir_all(folder)?;
        Ok(Cache {
            folder: folder.to_owned(),
            bytes_max,
        })
    }

    /// Holds the folder against other processes that compile, until dropped.
    ///
    /// # Errors
    /// The file system has no locks.
    pub fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.folder.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// What is filed under a key; a damaged entry is set aside and counts as absent.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path(key)).ok()?;
        match parse(&bytes) {
            Some((_, payload)) => Some(payload.to_vec()),
            None => {
                // It may be written anew: only its bytes were bad, not the kernel.
                let _ = fs::rename(self.path(key), self.folder.join(format!("{key}.damaged")));
                None
            }
        }
    }

    /// Files bytes under a key.
    ///
    /// # Errors
    /// The disk is full or refuses.
    pub fn put(&self, key: &str, name: &str, payload: &[u8]) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(Sha256::digest(payload));
        bytes.extend(payload);
        self.write(&format!("{key}.kernel"), &bytes)?;
        self.shrink(key)
    }

    /// Writes a file whole or not at all.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.folder.join(format!(".{name}.new"));
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.folder.join(name))
    }

    /// Sets a key aside for good.
    ///
    /// # Errors
    /// The disk is full or refuses.
    pub fn set_aside(&self, key: &str, name: &str, why: &str) -> io::Result<()> {
        self.write(&format!("{key}.bad"), format!("{name}\n{why}\n").as_bytes())?;
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Why a key was set aside.
    pub fn why_bad(&self, key: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join(format!("{key}.bad"))).ok()?;
        Some(text.lines().skip(1).collect::<Vec<_>>().join(" "))
    }

    /// Notes what is being worked on; see [`Cache::interrupted`].
    ///
    /// # Errors
    /// The disk is full or refuses.
    pub fn begin(&self, key: &str, name: &str) -> io::Result<()> {
        self.write(CURRENT, format!("{key}\n{name}\n").as_bytes())
    }

    /// The work is done.
    pub fn end(&self) {
        let _ = fs::remove_file(self.folder.join(CURRENT));
    }

    /// What a process was working on when it ended; that key is set aside. Call it with the lock held.
    pub fn interrupted(&self, why: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join(CURRENT)).ok()?;
        let (key, name) = text.split_once('\n')?;
        let name = name.trim();
        let _ = self.set_aside(key, name, why);
        self.end();
        Some(name.to_owned())
    }

    /// Everything that is filed.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self
            .files()
            .into_iter()
            .filter_map(|(path, bytes, _)| {
                let key = path.file_stem()?.to_str()?.to_owned();
                match path.extension()?.to_str()? {
                    "kernel" => {
                        let mut start = vec![0; 4096];
                        let read = File::open(&path).ok()?.read(&mut start).ok()?;
                        let name = name_of(&start[..read])?.0.to_owned();
                        let bad = None;
                        Some(Entry {
                            key,
                            name,
                            bytes,
                            bad,
                        })
                    }
                    "bad" => {
                        let text = fs::read_to_string(&path).ok()?;
                        let (name, why) = text.split_once('\n')?;
                        Some(Entry {
                            key,
                            name: name.to_owned(),
                            bytes,
                            bad: Some(why.trim().to_owned()),
                        })
                    }
                    _ => None,
                }
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name).then(a.key.cmp(&b.key)));
        entries
    }

    /// Forgets everything; returns how many files that were.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn clear(&self) -> io::Result<usize> {
        let files = self.files();
        for (path, _, _) in &files {
            fs::remove_file(path)?;
        }
        Ok(files.len())
    }

    /// Parameters that were measured on a device.
    pub fn choices(&self, identity: &Identity) -> Choices {
        let Some(bytes) = self.get(&choices_key(identity)) else {
            return Choices::new();
        };
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(shape, choice)| (shape.to_owned(), choice.to_owned()))
            .collect()
    }

    /// Keeps measured parameters.
    ///
    /// # Errors
    /// The disk is full or refuses.
    pub fn keep_choices(&self, identity: &Identity, choices: &Choices) -> io::Result<()> {
        let text: String = choices
            .iter()
            .map(|(shape, choice)| format!("{shape}\t{choice}\n"))
            .collect();
        let name = format!("choices for {}", identity.device);
        self.put(&choices_key(identity), &name, text.as_bytes())
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.kernel"))
    }

    fn files(&self) -> Vec<(PathBuf, u64, SystemTime)> {
        let Ok(folder) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        folder
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let data = entry.metadata().ok()?;
                let ours = ["kernel", "bad", "damaged", "new"];
                let path = entry.path();
                let extension = path.extension()?.to_str()?;
                (data.is_file() && ours.contains(&extension)).then(|| {
                    (
                        path.clone(),
                        data.len(),
                        data.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    )
                })
            })
            .collect()
    }

    /// Lets the oldest entries go until all fit, but not the one just written.
    fn shrink(&self, keep: &str) -> io::Result<()> {
        let mut files = self.files();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        files.sort_by_key(|(_, _, time)| *time);
        for (path, bytes, _) in files {
            if total <= self.bytes_max {
                break;
            }
            if path.file_stem().is_some_and(|stem| stem != keep) {
                fs::remove_file(&path)?;
                total -= bytes;
            }
        }
        Ok(())
    }
}

/// Choices belong to a device with its driver and memory, and to the texts they were measured with.
fn choices_key(identity: &Identity) -> String {
    let mut hash = Sha256::new();
    for part in [
        "choices",
        identity.backend,
        &identity.device,
        &identity.driver,
        &identity.compiler,
        &(identity.memory_bytes >> 30).to_string(),
        include_str!("ops/gemv.wgsl"),
        include_str!("ops/gemv.hip"),
        include_str!("ops/head.wgsl"),
        include_str!("ops/gemm.hip"),
        include_str!("ops/head.hip"),
        include_str!("ops/prepare.hip"),
    ] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize())
}

/// The name and the rest of an entry's bytes.
fn name_of(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

/// Name and payload of a whole entry.
fn parse(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (name, rest) = name_of(bytes)?;
    let (sum, payload) = rest.split_at_checked(32)?;
    (Sha256::digest(payload).as_slice() == sum).then_some((name, payload))
}

/// Code that was compiled and checked by [`super::first_run`], and none other.
#[derive(Debug)]
pub struct Checked<'a>(pub &'a Cache);

impl Codes for Checked<'_> {
    fn code(&mut self, driver: &dyn Driver, source: &Source) -> Result<Vec<u8>, GpuError> {
        let key = source.key(driver.identity());
        if let Some(code) = self.0.get(&key) {
            return Ok(code);
        }
        Err(GpuError::Unsupported(match self.0.why_bad(&key) {
            Some(why) => format!("kernel {} was set aside: {why}", source.name()),
            None => {
                "its kernels are not compiled yet; `onebit kernels compile` does it now".to_owned()
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &tempfile::TempDir) -> Cache {
        Cache::open(folder.path(), BYTES_MAX).unwrap()
    }

    #[test]
    fn entries_come_back_and_damaged_ones_are_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder);
        assert_eq!(cache.get("k"), None);
        cache.put("k", "gemv p2", b"code").unwrap();
        assert_eq!(cache.get("k").as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.entries()[0].name, "gemv p2");
        let path = folder.path().join("k.kernel");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(cache.get("k"), None);
        assert!(!path.exists() && folder.path().join("k.damaged").exists());
        // The kernel itself is not to blame: it may be written again.
        assert_eq!(cache.why_bad("k"), None);
        cache.put("k", "gemv p2", b"code").unwrap();
        assert_eq!(cache.get("k").as_deref(), Some(&b"code"[..]));
        // A file cut short at any byte is no entry.
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn what_a_process_died_on_is_never_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder);
        cache.begin("crash", "head 6 bits").unwrap();
        cache.put("crash", "head 6 bits", b"half").unwrap();
        assert_eq!(
            cache.interrupted("the driver crashed").as_deref(),
            Some("head 6 bits")
        );
        assert_eq!(cache.get("crash"), None);
        assert_eq!(
            cache.why_bad("crash").as_deref(),
            Some("the driver crashed")
        );
        assert_eq!(cache.interrupted("again"), None);
        assert_eq!(
            cache.entries()[0].bad.as_deref(),
            Some("the driver crashed")
        );
        assert_eq!(cache.clear().unwrap(), 1);
        assert_eq!(cache.why_bad("crash"), None);
    }

    #[test]
    fn the_oldest_leave_when_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 3000).unwrap();
        for (i, key) in ["a", "b", "c"].into_iter().enumerate() {
            cache.put(key, key, &[0; 1000]).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(i as u64);
            let file = File::options()
                .append(true)
                .open(folder.path().join(format!("{key}.kernel")));
            file.unwrap().set_modified(time).unwrap();
        }
        assert_eq!(cache.get("a"), None);
        assert!(cache.get("b").is_some() && cache.get("c").is_some());
    }
}
