//! A flat walk over an XML member: names without prefix, text with its references resolved. Depth costs no stack.

use super::ExtractError;
use super::plain::decode;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// What the walk meets.
pub(super) enum Xml<'a> {
    Open(&'a Tag<'a>),
    /// Also follows `Open` at once for an element without content.
    Close(&'a str),
    Text(&'a str),
}

/// An opening tag.
pub(super) struct Tag<'a> {
    start: &'a BytesStart<'a>,
}

impl Tag<'_> {
    pub(super) fn name(&self) -> &str {
        self.start.local_name().into_inner()
    }

    /// The attribute's value by its name without prefix.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        self.attributes(name).next()
    }

    /// The values of all attributes of one name, which prefixes can tell apart.
    pub(super) fn attributes(&self, name: &str) -> impl Iterator<Item = String> {
        let named = self
            .start
            .attributes()
            .flatten()
            .filter(move |attribute| attribute.key.local_name().into_inner() == name);
        named.map(|attribute| resolve(&attribute.value))
    }
}

/// Calls `visit` for every tag and text of `bytes`.
pub(super) fn walk(
    bytes: &[u8],
    format: &'static str,
    mut visit: impl FnMut(Xml<'_>) -> Result<(), ExtractError>,
) -> Result<(), ExtractError> {
    let source = decode(bytes);
    let mut reader = Reader::from_str(&source);
    reader.config_mut().check_end_names = false;
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => visit(Xml::Open(&Tag { start: &start }))?,
            Ok(Event::Empty(start)) => {
                visit(Xml::Open(&Tag { start: &start }))?;
                visit(Xml::Close(start.local_name().into_inner()))?;
            }
            Ok(Event::End(end)) => visit(Xml::Close(end.local_name().into_inner()))?,
            Ok(Event::Text(text)) => visit(Xml::Text(&text))?,
            Ok(Event::CData(text)) => visit(Xml::Text(&text))?,
            Ok(Event::GeneralRef(reference)) => {
                visit(Xml::Text(&resolve(&format!("&{};", &*reference))))?;
            }
            // No office program writes one, and what it declares could unfold without end elsewhere.
            Ok(Event::DocType(declared)) if declared.contains('[') => {
                return Err(ExtractError::Broken {
                    format,
                    why: "it declares entities of its own".to_owned(),
                });
            }
            Ok(Event::Eof) => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                return Err(ExtractError::Broken {
                    format,
                    why: error.to_string(),
                });
            }
        }
    }
}

/// Resolves the five references of XML and character numbers; one that is unknown stays as it stands.
fn resolve(text: &str) -> String {
    quick_xml::escape::unescape(text)
        .map_or_else(|_| text.to_owned(), |resolved| resolved.into_owned())
}
