//! One row of any dense format to f32 and back: the definition that every kernel is compared with.

use super::{TensorKind, float, q4, q4_k, q5, q6_k, q8_0};

/// A row that cannot be read or written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RowError {
    #[error("{kind} rows cannot be {verb} here")]
    Unsupported {
        kind: TensorKind,
        verb: &'static str,
    },
    #[error("{columns} columns of {kind} take a different number of bytes than {bytes}")]
    Size {
        kind: TensorKind,
        columns: usize,
        bytes: usize,
    },
}

/// Reads a row of `out.len()` weights.
pub fn decode(kind: TensorKind, row: &[u8], out: &mut [f32]) -> Result<(), RowError> {
    let read: fn(&[u8], &mut [f32]) = match kind {
        TensorKind::F32 => float::decode_f32,
        TensorKind::F16 => float::decode_f16,
        TensorKind::Bf16 => float::decode_bf16,
        TensorKind::Q8_0 => q8_0::decode,
        TensorKind::Q4_0 => q4::decode_0,
        TensorKind::Q4_1 => q4::decode_1,
        TensorKind::Q5_0 => q5::decode_0,
        TensorKind::Q5_1 => q5::decode_1,
        TensorKind::Q4K => q4_k::decode,
        TensorKind::Q6K => q6_k::decode,
        _ => return Err(RowError::Unsupported { kind, verb: "read" }),
    };
    if kind.row_bytes(out.len()) != Some(row.len()) {
        return Err(RowError::Size {
            kind,
            columns: out.len(),
            bytes: row.len(),
        });
    }
    read(row, out);
    Ok(())
}

/// Appends a row of these weights to `row`.
pub fn encode(kind: TensorKind, values: &[f32], row: &mut Vec<u8>) -> Result<(), RowError> {
    let write: fn(&[f32], &mut Vec<u8>) = match kind {
        TensorKind::F32 => float::encode_f32,
        TensorKind::F16 => float::encode_f16,
        TensorKind::Bf16 => float::encode_bf16,
        TensorKind::Q8_0 => q8_0::encode,
        TensorKind::Q4_0 => q4::encode_0,
        TensorKind::Q4_1 => q4::encode_1,
        TensorKind::Q5_0 => q5::encode_0,
        TensorKind::Q5_1 => q5::encode_1,
        TensorKind::Q6K => q6_k::encode,
        _ => {
            return Err(RowError::Unsupported {
                kind,
                verb: "written",
            });
        }
    };
    if kind.row_bytes(values.len()).is_none() {
        return Err(RowError::Size {
            kind,
            columns: values.len(),
            bytes: 0,
        });
    }
    write(values, row);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_match_the_kind() {
        let values: Vec<f32> = (0..256).map(|i| (i as f32).sin()).collect();
        for kind in [
            TensorKind::F32,
            TensorKind::F16,
            TensorKind::Bf16,
            TensorKind::Q8_0,
            TensorKind::Q4_0,
            TensorKind::Q4_1,
            TensorKind::Q5_0,
            TensorKind::Q5_1,
            TensorKind::Q6K,
        ] {
            let mut row = Vec::new();
            encode(kind, &values, &mut row).unwrap();
            assert_eq!(Some(row.len()), kind.row_bytes(256), "{kind}");
            let mut back = vec![0.0; 256];
            decode(kind, &row, &mut back).unwrap();
            let worst = values
                .iter()
                .zip(&back)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst < 0.15, "{kind}: {worst}");
            assert!(decode(kind, &row[1..], &mut back).is_err());
        }
        assert_eq!(q4_k::BYTES, TensorKind::Q4K.block_bytes().unwrap());
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let error = decode(TensorKind::Iq2S, &[], &mut []).unwrap_err();
        assert_eq!(error.to_string(), "IQ2_S rows cannot be read here");
    }

    /// Rows that llama.cpp quantised, against the numbers that it reads from them.
    #[test]
    fn rows_decode_as_llama_cpp_reads_them() {
        let mut rest = &include_bytes!("../../tests/golden/dense.bin")[..];
        let mut kinds = 0;
        while let Some((&[a, b, c, d, e, f, g, h], after)) = rest.split_first_chunk::<8>() {
            let kind = TensorKind::from_id(u32::from_le_bytes([a, b, c, d]));
            let (row, after) = after.split_at(u32::from_le_bytes([e, f, g, h]) as usize);
            let (numbers, after) = after.split_at(4 * 512);
            let (mut expected, mut out) = (vec![0.0; 512], vec![0.0; 512]);
            float::decode_f32(numbers, &mut expected);
            decode(kind, row, &mut out).unwrap();
            for (column, (ours, theirs)) in out.iter().zip(&expected).enumerate() {
                // Q4_K and Q6_K multiply in another order there: a few units in the last place.
                assert!(
                    (ours - theirs).abs() <= 4.0 * f32::EPSILON * theirs.abs().max(1.0),
                    "{kind}, {column}"
                );
            }
            rest = after;
            kinds += 1;
        }
        assert_eq!((kinds, rest.len()), (9, 0));
    }
}
