//! Logits: a table of 8- or 6-bit numbers times a row in blocks of 32, integer within a block, blocks in order.

use super::{Case, EXACT, Load, Noise, Op, PORT, Same};
use crate::gpu::Identity;
use crate::gpu::pack::Table;
use crate::gpu::source::Source;
use half::f16;

/// A head of fixed shape.
#[derive(Clone, Debug)]
pub struct Head {
    /// Bits of a number: 8 or 6.
    pub bits: u32,
    /// Columns, a multiple of 32.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// Threads of a workgroup, a row each.
    pub threads: u32,
    /// Blocks of a row that are fetched before the first is used; HIP texts only.
    pub ahead: u32,
}

/// Numbers of threads that may be faster.
const CANDIDATES: [u32; 4] = [32, 64, 128, 256];

/// The text of a table's codes.
pub(super) fn table_text(bits: u32) -> (&'static str, &'static str) {
    if bits == 6 {
        (include_str!("table6.wgsl"), include_str!("table6.h"))
    } else {
        (include_str!("table8.wgsl"), include_str!("table8.h"))
    }
}

impl Head {
    /// With parameters that do on every device.
    pub fn new(bits: u32, rows: usize, columns: usize) -> Head {
        Head {
            bits,
            columns,
            rows,
            threads: 64,
            ahead: 2,
        }
    }

    /// With parameters that were measured to be the best; those that do everywhere if they cannot be read.
    pub fn chosen(self, choice: Option<&String>) -> Head {
        let numbers: Option<Vec<u32>> =
            choice.and_then(|c| c.split(' ').map(|n| n.parse().ok()).collect());
        match numbers.as_deref() {
            Some(&[threads, ahead]) => Head {
                threads,
                ahead,
                ..self
            },
            _ => self,
        }
    }

    /// Workgroups for so many prepared rows.
    pub fn grid(&self, wanted: u32) -> [u32; 3] {
        [(self.rows as u32).div_ceil(self.threads), wanted, 1]
    }
}

impl Op for Head {
    fn source(&self) -> Source {
        let (wgsl, hip) = table_text(self.bits);
        Source {
            op: "head",
            wgsl: vec![EXACT, wgsl, include_str!("head.wgsl")],
            hip: vec![PORT, hip, include_str!("head.hip")],
            defines: vec![
                ("BITS", self.bits),
                ("BLOCKS", self.columns as u32 / 32),
                ("SCALE_WORDS", (self.columns as u32 / 32).div_ceil(2)),
                ("VOCABULARY", self.rows as u32),
                ("AHEAD", self.ahead),
                ("NT", self.threads),
            ],
            tables: vec![],
            buffers: 5,
            args: 0,
        }
    }

    fn shape(&self) -> String {
        format!("head {} bits {}x{}", self.bits, self.rows, self.columns)
    }

    fn choice(&self) -> String {
        format!("{} {}", self.threads, self.ahead)
    }

    fn candidates(&self, identity: &Identity) -> Vec<Box<dyn Op>> {
        let aheads: &[u32] = match identity.backend {
            "vulkan" => &[2],
            _ => &[2, 4, 8],
        };
        let pairs = CANDIDATES
            .into_iter()
            .flat_map(|threads| aheads.iter().map(move |ahead| (threads, *ahead)));
        pairs
            .map(|(threads, ahead)| {
                Box::new(Head {
                    threads,
                    ahead,
                    ..self.clone()
                }) as Box<dyn Op>
            })
            .collect()
    }

    fn load(&self) -> Option<Load> {
        let (rows, blocks) = (
            self.rows.next_multiple_of(32) as u64,
            self.columns as u64 / 32,
        );
        Some(Load {
            buffers: vec![
                rows * blocks * u64::from(self.bits) * 4,
                rows * blocks.div_ceil(2) * 4,
                blocks * 32,
                blocks * 8,
                rows * 4,
            ],
            rotating: 0,
            grid: self.grid(1),
            args: vec![],
        })
    }

    fn case(&self, seed: u64) -> Case {
        let mut noise = Noise::new(seed);
        // The text knows the whole vocabulary; a table of a few tiles answers for its rows when the others are zeros.
        let filled = self.rows.min(100);
        let (mut table, _) = random_table(&mut noise, self.bits, filled, self.columns);
        let (tiles, blocks) = (self.rows.div_ceil(32), self.columns / 32);
        table
            .codes
            .resize(tiles * blocks * 32 * self.bits as usize, 0);
        table.scales.resize(tiles * table.scale_words() * 32, 0);
        let (codes, scales) = random_blocks(&mut noise, 2, self.columns);
        let mut logits = vec![0.0_f32; 2 * self.rows];
        for (t, logits) in logits.chunks_exact_mut(self.rows).enumerate() {
            for (row, y) in logits.iter_mut().take(filled).enumerate() {
                for b in 0..blocks {
                    let mut sum = 0;
                    let mut scale = 0.0;
                    for c in 32 * b..32 * (b + 1) {
                        let (d, number) = table.at(row, c);
                        scale = d;
                        sum += number * i32::from(code(&codes, t * self.columns + c));
                    }
                    *y = (sum as f32)
                        .mul_add(scale * f32::from_bits(scales[2 * (t * blocks + b)]), *y);
                }
            }
        }
        Case {
            buffers: vec![
                table.codes,
                table.scales,
                codes,
                scales,
                vec![0x7fc0_0000; 2 * self.rows],
            ],
            grid: self.grid(2),
            args: vec![],
            wanted: vec![(4, Same::Floats, super::bits(&logits))],
        }
    }
}

fn code(words: &[u32], column: usize) -> i8 {
    (words[column / 4] >> (8 * (column % 4))) as u8 as i8
}

/// Rows quantised in blocks of 32: codes, and scale and sum of each block.
fn random_blocks(noise: &mut Noise, rows: usize, columns: usize) -> (Vec<u32>, Vec<u32>) {
    let mut codes = vec![0_u32; rows * columns / 4];
    let mut scales = Vec::new();
    for block in codes.chunks_exact_mut(8) {
        let mut sum = 0;
        for word in block.iter_mut() {
            for j in 0..4 {
                let code = (noise.below(255) as i32 - 127) as i8;
                sum += i32::from(code);
                *word |= u32::from(code as u8) << (8 * j);
            }
        }
        scales.extend([
            f16::from_f32(noise.float().abs()).to_f32().to_bits(),
            sum.cast_unsigned(),
        ]);
    }
    (codes, scales)
}

/// A random table and its decoded values.
pub(super) fn random_table(
    noise: &mut Noise,
    bits: u32,
    rows: usize,
    columns: usize,
) -> (Table, Vec<f32>) {
    use crate::format::{i6, q8_0};
    let values = noise.floats(rows * columns);
    let mut data = Vec::new();
    let mut decoded = vec![0.0; values.len()];
    let table = if bits == 6 {
        i6::encode(&values, &mut data);
        i6::decode(&data, &mut decoded);
        Table::six(rows, columns, &data)
    } else {
        for row in values.chunks_exact(columns) {
            q8_0::encode(row, &mut data);
        }
        q8_0::decode(&data, &mut decoded);
        Table::eight(rows, columns, &data)
    };
    (table, decoded)
}
