//! Places in a text that no token of a vocabulary spans: each stretch between them can be merged
//! by itself, which keeps the merge queue short and gives the same tokens.

use std::collections::HashSet;

/// The characters that stand before a `▁` inside some token.
#[derive(Debug)]
pub(super) struct Seams {
    joined: HashSet<char>,
}

impl Seams {
    /// Looks through all texts that merging can produce.
    pub(super) fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Seams {
        let mut joined = HashSet::new();
        for text in texts {
            let marks = text.match_indices('▁').filter(|&(at, _)| at > 0);
            joined.extend(marks.filter_map(|(at, _)| text[..at].chars().next_back()));
        }
        Seams { joined }
    }

    /// Calls `each` for every stretch of `text`, in order.
    pub(super) fn cut(&self, text: &str, mut each: impl FnMut(&str)) {
        let mut start = 0;
        for (at, _) in text.match_indices('▁') {
            let before = text[start..at].chars().next_back();
            if before.is_some_and(|c| !self.joined.contains(&c)) {
                each(&text[start..at]);
                start = at;
            }
        }
        if start < text.len() {
            each(&text[start..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_only_where_no_token_reaches() {
        let seams = Seams::new(["▁the", "▁▁", "of▁the"].into_iter());
        let mut parts = Vec::new();
        seams.cut("▁a▁of▁the▁▁end", |part| {
            parts.push(part.to_owned())
        });
        assert_eq!(parts, ["▁a", "▁of▁the", "▁▁end"]);
    }
}
