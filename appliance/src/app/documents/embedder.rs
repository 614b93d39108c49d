//! What turns text into vectors: the encoder in this process, or a model of an engine that the owner names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::super::{EmbedInput, Embedded};
use super::{App, AppError, LibraryError};
use crate::config::shipped_model;
use crate::domain::Overflow;
use crate::engines::encoder::{Encoder, MARKERS, TOKENS_MAX};
use crate::engines::{EngineError, Task};
use crate::rag::chunk::Limits;

/// The folder of the encoder that an installation brings.
const SHIPPED: &str = "all-minilm-l6-v2";

/// Tokens that a passage repeats of the one before it.
const OVERLAP: usize = 32;

/// A source of vectors.
#[derive(Clone)]
pub(super) enum Embedder {
    /// In this process.
    Own(Encoder),
    /// A model of an engine.
    Engine(String),
}

impl Embedder {
    /// Its name in the store.
    pub(super) fn name(&self) -> &str {
        match self {
            Embedder::Own(encoder) => encoder.name(),
            Embedder::Engine(model) => model,
        }
    }
}

impl App {
    /// The embedder that the settings ask for.
    ///
    /// # Errors
    /// There is none on this machine.
    pub(super) async fn embedder(&self) -> Result<Embedder, AppError> {
        let set = &self.inner.config.documents.embedder;
        if set.is_empty() || set.contains('/') {
            return Ok(Embedder::Own(self.encoder().await?));
        }
        Ok(Embedder::Engine(self.model(set).await?.id))
    }

    /// Whether there is something that turns text into vectors; loads nothing.
    pub(in super::super) async fn has_embedder(&self) -> bool {
        let set = &self.inner.config.documents.embedder;
        if !set.is_empty() && !set.contains('/') {
            return self.model(set).await.is_ok();
        }
        self.encoder_folder().is_some_and(|folder| folder.is_dir())
    }

    /// Where the encoder of this process lies, or would.
    fn encoder_folder(&self) -> Option<PathBuf> {
        let set = &self.inner.config.documents.embedder;
        if set.contains('/') {
            return Some(PathBuf::from(set));
        }
        let own = self.inner.config.data_dir.join("models").join(SHIPPED);
        let weights = format!("{SHIPPED}/model.safetensors");
        let shipped = shipped_model(&weights).and_then(|file| file.parent().map(Path::to_owned));
        [own].into_iter().find(|folder| folder.is_dir()).or(shipped)
    }

    /// The encoder in this process; loaded once.
    pub(super) async fn encoder(&self) -> Result<Encoder, AppError> {
        let cell = &self.inner.library.encoder;
        let encoder = cell.get_or_try_init(|| async {
            let folder = self.encoder_folder().ok_or(LibraryError::NoEmbedder)?;
            let threads = Arc::clone(&self.inner.threads);
            let opened = tokio::task::spawn_blocking(move || Encoder::open(&folder, threads));
            let opened = opened
                .await
                .map_err(|panic| LibraryError::Broken(panic.to_string()))?;
            Ok::<_, AppError>(opened.map_err(LibraryError::from)?)
        });
        Ok(encoder.await?.clone())
    }

    /// The embedder whose vectors the store holds. Where the settings ask for another, that one is ordered.
    ///
    /// # Errors
    /// There is none, or the store fails.
    pub(super) async fn serving(&self) -> Result<Embedder, AppError> {
        let wanted = self.embedder().await?;
        let known = self.inner.library.serving().clone();
        let serving = match known {
            Some(name) => name,
            None => {
                let name = self
                    .inner
                    .store
                    .passages()
                    .settle_embedder(wanted.name())
                    .await?;
                *self.inner.library.serving() = Some(name.clone());
                if name != wanted.name() {
                    tracing::info!(
                        from = name,
                        to = wanted.name(),
                        "documents are read by another embedder"
                    );
                    self.inner.library.wake.notify_one();
                }
                name
            }
        };
        if serving == wanted.name() {
            return Ok(wanted);
        }
        match self.encoder().await {
            Ok(encoder) if encoder.name() == serving => Ok(Embedder::Own(encoder)),
            _ => Ok(Embedder::Engine(serving)),
        }
    }

    /// Vectors of texts by whichever embedder serves, each of length 1.
    ///
    /// # Errors
    /// There is no embedder.
    pub(in super::super) async fn directions(
        &self,
        texts: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, AppError> {
        let embedder = self.serving().await?;
        self.vectors(&embedder, texts).await
    }

    /// One vector of length one for each text.
    ///
    /// # Errors
    /// The embedder fails.
    pub(super) async fn vectors(
        &self,
        embedder: &Embedder,
        texts: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, AppError> {
        match embedder {
            Embedder::Own(encoder) => {
                let encoder = encoder.clone();
                let made = tokio::task::spawn_blocking(move || {
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    encoder.embed(&texts)
                });
                let made = made
                    .await
                    .map_err(|panic| LibraryError::Broken(panic.to_string()))?;
                Ok(made.map_err(LibraryError::from)?)
            }
            Embedder::Engine(model) => {
                let (_, lease) = self.load_for(model, Task::Embed).await?;
                let mut vectors = lease.embed(texts).await?;
                for vector in &mut vectors {
                    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                    if length > 0.0 {
                        vector.iter_mut().for_each(|x| *x /= length);
                    }
                }
                Ok(vectors)
            }
        }
    }

    /// Whether there is anything that makes vectors of documents.
    pub async fn can_embed(&self) -> bool {
        self.embedder().await.is_ok()
    }

    /// Whether the encoder in this process is there.
    pub(in super::super) async fn has_own_embedder(&self) -> bool {
        let encoder = self.encoder().await;
        encoder
            .inspect_err(|error| tracing::debug!(%error, "there is no embedder in this process"))
            .is_ok()
    }

    /// Whether a client means the encoder in this process.
    pub(in super::super) async fn is_own_embedder(&self, asked: &str) -> bool {
        matches!(self.encoder().await, Ok(encoder) if means(asked, encoder.name()))
    }

    /// Vectors by the encoder in this process.
    ///
    /// # Errors
    /// There is none, a token is not in its vocabulary, or a text is too long and must not be cut.
    pub(in super::super) async fn embed_here(
        &self,
        inputs: Vec<EmbedInput>,
        overflow: Overflow,
    ) -> Result<Embedded, AppError> {
        let begun = Instant::now();
        let encoder = self.encoder().await?;
        let load = begun.elapsed();
        let texts: Vec<String> = inputs
            .into_iter()
            .map(|input| match input {
                EmbedInput::Text(text) => Ok(text),
                EmbedInput::Tokens(tokens) => encoder.text(&tokens).map_err(AppError::from),
            })
            .collect::<Result<_, _>>()?;
        let mut sum = 0;
        for text in &texts {
            let tokens = encoder.count(text) + MARKERS;
            if tokens > TOKENS_MAX && overflow == Overflow::Refuse {
                let context = TOKENS_MAX;
                return Err(EngineError::PromptTooLong { tokens, context }.into());
            }
            sum += tokens.min(TOKENS_MAX);
        }
        let model = encoder.name().to_owned();
        Ok(Embedded {
            model,
            vectors: self.vectors(&Embedder::Own(encoder), texts).await?,
            tokens: Some(sum),
            load,
        })
    }

    /// How long passages may be, and how their tokens are counted: by the encoder's own tokenizer, or, where only an
    /// engine's model is there that keeps its tokenizer to itself, by a bound that no usual tokenizer exceeds.
    pub(super) async fn measure(&self) -> (Limits, Box<dyn Fn(&str) -> usize + Send + Sync>) {
        let limits = Limits {
            tokens_max: TOKENS_MAX - MARKERS,
            overlap: OVERLAP,
        };
        match self.encoder().await {
            Ok(encoder) => (limits, Box::new(move |text| encoder.count(text))),
            Err(_) => (limits, Box::new(|text| text.chars().count().div_ceil(2))),
        }
    }
}

/// Whether a client's name means this encoder: Hugging Face writes an organisation before it, Ollama a tag behind a part
/// of it (`all-minilm:latest`).
fn means(asked: &str, own: &str) -> bool {
    let asked = asked
        .rsplit('/')
        .next()
        .unwrap_or(asked)
        .to_ascii_lowercase();
    let asked = asked
        .strip_suffix(":latest")
        .unwrap_or(&asked)
        .replace(':', "-");
    let rest = own.strip_prefix(asked.as_str());
    asked.contains('-') && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoder_has_several_names() {
        for asked in [
            "all-minilm-l6-v2",
            "all-minilm",
            "all-minilm:latest",
            "all-minilm:l6-v2",
            "sentence-transformers/all-MiniLM-L6-v2",
        ] {
            assert!(means(asked, SHIPPED), "{asked}");
        }
        for asked in [
            "",
            "all",
            "all-mini",
            "all-minilm-l12-v2",
            "text-embedding-3-small",
        ] {
            assert!(!means(asked, SHIPPED), "{asked}");
        }
    }
}
