//! The reader against files made by the writer, whole and damaged.

use super::*;

fn small() -> Vec<u8> {
    let mut file = GgufBuilder::new();
    file.value("general.architecture", Value::String("llama".into()))
        .value("llama.block_count", Value::U32(2))
        .value("llama.head_count_kv", Value::Array(Array::I32(vec![1, 2])))
        .value("llama.rope.freq_base", Value::F32(10_000.0))
        .value("tokenizer.ggml.add_bos_token", Value::Bool(true))
        .value(
            "tokenizer.ggml.tokens",
            Value::Array(Array::String(vec!["a".into(), "é".into()])),
        );
    file.tensor("first", &[32, 2], TensorKind::Q8_0).unwrap();
    file.tensor("second", &[3], TensorKind::F32).unwrap();
    file.to_bytes(&[&[7; 68], &[1; 12]]).unwrap()
}

fn refusal(bytes: Vec<u8>) -> String {
    Gguf::from_bytes(bytes)
        .expect_err("must be refused")
        .to_string()
}

/// A header with no metadata and one tensor entry, whose parts the caller picks.
fn one_tensor(dims: &[u64], kind: u32, offset: u64, data: usize) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend(1_u64.to_le_bytes());
    out.extend(0_u64.to_le_bytes());
    out.extend(1_u64.to_le_bytes());
    out.push(b'w');
    out.extend((dims.len() as u32).to_le_bytes());
    dims.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
    out.extend(kind.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.resize(out.len().next_multiple_of(32) + data, 0);
    out
}

#[test]
fn written_files_read_back() {
    let gguf = Gguf::from_bytes(small()).unwrap();
    assert_eq!(gguf.version(), 3);
    assert_eq!(gguf.str("general.architecture").unwrap(), "llama");
    assert_eq!(gguf.u32("llama.block_count").unwrap(), 2);
    assert_eq!(gguf.f32("llama.rope.freq_base").unwrap(), 10_000.0);
    assert!(gguf.bool("tokenizer.ggml.add_bos_token").unwrap());
    assert_eq!(
        gguf.optional_u32s("llama.head_count_kv").unwrap(),
        Some(vec![1, 2])
    );
    assert_eq!(gguf.strings("tokenizer.ggml.tokens").unwrap(), ["a", "é"]);
    assert_eq!(gguf.optional_u32("llama.nothing").unwrap(), None);
    let first = gguf.tensor("first").unwrap();
    assert_eq!((first.info.columns(), first.info.rows()), (32, 2));
    assert_eq!(first.data, [7; 68]);
    assert_eq!(gguf.tensor("second").unwrap().data, [1; 12]);
    assert!(gguf.tensor("third").is_none());
}

#[test]
fn a_mapped_file_equals_one_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, small()).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(gguf.tensor("first").unwrap().data, [7; 68]);
    std::fs::write(folder.path().join("empty"), b"").unwrap();
    assert!(Gguf::open(&folder.path().join("empty")).is_err());
    let error = Gguf::open(&folder.path().join("absent"))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot open "), "{error}");
}

#[test]
fn questions_name_their_key() {
    let gguf = Gguf::from_bytes(small()).unwrap();
    assert_eq!(
        gguf.u32("llama.x").unwrap_err().to_string(),
        "the metadata has no llama.x"
    );
    assert_eq!(
        gguf.u32("general.architecture").unwrap_err().to_string(),
        "general.architecture is string, but an unsigned integer is needed"
    );
}

#[test]
fn every_truncation_is_refused_or_smaller() {
    let whole = small();
    for length in 0..whole.len() {
        // Only the last tensor's padding may be missing.
        let read = Gguf::from_bytes(whole[..length].to_vec());
        assert_eq!(read.is_ok(), length >= whole.len() - 20, "at {length}");
    }
}

#[test]
fn hostile_headers_are_refused_by_name() {
    assert!(refusal(b"GGML".to_vec()).starts_with("not a GGUF file"));
    assert!(refusal(b"GG".to_vec()).starts_with("not a GGUF file"));
    let mut big = small();
    big[4..8].copy_from_slice(&3_u32.to_be_bytes());
    assert!(refusal(big).contains("big-endian"));
    let mut old = small();
    old[4] = 1;
    assert!(refusal(old).starts_with("GGUF version 1 "));
    let mut many = small();
    many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refusal(many).starts_with("the tensor count counts"));
    let mut pairs = small();
    pairs[16..24].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    assert!(refusal(pairs).starts_with("the metadata count counts"));
}

#[test]
fn hostile_tensors_are_refused_by_name() {
    assert!(Gguf::from_bytes(one_tensor(&[32, 2], 8, 0, 68)).is_ok());
    assert!(refusal(one_tensor(&[32, 2], 8, 0, 67)).starts_with("tensor w needs bytes 0 to 68"));
    assert!(refusal(one_tensor(&[33], 8, 0, 68)).contains("needs a multiple of 32"));
    assert!(refusal(one_tensor(&[0], 0, 0, 68)).contains("zero or too large"));
    assert!(refusal(one_tensor(&[1 << 40, 1 << 40], 0, 0, 68)).contains("zero or too large"));
    assert!(refusal(one_tensor(&[u64::MAX / 3], 0, 0, 68)).contains("zero or too large"));
    assert!(refusal(one_tensor(&[1, 1, 1, 1, 1], 0, 0, 68)).contains("5 dimensions"));
    assert!(refusal(one_tensor(&[], 0, 0, 68)).contains("0 dimensions"));
    assert!(refusal(one_tensor(&[4], 0, 4, 68)).contains("not a multiple of the alignment"));
    assert!(refusal(one_tensor(&[4], 0, !31, 68)).starts_with("tensor w needs bytes"));
}

#[test]
fn an_unknown_kind_reaches_to_the_end() {
    let gguf = Gguf::from_bytes(one_tensor(&[100], 77, 0, 68)).unwrap();
    let tensor = gguf.tensor("w").unwrap();
    assert_eq!(tensor.info.kind, TensorKind::Unknown(77));
    assert_eq!(tensor.data.len(), 68);
}

#[test]
fn alignment_must_be_a_power_of_two() {
    for (alignment, fine) in [(32, true), (64, true), (0, false), (48, false)] {
        let mut file = GgufBuilder::new();
        file.value("general.alignment", Value::U32(alignment));
        assert_eq!(
            Gguf::from_bytes(file.to_bytes(&[]).unwrap()).is_ok(),
            fine,
            "{alignment}"
        );
    }
    let mut text = GgufBuilder::new();
    text.value("general.alignment", Value::String("x".into()));
    assert!(refusal(text.to_bytes(&[]).unwrap()).starts_with("general.alignment is string"));
}

#[test]
fn the_writer_checks_what_it_is_told() {
    let mut file = GgufBuilder::new();
    assert!(file.tensor("a", &[33], TensorKind::Q8_0).is_err());
    file.tensor("a", &[32], TensorKind::Q8_0).unwrap();
    assert!(file.tensor("a", &[32], TensorKind::Q8_0).is_err());
    assert!(
        file.to_bytes(&[])
            .unwrap_err()
            .to_string()
            .contains("never written")
    );
    assert!(
        file.to_bytes(&[&[0; 33]])
            .unwrap_err()
            .to_string()
            .contains("33 were written")
    );
    assert!(file.to_bytes(&[&[0; 34], &[0; 34]]).is_err());
}

#[test]
fn the_two_layouts_of_number_42_are_told_apart() {
    for (kind, data) in [(TensorKind::Q2G128, 32 * 34), (TensorKind::Q2G64, 64 * 18)] {
        for tensors in 1..3 {
            let mut file = GgufBuilder::new();
            let bytes = vec![0; data];
            for index in 0..tensors {
                file.tensor(&format!("w{index}"), &[256, 16], kind).unwrap();
            }
            let gguf =
                Gguf::from_bytes(file.to_bytes(&vec![bytes.as_slice(); tensors]).unwrap()).unwrap();
            assert!(
                gguf.tensors().iter().all(|info| info.kind == kind),
                "{kind}"
            );
        }
    }
}
