//! Teacher-forced on llama.cpp's own greedy answers (40 prompts, 64 tokens each), our most likely token is the same one.
//!
//! Activations of eight bits a block turn a last bit into a step of 1/127, and thirty layers spread the step: a rotation
//! base larger by one unit in the last place changes our own most likely token at 3 % of positions, with gaps up to 0.38.
//! llama.cpp does the same: its prompt path and its generating path, which sum attention in f32 and in f16, agree with
//! each other at 96.95 % (widest gap 0.445), and one build on two processors at 97.27 %. No engine that is not equal bit
//! for bit can agree more. So three things are asked:
//!
//! - with every weight widened to F32, where nothing is rounded to eight bits, the same token at 99.5 % or more, and no
//!   gap of 0.05: the model is computed as llama.cpp computes it;
//! - with the file's own weights, agreement as good as llama.cpp's with itself;
//! - with the file's own weights, logits as near to the widened model's as llama.cpp's are (0.0995 to 0.1012 by path).
//!
//! `benches/peers/agreement` repeats every figure.

use std::sync::Arc;

use onebit_kernels::format::Gguf;
use onebit_kernels::format::convert::widen;
use onebit_kernels::kv::{Cache, CacheOptions, KvKind};
use onebit_kernels::model::{LoadOptions, Model, Slice, Want};
use onebit_kernels::threads::Threads;
use onebit_kernels::tokenizer::Tokenizer;

use crate::support::{model_file, root};

/// What the widened model must reach.
const WIDE_AGREEMENT_MIN: f64 = 0.995;
const WIDE_GAP_MAX: f32 = 0.05;
/// What the quantised model must reach: a little below llama.cpp's agreement with itself, which moves with its paths.
const AGREEMENT_MIN: f64 = 0.965;
const GAP_MAX: f32 = 0.5;
/// Root mean square of the logits' distance from the widened model's, over its ten likeliest tokens, means removed:
/// llama.cpp's largest is 0.1012 on twenty of the answers.
const DISTANCE_MAX: f64 = 0.105;
const LIKELIEST: usize = 10;

/// A prompt and llama.cpp's answer to it.
struct Case {
    prompt: Vec<u32>,
    answer: Vec<u32>,
}

/// `benches/peers/parity.py LLAMA_SERVER MODEL`.
fn recorded() -> Vec<Case> {
    let file = std::fs::read_to_string(root().join("tests/fixtures/parity/smollm2.json"))
        .expect("a whole fixture");
    let file: serde_json::Value = serde_json::from_str(&file).expect("a whole fixture");
    let ids = |list: &serde_json::Value| -> Vec<u32> {
        let list = list.as_array().expect("a whole fixture").iter();
        list.map(|id| id.as_u64().expect("a whole fixture") as u32)
            .collect()
    };
    let cases = file["cases"].as_array().expect("a whole fixture").iter();
    cases
        .map(|case| Case {
            prompt: ids(&case["prompt"]),
            answer: ids(&case["tokens"]),
        })
        .collect()
}

/// The same prompts on the widened model: `logits WIDENED PROMPTS OUT greedy=64 fa=off kv=f32`.
fn recorded_wide() -> Vec<Case> {
    let file = root().join("tests/fixtures/parity/smollm2-wide.txt");
    let ids = |s: &str| -> Vec<u32> {
        s.split_whitespace()
            .map(|id| id.parse().expect("a whole fixture"))
            .collect()
    };
    let file = std::fs::read_to_string(file).expect("a whole fixture");
    file.lines()
        .map(|line| {
            let (prompt, answer) = line.split_once('|').expect("a whole fixture");
            Case {
                prompt: ids(prompt),
                answer: ids(answer),
            }
        })
        .collect()
}

/// Logits before each token of the answer. End tokens are out: llama.cpp was told not to choose one.
fn logits(model: &Model, ends: &[u32], case: &Case) -> Vec<Vec<f32>> {
    let tokens = [&case.prompt[..], &case.answer[..case.answer.len() - 1]].concat();
    let options = CacheOptions {
        positions_max: tokens.len(),
        kind: KvKind::F16,
    };
    let mut cache = Cache::new(model.config(), options).expect("room");
    let batch = [Slice {
        sequence: cache.create(),
        tokens: &tokens,
        logits: Want::All,
    }];
    let logits = model
        .forward(&Threads::new(2), &mut cache, &batch)
        .expect("a whole model");
    logits
        .rows()
        .skip(case.prompt.len() - 1)
        .map(|row| {
            let mut row = row.to_vec();
            for &end in ends {
                row[end as usize] = f32::NEG_INFINITY;
            }
            row
        })
        .collect()
}

/// Positions at which the answer's token is the best one, all positions, and the widest gap of a miss.
fn agreement(model: &Model, ends: &[u32], cases: &[Case]) -> (u32, u32, f32) {
    let (mut same, mut all, mut widest) = (0, 0, 0_f32);
    for case in cases {
        for (row, &expected) in logits(model, ends, case).iter().zip(&case.answer) {
            let (best, top) = row
                .iter()
                .enumerate()
                .max_by(|a, b| a.1.total_cmp(b.1))
                .expect("a whole model");
            all += 1;
            if best as u32 == expected {
                same += 1;
            } else {
                widest = widest.max(top - row[expected as usize]);
            }
        }
    }
    (same, all, widest)
}

/// How far two rows are apart over the likeliest tokens of the second, means removed: squares, summed.
fn distance(ours: &[f32], wide: &[f32]) -> f64 {
    let mut likeliest: Vec<usize> = (0..wide.len()).collect();
    likeliest.select_nth_unstable_by(LIKELIEST, |&a, &b| wide[b].total_cmp(&wide[a]));
    let differences: Vec<f64> = likeliest[..LIKELIEST]
        .iter()
        .map(|&i| f64::from(ours[i] - wide[i]))
        .collect();
    let mean = differences.iter().sum::<f64>() / LIKELIEST as f64;
    differences.iter().map(|d| (d - mean).powi(2)).sum()
}

#[test]
#[ignore = "minutes; tests/run --full runs it"]
fn the_next_token_is_llama_cpps() {
    let gguf = Arc::new(Gguf::open(&model_file()).unwrap());
    let ends = Tokenizer::from_gguf(&gguf).unwrap().ends().to_vec();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.gguf");
    widen(
        &gguf,
        std::io::BufWriter::new(std::fs::File::create(&path).unwrap()),
    )
    .unwrap();
    let load = |gguf| Model::load(gguf, &LoadOptions::default()).unwrap();
    let (model, wide) = (load(gguf), load(Arc::new(Gguf::open(&path).unwrap())));
    let cases = recorded();

    let share = |same: u32, all: u32| f64::from(same) / f64::from(all);
    let (wide_same, all, wide_gap) = agreement(&wide, &ends, &recorded_wide());
    println!("widened: {wide_same} of {all} the same, widest gap of a miss {wide_gap:.4}");
    let (same, all_too, gap) = agreement(&model, &ends, &cases);
    println!("as it is: {same} of {all_too} the same, widest gap of a miss {gap:.4}");
    let (mut squares, mut values) = (0.0, 0.0);
    for case in cases.iter().step_by(2) {
        let rows = logits(&model, &ends, case);
        for (ours, wide) in rows.iter().zip(logits(&wide, &ends, case)) {
            squares += distance(ours, &wide);
            values += LIKELIEST as f64;
        }
    }
    let distance = f64::sqrt(squares / values);
    println!("distance from the widened model {distance:.4}");

    assert_eq!((all, all_too), (40 * 64, 40 * 64));
    assert!(
        share(wide_same, all) >= WIDE_AGREEMENT_MIN,
        "{wide_same} of {all}"
    );
    assert!(
        wide_gap < WIDE_GAP_MAX,
        "a miss of the widened model has a gap of {wide_gap}"
    );
    assert!(share(same, all) >= AGREEMENT_MIN, "{same} of {all}");
    assert!(gap < GAP_MAX, "a miss has a gap of {gap}");
    assert!(
        distance < DISTANCE_MAX,
        "logits are {distance} from the widened model's"
    );
}

/// How often the head quantised anew chooses another token than the file's own: eight bits for weights and activations
/// of the widest matrix cost what they do elsewhere, which is why only ternary models have it unasked.
#[test]
#[ignore = "minutes; tests/run --full runs it"]
fn the_two_step_head_mostly_chooses_the_files_token() {
    let gguf = Arc::new(Gguf::open(&model_file()).unwrap());
    let ends = Tokenizer::from_gguf(&gguf).unwrap().ends().to_vec();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.gguf");
    widen(
        &gguf,
        std::io::BufWriter::new(std::fs::File::create(&path).unwrap()),
    )
    .unwrap();
    let wide = Arc::new(Gguf::open(&path).unwrap());
    for (name, gguf, cases) in [
        ("F32 head", wide, recorded_wide()),
        ("Q8_0 head", gguf, recorded()),
    ] {
        let load = |two_step_head| {
            let options = LoadOptions {
                two_step_head,
                ..LoadOptions::default()
            };
            Model::load(Arc::clone(&gguf), &options).unwrap()
        };
        let (plain, two_step) = (load(false), load(true));
        let best = |row: &Vec<f32>| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        let (mut same, mut all, mut widest) = (0, 0, 0_f32);
        for case in &cases {
            let rows = logits(&plain, &ends, case);
            for (own, anew) in rows.iter().zip(logits(&two_step, &ends, case)) {
                let (own_best, anew_best) = (best(own).unwrap(), best(&anew).unwrap());
                all += 1;
                same += usize::from(own_best == anew_best);
                widest = widest.max(own[own_best] - own[anew_best]);
            }
        }
        let share = same as f64 / all as f64;
        println!("{name}: {same} of {all} tokens ({share:.4}), widest gap {widest:.3}");
        assert!(share >= 0.96 && widest < 0.8, "{name}: {share} {widest}");
    }
}
