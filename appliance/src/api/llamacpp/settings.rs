//! What an answer is made with, spelled out as this server does in `generation_settings`.

use serde_json::{Value, json};

use super::options::Options;
use crate::domain::Sampling;

/// The settings of a request; what it left open is as the model's engine has it, and `null` where that is not known.
pub(super) fn settings(options: &Options, used: &Sampling) -> Value {
    let tokens = options.n_predict.unwrap_or(-1);
    json!({
        "seed": used.seed.map_or(Value::from(-1), Value::from),
        "temperature": used.temperature,
        "top_k": used.top_k,
        "top_p": used.top_p,
        "min_p": used.min_p,
        "repeat_last_n": match used.repetition_window {
            None => Value::from(64),
            Some(0) => Value::from(-1),
            Some(window) => Value::from(window),
        },
        "repeat_penalty": used.repetition_penalty,
        "presence_penalty": used.presence_penalty,
        "frequency_penalty": used.frequency_penalty,
        "typical_p": 1.0,
        "dynatemp_range": 0.0,
        "top_n_sigma": -1.0,
        "xtc_probability": 0.0,
        "dry_multiplier": 0.0,
        "mirostat": 0,
        "stop": options.stop.clone().unwrap_or_default(),
        "max_tokens": tokens,
        "n_predict": tokens,
        "n_keep": 0,
        "n_discard": 0,
        "ignore_eos": options.ignore_eos,
        "stream": options.stream,
        "logit_bias": used.logit_bias.iter().map(|(id, bias)| json!({"token": id, "bias": bias})).collect::<Vec<_>>(),
        "n_probs": options.n_probs,
        "min_keep": 0,
        "grammar": options.grammar.clone().unwrap_or_default(),
        "json_schema": options.json_schema,
        "samplers": options.samplers.clone().unwrap_or_else(||
            json!(["penalties", "top_k", "top_p", "min_p", "temperature"])),
        "timings_per_token": options.timings_per_token,
        "post_sampling_probs": options.post_sampling_probs,
        "lora": [],
    })
}
