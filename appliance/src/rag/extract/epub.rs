//! EPUB books: the chapters of the spine in reading order, each read as HTML.

use super::plain::decode;
use super::writer::Writer;
use super::xml::{Xml, walk};
use super::zipped::Container;
use super::{ExtractError, Limits, html};
use crate::domain::document::Text;
use std::collections::HashMap;

const FORMAT: &str = "EPUB";

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    let mut container = Container::open(bytes, FORMAT, limits)?;
    // Obfuscated fonts alone also list themselves in encryption.xml; a rights file means that the chapters are locked.
    if container.has("META-INF/encryption.xml") && container.has("META-INF/rights.xml") {
        return Err(ExtractError::Encrypted);
    }
    let package = package_path(&container.required("META-INF/container.xml")?)?;
    let folder = package
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder)
        .to_owned();
    let spine = spine(&container.required(&package)?)?;
    let mut writer = Writer::new(limits);
    for target in spine {
        if let Some(chapter) = container.member(&join(&folder, &target))? {
            writer.page();
            html::write(&decode(&chapter), &mut writer)?;
        }
    }
    writer.finish(ExtractError::Empty)
}

fn package_path(container: &[u8]) -> Result<String, ExtractError> {
    let mut path = None;
    walk(container, FORMAT, |xml| {
        if let Xml::Open(tag) = xml
            && tag.name() == "rootfile"
            && path.is_none()
        {
            path = tag.attribute("full-path");
        }
        Ok(())
    })?;
    path.ok_or_else(|| ExtractError::Broken {
        format: FORMAT,
        why: "its container names no package".to_owned(),
    })
}

/// Targets of the spine's items, in order.
fn spine(package: &[u8]) -> Result<Vec<String>, ExtractError> {
    let mut items = HashMap::new();
    let mut order = Vec::new();
    walk(package, FORMAT, |xml| {
        if let Xml::Open(tag) = xml {
            match tag.name() {
                "item" => {
                    if let (Some(id), Some(target)) = (tag.attribute("id"), tag.attribute("href")) {
                        items.insert(id, target);
                    }
                }
                "itemref" => order.extend(tag.attribute("idref")),
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok(order
        .into_iter()
        .filter_map(|id| items.remove(&id))
        .collect())
}

/// A relative reference inside the container, `..` and percent escapes resolved.
fn join(folder: &str, target: &str) -> String {
    let target = target.split(['#', '?']).next().unwrap_or_default();
    let target = percent_encoding::percent_decode_str(target).decode_utf8_lossy();
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::super::zipped::tests::container;
    use super::*;

    #[test]
    fn chapters_follow_the_spine() {
        let bytes = container(&[
            (
                "META-INF/container.xml",
                r#"<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>"#,
            ),
            (
                "OEBPS/book.opf",
                r#"<package><manifest><item id="a" href="text/a%20b.html"/><item id="b" href="../c.html"/></manifest>
                   <spine><itemref idref="b"/><itemref idref="a"/><itemref idref="gone"/></spine></package>"#,
            ),
            ("OEBPS/text/a b.html", "<h1>A</h1><p>last</p>"),
            ("c.html", "<p>first</p>"),
        ]);
        let text = read(&bytes, Limits::default()).expect("a book");
        assert_eq!(text.content, "first\n\nA\n\nlast");
        assert_eq!(text.page_starts.len(), 2);
    }
}
