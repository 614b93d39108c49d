//! PDF: the text layer, page by page.

use super::plain::decode;
use super::writer::Writer;
use super::{ExtractError, Limits};
use crate::domain::document::Text;
use pdf_extract::{Document, OutputError};

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    let broken = |why: String| ExtractError::Broken { format: "PDF", why };
    let document = Document::load_mem(bytes).map_err(|error| broken(error.to_string()))?;
    // What opens with an empty password has been decrypted, and its trailer says so no longer.
    if document.trailer.get(b"Encrypt").is_ok() {
        return Err(ExtractError::Encrypted);
    }
    if document.get_pages().is_empty() {
        return Err(broken("it has no page".to_owned()));
    }
    drop(document);
    let pages =
        pdf_extract::extract_text_from_mem_by_pages(bytes).map_err(|error| match error {
            OutputError::PdfError(error) => broken(error.to_string()),
            other => broken(other.to_string()),
        })?;
    let mut writer = Writer::new(limits);
    for page in pages {
        writer.page();
        writer.block(&decode(page.as_bytes()))?;
    }
    writer.finish(ExtractError::Scanned)
}
