//! A person's words as a query of the text index, quoted so that nothing in them is an operator.

/// Words of one query: beyond that a question is a page, and its first words say what it is about.
const WORDS_MAX: usize = 32;

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

/// The query that finds passages with any of the words; `None` where there is no word at all.
pub fn any_word(text: &str) -> Option<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        let word = word.to_lowercase();
        if !word.is_empty() && !words.contains(&word) && words.len() < WORDS_MAX {
            words.push(word);
        }
    }
    let telling: Vec<&String> = words
        .iter()
        .filter(|word| !EMPTY.contains(&word.as_str()))
        .collect();
    let chosen = if telling.is_empty() {
        words.iter().collect()
    } else {
        telling
    };
    let quoted: Vec<String> = chosen
        .into_iter()
        .map(|word| format!("\"{word}\""))
        .collect();
    (!quoted.is_empty()).then(|| quoted.join(" OR "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_is_words_and_never_syntax() {
        for (text, query) in [
            ("How do I mount a disk?", Some("\"mount\" OR \"disk\"")),
            (
                "NEAR(\"x\") AND y* -z ^w col:v",
                Some("\"near\" OR \"x\" OR \"y\" OR \"z\" OR \"w\" OR \"col\" OR \"v\""),
            ),
            (
                "to be or not to be",
                Some("\"to\" OR \"be\" OR \"or\" OR \"not\""),
            ),
            ("apt-get APT", Some("\"apt\" OR \"get\"")),
            ("Größe", Some("\"größe\"")),
            ("?!", None),
            ("", None),
        ] {
            assert_eq!(any_word(text).as_deref(), query, "{text}");
        }
    }
}
