//! The final norm of wanted rows and their quantisation in blocks of 32 columns.

use super::{Case, EXACT, Noise, Op, PORT, ROW, ROW_HIP, Same, bits, words_of};
use crate::cpu::activation::{Q8Rows, q8_variants};
use crate::cpu::norm;
use crate::gpu::source::Source;

/// The operation for a row's width.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// Columns, a multiple of 32.
    pub columns: usize,
    /// Added to the mean square.
    pub epsilon: f32,
}

impl Op for Blocks {
    fn source(&self) -> Source {
        Source {
            op: "blocks",
            wgsl: vec![EXACT, ROW, include_str!("blocks.wgsl")],
            hip: vec![PORT, ROW_HIP, include_str!("blocks.hip")],
            defines: vec![
                ("N", self.columns as u32),
                ("EPS", self.epsilon.to_bits()),
                ("NT", 256),
            ],
            tables: vec![],
            buffers: 5,
            args: 0,
        }
    }

    fn case(&self, seed: u64) -> Case {
        let (mut noise, n) = (Noise::new(seed), self.columns);
        let (mut x, weight) = (noise.floats(3 * n), noise.floats(n));
        x[2 * n..2 * n + 32].fill(0.0);
        let wanted = [2_u32, 0];
        let mut rows = Q8Rows::default();
        rows.resize(wanted.len(), n);
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for (i, row) in wanted.iter().enumerate() {
            let mut y = vec![0.0; n];
            norm::variants()[0].1(&x[*row as usize * n..][..n], &weight, self.epsilon, &mut y);
            rows.set(i, &y, q8_variants()[0].1);
            let row = rows.row(i);
            let bytes: Vec<u8> = row.codes.iter().map(|c| c.cast_unsigned()).collect();
            codes.extend(words_of(&bytes));
            for (scale, sum) in row.scales.iter().zip(row.sums) {
                scales.extend([scale.to_bits(), sum.cast_unsigned()]);
            }
        }
        Case {
            buffers: vec![
                wanted.to_vec(),
                bits(&x),
                bits(&weight),
                vec![0; codes.len()],
                vec![0; scales.len()],
            ],
            grid: [wanted.len() as u32, 1, 1],
            args: vec![],
            wanted: vec![(3, Same::Codes, codes), (4, Same::Scales, scales)],
        }
    }
}
