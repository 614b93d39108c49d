//! Stacked ternary matrices times int8 rows: `y = (sum(codes · x) - sum(x)) · (scale of x · scale of the matrix)`,
//! set or added. The definition is `cpu/ternary`'s, exact in integers.

use super::{Case, Load, Noise, Op, PORT, Same, bits};
use crate::cpu::packer::Packer;
use crate::cpu::ternary::{BLOCK_ROWS, Int8Rows, Layout, TernaryMatrix};
use crate::gpu::pack;
use crate::gpu::source::Source;

/// A product of fixed shape.
#[derive(Clone, Debug)]
pub struct Gemv {
    /// How the weights lie.
    pub layout: Layout,
    /// Columns of the matrices.
    pub columns: usize,
    /// Rows of an output row.
    pub rows: usize,
    /// Whether products are added to what is there.
    pub add: bool,
    /// Slices of the columns that waves share.
    pub split: u32,
    /// Tokens that meet a loaded word of weights.
    pub tokens: u32,
}

/// Slices that may be faster.
const SPLITS: [u32; 4] = [1, 2, 4, 8];

impl Gemv {
    /// With parameters that do on every device.
    pub fn new(layout: Layout, columns: usize, rows: usize, add: bool, tokens: u32) -> Gemv {
        let split = if tokens == 1 { 4 } else { 1 };
        Gemv {
            layout,
            columns,
            rows,
            add,
            split,
            tokens,
        }
    }

    /// Workgroups for so many blocks of 32 rows and tokens.
    pub fn grid(&self, blocks: u32, tokens: u32) -> [u32; 3] {
        [blocks, tokens.div_ceil(self.tokens), 1]
    }
}

impl Op for Gemv {
    fn source(&self) -> Source {
        let mut tables = Vec::new();
        let (wgsl, hip) = match self.layout {
            Layout::P2 => (include_str!("p2.wgsl"), include_str!("p2.h")),
            Layout::B5 => (include_str!("b5.wgsl"), include_str!("b5.h")),
            Layout::S34 | Layout::S24 => {
                tables.push(("BOOK", pack::codebook(self.layout)));
                (include_str!("sparse.wgsl"), include_str!("sparse.h"))
            }
        };
        Source {
            op: "gemv",
            wgsl: vec![wgsl, include_str!("gemv.wgsl")],
            hip: vec![PORT, hip, include_str!("gemv.hip")],
            defines: vec![
                ("LAYOUT", self.layout as u32),
                ("STEPS", pack::steps(self.layout, self.columns) as u32),
                ("WORDS", pack::code_words(self.columns) as u32),
                ("ROWS", self.rows as u32),
                ("ADD", u32::from(self.add)),
                ("SPLIT", self.split),
                ("TOKENS", self.tokens),
                ("NT", 32 * self.split),
            ],
            tables,
            buffers: 5,
            args: 1,
        }
    }

    fn shape(&self) -> String {
        format!(
            "gemv {} {}x{}{} tokens {}",
            self.layout.name(),
            self.rows,
            self.columns,
            if self.add { " add" } else { "" },
            self.tokens
        )
    }

    fn choice(&self) -> String {
        self.split.to_string()
    }

    fn candidates(&self) -> Vec<Box<dyn Op>> {
        SPLITS
            .into_iter()
            .map(|split| {
                Box::new(Gemv {
                    split,
                    ..self.clone()
                }) as Box<dyn Op>
            })
            .collect()
    }

    fn load(&self) -> Option<Load> {
        let (blocks, tokens) = (self.rows.div_ceil(BLOCK_ROWS), u64::from(self.tokens));
        Some(Load {
            buffers: vec![
                (blocks * pack::block_words(self.layout, self.columns) * 4) as u64,
                blocks as u64 * 16,
                tokens * pack::code_words(self.columns) as u64 * 4,
                tokens * 8,
                tokens * self.rows as u64 * 4,
            ],
            rotating: 0,
            grid: self.grid(blocks as u32, self.tokens),
            args: vec![self.tokens],
        })
    }

    /// Two blocks and a bit of random rows, one token more than a launch takes at a time.
    fn case(&self, seed: u64) -> Case {
        let mut noise = Noise::new(seed);
        let rows = (2 * BLOCK_ROWS + 5).min(self.rows);
        let tokens = self.tokens as usize + 1;
        let mut weights = vec![0; rows * self.columns];
        for row in weights.chunks_exact_mut(self.columns) {
            trits(self.layout, &mut noise, row);
        }
        let packer = Packer::new(1);
        let matrix = TernaryMatrix::pack(self.layout, rows, self.columns, &packer, |r, row| {
            row.copy_from_slice(&weights[r * self.columns..][..self.columns]);
        });
        // Packing fails only for weights that the layout cannot hold, and these were made for it.
        let Ok(matrix) = matrix else {
            unreachable!("random weights fit their layout")
        };
        let mut x = Int8Rows::new(tokens, self.columns);
        let mut sums = Vec::new();
        for t in 0..tokens {
            let codes: Vec<i8> = (0..self.columns)
                .map(|_| (noise.below(255) as i32 - 127) as i8)
                .collect();
            x.set(t, &codes, 0.003 * (1.0 + t as f32));
        }
        for t in 0..tokens {
            let mut one = Int8Rows::new(1, self.columns);
            let codes: Vec<i8> = (0..self.columns).map(|c| x.code(t, c)).collect();
            one.set(0, &codes, x.scale(t));
            let mut y = vec![0; matrix.n_blocks() * BLOCK_ROWS];
            matrix.gemv(0..matrix.n_blocks(), &one, &mut y);
            sums.push(y);
        }
        let scale = 0.37_f32;
        let mut y = noise.floats(tokens * self.rows);
        let before = bits(&y);
        for (t, sums) in sums.iter().enumerate() {
            let factor = x.scale(t) * scale;
            for (out, sum) in y[t * self.rows..].iter_mut().zip(&sums[..rows]) {
                let value = *sum as f32 * factor;
                *out = if self.add { *out + value } else { value };
            }
        }
        let mut codes = Vec::new();
        for t in 0..tokens {
            codes.extend(pack::codes(x.row(t), self.columns));
        }
        Case {
            buffers: vec![
                pack::weights(&matrix),
                pack::blocks(&[(&matrix, scale)]),
                codes,
                (0..tokens)
                    .flat_map(|t| [x.scale(t).to_bits(), x.sum(t).cast_unsigned()])
                    .collect(),
                before,
            ],
            grid: self.grid(matrix.n_blocks() as u32, tokens as u32),
            args: vec![tokens as u32],
            wanted: vec![(4, Same::Bits, bits(&y))],
        }
    }
}

/// Weights that a layout can hold.
fn trits(layout: Layout, noise: &mut Noise, row: &mut [i8]) {
    for four in row.chunks_mut(4) {
        for w in four.iter_mut() {
            *w = match layout {
                Layout::P2 | Layout::B5 => noise.below(3) as i8 - 1,
                _ => 2 * noise.below(2) as i8 - 1,
            };
        }
        let zeros = match layout {
            Layout::S34 => 1,
            Layout::S24 => 2,
            _ => 0,
        };
        let first = noise.below(4) as usize;
        for z in 0..zeros.min(four.len()) {
            let at = (first + z) % four.len();
            four[at] = 0;
        }
    }
}
