//! English text to the phonemes that Kokoro was trained on, and to the numbers of its vocabulary.
//!
//! Words of the dictionary come from misaki; what it does not know is asked of an espeak-ng program where the owner has
//! installed one, and else read by the letter rules of [`letters`].

use std::sync::Arc;

use misaki_rs::{Fallback, G2P, Language};

use super::letters;

/// Asks a program for a word's pronunciation; `None` when there is none or it fails.
pub(super) type Ask = Arc<dyn Fn(&str, bool) -> Option<String> + Send + Sync>;

/// Makes phonemes of text, in one accent.
pub(super) struct Phonemes {
    inner: G2P,
}

struct Unknown {
    ask: Ask,
    british: bool,
}

impl Fallback for Unknown {
    fn phonemize(&self, word: &str) -> Result<String, misaki_rs::fallback::FallbackError> {
        Ok(match (self.ask)(word, self.british) {
            Some(ipa) => from_ipa(&ipa, self.british),
            None => letters::read(word),
        })
    }
}

impl Phonemes {
    /// American or British English.
    #[must_use]
    pub(super) fn new(british: bool, ask: Ask) -> Phonemes {
        let language = if british {
            Language::EnglishGB
        } else {
            Language::EnglishUS
        };
        Phonemes {
            inner: G2P::with_fallback(language, Some(Box::new(Unknown { ask, british }))),
        }
    }

    /// The phonemes of a text.
    ///
    /// # Errors
    /// The dictionary's own.
    pub(super) fn of(&self, text: &str) -> Result<String, String> {
        let (phonemes, _) = self.inner.g2p(text).map_err(|error| error.to_string())?;
        Ok(phonemes)
    }
}

/// The vocabulary's numbers; signs that it does not have are no sound.
#[must_use]
pub(super) fn ids(phonemes: &str) -> Vec<i32> {
    let id = |c: char| {
        VOCABULARY
            .iter()
            .find(|(known, _)| *known == c)
            .map(|(_, id)| *id)
    };
    phonemes.chars().filter_map(id).collect()
}

/// What espeak-ng writes, in the signs that the model was trained on.
fn from_ipa(ipa: &str, british: bool) -> String {
    let mut text: String = ipa.trim().replace(['\u{361}', '\u{200d}', '_', '\n'], "");
    let common = [
        ("aɪ", "I"),
        ("aʊ", "W"),
        ("eɪ", "A"),
        ("ɔɪ", "Y"),
        ("dʒ", "ʤ"),
        ("tʃ", "ʧ"),
        ("ɚ", "əɹ"),
        ("ʲ", ""),
        ("ɬ", "l"),
        ("ç", "k"),
        ("x", "k"),
        ("r", "ɹ"),
        ("ɐ", "ə"),
        ("əl", "ᵊl"),
        ("\u{329}", ""),
    ];
    let accent: &[(&str, &str)] = if british {
        &[("eə", "ɛː"), ("iə", "ɪə"), ("əʊ", "Q")]
    } else {
        &[
            ("oʊ", "O"),
            ("ɜːɹ", "ɜɹ"),
            ("ɜː", "ɜɹ"),
            ("ɪə", "iə"),
            ("ː", ""),
        ]
    };
    for (from, to) in common.iter().chain(accent) {
        text = text.replace(from, to);
    }
    text
}

/// The signs of Kokoro's vocabulary and their numbers, as its configuration lists them.
const VOCABULARY: &[(char, i32)] = &[
    (';', 1),
    (':', 2),
    (',', 3),
    ('.', 4),
    ('!', 5),
    ('?', 6),
    ('—', 9),
    ('…', 10),
    ('"', 11),
    ('(', 12),
    (')', 13),
    ('“', 14),
    ('”', 15),
    (' ', 16),
    ('\u{303}', 17),
    ('ʣ', 18),
    ('ʥ', 19),
    ('ʦ', 20),
    ('ʨ', 21),
    ('ᵝ', 22),
    ('ꭧ', 23),
    ('A', 24),
    ('I', 25),
    ('O', 31),
    ('Q', 33),
    ('S', 35),
    ('T', 36),
    ('W', 39),
    ('Y', 41),
    ('ᵊ', 42),
    ('a', 43),
    ('b', 44),
    ('c', 45),
    ('d', 46),
    ('e', 47),
    ('f', 48),
    ('h', 50),
    ('i', 51),
    ('j', 52),
    ('k', 53),
    ('l', 54),
    ('m', 55),
    ('n', 56),
    ('o', 57),
    ('p', 58),
    ('q', 59),
    ('r', 60),
    ('s', 61),
    ('t', 62),
    ('u', 63),
    ('v', 64),
    ('w', 65),
    ('x', 66),
    ('y', 67),
    ('z', 68),
    ('ɑ', 69),
    ('ɐ', 70),
    ('ɒ', 71),
    ('æ', 72),
    ('β', 75),
    ('ɔ', 76),
    ('ɕ', 77),
    ('ç', 78),
    ('ɖ', 80),
    ('ð', 81),
    ('ʤ', 82),
    ('ə', 83),
    ('ɚ', 85),
    ('ɛ', 86),
    ('ɜ', 87),
    ('ɟ', 90),
    ('ɡ', 92),
    ('ɥ', 99),
    ('ɨ', 101),
    ('ɪ', 102),
    ('ʝ', 103),
    ('ɯ', 110),
    ('ɰ', 111),
    ('ŋ', 112),
    ('ɳ', 113),
    ('ɲ', 114),
    ('ɴ', 115),
    ('ø', 116),
    ('ɸ', 118),
    ('θ', 119),
    ('œ', 120),
    ('ɹ', 123),
    ('ɾ', 125),
    ('ɻ', 126),
    ('ʁ', 128),
    ('ɽ', 129),
    ('ʂ', 130),
    ('ʃ', 131),
    ('ʈ', 132),
    ('ʧ', 133),
    ('ʊ', 135),
    ('ʋ', 136),
    ('ʌ', 138),
    ('ɣ', 139),
    ('ɤ', 140),
    ('χ', 142),
    ('ʎ', 143),
    ('ʒ', 147),
    ('ʔ', 148),
    ('ˈ', 156),
    ('ˌ', 157),
    ('ː', 158),
    ('ʰ', 162),
    ('ʲ', 164),
    ('↓', 169),
    ('→', 171),
    ('↗', 172),
    ('↘', 173),
    ('ᵻ', 177),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Phonemes {
        Phonemes::new(false, Arc::new(|_, _| None))
    }

    #[test]
    fn words_are_looked_up_and_numbers_spoken() {
        let phonemes = plain()
            .of("The birch canoe slid on the smooth planks.")
            .unwrap();
        assert_eq!(phonemes, "ðə bˈɜɹʧ kənˈu slˈɪd ˌɔn ðə smˈuð plˈæŋks.");
        let seven = plain().of("7 dogs").unwrap();
        assert!(seven.starts_with("sˈɛvən"), "{seven}");
    }

    #[test]
    fn an_unknown_word_is_read_and_a_program_is_asked_first() {
        let read = plain().of("Blorvix is here.").unwrap();
        assert!(!read.contains('❓') && read.contains("blˈɔɹv"), "{read}");
        let asked = Phonemes::new(false, Arc::new(|_, _| Some("blˈɔːɹvɪks".into())));
        assert!(
            asked
                .of("Blorvix is here.")
                .unwrap()
                .starts_with("blˈɔɹvɪks")
        );
    }

    #[test]
    fn what_is_no_sound_has_no_number() {
        assert_eq!(ids("ðə ❓."), [81, 83, 16, 4]);
        assert_eq!(VOCABULARY.len(), 114);
    }
}
