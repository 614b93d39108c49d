//! A row made ready for a ternary matrix: taken as it is or gated, normed, rotated, quantised to int8 with one scale.

use super::{Case, EXACT, Load, Noise, Op, PORT, ROW, ROW_HIP, Same, bits};
use crate::cpu::elementwise;
use crate::cpu::ternary::Int8Rows;
use crate::cpu::{hadamard, norm};
use crate::gpu::Identity;
use crate::gpu::pack;
use crate::gpu::source::Source;

/// What the row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Itself.
    None,
    /// `silu(gate) · up`, from twice as many values.
    Silu,
    /// `relu(gate)² · up`.
    SquaredRelu,
}

/// A preparation of fixed shape.
#[derive(Clone, Debug)]
pub struct Prepare {
    /// Columns of the row.
    pub columns: usize,
    /// What it comes from.
    pub gate: Gate,
    /// Whether it is normed.
    pub norm: bool,
    /// Added to the mean square.
    pub epsilon: f32,
    /// Block of the Hadamard rotation.
    pub rotate: Option<usize>,
    /// Threads of the row's workgroup.
    pub threads: u32,
}

/// Threads that may be faster, on devices that allow so many.
const CANDIDATES: [u32; 4] = [256, 512, 640, 1024];

impl Prepare {
    /// With the threads that were measured to be the best.
    pub fn chosen(self, choice: Option<&String>) -> Prepare {
        let threads = choice.and_then(|c| c.parse().ok());
        Prepare {
            threads: threads.unwrap_or(self.threads),
            ..self
        }
    }
}

impl Op for Prepare {
    fn source(&self) -> Source {
        let rotate = self.rotate.unwrap_or(0);
        Source {
            op: "prepare",
            wgsl: vec![EXACT, ROW, include_str!("prepare.wgsl")],
            hip: vec![PORT, ROW_HIP, include_str!("prepare.hip")],
            defines: vec![
                ("N", self.columns as u32),
                ("WORDS", pack::code_words(self.columns) as u32),
                ("GATE", self.gate as u32),
                ("NORM", u32::from(self.norm)),
                ("EPS", self.epsilon.to_bits()),
                ("ROTATE", rotate as u32),
                (
                    "ROTATE_SCALE",
                    (1.0 / (rotate.max(1) as f32).sqrt()).to_bits(),
                ),
                ("NT", self.threads),
            ],
            tables: vec![],
            buffers: 6,
            args: 0,
        }
    }

    fn shape(&self) -> String {
        let with = |on, word: &str| {
            if on {
                format!(" {word}")
            } else {
                String::new()
            }
        };
        format!(
            "prepare {}{}{}{}",
            self.columns,
            with(self.gate != Gate::None, "gated"),
            with(self.norm, "normed"),
            self.rotate
                .map_or(String::new(), |n| format!(" rotated by {n}")),
        )
    }

    fn choice(&self) -> String {
        self.threads.to_string()
    }

    fn candidates(&self, identity: &Identity) -> Vec<Box<dyn Op>> {
        if identity.backend == "vulkan" {
            return Vec::new();
        }
        // The rotation's values do not fit beside the rest into the registers that the most threads leave each.
        let most = if self.rotate.is_some() { 512 } else { u32::MAX };
        CANDIDATES
            .into_iter()
            .filter(|threads| *threads <= most)
            .map(|threads| {
                Box::new(Prepare {
                    threads,
                    ..self.clone()
                }) as Box<dyn Op>
            })
            .collect()
    }

    fn load(&self) -> Option<Load> {
        let n = self.columns as u64;
        let width = if self.gate == Gate::None { n } else { 2 * n };
        Some(Load {
            buffers: vec![
                4 * width,
                4 * n,
                4 * n,
                4 * pack::code_words(self.columns) as u64,
                8,
                16,
            ],
            rotating: 0,
            grid: [1, 1, 1],
            args: vec![],
        })
    }

    fn case(&self, seed: u64) -> Case {
        let mut noise = Noise::new(seed);
        let (n, tokens) = (self.columns, 3);
        let width = if self.gate == Gate::None { n } else { 2 * n };
        let mut from = noise.floats(tokens * width);
        // One row of large values, one of zeros: quantised all the same.
        from[..width].iter_mut().for_each(|v| *v *= 40_000.0);
        from[width..2 * width].fill(0.0);
        let weight = noise.floats(n);
        let mut rows = Int8Rows::new(tokens, n);
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for (t, from) in from.chunks_exact(width).enumerate() {
            let mut row = from[..n].to_vec();
            match self.gate {
                Gate::None => {}
                Gate::Silu => elementwise::silu_variants()[0].1(&mut row, &from[n..]),
                Gate::SquaredRelu => elementwise::squared_relu_gate(&mut row, &from[n..]),
            }
            if self.norm {
                let mut normed = vec![0.0; n];
                norm::variants()[0].1(&row, &weight, self.epsilon, &mut normed);
                row = normed;
            }
            if let Some(block) = self.rotate {
                hadamard::variants()[0].1(&mut row, block);
            }
            // All values are finite.
            let _ = rows.quantise(t, &row);
            codes.extend(pack::codes(rows.row(t), n));
            scales.extend([rows.scale(t).to_bits(), rows.sum(t).cast_unsigned()]);
        }
        Case {
            buffers: vec![
                bits(&from),
                bits(&weight),
                vec![0; tokens * n],
                vec![0x5555_5555; codes.len()],
                vec![0; 2 * tokens],
                vec![0; 4],
            ],
            grid: [tokens as u32, 1, 1],
            args: vec![],
            wanted: vec![
                (3, Same::Codes, codes),
                (4, Same::Scales, scales),
                (5, Same::Bits, vec![0; 4]),
            ],
        }
    }
}
