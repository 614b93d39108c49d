//! `GET /api/tags`, `GET /api/ps`, `POST /api/show`: models under their Ollama names, with their real digests.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{Body, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::time;
use super::{Ollama, find, tagged};
use crate::app::{App, Details, ModelState, now_ms};
use crate::domain::Model;

/// When a model goes that nothing sends away: Ollama's clients show so far a time as "forever".
const NEVER: &str = "9999-12-31T23:59:59Z";

/// `show`'s body; `name` is the older field. `verbose` is ignored: vocabularies stay in their files.
#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct ShowBody {
    #[serde(default, alias = "name")]
    model: String,
}

impl Wire for ShowBody {
    type Dialect = Ollama;
}

pub(in super::super) async fn tags(State(app): State<App>) -> Result<Response, Failure<Ollama>> {
    let mut models = Vec::new();
    for status in app.models().await? {
        // A model whose file is gone cannot be asked and is not offered.
        if status.present || status.state.is_some() {
            let details = app.details(&status.model).await?;
            models.push(entry(&status.model, &details));
        }
    }
    Ok(answer(StatusCode::OK, &json!({ "models": models })))
}

pub(in super::super) async fn ps(State(app): State<App>) -> Result<Response, Failure<Ollama>> {
    let mut models = Vec::new();
    for status in app.models().await? {
        let Some(ModelState::Loaded {
            engine,
            memory_bytes,
            context_length,
            leaves_in,
            ..
        }) = &status.state
        else {
            continue;
        };
        let expires_at = match leaves_in.map(|left| i64::try_from(left.as_millis())) {
            Some(Ok(left)) => time::rfc3339(now_ms().saturating_add(left)),
            Some(Err(_)) | None => NEVER.to_owned(),
        };
        let details = app.details(&status.model).await?;
        let mut view = entry(&status.model, &details);
        view["size"] = json!(memory_bytes);
        view["expires_at"] = json!(expires_at);
        view["context_length"] = json!(context_length);
        // The built-in engine computes on the processor. Where others keep their weights is theirs to know.
        if *engine == "ternary" {
            view["size_vram"] = json!(0);
        }
        models.push(view);
    }
    Ok(answer(StatusCode::OK, &json!({ "models": models })))
}

pub(in super::super) async fn show(
    State(app): State<App>,
    Body(body): Body<ShowBody>,
) -> Result<Response, Failure<Ollama>> {
    let model = find(&app, &body.model).await?;
    let details = app.details(&model).await?;
    let template = details.template.clone().unwrap_or_default();
    let license = details.metadata.get("general.license");
    let mut model_info = details.metadata.clone();
    if details.parameters > 0 {
        model_info.insert("general.parameter_count".into(), details.parameters.into());
    }
    Ok(answer(
        StatusCode::OK,
        &json!({
            "license": license.and_then(Value::as_str).unwrap_or_default(),
            "modelfile": format!("FROM {}\nTEMPLATE \"\"\"{template}\"\"\"\n", tagged(&model.id)),
            "parameters": "",
            "template": template,
            "details": details_view(&model, &details),
            "model_info": model_info,
            "capabilities": capabilities(&model, &details),
            "modified_at": time::rfc3339(model.imported_at),
        }),
    ))
}

fn entry(model: &Model, details: &Details) -> Value {
    json!({
        "name": tagged(&model.id),
        "model": tagged(&model.id),
        "modified_at": time::rfc3339(model.imported_at),
        "size": model.file_bytes,
        "digest": model.sha256,
        "details": details_view(model, details),
    })
}

fn details_view(model: &Model, details: &Details) -> Value {
    json!({
        "parent_model": "",
        "format": model.format.as_str(),
        "family": model.architecture,
        "families": [model.architecture],
        "parameter_size": parameter_size(details.parameters),
        "quantization_level": model.quantisation,
    })
}

/// Tools are spelled out for a template that does not know them, so every model that chats has them.
fn capabilities(model: &Model, details: &Details) -> Vec<&'static str> {
    let all = [
        ("completion", true),
        ("tools", model.has_template),
        ("thinking", details.thinks()),
    ];
    let can = all.into_iter().filter(|(_, can)| *can);
    can.map(|(name, _)| name).collect()
}

/// A count as Ollama rounds it: `134.5M`, `2.4B`; nothing when it is not known.
fn parameter_size(count: u64) -> String {
    let count = count as f64;
    match count {
        0.0 => String::new(),
        n if n >= 1e9 => format!("{:.1}B", n / 1e9),
        n if n >= 1e6 => format!("{:.2}M", n / 1e6),
        n if n >= 1e3 => format!("{:.0}K", n / 1e3),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_rounded_as_the_original_does() {
        for (count, text) in [
            (0, ""),
            (999, "999"),
            (85_000, "85K"),
            (134_515_008, "134.52M"),
            (2_412_820_480, "2.4B"),
        ] {
            assert_eq!(parameter_size(count), text);
        }
    }
}
