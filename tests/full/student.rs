//! The built-in model on its held-out sets: the engine's perplexity is that of the exact integer reference.

use std::sync::Arc;

use onebit_kernels::format::Gguf;
use onebit_kernels::kv::{Cache, CacheOptions, KvKind};
use onebit_kernels::model::{LoadOptions, Model, Slice, Want};
use onebit_kernels::sampler::log_sum_exp;
use onebit_kernels::threads::Threads;

use crate::support::root;

/// Ids of one held-out sequence; the first is not predicted.
const LENGTH: usize = 1024;
/// Sequences of each set: enough to see a fault, few enough for a minute.
const SEQUENCES: usize = 4;
/// What `packaging/models/reference.py packaging/models/onebit-mini.gguf FILE 4` prints.
const REFERENCE: [(&str, f64); 3] = [
    ("held-docs.u16", 10.00539),
    ("held-other.u16", 44.74422),
    ("held-chats.u16", 4.27209),
];
/// Keys and values are f16 here and f32 there.
const RELATIVE_MAX: f64 = 0.005;

#[test]
#[ignore = "a minute; tests/run --full runs it"]
fn perplexity_is_the_references() {
    let folder = root().join("packaging/models");
    let gguf = Arc::new(Gguf::open(&folder.join("onebit-mini.gguf")).unwrap());
    let model = Model::load(gguf, &LoadOptions::default()).unwrap();
    let threads = Threads::new(2);
    for (name, expected) in REFERENCE {
        let bytes = std::fs::read(folder.join("held-out").join(name)).unwrap();
        let ids: Vec<u32> = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u32::from(u16::from_le_bytes(*pair)))
            .collect();
        let (mut loss, mut scored) = (0.0, 0_u32);
        for ids in ids.chunks_exact(LENGTH).take(SEQUENCES) {
            let options = CacheOptions {
                positions_max: LENGTH,
                kind: KvKind::F16,
            };
            let mut cache = Cache::new(model.config(), options).unwrap();
            let batch = [Slice {
                sequence: cache.create(),
                tokens: &ids[..LENGTH - 1],
                logits: Want::All,
            }];
            let logits = model.forward(&threads, &mut cache, &batch).unwrap();
            for (row, &next) in logits.rows().zip(&ids[1..]) {
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                loss += f64::from(log_sum_exp(row, largest) - row[next as usize]);
                scored += 1;
            }
        }
        let ours = (loss / f64::from(scored)).exp();
        println!("{name}: perplexity {ours:.5}, reference {expected:.5}");
        assert!(
            (ours / expected - 1.0).abs() < RELATIVE_MAX,
            "{name}: {ours} against {expected}"
        );
    }
}
