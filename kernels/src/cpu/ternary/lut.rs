//! Many tokens by table look-up: AVX2's way to multiply a batch.
//!
//! Four consecutive weights of a row have 81 values. For 32 tokens and four columns a table holds, for each of
//! them, the 32 sums of weight times activation as 16-bit numbers: two vectors. A row then costs two loads and
//! two adds for 4 · 32 products, where `maddubs` and an add make 32. Building the table (81 entries, each one
//! add from an earlier one) is shared by all rows of the range, so ranges are long: see [`ROWS_MIN`].
//!
//! The order of work: rows are encoded once to base-3 bytes in the order of use. For each 32 tokens and each 16
//! columns four tables are built (21 KB, two thirds of an L1 cache) and every row adds four entries to its
//! 16-bit sums. A sum of four is at most 4 · 127 = 508, so 64 look-ups stay within 32,512; then sums widen.
//!
//! VNNI machines do not come here: 64 exact products per instruction, without tables, are as fast.

use super::BLOCK_ROWS;
use super::activations::Int8Rows;
use super::gemm::{LANE_BYTES, TILE_LANES};
use super::kernel::Unpack;

/// Tokens of one pass: two vectors of 16-bit sums.
const TOKENS: usize = 32;
/// Fewer tokens than this in the last pass are cheaper through the other kernel.
const TOKENS_MIN: usize = 16;
/// Rows from which the tables pay: building four costs about as much as 120 rows of looking them up.
const ROWS_MIN: usize = 256;
/// Most rows of one pass: their 16-bit and 32-bit sums, 192 bytes a row, stay in a 512 KiB L2 cache.
const ROWS_MAX: usize = 2048;
/// Values of four ternary weights.
const ENTRIES: usize = 81;

/// `sums[t · y_stride + r]` for the first tokens of `x`, see [`tokens`].
pub(super) type Multiply =
    fn(weights: &Packed<'_>, x: &Int8Rows, tokens: usize, sums: &mut [i32], y_stride: usize);

/// Blocks of packed weights and how to unpack them.
pub(super) struct Packed<'a> {
    /// Whole blocks.
    pub(super) weights: &'a [u8],
    /// Bytes of one.
    pub(super) block_bytes: usize,
    /// Columns without padding.
    pub(super) columns: usize,
    /// Lanes of a block, padding included.
    pub(super) lanes: usize,
    /// Lanes unpacked at a time, a multiple of four.
    pub(super) tile_lanes: usize,
    /// The layout's unpacking.
    pub(super) unpack: Unpack,
}

/// The kernel, if this machine wants it.
pub(super) fn multiply() -> Option<Multiply> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: avx2 was detected on the line above.
        return Some(|w, x, tokens, sums, y_stride| unsafe {
            x86::multiply(w, x, tokens, sums, y_stride)
        });
    }
    None
}

/// How many of `tokens` tokens are worth tables when `rows` rows are asked for.
pub(super) fn tokens(tokens: usize, rows: usize) -> usize {
    match (rows >= ROWS_MIN, tokens % TOKENS) {
        (false, _) => 0,
        (true, rest) if rest >= TOKENS_MIN => tokens,
        (true, rest) => tokens - rest,
    }
}

/// Base-3 bytes of all rows: `codes[(step · rows + row) · 4 + j]` stands for columns 16 · step + 4 · j and the
/// three after it, the first one lowest.
fn encode(packed: &Packed<'_>, rows: usize, steps: usize) -> Vec<u8> {
    let mut codes = vec![0; steps * rows * 4];
    let mut tile = [0u8; TILE_LANES * LANE_BYTES];
    for (block, w) in packed.weights.chunks_exact(packed.block_bytes).enumerate() {
        for first in (0..4 * steps).step_by(packed.tile_lanes) {
            let tile = &mut tile[..packed.tile_lanes.min(packed.lanes - first) * LANE_BYTES];
            (packed.unpack)(w, first, tile);
            let used = tile
                .as_chunks::<{ 4 * LANE_BYTES }>()
                .0
                .iter()
                .take(steps - first / 4);
            for (i, lanes) in used.enumerate() {
                let at = ((first / 4 + i) * rows + block * BLOCK_ROWS) * 4;
                for (r, code) in codes[at..at + LANE_BYTES].iter_mut().enumerate() {
                    let digit = |f: usize| lanes[f * LANE_BYTES + r];
                    *code = digit(0) + 3 * (digit(1) + 3 * (digit(2) + 3 * digit(3)));
                }
            }
        }
    }
    codes
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK_ROWS, ENTRIES, Int8Rows, Packed, ROWS_MAX, TILE_LANES, TOKENS, encode};
    use std::arch::x86_64::*;

    /// One value for every token of a pass.
    #[derive(Clone, Copy)]
    #[repr(align(64))]
    struct Lanes16([i16; TOKENS]);

    /// One sum for every token of a pass.
    #[derive(Clone, Copy)]
    #[repr(align(64))]
    struct Lanes32([i32; TOKENS]);

    /// Steps of 16 columns whose sums stay in 16 bits: 64 look-ups.
    const STEPS: usize = TILE_LANES / 4;

    #[target_feature(enable = "avx2")]
    pub(super) fn multiply(
        packed: &Packed<'_>,
        x: &Int8Rows,
        tokens: usize,
        sums: &mut [i32],
        y_stride: usize,
    ) {
        let blocks = packed.weights.len() / packed.block_bytes;
        let passes = (blocks * BLOCK_ROWS).div_ceil(ROWS_MAX);
        for pass in 0..passes {
            let (first, end) = (blocks * pass / passes, blocks * (pass + 1) / passes);
            let part = Packed {
                weights: &packed.weights[first * packed.block_bytes..end * packed.block_bytes],
                ..*packed
            };
            rows(
                &part,
                (end - first) * BLOCK_ROWS,
                x,
                tokens,
                &mut sums[first * BLOCK_ROWS..],
                y_stride,
            );
        }
    }

    #[target_feature(enable = "avx2")]
    fn rows(
        packed: &Packed<'_>,
        rows: usize,
        x: &Int8Rows,
        tokens: usize,
        sums: &mut [i32],
        y_stride: usize,
    ) {
        let steps = packed.columns.div_ceil(16);
        let codes = encode(packed, rows, steps);
        let mut short = vec![Lanes16([0; TOKENS]); rows];
        let mut long = vec![Lanes32([0; TOKENS]); rows];
        let mut columns = [Lanes16([0; TOKENS]); 16];
        let mut tables = Box::new([[Lanes16([0; TOKENS]); ENTRIES]; 4]);
        for first in (0..tokens).step_by(TOKENS) {
            let n = TOKENS.min(tokens - first);
            long.fill(Lanes32([0; TOKENS]));
            for (step, codes) in codes.chunks_exact(4 * rows).enumerate() {
                transpose(x, first, n, 16 * step, &mut columns);
                for (j, table) in tables.iter_mut().enumerate() {
                    build(
                        table,
                        [
                            &columns[j],
                            &columns[4 + j],
                            &columns[8 + j],
                            &columns[12 + j],
                        ],
                    );
                }
                if step % STEPS == 0 {
                    add::<true>(&tables, codes, &mut short);
                } else {
                    add::<false>(&tables, codes, &mut short);
                }
                if step % STEPS == STEPS - 1 || step == steps - 1 {
                    widen(&short, &mut long);
                }
            }
            for (t, sums) in sums[first * y_stride..]
                .chunks_mut(y_stride)
                .take(n)
                .enumerate()
            {
                for (sum, long) in sums.iter_mut().zip(&long) {
                    *sum = long.0[t];
                }
            }
        }
    }

    /// The activations of `n` tokens at 16 stored positions, a position at a time; zero for the other tokens.
    #[target_feature(enable = "avx2")]
    fn transpose(x: &Int8Rows, first: usize, n: usize, at: usize, out: &mut [Lanes16; 16]) {
        for half in 0..2 {
            let mut v = [_mm_setzero_si128(); 16];
            for (t, v) in v.iter_mut().enumerate().take(n.saturating_sub(16 * half)) {
                let row = &x.row(first + 16 * half + t)[at..at + 16];
                // SAFETY: `row` is 16 bytes.
                *v = unsafe { _mm_loadu_si128(row.as_ptr().cast()) };
            }
            // Four rounds of interleaving row i with row i + 8 transpose 16 by 16 bytes.
            for _ in 0..4 {
                let w = v;
                for i in 0..8 {
                    v[2 * i] = _mm_unpacklo_epi8(w[i], w[i + 8]);
                    v[2 * i + 1] = _mm_unpackhi_epi8(w[i], w[i + 8]);
                }
            }
            for (out, v) in out.iter_mut().zip(v) {
                // SAFETY: each half of `out` is 16 numbers of 16 bits, 32 bytes.
                unsafe {
                    _mm256_storeu_si256(
                        out.0.as_mut_ptr().add(16 * half).cast(),
                        _mm256_cvtepi8_epi16(v),
                    )
                };
            }
        }
    }

    /// All 81 sums of four activations, each times −1, 0 or 1: entry `t0 + 3·t1 + 9·t2 + 27·t3`, digits
    /// weight + 1.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn build(table: &mut [Lanes16; ENTRIES], x: [&Lanes16; 4]) {
        for half in 0..2 {
            let x = x.map(|x| load(x, half));
            let pairs =
                _mm256_add_epi16(_mm256_add_epi16(x[0], x[1]), _mm256_add_epi16(x[2], x[3]));
            store(
                &mut table[0],
                half,
                _mm256_sub_epi16(_mm256_setzero_si256(), pairs),
            );
            let (mut known, mut power) = (1, 1);
            for x in x {
                for entry in known..3 * known {
                    let sum = _mm256_add_epi16(load(&table[entry - power], half), x);
                    store(&mut table[entry], half, sum);
                }
                known *= 3;
                power *= 3;
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(from: &Lanes16, half: usize) -> __m256i {
        // SAFETY: `half` is 0 or 1, and each half is 16 numbers of 16 bits, 32 bytes.
        unsafe { _mm256_load_si256(from.0.as_ptr().add(16 * (half & 1)).cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn store(to: &mut Lanes16, half: usize, v: __m256i) {
        // SAFETY: `half` is 0 or 1, and each half is 16 numbers of 16 bits, 32 bytes.
        unsafe { _mm256_store_si256(to.0.as_mut_ptr().add(16 * (half & 1)).cast(), v) };
    }

    /// Adds four entries to every row's sums, or sets the sums to them.
    #[target_feature(enable = "avx2")]
    fn add<const SET: bool>(tables: &[[Lanes16; ENTRIES]; 4], codes: &[u8], sums: &mut [Lanes16]) {
        for (codes, sum) in codes.as_chunks::<4>().0.iter().zip(sums) {
            let mut v = if SET {
                [_mm256_setzero_si256(); 2]
            } else {
                [load(sum, 0), load(sum, 1)]
            };
            for (table, &code) in tables.iter().zip(codes) {
                debug_assert!(usize::from(code) < ENTRIES);
                // SAFETY: `encode` makes codes of four base-3 digits: at most 80, as unpacked weights are 0 to 2.
                let entry = unsafe { table.get_unchecked(usize::from(code)) };
                v = [
                    _mm256_add_epi16(v[0], load(entry, 0)),
                    _mm256_add_epi16(v[1], load(entry, 1)),
                ];
            }
            store(sum, 0, v[0]);
            store(sum, 1, v[1]);
        }
    }

    #[target_feature(enable = "avx2")]
    fn widen(short: &[Lanes16], long: &mut [Lanes32]) {
        for (short, long) in short.iter().zip(long) {
            for (long, short) in long.0.iter_mut().zip(short.0) {
                *long += i32::from(short);
            }
        }
    }
}
