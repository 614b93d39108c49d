//! The chunks of a token's heads joined in order and divided by their sums. Defined by `cpu/attention`.

use super::attend::Attend;
use super::rope::Heads;
use super::{Case, EXACT, Op, PORT, Same, bits};
use crate::gpu::source::Source;

/// The operation for a model's heads.
#[derive(Clone, Debug)]
pub struct Merge {
    /// The heads.
    pub heads: Heads,
}

impl Op for Merge {
    fn source(&self) -> Source {
        let mut defines = self.heads.defines();
        defines.push(("NT", 128));
        Source {
            op: "merge",
            wgsl: vec![EXACT, include_str!("merge.wgsl")],
            hip: vec![PORT, include_str!("merge.hip")],
            defines,
            tables: vec![],
            buffers: 3,
            args: 1,
        }
    }

    fn case(&self, seed: u64) -> Case {
        let e = Attend::new(self.heads).example(seed);
        Case {
            buffers: vec![e.steps, bits(&e.states), vec![0; e.attended.len()]],
            grid: [self.heads.heads as u32, e.tokens, 1],
            args: vec![e.chunks],
            wanted: vec![(2, Same::Floats, bits(&e.attended))],
        }
    }
}
