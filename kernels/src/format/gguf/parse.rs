//! Bytes to header: every count, length and offset is checked against what is left before it is used.

use std::collections::HashMap;

use super::value::{ARRAY_TAG, Array, Value};
use super::{GgufError, TensorInfo, TensorKind};

/// What stands before the tensor data.
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) values: HashMap<String, Value>,
    pub(super) keys: Vec<String>,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) by_name: HashMap<String, usize>,
    pub(super) data_start: usize,
}

/// ggml's default when `general.alignment` is absent.
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;

/// The least a key-value pair takes: a key length, a type, one byte.
const MIN_PAIR_BYTES: u64 = 8 + 4 + 1;
/// The least a tensor's entry takes: a name length, one dimension, a type, an offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;
/// ggml's own limit.
const MAX_DIMENSIONS: u32 = 4;

pub(super) fn header(bytes: &[u8]) -> Result<Header, GgufError> {
    let mut cursor = Cursor { bytes, at: 0 };
    let magic = cursor.take(4, "the magic").map_err(|_| GgufError::Magic {
        found: bytes.to_vec(),
    })?;
    if magic != b"GGUF" {
        return Err(GgufError::Magic {
            found: magic.to_vec(),
        });
    }
    let version = cursor.u32("the version")?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => return Err(GgufError::BigEndian),
        _ => return Err(GgufError::Version { version }),
    }
    let n_tensors = cursor.u64("the tensor count")?;
    let n_pairs = cursor.u64("the metadata count")?;
    cursor.check_count("the metadata count", n_pairs, MIN_PAIR_BYTES)?;
    cursor.check_count("the tensor count", n_tensors, MIN_TENSOR_BYTES)?;

    let mut values = HashMap::new();
    let mut keys = Vec::new();
    for index in 0..n_pairs {
        let key = cursor
            .string(&format_args!("the key of metadata entry {index}"))?
            .to_owned();
        let value = cursor.value(&key)?;
        if values.insert(key.clone(), value).is_some() {
            return Err(GgufError::Duplicate { field: key });
        }
        keys.push(key);
    }
    let alignment = alignment(&values)?;

    let mut tensors = Vec::new();
    let mut by_name = HashMap::new();
    for index in 0..n_tensors {
        let info = cursor.tensor(index, alignment)?;
        if by_name.insert(info.name.clone(), tensors.len()).is_some() {
            return Err(GgufError::Duplicate {
                field: format!("tensor {}", info.name),
            });
        }
        tensors.push(info);
    }

    // A file without tensors (a bare vocabulary) may end right here, before the padding.
    let data_start = (cursor.at as u64)
        .checked_next_multiple_of(alignment)
        .and_then(|at| usize::try_from(at).ok())
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    place(&mut tensors, (bytes.len() - data_start) as u64)?;
    Ok(Header {
        version,
        values,
        keys,
        tensors,
        by_name,
        data_start,
    })
}

fn alignment(values: &HashMap<String, Value>) -> Result<u64, GgufError> {
    let Some(value) = values.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match value.as_u64() {
        Some(alignment) if alignment.is_power_of_two() => Ok(alignment),
        Some(other) => Err(GgufError::Alignment {
            found: other.to_string(),
        }),
        None => Err(GgufError::Alignment {
            found: value.type_name(),
        }),
    }
}

/// Gives every tensor its byte count and checks that it lies inside the data.
fn place(tensors: &mut [TensorInfo], available: u64) -> Result<(), GgufError> {
    let mut starts: Vec<u64> = tensors.iter().map(|tensor| tensor.offset).collect();
    starts.sort_unstable();
    if tensors
        .iter()
        .any(|tensor| tensor.kind == TensorKind::Q2G128 && is_q2_of_64(tensor, &starts, available))
    {
        let shared = tensors
            .iter_mut()
            .filter(|tensor| tensor.kind == TensorKind::Q2G128);
        shared.for_each(|tensor| tensor.kind = TensorKind::Q2G64);
    }
    for tensor in tensors {
        // The size of an unknown kind is unknown: what reaches to the next tensor belongs to it.
        let size = match tensor.kind.tensor_bytes(&tensor.dims) {
            Some(size) => size,
            None => {
                let next = starts.partition_point(|&start| start <= tensor.offset);
                starts
                    .get(next)
                    .copied()
                    .unwrap_or(available)
                    .saturating_sub(tensor.offset)
            }
        };
        let end = tensor
            .offset
            .checked_add(size)
            .filter(|&end| end <= available);
        if end.is_none() || tensor.offset > available {
            return Err(GgufError::Data {
                name: tensor.name.clone(),
                start: tensor.offset,
                end: tensor.offset.saturating_add(size),
                available,
            });
        }
        tensor.bytes = size;
    }
    Ok(())
}

/// Two layouts share the number 42. A tensor shows which one a file means when only one size fills
/// the room up to the next tensor; where none does, it is PrismML's, which had the number first.
fn is_q2_of_64(tensor: &TensorInfo, starts: &[u64], available: u64) -> bool {
    let next = starts.partition_point(|&start| start <= tensor.offset);
    let room = starts
        .get(next)
        .copied()
        .unwrap_or(available)
        .saturating_sub(tensor.offset);
    let fills = |kind: TensorKind| {
        kind.tensor_bytes(&tensor.dims)
            .is_some_and(|size| size <= room && room - size < DEFAULT_ALIGNMENT)
    };
    fills(TensorKind::Q2G64) && !fills(TensorKind::Q2G128)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn take(
        &mut self,
        count: u64,
        field: &(impl std::fmt::Display + ?Sized),
    ) -> Result<&'a [u8], GgufError> {
        if count > self.left() {
            return Err(GgufError::Truncated {
                field: field.to_string(),
                offset: self.at as u64,
                needed: count,
                left: self.left(),
            });
        }
        let slice = &self.bytes[self.at..self.at + count as usize];
        self.at += slice.len();
        Ok(slice)
    }

    fn number<const N: usize>(
        &mut self,
        field: &(impl std::fmt::Display + ?Sized),
    ) -> Result<[u8; N], GgufError> {
        let mut number = [0; N];
        number.copy_from_slice(self.take(N as u64, field)?);
        Ok(number)
    }

    fn u32(&mut self, field: &(impl std::fmt::Display + ?Sized)) -> Result<u32, GgufError> {
        self.number(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &(impl std::fmt::Display + ?Sized)) -> Result<u64, GgufError> {
        self.number(field).map(u64::from_le_bytes)
    }

    fn check_count(
        &self,
        field: &(impl std::fmt::Display + ?Sized),
        count: u64,
        least: u64,
    ) -> Result<(), GgufError> {
        match count.checked_mul(least) {
            Some(needed) if needed <= self.left() => Ok(()),
            _ => Err(GgufError::Count {
                field: field.to_string(),
                count,
                left: self.left(),
            }),
        }
    }

    fn string(&mut self, field: &(impl std::fmt::Display + ?Sized)) -> Result<&'a str, GgufError> {
        let length = self.u64(field)?;
        let bytes = self.take(length, field)?;
        std::str::from_utf8(bytes).map_err(|_| GgufError::Utf8 {
            field: field.to_string(),
        })
    }

    fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        let tag = self.u32(key)?;
        Ok(match tag {
            0 => Value::U8(u8::from_le_bytes(self.number(key)?)),
            1 => Value::I8(i8::from_le_bytes(self.number(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.number(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.number(key)?)),
            4 => Value::U32(self.u32(key)?),
            5 => Value::I32(i32::from_le_bytes(self.number(key)?)),
            6 => Value::F32(f32::from_le_bytes(self.number(key)?)),
            7 => Value::Bool(u8::from_le_bytes(self.number(key)?) != 0),
            8 => Value::String(self.string(key)?.to_owned()),
            ARRAY_TAG => Value::Array(self.array(key)?),
            10 => Value::U64(self.u64(key)?),
            11 => Value::I64(i64::from_le_bytes(self.number(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.number(key)?)),
            tag => {
                return Err(GgufError::ValueType {
                    field: key.to_owned(),
                    tag,
                });
            }
        })
    }

    fn array(&mut self, key: &str) -> Result<Array, GgufError> {
        let tag = self.u32(key)?;
        let count = self.u64(key)?;
        Ok(match tag {
            0 => Array::U8(self.numbers(key, count, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(key, count, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(key, count, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(key, count, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(key, count, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(key, count, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(key, count, f32::from_le_bytes)?),
            7 => Array::Bool(self.numbers(key, count, |byte: [u8; 1]| byte[0] != 0)?),
            8 => {
                self.check_count(key, count, 8)?;
                let mut strings = Vec::new();
                for index in 0..count {
                    strings.push(self.string(&format_args!("{key}[{index}]"))?.to_owned());
                }
                Array::String(strings)
            }
            ARRAY_TAG => {
                return Err(GgufError::NestedArray {
                    field: key.to_owned(),
                });
            }
            10 => Array::U64(self.numbers(key, count, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(key, count, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(key, count, f64::from_le_bytes)?),
            tag => {
                return Err(GgufError::ValueType {
                    field: format!("{key}[]"),
                    tag,
                });
            }
        })
    }

    fn numbers<const N: usize, T>(
        &mut self,
        key: &str,
        count: u64,
        read: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        self.check_count(key, count, N as u64)?;
        let bytes = self.take(count * N as u64, key)?;
        let (chunks, _) = bytes.as_chunks::<N>();
        Ok(chunks.iter().map(|&chunk| read(chunk)).collect())
    }

    fn tensor(&mut self, index: u64, alignment: u64) -> Result<TensorInfo, GgufError> {
        let name = self
            .string(&format_args!("the name of tensor {index}"))?
            .to_owned();
        let count = self.u32(&format_args!("the dimensions of tensor {name}"))?;
        if !(1..=MAX_DIMENSIONS).contains(&count) {
            return Err(GgufError::Dimensions { name, count });
        }
        let mut dims = Vec::with_capacity(count as usize);
        for _ in 0..count {
            dims.push(self.u64(&format_args!("the dimensions of tensor {name}"))?);
        }
        let kind = TensorKind::from_id(self.u32(&format_args!("the type of tensor {name}"))?);
        let offset = self.u64(&format_args!("the offset of tensor {name}"))?;
        let weights = dims
            .iter()
            .try_fold(1_u64, |product, &dim| product.checked_mul(dim));
        // Half the range, so that nobody's later sum of a few sizes can overflow.
        let fits = weights.is_some_and(|weights| weights > 0 && weights <= u64::MAX / 2);
        if !fits {
            return Err(GgufError::Shape { name, dims });
        }
        if let Some(block) = kind
            .block_len()
            .filter(|&block| !dims[0].is_multiple_of(block as u64))
        {
            return Err(GgufError::RowLength {
                name,
                columns: dims[0],
                kind,
                block,
            });
        }
        if kind.block_len().is_some() && kind.tensor_bytes(&dims).is_none() {
            return Err(GgufError::Shape { name, dims });
        }
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::Offset {
                name,
                offset,
                alignment,
            });
        }
        Ok(TensorInfo {
            name,
            dims,
            kind,
            offset,
            bytes: 0,
        })
    }
}
