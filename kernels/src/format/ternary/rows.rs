//! One view of every ternary matrix: trits of a row and the scales that belong to them.

use super::{Packing, TernaryError};

/// Scales that a packing does not hold itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Outside {
    /// One for the whole matrix.
    Matrix(f32),
    /// One a row.
    Rows(Vec<f32>),
}

/// A packed ternary matrix, read row by row.
#[derive(Debug, Clone)]
pub struct TernaryRows<'a> {
    packing: Packing,
    columns: usize,
    rows: usize,
    row_bytes: usize,
    data: &'a [u8],
    outside: Outside,
}

/// A row of trits. `scales[c / group]` belongs to column `c`; a row has at least one scale.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    pub trits: Vec<i8>,
    pub scales: Vec<f32>,
    pub group: usize,
}

impl<'a> TernaryRows<'a> {
    /// A matrix of `rows` rows; `data` may be longer than its rows (I2_S has a tail).
    pub fn new(
        packing: Packing,
        columns: usize,
        rows: usize,
        data: &'a [u8],
        outside: Outside,
    ) -> Result<TernaryRows<'a>, TernaryError> {
        let row_bytes = packing.row_bytes(columns)?;
        let needed = row_bytes
            .checked_mul(rows)
            .filter(|&needed| needed <= data.len());
        if needed.is_none() {
            return Err(TernaryError::Size {
                packing: packing.name(),
                rows,
                columns,
                bytes: data.len(),
            });
        }
        if let Outside::Rows(scales) = &outside
            && scales.len() != rows
        {
            return Err(TernaryError::Scales {
                rows,
                scales: scales.len(),
            });
        }
        Ok(TernaryRows {
            packing,
            columns,
            rows,
            row_bytes,
            data,
            outside,
        })
    }

    /// How the rows are stored.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Weights in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The stored bytes of a row.
    pub fn bytes(&self, row: usize) -> &'a [u8] {
        &self.data[row * self.row_bytes..][..self.row_bytes]
    }

    /// Reads row `index` into `row`, reusing its memory.
    pub fn read(&self, index: usize, row: &mut Row) -> Result<(), TernaryError> {
        row.trits.resize(self.columns, 0);
        row.scales.clear();
        self.packing
            .decode(self.bytes(index), &mut row.trits, &mut row.scales)?;
        let outside = match &self.outside {
            Outside::Matrix(scale) => *scale,
            Outside::Rows(scales) => scales[index],
        };
        match self.packing.group() {
            Some(group) => {
                row.group = group;
                row.scales.iter_mut().for_each(|scale| *scale *= outside);
            }
            None => {
                row.group = self.columns;
                row.scales.push(outside);
            }
        }
        Ok(())
    }

    /// Reads the trits of row `index` alone.
    pub fn trits(&self, index: usize, trits: &mut [i8]) -> Result<(), TernaryError> {
        self.packing
            .decode(self.bytes(index), trits, &mut Vec::new())
    }

    /// The one scale of the whole matrix, or `None` where scales differ. Groups without any
    /// weight but zero have no say.
    pub fn scale(&self) -> Result<Option<f32>, TernaryError> {
        // Where all scales are the same bits nobody needs to look at the weights.
        let all = &self.data[..self.rows * self.row_bytes];
        if let (Outside::Matrix(outside), Some(inside)) =
            (&self.outside, self.packing.common_scale(all))
        {
            return Ok(Some(inside * outside));
        }
        let mut row = Row::default();
        let mut common = None;
        for index in 0..self.rows {
            self.read(index, &mut row)?;
            match row.scale() {
                Uniform::Zero => {}
                Uniform::One(scale) if *common.get_or_insert(scale) == scale => {}
                _ => return Ok(None),
            }
        }
        Ok(Some(common.unwrap_or(0.0)))
    }
}

/// The scales of a row, seen together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Uniform {
    /// All weights are zero: any scale would do.
    Zero,
    /// One scale holds wherever a weight is not zero.
    One(f32),
    /// Scales differ.
    Many,
}

impl Row {
    /// Whether one scale holds for the row.
    pub fn scale(&self) -> Uniform {
        self.scale_of(0..self.trits.len())
    }

    /// Whether one scale holds for these columns.
    pub fn scale_of(&self, columns: std::ops::Range<usize>) -> Uniform {
        let mut common = Uniform::Zero;
        let mut at = columns.start;
        while at < columns.end {
            let end = columns.end.min((at / self.group + 1) * self.group);
            if self.trits[at..end].iter().any(|&trit| trit != 0) {
                let scale = self.scales[at / self.group];
                match common {
                    Uniform::Zero => common = Uniform::One(scale),
                    Uniform::One(known) if known == scale => {}
                    _ => return Uniform::Many,
                }
            }
            at = end;
        }
        common
    }
}
