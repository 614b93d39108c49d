//! GGUF files, versions 2 and 3: metadata, tensor table, memory-mapped data.
//!
//! Owns the container and knows nothing of what a key or a tensor means to a model.
//! Every byte sequence is either read or refused with a [`GgufError`] that names the field.

mod error;
mod parse;
mod value;
mod write;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

pub use error::GgufError;
pub use value::{Array, Value};
pub use write::{GgufBuilder, GgufWriteError, TensorSink};

use super::TensorKind;

/// An open GGUF file. Tensor data stays where it is (in the page cache, for a file).
#[derive(Debug)]
pub struct Gguf {
    bytes: Bytes,
    version: u32,
    values: HashMap<String, Value>,
    keys: Vec<String>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    data_start: usize,
}

/// One entry of the tensor table, already checked against the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    /// ggml's order: `dims[0]` is the row length, 1 to 4 dimensions, none of them zero.
    pub dims: Vec<u64>,
    pub kind: TensorKind,
    /// Offset into the file's data section, in bytes.
    pub offset: u64,
    /// Size in bytes. For an unknown kind: everything up to the next tensor.
    pub bytes: u64,
}

impl TensorInfo {
    /// Weights in a row.
    pub fn columns(&self) -> usize {
        self.dims.first().map_or(0, |&dim| dim as usize)
    }

    /// Rows, over all further dimensions.
    pub fn rows(&self) -> usize {
        self.dims.iter().skip(1).product::<u64>() as usize
    }
}

/// A tensor's entry and its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    pub info: &'a TensorInfo,
    pub data: &'a [u8],
}

#[derive(Debug)]
enum Bytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl Gguf {
    /// Maps a file and reads its header.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let failed = |source| GgufError::Open {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        // An empty file cannot be mapped everywhere; it has no magic either.
        if length == 0 {
            return Err(GgufError::Magic { found: Vec::new() });
        }
        // SAFETY: the map is read-only and private. Another process that truncates the file while
        // it is mapped would fault us; model files in the store are written once and renamed into
        // place, never changed.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        Gguf::new(Bytes::Mapped(map))
    }

    /// Reads a file that is already in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
        Gguf::new(Bytes::Owned(bytes))
    }

    fn new(bytes: Bytes) -> Result<Gguf, GgufError> {
        let header = parse::header(bytes.as_slice())?;
        Ok(Gguf {
            version: header.version,
            values: header.values,
            keys: header.keys,
            tensors: header.tensors,
            by_name: header.by_name,
            data_start: header.data_start,
            bytes,
        })
    }

    /// The container's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The whole file's size in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.bytes.as_slice().len() as u64
    }

    /// The metadata's keys in file order.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// A metadata value as it stands in the file.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The tensor table in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let info = &self.tensors[*self.by_name.get(name)?];
        Some(Tensor {
            info,
            data: self.data(info),
        })
    }

    /// The bytes of an entry of [`Gguf::tensors`].
    fn data(&self, info: &TensorInfo) -> &[u8] {
        let start = self.data_start + info.offset as usize;
        &self.bytes.as_slice()[start..start + info.bytes as usize]
    }

    /// A required string.
    pub fn str(&self, key: &str) -> Result<&str, GgufError> {
        required(key, self.optional_str(key)?)
    }

    /// A string that may be absent.
    pub fn optional_str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.get(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A required integer of any width that fits 32 bits.
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        required(key, self.optional_u32(key)?)
    }

    /// An integer that may be absent.
    pub fn optional_u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        let Some(value) = self.get(key, "an unsigned integer", Value::as_u64)? else {
            return Ok(None);
        };
        u32::try_from(value)
            .map(Some)
            .map_err(|_| GgufError::TooLarge {
                key: key.to_owned(),
                value,
            })
    }

    /// A required float, stored in 32 or 64 bits.
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        required(key, self.optional_f32(key)?)
    }

    /// A float that may be absent.
    pub fn optional_f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.get(key, "a float", |value| match *value {
            Value::F32(number) => Some(number),
            Value::F64(number) => Some(number as f32),
            _ => None,
        })
    }

    /// A required truth value.
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        required(key, self.optional_bool(key)?)
    }

    /// A truth value that may be absent.
    pub fn optional_bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.get(key, "a bool", |value| match *value {
            Value::Bool(flag) => Some(flag),
            _ => None,
        })
    }

    /// A required array of strings.
    pub fn strings(&self, key: &str) -> Result<&[String], GgufError> {
        required(key, self.optional_strings(key)?)
    }

    /// An array of strings that may be absent.
    pub fn optional_strings(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        self.get(key, "an array of strings", |value| match value {
            Value::Array(Array::String(strings)) => Some(strings.as_slice()),
            _ => None,
        })
    }

    /// An array of 32-bit floats that may be absent.
    pub fn optional_f32s(&self, key: &str) -> Result<Option<&[f32]>, GgufError> {
        self.get(key, "an array of f32", |value| match value {
            Value::Array(Array::F32(numbers)) => Some(numbers.as_slice()),
            _ => None,
        })
    }

    /// An array of integers of any width, each of which fits 32 bits, that may be absent.
    pub fn optional_u32s(&self, key: &str) -> Result<Option<Vec<u32>>, GgufError> {
        fn all<T: Copy>(numbers: &[T]) -> Option<Vec<u32>>
        where
            u32: TryFrom<T>,
        {
            numbers
                .iter()
                .map(|&number| u32::try_from(number).ok())
                .collect()
        }
        self.get(key, "an array of unsigned integers", |value| match value {
            Value::Array(Array::U8(v)) => all(v),
            Value::Array(Array::I8(v)) => all(v),
            Value::Array(Array::U16(v)) => all(v),
            Value::Array(Array::I16(v)) => all(v),
            Value::Array(Array::U32(v)) => Some(v.clone()),
            Value::Array(Array::I32(v)) => all(v),
            Value::Array(Array::U64(v)) => all(v),
            Value::Array(Array::I64(v)) => all(v),
            _ => None,
        })
    }

    fn get<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(found) => Ok(Some(found)),
            None => Err(GgufError::WrongType {
                key: key.to_owned(),
                found: value.type_name(),
                wanted,
            }),
        }
    }
}

fn required<T>(key: &str, value: Option<T>) -> Result<T, GgufError> {
    value.ok_or_else(|| GgufError::Missing {
        key: key.to_owned(),
    })
}

#[cfg(test)]
mod tests;
