//! Sets of characters, as sorted ranges that neither touch nor overlap.

/// A set of characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chars(Vec<(u32, u32)>);

const LAST: u32 = char::MAX as u32;

impl Chars {
    /// Exactly one.
    pub(super) fn one(c: char) -> Chars {
        Chars(vec![(c as u32, c as u32)])
    }

    /// Every character.
    pub(super) fn all() -> Chars {
        Chars(vec![(0, LAST)])
    }

    /// Those between, both ends included, of all ranges.
    pub(super) fn of(mut ranges: Vec<(u32, u32)>) -> Chars {
        ranges.sort_unstable();
        let mut out: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match out.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => out.push((low, high)),
            }
        }
        Chars(out)
    }

    /// Every other character.
    pub(super) fn not(&self) -> Chars {
        let mut out = Vec::with_capacity(self.0.len() + 1);
        let mut next = 0;
        for &(low, high) in &self.0 {
            if low > next {
                out.push((next, low - 1));
            }
            next = high + 1;
        }
        if next <= LAST {
            out.push((next, LAST));
        }
        Chars(out)
    }

    /// Adds another set; returns whether that changed anything.
    pub(super) fn add(&mut self, other: &Chars) -> bool {
        let ranges = self.0.iter().chain(&other.0).copied().collect();
        let sum = Chars::of(ranges);
        let changed = sum != *self;
        *self = sum;
        changed
    }

    /// Whether they have a character in common.
    pub(super) fn meets(&self, other: &Chars) -> bool {
        let overlap = |a: &(u32, u32), b: &(u32, u32)| a.0 <= b.1 && b.0 <= a.1;
        self.0.iter().any(|a| other.0.iter().any(|b| overlap(a, b)))
    }

    /// A class of a regular expression; the empty one matches nothing.
    pub(super) fn pattern(&self) -> String {
        let range = |&(low, high): &(u32, u32)| match low == high {
            true => format!(r"\x{{{low:x}}}"),
            false => format!(r"\x{{{low:x}}}-\x{{{high:x}}}"),
        };
        let ranges: String = self.0.iter().map(range).collect();
        format!("[{ranges}]")
    }

    /// Whether there is no character at all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_join_and_turn_round() {
        let set = Chars::of(vec![(5, 9), (1, 2), (3, 3), (8, 12)]);
        assert_eq!(set.0, [(1, 3), (5, 12)]);
        assert_eq!(set.not().0, [(0, 0), (4, 4), (13, LAST)]);
        assert_eq!(set.not().not(), set);
        assert!(Chars::all().not().is_empty());
        let mut more = Chars::one('a');
        assert!(more.add(&Chars::one('b')) && !more.add(&Chars::one('a')));
        assert!(more.meets(&Chars::one('b')) && !more.meets(&Chars::one('c')));
        assert_eq!(more.pattern(), r"[\x{61}-\x{62}]");
    }
}
