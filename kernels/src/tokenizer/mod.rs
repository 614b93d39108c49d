//! Text to tokens and back, from what a GGUF file says about its vocabulary.
//!
//! Owns byte-level BPE, SentencePiece and WordPiece. Knows nothing of models, templates or chats.

mod bpe;
mod bytes;
mod class;
mod pretokenizer;
mod seams;
mod special;
mod split;
mod spm;
mod stream;
mod vocabulary;
mod wordpiece;

pub use stream::{Hold, Released, StreamDecoder};

use crate::format::{Gguf, GgufError};
use bpe::Bpe;
use special::{Fragment, Specials};
use spm::Spm;
use vocabulary::{Kind, Script, Vocabulary, special};
use wordpiece::WordPiece;

/// A vocabulary that cannot be used; every message names the key or the token.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("tokenizer: {0}")]
    Metadata(#[from] GgufError),
    #[error("tokenizer model {0:?} is not supported; gpt2, llama, gemma4 and bert are")]
    Model(String),
    #[error("pre-tokenizer {0:?} is not supported, so text would be cut into wrong tokens")]
    PreTokenizer(String),
    #[error("the file names no pre-tokenizer (tokenizer.ggml.pre); convert the model again")]
    NoPreTokenizer,
    #[error("{key} has {found} entries, but there are {tokens} tokens")]
    Length {
        key: &'static str,
        found: usize,
        tokens: usize,
    },
    #[error("{key} is {id}, but there are {tokens} tokens")]
    Id {
        key: &'static str,
        id: u32,
        tokens: usize,
    },
    #[error("{key} is missing, which this tokenizer needs")]
    NoId { key: &'static str },
    #[error("token {id} is marked as a byte, but its text is {text:?}")]
    ByteToken { id: u32, text: String },
    #[error("merge {rank} is {merge:?}, which is not two texts with a space between")]
    Merge { rank: usize, merge: String },
    #[error("the vocabulary is too large")]
    TooLarge,
}

/// What [`Tokenizer::encode`] does beyond cutting text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encode {
    /// Add the begin and end tokens that the model wants around a text.
    pub add_special: bool,
    /// Let markers in the text, such as `<|im_end|>`, become their control tokens. Off for
    /// anything that a stranger wrote.
    pub parse_special: bool,
}

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    specials: Specials,
    scheme: Scheme,
    add_bos: bool,
    add_eos: bool,
}

#[derive(Debug)]
enum Scheme {
    Bpe(Bpe),
    Spm(Spm),
    WordPiece(WordPiece),
}

impl Tokenizer {
    /// Reads the vocabulary. Anything that would give other tokens than the model was trained
    /// with is refused by name.
    pub fn from_gguf(gguf: &Gguf) -> Result<Tokenizer, TokenizerError> {
        let model = gguf.str("tokenizer.ggml.model")?;
        let name = gguf.optional_str("general.name")?.unwrap_or_default();
        let (vocabulary, scheme, add_bos) = match model {
            "gpt2" | "gemma4" => {
                let pre = match (gguf.optional_str("tokenizer.ggml.pre")?, model) {
                    (_, "gemma4") => "gemma4",
                    (Some(pre), _) => pre,
                    (None, _) => return Err(TokenizerError::NoPreTokenizer),
                };
                let pre = pretokenizer::named(pre)
                    .ok_or_else(|| TokenizerError::PreTokenizer(pre.to_owned()))?;
                let script = if pre.raw {
                    Script::Spaces
                } else {
                    Script::Bytes
                };
                let vocabulary = Vocabulary::read(gguf, script)?;
                let bpe = Bpe::new(&vocabulary, gguf.strings("tokenizer.ggml.merges")?, pre)?;
                (vocabulary, Scheme::Bpe(bpe), pre.add_bos)
            }
            "llama" => {
                let mut vocabulary = Vocabulary::read(gguf, Script::Spaces)?;
                // SentencePiece's own numbers, which some files leave out.
                let default = |id: u32| ((id as usize) < vocabulary.len()).then_some(id);
                let (unknown, bos, eos) = (default(0), default(1), default(2));
                vocabulary.unknown = vocabulary.unknown.or(unknown);
                vocabulary.bos = vocabulary.bos.or(bos);
                vocabulary.set_eos(eos);
                let scores = scores(gguf, vocabulary.len())?;
                let space_prefix = gguf
                    .optional_bool("tokenizer.ggml.add_space_prefix")?
                    .unwrap_or(true);
                let spm = Spm::new(&vocabulary, scores, space_prefix);
                (vocabulary, Scheme::Spm(spm), true)
            }
            "bert" => {
                let mut vocabulary = Vocabulary::read(gguf, Script::Spaces)?;
                let cls = special(gguf, "tokenizer.ggml.cls_token_id", vocabulary.len())?;
                vocabulary.bos = vocabulary.bos.or(cls);
                let need = |id: Option<u32>, key| id.ok_or(TokenizerError::NoId { key });
                need(vocabulary.bos, "tokenizer.ggml.cls_token_id")?;
                need(vocabulary.separator, "tokenizer.ggml.seperator_token_id")?;
                need(vocabulary.unknown, "tokenizer.ggml.unknown_token_id")?;
                let lowercase = gguf
                    .optional_bool("tokenizer.ggml.normalizer.lowercase")?
                    .unwrap_or(true);
                let strip_accents = gguf
                    .optional_bool("tokenizer.ggml.normalizer.strip_accents")?
                    .unwrap_or(lowercase);
                (
                    vocabulary,
                    Scheme::WordPiece(WordPiece {
                        lowercase,
                        strip_accents,
                    }),
                    true,
                )
            }
            other => return Err(TokenizerError::Model(other.to_owned())),
        };
        let add_bos = gguf
            .optional_bool("tokenizer.ggml.add_bos_token")?
            .unwrap_or(add_bos);
        let add_eos = gguf
            .optional_bool("tokenizer.ggml.add_eos_token")?
            .unwrap_or(false);
        let specials = Specials::new(&vocabulary, name)?;
        Ok(Tokenizer {
            vocabulary,
            specials,
            scheme,
            add_bos,
            add_eos,
        })
    }

    /// The tokens of a text.
    pub fn encode(&self, text: &str, options: Encode) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.len() / 3 + 2);
        let is_bert = matches!(self.scheme, Scheme::WordPiece(_));
        if options.add_special && (self.add_bos || is_bert) {
            out.extend(self.vocabulary.bos);
        }
        let mut first = true;
        self.specials
            .cut(text, options.parse_special, |fragment| match fragment {
                Fragment::Token(id) => {
                    out.push(id);
                    first = true;
                }
                Fragment::Text(text) => {
                    match &self.scheme {
                        Scheme::Bpe(bpe) => bpe.encode(&self.vocabulary, text, &mut out),
                        Scheme::Spm(spm) => spm.encode(&self.vocabulary, text, first, &mut out),
                        Scheme::WordPiece(pieces) => {
                            pieces.encode(&self.vocabulary, text, &mut out)
                        }
                    }
                    first = false;
                }
            });
        if options.add_special && is_bert {
            out.extend(self.vocabulary.separator);
        } else if options.add_special && self.add_eos {
            out.extend(self.vocabulary.eos);
        }
        out
    }

    /// The text of tokens; control tokens have none. Bytes that form no character become the
    /// replacement character, and the space that SentencePiece puts before a text is taken off.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for &id in ids.iter().filter(|&&id| !self.is_special(id)) {
            bytes.extend_from_slice(self.token_bytes(id));
        }
        let prefixed = match &self.scheme {
            Scheme::Bpe(_) => false,
            Scheme::Spm(spm) => spm.space_prefix,
            Scheme::WordPiece(_) => true,
        };
        let text = match bytes.strip_prefix(b" ") {
            Some(rest) if prefixed => rest,
            _ => &bytes,
        };
        String::from_utf8_lossy(text).into_owned()
    }

    /// The bytes that a token stands for; the marker's text for a control token, nothing for an
    /// id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocabulary.bytes(id)
    }

    /// The token whose text in the vocabulary is exactly this, such as `<|im_end|>`.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.vocabulary.id(text)
    }

    /// Whether the model ends its turn with this token.
    pub fn is_end(&self, id: u32) -> bool {
        self.vocabulary.is_end(id)
    }

    /// All tokens that end a turn, in ascending order.
    pub fn ends(&self) -> &[u32] {
        self.vocabulary.ends()
    }

    /// Whether a token steers the model and is no text.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.vocabulary.kind(id), Kind::Control | Kind::Unknown)
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.vocabulary.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token that begins a text, if there is one.
    pub fn bos(&self) -> Option<u32> {
        self.vocabulary.bos
    }

    /// The token that ends a text, if there is one.
    pub fn eos(&self) -> Option<u32> {
        self.vocabulary.eos
    }

    /// Whether [`Encode::add_special`] puts the begin token before a text. A template that writes
    /// it itself must not get a second one.
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.bos().is_some()
    }
}

fn scores(gguf: &Gguf, tokens: usize) -> Result<Vec<f32>, TokenizerError> {
    let key = "tokenizer.ggml.scores";
    let scores = gguf.optional_f32s(key)?.ok_or_else(|| GgufError::Missing {
        key: key.to_owned(),
    })?;
    if scores.len() != tokens {
        return Err(TokenizerError::Length {
            key,
            found: scores.len(),
            tokens,
        });
    }
    Ok(scores.to_vec())
}

#[cfg(test)]
mod tests;
