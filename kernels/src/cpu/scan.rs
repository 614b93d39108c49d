//! Nearest vectors by brute force: dot products of int8 vectors, all of one length, with an int8 query.
//!
//! A million vectors of 384 numbers are one sequential read of 384 MB, which is why no index is kept. The sums are
//! exact in i32: 65,536 products of at most 127² fit.

use super::compiled_twice;

/// Longest vector whose sum of products cannot overflow an i32.
pub const DIMENSION_MAX: usize = 1 << 16;

compiled_twice! {
    /// `(vectors, query, products)`: `products[i] = vectors[i] · query`, vectors `[products.len()][query.len()]`.
    pub fn variants / Scan = scan(vectors: &[i8], query: &[i8], products: &mut [i32])
}

#[inline(always)]
fn scan(vectors: &[i8], query: &[i8], products: &mut [i32]) {
    debug_assert_eq!(
        vectors.len(),
        query.len() * products.len(),
        "one vector a product"
    );
    debug_assert!(query.len() <= DIMENSION_MAX, "sums stay exact");
    for (vector, product) in vectors.chunks_exact(query.len().max(1)).zip(products) {
        let mut sum = 0i32;
        for (a, b) in vector.iter().zip(query) {
            sum += i32::from(i16::from(*a) * i16::from(*b));
        }
        *product = sum;
    }
}

/// Quantises a vector to int8: `q = round(127 · x / max|x|)`; returns the scale `max|x| / 127`, 0 for a zero vector.
pub fn quantise(vector: &[f32], out: &mut [i8]) -> f32 {
    let largest = vector.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    for (x, q) in vector.iter().zip(out) {
        *q = (x * inverse).round() as i8;
    }
    largest / 127.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn variants_equal_the_definition(dimension in 1usize..200, count in 0usize..5, seed in any::<u64>()) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as i8
            };
            let query: Vec<i8> = (0..dimension).map(|_| next()).collect();
            let vectors: Vec<i8> = (0..dimension * count).map(|_| next()).collect();
            let expected: Vec<i32> = vectors
                .chunks(dimension)
                .map(|vector| vector.iter().zip(&query).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum())
                .collect();
            for (isa, kernel) in variants() {
                let mut products = vec![0; count];
                kernel(&vectors, &query, &mut products);
                prop_assert_eq!(&products, &expected, "{}", isa.name());
            }
        }
    }

    #[test]
    fn the_extremes_do_not_overflow() {
        let vector = vec![-128i8; DIMENSION_MAX];
        for (isa, kernel) in variants() {
            let mut product = [0];
            kernel(&vector, &vector, &mut product);
            assert_eq!(product[0], 1 << 30, "{}", isa.name());
        }
    }

    #[test]
    fn quantising_keeps_the_direction() {
        let mut q = [0i8; 3];
        let scale = quantise(&[0.5, -1.0, 0.0], &mut q);
        assert_eq!(q, [64, -127, 0]);
        assert!((f32::from(q[0]) * scale - 0.5).abs() < scale);
        assert_eq!(quantise(&[0.0; 3], &mut q), 0.0);
        assert_eq!(q, [0; 3]);
    }
}
