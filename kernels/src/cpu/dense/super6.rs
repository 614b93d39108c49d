//! Eight rows of Q6_K super-blocks (256 columns: sixteen sub-blocks of 16 with int8 scales) times Q8K rows.
//!
//! A packed super-block holds eight rows: for each pair of sub-blocks two vectors of nibbles and one of high bit
//! pairs, the first sub-block in the lower half of a vector of 64 bytes, the second in the upper (dword `q` of four
//! columns: nibble vector `q / 2`, low halves for even `q`; bits `2q..2q+2` of the pairs). Then come the scales
//! `[sub-block][row]` and eight f16 `d`. Per super-block `y += d·dx·Σ scale·(Σ(code·x) − 32·Σx)`; everything under the
//! sum is integer. No software prefetch: asking for a whole super-block at once fills the core's miss buffers, and one
//! thread then read 15 GB/s where the hardware's own prefetcher gives it 27 (Zen 4).

use super::GROUP;
use crate::cpu::Isa;
use crate::cpu::activation::{Q8K_BLOCK, Q8K_SUM, Q8kRows};
use crate::format::q6_k;
use half::f16;

/// `(group, x, first, count, tile)`: eight rows times rows `first..first+count` of `x`, into `tile[count][8]`.
pub type Gemm = super::GemmQ8k;

const SUBS: usize = Q8K_BLOCK / Q8K_SUM;
/// From a vector of nibbles to the next, and on to the high bit pairs.
const VECTOR: usize = 64;
const PAIRS: usize = 2 * VECTOR;
const SCALES: usize = SUBS / 2 * 3 * VECTOR;
const D: usize = SCALES + SUBS * GROUP;

/// Bytes of a packed super-block of eight rows.
pub const BLOCK_BYTES: usize = D + 2 * GROUP;

/// Where a sub-block's first nibbles stand.
fn start(sub: usize) -> usize {
    sub / 2 * 3 * VECTOR + sub % 2 * (VECTOR / 2)
}

/// Copies super-block `rows[r]` of each of eight rows (ggml's bytes; `None` is a row of zeros) into `packed`.
pub fn pack(rows: &[Option<&[u8]>; GROUP], packed: &mut [u8]) {
    packed.fill(0);
    for (r, row) in rows.iter().enumerate() {
        let Some(row) = row else { continue };
        for (quad, codes) in q6_k::codes(row).as_chunks::<4>().0.iter().enumerate() {
            let (start, dword) = (start(quad / 4) + 4 * r, quad % 4);
            for (j, code) in codes.iter().enumerate() {
                packed[start + VECTOR * (dword / 2) + j] |= (code & 15) << (4 * (dword % 2));
                packed[start + PAIRS + j] |= (code >> 4) << (2 * dword);
            }
        }
        for sub in 0..SUBS {
            packed[SCALES + sub * GROUP + r] = row[192 + sub];
        }
        packed[D + 2 * r..][..2].copy_from_slice(&row[208..210]);
    }
}

/// The variants this machine can run, slowest first.
pub fn variants() -> Vec<(Isa, Gemm)> {
    let mut list: Vec<(Isa, Gemm)> = vec![(Isa::Scalar, scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        if Isa::detect() >= Isa::Avx2 {
            list.push((Isa::Avx2, x86::gemm::<false>));
        }
        if Isa::detect() >= Isa::Avx512 {
            list.push((Isa::Avx512, x86::gemm::<true>));
        }
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
            for (r, y) in out.iter_mut().enumerate() {
                let mut total = 0;
                for sub in 0..SUBS {
                    let bytes = &block[start(sub)..];
                    let mut sum = -32 * i32::from(x.sums[SUBS * b + sub]);
                    for column in 0..Q8K_SUM {
                        let (dword, lane) = (column / 4, 4 * r + column % 4);
                        let low = bytes[VECTOR * (dword / 2) + lane] >> (4 * (dword % 2)) & 15;
                        let high = bytes[PAIRS + lane] >> (2 * dword) & 3;
                        let x = x.codes[Q8K_BLOCK * b + Q8K_SUM * sub + column];
                        sum += i32::from(low | high << 4) * i32::from(x);
                    }
                    total += i32::from(block[SCALES + sub * GROUP + r] as i8) * sum;
                }
                let d = f16::from_le_bytes([block[D + 2 * r], block[D + 2 * r + 1]]).to_f32();
                *y = (total as f32).mul_add(d * x.scales[b], *y);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::cpu::dense::x86::{broadcast, by_fours, halves, load, put, twice};
    use std::arch::x86_64::*;

    pub(super) fn gemm<const AVX512: bool>(
        group: &[u8],
        x: &Q8kRows,
        first: usize,
        count: usize,
        tile: &mut [f32],
    ) {
        assert!(
            tile.len() >= count * GROUP && group.len() / BLOCK_BYTES * Q8K_BLOCK == x.columns()
        );
        // SAFETY: `variants` offers this function only where AVX2, FMA and F16C were detected, and AVX-512 with them.
        by_fours(count, tile, |t, many, tile| unsafe {
            match (many, AVX512) {
                (true, true) => tokens_512::<4>(group, x, first + t, tile),
                (false, true) => tokens_512::<1>(group, x, first + t, tile),
                (true, false) => tokens::<4>(group, x, first + t, tile),
                (false, false) => tokens::<1>(group, x, first + t, tile),
            }
        });
    }

    /// The codes of both sub-blocks of a pair, dword by dword.
    ///
    /// # Safety
    /// 192 bytes must be readable at `at`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn codes_512(at: *const u8) -> [__m512i; 4] {
        // SAFETY: the caller's.
        let (first, second, high) = unsafe {
            (
                _mm512_loadu_si512(at.cast()),
                _mm512_loadu_si512(at.add(VECTOR).cast()),
                _mm512_loadu_si512(at.add(PAIRS).cast()),
            )
        };
        let (half, six) = (_mm512_set1_epi8(15), _mm512_set1_epi8(63));
        // 0xca picks from the nibbles where `half` is set, from the moved pairs elsewhere.
        let join = |nibbles, pairs| {
            _mm512_and_si512(_mm512_ternarylogic_epi32::<0xca>(half, nibbles, pairs), six)
        };
        [
            join(first, _mm512_slli_epi16::<4>(high)),
            join(_mm512_srli_epi16::<4>(first), _mm512_slli_epi16::<2>(high)),
            join(second, high),
            join(_mm512_srli_epi16::<4>(second), _mm512_srli_epi16::<2>(high)),
        ]
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
    fn tokens_512<const T: usize>(group: &[u8], x: &Q8kRows, first: usize, tile: &mut [f32]) {
        let rows: [_; T] = std::array::from_fn(|t| x.row(first + t));
        // Dword q of the first sub-block in the lower lanes, of the second in the upper.
        let dword: [__m512i; 4] = std::array::from_fn(|q| {
            let q = q as i64;
            let (low, high) = (q << 32 | q, (q + 4) << 32 | (q + 4));
            _mm512_setr_epi64(low, low, low, low, high, high, high, high)
        });
        // The sums of both stand side by side in 16 bits: each lane takes its own, times −32.
        let (low, high) = (i64::from(0xffe0_u32), i64::from(0xffe0_0000_u32));
        let (low, high) = (low << 32 | low, high << 32 | high);
        let offset = _mm512_setr_epi64(low, low, low, low, high, high, high, high);
        let mut y = [_mm256_setzero_ps(); T];
        for b in 0..group.len() / BLOCK_BYTES {
            // SAFETY: every load stays inside super-block `b` of the group or inside super-block `b` of a Q8K row,
            // which has as many as the group (asserted by the caller).
            unsafe {
                let block = group.as_ptr().add(b * BLOCK_BYTES);
                let mut totals = [_mm512_setzero_si512(); T];
                for pair in 0..SUBS / 2 {
                    let code = codes_512(block.add(pair * 3 * VECTOR));
                    let scale = _mm512_cvtepi8_epi32(_mm_loadu_si128(
                        block.add(SCALES + pair * 2 * GROUP).cast(),
                    ));
                    for t in 0..T {
                        let x = rows[t]
                            .codes
                            .as_ptr()
                            .add(b * Q8K_BLOCK + pair * 2 * Q8K_SUM);
                        let x = _mm512_castsi256_si512(load(x.cast()));
                        let sums = rows[t].sums.as_ptr().add(SUBS * b + 2 * pair);
                        let sums = _mm512_set1_epi32(sums.cast::<i32>().read_unaligned());
                        let mut sum = _mm512_madd_epi16(sums, offset);
                        for q in 0..4 {
                            let x = _mm512_permutexvar_epi32(dword[q], x);
                            sum = _mm512_dpbusd_epi32(sum, code[q], x);
                        }
                        totals[t] = _mm512_add_epi32(totals[t], _mm512_mullo_epi32(sum, scale));
                    }
                }
                let d = halves(block.add(D));
                for t in 0..T {
                    let total = _mm256_add_epi32(
                        _mm512_castsi512_si256(totals[t]),
                        _mm512_extracti64x4_epi64::<1>(totals[t]),
                    );
                    let dx = _mm256_mul_ps(d, _mm256_set1_ps(*rows[t].scales.as_ptr().add(b)));
                    y[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), dx, y[t]);
                }
            }
        }
        put(y, tile);
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn tokens<const T: usize>(group: &[u8], x: &Q8kRows, first: usize, tile: &mut [f32]) {
        let rows: [_; T] = std::array::from_fn(|t| x.row(first + t));
        let low_half = _mm256_set1_epi8(15);
        let pair = _mm256_set1_epi8(0x30);
        let mut y = [_mm256_setzero_ps(); T];
        for b in 0..group.len() / BLOCK_BYTES {
            // SAFETY: every load stays inside super-block `b` of the group or inside super-block `b` of a Q8K row,
            // which has as many as the group (asserted by the caller).
            unsafe {
                let block = group.as_ptr().add(b * BLOCK_BYTES);
                let mut totals = [_mm256_setzero_si256(); T];
                for sub in 0..SUBS {
                    let at = block.add(start(sub));
                    let (first, second, high) =
                        (load(at), load(at.add(VECTOR)), load(at.add(PAIRS)));
                    let low = [
                        _mm256_and_si256(first, low_half),
                        _mm256_and_si256(_mm256_srli_epi16::<4>(first), low_half),
                        _mm256_and_si256(second, low_half),
                        _mm256_and_si256(_mm256_srli_epi16::<4>(second), low_half),
                    ];
                    // Bits 2q and 2q + 1 of each byte, moved to bits 4 and 5.
                    let high = [
                        _mm256_and_si256(_mm256_slli_epi16::<4>(high), pair),
                        _mm256_and_si256(_mm256_slli_epi16::<2>(high), pair),
                        _mm256_and_si256(high, pair),
                        _mm256_and_si256(_mm256_srli_epi16::<2>(high), pair),
                    ];
                    let code: [_; 4] = std::array::from_fn(|q| _mm256_or_si256(low[q], high[q]));
                    let scale = _mm256_cvtepi8_epi16(twice(block.add(SCALES + sub * GROUP)));
                    for t in 0..T {
                        let x = rows[t].codes.as_ptr().add(b * Q8K_BLOCK + Q8K_SUM * sub);
                        // Two pairs of at most 2·63·127 fit 16 bits.
                        let a = _mm256_add_epi16(
                            _mm256_maddubs_epi16(code[0], broadcast(x)),
                            _mm256_maddubs_epi16(code[1], broadcast(x.add(4))),
                        );
                        let c = _mm256_add_epi16(
                            _mm256_maddubs_epi16(code[2], broadcast(x.add(8))),
                            _mm256_maddubs_epi16(code[3], broadcast(x.add(12))),
                        );
                        // −16·Σx twice is −32·Σx; |Σx| ≤ 16·127, so it fits 16 bits.
                        let offset =
                            _mm256_set1_epi16(-16 * *rows[t].sums.as_ptr().add(SUBS * b + sub));
                        let products = _mm256_add_epi32(
                            _mm256_madd_epi16(a, scale),
                            _mm256_madd_epi16(c, scale),
                        );
                        totals[t] = _mm256_add_epi32(totals[t], products);
                        totals[t] = _mm256_add_epi32(totals[t], _mm256_madd_epi16(offset, scale));
                    }
                }
                let d = halves(block.add(D));
                for t in 0..T {
                    let dx = _mm256_mul_ps(d, _mm256_set1_ps(*rows[t].scales.as_ptr().add(b)));
                    y[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(totals[t]), dx, y[t]);
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
