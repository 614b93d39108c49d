//! Many tokens at once: a tile of unpacked codes times the activations of every token.
//!
//! The caller unpacks up to [`TILE_LANES`] lanes of a block (32 rows by 256 columns, 8 KiB: a quarter of an
//! L1 cache) and this file multiplies them with all tokens, so the price of unpacking is shared by the whole
//! batch and weights leave memory once.
//!
//! AVX2 holds 16 rows by 6 tokens in 12 registers of 16-bit sums: `maddubs` and one add for 32 products,
//! without widening, because 64 lanes of at most 2 · 2 · 127 = 508 stay within 32,512. That is twice the rate
//! of the usual `maddubs`, `madd`, add, and as fast as a 256-bit VNNI. AVX-512 holds 32 rows by 12 tokens in
//! 24 registers of 32-bit sums; the activations come as broadcast memory operands.

use super::BLOCK_ROWS;

/// Lanes of a full tile.
pub(super) const TILE_LANES: usize = 64;

/// Bytes of one lane of all 32 rows.
pub(super) const LANE_BYTES: usize = 4 * BLOCK_ROWS;

/// `y[t·y_stride + r] += sum over the tile's lanes of code[r] · x[t·x_stride ..]`, for all `tokens`.
/// At most [`TILE_LANES`] lanes, codes at most 2, activations at least −127.
pub(super) type Tile =
    fn(tile: &[u8], x: &[i8], x_stride: usize, tokens: usize, y: &mut [i32], y_stride: usize);

/// The variants this machine can run, slowest first.
pub(super) fn variants() -> Vec<(&'static str, Tile)> {
    #[allow(unused_mut, reason = "other architectures add nothing")]
    let mut list: Vec<(&'static str, Tile)> = vec![("scalar", scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: avx2 was detected on the line above.
            list.push(("avx2", |w, x, xs, n, y, ys| unsafe {
                x86::avx2(w, x, xs, n, y, ys)
            }));
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
            // SAFETY: both were detected on the line above.
            list.push(("avx512vnni", |w, x, xs, n, y, ys| unsafe {
                x86::avx512vnni(w, x, xs, n, y, ys)
            }));
        }
    }
    list
}

/// The definition.
fn scalar(tile: &[u8], x: &[i8], x_stride: usize, tokens: usize, y: &mut [i32], y_stride: usize) {
    for token in 0..tokens {
        let (x, y) = (
            &x[token * x_stride..],
            &mut y[token * y_stride..][..BLOCK_ROWS],
        );
        for (lane, x) in tile
            .as_chunks::<LANE_BYTES>()
            .0
            .iter()
            .zip(x.as_chunks::<4>().0)
        {
            for (y, codes) in y.iter_mut().zip(lane.as_chunks::<4>().0) {
                *y += codes
                    .iter()
                    .zip(x)
                    .map(|(&c, &x)| i32::from(c) * i32::from(x))
                    .sum::<i32>();
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::kernel::x86::{broadcast, broadcast512, load, load512};
    use super::{BLOCK_ROWS, LANE_BYTES, TILE_LANES};
    use std::arch::x86_64::*;

    /// Tokens whose sums stay in registers beside two weight vectors: 6 · 2 of 16.
    const TOKENS_AVX2: usize = 6;
    /// The same for AVX-512: 12 · 2 of 32.
    const TOKENS_AVX512: usize = 12;

    /// The activations of T tokens, `lanes` groups of four each.
    #[inline(always)]
    fn rows<const T: usize>(x: &[i8], stride: usize, lanes: usize) -> [&[[i8; 4]]; T] {
        let mut rows = [[].as_slice(); T];
        for (t, row) in rows.iter_mut().enumerate() {
            *row = &x[t * stride..].as_chunks::<4>().0[..lanes];
        }
        rows
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2(
        tile: &[u8],
        x: &[i8],
        x_stride: usize,
        tokens: usize,
        y: &mut [i32],
        y_stride: usize,
    ) {
        let lanes = tile.as_chunks::<LANE_BYTES>().0;
        assert!(lanes.len() <= TILE_LANES, "a tile's sums fit 16 bits");
        let mut token = 0;
        while token < tokens {
            let (x, y) = (&x[token * x_stride..], &mut y[token * y_stride..]);
            let n = (tokens - token).min(TOKENS_AVX2);
            for half in 0..2 {
                match n {
                    1 => avx2_tokens::<1>(lanes, half, x, x_stride, y, y_stride),
                    2 => avx2_tokens::<2>(lanes, half, x, x_stride, y, y_stride),
                    3 => avx2_tokens::<3>(lanes, half, x, x_stride, y, y_stride),
                    4 => avx2_tokens::<4>(lanes, half, x, x_stride, y, y_stride),
                    5 => avx2_tokens::<5>(lanes, half, x, x_stride, y, y_stride),
                    _ => avx2_tokens::<6>(lanes, half, x, x_stride, y, y_stride),
                }
            }
            token += n;
        }
    }

    /// 16 rows (`half` 0 or 1 of the block) by T tokens.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn avx2_tokens<const T: usize>(
        lanes: &[[u8; LANE_BYTES]],
        half: usize,
        x: &[i8],
        x_stride: usize,
        y: &mut [i32],
        y_stride: usize,
    ) {
        let x: [&[[i8; 4]]; T] = rows(x, x_stride, lanes.len());
        let mut sums = [[_mm256_setzero_si256(); 2]; T];
        for (i, lane) in lanes.iter().enumerate() {
            let w = [load(lane, 64 * half), load(lane, 64 * half + 32)];
            for t in 0..T {
                // SAFETY: `rows` gave every token as many groups of four as there are lanes, and i is a lane.
                let x = broadcast(unsafe { x[t].get_unchecked(i) }, 0);
                sums[t][0] = _mm256_add_epi16(sums[t][0], _mm256_maddubs_epi16(w[0], x));
                sums[t][1] = _mm256_add_epi16(sums[t][1], _mm256_maddubs_epi16(w[1], x));
            }
        }
        let ones = _mm256_set1_epi16(1);
        for (t, sums) in sums.iter().enumerate() {
            let y = &mut y[t * y_stride..][..BLOCK_ROWS][16 * half..][..16];
            for (y, sum) in y.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
                // SAFETY: `y` is eight i32, 32 bytes.
                unsafe {
                    let at = y.as_mut_ptr().cast::<__m256i>();
                    _mm256_storeu_si256(
                        at,
                        _mm256_add_epi32(_mm256_loadu_si256(at), _mm256_madd_epi16(*sum, ones)),
                    );
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn avx512vnni(
        tile: &[u8],
        x: &[i8],
        x_stride: usize,
        tokens: usize,
        y: &mut [i32],
        y_stride: usize,
    ) {
        let lanes = tile.as_chunks::<LANE_BYTES>().0;
        let mut token = 0;
        while token < tokens {
            let (x, y) = (&x[token * x_stride..], &mut y[token * y_stride..]);
            let n = match tokens - token {
                n if n >= TOKENS_AVX512 => {
                    avx512_tokens::<TOKENS_AVX512>(lanes, x, x_stride, y, y_stride);
                    TOKENS_AVX512
                }
                n if n >= 8 => {
                    avx512_tokens::<8>(lanes, x, x_stride, y, y_stride);
                    8
                }
                n if n >= 4 => {
                    avx512_tokens::<4>(lanes, x, x_stride, y, y_stride);
                    4
                }
                n if n >= 2 => {
                    avx512_tokens::<2>(lanes, x, x_stride, y, y_stride);
                    2
                }
                _ => {
                    avx512_tokens::<1>(lanes, x, x_stride, y, y_stride);
                    1
                }
            };
            token += n;
        }
    }

    /// 32 rows by T tokens.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn avx512_tokens<const T: usize>(
        lanes: &[[u8; LANE_BYTES]],
        x: &[i8],
        x_stride: usize,
        y: &mut [i32],
        y_stride: usize,
    ) {
        let x: [&[[i8; 4]]; T] = rows(x, x_stride, lanes.len());
        let mut sums = [[_mm512_setzero_si512(); 2]; T];
        for (i, lane) in lanes.iter().enumerate() {
            let w = [load512(lane, 0), load512(lane, 64)];
            for t in 0..T {
                // SAFETY: `rows` gave every token as many groups of four as there are lanes, and i is a lane.
                let x = broadcast512(unsafe { x[t].get_unchecked(i) }, 0);
                sums[t][0] = _mm512_dpbusd_epi32(sums[t][0], w[0], x);
                sums[t][1] = _mm512_dpbusd_epi32(sums[t][1], w[1], x);
            }
        }
        for (t, sums) in sums.iter().enumerate() {
            let y = &mut y[t * y_stride..][..BLOCK_ROWS];
            for (y, sum) in y.as_chunks_mut::<16>().0.iter_mut().zip(sums) {
                // SAFETY: `y` is sixteen i32, 64 bytes.
                unsafe {
                    let at = y.as_mut_ptr().cast::<__m512i>();
                    _mm512_storeu_si512(at, _mm512_add_epi32(_mm512_loadu_si512(at), *sum));
                }
            }
        }
    }
}
