//! Markdown: the source stays as it is, since people read it well; its headings become structure.

use super::plain::decode;
use super::writer::{Writer, squeeze};
use super::{ExtractError, Limits};
use crate::domain::document::{Heading, Text};

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    let mut writer = Writer::new(limits);
    writer.block(&decode(bytes))?;
    let mut text = writer.finish(ExtractError::Empty)?;
    text.headings = headings(&text.content);
    text.title = text
        .headings
        .iter()
        .find(|heading| heading.level == 1)
        .map(|heading| heading.title.clone());
    Ok(text)
}

/// ATX (`## Title`) and setext (underlined) headings outside of code fences, as CommonMark 0.31 defines them.
fn headings(content: &str) -> Vec<Heading> {
    let mut out = Vec::new();
    let mut fence: Option<&str> = None;
    let mut at = 0;
    let mut previous: Option<(usize, &str)> = None; // a paragraph line that an underline could turn into a heading
    for line in content.split_inclusive('\n') {
        let bare = line.trim();
        let mark = ["```", "~~~"]
            .into_iter()
            .find(|mark| bare.starts_with(mark));
        match (fence, mark) {
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, Some(mark)) => fence = Some(mark),
            _ => {}
        }
        let indented = line.starts_with("    ") || line.starts_with('\t');
        let mut paragraph = None;
        if fence.is_none() && mark.is_none() && !indented && !bare.is_empty() {
            let hashes = bare.bytes().take_while(|byte| *byte == b'#').count();
            if (1..=6).contains(&hashes) && bare[hashes..].starts_with([' ', '\t']) {
                let title = squeeze(bare[hashes..].trim().trim_end_matches('#'));
                out.push(Heading {
                    start: at,
                    level: hashes as u8,
                    title,
                });
            } else if let (Some((start, title)), Some(level)) = (previous, underline(bare)) {
                out.push(Heading {
                    start,
                    level,
                    title: squeeze(title),
                });
            } else {
                paragraph = Some((at, bare));
            }
        }
        previous = paragraph;
        at += line.len();
    }
    out
}

fn underline(line: &str) -> Option<u8> {
    let all = |mark: u8| line.bytes().all(|byte| byte == mark);
    if all(b'=') {
        Some(1)
    } else if all(b'-') {
        Some(2)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_found_where_commonmark_sees_them() {
        let source =
            "# One #\ntext\n\nTwo\n---\n\n```\n# code\n```\n    # indented\n### Three\n#four\n";
        let text = read(source.as_bytes(), Limits::default()).expect("markdown is text");
        let found: Vec<_> = text
            .headings
            .iter()
            .map(|heading| (heading.level, heading.title.as_str()))
            .collect();
        assert_eq!(found, [(1, "One"), (2, "Two"), (3, "Three")]);
        assert!(text.content[text.headings[1].start..].starts_with("Two\n---"));
        assert_eq!(text.title.as_deref(), Some("One"));
    }
}
