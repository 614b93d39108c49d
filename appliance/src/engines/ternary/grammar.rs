//! Answers in a given shape: after every token, which tokens may follow.
//!
//! JSON Schema, regular expressions and Lark grammars run in llguidance over a prefix tree of the model's own
//! vocabulary. Knows nothing of requests or sequences: a [`Guide`] belongs to one answer.

use std::sync::{Arc, OnceLock};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{
    InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Matcher, ParserFactory};
use onebit_kernels::sampler::TokenMask;
use onebit_kernels::tokenizer::{Encode, Tokenizer};
use serde_json::{Value, json};

use crate::domain::Shape;
use crate::engines::EngineError;

/// Compiles shapes for one model. The prefix tree is built when the first shape is asked for: 49,152 tokens take
/// about 20 ms, which a chat without shapes should not pay.
pub(super) struct Grammars {
    tokenizer: Arc<Tokenizer>,
    vocabulary: usize,
    factory: OnceLock<Result<ParserFactory, String>>,
}

/// What may follow in one answer.
pub(super) struct Guide {
    matcher: Matcher,
    vocabulary: usize,
}

impl Grammars {
    /// For a model whose logits have `vocabulary` entries.
    pub(super) fn new(tokenizer: Arc<Tokenizer>, vocabulary: usize) -> Grammars {
        Grammars {
            tokenizer,
            vocabulary,
            factory: OnceLock::new(),
        }
    }

    /// Compiles a shape; `None` for free text.
    ///
    /// # Errors
    /// The shape cannot be read, or asks for something that cannot be enforced; the message names it.
    pub(super) fn guide(&self, shape: &Shape) -> Result<Option<Guide>, EngineError> {
        let refused = |why: String| EngineError::BadShape { why };
        let unread = |error: &dyn std::fmt::Display| refused(first_line(&error.to_string()));
        let grammar = match shape {
            Shape::Free => return Ok(None),
            Shape::Json => json_by(r#"{"type": "object"}"#).map_err(|error| unread(&error))?,
            Shape::Schema(schema) => json_by(schema).map_err(|error| unread(&error))?,
            Shape::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Shape::Grammar(lark) => TopLevelGrammar::from_lark(lark.clone()),
        };
        let factory = self
            .factory
            .get_or_init(|| factory(&self.tokenizer, self.vocabulary));
        let factory = factory
            .as_ref()
            .map_err(|why| EngineError::Failed(why.clone()))?;
        let parser = factory
            .create_parser(grammar)
            .map_err(|error| unread(&error))?;
        Ok(Some(Guide {
            matcher: Matcher::new(Ok(parser)),
            vocabulary: self.vocabulary,
        }))
    }
}

impl Guide {
    /// The tokens that may follow; when the shape is complete, the model's end token alone.
    pub(super) fn mask(&mut self) -> Result<TokenMask, EngineError> {
        let allowed = self
            .matcher
            .compute_mask_or_eos()
            .map_err(|error| EngineError::Failed(first_line(&error.to_string())))?;
        let mut mask = TokenMask::none(self.vocabulary);
        allowed.iter_set_entries(|token| mask.allow(token as u32));
        Ok(mask)
    }

    /// Goes on by one token, which must have been allowed.
    pub(super) fn take(&mut self, token: u32) -> Result<(), EngineError> {
        if self.matcher.is_stopped() {
            return Ok(()); // the shape is complete, and this is the model's end token
        }
        self.matcher
            .consume_token(token)
            .map_err(|error| EngineError::Failed(first_line(&error.to_string())))
    }
}

/// White space between the parts of a JSON text: enough to indent by, too little for a small model to lose itself in.
const WHITE_SPACE: &str = r"[ \n\t]{0,16}";

/// JSON by a schema, which is read strictly: a keyword that cannot be enforced is an error.
fn json_by(schema: &str) -> Result<TopLevelGrammar, serde_json::Error> {
    let mut schema: Value = serde_json::from_str(schema)?;
    if let Value::Object(schema) = &mut schema {
        schema.insert(
            "x-guidance".to_owned(),
            json!({ "whitespace_pattern": WHITE_SPACE }),
        );
    }
    Ok(TopLevelGrammar::from_json_schema(schema))
}

/// llguidance adds the whole grammar below its message.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

fn factory(tokenizer: &Arc<Tokenizer>, vocabulary: usize) -> Result<ParserFactory, String> {
    let environment: TokEnv = Arc::new(Environment::new(tokenizer, vocabulary)?);
    let mut factory = ParserFactory::new(
        &environment,
        InferenceCapabilities::default(),
        &llguidance::earley::SlicedBiasComputer::json_slices(),
    )
    .map_err(|error| error.to_string())?;
    factory.quiet();
    Ok(factory)
}

/// The vocabulary as llguidance sees it.
struct Environment {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl Environment {
    fn new(tokenizer: &Arc<Tokenizer>, vocabulary: usize) -> Result<Environment, String> {
        let ends: Vec<u32> = (0..tokenizer.len() as u32)
            .filter(|id| tokenizer.is_end(*id))
            .collect();
        let end = tokenizer.eos().or(ends.first().copied());
        let end = end.ok_or("the model has no end token, so no shape can be completed")?;
        let word = |id: u32| {
            let bytes = if (id as usize) < tokenizer.len() {
                tokenizer.token_bytes(id)
            } else {
                &[]
            };
            if !tokenizer.is_special(id) {
                return bytes.to_vec();
            }
            // Marked as special: no text of a shape may be written with it.
            [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat()
        };
        let words: Vec<Vec<u8>> = (0..vocabulary as u32).map(word).collect();
        let trie = TokTrie::from(&TokRxInfo::new(vocabulary as u32, end), &words);
        Ok(Environment {
            tokenizer: Arc::clone(tokenizer),
            trie: if ends.is_empty() {
                trie
            } else {
                trie.with_eos_tokens(&ends)
            },
        })
    }
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            self.tokenizer.encode(text, Encode::default())
        })
    }
}
