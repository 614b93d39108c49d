//! Texts to vectors, by whichever model can.

use std::time::{Duration, Instant};

use super::{App, AppError};
use crate::domain::Model;
use crate::engines::EngineError;

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
    pub model: Model,
    /// One for each input, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all inputs; `None` where the model's engine keeps its vocabulary to itself.
    pub tokens: Option<usize>,
    /// How long the model took to be there.
    pub load: Duration,
}

impl App {
    /// Makes one vector for each input.
    ///
    /// # Errors
    /// The model is not known or cannot be loaded, or it makes no vectors: the message says what does.
    pub async fn embed(&self, name: &str, inputs: Vec<EmbedInput>) -> Result<Embedded, AppError> {
        let begun = Instant::now();
        let (model, lease) = self.load(name).await?;
        let load = begun.elapsed();
        let mut texts = Vec::with_capacity(inputs.len());
        for input in inputs {
            texts.push(match input {
                EmbedInput::Text(text) => text,
                EmbedInput::Tokens(tokens) => self.detokenize(&model.id, &tokens).await?,
            });
        }
        let vectors = match lease.embed(texts.clone()).await {
            Ok(vectors) => vectors,
            Err(EngineError::Unsupported(_)) => return Err(AppError::NoEmbeddings(model.id)),
            Err(error) => return Err(error.into()),
        };
        let mut tokens = Some(0);
        for text in texts {
            let count = self.tokenize(&model.id, text, true, false).await;
            tokens = tokens.zip(count.ok()).map(|(sum, more)| sum + more.len());
        }
        Ok(Embedded {
            model,
            vectors,
            tokens,
            load,
        })
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
