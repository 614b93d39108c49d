//! Ternary packings: bits to trits and back. Knows no container, no model and no kernel.
//!
//! The layouts are defined in docs/formats.md. A packing either holds a row exactly or refuses it
//! with the column where it cannot.

mod g128;
mod i2_s;
mod rows;
mod sparse;
mod t2;
mod t5;
mod tq;

pub use i2_s::TAIL as I2_S_TAIL;
pub use rows::{Outside, Row, TernaryRows, Uniform};
pub use sparse::{S24, S34};

/// A packing that cannot be read, or a row that a packing cannot hold.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum TernaryError {
    #[error("{packing} needs rows of a multiple of {multiple} weights, not {columns}")]
    Columns {
        packing: &'static str,
        columns: usize,
        multiple: usize,
    },
    #[error(
        "{rows} rows of {columns} weights in {packing} are more than the {bytes} bytes there are"
    )]
    Size {
        packing: &'static str,
        rows: usize,
        columns: usize,
        bytes: usize,
    },
    #[error("there are {scales} scales for {rows} rows")]
    Scales { rows: usize, scales: usize },
    #[error("the {packing} code {code} at column {column} means no weight")]
    Code {
        packing: &'static str,
        column: usize,
        code: u8,
    },
    #[error("columns {column} to {} hold {found} zeros, but {packing} stores exactly {wanted}", column + 3)]
    Zeros {
        packing: &'static str,
        column: usize,
        found: usize,
        wanted: usize,
    },
    #[error("column {column} is zero, which {packing} cannot store")]
    Zero {
        packing: &'static str,
        column: usize,
    },
    #[error("{packing} stores its scales as F16, which cannot hold {scale} exactly")]
    Scale {
        packing: &'static str,
        scale: String,
    },
    #[error(
        "{packing} has one scale for each {group} weights, but the scales differ from column {column} on"
    )]
    Groups {
        packing: &'static str,
        group: usize,
        column: usize,
    },
}

/// Row, trits, scales that are inside the row.
type Decode = fn(&[u8], &mut [i8], &mut Vec<f32>) -> Result<(), TernaryError>;
/// Trits, scales that go inside the row, row.
type Encode = fn(&[i8], &[f32], &mut Vec<u8>) -> Result<(), TernaryError>;

/// A layout: blocks of `columns` trits in `bytes` bytes.
struct Codec {
    name: &'static str,
    /// What a row's length must be a multiple of.
    multiple: usize,
    columns: usize,
    bytes: usize,
    /// Weights that share a scale inside the row, if scales are inside: then a group is a block.
    group: Option<usize>,
    /// Where its F16 scale stands in a block, if scales are inside.
    scale: usize,
    decode: Decode,
    encode: Encode,
}

/// How the trits of a row are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packing {
    /// 2 bits a trit; also `.h1b` versions 1 and 2.
    T2,
    /// Base 3, five a byte.
    T5,
    /// Base 3, twenty in four bytes: `.h1b` version 4.
    T5Words,
    /// Exactly one zero in four; also `.h1b` version 3.
    S34,
    /// Exactly two zeros in four.
    S24,
    Tq1_0,
    Tq2_0,
    I2S,
    /// PrismML's ternary groups of 128.
    Q2G128,
    /// PrismML's binary groups of 128.
    Q1G128,
}

impl Packing {
    /// Every packing.
    pub const ALL: [Packing; 10] = [
        Packing::T2,
        Packing::T5,
        Packing::T5Words,
        Packing::S34,
        Packing::S24,
        Packing::Tq1_0,
        Packing::Tq2_0,
        Packing::I2S,
        Packing::Q2G128,
        Packing::Q1G128,
    ];

    /// The name in docs/formats.md, which is also the one in metadata.
    pub fn name(self) -> &'static str {
        self.codec().name
    }

    /// The packing of that name.
    pub fn named(name: &str) -> Option<Packing> {
        Packing::ALL
            .into_iter()
            .find(|packing| packing.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of a row, or why there is no such row.
    pub fn row_bytes(self, columns: usize) -> Result<usize, TernaryError> {
        let Codec {
            name,
            multiple,
            columns: block,
            bytes,
            ..
        } = *self.codec();
        if !columns.is_multiple_of(multiple) || columns == 0 {
            return Err(TernaryError::Columns {
                packing: name,
                columns,
                multiple,
            });
        }
        columns
            .div_ceil(block)
            .checked_mul(bytes)
            .ok_or(TernaryError::Size {
                packing: name,
                rows: 1,
                columns,
                bytes: usize::MAX,
            })
    }

    /// Weights that share a scale inside the row; `None` where scales are outside.
    pub fn group(self) -> Option<usize> {
        self.codec().group
    }

    /// The scale that all groups of these whole rows have, by their bits; `None` where they differ.
    fn common_scale(self, data: &[u8]) -> Option<f32> {
        let codec = self.codec();
        if codec.group.is_none() {
            return Some(1.0);
        }
        let mut scales = data
            .chunks_exact(codec.bytes)
            .map(|block| [block[codec.scale], block[codec.scale + 1]]);
        let first = scales.next()?;
        scales
            .all(|scale| scale == first)
            .then(|| half::f16::from_le_bytes(first).to_f32())
    }

    /// Reads `trits.len()` trits; appends the scales that are inside the row.
    pub fn decode(
        self,
        row: &[u8],
        trits: &mut [i8],
        scales: &mut Vec<f32>,
    ) -> Result<(), TernaryError> {
        let needed = self.row_bytes(trits.len())?;
        if row.len() != needed {
            return Err(TernaryError::Size {
                packing: self.name(),
                rows: 1,
                columns: trits.len(),
                bytes: row.len(),
            });
        }
        (self.codec().decode)(row, trits, scales)
    }

    /// Appends a row of trits, each -1, 0 or 1. `scales` has one entry a group, none where scales
    /// are outside.
    pub fn encode(
        self,
        trits: &[i8],
        scales: &[f32],
        row: &mut Vec<u8>,
    ) -> Result<(), TernaryError> {
        self.row_bytes(trits.len())?;
        let wanted = self.group().map_or(0, |group| trits.len() / group);
        if scales.len() != wanted {
            return Err(TernaryError::Scales {
                rows: wanted,
                scales: scales.len(),
            });
        }
        if let Some(&scale) = scales
            .iter()
            .find(|&&scale| half::f16::from_f32(scale).to_f32() != scale)
        {
            return Err(TernaryError::Scale {
                packing: self.name(),
                scale: scale.to_string(),
            });
        }
        (self.codec().encode)(trits, scales, row)
    }

    fn codec(self) -> &'static Codec {
        match self {
            Packing::T2 => &t2::CODEC,
            Packing::T5 => &t5::CODEC,
            Packing::T5Words => &t5::WORDS,
            Packing::S34 => &sparse::ONE_ZERO,
            Packing::S24 => &sparse::TWO_ZEROS,
            Packing::Tq1_0 => &tq::TQ1_0,
            Packing::Tq2_0 => &tq::TQ2_0,
            Packing::I2S => &i2_s::CODEC,
            Packing::Q2G128 => &g128::TERNARY,
            Packing::Q1G128 => &g128::BINARY,
        }
    }
}

#[cfg(test)]
mod tests;
