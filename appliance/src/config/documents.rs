//! The library of documents.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The library of documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DocumentsConfig {
    /// What turns text into vectors: a folder, a model's name, or empty for what is shipped.
    pub embedder: String,
    /// A model that ranks what was found anew, or empty for none.
    pub reranker: String,
    /// Languages of pages that are pictures, as tesseract names them.
    pub ocr_languages: String,
    /// Largest file.
    pub file_bytes_max: u64,
    /// Computing time of one file's reader.
    pub reader_seconds_max: u64,
    /// Memory of one file's reader.
    pub reader_memory_bytes_max: u64,
    /// Tokens of passages put before a question.
    pub context_tokens: usize,
    /// Folders that files may be added from; empty until [`super::Config::resolve`] has put the home there.
    pub roots: Vec<PathBuf>,
    /// Seconds between two looks at watched files.
    pub watch_s: u64,
}

impl Default for DocumentsConfig {
    fn default() -> Self {
        DocumentsConfig {
            embedder: String::new(),
            reranker: String::new(),
            ocr_languages: "eng".to_owned(),
            file_bytes_max: 512 << 20,
            reader_seconds_max: 300,
            reader_memory_bytes_max: 2 << 30,
            context_tokens: 1500,
            roots: Vec::new(),
            watch_s: 30,
        }
    }
}
