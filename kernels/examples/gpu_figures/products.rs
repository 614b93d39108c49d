//! Ternary products alone: a giant one, and the chain of a model's layers at its own and at sixteen times its rows.

use super::bench::{Bench, Dice, Outcome};
use onebit_kernels::cpu::ternary::Layout;
use onebit_kernels::gpu::ops::Op;
use onebit_kernels::gpu::ops::gemv::Gemv;
use onebit_kernels::gpu::{Buffer, GpuError, Launch, Place, Step};

/// Bytes of random weights on the processor's side; matrices are this again and again.
const CHUNK: usize = 32 << 20;

/// Random weights: codes 0 to 2 in two bits.
fn weights() -> Vec<u8> {
    let mut dice = Dice(88);
    let four =
        |n: u64| ((n % 3) | ((n / 3 % 3) << 2) | ((n / 9 % 3) << 4) | ((n / 27 % 3) << 6)) as u8;
    let table: Vec<u8> = (0..81).map(four).collect();
    (0..CHUNK)
        .map(|_| table[(dice.next() >> 33) as usize % 81])
        .collect()
}

struct Inputs {
    codes: Vec<u32>,
    scale: f32,
    sum: i32,
    device: [Buffer; 2],
}

fn inputs(bench: &mut Bench, columns: usize) -> Outcome<Inputs> {
    let mut dice = Dice(77);
    let words = columns.div_ceil(640) * 160;
    let (mut codes, mut sum) = (vec![0_u32; words], 0);
    for word in codes.iter_mut().take(columns / 4) {
        for j in 0..4 {
            let code = (dice.next() % 255) as i32 - 127;
            sum += code;
            *word |= u32::from(code as u8) << (8 * j);
        }
    }
    let scale = 0.0123_f32;
    let bytes = |w: &[u32]| w.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let device = [
        bench.filled(4 * words as u64, &bytes(&codes))?,
        bench.filled(8, &bytes(&[scale.to_bits(), sum.cast_unsigned()]))?,
    ];
    Ok(Inputs {
        codes,
        scale,
        sum,
        device,
    })
}

const MATRIX_SCALE: f32 = 0.37;

/// Blocks' table of a matrix.
fn table(bench: &mut Bench, rows: usize) -> Outcome<Buffer> {
    let words = (0..rows / 32).flat_map(|b| [b as u32 * 32, 32, MATRIX_SCALE.to_bits(), 0]);
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    Ok(bench.filled(bytes.len() as u64, &bytes)?)
}

/// What row `row` must be, from the packed words.
fn reference(chunk: &[u8], columns: usize, row: usize, x: &Inputs) -> f32 {
    let steps = columns / 64;
    let mut sum = 0_i32;
    for step in 0..steps {
        let at = ((row / 32 * steps + step) * 32 + row % 32) * 16;
        for i in 0..4 {
            for f in 0..4 {
                let word = x.codes[step * 16 + i * 4 + f];
                for j in 0..4 {
                    let code = chunk[(at + 4 * i + j) % CHUNK] >> (2 * f) & 3;
                    sum += i32::from(code) * i32::from((word >> (8 * j)) as u8 as i8);
                }
            }
        }
    }
    (sum - x.sum) as f32 * (x.scale * MATRIX_SCALE)
}

/// Rows of `y` that differ from the definition, of some hundred.
fn wrong(bench: &mut Bench, y: Buffer, gemv: &Gemv, chunk: &[u8], x: &Inputs) -> Outcome<usize> {
    let mut bytes = vec![0; 4 * gemv.rows];
    bench.driver.read(y, 0, &mut bytes)?;
    let mut dice = Dice(66);
    let rows = (0..200).map(|_| dice.next() as usize % gemv.rows);
    Ok(rows
        .filter(|row| {
            let found = u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[4 * row + i]));
            reference(chunk, gemv.columns, *row, x).to_bits() != found
        })
        .count())
}

/// Poisons an output.
fn poison(bench: &mut Bench, y: Buffer, rows: usize) -> Result<(), GpuError> {
    bench.driver.write(y, 0, &vec![0xff; 4 * rows])
}

fn gemvs(bench: &Bench, rows: usize, columns: usize) -> Vec<Gemv> {
    let plain = Gemv::new(Layout::P2, columns, rows, false, 1);
    let identity = bench.driver.identity();
    let choices = plain.candidates(identity);
    choices
        .iter()
        .map(|op| plain.clone().chosen(Some(&op.choice())))
        .collect()
}

struct Best {
    gemv: Gemv,
    us: f64,
}

/// The fastest of all candidates over rotating matrices, each checked against the definition first.
fn fastest(
    bench: &mut Bench,
    gemvs: &[Gemv],
    matrices: &[Buffer],
    table: Buffer,
    x: &Inputs,
    y: Buffer,
    verbose: bool,
) -> Outcome<Best> {
    bench.compile(gemvs.iter().map(|g| g.source()).collect())?;
    let (mut best, mut slowest): (Option<Best>, f64) = (None, 0.0);
    for gemv in gemvs {
        if best.is_some() && bench.late() {
            break;
        }
        let kernel = match bench.checked(gemv) {
            Ok(kernel) => kernel,
            Err(error @ GpuError::Lost { .. }) => return Err(error.into()),
            Err(error) => {
                println!("  {}: {error}", gemv.choice());
                continue;
            }
        };
        let blocks = gemv.rows as u32 / 32;
        let steps: Vec<Step> = matrices
            .iter()
            .map(|m| {
                Step::Launch(Launch {
                    kernel,
                    grid: gemv.grid(blocks, 1),
                    buffers: vec![*m, table, x.device[0], x.device[1], y],
                    args: vec![1, blocks],
                })
            })
            .collect();
        let us = bench.time(&steps, 5)? / steps.len() as f64;
        slowest = slowest.max(us);
        if verbose {
            let bytes = gemv.rows as f64 * gemv.columns as f64 / 4.0;
            println!(
                "    {}: {us:.2} us, {:.0} GB/s",
                gemv.choice(),
                bytes / us / 1e3
            );
        }
        if best.as_ref().is_none_or(|b| us < b.us) {
            let gemv = gemv.clone();
            best = Some(Best { gemv, us });
        }
    }
    let best = best.ok_or("no candidate works")?;
    let bytes = best.gemv.rows as f64 * best.gemv.columns as f64 / 4.0;
    let rate = bytes / best.us * 1e6;
    println!(
        "  {}x{} {:.2} MB, {} candidates: best {:.2} us = {:.0} GB/s = {:.1} % of the ceiling with {}; slowest {slowest:.2} us",
        best.gemv.rows,
        best.gemv.columns,
        bytes / 1e6,
        gemvs.len(),
        best.us,
        rate / 1e9,
        100.0 * rate / bench.ceiling,
        best.gemv.choice(),
    );
    Ok(best)
}

pub(crate) fn giant(bench: &mut Bench) -> Outcome<()> {
    let (rows, columns) = (65536, 16384);
    let (chunk, x) = (weights(), inputs(bench, columns)?);
    let table = table(bench, rows)?;
    let y = bench.driver.alloc(4 * rows as u64, Place::Device)?;
    let mut matrices = Vec::new();
    for _ in 0..8 {
        matrices.push(bench.filled((rows * columns / 4) as u64, &chunk)?);
    }
    let gemvs = gemvs(bench, rows, columns);
    poison(bench, y, rows)?;
    let best = fastest(bench, &gemvs, &matrices, table, &x, y, true)?;
    let wrong = wrong(bench, y, &best.gemv, &chunk, &x)?;
    println!("giant: {wrong} of 200 rows differ after the timed runs");
    for buffer in matrices {
        bench.driver.free(buffer);
    }
    Ok(())
}

/// Thirty layers of BitNet 2B's four products, `times` its rows.
pub(crate) fn chain(bench: &mut Bench, times: usize) -> Outcome<()> {
    const LAYERS: usize = 30;
    let shapes = [(3840, 2560), (2560, 2560), (13824, 2560), (2560, 6912)];
    let chunk = weights();
    let mut layers = vec![Vec::new(); LAYERS];
    let (mut parts, mut bytes) = (Vec::new(), 0);
    for (rows, columns) in shapes.map(|(rows, columns)| (rows * times, columns)) {
        let x = inputs(bench, columns)?;
        let table = table(bench, rows)?;
        let y = bench.driver.alloc(4 * rows as u64, Place::Device)?;
        for layer in &mut layers {
            let size = (rows * columns / 4) as u64;
            bytes += size;
            layer.push(bench.filled(size, &chunk)?);
        }
        parts.push((rows, columns, x, table, y));
    }
    let mut best = Vec::new();
    for (i, (rows, columns, x, table, y)) in parts.iter().enumerate() {
        let matrices: Vec<Buffer> = layers.iter().map(|layer| layer[i]).collect();
        let gemvs = gemvs(bench, *rows, *columns);
        best.push(fastest(bench, &gemvs, &matrices, *table, x, *y, false)?);
    }
    let mut steps = Vec::new();
    for layer in &layers {
        for (i, (rows, _, x, table, y)) in parts.iter().enumerate() {
            let gemv = &best[i].gemv;
            let blocks = *rows as u32 / 32;
            steps.push(Step::Launch(Launch {
                kernel: bench.kernel(&gemv.source())?,
                grid: gemv.grid(blocks, 1),
                buffers: vec![layer[i], *table, x.device[0], x.device[1], *y],
                args: vec![1, blocks],
            }));
        }
    }
    for (rows, _, _, _, y) in &parts {
        poison(bench, *y, *rows)?;
    }
    let us = bench.time(&steps, 21)?;
    let mut differ = 0;
    for (best, (_, _, x, _, y)) in best.iter().zip(&parts) {
        differ += wrong(bench, *y, &best.gemv, &chunk, x)?;
    }
    let rate = bytes as f64 / us * 1e6;
    println!(
        "chain of {LAYERS} layers, {times} times the rows, {} launches, {:.0} MB: {us:.1} us = {:.0} GB/s = {:.1} % of the ceiling; {differ} of 800 rows differ",
        steps.len(),
        bytes as f64 / 1e6,
        rate / 1e9,
        100.0 * rate / bench.ceiling
    );
    for buffer in layers.into_iter().flatten() {
        bench.driver.free(buffer);
    }
    Ok(())
}
