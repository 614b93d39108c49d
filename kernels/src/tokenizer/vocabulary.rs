//! The list of tokens: text, kind, bytes, and which of them begin, end or are special.

use std::collections::HashMap;

use super::TokenizerError;
use super::bytes::byte_of;
use crate::format::Gguf;

/// How token texts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    /// One printable character a byte (GPT-2's alphabet).
    Bytes,
    /// Text with `▁` for a space and `<0x0A>` for single bytes (SentencePiece).
    Spaces,
}

/// GGUF's `token_type` numbers that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Byte,
}

/// The tokens of a model.
#[derive(Debug)]
pub(super) struct Vocabulary {
    texts: Vec<Box<str>>,
    kinds: Vec<Kind>,
    /// What each token stands for in a decoded text, all behind one another.
    bytes: Vec<u8>,
    /// Token `i` is `bytes[starts[i]..starts[i + 1]]`.
    starts: Vec<u32>,
    ids: HashMap<Box<str>, u32>,
    /// Tokens that stand for one byte, of kind `Byte`.
    byte_tokens: Box<[Option<u32>; 256]>,
    ends: Vec<u32>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) separator: Option<u32>,
    /// The longest text, in bytes.
    pub(super) longest: usize,
}

/// Texts that end a turn in published models, whatever id the file names as its end.
const END_TEXTS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "[EOT]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<turn|>",
    "<｜end▁of▁sentence｜>",
];

impl Vocabulary {
    pub(super) fn read(gguf: &Gguf, script: Script) -> Result<Vocabulary, TokenizerError> {
        let tokens = gguf.strings("tokenizer.ggml.tokens")?;
        let types = gguf.optional_u32s("tokenizer.ggml.token_type")?;
        if let Some(types) = &types
            && types.len() != tokens.len()
        {
            return Err(TokenizerError::Length {
                key: "tokenizer.ggml.token_type",
                found: types.len(),
                tokens: tokens.len(),
            });
        }
        let kind = |id: usize| match types.as_ref().map(|types| types[id]) {
            Some(2) => Kind::Unknown,
            Some(3) => Kind::Control,
            Some(4) => Kind::UserDefined,
            Some(6) => Kind::Byte,
            _ => Kind::Normal,
        };
        let mut vocabulary = Vocabulary {
            texts: tokens.iter().map(|text| text.as_str().into()).collect(),
            kinds: (0..tokens.len()).map(kind).collect(),
            bytes: Vec::new(),
            starts: vec![0],
            ids: HashMap::with_capacity(tokens.len()),
            byte_tokens: Box::new([None; 256]),
            ends: Vec::new(),
            bos: special(gguf, "tokenizer.ggml.bos_token_id", tokens.len())?,
            eos: special(gguf, "tokenizer.ggml.eos_token_id", tokens.len())?,
            unknown: special(gguf, "tokenizer.ggml.unknown_token_id", tokens.len())?,
            // The misspelling is the format's.
            separator: special(gguf, "tokenizer.ggml.seperator_token_id", tokens.len())?,
            longest: tokens.iter().map(String::len).max().unwrap_or(0),
        };
        vocabulary.mark_known_texts();
        for (id, text) in tokens.iter().enumerate() {
            vocabulary.ids.insert(text.as_str().into(), id as u32);
            vocabulary.add_bytes(id, text, script)?;
        }
        vocabulary.find_ends(gguf)?;
        Ok(vocabulary)
    }

    /// Files exist that list a turn's end as ordinary text; it must not be typed or shown as such.
    fn mark_known_texts(&mut self) {
        for (text, kind) in self.texts.iter().zip(&mut self.kinds) {
            if END_TEXTS.contains(&&**text) && *kind == Kind::Normal {
                *kind = Kind::Control;
            }
        }
    }

    fn add_bytes(&mut self, id: usize, text: &str, script: Script) -> Result<(), TokenizerError> {
        match (self.kinds[id], script) {
            (Kind::Byte, _) => {
                let byte = parse_byte(text).ok_or_else(|| TokenizerError::ByteToken {
                    id: id as u32,
                    text: text.to_owned(),
                })?;
                self.byte_tokens[byte as usize] = Some(id as u32);
                self.bytes.push(byte);
            }
            (Kind::Normal, Script::Bytes) => {
                for c in text.chars() {
                    match byte_of(c) {
                        Some(byte) => self.bytes.push(byte),
                        // A vocabulary may hold raw text, such as padding in another script.
                        None => self
                            .bytes
                            .extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
            (Kind::Normal, Script::Spaces) => self
                .bytes
                .extend_from_slice(text.replace('▁', " ").as_bytes()),
            _ => self.bytes.extend_from_slice(text.as_bytes()),
        }
        let end = u32::try_from(self.bytes.len()).map_err(|_| TokenizerError::TooLarge)?;
        self.starts.push(end);
        Ok(())
    }

    fn find_ends(&mut self, gguf: &Gguf) -> Result<(), TokenizerError> {
        let mut ends: Vec<u32> = END_TEXTS.iter().filter_map(|text| self.id(text)).collect();
        // With tool calls as a turn's end of their own, `<|end|>` only ends a message.
        if self.id("<|return|>").is_some() && self.id("<|call|>").is_some() {
            ends.retain(|&id| Some(id) != self.id("<|end|>"));
        }
        for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            ends.extend(special(gguf, key, self.len())?);
        }
        ends.extend(self.eos);
        ends.sort_unstable();
        ends.dedup();
        self.ends = ends;
        Ok(())
    }

    /// Takes `id` as the end of a text if the file names none.
    pub(super) fn set_eos(&mut self, id: Option<u32>) {
        if self.eos.is_none()
            && let Some(id) = id
        {
            self.eos = Some(id);
            self.ends.push(id);
            self.ends.sort_unstable();
            self.ends.dedup();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    pub(super) fn byte_token(&self, byte: u8) -> Option<u32> {
        self.byte_tokens[byte as usize]
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(|text| &**text)
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    pub(super) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Normal)
    }

    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        match self.starts.get(id as usize..id as usize + 2) {
            Some(&[start, end]) => &self.bytes[start as usize..end as usize],
            _ => &[],
        }
    }

    pub(super) fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    pub(super) fn ends(&self) -> &[u32] {
        &self.ends
    }
}

/// The id under a key, checked against the vocabulary.
pub(super) fn special(
    gguf: &Gguf,
    key: &'static str,
    tokens: usize,
) -> Result<Option<u32>, TokenizerError> {
    match gguf.optional_u32(key)? {
        Some(id) if id as usize >= tokens => Err(TokenizerError::Id { key, id, tokens }),
        id => Ok(id),
    }
}

/// `<0x0A>` is 10.
fn parse_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}
