//! The two inner loops of attention: scores of a tile, and the weighted sum of its values.
//!
//! A score grows dimension by dimension and an output position by position, each by one fused multiply-add; the
//! vector variants only do eight or sixteen of them at once, so they equal the scalar definition bit for bit.

#[cfg(target_arch = "x86_64")]
mod wide;

use super::TILE;
use crate::cpu::Isa;
use crate::kv::KvKind;
use half::f16;

/// `(queries, head_dim, keys, scores)`: `scores[r][j] = Σ_d queries[r][d] · keys[d][j]` (times the position's
/// scale in int8).
pub type Score = fn(&[f32], usize, &[u8], &mut [f32]);
/// `(weights, positions, values, head_dim, outputs)`: `outputs[r][d] += Σ_j weights[r][j] · values[j][d]` over the
/// first `positions`.
pub type Gather = fn(&[f32], usize, &[u8], usize, &mut [f32]);

/// The variants this machine can run, slowest first.
pub fn score_variants(kind: KvKind) -> Vec<(Isa, Score)> {
    let int8 = kind == KvKind::Int8;
    let mut list: Vec<(Isa, Score)> = vec![(
        Isa::Scalar,
        if int8 { score::<true> } else { score::<false> },
    )];
    #[cfg(target_arch = "x86_64")]
    if Isa::detect() >= Isa::Avx2 {
        list.push((
            Isa::Avx2,
            if int8 {
                x86::score::<true>
            } else {
                x86::score::<false>
            },
        ));
    }
    #[cfg(target_arch = "x86_64")]
    if Isa::detect() >= Isa::Avx512 {
        list.push((
            Isa::Avx512,
            if int8 {
                wide::score::<true>
            } else {
                wide::score::<false>
            },
        ));
    }
    list
}

/// The variants this machine can run, slowest first.
pub fn gather_variants(kind: KvKind) -> Vec<(Isa, Gather)> {
    let int8 = kind == KvKind::Int8;
    let mut list: Vec<(Isa, Gather)> = vec![(
        Isa::Scalar,
        if int8 {
            gather::<true>
        } else {
            gather::<false>
        },
    )];
    #[cfg(target_arch = "x86_64")]
    if Isa::detect() >= Isa::Avx2 {
        list.push((
            Isa::Avx2,
            if int8 {
                x86::gather::<true>
            } else {
                x86::gather::<false>
            },
        ));
    }
    #[cfg(target_arch = "x86_64")]
    if Isa::detect() >= Isa::Avx512 {
        list.push((
            Isa::Avx512,
            if int8 {
                wide::gather::<true>
            } else {
                wide::gather::<false>
            },
        ));
    }
    list
}

fn number<const INT8: bool>(side: &[u8], i: usize) -> f32 {
    if INT8 {
        f32::from(side[i] as i8)
    } else {
        f16::from_le_bytes([side[2 * i], side[2 * i + 1]]).to_f32()
    }
}

/// The scale of a position, behind the codes of an int8 side.
fn scale(side: &[u8], head_dim: usize, j: usize) -> f32 {
    let at = TILE * head_dim + 4 * j;
    f32::from_le_bytes([side[at], side[at + 1], side[at + 2], side[at + 3]])
}

/// Bytes of a side.
#[cfg(target_arch = "x86_64")]
fn side_bytes(int8: bool, head_dim: usize) -> usize {
    if int8 {
        TILE * (head_dim + 4)
    } else {
        TILE * head_dim * 2
    }
}

/// The weights of R rows, each times its position's scale.
#[cfg(target_arch = "x86_64")]
fn scaled<const R: usize>(weights: &[f32], values: &[u8], head_dim: usize) -> [[f32; TILE]; R] {
    let mut scaled = [[0.0; TILE]; R];
    for (scaled, weights) in scaled.iter_mut().zip(weights.as_chunks::<TILE>().0) {
        for (j, (s, w)) in scaled.iter_mut().zip(weights).enumerate() {
            *s = w * scale(values, head_dim, j);
        }
    }
    scaled
}

/// The definition.
fn score<const INT8: bool>(queries: &[f32], head_dim: usize, keys: &[u8], scores: &mut [f32]) {
    for (q, scores) in queries
        .chunks_exact(head_dim)
        .zip(scores.as_chunks_mut::<TILE>().0)
    {
        for (j, s) in scores.iter_mut().enumerate() {
            *s = 0.0;
            for (d, q) in q.iter().enumerate() {
                *s = number::<INT8>(keys, d * TILE + j).mul_add(*q, *s);
            }
            if INT8 {
                *s *= scale(keys, head_dim, j);
            }
        }
    }
}

/// The definition.
fn gather<const INT8: bool>(
    weights: &[f32],
    positions: usize,
    values: &[u8],
    head_dim: usize,
    outputs: &mut [f32],
) {
    for (weights, output) in weights
        .as_chunks::<TILE>()
        .0
        .iter()
        .zip(outputs.chunks_exact_mut(head_dim))
    {
        for (j, w) in weights[..positions].iter().enumerate() {
            let w = if INT8 {
                w * scale(values, head_dim, j)
            } else {
                *w
            };
            for (d, o) in output.iter_mut().enumerate() {
                *o = number::<INT8>(values, j * head_dim + d).mul_add(w, *o);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{TILE, side_bytes};
    use std::arch::x86_64::*;

    /// Rows of one register tile: 4 rows of 2 vectors leave room for the 2 loaded vectors and a broadcast.
    const ROWS: usize = 4;

    pub(super) fn score<const INT8: bool>(
        queries: &[f32],
        head_dim: usize,
        keys: &[u8],
        scores: &mut [f32],
    ) {
        let rows = queries.len() / head_dim;
        assert!(scores.len() >= rows * TILE && keys.len() >= side_bytes(INT8, head_dim));
        let mut r = 0;
        while r < rows {
            let (q, s) = (&queries[r * head_dim..], &mut scores[r * TILE..]);
            // SAFETY: `score_variants` offers this function only where the features were detected.
            r += unsafe {
                match rows - r {
                    1 => score_rows::<INT8, 1>(q, head_dim, keys, s),
                    2 => score_rows::<INT8, 2>(q, head_dim, keys, s),
                    3 => score_rows::<INT8, 3>(q, head_dim, keys, s),
                    _ => score_rows::<INT8, ROWS>(q, head_dim, keys, s),
                }
            };
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn score_rows<const INT8: bool, const R: usize>(
        queries: &[f32],
        head_dim: usize,
        keys: &[u8],
        scores: &mut [f32],
    ) -> usize {
        assert!(queries.len() >= R * head_dim && scores.len() >= R * TILE);
        for half in 0..2 {
            let mut sums = [[_mm256_setzero_ps(); 2]; R];
            for d in 0..head_dim {
                // SAFETY: element `d * TILE + 16 * half + 15` of the keys and element `d` of R rows of queries
                // are inside their slices (asserted here and in `score`).
                unsafe {
                    let k = pair::<INT8>(keys, d * TILE + 16 * half);
                    for (r, s) in sums.iter_mut().enumerate() {
                        let q = _mm256_set1_ps(*queries.as_ptr().add(r * head_dim + d));
                        s[0] = _mm256_fmadd_ps(k[0], q, s[0]);
                        s[1] = _mm256_fmadd_ps(k[1], q, s[1]);
                    }
                }
            }
            for (r, s) in sums.iter().enumerate() {
                for (v, &s) in s.iter().enumerate() {
                    let at = 16 * half + 8 * v;
                    // SAFETY: 8 scores at `r * TILE + at`, and 8 scales behind the codes, are inside.
                    unsafe {
                        let s = if INT8 {
                            _mm256_mul_ps(s, scales(keys, head_dim, at))
                        } else {
                            s
                        };
                        _mm256_storeu_ps(scores.as_mut_ptr().add(r * TILE + at), s);
                    }
                }
            }
        }
        R
    }

    pub(super) fn gather<const INT8: bool>(
        weights: &[f32],
        positions: usize,
        values: &[u8],
        head_dim: usize,
        outputs: &mut [f32],
    ) {
        let rows = outputs.len() / head_dim;
        assert!(
            weights.len() >= rows * TILE
                && values.len() >= side_bytes(INT8, head_dim)
                && positions <= TILE
        );
        assert!(head_dim.is_multiple_of(8));
        let mut r = 0;
        while r < rows {
            let (w, o) = (&weights[r * TILE..], &mut outputs[r * head_dim..]);
            // SAFETY: `gather_variants` offers this function only where the features were detected.
            r += unsafe {
                match rows - r {
                    1 => gather_rows::<INT8, 1>(w, positions, values, head_dim, o),
                    2 => gather_rows::<INT8, 2>(w, positions, values, head_dim, o),
                    3 => gather_rows::<INT8, 3>(w, positions, values, head_dim, o),
                    _ => gather_rows::<INT8, ROWS>(w, positions, values, head_dim, o),
                }
            };
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn gather_rows<const INT8: bool, const R: usize>(
        weights: &[f32],
        positions: usize,
        values: &[u8],
        head_dim: usize,
        outputs: &mut [f32],
    ) -> usize {
        assert!(weights.len() >= R * TILE && outputs.len() >= R * head_dim);
        let scaled: [[f32; TILE]; R];
        let weights = if INT8 {
            scaled = super::scaled(weights, values, head_dim);
            scaled.as_flattened()
        } else {
            weights
        };
        let mut d = 0;
        // SAFETY: `d + 16 <= head_dim` (or `d + 8 <= head_dim` in the rest), `j < TILE`, `r < R`: all inside.
        unsafe {
            while d + 16 <= head_dim {
                let mut sums: [[__m256; 2]; R] = std::array::from_fn(|r| {
                    let at = outputs.as_ptr().add(r * head_dim + d);
                    [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))]
                });
                for j in 0..positions {
                    let v = pair::<INT8>(values, j * head_dim + d);
                    for (r, s) in sums.iter_mut().enumerate() {
                        let w = _mm256_set1_ps(*weights.as_ptr().add(r * TILE + j));
                        s[0] = _mm256_fmadd_ps(v[0], w, s[0]);
                        s[1] = _mm256_fmadd_ps(v[1], w, s[1]);
                    }
                }
                for (r, s) in sums.iter().enumerate() {
                    let at = outputs.as_mut_ptr().add(r * head_dim + d);
                    _mm256_storeu_ps(at, s[0]);
                    _mm256_storeu_ps(at.add(8), s[1]);
                }
                d += 16;
            }
            if d < head_dim {
                for (r, w) in weights.as_chunks::<TILE>().0[..R].iter().enumerate() {
                    let at = outputs.as_mut_ptr().add(r * head_dim + d);
                    let mut sum = _mm256_loadu_ps(at);
                    for (j, w) in w[..positions].iter().enumerate() {
                        let v = single::<INT8>(values, j * head_dim + d);
                        sum = _mm256_fmadd_ps(v, _mm256_set1_ps(*w), sum);
                    }
                    _mm256_storeu_ps(at, sum);
                }
            }
        }
        R
    }

    /// # Safety
    /// 16 elements must be readable at element `i`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn pair<const INT8: bool>(side: &[u8], i: usize) -> [__m256; 2] {
        // SAFETY: the caller's.
        unsafe { [single::<INT8>(side, i), single::<INT8>(side, i + 8)] }
    }

    /// # Safety
    /// 8 elements must be readable at element `i`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn single<const INT8: bool>(side: &[u8], i: usize) -> __m256 {
        // SAFETY: the caller's.
        unsafe {
            if INT8 {
                let codes = _mm_loadl_epi64(side.as_ptr().add(i).cast());
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes))
            } else {
                _mm256_cvtph_ps(_mm_loadu_si128(side.as_ptr().add(2 * i).cast()))
            }
        }
    }

    /// # Safety
    /// `side` must be an int8 side, `j + 8 <= TILE`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn scales(side: &[u8], head_dim: usize, j: usize) -> __m256 {
        // SAFETY: the caller's.
        unsafe { _mm256_loadu_ps(side.as_ptr().add(TILE * head_dim + 4 * j).cast()) }
    }
}
