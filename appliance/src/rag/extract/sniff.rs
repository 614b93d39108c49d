//! Which reader takes a file: its first bytes decide, its name only between the kinds of plain text.

use super::ExtractError;

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Plain,
    Markdown,
    Html,
    Json,
    Delimited,
    Email,
    Pdf,
    Word,
    Slides,
    Sheet,
    Epub,
}

/// Decides by content, then by the extension of `name`.
pub fn format(name: &str, bytes: &[u8]) -> Result<Format, ExtractError> {
    let extension = name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .unwrap_or_default();
    let head = &bytes[..bytes.len().min(HEAD)];
    if contains(&head[..head.len().min(1024)], b"%PDF-") {
        return Ok(Format::Pdf);
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return zipped(bytes, &extension);
    }
    if PICTURES.iter().any(|magic| head.starts_with(magic)) {
        return Err(ExtractError::Scanned);
    }
    for (magic, found, instead) in FOREIGN {
        if head.starts_with(magic) {
            return Err(ExtractError::Unsupported {
                found: (*found).to_owned(),
                instead,
            });
        }
    }
    let marked = encoding_rs::Encoding::for_bom(head).is_some();
    if !marked && head.contains(&0) {
        let found = if extension.is_empty() {
            "unknown binary".to_owned()
        } else {
            format!(".{extension} (binary)")
        };
        return Err(ExtractError::Unsupported {
            found,
            instead: "PDF or text",
        });
    }
    Ok(match extension.as_str() {
        "md" | "markdown" | "mdx" => Format::Markdown,
        "html" | "htm" | "xhtml" => Format::Html,
        "json" | "jsonl" | "ndjson" => Format::Json,
        "csv" | "tsv" => Format::Delimited,
        "eml" => Format::Email,
        _ if looks_like_html(head) => Format::Html,
        _ => Format::Plain,
    })
}

/// Bytes that are looked at.
const HEAD: usize = 8192;

/// Pictures whose words can be recognised: PNG, JPEG, TIFF.
const PICTURES: &[&[u8]] = &[b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*"];

/// Formats that people try, by their first bytes, and what to save them as.
const FOREIGN: &[(&[u8], &str, &str)] = &[
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "old Office (.doc, .xls, .ppt, .msg)",
        "docx, xlsx or pptx",
    ),
    (b"{\\rtf", "rich text (.rtf)", "docx"),
    (b"GIF8", "picture (GIF)", "PDF with a text layer"),
    (b"\x1f\x8b", "gzip archive", "the files inside"),
    (b"7z\xbc\xaf", "7z archive", "the files inside"),
    (b"Rar!", "RAR archive", "the files inside"),
    (b"\x7fELF", "program", "a document"),
    (b"MZ", "program", "a document"),
    (b"ID3", "sound", "a transcript"),
    (b"OggS", "sound", "a transcript"),
    (b"RIFF", "sound or video", "a transcript"),
];

/// The member that tells a container's format. The directory of a zip lies at its end in plain bytes.
fn zipped(bytes: &[u8], extension: &str) -> Result<Format, ExtractError> {
    for (member, format) in [
        (&b"word/document.xml"[..], Format::Word),
        (b"ppt/presentation.xml", Format::Slides),
        (b"xl/workbook.xml", Format::Sheet),
        (b"xl/workbook.bin", Format::Sheet),
        (b"META-INF/container.xml", Format::Epub),
        (
            b"application/vnd.oasis.opendocument.spreadsheet",
            Format::Sheet,
        ),
    ] {
        if contains(bytes, member) {
            return Ok(format);
        }
    }
    match extension {
        // The promise of the name makes "it is broken" a better answer than "unknown archive".
        "docx" => Ok(Format::Word),
        "pptx" => Ok(Format::Slides),
        "xlsx" | "ods" => Ok(Format::Sheet),
        "epub" => Ok(Format::Epub),
        _ => Err(ExtractError::Unsupported {
            found: "zip archive".to_owned(),
            instead: "the files inside",
        }),
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

fn looks_like_html(head: &[u8]) -> bool {
    let start: Vec<u8> = head
        .trim_ascii_start()
        .iter()
        .take(14)
        .map(u8::to_ascii_lowercase)
        .collect();
    start.starts_with(b"<!doctype html") || start.starts_with(b"<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_beats_the_name() {
        for (name, bytes, expected) in [
            ("a.txt", &b"%PDF-1.7"[..], Format::Pdf),
            ("a", b"<!DOCTYPE html><p>", Format::Html),
            ("a.rs", b"fn main() {}", Format::Plain),
            ("A.MD", b"# hi", Format::Markdown),
            ("a.pdf", b"just words", Format::Plain),
            ("a.bin", b"PK\x03\x04....word/document.xml", Format::Word),
            ("a.txt", b"\xff\xfeh\0i\0", Format::Plain),
        ] {
            assert_eq!(format(name, bytes), Ok(expected), "{name}");
        }
        for (name, bytes) in [
            ("a.doc", &b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"[..]),
            ("a.txt", b"a\0b"),
            ("a.zip", b"PK\x03\x04"),
        ] {
            assert_eq!(
                format(name, bytes).expect_err("not read").kind(),
                "unsupported",
                "{name}"
            );
        }
    }
}
