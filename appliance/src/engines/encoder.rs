//! Texts to vectors in this process: a sentence encoder of the BERT family, as Hugging Face publishes one.
//!
//! A folder with `config.json`, `model.safetensors` and `vocab.txt` is all it takes. Knows nothing of documents; the
//! pool does not count it, because it is small and always there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use onebit_kernels::format::Gguf;
use onebit_kernels::format::float::{decode_bf16, decode_f16, decode_f32};
use onebit_kernels::format::gguf::{Array, GgufBuilder, Value};
use onebit_kernels::format::safetensors::{Dtype, Safetensors};
use onebit_kernels::model::bert::{Bert, BertConfig};
use onebit_kernels::threads::Threads;
use onebit_kernels::tokenizer::{Encode, Tokenizer};

use super::EngineError;

/// Tokens of one text, its two markers included. MiniLM and its kin were trained on 256 and lose beyond.
pub const TOKENS_MAX: usize = 256;

/// The two markers around every text.
pub const MARKERS: usize = 2;

/// Tokens of one pass: more do not fit the second-level cache beside the weights and gain nothing.
const PASS_TOKENS: usize = 2048;

/// Why an encoder cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EncoderError {
    /// A file is missing or is not what it should be.
    #[error("{} cannot be used: {why}; fetch the embedder again with ./install.sh --fetch-model", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The weights do not fit a text.
    #[error("the embedder failed: {0}")]
    Run(String),
}

/// A loaded encoder; clones share it.
#[derive(Clone)]
pub struct Encoder {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    bert: Bert,
    tokenizer: Tokenizer,
    threads: Arc<Threads>,
}

impl Encoder {
    /// Loads a folder; blocking, about a tenth of a second for MiniLM.
    ///
    /// # Errors
    /// Names the file that is missing or wrong.
    pub fn open(folder: &Path, threads: Arc<Threads>) -> Result<Encoder, EncoderError> {
        let name = folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let config = config(&folder.join("config.json"))?;
        let tokenizer = tokenizer(&folder.join("vocab.txt"), config.vocabulary)?;
        let path = folder.join("model.safetensors");
        let bad = |why: String| EncoderError::File {
            path: path.clone(),
            why,
        };
        let file = Safetensors::open(&path).map_err(|error| bad(error.to_string()))?;
        let tensor = |name: &str| {
            let (entry, data) = file.tensor(name)?;
            let shape: Vec<usize> = entry.shape.iter().map(|&n| n as usize).collect();
            let mut values = vec![0.0; shape.iter().product()];
            match entry.dtype {
                Dtype::F32 => decode_f32(data, &mut values),
                Dtype::F16 => decode_f16(data, &mut values),
                Dtype::Bf16 => decode_bf16(data, &mut values),
                Dtype::I64 | Dtype::I8 | Dtype::U8 => return None,
            }
            Some((shape, values))
        };
        let bert = Bert::load(config, &tensor).map_err(|error| bad(error.to_string()))?;
        let inner = Inner {
            name: name.unwrap_or_default(),
            bert,
            tokenizer,
            threads,
        };
        Ok(Encoder {
            inner: Arc::new(inner),
        })
    }

    /// Its folder's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Numbers of a vector.
    pub fn dimensions(&self) -> usize {
        self.inner.bert.config().hidden
    }

    /// Tokens of a text, its markers left out.
    pub fn count(&self, text: &str) -> usize {
        self.inner.tokenizer.encode(text, Encode::default()).len()
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// A token is not in the vocabulary.
    pub fn text(&self, tokens: &[u32]) -> Result<String, EngineError> {
        let vocabulary = self.inner.tokenizer.len();
        match tokens.iter().find(|id| **id as usize >= vocabulary) {
            Some(&id) => Err(EngineError::BadToken { id, vocabulary }),
            None => Ok(self.inner.tokenizer.decode(tokens)),
        }
    }

    /// One vector of length one for each text; blocking. What lies beyond [`TOKENS_MAX`] tokens of a text is not read.
    ///
    /// # Errors
    /// The weights do not fit.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EncoderError> {
        let options = Encode {
            add_special: true,
            parse_special: false,
        };
        let limit = TOKENS_MAX.min(self.inner.bert.config().positions);
        let tokens: Vec<Vec<u32>> = texts
            .iter()
            .map(|text| {
                let mut tokens = self.inner.tokenizer.encode(text, options);
                if tokens.len() > limit
                    && let Some(&end) = tokens.last()
                {
                    tokens.truncate(limit);
                    tokens[limit - 1] = end;
                }
                tokens
            })
            .collect();
        let mut vectors = Vec::with_capacity(texts.len());
        let mut first = 0;
        while first < tokens.len() {
            let mut past = first;
            let mut sum = 0;
            while past < tokens.len() && (past == first || sum + tokens[past].len() <= PASS_TOKENS)
            {
                sum += tokens[past].len();
                past += 1;
            }
            let pass: Vec<&[u32]> = tokens[first..past].iter().map(Vec::as_slice).collect();
            let run = self.inner.bert.encode(&self.inner.threads, &pass);
            vectors.extend(run.map_err(|error| EncoderError::Run(error.to_string()))?);
            first = past;
        }
        Ok(vectors)
    }
}

fn config(path: &Path) -> Result<BertConfig, EncoderError> {
    let bad = |why: String| EncoderError::File {
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let number = |key: &str| {
        let number = value[key]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|&n| n > 0);
        number.ok_or_else(|| bad(format!("{key} is missing")))
    };
    for (key, wanted) in [("model_type", "bert"), ("hidden_act", "gelu")] {
        if value[key].as_str() != Some(wanted) {
            return Err(bad(format!("{key} is {}, not {wanted}", value[key])));
        }
    }
    Ok(BertConfig {
        hidden: number("hidden_size")?,
        layers: number("num_hidden_layers")?,
        heads: number("num_attention_heads")?,
        intermediate: number("intermediate_size")?,
        vocabulary: number("vocab_size")?,
        positions: number("max_position_embeddings")?,
        epsilon: value["layer_norm_eps"].as_f64().unwrap_or(1e-12) as f32,
    })
}

/// The vocabulary in GGUF's spelling: a word's first piece carries a mark, the others lose theirs.
fn tokenizer(path: &Path, size: usize) -> Result<Tokenizer, EncoderError> {
    let bad = |why: String| EncoderError::File {
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let pieces: Vec<&str> = text.lines().collect();
    if pieces.len() != size {
        return Err(bad(format!(
            "it has {} lines where the model knows {size} tokens",
            pieces.len()
        )));
    }
    let special = |piece: &str| piece.starts_with('[') && piece.ends_with(']') && piece.len() > 2;
    let spelled = |piece: &&str| match piece.strip_prefix("##") {
        Some(rest) => rest.to_owned(),
        None if special(piece) => (*piece).to_owned(),
        None => format!("▁{piece}"),
    };
    let id = |wanted: &str| {
        let at = pieces.iter().position(|piece| *piece == wanted);
        at.map(|at| Value::U32(at as u32))
            .ok_or_else(|| bad(format!("it has no {wanted}")))
    };
    let kinds = pieces
        .iter()
        .map(|piece| if special(piece) { 3 } else { 1 })
        .collect();
    let mut file = GgufBuilder::new();
    file.value("general.architecture", Value::String("bert".into()))
        .value("tokenizer.ggml.model", Value::String("bert".into()))
        .value(
            "tokenizer.ggml.tokens",
            Value::Array(Array::String(pieces.iter().map(spelled).collect())),
        )
        .value("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)))
        .value("tokenizer.ggml.cls_token_id", id("[CLS]")?)
        .value("tokenizer.ggml.seperator_token_id", id("[SEP]")?)
        .value("tokenizer.ggml.unknown_token_id", id("[UNK]")?);
    let bytes = file.to_bytes(&[]).map_err(|error| bad(error.to_string()))?;
    let file = Gguf::from_bytes(bytes).map_err(|error| bad(error.to_string()))?;
    Tokenizer::from_gguf(&file).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            Encoder::open(folder.path(), Arc::new(Threads::new(1)))
                .err()
                .unwrap()
                .to_string()
        };
        assert!(open().contains("config.json"), "{}", open());
        std::fs::write(folder.path().join("config.json"), r#"{"model_type": "t5"}"#).unwrap();
        assert!(open().contains("not bert"), "{}", open());
        let config = r#"{"model_type": "bert", "hidden_act": "gelu", "hidden_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 5, "max_position_embeddings": 8}"#;
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        std::fs::write(folder.path().join("vocab.txt"), "[UNK]\n[CLS]\na\n##b\n").unwrap();
        assert!(open().contains("4 lines"), "{}", open());
        std::fs::write(folder.path().join("vocab.txt"), "[UNK]\n[CLS]\na\n##b\nc\n").unwrap();
        assert!(open().contains("[SEP]"), "{}", open());
    }
}
