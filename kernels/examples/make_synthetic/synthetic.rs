//! Random ternary models in the shapes of known ones, from a seed: the same everywhere, for tests and for the bench.

use half::f16;
use onebit_kernels::format::gguf::{Array, GgufBuilder, Value};
use onebit_kernels::format::{Packing, TensorKind, i6};
use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// A model's sizes.
pub(crate) struct Shape {
    name: &'static str,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ffn: usize,
    vocabulary: usize,
}

const SHAPES: [Shape; 4] = [
    // BitNet-b1.58-2B-4T.
    Shape {
        name: "2b",
        hidden: 2560,
        layers: 30,
        heads: 20,
        kv_heads: 5,
        head_dim: 128,
        ffn: 6912,
        vocabulary: 128_256,
    },
    // Its width and head on two of its thirty blocks: for ten thousand tokens through the head.
    Shape {
        name: "2b-head",
        hidden: 2560,
        layers: 2,
        heads: 20,
        kv_heads: 5,
        head_dim: 128,
        ffn: 6912,
        vocabulary: 128_256,
    },
    Shape {
        name: "30m",
        hidden: 512,
        layers: 8,
        heads: 8,
        kv_heads: 4,
        head_dim: 64,
        ffn: 1536,
        vocabulary: 8192,
    },
    Shape {
        name: "tiny",
        hidden: 256,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        ffn: 512,
        vocabulary: 512,
    },
];

/// Columns of a Q6_K block and its bytes: 128 low half bytes, 64 of high bits, 16 scales, one f16.
const Q6_K: (usize, usize) = (256, 210);

/// splitmix64: one stream a tensor, so that packings agree whatever order they are written in.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Fills a row with weights that the packing can hold.
    fn trits(&mut self, packing: Packing, row: &mut [i8]) {
        for eight in row.chunks_mut(8) {
            let mut bits = self.next();
            for four in eight.chunks_mut(4) {
                let zero = (bits & 3) as usize;
                let other = (zero + 1 + (bits >> 2 & 0xff) as usize % 3) % 4;
                for (i, w) in four.iter_mut().enumerate() {
                    let byte = bits >> (10 + 4 * i);
                    *w = match packing {
                        Packing::S34 if i == zero => 0,
                        Packing::S24 if i == zero || i == other => 0,
                        Packing::S34 | Packing::S24 => (byte & 1) as i8 * 2 - 1,
                        _ => ((bits >> (8 * i) & 0xff) % 3) as i8 - 1,
                    };
                }
                bits >>= 32;
            }
        }
    }
}

/// The ternary matrices of one layer: name, columns, rows.
fn matrices(s: &Shape) -> [(&'static str, usize, usize); 7] {
    let (q, kv) = (s.heads * s.head_dim, s.kv_heads * s.head_dim);
    [
        ("attn_q", s.hidden, q),
        ("attn_k", s.hidden, kv),
        ("attn_v", s.hidden, kv),
        ("attn_output", q, s.hidden),
        ("ffn_gate", s.hidden, s.ffn),
        ("ffn_up", s.hidden, s.ffn),
        ("ffn_down", s.ffn, s.hidden),
    ]
}

fn norms(s: &Shape) -> [(&'static str, usize); 4] {
    [
        ("attn_norm", s.hidden),
        ("ffn_norm", s.hidden),
        ("attn_sub_norm", s.heads * s.head_dim),
        ("ffn_sub_norm", s.ffn),
    ]
}

/// The shape of that name: `2b`, `2b-head`, `30m` or `tiny`.
pub(crate) fn shape(name: &str) -> Option<&'static Shape> {
    SHAPES.iter().find(|s| s.name == name)
}

/// Writes the model and returns the bytes of its ternary matrices and of its embedding.
pub(crate) fn write(
    out: &Path,
    s: &Shape,
    packing: Packing,
    arch: &str,
    seed: u64,
    six_bit: bool,
) -> Result<[usize; 2], Box<dyn Error>> {
    let kind = match packing {
        Packing::Tq1_0 => TensorKind::Tq1_0,
        Packing::Tq2_0 => TensorKind::Tq2_0,
        _ => TensorKind::I8,
    };
    let mut file = metadata(s, packing, arch, seed);
    let name = "token_embd.weight";
    if six_bit {
        let words = Value::String("i6".to_owned());
        file.value(&format!("onebit.packing.{name}"), words);
        let columns = Value::U32(u32::try_from(s.hidden)?);
        file.value(&format!("onebit.columns.{name}"), columns);
        let row = s.hidden / i6::BLOCK * i6::BYTES;
        file.tensor(name, &[row as u64, s.vocabulary as u64], TensorKind::I8)?;
    } else {
        let shape = [s.hidden as u64, s.vocabulary as u64];
        file.tensor(name, &shape, TensorKind::Q6K)?;
    }
    file.tensor("output_norm.weight", &[s.hidden as u64], TensorKind::F32)?;
    for layer in 0..s.layers {
        for (name, len) in norms(s) {
            file.tensor(
                &format!("blk.{layer}.{name}.weight"),
                &[len as u64],
                TensorKind::F32,
            )?;
        }
        for (name, columns, rows) in matrices(s) {
            let name = format!("blk.{layer}.{name}");
            let row = if kind == TensorKind::I8 {
                packing.row_bytes(columns)?
            } else {
                columns
            };
            file.tensor(&format!("{name}.weight"), &[row as u64, rows as u64], kind)?;
            if kind == TensorKind::I8 {
                file.value(
                    &format!("onebit.columns.{name}.weight"),
                    Value::U32(u32::try_from(columns)?),
                );
                file.tensor(&format!("{name}.scale"), &[1], TensorKind::F32)?;
            }
        }
    }

    let mut sink = file.begin(BufWriter::with_capacity(1 << 20, File::create(out)?))?;
    let ones = |n: usize| 1f32.to_le_bytes().repeat(n);
    let mut dice = Dice(seed);
    let mut row = vec![0u8; s.hidden / Q6_K.0 * Q6_K.1];
    for _ in 0..s.vocabulary {
        if six_bit {
            let mut values = Vec::with_capacity(s.hidden);
            while values.len() < s.hidden {
                let bytes = dice.next().to_le_bytes();
                values.extend(bytes.map(|b| (f32::from(b) - 127.5) / 1280.0));
            }
            row.clear();
            i6::encode(&values[..s.hidden], &mut row);
        } else {
            embedding(&mut dice, &mut row);
        }
        sink.part(&row)?;
    }
    sink.end_tensor()?;
    sink.tensor(&ones(s.hidden))?;
    let mut read = 0;
    for layer in 0..s.layers {
        for (_, len) in norms(s) {
            sink.tensor(&ones(len))?;
        }
        for (i, (_, columns, rows)) in matrices(s).into_iter().enumerate() {
            let mut dice = Dice(seed ^ ((layer * 7 + i + 1) as u64) << 32);
            // Two thirds, three quarters or half of the weights are not zero.
            let dense = match packing {
                Packing::S34 => 0.75,
                Packing::S24 => 0.5,
                _ => 2.0 / 3.0,
            };
            let scale = f16::from_f32(1.0 / (columns as f32 * dense).sqrt()).to_f32();
            let inside = packing
                .group()
                .map_or(Vec::new(), |group| vec![scale; columns / group]);
            let (mut trits, mut row) = (vec![0; columns], Vec::new());
            for _ in 0..rows {
                dice.trits(packing, &mut trits);
                row.clear();
                packing.encode(&trits, &inside, &mut row)?;
                sink.part(&row)?;
                read += row.len();
            }
            sink.end_tensor()?;
            if kind == TensorKind::I8 {
                sink.tensor(&scale.to_le_bytes())?;
            }
        }
    }
    sink.finish()?;
    Ok([read, row.len() * s.vocabulary])
}

/// One Q6_K row: random codes, block scales near 32, values with a standard deviation of about 0.06.
fn embedding(dice: &mut Dice, row: &mut [u8]) {
    for block in row.chunks_mut(Q6_K.1) {
        for bytes in block[..192].chunks_mut(8) {
            bytes.copy_from_slice(&dice.next().to_le_bytes());
        }
        for scale in &mut block[192..208] {
            *scale = 24 + (dice.next() % 17) as u8;
        }
        block[208..].copy_from_slice(&f16::from_f32(1e-4).to_le_bytes());
    }
}

fn metadata(s: &Shape, packing: Packing, arch: &str, seed: u64) -> GgufBuilder {
    let mut file = GgufBuilder::new();
    let text = |t: &str| Value::String(t.to_owned());
    file.value("general.architecture", text(arch));
    file.value(
        "general.name",
        text(&format!("synthetic-{}-{}-{seed}", s.name, packing.name())),
    );
    let mut number = |key: &str, n: usize| {
        file.value(&format!("{arch}.{key}"), Value::U32(n as u32));
    };
    number("context_length", 8192);
    number("embedding_length", s.hidden);
    number("block_count", s.layers);
    number("feed_forward_length", s.ffn);
    number("attention.head_count", s.heads);
    number("attention.head_count_kv", s.kv_heads);
    number("rope.dimension_count", s.head_dim);
    number("vocab_size", s.vocabulary);
    file.value(
        &format!("{arch}.attention.layer_norm_rms_epsilon"),
        Value::F32(1e-5),
    );
    file.value(&format!("{arch}.rope.freq_base"), Value::F32(500_000.0));
    if !matches!(packing, Packing::Tq1_0 | Packing::Tq2_0) {
        file.value("onebit.packing", text(packing.name()));
    }

    // GPT-2's byte alphabet, two control tokens, and names for the rest.
    let printable =
        |b: u32| (33..127).contains(&b) || (161..173).contains(&b) || (174..256).contains(&b);
    let mut next = 256;
    let mut tokens: Vec<String> = Vec::with_capacity(s.vocabulary);
    for byte in 0..256 {
        let code = if printable(byte) {
            byte
        } else {
            next += 1;
            next - 1
        };
        tokens.extend(char::from_u32(code).map(String::from));
    }
    tokens.extend(["<s>".to_owned(), "</s>".to_owned()]);
    tokens.extend((tokens.len()..s.vocabulary).map(|i| format!("tok{i}")));
    // 1 is a normal token, 3 a control token.
    let types = (0..s.vocabulary)
        .map(|i| if i == 256 || i == 257 { 3 } else { 1 })
        .collect();
    file.value("tokenizer.ggml.model", text("gpt2"));
    file.value("tokenizer.ggml.pre", text("llama-bpe"));
    file.value("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    file.value("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    file.value(
        "tokenizer.ggml.merges",
        Value::Array(Array::String(vec!["t o".to_owned(), "to k".to_owned()])),
    );
    file.value("tokenizer.ggml.bos_token_id", Value::U32(256));
    file.value("tokenizer.ggml.eos_token_id", Value::U32(257));
    file.value("tokenizer.ggml.add_bos_token", Value::Bool(true));
    file
}
