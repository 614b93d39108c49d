//! The fields that chat and text completions share, and their limits.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::body::RequestError;
use crate::domain::{Limits, Sampling};

/// OpenAI's own limits.
const STOPS_MAX: usize = 16;
const CHOICES_MAX: usize = 16;

/// A text or a list of them.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// `stream_options`
#[derive(Deserialize, Default, JsonSchema)]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub(super) include_usage: bool,
}

/// The shared fields. Beside OpenAI's own: `top_k`, `min_p`, `repetition_penalty` (also as
/// `repeat_penalty`) and `ignore_eos`, as other local servers name them.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Options {
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) top_k: Option<i64>,
    pub(super) min_p: Option<f32>,
    /// Also as `repeat_penalty`.
    #[serde(alias = "repeat_penalty")]
    pub(super) repetition_penalty: Option<f32>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) seed: Option<i64>,
    pub(super) logit_bias: Option<BTreeMap<String, f32>>,
    pub(super) stop: Option<OneOrMany>,
    pub(super) n: Option<usize>,
    #[serde(default)]
    pub(super) ignore_eos: bool,
}

impl Options {
    /// Checks and translates how tokens are chosen.
    pub(super) fn sampling(&self) -> Result<Sampling, RequestError> {
        Ok(Sampling {
            temperature: within("temperature", self.temperature, 0.0, 2.0)?,
            top_p: within("top_p", self.top_p, 0.0, 1.0)?,
            top_k: self
                .top_k
                .map(|k| u32::try_from(k.max(0)).unwrap_or(u32::MAX)),
            min_p: within("min_p", self.min_p, 0.0, 1.0)?,
            repetition_penalty: within("repetition_penalty", self.repetition_penalty, 0.01, 10.0)?,
            presence_penalty: within("presence_penalty", self.presence_penalty, -2.0, 2.0)?,
            frequency_penalty: within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?,
            seed: self.seed.map(i64::cast_unsigned),
            logit_bias: self.logit_bias()?,
            ..Sampling::default()
        })
    }

    fn logit_bias(&self) -> Result<Vec<(u32, f32)>, RequestError> {
        let mut biases = Vec::new();
        for (token, &bias) in self.logit_bias.iter().flatten() {
            let id = token.parse().map_err(|_| {
                RequestError::field(
                    "logit_bias",
                    format!("names `{token}`, which is no token id"),
                )
            })?;
            if !(-100.0..=100.0).contains(&bias) {
                return Err(RequestError::field(
                    "logit_bias",
                    "must be between -100 and 100",
                ));
            }
            biases.push((id, bias));
        }
        Ok(biases)
    }

    /// Checks and translates where an answer ends.
    pub(super) fn limits(
        &self,
        tokens_max: Option<i64>,
        param: &'static str,
    ) -> Result<Limits, RequestError> {
        let tokens_max = match tokens_max {
            // llama.cpp's clients say -1 for "to the end of the context".
            None | Some(-1) => None,
            Some(n) if n >= 1 => usize::try_from(n).ok(),
            Some(_) => return Err(RequestError::field(param, "must be at least 1")),
        };
        let stop = match &self.stop {
            None => Vec::new(),
            Some(OneOrMany::One(text)) => vec![text.clone()],
            Some(OneOrMany::Many(texts)) => texts.clone(),
        };
        if stop.len() > STOPS_MAX {
            return Err(RequestError::field(
                "stop",
                format!("may hold at most {STOPS_MAX} texts"),
            ));
        }
        Ok(Limits {
            tokens_max,
            stop,
            ignore_end: self.ignore_eos,
        })
    }

    /// How many answers.
    pub(super) fn choices(&self) -> Result<usize, RequestError> {
        match self.n.unwrap_or(1) {
            n @ 1..=CHOICES_MAX => Ok(n),
            _ => Err(RequestError::field(
                "n",
                format!("must be between 1 and {CHOICES_MAX}"),
            )),
        }
    }
}

fn within(
    param: &'static str,
    value: Option<f32>,
    low: f32,
    high: f32,
) -> Result<Option<f32>, RequestError> {
    match value {
        Some(v) if !(low..=high).contains(&v) => Err(RequestError::field(
            param,
            format!("must be between {low} and {high}, not {v}"),
        )),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: serde_json::Value) -> Options {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn fields_become_sampling() {
        let all = options(serde_json::json!({
            "temperature": 0, "top_p": 0.5, "top_k": -1, "repeat_penalty": 1.1, "seed": -1,
            "logit_bias": {"5": -100}, "stop": "x", "n": 2, "unknown": true
        }));
        let sampling = all.sampling().unwrap();
        assert_eq!(
            (sampling.temperature, sampling.top_p, sampling.top_k),
            (Some(0.0), Some(0.5), Some(0))
        );
        assert_eq!(sampling.repetition_penalty, Some(1.1));
        assert_eq!(sampling.seed, Some(u64::MAX));
        assert_eq!(sampling.logit_bias, [(5, -100.0)]);
        assert_eq!(
            all.limits(Some(7), "max_tokens").unwrap().tokens_max,
            Some(7)
        );
        assert_eq!(all.choices().unwrap(), 2);
    }

    #[test]
    fn values_outside_their_range_are_refused_by_name() {
        for (json, param) in [
            (serde_json::json!({"temperature": 2.1}), "temperature"),
            (serde_json::json!({"temperature": -0.1}), "temperature"),
            (serde_json::json!({"top_p": 1.5}), "top_p"),
            (
                serde_json::json!({"presence_penalty": 3}),
                "presence_penalty",
            ),
            (serde_json::json!({"logit_bias": {"a": 1}}), "logit_bias"),
            (serde_json::json!({"logit_bias": {"1": 101}}), "logit_bias"),
        ] {
            let error = options(json.clone()).sampling().unwrap_err();
            assert!(error.to_string().contains(param), "{json}: {error}");
        }
        let none = options(serde_json::json!({"n": 0}));
        assert!(none.choices().is_err());
        assert!(none.limits(Some(0), "max_tokens").is_err());
        assert_eq!(
            none.limits(Some(-1), "max_tokens").unwrap().tokens_max,
            None
        );
    }
}
