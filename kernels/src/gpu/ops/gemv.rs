//! Stacked ternary matrices times int8 rows: `y = (sum(codes · x) - sum(x)) · (scale of x · scale of the matrix)`,
//! set or added. The definition is `cpu/ternary`'s, exact in integers.

use super::{Case, Load, Noise, Op, PORT, Same, bits};
use crate::cpu::packer::Packer;
use crate::cpu::ternary::{BLOCK_ROWS, Int8Rows, Layout, TernaryMatrix};
use crate::gpu::Identity;
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
    /// Weights ahead of their use in shared memory, by the copy engine of devices that have one.
    pub ring: Option<Ring>,
    /// Matrix units, on devices whose texts name them.
    pub matrix: Option<Matrix>,
}

/// Many tokens on matrix units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Waves of a workgroup, 32 rows each.
    pub waves: u32,
    /// Tokens of a workgroup.
    pub columns: u32,
}

/// Copies of weights and codes under way, and one more; and steps of a copy.
const STAGES: u32 = 4;
const MATRIX_RUN: u32 = 2;
/// [`Matrix`]'s waves and columns that may be faster.
const MATRICES: [(u32, u32); 6] = [(4, 32), (4, 64), (8, 32), (8, 64), (4, 128), (8, 128)];
/// Tokens that are timed where a kernel takes many.
const TIMED_TOKENS: u32 = 128;

/// A workgroup that stays and walks over many blocks, with a ring of stages a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Stages.
    pub stages: u32,
    /// Steps of a row in a stage.
    pub run: u32,
    /// Blocks of 32 rows that meet a loaded step of activations.
    pub tiles: u32,
    /// Workgroups.
    pub groups: u32,
}

/// Slices that may be faster.
const SPLITS: [u32; 4] = [1, 2, 4, 8];
/// Slices and [`Ring`]'s stages, run, tiles and workgroups a unit that may be faster.
const RINGS: [(u32, u32, u32, u32, u32); 14] = [
    (4, 4, 5, 1, 1),
    (4, 4, 5, 1, 2),
    (4, 3, 5, 2, 2),
    (8, 3, 5, 1, 1),
    (8, 4, 5, 1, 1),
    (8, 2, 5, 1, 2),
    (8, 3, 5, 2, 1),
    (8, 2, 5, 2, 1),
    (8, 4, 2, 2, 2),
    (8, 4, 4, 2, 1),
    (8, 6, 4, 1, 1),
    (16, 4, 3, 1, 1),
    (16, 2, 3, 2, 1),
    (16, 3, 4, 1, 1),
];
/// Shared memory of a unit that a workgroup's ring may take.
const RING_BYTES_MAX: u32 = 190 << 10;

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
            ring: None,
            matrix: None,
        }
    }

    /// With parameters that were measured to be the best; those that do everywhere if they cannot be read.
    pub fn chosen(self, choice: Option<&String>) -> Gemv {
        let numbers: Option<Vec<u32>> =
            choice.and_then(|c| c.split(' ').map(|n| n.parse().ok()).collect());
        match numbers.as_deref() {
            Some(&[waves, columns]) => Gemv {
                matrix: Some(Matrix { waves, columns }),
                ..self
            },
            Some(&[split]) => Gemv { split, ..self },
            Some(&[split, stages, run, tiles, groups]) => Gemv {
                split,
                ring: Some(Ring {
                    stages,
                    run,
                    tiles,
                    groups,
                }),
                ..self
            },
            _ => self,
        }
    }

    /// Workgroups for so many blocks of 32 rows and tokens.
    pub fn grid(&self, blocks: u32, tokens: u32) -> [u32; 3] {
        let groups = self
            .ring
            .map_or(blocks, |ring| ring.groups.min(blocks.div_ceil(ring.tiles)));
        match self.matrix {
            Some(m) => [blocks.div_ceil(m.waves), tokens.div_ceil(m.columns), 1],
            None => [groups, tokens.div_ceil(self.tokens), 1],
        }
    }

    /// Bytes of 32 rows of weights and of a token's codes that a step takes.
    fn step_bytes(&self) -> (u32, u32) {
        match self.layout {
            Layout::P2 => (512, 64),
            Layout::B5 => (512, 80),
            Layout::S34 | Layout::S24 => (640, 128),
        }
    }

    fn ring_bytes(&self) -> u32 {
        self.ring.map_or(0, |ring| {
            self.split * ring.stages * ring.tiles * ring.run * self.step_bytes().0
        })
    }

    fn matrix_bytes(&self) -> u32 {
        let (weights, codes) = self.step_bytes();
        self.matrix.map_or(0, |m| {
            STAGES * MATRIX_RUN * (m.waves * weights + m.columns * codes)
        })
    }

    fn rings(&self, units: u32) -> impl Iterator<Item = Gemv> {
        let steps = pack::steps(self.layout, self.columns) as u32;
        RINGS
            .into_iter()
            .filter_map(move |(split, stages, run, tiles, groups)| {
                let gemv = Gemv {
                    split,
                    ring: Some(Ring {
                        stages,
                        run: run.min(steps.div_ceil(split)),
                        tiles,
                        groups: groups * units,
                    }),
                    ..self.clone()
                };
                // What a lookup of 3:4 codes needs beside two blocks' sums does not fit into the registers of many waves.
                let sparse = matches!(self.layout, Layout::S34 | Layout::S24);
                let spills = sparse && tiles > 1 && split >= 8;
                let fits = gemv.ring_bytes() * groups <= RING_BYTES_MAX;
                (fits && !spills).then_some(gemv)
            })
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
            hip: vec![
                PORT,
                hip,
                if self.matrix.is_some() {
                    include_str!("gemm.hip")
                } else {
                    include_str!("gemv.hip")
                },
            ],
            defines: vec![
                ("RING", self.ring.map_or(0, |r| r.stages)),
                ("RUN", self.ring.map_or(MATRIX_RUN, |r| r.run)),
                ("TILES", self.ring.map_or(1, |r| r.tiles)),
                ("SHARED_BYTES", self.ring_bytes() + self.matrix_bytes()),
                ("WAVES", self.matrix.map_or(0, |m| m.waves)),
                ("COLUMNS", self.matrix.map_or(0, |m| m.columns)),
                ("STAGES", STAGES),
                ("LAYOUT", self.layout as u32),
                ("STEPS", pack::steps(self.layout, self.columns) as u32),
                ("WORDS", pack::code_words(self.columns) as u32),
                ("ROWS", self.rows as u32),
                ("ADD", u32::from(self.add)),
                ("SPLIT", self.split),
                ("TOKENS", self.tokens),
                ("NT", 32 * self.matrix.map_or(self.split, |m| m.waves)),
            ],
            tables,
            buffers: 5,
            args: 2,
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
        match (self.ring, self.matrix) {
            (None, None) => self.split.to_string(),
            (_, Some(m)) => format!("{} {}", m.waves, m.columns),
            (Some(r), None) => format!(
                "{} {} {} {} {}",
                self.split, r.stages, r.run, r.tiles, r.groups
            ),
        }
    }

    fn candidates(&self, identity: &Identity) -> Vec<Box<dyn Op>> {
        let plain = SPLITS.into_iter().map(|split| Gemv {
            split,
            ring: None,
            ..self.clone()
        });
        let mut all: Vec<Box<dyn Op>> = Vec::new();
        all.extend(plain.map(|gemv| Box::new(gemv) as Box<dyn Op>));
        if identity.backend == "cuda" && self.tokens == 1 {
            let rings = self.rings(identity.units);
            all.extend(rings.map(|gemv| Box::new(gemv) as Box<dyn Op>));
        }
        if identity.backend == "cuda" && self.tokens > 1 {
            all.extend(MATRICES.into_iter().map(|(waves, columns)| {
                Box::new(Gemv {
                    matrix: Some(Matrix { waves, columns }),
                    ..self.clone()
                }) as Box<dyn Op>
            }));
        }
        all
    }

    fn load(&self) -> Option<Load> {
        let blocks = self.rows.div_ceil(BLOCK_ROWS);
        let timed = if self.tokens > 1 { TIMED_TOKENS } else { 1 };
        let tokens = u64::from(timed);
        Some(Load {
            buffers: vec![
                (blocks * pack::block_words(self.layout, self.columns) * 4) as u64,
                blocks as u64 * 16,
                tokens * pack::code_words(self.columns) as u64 * 4,
                tokens * 8,
                tokens * self.rows as u64 * 4,
            ],
            rotating: 0,
            grid: self.grid(blocks as u32, timed),
            args: vec![timed, blocks as u32],
        })
    }

    /// Two blocks and a bit of random rows, one token more than a launch takes at a time.
    fn case(&self, seed: u64) -> Case {
        let mut noise = Noise::new(seed);
        let rows = (2 * BLOCK_ROWS + 5).min(self.rows);
        let tokens = self.matrix.map_or(self.tokens, |m| m.columns) as usize + 1;
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
            args: vec![tokens as u32, matrix.n_blocks() as u32],
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
