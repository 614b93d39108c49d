//! The same loops with AVX-512: sixteen elements a vector.

use super::{TILE, scaled, side_bytes};
use std::arch::x86_64::*;

/// Elements of a vector.
const LANES: usize = 16;
/// Rows of one pass over the keys: 8 rows of a whole tile are 16 of the 32 registers.
const SCORE_ROWS: usize = 8;
/// Rows of one pass over the values: 4 rows of 4 vectors are 16 registers too.
const GATHER_ROWS: usize = 4;

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
                4..SCORE_ROWS => score_rows::<INT8, 4>(q, head_dim, keys, s),
                _ => score_rows::<INT8, SCORE_ROWS>(q, head_dim, keys, s),
            }
        };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn score_rows<const INT8: bool, const R: usize>(
    queries: &[f32],
    head_dim: usize,
    keys: &[u8],
    scores: &mut [f32],
) -> usize {
    assert!(queries.len() >= R * head_dim && scores.len() >= R * TILE);
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for d in 0..head_dim {
        // SAFETY: the TILE keys of dimension `d` and element `d` of R rows of queries are inside their slices
        // (asserted here and in `score`).
        unsafe {
            let k = [
                vector::<INT8>(keys, d * TILE, !0),
                vector::<INT8>(keys, d * TILE + LANES, !0),
            ];
            for (r, s) in sums.iter_mut().enumerate() {
                let q = _mm512_set1_ps(*queries.as_ptr().add(r * head_dim + d));
                s[0] = _mm512_fmadd_ps(k[0], q, s[0]);
                s[1] = _mm512_fmadd_ps(k[1], q, s[1]);
            }
        }
    }
    for (r, s) in sums.iter().enumerate() {
        for (v, &s) in s.iter().enumerate() {
            // SAFETY: 16 scores, and 16 scales behind the codes, are inside.
            unsafe {
                let s = if INT8 {
                    let scales = keys.as_ptr().add(TILE * head_dim + 4 * LANES * v);
                    _mm512_mul_ps(s, _mm512_loadu_ps(scales.cast()))
                } else {
                    s
                };
                _mm512_storeu_ps(scores.as_mut_ptr().add(r * TILE + LANES * v), s);
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
    let mut r = 0;
    while r < rows {
        let (w, o) = (&weights[r * TILE..], &mut outputs[r * head_dim..]);
        // SAFETY: `gather_variants` offers this function only where the features were detected.
        r += unsafe {
            match rows - r {
                1 => gather_rows::<INT8, 1>(w, positions, values, head_dim, o),
                2 => gather_rows::<INT8, 2>(w, positions, values, head_dim, o),
                3 => gather_rows::<INT8, 3>(w, positions, values, head_dim, o),
                _ => gather_rows::<INT8, GATHER_ROWS>(w, positions, values, head_dim, o),
            }
        };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn gather_rows<const INT8: bool, const R: usize>(
    weights: &[f32],
    positions: usize,
    values: &[u8],
    head_dim: usize,
    outputs: &mut [f32],
) -> usize {
    assert!(weights.len() >= R * TILE && outputs.len() >= R * head_dim);
    let scaled_weights: [[f32; TILE]; R];
    let weights = if INT8 {
        scaled_weights = scaled(weights, values, head_dim);
        scaled_weights.as_flattened()
    } else {
        weights
    };
    let mut d = 0;
    // SAFETY: the columns from `d` on that a call sums, all of them or as many as the mask has, are below `head_dim`.
    unsafe {
        while d + 4 * LANES <= head_dim {
            columns::<INT8, R, 4>(weights, positions, values, head_dim, d, !0, outputs);
            d += 4 * LANES;
        }
        while d < head_dim {
            let mask = !0 >> LANES.saturating_sub(head_dim - d);
            columns::<INT8, R, 1>(weights, positions, values, head_dim, d, mask, outputs);
            d += LANES;
        }
    }
    R
}

/// Adds the columns of V vectors from `d` on, of the last one those in `mask`.
///
/// # Safety
/// Those columns are below `head_dim`; `weights`, `values` and `outputs` hold R rows, `positions` rows and R rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn columns<const INT8: bool, const R: usize, const V: usize>(
    weights: &[f32],
    positions: usize,
    values: &[u8],
    head_dim: usize,
    d: usize,
    mask: __mmask16,
    outputs: &mut [f32],
) {
    // SAFETY: the caller's.
    unsafe {
        let mut sums: [[__m512; V]; R] = [[_mm512_setzero_ps(); V]; R];
        for (r, s) in sums.iter_mut().enumerate() {
            for (v, s) in s.iter_mut().enumerate() {
                let at = outputs.as_ptr().add(r * head_dim + d + LANES * v);
                *s = _mm512_maskz_loadu_ps(mask, at);
            }
        }
        for j in 0..positions {
            let mut row = [_mm512_setzero_ps(); V];
            for (v, row) in row.iter_mut().enumerate() {
                *row = vector::<INT8>(values, j * head_dim + d + LANES * v, mask);
            }
            for (r, s) in sums.iter_mut().enumerate() {
                let w = _mm512_set1_ps(*weights.as_ptr().add(r * TILE + j));
                for (s, row) in s.iter_mut().zip(row) {
                    *s = _mm512_fmadd_ps(row, w, *s);
                }
            }
        }
        for (r, s) in sums.iter().enumerate() {
            for (v, &s) in s.iter().enumerate() {
                let at = outputs.as_mut_ptr().add(r * head_dim + d + LANES * v);
                _mm512_mask_storeu_ps(at, mask, s);
            }
        }
    }
}

/// # Safety
/// The elements of `mask` must be readable from element `i` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn vector<const INT8: bool>(side: &[u8], i: usize, mask: __mmask16) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        if INT8 {
            let codes = _mm_maskz_loadu_epi8(mask, side.as_ptr().add(i).cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes))
        } else {
            let halves = _mm256_maskz_loadu_epi16(mask, side.as_ptr().add(2 * i).cast());
            _mm512_cvtph_ps(halves)
        }
    }
}
