//! Figures about a ternary student that need no other program, one line each:
//!
//! `figures MODEL held SEQUENCES FILE...` perplexity over sequences of 1024 ids (u16, little endian), positions 2 to
//! 1024 scored, and a hash of all logits: packings of one student print the same hash;
//! `figures MODEL head STEPS` greedy steps of 16 sequences with the two-step head, each compared with the full head;
//! `figures MODEL chats STEPS` decode rate of 1 and of 8 sequences in one batch, and whether each said what it says alone.
#![allow(clippy::print_stdout, reason = "an example talks on stdout")]

use onebit_kernels::format::Gguf;
use onebit_kernels::kv::{Cache, CacheOptions, KvKind, SequenceId};
use onebit_kernels::model::{LoadOptions, Model, Slice, Want};
use onebit_kernels::sampler::{best, log_sum_exp};
use onebit_kernels::threads::Threads;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Ids of a held-out sequence.
const LENGTH: usize = 1024;

/// Tokens whose logits are held at once.
const BATCH: usize = 128;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [path, what, count, files @ ..] = &args[..] else {
        return Err("usage: figures MODEL held|head|chats COUNT [FILE...]".into());
    };
    let options = LoadOptions {
        two_step_head: *what == "head",
        count_proven: *what == "head",
        ..LoadOptions::default()
    };
    let model = Model::load(Arc::new(Gguf::open(Path::new(path))?), &options)?;
    let (threads, count) = (Threads::new(2), count.parse()?);
    match *what {
        "held" => files
            .iter()
            .try_for_each(|file| held(&model, &threads, path, file, count)),
        "head" => head(&model, &threads, count),
        "chats" => chats(&model, &threads, count),
        other => Err(format!("no figure is called {other}").into()),
    }
}

fn cache(model: &Model, positions_max: usize) -> Outcome<Cache> {
    let kind = KvKind::F16;
    let options = CacheOptions {
        positions_max,
        kind,
    };
    Ok(Cache::new(model.config(), options)?)
}

fn held(model: &Model, threads: &Threads, path: &str, file: &str, sequences: usize) -> Outcome<()> {
    let ids: Vec<u32> = std::fs::read(file)?
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u32::from(u16::from_le_bytes(*pair)))
        .collect();
    let mut cache = cache(model, LENGTH)?;
    let (mut loss, mut scored) = (0.0, 0_u32);
    // FNV-1a over the bits of every logit.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for ids in ids.chunks_exact(LENGTH).take(sequences) {
        let sequence = cache.create();
        for (i, tokens) in ids.chunks(BATCH).enumerate() {
            let logits = Want::All;
            let batch = [Slice {
                sequence,
                tokens,
                logits,
            }];
            let out = model.forward(threads, &mut cache, &batch)?;
            for row in out.rows() {
                for value in row {
                    hash = (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3);
                }
            }
            for (row, &next) in out.rows().zip(&ids[i * BATCH + 1..]) {
                let largest = row[best(row).ok_or("no finite logit")?];
                loss += f64::from(log_sum_exp(row, largest) - row[next as usize]);
                scored += 1;
            }
        }
        cache.remove(sequence);
    }
    let perplexity = (loss / f64::from(scored)).exp();
    println!("{path} {file}: perplexity {perplexity:.5} over {scored} tokens, logits {hash:016x}");
    Ok(())
}

/// `n` starts of one token each, spread over the vocabulary.
fn starts(model: &Model, n: usize) -> Vec<u32> {
    let step = model.config().n_vocab / n;
    (0..n).map(|i| (i * step + 100) as u32).collect()
}

/// Greedy continuations of all sequences in one batch, `steps` tokens each.
fn greedy(
    model: &Model,
    threads: &Threads,
    starts: &[u32],
    steps: usize,
) -> Outcome<Vec<Vec<u32>>> {
    let mut cache = cache(model, starts.len() * (steps + 64))?;
    let ids: Vec<SequenceId> = starts.iter().map(|_| cache.create()).collect();
    let mut said: Vec<Vec<u32>> = starts.iter().map(|&t| vec![t]).collect();
    for step in 0..steps {
        let batch: Vec<Slice<'_>> = ids
            .iter()
            .zip(&said)
            .map(|(&sequence, said)| Slice {
                sequence,
                tokens: &said[step..],
                logits: Want::Last,
            })
            .collect();
        let next = model.forward_best(threads, &mut cache, &batch)?;
        for (said, next) in said.iter_mut().zip(next) {
            said.push(next.ok_or("no finite logit")?.0);
        }
    }
    Ok(said)
}

fn head(model: &Model, threads: &Threads, steps: usize) -> Outcome<()> {
    let starts = starts(model, 16);
    let steps = steps.div_ceil(starts.len());
    let said = greedy(model, threads, &starts, steps)?;
    let scans = model.head_scans();
    let (mut cache, mut differing) = (cache(model, steps)?, 0);
    for said in &said {
        let sequence = cache.create();
        for (i, tokens) in said[..steps].chunks(BATCH).enumerate() {
            let logits = Want::All;
            let batch = [Slice {
                sequence,
                tokens,
                logits,
            }];
            let out = model.forward(threads, &mut cache, &batch)?;
            for (row, &next) in out.rows().zip(&said[i * BATCH + 1..]) {
                differing += usize::from(best(row) != Some(next as usize));
            }
        }
        cache.remove(sequence);
    }
    let share =
        |rows: u64| 100.0 * rows as f64 / scans.tokens as f64 / model.config().n_vocab as f64;
    println!(
        "a proven bound: {:.3} % of the rows kept on average, few enough for {} of {} steps",
        share(scans.proven_rows),
        scans.tokens - scans.proven_full,
        scans.tokens
    );
    println!(
        "two-step head: {differing} of {} greedy steps differ from the full head; {:.3} % of {} rows kept on average, \
         {} steps took the full scan",
        steps * starts.len(),
        share(scans.rows),
        model.config().n_vocab,
        scans.full,
    );
    Ok(())
}

fn chats(model: &Model, threads: &Threads, steps: usize) -> Outcome<()> {
    let starts = starts(model, 8);
    let mut alone = Vec::new();
    let started = Instant::now();
    for start in &starts {
        alone.extend(greedy(model, threads, std::slice::from_ref(start), steps)?);
    }
    let one = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let together = greedy(model, threads, &starts, steps)?;
    let eight = started.elapsed().as_secs_f64();
    let tokens = (starts.len() * steps) as f64;
    println!(
        "1 chat {:.1} tok/s, 8 chats {:.1} tok/s ({:.2} times), outputs equal: {}",
        tokens / one,
        tokens / eight,
        one / eight,
        alone == together
    );
    Ok(())
}
