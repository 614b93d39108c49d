//! Pages that are pictures: read by the machine's own tesseract, one boxed-in process a page.
//!
//! Nothing of it is linked or shipped. Where the programs are installed they are used; where they are not, the document
//! says which packages to install.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::extraction::{sandbox, trouble};
use super::{App, INCOMING, LibraryError};
use crate::config::program_folders;
use crate::domain::document::Text;
use crate::domain::library::Trouble;
use crate::process::{Limits, Output, Spec};
use crate::store::file_name;

/// Pages of one document: a day's work for tesseract.
const PAGES_MAX: u32 = 5000;

/// Dots an inch that pages are drawn with: what tesseract's own manual asks for.
const DOTS: &str = "300";

/// A page as a grey picture: an A2 sheet at [`DOTS`].
const PICTURE_BYTES_MAX: usize = 64 << 20;

/// A page's words.
const WORDS_BYTES_MAX: usize = 1 << 20;

/// Computing time of one page: a slow machine needs ten seconds for a dense one.
const PAGE_SECONDS_MAX: u64 = 120;

/// A process that does not compute for this long hangs.
const STALL: Duration = Duration::from_secs(30);

/// What pdftoppm ends with when a document has no such page.
const NO_SUCH_PAGE: i32 = 99;

/// A picture on disk while it is read.
struct Picture(PathBuf);

impl Drop for Picture {
    fn drop(&mut self) {
        // One that stays is swept at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl App {
    /// The text of a file whose pages are pictures, or of a picture. Dropping the future ends its processes.
    pub(super) async fn recognise(&self, file: &Path) -> Result<Text, Trouble> {
        let reader = program("tesseract", "tesseract-ocr")?;
        let mut text = Text::default();
        if !is_pdf(file) {
            text.content = self.words_of(&reader, file).await?;
        } else {
            let painter = program("pdftoppm", "poppler-utils")?;
            let name = file_name().map_err(|error| trouble("reader", &error.to_string()))?;
            let place = Picture(self.library_path(INCOMING).join(name));
            for page in 1..=PAGES_MAX {
                let Some(picture) = self.drawn(&painter, file, page).await? else {
                    break;
                };
                let written = tokio::fs::write(&place.0, picture).await;
                written.map_err(|source| {
                    LibraryError::disk("cannot write", &place.0, source).trouble()
                })?;
                let words = self.words_of(&reader, &place.0).await?;
                text.page_starts.push(text.content.len());
                text.content.push_str(words.trim());
                text.content.push_str("\n\n");
            }
        }
        if text.content.trim().is_empty() {
            let why = "no words were recognised in its pictures; scan it anew with more contrast, or add a file with a text layer";
            return Err(trouble("scanned", why));
        }
        Ok(text)
    }

    /// A page as a grey picture; `None` behind the last one.
    async fn drawn(
        &self,
        painter: &Path,
        file: &Path,
        page: u32,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let number = page.to_string();
        let spec = Spec::new(painter)
            .args(["-gray", "-r", DOTS, "-f", &number, "-l", &number])
            .arg(file);
        let output = self.boxed(spec, file, PICTURE_BYTES_MAX).await?;
        if output.status.success() && !output.stdout.is_empty() {
            return Ok(Some(output.stdout));
        }
        if page > 1 && output.status.code() == Some(NO_SUCH_PAGE) {
            return Ok(None);
        }
        let why = format!(
            "page {page} cannot be drawn ({}); open the file in its own program and save it again",
            last_line(&output.stderr)
        );
        Err(trouble("broken", &why))
    }

    async fn words_of(&self, reader: &Path, picture: &Path) -> Result<String, Trouble> {
        let languages = &self.inner.config.documents.ocr_languages;
        let spec = Spec::new(reader)
            .arg(picture)
            .args(["stdout", "-l", languages])
            // One page at a time on one core: whoever chats needs the others.
            .env("OMP_THREAD_LIMIT", "1");
        let output = self.boxed(spec, picture, WORDS_BYTES_MAX).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).replace('\u{c}', "\n"));
        }
        let why = format!(
            "tesseract cannot read its pictures in {languages} ({}); install the data of these languages, or set documents.ocr_languages",
            last_line(&output.stderr)
        );
        Err(trouble("broken", &why))
    }

    /// Runs a program that may read the system and one file, and write nothing.
    async fn boxed(
        &self,
        mut spec: Spec,
        file: &Path,
        bytes_max: usize,
    ) -> Result<Output, Trouble> {
        let name = spec.name();
        spec.limits = Limits {
            address_bytes: Some(self.inner.config.documents.reader_memory_bytes_max),
            cpu_s: Some(PAGE_SECONDS_MAX),
            file_bytes: Some(0),
            ..Limits::default()
        };
        spec.sandbox = Some(sandbox(file).reading("/etc/fonts"));
        let ran = self
            .inner
            .library
            .launcher
            .run(spec, bytes_max, STALL)
            .await;
        ran.map_err(|error| {
            let why = format!("{name} did not come to an end ({error}); split the file, or add one with a text layer");
            trouble("too_slow", &why)
        })
    }
}

/// A program of the system, or which package brings it.
fn program(name: &str, package: &str) -> Result<PathBuf, Trouble> {
    let places = program_folders()
        .into_iter()
        .map(|folder| folder.join(name));
    let found = places.into_iter().find(|place| place.is_file());
    found.ok_or_else(|| {
        let why = format!(
            "its pages are pictures without a text layer; install {package} to have them read, or add a file with a text layer"
        );
        trouble("scanned", &why)
    })
}

fn is_pdf(file: &Path) -> bool {
    use std::io::Read;
    let mut head = Vec::new();
    // The same place where the readers look for the mark; a file that has gone is told by who reads it.
    let read = std::fs::File::open(file).map(|file| file.take(1024).read_to_end(&mut head));
    matches!(read, Ok(Ok(_))) && head.windows(5).any(|part| part == b"%PDF-")
}

fn last_line(text: &str) -> &str {
    let lines = text.lines().rev();
    let mut lines = lines.filter(|line| !line.trim().is_empty());
    lines.next().unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_named_by_its_package() {
        let missing = program("no-such-program", "tesseract-ocr").unwrap_err();
        assert_eq!(missing.kind, "scanned");
        assert!(
            missing.message.contains("install tesseract-ocr"),
            "{}",
            missing.message
        );
    }

    #[test]
    fn a_pdf_is_known_by_its_mark() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        for (bytes, pdf) in [
            (&b"\n%PDF-1.4 ..."[..], true),
            (b"\x89PNG", false),
            (b"", false),
        ] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(is_pdf(&file), pdf);
        }
        assert!(!is_pdf(&folder.path().join("none")));
    }
}
