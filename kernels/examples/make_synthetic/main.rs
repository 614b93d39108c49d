//! Writes a GGUF with random weights in the exact shape of a known model, from a seed: its speed, its size and
//! the agreement of two programs on it mean something, its words do not. llama.cpp loads the ggml packings.
//!
//! `make_synthetic OUT [shape 2b|2b-head|30m|tiny] [packing tq2_0|tq1_0|t2|t5|s34|s24] [arch bitnet|bitnet-b1.58] [seed N] [table q6_k|i6]`
//!
//! The same shape and seed give the same weights in `tq2_0`, `tq1_0`, `t2` and `t5`. Every matrix is scaled to
//! keep the variance of what goes through it. The embedding, which is also the head, is Q6_K, or i6
//! for GPUs.
#![allow(clippy::print_stdout, reason = "a command-line program")]

mod synthetic;

use onebit_kernels::format::Packing;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let out = args.first().ok_or("which file to write?")?;
    let option = |name: &str, otherwise: &str| {
        let at = args.iter().position(|a| a == name);
        at.and_then(|i| args.get(i + 1))
            .map_or(otherwise, String::as_str)
            .to_owned()
    };
    let shape = option("shape", "2b");
    let shape = synthetic::shape(&shape).ok_or("shape is 2b, 2b-head, 30m or tiny")?;
    let packing = option("packing", "tq2_0");
    let packing = Packing::named(&packing).ok_or("packing is tq2_0, tq1_0, t2, t5, s34 or s24")?;
    let seed: u64 = option("seed", "1").parse()?;
    let arch = option("arch", "bitnet");
    let [read, head] = synthetic::write(
        Path::new(out),
        shape,
        packing,
        &arch,
        seed,
        option("table", "q6_k") == "i6",
    )?;
    println!(
        "{out}: layers {:.1} MB, embedding and head {:.1} MB",
        read as f64 / 1e6,
        head as f64 / 1e6
    );
    Ok(())
}
