//! How found passages are put before a question, and what the model is told to do with them.

use crate::domain::Citation;

/// What the model is told where nothing was found.
const NOTHING: &str = "Nothing in the documents fits the question below. Say that the documents do not hold the \
    answer, and do not answer from elsewhere.";

/// What it is told where something was.
const RULES: &str = "Answer the question at the end from these passages alone. Name the passages that you use by \
    their numbers in brackets, such as [1]. If the passages do not hold the answer, say that the documents do not \
    hold it.";

/// The question with the passages before it; `texts` are the passages as widened for reading, one for each citation.
pub fn with_passages(question: &str, cited: &[Citation], texts: &[String]) -> String {
    if cited.is_empty() {
        return format!("{NOTHING}\n\nQuestion: {question}");
    }
    let mut prompt = format!("{RULES}\n");
    for (citation, text) in cited.iter().zip(texts) {
        prompt.push_str(&format!("\n[{}] {}", citation.number, citation.name));
        if let Some(page) = citation.page {
            prompt.push_str(&format!(", page {page}"));
        }
        if !citation.headings.is_empty() {
            prompt.push_str(&format!(": {}", citation.headings.join(" > ")));
        }
        prompt.push_str(&format!("\n{}\n", text.trim()));
    }
    prompt.push_str(&format!("\nQuestion: {question}"));
    prompt
}

/// Numbers in brackets that an answer names, in the order of their first mention: `[2]`, `[1, 3]`.
pub fn named(answer: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for part in answer.split('[').skip(1) {
        let Some((inside, _)) = part.split_once(']') else {
            continue;
        };
        for number in inside.split([',', ' ', ';']).filter(|one| !one.is_empty()) {
            match number.parse() {
                Ok(number) if !numbers.contains(&number) => numbers.push(number),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_stand_before_the_question_with_their_place() {
        let cited = Citation {
            number: 1,
            document: "d".into(),
            name: "guide.pdf".into(),
            passage: 4,
            page: Some(12),
            headings: vec!["Disks".into(), "Mounting".into()],
            start: 0,
            end: 9,
            score: 1.0,
            text: "Use mount.".into(),
        };
        let prompt = with_passages("How?", &[cited], &["Use mount.".into()]);
        assert!(
            prompt.contains("\n[1] guide.pdf, page 12: Disks > Mounting\nUse mount.\n"),
            "{prompt}"
        );
        assert!(prompt.ends_with("Question: How?"));
        assert!(with_passages("How?", &[], &[]).starts_with("Nothing in the documents"));
    }

    #[test]
    fn marks_are_found() {
        assert_eq!(named("So [2], and [1, 3]; see [2] or [x] or [4"), [2, 1, 3]);
    }
}
