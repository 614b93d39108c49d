//! Reading GBNF: text to rules.

use std::collections::HashMap;

use super::chars::Chars;
use super::{DEPTH_MAX, GbnfError, Grammar, Node, REPEAT_MAX, RULES_MAX};

/// Reads a grammar; its rules are numbered as they are first named, `root` first.
pub(super) fn read(source: &str) -> Result<Grammar, GbnfError> {
    let mut reader = Reader {
        chars: source.chars().collect(),
        at: 0,
        line: 1,
        depth: 0,
        numbers: HashMap::new(),
        rules: Vec::new(),
        named: Vec::new(),
    };
    reader.number("root");
    reader.grammar()?;
    let missing = reader.rules.iter().position(Option::is_none);
    if let Some(rule) = missing {
        let (line, name) = &reader.named[rule];
        return Err(GbnfError {
            line: *line,
            why: format!("there is no rule `{name}`"),
        });
    }
    Ok(Grammar {
        rules: reader.rules.into_iter().flatten().collect(),
    })
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
    depth: usize,
    numbers: HashMap<String, usize>,
    /// What each rule says, once it has been read.
    rules: Vec<Option<Node>>,
    /// Where each rule was first named, and how.
    named: Vec<(usize, String)>,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

impl Reader {
    fn grammar(&mut self) -> Result<(), GbnfError> {
        loop {
            self.space(true);
            if self.peek().is_none() {
                return Ok(());
            }
            let name = self.word()?;
            self.space(false);
            for c in "::=".chars() {
                if self.peek() != Some(c) {
                    return self.wrong(format!("`::=` belongs after `{name}`"));
                }
                self.next();
            }
            self.space(true);
            let number = self.number(&name);
            let node = self.choice(false)?;
            self.space(false);
            match self.peek() {
                None | Some('\n' | '\r') => {}
                Some(c) => return self.wrong(format!("`{c}` does not belong here")),
            }
            if self.rules.len() > RULES_MAX {
                return self.wrong(format!("it has more than {RULES_MAX} rules"));
            }
            self.rules[number] = Some(node);
        }
    }

    /// Alternatives; inside brackets a rule may go over several lines.
    fn choice(&mut self, inside: bool) -> Result<Node, GbnfError> {
        let mut all = vec![self.row(inside)?];
        loop {
            self.space(inside);
            if self.peek() != Some('|') {
                break;
            }
            self.next();
            self.space(true);
            all.push(self.row(inside)?);
        }
        Ok(match all.len() {
            1 => all.remove(0),
            _ => Node::Choice(all),
        })
    }

    fn row(&mut self, inside: bool) -> Result<Node, GbnfError> {
        let mut row = Vec::new();
        loop {
            self.space(inside);
            let node = match self.peek() {
                Some('"') => self.text()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.next();
                    Node::One(Chars::all())
                }
                Some('(') => self.brackets()?,
                Some(c) if is_word(c) => {
                    let name = self.word()?;
                    Node::Rule(self.number(&name))
                }
                Some('<' | '!') => {
                    let why = "tokens in `<>` are not supported; write the text itself";
                    return self.wrong(why.to_owned());
                }
                Some(c @ ('*' | '+' | '?' | '{')) => {
                    return self.wrong(format!("`{c}` has nothing before it to repeat"));
                }
                _ => break,
            };
            let node = self.repeated(node)?;
            row.push(node);
        }
        Ok(match row.len() {
            1 => row.remove(0),
            _ => Node::Row(row),
        })
    }

    fn brackets(&mut self) -> Result<Node, GbnfError> {
        self.next();
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.wrong(format!("brackets are more than {DEPTH_MAX} deep"));
        }
        let node = self.choice(true)?;
        self.space(true);
        if self.peek() != Some(')') {
            return self.wrong("a `)` is missing".to_owned());
        }
        self.next();
        self.depth -= 1;
        Ok(node)
    }

    /// Whatever `*`, `+`, `?` and counts come after a piece.
    fn repeated(&mut self, mut node: Node) -> Result<Node, GbnfError> {
        for _ in 0..DEPTH_MAX {
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.next();
                    let count = self.counts()?;
                    node = Node::Repeat(Box::new(node), count.0, count.1);
                    continue;
                }
                _ => return Ok(node),
            };
            self.next();
            node = Node::Repeat(Box::new(node), least, most);
        }
        self.wrong("a piece is repeated over and over".to_owned())
    }

    /// `3}`, `3,}`, `,7}` or `3,7}`.
    fn counts(&mut self) -> Result<(usize, Option<usize>), GbnfError> {
        let least = self.count()?;
        self.space(false);
        let most = match self.peek() {
            Some(',') => {
                self.next();
                self.count()?
            }
            _ if least.is_some() => least,
            _ => return self.wrong("a count is missing after `{`".to_owned()),
        };
        self.space(false);
        if self.peek() != Some('}') {
            return self.wrong("a `}` is missing".to_owned());
        }
        self.next();
        let least = least.unwrap_or(0);
        if most.is_some_and(|most| most < least) {
            return self.wrong(format!("`{{{least},..}}` ends below its beginning"));
        }
        Ok((least, most))
    }

    fn count(&mut self) -> Result<Option<usize>, GbnfError> {
        self.space(false);
        let mut digits = String::new();
        while let Some(c) = self.peek().filter(char::is_ascii_digit) {
            digits.push(c);
            self.next();
        }
        if digits.is_empty() {
            return Ok(None);
        }
        match digits.parse() {
            Ok(count) if count <= REPEAT_MAX => Ok(Some(count)),
            _ => self.wrong(format!("counts go to {REPEAT_MAX}")),
        }
    }

    fn text(&mut self) -> Result<Node, GbnfError> {
        self.next();
        let mut text = String::new();
        loop {
            match self.peek() {
                Some('"') => break,
                Some('\n') | None => return self.wrong("a closing `\"` is missing".to_owned()),
                Some(_) => text.push(self.character()?),
            }
        }
        self.next();
        Ok(Node::Text(text))
    }

    fn class(&mut self) -> Result<Node, GbnfError> {
        self.next();
        let turned = self.peek() == Some('^');
        if turned {
            self.next();
        }
        let mut ranges = Vec::new();
        loop {
            match self.peek() {
                Some(']') => break,
                Some('\n') | None => return self.wrong("a closing `]` is missing".to_owned()),
                Some(_) => {}
            }
            let low = self.character()? as u32;
            let dash = self.peek() == Some('-') && self.chars.get(self.at + 1) != Some(&']');
            let high = if dash {
                self.next();
                if matches!(self.peek(), None | Some('\n')) {
                    return self.wrong("a closing `]` is missing".to_owned());
                }
                self.character()? as u32
            } else {
                low
            };
            if high < low {
                return self.wrong("a range ends below its beginning".to_owned());
            }
            ranges.push((low, high));
        }
        self.next();
        let chars = Chars::of(ranges);
        let chars = if turned { chars.not() } else { chars };
        match chars.is_empty() {
            true => self.wrong("a class has no character".to_owned()),
            false => Ok(Node::One(chars)),
        }
    }

    /// One character of a text or a class, perhaps escaped.
    fn character(&mut self) -> Result<char, GbnfError> {
        let c = self.next();
        if c != '\\' {
            return Ok(c);
        }
        let digits = match self.next() {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            c @ ('\\' | '"' | '[' | ']' | '-' | '^' | '\'' | '/') => return Ok(c),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            c => return self.wrong(format!("`\\{c}` is no escape")),
        };
        let hex: String = (0..digits).map(|_| self.next()).collect();
        let found = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
        match found {
            Some(c) => Ok(c),
            None => self.wrong(format!("`{hex}` is no character's number")),
        }
    }

    fn word(&mut self) -> Result<String, GbnfError> {
        let mut word = String::new();
        while let Some(c) = self.peek().filter(|c| is_word(*c)) {
            word.push(c);
            self.next();
        }
        match (word.is_empty(), self.peek()) {
            (false, _) => Ok(word),
            (true, Some(c)) => self.wrong(format!("a rule's name belongs where `{c}` stands")),
            (true, None) => self.wrong("a rule's name is missing".to_owned()),
        }
    }

    fn number(&mut self, name: &str) -> usize {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.rules.len();
        self.numbers.insert(name.to_owned(), number);
        self.rules.push(None);
        self.named.push((self.line, name.to_owned()));
        number
    }

    /// Skips blanks and comments, and ends of lines where the rule goes on behind them.
    fn space(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => {}
                '\n' | '\r' if lines => {}
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.next();
                    }
                    continue;
                }
                _ => return,
            }
            self.next();
        }
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    /// The next character; a NUL at the end, which nothing accepts.
    fn next(&mut self) -> char {
        let c = self.peek().unwrap_or('\0');
        self.line += usize::from(c == '\n');
        self.at += 1;
        c
    }

    fn wrong<T>(&self, why: String) -> Result<T, GbnfError> {
        Err(GbnfError {
            line: self.line,
            why,
        })
    }
}
