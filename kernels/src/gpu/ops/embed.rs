//! Rows of the embedding table as f32: scale times number.

use super::head::random_table;
use super::{Case, EXACT, Noise, Op, PORT, Same, THREADS, bits};
use crate::gpu::source::Source;

/// A look-up of fixed shape.
#[derive(Clone, Debug)]
pub struct Embed {
    /// Bits of a number: 8 or 6.
    pub bits: u32,
    /// Columns, a multiple of 32.
    pub columns: usize,
}

impl Op for Embed {
    fn source(&self) -> Source {
        let (wgsl, hip) = super::head::table_text(self.bits);
        Source {
            op: "embed",
            wgsl: vec![EXACT, wgsl, include_str!("embed.wgsl")],
            hip: vec![PORT, hip, include_str!("embed.hip")],
            defines: vec![
                ("BITS", self.bits),
                ("BLOCKS", self.columns as u32 / 32),
                ("SCALE_WORDS", (self.columns as u32 / 32).div_ceil(2)),
                ("NT", THREADS),
            ],
            tables: vec![],
            buffers: 4,
            args: 0,
        }
    }

    fn case(&self, seed: u64) -> Case {
        let mut noise = Noise::new(seed);
        let (table, values) = random_table(&mut noise, self.bits, 70, self.columns);
        let ids = [69, 0, 33];
        let mut wanted = Vec::new();
        for id in ids {
            wanted.extend(bits(&values[id as usize * self.columns..][..self.columns]));
        }
        Case {
            buffers: vec![
                table.codes,
                table.scales,
                ids.into_iter().flat_map(|id| [id, 0, 0, 0]).collect(),
                vec![0; wanted.len()],
            ],
            grid: [ids.len() as u32, 1, 1],
            args: vec![],
            wanted: vec![(3, Same::Floats, wanted)],
        }
    }
}
