//! Any readable model to any format that holds it without loss; what would be lost is named.
//!
//! A source lists a model's metadata and tensors by GGUF's names; a target writes them. Sources and
//! targets know nothing of each other. Nothing is rounded unless the caller asks for it.

mod gguf_source;
mod gguf_target;
mod h1b_source;
mod h1b_target;
mod hugging_face;
mod tokenizer_json;
mod trits;
mod widen;

use std::io;
use std::path::{Path, PathBuf};

use super::gguf::{GgufError, GgufWriteError, Value};
use super::h1b::H1bError;
use super::htok::HtokError;
use super::matrix::MatrixError;
use super::row::RowError;
use super::safetensors::SafetensorsError;
use super::ternary::{Packing, TernaryError};
use super::{TensorKind, i6, row};
use trits::Trits;
pub use widen::widen;

/// A conversion that cannot be made; nothing is left at the output's place.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} exists already; remove it or choose another name", .0.display())]
    Exists(PathBuf),
    #[error("{} is no model: a .gguf or .h1b file or a folder with config.json is needed", .0.display())]
    Input(PathBuf),
    #[error("{0:?} is no format; these are: {names}", names = Target::NAMES.join(", "))]
    Target(String),
    #[error("the model has no ternary matrix; ternary packings hold nothing else")]
    NotTernary,
    #[error("tensor {tensor}, row {row}: {source}")]
    Row {
        tensor: String,
        row: usize,
        source: TernaryError,
    },
    #[error("{what} would be lost: {why}")]
    Loss { what: String, why: String },
    #[error("{file}: {what}")]
    Json { file: &'static str, what: String },
    #[error("tensor {name}: {what}")]
    Tensor { name: String, what: String },
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error(transparent)]
    Write(#[from] GgufWriteError),
    #[error(transparent)]
    H1b(#[from] H1bError),
    #[error("tokenizer: {0}")]
    Htok(#[from] HtokError),
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    #[error(transparent)]
    Dense(#[from] RowError),
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// GGUF with the ternary matrices in this packing.
    Gguf(Packing),
    /// `.h1b` of this version, or with one of the Bonsai flags.
    H1b { version: i32, packing: Packing },
}

impl Target {
    /// The names that [`Target::named`] knows.
    pub const NAMES: [&'static str; 15] = [
        "t2",
        "t5",
        "s34",
        "s24",
        "tq1_0",
        "tq2_0",
        "i2_s",
        "q2_0_g128",
        "q1_0_g128",
        "h1b-v1",
        "h1b-v2",
        "h1b-v3",
        "h1b-v4",
        "h1b-q2",
        "h1b-q1",
    ];

    /// The target of that name, in any case.
    pub fn named(name: &str) -> Result<Target, ConvertError> {
        let h1b = |version, packing| Ok(Target::H1b { version, packing });
        match name.to_ascii_lowercase().as_str() {
            "h1b-v1" => h1b(1, Packing::T2),
            "h1b-v2" => h1b(2, Packing::T2),
            "h1b-v3" => h1b(3, Packing::S34),
            "h1b-v4" => h1b(4, Packing::T5Words),
            "h1b-q2" => h1b(2, Packing::Q2G128),
            "h1b-q1" => h1b(2, Packing::Q1G128),
            other => Packing::named(other)
                .filter(|&packing| packing != Packing::T5Words)
                .map(Target::Gguf)
                .ok_or_else(|| ConvertError::Target(name.to_owned())),
        }
    }
}

/// How to store embeddings and an untied head, where the caller wants that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedding {
    /// A dense type that [`row::encode`] writes.
    Dense(TensorKind),
    /// The `i6` packing.
    SixBit,
}

/// What [`convert`] is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvertOptions {
    pub to: Target,
    /// `None` keeps what the source has. Anything else may round: the caller asked for it.
    pub embedding: Option<Embedding>,
}

/// Where a conversion stands.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Tensors written.
    pub done: usize,
    /// Tensors in all.
    pub total: usize,
    /// The one being written.
    pub tensor: &'a str,
}

/// What a conversion did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Tensors written.
    pub tensors: usize,
    /// Ternary matrices among them.
    pub ternary: usize,
    /// Size of the output.
    pub bytes: u64,
    /// What the output cannot say, in words: a chat template, kinds of tokens.
    pub notes: Vec<String>,
}

/// A model as its source lists it.
struct Model<'a> {
    /// GGUF's keys, in order.
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor<'a>>,
    notes: Vec<String>,
}

struct Tensor<'a> {
    /// GGUF's name.
    name: String,
    content: Content<'a>,
}

enum Content<'a> {
    /// Bytes of a type of ggml's, `dims[0]` the row length.
    Dense {
        kind: TensorKind,
        dims: Vec<u64>,
        data: &'a [u8],
    },
    /// The same, made for this conversion.
    Owned {
        kind: TensorKind,
        dims: Vec<u64>,
        data: Vec<u8>,
    },
    /// `i6` rows.
    SixBit {
        columns: usize,
        rows: usize,
        data: &'a [u8],
    },
    Ternary(Box<dyn Trits + 'a>),
}

impl Tensor<'_> {
    fn is_embedding(&self) -> bool {
        matches!(self.name.as_str(), "token_embd.weight" | "output.weight")
    }

    /// Rows and columns.
    fn shape(&self) -> (usize, usize) {
        match &self.content {
            Content::Dense { dims, .. } | Content::Owned { dims, .. } => {
                (dims[1..].iter().product::<u64>() as usize, dims[0] as usize)
            }
            Content::SixBit { columns, rows, .. } => (*rows, *columns),
            Content::Ternary(trits) => (trits.rows(), trits.columns()),
        }
    }

    /// A row of numbers, for what is not ternary.
    fn row(&self, index: usize, out: &mut [f32]) -> Result<(), ConvertError> {
        let dense = |kind: TensorKind, data: &[u8], out: &mut [f32]| -> Result<(), ConvertError> {
            let size = kind
                .row_bytes(out.len())
                .ok_or(RowError::Unsupported { kind, verb: "read" })?;
            Ok(row::decode(kind, &data[index * size..][..size], out)?)
        };
        match &self.content {
            Content::Dense { kind, data, .. } => dense(*kind, data, out),
            Content::Owned { kind, data, .. } => dense(*kind, data, out),
            Content::SixBit { data, .. } => {
                let size = out.len() / i6::BLOCK * i6::BYTES;
                i6::decode(&data[index * size..][..size], out);
                Ok(())
            }
            Content::Ternary(_) => Err(ConvertError::Tensor {
                name: self.name.clone(),
                what: "is ternary here".to_owned(),
            }),
        }
    }
}

impl Model<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        self.metadata
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value)
    }

    fn str(&self, key: &str) -> Option<&str> {
        match self.value(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// Removes a half-written output unless it was finished.
struct Part {
    path: PathBuf,
    finished: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            // It may never have been created.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Converts `input` (a `.gguf` or `.h1b` file, or a Hugging Face folder) into `output`, which must
/// not exist. `progress` is called before each tensor.
///
/// # Errors
/// Anything unreadable, and anything that the target cannot hold: then the loss is named with the
/// tensor and the place, and no output is left.
pub fn convert(
    input: &Path,
    output: &Path,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, ConvertError> {
    if output.exists() {
        return Err(ConvertError::Exists(output.to_owned()));
    }
    let mut part = output.as_os_str().to_owned();
    part.push(".part");
    let mut part = Part {
        path: part.into(),
        finished: false,
    };
    let mut write = |model: &Model<'_>| match options.to {
        Target::Gguf(packing) => {
            gguf_target::write(model, &part.path, packing, options.embedding, progress)
        }
        Target::H1b { version, packing } => {
            h1b_target::write(model, &part.path, output, version, packing, progress)
        }
    };
    let report = if input.is_dir() {
        let folder = hugging_face::Folder::open(input)?;
        write(&folder.model()?)?
    } else if has_magic(input, b"GGUF")? {
        let gguf = super::Gguf::open(input)?;
        write(&gguf_source::model(&gguf)?)?
    } else if has_magic(input, b"H1B")? {
        let source = h1b_source::H1bModel::open(input)?;
        write(&source.model()?)?
    } else {
        return Err(ConvertError::Input(input.to_owned()));
    };
    std::fs::rename(&part.path, output).map_err(|source| at(output, source))?;
    part.finished = true;
    let bytes = std::fs::metadata(output)
        .map_err(|source| at(output, source))?
        .len();
    Ok(Report { bytes, ..report })
}

fn at(path: &Path, source: io::Error) -> ConvertError {
    ConvertError::Io {
        path: path.to_owned(),
        source,
    }
}

fn has_magic(path: &Path, magic: &[u8]) -> Result<bool, ConvertError> {
    use std::io::Read;
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(|source| at(path, source))?;
    file.take(magic.len() as u64)
        .read_to_end(&mut start)
        .map_err(|source| at(path, source))?;
    Ok(start == magic)
}

#[cfg(test)]
mod tests;
