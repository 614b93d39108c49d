//! What a GPU's kernels reach of what its memory gives, each figure checked bit by bit in the run that is timed: the read
//! ceiling, products, chains of a model's products, attention with split keys and values, and a model's tokens.
//!
//! `gpu_figures cuda|hip|vulkan|software [model FILE] [only WORD,WORD] [seconds N]` where words are `ops`, `read`, `giant`,
//! `chain`, `chain16`, `attend`, `model`; after N seconds no further candidates are tried.
#![allow(clippy::print_stdout, reason = "an example talks on stdout")]

#[path = "gpu_figures/attention.rs"]
mod attention;
#[path = "gpu_figures/bench.rs"]
mod bench;
#[path = "gpu_figures/products.rs"]
mod products;
#[path = "gpu_figures/whole.rs"]
mod whole;

use bench::{Bench, Outcome};
use hip_sys::Vendor;
use onebit_kernels::gpu::ops::catalogue;
use onebit_kernels::gpu::stream::StreamDriver;
use onebit_kernels::gpu::vulkan::{Choice, Vulkan};
use std::time::Instant;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = args.iter().position(|a| a == name);
        at.and_then(|i| args.get(i + 1)).cloned()
    };
    let only = option("only").unwrap_or_default();
    let wanted = |word: &str| only.is_empty() || only.split(',').any(|w| w == word);
    let seconds: f64 = option("seconds").map_or(Ok(600.0), |s| s.parse())?;
    let mut bench = match args.first().map(String::as_str) {
        Some("cuda") => Bench::new(Box::new(StreamDriver::open(Vendor::Nvidia)?), seconds),
        Some("hip") => Bench::new(Box::new(StreamDriver::open(Vendor::Amd)?), seconds),
        Some("vulkan") => Bench::new(Box::new(Vulkan::open(Choice::Gpu)?), seconds),
        Some("software") => Bench::new(Box::new(Vulkan::open(Choice::Software)?), seconds),
        _ => return Err("usage: gpu_figures cuda|hip|vulkan|software [model FILE] ..".into()),
    };
    println!("{:?}", bench.driver.identity());
    if wanted("ops") {
        operations(&mut bench)?;
    }
    if wanted("read") {
        bench.ceiling()?;
    }
    if wanted("giant") {
        products::giant(&mut bench)?;
    }
    for (word, times) in [("chain", 1), ("chain16", 16)] {
        if wanted(word) {
            products::chain(&mut bench, times)?;
        }
    }
    if wanted("attend") {
        attention::split(&mut bench)?;
    }
    if let (true, Some(file)) = (wanted("model"), option("model")) {
        whole::model(bench, file.as_ref())?;
    }
    Ok(())
}

/// Every operation of the catalogue against its definition.
fn operations(bench: &mut Bench) -> Outcome<()> {
    let started = Instant::now();
    let ops = catalogue();
    bench.compile(ops.iter().map(|op| op.source()).collect())?;
    let compiled = started.elapsed().as_secs_f64();
    let mut wrong = 0;
    for op in &ops {
        let name = op.source().name();
        let kernel = bench.kernel(&op.source())?;
        for seed in 0..2 {
            if let Err(error) = op.case(seed).check(&mut *bench.driver, &name, kernel, true) {
                println!("  NOT EXACT: {}", error.to_string().replace('\n', " "));
                wrong += 1;
                break;
            }
        }
    }
    println!(
        "operations: {} compiled in {compiled:.1} s, {} of them bit-exact, {:.1} s in all",
        ops.len(),
        ops.len() - wrong,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}
