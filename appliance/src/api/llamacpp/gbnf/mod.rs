//! Grammars as llama.cpp writes them (GBNF), turned into what our engines keep to.
//!
//! GBNF has no tokens of its own: every character is matched by itself. Our engines' Lark has lexemes, each taken as
//! long as it can be. So a grammar without recursion becomes one regular expression, and in any other one a stretch
//! becomes a lexeme only where nothing that may follow could have made it longer ([`lark`]); everything else stays
//! character by character. Where two lexemes may begin at one place, the longer one is taken.

mod chars;
mod lark;
mod reader;

use crate::domain::Shape;

/// Longest grammar; the largest ones that people write for languages have some 10 kB.
const BYTES_MAX: usize = 32 << 10;
/// Rules in one grammar.
const RULES_MAX: usize = 1000;
/// Brackets inside brackets.
const DEPTH_MAX: usize = 100;
/// Copies that a count such as `{3,7}` may ask for.
const REPEAT_MAX: usize = 2000;

/// What is wrong with a grammar.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be read in line {line}: {why}")]
pub(super) struct GbnfError {
    line: usize,
    why: String,
}

/// A piece of a rule.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// One character of these.
    One(chars::Chars),
    /// Exactly this text.
    Text(String),
    /// One after the other.
    Row(Vec<Node>),
    /// One of them.
    Choice(Vec<Node>),
    /// At least and, where there is a limit, at most so often.
    Repeat(Box<Node>, usize, Option<usize>),
    /// Another rule, by number.
    Rule(usize),
}

/// A grammar: its rules by number, of which the first is `root`.
struct Grammar {
    rules: Vec<Node>,
}

/// Translates a grammar.
///
/// # Errors
/// It cannot be read, uses a rule that it does not define, or has none named `root`.
pub(super) fn shape(source: &str) -> Result<Shape, GbnfError> {
    if source.len() > BYTES_MAX {
        return Err(GbnfError {
            line: 1,
            why: format!("it is longer than {BYTES_MAX} bytes"),
        });
    }
    let grammar = reader::read(source)?;
    Ok(lark::shape(&grammar))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(source: &str) -> String {
        match shape(source).unwrap() {
            Shape::Regex(regex) => regex,
            other => panic!("{source} became {other:?}"),
        }
    }

    fn lark(source: &str) -> String {
        match shape(source).unwrap() {
            Shape::Grammar(lark) => lark,
            other => panic!("{source} became {other:?}"),
        }
    }

    #[test]
    fn what_does_not_recurse_is_one_expression() {
        assert_eq!(regex(r#"root ::= "yes" | "no""#), "(?:yes|no)");
        assert_eq!(
            regex("# a list\nroot ::= item+\nitem ::= \"- \" [^\\r\\n]+ \"\\n\""),
            r"(?:- [\x{0}-\x{9}\x{b}-\x{c}\x{e}-\x{10ffff}]+\n)+"
        );
        assert_eq!(
            regex("root ::= year \"-\" [0-1]{2}\nyear ::= [0-9]{4,}"),
            r"[\x{30}-\x{39}]{4,}-[\x{30}-\x{31}]{2}"
        );
        assert_eq!(
            regex("root ::= (\"a\"\n | \"b\")? ."),
            r"(?:a|b)?[\x{0}-\x{10ffff}]"
        );
        assert_eq!(regex(r#"root ::= "\x41\u00e9\"\\""#), r#"A\x{e9}"\\"#);
    }

    #[test]
    fn recursion_becomes_rules_over_lexemes() {
        let json = lark(
            r#"
root   ::= value
value  ::= object | string | ("true" | "false") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" ["\\bfnrt])* "\"" ws
ws     ::= [ \t\n]*
"#,
        );
        assert!(json.starts_with("start: r0\n"), "{json}");
        // Nothing that may follow a string, white space with it, could have made it longer.
        assert!(
            json.contains(r#"\x{5d}-\x{7e}\x{80}-\x{10ffff}]|\\[\x{22}\x{5c}"#),
            "{json}"
        );
    }

    #[test]
    fn a_lexeme_leaves_to_the_next_what_is_its_own() {
        let sums = lark(
            r#"
root ::= (expr "=" ws term "\n")+
expr ::= term ([-+*/] term)*
term ::= num | "(" ws expr ")" ws
num  ::= [0-9]+ ws
ws   ::= [ \t\n]*
"#,
        );
        // The line's end belongs to the root: white space before it is matched character by character.
        assert!(
            sums.contains(r"/[\x{30}-\x{39}]+/ r") && sums.contains(r": (/[\x{9}-\x{a}\x{20}]/)*"),
            "{sums}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        for (source, line, word) in [
            ("", 1, "`root`"),
            ("start ::= \"a\"", 1, "`root`"),
            ("root ::= \"a\"\n\nroot ::= thing", 3, "`thing`"),
            ("root ::= \"a", 1, "\""),
            ("root ::= [a-", 1, "]"),
            ("root ::= (\"a\"", 1, ")"),
            ("root = \"a\"", 1, "::="),
            ("root ::= * \"a\"", 1, "*"),
            ("root ::= \"a\"{9999}", 1, "2000"),
            ("root ::= \"\\q\"", 1, "\\q"),
            ("root ::= !<think>", 1, "<"),
        ] {
            let error = shape(source).unwrap_err();
            assert!(
                error.line == line && error.why.contains(word),
                "{source:?}: {error}"
            );
        }
        let deep = format!("root ::= {}\"a\"{}", "(".repeat(5000), ")".repeat(5000));
        assert!(shape(&deep).unwrap_err().why.contains("deep"));
    }
}
