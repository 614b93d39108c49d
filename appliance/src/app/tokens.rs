//! Tokens for whoever asks about them rather than for an answer: splitting, joining, and prompts as a model reads them.
//!
//! Vocabularies come from the models' files, so that no model has to be loaded; each is read once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use onebit_kernels::format::gguf::Gguf;
use onebit_kernels::tokenizer::{Encode, Tokenizer};

use super::{App, AppError, Details, new_id};
use crate::domain::{ChatRequest, Input, Model, ModelFormat};
use crate::engines::{EngineError, Template};

/// Vocabularies that are kept; one takes some 10 MB.
const VOCABULARIES_MAX: usize = 8;

/// Vocabularies by the hash of their files.
#[derive(Default)]
pub(super) struct Vocabularies(Mutex<HashMap<String, Arc<Tokenizer>>>);

impl Vocabularies {
    fn get(&self, sha256: &str) -> Option<Arc<Tokenizer>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(sha256).cloned()
    }

    fn put(&self, sha256: &str, vocabulary: &Arc<Tokenizer>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= VOCABULARIES_MAX {
            known.clear();
        }
        known.insert(sha256.to_owned(), Arc::clone(vocabulary));
    }
}

/// A token and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its bytes: a token may be half a character.
    pub bytes: Vec<u8>,
}

/// Code around a gap that a model is to fill.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gap {
    /// What stands before it.
    pub before: String,
    /// What stands after it.
    pub after: String,
    /// How the filling begins.
    pub begins: String,
    /// Other files that help: name and text.
    pub files: Vec<(String, String)>,
}

/// Names that families of models give to the marks around a gap, with the metadata that may say them too.
const GAP_MARKS: [(&[&str], &str); 5] = [
    (
        &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<PRE>",
            "▁<PRE>",
            "<｜fim▁begin｜>",
            "<|code_prefix|>",
        ],
        "tokenizer.ggml.fim_pre_token_id",
    ),
    (
        &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<SUF>",
            "▁<SUF>",
            "<｜fim▁hole｜>",
            "<|code_suffix|>",
        ],
        "tokenizer.ggml.fim_suf_token_id",
    ),
    (
        &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<MID>",
            "▁<MID>",
            "<｜fim▁end｜>",
            "<|code_middle|>",
        ],
        "tokenizer.ggml.fim_mid_token_id",
    ),
    (
        &[
            "<|fim_repo|>",
            "<|repo_name|>",
            "<fim-repo>",
            "<REPO>",
            "<reponame>",
        ],
        "tokenizer.ggml.fim_rep_token_id",
    ),
    (&["<|file_sep|>"], "tokenizer.ggml.fim_sep_token_id"),
];

impl App {
    /// Splits a text into a model's tokens. `add_special` puts the marks around it that a document has;
    /// `parse_special` takes marks in the text for what they name.
    ///
    /// # Errors
    /// The model is not known, or has no vocabulary here.
    pub async fn tokenize(
        &self,
        name: &str,
        text: String,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<Token>, AppError> {
        let model = self.model(name).await?;
        let vocabulary = self.vocabulary(&model).await?;
        // A megabyte takes a tenth of a second.
        let split = tokio::task::spawn_blocking(move || {
            let options = Encode {
                add_special,
                parse_special,
            };
            let ids = vocabulary.encode(&text, options).into_iter();
            ids.map(|id| Token {
                id,
                bytes: vocabulary.token_bytes(id).to_vec(),
            })
            .collect()
        });
        split
            .await
            .map_err(|panic| EngineError::Failed(panic.to_string()).into())
    }

    /// Joins tokens to text.
    ///
    /// # Errors
    /// The model is not known or has no vocabulary here, or a token is not in it.
    pub async fn detokenize(&self, name: &str, tokens: &[u32]) -> Result<String, AppError> {
        let model = self.model(name).await?;
        let vocabulary = self.vocabulary(&model).await?;
        let size = vocabulary.len();
        if let Some(&id) = tokens.iter().find(|id| **id as usize >= size) {
            let unknown = EngineError::BadToken {
                id,
                vocabulary: size,
            };
            return Err(unknown.into());
        }
        Ok(vocabulary.decode(tokens))
    }

    /// Writes a conversation as the model would read it, and asks nothing.
    ///
    /// # Errors
    /// The model is not known or brings no template, or the template refuses the conversation.
    pub async fn prompt_text(&self, request: &ChatRequest) -> Result<String, AppError> {
        let model = self.model(&request.model).await?;
        let messages = match &request.input {
            Input::Messages(messages) => messages,
            Input::Text { text, .. } => return Ok(text.clone()),
            Input::Tokens(tokens) => return self.detokenize(&model.id, tokens).await,
        };
        let details = self.details(&model).await?;
        let source = details.template.clone().ok_or(EngineError::NoTemplate)?;
        let vocabulary = self.vocabulary(&model).await?;
        let mark = |id: Option<u32>| {
            let bytes = id.map(|id| vocabulary.token_bytes(id));
            String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
        };
        let template = Template {
            source,
            bos: mark(vocabulary.bos()),
            eos: mark(vocabulary.eos()),
        };
        let key = new_id()?.to_string();
        let prompt = self
            .inner
            .templates
            .prompt(&template, messages, request, key)?;
        Ok(prompt.text)
    }

    /// The tokens that make a model fill a gap.
    ///
    /// # Errors
    /// The model is not known, or was not trained to fill gaps.
    pub async fn gap_prompt(&self, name: &str, gap: &Gap) -> Result<Vec<u32>, AppError> {
        let model = self.model(name).await?;
        let vocabulary = self.vocabulary(&model).await?;
        let details = self.details(&model).await?;
        let marks = GAP_MARKS.map(|(names, key)| mark(&vocabulary, &details, names, key));
        let [Some(before), Some(after), Some(middle), repository, file] = marks else {
            return Err(AppError::FillsNoGaps(model.id));
        };
        let split = |text: &str| vocabulary.encode(text, Encode::default());
        let mut tokens = Vec::new();
        if vocabulary.adds_bos() {
            tokens.extend(vocabulary.bos());
        }
        if let (Some(repository), Some(file), false) = (repository, file, gap.files.is_empty()) {
            tokens.push(repository);
            tokens.extend(split("project\n"));
            for (name, text) in &gap.files {
                tokens.push(file);
                tokens.extend(split(&format!("{name}\n{text}\n")));
            }
            tokens.push(file);
            tokens.extend(split("filename\n"));
        }
        for (mark, text) in [
            (before, &gap.before),
            (after, &gap.after),
            (middle, &gap.begins),
        ] {
            tokens.push(mark);
            tokens.extend(split(text));
        }
        Ok(tokens)
    }

    async fn vocabulary(&self, model: &Model) -> Result<Arc<Tokenizer>, AppError> {
        if model.format != ModelFormat::Gguf {
            return Err(AppError::NoVocabulary(model.id.clone()));
        }
        if let Some(vocabulary) = self.inner.vocabularies.get(&model.sha256) {
            return Ok(vocabulary);
        }
        let path = model.path.clone();
        let wrong = |why: String| AppError::NotAModel {
            path: model.path.clone(),
            why,
        };
        let read = tokio::task::spawn_blocking(move || {
            let gguf = Gguf::open(&path).map_err(|error| error.to_string())?;
            Tokenizer::from_gguf(&gguf).map_err(|error| error.to_string())
        });
        let vocabulary = read
            .await
            .map_err(|panic| wrong(panic.to_string()))?
            .map_err(wrong)?;
        let vocabulary = Arc::new(vocabulary);
        self.inner.vocabularies.put(&model.sha256, &vocabulary);
        Ok(vocabulary)
    }
}

/// The token of a mark: by one of its names, or as the file's metadata says.
fn mark(vocabulary: &Tokenizer, details: &Details, names: &[&str], key: &str) -> Option<u32> {
    let named = names.iter().find_map(|name| vocabulary.token(name));
    let told = details
        .metadata
        .get(key)
        .and_then(serde_json::Value::as_u64);
    named.or_else(|| told.and_then(|id| u32::try_from(id).ok()))
}
