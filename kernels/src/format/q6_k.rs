//! Q6_K: super-blocks of 256 = 16 groups of 16 with signed 8-bit scales.
//!
//! Layout: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 scales, F16 scale.
//! In each half of 128 weights, l in 0..32 gives weights l, l + 32, l + 64 and l + 96: low
//! nibbles of bytes l and l + 32, then their high nibbles; bits 0-1, 2-3, 4-5, 6-7 of high byte l.
//! value = scale * s[weight / 16] * (q - 32).

use half::f16;

use super::float::f16_at;

/// Weights in a super-block.
pub const BLOCK: usize = 256;
/// Low nibbles, high pairs, group scales, scale.
pub const BYTES: usize = BLOCK / 2 + BLOCK / 4 + 16 + 2;

/// Where weight `i` of a super-block keeps its bits: (low byte, low shift, high byte, high shift).
fn place(i: usize) -> (usize, u32, usize, u32) {
    let (half, quarter, l) = (i / 128, i % 128 / 32, i % 32);
    let low = half * 64 + l + 32 * (quarter % 2);
    (
        low,
        4 * (quarter as u32 / 2),
        128 + half * 32 + l,
        2 * quarter as u32,
    )
}

/// All codes of a super-block, plus 32: 0..=63.
pub fn codes(block: &[u8]) -> [u8; BLOCK] {
    let mut codes = [0; BLOCK];
    for (half, codes) in codes.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let (low, high) = (&block[64 * half..][..64], &block[128 + 32 * half..][..32]);
        for (quarter, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let low = &low[32 * (quarter % 2)..];
            for ((code, low), high) in codes.iter_mut().zip(low).zip(high) {
                *code = low >> (4 * (quarter / 2)) & 15 | (high >> (2 * quarter) & 3) << 4;
            }
        }
    }
    codes
}

/// Reads whole super-blocks.
pub fn decode(row: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let scale = f16_at(block, 208);
        let codes = codes(block);
        for ((out, codes), &group) in out
            .as_chunks_mut::<16>()
            .0
            .iter_mut()
            .zip(codes.as_chunks::<16>().0)
            .zip(&block[192..208])
        {
            for (value, &code) in out.iter_mut().zip(codes) {
                *value = scale * f32::from(group as i8) * f32::from(code as i8 - 32);
            }
        }
    }
}

/// Writes whole super-blocks. Each group's largest value maps to -32; no search for a better
/// scale is made, so the error is a little above that of llama.cpp's quantiser.
pub fn encode(values: &[f32], row: &mut Vec<u8>) {
    for values in values.chunks_exact(BLOCK) {
        let mut groups = [0.0_f32; 16];
        for (scale, group) in groups.iter_mut().zip(values.chunks_exact(16)) {
            let far = group
                .iter()
                .fold(0.0_f32, |far, &v| if v.abs() > far.abs() { v } else { far });
            *scale = far / -32.0;
        }
        let far = groups
            .iter()
            .fold(0.0_f32, |far, &v| if v.abs() > far.abs() { v } else { far });
        let scale = f16::from_f32(far / -128.0);
        let inverse = if scale.to_f32() == 0.0 {
            0.0
        } else {
            1.0 / scale.to_f32()
        };
        let scales = groups.map(|group| (group * inverse).round().clamp(-128.0, 127.0) as i8);

        let start = row.len();
        row.resize(start + BYTES, 0);
        let block = &mut row[start..];
        for (i, &value) in values.iter().enumerate() {
            let step = scale.to_f32() * f32::from(scales[i / 16]);
            let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
            let code = (value * inverse).round().clamp(-32.0, 31.0) as i8 + 32;
            let (low, low_shift, high, high_shift) = place(i);
            block[low] |= (code as u8 & 15) << low_shift;
            block[high] |= (code as u8 >> 4) << high_shift;
        }
        for (byte, scale) in block[192..208].iter_mut().zip(scales) {
            *byte = scale as u8;
        }
        block[208..].copy_from_slice(&scale.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_has_its_own_bits() {
        let mut seen = [0_u8; 192];
        for i in 0..BLOCK {
            let (low, low_shift, high, high_shift) = place(i);
            for (byte, mask) in [(low, 15 << low_shift), (high, 3 << high_shift)] {
                assert_eq!(seen[byte] & mask, 0, "weight {i}");
                seen[byte] |= mask;
            }
        }
        assert_eq!(seen, [255; 192]);
    }

    #[test]
    fn codes_are_where_they_are_placed() {
        let block: Vec<u8> = (0..BYTES).map(|i| (i * 89 % 251) as u8).collect();
        for (i, code) in codes(&block).into_iter().enumerate() {
            let (low, low_shift, high, high_shift) = place(i);
            let wanted = block[low] >> low_shift & 15 | (block[high] >> high_shift & 3) << 4;
            assert_eq!(code, wanted, "weight {i}");
        }
    }

    #[test]
    fn encoding_is_near() {
        let values: Vec<f32> = (0..512)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0)
            .collect();
        let mut row = Vec::new();
        encode(&values, &mut row);
        assert_eq!(row.len(), 2 * BYTES);
        let mut back = vec![0.0; 512];
        decode(&row, &mut back);
        for (value, back) in values.iter().zip(&back) {
            // A step is at most 1/32 of the largest value; the positive end is clipped by one step.
            assert!((value - back).abs() <= 0.04, "{value} {back}");
        }
    }
}
