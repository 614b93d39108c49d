//! `s34` and `s24`: 5-bit codes for groups of four trits with exactly one or exactly two zeros.
//! Group g takes bits 5g to 5g + 4 of the row, least significant bit first.

use super::{Codec, TernaryError};

/// Exactly one zero: bits 4..3 its position, bits 2..0 the other signs in column order.
pub(super) const ONE_ZERO: Codec = Codec {
    name: "s34",
    multiple: 32,
    columns: 32,
    bytes: 5,
    group: None,
    scale: 0,
    decode: |row, trits, _| decode(row, trits, "s34", &S34),
    encode: |trits, _, row| encode(trits, row, "s34", 1, &S34),
};

/// Exactly two zeros: 4 * pair of positions + their signs.
pub(super) const TWO_ZEROS: Codec = Codec {
    name: "s24",
    multiple: 32,
    columns: 32,
    bytes: 5,
    group: None,
    scale: 0,
    decode: |row, trits, _| decode(row, trits, "s24", &S24),
    encode: |trits, _, row| encode(trits, row, "s24", 2, &S24),
};

/// The group of each `s34` code.
pub const S34: [[i8; 4]; 32] = {
    let mut table = [[0_i8; 4]; 32];
    let mut code = 0;
    while code < 32 {
        let (zero, mut bit, mut lane) = (code >> 3, 0, 0);
        while lane < 4 {
            if lane != zero {
                table[code][lane] = if code >> bit & 1 == 1 { 1 } else { -1 };
                bit += 1;
            }
            lane += 1;
        }
        code += 1;
    }
    table
};

/// The pairs of positions in the order of their `s24` codes.
const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];

/// The group of each `s24` code; codes 24 to 31 do not exist.
pub const S24: [[i8; 4]; 24] = {
    let mut table = [[0_i8; 4]; 24];
    let mut code = 0;
    while code < 24 {
        let (first, second) = PAIRS[code >> 2];
        table[code][first] = if code & 1 == 1 { 1 } else { -1 };
        table[code][second] = if code & 2 == 2 { 1 } else { -1 };
        code += 1;
    }
    table
};

/// The 5-bit code of group `g`.
fn code_at(row: &[u8], g: usize) -> u8 {
    let (byte, shift) = (5 * g / 8, 5 * g % 8);
    // The last group of a row ends on its last bit, so there may be no byte behind it.
    let next = row.get(byte + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([row[byte], next]) >> shift) as u8 & 31
}

fn decode(
    row: &[u8],
    trits: &mut [i8],
    packing: &'static str,
    table: &[[i8; 4]],
) -> Result<(), TernaryError> {
    let (groups, _) = trits.as_chunks_mut::<4>();
    for (g, group) in groups.iter_mut().enumerate() {
        let code = code_at(row, g);
        *group = *table.get(code as usize).ok_or(TernaryError::Code {
            packing,
            column: 4 * g,
            code,
        })?;
    }
    Ok(())
}

fn encode(
    trits: &[i8],
    row: &mut Vec<u8>,
    packing: &'static str,
    zeros: usize,
    table: &[[i8; 4]],
) -> Result<(), TernaryError> {
    let start = row.len();
    row.resize(start + trits.len() * 5 / 32, 0);
    let row = &mut row[start..];
    let (groups, _) = trits.as_chunks::<4>();
    for (g, group) in groups.iter().enumerate() {
        let code = table
            .iter()
            .position(|known| known == group)
            .ok_or_else(|| {
                let found = group.iter().filter(|&&trit| trit == 0).count();
                TernaryError::Zeros {
                    packing,
                    column: 4 * g,
                    found,
                    wanted: zeros,
                }
            })?;
        let (byte, shift) = (5 * g / 8, 5 * g % 8);
        let [low, high] = ((code as u16) << shift).to_le_bytes();
        row[byte] |= low;
        if high != 0 {
            row[byte + 1] |= high;
        }
    }
    Ok(())
}
