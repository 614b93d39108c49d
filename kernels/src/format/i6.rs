//! `i6`: embeddings in blocks of 32 columns, an F16 scale and 32 six-bit numbers -31..=31 stored
//! + 32, least significant bit first. Each block is also a Q8_0 block of the same values.

use half::f16;

use super::{float::f16_at, q8_0};

/// Columns in a block.
pub const BLOCK: usize = 32;
/// Scale and numbers.
pub const BYTES: usize = 2 + BLOCK * 6 / 8;

/// Largest magnitude of a number.
const TOP: f32 = 31.0;
/// The smallest scale that F16 can hold: a block of zeros still divides by something.
const LEAST: f32 = 5.960_464_5e-8;

/// The number of column `i` of a block.
pub(crate) fn number(block: &[u8], i: usize) -> i8 {
    let (byte, shift) = (2 + 6 * i / 8, 6 * i % 8);
    let next = block.get(byte + 1).copied().unwrap_or(0);
    ((u16::from_le_bytes([block[byte], next]) >> shift) as u8 & 63) as i8 - 32
}

/// Reads whole blocks.
pub fn decode(row: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let scale = f16_at(block, 0);
        for (i, value) in out.iter_mut().enumerate() {
            *value = scale * f32::from(number(block, i));
        }
    }
}

/// Appends the same blocks as Q8_0, without loss.
pub fn to_q8_0(row: &[u8], out: &mut Vec<u8>) {
    out.reserve(row.len() / BYTES * q8_0::BYTES);
    for block in row.chunks_exact(BYTES) {
        out.extend_from_slice(&block[..2]);
        out.extend((0..BLOCK).map(|i| number(block, i) as u8));
    }
}

/// Writes whole blocks: the largest magnitude becomes ±31, rounding half to even.
pub fn encode(values: &[f32], row: &mut Vec<u8>) {
    for values in values.chunks_exact(BLOCK) {
        let largest = values
            .iter()
            .fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = f16::from_f32((largest / TOP).max(LEAST));
        let start = row.len();
        row.resize(start + BYTES, 0);
        let block = &mut row[start..];
        block[..2].copy_from_slice(&scale.to_le_bytes());
        for (i, value) in values.iter().enumerate() {
            let number = (value / scale.to_f32()).round_ties_even().clamp(-TOP, TOP) as i8;
            let (byte, shift) = (2 + 6 * i / 8, 6 * i % 8);
            let [low, high] = (((number + 32) as u16) << shift).to_le_bytes();
            block[byte] |= low;
            if high != 0 {
                block[byte + 1] |= high;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(BYTES, 26);
        assert_eq!(f16::from_f32(LEAST).to_bits(), 1);
    }

    #[test]
    fn blocks_return_as_floats_and_as_q8_0() {
        let values: Vec<f32> = (0..64)
            .map(|i| if i < 32 { (i - 16) as f32 * 0.5 } else { 0.0 })
            .collect();
        let mut row = Vec::new();
        encode(&values, &mut row);
        assert_eq!(row.len(), 2 * BYTES);
        let (mut floats, mut bytes, mut again) = (vec![0.0; 64], Vec::new(), vec![0.0; 64]);
        decode(&row, &mut floats);
        to_q8_0(&row, &mut bytes);
        q8_0::decode(&bytes, &mut again);
        assert_eq!(floats, again);
        for (value, back) in values.iter().zip(&floats) {
            assert!(
                (value - back).abs() <= 0.5 * 8.0 / 31.0 + 0.01,
                "{value} {back}"
            );
        }
    }

    /// Bytes from `tests/golden/write.py`, whose embeddings are multiples of 1/64.
    #[test]
    fn golden_bytes_are_written() {
        let golden = include_bytes!("../../tests/golden/i6.bin");
        let mut state = 1_u32;
        let mut values: Vec<f32> = (0..3 * 512)
            .map(|_| {
                state = state.wrapping_mul(1_103_515_245).wrapping_add(12345) & 0x7fff_ffff;
                ((state >> 16) % 257) as f32 / 64.0 - 2.0
            })
            .collect();
        values[3 * 512 - 32..].fill(0.0);
        let mut bytes = Vec::new();
        encode(&values, &mut bytes);
        assert!(bytes == golden);
    }
}
