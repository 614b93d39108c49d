//! The properties of all layouts and variants: packed products equal the plain sum of weight times activation.

use super::*;
use proptest::prelude::*;

/// xorshift: a fixed stream of numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }
}

/// Weights that a layout can hold.
fn weights(layout: Layout, rows: usize, columns: usize, dice: &mut Dice) -> Vec<i8> {
    let mut all = Vec::with_capacity(rows * columns);
    for _ in 0..rows {
        let mut row = Vec::new();
        while row.len() < columns {
            let _ = layout;
            row.extend((0..4).map(|_| dice.roll(3) as i8 - 1));
        }
        all.extend_from_slice(&row[..columns]);
    }
    all
}

fn definition(weights: &[i8], columns: usize, x: &[i8]) -> Vec<i32> {
    weights
        .chunks(columns)
        .map(|row| {
            row.iter()
                .zip(x)
                .map(|(&w, &x)| i32::from(w) * i32::from(x))
                .sum()
        })
        .collect()
}

fn check(layout: Layout, rows: usize, columns: usize, weights: &[i8], tokens: &[Vec<i8>]) {
    let mut matrix = TernaryMatrix::pack(layout, rows, columns, |r, out| {
        out.copy_from_slice(&weights[r * columns..][..columns])
    })
    .unwrap();
    let mut all = Int8Rows::new(tokens.len(), columns);
    for (t, codes) in tokens.iter().enumerate() {
        all.set(t, codes, 1.0);
    }
    let n_blocks = matrix.n_blocks();
    for name in TernaryMatrix::variants(layout) {
        assert!(matrix.use_variant(name));
        let place = format!("{} {name}, {rows} rows, {columns} columns", layout.name());
        for (t, codes) in tokens.iter().enumerate() {
            let want = definition(weights, columns, codes);
            let mut one = Int8Rows::new(1, columns);
            one.set(0, codes, 1.0);
            // Two ranges, as two threads would.
            let (mut head, mut rest) = (vec![7; 32], vec![7; 32 * (n_blocks - 1)]);
            matrix.gemv(0..1, &one, &mut head);
            matrix.gemv(1..n_blocks, &one, &mut rest);
            head.extend(rest);
            assert_eq!(head[..rows], want, "gemv {place}, token {t}");
            assert!(head[rows..].iter().all(|&s| s == 0), "padding {place}");
        }
        let mut sums = vec![7; 32 * n_blocks * tokens.len()];
        matrix.gemm(0..n_blocks, &all, &mut sums);
        for (t, codes) in tokens.iter().enumerate() {
            let got = &sums[t * 32 * n_blocks..][..32 * n_blocks];
            assert_eq!(
                got[..rows],
                definition(weights, columns, codes),
                "gemm {place}, token {t}"
            );
            assert!(
                got[rows..].iter().all(|&s| s == 0),
                "padding of gemm {place}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn products_equal_the_definition(rows in 1usize..80, columns in 1usize..900, tokens in 1usize..15, seed in 1u64..) {
        let mut dice = Dice(seed);
        for layout in Layout::ALL {
            let weights = weights(layout, rows, columns, &mut dice);
            let tokens: Vec<Vec<i8>> = (0..tokens).map(|_| (0..columns).map(|_| dice.roll(255) as i8).map(|v| v.max(-127)).collect()).collect();
            check(layout, rows, columns, &weights, &tokens);
        }
    }
}

#[test]
fn extremes_do_not_overflow() {
    // The widths of BitNet-b1.58-2B-4T, and one beyond: every weight and activation at its limit, both signs.
    for columns in [2560, 6912, 20_000] {
        for w in [1i8, -1] {
            for x in [127i8, -127] {
                for layout in [Layout::P2] {
                    check(
                        layout,
                        33,
                        columns,
                        &vec![w; 33 * columns],
                        &vec![vec![x; columns]; 7],
                    );
                }
            }
        }
    }
}

#[test]
fn a_weight_that_is_not_ternary_is_named() {
    for bad in [2i8, -2, i8::MIN, i8::MAX] {
        let error = TernaryMatrix::pack(Layout::P2, 40, 33, |r, out| {
            out.fill(0);
            if r == 35 {
                out[31] = bad;
            }
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("weight {bad} at row 35, column 31 is not -1, 0 or 1")
        );
    }
}

#[test]
fn impossible_shapes_are_errors() {
    let pack =
        |rows, columns| TernaryMatrix::pack(Layout::P2, rows, columns, |_, _| {}).unwrap_err();
    assert!(matches!(pack(0, 5), PackError::Empty { .. }));
    assert!(matches!(pack(5, 0), PackError::Empty { .. }));
    assert!(matches!(pack(usize::MAX, 5), PackError::TooLarge { .. }));
    assert!(matches!(pack(5, usize::MAX), PackError::TooLarge { .. }));
    assert!(matches!(pack(1 << 40, 1 << 40), PackError::TooLarge { .. }));
}

#[test]
fn sizes_follow_the_bits_a_weight() {
    let bytes = |layout, rows, columns| {
        TernaryMatrix::pack(layout, rows, columns, |_, out| out.fill(1))
            .unwrap()
            .bytes()
    };
    assert_eq!(bytes(Layout::P2, 64, 2560), 64 * 2560 / 4);
}
