//! Q5_0 and Q5_1: blocks of 32. Nibbles as in Q4_0; the fifth bit of weight i is bit i of a
//! little-endian u32. Q5_0: value = scale * (q - 16). Q5_1: value = scale * q + minimum.

use half::f16;

use super::float::f16_at;
use super::q4::span;

/// Weights in a block of either format.
pub const BLOCK: usize = 32;
/// Q5_0: scale, high bits, nibbles.
pub const BYTES_0: usize = 2 + 4 + BLOCK / 2;
/// Q5_1: scale, minimum, high bits, nibbles.
pub const BYTES_1: usize = 4 + 4 + BLOCK / 2;

/// The 32 codes of a block from its high bits and nibbles.
fn codes(bits: &[u8]) -> [u8; BLOCK] {
    let high = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    std::array::from_fn(|i| {
        let nibble = if i < 16 {
            bits[4 + i] & 15
        } else {
            bits[4 + i - 16] >> 4
        };
        nibble | ((high >> i & 1) as u8) << 4
    })
}

fn put_codes(codes: &[u8; BLOCK], row: &mut Vec<u8>) {
    let high = codes
        .iter()
        .enumerate()
        .fold(0_u32, |bits, (i, &code)| bits | u32::from(code >> 4) << i);
    row.extend_from_slice(&high.to_le_bytes());
    row.extend((0..16).map(|i| codes[i] & 15 | codes[i + 16] << 4));
}

/// Reads whole blocks of Q5_0.
pub fn decode_0(row: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES_0).zip(out.chunks_exact_mut(BLOCK)) {
        let scale = f16_at(block, 0);
        for (value, code) in out.iter_mut().zip(codes(&block[2..])) {
            *value = scale * (f32::from(code) - 16.0);
        }
    }
}

/// Reads whole blocks of Q5_1.
pub fn decode_1(row: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES_1).zip(out.chunks_exact_mut(BLOCK)) {
        let (scale, minimum) = (f16_at(block, 0), f16_at(block, 2));
        for (value, code) in out.iter_mut().zip(codes(&block[4..])) {
            *value = scale * f32::from(code) + minimum;
        }
    }
}

/// Writes whole blocks of Q5_0: the value of the largest magnitude becomes -16.
pub fn encode_0(values: &[f32], row: &mut Vec<u8>) {
    for block in values.chunks_exact(BLOCK) {
        let largest = block.iter().fold(
            0.0_f32,
            |far, &value| if value.abs() > far.abs() { value } else { far },
        );
        let scale = largest / -16.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        row.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
        put_codes(
            &std::array::from_fn(|i| ((block[i] * inverse + 16.5) as u8).min(31)),
            row,
        );
    }
}

/// Writes whole blocks of Q5_1: minimum to 0, maximum to 31.
pub fn encode_1(values: &[f32], row: &mut Vec<u8>) {
    for block in values.chunks_exact(BLOCK) {
        let (scale, minimum) = span(block, 31.0);
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        row.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
        row.extend_from_slice(&f16::from_f32(minimum).to_le_bytes());
        put_codes(
            &std::array::from_fn(|i| (((block[i] - minimum) * inverse + 0.5) as u8).min(31)),
            row,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_values_return() {
        let grid: Vec<f32> = (0..32).map(|i| i as f32 * 0.25 - 4.0).collect();
        let mut back = vec![0.0; 32];
        let mut row = Vec::new();
        encode_0(&grid, &mut row);
        assert_eq!(row.len(), BYTES_0);
        decode_0(&row, &mut back);
        assert_eq!(back, grid);
        row.clear();
        encode_1(&grid, &mut row);
        assert_eq!(row.len(), BYTES_1);
        decode_1(&row, &mut back);
        assert_eq!(back, grid);
    }
}
