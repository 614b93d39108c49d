//! The printable alphabet in which byte-level BPE vocabularies are written: one character a byte.
//!
//! Bytes that print in Latin-1 stand for themselves; the 68 others become U+0100, U+0101, ...

/// Whether a byte stands for itself.
fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The characters of all 256 bytes.
pub(super) fn alphabet() -> [char; 256] {
    let mut next = 0x100_u32;
    let mut alphabet = ['\0'; 256];
    for byte in 0..=255_u8 {
        alphabet[byte as usize] = if is_plain(byte) {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap_or('\0')
        };
    }
    alphabet
}

/// The byte that a character stands for, if any.
pub(super) fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0..=0xff => u8::try_from(code).ok().filter(|&byte| is_plain(byte)),
        // The bytes below 0x21 come first, then 0x7f to 0xa0, then 0xad.
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_returns() {
        for (byte, c) in alphabet().into_iter().enumerate() {
            assert_eq!(byte_of(c), Some(byte as u8), "{byte}");
        }
        assert_eq!(alphabet()[b' ' as usize], 'Ġ');
        assert_eq!(byte_of('語'), None);
        assert_eq!(byte_of(' '), None);
    }
}
