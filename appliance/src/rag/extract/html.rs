//! HTML: what a reader sees, with its headings; scripts, styles and navigation are left out.

use super::plain::decode;
use super::writer::{Writer, squeeze};
use super::{ExtractError, Limits};
use crate::domain::document::Text;
use ego_tree::iter::Edge;
use scraper::{Html, Node};

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    let mut writer = Writer::new(limits);
    write(&decode(bytes), &mut writer)?;
    writer.finish(ExtractError::Empty)
}

/// Adds a page's visible text to `writer`. Walks the tree without recursion, so depth costs no stack.
pub(super) fn write(source: &str, writer: &mut Writer) -> Result<(), ExtractError> {
    let page = Html::parse_document(source);
    let mut line = Line::default();
    let mut hidden = 0usize;
    let mut verbatim = 0usize;
    for edge in page.tree.root().traverse() {
        let (node, opens) = match edge {
            Edge::Open(node) => (node, true),
            Edge::Close(node) => (node, false),
        };
        match node.value() {
            Node::Text(text) if opens && hidden == 0 => line.push(text, verbatim > 0),
            Node::Element(element) => {
                let name = element.name();
                if HIDDEN.contains(&name) {
                    if name == "title" && opens {
                        writer.title(
                            &node
                                .descendants()
                                .filter_map(|inner| inner.value().as_text().map(|text| &**text))
                                .collect::<String>(),
                        );
                    }
                    hidden = if opens { hidden + 1 } else { hidden - 1 };
                } else if hidden == 0 {
                    let level = heading_level(name);
                    if name == "pre" {
                        line.flush(writer, None)?;
                        verbatim = if opens { verbatim + 1 } else { verbatim - 1 };
                    } else if let (Some(level), false) = (level, opens) {
                        line.flush(writer, Some(level))?;
                    } else if name == "br" && opens {
                        line.0.push('\n');
                    } else if CELLS.contains(&name) && opens && !line.0.trim().is_empty() {
                        line.0.push_str(" | ");
                    } else if level.is_some() || BLOCKS.contains(&name) {
                        line.flush(writer, None)?;
                        if name == "li" && opens {
                            line.0.push_str("- ");
                        }
                    }
                }
            }
            _ => {}
        }
    }
    line.flush(writer, None)
}

/// Elements whose content no reader sees or wants found.
const HIDDEN: &[&str] = &[
    "script", "style", "noscript", "template", "svg", "nav", "title", "iframe", "object",
];

/// Elements that begin and end a block of text.
const BLOCKS: &[&str] = &[
    "p",
    "div",
    "section",
    "article",
    "aside",
    "main",
    "header",
    "footer",
    "ul",
    "ol",
    "li",
    "dl",
    "dt",
    "dd",
    "table",
    "tr",
    "caption",
    "blockquote",
    "figure",
    "figcaption",
    "hr",
    "body",
    "address",
    "details",
    "summary",
    "form",
    "fieldset",
];

const CELLS: &[&str] = &["td", "th"];

fn heading_level(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [b'h', digit @ b'1'..=b'6'] => Some(digit - b'0'),
        _ => None,
    }
}

/// The block that is being read.
#[derive(Default)]
struct Line(String);

impl Line {
    fn push(&mut self, text: &str, verbatim: bool) {
        if verbatim {
            self.0.push_str(text);
            return;
        }
        for c in text.chars() {
            if !c.is_whitespace() {
                self.0.push(c);
            } else if !self.0.is_empty() && !self.0.ends_with([' ', '\n']) {
                self.0.push(' ');
            }
        }
    }

    fn flush(&mut self, writer: &mut Writer, heading: Option<u8>) -> Result<(), ExtractError> {
        let block = std::mem::take(&mut self.0);
        match heading {
            Some(level) => writer.heading(level, &squeeze(block.trim_end_matches('¶'))),
            None if matches!(block.trim(), "-" | "|") => Ok(()),
            None => writer.block(&block),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(source: &str) -> String {
        read(source.as_bytes(), Limits::default())
            .expect("text is there")
            .content
    }

    #[test]
    fn the_visible_text_and_nothing_else() {
        let text = read(
            b"<title>T</title><style>p{}</style><nav>menu</nav><h1>Big <b>one</b></h1><p>A  <i>b</i>\n c<br>d</p>\
              <script>x()</script><ul><li>one<li>two</ul><pre>  k = 1\n  l</pre><table><tr><td>1<td>2<tr><td>3</table>",
            Limits::default(),
        )
        .expect("text is there");
        assert_eq!(
            text.content,
            "Big one\n\nA b c\nd\n\n- one\n\n- two\n\nk = 1\n  l\n\n1 | 2\n\n3"
        );
        assert_eq!(text.title.as_deref(), Some("T"));
        assert_eq!(
            (text.headings[0].level, text.headings[0].title.as_str()),
            (1, "Big one")
        );
    }

    #[test]
    fn depth_costs_no_stack() {
        let depth = 200_000;
        assert_eq!(content(&format!("{}deep", "<b>".repeat(depth))), "deep");
    }
}
