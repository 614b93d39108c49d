//! Bytes of a file to one canonical text with its pages and headings.
//!
//! One file per format; [`sniff`] decides which one reads a file, by content first and name second. Runs inside a
//! sandboxed child with a time and memory limit, because some readers meet hostile files with a panic. Pure: bytes in,
//! text out; no path is ever opened.

mod delimited;
mod email;
mod epub;
mod html;
mod json;
mod markdown;
mod office;
mod pdf;
mod plain;
mod sheet;
pub mod sniff;
mod writer;
mod xml;
mod zipped;

use crate::domain::document::Text;
use sniff::Format;

/// Limits of one extraction.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of text that a file may unfold to; a bomb is cut off here.
    pub text_bytes_max: usize,
    /// Bytes that one member of a zip container may unfold to.
    pub member_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // The largest real manual met so far (a 1,500-page PDF) holds 4 MB of text; office files hold far less.
        Self {
            text_bytes_max: 64 << 20,
            member_bytes_max: 256 << 20,
        }
    }
}

/// Why a file gave no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    #[error("the file is empty")]
    Empty,
    #[error("the file is encrypted; remove its password and add it again")]
    Encrypted,
    #[error("the {format} file is broken: {why}; open it in its own program and save it again")]
    Broken { format: &'static str, why: String },
    #[error(
        "the pages hold pictures only; install tesseract-ocr and poppler-utils to have them read, or add a file with a text layer"
    )]
    Scanned,
    #[error("the file unfolds to more than {limit_bytes} bytes of text; split it")]
    TooLarge { limit_bytes: u64 },
    #[error("files of type {found} are not read; save it as {instead}")]
    Unsupported {
        found: String,
        instead: &'static str,
    },
}

impl ExtractError {
    /// The word that clients branch on.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Encrypted => "encrypted",
            Self::Broken { .. } => "broken",
            Self::Scanned => "scanned",
            Self::TooLarge { .. } => "too_large",
            Self::Unsupported { .. } => "unsupported",
        }
    }
}

/// Reads `bytes`, whose file was called `name`.
///
/// A file whose extension promises something else than its content holds is read as what it is.
pub fn extract(name: &str, bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    if bytes.is_empty() {
        return Err(ExtractError::Empty);
    }
    let read = match sniff::format(name, bytes)? {
        Format::Plain => plain::read,
        Format::Markdown => markdown::read,
        Format::Html => html::read,
        Format::Json => json::read,
        Format::Delimited => delimited::read,
        Format::Email => email::read,
        Format::Pdf => pdf::read,
        Format::Word => office::word,
        Format::Slides => office::slides,
        Format::Sheet => sheet::read,
        Format::Epub => epub::read,
    };
    read(bytes, limits)
}
