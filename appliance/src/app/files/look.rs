//! A look into a file: its first lines, how many there are, the columns of a table.

use std::io::{BufRead, BufReader, Read, Seek};

use super::{FileEntry, FilesError, Place, regular};

/// Bytes of a file that a look into it reads: lines beyond are not counted.
const PREVIEW_BYTES_MAX: u64 = 64 << 20;

/// Characters of one line that are shown.
const LINE_CHARS_MAX: usize = 500;

/// Bytes in which a zero tells that a file is no text.
const SNIFFED: usize = 8 << 10;

/// The beginning of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The file.
    pub file: FileEntry,
    /// Its first lines, shortened; `None` when it is no text.
    pub text: Option<PreviewText>,
}

/// The beginning of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewText {
    /// How it is written, `utf-8` or `latin-1`.
    pub encoding: &'static str,
    /// The first lines.
    pub lines: Vec<String>,
    /// How many there are; `None` for a file that is too long to count.
    pub total: Option<u64>,
    /// The first row's fields and the number of the others, of a table.
    pub table: Option<(Vec<String>, u64)>,
}

pub(super) fn preview(place: &Place, lines: usize) -> Result<Preview, FilesError> {
    let (mut file, stat) = regular(place)?;
    let failed = |error: std::io::Error| FilesError::Denied(place.whole(), error.to_string());
    let shown = place.entry(&stat);
    let mut start = vec![0; SNIFFED];
    let mut read = 0;
    while read < start.len() {
        match file.read(&mut start[read..]).map_err(failed)? {
            0 => break,
            n => read += n,
        }
    }
    start.truncate(read);
    if start.contains(&0) {
        return Ok(Preview {
            file: shown,
            text: None,
        });
    }
    file.rewind().map_err(failed)?;
    let mut text = PreviewText {
        encoding: "utf-8",
        lines: Vec::new(),
        total: None,
        table: None,
    };
    let mut reader = BufReader::new(file.try_clone().map_err(failed)?).take(PREVIEW_BYTES_MAX);
    let (mut line, mut count) = (Vec::new(), 0u64);
    while reader.read_until(b'\n', &mut line).map_err(failed)? > 0 {
        count += 1;
        if text.lines.len() < lines {
            while line
                .last()
                .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
            {
                line.pop();
            }
            if std::str::from_utf8(&line).is_err() {
                text.encoding = "latin-1";
            }
            text.lines.push(characters(&line));
        }
        line.clear();
    }
    text.total = (reader.limit() > 0).then_some(count);
    let delimiter = match shown.extension().as_deref() {
        Some("csv") => Some(b','),
        Some("tsv") => Some(b'\t'),
        _ => None,
    };
    if let Some(delimiter) = delimiter {
        file.rewind().map_err(failed)?;
        text.table = table(file.take(PREVIEW_BYTES_MAX), delimiter);
    }
    Ok(Preview {
        file: shown,
        text: Some(text),
    })
}

/// A line as characters, each byte one where it is no UTF-8; shortened.
fn characters(line: &[u8]) -> String {
    match std::str::from_utf8(line) {
        Ok(text) => text.chars().take(LINE_CHARS_MAX).collect(),
        Err(_) => line
            .iter()
            .take(LINE_CHARS_MAX)
            .map(|byte| char::from(*byte))
            .collect(),
    }
}

fn table(reader: impl Read, delimiter: u8) -> Option<(Vec<String>, u64)> {
    let mut rows = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(reader);
    let columns = rows.byte_headers().ok()?;
    let columns = columns
        .iter()
        .map(|field| String::from_utf8_lossy(field).into_owned())
        .collect();
    let mut count = 0;
    let mut row = csv::ByteRecord::new();
    while rows.read_byte_record(&mut row).ok()? {
        count += 1;
    }
    Some((columns, count))
}

#[cfg(test)]
mod tests {
    use super::super::place;
    use super::super::tests::shared;
    use super::*;

    #[test]
    fn a_look_into_a_file_tells_lines_and_columns() {
        let (_folder, root, roots) = shared();
        let look = |name: &str| {
            let path = root.join(name).display().to_string();
            preview(&place(&path, &roots, &root.join("data")).unwrap(), 2).unwrap()
        };
        let text = look("docs/report.csv").text.unwrap();
        assert_eq!(text.lines, ["a,b", "1,2"]);
        assert_eq!(text.total, Some(3));
        assert_eq!(text.table, Some((vec!["a".into(), "b".into()], 2)));
        assert_eq!(look("docs/photo.png").text, None);
        std::fs::write(root.join("docs/old.txt"), b"caf\xe9").unwrap();
        let old = look("docs/old.txt").text.unwrap();
        assert_eq!((old.encoding, old.lines[0].as_str()), ("latin-1", "café"));
    }
}
