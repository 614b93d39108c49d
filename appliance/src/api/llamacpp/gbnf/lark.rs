//! Rules to one regular expression, or to Lark over lexemes that cannot be cut in a wrong place.
//!
//! A lexeme is taken as long as it can be. So a stretch of a rule may be one only when it reads every text in a single
//! way and no character that could make it longer may also follow it: first, follow and "more" sets of characters
//! decide, as in a parser with one character of look-ahead.

use super::chars::Chars;
use super::{Grammar, Node};
use crate::domain::Shape;

/// Pieces of a row that are tried together; more would take long to try and seldom be one lexeme.
const STRETCH_MAX: usize = 16;

/// Longest expression that rules are written into each other for; above, they stay rules.
const PATTERN_BYTES_MAX: usize = 16 << 10;

/// The shape of a grammar.
pub(super) fn shape(grammar: &Grammar) -> Shape {
    let facts = Facts::of(grammar);
    if let Some(Some(pattern)) = facts.patterns.first() {
        return Shape::Regex(pattern.clone());
    }
    let mut text = String::from("start: r0\n");
    let mut wanted = vec![0];
    let mut next = 0;
    while let Some(&rule) = wanted.get(next) {
        let body = facts.write(&grammar.rules[rule], &facts.follow[rule], &mut wanted);
        text.push_str(&format!("r{rule}: {body}\n"));
        next += 1;
    }
    Shape::Grammar(text)
}

/// What is known of each rule.
struct Facts {
    nullable: Vec<bool>,
    first: Vec<Chars>,
    follow: Vec<Chars>,
    /// The rule as an expression, where it does not recurse and stays short.
    patterns: Vec<Option<String>>,
    /// What may come after a whole text of the rule to make a longer one; only where there is a pattern.
    reach: Vec<Reach>,
}

/// The characters of a stretch: all of them, and those that may go on after it could have ended.
#[derive(Debug, Clone, Default)]
struct Reach {
    all: Chars,
    more: Chars,
}

impl Facts {
    fn of(grammar: &Grammar) -> Facts {
        let rules = &grammar.rules;
        let mut facts = Facts {
            nullable: vec![false; rules.len()],
            first: vec![Chars::default(); rules.len()],
            follow: vec![Chars::default(); rules.len()],
            patterns: vec![None; rules.len()],
            reach: vec![Reach::default(); rules.len()],
        };
        let mut changed = true;
        while changed {
            changed = false;
            for (rule, node) in rules.iter().enumerate() {
                let (nullable, first) = (facts.is_nullable(node), facts.first(node));
                changed |= nullable != facts.nullable[rule];
                facts.nullable[rule] = nullable;
                changed |= facts.first[rule].add(&first);
            }
        }
        let mut changed = true;
        while changed {
            changed = false;
            for (rule, node) in rules.iter().enumerate() {
                let follow = facts.follow[rule].clone();
                changed |= facts.spread(node, &follow);
            }
        }
        // A rule gets its pattern once all that it names have theirs; those that recurse never do.
        let mut changed = true;
        while changed {
            changed = false;
            for (rule, node) in rules.iter().enumerate() {
                if facts.patterns[rule].is_none()
                    && let Some(pattern) = facts.pattern(node)
                {
                    facts.reach[rule] = facts.reach(node);
                    facts.patterns[rule] = Some(pattern);
                    changed = true;
                }
            }
        }
        facts
    }

    fn is_nullable(&self, node: &Node) -> bool {
        match node {
            Node::One(_) => false,
            Node::Text(text) => text.is_empty(),
            Node::Row(row) => row.iter().all(|node| self.is_nullable(node)),
            Node::Choice(all) => all.iter().any(|node| self.is_nullable(node)),
            Node::Repeat(inner, least, _) => *least == 0 || self.is_nullable(inner),
            Node::Rule(rule) => self.nullable[*rule],
        }
    }

    fn first(&self, node: &Node) -> Chars {
        match node {
            Node::One(chars) => chars.clone(),
            Node::Text(text) => text.chars().next().map(Chars::one).unwrap_or_default(),
            Node::Row(row) => self.first_of_row(row, &Chars::default()),
            Node::Choice(all) => {
                let mut sum = Chars::default();
                for node in all {
                    sum.add(&self.first(node));
                }
                sum
            }
            Node::Repeat(inner, ..) => self.first(inner),
            Node::Rule(rule) => self.first[*rule].clone(),
        }
    }

    /// What a row may begin with; `then` where all of it may be nothing.
    fn first_of_row(&self, row: &[Node], then: &Chars) -> Chars {
        let mut sum = Chars::default();
        for node in row {
            sum.add(&self.first(node));
            if !self.is_nullable(node) {
                return sum;
            }
        }
        sum.add(then);
        sum
    }

    /// Tells every rule inside of `node` what may follow it.
    fn spread(&mut self, node: &Node, follow: &Chars) -> bool {
        match node {
            Node::One(_) | Node::Text(_) => false,
            Node::Row(row) => {
                let mut changed = false;
                for (i, node) in row.iter().enumerate() {
                    let then = self.first_of_row(&row[i + 1..], follow);
                    changed |= self.spread(node, &then);
                }
                changed
            }
            Node::Choice(all) => {
                let mut changed = false;
                for node in all {
                    changed |= self.spread(node, follow);
                }
                changed
            }
            Node::Repeat(inner, _, most) => {
                let then = self.follow_inside(inner, *most, follow);
                self.spread(inner, &then)
            }
            Node::Rule(rule) => self.follow[*rule].add(follow),
        }
    }

    fn follow_inside(&self, inner: &Node, most: Option<usize>, follow: &Chars) -> Chars {
        let mut then = follow.clone();
        if most != Some(1) {
            then.add(&self.first(inner));
        }
        then
    }

    /// The stretch as an expression, where everything in it has one.
    fn pattern(&self, node: &Node) -> Option<String> {
        let pattern = match node {
            Node::One(chars) => chars.pattern(),
            Node::Text(text) => text.chars().map(escaped).collect(),
            Node::Row(row) => {
                let parts: Option<String> = row.iter().map(|node| self.pattern(node)).collect();
                parts?
            }
            Node::Choice(all) => {
                let parts: Option<Vec<String>> =
                    all.iter().map(|node| self.pattern(node)).collect();
                format!("(?:{})", parts?.join("|"))
            }
            Node::Repeat(inner, least, most) => {
                let inner = match &**inner {
                    node @ (Node::One(_) | Node::Choice(_)) => self.pattern(node)?,
                    Node::Text(text) if text.chars().count() == 1 => self.pattern(inner)?,
                    node => format!("(?:{})", self.pattern(node)?),
                };
                format!("{inner}{}", count(*least, *most))
            }
            Node::Rule(rule) => self.patterns[*rule].clone()?,
        };
        (pattern.len() <= PATTERN_BYTES_MAX).then_some(pattern)
    }

    /// The reach of a stretch that has a pattern. Where one text could be read in two ways, any of its characters
    /// counts as one that may go on.
    fn reach(&self, node: &Node) -> Reach {
        match node {
            Node::One(chars) => Reach {
                all: chars.clone(),
                more: Chars::default(),
            },
            Node::Text(text) => Reach {
                all: Chars::of(text.chars().map(|c| (c as u32, c as u32)).collect()),
                more: Chars::default(),
            },
            Node::Row(row) => {
                let mut sum = Reach::default();
                for node in row {
                    let (next, first) = (self.reach(node), self.first(node));
                    let unclear = sum.more.meets(&first);
                    sum.all.add(&next.all);
                    if self.is_nullable(node) {
                        sum.more.add(&first);
                        sum.more.add(&next.more);
                    } else {
                        sum.more = next.more;
                    }
                    if unclear {
                        sum.more = sum.all.clone();
                    }
                }
                sum
            }
            Node::Choice(all) => {
                let (mut sum, mut firsts) = (Reach::default(), Chars::default());
                let mut unclear = false;
                for node in all {
                    let (next, first) = (self.reach(node), self.first(node));
                    unclear |= firsts.meets(&first);
                    firsts.add(&first);
                    sum.all.add(&next.all);
                    sum.more.add(&next.more);
                    if self.is_nullable(node) {
                        unclear = true;
                    }
                }
                if unclear {
                    sum.more = sum.all.clone();
                }
                sum
            }
            Node::Repeat(inner, _, most) => {
                let (mut sum, first) = (self.reach(inner), self.first(inner));
                if *most != Some(1) {
                    match sum.more.meets(&first) {
                        true => sum.more = sum.all.clone(),
                        false => _ = sum.more.add(&first),
                    }
                }
                sum
            }
            Node::Rule(rule) => self.reach[*rule].clone(),
        }
    }

    /// The stretch as one lexeme, where that is safe before `follow`.
    fn lexeme(&self, node: &Node, follow: &Chars) -> Option<String> {
        if self.is_nullable(node) || self.reach_meets(node, follow) {
            return None;
        }
        Some(format!("/{}/", self.pattern(node)?.replace('/', "\\/")))
    }

    fn reach_meets(&self, node: &Node, follow: &Chars) -> bool {
        self.pattern(node).is_none() || self.reach(node).more.meets(follow)
    }

    /// Writes a stretch as Lark; rules that it names are added to those wanted.
    fn write(&self, node: &Node, follow: &Chars, wanted: &mut Vec<usize>) -> String {
        if let Some(lexeme) = self.lexeme(node, follow) {
            return lexeme;
        }
        match node {
            Node::One(chars) => format!("/{}/", chars.pattern()),
            Node::Text(text) if text.is_empty() => "\"\"".to_owned(),
            Node::Text(text) => {
                let one = |c: char| format!("/{}/", escaped(c).replace('/', "\\/"));
                text.chars().map(one).collect::<Vec<_>>().join(" ")
            }
            Node::Row(row) if row.is_empty() => "\"\"".to_owned(),
            Node::Row(row) => self.write_row(row, follow, wanted),
            Node::Choice(all) => {
                let parts: Vec<String> = all
                    .iter()
                    .map(|node| self.write(node, follow, wanted))
                    .collect();
                format!("({})", parts.join(" | "))
            }
            Node::Repeat(inner, least, most) => {
                // What may be nothing cannot be a lexeme; the same at least once can.
                let once = Node::Repeat(inner.clone(), 1, *most);
                if *least == 0
                    && *most != Some(0)
                    && let Some(lexeme) = self.lexeme(&once, follow)
                {
                    return format!("({lexeme})?");
                }
                let then = self.follow_inside(inner, *most, follow);
                let inner = self.write(inner, &then, wanted);
                format!("({inner}){}", count(*least, *most))
            }
            Node::Rule(rule) => {
                if !wanted.contains(rule) {
                    wanted.push(*rule);
                }
                format!("r{rule}")
            }
        }
    }

    /// The longest safe stretches of a row, and between them what is none.
    fn write_row(&self, row: &[Node], follow: &Chars, wanted: &mut Vec<usize>) -> String {
        let mut parts = Vec::new();
        let mut from = 0;
        while from < row.len() {
            let end = row.len().min(from + STRETCH_MAX);
            let stretch = (from + 1..=end).rev().find_map(|to| {
                let then = self.first_of_row(&row[to..], follow);
                let lexeme = self.lexeme(&Node::Row(row[from..to].to_vec()), &then)?;
                Some((lexeme, to))
            });
            if let Some((lexeme, to)) = stretch {
                parts.push(lexeme);
                from = to;
            } else {
                let then = self.first_of_row(&row[from + 1..], follow);
                parts.push(self.write(&row[from], &then, wanted));
                from += 1;
            }
        }
        parts.join(" ")
    }
}

fn count(least: usize, most: Option<usize>) -> String {
    match (least, most) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (least, None) => format!("{{{least},}}"),
        (least, Some(most)) if least == most => format!("{{{least}}}"),
        (least, Some(most)) => format!("{{{least},{most}}}"),
    }
}

/// A character that stands for itself in an expression.
fn escaped(c: char) -> String {
    match c {
        '\n' => r"\n".to_owned(),
        '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => {
            format!("\\{c}")
        }
        c if c.is_ascii_graphic() || c == ' ' => c.to_string(),
        c => format!(r"\x{{{:x}}}", c as u32),
    }
}
