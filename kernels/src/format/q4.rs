//! Q4_0 and Q4_1: blocks of 32 nibbles. Byte i holds weight i (low) and weight i + 16 (high).
//! Q4_0: value = scale * (q - 8). Q4_1: value = scale * q + minimum.

use half::f16;

use super::float::f16_at;

/// Weights in a block of either format.
pub const BLOCK: usize = 32;
/// Q4_0: scale and nibbles.
pub const BYTES_0: usize = 2 + BLOCK / 2;
/// Q4_1: scale, minimum and nibbles.
pub const BYTES_1: usize = 4 + BLOCK / 2;

/// Reads whole blocks of Q4_0.
pub fn decode_0(row: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES_0).zip(out.chunks_exact_mut(BLOCK)) {
        let scale = f16_at(block, 0);
        for (i, &byte) in block[2..].iter().enumerate() {
            out[i] = scale * (f32::from(byte & 15) - 8.0);
            out[i + 16] = scale * (f32::from(byte >> 4) - 8.0);
        }
    }
}

/// Reads whole blocks of Q4_1.
pub fn decode_1(row: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES_1).zip(out.chunks_exact_mut(BLOCK)) {
        let (scale, minimum) = (f16_at(block, 0), f16_at(block, 2));
        for (i, &byte) in block[4..].iter().enumerate() {
            out[i] = scale * f32::from(byte & 15) + minimum;
            out[i + 16] = scale * f32::from(byte >> 4) + minimum;
        }
    }
}

/// Writes whole blocks of Q4_0: the value of the largest magnitude becomes -8.
pub fn encode_0(values: &[f32], row: &mut Vec<u8>) {
    for block in values.chunks_exact(BLOCK) {
        let largest = block.iter().fold(
            0.0_f32,
            |far, &value| if value.abs() > far.abs() { value } else { far },
        );
        let scale = largest / -8.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let code = |value: f32| ((value * inverse + 8.5) as u8).min(15);
        row.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
        row.extend((0..16).map(|i| code(block[i]) | code(block[i + 16]) << 4));
    }
}

/// Writes whole blocks of Q4_1: minimum to 0, maximum to 15.
pub fn encode_1(values: &[f32], row: &mut Vec<u8>) {
    for block in values.chunks_exact(BLOCK) {
        let (scale, minimum) = span(block, 15.0);
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let code = |value: f32| (((value - minimum) * inverse + 0.5) as u8).min(15);
        row.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
        row.extend_from_slice(&f16::from_f32(minimum).to_le_bytes());
        row.extend((0..16).map(|i| code(block[i]) | code(block[i + 16]) << 4));
    }
}

/// Step and minimum that map a block's values to 0..=`top`.
pub(super) fn span(block: &[f32], top: f32) -> (f32, f32) {
    let minimum = block.iter().copied().fold(f32::INFINITY, f32::min);
    let maximum = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    ((maximum - minimum) / top, minimum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_by_hand() {
        let mut row = f16::from_f32(2.0).to_le_bytes().to_vec();
        row.push(0xf0);
        row.extend([0x88; 15]);
        let mut out = [0.0; 32];
        decode_0(&row, &mut out);
        assert_eq!((out[0], out[16], out[1], out[17]), (-16.0, 14.0, 0.0, 0.0));

        let mut row = f16::from_f32(2.0).to_le_bytes().to_vec();
        row.extend(f16::from_f32(-1.0).to_le_bytes());
        row.push(0xf0);
        row.extend([0; 15]);
        decode_1(&row, &mut out);
        assert_eq!((out[0], out[16], out[31]), (-1.0, 29.0, -1.0));
    }

    #[test]
    fn exact_values_return() {
        let grid: Vec<f32> = (0..32).map(|i| (i % 16) as f32 * 0.5 - 4.0).collect();
        let mut back = vec![0.0; 32];
        let mut row = Vec::new();
        encode_0(&grid, &mut row);
        decode_0(&row, &mut back);
        assert_eq!(back, grid);
        row.clear();
        encode_1(&grid, &mut row);
        assert_eq!(row.len(), BYTES_1);
        decode_1(&row, &mut back);
        assert_eq!(back, grid);
    }
}
