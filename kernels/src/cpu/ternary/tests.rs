//! The properties of all layouts and variants: packed products equal the plain sum of weight times activation.

use super::*;
use crate::cpu::packer::Packer;
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
            let sign = |dice: &mut Dice| dice.roll(2) as i8 * 2 - 1;
            let mut four: [i8; 4] = match layout {
                Layout::P2 | Layout::B5 => std::array::from_fn(|_| dice.roll(3) as i8 - 1),
                Layout::S34 | Layout::S24 => std::array::from_fn(|_| sign(dice)),
            };
            match layout {
                Layout::P2 | Layout::B5 => {}
                Layout::S34 => four[dice.roll(4)] = 0,
                Layout::S24 => {
                    let first = dice.roll(4);
                    four[first] = 0;
                    four[(first + 1 + dice.roll(3)) % 4] = 0;
                }
            }
            row.extend(four);
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
    let mut matrix = TernaryMatrix::pack(layout, rows, columns, &Packer::new(2), |r, out| {
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
                for layout in [Layout::P2, Layout::B5] {
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
fn large_batches_equal_the_definition() {
    // Enough rows and tokens for look-up tables, with a rest of tokens for tiles, and for a padded last pass.
    let mut dice = Dice(9);
    for (tokens, columns) in [(33, 1291), (52, 300)] {
        for layout in Layout::ALL {
            let weights = weights(layout, 300, columns, &mut dice);
            let tokens: Vec<Vec<i8>> = (0..tokens)
                .map(|_| {
                    (0..columns)
                        .map(|_| (dice.roll(255) as i8).max(-127))
                        .collect()
                })
                .collect();
            check(layout, 300, columns, &weights, &tokens);
        }
    }
    for x in [127i8, -127] {
        check(
            Layout::P2,
            257,
            2560,
            &vec![1; 257 * 2560],
            &vec![vec![x; 2560]; 32],
        );
    }
}

#[test]
fn a_weight_that_is_not_ternary_is_named() {
    for bad in [2i8, -2, i8::MIN, i8::MAX] {
        let error = TernaryMatrix::pack(Layout::P2, 40, 33, &Packer::new(2), |r, out| {
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
fn the_sparse_layouts_refuse_other_patterns() {
    for (layout, four) in [
        (Layout::S34, [1, 0, 0, 1]),
        (Layout::S34, [1, 1, -1, 1]),
        (Layout::S24, [0, 1, 1, 1]),
        (Layout::S24, [0; 4]),
    ] {
        let error = TernaryMatrix::pack(layout, 40, 64, &Packer::new(2), |r, out| {
            let good: [i8; 4] = if layout == Layout::S34 {
                [0, 1, -1, 1]
            } else {
                [0, 1, 0, -1]
            };
            out.as_chunks_mut::<4>().0.fill(good);
            if r == 34 {
                out[12..16].copy_from_slice(&four);
            }
        })
        .unwrap_err();
        assert!(
            error.to_string().contains("row 34, columns 12 to 15"),
            "{error}"
        );
    }
}

#[test]
fn extremes_of_the_sparse_layouts() {
    for (layout, zeros) in [(Layout::S34, 1), (Layout::S24, 2)] {
        for w in [1i8, -1] {
            let weights: Vec<i8> = (0..33 * 6912)
                .map(|c| if c % 4 < zeros { 0 } else { w })
                .collect();
            for x in [127i8, -127] {
                check(layout, 33, 6912, &weights, &vec![vec![x; 6912]; 7]);
            }
        }
    }
}

#[test]
fn impossible_shapes_are_errors() {
    let one = Packer::new(1);
    let pack = |rows, columns| {
        TernaryMatrix::pack(Layout::P2, rows, columns, &one, |_, _| {}).unwrap_err()
    };
    assert!(matches!(pack(0, 5), PackError::Empty { .. }));
    assert!(matches!(pack(5, 0), PackError::Empty { .. }));
    assert!(matches!(pack(usize::MAX, 5), PackError::TooLarge { .. }));
    assert!(matches!(pack(5, usize::MAX), PackError::TooLarge { .. }));
    assert!(matches!(pack(1 << 40, 1 << 40), PackError::TooLarge { .. }));
}

#[test]
fn sizes_follow_the_bits_a_weight() {
    let bytes = |layout, rows, columns| {
        TernaryMatrix::pack(layout, rows, columns, &Packer::new(1), |_, out| out.fill(1))
            .unwrap()
            .bytes()
    };
    assert_eq!(bytes(Layout::P2, 64, 2560), 64 * 2560 / 4);
    assert_eq!(bytes(Layout::B5, 64, 2560), 64 * 2560 / 5);
    // 6912 columns are 1728 lanes, 346 steps of five: 6920 columns' worth.
    assert_eq!(bytes(Layout::B5, 64, 6912), 64 * 6920 / 5);
    let sparse = |layout, zeros: usize| {
        let fill = |_: usize, out: &mut [i8]| {
            out.iter_mut()
                .enumerate()
                .for_each(|(c, w)| *w = i8::from(c % 4 >= zeros))
        };
        TernaryMatrix::pack(layout, 64, 6912, &Packer::new(1), fill)
            .unwrap()
            .bytes()
    };
    assert_eq!(
        (sparse(Layout::S34, 1), sparse(Layout::S24, 2)),
        (64 * 6912 * 5 / 32, 64 * 6912 * 5 / 32)
    );
}
