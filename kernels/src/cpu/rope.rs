//! Rotary position embedding of one head, interleaved (pairs `2i, 2i+1`) or split-half (pairs `i, i+n/2`).
//!
//! Sines and cosines of a position are computed once a forward pass, in f64, and shared by all layers and heads.

use super::compiled_twice;

/// How the rotated pairs lie in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Pairs `2i, 2i+1`: what llama GGUF files are converted to.
    Interleaved,
    /// Pairs `i, i + n/2`: rotate-half, as in qwen3 and bitnet.
    SplitHalf,
}

/// Rotation frequencies of a model, one for each pair.
#[derive(Clone, Debug)]
pub struct Frequencies {
    inverse: Vec<f64>,
}

impl Frequencies {
    /// `base^(-2i/dimensions) * scale / factors[i]` for each pair; `factors` may be empty (all 1).
    pub fn new(dimensions: usize, base: f32, scale: f32, factors: &[f32]) -> Frequencies {
        let inverse = (0..dimensions / 2)
            .map(|i| {
                let plain = f64::from(base).powf(-2.0 * i as f64 / dimensions as f64);
                plain * f64::from(scale) / factors.get(i).map_or(1.0, |&f| f64::from(f))
            })
            .collect();
        Frequencies { inverse }
    }

    /// The number of rotated pairs.
    pub fn pairs(&self) -> usize {
        self.inverse.len()
    }

    /// Writes cosine and sine of every pair at `position`.
    pub fn angles(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        for ((f, c), s) in self.inverse.iter().zip(cos).zip(sin) {
            let (sine, cosine) = (position as f64 * f).sin_cos();
            (*c, *s) = (cosine as f32, sine as f32);
        }
    }
}

compiled_twice! {
    /// `(head, pairing, cos, sin)`: rotates the first `2 * cos.len()` values in place.
    pub fn variants / Rotate = rotate(head: &mut [f32], pairing: Pairing, cos: &[f32], sin: &[f32])
}

#[inline(always)]
fn rotate(head: &mut [f32], pairing: Pairing, cos: &[f32], sin: &[f32]) {
    match pairing {
        Pairing::Interleaved => {
            for ((pair, &c), &s) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                let [a, b] = *pair;
                *pair = [a * c - b * s, a * s + b * c];
            }
        }
        Pairing::SplitHalf => {
            let (low, high) = head.split_at_mut(cos.len());
            for (((a, b), &c), &s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(pairing: Pairing, position: usize, head: &[f32]) -> Vec<f32> {
        let f = Frequencies::new(head.len(), 10_000.0, 1.0, &[]);
        let (mut c, mut s) = (vec![0.0; f.pairs()], vec![0.0; f.pairs()]);
        f.angles(position, &mut c, &mut s);
        let mut wanted = head.to_vec();
        rotate(&mut wanted, pairing, &c, &s);
        for (isa, kernel) in variants() {
            let mut y = head.to_vec();
            kernel(&mut y, pairing, &c, &s);
            assert_eq!(y, wanted, "{}", isa.name());
        }
        wanted
    }

    #[test]
    fn position_zero_changes_nothing() {
        let head: Vec<f32> = (0..64).map(|i| i as f32 - 31.5).collect();
        assert_eq!(rotated(Pairing::Interleaved, 0, &head), head);
        assert_eq!(rotated(Pairing::SplitHalf, 0, &head), head);
    }

    #[test]
    fn dot_products_depend_on_distance_only() {
        let q: Vec<f32> = (0..16).map(|i| (i as f32 * 0.7).sin()).collect();
        let k: Vec<f32> = (0..16).map(|i| (i as f32 * 0.3).cos()).collect();
        for pairing in [Pairing::Interleaved, Pairing::SplitHalf] {
            let dot = |a: usize, b: usize| -> f32 {
                rotated(pairing, a, &q)
                    .iter()
                    .zip(rotated(pairing, b, &k))
                    .map(|(x, y)| x * y)
                    .sum()
            };
            assert!((dot(3, 10) - dot(503, 510)).abs() < 1e-4, "{pairing:?}");
        }
    }

    #[test]
    fn the_two_pairings_are_one_rotation_in_two_orders() {
        let head: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let split: Vec<f32> = (0..4).flat_map(|i| [head[i], head[i + 4]]).collect();
        let a = rotated(Pairing::SplitHalf, 5, &head);
        let b = rotated(Pairing::Interleaved, 5, &split);
        for i in 0..4 {
            assert_eq!((a[i], a[i + 4]), (b[2 * i], b[2 * i + 1]));
        }
    }
}
