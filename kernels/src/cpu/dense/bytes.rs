//! Eight rows of 8-bit codes in blocks of 32 columns (Q8_0) times Q8 rows.
//!
//! A packed block holds eight rows: vector `p` (0..8) has columns `4p..4p+4` of row `r` in its 32-bit lane `r`;
//! then eight f16 scales. `y += d·dx·Σ(code·x)`, block by block, the same for every token of a batch.

use super::GROUP;
use crate::cpu::Isa;
use crate::cpu::activation::{Q8_BLOCK, Q8Rows};
use half::f16;

/// `(group, x, first, count, tile)`: eight rows times rows `first..first+count` of `x`, into `tile[count][8]`.
pub type Gemm = super::GemmQ8;

const CODES: usize = Q8_BLOCK * GROUP;

/// Bytes of a packed block of eight rows.
pub const BLOCK_BYTES: usize = CODES + 2 * GROUP;

/// Copies block `rows[r]` of each of eight rows (ggml's bytes; `None` is a row of zeros) into `packed`.
pub fn pack(rows: &[Option<&[u8]>; GROUP], packed: &mut [u8]) {
    packed.fill(0);
    for (r, row) in rows.iter().enumerate() {
        let Some(row) = row else { continue };
        packed[CODES + 2 * r..][..2].copy_from_slice(&row[..2]);
        for (p, codes) in row[2..].chunks_exact(4).enumerate() {
            packed[32 * p + 4 * r..][..4].copy_from_slice(codes);
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
fn scalar(group: &[u8], x: &Q8Rows, first: usize, count: usize, tile: &mut [f32]) {
    for (t, out) in tile.as_chunks_mut::<GROUP>().0[..count]
        .iter_mut()
        .enumerate()
    {
        let x = x.row(first + t);
        *out = [0.0; GROUP];
        for (b, block) in group.chunks_exact(BLOCK_BYTES).enumerate() {
            for (r, y) in out.iter_mut().enumerate() {
                let mut sum = 0;
                for column in 0..Q8_BLOCK {
                    let code = block[32 * (column / 4) + 4 * r + column % 4] as i8;
                    sum += i32::from(code) * i32::from(x.codes[Q8_BLOCK * b + column]);
                }
                let d =
                    f16::from_le_bytes([block[CODES + 2 * r], block[CODES + 2 * r + 1]]).to_f32();
                *y = (sum as f32).mul_add(d * x.scales[b], *y);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::cpu::dense::x86::{broadcast, by_fours, halves, load, put};
    use std::arch::x86_64::*;

    pub(super) fn gemm(group: &[u8], x: &Q8Rows, first: usize, count: usize, tile: &mut [f32]) {
        assert!(tile.len() >= count * GROUP && group.len() / BLOCK_BYTES * Q8_BLOCK == x.columns());
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
    fn tokens<const T: usize>(group: &[u8], x: &Q8Rows, first: usize, tile: &mut [f32]) {
        let rows: [_; T] = std::array::from_fn(|t| x.row(first + t));
        let ones = _mm256_set1_epi16(1);
        let mut y = [_mm256_setzero_ps(); T];
        for b in 0..group.len() / BLOCK_BYTES {
            // SAFETY: every load stays inside block `b` of the group or inside block `b` of a Q8 row, which has
            // as many blocks as the group (asserted by the caller).
            unsafe {
                let block = group.as_ptr().add(b * BLOCK_BYTES);
                let mut sums = [_mm256_setzero_si256(); T];
                for p in 0..8 {
                    let codes = load(block.add(32 * p));
                    // |w| · (x with w's sign): a pair of products is at most 2·127·128, which fits 16 bits.
                    let magnitude = _mm256_abs_epi8(codes);
                    for t in 0..T {
                        let x = broadcast(rows[t].codes.as_ptr().add(b * Q8_BLOCK + 4 * p));
                        let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x, codes));
                        sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(pairs, ones));
                    }
                }
                let d = halves(block.add(CODES));
                for t in 0..T {
                    let dx = _mm256_mul_ps(d, _mm256_set1_ps(*rows[t].scales.as_ptr().add(b)));
                    y[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t]), dx, y[t]);
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
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn variants_equal_scalar(seed in any::<u64>(), blocks in 1_usize..7, tokens in 1_usize..10) {
            check::q8_variants_agree(&variants(), BLOCK_BYTES, CODES, blocks, tokens, seed);
        }
    }
}
