//! The documents' embedder alone: vectors of a file's lines, and how many a second at each batch size.
//!
//! `cargo run --release --example embed -- FOLDER LINES VECTORS THREADS`; the vectors are written as f32, one behind the
//! other. `benches/embedder` puts onnxruntime beside it.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use onebit::engines::encoder::Encoder;
use onebit_kernels::threads::Threads;

/// Texts in one call.
const BATCHES: [usize; 4] = [1, 4, 16, 64];

/// Rounds over all texts; the fastest counts, as the machine's best.
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, lines, vectors, threads] = arguments.as_slice() else {
        return Err("embed FOLDER LINES VECTORS THREADS".into());
    };
    let encoder = Encoder::open(
        Path::new(folder),
        Arc::new(Threads::new(threads.parse::<usize>()?)),
    )?;
    let text = std::fs::read_to_string(lines)?;
    let texts: Vec<&str> = text.lines().collect();
    let made = encoder.embed(&texts)?;
    let bytes: Vec<u8> = made
        .iter()
        .flatten()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    std::fs::write(vectors, bytes)?;
    for batch in BATCHES {
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            for some in texts.chunks(batch) {
                encoder.embed(some)?;
            }
            best = best.min(begun.elapsed().as_secs_f64());
        }
        writeln!(
            std::io::stdout(),
            "{batch} {:.3}",
            texts.len() as f64 / best
        )?;
    }
    Ok(())
}
