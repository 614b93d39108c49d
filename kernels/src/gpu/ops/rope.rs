//! Rotation of queries and keys, and the append of keys and values to the paged cache. Defines how a page's side lies
//! on the device: the CPU's sides with neighbouring dimensions of a key in one word.

use super::{Case, EXACT, Noise, Op, PORT, ROW, ROW_HIP, Same, bits};
use crate::cpu::attention::{CHUNK, TILE};
use crate::cpu::rope::{self, Pairing};
use crate::gpu::source::Source;
use crate::kv::KvKind;
use half::f16;

/// Heads of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values of a head, a multiple of 8.
    pub dim: usize,
    /// How keys and values are kept.
    pub kind: KvKind,
    /// Words of a page of the cache.
    pub page_words: usize,
}

impl Heads {
    /// Dimensions in a word.
    pub(super) fn pack(&self) -> usize {
        match self.kind {
            KvKind::F16 => 2,
            KvKind::Int8 => 4,
        }
    }

    fn scaled(&self) -> bool {
        self.kind == KvKind::Int8
    }

    /// Words of the keys (or values) of one layer, head and page.
    pub(super) fn side_words(&self) -> usize {
        TILE * self.dim / self.pack() + if self.scaled() { TILE } else { 0 }
    }

    /// Query heads of a KV head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Values of a row of queries, keys and values.
    pub(super) fn row(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.dim
    }

    pub(super) fn defines(&self) -> Vec<(&'static str, u32)> {
        vec![
            ("HEADS", self.heads as u32),
            ("KV_HEADS", self.kv_heads as u32),
            ("CHUNK", CHUNK as u32),
            ("GROUP", self.group() as u32),
            ("DIM", self.dim as u32),
            ("PACK", self.pack() as u32),
            ("SCALED", u32::from(self.scaled())),
            ("PAGE_WORDS", self.page_words as u32),
        ]
    }

    /// The definition of the append: writes a key and a value of one position into keys and values of a page.
    pub(super) fn append(&self, sides: &mut [u32], slot: usize, key: &[f32], value: &[f32]) {
        let (keys, values) = sides.split_at_mut(self.side_words());
        let words = self.dim / self.pack();
        let (key, key_scale) = self.encode(key);
        let (value, value_scale) = self.encode(value);
        for (w, (k, v)) in key.into_iter().zip(value).enumerate() {
            keys[w * TILE + slot] = k;
            values[slot * words + w] = v;
        }
        if self.scaled() {
            keys[words * TILE + slot] = key_scale.to_bits();
            values[words * TILE + slot] = value_scale.to_bits();
        }
    }

    /// The words of a row, and its scale.
    fn encode(&self, row: &[f32]) -> (Vec<u32>, f32) {
        let scale = row.iter().fold(0.0_f32, |a, v| a.max(v.abs())) / 127.0;
        let code = |v: f32| {
            if scale == 0.0 {
                0
            } else {
                u32::from((v / scale).round_ties_even() as i8 as u8)
            }
        };
        let half = |v: f32| u32::from(f16::from_f32(v).to_bits());
        let word = |part: &[f32]| match self.kind {
            KvKind::F16 => half(part[0]) | half(part[1]) << 16,
            KvKind::Int8 => (0..4).fold(0, |word, i| word | code(part[i]) << (8 * i)),
        };
        (row.chunks_exact(self.pack()).map(word).collect(), scale)
    }
}

/// The operation for a model's heads.
#[derive(Clone, Debug)]
pub struct Rope {
    /// The heads.
    pub heads: Heads,
    /// Which values form a pair.
    pub pairing: Pairing,
    /// Rotated pairs of a head.
    pub pairs: usize,
}

/// Threads of a workgroup: a head has 64 to 128 values.
const NT: u32 = 64;

impl Op for Rope {
    fn source(&self) -> Source {
        let mut defines = self.heads.defines();
        defines.extend([
            ("PAIRS", self.pairs as u32),
            ("SPLIT_HALF", u32::from(self.pairing == Pairing::SplitHalf)),
            ("NT", NT),
        ]);
        Source {
            op: "rope",
            wgsl: vec![EXACT, ROW, include_str!("rope.wgsl")],
            hip: vec![PORT, ROW_HIP, include_str!("rope.hip")],
            defines,
            tables: vec![],
            buffers: 5,
            args: 1,
        }
    }

    fn case(&self, seed: u64) -> Case {
        let mut noise = Noise::new(seed);
        let h = &self.heads;
        // Positions of three tokens; two of one sequence, and pages in no order.
        let tokens = [(37, 0), (38, 0), (5, 4)];
        let pages = [3, 1, 0, 0, 2];
        let row = h.row();
        let wide = noise.floats(tokens.len() * row);
        let frequencies = rope::Frequencies::new(2 * self.pairs, 10_000.0, 1.0, &[]);
        let mut cache = vec![0_u32; 4 * h.page_words];
        let (mut after, mut angles, mut steps) = (wide.clone(), Vec::new(), Vec::new());
        let layers = h.page_words / (h.kv_heads * 2 * h.side_words());
        let layer = layers - 1;
        for (t, (position, table)) in tokens.into_iter().enumerate() {
            let (mut cos, mut sin) = (vec![0.0; self.pairs], vec![0.0; self.pairs]);
            frequencies.angles(position, &mut cos, &mut sin);
            angles.extend(
                cos.iter()
                    .zip(&sin)
                    .flat_map(|(c, s)| [c.to_bits(), s.to_bits()]),
            );
            steps.extend([0, position as u32, table as u32, 0]);
            let turn = |values: &mut [f32]| rope::variants()[0].1(values, self.pairing, &cos, &sin);
            let after = &mut after[t * row..][..row];
            for head in after[..h.heads * h.dim].chunks_exact_mut(h.dim) {
                turn(head);
            }
            for head in 0..h.kv_heads {
                let mut key = after[(h.heads + head) * h.dim..][..h.dim].to_vec();
                turn(&mut key);
                let value = after[(h.heads + h.kv_heads + head) * h.dim..][..h.dim].to_vec();
                let page: usize = pages[table + position / TILE];
                let at = page * h.page_words + (layer * h.kv_heads + head) * 2 * h.side_words();
                h.append(
                    &mut cache[at..][..2 * h.side_words()],
                    position % TILE,
                    &key,
                    &value,
                );
            }
        }
        Case {
            buffers: vec![
                steps,
                pages.iter().map(|p| *p as u32).collect(),
                angles,
                bits(&wide),
                vec![0; cache.len()],
            ],
            grid: [h.kv_heads as u32, tokens.len() as u32, 1],
            args: vec![layer as u32],
            wanted: vec![
                (3, Same::Floats, bits(&after)),
                (
                    4,
                    if h.scaled() {
                        Same::Codes
                    } else {
                        Same::Halves
                    },
                    cache,
                ),
            ],
        }
    }
}
