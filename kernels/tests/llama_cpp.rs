//! Ternary models against llama.cpp: a small random model from a seed, in TQ2_0 and TQ1_0, and what llama.cpp
//! computed of the same file (b11434 built by `benches/peers/build`, recorded with `benches/peers/logits.cpp`).
//!
//! llama.cpp sums attention in f16 below 64 rows a batch, and activations of eight bits turn its last bits into
//! steps of 1/127 in two layers. So the ternary products are compared where attention has one position and rounds
//! nothing, and attention where nothing is rounded to eight bits.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../examples/make_synthetic/synthetic.rs"]
mod synthetic;

use onebit_kernels::format::convert::widen;
use onebit_kernels::format::{Gguf, Packing};
use onebit_kernels::kv::{Cache, CacheOptions, KvKind};
use onebit_kernels::model::{LoadOptions, Model, Slice, TernaryActivations, Want};
use onebit_kernels::sampler::best;
use onebit_kernels::threads::Threads;
use std::sync::Arc;

const VOCABULARY: usize = 512;
/// `logits MODEL LINES OUT`, a line for each token of `(258..512).step_by(8)` alone; both packings gave these bytes.
const ALONE: &[u8] = include_bytes!("golden/llama_cpp_ternary.bin");
/// `logits WIDENED PROMPTS OUT greedy=32 step=all`: prompts of 65 to 97 tokens and their answers.
const GREEDY: &str = include_str!("golden/llama_cpp_greedy.txt");
/// `logits WIDENED LINES OUT step=all`: the logits behind each of those prompts.
const WIDE: &[u8] = include_bytes!("golden/llama_cpp_wide.bin");
/// End tokens, which an answer was not allowed.
const END: usize = 257;

fn recorded(bytes: &[u8]) -> Vec<Vec<f32>> {
    bytes
        .as_chunks::<{ 4 * VOCABULARY }>()
        .0
        .iter()
        .map(|row| {
            row.as_chunks::<4>()
                .0
                .iter()
                .map(|v| f32::from_le_bytes(*v))
                .collect()
        })
        .collect()
}

fn file(packing: Packing) -> Gguf {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let shape = synthetic::shape("tiny").unwrap();
    synthetic::write(&path, shape, packing, "bitnet", 1, false).unwrap();
    Gguf::from_bytes(std::fs::read(path).unwrap()).unwrap()
}

fn logits(model: &Model, tokens: &[u32]) -> Vec<Vec<f32>> {
    let options = CacheOptions {
        positions_max: tokens.len(),
        kind: KvKind::F16,
    };
    let mut cache = Cache::new(model.config(), options).unwrap();
    let slice = Slice {
        sequence: cache.create(),
        tokens,
        logits: Want::All,
    };
    let threads = Threads::new(1);
    let out = model.forward(&threads, &mut cache, &[slice]).unwrap();
    out.rows().map(<[f32]>::to_vec).collect()
}

/// Length of the difference over the length of the recorded row.
fn error(ours: &[f32], theirs: &[f32]) -> f64 {
    let length = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
    };
    length(&mut ours.iter().zip(theirs).map(|(a, b)| a - b)) / length(&mut theirs.iter().copied())
}

#[test]
fn ternary_products_are_llama_cpps() {
    for packing in [Packing::Tq2_0, Packing::Tq1_0] {
        let options = LoadOptions {
            ternary: TernaryActivations::Blocks,
            ..LoadOptions::default()
        };
        let model = Model::load(Arc::new(file(packing)), &options).unwrap();
        let (mut equal, mut all) = (0, 0);
        for (token, theirs) in (258..512).step_by(8).zip(recorded(ALONE)) {
            let ours = logits(&model, &[token]).remove(0);
            assert_eq!(best(&ours), best(&theirs), "{} {token}", packing.name());
            all += 1;
            equal += usize::from(error(&ours, &theirs) < 1e-5);
        }
        println!("{}: {equal} of {all} rows within 1e-5", packing.name());
        // A sum in another order may move a value over a rounding step; that is rare, a fault is not.
        assert!(
            all == 32 && equal >= 30,
            "{}: {equal} of {all}",
            packing.name()
        );
    }
}

#[test]
fn attention_over_ternary_weights_is_llama_cpps() {
    for packing in [Packing::Tq2_0, Packing::Tq1_0] {
        let mut wide = Vec::new();
        widen(&file(packing), &mut wide).unwrap();
        let gguf = Gguf::from_bytes(wide).unwrap();
        let model = Model::load(Arc::new(gguf), &LoadOptions::default()).unwrap();
        let ids =
            |s: &str| -> Vec<u32> { s.split_whitespace().map(|id| id.parse().unwrap()).collect() };
        let (mut worst, mut cases) = (0.0_f64, 0);
        for (line, theirs) in GREEDY.lines().zip(recorded(WIDE)) {
            let (prompt, answer) = line.split_once('|').unwrap();
            let (mut tokens, answer) = (ids(prompt), ids(answer));
            let start = tokens.len() - 1;
            tokens.extend(&answer[..answer.len() - 1]);
            let mut rows = logits(&model, &tokens).split_off(start);
            worst = worst.max(error(&rows[0], &theirs));
            for (row, wanted) in rows.iter_mut().zip(&answer) {
                row[END] = f32::NEG_INFINITY;
                assert_eq!(best(row), Some(*wanted as usize), "prompt {cases}");
            }
            cases += 1;
        }
        println!("{}: logits within {worst:.1e}", packing.name());
        assert!(
            cases == 20 && worst < 1e-3,
            "{}: {cases} prompts, {worst}",
            packing.name()
        );
    }
}
