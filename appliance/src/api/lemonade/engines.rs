//! `POST install` and `uninstall`, and the recipes of `system-info`: which programs run models here.
//!
//! Lemonade fetches programs; here they are built from pinned sources or put in place by the owner, on the command line
//! of this machine. What is in place already is a success; what is not says the command.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::body::{Body, Wire};
use super::super::failure::json as answer;
use super::{Lemonade, Refused};
use crate::app::{App, Hardware, ProgramFact, VERSION};

#[derive(Deserialize)]
pub(in super::super) struct BackendBody {
    #[serde(default)]
    recipe: String,
    #[serde(default)]
    backend: String,
}

impl Wire for BackendBody {
    type Dialect = Lemonade;
}

/// A recipe's backend, the program that it is, and the devices that it needs.
struct Backend {
    recipe: &'static str,
    backend: &'static str,
    /// `None` for the engine that is part of this program.
    program: Option<&'static str>,
    devices: &'static [&'static str],
}

const BACKENDS: [Backend; 7] = [
    Backend {
        recipe: "llamacpp",
        backend: "cpu",
        program: None,
        devices: &["cpu"],
    },
    Backend {
        recipe: "llamacpp",
        backend: "system",
        program: Some("llama-server"),
        devices: &["cpu"],
    },
    Backend {
        recipe: "llamacpp",
        backend: "vulkan",
        program: Some("llama-server"),
        devices: &["amd_gpu"],
    },
    Backend {
        recipe: "flm",
        backend: "npu",
        program: Some("flm"),
        devices: &["amd_npu"],
    },
    Backend {
        recipe: "whispercpp",
        backend: "cpu",
        program: Some("whisper-server"),
        devices: &["cpu"],
    },
    Backend {
        recipe: "sd-cpp",
        backend: "cpu",
        program: Some("sd-server"),
        devices: &["cpu"],
    },
    Backend {
        recipe: "kokoro",
        backend: "cpu",
        program: None,
        devices: &["cpu"],
    },
];

/// What Lemonade calls the state of a backend, a sentence about it, and the command that changes it.
struct Standing {
    state: &'static str,
    message: String,
    action: String,
}

fn state(backend: &Backend, programs: &[ProgramFact], here: &[&str]) -> Standing {
    let installed = || Standing {
        state: "installed",
        message: String::new(),
        action: String::new(),
    };
    let Some(name) = backend.program else {
        return installed();
    };
    if !backend.devices.iter().any(|device| here.contains(device)) {
        return Standing {
            state: "unsupported",
            message: format!("this machine has no {}", backend.devices.join(" or ")),
            action: String::new(),
        };
    }
    let program = programs.iter().find(|program| program.name == name);
    match program {
        Some(program) if program.present => installed(),
        Some(ProgramFact {
            source: Some(source),
            ..
        }) if backend.devices == ["cpu"] => Standing {
            state: "installable",
            message: format!("{name} is not here; it can be built from its sources"),
            action: format!("onebit engines build {source}"),
        },
        _ => Standing {
            state: "action_required",
            message: format!("{name} is not here; put it in place"),
            action: format!("onebit engines install {name} FILE"),
        },
    }
}

fn present(hardware: &Hardware) -> Vec<&'static str> {
    let host = &hardware.host;
    let mut here = vec!["cpu"];
    if !host.gpus.is_empty() {
        here.push("amd_gpu");
    }
    if host
        .npu
        .as_ref()
        .is_some_and(|npu| npu.generation.is_xdna2())
    {
        here.push("amd_npu");
    }
    here
}

/// Every recipe with its backends as they are on this machine.
pub(super) fn recipes(programs: &[ProgramFact], hardware: &Hardware) -> Value {
    let here = present(hardware);
    let mut recipes: Map<String, Value> = Map::new();
    for backend in &BACKENDS {
        let Standing {
            state,
            message,
            action,
        } = state(backend, programs, &here);
        let of: Vec<&&str> = backend
            .devices
            .iter()
            .filter(|device| here.contains(*device))
            .collect();
        let mut view =
            json!({ "devices": of, "state": state, "message": message, "action": action });
        if backend.program.is_none() {
            view["version"] = VERSION.into();
        }
        let recipe = recipes
            .entry(backend.recipe)
            .or_insert_with(|| json!({ "backends": {} }));
        recipe["backends"][backend.backend] = view;
        if state == "installed" && recipe.get("default_backend").is_none() {
            recipe["default_backend"] = backend.backend.into();
        }
    }
    Value::Object(recipes)
}

/// What is asked for, with its state.
async fn asked(app: &App, body: &BackendBody) -> Result<Standing, Refused> {
    if body.backend == "cloud" {
        let why = "no request leaves for a provider; onebit answers on this machine";
        return Err(Refused::plain(StatusCode::NOT_IMPLEMENTED, why));
    }
    if body.recipe.is_empty() || body.backend.is_empty() {
        let why = "`recipe` and `backend` are required";
        return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
    }
    let wanted = BACKENDS
        .iter()
        .find(|one| one.recipe == body.recipe && one.backend == body.backend);
    let Some(wanted) = wanted else {
        let known: Vec<String> = BACKENDS
            .iter()
            .map(|one| format!("{}:{}", one.recipe, one.backend))
            .collect();
        let why = format!(
            "there is no backend {}:{}; there are {}",
            body.recipe,
            body.backend,
            known.join(", ")
        );
        return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
    };
    Ok(state(
        wanted,
        &app.programs(),
        &present(&app.hardware().await?),
    ))
}

pub(in super::super) async fn install(
    State(app): State<App>,
    Body(body): Body<BackendBody>,
) -> Result<Response, Refused> {
    let Standing {
        state,
        message,
        action,
    } = asked(&app, &body).await?;
    match state {
        "installed" => Ok(success(&body)),
        "unsupported" => Err(Refused::plain(StatusCode::BAD_REQUEST, message)),
        _ => {
            let why = format!("{message}; run `{action}` on this machine");
            Ok(answer(
                StatusCode::NOT_IMPLEMENTED,
                &json!({ "error": why, "code": "installation_error" }),
            ))
        }
    }
}

pub(in super::super) async fn uninstall(
    State(app): State<App>,
    Body(body): Body<BackendBody>,
) -> Result<Response, Refused> {
    match asked(&app, &body).await?.state {
        "installed" => {
            let why = "programs are taken away by the owner: `onebit engines list` shows them, `onebit engines remove` takes one";
            Err(Refused::plain(StatusCode::NOT_IMPLEMENTED, why))
        }
        _ => Ok(success(&body)),
    }
}

fn success(body: &BackendBody) -> Response {
    answer(
        StatusCode::OK,
        &json!({ "status": "success", "recipe": body.recipe, "backend": body.backend }),
    )
}
