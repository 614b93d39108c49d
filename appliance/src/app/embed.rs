//! Texts to vectors, by whichever model can.

use std::time::Duration;

use super::{App, AppError, Pick, Trail, carried};
use crate::domain::Overflow;
use crate::engines::EngineError;
use crate::engines::lanes::Work;
use crate::engines::route::Ask;

/// Bytes of one token, about.
const TOKEN_BYTES: usize = 4;

/// What a text to embed may come as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbedInput {
    /// Text.
    Text(String),
    /// Token ids of the model's own vocabulary.
    Tokens(Vec<u32>),
}

/// Vectors, and what they cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// The model that made them.
    pub model: String,
    /// One for each input, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all inputs; `None` where the model's engine keeps its vocabulary to itself.
    pub tokens: Option<usize>,
    /// How long the model took to be there.
    pub load: Duration,
}

impl App {
    /// Makes one vector for each input. The encoder that comes with the program answers by its own name, and where
    /// no model is named and the default one makes no vectors; it reads the beginning of a text that is too long, or
    /// refuses it, as `overflow` says.
    ///
    /// # Errors
    /// The model is not known or cannot be loaded, or it makes no vectors: the message says what does.
    pub async fn embed(
        &self,
        name: &str,
        inputs: Vec<EmbedInput>,
        overflow: Overflow,
    ) -> Result<Embedded, AppError> {
        let error = match self.embed_by_model(name, &inputs).await {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        let own = match &error {
            AppError::ModelNotFound { .. } => self.is_own_embedder(name).await,
            AppError::NoModels => name.is_empty() || self.is_own_embedder(name).await,
            AppError::NoEmbeddings(_) => name.is_empty() && self.has_own_embedder().await,
            _ => false,
        };
        match own {
            true => self.embed_here(inputs, overflow).await,
            false => Err(error),
        }
    }

    /// On the lane that the router finds best.
    async fn embed_by_model(
        &self,
        name: &str,
        inputs: &[EmbedInput],
    ) -> Result<Embedded, AppError> {
        let (wish, note) = carried();
        let ask = Ask {
            work: Work::Embed,
            prompt_tokens: inputs.iter().map(EmbedInput::tokens).sum(),
            lane: wish.lane.as_deref(),
            priority: wish.priority,
            preset: wish.preset.unwrap_or_default(),
            ..Ask::default()
        };
        let routed = match self.route(name, &ask, &Trail::default()).await {
            Err(AppError::NoLane(_)) => {
                return Err(AppError::NoEmbeddings(self.model(name).await?.id));
            }
            routed => routed?,
        };
        note.write(routed.header);
        let mut failed = None;
        for pick in routed.picks {
            let flights = &self.inner.flights;
            let _aboard = flights.begin(&pick.lane, &pick.model.id, pick.eta_s, wish.priority);
            match self.embed_on(&pick, inputs.to_vec()).await {
                Err(AppError::Engine(error)) => {
                    failed.get_or_insert(error);
                }
                ended => return ended,
            }
        }
        Err(match failed {
            Some(EngineError::Unsupported(_)) | None => {
                AppError::NoEmbeddings(self.model(name).await?.id)
            }
            Some(error) => error.into(),
        })
    }

    async fn embed_on(&self, pick: &Pick, inputs: Vec<EmbedInput>) -> Result<Embedded, AppError> {
        let model = &pick.model;
        let lease = self.lease(pick).await?;
        let mut texts = Vec::with_capacity(inputs.len());
        for input in inputs {
            texts.push(match input {
                EmbedInput::Text(text) => text,
                EmbedInput::Tokens(tokens) => self.detokenize(&model.id, &tokens).await?,
            });
        }
        let vectors = lease.embed(texts.clone()).await?;
        let mut tokens = Some(0);
        for text in texts {
            let count = self.tokenize(&model.id, text, true, false).await;
            tokens = tokens.zip(count.ok()).map(|(sum, more)| sum + more.len());
        }
        Ok(Embedded {
            model: model.id.clone(),
            vectors,
            tokens,
            load: lease.loaded_in().unwrap_or_default(),
        })
    }
}

impl EmbedInput {
    /// About how many tokens it has.
    fn tokens(&self) -> usize {
        match self {
            EmbedInput::Text(text) => text.len() / TOKEN_BYTES,
            EmbedInput::Tokens(tokens) => tokens.len(),
        }
    }
}

/// Shortens a vector to its first numbers and brings it to length 1, as models that were trained for it allow.
pub fn shortened(mut vector: Vec<f32>, dimensions: Option<usize>) -> Vec<f32> {
    if let Some(dimensions) = dimensions.filter(|wanted| *wanted < vector.len()) {
        vector.truncate(dimensions);
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|x| *x /= length);
        }
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_vector_has_length_one() {
        assert_eq!(shortened(vec![3.0, 4.0, 12.0], Some(2)), [0.6, 0.8]);
        assert_eq!(shortened(vec![3.0, 4.0], Some(2)), [3.0, 4.0]);
        assert_eq!(shortened(vec![0.0, 0.0], Some(1)), [0.0]);
        assert_eq!(shortened(vec![3.0, 4.0], None), [3.0, 4.0]);
    }
}
