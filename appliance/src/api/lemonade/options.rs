//! How a model is to be loaded: `GET`, `POST` and `DELETE models/{id}/options`, and the same fields in `load`.
//!
//! Engines here fit themselves to the machine, so most of Lemonade's options have nothing to set: a backend is a wish
//! that the router weighs, the context takes memory only as it fills. An option that asks for what is not there (a
//! longer context, arguments of a program) is refused by name.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::super::failure::json as answer;
use super::models::recipe;
use super::{Refused, find};
use crate::app::{App, ModelState, NoteKind};
use crate::domain::Model;

/// What an option may be.
enum Form {
    Whole,
    Number,
    Text,
    Yes,
}

/// The options of `llamacpp`, which is what runs GGUF files, with what they may be and what they are unless set.
const OPTIONS: [(&str, Form); 9] = [
    ("ctx_size", Form::Whole),
    ("llamacpp_backend", Form::Text),
    ("llamacpp_args", Form::Text),
    ("llamacpp_device", Form::Text),
    ("merge_args", Form::Yes),
    ("auto_evict", Form::Yes),
    ("evict_idle_timeout", Form::Number),
    ("downsize_idle_timeout", Form::Number),
    ("evict_weight_factor", Form::Number),
];

/// Backends that a request may wish for.
const WISHES: [&str; 7] = ["", "auto", "cpu", "vulkan", "rocm", "metal", "system"];

fn defaults(app: &App) -> Map<String, Value> {
    let idle = app.config().pool.idle_unload_s;
    let values: [Value; 9] = [
        (-1).into(),
        "auto".into(),
        "".into(),
        "".into(),
        true.into(),
        Value::Null,
        if idle == 0 { Value::Null } else { idle.into() },
        Value::Null,
        1.0.into(),
    ];
    let names = OPTIONS.iter().map(|(name, _)| (*name).to_owned());
    names.zip(values).collect()
}

/// Refuses what is no option, or cannot be.
pub(super) fn check(model: &Model, options: &Map<String, Value>) -> Result<(), Refused> {
    let wrong = |why: String| Err(Refused::plain(StatusCode::BAD_REQUEST, why));
    for (name, value) in options {
        let known = OPTIONS.iter().find(|(option, _)| option == name);
        let Some((_, form)) = known else {
            return wrong(format!("there is no option `{name}` for {}", recipe(model)));
        };
        let fits = match form {
            Form::Whole => value.is_i64(),
            Form::Number => value.is_number(),
            Form::Text => value.is_string(),
            Form::Yes => value.is_boolean(),
        };
        if !value.is_null() && !fits {
            return wrong(format!("`{name}` cannot be {value}"));
        }
        match (name.as_str(), value.as_i64(), value.as_str()) {
            ("ctx_size", Some(n), _) if n != -1 && n < 1 => {
                return wrong("`ctx_size` must be -1 or at least 1".to_owned());
            }
            ("ctx_size", Some(n), _) if n > 0 && n.unsigned_abs() > model.context_length => {
                let most = model.context_length;
                return wrong(format!(
                    "`ctx_size` is {n} and {} was trained for {most}",
                    model.id
                ));
            }
            ("llamacpp_args", _, Some(text)) if !text.trim().is_empty() => {
                return wrong(
                    "`llamacpp_args` is not supported: engines are started by onebit alone"
                        .to_owned(),
                );
            }
            ("llamacpp_backend", _, Some(wish)) if !WISHES.contains(&wish) => {
                return wrong(format!(
                    "there is no backend `{wish}`; use {}",
                    WISHES[1..].join(", ")
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn saved(app: &App, model: &Model) -> Result<Map<String, Value>, Refused> {
    let note = app
        .store()
        .notes()
        .get(NoteKind::Options, &model.id)
        .await?;
    let read = note.and_then(|text| serde_json::from_str(&text).ok());
    Ok(read.unwrap_or_default())
}

/// Keeps options beside those that are kept; `null` lets one go.
pub(super) async fn save(
    app: &App,
    model: &Model,
    options: &Map<String, Value>,
) -> Result<(), Refused> {
    let mut all = saved(app, model).await?;
    merge(&mut all, options);
    let text = Value::Object(all).to_string();
    app.store()
        .notes()
        .put(NoteKind::Options, &model.id, &text)
        .await?;
    Ok(())
}

fn merge(all: &mut Map<String, Value>, options: &Map<String, Value>) {
    for (name, value) in options {
        match value.is_null() {
            true => _ = all.remove(name),
            false => _ = all.insert(name.clone(), value.clone()),
        }
    }
}

/// The options that are kept for a model, for listings.
pub(super) async fn kept(app: &App, model: &Model) -> Result<Value, Refused> {
    Ok(Value::Object(saved(app, model).await?))
}

async fn view(
    app: &App,
    name: &str,
    model: &Model,
    saved: &Map<String, Value>,
    effective: &Map<String, Value>,
) -> Result<Response, Refused> {
    let with_name = |options: &Map<String, Value>| {
        let mut all = defaults(app);
        merge(&mut all, options);
        all.insert("model_name".into(), name.into());
        all
    };
    let effective = with_name(effective);
    let loaded = app
        .models()
        .await?
        .into_iter()
        .find_map(|status| match status.state {
            Some(ModelState::Loaded { context_length, .. }) if status.model.id == model.id => {
                Some(context_length as u64)
            }
            _ => None,
        });
    let asked = effective["ctx_size"].as_u64();
    Ok(answer(
        StatusCode::OK,
        &json!({
            "model_name": name,
            "recipe": recipe(model),
            "saved": saved,
            "defaults": with_name(&Map::new()),
            "resolved_ctx_size": asked.or(loaded).unwrap_or(model.context_length),
            "effective": effective,
        }),
    ))
}

pub(super) async fn get(app: &App, name: &str) -> Result<Response, Refused> {
    let model = find(app, name).await?;
    let saved = saved(app, &model).await?;
    view(app, name, &model, &saved, &saved).await
}

pub(super) async fn set(
    app: &App,
    name: &str,
    mut options: Map<String, Value>,
) -> Result<Response, Refused> {
    let model = find(app, name).await?;
    options.remove("model_name");
    let dry = options.remove("dry_run") == Some(Value::Bool(true));
    check(&model, &options)?;
    let before = saved(app, &model).await?;
    let mut after = before.clone();
    merge(&mut after, &options);
    if dry {
        return view(app, name, &model, &before, &after).await;
    }
    save(app, &model, &options).await?;
    view(app, name, &model, &after, &after).await
}

pub(super) async fn reset(app: &App, name: &str) -> Result<Response, Refused> {
    let model = find(app, name).await?;
    app.store()
        .notes()
        .remove(NoteKind::Options, &model.id)
        .await?;
    let nothing = Map::new();
    view(app, name, &model, &nothing, &nothing).await
}
