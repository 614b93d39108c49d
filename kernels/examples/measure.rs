//! The built-in engine on a bare model file:
//!
//! `measure MODEL ppl FILE [CHUNK]` prints the perplexity of a text as llama-perplexity counts it;
//! `measure MODEL agree FILE [blocks]` reads lines `PROMPT_IDS|CONTINUATION_IDS` and prints how often our best token is the
//! continuation's (end tokens are no candidates: the continuation was not allowed them), and each miss's logit gap; with
//! `blocks`, ternary weights meet activations as in llama.cpp;
//! `measure MODEL logits FILE OUT [blocks]` writes the logits before each token of such continuations, rows of f32;
//! `measure MODEL widen OUT` writes the model with every weight in f32;
//! `measure MODEL say THREADS COUNT TEXT` continues a text greedily.
#![allow(clippy::print_stdout, reason = "an example talks on stdout")]

use onebit_kernels::format::Gguf;
use onebit_kernels::kv::{Cache, CacheOptions, KvKind};
use onebit_kernels::measure;
use onebit_kernels::model::{LoadOptions, Model, Slice, TernaryActivations, Want};
use onebit_kernels::sampler::best;
use onebit_kernels::threads::Threads;
use onebit_kernels::tokenizer::{Encode, Tokenizer};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [path, what, rest @ ..] = &args[..] else {
        return Err("usage: measure MODEL ppl|agree|logits|widen|say ...".into());
    };
    let started = Instant::now();
    let gguf = Arc::new(Gguf::open(Path::new(path))?);
    let ternary = match rest.last() {
        Some(&"blocks") => TernaryActivations::Blocks,
        _ => TernaryActivations::Rows,
    };
    let options = LoadOptions {
        ternary,
        ..LoadOptions::default()
    };
    let model = Model::load(Arc::clone(&gguf), &options)?;
    println!(
        "loaded {:.1} MB in {:.2} s",
        model.weight_bytes() as f64 / 1e6,
        started.elapsed().as_secs_f64()
    );
    match (*what, rest) {
        ("ppl", [file, chunk @ ..]) => perplexity(
            &model,
            &gguf,
            file,
            chunk.first().map_or(Ok(512), |c| c.parse())?,
        ),
        ("agree", [file] | [file, "blocks"]) => agree(&model, &gguf, file),
        ("logits", [file, out] | [file, out, "blocks"]) => logits(&model, file, out),
        ("widen", [out]) => {
            let out = std::io::BufWriter::new(std::fs::File::create(out)?);
            Ok(onebit_kernels::format::convert::widen(&gguf, out)?)
        }
        ("say", [threads, count, text]) => {
            say(&model, &gguf, threads.parse()?, count.parse()?, text)
        }
        _ => Err("usage: measure MODEL ppl|agree|logits|widen|say ...".into()),
    }
}

fn perplexity(model: &Model, gguf: &Gguf, file: &str, chunk: usize) -> Outcome {
    let tokenizer = Tokenizer::from_gguf(gguf)?;
    let tokens = tokenizer.encode(
        &std::fs::read_to_string(file)?,
        Encode {
            add_special: true,
            parse_special: false,
        },
    );
    let bos = if tokenizer.adds_bos() {
        tokenizer.bos()
    } else {
        None
    };
    let threads = Threads::new(2);
    let outcome = measure::perplexity(
        model,
        &threads,
        &tokens,
        chunk,
        bos,
        &mut |done, all, so_far| {
            println!("{done}/{all} {so_far:.4}");
        },
    )?;
    println!(
        "perplexity {:.4} +/- {:.4} on {} tokens",
        outcome.value, outcome.error, outcome.tokens
    );
    Ok(())
}

fn agree(model: &Model, gguf: &Gguf, file: &str) -> Outcome {
    let (threads, tokenizer) = (Threads::new(2), Tokenizer::from_gguf(gguf)?);
    let (mut positions, mut misses) = (0, Vec::new());
    for (i, line) in std::fs::read_to_string(file)?.lines().enumerate() {
        let Some((prompt, answer)) = line.split_once('|') else {
            return Err("expected PROMPT_IDS|ANSWER_IDS".into());
        };
        let ids = |s: &str| {
            s.split_whitespace()
                .map(str::parse)
                .collect::<Result<Vec<u32>, _>>()
        };
        let (mut tokens, answer) = (ids(prompt)?, ids(answer)?);
        let start = tokens.len();
        tokens.extend(&answer);
        let mut cache = Cache::new(
            model.config(),
            CacheOptions {
                positions_max: tokens.len(),
                kind: KvKind::F16,
            },
        )?;
        let sequence = cache.create();
        let logits = model.forward(
            &threads,
            &mut cache,
            &[Slice {
                sequence,
                tokens: &tokens,
                logits: Want::All,
            }],
        )?;
        for (j, &wanted) in answer.iter().enumerate() {
            let mut row = logits.row(start + j - 1).to_vec();
            for &end in tokenizer.ends() {
                row[end as usize] = f32::NEG_INFINITY;
            }
            positions += 1;
            let ours = best(&row).ok_or("no finite logit")?;
            if ours as u32 != wanted {
                misses.push((i, j, row[ours] - row[wanted as usize]));
            }
        }
    }
    println!(
        "{} of {positions} agree ({:.3} %)",
        positions - misses.len(),
        100.0 - 100.0 * misses.len() as f64 / f64::from(positions as u32)
    );
    for (prompt, position, gap) in misses {
        println!("prompt {prompt} position {position}: gap {gap:.4}");
    }
    Ok(())
}

fn logits(model: &Model, file: &str, out: &str) -> Outcome {
    use std::io::Write;
    let threads = Threads::new(2);
    let mut out = std::io::BufWriter::new(std::fs::File::create(out)?);
    for line in std::fs::read_to_string(file)?.lines() {
        let (prompt, answer) = line
            .split_once('|')
            .ok_or("expected PROMPT_IDS|ANSWER_IDS")?;
        let ids = |s: &str| {
            s.split_whitespace()
                .map(str::parse)
                .collect::<Result<Vec<u32>, _>>()
        };
        let (mut tokens, answer) = (ids(prompt)?, ids(answer)?);
        let start = tokens.len();
        tokens.extend(&answer[..answer.len() - 1]);
        let mut cache = Cache::new(
            model.config(),
            CacheOptions {
                positions_max: tokens.len(),
                kind: KvKind::F16,
            },
        )?;
        let sequence = cache.create();
        let slice = Slice {
            sequence,
            tokens: &tokens,
            logits: Want::All,
        };
        let logits = model.forward(&threads, &mut cache, &[slice])?;
        for row in logits.rows().skip(start - 1) {
            for value in row {
                out.write_all(&value.to_le_bytes())?;
            }
        }
    }
    Ok(())
}

fn say(model: &Model, gguf: &Gguf, threads: usize, count: usize, text: &str) -> Outcome {
    let tokenizer = Tokenizer::from_gguf(gguf)?;
    let mut tokens = tokenizer.encode(
        text,
        Encode {
            add_special: true,
            parse_special: true,
        },
    );
    let (threads, mut fresh) = (Threads::new(threads), 0);
    let mut cache = Cache::new(
        model.config(),
        CacheOptions {
            positions_max: tokens.len() + count,
            kind: KvKind::F16,
        },
    )?;
    let sequence = cache.create();
    for _ in 0..count {
        let slice = Slice {
            sequence,
            tokens: &tokens[fresh..],
            logits: Want::Last,
        };
        let logits = model.forward(&threads, &mut cache, &[slice])?;
        fresh = tokens.len();
        let next = best(logits.row(0)).ok_or("no finite logit")? as u32;
        if tokenizer.is_end(next) {
            break;
        }
        tokens.push(next);
    }
    println!("{}", tokenizer.decode(&tokens));
    Ok(())
}
