//! Secrets: how they are made, written, hashed and compared. A secret is shown once and kept as its hash.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::TrustError;
use crate::store::SecretHash;

/// What every token of ours begins with; scanners of leaked secrets can look for it.
const PREFIX: &str = "ob_";

/// Digits and letters that people do not mistake for each other (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Fills an array with random bytes.
///
/// # Errors
/// The system has no random numbers to give.
pub(super) fn random<const N: usize>() -> Result<[u8; N], TrustError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| TrustError::Random(error.to_string()))?;
    Ok(bytes)
}

/// 256 random bits need no slow hash: nobody can try them all.
pub(super) fn hash(secret: &[u8]) -> SecretHash {
    Sha256::digest(secret).into()
}

/// Compares without telling by its time how much of it was right.
pub(super) fn same(a: &SecretHash, b: &SecretHash) -> bool {
    a.ct_eq(b).into()
}

/// A token as a client shows it: `ob_IDENTIFIER_SECRET`.
pub(super) struct Token {
    /// Which credential it claims to be.
    pub(super) id: String,
    /// The hash of its secret.
    pub(super) secret: SecretHash,
}

impl Token {
    /// Makes the token of a credential, and the hash to keep.
    pub(super) fn make(id: &str) -> Result<(String, SecretHash), TrustError> {
        let secret = hex(&random::<32>()?);
        Ok((format!("{PREFIX}{id}_{secret}"), hash(secret.as_bytes())))
    }

    /// Whether a text is meant to be a token of ours, right or wrong.
    pub(super) fn is_ours(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Reads a token; `None` when it is not of our form.
    pub(super) fn parse(text: &str) -> Option<Token> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (id.len() == 24 && secret.len() == 64 && is_hex(id) && is_hex(secret)).then(|| Token {
            id: id.to_owned(),
            secret: hash(secret.as_bytes()),
        })
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A code for people and QR pictures: `symbols` of five random bits each.
pub(super) fn code(symbols: usize) -> Result<String, TrustError> {
    let bytes = random::<32>()?;
    Ok(bytes[..symbols.min(32)]
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 31)]))
        .collect())
}

/// A code as it was typed, in the form in which it is hashed: no blanks or dashes, capitals, and the letters that
/// look like digits as those digits. `None` for what cannot be a code.
pub(super) fn normal(typed: &str) -> Option<String> {
    let mut code = String::new();
    for letter in typed.chars() {
        let letter = match letter.to_ascii_uppercase() {
            ' ' | '-' => continue,
            'O' => '0',
            'I' | 'L' => '1',
            letter => letter,
        };
        if code.len() == 32 || !ALPHABET.contains(&u8::try_from(letter).ok()?) {
            return None;
        }
        code.push(letter);
    }
    (!code.is_empty()).then_some(code)
}

/// Bytes as words that can be said and compared, five letters for each 16 bits.
pub(super) fn words(bytes: &[u8], count: usize) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let mut words = Vec::new();
    for pair in bytes.chunks_exact(2).take(count) {
        let bits = usize::from(pair[0]) << 8 | usize::from(pair[1]);
        let letters = [
            CONSONANTS[bits >> 12 & 15],
            VOWELS[bits >> 10 & 3],
            CONSONANTS[bits >> 6 & 15],
            VOWELS[bits >> 4 & 3],
            CONSONANTS[bits & 15],
        ];
        words.push(letters.map(char::from).iter().collect::<String>());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_parses_back_and_everything_else_does_not() {
        let id = "0123456789abcdef01234567";
        let (text, kept) = Token::make(id).unwrap();
        let token = Token::parse(&text).unwrap();
        assert_eq!((token.id.as_str(), token.secret), (id, kept));
        let other = Token::make(id).unwrap().0;
        assert!(!same(&Token::parse(&other).unwrap().secret, &kept));
        let cut = &text[..text.len() - 1];
        for wrong in [
            "",
            "ob_",
            "sk-abc",
            cut,
            &format!("{text}0"),
            &text.to_uppercase(),
            &text.replace('_', "-"),
        ] {
            assert!(Token::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn codes_survive_typing() {
        let code = code(8).unwrap();
        assert_eq!(code.len(), 8);
        assert_eq!(normal(&code).as_deref(), Some(code.as_str()));
        assert_eq!(normal("oil1-0abc ").as_deref(), Some("01110ABC"));
        for wrong in ["", "--", "ABCU", "ä", "0\n", &"0".repeat(33)] {
            assert_eq!(normal(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn words_are_five_letters_and_tell_every_bit_pair_apart() {
        let mut seen = std::collections::HashSet::new();
        for n in 0..=u16::MAX {
            seen.insert(words(&n.to_be_bytes(), 1));
        }
        assert_eq!(seen.len(), 1 << 16, "a word must stand for its 16 bits");
        assert_eq!(words(&[0; 8], 2), "babab babab");
    }
}
