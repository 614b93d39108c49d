//! Server-sent events, taken apart: bytes in, the `data` of whole events out.

/// Longest event kept; a chunk of text with all its log probabilities is a few kilobytes.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// The parser. Holds the unfinished tail between pieces.
#[derive(Debug, Default)]
pub struct Parser {
    tail: Vec<u8>,
    data: String,
}

/// The stream is no event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    #[error("an event of more than {EVENT_BYTES_MAX} bytes")]
    TooLong,
    #[error("bytes that are no text")]
    NotText,
}

impl Parser {
    /// Takes a piece and hands every finished event's data to `event`.
    pub fn push(&mut self, bytes: &[u8], mut event: impl FnMut(&str)) -> Result<(), SseError> {
        for &byte in bytes {
            if byte != b'\n' {
                self.tail.push(byte);
                if self.tail.len() + self.data.len() > EVENT_BYTES_MAX {
                    return Err(SseError::TooLong);
                }
                continue;
            }
            let line = self.tail.strip_suffix(b"\r").unwrap_or(&self.tail);
            let line = std::str::from_utf8(line).map_err(|_| SseError::NotText)?;
            if line.is_empty() {
                if !self.data.is_empty() {
                    event(&self.data);
                    self.data.clear();
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
            // Comments, names and ids carry nothing that engines say.
            self.tail.clear();
        }
        Ok(())
    }

    /// The error in a body that is no event stream but one JSON value: FLM's way to fail.
    #[must_use]
    pub fn plain_error(&self) -> Option<super::UpstreamError> {
        super::openai::error_of(&serde_json::from_slice(&self.tail).ok()?)
    }

    /// Whether the stream stopped inside an event.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        !self.tail.is_empty() || !self.data.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let mut parser = Parser::default();
        let mut found = Vec::new();
        for piece in pieces {
            parser.push(piece, |e| found.push(e.to_owned())).unwrap();
        }
        assert!(!parser.is_unfinished());
        found
    }

    #[test]
    fn events_come_out_however_they_are_cut() {
        let text = ": ping\n\ndata: {\"a\":\"\u{e4}\"}\r\n\r\nevent: x\nid: 3\ndata:one\ndata: two\n\n\n\ndata: [DONE]\n\n".as_bytes();
        let whole = events(&[text]);
        assert_eq!(whole, ["{\"a\":\"\u{e4}\"}", "one\ntwo", "[DONE]"]);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(events(&bytes), whole);
    }

    #[test]
    fn rubbish_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(
            parser.push(b"data: \xff\xfe\n", |_| {}),
            Err(SseError::NotText)
        );
        let mut parser = Parser::default();
        assert_eq!(
            parser.push(&vec![b'x'; EVENT_BYTES_MAX + 1], |_| {}),
            Err(SseError::TooLong)
        );
        let mut parser = Parser::default();
        parser.push(b"data: cut", |_| panic!("not whole")).unwrap();
        assert!(parser.is_unfinished());
    }
}
