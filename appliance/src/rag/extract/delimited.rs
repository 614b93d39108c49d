//! CSV and TSV: every record becomes one block of `header: value` lines, so that a passage explains itself.

use super::plain::decode;
use super::writer::{Writer, squeeze};
use super::{ExtractError, Limits};
use crate::domain::document::Text;

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    let source = decode(bytes);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(source.lines().next().unwrap_or_default()))
        .flexible(true)
        .from_reader(source.as_bytes());
    let broken = |error: csv::Error| ExtractError::Broken {
        format: "CSV",
        why: error.to_string(),
    };
    let headers = reader.headers().map_err(broken)?.clone();
    let mut writer = Writer::new(limits);
    let mut empty = true;
    for record in reader.records() {
        writer.block(&record_block(
            headers.iter(),
            record.map_err(broken)?.iter(),
        ))?;
        empty = false;
    }
    if empty {
        writer.block(&headers.iter().map(squeeze).collect::<Vec<_>>().join("\n"))?;
    }
    writer.finish(ExtractError::Empty)
}

/// Non-empty fields of a record, one a line, each after its header.
pub(super) fn record_block<'a>(
    headers: impl Iterator<Item = &'a str>,
    fields: impl Iterator<Item = &'a str>,
) -> String {
    let mut headers = headers.map(squeeze);
    let mut block = String::new();
    for field in fields {
        let header = headers.next().filter(|header| !header.is_empty());
        let field = squeeze(field);
        if field.is_empty() {
            continue;
        }
        if let Some(header) = header {
            block.push_str(&header);
            block.push_str(": ");
        }
        block.push_str(&field);
        block.push('\n');
    }
    block
}

/// The most frequent of the four usual delimiters in the header line.
fn delimiter(header: &str) -> u8 {
    let count = |delimiter: &u8| header.bytes().filter(|byte| byte == delimiter).count();
    // `max_by_key` keeps the last of equals, so the comma wins a line without any delimiter.
    [b'|', b'\t', b';', b',']
        .into_iter()
        .max_by_key(count)
        .unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_carry_their_headers_whatever_the_delimiter() {
        for source in [
            "name,age\n\"Ada, Countess\",36\n",
            "name;age\nAda, Countess;36\n",
            "name\tage\nAda, Countess\t36\n",
        ] {
            let text = read(source.as_bytes(), Limits::default()).expect("valid CSV");
            assert_eq!(text.content, "name: Ada, Countess\nage: 36", "{source:?}");
        }
    }

    #[test]
    fn a_ragged_record_keeps_all_its_fields() {
        let text = read(b"a,b\n1,2,3\n4\n", Limits::default()).expect("flexible CSV");
        assert_eq!(text.content, "a: 1\nb: 2\n3\n\na: 4");
    }
}
