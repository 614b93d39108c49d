//! Pages that are pictures: read by the machine's tesseract where it is, and told what is missing where it is not.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::documents::{settled, upload};
use crate::hostile::raw::{page, pdf, stream};
use crate::support::App;

const WORDS: [&str; 2] = ["The ferry leaves at seven", "Bread is sold until noon"];

/// A page as a scanner makes it: a grey picture and nothing else.
fn scanned(folder: &Path, words: &str) -> (Vec<u8>, Vec<u8>) {
    let text = format!("BT /F 36 Tf 60 600 Td ({words}) Tj ET");
    let file = folder.join("typed.pdf");
    std::fs::write(
        &file,
        pdf(
            &page(stream("", text.as_bytes()), "/Font << /F 5 0 R >>"),
            "",
        ),
    )
    .unwrap();
    let drawn = Command::new("pdftoppm")
        .args(["-gray", "-r", "150", "-jpeg", "-singlefile"])
        .arg(&file)
        .arg(folder.join("page"))
        .status()
        .unwrap();
    assert!(drawn.success());
    let picture = std::fs::read(folder.join("page.jpg")).unwrap();
    let image = "/Type /XObject /Subtype /Image /Width 1275 /Height 1650 /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode";
    let mut objects = page(
        stream("", b"q 612 0 0 792 0 0 cm /I Do Q"),
        "/XObject << /I 6 0 R >>",
    );
    objects.push(stream(image, &picture));
    (pdf(&objects, ""), picture)
}

fn added(app: &App, name: &str, bytes: &[u8]) -> Value {
    let client = app.client();
    let id = upload(&client, name, bytes)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    settled(&client, &id)
}

fn installed() -> bool {
    ["tesseract", "pdftoppm"]
        .iter()
        .all(|name| Path::new("/usr/bin").join(name).is_file())
}

#[test]
fn pictures_are_read_where_tesseract_is() {
    if !installed() {
        println!("skipped: tesseract-ocr and poppler-utils are not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let app = App::empty();
    for (at, words) in WORDS.iter().enumerate() {
        let (scan, picture) = scanned(folder.path(), words);
        let (name, bytes) = [("scan.pdf", scan), ("photo.jpg", picture)]
            .into_iter()
            .nth(at)
            .unwrap();
        let status = added(&app, name, &bytes);
        assert_eq!(status["indexing_status"], "complete", "{status}");
        let id = status["id"].as_str().unwrap();
        let content = app
            .client()
            .get(&format!("/api/documents/{id}/content"))
            .json();
        let text = content["content"].as_str().unwrap().to_owned();
        assert!(text.contains(words), "{text}");
    }
    let found = app
        .client()
        .post(
            "/v1/search",
            &json!({"query": "when does the ferry leave", "k": 1}),
        )
        .json();
    assert_eq!(found["passages"][0]["page"], 1, "{found}");

    let blank = added(&app, "dark.png", b"\x89PNG\r\n\x1a\nnot a picture at all");
    assert_eq!(
        (&blank["indexing_status"], &blank["error_kind"]),
        (&json!("failed"), &json!("broken")),
        "{blank}"
    );
}

#[test]
fn what_is_missing_is_named() {
    // A machine that has a shell and nothing else.
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/sh", folder.path().join("sh")).unwrap();
    let path = folder.path().to_string_lossy().into_owned();
    let app = App::with_environment(&[("PATH", &path)]);
    let status = added(&app, "photo.png", b"\x89PNG\r\n\x1a\n0000");
    assert_eq!(status["error_kind"], "scanned", "{status}");
    assert!(
        status["last_error"]
            .as_str()
            .unwrap()
            .contains("install tesseract-ocr"),
        "{status}"
    );
}
