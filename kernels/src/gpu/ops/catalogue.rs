//! The operations of known models in all their parameters: what is compiled where no device runs it.

use super::attend::Attend;
use super::best::Best;
use super::blocks::Blocks;
use super::embed::Embed;
use super::gemv::Gemv;
use super::head::Head;
use super::merge::Merge;
use super::prepare::{Gate, Prepare};
use super::rope::{Heads, Rope};
use super::{Op, THREADS};
use crate::cpu::rope::Pairing;
use crate::cpu::ternary::Layout;
use crate::kv::KvKind;

/// A model's dimensions.
struct Shape {
    width: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    vocabulary: usize,
    gate: Gate,
    rotate: Option<usize>,
}

/// BitNet b1.58 2B-4T, its rotated successor's norms, and the model that comes with the program.
const SHAPES: [Shape; 2] = [
    Shape {
        width: 2560,
        hidden: 6912,
        heads: 20,
        kv_heads: 5,
        dim: 128,
        vocabulary: 128_256,
        gate: Gate::SquaredRelu,
        rotate: None,
    },
    Shape {
        width: 576,
        hidden: 1536,
        heads: 9,
        kv_heads: 3,
        dim: 64,
        vocabulary: 48_000,
        gate: Gate::Silu,
        rotate: None,
    },
];

/// Every operation of the known models: each layout of weights, each kind of cache and table, one token and eight.
pub fn catalogue() -> Vec<Box<dyn Op>> {
    let mut ops: Vec<Box<dyn Op>> = Vec::new();
    for shape in &SHAPES {
        products(shape, &mut ops);
        let row = (shape.heads + 2 * shape.kv_heads) * shape.dim;
        let prepare = |columns, gate, rotate| {
            Box::new(Prepare {
                columns,
                gate,
                norm: true,
                epsilon: 1e-5,
                rotate,
                threads: THREADS,
            })
        };
        ops.push(prepare(shape.width, Gate::None, shape.rotate));
        ops.push(prepare(shape.hidden, shape.gate, shape.rotate));
        ops.push(prepare(shape.width, Gate::None, Some(64)));
        for kind in [KvKind::F16, KvKind::Int8] {
            let heads = Heads {
                heads: shape.heads,
                kv_heads: shape.kv_heads,
                dim: shape.dim,
                kind,
                page_words: 30 * row,
            };
            ops.push(Box::new(Rope {
                heads,
                pairing: Pairing::SplitHalf,
                pairs: shape.dim / 2,
            }));
            ops.push(Box::new(Attend::new(heads)));
            ops.push(Box::new(Merge { heads }));
        }
        for bits in [6, 8] {
            ops.push(Box::new(Embed {
                bits,
                columns: shape.width,
            }));
            ops.push(Box::new(Head::new(bits, shape.vocabulary, shape.width)));
        }
        ops.push(Box::new(Blocks {
            columns: shape.width,
            epsilon: 1e-5,
        }));
    }
    for first in [true, false] {
        ops.push(Box::new(Best { first, keep: 1 }));
    }
    let mut seen = std::collections::HashSet::new();
    ops.retain(|op| seen.insert(op.source().name()));
    ops
}

fn products(shape: &Shape, ops: &mut Vec<Box<dyn Op>>) {
    let row = (shape.heads + 2 * shape.kv_heads) * shape.dim;
    let attended = shape.heads * shape.dim;
    for layout in [Layout::P2, Layout::B5, Layout::S34] {
        // Rows are a constant of no weight in the code: each width once is enough.
        for (columns, rows, add, tokens) in [
            (shape.width, row, false, 1),
            (attended, shape.width, true, 1),
            (shape.width, 2 * shape.hidden, false, 8),
            (shape.hidden, shape.width, true, 1),
            (shape.hidden, shape.width, true, 8),
        ] {
            ops.push(Box::new(Gemv::new(layout, columns, rows, add, tokens)));
        }
    }
}
