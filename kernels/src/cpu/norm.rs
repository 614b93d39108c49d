//! RMS norm: `y = x / sqrt(mean(x²) + eps) * w`.
//!
//! The sum of squares runs in eight independent f64 lanes that are folded in a fixed order: ggml sums in f64
//! too, and eight lanes are what a vector unit wants.

use super::compiled_twice;

compiled_twice! {
    /// `(x, weight, eps, y)`, all of one length.
    pub fn variants / RmsNorm = rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32])
}

#[inline(always)]
fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let (chunks, rest) = x.as_chunks::<8>();
    let mut lanes = [0.0_f64; 8];
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(v * v);
        }
    }
    let mut sum: f64 = lanes.iter().sum();
    for &v in rest {
        sum += f64::from(v * v);
    }
    let mean = (sum / x.len() as f64) as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
        *y = x * scale * w;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn variants_agree(x in proptest::collection::vec(-1e3f32..1e3, 1..80)) {
            let w: Vec<f32> = x.iter().map(|v| v * 0.25 + 1.0).collect();
            let mut wanted = vec![0.0; x.len()];
            rms_norm(&x, &w, 1e-5, &mut wanted);
            for (isa, norm) in variants() {
                let mut y = vec![0.0; x.len()];
                norm(&x, &w, 1e-5, &mut y);
                prop_assert_eq!(&y, &wanted, "{}", isa.name());
            }
        }
    }

    #[test]
    fn a_constant_row_becomes_its_weight() {
        let mut y = [0.0; 4];
        rms_norm(&[3.0; 4], &[1.0, 2.0, -1.0, 0.5], 0.0, &mut y);
        assert_eq!(y, [1.0, 2.0, -1.0, 0.5]);
    }
}
