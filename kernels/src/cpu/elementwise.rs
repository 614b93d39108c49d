//! What happens to values one by one: the exponential, SiLU and squared-ReLU gates, addition.

use super::compiled_twice;

/// `e^x` within 2 units in the last place, for all finite `x` (0 below −87.3, saturated above 88.7).
///
/// `2^n · p(r)` with `n = round(x·log2 e)` and a degree-6 polynomial on `|r| ≤ ln2/2`; plain multiplications and
/// additions, so that it runs in vector lanes and is the same everywhere.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    let x = if x > 88.0 { 88.0 } else { x };
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    // ln 2 in two parts, so that the remainder keeps its low bits.
    let r = clamped - n * 0.693_359_4;
    let r = r - n * -2.121_944_4e-4;
    let p = 1.388_888_9e-3;
    let p = p * r + 8.333_334e-3;
    let p = p * r + 4.166_666_8e-2;
    let p = p * r + 0.166_666_67;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < -87.0 { 0.0 } else { p * power }
}

compiled_twice! {
    /// `(gate, up)`: `gate[i] = silu(gate[i]) * up[i]`.
    pub fn silu_variants / Gate = silu_gate(gate: &mut [f32], up: &[f32])
}

#[inline(always)]
fn silu_gate(gate: &mut [f32], up: &[f32]) {
    for (g, &u) in gate.iter_mut().zip(up) {
        *g = *g / (1.0 + exp(-*g)) * u;
    }
}

compiled_twice! {
    /// `(sums, scale, add, out)`: integer sums times their scale become `out`, or are added to it.
    pub fn scale_variants / Scale = scale_sums(sums: &[i32], scale: f32, add: bool, out: &mut [f32])
}

#[inline(always)]
fn scale_sums(sums: &[i32], scale: f32, add: bool, out: &mut [f32]) {
    if add {
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out += sum as f32 * scale;
        }
    } else {
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out = sum as f32 * scale;
        }
    }
}

/// `gate[i] = relu(gate[i])² * up[i]`, kept in f32: values near 10⁹ occur and would overflow f16.
pub fn squared_relu_gate(gate: &mut [f32], up: &[f32]) {
    for (g, &u) in gate.iter_mut().zip(up) {
        let r = if *g > 0.0 { *g } else { 0.0 };
        *g = r * r * u;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp() {
        let mut x = -86.0_f32;
        while x < 87.0 {
            let wanted = f64::from(x).exp();
            let error = (f64::from(exp(x)) - wanted).abs() / wanted;
            assert!(
                error < 2.0 * f64::from(f32::EPSILON),
                "exp({x}) is off by {error:e}"
            );
            x += 0.001_7;
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(1000.0).is_finite());
    }

    #[test]
    fn silu_variants_agree() {
        let gate: Vec<f32> = (-200..203).map(|i| i as f32 * 0.31).collect();
        let up: Vec<f32> = gate.iter().map(|g| 1.0 - g * 0.01).collect();
        let mut wanted = gate.clone();
        silu_gate(&mut wanted, &up);
        for (isa, kernel) in silu_variants() {
            let mut y = gate.clone();
            kernel(&mut y, &up);
            assert_eq!(y, wanted, "{}", isa.name());
        }
        for ((y, g), u) in wanted.iter().zip(&gate).zip(&up) {
            let exact = f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u);
            assert!((f64::from(*y) - exact).abs() <= exact.abs() * 1e-6 + 1e-30);
        }
    }

    #[test]
    fn scale_variants_agree() {
        let sums: Vec<i32> = (-300..311).map(|i| i * 1_234_567).collect();
        for add in [false, true] {
            let start: Vec<f32> = sums.iter().map(|&s| s as f32 * 0.37).collect();
            let mut wanted = start.clone();
            scale_sums(&sums, 0.013, add, &mut wanted);
            for (isa, kernel) in scale_variants() {
                let mut y = start.clone();
                kernel(&sums, 0.013, add, &mut y);
                assert_eq!(y, wanted, "{}", isa.name());
            }
            let before = if add { start[0] } else { 0.0 };
            assert_eq!(wanted[0], before + sums[0] as f32 * 0.013);
        }
    }

    #[test]
    fn squared_relu_keeps_large_values() {
        let mut gate = [-3.0, 30_000.0, 2.0];
        squared_relu_gate(&mut gate, &[1.0, 2.0, 0.5]);
        assert_eq!(gate, [0.0, 1.8e9, 2.0]);
    }
}
