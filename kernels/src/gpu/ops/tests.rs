//! Every operation in many shapes against its definition on the processor in disguise, bit for bit.

use super::attend::Attend;
use super::best::Best;
use super::blocks::Blocks;
use super::embed::Embed;
use super::gemv::Gemv;
use super::head::Head;
use super::merge::Merge;
use super::prepare::{Gate, Prepare};
use super::rope::{Heads, Rope};
use super::*;
use crate::cpu::rope::Pairing;
use crate::cpu::ternary::Layout;
use crate::gpu::vulkan::{Choice, Vulkan};
use crate::kv::KvKind;

/// The processor in disguise; where it is not installed, the tests that need it say so and pass.
pub(crate) fn software() -> Option<Vulkan> {
    match Vulkan::open(Choice::Software) {
        Ok(driver) => Some(driver),
        Err(error @ (GpuError::Missing { .. } | GpuError::NoDevice { .. })) => {
            eprintln!("SKIPPED: gpu kernels were not run: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn check(ops: &[&dyn Op]) {
    let Some(mut driver) = software() else { return };
    for op in ops {
        let source = op.source();
        let code = driver.compile(&source).unwrap_or_else(|e| panic!("{e}"));
        let kernel = driver.load(&source, &code).unwrap();
        for seed in 0..2 {
            let case = op.case(seed);
            case.check(&mut driver, &source.name(), kernel, true)
                .unwrap_or_else(|e| panic!("{op:?}: {e}"));
        }
    }
}

#[test]
fn products_are_exact_in_every_layout() {
    let mut ops = Vec::new();
    for layout in Layout::ALL {
        for (columns, rows) in [(576, 960), (1536, 69), (100, 64), (2560, 640)] {
            for (split, tokens, add) in [(1, 1, false), (4, 1, true), (8, 1, false), (2, 8, true)] {
                ops.push(Gemv {
                    split,
                    ..Gemv::new(layout, columns, rows, add, tokens)
                });
            }
        }
    }
    check(&ops.iter().map(|op| op as &dyn Op).collect::<Vec<_>>());
}

#[test]
fn rows_are_gated_normed_rotated_and_quantised_as_on_the_processor() {
    let mut ops = Vec::new();
    for gate in [Gate::None, Gate::Silu, Gate::SquaredRelu] {
        for (columns, norm, rotate) in [
            (576, true, None),
            (1536, false, None),
            (100, true, None),
            (2560, true, Some(128)),
        ] {
            ops.push(Prepare {
                columns,
                gate,
                norm,
                epsilon: 1e-5,
                rotate,
                threads: THREADS,
            });
        }
    }
    check(&ops.iter().map(|op| op as &dyn Op).collect::<Vec<_>>());
}

fn heads() -> Vec<Heads> {
    let mut all = Vec::new();
    for kind in [KvKind::F16, KvKind::Int8] {
        for (heads, kv_heads, dim) in [(9, 3, 64), (20, 5, 128), (4, 4, 24)] {
            let mut h = Heads {
                heads,
                kv_heads,
                dim,
                kind,
                page_words: 0,
            };
            h.page_words = 2 * kv_heads * 2 * h.side_words();
            all.push(h);
        }
    }
    all
}

#[test]
fn keys_and_values_are_rotated_and_kept_as_on_the_processor() {
    let mut ops = Vec::new();
    for heads in heads() {
        for (pairing, pairs) in [
            (Pairing::SplitHalf, heads.dim / 2),
            (Pairing::Interleaved, heads.dim / 4),
            (Pairing::SplitHalf, heads.dim / 4),
        ] {
            ops.push(Rope {
                heads,
                pairing,
                pairs,
            });
        }
    }
    check(&ops.iter().map(|op| op as &dyn Op).collect::<Vec<_>>());
}

#[test]
fn attention_over_chunks_is_that_of_the_processor() {
    let (attend, merge): (Vec<_>, Vec<_>) = heads()
        .into_iter()
        .map(|heads| (Attend::new(heads), Merge { heads }))
        .unzip();
    check(&attend.iter().map(|op| op as &dyn Op).collect::<Vec<_>>());
    check(&merge.iter().map(|op| op as &dyn Op).collect::<Vec<_>>());
}

#[test]
fn the_ends_of_a_pass() {
    let mut ops: Vec<Box<dyn Op>> = Vec::new();
    for columns in [576, 96, 2560] {
        ops.push(Box::new(Blocks {
            columns,
            epsilon: 1e-5,
        }));
        for bits in [6, 8] {
            ops.push(Box::new(Embed { bits, columns }));
            ops.push(Box::new(Head::new(bits, 1000, columns)));
        }
    }
    for keep in [1, 40] {
        for first in [true, false] {
            ops.push(Box::new(Best { first, keep }));
        }
    }
    check(&ops.iter().map(|op| &**op).collect::<Vec<_>>());
}

#[test]
fn rounds_end_in_one_span() {
    assert_eq!(Best::rounds(1, 48_000), [(48_000, 47), (47, 1)]);
    assert_eq!(
        Best::rounds(40, 128_256),
        [(128_256, 126), (5040, 5), (200, 1)]
    );
    assert_eq!(Best::rounds(1, 10), [(10, 1)]);
}
