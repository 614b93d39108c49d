//! Text files and source code: the bytes themselves, decoded.

use super::writer::Writer;
use super::{ExtractError, Limits};
use crate::domain::document::Text;

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    let mut writer = Writer::new(limits);
    writer.block(&decode(bytes))?;
    writer.finish(ExtractError::Empty)
}

/// Text by its byte order mark, as UTF-8 where it is valid, and as Windows-1252 (which accepts every byte) otherwise;
/// line ends become `\n`.
pub(super) fn decode(bytes: &[u8]) -> String {
    let text = match encoding_rs::Encoding::for_bom(bytes) {
        Some((encoding, mark)) => encoding.decode_without_bom_handling(&bytes[mark..]).0,
        None => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => {
                encoding_rs::WINDOWS_1252
                    .decode_without_bom_handling(bytes)
                    .0
            }
        },
    };
    text.replace("\r\n", "\n")
        .replace(['\r', '\u{c}'], "\n")
        .replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_that_editors_write_is_read() {
        for (name, bytes) in [
            ("utf-8", "naïve\r\ncafé".as_bytes().to_vec()),
            (
                "utf-8 with mark",
                [b"\xef\xbb\xbf".as_slice(), "naïve\ncafé".as_bytes()].concat(),
            ),
            (
                "utf-16 le",
                [0xfeff]
                    .iter()
                    .copied()
                    .chain("naïve\ncafé".encode_utf16())
                    .flat_map(u16::to_le_bytes)
                    .collect(),
            ),
            ("windows-1252", b"na\xefve\rcaf\xe9".to_vec()),
        ] {
            assert_eq!(decode(&bytes), "naïve\ncafé", "{name}");
        }
    }
}
