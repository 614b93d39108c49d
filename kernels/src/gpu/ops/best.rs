//! The best few of many numbers with their places, on the device: the best token, or the top candidates.

use super::{Case, Noise, Op, PORT, Same, bits};
use crate::gpu::source::Source;

/// One round.
#[derive(Clone, Debug)]
pub struct Best {
    /// Whether it reads numbers (and not pairs of an earlier round).
    pub first: bool,
    /// How many are kept of each span.
    pub keep: u32,
}

/// Numbers that one workgroup looks through.
pub const SPAN: u32 = 1024;

impl Best {
    /// Rounds that leave one span's best of `count`: numbers that go in, spans.
    pub fn rounds(keep: u32, count: u32) -> Vec<(u32, u32)> {
        let mut rounds = vec![(count, count.div_ceil(SPAN))];
        while let Some(&(_, spans)) = rounds.last()
            && spans > 1
        {
            rounds.push((spans * keep, (spans * keep).div_ceil(SPAN)));
        }
        rounds
    }
}

impl Op for Best {
    fn source(&self) -> Source {
        Source {
            op: "best",
            wgsl: vec![include_str!("best.wgsl")],
            hip: vec![PORT, include_str!("best.hip")],
            defines: vec![
                ("FIRST", u32::from(self.first)),
                ("KEEP", self.keep),
                ("SPAN", SPAN),
                ("NT", 128),
            ],
            tables: vec![],
            buffers: 3,
            args: 1,
        }
    }

    fn case(&self, seed: u64) -> Case {
        let mut noise = Noise::new(seed);
        let count = SPAN + 300;
        // Few different values, so that ties happen; and what is not finite is passed over.
        let mut numbers: Vec<f32> = (0..2 * count)
            .map(|_| noise.below(97) as f32 - 40.0)
            .collect();
        numbers[5] = f32::NAN;
        numbers[6] = f32::INFINITY;
        let pairs: Vec<u32> = numbers
            .iter()
            .enumerate()
            .flat_map(|(i, v)| [v.to_bits(), i as u32 % count])
            .collect();
        let mut wanted = Vec::new();
        for row in numbers.chunks_exact(count as usize) {
            for (s, span) in row.chunks(SPAN as usize).enumerate() {
                let mut order: Vec<(f32, u32)> = span
                    .iter()
                    .enumerate()
                    .filter(|(_, v)| v.is_finite())
                    .map(|(i, v)| (*v, s as u32 * SPAN + i as u32))
                    .collect();
                order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                for (value, place) in order.into_iter().take(self.keep as usize) {
                    wanted.extend([value.to_bits(), place]);
                }
            }
        }
        Case {
            buffers: vec![bits(&numbers), pairs, vec![0; wanted.len()]],
            grid: [count.div_ceil(SPAN), 2, 1],
            args: vec![count],
            wanted: vec![(2, Same::Bits, wanted)],
        }
    }
}
