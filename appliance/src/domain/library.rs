//! A person's documents, how they are grouped, and what an answer cites of them.

/// How a document came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Its bytes were sent.
    Upload,
    /// It lies in a folder of this machine and may change there.
    Path,
    /// It was fetched.
    Url,
    /// Somebody typed it.
    Note,
}

impl Source {
    /// The name in rows and views.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Upload => "upload",
            Source::Path => "path",
            Source::Url => "url",
            Source::Note => "note",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<Source> {
        Some(match text {
            "upload" => Source::Upload,
            "path" => Source::Path,
            "url" => Source::Url,
            "note" => Source::Note,
            _ => return None,
        })
    }
}

/// How far a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It waits for its turn.
    Pending,
    /// It is being read.
    Indexing,
    /// It can be found.
    Complete,
    /// It could not be read; its [`Trouble`] says why.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// Its file is no longer where it was.
    Missing,
}

impl Status {
    /// The name in rows and views.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Indexing => "indexing",
            Status::Complete => "complete",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Missing => "missing",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<Status> {
        Some(match text {
            "pending" => Status::Pending,
            "indexing" => Status::Indexing,
            "complete" => Status::Complete,
            "failed" => Status::Failed,
            "cancelled" => Status::Cancelled,
            "missing" => Status::Missing,
            _ => return None,
        })
    }
}

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The word that programs branch on: `encrypted`, `broken`, `scanned` and so on.
    pub kind: String,
    /// What happened and what to do, for people.
    pub message: String,
}

/// One document of the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Identifier.
    pub id: String,
    /// The file's name.
    pub name: String,
    /// How it came in.
    pub source: Source,
    /// The path or address that it came from.
    pub origin: Option<String>,
    /// Size of the file.
    pub bytes: u64,
    /// Hash of the file.
    pub sha256: String,
    /// How far it is.
    pub status: Status,
    /// Why it could not be read.
    pub trouble: Option<Trouble>,
    /// The title that it names for itself.
    pub title: Option<String>,
    /// Pages, where its format has pages.
    pub pages: Option<u32>,
    /// Passages that can be found.
    pub passages: u32,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds of the last successful reading.
    pub indexed_at: Option<i64>,
    /// Unix milliseconds of the last time that an answer cited it.
    pub cited_at: Option<i64>,
    /// Collections that hold it.
    pub collections: Vec<String>,
    /// Chats that are answered from it.
    pub chats: u32,
}

/// A named group of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Identifier.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Documents in it.
    pub documents: u32,
    /// Unix milliseconds.
    pub created_at: i64,
}

/// A passage that was found, as it is shown and cited.
#[derive(Debug, Clone, PartialEq)]
pub struct Citation {
    /// The mark in an answer, counted from 1.
    pub number: u32,
    /// The document.
    pub document: String,
    /// The document's file name.
    pub name: String,
    /// Place of the passage in its document, counted from 0.
    pub passage: u32,
    /// One-based page, where the format has pages.
    pub page: Option<u32>,
    /// Titles of the headings above it, outermost first.
    pub headings: Vec<String>,
    /// First Unicode scalar value in the document's text.
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// How well it fits: the fused rank's score, at most 1.
    pub score: f32,
    /// The passage.
    pub text: String,
}

/// Which documents a request may be answered from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelf {
    /// Whose documents.
    pub person: super::PersonId,
    /// Collections or single documents by identifier; none means all of the person's.
    pub only: Vec<String>,
}
