//! Eight rows of 4- or 5-bit codes in blocks of 32 columns (Q4_0, Q4_1, Q5_0, Q5_1) times Q8 rows.
//!
//! A packed block holds eight rows: a 32-bit lane of every vector belongs to one row, so no sum ever crosses
//! lanes. 128 bytes of nibbles: in vector `p` (0..4), row `r` has columns `4p..4p+4` in the low halves of its
//! four bytes and columns `16+4p..` in the high halves. Then, for 5 bits, 32 bytes of high bits (bit `q` of byte
//! `b` is column `4q+b`), then eight f16 scales, then, if the format has them, eight f16 minima.
//!
//! A row's value grows block by block, always in this order: `y += d·dx·Σ(code·x)` and `y += m·(dx·Σx)`, or
//! for formats without a minimum `y += d·dx·(Σ(code·x) − offset·Σx)`. Every token of a batch gets the same
//! operations in the same order, whatever its neighbours.

use super::GROUP;
use crate::cpu::Isa;
use crate::cpu::activation::{Q8_BLOCK, Q8Rows};
use half::f16;

/// `(group, x, first, count, tile)`: eight rows times rows `first..first+count` of `x`, into `tile[count][8]`.
pub type Gemm = super::GemmQ8;

const NIBBLES: usize = 128;
const HIGH_BITS: usize = 32;
const SCALES: usize = 2 * GROUP;

/// Bytes of a packed block of eight rows.
pub const fn block_bytes(high: bool, min: bool) -> usize {
    NIBBLES + if high { HIGH_BITS } else { 0 } + SCALES + if min { SCALES } else { 0 }
}

/// Copies block `rows[r]` of each of eight rows (ggml's bytes; `None` is a row of zeros) into `packed`.
pub fn pack(high: bool, min: bool, rows: &[Option<&[u8]>; GROUP], packed: &mut [u8]) {
    packed.fill(0);
    let scales = NIBBLES + if high { HIGH_BITS } else { 0 };
    for (r, row) in rows.iter().enumerate() {
        let Some(row) = row else { continue };
        // ggml: d, [m], [qh], qs
        let (d, rest) = row.split_at(2);
        let (m, rest) = if min {
            rest.split_at(2)
        } else {
            (&[][..], rest)
        };
        let (bits, nibbles) = if high {
            rest.split_at(4)
        } else {
            (&[][..], rest)
        };
        for p in 0..4 {
            packed[32 * p + 4 * r..][..4].copy_from_slice(&nibbles[4 * p..][..4]);
        }
        if high {
            for column in 0..32 {
                let bit = bits[column / 8] >> (column % 8) & 1;
                packed[NIBBLES + 4 * r + column % 4] |= bit << (column / 4);
            }
        }
        packed[scales + 2 * r..][..2].copy_from_slice(d);
        if min {
            packed[scales + SCALES + 2 * r..][..2].copy_from_slice(m);
        }
    }
}

/// The variants this machine can run for one of the four formats, slowest first.
pub fn variants(high: bool, min: bool) -> Vec<(Isa, Gemm)> {
    match (high, min) {
        (false, false) => list::<false, false>(),
        (false, true) => list::<false, true>(),
        (true, false) => list::<true, false>(),
        (true, true) => list::<true, true>(),
    }
}

fn list<const HIGH: bool, const MIN: bool>() -> Vec<(Isa, Gemm)> {
    let mut list: Vec<(Isa, Gemm)> = vec![(Isa::Scalar, scalar::<HIGH, MIN>)];
    #[cfg(target_arch = "x86_64")]
    if Isa::detect() >= Isa::Avx2 {
        list.push((Isa::Avx2, x86::gemm::<HIGH, MIN>));
    }
    list
}

/// What a code of 0 stands for in the formats without a minimum.
const fn offset(high: bool) -> i32 {
    if high { 16 } else { 8 }
}

/// The definition. Every other variant must equal it bit for bit.
fn scalar<const HIGH: bool, const MIN: bool>(
    group: &[u8],
    x: &Q8Rows,
    first: usize,
    count: usize,
    tile: &mut [f32],
) {
    let scales = NIBBLES + if HIGH { HIGH_BITS } else { 0 };
    for (t, out) in tile.as_chunks_mut::<GROUP>().0[..count]
        .iter_mut()
        .enumerate()
    {
        let x = x.row(first + t);
        *out = [0.0; GROUP];
        for (b, block) in group.chunks_exact(block_bytes(HIGH, MIN)).enumerate() {
            let half_at = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
            for (r, y) in out.iter_mut().enumerate() {
                let mut sum = 0;
                for column in 0..Q8_BLOCK {
                    let byte = block[32 * (column % 16 / 4) + 4 * r + column % 4];
                    let mut code = if column < 16 { byte & 15 } else { byte >> 4 };
                    if HIGH {
                        code |= (block[NIBBLES + 4 * r + column % 4] >> (column / 4) & 1) << 4;
                    }
                    sum += i32::from(code) * i32::from(x.codes[Q8_BLOCK * b + column]);
                }
                let d = half_at(scales + 2 * r) * x.scales[b];
                if MIN {
                    *y = (sum as f32).mul_add(d, *y);
                    *y = half_at(scales + SCALES + 2 * r).mul_add(x.scaled_sums[b], *y);
                } else {
                    *y = ((sum - offset(HIGH) * x.sums[b]) as f32).mul_add(d, *y);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use std::arch::x86_64::*;

    pub(super) fn gemm<const HIGH: bool, const MIN: bool>(
        group: &[u8],
        x: &Q8Rows,
        first: usize,
        count: usize,
        tile: &mut [f32],
    ) {
        assert!(
            tile.len() >= count * GROUP
                && group.len() / block_bytes(HIGH, MIN) * Q8_BLOCK == x.columns()
        );
        // SAFETY: `list` offers this function only where AVX2, FMA and F16C were detected.
        by_fours(count, tile, |t, many, tile| unsafe {
            if many {
                tokens::<HIGH, MIN, 4>(group, x, first + t, tile);
            } else {
                tokens::<HIGH, MIN, 1>(group, x, first + t, tile);
            }
        });
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn tokens<const HIGH: bool, const MIN: bool, const T: usize>(
        group: &[u8],
        x: &Q8Rows,
        first: usize,
        tile: &mut [f32],
    ) {
        let rows: [_; T] = std::array::from_fn(|t| x.row(first + t));
        let blocks = group.len() / block_bytes(HIGH, MIN);
        let low_half = _mm256_set1_epi8(15);
        let fifth_bit = _mm256_set1_epi8(16);
        let ones = _mm256_set1_epi16(1);
        let mut y = [_mm256_setzero_ps(); T];
        for b in 0..blocks {
            // SAFETY: every load below stays inside block `b` of the group (`block_bytes` long) or inside block
            // `b` of a Q8 row, which has as many blocks as the group (asserted by the caller).
            unsafe {
                let block = group.as_ptr().add(b * block_bytes(HIGH, MIN));
                let bits = if HIGH {
                    load(block.add(NIBBLES))
                } else {
                    _mm256_setzero_si256()
                };
                let mut sums = [_mm256_setzero_si256(); T];
                let mut wide = [_mm256_setzero_si256(); T];
                for p in 0..4_usize {
                    let bytes = load(block.add(32 * p));
                    let mut low = _mm256_and_si256(bytes, low_half);
                    let mut high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low_half);
                    if HIGH {
                        // Moves bit p (p + 4 for the high half) of each byte to bit 4.
                        let (l, h) = match p {
                            0 => (_mm256_slli_epi16::<4>(bits), bits),
                            1 => (_mm256_slli_epi16::<3>(bits), _mm256_srli_epi16::<1>(bits)),
                            2 => (_mm256_slli_epi16::<2>(bits), _mm256_srli_epi16::<2>(bits)),
                            _ => (_mm256_slli_epi16::<1>(bits), _mm256_srli_epi16::<3>(bits)),
                        };
                        low = _mm256_or_si256(low, _mm256_and_si256(l, fifth_bit));
                        high = _mm256_or_si256(high, _mm256_and_si256(h, fifth_bit));
                    }
                    for t in 0..T {
                        let codes = rows[t].codes.as_ptr().add(b * Q8_BLOCK + 4 * p);
                        let a = _mm256_maddubs_epi16(low, broadcast(codes));
                        let c = _mm256_maddubs_epi16(high, broadcast(codes.add(16)));
                        // 4 bits: 8 products pairs of at most 2·15·127 fit 16 bits. 5 bits: only 4 do.
                        sums[t] = _mm256_add_epi16(sums[t], _mm256_add_epi16(a, c));
                        if HIGH && p == 1 {
                            wide[t] = _mm256_madd_epi16(sums[t], ones);
                            sums[t] = _mm256_setzero_si256();
                        }
                    }
                }
                let scales = block.add(NIBBLES + if HIGH { HIGH_BITS } else { 0 });
                let d = halves(scales);
                for t in 0..T {
                    let mut sum = _mm256_madd_epi16(sums[t], ones);
                    if HIGH {
                        sum = _mm256_add_epi32(sum, wide[t]);
                    }
                    let dx = _mm256_mul_ps(d, _mm256_set1_ps(*rows[t].scales.as_ptr().add(b)));
                    if MIN {
                        let m = halves(scales.add(SCALES));
                        y[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), dx, y[t]);
                        y[t] = _mm256_fmadd_ps(
                            m,
                            _mm256_set1_ps(*rows[t].scaled_sums.as_ptr().add(b)),
                            y[t],
                        );
                    } else {
                        let shift = offset(HIGH) * *rows[t].sums.as_ptr().add(b);
                        sum = _mm256_sub_epi32(sum, _mm256_set1_epi32(shift));
                        y[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), dx, y[t]);
                    }
                }
            }
        }
        put(y, tile);
    }

    use crate::cpu::dense::x86::{broadcast, by_fours, halves, load, put};
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::dense::check;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn variants_equal_scalar(seed in any::<u64>(), blocks in 1_usize..7, tokens in 1_usize..10) {
            for (high, min) in [(false, false), (false, true), (true, false), (true, true)] {
                check::q8_variants_agree(&variants(high, min), block_bytes(high, min), NIBBLES + if high { HIGH_BITS } else { 0 }, blocks, tokens, seed);
            }
        }
    }
}
