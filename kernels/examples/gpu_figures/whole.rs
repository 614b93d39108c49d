//! A whole model: tokens a second with the share of the roofline, prefill, and both against the processor.

use super::bench::{Bench, Outcome};
use onebit_kernels::format::Gguf;
use onebit_kernels::gpu::decoder::{Choices, Codes, Decoder, Plan};
use onebit_kernels::gpu::source::Source;
use onebit_kernels::gpu::{Driver, GpuError};
use onebit_kernels::kv::{Cache, CacheOptions, KvKind, SequenceId};
use onebit_kernels::model::{LoadOptions, Logits, Model, Slice, Want};
use onebit_kernels::threads::Threads;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Kept(HashMap<String, Vec<u8>>);

impl Codes for Kept {
    fn code(&mut self, driver: &dyn Driver, source: &Source) -> Result<Vec<u8>, GpuError> {
        match self.0.get(&source.name()) {
            Some(code) => Ok(code.clone()),
            None => driver.compile(source),
        }
    }
}

const PROMPT: usize = 512;
const DECODED: usize = 64;

pub(crate) fn model(mut bench: Bench, file: &Path) -> Outcome<()> {
    let gguf = Arc::new(Gguf::open(file)?);
    let model = Model::load(gguf, &LoadOptions::default())?;
    let plan = Plan::new(&model, KvKind::F16, &Choices::new())?;
    let choices = choose(&mut bench, &plan)?;
    let plan = Plan::new(&model, KvKind::F16, &choices)?;
    bench.compile(plan.ops().iter().map(|op| op.source()).collect())?;
    let ceiling = bench.ceiling;
    let (driver, codes) = bench.codes();
    let options = CacheOptions {
        positions_max: 2048,
        kind: KvKind::F16,
    };
    let (mut decoder, mut cache) =
        Decoder::new(driver, &model, options, &mut Kept(codes), &choices)?;
    let vocabulary = model.config().n_vocab as u32;
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| i * 7919 % vocabulary).collect();

    // The processor's logits of a short prompt and two tokens after it, and the device's.
    let mut host = Cache::new(model.config(), options)?;
    let threads = Threads::new(std::thread::available_parallelism()?.get());
    let (a, b) = (host.create(), cache.create());
    let (mut equal, mut all) = (0, 0);
    for tokens in [&prompt[..12], &prompt[12..13], &prompt[13..14]] {
        let wanted = model.forward(&threads, &mut host, &[slice(a, tokens)])?;
        let found = decoder.forward(&mut cache, &[slice(b, tokens)])?;
        let (wanted, found) = (row(&wanted), row(&found));
        all += wanted.len();
        equal += wanted
            .iter()
            .zip(&found)
            .filter(|(w, f)| w.to_bits() == f.to_bits())
            .count();
    }
    println!("model: {equal} of {all} logits have the processor's bits");

    let mut rates = Vec::new();
    for _ in 0..4 {
        let sequence = cache.create();
        let started = Instant::now();
        decoder.forward_best(&mut cache, &[slice(sequence, &prompt)])?;
        rates.push(PROMPT as f64 / started.elapsed().as_secs_f64());
        cache.remove(sequence);
    }
    rates.sort_by(f64::total_cmp);
    let weights: f64 =
        2.0 * 30.0 * (3840.0 * 2560.0 + 2560.0 * 2560.0 + 13824.0 * 2560.0 + 2560.0 * 6912.0);
    println!(
        "model: prefill {PROMPT}: {:.0} tokens/s = {:.1} TOP/s (layers' products of the 2B shape)",
        rates[2],
        rates[2] * weights / 1e12
    );

    let sequence = cache.create();
    let mut next = decoder.forward_best(&mut cache, &[slice(sequence, &prompt[..16])])?;
    let mut run = |n: usize| -> Outcome<(f64, f64)> {
        let (started, mut device) = (Instant::now(), Duration::ZERO);
        for _ in 0..n {
            let token = next
                .first()
                .copied()
                .flatten()
                .map_or(0, |(token, _)| token);
            next = decoder.forward_best(&mut cache, &[slice(sequence, &[token])])?;
            device += decoder.driver().elapsed().unwrap_or_default();
        }
        Ok((
            started.elapsed().as_secs_f64() / n as f64,
            device.as_secs_f64() / n as f64,
        ))
    };
    run(8)?;
    let (wall, device) = run(DECODED)?;
    let bytes = model.weight_bytes() as f64;
    println!(
        "model: decode {:.0} tokens/s ({:.1} us a token, {:.1} us of them on the device, {} launches), {:.0} MB of weights a token: roofline {:.0} tokens/s, share {:.1} % on the device, {:.1} % in all",
        1.0 / wall,
        wall * 1e6,
        device * 1e6,
        decoder.launches(),
        bytes / 1e6,
        ceiling / bytes,
        100.0 * bytes / ceiling / device,
        100.0 * bytes / ceiling / wall,
    );
    Ok(())
}

fn slice(sequence: SequenceId, tokens: &[u32]) -> Slice<'_> {
    Slice {
        sequence,
        tokens,
        logits: Want::Last,
    }
}

fn row(logits: &Logits) -> Vec<f32> {
    logits.row(0).to_vec()
}

/// The fastest parameters of every shape, as the first run finds them.
fn choose(bench: &mut Bench, plan: &Plan) -> Outcome<Choices> {
    use onebit_kernels::gpu::cache::{BYTES_MAX, Cache as Shelf};
    use onebit_kernels::gpu::first_run::{FirstRun, Progress};
    let folder = std::env::temp_dir().join(format!("gpu-figures-{}", std::process::id()));
    let shelf = Shelf::open(&folder, BYTES_MAX)?;
    let ops = plan.ops();
    let mut counts = [0; 4];
    for round in ["first run", "second start"] {
        let started = Instant::now();
        let mut say = |progress: Progress| match progress {
            Progress::Compiled(_) => counts[0] += 1,
            Progress::Known(_) => counts[1] += 1,
            Progress::Compiling(_) | Progress::Timing(_) => {}
            Progress::Bad(name, why) => {
                counts[2] += 1;
                println!("  bad {name}: {}", why.replace('\n', " "));
            }
            Progress::Chosen {
                shape,
                choice,
                time,
                bytes,
            } => println!(
                "  {shape}: {choice}, {:.1} us, {:.0} GB/s",
                time.as_secs_f64() * 1e6,
                bytes as f64 / time.as_secs_f64() / 1e9
            ),
        };
        let mut run = FirstRun {
            driver: &mut *bench.driver,
            cache: &shelf,
            say: &mut say,
        };
        run.compile(&ops)?;
        let compiled = started.elapsed().as_secs_f64();
        run.tune(&ops, false)?;
        println!(
            "{round}: compiled and checked in {compiled:.1} s, with tuning {:.1} s; compiled, known, bad so far {:?}",
            started.elapsed().as_secs_f64(),
            &counts[..3]
        );
    }
    let choices = shelf.choices(bench.driver.identity());
    std::fs::remove_dir_all(&folder)?;
    Ok(choices)
}
