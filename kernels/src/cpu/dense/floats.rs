//! Eight rows of F32, F16 or BF16 weights, column by column, times f32 rows: `y = fma(w, x, y)` in column order.

use super::GROUP;
use crate::cpu::Isa;
use half::{bf16, f16};

/// `(group, x, columns, first, count, tile)`: eight rows times rows `first..first+count` of `x`.
pub type Gemm = super::GemmFloat;

/// The stored type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 32-bit.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an f32.
    Bf16,
}

/// Copies one column of eight rows, `BYTES` each (`None` is zero).
pub fn pack<const BYTES: usize>(rows: &[Option<&[u8]>; GROUP], packed: &mut [u8]) {
    packed.fill(0);
    for (row, value) in rows.iter().zip(packed.as_chunks_mut::<BYTES>().0) {
        if let Some(row) = row {
            value.copy_from_slice(row);
        }
    }
}

/// The variants this machine can run, slowest first.
pub fn variants(kind: Kind) -> Vec<(Isa, Gemm)> {
    match kind {
        Kind::F32 => list::<0>(),
        Kind::F16 => list::<1>(),
        Kind::Bf16 => list::<2>(),
    }
}

fn list<const KIND: u8>() -> Vec<(Isa, Gemm)> {
    let mut list: Vec<(Isa, Gemm)> = vec![(Isa::Scalar, scalar::<KIND>)];
    #[cfg(target_arch = "x86_64")]
    if Isa::detect() >= Isa::Avx2 {
        list.push((Isa::Avx2, x86::gemm::<KIND>));
    }
    list
}

const fn value_bytes(kind: u8) -> usize {
    if kind == 0 { 4 } else { 2 }
}

/// The definition. Every other variant must equal it bit for bit.
fn scalar<const KIND: u8>(
    group: &[u8],
    x: &[f32],
    columns: usize,
    first: usize,
    count: usize,
    tile: &mut [f32],
) {
    for (t, out) in tile.as_chunks_mut::<GROUP>().0[..count]
        .iter_mut()
        .enumerate()
    {
        *out = [0.0; GROUP];
        for (weights, &x) in group
            .chunks_exact(GROUP * value_bytes(KIND))
            .zip(&x[(first + t) * columns..][..columns])
        {
            for (y, w) in out.iter_mut().zip(weights.chunks_exact(value_bytes(KIND))) {
                let w = match KIND {
                    0 => f32::from_le_bytes([w[0], w[1], w[2], w[3]]),
                    1 => f16::from_le_bytes([w[0], w[1]]).to_f32(),
                    _ => bf16::from_le_bytes([w[0], w[1]]).to_f32(),
                };
                *y = w.mul_add(x, *y);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::cpu::dense::x86::halves;
    use std::arch::x86_64::*;

    pub(super) fn gemm<const KIND: u8>(
        group: &[u8],
        x: &[f32],
        columns: usize,
        first: usize,
        count: usize,
        tile: &mut [f32],
    ) {
        assert!(tile.len() >= count * GROUP && group.len() == columns * GROUP * value_bytes(KIND));
        let rows = &x[first * columns..][..count * columns];
        let mut t = 0;
        // SAFETY: `list` offers this function only where AVX2, FMA and F16C were detected.
        unsafe {
            while count - t >= 8 {
                tokens::<KIND, 8>(group, &rows[t * columns..], columns, &mut tile[t * GROUP..]);
                t += 8;
            }
            while t < count {
                tokens::<KIND, 1>(group, &rows[t * columns..], columns, &mut tile[t * GROUP..]);
                t += 1;
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    fn tokens<const KIND: u8, const T: usize>(
        group: &[u8],
        x: &[f32],
        columns: usize,
        tile: &mut [f32],
    ) {
        assert!(x.len() >= T * columns);
        let mut y = [_mm256_setzero_ps(); T];
        for c in 0..columns {
            // SAFETY: column `c` of the group and of each of the T rows is inside its slice: asserted here for
            // the rows and by the caller for the group.
            unsafe {
                let at = group.as_ptr().add(c * GROUP * value_bytes(KIND));
                let w = match KIND {
                    0 => _mm256_loadu_ps(at.cast()),
                    1 => halves(at),
                    _ => {
                        let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
                    }
                };
                for (t, y) in y.iter_mut().enumerate() {
                    *y = _mm256_fmadd_ps(w, _mm256_set1_ps(*x.as_ptr().add(t * columns + c)), *y);
                }
            }
        }
        for (y, out) in y.iter().zip(tile.as_chunks_mut::<GROUP>().0) {
            // SAFETY: `out` is eight floats.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr(), *y) };
        }
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
        fn variants_equal_scalar(seed in any::<u64>(), columns in 1_usize..70, tokens in 1_usize..18) {
            for kind in [Kind::F32, Kind::F16, Kind::Bf16] {
                let mut noise = Noise(seed);
                let group: Vec<u8> = (0..columns * GROUP).flat_map(|_| {
                    let v = noise.float();
                    match kind {
                        Kind::F32 => v.to_le_bytes().to_vec(),
                        Kind::F16 => f16::from_f32(v).to_le_bytes().to_vec(),
                        Kind::Bf16 => bf16::from_f32(v).to_le_bytes().to_vec(),
                    }
                }).collect();
                let x: Vec<f32> = (0..tokens * columns).map(|_| noise.float()).collect();
                check::compare(&variants(kind), tokens, |kernel, first, count, tile| kernel(&group, &x, columns, first, count, tile));
            }
        }
    }
}
