//! A weight matrix of a GGUF file, whatever its storage: dense rows, 6-bit rows or ternary rows.
//!
//! Owns the metadata keys `onebit.packing` and `onebit.columns` of docs/formats.md, so that nobody
//! else has to know them.

use super::gguf::{Gguf, GgufError};
use super::row::{self, RowError};
use super::ternary::{Outside, Packing, TernaryError, TernaryRows};
use super::{TensorKind, i6};

/// A matrix that cannot be used; every message names the tensor.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    #[error("the file has no tensor {0}")]
    Missing(String),
    #[error("tensor {name} is packed as {packing:?}, which is not known")]
    Packing { name: String, packing: String },
    #[error(
        "tensor {name} is packed as {packing}: {columns} columns take {wanted} bytes a row, not {found}"
    )]
    RowBytes {
        name: String,
        packing: &'static str,
        columns: usize,
        wanted: usize,
        found: usize,
    },
    #[error("tensor {name}: {source}")]
    Ternary { name: String, source: TernaryError },
    #[error("tensor {name} must be one F32 number, not {found}")]
    Scale { name: String, found: String },
    #[error("tensor {name}: {source}")]
    Row { name: String, source: RowError },
    #[error(transparent)]
    Metadata(#[from] GgufError),
}

/// A matrix as it is stored.
#[derive(Debug, Clone)]
pub enum Matrix<'a> {
    /// A type of ggml's that [`row::decode`] may or may not read.
    Dense {
        kind: TensorKind,
        columns: usize,
        rows: usize,
        data: &'a [u8],
    },
    /// The `i6` packing.
    SixBit {
        columns: usize,
        rows: usize,
        data: &'a [u8],
    },
    Ternary(TernaryRows<'a>),
}

/// The name under which `i6` stands in metadata.
pub const SIX_BIT: &str = "i6";

impl<'a> Matrix<'a> {
    /// Finds a matrix and what belongs to it: packing, columns, and the `.scale` tensor beside a
    /// `.weight`.
    pub fn open(gguf: &'a Gguf, name: &str) -> Result<Matrix<'a>, MatrixError> {
        let tensor = gguf
            .tensor(name)
            .ok_or_else(|| MatrixError::Missing(name.to_owned()))?;
        let (columns, rows, data) = (tensor.info.columns(), tensor.info.rows(), tensor.data);
        let packing = match tensor.info.kind {
            TensorKind::Tq1_0 => Packing::Tq1_0,
            TensorKind::Tq2_0 => Packing::Tq2_0,
            TensorKind::I2S => Packing::I2S,
            TensorKind::Q2G128 => Packing::Q2G128,
            TensorKind::Q1G128 => Packing::Q1G128,
            TensorKind::I8 => return Matrix::packed(gguf, name, columns, rows, data),
            kind => {
                return Ok(Matrix::Dense {
                    kind,
                    columns,
                    rows,
                    data,
                });
            }
        };
        let mut scale = outside_scale(gguf, name)?.unwrap_or(1.0);
        if packing == Packing::I2S {
            // The reader checked that the tail is there.
            let at = data.len() - super::ternary::I2_S_TAIL;
            scale *= f32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
        }
        Matrix::ternary(name, packing, columns, rows, data, scale)
    }

    fn packed(
        gguf: &'a Gguf,
        name: &str,
        row_bytes: usize,
        rows: usize,
        data: &'a [u8],
    ) -> Result<Matrix<'a>, MatrixError> {
        let own = gguf.optional_str(&format!("onebit.packing.{name}"))?;
        let Some(packing) = own.or(gguf.optional_str("onebit.packing")?) else {
            return Ok(Matrix::Dense {
                kind: TensorKind::I8,
                columns: row_bytes,
                rows,
                data,
            });
        };
        let columns = gguf.u32(&format!("onebit.columns.{name}"))? as usize;
        let check = |packing: &'static str, wanted: usize| {
            if wanted == row_bytes {
                return Ok(());
            }
            Err(MatrixError::RowBytes {
                name: name.to_owned(),
                packing,
                columns,
                wanted,
                found: row_bytes,
            })
        };
        if packing == SIX_BIT {
            let whole = columns.is_multiple_of(i6::BLOCK) && columns > 0;
            check(
                SIX_BIT,
                if whole {
                    columns / i6::BLOCK * i6::BYTES
                } else {
                    0
                },
            )?;
            return Ok(Matrix::SixBit {
                columns,
                rows,
                data,
            });
        }
        let known = Packing::named(packing).ok_or_else(|| MatrixError::Packing {
            name: name.to_owned(),
            packing: packing.to_owned(),
        })?;
        let wanted = known
            .row_bytes(columns)
            .map_err(|source| wrap(name, source))?;
        check(known.name(), wanted)?;
        let scale = outside_scale(gguf, name)?.unwrap_or(1.0);
        Matrix::ternary(name, known, columns, rows, data, scale)
    }

    fn ternary(
        name: &str,
        packing: Packing,
        columns: usize,
        rows: usize,
        data: &'a [u8],
        scale: f32,
    ) -> Result<Matrix<'a>, MatrixError> {
        TernaryRows::new(packing, columns, rows, data, Outside::Matrix(scale))
            .map(Matrix::Ternary)
            .map_err(|source| wrap(name, source))
    }

    /// Weights in a row.
    pub fn columns(&self) -> usize {
        match self {
            Matrix::Dense { columns, .. } | Matrix::SixBit { columns, .. } => *columns,
            Matrix::Ternary(rows) => rows.columns(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Matrix::Dense { rows, .. } | Matrix::SixBit { rows, .. } => *rows,
            Matrix::Ternary(rows) => rows.rows(),
        }
    }

    /// Row `index` as numbers; `out` has [`Matrix::columns`] places. `name` is for the message.
    pub fn decode_row(&self, name: &str, index: usize, out: &mut [f32]) -> Result<(), MatrixError> {
        match self {
            Matrix::Dense {
                kind,
                columns,
                data,
                ..
            } => {
                let refused = |source| MatrixError::Row {
                    name: name.to_owned(),
                    source,
                };
                let size = kind.row_bytes(*columns).ok_or_else(|| {
                    refused(RowError::Unsupported {
                        kind: *kind,
                        verb: "read",
                    })
                })?;
                row::decode(*kind, &data[index * size..][..size], out).map_err(refused)
            }
            Matrix::SixBit { columns, data, .. } => {
                let size = columns / i6::BLOCK * i6::BYTES;
                i6::decode(&data[index * size..][..size], out);
                Ok(())
            }
            Matrix::Ternary(rows) => {
                let mut row = super::ternary::Row::default();
                rows.read(index, &mut row)
                    .map_err(|source| wrap(name, source))?;
                for (column, value) in out.iter_mut().enumerate() {
                    *value = f32::from(row.trits[column]) * row.scales[column / row.group];
                }
                Ok(())
            }
        }
    }
}

/// The tensor that holds the scale of a `.weight`.
pub fn scale_name(name: &str) -> Option<String> {
    Some(format!("{}.scale", name.strip_suffix(".weight")?))
}

fn outside_scale(gguf: &Gguf, name: &str) -> Result<Option<f32>, MatrixError> {
    let Some(name) = scale_name(name) else {
        return Ok(None);
    };
    let Some(tensor) = gguf.tensor(&name) else {
        return Ok(None);
    };
    match (tensor.info.kind, tensor.data) {
        (TensorKind::F32, &[a, b, c, d]) => Ok(Some(f32::from_le_bytes([a, b, c, d]))),
        (kind, _) => Err(MatrixError::Scale {
            name,
            found: format!("{kind} {:?}", tensor.info.dims),
        }),
    }
}

fn wrap(name: &str, source: TernaryError) -> MatrixError {
    MatrixError::Ternary {
        name: name.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::gguf::{GgufBuilder, Value};

    fn build(fill: impl FnOnce(&mut GgufBuilder), data: &[&[u8]]) -> Gguf {
        let mut file = GgufBuilder::new();
        fill(&mut file);
        Gguf::from_bytes(file.to_bytes(data).unwrap()).unwrap()
    }

    fn row(gguf: &Gguf, name: &str, columns: usize) -> Vec<f32> {
        let mut out = vec![9.0; columns];
        Matrix::open(gguf, name)
            .unwrap()
            .decode_row(name, 0, &mut out)
            .unwrap();
        out
    }

    #[test]
    fn packed_rows_and_their_scale() {
        let trits: Vec<i8> = (0..576).map(|i| (i % 3) as i8 - 1).collect();
        let mut bytes = Vec::new();
        Packing::T5.encode(&trits, &[], &mut bytes).unwrap();
        let name = "blk.0.attn_q.weight";
        let gguf = build(
            |file| {
                file.value("onebit.packing", Value::String("t5".into()))
                    .value(&format!("onebit.columns.{name}"), Value::U32(576));
                file.tensor(name, &[bytes.len() as u64, 1], TensorKind::I8)
                    .unwrap();
                file.tensor("blk.0.attn_q.scale", &[1], TensorKind::F32)
                    .unwrap();
            },
            &[&bytes, &0.3_f32.to_le_bytes()],
        );
        let expected: Vec<f32> = trits.iter().map(|&trit| f32::from(trit) * 0.3).collect();
        assert_eq!(row(&gguf, name, 576), expected);
    }

    #[test]
    fn a_packing_of_its_own_wins() {
        let values: Vec<f32> = (0..64).map(|i| i as f32 - 31.0).collect();
        let mut bytes = Vec::new();
        i6::encode(&values, &mut bytes);
        let gguf = build(
            |file| {
                file.value("onebit.packing", Value::String("s34".into()))
                    .value(
                        "onebit.packing.token_embd.weight",
                        Value::String("i6".into()),
                    )
                    .value("onebit.columns.token_embd.weight", Value::U32(64));
                file.tensor("token_embd.weight", &[52, 1], TensorKind::I8)
                    .unwrap();
            },
            &[&bytes],
        );
        let mut expected = vec![0.0; 64];
        i6::decode(&bytes, &mut expected);
        assert_eq!(row(&gguf, "token_embd.weight", 64), expected);
    }

    #[test]
    fn the_tail_of_i2_s_is_its_scale() {
        let mut bytes = Vec::new();
        Packing::I2S.encode(&[1; 128], &[], &mut bytes).unwrap();
        bytes.extend(0.75_f32.to_le_bytes());
        bytes.resize(64, 0);
        let gguf = build(
            |file| {
                file.tensor("w", &[128, 1], TensorKind::I2S).unwrap();
            },
            &[&bytes],
        );
        assert_eq!(row(&gguf, "w", 128), [0.75; 128]);
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let refused = |packing: &str, columns: u32| {
            let gguf = build(
                |file| {
                    file.value("onebit.packing", Value::String(packing.into()))
                        .value("onebit.columns.w.weight", Value::U32(columns));
                    file.tensor("w.weight", &[4, 2], TensorKind::I8).unwrap();
                    file.tensor("w.scale", &[2], TensorKind::F32).unwrap();
                },
                &[&[0; 8], &[0; 8]],
            );
            Matrix::open(&gguf, "w.weight").unwrap_err().to_string()
        };
        assert_eq!(
            refused("t9", 16),
            "tensor w.weight is packed as \"t9\", which is not known"
        );
        assert!(refused("t2", 17).ends_with("17 columns take 5 bytes a row, not 4"));
        assert!(refused("s24", 30).contains("a multiple of 32"));
        assert!(refused("i6", 33).contains("i6"));
        assert_eq!(
            refused("t2", 16),
            "tensor w.scale must be one F32 number, not F32 [2]"
        );
    }
}
