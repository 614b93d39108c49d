//! The Walsh-Hadamard rotation of BitNet v2: blocks of a power of two, scaled by `1/√block`, in place.
//!
//! The rotation is symmetric and its own inverse. It spreads a large activation over its block before quantisation; the
//! weights of a model trained with it are stored as `W·Hᵀ`, so that the product is the same.

use super::compiled_twice;

compiled_twice! {
    /// `(row, block)`: rotates each `block` values; the row is a multiple of the block, the block a power of two.
    pub fn variants / Hadamard = hadamard(row: &mut [f32], block: usize)
}

#[inline(always)]
fn hadamard(row: &mut [f32], block: usize) {
    let scale = 1.0 / (block as f32).sqrt();
    for values in row.chunks_exact_mut(block) {
        let mut half = 1;
        while half < block {
            for pair in values.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        for v in values {
            *v *= scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_its_definition_and_undoes_itself() {
        let x: Vec<f32> = (0..256).map(|i| (i as f32 * 0.37).sin()).collect();
        for (isa, kernel) in variants() {
            let mut y = x.clone();
            kernel(&mut y, 128);
            for (i, y) in y.iter().enumerate() {
                // H[i][j] is 1/√128, negative where i and j share an odd number of bits.
                let row = (0..128).map(|j| {
                    x[i / 128 * 128 + j]
                        * if ((i % 128) & j).count_ones() % 2 == 1 {
                            -1.0
                        } else {
                            1.0
                        }
                });
                let wanted: f32 = row.sum::<f32>() / 128.0_f32.sqrt();
                assert!((y - wanted).abs() < 1e-5, "{}", isa.name());
            }
            kernel(&mut y, 128);
            assert!(x.iter().zip(&y).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}
