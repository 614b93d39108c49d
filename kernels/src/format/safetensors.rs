//! safetensors files: a JSON header of names, types, shapes and offsets, then the data.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A safetensors file that cannot be used; every message names the tensor or the field.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    #[error("cannot open {}: {source}", path.display())]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the file ends inside its header; fetch it again")]
    Truncated,
    #[error("the header has {0} bytes, which is more than the 100 MB that the format allows")]
    LongHeader(u64),
    #[error("the header is no JSON object: {0}")]
    Header(String),
    #[error("tensor {name}: {field} is missing or wrong")]
    Field { name: String, field: &'static str },
    #[error(
        "tensor {name}: the type {dtype:?} is not supported; F32, F16, BF16, I64, I8 and U8 are"
    )]
    Type { name: String, dtype: String },
    #[error(
        "tensor {name}: the offsets {start}..{end} do not fit its shape or the file; fetch it again"
    )]
    Offsets { name: String, start: u64, end: u64 },
    #[error("tensors {a} and {b} overlap")]
    Overlap { a: String, b: String },
}

/// An element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
    /// Positions that some encoders store beside their weights.
    I64,
    I8,
    U8,
}

impl Dtype {
    fn named(name: &str) -> Option<Dtype> {
        Some(match name {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::Bf16,
            "I64" => Dtype::I64,
            "I8" => Dtype::I8,
            "U8" => Dtype::U8,
            _ => return None,
        })
    }

    fn bytes(self) -> u64 {
        match self {
            Dtype::I64 => 8,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::I8 | Dtype::U8 => 1,
        }
    }
}

/// An entry of the header, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub dtype: Dtype,
    /// Slowest dimension first.
    pub shape: Vec<u64>,
    start: usize,
    end: usize,
}

/// An open file.
#[derive(Debug)]
pub struct Safetensors {
    bytes: Bytes,
    entries: BTreeMap<String, Entry>,
    data_start: usize,
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

/// The format's own limit.
const HEADER_MAX: u64 = 100_000_000;

impl Safetensors {
    /// Maps a file and reads its header.
    pub fn open(path: &Path) -> Result<Safetensors, SafetensorsError> {
        let failed = |source| SafetensorsError::Open {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Err(SafetensorsError::Truncated);
        }
        // SAFETY: the map is read-only; the file is the user's input to a conversion, and if it is
        // truncated meanwhile the process is stopped by the system, not misled.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        Safetensors::new(Bytes::Mapped(map))
    }

    /// Reads a file that is already in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Safetensors, SafetensorsError> {
        Safetensors::new(Bytes::Owned(bytes))
    }

    fn new(bytes: Bytes) -> Result<Safetensors, SafetensorsError> {
        let data = bytes.as_slice();
        let (length, rest) = data
            .split_first_chunk::<8>()
            .ok_or(SafetensorsError::Truncated)?;
        let length = u64::from_le_bytes(*length);
        if length > HEADER_MAX {
            return Err(SafetensorsError::LongHeader(length));
        }
        let header = rest
            .get(..length as usize)
            .ok_or(SafetensorsError::Truncated)?;
        let header: Value = serde_json::from_slice(header)
            .map_err(|error| SafetensorsError::Header(error.to_string()))?;
        let Value::Object(header) = header else {
            return Err(SafetensorsError::Header(
                "it is another kind of value".to_owned(),
            ));
        };
        let data_start = 8 + length as usize;
        let available = (data.len() - data_start) as u64;
        let mut entries = BTreeMap::new();
        for (name, value) in &header {
            if name != "__metadata__" {
                entries.insert(name.clone(), entry(name, value, available)?);
            }
        }
        let mut order: Vec<(&String, &Entry)> = entries.iter().collect();
        order.sort_by_key(|(_, entry)| (entry.start, entry.end));
        for pair in order.windows(2) {
            if pair[0].1.end > pair[1].1.start {
                return Err(SafetensorsError::Overlap {
                    a: pair[0].0.clone(),
                    b: pair[1].0.clone(),
                });
            }
        }
        Ok(Safetensors {
            bytes,
            entries,
            data_start,
        })
    }

    /// Names and entries in alphabetical order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// A tensor's entry and bytes.
    pub fn tensor(&self, name: &str) -> Option<(&Entry, &[u8])> {
        let entry = self.entries.get(name)?;
        Some((
            entry,
            &self.bytes.as_slice()[self.data_start + entry.start..self.data_start + entry.end],
        ))
    }
}

fn entry(name: &str, value: &Value, available: u64) -> Result<Entry, SafetensorsError> {
    let wrong = |field| SafetensorsError::Field {
        name: name.to_owned(),
        field,
    };
    let dtype = value
        .get("dtype")
        .and_then(Value::as_str)
        .ok_or_else(|| wrong("dtype"))?;
    let dtype = Dtype::named(dtype).ok_or_else(|| SafetensorsError::Type {
        name: name.to_owned(),
        dtype: dtype.to_owned(),
    })?;
    let numbers = |field: &'static str| -> Result<Vec<u64>, SafetensorsError> {
        let list = value
            .get(field)
            .and_then(Value::as_array)
            .ok_or_else(|| wrong(field))?;
        list.iter()
            .map(|number| number.as_u64().ok_or_else(|| wrong(field)))
            .collect()
    };
    let shape = numbers("shape")?;
    let [start, end] = numbers("data_offsets")?[..] else {
        return Err(wrong("data_offsets"));
    };
    let size = shape
        .iter()
        .try_fold(dtype.bytes(), |size, &dim| size.checked_mul(dim));
    if start > end || end > available || size != Some(end - start) {
        return Err(SafetensorsError::Offsets {
            name: name.to_owned(),
            start,
            end,
        });
    }
    Ok(Entry {
        dtype,
        shape,
        start: start as usize,
        end: end as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend(header.as_bytes());
        out.extend(data);
        out
    }

    #[test]
    fn tensors_are_found() {
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "b":{"dtype":"U8","shape":[1,3],"data_offsets":[8,11]}}"#;
        let read = Safetensors::from_bytes(file(header, &[1; 11])).unwrap();
        assert_eq!(
            read.entries().map(|(name, _)| name).collect::<Vec<_>>(),
            ["a", "b"]
        );
        let (entry, data) = read.tensor("b").unwrap();
        assert_eq!(
            (entry.dtype, &entry.shape[..], data.len()),
            (Dtype::U8, &[1, 3][..], 3)
        );
        assert!(read.tensor("c").is_none());
    }

    #[test]
    fn wrong_headers_are_refused_by_name() {
        let refused = |header: &str| {
            Safetensors::from_bytes(file(header, &[0; 8]))
                .unwrap_err()
                .to_string()
        };
        let one = |dtype: &str, shape: &str, offsets: &str| {
            refused(&format!(
                r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#
            ))
        };
        assert!(refused("[]").starts_with("the header is no JSON object"));
        assert!(refused("{").starts_with("the header is no JSON object"));
        assert!(one("F64", "[1]", "[0,8]").contains("\"F64\" is not supported"));
        assert!(one("F32", "[2]", "[0,9]").contains("0..9"));
        assert!(one("F32", "[3]", "[0,12]").contains("0..12"));
        assert!(one("F32", "[2]", "[8,0]").contains("8..0"));
        assert!(one("F32", "[-1]", "[0,8]").contains("shape"));
        assert!(one("F32", "[4294967296,4294967296]", "[0,8]").contains("0..8"));
        let twice = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}"#;
        assert_eq!(refused(twice), "tensors a and b overlap");
        let long = u64::MAX.to_le_bytes().to_vec();
        assert!(
            Safetensors::from_bytes(long)
                .unwrap_err()
                .to_string()
                .contains("100 MB")
        );
        assert!(Safetensors::from_bytes(vec![9]).is_err());
    }
}
