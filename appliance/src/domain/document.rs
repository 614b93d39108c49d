//! Documents as the appliance sees them once their bytes have become text.
//!
//! All offsets are counted in Unicode scalar values of [`Text::content`], because every client can count those.

/// What extraction makes of a file: one canonical text and where its pages and headings begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// The canonical text; passages and citations point into it.
    pub content: String,
    /// Byte offset in `content` at which each page begins; empty for formats without pages.
    pub page_starts: Vec<usize>,
    /// Headings in reading order.
    pub headings: Vec<Heading>,
    /// The title that the file names for itself.
    pub title: Option<String>,
}

/// A heading of the document's own structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// Byte offset in [`Text::content`] at which the heading's line begins.
    pub start: usize,
    /// 1 for a chapter, 2 for a section, and so on.
    pub level: u8,
    pub title: String,
}

/// A piece of a document that is searched and cited as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    pub text: String,
    /// First scalar value in the document's text.
    pub start: usize,
    /// One past the last scalar value.
    pub end: usize,
    /// One-based page on which the passage begins, where the format has pages.
    pub page: Option<u32>,
    /// Titles of the headings above the passage, outermost first.
    pub headings: Vec<String>,
}
