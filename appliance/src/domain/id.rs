//! Identifiers: short, random, safe in a URL.

use std::fmt;

/// A random identifier of 96 bits, written as 24 hexadecimal digits.
///
/// 96 bits make a collision among a billion rows less likely than one in 10^10.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(String);

impl Id {
    /// Writes the given random bytes as an identifier.
    pub fn from_bytes(bytes: [u8; 12]) -> Id {
        let mut text = String::with_capacity(24);
        for byte in bytes {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        Id(text)
    }

    /// Takes an identifier from a client or a row; `None` when it is not of our form.
    pub fn parse(text: &str) -> Option<Id> {
        let ok = !text.is_empty()
            && text.len() <= 64
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        ok.then(|| Id(text.to_owned()))
    }

    /// Returns the text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_hex_and_parse_back() {
        let id = Id::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xab, 0xff]);
        assert_eq!(id.as_str(), "000102030405060708 09abff".replace(' ', ""));
        assert_eq!(Id::parse(id.as_str()), Some(id));
    }

    #[test]
    fn foreign_text_is_refused() {
        for text in ["", "a/b", "../x", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(Id::parse(text), None, "{text:?}");
        }
    }
}
