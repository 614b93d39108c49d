//! Writes GGUF version 3: declare values and tensors, then stream the data in the same order.

use std::io::{self, Write};

use super::parse::DEFAULT_ALIGNMENT;
use super::value::{ARRAY_TAG, Array, Value};
use super::{TensorInfo, TensorKind};

/// A file that cannot be written as asked.
#[derive(Debug, thiserror::Error)]
pub enum GgufWriteError {
    #[error("cannot write the GGUF file: {0}")]
    Io(#[from] io::Error),
    #[error("tensor {name}: {kind} cannot hold the dimensions {dims:?}")]
    Shape {
        name: String,
        kind: TensorKind,
        dims: Vec<u64>,
    },
    #[error("tensor {name} was declared with {declared} bytes, but {written} were written")]
    Size {
        name: String,
        declared: u64,
        written: u64,
    },
    #[error("{count} declared tensors were never written, {first} first")]
    Unwritten { count: usize, first: String },
    #[error("data was written for a tensor that was not declared")]
    Undeclared,
    #[error("{0} was declared twice")]
    Duplicate(String),
}

/// A GGUF file in the making: its metadata and the list of its tensors.
#[derive(Debug, Default, Clone)]
pub struct GgufBuilder {
    values: Vec<(String, Value)>,
    tensors: Vec<TensorInfo>,
    end: u64,
}

impl GgufBuilder {
    /// An empty file.
    pub fn new() -> GgufBuilder {
        GgufBuilder::default()
    }

    /// Sets a metadata value; a second one for the same key replaces the first.
    pub fn value(&mut self, key: &str, value: Value) -> &mut Self {
        match self.values.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.values.push((key.to_owned(), value)),
        }
        self
    }

    /// The value set for `key`, if any.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value)
    }

    /// Declares the next tensor (`dims[0]` is the row length).
    pub fn tensor(
        &mut self,
        name: &str,
        dims: &[u64],
        kind: TensorKind,
    ) -> Result<&mut Self, GgufWriteError> {
        let size = kind
            .tensor_bytes(dims)
            .filter(|&size| size > 0 && dims.len() <= 4);
        let Some(bytes) = size else {
            return Err(GgufWriteError::Shape {
                name: name.to_owned(),
                kind,
                dims: dims.to_vec(),
            });
        };
        if self.tensors.iter().any(|tensor| tensor.name == name) {
            return Err(GgufWriteError::Duplicate(format!("tensor {name}")));
        }
        let offset = self.end;
        self.end = (offset + bytes).next_multiple_of(DEFAULT_ALIGNMENT);
        self.tensors.push(TensorInfo {
            name: name.to_owned(),
            dims: dims.to_vec(),
            kind,
            offset,
            bytes,
        });
        Ok(self)
    }

    /// Writes the header and hands back the sink for the tensors' data.
    pub fn begin<W: Write>(&self, mut out: W) -> Result<TensorSink<W>, GgufWriteError> {
        let header = self.header();
        out.write_all(&header)?;
        Ok(TensorSink {
            out,
            tensors: self.tensors.clone(),
            next: 0,
            written: 0,
        })
    }

    /// The whole file in memory, with the tensors' data in declaration order.
    pub fn to_bytes(&self, data: &[&[u8]]) -> Result<Vec<u8>, GgufWriteError> {
        let mut sink = self.begin(Vec::new())?;
        for part in data {
            sink.tensor(part)?;
        }
        sink.finish()
    }

    fn header(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(b"GGUF");
        out.extend_from_slice(&3_u32.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.values.len() as u64).to_le_bytes());
        for (key, value) in &self.values {
            put_string(&mut out, key);
            put_value(&mut out, value);
        }
        for tensor in &self.tensors {
            put_string(&mut out, &tensor.name);
            out.extend_from_slice(&(tensor.dims.len() as u32).to_le_bytes());
            for dim in &tensor.dims {
                out.extend_from_slice(&dim.to_le_bytes());
            }
            out.extend_from_slice(&tensor.kind.id().to_le_bytes());
            out.extend_from_slice(&tensor.offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
        out
    }
}

/// Takes the tensors' data in the order of declaration and pads between them.
#[derive(Debug)]
pub struct TensorSink<W> {
    out: W,
    tensors: Vec<TensorInfo>,
    next: usize,
    written: u64,
}

impl<W: Write> TensorSink<W> {
    /// Writes the next tensor at once.
    pub fn tensor(&mut self, data: &[u8]) -> Result<(), GgufWriteError> {
        self.part(data)?;
        self.end_tensor()
    }

    /// Writes a piece of the current tensor; [`TensorSink::end_tensor`] closes it.
    pub fn part(&mut self, data: &[u8]) -> Result<(), GgufWriteError> {
        self.written += data.len() as u64;
        Ok(self.out.write_all(data)?)
    }

    /// Checks the current tensor's size and pads up to the next.
    pub fn end_tensor(&mut self) -> Result<(), GgufWriteError> {
        let tensor = self
            .tensors
            .get(self.next)
            .ok_or(GgufWriteError::Undeclared)?;
        if tensor.bytes != self.written {
            return Err(GgufWriteError::Size {
                name: tensor.name.clone(),
                declared: tensor.bytes,
                written: self.written,
            });
        }
        let padding = tensor.bytes.next_multiple_of(DEFAULT_ALIGNMENT) - tensor.bytes;
        self.out
            .write_all(&[0; DEFAULT_ALIGNMENT as usize][..padding as usize])?;
        self.next += 1;
        self.written = 0;
        Ok(())
    }

    /// Checks that every declared tensor was written and hands the output back, flushed.
    pub fn finish(mut self) -> Result<W, GgufWriteError> {
        if let Some(missing) = self.tensors.get(self.next) {
            return Err(GgufWriteError::Unwritten {
                count: self.tensors.len() - self.next,
                first: missing.name.clone(),
            });
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    out.extend_from_slice(&value.tag().to_le_bytes());
    match value {
        Value::U8(v) => out.push(*v),
        Value::I8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => out.push((*v).into()),
        Value::String(v) => put_string(out, v),
        Value::Array(array) => put_array(out, array),
        Value::U64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    debug_assert_ne!(array.tag(), ARRAY_TAG);
    out.extend_from_slice(&array.tag().to_le_bytes());
    out.extend_from_slice(&(array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend_from_slice(v),
        Array::I8(v) => v
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
        Array::U16(v) => v
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
        Array::I16(v) => v
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
        Array::U32(v) => v
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
        Array::I32(v) => v
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
        Array::F32(v) => v
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
        Array::Bool(v) => v.iter().for_each(|&flag| out.push(flag.into())),
        Array::String(v) => v.iter().for_each(|text| put_string(out, text)),
        Array::U64(v) => v
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
        Array::I64(v) => v
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
        Array::F64(v) => v
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes())),
    }
}
