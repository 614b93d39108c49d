//! Q8_0: blocks of 32, an F16 scale and 32 signed bytes. value = scale * q.

use half::f16;

use super::float::f16_at;

/// Weights in a block.
pub const BLOCK: usize = 32;
/// Scale and weights.
pub const BYTES: usize = 2 + BLOCK;

/// Reads whole blocks.
pub fn decode(row: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let scale = f16_at(block, 0);
        for (value, &q) in out.iter_mut().zip(&block[2..]) {
            *value = scale * f32::from(q as i8);
        }
    }
}

/// Writes whole blocks: the scale maps the largest magnitude to 127, rounding half away from zero.
pub fn encode(values: &[f32], row: &mut Vec<u8>) {
    for block in values.chunks_exact(BLOCK) {
        let largest = block
            .iter()
            .fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let scale = largest / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        row.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
        row.extend(
            block
                .iter()
                .map(|value| (value * inverse).round() as i8 as u8),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_by_hand() {
        let mut row = f16::from_f32(0.5).to_le_bytes().to_vec();
        row.extend((0..32).map(|i| (i - 16) as i8 as u8));
        let mut out = [0.0; 32];
        decode(&row, &mut out);
        assert_eq!((out[0], out[16], out[31]), (-8.0, 0.0, 7.5));
    }

    #[test]
    fn encoding_is_near_and_keeps_zero() {
        let values: Vec<f32> = (0..64)
            .map(|i| if i < 32 { (i as f32 - 15.0) / 7.0 } else { 0.0 })
            .collect();
        let mut row = Vec::new();
        encode(&values, &mut row);
        assert_eq!(row.len(), 2 * BYTES);
        let mut back = vec![0.0; 64];
        decode(&row, &mut back);
        for (value, back) in values.iter().zip(&back) {
            // Half a step, and the scale's own rounding to 11 bits.
            assert!(
                (value - back).abs() <= 0.5 * 16.0 / 7.0 / 127.0 + value.abs() / 2048.0,
                "{value} {back}"
            );
        }
        assert!(back[32..].iter().all(|&value| value == 0.0));
    }
}
