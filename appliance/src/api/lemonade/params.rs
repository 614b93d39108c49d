//! `GET` and `POST params`, `log-level`, and the same below `/internal`: settings that a running appliance can tell and
//! change. Everything else stands in the owner's file and is refused by its name.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::body::{Body, Wire};
use super::super::failure::json as answer;
use super::{Lemonade, Refused};
use crate::app::{App, journal};
use crate::config::Config;

/// `params`: any keys.
#[derive(Deserialize)]
#[serde(transparent)]
pub(in super::super) struct ParamsBody(Map<String, Value>);

impl Wire for ParamsBody {
    type Dialect = Lemonade;
}

#[derive(Deserialize)]
pub(in super::super) struct LevelBody {
    level: String,
}

impl Wire for LevelBody {
    type Dialect = Lemonade;
}

pub(in super::super) async fn get(State(app): State<App>) -> Response {
    answer(StatusCode::OK, &Value::Object(params(app.config())))
}

/// The settings as they stand when nobody has set any.
pub(in super::super) async fn defaults() -> Response {
    answer(StatusCode::OK, &Value::Object(params(&Config::default())))
}

fn params(config: &Config) -> Map<String, Value> {
    let listen = config.server.listen.first();
    let context = match config.ternary.context_max {
        0 => Value::from(-1), // automatic
        set => set.into(),
    };
    let all = json!({
        "host": listen.map(|address| address.ip().to_string()),
        "port": listen.map(std::net::SocketAddr::port),
        "log_level": config.log.level,
        "ctx_size": context,
        "max_loaded_models": -1, // memory decides, not a count
        "models_dir": config.data_dir.join("models").display().to_string(),
        "offline": config.fetch.offline,
        "no_fetch_executables": true,
        "auto_check_model_updates": false,
        "auto_evict": config.pool.idle_unload_s > 0,
        "allowed_origins": config.server.allowed_origins.join(","),
        "default_model_source": "huggingface",
        "llamacpp": { "backend": "auto", "args": "" },
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(), // the literal above is an object
    }
}

/// Changes what can be changed while it runs; one key that cannot refuses them all.
pub(in super::super) async fn set(
    State(app): State<App>,
    Body(ParamsBody(wanted)): Body<ParamsBody>,
) -> Result<Response, Refused> {
    let now = params(app.config());
    for (key, value) in &wanted {
        let same = now.get(key) == Some(value);
        if key != "log_level" && !same {
            let why = match now.contains_key(key) {
                true => format!(
                    "`{key}` is set in onebit.toml and takes effect with the next start; `onebit settings` shows it"
                ),
                false => format!("there is no setting `{key}`"),
            };
            return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
        }
    }
    if let Some(level) = wanted.get("log_level") {
        set_to(level.as_str().unwrap_or_default())?;
    }
    Ok(answer(
        StatusCode::OK,
        &json!({ "status": "success", "updated": wanted }),
    ))
}

pub(in super::super) async fn log_level(Body(body): Body<LevelBody>) -> Result<Response, Refused> {
    set_to(&body.level)?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "status": "success", "level": body.level }),
    ))
}

fn set_to(level: &str) -> Result<(), Refused> {
    let level = match level.to_ascii_lowercase().as_str() {
        level @ ("trace" | "debug" | "info" | "error") => level.to_owned(),
        "warning" | "warn" => "warn".to_owned(),
        "critical" | "fatal" => "error".to_owned(),
        "none" => "off".to_owned(),
        _ => {
            let why = format!("`{level}` is no level; use trace, debug, info, warning or error");
            return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
        }
    };
    journal::set_level(&level).map_err(|why| Refused::plain(StatusCode::CONFLICT, why))
}
