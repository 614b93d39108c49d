//! F32, F16 and BF16 rows: little-endian numbers without blocks.

use half::{bf16, f16};

/// Reads a row of F32.
pub fn decode_f32(row: &[u8], out: &mut [f32]) {
    let (numbers, _) = row.as_chunks::<4>();
    for (value, &bytes) in out.iter_mut().zip(numbers) {
        *value = f32::from_le_bytes(bytes);
    }
}

/// Reads a row of F16.
pub fn decode_f16(row: &[u8], out: &mut [f32]) {
    let (numbers, _) = row.as_chunks::<2>();
    for (value, &bytes) in out.iter_mut().zip(numbers) {
        *value = f16::from_le_bytes(bytes).to_f32();
    }
}

/// Reads a row of BF16.
pub fn decode_bf16(row: &[u8], out: &mut [f32]) {
    let (numbers, _) = row.as_chunks::<2>();
    for (value, &bytes) in out.iter_mut().zip(numbers) {
        *value = bf16::from_le_bytes(bytes).to_f32();
    }
}

/// Writes a row of F32.
pub fn encode_f32(values: &[f32], row: &mut Vec<u8>) {
    values
        .iter()
        .for_each(|value| row.extend_from_slice(&value.to_le_bytes()));
}

/// Writes a row of F16, rounding to nearest even; what is too large becomes infinite.
pub fn encode_f16(values: &[f32], row: &mut Vec<u8>) {
    values
        .iter()
        .for_each(|&value| row.extend_from_slice(&f16::from_f32(value).to_le_bytes()));
}

/// Writes a row of BF16, rounding to nearest even.
pub fn encode_bf16(values: &[f32], row: &mut Vec<u8>) {
    values
        .iter()
        .for_each(|&value| row.extend_from_slice(&bf16::from_f32(value).to_le_bytes()));
}

/// The F16 at the start of `bytes`; block formats keep their scales so.
pub(super) fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_return() {
        let values = [0.0, -1.5, 65504.0, 0.000_061_035_156];
        let mut back = [0.0; 4];
        let mut row = Vec::new();
        encode_f16(&values, &mut row);
        decode_f16(&row, &mut back);
        assert_eq!(back, values);
        row.clear();
        encode_f32(&values, &mut row);
        decode_f32(&row, &mut back);
        assert_eq!(back, values);
        row.clear();
        encode_bf16(&values[..2], &mut row);
        decode_bf16(&row, &mut back[..2]);
        assert_eq!(back[..2], values[..2]);
    }
}
