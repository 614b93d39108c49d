//! Unicode classes as the pre-tokenizers' patterns name them. Knows single characters only.

use std::sync::OnceLock;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// `\p{L}`
pub(super) const LETTER: u16 = 1;
/// `\p{N}`
pub(super) const NUMBER: u16 = 2;
/// `\p{P}`
pub(super) const PUNCTUATION: u16 = 4;
/// `\p{S}`
pub(super) const SYMBOL: u16 = 8;
/// `\p{M}`
pub(super) const MARK: u16 = 16;
/// `\s`
pub(super) const SPACE: u16 = 32;
/// `\p{C}` without unassigned characters
pub(super) const CONTROL: u16 = 64;
/// `\p{Lu}` and `\p{Lt}`
pub(super) const UPPER: u16 = 128;
/// `\p{Ll}`
pub(super) const LOWER: u16 = 256;

/// Scripts in daily use lie below this; a table for them is built once (256 kB, 3 ms).
const TABLE: usize = 0x20000;

/// The classes that a character belongs to, as a set of the bits above.
pub(super) fn classes(c: char) -> u16 {
    static CLASSES: OnceLock<Box<[u16]>> = OnceLock::new();
    let table = CLASSES.get_or_init(|| {
        (0..TABLE as u32)
            .map(|code| char::from_u32(code).map_or(0, look_up))
            .collect()
    });
    match table.get(c as usize) {
        Some(&known) => known,
        None => look_up(c),
    }
}

/// Whether a character belongs to any of these classes.
pub(super) fn is(c: char, wanted: u16) -> bool {
    classes(c) & wanted != 0
}

fn look_up(c: char) -> u16 {
    use GeneralCategory as G;
    let category = match c.general_category() {
        G::UppercaseLetter | G::TitlecaseLetter => LETTER | UPPER,
        G::LowercaseLetter => LETTER | LOWER,
        G::ModifierLetter | G::OtherLetter => LETTER,
        G::DecimalNumber | G::LetterNumber | G::OtherNumber => NUMBER,
        G::ConnectorPunctuation
        | G::DashPunctuation
        | G::OpenPunctuation
        | G::ClosePunctuation
        | G::InitialPunctuation
        | G::FinalPunctuation
        | G::OtherPunctuation => PUNCTUATION,
        G::MathSymbol | G::CurrencySymbol | G::ModifierSymbol | G::OtherSymbol => SYMBOL,
        G::NonspacingMark | G::SpacingMark | G::EnclosingMark => MARK,
        G::Control | G::Format | G::PrivateUse | G::Surrogate => CONTROL,
        G::SpaceSeparator | G::LineSeparator | G::ParagraphSeparator | G::Unassigned => 0,
    };
    if c.is_whitespace() {
        category | SPACE
    } else {
        category
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_characters() {
        assert_eq!(classes('A'), LETTER | UPPER);
        assert_eq!(classes('ß'), LETTER | LOWER);
        assert_eq!(classes('語'), LETTER);
        assert_eq!(classes('½'), NUMBER);
        assert_eq!(classes('_'), PUNCTUATION);
        assert_eq!(classes('€'), SYMBOL);
        assert_eq!(classes('\u{301}'), MARK);
        assert_eq!(classes('\n'), SPACE | CONTROL);
        assert_eq!(classes('\u{3000}'), SPACE);
        assert_eq!(classes('\u{20000}'), LETTER);
    }
}
