//! Containers written byte by byte, for files that no honest writer makes.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;

/// An honest zip.
pub(super) fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .expect("memory takes it");
        writer.write_all(content).expect("memory takes it");
    }
    writer.finish().expect("memory takes it").into_inner()
}

/// Raw deflate of about `length` times `byte`, a hundred and sixtieth of that long: one literal, then copies of 258
/// bytes from one byte back, in the fixed code.
pub(super) fn deflated(byte: u8, length: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.low(0b011, 3); // the last block, in the fixed code
    bits.high(0x30 + u32::from(byte.min(143)), 8);
    for _ in 0..COPIES {
        bits.high(0b1100_0101, 8); // length 258
        bits.high(0, 5); // distance 1
    }
    bits.high(0, 7); // the end
    // Eight copies are thirteen whole bytes, wherever they begin.
    let (head, rest) = bits.bytes.split_at(2);
    let more = (length / 258).saturating_sub(COPIES) / 8;
    [head, &rest[..13].repeat(more), rest].concat()
}

/// Copies that are written bit by bit: enough for one whole period behind the head.
const COPIES: usize = 16;

/// The same as zlib writes it, but for the checksum, which is missing.
pub(super) fn zlib(byte: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0x78, 0x9c];
    bytes.extend(deflated(byte, length));
    bytes
}

/// A stream of bits, lowest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn bit(&mut self, bit: bool) {
        if self.used.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let (true, Some(last)) = (bit, self.bytes.last_mut()) {
            *last |= 1 << (self.used % 8);
        }
        self.used += 1;
    }

    /// A number, lowest bit first.
    fn low(&mut self, value: u32, count: u32) {
        (0..count).for_each(|at| self.bit(value >> at & 1 == 1));
    }

    /// A code, highest bit first.
    fn high(&mut self, value: u32, count: u32) {
        (0..count)
            .rev()
            .for_each(|at| self.bit(value >> at & 1 == 1));
    }
}

/// A zip whose last member is a bomb: `unfolded` bytes of nothing. The checksum is wrong, which shows only at its end.
pub(super) fn bomb(honest: &[(&str, &[u8])], name: &str, unfolded: usize) -> Vec<u8> {
    let data = deflated(b' ', unfolded);
    member(honest, name, &data, 8, unfolded as u32, 0)
}

/// A zip whose last member says that it is encrypted.
pub(super) fn locked(honest: &[(&str, &[u8])], name: &str) -> Vec<u8> {
    member(honest, name, &[0x55; 64], 0, 52, 1)
}

/// Puts a member with headers of our own behind those of an honest zip.
fn member(
    honest: &[(&str, &[u8])],
    name: &str,
    data: &[u8],
    method: u16,
    unfolded: u32,
    flags: u16,
) -> Vec<u8> {
    let whole = zipped(honest);
    // The end of an honest directory: 22 bytes, with its count, size and place.
    let end = &whole[whole.len() - 22..];
    let number = |at: usize| u32::from_le_bytes([end[at], end[at + 1], end[at + 2], end[at + 3]]);
    let count = u16::from_le_bytes([end[10], end[11]]) + 1;
    let (size, place) = (number(12) as usize, number(16) as usize);
    let common = |out: &mut Vec<u8>| {
        for word in [20u16, flags, method, 0, 33] {
            out.extend(word.to_le_bytes());
        }
        for long in [0xdead_beef, data.len() as u32, unfolded] {
            out.extend(long.to_le_bytes());
        }
        out.extend((name.len() as u16).to_le_bytes());
        out.extend(0u16.to_le_bytes());
    };
    let mut out = whole[..place].to_vec();
    let own = out.len() as u32;
    out.extend(b"PK\x03\x04");
    common(&mut out);
    out.extend(name.as_bytes());
    out.extend(data);
    let directory = out.len() as u32;
    out.extend(&whole[place..place + size]);
    out.extend(b"PK\x01\x02\x14\x00");
    common(&mut out);
    out.extend([0u8; 10]); // no comment, first disk, no attributes
    out.extend(own.to_le_bytes());
    out.extend(name.as_bytes());
    let length = out.len() as u32 - directory;
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(directory.to_le_bytes());
    out.extend(0u16.to_le_bytes());
    out
}

/// A PDF of these objects, numbered from 1, the first being the catalogue; `trailer` is put into the trailer.
pub(crate) fn pdf(objects: &[Vec<u8>], trailer: &str) -> Vec<u8> {
    let mut out = b"%PDF-1.7\n".to_vec();
    let mut places = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        places.push(out.len());
        out.extend(format!("{} 0 obj\n", at + 1).bytes());
        out.extend(object);
        out.extend(b"\nendobj\n");
    }
    let table = out.len();
    out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    for place in places {
        out.extend(format!("{place:010} 00000 n \n").bytes());
    }
    let count = objects.len() + 1;
    out.extend(
        format!("trailer\n<< /Size {count} /Root 1 0 R {trailer} >>\nstartxref\n{table}\n%%EOF\n")
            .bytes(),
    );
    out
}

/// A stream object.
pub(crate) fn stream(dictionary: &str, data: &[u8]) -> Vec<u8> {
    let mut out = format!("<< /Length {} {dictionary} >>\nstream\n", data.len()).into_bytes();
    out.extend(data);
    out.extend(b"\nendstream");
    out
}

/// A PDF of one page with this content stream.
pub(crate) fn page(content: Vec<u8>, resources: &str) -> Vec<Vec<u8>> {
    vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        format!("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << {resources} >> >>").into_bytes(),
        content,
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_vec(),
    ]
}
