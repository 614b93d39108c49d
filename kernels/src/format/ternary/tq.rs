//! TQ1_0 and TQ2_0: ggml's ternary blocks of 256 with an F16 scale behind the codes.

use half::f16;

use super::{Codec, TernaryError};
use crate::format::float::f16_at;

/// Trits in a block of either.
const BLOCK: usize = 256;

pub(super) const TQ1_0: Codec = Codec {
    name: "TQ1_0",
    multiple: BLOCK,
    columns: BLOCK,
    bytes: 54,
    group: Some(BLOCK),
    scale: 52,
    decode: decode_1,
    encode: encode_1,
};

pub(super) const TQ2_0: Codec = Codec {
    name: "TQ2_0",
    multiple: BLOCK,
    columns: BLOCK,
    bytes: 66,
    group: Some(BLOCK),
    scale: 64,
    decode: decode_2,
    encode: encode_2,
};

/// The trit of a TQ1_0 block that is digit `k` of byte `byte`, if there is one.
fn place_1(byte: usize, k: usize) -> Option<usize> {
    match byte {
        0..32 => Some(byte + 32 * k),
        32..48 => Some(160 + byte - 32 + 16 * k),
        _ => (k < 4).then(|| 240 + byte - 48 + 4 * k),
    }
}

fn decode_1(row: &[u8], trits: &mut [i8], scales: &mut Vec<f32>) -> Result<(), TernaryError> {
    for (block, trits) in row.chunks_exact(54).zip(trits.chunks_exact_mut(BLOCK)) {
        for (at, &byte) in block[..52].iter().enumerate() {
            let mut rest = byte;
            for k in 0..5 {
                if let Some(place) = place_1(at, k) {
                    trits[place] = ((u16::from(rest) * 3) >> 8) as i8 - 1;
                }
                rest = rest.wrapping_mul(3);
            }
        }
        scales.push(f16_at(block, 52));
    }
    Ok(())
}

fn encode_1(trits: &[i8], scales: &[f32], row: &mut Vec<u8>) -> Result<(), TernaryError> {
    for (trits, &scale) in trits.chunks_exact(BLOCK).zip(scales) {
        row.extend((0..52).map(|at| {
            let digits =
                (0..5).map(|k| place_1(at, k).map_or(0, |place| (trits[place] + 1) as u16));
            let number = digits.fold(0, |number, digit| 3 * number + digit);
            (number * 256).div_ceil(243) as u8
        }));
        row.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
    }
    Ok(())
}

fn decode_2(row: &[u8], trits: &mut [i8], scales: &mut Vec<f32>) -> Result<(), TernaryError> {
    for (index, (block, trits)) in row
        .chunks_exact(66)
        .zip(trits.chunks_exact_mut(BLOCK))
        .enumerate()
    {
        for (codes, trits) in block[..64]
            .as_chunks::<32>()
            .0
            .iter()
            .zip(trits.as_chunks_mut::<128>().0)
        {
            for (k, trits) in trits.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                for (trit, byte) in trits.iter_mut().zip(codes) {
                    *trit = (byte >> (2 * k) & 3) as i8 - 1;
                }
            }
        }
        if let Some(at) = trits.iter().position(|&trit| trit > 1) {
            return Err(TernaryError::Code {
                packing: "TQ2_0",
                column: index * BLOCK + at,
                code: 3,
            });
        }
        scales.push(f16_at(block, 64));
    }
    Ok(())
}

fn encode_2(trits: &[i8], scales: &[f32], row: &mut Vec<u8>) -> Result<(), TernaryError> {
    for (trits, &scale) in trits.chunks_exact(BLOCK).zip(scales) {
        for half in trits.chunks_exact(128) {
            row.extend((0..32).map(|m| {
                (0..4).fold(0, |byte, k| {
                    byte | ((half[32 * k + m] + 1) as u8) << (2 * k)
                })
            }));
        }
        row.extend_from_slice(&f16::from_f32(scale).to_le_bytes());
    }
    Ok(())
}
