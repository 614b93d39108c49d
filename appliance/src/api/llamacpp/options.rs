//! The fields that `/completion` and `/infill` share.
//!
//! Ignored, because they change nothing here: `cache_prompt`, `id_slot`, `n_keep`, `n_discard`, `n_cache_reuse`,
//! `min_keep`, `mirostat_tau` and `_eta` and the other details of samplers that are off, `sse_ping_interval`. A sampler
//! that is on and that we do not have is refused by name, because the answer would be another one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::body::RequestError;
use super::gbnf;
use super::prompt::PromptError;
use crate::app::App;
use crate::domain::{Limits, Sampling, Shape};

/// Texts that may end an answer.
const STOPS_MAX: usize = 64;
/// Likeliest tokens at each place.
const PROBS_MAX: usize = 100;
/// Answers to one prompt.
const CHOICES_MAX: usize = 16;
/// A bias that no logit makes up for: what `false` asks for.
const NEVER: f32 = -1e4;

/// The samplers in the order in which they run, by this server's names.
const SAMPLERS: [&str; 10] = [
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "typical_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
];

/// The shared fields.
#[derive(Debug, Default, Deserialize)]
pub(in super::super) struct Options {
    #[serde(default)]
    pub(super) stream: bool,
    #[serde(alias = "max_tokens")]
    pub(super) n_predict: Option<i64>,
    pub(super) temperature: Option<f32>,
    pub(super) top_k: Option<i64>,
    pub(super) top_p: Option<f32>,
    pub(super) min_p: Option<f32>,
    pub(super) repeat_penalty: Option<f32>,
    pub(super) repeat_last_n: Option<i64>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) seed: Option<i64>,
    pub(super) stop: Option<Vec<String>>,
    #[serde(default)]
    pub(super) ignore_eos: bool,
    logit_bias: Option<Biases>,
    #[serde(default)]
    pub(super) n_probs: usize,
    #[serde(default)]
    pub(super) post_sampling_probs: bool,
    pub(super) grammar: Option<String>,
    pub(super) json_schema: Option<Value>,
    pub(super) samplers: Option<Value>,
    #[serde(default)]
    pub(super) return_tokens: bool,
    #[serde(default)]
    pub(super) timings_per_token: bool,
    #[serde(default)]
    pub(super) return_progress: bool,
    #[serde(alias = "n")]
    n_cmpl: Option<usize>,
    pub(super) response_fields: Option<Vec<String>>,
    // What is refused unless it is off.
    typical_p: Option<f32>,
    dynatemp_range: Option<f32>,
    top_n_sigma: Option<f32>,
    xtc_probability: Option<f32>,
    dry_multiplier: Option<f32>,
    mirostat: Option<i64>,
    n_indent: Option<i64>,
    t_max_predict_ms: Option<i64>,
    lora: Option<Vec<Value>>,
}

/// Pairs, or OpenAI's map.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Biases {
    Pairs(Vec<(Value, Value)>),
    Map(BTreeMap<String, Value>),
}

impl Options {
    /// Refuses by name what is on and not here.
    pub(super) fn check(&self) -> Result<(), RequestError> {
        let on = |value: Option<f32>, off: f32| value.is_some_and(|value| value != off);
        let positive = |value: Option<i64>| value.is_some_and(|value| value > 0);
        let why = "use `top_p`, `min_p`, `top_k` and the penalties";
        let refused: [(&'static str, bool, &'static str); 9] = [
            ("typical_p", on(self.typical_p, 1.0), why),
            ("dynatemp_range", on(self.dynatemp_range, 0.0), why),
            (
                "top_n_sigma",
                self.top_n_sigma.is_some_and(|n| n > 0.0),
                why,
            ),
            ("xtc_probability", on(self.xtc_probability, 0.0), why),
            (
                "dry_multiplier",
                on(self.dry_multiplier, 0.0),
                "use `repeat_penalty`",
            ),
            ("mirostat", positive(self.mirostat), why),
            (
                "n_indent",
                positive(self.n_indent),
                "describe the text with `grammar`",
            ),
            (
                "t_max_predict_ms",
                positive(self.t_max_predict_ms),
                "limit the tokens with `n_predict`, or close the connection",
            ),
            (
                "lora",
                self.lora.as_ref().is_some_and(|list| !list.is_empty()),
                "no adapters can be loaded",
            ),
        ];
        match refused.into_iter().find(|(_, on, _)| *on) {
            Some((param, _, why)) => Err(RequestError::Unsupported { param, why }),
            None => Ok(()),
        }
    }

    /// Checks and translates how tokens are chosen.
    pub(super) async fn sampling(&self, app: &App, model: &str) -> Result<Sampling, PromptError> {
        let mut sampling = Sampling {
            temperature: self.temperature.map(|t| t.max(0.0)),
            top_p: self.top_p.map(|p| p.clamp(0.0, 1.0)),
            top_k: self
                .top_k
                .map(|k| u32::try_from(k.max(0)).unwrap_or(u32::MAX)),
            min_p: self.min_p.map(|p| p.clamp(0.0, 1.0)),
            repetition_penalty: self.repeat_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            // -1 is another seed each time.
            seed: self.seed.filter(|seed| *seed != -1).map(i64::cast_unsigned),
            logit_bias: self.biases(app, model).await?,
            ..Sampling::default()
        };
        if sampling
            .repetition_penalty
            .is_some_and(|penalty| penalty <= 0.0)
        {
            return Err(RequestError::field("repeat_penalty", "must be above 0").into());
        }
        let off = |sampling: &mut Sampling| {
            sampling.repetition_penalty = Some(1.0);
            sampling.presence_penalty = Some(0.0);
            sampling.frequency_penalty = Some(0.0);
        };
        match self.repeat_last_n {
            // Looking back on nothing is not penalising anything.
            Some(0) => off(&mut sampling),
            // -1 is the whole context, which our engines write as 0.
            window => {
                sampling.repetition_window =
                    window.map(|n| usize::try_from(n.max(0)).unwrap_or(usize::MAX));
            }
        }
        if let Some(named) = self.samplers()? {
            let missing = |name: &str| !named.contains(&name.to_owned());
            if missing("penalties") {
                off(&mut sampling);
            }
            if missing("top_k") {
                sampling.top_k = Some(0);
            }
            if missing("top_p") {
                sampling.top_p = Some(1.0);
            }
            if missing("min_p") {
                sampling.min_p = Some(0.0);
            }
            if missing("temperature") {
                sampling.temperature = Some(1.0);
            }
        }
        Ok(sampling)
    }

    /// The samplers that are to run, which must stand in the order in which ours do.
    fn samplers(&self) -> Result<Option<Vec<String>>, RequestError> {
        let wrong = |why: String| RequestError::field("samplers", why);
        let names: Vec<String> = match &self.samplers {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(names)) => {
                let name = |name: &Value| name.as_str().map(str::to_owned);
                let names: Option<_> = names.iter().map(name).collect();
                names.ok_or_else(|| wrong("must be a list of names".to_owned()))?
            }
            Some(_) => return Err(wrong("must be a list of names".to_owned())),
        };
        let mut last = 0;
        for name in &names {
            let place = SAMPLERS.iter().position(|known| known == name);
            let place =
                place.ok_or_else(|| wrong(format!("names `{name}`, which does not exist")))?;
            if place < last {
                let order = "penalties, top_k, top_p, min_p, temperature";
                return Err(wrong(format!(
                    "puts `{name}` in another order than {order}"
                )));
            }
            last = place;
        }
        Ok(Some(names))
    }

    async fn biases(&self, app: &App, model: &str) -> Result<Vec<(u32, f32)>, PromptError> {
        let wrong = |what: &Value| RequestError::field("logit_bias", format!("cannot hold {what}"));
        let pairs: Vec<(Value, Value)> = match &self.logit_bias {
            None => return Ok(Vec::new()),
            Some(Biases::Pairs(pairs)) => pairs.clone(),
            Some(Biases::Map(map)) => map
                .iter()
                .map(|(key, bias)| {
                    let id = key.parse::<u32>().map(Value::from);
                    (id.unwrap_or_else(|_| key.as_str().into()), bias.clone())
                })
                .collect(),
        };
        let mut biases = Vec::new();
        for (key, bias) in pairs {
            let bias = match &bias {
                Value::Bool(false) => NEVER,
                Value::Number(number) => number.as_f64().ok_or_else(|| wrong(&bias))? as f32,
                _ => return Err(wrong(&bias).into()),
            };
            match &key {
                // Each token of a text.
                Value::String(text) => {
                    let tokens = app.tokenize(model, text.clone(), false, true).await?;
                    biases.extend(tokens.into_iter().map(|token| (token.id, bias)));
                }
                key => {
                    let id = key.as_u64().and_then(|id| u32::try_from(id).ok());
                    biases.push((id.ok_or_else(|| wrong(key))?, bias));
                }
            }
        }
        Ok(biases)
    }

    /// Checks and translates where an answer ends. -1 and -2 go on to the end of the context.
    pub(super) fn limits(&self) -> Result<Limits, RequestError> {
        let stop = self.stop.clone().unwrap_or_default();
        if stop.len() > STOPS_MAX {
            let why = format!("may hold at most {STOPS_MAX} texts");
            return Err(RequestError::field("stop", why));
        }
        Ok(Limits {
            tokens_max: self
                .n_predict
                .filter(|n| *n >= 0)
                .map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            stop: stop.into_iter().filter(|text| !text.is_empty()).collect(),
            ignore_end: self.ignore_eos,
        })
    }

    /// The shape that the text must have.
    pub(super) async fn shape(&self) -> Result<Shape, RequestError> {
        let grammar = self
            .grammar
            .as_deref()
            .filter(|text| !text.trim().is_empty());
        let schema = self.json_schema.as_ref().filter(|schema| !schema.is_null());
        match (grammar, schema) {
            (Some(_), Some(_)) => {
                let why = "cannot be given together with `json_schema`";
                Err(RequestError::field("grammar", why))
            }
            (None, None) => Ok(Shape::Free),
            (None, Some(schema)) => Ok(Shape::Schema(schema.to_string())),
            (Some(grammar), None) => {
                // A large grammar takes milliseconds.
                let grammar = grammar.to_owned();
                let read = tokio::task::spawn_blocking(move || gbnf::shape(&grammar)).await;
                let read =
                    read.map_err(|panic| RequestError::field("grammar", panic.to_string()))?;
                read.map_err(|error| RequestError::field("grammar", error.to_string()))
            }
        }
    }

    /// Log probabilities: how many likeliest tokens, where any are asked for.
    pub(super) fn probabilities(&self) -> Result<Option<usize>, RequestError> {
        if self.post_sampling_probs && self.n_probs > 0 {
            return Err(RequestError::Unsupported {
                param: "post_sampling_probs",
                why: "probabilities are those before sampling",
            });
        }
        match self.n_probs {
            0 => Ok(None),
            n @ 1..=PROBS_MAX => Ok(Some(n)),
            _ => {
                let why = format!("must be at most {PROBS_MAX}");
                Err(RequestError::field("n_probs", why))
            }
        }
    }

    /// How many answers to each prompt.
    pub(super) fn choices(&self) -> Result<usize, RequestError> {
        match self.n_cmpl.unwrap_or(1) {
            n @ 1..=CHOICES_MAX => Ok(n),
            _ => {
                let why = format!("must be between 1 and {CHOICES_MAX}");
                Err(RequestError::field("n_cmpl", why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(json: Value) -> Options {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_is_on_and_not_here_is_refused_by_name() {
        for (json, name) in [
            (json!({"typical_p": 0.9}), "typical_p"),
            (json!({"dynatemp_range": 0.5}), "dynatemp_range"),
            (json!({"top_n_sigma": 1}), "top_n_sigma"),
            (json!({"xtc_probability": 0.5}), "xtc_probability"),
            (json!({"dry_multiplier": 0.8}), "dry_multiplier"),
            (json!({"mirostat": 2}), "mirostat"),
            (json!({"n_indent": 4}), "n_indent"),
            (json!({"t_max_predict_ms": 100}), "t_max_predict_ms"),
            (json!({"lora": [{"id": 0, "scale": 1}]}), "lora"),
        ] {
            let error = options(json.clone()).check().unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{json}: {error}");
        }
        let off = json!({
            "typical_p": 1, "dynatemp_range": 0, "top_n_sigma": -1, "xtc_probability": 0, "dry_multiplier": 0,
            "mirostat": 0, "n_indent": 0, "t_max_predict_ms": 0, "lora": [], "cache_prompt": true, "made_up": 1
        });
        options(off).check().unwrap();
    }

    #[tokio::test]
    async fn shapes_are_one_of_three() {
        assert_eq!(
            options(json!({"grammar": " "})).shape().await.unwrap(),
            Shape::Free
        );
        assert_eq!(
            options(json!({"json_schema": {}})).shape().await.unwrap(),
            Shape::Schema("{}".into())
        );
        let grammar = options(json!({"grammar": "root ::= \"a\""}));
        assert_eq!(grammar.shape().await.unwrap(), Shape::Regex("a".into()));
        for json in [
            json!({"grammar": "root"}),
            json!({"grammar": "root ::= \"a\"", "json_schema": {}}),
        ] {
            let error = options(json).shape().await.unwrap_err().to_string();
            assert!(error.contains("`grammar`"), "{error}");
        }
    }

    #[test]
    fn samplers_keep_their_order() {
        let all = |names: Value| options(json!({ "samplers": names })).samplers();
        assert!(all(json!(null)).unwrap().is_none());
        assert_eq!(
            all(json!(["top_k", "temperature"])).unwrap().unwrap().len(),
            2
        );
        for bad in [
            json!(["temperature", "top_k"]),
            json!(["magic"]),
            json!("kt"),
        ] {
            assert!(all(bad.clone()).is_err(), "{bad}");
        }
    }
}
