//! Ternary matrices as sources have them: packed, packed four rows a byte, or as plain numbers.

use super::super::ternary::{Row, TernaryRows, Uniform};
use super::super::{TensorKind, row};
use super::ConvertError;

/// A ternary matrix, read row by row.
pub(super) trait Trits {
    fn columns(&self) -> usize;
    fn rows(&self) -> usize;
    fn read(&self, index: usize, row: &mut Row) -> Result<(), ConvertError>;
}

/// Rows in one of our packings.
pub(super) struct Packed<'a> {
    pub(super) name: String,
    pub(super) rows: TernaryRows<'a>,
}

impl Trits for Packed<'_> {
    fn columns(&self) -> usize {
        self.rows.columns()
    }

    fn rows(&self) -> usize {
        self.rows.rows()
    }

    fn read(&self, index: usize, row: &mut Row) -> Result<(), ConvertError> {
        self.rows
            .read(index, row)
            .map_err(|source| ConvertError::Row {
                tensor: self.name.clone(),
                row: index,
                source,
            })
    }
}

/// Floats, F32, F16 or BF16.
#[derive(Clone, Copy)]
pub(super) struct Floats<'a> {
    pub(super) kind: TensorKind,
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) data: &'a [u8],
}

impl Floats<'_> {
    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), ConvertError> {
        let size = self.data.len() / self.rows.max(1);
        Ok(row::decode(
            self.kind,
            &self.data[index * size..][..size],
            out,
        )?)
    }
}

/// Floats that are already `{-s, 0, s}`, one s a row.
pub(super) struct Unpacked<'a>(pub(super) Floats<'a>);

impl<'a> Unpacked<'a> {
    /// `None` if some row has more than one magnitude.
    pub(super) fn of(floats: Floats<'a>) -> Result<Option<Unpacked<'a>>, ConvertError> {
        let unpacked = Unpacked(floats);
        let mut values = vec![0.0; floats.columns];
        for index in 0..floats.rows {
            floats.read(index, &mut values)?;
            if magnitude(&values).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(unpacked))
    }
}

/// The one magnitude of the values that are not zero; 0 if all are.
fn magnitude(values: &[f32]) -> Option<f32> {
    let scale = values
        .iter()
        .map(|value| value.abs())
        .find(|&value| value != 0.0)
        .unwrap_or(0.0);
    let one = values
        .iter()
        .all(|&value| value == 0.0 || value.abs() == scale);
    (one && scale.is_finite()).then_some(scale)
}

impl Trits for Unpacked<'_> {
    fn columns(&self) -> usize {
        self.0.columns
    }

    fn rows(&self) -> usize {
        self.0.rows
    }

    fn read(&self, index: usize, row: &mut Row) -> Result<(), ConvertError> {
        let mut values = vec![0.0; self.0.columns];
        self.0.read(index, &mut values)?;
        let scale = magnitude(&values).unwrap_or(f32::NAN);
        row.trits.clear();
        row.trits.extend(values.iter().map(|&value| {
            if value == 0.0 {
                0
            } else {
                value.signum() as i8
            }
        }));
        row.scales.clear();
        row.scales.push(scale);
        row.group = self.0.columns;
        Ok(())
    }
}

/// A master's floats, quantised as BitNet does: s = max(mean|w|, 1e-5) over the tensor.
pub(super) struct Master<'a> {
    floats: Floats<'a>,
    scale: f32,
}

/// BitNet's least scale.
const LEAST_SCALE: f64 = 1e-5;

impl<'a> Master<'a> {
    pub(super) fn of(floats: Floats<'a>) -> Result<Master<'a>, ConvertError> {
        let (mut sum, mut values) = (0.0_f64, vec![0.0; floats.columns]);
        for index in 0..floats.rows {
            floats.read(index, &mut values)?;
            sum += values
                .iter()
                .map(|value| f64::from(value.abs()))
                .sum::<f64>();
        }
        let mean = sum / (floats.rows * floats.columns) as f64;
        Ok(Master {
            floats,
            scale: mean.max(LEAST_SCALE) as f32,
        })
    }
}

impl Trits for Master<'_> {
    fn columns(&self) -> usize {
        self.floats.columns
    }

    fn rows(&self) -> usize {
        self.floats.rows
    }

    fn read(&self, index: usize, row: &mut Row) -> Result<(), ConvertError> {
        let mut values = vec![0.0; self.floats.columns];
        self.floats.read(index, &mut values)?;
        let inverse = 1.0 / self.scale;
        row.trits.clear();
        row.trits.extend(
            values
                .iter()
                .map(|value| (value * inverse).round_ties_even().clamp(-1.0, 1.0) as i8),
        );
        row.scales.clear();
        row.scales.push(self.scale);
        row.group = self.floats.columns;
        Ok(())
    }
}

/// Hugging Face's packed form: byte row r holds rows r, r + n/4, r + n/2 and r + 3n/4.
pub(super) struct FourRows<'a> {
    pub(super) name: String,
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) data: &'a [u8],
    pub(super) scale: f32,
}

impl Trits for FourRows<'_> {
    fn columns(&self) -> usize {
        self.columns
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn read(&self, index: usize, row: &mut Row) -> Result<(), ConvertError> {
        let quarter = self.rows / 4;
        let bytes = &self.data[index % quarter * self.columns..][..self.columns];
        let shift = 2 * (index / quarter);
        row.trits.clear();
        for (column, byte) in bytes.iter().enumerate() {
            let code = byte >> shift & 3;
            if code == 3 {
                let what = format!("row {index}, column {column}: the code 3 means no weight");
                return Err(ConvertError::Tensor {
                    name: self.name.clone(),
                    what,
                });
            }
            row.trits.push(code as i8 - 1);
        }
        row.scales.clear();
        row.scales.push(self.scale);
        row.group = self.columns;
        Ok(())
    }
}

/// Query and key rows from split halves to neighbouring pairs, as GGUF's `llama` wants them.
pub(super) struct Interleaved<'a> {
    pub(super) inner: Box<dyn Trits + 'a>,
    pub(super) head: usize,
}

/// Where row `index` of interleaved heads stands in split ones.
pub(super) fn split_row(index: usize, head: usize) -> usize {
    let (start, within) = (index / head * head, index % head);
    start + within % 2 * (head / 2) + within / 2
}

impl Trits for Interleaved<'_> {
    fn columns(&self) -> usize {
        self.inner.columns()
    }

    fn rows(&self) -> usize {
        self.inner.rows()
    }

    fn read(&self, index: usize, row: &mut Row) -> Result<(), ConvertError> {
        self.inner.read(split_row(index, self.head), row)
    }
}

/// The one scale of a matrix; `None` where scales differ.
pub(super) fn common_scale(trits: &dyn Trits) -> Result<Option<f32>, ConvertError> {
    let (mut row, mut common) = (Row::default(), None);
    for index in 0..trits.rows() {
        trits.read(index, &mut row)?;
        match row.scale() {
            Uniform::Zero => {}
            Uniform::One(scale) if *common.get_or_insert(scale) == scale => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(common.unwrap_or(0.0)))
}
