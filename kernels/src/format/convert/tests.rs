//! A small BitNet model through every format and back, compared byte by byte.

mod folders;

use std::path::PathBuf;

use super::super::Gguf;
use super::super::gguf::{Array, GgufBuilder};
use super::super::matrix::Matrix;
use super::super::ternary::{Row, S24, S34};
use super::*;

const HIDDEN: usize = 256;
const FEED_FORWARD: usize = 512;
const VOCABULARY: usize = 6;
const LAYERS: usize = 2;
/// No F16 holds it.
const SCALE: f32 = 0.3;

fn shapes() -> [(&'static str, usize, usize); 7] {
    [
        ("attn_q", HIDDEN, HIDDEN),
        ("attn_k", HIDDEN / 2, HIDDEN),
        ("attn_v", HIDDEN / 2, HIDDEN),
        ("attn_output", HIDDEN, HIDDEN),
        ("ffn_gate", FEED_FORWARD, HIDDEN),
        ("ffn_up", FEED_FORWARD, HIDDEN),
        ("ffn_down", HIDDEN, FEED_FORWARD),
    ]
}

/// The trits of a matrix: any, one zero in four, two zeros in four, or none.
fn trits(seed: usize, count: usize, zeros: Option<usize>) -> Vec<i8> {
    let mut state = seed as u32 + 1;
    let mut next = move || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345) & 0x7fff_ffff;
        (state >> 16) as usize
    };
    match zeros {
        None => (0..count).map(|_| (next() % 3) as i8 - 1).collect(),
        Some(0) => (0..count).map(|_| (next() % 2) as i8 * 2 - 1).collect(),
        Some(1) => (0..count / 4).flat_map(|_| S34[next() % 32]).collect(),
        Some(_) => (0..count / 4).flat_map(|_| S24[next() % 24]).collect(),
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn tokens() -> Vec<String> {
    ["a", "b", "ab", "Ġ", "<|begin|>", "<|end|>"]
        .map(str::to_owned)
        .to_vec()
}

/// The model as a t2 GGUF in the order in which the converter writes GGUF.
fn write_model(path: &Path, zeros: Option<usize>, scale: f32) {
    let mut file = GgufBuilder::new();
    file.value("general.architecture", Value::String("bitnet-b1.58".into()));
    for (key, value) in [
        ("block_count", LAYERS),
        ("context_length", 64),
        ("embedding_length", HIDDEN),
        ("feed_forward_length", FEED_FORWARD),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ] {
        file.value(&format!("bitnet-b1.58.{key}"), Value::U32(value as u32));
    }
    file.value(
        "bitnet-b1.58.attention.layer_norm_rms_epsilon",
        Value::F32(1e-5),
    )
    .value("bitnet-b1.58.rope.freq_base", Value::F32(500_000.0))
    .value("tokenizer.ggml.model", Value::String("gpt2".into()))
    .value("tokenizer.ggml.pre", Value::String("llama-bpe".into()))
    .value(
        "tokenizer.ggml.tokens",
        Value::Array(Array::String(tokens())),
    )
    .value(
        "tokenizer.ggml.token_type",
        Value::Array(Array::I32(vec![1, 1, 1, 1, 3, 3])),
    )
    .value(
        "tokenizer.ggml.merges",
        Value::Array(Array::String(vec!["a b".into()])),
    )
    .value("tokenizer.ggml.bos_token_id", Value::U32(4))
    .value("tokenizer.ggml.eos_token_id", Value::U32(5))
    .value("onebit.packing", Value::String("t2".into()));
    let mut data = Vec::new();
    let vector = |seed: usize, count: usize| {
        floats(
            &(0..count)
                .map(|i| (seed + i) as f32 / 8.0)
                .collect::<Vec<_>>(),
        )
    };
    file.tensor(
        "token_embd.weight",
        &[HIDDEN as u64, VOCABULARY as u64],
        TensorKind::F32,
    )
    .unwrap();
    data.push(vector(1, HIDDEN * VOCABULARY));
    file.tensor("output_norm.weight", &[HIDDEN as u64], TensorKind::F32)
        .unwrap();
    data.push(vector(2, HIDDEN));
    for layer in 0..LAYERS {
        for (index, (norm, length)) in [
            ("attn_norm", HIDDEN),
            ("ffn_norm", HIDDEN),
            ("attn_sub_norm", HIDDEN),
            ("ffn_sub_norm", FEED_FORWARD),
        ]
        .into_iter()
        .enumerate()
        {
            file.tensor(
                &format!("blk.{layer}.{norm}.weight"),
                &[length as u64],
                TensorKind::F32,
            )
            .unwrap();
            data.push(vector(10 * layer + index, length));
        }
    }
    for layer in 0..LAYERS {
        for (which, (matrix, rows, columns)) in shapes().into_iter().enumerate() {
            let name = format!("blk.{layer}.{matrix}");
            let mut bytes = Vec::new();
            for row in trits(10 * layer + which, rows * columns, zeros).chunks_exact(columns) {
                Packing::T2.encode(row, &[], &mut bytes).unwrap();
            }
            file.value(
                &format!("onebit.columns.{name}.weight"),
                Value::U32(columns as u32),
            );
            file.tensor(
                &format!("{name}.weight"),
                &[columns as u64 / 4, rows as u64],
                TensorKind::I8,
            )
            .unwrap();
            file.tensor(&format!("{name}.scale"), &[1], TensorKind::F32)
                .unwrap();
            data.extend([bytes, floats(&[scale])]);
        }
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    std::fs::write(path, file.to_bytes(&data).unwrap()).unwrap();
}

fn run(input: &Path, output: &Path, to: &str) -> Result<Report, ConvertError> {
    let options = ConvertOptions {
        to: Target::named(to)?,
        embedding: None,
    };
    convert(input, output, &options, &mut |_| {})
}

/// Every weight and norm of two models is the same number.
fn assert_same_weights(a: &Path, b: &Path, how: &str) {
    let (a, b) = (Gguf::open(a).unwrap(), Gguf::open(b).unwrap());
    let mut compared = 0;
    for info in a
        .tensors()
        .iter()
        .filter(|info| info.name.ends_with(".weight"))
    {
        let name = info.name.as_str();
        let (x, y) = (
            Matrix::open(&a, name).unwrap(),
            Matrix::open(&b, name).unwrap(),
        );
        assert_eq!(
            (x.rows(), x.columns()),
            (y.rows(), y.columns()),
            "{how}: {name}"
        );
        let (mut left, mut right) = (vec![0.0; x.columns()], vec![0.0; x.columns()]);
        for row in 0..x.rows() {
            x.decode_row(name, row, &mut left).unwrap();
            y.decode_row(name, row, &mut right).unwrap();
            assert_eq!(left, right, "{how}: {name}, row {row}");
        }
        compared += 1;
    }
    assert_eq!(compared, 2 + LAYERS * 11);
}

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        Scene {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn model(&self, zeros: Option<usize>, scale: f32) -> PathBuf {
        let path = self.path("model.gguf");
        write_model(&path, zeros, scale);
        path
    }
}

#[test]
fn every_packing_returns() {
    for (to, zeros, scale) in [
        ("t5", None, SCALE),
        ("tq1_0", None, SCALE),
        ("tq2_0", None, SCALE),
        ("i2_s", None, SCALE),
        ("q2_0_g128", None, SCALE),
        ("q2_0_g128", None, 0.75),
        ("q1_0_g128", Some(0), 0.75),
        ("s34", Some(1), SCALE),
        ("s24", Some(2), SCALE),
        ("h1b-v1", None, SCALE),
        ("h1b-v2", None, SCALE),
        ("h1b-v3", Some(1), SCALE),
        ("h1b-v4", None, SCALE),
        ("h1b-q2", None, 0.75),
        ("h1b-q1", Some(0), 0.75),
    ] {
        let scene = Scene::new();
        let (model, there, back) = (
            scene.model(zeros, scale),
            scene.path("there"),
            scene.path("back"),
        );
        let report = run(&model, &there, to).unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!(report.ternary, LAYERS * 7, "{to}");
        assert_eq!(report.bytes, std::fs::metadata(&there).unwrap().len());
        run(&there, &back, "t2").unwrap_or_else(|error| panic!("back from {to}: {error}"));
        assert_same_weights(&model, &back, to);
        let gguf = Gguf::open(&back).unwrap();
        assert_eq!(gguf.strings("tokenizer.ggml.tokens").unwrap(), tokens());
        assert_eq!(
            gguf.u32("bitnet-b1.58.feed_forward_length").unwrap(),
            FEED_FORWARD as u32
        );
        if !to.starts_with("h1b") {
            assert_eq!(
                std::fs::read(&model).unwrap(),
                std::fs::read(&back).unwrap(),
                "{to}"
            );
        }
    }
}

#[test]
fn what_would_be_lost_is_named_and_nothing_is_left() {
    let scene = Scene::new();
    let model = scene.model(None, SCALE);
    for (to, reason) in [
        (
            "s34",
            "tensor blk.0.attn_q.weight, row 0: columns 0 to 3 hold ",
        ),
        ("s24", "but s24 stores exactly 2"),
        ("q1_0_g128", "which Q1_0_g128 cannot store"),
        ("h1b-v3", "but s34 stores exactly 1"),
        (
            "h1b-q2",
            "Q2_0_g128 stores its scales as F16, which cannot hold 0.3 exactly",
        ),
        ("gif", "\"gif\" is no format; these are: t2, t5, s34"),
    ] {
        let out = scene.path("out");
        let error = run(&model, &out, to).unwrap_err().to_string();
        assert!(error.contains(reason), "{to}: {error}");
        assert_eq!(
            std::fs::read_dir(scene.folder.path()).unwrap().count(),
            1,
            "{to} left something"
        );
    }
    std::fs::write(scene.path("out"), b"x").unwrap();
    assert!(
        run(&model, &scene.path("out"), "t5")
            .unwrap_err()
            .to_string()
            .contains("exists already")
    );
    assert!(
        run(&scene.path("out"), &scene.path("y"), "t5")
            .unwrap_err()
            .to_string()
            .contains("is no model")
    );
}

#[test]
fn embeddings_change_only_when_asked() {
    let scene = Scene::new();
    let (model, out) = (scene.model(None, SCALE), scene.path("out"));
    let options = ConvertOptions {
        to: Target::named("t5").unwrap(),
        embedding: Some(Embedding::SixBit),
    };
    let mut seen = Vec::new();
    convert(&model, &out, &options, &mut |progress| {
        seen.push((progress.done, progress.total))
    })
    .unwrap();
    assert_eq!(seen.len(), 2 + LAYERS * 11);
    assert_eq!(seen.last(), Some(&(seen.len() - 1, seen.len())));
    let gguf = Gguf::open(&out).unwrap();
    let name = "token_embd.weight";
    assert!(matches!(
        Matrix::open(&gguf, name).unwrap(),
        Matrix::SixBit {
            columns: HIDDEN,
            rows: VOCABULARY,
            ..
        }
    ));
    // Six bits there and Q8_0 behind: the same numbers.
    let again = scene.path("again");
    let q8 = Some(Embedding::Dense(TensorKind::Q8_0));
    convert(
        &out,
        &again,
        &ConvertOptions {
            embedding: q8,
            ..options
        },
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(
        Gguf::open(&again).unwrap().tensor(name).unwrap().info.kind,
        TensorKind::Q8_0
    );
}

#[test]
fn swapped_bonsai_flags_and_a_qwen3_sidecar() {
    let scene = Scene::new();
    let model = scene.model(None, 0.75);
    let h1b = scene.path("bonsai.h1b");
    run(&model, &h1b, "h1b-q2").unwrap();
    let mut bytes = std::fs::read(&h1b).unwrap();
    bytes[0x28] = 0x4;
    std::fs::write(&h1b, &bytes).unwrap();

    let mut sidecar = GgufBuilder::new();
    sidecar.value("general.architecture", Value::String("qwen3".into()));
    sidecar
        .tensor("token_embd.weight", &[HIDDEN as u64, 2], TensorKind::Q2G128)
        .unwrap();
    sidecar
        .tensor("blk.0.attn_q_norm.weight", &[64], TensorKind::F32)
        .unwrap();
    sidecar
        .tensor(
            "blk.0.attn_q.weight",
            &[HIDDEN as u64, 2],
            TensorKind::Q2G128,
        )
        .unwrap();
    let file = sidecar
        .to_bytes(&[&[0; 136], &[0; 256], &[0; 136]])
        .unwrap();
    std::fs::write(scene.path("bonsai.gguf"), file).unwrap();

    run(&h1b, &scene.path("out"), "t2").unwrap();
    let gguf = Gguf::open(&scene.path("out")).unwrap();
    assert_eq!(gguf.str("general.architecture").unwrap(), "qwen3");
    assert_eq!(
        gguf.tensor("token_embd.weight").unwrap().info.kind,
        TensorKind::Q2G128
    );
    assert!(
        gguf.tensor("blk.0.attn_q_norm.weight").is_some()
            && gguf.tensor("output_norm.weight").is_none()
    );
    let Matrix::Ternary(rows) = Matrix::open(&gguf, "blk.0.attn_q.weight").unwrap() else {
        panic!("not ternary")
    };
    let mut row = Row::default();
    rows.read(3, &mut row).unwrap();
    assert_eq!(
        row.trits,
        trits(0, HIDDEN * HIDDEN, None)[3 * HIDDEN..][..HIDDEN]
    );
}
