//! E-mail messages (RFC 5322): the headers that people search by, then the readable body; attachments by name.

use super::writer::Writer;
use super::{ExtractError, Limits, html};
use crate::domain::document::Text;
use mail_parser::{MessageParser, MimeHeaders};

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Text, ExtractError> {
    let broken = || ExtractError::Broken {
        format: "e-mail",
        why: "it has no headers".to_owned(),
    };
    let message = MessageParser::default().parse(bytes).ok_or_else(broken)?;
    let mut writer = Writer::new(limits);
    let subject = message.subject().unwrap_or_default();
    writer.title(subject);
    writer.heading(1, subject)?;
    let people = |address: Option<&mail_parser::Address<'_>>| -> String {
        let all = address.into_iter().flat_map(|address| address.iter());
        let named = all.map(|one| match (one.name(), one.address()) {
            (Some(name), Some(address)) => format!("{name} <{address}>"),
            (name, address) => name.or(address).unwrap_or_default().to_owned(),
        });
        named.collect::<Vec<_>>().join(", ")
    };
    let date = message
        .date()
        .map(|date| date.to_rfc3339())
        .unwrap_or_default();
    let mut head = String::new();
    for (name, value) in [
        ("From", people(message.from())),
        ("To", people(message.to())),
        ("Date", date),
    ] {
        if !value.is_empty() {
            head.push_str(&format!("{name}: {value}\n"));
        }
    }
    writer.block(&head)?;
    match message
        .text_bodies()
        .find(|part| part.is_text() && !part.is_text_html())
    {
        Some(part) => writer.block(part.text_contents().unwrap_or_default())?,
        None => {
            for part in message.html_bodies() {
                html::write(part.text_contents().unwrap_or_default(), &mut writer)?;
            }
        }
    }
    let attached: Vec<_> = message
        .attachments()
        .filter_map(|part| part.attachment_name())
        .collect();
    if !attached.is_empty() {
        writer.block(&format!("Attachments: {}", attached.join(", ")))?;
    }
    writer.finish(ExtractError::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_both_bodies_is_read_once() {
        let source = b"From: Ada <ada@example.org>\r\nTo: bob@example.org\r\nSubject: =?utf-8?q?Caf=C3=A9?=\r\n\
            Date: Mon, 2 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n\
            Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nplain words\r\n\
            --x\r\nContent-Type: text/html\r\n\r\n<p>html words</p>\r\n--x--\r\n";
        let text = read(source, Limits::default()).expect("a message");
        assert_eq!(
            text.content,
            "Café\n\nFrom: Ada <ada@example.org>\nTo: bob@example.org\nDate: 2026-11-02T10:00:00Z\n\nplain words"
        );
    }
}
