//! Whole forward passes on small random models: nothing about batching, threads, instruction sets or page sharing
//! may show in the results.

use super::*;
use crate::cpu::dense::check::Noise;
use crate::format::gguf::{GgufBuilder, Value};
use crate::format::ternary::Packing;
use crate::format::{TensorKind, row};
use crate::kv::{CacheOptions, KvKind};

const EMBD: usize = 256;
const FF: usize = 512;
const VOCAB: usize = 96;
const HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
const HEAD_DIM: u64 = 64;

/// A random model of two blocks; its big matrices are of one type.
fn model_file(architecture: &str, kind: TensorKind) -> Gguf {
    let mut builder = GgufBuilder::new();
    builder.value(
        "general.architecture",
        Value::String(architecture.to_owned()),
    );
    let numbers = [
        ("block_count", 2),
        ("embedding_length", EMBD as u32),
        ("feed_forward_length", FF as u32),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
        ("context_length", 2048),
    ];
    for (key, number) in numbers {
        builder.value(&format!("{architecture}.{key}"), Value::U32(number));
    }
    builder.value(
        &format!("{architecture}.attention.layer_norm_rms_epsilon"),
        Value::F32(1e-5),
    );
    let mut noise = Noise(11);
    let mut data: Vec<Vec<u8>> = Vec::new();
    let (embd, ff, kv) = (EMBD as u64, FF as u64, u64::from(KV_HEADS) * HEAD_DIM);
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), vec![embd, VOCAB as u64]),
        ("output_norm.weight".to_owned(), vec![embd]),
    ];
    for i in 0..2 {
        let mut add = |name: &str, dims: &[u64]| {
            tensors.push((format!("blk.{i}.{name}.weight"), dims.to_vec()))
        };
        add("attn_norm", &[embd]);
        add("attn_q", &[embd, embd]);
        add("attn_k", &[embd, kv]);
        add("attn_v", &[embd, kv]);
        add("attn_output", &[embd, embd]);
        add("ffn_norm", &[embd]);
        add("ffn_gate", &[embd, ff]);
        add("ffn_up", &[embd, ff]);
        add("ffn_down", &[ff, embd]);
        if architecture == "qwen3" {
            add("attn_q_norm", &[HEAD_DIM]);
            add("attn_k_norm", &[HEAD_DIM]);
        }
        if architecture.starts_with("bitnet") {
            add("attn_sub_norm", &[embd]);
            add("ffn_sub_norm", &[ff]);
        }
    }
    for (name, dims) in &tensors {
        let mut bytes = Vec::new();
        let tensor_kind = match dims.len() {
            1 => TensorKind::F32,
            _ if name == "token_embd.weight" => TensorKind::Q8_0,
            _ => kind,
        };
        for _ in 0..dims.iter().skip(1).product::<u64>() {
            let columns = dims[0] as usize;
            if tensor_kind == TensorKind::Tq2_0 {
                let trits: Vec<i8> = (0..columns).map(|_| (noise.next() % 3) as i8 - 1).collect();
                Packing::Tq2_0
                    .encode(&trits, &vec![0.0625; columns / 256], &mut bytes)
                    .unwrap();
            } else {
                let one = if dims.len() == 1 { 1.0 } else { 0.0 };
                let values: Vec<f32> = (0..columns).map(|_| one + noise.float() * 0.1).collect();
                row::encode(tensor_kind, &values, &mut bytes).unwrap();
            }
        }
        builder.tensor(name, dims, tensor_kind).unwrap();
        data.push(bytes);
    }
    let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    Gguf::from_bytes(builder.to_bytes(&slices).unwrap()).unwrap()
}

/// A model for tests elsewhere in the crate.
pub(crate) fn tiny() -> Model {
    load(CASES[0], &LoadOptions::default())
}

const CASES: [(&str, TensorKind); 5] = [
    ("llama", TensorKind::Q4_1),
    ("llama", TensorKind::Q6K),
    ("qwen3", TensorKind::Q8_0),
    ("bitnet", TensorKind::Tq2_0),
    ("bitnet-b1.58", TensorKind::Tq2_0),
];

fn load(case: (&str, TensorKind), options: &LoadOptions) -> Model {
    Model::load(Arc::new(model_file(case.0, case.1)), options).unwrap()
}

fn cache(model: &Model, kind: KvKind) -> Cache {
    Cache::new(
        model.config(),
        CacheOptions {
            positions_max: 2048,
            kind,
        },
    )
    .unwrap()
}

fn tokens(seed: u64, n: usize) -> Vec<u32> {
    let mut noise = Noise(seed);
    (0..n)
        .map(|_| (noise.next() % VOCAB as u64) as u32)
        .collect()
}

fn bits(logits: &Logits) -> Vec<u32> {
    logits.rows().flatten().map(|v| v.to_bits()).collect()
}

/// Logits of every position, all tokens in one pass.
fn at_once(model: &Model, threads: &Threads, kind: KvKind, text: &[u32]) -> Vec<u32> {
    let mut cache = cache(model, kind);
    let sequence = cache.create();
    bits(
        &model
            .forward(
                threads,
                &mut cache,
                &[Slice {
                    sequence,
                    tokens: text,
                    logits: Want::All,
                }],
            )
            .unwrap(),
    )
}

#[test]
fn prefill_and_decode_agree_bit_for_bit() {
    for case in CASES {
        let model = load(case, &LoadOptions::default());
        for kind in [KvKind::F16, KvKind::Int8] {
            // Longer than a chunk of attention, so that decode splits it and prefill does not.
            let text = tokens(1, 300);
            let whole = at_once(&model, &Threads::new(1), kind, &text);
            assert!(whole.iter().all(|v| f32::from_bits(*v).is_finite()));
            let threads = Threads::new(2);
            let mut cache = cache(&model, kind);
            let sequence = cache.create();
            let mut piecewise = Vec::new();
            let mut rest = &text[..];
            for n in [1, 2, 7, 9, 60, 200]
                .into_iter()
                .chain(std::iter::repeat(1))
            {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(n);
                let slice = Slice {
                    sequence,
                    tokens: now,
                    logits: Want::All,
                };
                piecewise.extend(bits(
                    &model.forward(&threads, &mut cache, &[slice]).unwrap(),
                ));
                rest = later;
            }
            assert!(piecewise == whole, "{case:?} {kind:?}");
        }
    }
}

#[test]
fn two_bits_and_base_three_agree_bit_for_bit() {
    for case in &CASES[3..] {
        let run = |layout| {
            let options = LoadOptions {
                layout: Some(layout),
                ..LoadOptions::default()
            };
            let model = load(*case, &options);
            at_once(&model, &Threads::new(2), KvKind::F16, &tokens(6, 40))
        };
        assert!(run(Layout::P2) == run(Layout::B5), "{}", case.0);
    }
}

#[test]
fn sequences_in_one_batch_do_not_see_each_other() {
    for case in CASES {
        let model = load(case, &LoadOptions::default());
        let threads = Threads::new(2);
        let texts: Vec<Vec<u32>> = (0..8).map(|i| tokens(i, 3 + 11 * i as usize)).collect();
        let alone: Vec<Vec<u32>> = texts
            .iter()
            .map(|t| at_once(&model, &threads, KvKind::F16, t))
            .collect();
        let mut cache = cache(&model, KvKind::F16);
        let ids: Vec<SequenceId> = texts.iter().map(|_| cache.create()).collect();
        let batch: Vec<Slice<'_>> = ids
            .iter()
            .zip(&texts)
            .map(|(&sequence, tokens)| Slice {
                sequence,
                tokens,
                logits: Want::All,
            })
            .collect();
        let together = bits(&model.forward(&threads, &mut cache, &batch).unwrap());
        assert!(together == alone.concat(), "{case:?}");
    }
}

#[test]
fn all_instruction_sets_agree_bit_for_bit() {
    for case in CASES {
        let text = tokens(5, 40);
        let run = |isa| {
            at_once(
                &load(
                    case,
                    &LoadOptions {
                        isa: Some(isa),
                        ..LoadOptions::default()
                    },
                ),
                &Threads::new(2),
                KvKind::F16,
                &text,
            )
        };
        let scalar = run(Isa::Scalar);
        for isa in [Isa::Avx2, Isa::Avx512] {
            assert!(run(isa) == scalar, "{case:?} {}", isa.name());
        }
    }
}

#[test]
fn forks_continue_like_their_parent() {
    let model = load(CASES[0], &LoadOptions::default());
    let threads = Threads::new(1);
    let text = tokens(9, 80);
    let whole = at_once(&model, &threads, KvKind::F16, &text);
    let mut cache = cache(&model, KvKind::F16);
    let parent = cache.create();
    let run = |cache: &mut Cache, sequence, tokens| {
        bits(
            &model
                .forward(
                    &threads,
                    cache,
                    &[Slice {
                        sequence,
                        tokens,
                        logits: Want::All,
                    }],
                )
                .unwrap(),
        )
    };
    run(&mut cache, parent, &text[..70]);
    let fork = cache.fork(parent, 40);
    // Both write into the page that they share.
    run(&mut cache, parent, &[1, 2, 3]);
    assert!(run(&mut cache, fork, &text[40..]) == whole[40 * VOCAB..]);
}

#[test]
fn block_activations_are_close_to_row_activations() {
    let case = ("bitnet", TensorKind::Tq2_0);
    let text = tokens(5, 20);
    let options = LoadOptions {
        ternary: TernaryActivations::Blocks,
        ..LoadOptions::default()
    };
    let rows = at_once(
        &load(case, &LoadOptions::default()),
        &Threads::new(1),
        KvKind::F16,
        &text,
    );
    let blocks = at_once(&load(case, &options), &Threads::new(1), KvKind::F16, &text);
    let size = rows
        .iter()
        .fold(0.0_f32, |a, v| a.max(f32::from_bits(*v).abs()));
    let error = rows.iter().zip(&blocks).fold(0.0_f32, |a, (x, y)| {
        a.max((f32::from_bits(*x) - f32::from_bits(*y)).abs())
    });
    // Both round activations to 7 bits, at different scales: a few per cent after two blocks.
    assert!(error > 0.0 && error < 0.1 * size, "{error} of {size}");
}

#[test]
fn bad_batches_and_files_are_refused() {
    let model = load(CASES[0], &LoadOptions::default());
    let threads = Threads::new(1);
    let mut cache = cache(&model, KvKind::F16);
    let sequence = cache.create();
    let mut run = |batch: &[Slice<'_>]| model.forward(&threads, &mut cache, batch).err();
    let slice = |tokens| Slice {
        sequence,
        tokens,
        logits: Want::Last,
    };
    assert!(matches!(run(&[slice(&[])]), Some(ForwardError::Empty)));
    assert!(matches!(
        run(&[slice(&[96])]),
        Some(ForwardError::Token { token: 96, .. })
    ));
    assert!(matches!(
        run(&[slice(&[1]), slice(&[2])]),
        Some(ForwardError::Twice)
    ));
    assert!(matches!(
        run(&[slice(&[1; 2049])]),
        Some(ForwardError::Cache(CacheError::Full { .. }))
    ));
    assert!(run(&[slice(&[1])]).is_none());

    let refused = |file: Gguf| match Model::load(Arc::new(file), &LoadOptions::default()) {
        Ok(_) => panic!("loaded"),
        Err(error) => error.to_string(),
    };
    assert!(
        refused(model_file("mamba", TensorKind::Q8_0))
            .starts_with("architecture \"mamba\" is not one")
    );
    let mut builder = GgufBuilder::new();
    builder.value("general.architecture", Value::String("llama".to_owned()));
    let empty = Gguf::from_bytes(builder.to_bytes(&[]).unwrap()).unwrap();
    assert!(refused(empty).contains("llama.embedding_length"));
    // qwen3's head norms in a file that says llama.
    let refusal = refused(renamed(&model_file("qwen3", TensorKind::Q8_0)));
    assert!(
        refusal.contains("attn_k_norm.weight") || refusal.contains("attn_q_norm.weight"),
        "{refusal}"
    );
}

/// Rebuilds a file under the name llama.
fn renamed(file: &Gguf) -> Gguf {
    let mut builder = GgufBuilder::new();
    for key in file.keys() {
        if let Some(value) = file.value(key) {
            builder.value(&key.replace("qwen3", "llama"), value.clone());
        }
    }
    builder.value("general.architecture", Value::String("llama".to_owned()));
    let mut data = Vec::new();
    for info in file.tensors() {
        builder.tensor(&info.name, &info.dims, info.kind).unwrap();
        data.push(file.tensor(&info.name).unwrap().data);
    }
    Gguf::from_bytes(builder.to_bytes(&data).unwrap()).unwrap()
}

#[test]
fn the_two_step_head_takes_the_best_of_its_own_rows() {
    let model = load(
        CASES[3],
        &LoadOptions {
            two_step_head: true,
            ..LoadOptions::default()
        },
    );
    let threads = Threads::new(2);
    let text = tokens(4, 60);
    let mut cache = cache(&model, KvKind::F16);
    let (a, b) = (cache.create(), cache.create());
    let slice = |sequence| {
        [Slice {
            sequence,
            tokens: &text,
            logits: Want::All,
        }]
    };
    let full = model.forward(&threads, &mut cache, &slice(a)).unwrap();
    let found = model.forward_best(&threads, &mut cache, &slice(b)).unwrap();
    let wanted: Vec<_> = full
        .rows()
        .map(|r| crate::sampler::best(r).map(|i| (i as u32, r[i])))
        .collect();
    assert_eq!(found, wanted);
    // The file's own head differs by the rounding of its rows alone.
    let plain = load(CASES[3], &LoadOptions::default());
    let own = at_once(&plain, &threads, KvKind::F16, &text);
    let size = own
        .iter()
        .fold(0.0_f32, |a, v| a.max(f32::from_bits(*v).abs()));
    let error = own
        .iter()
        .zip(full.rows().flatten())
        .fold(0.0_f32, |a, (x, y)| a.max((f32::from_bits(*x) - y).abs()));
    assert!(error < 0.03 * size, "{error} of {size}");
}

#[test]
fn rotated_models_equal_their_unrotated_twins() {
    let file = model_file("bitnet", TensorKind::F32);
    let twin = rotated(&file);
    let run = |file| {
        let model = Model::load(Arc::new(file), &LoadOptions::default()).unwrap();
        at_once(&model, &Threads::new(1), KvKind::F16, &tokens(2, 30))
    };
    let (plain, turned) = (run(file), run(twin));
    let size = plain
        .iter()
        .fold(0.0_f32, |a, v| a.max(f32::from_bits(*v).abs()));
    for (a, b) in plain.iter().zip(&turned) {
        // f32 rounding, then f16 rounding of keys and values.
        assert!((f32::from_bits(*a) - f32::from_bits(*b)).abs() < 2e-3 * size);
    }
}

/// The same model with `W·Hᵀ` for every block matrix, and the flag.
fn rotated(file: &Gguf) -> Gguf {
    let mut builder = GgufBuilder::new();
    for key in file.keys() {
        if let Some(value) = file.value(key) {
            builder.value(key, value.clone());
        }
    }
    builder.value("onebit.hadamard", Value::U32(128));
    let mut data: Vec<Vec<u8>> = Vec::new();
    for info in file.tensors() {
        builder.tensor(&info.name, &info.dims, info.kind).unwrap();
        let mut bytes = file.tensor(&info.name).unwrap().data.to_vec();
        if info.dims.len() == 2 && info.name.starts_with("blk.") {
            let mut values: Vec<f32> = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect();
            crate::cpu::hadamard::variants()[0].1(&mut values, 128);
            bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        }
        data.push(bytes);
    }
    let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    Gguf::from_bytes(builder.to_bytes(&slices).unwrap()).unwrap()
}
