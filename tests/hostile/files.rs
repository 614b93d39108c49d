//! The files: what each is, and how it may fail.

use super::raw::{bomb, locked, page, pdf, stream, zipped, zlib};

/// One file.
pub(super) struct Case {
    pub(super) what: &'static str,
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
    /// The kinds of failure that tell the truth about it.
    pub(super) kinds: &'static [&'static str],
}

fn case(
    what: &'static str,
    name: &'static str,
    bytes: impl Into<Vec<u8>>,
    kinds: &'static [&'static str],
) -> Case {
    Case {
        what,
        name,
        bytes: bytes.into(),
        kinds,
    }
}

/// What unfolds to too much, which is noticed by its size or by the time it takes.
const HUGE: &[&str] = &["too_large", "too_slow"];

/// What never ends: noticed as a fault, or by the time or the memory that it takes.
const ENDLESS: &[&str] = &["broken", "too_slow", "too_large"];

const BROKEN: &[&str] = &["broken"];

/// What can do no harm is read for the little that it says; it is not counted among those that fail.
pub(super) const HARMLESS: &[&str] = &[];

/// All of them.
pub(super) fn all() -> Vec<Case> {
    let mut cases = pdfs();
    cases.extend(containers());
    cases.extend(texts());
    cases
}

fn pdfs() -> Vec<Case> {
    let font = "/Font << /F 5 0 R >>";
    let text = |text: &str| {
        stream(
            "",
            format!("BT /F 12 Tf 72 720 Td ({text}) Tj ET").as_bytes(),
        )
    };
    let honest = pdf(&page(text("An honest page with words."), font), "");
    let encrypted = pdf(
        &page(text("nobody reads this"), font),
        "/Encrypt << /Filter /Standard /V 1 /R 2 /O <0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef> \
         /U <fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210> /P -4 >> /ID [<00> <00>]",
    );
    let with = |at: usize, object: &[u8]| {
        let mut objects = page(text("words"), font);
        objects[at] = object.to_vec();
        pdf(&objects, "")
    };
    let mut kids = b"<< /Type /Pages /Kids [".to_vec();
    kids.extend(b"3 0 R ".repeat(3_000_000));
    kids.extend(b"] /Count 3000000 >>");
    let mut loops = page(stream("", b"/X Do"), "/XObject << /X 6 0 R >>");
    loops.push(stream(
        "/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 6 0 R >> >>",
        b"/X Do",
    ));
    vec![
        case("a PDF's first line alone", "head.pdf", "%PDF-1.7\n", BROKEN),
        case(
            "a PDF of noise",
            "noise.pdf",
            noise(b"%PDF-1.4\n", 50_000),
            BROKEN,
        ),
        case(
            "the first half of a PDF",
            "half.pdf",
            &honest[..honest.len() / 2],
            BROKEN,
        ),
        case(
            "a PDF without its table",
            "table.pdf",
            &honest[..honest.len() - 180],
            BROKEN,
        ),
        case(
            "a PDF whose table lies elsewhere",
            "astray.pdf",
            astray(&honest),
            BROKEN,
        ),
        case(
            "a PDF whose tables refer to each other",
            "tables.pdf",
            circling(&honest),
            ENDLESS,
        ),
        case(
            "an encrypted PDF",
            "encrypted.pdf",
            encrypted,
            &["encrypted"],
        ),
        case("a scanned PDF", "scan.pdf", scan(), &["scanned"]),
        case(
            "a PDF without pages",
            "none.pdf",
            with(1, b"<< /Type /Pages /Kids [] /Count 0 >>"),
            &["scanned", "broken", "empty"],
        ),
        case(
            "pages that contain themselves",
            "circle.pdf",
            with(1, b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"),
            &["broken", "too_slow", "too_large", "scanned"],
        ),
        case(
            "a PDF of three million pages",
            "pages.pdf",
            with(1, &kids),
            HUGE,
        ),
        case(
            "a PDF whose catalogue is a number",
            "number.pdf",
            with(0, b"42"),
            &["broken", "scanned"],
        ),
        case(
            "brackets in brackets in a PDF",
            "deep.pdf",
            with(3, &[b"[".repeat(300_000), b"]".repeat(300_000)].concat()),
            ENDLESS_OR_BLANK,
        ),
        case(
            "a page that unfolds to 1.6 GB",
            "bomb.pdf",
            with(3, &stream("/Filter /FlateDecode", &zlib(b' ', 3 << 29))),
            HUGE_OR_BLANK,
        ),
        case(
            "a form that draws itself",
            "form.pdf",
            pdf(&loops, ""),
            &["broken", "too_slow", "too_large", "scanned"],
        ),
    ]
}

/// As [`ENDLESS`], or seen as a page that says nothing.
const ENDLESS_OR_BLANK: &[&str] = &["broken", "too_slow", "too_large", "scanned"];

/// As [`HUGE`], or seen as a page of blanks.
const HUGE_OR_BLANK: &[&str] = &["too_large", "too_slow", "scanned", "broken"];

fn containers() -> Vec<Case> {
    let word: &[u8] = b"<w:document xmlns:w=\"w\"><w:body><w:p><w:r><w:t>x</w:t></w:r></w:p></w:body></w:document>";
    let honest = zipped(&[("word/document.xml", word)]);
    let deep = format!(
        "<w:document xmlns:w=\"w\">{}{}</w:document>",
        "<w:p>".repeat(400_000),
        "</w:p>".repeat(400_000)
    );
    let lol = (1..12).fold(String::from("<!ENTITY l0 \"lol\">"), |all, at| {
        format!(
            "{all}<!ENTITY l{at} \"{}\">",
            format!("&l{};", at - 1).repeat(10)
        )
    });
    let lol = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE d [{lol}]><w:document xmlns:w=\"w\"><w:body><w:p><w:r><w:t>&l11;</w:t></w:r></w:p></w:body></w:document>"
    );
    let many: Vec<(String, Vec<u8>)> = (0..20_100)
        .map(|at| (format!("word/{at}"), Vec::new()))
        .collect();
    let many: Vec<(&str, &[u8])> = many
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    let workbook: &[(&str, &[u8])] = &[
        ("[Content_Types].xml", b"<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"/>"),
        ("xl/_rels/workbook.xml.rels", b"<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"r1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>"),
        ("xl/workbook.xml", b"<workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\"><sheets><sheet name=\"a\" sheetId=\"1\" r:id=\"r1\"/></sheets></workbook>"),
    ];
    let book: &[(&str, &[u8])] = &[
        ("mimetype", b"application/epub+zip"),
        ("META-INF/container.xml", b"<container><rootfiles><rootfile full-path=\"a.opf\" media-type=\"application/oebps-package+xml\"/></rootfiles></container>"),
        ("a.opf", b"<package><manifest><item id=\"c\" href=\"c.xhtml\" media-type=\"application/xhtml+xml\"/></manifest><spine><itemref idref=\"c\"/></spine></package>"),
    ];
    let outside: &[(&str, &[u8])] = &[
        ("META-INF/container.xml", b"<container><rootfiles><rootfile full-path=\"../../../../etc/passwd\"/></rootfiles></container>"),
        ("../../../../etc/cron.d/x", b"* * * * * root true"),
    ];
    vec![
        case(
            "a Word file that unfolds to 300 MB",
            "bomb.docx",
            bomb(&[], "word/document.xml", 300 << 20),
            HUGE,
        ),
        case(
            "slides that unfold to 300 MB",
            "bomb.pptx",
            bomb(
                &[("ppt/presentation.xml", b"<p/>")],
                "ppt/slides/slide1.xml",
                300 << 20,
            ),
            &["too_large", "too_slow", "broken", "empty"],
        ),
        case(
            "a sheet that unfolds to 1.6 GB",
            "bomb.xlsx",
            bomb(workbook, "xl/worksheets/sheet1.xml", 3 << 29),
            &["too_large", "too_slow", "broken"],
        ),
        case(
            "a book that unfolds to 300 MB",
            "bomb.epub",
            bomb(book, "c.xhtml", 300 << 20),
            HUGE,
        ),
        case(
            "a Word file of 20,100 members",
            "many.docx",
            zipped(&many),
            BROKEN,
        ),
        case(
            "a Word file without its text",
            "hollow.docx",
            zipped(&[("word/styles.xml", b"<a/>")]),
            BROKEN,
        ),
        case(
            "a Word file whose text is no XML",
            "noise.docx",
            zipped(&[("word/document.xml", &noise(b"", 9_000))]),
            &["broken", "empty"],
        ),
        case(
            "paragraphs in paragraphs",
            "deep.docx",
            zipped(&[("word/document.xml", deep.as_bytes())]),
            &["broken", "too_slow", "too_large", "empty"],
        ),
        case(
            "a billion laughs",
            "laughs.docx",
            zipped(&[("word/document.xml", lol.as_bytes())]),
            &["broken", "too_slow", "too_large", "empty"],
        ),
        case(
            "the first half of a Word file",
            "half.docx",
            &honest[..honest.len() / 2],
            BROKEN,
        ),
        case(
            "a Word file with a password",
            "locked.docx",
            locked(&[], "word/document.xml"),
            &["encrypted", "broken"],
        ),
        case(
            "a Word file of Office 97 inside",
            "old.docx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".repeat(99),
            &["unsupported"],
        ),
        case(
            "a sheet without a workbook",
            "hollow.xlsx",
            zipped(&[("xl/styles.xml", b"<a/>")]),
            BROKEN,
        ),
        case(
            "slides without a presentation",
            "hollow.pptx",
            zipped(&[("ppt/a.xml", b"<a/>")]),
            BROKEN,
        ),
        case(
            "a book without a list of its chapters",
            "hollow.epub",
            zipped(&[("mimetype", b"application/epub+zip")]),
            BROKEN,
        ),
        case(
            "a book that points outside",
            "outside.epub",
            zipped(outside),
            BROKEN,
        ),
        case(
            "an archive named as text",
            "archive.txt",
            zipped(&[("a.txt", b"hello")]),
            &["unsupported"],
        ),
    ]
}

fn texts() -> Vec<Case> {
    let mail = (0..3_000).fold(
        String::from("From: a@example.org\nMIME-Version: 1.0\n"),
        |mail, at| format!("{mail}Content-Type: multipart/mixed; boundary=b{at}\n\n--b{at}\n"),
    );
    vec![
        case(
            "white space alone",
            "blank.txt",
            "  \n\t\n ".repeat(999),
            &["empty"],
        ),
        case(
            "a picture named as text",
            "picture.txt",
            b"\x89PNG\r\n\x1a\n".repeat(99),
            &["scanned", "broken"],
        ),
        case(
            "a program named as text",
            "program.md",
            b"\x7fELF\x02\x01\x01".repeat(99),
            &["unsupported"],
        ),
        case(
            "a picture named as PDF",
            "picture.pdf",
            b"\xff\xd8\xff\xe0".repeat(99),
            &["scanned", "broken"],
        ),
        case(
            "zero bytes that are there",
            "zeros.csv",
            vec![0u8; 100_000],
            &["unsupported"],
        ),
        case(
            "lists in lists",
            "deep.json",
            [b"[".repeat(300_000), b"]".repeat(300_000)].concat(),
            BROKEN,
        ),
        case(
            "half an object",
            "half.json",
            "{\"a\": [1, 2, {\"b\": \"c",
            BROKEN,
        ),
        case(
            "a page without words",
            "hollow.html",
            "<!doctype html><html><head><script>while(1){}</script></head><body></body></html>",
            &["empty"],
        ),
        case(
            "tags that never close",
            "open.html",
            "<!doctype html>".to_owned() + &"<div><b>".repeat(60_000),
            &["empty", "too_slow", "too_large", "broken"],
        ),
        case("letters in letters", "deep.eml", mail, HARMLESS),
    ]
}

/// Bytes without order or zero, the same on every run.
fn noise(head: &[u8], length: usize) -> Vec<u8> {
    let mut state = 7u32;
    let rest = (0..length).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 | 1
    });
    head.iter().copied().chain(rest).collect()
}

/// The same file with its table said to be somewhere else.
fn astray(honest: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(honest);
    let at = text.rfind("startxref").unwrap_or_default();
    format!("{}startxref\n99999999\n%%EOF\n", &text[..at]).into_bytes()
}

/// The same file with a table that names itself as the one before it, and no catalogue.
fn circling(honest: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(honest);
    let table = text.rfind("xref\n0 ").unwrap_or_default();
    text.replace("/Root 1 0 R", &format!("/Prev {table}"))
        .into_bytes()
}

/// A page that is a picture and nothing else.
fn scan() -> Vec<u8> {
    let mut objects = page(
        stream("", b"q 612 0 0 792 0 0 cm /I Do Q"),
        "/XObject << /I 6 0 R >>",
    );
    let picture = "/Type /XObject /Subtype /Image /Width 8 /Height 8 /ColorSpace /DeviceGray /BitsPerComponent 8";
    objects.push(stream(picture, &[0x80; 64]));
    pdf(&objects, "")
}
