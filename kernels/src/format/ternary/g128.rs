//! PrismML's groups of 128 with an F16 scale before the codes: Q2_0 (ternary) and Q1_0 (binary).

use half::f16;

use super::{Codec, TernaryError, t2};
use crate::format::float::f16_at;

/// Weights in a group of either.
const GROUP: usize = 128;

pub(super) const TERNARY: Codec = Codec {
    name: "Q2_0_g128",
    multiple: GROUP,
    columns: GROUP,
    bytes: 34,
    group: Some(GROUP),
    scale: 0,
    decode: decode_2,
    encode: encode_2,
};

pub(super) const BINARY: Codec = Codec {
    name: "Q1_0_g128",
    multiple: GROUP,
    columns: GROUP,
    bytes: 18,
    group: Some(GROUP),
    scale: 0,
    decode: decode_1,
    encode: encode_1,
};

fn decode_2(row: &[u8], trits: &mut [i8], scales: &mut Vec<f32>) -> Result<(), TernaryError> {
    for (index, (group, trits)) in row
        .chunks_exact(34)
        .zip(trits.chunks_exact_mut(GROUP))
        .enumerate()
    {
        scales.push(f16_at(group, 0));
        t2::decode(&group[2..], trits, &mut Vec::new()).map_err(|error| match error {
            TernaryError::Code { column, code, .. } => TernaryError::Code {
                packing: "Q2_0_g128",
                column: index * GROUP + column,
                code,
            },
            other => other,
        })?;
    }
    Ok(())
}

fn encode_2(trits: &[i8], scales: &[f32], row: &mut Vec<u8>) -> Result<(), TernaryError> {
    for (group, &scale) in trits.chunks_exact(GROUP).zip(scales) {
        row.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
        t2::encode(group, &[], row)?;
    }
    Ok(())
}

fn decode_1(row: &[u8], trits: &mut [i8], scales: &mut Vec<f32>) -> Result<(), TernaryError> {
    for (group, trits) in row.chunks_exact(18).zip(trits.chunks_exact_mut(GROUP)) {
        scales.push(f16_at(group, 0));
        for (at, trit) in trits.iter_mut().enumerate() {
            *trit = if group[2 + at / 8] >> (at % 8) & 1 == 1 {
                1
            } else {
                -1
            };
        }
    }
    Ok(())
}

fn encode_1(trits: &[i8], scales: &[f32], row: &mut Vec<u8>) -> Result<(), TernaryError> {
    if let Some(column) = trits.iter().position(|&trit| trit == 0) {
        return Err(TernaryError::Zero {
            packing: "Q1_0_g128",
            column,
        });
    }
    for (group, &scale) in trits.chunks_exact(GROUP).zip(scales) {
        row.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
        row.extend(group.chunks_exact(8).map(|eight| {
            eight
                .iter()
                .enumerate()
                .fold(0, |byte, (bit, &trit)| byte | u8::from(trit > 0) << bit)
        }));
    }
    Ok(())
}
