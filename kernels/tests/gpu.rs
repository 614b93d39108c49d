//! The model that comes with the program, whole, on the processor in disguise as a Vulkan device: the same tokens as
//! on the processor itself.
#![allow(clippy::print_stderr, reason = "a test says what it measured")]

use onebit_kernels::format::Gguf;
use onebit_kernels::gpu::GpuError;
use onebit_kernels::gpu::decoder::{Choices, Compile, Decoder};
use onebit_kernels::gpu::vulkan::{Choice, Vulkan};
use onebit_kernels::kv::{Cache, CacheOptions, KvKind, SequenceId};
use onebit_kernels::model::{LoadOptions, Model, Slice, Want};
use onebit_kernels::sampler::best;
use onebit_kernels::threads::Threads;
use onebit_kernels::tokenizer::{Encode, Tokenizer};
use std::path::Path;
use std::sync::Arc;

const PROMPTS: [&str; 5] = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea, there lived",
    "Water boils at",
    "Dear Sir or Madam,\nI am writing to ask whether",
    "def fibonacci(n):\n    ",
];

/// Tokens that each prompt is continued by.
const TOKENS: usize = 32;

/// The processor in disguise; where it is not installed, the test that needs it says so.
fn software() -> Option<Vulkan> {
    match Vulkan::open(Choice::Software) {
        Ok(driver) => Some(driver),
        Err(error @ (GpuError::Missing { .. } | GpuError::NoDevice { .. })) => {
            eprintln!("SKIPPED: no model was run on a gpu: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn model() -> (Arc<Gguf>, Model) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/models/onebit-mini.gguf");
    let gguf = Arc::new(Gguf::open(&path).expect("the model is in the repository"));
    let model = Model::load(Arc::clone(&gguf), &LoadOptions::default()).expect("it loads");
    (gguf, model)
}

fn options(kind: KvKind) -> CacheOptions {
    CacheOptions {
        positions_max: 1024,
        kind,
    }
}

fn last(sequence: SequenceId, tokens: &[u32]) -> Slice<'_> {
    Slice {
        sequence,
        tokens,
        logits: Want::Last,
    }
}

/// Greedy continuation on the processor.
fn on_processor(model: &Model, threads: &Threads, cache: &mut Cache, prompt: &[u32]) -> Vec<u32> {
    let sequence = cache.create();
    let (mut out, mut next) = (Vec::new(), prompt.to_vec());
    while out.len() < TOKENS {
        let batch = [last(sequence, &next)];
        let found = model.forward_best(threads, cache, &batch);
        let found = found.expect("the pass fits")[0].expect("a logit is finite");
        next = vec![found.0];
        out.extend(&next);
    }
    cache.remove(sequence);
    out
}

#[test]
fn five_prompts_are_continued_as_on_the_processor() {
    let Some(driver) = software() else { return };
    let (gguf, model) = model();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let threads = Threads::new(2);
    let mut host = Cache::new(model.config(), options(KvKind::F16)).unwrap();
    let (mut decoder, mut cache) = Decoder::new(
        Box::new(driver),
        &model,
        options(KvKind::F16),
        &mut Compile,
        &Choices::new(),
    )
    .unwrap();
    let encode = Encode {
        add_special: true,
        parse_special: false,
    };
    let prompts: Vec<Vec<u32>> = PROMPTS
        .iter()
        .map(|p| tokenizer.encode(p, encode))
        .collect();
    let wanted: Vec<Vec<u32>> = prompts
        .iter()
        .map(|prompt| on_processor(&model, &threads, &mut host, prompt))
        .collect();

    // All five side by side in one batch, the best token found on the device.
    let sequences: Vec<SequenceId> = prompts.iter().map(|_| cache.create()).collect();
    let mut next = prompts.clone();
    let mut found: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
    let started = std::time::Instant::now();
    while found[0].len() < TOKENS {
        let batch: Vec<Slice<'_>> = sequences
            .iter()
            .zip(&next)
            .map(|(s, n)| last(*s, n))
            .collect();
        let tokens = decoder.forward_best(&mut cache, &batch).unwrap();
        next = tokens.iter().map(|t| vec![t.unwrap().0]).collect();
        for (found, next) in found.iter_mut().zip(&next) {
            found.extend(next);
        }
    }
    for ((prompt, found), wanted) in PROMPTS.iter().zip(&found).zip(&wanted) {
        assert_eq!(found, wanted, "{prompt:?}");
    }
    eprintln!(
        "{} prompts of {TOKENS} tokens equal to the processor's, {:.1} s on {}",
        PROMPTS.len(),
        started.elapsed().as_secs_f64(),
        decoder.driver().identity().device
    );

    // One prompt alone, token by token: every logit has the same bits.
    let alone = cache.create();
    let sequence = host.create();
    let mut next = prompts[0].clone();
    for step in 0..4 {
        let a = decoder.forward(&mut cache, &[last(alone, &next)]).unwrap();
        let b = model
            .forward(&threads, &mut host, &[last(sequence, &next)])
            .unwrap();
        let same = a
            .row(0)
            .iter()
            .zip(b.row(0))
            .filter(|(a, b)| a.to_bits() == b.to_bits());
        assert_eq!(same.count(), a.row(0).len(), "logits of step {step}");
        next = vec![best(b.row(0)).unwrap() as u32];
    }
}

#[test]
fn forks_share_pages_and_int8_caches_are_those_of_the_processor() {
    let Some(driver) = software() else { return };
    let (_, model) = model();
    let threads = Threads::new(2);
    let mut host = Cache::new(model.config(), options(KvKind::Int8)).unwrap();
    let (mut decoder, mut cache) = Decoder::new(
        Box::new(driver),
        &model,
        options(KvKind::Int8),
        &mut Compile,
        &Choices::new(),
    )
    .unwrap();
    // A prompt of three passes and two chunks, its logits wanted only at the end.
    let tokens: Vec<u32> = (0..270).map(|i| 300 + i * 37 % 4000).collect();
    let (a, b) = (host.create(), cache.create());
    let wanted = model
        .forward(&threads, &mut host, &[last(a, &tokens)])
        .unwrap();
    let found = decoder.forward(&mut cache, &[last(b, &tokens)]).unwrap();
    assert!(found.row(0) == wanted.row(0), "logits after a long prompt");
    // A fork from the middle of a page goes its own way, and so does its parent.
    let (c, d) = (host.fork(a, 100), cache.fork(b, 100));
    let batch = [7, 8, 9];
    let wanted = model
        .forward(
            &threads,
            &mut host,
            &[last(c, &batch), last(a, &batch[..1])],
        )
        .unwrap();
    let found = decoder
        .forward(&mut cache, &[last(d, &batch), last(b, &batch[..1])])
        .unwrap();
    assert!(found.row(0) == wanted.row(0), "logits of a fork");
    assert!(found.row(1) == wanted.row(1), "logits of its parent");
}
