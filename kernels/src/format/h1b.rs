//! `.h1b` files, versions 1 to 4: header, flags and where everything lies.
//!
//! Owns the container. Its packings are in `ternary`, its tokenizer in `htok`; what the fields mean
//! to a model is the converter's business.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::ternary::{Outside, Packing, TernaryError, TernaryRows};

/// An `.h1b` file that cannot be used; every message names the field.
#[derive(Debug, thiserror::Error)]
pub enum H1bError {
    #[error("cannot open {}: {source}", path.display())]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("not an .h1b file: it does not start with \"H1B\"")]
    Magic,
    #[error("the file holds Medusa heads (H1BM), which are not supported")]
    Medusa,
    #[error(".h1b version {0} is not known; versions 1 to 4 are")]
    Version(i32),
    #[error("the file ends inside its header")]
    Header,
    #[error("{field} is {value}; {least} to {most} are possible")]
    Range {
        field: &'static str,
        value: i32,
        least: i32,
        most: i32,
    },
    #[error("{field} ({value}) must divide {other} ({of})")]
    Divides {
        field: &'static str,
        value: u64,
        other: &'static str,
        of: u64,
    },
    #[error("the head is not the embedding, and the format has no place for another")]
    Untied,
    #[error("the flags {0:#x} are not supported")]
    Flags(u32),
    #[error("the file has {found} bytes, but version {version} with these dimensions has {wanted}")]
    Length {
        version: i32,
        found: u64,
        wanted: u64,
    },
    #[error("matrix {name}: {source}")]
    Matrix {
        name: &'static str,
        source: TernaryError,
    },
}

/// Weights were rotated by a Hadamard transform in blocks of 128 columns.
pub const HADAMARD: u32 = 0x1;
/// Version 3 was made for F16 activations.
pub const F16_ACTIVATIONS: u32 = 0x2;
/// Matrices are Q1_0_g128.
pub const BINARY: u32 = 0x4;
/// Matrices are Q2_0_g128.
pub const TERNARY: u32 = 0x8;
const KNOWN_FLAGS: u32 = HADAMARD | F16_ACTIVATIONS | BINARY | TERNARY;

/// The header's fields, checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Header {
    pub version: i32,
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub vocabulary: usize,
    pub context: usize,
    pub flags: u32,
    pub rope_base: f32,
    pub epsilon: f32,
}

/// The matrices of a layer in file order, by GGUF's names.
pub const MATRICES: [&str; 7] = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
];

/// The vectors of a layer, by GGUF's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    Attention,
    FeedForward,
    AttentionSub,
    FeedForwardSub,
}

impl Norm {
    /// All of them.
    pub const ALL: [Norm; 4] = [
        Norm::Attention,
        Norm::FeedForward,
        Norm::AttentionSub,
        Norm::FeedForwardSub,
    ];

    /// GGUF's name.
    pub fn name(self) -> &'static str {
        match self {
            Norm::Attention => "attn_norm",
            Norm::FeedForward => "ffn_norm",
            Norm::AttentionSub => "attn_sub_norm",
            Norm::FeedForwardSub => "ffn_sub_norm",
        }
    }
}

/// Vectors of length `hidden` before `ffn_sub_norm` in a layer; the last five are fillers.
pub const HIDDEN_VECTORS: usize = 8;

impl Header {
    fn read(bytes: &[u8]) -> Result<(Header, usize), H1bError> {
        if bytes.starts_with(b"H1BM") {
            return Err(H1bError::Medusa);
        }
        if !bytes.starts_with(b"H1B\0") {
            return Err(H1bError::Magic);
        }
        let word = |at: usize| -> Result<[u8; 4], H1bError> {
            bytes
                .get(at..at + 4)
                .and_then(|word| word.try_into().ok())
                .ok_or(H1bError::Header)
        };
        let version = i32::from_le_bytes(word(4)?);
        if !(1..=4).contains(&version) {
            return Err(H1bError::Version(version));
        }
        let field = |at: usize, field: &'static str, most: i32| -> Result<usize, H1bError> {
            let value = i32::from_le_bytes(word(at)?);
            let fits = (1..=most).contains(&value);
            fits.then_some(value as usize).ok_or(H1bError::Range {
                field,
                value,
                least: 1,
                most,
            })
        };
        let positive = |at: usize, default: f32| -> Result<f32, H1bError> {
            if version < 2 {
                return Ok(default);
            }
            let value = f32::from_le_bytes(word(at)?);
            Ok(if value.is_finite() && value > 0.0 {
                value
            } else {
                default
            })
        };
        let header = Header {
            version,
            hidden: field(0x08, "the hidden size", 32_768)?,
            intermediate: field(0x0c, "the intermediate size", 131_072)?,
            layers: field(0x10, "the number of layers", 1024)?,
            heads: field(0x14, "the number of heads", 1024)?,
            kv_heads: field(0x18, "the number of KV heads", 1024)?,
            vocabulary: field(0x1c, "the vocabulary", 1 << 20)?,
            context: field(0x20, "the context length", 1 << 20)?,
            flags: u32::from_le_bytes(word(0x28)?),
            rope_base: positive(0x2c, 500_000.0)?,
            epsilon: positive(0x30, 1e-5)?,
        };
        if i32::from_le_bytes(word(0x24)?) == 0 {
            return Err(H1bError::Untied);
        }
        header.check()?;
        Ok((header, header.payload()))
    }

    /// Whether the dimensions agree and every flag is known.
    pub fn check(&self) -> Result<(), H1bError> {
        for (field, value, other, of) in [
            (
                "the number of heads",
                self.heads,
                "the hidden size",
                self.hidden,
            ),
            (
                "the number of KV heads",
                self.kv_heads,
                "the number of heads",
                self.heads,
            ),
        ] {
            if value == 0 || !of.is_multiple_of(value) {
                return Err(H1bError::Divides {
                    field,
                    value: value as u64,
                    other,
                    of: of as u64,
                });
            }
        }
        let both = BINARY | TERNARY;
        if self.flags & !KNOWN_FLAGS != 0 || self.flags & both == both {
            return Err(H1bError::Flags(self.flags));
        }
        Ok(())
    }

    /// The header's bytes, payload excluded.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"H1B\0".to_vec();
        out.extend(self.version.to_le_bytes());
        for value in [
            self.hidden,
            self.intermediate,
            self.layers,
            self.heads,
            self.kv_heads,
            self.vocabulary,
            self.context,
            1,
        ] {
            out.extend((value as i32).to_le_bytes());
        }
        out.extend(self.flags.to_le_bytes());
        if self.version >= 2 {
            out.extend(self.rope_base.to_le_bytes());
            out.extend(self.epsilon.to_le_bytes());
        }
        out
    }

    fn payload(&self) -> usize {
        if self.version >= 2 { 0x34 } else { 0x2c }
    }

    /// Values of a head.
    pub fn head(&self) -> usize {
        self.hidden / self.heads
    }

    /// Rows and columns of matrix `which` of [`MATRICES`].
    pub fn shape(&self, which: usize) -> (usize, usize) {
        let kv = self.kv_heads * self.head();
        match which {
            0 | 3 => (self.hidden, self.hidden),
            1 | 2 => (kv, self.hidden),
            6 => (self.hidden, self.intermediate),
            _ => (self.intermediate, self.hidden),
        }
    }

    /// The packing that version and flags name.
    pub fn packing(&self) -> Packing {
        match (
            self.flags & BINARY != 0,
            self.flags & TERNARY != 0,
            self.version,
        ) {
            (true, _, _) => Packing::Q1G128,
            (_, true, _) => Packing::Q2G128,
            (_, _, 3) => Packing::S34,
            (_, _, 4) => Packing::T5Words,
            _ => Packing::T2,
        }
    }

    /// Bytes of matrix `which`, scales included.
    fn matrix_bytes(&self, which: usize, packing: Packing) -> Result<u64, H1bError> {
        let (rows, columns) = self.shape(which);
        let row = packing
            .row_bytes(columns)
            .map_err(|source| H1bError::Matrix {
                name: MATRICES[which],
                source,
            })?;
        let scale = if packing.group().is_none() { 4 } else { 0 };
        // At most 2^17 rows of 2^16 bytes: far below the range of u64.
        Ok((rows * (row + scale)) as u64)
    }

    fn layer_bytes(&self, packing: Packing) -> Result<u64, H1bError> {
        let norms = 4 * (HIDDEN_VECTORS * self.hidden + self.intermediate) as u64;
        (0..MATRICES.len()).try_fold(norms, |sum, which| {
            Ok(sum + self.matrix_bytes(which, packing)?)
        })
    }

    fn file_bytes(&self, packing: Packing) -> Result<u64, H1bError> {
        let embedding = 4 * (self.vocabulary as u64 + 1) * self.hidden as u64;
        Ok(self.payload() as u64 + embedding + self.layers as u64 * self.layer_bytes(packing)?)
    }
}

/// An open file.
#[derive(Debug)]
pub struct H1b {
    bytes: Bytes,
    header: Header,
    packing: Packing,
}

#[derive(Debug)]
enum Bytes {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl H1b {
    /// Maps a file and checks its header and length.
    pub fn open(path: &Path) -> Result<H1b, H1bError> {
        let failed = |source| H1bError::Open {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Err(H1bError::Magic);
        }
        // SAFETY: the map is read-only; the file is the user's input to a conversion, and if it is
        // truncated meanwhile the process is stopped by the system, not misled.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(failed)?;
        H1b::new(Bytes::Mapped(map))
    }

    /// Reads a file that is already in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<H1b, H1bError> {
        H1b::new(Bytes::Owned(bytes))
    }

    fn new(bytes: Bytes) -> Result<H1b, H1bError> {
        let data: &[u8] = match &bytes {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        };
        let (mut header, _) = Header::read(data)?;
        let (found, named) = (data.len() as u64, header.packing());
        // Converters exist that swap the two flags; the length cannot be swapped.
        let other = match named {
            Packing::Q1G128 => Some((Packing::Q2G128, TERNARY)),
            Packing::Q2G128 => Some((Packing::Q1G128, BINARY)),
            _ => None,
        };
        let wanted = header.file_bytes(named)?;
        let packing = match other {
            _ if found == wanted => named,
            Some((packing, flag)) if header.file_bytes(packing)? == found => {
                header.flags = header.flags & !(BINARY | TERNARY) | flag;
                packing
            }
            _ => {
                return Err(H1bError::Length {
                    version: header.version,
                    found,
                    wanted,
                });
            }
        };
        Ok(H1b {
            bytes,
            header,
            packing,
        })
    }

    /// The checked header; its flags name the packing that the length proved.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How the matrices are stored.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    fn data(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }

    fn floats(&self, at: usize, count: usize) -> &[u8] {
        &self.data()[at..at + 4 * count]
    }

    /// The embedding's F32 rows.
    pub fn embedding(&self) -> &[u8] {
        self.floats(
            self.header.payload(),
            self.header.vocabulary * self.header.hidden,
        )
    }

    /// The last norm, F32.
    pub fn final_norm(&self) -> &[u8] {
        let Header {
            vocabulary, hidden, ..
        } = self.header;
        self.floats(self.header.payload() + 4 * vocabulary * hidden, hidden)
    }

    fn layer_start(&self, layer: usize) -> Result<usize, H1bError> {
        let Header {
            vocabulary, hidden, ..
        } = self.header;
        let layer_bytes = self.header.layer_bytes(self.packing)? as usize;
        Ok(self.header.payload() + 4 * (vocabulary + 1) * hidden + layer * layer_bytes)
    }

    /// A norm of a layer, F32.
    pub fn norm(&self, layer: usize, norm: Norm) -> Result<&[u8], H1bError> {
        let Header {
            hidden,
            intermediate,
            ..
        } = self.header;
        let start = self.layer_start(layer)?;
        let (vector, length) = match norm {
            Norm::Attention => (0, hidden),
            Norm::FeedForward => (1, hidden),
            Norm::AttentionSub => (2, hidden),
            Norm::FeedForwardSub => (HIDDEN_VECTORS, intermediate),
        };
        Ok(self.floats(start + 4 * vector * hidden, length))
    }

    /// Matrix `which` of [`MATRICES`] of a layer.
    pub fn matrix(&self, layer: usize, which: usize) -> Result<TernaryRows<'_>, H1bError> {
        let Header {
            hidden,
            intermediate,
            ..
        } = self.header;
        let mut at = self.layer_start(layer)? + 4 * (HIDDEN_VECTORS * hidden + intermediate);
        for before in 0..which {
            at += self.header.matrix_bytes(before, self.packing)? as usize;
        }
        let (rows, columns) = self.header.shape(which);
        let whole = &self.data()[at..at + self.header.matrix_bytes(which, self.packing)? as usize];
        let (data, outside) = if self.packing.group().is_some() {
            (whole, Outside::Matrix(1.0))
        } else {
            let (data, scales) = whole.split_at(whole.len() - 4 * rows);
            let (scales, _) = scales.as_chunks::<4>();
            (
                data,
                Outside::Rows(
                    scales
                        .iter()
                        .map(|&bytes| f32::from_le_bytes(bytes))
                        .collect(),
                ),
            )
        };
        TernaryRows::new(self.packing, columns, rows, data, outside).map_err(|source| {
            H1bError::Matrix {
                name: MATRICES[which],
                source,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: i32, flags: u32) -> Header {
        Header {
            version,
            hidden: 128,
            intermediate: 256,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            vocabulary: 10,
            context: 64,
            flags,
            rope_base: 10_000.0,
            epsilon: 1e-6,
        }
    }

    /// A file of zeros behind the header: every trit is -1 in T2, and every scale 0.
    fn file(header: &Header, packing: Packing) -> Vec<u8> {
        let mut bytes = header.to_bytes();
        bytes.resize(header.file_bytes(packing).unwrap() as usize, 0);
        bytes
    }

    #[test]
    fn the_published_sizes_follow() {
        // BitNet-b1.58-2B-4T, in bytes, by version.
        let mut header = Header {
            version: 2,
            hidden: 2560,
            intermediate: 6912,
            layers: 30,
            heads: 20,
            kv_heads: 5,
            vocabulary: 128_256,
            context: 4096,
            ..header(2, 0)
        };
        assert_eq!(header.file_bytes(Packing::T2).unwrap(), 1_840_384_052);
        header.version = 3;
        assert_eq!(header.file_bytes(Packing::S34).unwrap(), 1_645_004_852);
        header.version = 4;
        assert_eq!(header.file_bytes(Packing::T5Words).unwrap(), 1_736_304_692);
        assert_eq!(header.file_bytes(Packing::Q2G128).unwrap(), 1_870_213_172);
    }

    #[test]
    fn headers_return() {
        for version in 1..=4 {
            let header = header(version, 0);
            let h1b = H1b::from_bytes(file(&header, header.packing())).unwrap();
            let expected = match version {
                1 => Header {
                    rope_base: 500_000.0,
                    epsilon: 1e-5,
                    ..header
                },
                _ => header,
            };
            assert_eq!(*h1b.header(), expected);
            assert_eq!(h1b.norm(1, Norm::FeedForwardSub).unwrap().len(), 4 * 256);
            assert_eq!(h1b.matrix(1, 6).unwrap().rows(), 128);
        }
    }

    #[test]
    fn places_do_not_overlap() {
        let header = header(2, 0);
        let mut bytes = file(&header, Packing::T2);
        let end = bytes.len();
        // The last scale of the last matrix is the end of the file.
        bytes[end - 4..].copy_from_slice(&3.5_f32.to_le_bytes());
        bytes[0x34 + 4 * 128 * 10] = 7;
        let h1b = H1b::from_bytes(bytes).unwrap();
        let mut row = super::super::ternary::Row::default();
        h1b.matrix(1, 6).unwrap().read(127, &mut row).unwrap();
        assert_eq!((row.scales[0], row.trits[0]), (3.5, -1));
        assert_eq!(h1b.final_norm()[0], 7);
    }

    #[test]
    fn swapped_flags_are_seen_by_the_length() {
        let header = header(2, BINARY);
        let h1b = H1b::from_bytes(file(&header, Packing::Q2G128)).unwrap();
        assert_eq!(h1b.packing(), Packing::Q2G128);
        assert_eq!(h1b.header().flags, TERNARY);
    }

    #[test]
    fn wrong_files_are_refused_by_the_field() {
        let refused = |bytes: Vec<u8>| H1b::from_bytes(bytes).unwrap_err().to_string();
        let with = |at: usize, value: i32| {
            let mut bytes = file(&header(2, 0), Packing::T2);
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            refused(bytes)
        };
        assert!(refused(b"GGUF".to_vec()).starts_with("not an .h1b"));
        assert!(refused(b"H1BM....".to_vec()).contains("Medusa"));
        assert!(refused(b"H1B\0\x02\0\0\0".to_vec()).contains("inside its header"));
        assert_eq!(
            with(4, 5),
            ".h1b version 5 is not known; versions 1 to 4 are"
        );
        assert!(with(8, -1).starts_with("the hidden size is -1"));
        assert!(with(0x14, 3).starts_with("the number of heads (3) must divide"));
        assert!(with(0x18, 3).starts_with("the number of KV heads (3)"));
        assert!(with(0x24, 0).contains("no place for another"));
        assert!(with(0x28, 0x10).contains("0x10"));
        assert!(with(0x28, 0xc).contains("0xc"));
        let mut long = file(&header(2, 0), Packing::T2);
        long.push(0);
        assert!(refused(long).starts_with("the file has"));
    }
}
