//! Word and PowerPoint files (ECMA-376): paragraphs, tables, headings by style, pages by break or slide.

use super::writer::Writer;
use super::xml::{Xml, walk};
use super::zipped::Container;
use super::{ExtractError, Limits};
use crate::domain::document::Text;
use std::collections::HashMap;

pub(super) fn word(bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    const FORMAT: &str = "Word";
    let mut container = Container::open(bytes, FORMAT, limits)?;
    let body = container.required("word/document.xml")?;
    let mut writer = Writer::new(limits);
    writer.page();
    let mut paragraph = Paragraph::default();
    let mut cells: Option<Vec<String>> = None; // of the table row that is being read
    walk(&body, FORMAT, |xml| {
        match xml {
            Xml::Open(tag) => match tag.name() {
                "pStyle" => {
                    paragraph.level = tag.attribute("val").as_deref().and_then(heading_style)
                }
                "tab" => paragraph.text.push('\t'),
                "br" if tag.attribute("type").as_deref() == Some("page") => paragraph.breaks = true,
                "br" | "cr" => paragraph.text.push('\n'),
                "lastRenderedPageBreak" => paragraph.breaks = true,
                "tr" => cells = Some(Vec::new()),
                "t" => paragraph.visible = true,
                _ => {}
            },
            Xml::Close("t") => paragraph.visible = false,
            Xml::Text(text) if paragraph.visible => paragraph.text.push_str(text),
            Xml::Close("p") => {
                let done = std::mem::take(&mut paragraph);
                match &mut cells {
                    Some(cells) => cells.push(done.text),
                    None => done.write(&mut writer)?,
                }
            }
            Xml::Close("tr") => {
                let row: Vec<_> = cells
                    .take()
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|cell| !cell.trim().is_empty())
                    .collect();
                writer.block(&row.join(" | "))?;
            }
            _ => {}
        }
        Ok(())
    })?;
    writer.finish(ExtractError::Empty)
}

/// A paragraph that is being read.
#[derive(Default)]
struct Paragraph {
    text: String,
    level: Option<u8>,
    /// A page began somewhere inside; the paragraph is counted to the new page.
    breaks: bool,
    visible: bool,
}

impl Paragraph {
    fn write(self, writer: &mut Writer) -> Result<(), ExtractError> {
        if self.breaks {
            writer.page();
        }
        match self.level {
            Some(level) => writer.heading(level, &self.text),
            None => writer.block(&self.text),
        }
    }
}

/// The level of Word's built-in heading styles, whose identifiers stay English in most languages.
fn heading_style(style: &str) -> Option<u8> {
    if style.eq_ignore_ascii_case("title") {
        return Some(1);
    }
    let digits = style
        .strip_prefix("Heading")
        .or_else(|| style.strip_prefix("heading "))?;
    digits
        .trim()
        .parse()
        .ok()
        .filter(|level| (1..=9).contains(level))
}

pub(super) fn slides(bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    const FORMAT: &str = "PowerPoint";
    let mut container = Container::open(bytes, FORMAT, limits)?;
    let mut writer = Writer::new(limits);
    for name in slide_names(&mut container, FORMAT)? {
        let slide = container.required(&name)?;
        writer.page();
        let (mut text, mut title, mut visible) = (String::new(), false, false);
        walk(&slide, FORMAT, |xml| {
            match xml {
                Xml::Open(tag) => match tag.name() {
                    "sp" => title = false,
                    "ph" => {
                        title =
                            matches!(tag.attribute("type").as_deref(), Some("title" | "ctrTitle"))
                    }
                    "t" => visible = true,
                    "br" => text.push('\n'),
                    _ => {}
                },
                Xml::Close("t") => visible = false,
                Xml::Text(piece) if visible => text.push_str(piece),
                Xml::Close("p") => {
                    let done = std::mem::take(&mut text);
                    if title {
                        writer.heading(1, &done)?
                    } else {
                        writer.block(&done)?
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
    }
    writer.finish(ExtractError::Empty)
}

/// Slides in the order in which they are shown, which is not the order of their file names.
fn slide_names(
    container: &mut Container<'_>,
    format: &'static str,
) -> Result<Vec<String>, ExtractError> {
    let mut targets = HashMap::new();
    let relations = container.required("ppt/_rels/presentation.xml.rels")?;
    walk(&relations, format, |xml| {
        if let Xml::Open(tag) = xml
            && let (Some(id), Some(target)) = (tag.attribute("Id"), tag.attribute("Target"))
        {
            targets.insert(id, target);
        }
        Ok(())
    })?;
    let mut names = Vec::new();
    let presentation = container.required("ppt/presentation.xml")?;
    walk(&presentation, format, |xml| {
        if let Xml::Open(tag) = xml
            && tag.name() == "sldId"
            // `id` exists twice, without prefix as a number and as `r:id`; the relation's is the one that is a key.
            && let Some(target) = tag.attributes("id").find_map(|id| targets.get(&id).cloned())
        {
            names.push(match target.strip_prefix('/') {
                Some(absolute) => absolute.to_owned(),
                None => format!("ppt/{target}"),
            });
        }
        Ok(())
    })?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::zipped::tests::container;
    use super::*;

    #[test]
    fn word_paragraphs_headings_tables_and_pages() {
        let document = r#"<w:document xmlns:w="w"><w:body>
            <w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t>Wide &amp; near</w:t></w:r></w:p>
            <w:p><w:r><w:t xml:space="preserve">one </w:t></w:r><w:r><w:t>two</w:t><w:tab/><w:t>three</w:t></w:r></w:p>
            <w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr></w:tbl>
            <w:p><w:r><w:br w:type="page"/><w:t>last</w:t></w:r></w:p></w:body></w:document>"#;
        let bytes = container(&[("word/document.xml", document)]);
        let text = word(&bytes, Limits::default()).expect("a Word file");
        assert_eq!(
            text.content,
            "Wide & near\n\none two\tthree\n\na | b\n\nlast"
        );
        assert_eq!(
            (text.headings[0].level, text.headings[0].title.as_str()),
            (2, "Wide & near")
        );
        assert_eq!(
            text.page_starts,
            [0, text.content.find("last").expect("in the text")]
        );
    }

    #[test]
    fn slides_come_in_the_order_of_the_show() {
        let slide = |title: &str, body: &str| {
            format!(
                r#"<p:sld xmlns:p="p" xmlns:a="a"><p:sp><p:nvPr><p:ph type="title"/></p:nvPr><a:p><a:r><a:t>{title}</a:t></a:r></a:p></p:sp>
                   <p:sp><a:p><a:r><a:t>{body}</a:t></a:r></a:p></p:sp></p:sld>"#
            )
        };
        let bytes = container(&[
            (
                "ppt/presentation.xml",
                r#"<p:presentation xmlns:p="p" xmlns:r="r"><p:sldId id="256" r:id="rId2"/><p:sldId id="257" r:id="rId1"/></p:presentation>"#,
            ),
            (
                "ppt/_rels/presentation.xml.rels",
                r#"<R><x Id="rId1" Target="slides/slide1.xml"/><x Id="rId2" Target="slides/slide2.xml"/></R>"#,
            ),
            ("ppt/slides/slide1.xml", &slide("Second", "b")),
            ("ppt/slides/slide2.xml", &slide("First", "a")),
        ]);
        let text = slides(&bytes, Limits::default()).expect("a show");
        assert_eq!(text.content, "First\n\na\n\nSecond\n\nb");
        assert_eq!(text.page_starts.len(), 2);
        assert_eq!(text.headings.len(), 2);
    }

    #[test]
    fn a_file_without_its_main_part_is_broken() {
        let error =
            word(&container(&[("other", "")]), Limits::default()).expect_err("nothing to read");
        assert_eq!(
            error.to_string(),
            "the Word file is broken: word/document.xml is missing; open it in its own program and save it again"
        );
    }
}
