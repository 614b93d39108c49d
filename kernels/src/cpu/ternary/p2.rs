//! 2 bits a weight: four consecutive columns in a byte, codes 0, 1, 2 for −1, 0, +1, lowest bits first.
//!
//! A step is 128 bytes: 32 rows, each a 32-bit lane of four bytes, that is 16 columns of every row. Byte j of
//! row r's lane holds columns 4·j .. 4·j + 4 in its four fields. A step of AVX2 is four vectors of eight rows,
//! of AVX-512 two of sixteen; both read the same memory, front to back.
//!
//! **No shifts where AND will do.** AND with 0x03 leaves field 0 as it is, AND with 0x0c leaves field 1 times
//! four. The products go to separate accumulators and the second sum is divided by four at the end, exactly.
//! VNNI keeps all four fields apart (times 1, 4, 16, 64: at most 64 · 2 · 127 a column, so 32 bits last for
//! 132,000 columns). AVX2 has no 32-bit dot product; its sums stay in 16 bits for eight steps:
//! a pair of codes up to 2 times |x| ≤ 127 is at most 508, times four 2032; fields 1 and 3 of eight steps
//! reach 8 · 2 · 2032 = 32,512 ≤ 32,767.

use super::BLOCK_ROWS;
use super::kernel::{BlockCodes, GemvBlock, Unpack};

/// Bytes of one step of 16 columns.
const STEP_BYTES: usize = BLOCK_ROWS * 4;

/// Bytes of a block of 32 rows.
pub(super) fn block_bytes(columns: usize) -> usize {
    columns.div_ceil(16) * STEP_BYTES
}

/// Packs 32 rows.
pub(super) fn pack(codes: &BlockCodes<'_>, out: &mut [u8]) {
    for row in 0..BLOCK_ROWS {
        for (step, columns) in codes
            .row(row)
            .as_chunks::<16>()
            .0
            .iter()
            .enumerate()
            .take(out.len() / STEP_BYTES)
        {
            let lane = &mut out[step * STEP_BYTES + 4 * row..][..4];
            for (byte, four) in lane.iter_mut().zip(columns.as_chunks::<4>().0) {
                *byte = fields(*four);
            }
        }
    }
}

/// Four codes of two bits in a byte, the first in the lowest bits.
pub(super) fn fields(codes: [u8; 4]) -> u8 {
    let v = u32::from_le_bytes(codes);
    (v | v >> 6 | v >> 12 | v >> 18) as u8
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
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni") {
            // SAFETY: both were detected on the line above.
            list.push(("avxvnni", |w, x, y| unsafe { x86::avxvnni(w, x, y) }));
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: both were detected on the line above.
            list.push(("avx512vnni", |w, x, y| unsafe { x86::avx512vnni(w, x, y) }));
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
                for field in 0..4 {
                    let code = bytes[4 * row + j] >> (2 * field) & 3;
                    *y += i32::from(code) * i32::from(x[16 * step + 4 * field + j]);
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
        let (step, field) = ((first + lane) / 4, (first + lane) % 4);
        for (out, byte) in out.iter_mut().zip(&w[step * STEP_BYTES..][..STEP_BYTES]) {
            *out = byte >> (2 * field) & 3;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::kernel::x86::{
        AHEAD, STEPS_IN_16_BITS, broadcast, broadcast512, fields_avx2, fields_vnni, load, load512,
        prefetch, store, store512, widen,
    };
    use super::{BLOCK_ROWS, STEP_BYTES};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
        let steps = w.as_chunks::<STEP_BYTES>().0;
        assert!(
            x.len() >= 16 * steps.len(),
            "activations are padded to whole steps"
        );
        let mut sums = [_mm256_setzero_si256(); 4];
        for (run, x) in steps
            .chunks(STEPS_IN_16_BITS)
            .zip(x.chunks(16 * STEPS_IN_16_BITS))
        {
            let mut ones = [_mm256_setzero_si256(); 4];
            let mut fours = [_mm256_setzero_si256(); 4];
            for (step, x) in run.iter().zip(x.as_chunks::<16>().0) {
                prefetch(step, AHEAD);
                prefetch(step, AHEAD + 64);
                let x = [
                    broadcast(x, 0),
                    broadcast(x, 4),
                    broadcast(x, 8),
                    broadcast(x, 12),
                ];
                for i in 0..4 {
                    fields_avx2(load(step, 32 * i), x, &mut ones[i], &mut fours[i]);
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

    #[target_feature(enable = "avx2,avxvnni")]
    pub(super) fn avxvnni(w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
        let steps = w.as_chunks::<STEP_BYTES>().0;
        assert!(
            x.len() >= 16 * steps.len(),
            "activations are padded to whole steps"
        );
        let mut ones = [_mm256_setzero_si256(); 4];
        let mut fours = [_mm256_setzero_si256(); 4];
        let (low, high) = (_mm256_set1_epi8(0x03), _mm256_set1_epi8(0x0c));
        for (step, x) in steps.iter().zip(x.as_chunks::<16>().0) {
            prefetch(step, AHEAD);
            prefetch(step, AHEAD + 64);
            let x = [
                broadcast(x, 0),
                broadcast(x, 4),
                broadcast(x, 8),
                broadcast(x, 12),
            ];
            for i in 0..4 {
                let p = load(step, 32 * i);
                let q = _mm256_srli_epi16::<4>(p);
                ones[i] = _mm256_dpbusd_avx_epi32(ones[i], _mm256_and_si256(p, low), x[0]);
                fours[i] = _mm256_dpbusd_avx_epi32(fours[i], _mm256_and_si256(p, high), x[1]);
                ones[i] = _mm256_dpbusd_avx_epi32(ones[i], _mm256_and_si256(q, low), x[2]);
                fours[i] = _mm256_dpbusd_avx_epi32(fours[i], _mm256_and_si256(q, high), x[3]);
            }
        }
        for i in 0..4 {
            store(
                y,
                8 * i,
                _mm256_add_epi32(ones[i], _mm256_srai_epi32::<2>(fours[i])),
            );
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn avx512vnni(w: &[u8], x: &[i8], y: &mut [i32; BLOCK_ROWS]) {
        let steps = w.as_chunks::<STEP_BYTES>().0;
        assert!(
            x.len() >= 16 * steps.len(),
            "activations are padded to whole steps"
        );
        let mut sums = [[_mm512_setzero_si512(); 4]; 2];
        for (step, x) in steps.iter().zip(x.as_chunks::<16>().0) {
            prefetch(step, AHEAD);
            prefetch(step, AHEAD + 64);
            let x = [
                broadcast512(x, 0),
                broadcast512(x, 4),
                broadcast512(x, 8),
                broadcast512(x, 12),
            ];
            for (i, sums) in sums.iter_mut().enumerate() {
                fields_vnni(load512(step, 64 * i), x, sums);
            }
        }
        for (i, s) in sums.iter().enumerate() {
            let low = _mm512_add_epi32(s[0], _mm512_srai_epi32::<2>(s[1]));
            let high = _mm512_add_epi32(_mm512_srai_epi32::<4>(s[2]), _mm512_srai_epi32::<6>(s[3]));
            store512(y, 16 * i, _mm512_add_epi32(low, high));
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn unpack(w: &[u8], first: usize, tile: &mut [u8]) {
        assert!(first.is_multiple_of(4), "a tile starts at a step");
        let mask = _mm256_set1_epi8(3);
        let steps = &w.as_chunks::<STEP_BYTES>().0[first / 4..];
        for (step, out) in steps.iter().zip(tile.chunks_mut(4 * STEP_BYTES)) {
            for i in 0..4 {
                let p = load(step, 32 * i);
                let fields = [
                    p,
                    _mm256_srli_epi16::<2>(p),
                    _mm256_srli_epi16::<4>(p),
                    _mm256_srli_epi16::<6>(p),
                ];
                for (lane, field) in out.as_chunks_mut::<STEP_BYTES>().0.iter_mut().zip(fields) {
                    store(lane, 32 * i, _mm256_and_si256(field, mask));
                }
            }
        }
    }
}
