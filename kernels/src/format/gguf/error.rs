//! What can be wrong with a GGUF file; every message names the field.

use std::path::PathBuf;

/// A GGUF file that cannot be read, or a question its metadata does not answer.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    #[error("cannot open {}: {source}", path.display())]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("not a GGUF file: it starts with {found:02x?} instead of \"GGUF\"")]
    Magic { found: Vec<u8> },
    #[error(
        "GGUF version {version} is not supported; versions 2 and 3 are: convert the file again"
    )]
    Version { version: u32 },
    #[error("the file is big-endian; only little-endian GGUF is supported: convert the file again")]
    BigEndian,
    #[error(
        "the file ends inside {field}: {needed} bytes needed at offset {offset}, {left} left; fetch it again"
    )]
    Truncated {
        field: String,
        offset: u64,
        needed: u64,
        left: u64,
    },
    #[error("{field} counts {count}, but the {left} bytes left cannot hold so many")]
    Count {
        field: String,
        count: u64,
        left: u64,
    },
    #[error("{field} is not UTF-8")]
    Utf8 { field: String },
    #[error("{field} has the unknown value type {tag}")]
    ValueType { field: String, tag: u32 },
    #[error("{field} is an array of arrays, which is not supported")]
    NestedArray { field: String },
    #[error("{field} appears twice")]
    Duplicate { field: String },
    #[error("general.alignment is {found}, but must be a power of two")]
    Alignment { found: String },
    #[error("tensor {name} has {count} dimensions; 1 to 4 are possible")]
    Dimensions { name: String, count: u32 },
    #[error("tensor {name} has the dimensions {dims:?}, which are zero or too large")]
    Shape { name: String, dims: Vec<u64> },
    #[error("tensor {name} has rows of {columns} weights, but {kind} needs a multiple of {block}")]
    RowLength {
        name: String,
        columns: u64,
        kind: super::TensorKind,
        block: usize,
    },
    #[error(
        "tensor {name} starts at offset {offset}, which is not a multiple of the alignment {alignment}"
    )]
    Offset {
        name: String,
        offset: u64,
        alignment: u64,
    },
    #[error(
        "tensor {name} needs bytes {start} to {end} of the data, but the data has {available}; fetch the file again"
    )]
    Data {
        name: String,
        start: u64,
        end: u64,
        available: u64,
    },
    #[error("the metadata has no {key}")]
    Missing { key: String },
    #[error("{key} is {found}, but {wanted} is needed")]
    WrongType {
        key: String,
        found: String,
        wanted: &'static str,
    },
    #[error("{key} is {value}, which is too large")]
    TooLarge { key: String, value: u64 },
}
