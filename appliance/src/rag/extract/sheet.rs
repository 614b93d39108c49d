//! Spreadsheets (xlsx, xlsb, ods): each sheet is a page and a heading, each row a block under its column's headers.

use super::delimited::record_block;
use super::writer::Writer;
use super::{ExtractError, Limits};
use crate::domain::document::Text;
use calamine::{Data, Reader, open_workbook_auto_from_rs};
use std::io::Cursor;

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    let broken = |error: calamine::Error| match error.to_string() {
        why if why.to_ascii_lowercase().contains("password") => ExtractError::Encrypted,
        why => ExtractError::Broken {
            format: "spreadsheet",
            why,
        },
    };
    let mut book = open_workbook_auto_from_rs(Cursor::new(bytes)).map_err(broken)?;
    let mut writer = Writer::new(limits);
    for name in book.sheet_names() {
        let range = book.worksheet_range(&name).map_err(broken)?;
        if range.is_empty() {
            continue;
        }
        writer.page();
        writer.heading(1, &name)?;
        let mut rows = range
            .rows()
            .map(|row| row.iter().map(cell).collect::<Vec<_>>());
        let headers = rows.next().unwrap_or_default();
        let mut alone = true;
        for row in rows {
            writer.block(&record_block(
                headers.iter().map(String::as_str),
                row.iter().map(String::as_str),
            ))?;
            alone = false;
        }
        if alone {
            writer.block(&headers.join(" | "))?;
        }
    }
    writer.finish(ExtractError::Empty)
}

fn cell(data: &Data) -> String {
    match data {
        Data::Empty => String::new(),
        other => other.to_string(),
    }
}
