//! I2_S of bitnet.cpp (x86): blocks of 128 in 32 bytes, the first quarter in the high bits.
//! One F32 scale stands behind the whole tensor; 28 bytes of zeros follow it.

use super::{Codec, TernaryError};

pub(super) const CODEC: Codec = Codec {
    name: "I2_S",
    multiple: 128,
    columns: 128,
    bytes: 32,
    group: None,
    scale: 0,
    decode,
    encode,
};

/// The scale and its padding.
pub const TAIL: usize = 32;

fn decode(row: &[u8], trits: &mut [i8], _: &mut Vec<f32>) -> Result<(), TernaryError> {
    for (column, trit) in trits.iter_mut().enumerate() {
        let (block, quarter, p) = (column / 128, column % 128 / 32, column % 32);
        let code = row[32 * block + p] >> (6 - 2 * quarter) & 3;
        if code == 3 {
            return Err(TernaryError::Code {
                packing: "I2_S",
                column,
                code,
            });
        }
        *trit = code as i8 - 1;
    }
    Ok(())
}

fn encode(trits: &[i8], _: &[f32], row: &mut Vec<u8>) -> Result<(), TernaryError> {
    for block in trits.chunks_exact(128) {
        row.extend((0..32).map(|p| {
            (0..4).fold(0, |byte, quarter| {
                byte << 2 | (block[32 * quarter + p] + 1) as u8
            })
        }));
    }
    Ok(())
}
