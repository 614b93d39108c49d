//! Writes the fuzzer's starting points. Run it after a format changes:
//! `cargo test -p onebit-kernels --test corpus -- --ignored`

use std::path::Path;

use onebit_kernels::format::TensorKind;
use onebit_kernels::format::gguf::{Array, GgufBuilder, Value};
use onebit_kernels::format::h1b::Header;
use onebit_kernels::format::htok::Htok;

fn save(kind: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(kind);
    std::fs::create_dir_all(&folder).expect("the corpus folder");
    std::fs::write(folder.join(name), bytes).expect("a corpus file");
}

fn strings(texts: &[&str]) -> Value {
    Value::Array(Array::String(
        texts.iter().map(|&text| text.to_owned()).collect(),
    ))
}

fn gguf(fill: impl FnOnce(&mut GgufBuilder)) -> Vec<u8> {
    let mut file = GgufBuilder::new();
    file.value("general.architecture", Value::String("llama".into()));
    fill(&mut file);
    file.to_bytes(&[]).expect("a file without tensors")
}

#[test]
#[ignore = "writes files"]
fn write_gguf_corpus() {
    let values = gguf(|file| {
        file.value("general.alignment", Value::U32(64))
            .value("a", Value::U8(1))
            .value("b", Value::I64(-1))
            .value("c", Value::F64(0.5))
            .value("d", Value::Bool(true))
            .value("e", Value::Array(Array::I16(vec![1, -2, 3])))
            .value("f", Value::Array(Array::Bool(vec![true, false])))
            .value("g", Value::Array(Array::F32(vec![])));
    });
    save("gguf", "values", &values);

    let bpe = gguf(|file| {
        file.value("tokenizer.ggml.model", Value::String("gpt2".into()))
            .value("tokenizer.ggml.pre", Value::String("llama-bpe".into()))
            .value(
                "tokenizer.ggml.tokens",
                strings(&["H", "e", "l", "o", "Ġ", "ll", "llo", "<|im_end|>"]),
            )
            .value(
                "tokenizer.ggml.token_type",
                Value::Array(Array::I32(vec![1, 1, 1, 1, 1, 1, 1, 3])),
            )
            .value("tokenizer.ggml.merges", strings(&["l l", "ll o"]))
            .value("tokenizer.ggml.bos_token_id", Value::U32(7));
    });
    save("gguf", "bpe", &bpe);

    let spm = gguf(|file| {
        file.value("tokenizer.ggml.model", Value::String("llama".into()))
            .value(
                "tokenizer.ggml.tokens",
                strings(&["<unk>", "<s>", "</s>", "<0x0A>", "▁", "l", "ll"]),
            )
            .value(
                "tokenizer.ggml.token_type",
                Value::Array(Array::I32(vec![2, 3, 3, 6, 1, 1, 1])),
            )
            .value(
                "tokenizer.ggml.scores",
                Value::Array(Array::F32(vec![0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0])),
            );
    });
    save("gguf", "spm", &spm);

    let bert = gguf(|file| {
        file.value("tokenizer.ggml.model", Value::String("bert".into()))
            .value(
                "tokenizer.ggml.tokens",
                strings(&["[UNK]", "[CLS]", "[SEP]", "▁hello", "▁w", "o", "rld"]),
            )
            .value(
                "tokenizer.ggml.token_type",
                Value::Array(Array::I32(vec![2, 3, 3, 1, 1, 1, 1])),
            )
            .value("tokenizer.ggml.unknown_token_id", Value::U32(0))
            .value("tokenizer.ggml.cls_token_id", Value::U32(1))
            .value("tokenizer.ggml.seperator_token_id", Value::U32(2));
    });
    save("gguf", "bert", &bert);

    let mut tensors = GgufBuilder::new();
    let mut data = Vec::new();
    for (name, dims, kind) in [
        ("f32", &[3_u64][..], TensorKind::F32),
        ("f16", &[2, 2], TensorKind::F16),
        ("q8", &[32, 2], TensorKind::Q8_0),
        ("q41", &[32], TensorKind::Q4_1),
        ("q6k", &[256], TensorKind::Q6K),
        ("tq1", &[256], TensorKind::Tq1_0),
    ] {
        tensors.tensor(name, dims, kind).expect("a small tensor");
        let size = kind.tensor_bytes(dims).expect("a known kind");
        data.push((0..size).map(|i| (i * 37) as u8).collect::<Vec<u8>>());
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    save(
        "gguf",
        "tensors",
        &tensors.to_bytes(&data).expect("the tensors' data"),
    );
}

#[test]
#[ignore = "writes files"]
fn write_other_corpora() {
    for (name, version, flags) in [
        ("v1", 1, 0),
        ("v2", 2, 0),
        ("v3", 3, 0),
        ("v4", 4, 0),
        ("q2", 2, 8),
    ] {
        let header = Header {
            version,
            hidden: 128,
            intermediate: 128,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            vocabulary: 3,
            context: 16,
            flags,
            rope_base: 500_000.0,
            epsilon: 1e-5,
        };
        let mut bytes = header.to_bytes();
        // Embedding, last norm, eight vectors of the hidden size and one of the intermediate.
        bytes.resize(bytes.len() + 4 * 128 * (3 + 1 + 8 + 1), 0);
        for which in 0..7 {
            let (rows, columns) = header.shape(which);
            let packing = header.packing();
            let scale = if packing.group().is_none() { 4 } else { 0 };
            let size = rows * (packing.row_bytes(columns).expect("128 columns") + scale);
            bytes.resize(bytes.len() + size, 0x55);
        }
        save("h1b", name, &bytes);
    }

    let tokens = ["a", "b", "ab", "abb", "<|end|>"]
        .map(str::to_owned)
        .to_vec();
    let htok = Htok {
        tokens,
        merges: vec![(0, 1, 2), (2, 1, 3)],
        bos: 4,
        eos: 4,
    };
    save("htok", "small", &htok.to_bytes().expect("short tokens"));

    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"U8","shape":[4],"data_offsets":[12,16]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([7; 16]);
    save("safetensors", "small", &bytes);
}
