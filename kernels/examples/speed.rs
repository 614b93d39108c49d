//! The built-in engine's speed on a bare model file, one JSON line a figure: what `benches/ternary` reads.
//!
//! `speed MODEL [threads N] [head rows|two-step] [kv f16|int8] TEST...` where a test is `prefill:TOKENS` or
//! `decode:TOKENS[@DEPTH]`. The read bandwidth beside each figure is measured right before it, over as many bytes
//! and threads. The first line says what loading cost.
#![allow(clippy::print_stdout, reason = "an example talks on stdout")]

use onebit_kernels::bench::{self, Plan};
use onebit_kernels::format::Gguf;
use onebit_kernels::kv::KvKind;
use onebit_kernels::measure;
use onebit_kernels::model::{LoadOptions, Model};
use onebit_kernels::threads::Threads;
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, rest @ ..] = &args[..] else {
        return Err(
            "usage: speed MODEL [threads N] [head rows|two-step] [kv f16|int8] TEST...".into(),
        );
    };
    let (mut threads, mut two_step_head, mut kv, mut tests) = (1, false, KvKind::F16, Vec::new());
    let mut words = rest.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "threads" => threads = words.next().ok_or("how many threads?")?.parse()?,
            "head" => two_step_head = words.next() == Some("two-step"),
            "kv" if words.next() == Some("int8") => kv = KvKind::Int8,
            "kv" => kv = KvKind::F16,
            test => tests.push(Test::parse(test)?),
        }
    }
    let started = Instant::now();
    let gguf = Arc::new(Gguf::open(Path::new(path))?);
    let options = LoadOptions {
        two_step_head,
        ..LoadOptions::default()
    };
    let model = Model::load(Arc::clone(&gguf), &options)?;
    println!(
        "{}",
        json!({
            "what": "load",
            "seconds": started.elapsed().as_secs_f64(),
            "file_bytes": gguf.file_bytes(),
            "weight_bytes": model.weight_bytes(),
            "peak_bytes": peak_bytes(),
        })
    );
    let pool = Threads::new(threads);
    for test in tests {
        // A gigabyte or more is read long enough to be timed once.
        let bytes = usize::try_from(model.weight_bytes())?;
        let plan = Plan {
            clock,
            threads,
            runs: 1,
            bytes,
            timed_bytes: 1 << 30,
        };
        let bandwidth = bench::bandwidth(&plan)? / 1e9;
        let (rate, passes) = match test {
            Test::Prefill(n) => (measure::prefill(&model, &pool, n)?, 1),
            Test::Decode(n, depth) => (measure::decode(&model, &pool, kv, depth, n)?, n),
        };
        println!(
            "{}",
            json!({
                "what": test.name(),
                "threads": threads,
                "tokens_per_s": rate.tokens_per_second(),
                "bytes": rate.bytes / passes as u64,
                "gb_per_s": rate.gigabytes_per_second(),
                "bandwidth_gb_per_s": bandwidth,
            })
        );
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Test {
    Prefill(usize),
    /// Tokens, and positions before them.
    Decode(usize, usize),
}

impl Test {
    fn parse(text: &str) -> Outcome<Test> {
        let unknown = || format!("{text} is not prefill:TOKENS or decode:TOKENS[@DEPTH]");
        let (what, count) = text.split_once(':').ok_or_else(unknown)?;
        let (count, depth) = count.split_once('@').unwrap_or((count, "0"));
        match what {
            "prefill" => Ok(Test::Prefill(count.parse()?)),
            "decode" => Ok(Test::Decode(count.parse()?, depth.parse()?)),
            _ => Err(unknown().into()),
        }
    }

    fn name(self) -> String {
        match self {
            Test::Prefill(n) => format!("prefill {n}"),
            Test::Decode(n, 0) => format!("decode {n}"),
            Test::Decode(n, depth) => format!("decode {n} at {depth}"),
        }
    }
}

/// Seconds since the first call.
fn clock() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

/// The most memory this process has had, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
