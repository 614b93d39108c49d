//! Compiles every HIP text of the catalogue with the hipRTC that the dynamic linker finds, for every target, and prints
//! what each kernel needs. Fails when a text does not compile, spills, or uses private memory, and when a product's
//! code has fewer dot products than its steps need. `tests/gpu-compilers` runs it without a GPU.
//!
//! `hip_check [--table | --nvidia]`: with `--table` the rows are those of docs/kernels.md; with `--nvidia` the same texts,
//! and those that only NVIDIA runs, are compiled for `sm_90` with NVRTC.
#![allow(clippy::print_stdout, reason = "an example talks on stdout")]

use hip_sys::Rtc;
use onebit_kernels::gpu::Identity;
use onebit_kernels::gpu::hip::{Resources, TARGETS, compile, compile_nvidia_verbose};
use onebit_kernels::gpu::ops::catalogue;

/// Registers that leave five waves a SIMD: fewer hide too little of the memory's latency.
const VGPRS_MAX: u32 = 256;
/// Shared memory that leaves three workgroups a pair of compute units, which has 128 KB.
const LDS_MAX: u32 = 40 << 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let table = std::env::args().any(|arg| arg == "--table");
    if std::env::args().any(|arg| arg == "--nvidia") {
        return nvidia();
    }
    let rtc = Rtc::load()?;
    let (major, minor) = rtc.version()?;
    let ops = catalogue();
    let kinds: std::collections::BTreeSet<_> = ops.iter().map(|op| op.source().op).collect();
    let (mut compiled, mut faults) = (0, Vec::new());
    if table {
        println!("| kernel | VGPR | SGPR | waves | LDS bytes | code bytes | dot4 |");
        println!("| --- | --- | --- | --- | --- | --- | --- |");
    }
    for target in TARGETS {
        for op in &ops {
            let source = op.source();
            let code = match compile(&rtc, &source, target) {
                Ok(code) => code,
                Err(error) => {
                    faults.push(format!("{target}: {error}"));
                    continue;
                }
            };
            compiled += 1;
            let Some(r) = Resources::of(&code) else {
                faults.push(format!("{target} {}: no metadata", source.name()));
                continue;
            };
            let wanted = if matches!(source.op, "gemv" | "head") {
                8
            } else {
                0
            };
            if r.spills > 0
                || r.scratch_bytes > 0
                || r.vgprs > VGPRS_MAX
                || r.lds_bytes > LDS_MAX
                || r.dots < wanted
            {
                faults.push(format!("{target} {}: {r:?}", source.name()));
            }
            if table && target == TARGETS[0] {
                println!(
                    "| {} | {} | {} | {} | {} | {} | {} |",
                    op.shape(),
                    r.vgprs,
                    r.sgprs,
                    r.waves(),
                    r.lds_bytes,
                    r.code_bytes,
                    r.dots
                );
            }
        }
    }
    println!(
        "hipRTC {major}.{minor}: {} operations, {} parameter sets, {} targets: {compiled} compiled, 0 spills and 0 scratch wanted, {} faults",
        kinds.len(),
        ops.len(),
        TARGETS.len(),
        faults.len()
    );
    if faults.is_empty() {
        Ok(())
    } else {
        faults.truncate(20);
        Err(faults.join("\n").into())
    }
}

/// Every text and every candidate for NVIDIA: each must compile, without spills.
fn nvidia() -> Result<(), Box<dyn std::error::Error>> {
    const TARGET: &str = "sm_90";
    let rtc = Rtc::load_nvrtc()?;
    let (major, minor) = rtc.version()?;
    let identity = Identity {
        backend: "cuda",
        device: TARGET.to_owned(),
        units: 132,
        driver: String::new(),
        compiler: String::new(),
        software: false,
        shared_memory: false,
        memory_bytes: 0,
        binding_bytes_max: u64::MAX,
        fused: true,
    };
    let verbose = std::env::args().any(|arg| arg == "--verbose");
    let (mut compiled, mut faults) = (std::collections::HashSet::new(), Vec::new());
    for op in catalogue() {
        let mut sources = vec![op.source()];
        sources.extend(op.candidates(&identity).iter().map(|op| op.source()));
        for source in sources {
            if !compiled.insert(source.name()) {
                continue;
            }
            match compile_nvidia_verbose(&rtc, &source, TARGET) {
                Ok((_, log)) => {
                    let facts: Vec<&str> = log
                        .lines()
                        .filter(|line| line.contains("spill") || line.contains("registers"))
                        .map(|line| line.trim_start_matches("ptxas info    : ").trim())
                        .collect();
                    if verbose {
                        println!("{}: {}", source.name(), facts.join("; "));
                    }
                    if !log.contains(" 0 bytes spill stores") {
                        faults.push(format!("{}: {}", source.name(), facts.join("; ")));
                    }
                }
                Err(error) => faults.push(error.to_string()),
            }
        }
    }
    println!(
        "NVRTC {major}.{minor}: {} parameter sets for {TARGET}, 0 spills wanted, {} faults",
        compiled.len(),
        faults.len()
    );
    if faults.is_empty() {
        Ok(())
    } else {
        faults.truncate(20);
        Err(faults.join("\n").into())
    }
}
