//! What the kernels' properties share: random rows, and every variant against its scalar definition.

use super::*;
use crate::cpu::activation;

/// A small generator: tests need reproducible noise, not quality.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(crate) fn float(&mut self) -> f32 {
        self.next() as f32 / (1_u64 << 30) as f32 - 1.0
    }
}

/// A group of random bytes whose f16 from `halves_at` to the end of each block are small numbers; every
/// few blocks all codes are at an extreme.
pub(crate) fn group(
    noise: &mut Noise,
    blocks: usize,
    block_bytes: usize,
    halves: std::ops::Range<usize>,
) -> Vec<u8> {
    let mut bytes = vec![0; blocks * block_bytes];
    for block in bytes.chunks_exact_mut(block_bytes) {
        let extreme = noise.next() % 4;
        for b in block.iter_mut() {
            *b = match extreme {
                0 => 0xff,
                1 => 0x80,
                _ => noise.next() as u8,
            };
        }
        for half in block[halves.clone()].as_chunks_mut::<2>().0 {
            *half = half::f16::from_f32(noise.float()).to_le_bytes();
        }
    }
    bytes
}

pub(crate) fn row(noise: &mut Noise, columns: usize) -> Vec<f32> {
    let flat = noise.next().is_multiple_of(4);
    (0..columns)
        .map(|_| if flat { 5.0 } else { noise.float() * 3.0 })
        .collect()
}

pub(crate) fn q8_variants_agree(
    variants: &[(Isa, GemmQ8)],
    block_bytes: usize,
    halves_at: usize,
    blocks: usize,
    tokens: usize,
    seed: u64,
) {
    let mut noise = Noise(seed);
    let group = group(&mut noise, blocks, block_bytes, halves_at..block_bytes);
    let mut x = Q8Rows::default();
    x.resize(tokens, blocks * Q8_BLOCK);
    for t in 0..tokens {
        let row = row(&mut noise, blocks * Q8_BLOCK);
        x.set(t, &row, activation::q8_variants()[0].1);
    }
    compare(variants, tokens, |kernel, first, count, tile| {
        kernel(&group, &x, first, count, tile)
    });
}

pub(crate) fn q8k_variants_agree(
    variants: &[(Isa, GemmQ8k)],
    block_bytes: usize,
    halves: std::ops::Range<usize>,
    blocks: usize,
    tokens: usize,
    seed: u64,
) {
    let mut noise = Noise(seed);
    let group = group(&mut noise, blocks, block_bytes, halves);
    let mut x = Q8kRows::default();
    x.resize(tokens, blocks * Q8K_BLOCK);
    for t in 0..tokens {
        let row = row(&mut noise, blocks * Q8K_BLOCK);
        x.set(t, &row, activation::q8k_variants()[0].1);
    }
    compare(variants, tokens, |kernel, first, count, tile| {
        kernel(&group, &x, first, count, tile)
    });
}

/// All variants at once and token by token must give the scalar's bits.
pub(crate) fn compare<F: Copy>(
    variants: &[(Isa, F)],
    tokens: usize,
    call: impl Fn(F, usize, usize, &mut [f32]),
) {
    let mut wanted = vec![0.0; tokens * GROUP];
    call(variants[0].1, 0, tokens, &mut wanted);
    assert!(wanted.iter().all(|y| y.is_finite()));
    for &(isa, kernel) in variants {
        let mut all = vec![7.0; tokens * GROUP];
        call(kernel, 0, tokens, &mut all);
        assert_eq!(all, wanted, "{}, {tokens} tokens at once", isa.name());
        for t in 0..tokens {
            let mut one = [7.0; GROUP];
            call(kernel, t, 1, &mut one);
            assert_eq!(
                one,
                wanted[t * GROUP..][..GROUP],
                "{}, token {t} alone",
                isa.name()
            );
        }
    }
}
