//! Attention of one token's heads over a chunk of cached positions. Defined by `cpu/attention`.

use super::rope::Heads;
use super::{Case, EXACT, Noise, Op, PORT, Same, bits};
use crate::cpu::Isa;
use crate::cpu::attention::{Attention, CHUNK, Layout, State, TILE};
use crate::gpu::source::Source;

/// The operation for a model's heads.
#[derive(Clone, Debug)]
pub struct Attend {
    /// The heads.
    pub heads: Heads,
    /// Chunks that a workgroup takes one after the other.
    pub walk: u32,
}

impl Attend {
    /// With a workgroup a chunk.
    pub fn new(heads: Heads) -> Attend {
        Attend { heads, walk: 1 }
    }

    /// Workgroups for so many chunks and tokens.
    pub fn grid(&self, chunks: u32, tokens: u32) -> [u32; 3] {
        [
            chunks.div_ceil(self.walk),
            self.heads.kv_heads as u32,
            tokens,
        ]
    }

    fn scale(&self) -> f32 {
        1.0 / (self.heads.dim as f32).sqrt()
    }

    /// Random tokens over a random cache and the states that the definition leaves, for [`super::merge`] as well.
    pub(super) fn example(&self, seed: u64) -> Example {
        let (mut noise, h) = (Noise::new(seed), &self.heads);
        let layout = Layout::new(h.kind, 1, h.kv_heads, h.dim);
        let attention = Attention::new(h.kind, Isa::Scalar);
        let layers = h.page_words / (h.kv_heads * 2 * h.side_words());
        let layer = layers - 1;
        // Pages of one sequence in no order; the second token is far enough for three chunks.
        let positions = [40_usize, 2 * CHUNK + 33];
        let pages: Vec<u32> = (0..positions[1].div_ceil(TILE) as u32 + 1).rev().collect();
        let mut device = vec![0_u32; pages.len() * h.page_words];
        let mut host = vec![0_u8; pages.len() * layout.page_bytes()];
        for position in 0..=positions[1] {
            for head in 0..h.kv_heads {
                let (key, value) = (noise.floats(h.dim), noise.floats(h.dim));
                let page = pages[position / TILE];
                let at = layout.offset(page, 0, head);
                let sides = &mut host[at..][..2 * layout.side_bytes()];
                layout.write(sides, position % TILE, &key, &value);
                let at =
                    page as usize * h.page_words + (layer * h.kv_heads + head) * 2 * h.side_words();
                let sides = &mut device[at..][..2 * h.side_words()];
                h.append(sides, position % TILE, &key, &value);
            }
        }
        let (group, chunks) = (h.group(), positions[1].div_ceil(CHUNK));
        let wide: Vec<f32> = noise
            .floats(positions.len() * h.row())
            .iter()
            .map(|v| v * 3.0)
            .collect();
        let size = group * (h.dim + 2);
        let mut states = vec![0.0_f32; positions.len() * h.kv_heads * chunks * size];
        let mut attended = vec![0.0_f32; positions.len() * h.heads * h.dim];
        for (t, position) in positions.into_iter().enumerate() {
            for head in 0..h.kv_heads {
                let queries: Vec<f32> = wide[t * h.row() + head * group * h.dim..][..group * h.dim]
                    .iter()
                    .map(|q| q * self.scale())
                    .collect();
                let mut merged = Parts::new(group, h.dim);
                merged.state().clear();
                for chunk in 0..(position + 1).div_ceil(CHUNK) {
                    let mut parts = Parts::new(group, h.dim);
                    let mut state = parts.state();
                    state.clear();
                    let first = chunk * CHUNK / TILE;
                    let last = (position + 1).div_ceil(TILE).min(first + CHUNK / TILE);
                    for (tile, page) in (first..last).zip(&pages[first..last]) {
                        let at = layout.offset(*page, 0, head);
                        let seen = (position + 1 - tile * TILE).min(TILE);
                        let mut scores = vec![0.0; group * TILE];
                        let sides = &host[at..][..2 * layout.side_bytes()];
                        attention.tile(&queries, sides, |_| seen, &mut scores, &mut state);
                    }
                    attention.merge(&mut merged.state(), &state);
                    let at = ((t * h.kv_heads + head) * chunks + chunk) * size;
                    states[at..][..group].copy_from_slice(&parts.largest);
                    states[at + group..][..group].copy_from_slice(&parts.total);
                    states[at + 2 * group..][..group * h.dim].copy_from_slice(&parts.output);
                }
                for (r, row) in merged.output.chunks_exact(h.dim).enumerate() {
                    let inverse = 1.0 / merged.total[r];
                    let at = t * h.heads * h.dim + (head * group + r) * h.dim;
                    for (to, v) in attended[at..].iter_mut().zip(row) {
                        *to = v * inverse;
                    }
                }
            }
        }
        Example {
            steps: positions
                .into_iter()
                .flat_map(|p| [0, p as u32, 0, 0])
                .collect(),
            pages,
            wide,
            cache: device,
            layer: layer as u32,
            chunks: chunks as u32,
            tokens: positions.len() as u32,
            states,
            attended,
        }
    }
}

/// See [`Attend::example`].
pub(super) struct Example {
    pub(super) steps: Vec<u32>,
    pages: Vec<u32>,
    wide: Vec<f32>,
    cache: Vec<u32>,
    layer: u32,
    pub(super) chunks: u32,
    pub(super) tokens: u32,
    pub(super) states: Vec<f32>,
    pub(super) attended: Vec<f32>,
}

struct Parts {
    largest: Vec<f32>,
    total: Vec<f32>,
    output: Vec<f32>,
}

impl Parts {
    fn new(rows: usize, dim: usize) -> Parts {
        Parts {
            largest: vec![0.0; rows],
            total: vec![0.0; rows],
            output: vec![0.0; rows * dim],
        }
    }

    fn state(&mut self) -> State<'_> {
        State {
            largest: &mut self.largest,
            total: &mut self.total,
            output: &mut self.output,
        }
    }
}

impl Op for Attend {
    fn source(&self) -> Source {
        let mut defines = self.heads.defines();
        defines.extend([
            ("SCALE", self.scale().to_bits()),
            ("WALK", self.walk),
            ("NT", CHUNK as u32 * self.heads.group().min(4) as u32),
        ]);
        Source {
            op: "attend",
            wgsl: vec![EXACT, include_str!("attend.wgsl")],
            hip: vec![PORT, include_str!("attend.hip")],
            defines,
            tables: vec![],
            buffers: 5,
            args: 2,
        }
    }

    fn case(&self, seed: u64) -> Case {
        let e = self.example(seed);
        Case {
            buffers: vec![
                e.steps,
                e.pages,
                bits(&e.wide),
                e.cache,
                vec![0; e.states.len()],
            ],
            grid: self.grid(e.chunks, e.tokens),
            args: vec![e.layer, e.chunks],
            wanted: vec![(4, Same::Floats, bits(&e.states))],
        }
    }
}
