//! Eight rows of ternary super-blocks (256 columns, one scale each: ggml's TQ1_0 and TQ2_0) times Q8K rows.
//!
//! A packed super-block holds eight rows: 16 vectors of 2-bit codes (weight + 1; in vector `v`, field `f` of lane `r`
//! holds columns `16v + 4f ..` of row `r`), then eight f32 scales. Per super-block
//! `y += d·dx·(Σ(code·x) − Σx)`, which is ggml's own arithmetic for these types. Models whose matrices have one scale
//! run faster, and closer to their training, through [`crate::cpu::ternary`].

use super::GROUP;
use crate::cpu::Isa;
use crate::cpu::activation::{Q8K_BLOCK, Q8K_SUM, Q8kRows};

/// `(group, x, first, count, tile)`: eight rows times rows `first..first+count` of `x`, into `tile[count][8]`.
pub type Gemm = super::GemmQ8k;

const CODES: usize = Q8K_BLOCK * GROUP / 4;

/// Bytes of a packed super-block of eight rows.
pub const BLOCK_BYTES: usize = CODES + size_of::<f32>() * GROUP;

/// Writes 256 weights (−1, 0, 1) and their scale as row `r` of a zeroed super-block.
pub fn pack_row(r: usize, trits: &[i8], scale: f32, packed: &mut [u8]) {
    for (column, &trit) in trits.iter().enumerate() {
        packed[32 * (column / 16) + 4 * r + column % 4] |=
            ((trit + 1) as u8) << (2 * (column % 16 / 4));
    }
    packed[CODES + 4 * r..][..4].copy_from_slice(&scale.to_le_bytes());
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
            let sums = &x.sums[b * (Q8K_BLOCK / Q8K_SUM)..][..Q8K_BLOCK / Q8K_SUM];
            let total: i32 = sums.iter().map(|&s| i32::from(s)).sum();
            for (r, y) in out.iter_mut().enumerate() {
                let mut sum = -total;
                for column in 0..Q8K_BLOCK {
                    let code = block[32 * (column / 16) + 4 * r + column % 4]
                        >> (2 * (column % 16 / 4))
                        & 3;
                    sum += i32::from(code) * i32::from(x.codes[Q8K_BLOCK * b + column]);
                }
                let d = &block[CODES + 4 * r..][..4];
                let d = f32::from_le_bytes([d[0], d[1], d[2], d[3]]);
                *y = (sum as f32).mul_add(d * x.scales[b], *y);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::cpu::dense::x86::{broadcast, by_fours, load, put};
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
        let field = _mm256_set1_epi8(3);
        let ones = _mm256_set1_epi16(1);
        let mut y = [_mm256_setzero_ps(); T];
        for b in 0..group.len() / BLOCK_BYTES {
            // SAFETY: every load stays inside super-block `b` of the group or inside super-block `b` of a Q8K row,
            // which has as many as the group (asserted by the caller).
            unsafe {
                let block = group.as_ptr().add(b * BLOCK_BYTES);
                let mut sums = [_mm256_setzero_si256(); T];
                for v in 0..16 {
                    let bytes = load(block.add(32 * v));
                    let codes = [
                        _mm256_and_si256(bytes, field),
                        _mm256_and_si256(_mm256_srli_epi16::<2>(bytes), field),
                        _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), field),
                        _mm256_and_si256(_mm256_srli_epi16::<6>(bytes), field),
                    ];
                    for t in 0..T {
                        let x = rows[t].codes.as_ptr().add(b * Q8K_BLOCK + 16 * v);
                        for (f, &codes) in codes.iter().enumerate() {
                            // 64 pairs of at most 2·2·127 fit 16 bits.
                            let pairs = _mm256_maddubs_epi16(codes, broadcast(x.add(4 * f)));
                            sums[t] = _mm256_add_epi16(sums[t], pairs);
                        }
                    }
                }
                let d = _mm256_loadu_ps(block.add(CODES).cast());
                for t in 0..T {
                    let parts = load(rows[t].sums.as_ptr().add(b * (Q8K_BLOCK / Q8K_SUM)).cast());
                    let parts = _mm256_madd_epi16(parts, ones);
                    let mut lanes = [0_i32; 8];
                    _mm256_storeu_si256(lanes.as_mut_ptr().cast(), parts);
                    let total: i32 = lanes.iter().sum();
                    let sum = _mm256_sub_epi32(
                        _mm256_madd_epi16(sums[t], ones),
                        _mm256_set1_epi32(total),
                    );
                    let dx = _mm256_mul_ps(d, _mm256_set1_ps(*rows[t].scales.as_ptr().add(b)));
                    y[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), dx, y[t]);
                }
            }
        }
        put(y, tile);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::dense::check::{self, Noise};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn variants_equal_scalar(seed in any::<u64>(), blocks in 1_usize..4, tokens in 1_usize..10) {
            let mut noise = Noise(seed);
            let mut group = vec![0; blocks * BLOCK_BYTES];
            for block in group.chunks_exact_mut(BLOCK_BYTES) {
                let extreme = noise.next() % 3;
                for r in 0..GROUP {
                    let trits: Vec<i8> = (0..Q8K_BLOCK).map(|_| if extreme == 0 { 1 } else { (noise.next() % 3) as i8 - 1 }).collect();
                    pack_row(r, &trits, noise.float(), block);
                }
            }
            let mut x = Q8kRows::default();
            x.resize(tokens, blocks * Q8K_BLOCK);
            for t in 0..tokens {
                let row = check::row(&mut noise, blocks * Q8K_BLOCK);
                x.set(t, &row, crate::cpu::activation::q8k_variants()[0].1);
            }
            check::compare(&variants(), tokens, |kernel, first, count, tile| kernel(&group, &x, first, count, tile));
        }
    }
}
