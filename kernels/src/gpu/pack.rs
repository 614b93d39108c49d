//! Weights, tables and activations in the order in which GPU kernels read them. The weights' bits are those of
//! `cpu/ternary`; only neighbouring steps of a row are put side by side, so that a lane loads 16 bytes at a time.

use crate::cpu::ternary::{BLOCK_ROWS, Layout, TernaryMatrix};
use crate::format::i6;
use crate::format::matrix::Matrix as Stored;
use crate::format::{TensorKind, q8_0};

/// CPU steps (one word a row) that make one GPU step.
const STEPS_TOGETHER: usize = 4;

/// Words of a block that the CPU's packing has for each row.
fn row_words(layout: Layout, columns: usize) -> usize {
    match layout {
        Layout::P2 => columns.div_ceil(16),
        Layout::B5 => (columns.div_ceil(16) * 4).div_ceil(5),
        Layout::S34 | Layout::S24 => columns.div_ceil(128) * 5,
    }
}

/// Steps of a row as GPU kernels count them.
pub(crate) fn steps(layout: Layout, columns: usize) -> usize {
    match layout {
        Layout::P2 | Layout::B5 => row_words(layout, columns).div_ceil(STEPS_TOGETHER),
        Layout::S34 | Layout::S24 => columns.div_ceil(128),
    }
}

/// Words of a block of 32 rows.
pub(crate) fn block_words(layout: Layout, columns: usize) -> usize {
    let words = match layout {
        Layout::P2 | Layout::B5 => STEPS_TOGETHER,
        Layout::S34 | Layout::S24 => 5,
    };
    steps(layout, columns) * words * BLOCK_ROWS
}

/// Words of a row of int8 codes: whole steps of every layout (16, 20 and 32 words).
pub(crate) fn code_words(columns: usize) -> usize {
    columns.div_ceil(640) * 160
}

/// A packed matrix.
pub(crate) fn weights(matrix: &TernaryMatrix) -> Vec<u32> {
    let (layout, columns) = (matrix.layout(), matrix.columns());
    let words = super::ops::words_of(matrix.packed());
    if matches!(layout, Layout::S34 | Layout::S24) {
        return words;
    }
    let (per_row, size) = (row_words(layout, columns), block_words(layout, columns));
    let mut out = vec![0; matrix.n_blocks() * size];
    for (block, out) in words
        .chunks_exact(per_row * BLOCK_ROWS)
        .zip(out.chunks_exact_mut(size))
    {
        for (step, rows) in block.chunks_exact(BLOCK_ROWS).enumerate() {
            let (group, i) = (step / STEPS_TOGETHER, step % STEPS_TOGETHER);
            for (row, word) in rows.iter().enumerate() {
                out[(group * BLOCK_ROWS + row) * STEPS_TOGETHER + i] = *word;
            }
        }
    }
    out
}

/// What a block of 32 rows needs to know: its first output row, its rows, the bits of its scale.
pub(crate) fn blocks(parts: &[(&TernaryMatrix, f32)]) -> Vec<u32> {
    let (mut out, mut first) = (Vec::new(), 0);
    for (matrix, scale) in parts {
        for block in 0..matrix.n_blocks() {
            let rows = (matrix.rows() - block * BLOCK_ROWS).min(BLOCK_ROWS);
            let row = first + block * BLOCK_ROWS;
            out.extend([row as u32, rows as u32, scale.to_bits(), 0]);
        }
        first += matrix.rows();
    }
    out
}

/// A row of int8 codes in stored order, padded with zeros to [`code_words`].
pub(crate) fn codes(row: &[i8], columns: usize) -> Vec<u32> {
    let bytes: Vec<u8> = row.iter().map(|c| c.cast_unsigned()).collect();
    let mut words = super::ops::words_of(&bytes);
    words.resize(code_words(columns), 0);
    words
}

/// The p2 byte of each of 32 codes.
pub(crate) fn codebook(layout: Layout) -> Vec<u32> {
    layout.codebook().iter().map(|b| u32::from(*b)).collect()
}

/// A table of 8- or 6-bit numbers with a scale for each 32 columns: embedding and head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// 8 or 6.
    pub(crate) bits: u32,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Codes, 32 rows side by side.
    pub(crate) codes: Vec<u32>,
    /// Scales in half precision, two blocks a word, 32 rows side by side.
    pub(crate) scales: Vec<u32>,
}

/// Columns of a block of a table.
const TABLE_BLOCK: usize = 32;

impl Table {
    /// Repacks a stored matrix; `None` if its type is neither Q8_0 nor i6.
    pub(crate) fn of(stored: &Stored<'_>) -> Option<Table> {
        match stored {
            Stored::Dense {
                kind: TensorKind::Q8_0,
                columns,
                rows,
                data,
            } => Some(Table::eight(*rows, *columns, data)),
            Stored::SixBit {
                columns,
                rows,
                data,
            } => Some(Table::six(*rows, *columns, data)),
            _ => None,
        }
    }

    /// Bits of a number of the table that a stored matrix makes.
    pub(crate) fn bits_of(stored: &Stored<'_>) -> Option<u32> {
        match stored {
            Stored::Dense {
                kind: TensorKind::Q8_0,
                ..
            } => Some(8),
            Stored::SixBit { .. } => Some(6),
            _ => None,
        }
    }

    fn empty(bits: u32, rows: usize, columns: usize) -> Table {
        let (tiles, blocks) = (rows.div_ceil(BLOCK_ROWS), columns / TABLE_BLOCK);
        Table {
            bits,
            rows,
            columns,
            codes: vec![0; tiles * blocks * BLOCK_ROWS * bits as usize],
            scales: vec![0; tiles * blocks.div_ceil(2) * BLOCK_ROWS],
        }
    }

    fn set_scale(&mut self, row: usize, block: usize, half: [u8; 2]) {
        let words = (self.columns / TABLE_BLOCK).div_ceil(2);
        let at = (row / BLOCK_ROWS * words + block / 2) * BLOCK_ROWS + row % BLOCK_ROWS;
        self.scales[at] |= u32::from(u16::from_le_bytes(half)) << (16 * (block % 2));
    }

    pub(crate) fn eight(rows: usize, columns: usize, data: &[u8]) -> Table {
        let mut table = Table::empty(8, rows, columns);
        let blocks = columns / TABLE_BLOCK;
        for (i, block) in data
            .chunks_exact(q8_0::BYTES)
            .take(rows * blocks)
            .enumerate()
        {
            let (row, b) = (i / blocks, i % blocks);
            table.set_scale(row, b, [block[0], block[1]]);
            let tile = (row / BLOCK_ROWS * blocks + b) * 2;
            for (k, word) in super::ops::words_of(&block[2..]).into_iter().enumerate() {
                let at = ((tile + k / 4) * BLOCK_ROWS + row % BLOCK_ROWS) * 4 + k % 4;
                table.codes[at] = word;
            }
        }
        table
    }

    pub(crate) fn six(rows: usize, columns: usize, data: &[u8]) -> Table {
        let mut table = Table::empty(6, rows, columns);
        let blocks = columns / TABLE_BLOCK;
        for (i, block) in data.chunks_exact(i6::BYTES).take(rows * blocks).enumerate() {
            let (row, b) = (i / blocks, i % blocks);
            table.set_scale(row, b, [block[0], block[1]]);
            let (tile, lane) = ((row / BLOCK_ROWS * blocks + b) * 48 * 4, row % BLOCK_ROWS);
            for column in 0..TABLE_BLOCK {
                let number = (i32::from(i6::number(block, column)) + 32).cast_unsigned();
                let (k, byte) = (column / 4, 8 * (column % 4));
                let low = tile + lane * 4 + k / 2;
                table.codes[low] |= (number & 15) << (byte + 4 * (k % 2));
                let high = tile + (BLOCK_ROWS + lane / 2) * 4 + 2 * (lane % 2) + k / 4;
                table.codes[high] |= (number >> 4) << (byte + 2 * (k % 4));
            }
        }
        table
    }

    /// Words of scales that a row of tiles has.
    pub(crate) fn scale_words(&self) -> usize {
        (self.columns / TABLE_BLOCK).div_ceil(2)
    }

    /// Column `c` of a row: scale and number.
    pub(crate) fn at(&self, row: usize, c: usize) -> (f32, i32) {
        let (blocks, b) = (self.columns / TABLE_BLOCK, c / TABLE_BLOCK);
        let (lane, tile) = (row % BLOCK_ROWS, row / BLOCK_ROWS * blocks + b);
        let words =
            self.scales[(row / BLOCK_ROWS * self.scale_words() + b / 2) * BLOCK_ROWS + lane];
        let scale = half::f16::from_bits((words >> (16 * (b % 2))) as u16).to_f32();
        let (k, byte) = (c % TABLE_BLOCK / 4, 8 * (c % 4));
        let number = if self.bits == 8 {
            let word = self.codes[((tile * 2 + k / 4) * BLOCK_ROWS + lane) * 4 + k % 4];
            i32::from((word >> byte) as u8 as i8)
        } else {
            let low = self.codes[tile * 192 + lane * 4 + k / 2] >> (4 * (k % 2) + byte) & 15;
            let high = self.codes[tile * 192 + (32 + lane / 2) * 4 + 2 * (lane % 2) + k / 4]
                >> (2 * (k % 4) + byte)
                & 3;
            (low | high << 4) as i32 - 32
        };
        (scale, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::ops::Noise;

    #[test]
    fn tables_hold_what_the_file_holds() {
        let mut noise = Noise::new(3);
        let (rows, columns) = (37, 96);
        let values = noise.floats(rows * columns);
        for six in [false, true] {
            let mut data = Vec::new();
            if six {
                i6::encode(&values, &mut data);
            } else {
                for block in values.chunks_exact(32) {
                    data.extend(half::f16::from_f32(0.01).to_le_bytes());
                    data.extend(block.iter().map(|v| (v * 100.0) as i8 as u8));
                }
            }
            let table = if six {
                Table::six(rows, columns, &data)
            } else {
                Table::eight(rows, columns, &data)
            };
            let mut decoded = vec![0.0; rows * columns];
            if six {
                i6::decode(&data, &mut decoded);
            } else {
                q8_0::decode(&data, &mut decoded);
            }
            for row in 0..rows {
                for c in 0..columns {
                    let (scale, number) = table.at(row, c);
                    assert_eq!(
                        scale * number as f32,
                        decoded[row * columns + c],
                        "{row} {c}"
                    );
                }
            }
        }
    }
}
