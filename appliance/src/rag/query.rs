//! A person's words as a query of the text index, quoted so that nothing in them is an operator.

/// Words of one query: beyond that a question is a page, and its first words say what it is about.
const WORDS_MAX: usize = 32;

/// Words of a query that may be a heading; longer ones are sentences.
const HEADING_WORDS_MAX: usize = 12;

/// Words that say nothing about what is looked for. English alone: in other languages rare words decide by
/// themselves, it only takes longer.
const EMPTY: &[&str] = &[
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be",
    "because", "been", "before", "being", "between", "both", "but", "by", "can", "could", "did",
    "do", "does", "doing", "for", "from", "had", "has", "have", "having", "he", "her", "here",
    "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "may", "me", "might",
    "more", "most", "much", "must", "my", "no", "nor", "not", "of", "on", "one", "only", "or",
    "other", "our", "out", "over", "own", "same", "shall", "she", "should", "so", "some", "such",
    "tell", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this",
    "those", "through", "to", "too", "under", "until", "up", "very", "was", "we", "were", "what",
    "when", "where", "which", "while", "who", "whom", "why", "will", "with", "would", "you",
    "your",
];

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// The query that finds passages below a heading that says the whole text, word after word; `None` where the text is
/// longer than headings are, or has no word.
pub fn heading(text: &str) -> Option<String> {
    let words: Vec<String> = words(text).take(HEADING_WORDS_MAX + 1).collect();
    let fits = (1..=HEADING_WORDS_MAX).contains(&words.len());
    fits.then(|| format!("headings : \"{}\"", words.join(" ")))
}

/// The words of a text that say what is looked for, each quoted; all of them where none does.
pub fn telling(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for word in words(text) {
        if !all.contains(&word) && all.len() < WORDS_MAX {
            all.push(word);
        }
    }
    if all.iter().any(|word| !EMPTY.contains(&word.as_str())) {
        all.retain(|word| !EMPTY.contains(&word.as_str()));
    }
    all.iter().map(|word| format!("\"{word}\"")).collect()
}

/// The query that finds passages with any of some quoted words.
pub fn any_of(words: &[String]) -> String {
    words.join(" OR ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_is_words_and_never_syntax() {
        for (text, query) in [
            ("How do I mount a disk?", "\"mount\" OR \"disk\""),
            (
                "NEAR(\"x\") AND y* -z ^w col:v",
                "\"near\" OR \"x\" OR \"y\" OR \"z\" OR \"w\" OR \"col\" OR \"v\"",
            ),
            (
                "to be or not to be",
                "\"to\" OR \"be\" OR \"or\" OR \"not\"",
            ),
            ("apt-get APT", "\"apt\" OR \"get\""),
            ("Größe", "\"größe\""),
            ("?!", ""),
            ("", ""),
        ] {
            assert_eq!(any_of(&telling(text)), query, "{text}");
        }
    }

    #[test]
    fn a_heading_is_asked_for_in_its_own_words() {
        assert_eq!(
            heading("The shell's \"prompt\"").as_deref(),
            Some("headings : \"the shell s prompt\"")
        );
        assert_eq!(heading("?!"), None);
        assert_eq!(heading(&"word ".repeat(HEADING_WORDS_MAX + 1)), None);
    }
}
