//! The file itself: an ELF program, a squashfs behind it, and a trailer that says what the squashfs hashes to.

use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use backhand::{FilesystemReader, InnerNode};
use sha2::{Digest, Sha256};

use crate::Failed;

/// What the last bytes of the file are: this text, 64 hexadecimal digits, a line's end.
const TRAILER: &str = "onebit-appimage-payload-sha256:";
const TRAILER_BYTES: u64 = TRAILER.len() as u64 + 64 + 1;
/// Bytes hashed and copied at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// An opened AppImage whose parts were found; its payload is not checked yet.
pub(crate) struct Image {
    path: PathBuf,
    offset: u64,
    end: u64,
    digest: String,
}

impl Image {
    /// Finds the payload of the AppImage `path`.
    pub(crate) fn open(path: &Path) -> Result<Image, Failed> {
        let unread = |why: io::Error| format!("cannot read {}: {why}", path.display());
        let mut file = File::open(path).map_err(unread)?;
        let length = file.metadata().map_err(unread)?.len();
        let broken = || {
            format!(
                "{} is cut short or was changed; fetch it again",
                path.display()
            )
        };

        let mut header = [0; 64];
        file.read_exact(&mut header).map_err(|_| broken())?;
        let offset = elf_end(&header).ok_or_else(broken)?;
        let end = length
            .checked_sub(TRAILER_BYTES)
            .filter(|end| *end > offset)
            .ok_or_else(broken)?;
        let mut trailer = [0; TRAILER_BYTES as usize];
        file.seek(SeekFrom::Start(end))
            .and_then(|_| file.read_exact(&mut trailer))
            .map_err(unread)?;
        let digest = std::str::from_utf8(&trailer)
            .ok()
            .and_then(|text| text.strip_prefix(TRAILER)?.strip_suffix('\n'))
            .filter(|digest| {
                digest
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            })
            .ok_or_else(broken)?
            .to_owned();
        Ok(Image {
            path: path.to_owned(),
            offset,
            end,
            digest,
        })
    }

    /// Where the squashfs begins, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of the squashfs.
    pub(crate) fn bytes(&self) -> u64 {
        self.end - self.offset
    }

    /// What the squashfs should hash to, in hexadecimal digits.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// Compares the squashfs with its digest.
    pub(crate) fn verify(&self) -> Result<(), Failed> {
        let unread = |why: io::Error| format!("cannot read {}: {why}", self.path.display());
        let mut file = File::open(&self.path).map_err(unread)?;
        file.seek(SeekFrom::Start(self.offset)).map_err(unread)?;
        let mut payload = file.take(self.bytes());
        let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
        loop {
            match payload.read(&mut chunk).map_err(unread)? {
                0 => break,
                read => hash.update(&chunk[..read]),
            }
        }
        let found: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if found == self.digest {
            return Ok(());
        }
        Err(format!(
            "{} is damaged: its contents hash to {found}, not {}; fetch it again",
            self.path.display(),
            self.digest
        ))
    }

    /// Unpacks everything, or what lies at or below `only`, into the folder `into`; returns the number of files and
    /// links.
    pub(crate) fn extract(&self, into: &Path, only: Option<&Path>) -> Result<usize, Failed> {
        let squashfs = |why: backhand::BackhandError| {
            format!(
                "the contents of {} cannot be read: {why}",
                self.path.display()
            )
        };
        let unwritten =
            |path: &Path, why: io::Error| format!("cannot write {}: {why}", path.display());
        let file = File::open(&self.path)
            .map_err(|why| format!("cannot read {}: {why}", self.path.display()))?;
        let reader = FilesystemReader::from_reader_with_offset(
            BufReader::with_capacity(CHUNK_BYTES, file),
            self.offset,
        )
        .map_err(squashfs)?;
        let mut count = 0;
        fs::create_dir_all(into).map_err(|why| unwritten(into, why))?;
        for node in reader.files() {
            let inside = inside(&node.fullpath).ok_or_else(|| {
                format!("a name inside is not allowed: {}", node.fullpath.display())
            })?;
            if only.is_some_and(|only| !inside.starts_with(only)) {
                continue;
            }
            let path = into.join(&inside);
            let parent = path.parent().unwrap_or(into);
            match &node.inner {
                InnerNode::Dir(_) => {
                    fs::create_dir_all(&path).map_err(|why| unwritten(&path, why))?
                }
                InnerNode::Symlink(link) => {
                    fs::create_dir_all(parent)
                        .and_then(|()| symlink(&link.link, &path))
                        .map_err(|why| unwritten(&path, why))?;
                    count += 1;
                }
                InnerNode::File(contents) => {
                    let mode = Permissions::from_mode(u32::from(node.header.permissions) & 0o777);
                    fs::create_dir_all(parent)
                        .and_then(|()| copy(&mut reader.file(contents).reader(), &path))
                        .and_then(|()| fs::set_permissions(&path, mode))
                        .map_err(|why| unwritten(&path, why))?;
                    count += 1;
                }
                _ => {
                    return Err(format!(
                        "{} is neither file, folder nor link",
                        node.fullpath.display()
                    ));
                }
            }
        }
        Ok(count)
    }
}

fn copy(from: &mut impl Read, to: &Path) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(CHUNK_BYTES, File::create(to)?);
    io::copy(from, &mut out)?;
    out.flush()
}

/// A name of the file system as a path below a folder; `None` for one that leads out of it.
fn inside(name: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(part) => path.push(part),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// Where a 64-bit little-endian ELF file ends: behind its section headers, which linkers put last.
fn elf_end(header: &[u8; 64]) -> Option<u64> {
    let number = |at: usize, bytes: usize| {
        header[at..at + bytes]
            .iter()
            .rev()
            .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, entry, entries) = (number(40, 8), number(58, 2), number(60, 2));
    table.checked_add(entry * entries).filter(|_| table != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(table: u64, entry: u16, entries: u16) -> [u8; 64] {
        let mut header = [0; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[40..48].copy_from_slice(&table.to_le_bytes());
        header[58..60].copy_from_slice(&entry.to_le_bytes());
        header[60..62].copy_from_slice(&entries.to_le_bytes());
        header
    }

    #[test]
    fn an_elf_file_ends_behind_its_section_headers() {
        assert_eq!(elf_end(&header(1000, 64, 3)), Some(1192));
        assert_eq!(elf_end(&header(0, 64, 3)), None);
        assert_eq!(elf_end(&header(u64::MAX, 64, 3)), None);
        assert_eq!(elf_end(&[0; 64]), None);
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        assert_eq!(
            inside(Path::new("/usr/bin/onebit")),
            Some("usr/bin/onebit".into())
        );
        assert_eq!(inside(Path::new("/usr/../../etc")), None);
    }

    #[test]
    fn a_file_cut_short_is_told_from_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut bytes = header(64, 64, 0).to_vec();
        bytes.extend(b"payload");
        bytes.extend(format!("{TRAILER}{:064x}\n", 5).bytes());
        fs::write(&path, &bytes).unwrap();
        let image = Image::open(&path).unwrap();
        assert_eq!((image.offset(), image.bytes()), (64, 7));
        assert!(image.verify().unwrap_err().contains("damaged"));
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(Image::open(&path).is_err(), "{length} bytes");
        }
    }
}
