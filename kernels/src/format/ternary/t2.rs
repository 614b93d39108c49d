//! `t2`: four trits a byte, two bits each, least significant first, code = trit + 1.
//! Also the rows of `.h1b` versions 1 and 2.

use super::{Codec, TernaryError};

pub(super) const CODEC: Codec = Codec {
    name: "t2",
    multiple: 1,
    columns: 4,
    bytes: 1,
    group: None,
    scale: 0,
    decode,
    encode,
};

pub(super) fn decode(row: &[u8], trits: &mut [i8], _: &mut Vec<f32>) -> Result<(), TernaryError> {
    for (column, trit) in trits.iter_mut().enumerate() {
        let code = row[column / 4] >> (2 * (column % 4)) & 3;
        if code == 3 {
            return Err(TernaryError::Code {
                packing: "t2",
                column,
                code,
            });
        }
        *trit = code as i8 - 1;
    }
    Ok(())
}

pub(super) fn encode(trits: &[i8], _: &[f32], row: &mut Vec<u8>) -> Result<(), TernaryError> {
    row.extend(trits.chunks(4).map(|four| {
        four.iter().enumerate().fold(0, |byte, (lane, &trit)| {
            byte | ((trit + 1) as u8) << (2 * lane)
        })
    }));
    Ok(())
}
