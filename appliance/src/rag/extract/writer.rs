//! Collects text block by block, keeping count of pages, headings and the size limit.

use super::{ExtractError, Limits};
use crate::domain::document::{Heading, Text};

/// Builds a [`Text`]; blocks are separated by one blank line.
pub(super) struct Writer {
    text: Text,
    limit: usize,
}

impl Writer {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            text: Text::default(),
            limit: limits.text_bytes_max,
        }
    }

    pub(super) fn title(&mut self, title: &str) {
        let title = squeeze(title);
        if !title.is_empty() && self.text.title.is_none() {
            self.text.title = Some(title);
        }
    }

    /// Adds a block as it stands, apart from blank lines around it; a blank block adds nothing.
    pub(super) fn block(&mut self, block: &str) -> Result<(), ExtractError> {
        let block = block.trim_matches(['\n', '\r', ' ', '\t']);
        if block.is_empty() {
            return Ok(());
        }
        if self.text.content.len() + block.len() + 2 > self.limit {
            return Err(ExtractError::TooLarge {
                limit_bytes: self.limit as u64,
            });
        }
        self.separate();
        self.text.content.push_str(block);
        Ok(())
    }

    /// Adds a heading as a block of its own.
    pub(super) fn heading(&mut self, level: u8, title: &str) -> Result<(), ExtractError> {
        let title = squeeze(title);
        if title.is_empty() {
            return Ok(());
        }
        self.separate();
        self.text.headings.push(Heading {
            start: self.text.content.len(),
            level,
            title: title.clone(),
        });
        self.block(&title)
    }

    /// Begins a page: what follows lies on it.
    pub(super) fn page(&mut self) {
        self.separate();
        self.text.page_starts.push(self.text.content.len());
    }

    /// The finished text; one without a visible character is an error of the caller's choice.
    pub(super) fn finish(self, blank: ExtractError) -> Result<Text, ExtractError> {
        if self.text.content.trim().is_empty() {
            Err(blank)
        } else {
            Ok(self.text)
        }
    }

    fn separate(&mut self) {
        if !self.text.content.is_empty() && !self.text.content.ends_with("\n\n") {
            self.text.content.push_str("\n\n");
        }
    }
}

/// Runs of white space become one blank, none is left at the ends.
pub(super) fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
