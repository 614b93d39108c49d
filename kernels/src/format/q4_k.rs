//! Q4_K: super-blocks of 256 = 8 groups of 32 with 6-bit scales and minimums.
//!
//! Layout: F16 scale, F16 minimum scale, 12 bytes of packed 6-bit numbers, 128 bytes of nibbles.
//! Bytes 32j..32j+32 of the nibbles hold groups 2j (low) and 2j + 1 (high).
//! value = scale * s[group] * q - minimum * m[group].

use super::float::f16_at;

/// Weights in a super-block.
pub const BLOCK: usize = 256;
/// Two scales, 12 bytes of group scales, nibbles.
pub const BYTES: usize = 4 + 12 + BLOCK / 2;

/// The 6-bit scale and minimum of group 0..8 out of the 12 packed bytes.
pub fn group_scale(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        (
            packed[group + 4] & 15 | (packed[group - 4] >> 6) << 4,
            packed[group + 4] >> 4 | (packed[group] >> 6) << 4,
        )
    }
}

/// Reads whole super-blocks.
pub fn decode(row: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let (scale, minimum) = (f16_at(block, 0), f16_at(block, 2));
        let (packed, nibbles) = (&block[4..16], &block[16..]);
        for group in 0..8 {
            let (s, m) = group_scale(packed, group);
            let (step, base) = (scale * f32::from(s), minimum * f32::from(m));
            let bytes = &nibbles[group / 2 * 32..][..32];
            for (value, &byte) in out[group * 32..][..32].iter_mut().zip(bytes) {
                let code = if group % 2 == 0 { byte & 15 } else { byte >> 4 };
                *value = step * f32::from(code) - base;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn group_scales_unpack() {
        // Scales 1, 2, 3, 4, 49, 34, 19, 63 and minimums 5, 6, 7, 8, 50, 35, 20, 62 by hand.
        let scales = [1_u8, 2, 3, 4, 49, 34, 19, 63];
        let minimums = [5_u8, 6, 7, 8, 50, 35, 20, 62];
        let mut packed = [0_u8; 12];
        for i in 0..4 {
            packed[i] = scales[i] | (scales[i + 4] >> 4) << 6;
            packed[i + 4] = minimums[i] | (minimums[i + 4] >> 4) << 6;
            packed[i + 8] = scales[i + 4] & 15 | minimums[i + 4] << 4;
        }
        for group in 0..8 {
            assert_eq!(
                group_scale(&packed, group),
                (scales[group], minimums[group])
            );
        }
    }

    #[test]
    fn a_block_by_hand() {
        let mut row = f16::from_f32(0.5).to_le_bytes().to_vec();
        row.extend(f16::from_f32(0.25).to_le_bytes());
        row.extend([2, 3, 0, 0, 4, 8, 0, 0, 0, 0, 0, 0]);
        row.extend([0x5a; 128]);
        let mut out = [9.0; 256];
        decode(&row, &mut out);
        assert_eq!(out[0], 0.5 * 2.0 * 10.0 - 0.25 * 4.0);
        assert_eq!(out[32], 0.5 * 3.0 * 5.0 - 0.25 * 8.0);
        assert_eq!(out[255], 0.0);
    }
}
