//! Split keys and values: one workgroup a chunk against one workgroup a head with the same inner loop.

use super::bench::{Bench, Dice, Outcome};
use onebit_kernels::cpu::attention::CHUNK;
use onebit_kernels::gpu::ops::attend::Attend;
use onebit_kernels::gpu::ops::merge::Merge;
use onebit_kernels::gpu::ops::rope::Heads;
use onebit_kernels::gpu::{Launch, Place, Step};
use onebit_kernels::kv::KvKind;

/// Layers whose keys and values one recording reads: together more than the caches hold.
const LAYERS: usize = 30;

pub(crate) fn split(bench: &mut Bench) -> Outcome<()> {
    let mut dice = Dice(55);
    for kind in [KvKind::F16, KvKind::Int8] {
        for positions in [512_usize, 2048, 8192] {
            let side = match kind {
                KvKind::F16 => 32 * 128 / 2,
                KvKind::Int8 => 32 * 128 / 4 + 32,
            };
            let heads = Heads {
                heads: 20,
                kv_heads: 5,
                dim: 128,
                kind,
                page_words: LAYERS * 5 * 2 * side,
            };
            let chunks = positions.div_ceil(CHUNK) as u32;
            let one = Attend::new(heads);
            let whole = Attend {
                heads,
                walk: chunks,
            };
            let merge = Merge { heads };
            let kernels = [
                bench.checked(&one)?,
                bench.checked(&whole)?,
                bench.checked(&merge)?,
            ];
            let pages = positions / 32;
            // Halves of -1.9 to 1.9, or codes; scales where codes have them are tiny halves read as numbers: all finite.
            let page: Vec<u8> = (0..heads.page_words)
                .flat_map(|i| {
                    let n = dice.next() as u32;
                    let word = match kind {
                        KvKind::F16 => n & 0xbfff_bfff,
                        KvKind::Int8 if i % side >= side - 32 => 0x3c00_0000 | n >> 12,
                        KvKind::Int8 => n,
                    };
                    word.to_le_bytes()
                })
                .collect();
            let cache = bench.filled((pages * heads.page_words * 4) as u64, &page)?;
            let words = |list: Vec<u32>| {
                list.iter()
                    .flat_map(|w| w.to_le_bytes())
                    .collect::<Vec<u8>>()
            };
            let step = words(vec![0, positions as u32 - 1, 0, 0]);
            let steps = bench.filled(16, &step)?;
            let table = words((0..pages as u32).collect());
            let table = bench.filled(table.len() as u64, &table)?;
            let wide = words(
                (0..30 * 128)
                    .map(|_| 0x3e00_0000 | dice.next() as u32 >> 9)
                    .collect(),
            );
            let wide = bench.filled(wide.len() as u64, &wide)?;
            let state_bytes = 4 * 20 * 130 * u64::from(chunks);
            let states = [
                bench.driver.alloc(state_bytes, Place::Device)?,
                bench.driver.alloc(state_bytes, Place::Device)?,
            ];
            let attended = bench.driver.alloc(4 * 20 * 128, Place::Device)?;
            let attend = |i: usize, layer: usize| {
                Step::Launch(Launch {
                    kernel: kernels[i],
                    grid: [&one, &whole][i].grid(chunks, 1),
                    buffers: vec![steps, table, wide, cache, states[i]],
                    args: vec![layer as u32, chunks],
                })
            };
            let join = Step::Launch(Launch {
                kernel: kernels[2],
                grid: [20, 1, 1],
                buffers: vec![steps, states[0], attended],
                args: vec![chunks],
            });
            let layers =
                |f: &dyn Fn(usize) -> Vec<Step>| (0..LAYERS).flat_map(f).collect::<Vec<_>>();
            let alone = bench.time(&layers(&|l| vec![attend(0, l)]), 9)? / LAYERS as f64;
            let both =
                bench.time(&layers(&|l| vec![attend(0, l), join.clone()]), 9)? / LAYERS as f64;
            let unsplit = bench.time(&layers(&|l| vec![attend(1, l)]), 9)? / LAYERS as f64;
            let mut found = [vec![0; state_bytes as usize], vec![0; state_bytes as usize]];
            for (states, found) in states.iter().zip(&mut found) {
                bench.driver.read(*states, 0, found)?;
            }
            let bytes = (pages * 5 * 2 * side * 4) as f64;
            println!(
                "attention, {kind:?}, {positions} positions: split {alone:.2} us, with the join {both:.2} us = {:.0} GB/s = {:.1} % of the ceiling; one split a head {unsplit:.2} us = {:.1} times, {:.1} times with the join; states {}",
                bytes / both / 1e3,
                100.0 * bytes / both * 1e6 / bench.ceiling,
                unsplit / alone,
                unsplit / both,
                if found[0] == found[1] {
                    "equal bit for bit"
                } else {
                    "DIFFER"
                },
            );
            for buffer in [cache, steps, table, wide, states[0], states[1], attended] {
                bench.driver.free(buffer);
            }
        }
    }
    Ok(())
}
