//! Greedy continuation of token ids: `greedy MODEL THREADS COUNT ID...` prints the ids and the speed.
#![allow(clippy::print_stdout, reason = "an example talks on stdout")]

use onebit_kernels::format::Gguf;
use onebit_kernels::kv::{Cache, CacheOptions, KvKind};
use onebit_kernels::model::{LoadOptions, Model, Slice, Want};
use onebit_kernels::threads::Threads;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, threads, count, ids @ ..] = &args[..] else {
        return Err("usage: greedy MODEL THREADS COUNT ID...".into());
    };
    let started = Instant::now();
    let model = Model::load(
        Arc::new(Gguf::open(Path::new(model))?),
        &LoadOptions::default(),
    )?;
    println!(
        "loaded {} MB in {:.2} s",
        model.weight_bytes() / 1_000_000,
        started.elapsed().as_secs_f64()
    );
    let threads = Threads::new(threads.parse()?);
    let mut tokens = ids
        .iter()
        .map(|id| id.parse())
        .collect::<Result<Vec<u32>, _>>()?;
    let mut cache = Cache::new(
        model.config(),
        CacheOptions {
            positions_max: 4096,
            kind: KvKind::F16,
        },
    )?;
    let sequence = cache.create();
    let mut fresh = 0;
    let started = Instant::now();
    for _ in 0..count.parse::<usize>()? {
        let logits = model.forward(
            &threads,
            &mut cache,
            &[Slice {
                sequence,
                tokens: &tokens[fresh..],
                logits: Want::Last,
            }],
        )?;
        fresh = tokens.len();
        let best = logits
            .row(0)
            .iter()
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(b.1))
            .map_or(0, |(i, _)| i);
        tokens.push(best as u32);
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{tokens:?}\n{:.1} tokens/s",
        (tokens.len() - ids.len()) as f64 / seconds
    );
    Ok(())
}
