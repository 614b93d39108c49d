//! `options`, `format`, `think` and `keep_alive`: what chat and generate share.
//!
//! Honoured: `num_predict`, `temperature`, `top_k`, `top_p`, `min_p`, `repeat_penalty`, `repeat_last_n`,
//! `presence_penalty`, `frequency_penalty`, `seed`, `stop`. Refused: a `typical_p` other than 1, which would
//! change the answer. Ignored: `num_ctx`, because the context is the model's own and takes memory only as it
//! fills, what Ollama itself no longer knows (`mirostat`, `tfs_z`, `penalize_newline`), and what is about its
//! runner (`num_keep`, `num_batch`, `num_gpu`, `num_thread`, `use_mmap`, `numa`).

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::body::RequestError;
use crate::app::{App, AppError};
use crate::domain::{Limits, Overflow, Peer, Sampling, Scope, Shape};

/// Texts that may end an answer.
const STOPS_MAX: usize = 16;

/// `options` as it came.
pub(super) struct Options(pub(super) Map<String, Value>);

impl Options {
    /// Checks and translates how tokens are chosen. Shares outside of 0 to 1 are brought there, as the
    /// original does.
    pub(super) fn sampling(&self) -> Result<Sampling, RequestError> {
        let typical = self.number("typical_p")?;
        if typical.is_some_and(|p| p != 1.0 && p != 0.0) {
            return Err(RequestError::Unsupported {
                param: "typical_p",
                why: "use `top_p` or `min_p`",
            });
        }
        let share = |name| self.number(name).map(|p| p.map(|p| p.clamp(0.0, 1.0)));
        let repetition_penalty = self.number("repeat_penalty")?;
        if repetition_penalty.is_some_and(|penalty| penalty <= 0.0) {
            return Err(RequestError::field("repeat_penalty", "must be above 0"));
        }
        let mut sampling = Sampling {
            temperature: self.number("temperature")?.map(|t| t.max(0.0)),
            top_p: share("top_p")?,
            top_k: self
                .integer("top_k")?
                .map(|k| u32::try_from(k.max(0)).unwrap_or(u32::MAX)),
            min_p: share("min_p")?,
            repetition_penalty,
            presence_penalty: self.number("presence_penalty")?,
            frequency_penalty: self.number("frequency_penalty")?,
            // -1 is Ollama's word for another seed each time.
            seed: self
                .integer("seed")?
                .filter(|seed| *seed != -1)
                .map(i64::cast_unsigned),
            ..Sampling::default()
        };
        match self.integer("repeat_last_n")? {
            // Looking back on nothing is not penalising anything.
            Some(0) => {
                sampling.repetition_penalty = Some(1.0);
                sampling.presence_penalty = Some(0.0);
                sampling.frequency_penalty = Some(0.0);
            }
            // Negative is the whole context, which our engines write as 0.
            window => {
                sampling.repetition_window =
                    window.map(|n| usize::try_from(n.max(0)).unwrap_or(usize::MAX));
            }
        }
        Ok(sampling)
    }

    /// Checks and translates where an answer ends. Ollama's -1 (no end) and -2 (fill the context) both mean:
    /// until the model stops or the context is full. So does 0.
    pub(super) fn limits(&self) -> Result<Limits, RequestError> {
        let tokens = self.integer("num_predict")?.filter(|n| *n > 0);
        let stop = match self.0.get("stop") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(texts)) => {
                let text = |value: &Value| value.as_str().map(str::to_owned);
                let read: Option<Vec<String>> = texts.iter().map(text).collect();
                read.ok_or_else(|| RequestError::field("stop", "must be a list of texts"))?
            }
            Some(_) => return Err(RequestError::field("stop", "must be a list of texts")),
        };
        if stop.len() > STOPS_MAX {
            let why = format!("may hold at most {STOPS_MAX} texts");
            return Err(RequestError::field("stop", why));
        }
        Ok(Limits {
            tokens_max: tokens.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            stop,
            ignore_end: false,
        })
    }

    fn number(&self, name: &'static str) -> Result<Option<f32>, RequestError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number as f32)),
                None => Err(RequestError::field(name, "must be a number")),
            },
        }
    }

    /// Whole numbers also come as `40.0`.
    fn integer(&self, name: &'static str) -> Result<Option<i64>, RequestError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match (value.as_i64(), value.as_f64()) {
                (Some(number), _) => Ok(Some(number)),
                (None, Some(number)) if number.fract() == 0.0 => Ok(Some(number as i64)),
                _ => Err(RequestError::field(name, "must be a whole number")),
            },
        }
    }
}

/// Reads `format`: `"json"`, or a JSON Schema.
pub(super) fn shape(format: Option<Value>) -> Result<Shape, RequestError> {
    match format {
        None | Some(Value::Null) => Ok(Shape::Free),
        Some(Value::String(text)) if text.is_empty() => Ok(Shape::Free),
        Some(Value::String(text)) if text == "json" => Ok(Shape::Json),
        Some(schema @ Value::Object(_)) => Ok(Shape::Schema(schema.to_string())),
        Some(other) => {
            let why = format!("is {other}; it can be \"json\" or a JSON Schema object");
            Err(RequestError::field("format", why))
        }
    }
}

/// Reads `truncate`, which Ollama takes for true.
pub(super) fn overflow(truncate: Option<bool>) -> Overflow {
    match truncate {
        Some(false) => Overflow::Refuse,
        None | Some(true) => Overflow::LeaveOut,
    }
}

/// Reads `think`. Degrees are all the same to models that only know yes and no.
pub(super) fn thinking(think: Option<Value>) -> Result<Option<bool>, RequestError> {
    match think {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(yes)) => Ok(Some(yes)),
        Some(Value::String(degree)) if matches!(&*degree, "high" | "medium" | "low") => {
            Ok(Some(true))
        }
        Some(other) => {
            let why = format!("is {other}; it can be true, false, \"high\", \"medium\" or \"low\"");
            Err(RequestError::field("think", why))
        }
    }
}

/// Log probabilities: how many likeliest tokens, where any are asked for.
pub(super) fn logprobs(asked: bool, top: Option<i64>) -> Result<Option<usize>, RequestError> {
    match top.map_or(Ok(0), usize::try_from) {
        Ok(top @ 0..=20) => Ok(asked.then_some(top)),
        _ => Err(RequestError::field(
            "top_logprobs",
            "must be between 0 and 20",
        )),
    }
}

/// How long a model stays after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// As it was told before, or as the settings say.
    AsSet,
    /// Until nobody has used it for so long; at once when that is nothing.
    For(Duration),
    /// Until its room is needed.
    On,
}

impl Keep {
    fn of(seconds: f64) -> Keep {
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) => Keep::For(time),
            // Below nothing, or longer than anything.
            Err(_) => Keep::On,
        }
    }

    /// Whether the model is to go at once.
    pub(super) fn unloads(self) -> bool {
        self == Keep::For(Duration::ZERO)
    }

    /// Who only chats must not change how long a model is there for others.
    pub(super) fn by(self, peer: &Peer) -> Keep {
        match peer.holds(Scope::Owner) {
            true => self,
            false => Keep::AsSet,
        }
    }

    /// Makes it so.
    pub(super) async fn settle(self, app: &App, model: &str) -> Result<(), AppError> {
        match self {
            Keep::AsSet => Ok(()),
            Keep::For(Duration::ZERO) => app.unload(model).await.map(drop),
            Keep::For(time) => app.keep(model, Some(time)).await,
            Keep::On => app.keep(model, Some(Duration::MAX)).await,
        }
    }
}

/// Reads `keep_alive`: seconds, or a duration such as `5m`; below nothing is for ever.
pub(super) fn keep(keep_alive: Option<&Value>) -> Result<Keep, RequestError> {
    match keep_alive {
        None | Some(Value::Null) => Ok(Keep::AsSet),
        Some(Value::Number(seconds)) => Ok(Keep::of(seconds.as_f64().unwrap_or(-1.0))),
        Some(Value::String(text)) => match seconds(text) {
            Some(seconds) => Ok(Keep::of(seconds)),
            None => Err(RequestError::field(
                "keep_alive",
                format!("is `{text}`; write it as `5m`, `90s`, `0` or `-1`"),
            )),
        },
        Some(other) => Err(RequestError::field(
            "keep_alive",
            format!("is {other}; write it as seconds or as `5m`"),
        )),
    }
}

/// Seconds of Go's durations: `1h30m`, `90s`, `-1m`, or a bare number.
fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    if let Ok(bare) = text.parse::<f64>() {
        return Some(bare);
    }
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        total += amount
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(json: Value) -> Options {
        match json {
            Value::Object(map) => Options(map),
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn options_keep_their_meaning() {
        let all = options(json!({
            "temperature": 0, "top_k": 40.0, "top_p": 1.5, "min_p": -1, "repeat_penalty": 1.2,
            "repeat_last_n": -1, "presence_penalty": 0.5, "frequency_penalty": 0.25, "seed": -1,
            "stop": ["a", "b"], "num_predict": -2, "num_ctx": 4096, "mirostat": 0, "made_up": "x"
        }));
        let sampling = all.sampling().unwrap();
        assert_eq!(
            (sampling.temperature, sampling.top_k, sampling.top_p),
            (Some(0.0), Some(40), Some(1.0))
        );
        assert_eq!(
            (sampling.repetition_penalty, sampling.repetition_window),
            (Some(1.2), Some(0))
        );
        assert_eq!(
            (sampling.presence_penalty, sampling.frequency_penalty),
            (Some(0.5), Some(0.25))
        );
        assert_eq!((sampling.min_p, sampling.seed), (Some(0.0), None));
        let limits = all.limits().unwrap();
        assert_eq!((limits.tokens_max, limits.stop.len()), (None, 2));
        let few = options(
            json!({"num_predict": 7, "stop": "x", "repeat_last_n": 0, "repeat_penalty": 2, "seed": 3}),
        );
        assert_eq!(few.limits().unwrap().tokens_max, Some(7));
        let sampling = few.sampling().unwrap();
        assert_eq!(
            (sampling.repetition_penalty, sampling.seed),
            (Some(1.0), Some(3))
        );
    }

    #[test]
    fn wrong_options_are_named() {
        for (json, name) in [
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"num_predict": 1.5}), "num_predict"),
            (json!({"stop": [1]}), "stop"),
            (json!({"typical_p": 0.5}), "typical_p"),
            (json!({"repeat_penalty": 0}), "repeat_penalty"),
        ] {
            let options = options(json.clone());
            let error = options.sampling().err().or(options.limits().err()).unwrap();
            assert!(error.to_string().contains(name), "{json}: {error}");
        }
    }

    #[test]
    fn formats_become_shapes() {
        assert_eq!(shape(Some(json!(""))).unwrap(), Shape::Free);
        assert_eq!(shape(Some(json!("json"))).unwrap(), Shape::Json);
        assert_eq!(
            shape(Some(json!({"type": "object"}))).unwrap(),
            Shape::Schema(r#"{"type":"object"}"#.into())
        );
        assert!(shape(Some(json!("xml"))).is_err() && shape(Some(json!(3))).is_err());
        assert_eq!(thinking(Some(json!("low"))).unwrap(), Some(true));
        assert!(thinking(Some(json!("deep"))).is_err());
        assert_eq!(logprobs(true, None).unwrap(), Some(0));
        assert_eq!(logprobs(false, Some(3)).unwrap(), None);
        assert!(logprobs(true, Some(21)).is_err() && logprobs(true, Some(-1)).is_err());
    }

    #[test]
    fn times_are_read_and_only_nought_unloads() {
        let time = |seconds| Keep::For(Duration::from_secs(seconds));
        for (json, wanted) in [
            (json!(0), time(0)),
            (json!("0"), time(0)),
            (json!("0s"), time(0)),
            (json!("5m"), time(300)),
            (json!("1h30m"), time(5400)),
            (json!(90), time(90)),
            (json!(-1), Keep::On),
            (json!("-1m"), Keep::On),
            (json!(1e300), Keep::On),
        ] {
            let keep = keep(Some(&json)).unwrap();
            assert_eq!(keep, wanted, "{json}");
            assert_eq!(keep.unloads(), wanted == time(0), "{json}");
        }
        assert_eq!(keep(None).unwrap(), Keep::AsSet);
        for json in [
            json!("soon"),
            json!("5 minutes"),
            json!(true),
            json!("m"),
            json!("5q"),
        ] {
            assert!(keep(Some(&json)).is_err(), "{json}");
        }
        assert_eq!(seconds("1h1m1.5s"), Some(3661.5));
    }
}
