//! Measurements of a model: perplexity, the gate for correctness.

use super::{App, AppError};
use crate::engines::Task;

/// Perplexity of a text under a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Perplexity {
    /// exp of the mean negative log likelihood.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
    /// Windows that the text was cut into.
    pub windows: usize,
    /// Tokens that were scored.
    pub tokens: usize,
}

impl App {
    /// Measures perplexity in windows of `context` tokens as llama.cpp's tool does: each window stands alone,
    /// and only its second half counts. `progress` hears of every window: (done, of, perplexity so far).
    ///
    /// # Errors
    /// The model cannot be used, or the text is shorter than one window.
    pub async fn perplexity(
        &self,
        model: &str,
        text: &str,
        context: usize,
        mut progress: impl FnMut(usize, usize, f64),
    ) -> Result<Perplexity, AppError> {
        let (_, lease) = self.load_for(model, Task::Score).await?;
        let tokens = lease.tokens(text)?;
        let context = context
            .min(lease.facts().context_length.saturating_sub(1))
            .max(4);
        let windows: Vec<&[u32]> = tokens.chunks_exact(context).collect();
        if windows.is_empty() {
            return Err(AppError::TextTooShort {
                tokens: tokens.len(),
                needed: context,
            });
        }
        // The marker that begins a document stands at the head of every window.
        let bos = lease.tokens("")?.first().copied();
        let mut losses = Vec::new();
        for (index, window) in windows.iter().enumerate() {
            let mut window = window.to_vec();
            if let Some(bos) = bos {
                window[0] = bos;
            }
            let scores = lease.score(window).await?;
            losses.extend(scores[context / 2..].iter().map(|&score| -f64::from(score)));
            progress(index + 1, windows.len(), summary(&losses).0);
        }
        let (value, error) = summary(&losses);
        Ok(Perplexity {
            value,
            error,
            windows: windows.len(),
            tokens: losses.len(),
        })
    }
}

/// Perplexity and its standard error from losses in nats.
fn summary(losses: &[f64]) -> (f64, f64) {
    let n = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / n;
    let variance =
        losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let value = mean.exp();
    (value, value * (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_losses_give_their_exponential_without_error() {
        let (value, error) = summary(&[2.0; 10]);
        assert!((value - 2f64.exp()).abs() < 1e-12 && error.abs() < 1e-12);
        let (value, error) = summary(&[1.0, 3.0]);
        assert!((value - 2f64.exp()).abs() < 1e-12);
        assert!((error - value).abs() < 1e-9, "variance 2 over 2 losses");
    }
}
