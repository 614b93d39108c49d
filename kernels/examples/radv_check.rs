//! Compiles every WGSL text of the catalogue with a GPU's own Vulkan driver and holds registers, spills and waves against
//! a committed baseline. RADV does so without a GPU where RADV_FORCE_FAMILY names a family; `tests/radv` runs it.
//!
//! `radv_check BASELINE [--write]`: fails when a kernel spills, uses private memory, or takes more vector registers or
//! leaves fewer waves than the baseline allows. The numbers are a Mesa release's; under another only spills count.
#![allow(clippy::print_stdout, reason = "an example talks on stdout")]

use onebit_kernels::gpu::ops::catalogue;
use onebit_kernels::gpu::vulkan::inspect::Inspector;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The columns of the baseline, by RADV's names.
const COLUMNS: [&str; 7] = [
    "VGPRs",
    "SGPRs",
    "Spilled VGPRs",
    "Spilled SGPRs",
    "Scratch size",
    "LDS size",
    "Subgroups per SIMD",
];
const HEAD: &str = "kernel\tVGPRs\tSGPRs\tspilled VGPRs\tspilled SGPRs\tscratch\tLDS\twaves";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name the baseline's file")?;
    let write = std::env::args().any(|arg| arg == "--write");
    let inspector = Inspector::open()?;
    let identity = inspector.identity();
    let release = identity.driver.split(" (").next().unwrap_or_default();
    let driver = format!("{}, {release}", identity.device);
    let (mut rows, mut faults) = (BTreeMap::new(), Vec::new());
    for op in catalogue() {
        let source = op.source();
        let told: BTreeMap<String, u64> = match inspector.statistics(&source) {
            Ok(told) => told.into_iter().collect(),
            Err(error) => {
                faults.push(format!("{}: {error}", source.name()));
                continue;
            }
        };
        let row: Vec<u64> = COLUMNS
            .iter()
            .map(|name| {
                told.get(*name)
                    .copied()
                    .ok_or_else(|| format!("the driver tells no {name}, only {told:?}"))
            })
            .collect::<Result<_, _>>()?;
        if row[2..5].iter().any(|n| *n > 0) {
            faults.push(format!("{}: spills: {row:?}", source.name()));
        }
        rows.insert(source.name(), row);
    }
    if write {
        let mut text = format!("# {driver}\n{HEAD}\n");
        for (name, row) in &rows {
            let numbers: Vec<String> = row.iter().map(u64::to_string).collect();
            writeln!(text, "{name}\t{}", numbers.join("\t"))?;
        }
        std::fs::write(&path, text)?;
    }
    let baseline = std::fs::read_to_string(&path)?;
    let same = baseline.lines().next() == Some(&format!("# {driver}"));
    if same {
        let known: BTreeMap<&str, Vec<u64>> = baseline
            .lines()
            .skip(2)
            .filter_map(|line| line.split_once('\t'))
            .map(|(name, rest)| {
                (
                    name,
                    rest.split('\t').filter_map(|n| n.parse().ok()).collect(),
                )
            })
            .collect();
        for (name, row) in &rows {
            match known.get(name.as_str()) {
                None => faults.push(format!("{name}: not in the baseline")),
                Some(old) if row[0] > old[0] || row[6] < old[6] => {
                    faults.push(format!("{name}: {row:?}, and the baseline has {old:?}"));
                }
                Some(_) => {}
            }
        }
        for name in known.keys().filter(|name| !rows.contains_key(**name)) {
            faults.push(format!("{name}: in the baseline alone"));
        }
    }
    let against = if same {
        "registers and waves as in the baseline"
    } else {
        "another release than the baseline's: only spills counted"
    };
    println!(
        "{driver}: {} kernels compiled, 0 spills and 0 scratch wanted, {against}, {} faults",
        rows.len(),
        faults.len()
    );
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n").into())
    }
}
