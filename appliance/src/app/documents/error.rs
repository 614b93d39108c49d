//! What the library refuses, and why.

use std::path::{Path, PathBuf};

use crate::domain::library::Trouble;
use crate::engines::encoder::EncoderError;
use crate::error::{Failing, Kind};
use crate::fetch::FetchError;

/// Why the library cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// Nothing turns text into vectors.
    #[error(
        "there is no embedder here, so documents cannot be searched; run ./install.sh --fetch-model, or name a model with documents.embedder"
    )]
    NoEmbedder,
    /// The embedder cannot be used.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The model that is to rank anew does not.
    #[error("the reranker failed: {0}; name another with documents.reranker, or leave it empty")]
    Reranker(String),
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// It is above the limit.
    #[error(
        "the file is larger than {limit_bytes} bytes ({setting}); split it, or raise the limit"
    )]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
        /// Where it is set.
        setting: &'static str,
    },
    /// Its name says that no reader takes it.
    #[error("files of type .{extension} are not read; {instead}")]
    Extension {
        /// The extension.
        extension: String,
        /// What to do.
        instead: &'static str,
    },
    /// The path cannot be one.
    #[error("{0}")]
    BadPath(String),
    /// The path lies outside of what the owner shares.
    #[error("{} is outside of the folders that documents may come from; add its folder to documents.roots", .0.display())]
    Outside(PathBuf),
    /// Nothing is there.
    #[error("there is no file {}", .0.display())]
    NoFile(PathBuf),
    /// The bytes broke off.
    #[error("the upload broke off: {0}; send it again")]
    Broken(String),
    /// The disk fails.
    #[error("{what} {}: {source}", path.display())]
    Disk {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The address gave nothing.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The request has no conversation to put passages into.
    #[error("answers from documents need messages, not a raw prompt; ask through a chat route")]
    NoMessages,
    /// The question has no words.
    #[error("`query` has no word to look for")]
    NoWords,
    /// The file to import is none of ours.
    #[error("this is no library that onebit exported: {0}")]
    NotAnExport(String),
}

impl LibraryError {
    pub(super) fn disk(what: &'static str, path: &Path, source: std::io::Error) -> LibraryError {
        LibraryError::Disk {
            what,
            path: path.to_owned(),
            source,
        }
    }

    /// The same as what a document shows that could not be read.
    pub(super) fn trouble(&self) -> Trouble {
        let kind = match self {
            LibraryError::NoEmbedder | LibraryError::Encoder(_) => "no_embedder",
            LibraryError::Empty => "empty",
            LibraryError::TooLarge { .. } => "too_large",
            LibraryError::Extension { .. } => "unsupported",
            LibraryError::NoFile(_) => "missing",
            LibraryError::Fetch(_) => "unreachable",
            _ => "unreadable",
        };
        Trouble {
            kind: kind.to_owned(),
            message: self.to_string(),
        }
    }
}

impl Failing for LibraryError {
    fn kind(&self) -> Kind {
        match self {
            LibraryError::NoEmbedder | LibraryError::Encoder(_) | LibraryError::Reranker(_) => {
                Kind::EngineDown
            }
            LibraryError::Empty
            | LibraryError::Extension { .. }
            | LibraryError::BadPath(_)
            | LibraryError::Broken(_)
            | LibraryError::NoMessages
            | LibraryError::NoWords
            | LibraryError::NotAnExport(_) => Kind::BadRequest,
            LibraryError::TooLarge { .. } => Kind::TooLarge,
            LibraryError::Outside(_) => Kind::Forbidden,
            LibraryError::NoFile(_) => Kind::NotFound,
            LibraryError::Disk { .. } => Kind::Internal,
            LibraryError::Fetch(_) => Kind::BadRequest,
        }
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            LibraryError::NoEmbedder | LibraryError::Encoder(_) => "no_embedder",
            LibraryError::Reranker(_) => "reranker_failed",
            LibraryError::Empty => "empty_file",
            LibraryError::TooLarge { .. } => "file_too_large",
            LibraryError::Extension { .. } => "unsupported_file",
            LibraryError::Outside(_) => "outside_roots",
            LibraryError::NoFile(_) => "file_not_found",
            LibraryError::Fetch(_) => "fetch_failed",
            LibraryError::NotAnExport(_) => "not_an_export",
            _ => return None,
        })
    }

    fn param(&self) -> Option<&str> {
        matches!(self, LibraryError::NoWords).then_some("query")
    }
}
