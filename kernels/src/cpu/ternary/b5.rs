//! 1.6 bits a weight: five weights in a byte, base 3, first weight lowest: byte = t0 + 3·t1 + 9·t2 + 27·t3 +
//! 81·t4 with digits weight + 1 (243 of 256 values).
//!
//! A step is 128 bytes: 32 rows, each a 32-bit lane of four bytes, that is five lanes of activations. Byte j
//! of step s holds, as digit f, the weight that meets activation 4·(5·s + f) + j.
//!
//! **Decoding with AVX2** splits the byte at 27. The high half byte looks up the multiple of 27 at or below it,
//! one `min(v, v − 27)` in wrapping bytes finishes the division, and what was taken off (27·a, a < 9) names
//! digits 3 and 4 through its low half byte, because 27 is odd and so 27·a differs modulo 16. The rest (below
//! 27) takes two half tables and a blend. 13 cheap operations yield five weights of 32 rows.
//! **With AVX-512 VBMI** two wrapping minima take 81·t4 off, whose two lowest bits are t4 itself (81 ≡ 1,
//! 162 ≡ 2 modulo 4), and one 128-entry byte permute turns the remaining 81 values into four 2-bit fields.

use super::BLOCK_ROWS;
use super::kernel::{BlockCodes, GemvBlock, Unpack};

/// Bytes of one step of five lanes.
const STEP_BYTES: usize = BLOCK_ROWS * 4;

/// Weights in a byte.
pub(super) const DIGITS: usize = 5;

/// Lanes unpacked at a time: twelve steps, within a tile of 64.
pub(super) const TILE_LANES: usize = 12 * DIGITS;

/// Lanes of a block, padding included.
pub(super) fn lanes(columns: usize) -> usize {
    (columns.div_ceil(16) * 4).next_multiple_of(DIGITS)
}

/// Bytes of a block of 32 rows.
pub(super) fn block_bytes(columns: usize) -> usize {
    lanes(columns) / DIGITS * STEP_BYTES
}

/// Packs 32 rows.
pub(super) fn pack(codes: &BlockCodes<'_>, out: &mut [u8]) {
    for row in 0..BLOCK_ROWS {
        let codes = codes.row(row);
        for (step, bytes) in out.as_chunks_mut::<STEP_BYTES>().0.iter_mut().enumerate() {
            // The columns that lanes 5·step + f meet: see activations::position.
            let column: [usize; DIGITS] =
                std::array::from_fn(|f| (DIGITS * step + f) / 4 * 16 + (DIGITS * step + f) % 4);
            for (j, byte) in bytes[4 * row..][..4].iter_mut().enumerate() {
                *byte = column
                    .iter()
                    .rev()
                    .fold(0, |value, c| 3 * value + codes[c + 4 * j]);
            }
        }
    }
}

/// Digit f of a byte.
fn digit(byte: u8, f: usize) -> u8 {
    const POWERS: [u8; DIGITS] = [1, 3, 9, 27, 81];
    byte / POWERS[f] % 3
}

/// The variants of `y = codes · x` over one block that this machine can run, slowest first.
pub(super) fn gemv_variants() -> Vec<(&'static str, GemvBlock)> {
    #[allow(unused_mut, reason = "other architectures add nothing")]
    let mut list: Vec<(&'static str, GemvBlock)> = vec![("scalar", scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: avx2 was detected on the line above.
            list.push(("avx2", |w, x, y| unsafe { x86::avx2(w, x, y) }));
        }
        if super::kernel::x86::has_vbmi() {
            // SAFETY: all its features were detected on the line above.
            list.push(("avx512vbmi", |w, x, y| unsafe { x86::avx512vbmi(w, x, y) }));
        }
    }
    list
}

/// The definition.
fn scalar(w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
    for (row, y) in y.iter_mut().enumerate() {
        *y = 0;
        for (step, bytes) in w.as_chunks::<STEP_BYTES>().0.iter().enumerate() {
            for j in 0..4 {
                for f in 0..DIGITS {
                    *y += i32::from(digit(bytes[4 * row + j], f))
                        * i32::from(x[4 * (DIGITS * step + f) + j]);
                }
            }
        }
    }
}

/// The variants that unpack lanes of a block to bytes, slowest first.
pub(super) fn unpack_variants() -> Vec<(&'static str, Unpack)> {
    #[allow(unused_mut, reason = "other architectures add nothing")]
    let mut list: Vec<(&'static str, Unpack)> = vec![("scalar", unpack)];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: avx2 was detected on the line above.
        list.push(("avx2", |w, first, tile| unsafe {
            x86::unpack(w, first, tile)
        }));
    }
    list
}

fn unpack(w: &[u8], first: usize, tile: &mut [u8]) {
    for (lane, out) in tile.as_chunks_mut::<STEP_BYTES>().0.iter_mut().enumerate() {
        let (step, f) = ((first + lane) / DIGITS, (first + lane) % DIGITS);
        for (out, byte) in out.iter_mut().zip(&w[step * STEP_BYTES..][..STEP_BYTES]) {
            *out = digit(*byte, f);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::kernel::x86::{
        AHEAD, STEPS_IN_16_BITS, broadcast, broadcast512, fields_vnni, load, load512, prefetch,
        store, store512, sum_fields, table, widen,
    };
    use super::{BLOCK_ROWS, DIGITS, STEP_BYTES};
    use std::arch::x86_64::*;

    /// Multiple of 27 at or below 16·h.
    const FLOOR_27: [u8; 16] = {
        let mut t = [0; 16];
        let mut h = 0;
        while h < 16 {
            t[h] = (16 * h / 27 * 27) as u8;
            h += 1;
        }
        t
    };

    /// Digits 3 and 4 as 2-bit fields, by the low half byte of 27·a.
    const HIGH_DIGITS: [u8; 16] = {
        let mut t = [0; 16];
        let mut a = 0;
        while a < 9 {
            t[27 * a % 16] = (a % 3 + a / 3 * 4) as u8;
            a += 1;
        }
        t
    };

    /// Digits 0, 1 and 2 as 2-bit fields of the values from `from` on.
    const fn low_digits(from: usize) -> [u8; 16] {
        let mut t = [0; 16];
        let mut i = 0;
        while i < 16 && from + i < 27 {
            let v = from + i;
            t[i] = (v % 3 + v / 3 % 3 * 4 + v / 9 * 16) as u8;
            i += 1;
        }
        t
    }

    const LOW_DIGITS: [[u8; 16]; 2] = [low_digits(0), low_digits(16)];

    /// Digits 0 to 2 and digits 3 to 4 as 2-bit fields.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn decode(p: __m256i) -> (__m256i, __m256i) {
        let half = _mm256_set1_epi8(15);
        let floor = _mm256_shuffle_epi8(
            table(&FLOOR_27),
            _mm256_and_si256(_mm256_srli_epi16::<4>(p), half),
        );
        // At most 15 + 26: one more 27 may be in it. Wrapping, the subtraction is smaller only then.
        let rest = _mm256_sub_epi8(p, floor);
        let rest = _mm256_min_epu8(rest, _mm256_sub_epi8(rest, _mm256_set1_epi8(27)));
        let high = _mm256_shuffle_epi8(
            table(&HIGH_DIGITS),
            _mm256_and_si256(_mm256_sub_epi8(p, rest), half),
        );
        // The rest is below 32, so the byte shuffle sees its low half byte, and bit 4 chooses the table.
        let low = _mm256_blendv_epi8(
            _mm256_shuffle_epi8(table(&LOW_DIGITS[0]), rest),
            _mm256_shuffle_epi8(table(&LOW_DIGITS[1]), rest),
            _mm256_slli_epi16::<3>(rest),
        );
        (low, high)
    }

    /// 16-bit sums: a step adds at most 3 · 508 to `ones` and 2 · 2032 to `fours`; eight steps reach 32,512 in
    /// `fours`, and 20,320 when both are joined.
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
        let steps = w.as_chunks::<STEP_BYTES>().0;
        assert!(
            x.len() >= 4 * DIGITS * steps.len(),
            "activations are padded to whole steps"
        );
        let (mask1, mask4) = (_mm256_set1_epi8(0x03), _mm256_set1_epi8(0x0c));
        let mut sums = [_mm256_setzero_si256(); 4];
        for (run, x) in steps
            .chunks(STEPS_IN_16_BITS)
            .zip(x.chunks(4 * DIGITS * STEPS_IN_16_BITS))
        {
            let mut ones = [_mm256_setzero_si256(); 4];
            let mut fours = [_mm256_setzero_si256(); 4];
            for (step, x) in run.iter().zip(x.as_chunks::<{ 4 * DIGITS }>().0) {
                prefetch(step, AHEAD);
                prefetch(step, AHEAD + 64);
                let x = [
                    broadcast(x, 0),
                    broadcast(x, 4),
                    broadcast(x, 8),
                    broadcast(x, 12),
                    broadcast(x, 16),
                ];
                for i in 0..4 {
                    let (low, high) = decode(load(step, 32 * i));
                    sum_fields(low, mask1, x[0], &mut ones[i]);
                    sum_fields(low, mask4, x[1], &mut fours[i]);
                    sum_fields(_mm256_srli_epi16::<4>(low), mask1, x[2], &mut ones[i]);
                    sum_fields(high, mask1, x[3], &mut ones[i]);
                    sum_fields(high, mask4, x[4], &mut fours[i]);
                }
            }
            for i in 0..4 {
                sums[i] = _mm256_add_epi32(sums[i], widen(ones[i], fours[i]));
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            store(y, 8 * i, sum);
        }
    }

    /// The four low digits of 0..81 as 2-bit fields.
    const FIELDS_81: [u8; 128] = {
        let mut t = [0; 128];
        let mut v = 0;
        while v < 81 {
            t[v] = (v % 3 + v / 3 % 3 * 4 + v / 9 % 3 * 16 + v / 27 * 64) as u8;
            v += 1;
        }
        t
    };

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx512vbmi")]
    pub(super) fn avx512vbmi(w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
        let steps = w.as_chunks::<STEP_BYTES>().0;
        assert!(
            x.len() >= 4 * DIGITS * steps.len(),
            "activations are padded to whole steps"
        );
        let (table0, table1) = (load512(&FIELDS_81, 0), load512(&FIELDS_81, 64));
        let (by81, last) = (_mm512_set1_epi8(81), _mm512_set1_epi8(3));
        let mut sums = [[_mm512_setzero_si512(); 4]; 2];
        let mut fifth = [_mm512_setzero_si512(); 2];
        for (step, x) in steps.iter().zip(x.as_chunks::<{ 4 * DIGITS }>().0) {
            prefetch(step, AHEAD);
            prefetch(step, AHEAD + 64);
            let x4 = broadcast512(x, 16);
            let x = [
                broadcast512(x, 0),
                broadcast512(x, 4),
                broadcast512(x, 8),
                broadcast512(x, 12),
            ];
            for i in 0..2 {
                let p = load512(step, 64 * i);
                let rest = _mm512_min_epu8(p, _mm512_sub_epi8(p, by81));
                let rest = _mm512_min_epu8(rest, _mm512_sub_epi8(rest, by81));
                let t4 = _mm512_and_si512(_mm512_sub_epi8(p, rest), last);
                fifth[i] = _mm512_dpbusd_epi32(fifth[i], t4, x4);
                fields_vnni(
                    _mm512_permutex2var_epi8(table0, rest, table1),
                    x,
                    &mut sums[i],
                );
            }
        }
        for (i, s) in sums.iter().enumerate() {
            let low = _mm512_add_epi32(s[0], _mm512_srai_epi32::<2>(s[1]));
            let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(s[2]), _mm512_srai_epi32::<6>(s[3]));
            store512(
                y,
                16 * i,
                _mm512_add_epi32(_mm512_add_epi32(low, high), fifth[i]),
            );
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn unpack(w: &[u8], first: usize, tile: &mut [u8]) {
        assert!(first.is_multiple_of(DIGITS), "a tile starts at a step");
        let mask = _mm256_set1_epi8(3);
        let steps = &w.as_chunks::<STEP_BYTES>().0[first / DIGITS..];
        for (step, out) in steps.iter().zip(tile.chunks_mut(DIGITS * STEP_BYTES)) {
            for i in 0..4 {
                let (low, high) = decode(load(step, 32 * i));
                let fields = [
                    low,
                    _mm256_srli_epi16::<2>(low),
                    _mm256_srli_epi16::<4>(low),
                    high,
                    _mm256_srli_epi16::<2>(high),
                ];
                for (lane, field) in out.as_chunks_mut::<STEP_BYTES>().0.iter_mut().zip(fields) {
                    store(lane, 32 * i, _mm256_and_si256(field, mask));
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::super::digit;
        use super::*;

        #[test]
        fn every_byte_decodes_to_its_digits() {
            if !is_x86_feature_detected!("avx2") {
                return;
            }
            for first in (0..243).step_by(32) {
                let bytes: [u8; 32] = std::array::from_fn(|i| (first + i).min(242) as u8);
                let (mut low, mut high) = ([0u8; 32], [0u8; 32]);
                // SAFETY: avx2 was detected above.
                unsafe {
                    let (l, h) = decode(load(&bytes, 0));
                    store(&mut low, 0, l);
                    store(&mut high, 0, h);
                }
                for (i, byte) in bytes.into_iter().enumerate() {
                    let want: [u8; DIGITS] = std::array::from_fn(|f| digit(byte, f));
                    let got = [
                        low[i] & 3,
                        low[i] >> 2 & 3,
                        low[i] >> 4,
                        high[i] & 3,
                        high[i] >> 2,
                    ];
                    assert_eq!(got, want, "{byte}");
                }
            }
        }
    }
}
