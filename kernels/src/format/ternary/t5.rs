//! `t5`: five trits a byte in base 3, least significant first, digit = trit + 1, padded with the
//! digit 1. `.h1b` version 4 stores the same in rows of whole 32-bit words.

use super::{Codec, TernaryError};

pub(super) const CODEC: Codec = Codec {
    name: "t5",
    multiple: 1,
    columns: 5,
    bytes: 1,
    group: None,
    scale: 0,
    decode,
    encode,
};

/// The rows of `.h1b` version 4: 20 trits in 4 bytes.
pub(super) const WORDS: Codec = Codec {
    name: "h1b base 3",
    multiple: 1,
    columns: 20,
    bytes: 4,
    group: None,
    scale: 0,
    decode: decode_words,
    encode: encode_words,
};

const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
/// The five trits of every byte below [`END`].
const TRITS: [[i8; 5]; END as usize] = {
    let mut table = [[0; 5]; END as usize];
    let mut byte = 0;
    while byte < END {
        let mut i = 0;
        while i < 5 {
            table[byte as usize][i] = (byte / POWERS[i] % 3) as i8 - 1;
            i += 1;
        }
        byte += 1;
    }
    table
};
/// 3^5: bytes from here on mean nothing.
const END: u8 = 243;

fn decode(row: &[u8], trits: &mut [i8], _: &mut Vec<f32>) -> Result<(), TernaryError> {
    for (index, five) in trits.chunks_mut(5).enumerate() {
        let byte = row[index];
        let Some(trits) = TRITS.get(usize::from(byte)) else {
            return Err(TernaryError::Code {
                packing: "t5",
                column: 5 * index,
                code: byte,
            });
        };
        five.copy_from_slice(&trits[..five.len()]);
    }
    Ok(())
}

fn encode(trits: &[i8], _: &[f32], row: &mut Vec<u8>) -> Result<(), TernaryError> {
    row.extend(trits.chunks(5).map(|five| {
        POWERS
            .iter()
            .enumerate()
            .map(|(i, power)| five.get(i).map_or(1, |&trit| (trit + 1) as u8) * power)
            .sum::<u8>()
    }));
    Ok(())
}

/// Bytes 243 to 255 were read as five zeros by the program that made the format.
fn decode_words(row: &[u8], trits: &mut [i8], _: &mut Vec<f32>) -> Result<(), TernaryError> {
    for (index, five) in trits.chunks_mut(5).enumerate() {
        let trits = TRITS.get(usize::from(row[index])).unwrap_or(&[0; 5]);
        five.copy_from_slice(&trits[..five.len()]);
    }
    Ok(())
}

fn encode_words(trits: &[i8], scales: &[f32], row: &mut Vec<u8>) -> Result<(), TernaryError> {
    let start = row.len();
    encode(trits, scales, row)?;
    // Five digits 1: a zero weight, whatever the activation there.
    let zeros = POWERS.iter().sum();
    row.resize(start + trits.len().div_ceil(20) * 4, zeros);
    Ok(())
}
