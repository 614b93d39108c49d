//! Eight rows of Q4_K super-blocks (256 columns: eight sub-blocks of 32 with 6-bit scales and minima) times Q8K rows.
//!
//! A packed super-block holds eight rows: for each sub-block 128 bytes of nibbles (vector `p` of four: columns
//! `4p..4p+4` of row `r` in the low halves of lane `r`, columns `16+4p..` in the high halves), then the scales
//! `[sub-block][row]`, the minima likewise, eight f16 `d` and eight f16 `dmin`. Per super-block
//! `y += d·dx·Σ scale·Σ(code·x)`, then `y -= dmin·dx·Σ minimum·Σx`; everything under the sums is integer.

use super::GROUP;
use crate::cpu::Isa;
use crate::cpu::activation::{Q8K_BLOCK, Q8kRows};
use crate::format::q4_k;
use half::f16;

/// `(group, x, first, count, tile)`: eight rows times rows `first..first+count` of `x`, into `tile[count][8]`.
pub type Gemm = super::GemmQ8k;

const SUBS: usize = 8;
const NIBBLES: usize = 128;
const SCALES: usize = SUBS * NIBBLES;
const MINIMA: usize = SCALES + SUBS * GROUP;
const D: usize = MINIMA + SUBS * GROUP;
const D_MIN: usize = D + 2 * GROUP;

/// Bytes of a packed super-block of eight rows.
pub const BLOCK_BYTES: usize = D_MIN + 2 * GROUP;

/// Copies super-block `rows[r]` of each of eight rows (ggml's bytes; `None` is a row of zeros) into `packed`.
pub fn pack(rows: &[Option<&[u8]>; GROUP], packed: &mut [u8]) {
    packed.fill(0);
    for (r, row) in rows.iter().enumerate() {
        let Some(row) = row else { continue };
        let (header, nibbles) = row.split_at(16);
        packed[D + 2 * r..][..2].copy_from_slice(&header[..2]);
        packed[D_MIN + 2 * r..][..2].copy_from_slice(&header[2..4]);
        for sub in 0..SUBS {
            let (scale, minimum) = q4_k::group_scale(&header[4..], sub);
            packed[SCALES + sub * GROUP + r] = scale;
            packed[MINIMA + sub * GROUP + r] = minimum;
            for column in 0..32 {
                let code = nibbles[sub / 2 * 32 + column] >> (4 * (sub % 2)) & 15;
                let at = sub * NIBBLES + 32 * (column % 16 / 4) + 4 * r + column % 4;
                packed[at] |= if column < 16 { code } else { code << 4 };
            }
        }
    }
}

/// The variants this machine can run, slowest first.
pub fn variants() -> Vec<(Isa, Gemm)> {
    let mut list: Vec<(Isa, Gemm)> = vec![(Isa::Scalar, scalar)];
    #[cfg(target_arch = "x86_64")]
    if Isa::detect() >= Isa::Avx2 {
        list.push((Isa::Avx2, x86::gemm));
    }
    list
}

/// The definition. Every other variant must equal it bit for bit.
fn scalar(group: &[u8], x: &Q8kRows, first: usize, count: usize, tile: &mut [f32]) {
    for (t, out) in tile.as_chunks_mut::<GROUP>().0[..count]
        .iter_mut()
        .enumerate()
    {
        let x = x.row(first + t);
        *out = [0.0; GROUP];
        for (b, block) in group.chunks_exact(BLOCK_BYTES).enumerate() {
            let half_at = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
            for (r, y) in out.iter_mut().enumerate() {
                let (mut codes, mut minima) = (0, 0);
                for sub in 0..SUBS {
                    let mut sum = 0;
                    for column in 0..32 {
                        let byte =
                            block[sub * NIBBLES + 32 * (column % 16 / 4) + 4 * r + column % 4];
                        let code = if column < 16 { byte & 15 } else { byte >> 4 };
                        sum +=
                            i32::from(code) * i32::from(x.codes[Q8K_BLOCK * b + 32 * sub + column]);
                    }
                    codes += i32::from(block[SCALES + sub * GROUP + r]) * sum;
                    let sums = &x.sums[16 * b + 2 * sub..][..2];
                    minima +=
                        i32::from(block[MINIMA + sub * GROUP + r]) * i32::from(sums[0] + sums[1]);
                }
                *y = (codes as f32).mul_add(half_at(D + 2 * r) * x.scales[b], *y);
                *y = (-(minima as f32)).mul_add(half_at(D_MIN + 2 * r) * x.scales[b], *y);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::cpu::dense::x86::{broadcast, by_fours, halves, load, put, twice};
    use std::arch::x86_64::*;

    pub(super) fn gemm(group: &[u8], x: &Q8kRows, first: usize, count: usize, tile: &mut [f32]) {
        assert!(
            tile.len() >= count * GROUP && group.len() / BLOCK_BYTES * Q8K_BLOCK == x.columns()
        );
        // SAFETY: `variants` offers this function only where AVX2, FMA and F16C were detected.
        by_fours(count, tile, |t, many, tile| unsafe {
            if many {
                tokens::<4>(group, x, first + t, tile);
            } else {
                tokens::<1>(group, x, first + t, tile);
            }
        });
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn tokens<const T: usize>(group: &[u8], x: &Q8kRows, first: usize, tile: &mut [f32]) {
        let rows: [_; T] = std::array::from_fn(|t| x.row(first + t));
        let low_half = _mm256_set1_epi8(15);
        let mut y = [_mm256_setzero_ps(); T];
        for b in 0..group.len() / BLOCK_BYTES {
            // SAFETY: every load stays inside super-block `b` of the group or inside super-block `b` of a Q8K row,
            // which has as many as the group (asserted by the caller).
            unsafe {
                let block = group.as_ptr().add(b * BLOCK_BYTES);
                let mut codes = [_mm256_setzero_si256(); T];
                let mut minima = [_mm256_setzero_si256(); T];
                for sub in 0..SUBS {
                    let mut sums = [_mm256_setzero_si256(); T];
                    for p in 0..4 {
                        let bytes = load(block.add(sub * NIBBLES + 32 * p));
                        let low = _mm256_and_si256(bytes, low_half);
                        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low_half);
                        for t in 0..T {
                            let x = rows[t].codes.as_ptr().add(b * Q8K_BLOCK + 32 * sub + 4 * p);
                            let a = _mm256_maddubs_epi16(low, broadcast(x));
                            let c = _mm256_maddubs_epi16(high, broadcast(x.add(16)));
                            // Eight pairs of at most 2·15·128 fit 16 bits.
                            sums[t] = _mm256_add_epi16(sums[t], _mm256_add_epi16(a, c));
                        }
                    }
                    let scale = _mm256_cvtepu8_epi16(twice(block.add(SCALES + sub * GROUP)));
                    // The minimum in the low half of each lane, zero in the high half.
                    let minimum = _mm256_cvtepu8_epi32(_mm_loadl_epi64(
                        block.add(MINIMA + sub * GROUP).cast(),
                    ));
                    for t in 0..T {
                        codes[t] = _mm256_add_epi32(codes[t], _mm256_madd_epi16(sums[t], scale));
                        let two = rows[t].sums.as_ptr().add(16 * b + 2 * sub);
                        let sum = _mm256_set1_epi16(*two + *two.add(1));
                        minima[t] = _mm256_add_epi32(minima[t], _mm256_madd_epi16(minimum, sum));
                    }
                }
                let (d, d_min) = (halves(block.add(D)), halves(block.add(D_MIN)));
                for t in 0..T {
                    let dx = _mm256_set1_ps(*rows[t].scales.as_ptr().add(b));
                    y[t] =
                        _mm256_fmadd_ps(_mm256_cvtepi32_ps(codes[t]), _mm256_mul_ps(d, dx), y[t]);
                    y[t] = _mm256_fnmadd_ps(
                        _mm256_cvtepi32_ps(minima[t]),
                        _mm256_mul_ps(d_min, dx),
                        y[t],
                    );
                }
            }
        }
        put(y, tile);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::dense::check;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn variants_equal_scalar(seed in any::<u64>(), blocks in 1_usize..4, tokens in 1_usize..10) {
            check::q8k_variants_agree(&variants(), BLOCK_BYTES, D..BLOCK_BYTES, blocks, tokens, seed);
        }
    }
}
