//! MCP servers: the owner's own list, as that page's routes manage it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::super::failure::json as answer;
use super::fields::Text;
use super::{Json, Refused};
use crate::app::{App, AppError};
use crate::domain::{McpServer, ServerReach};
use crate::error::{Failing, Kind};

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Servers that others have written and that are worth knowing: name, shown name, what it does, kind, order, package, its
/// arguments, what has to be filled in.
type Known = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u8,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const CATALOG: &[Known] = &[
    (
        "everything",
        "Everything",
        "The protocol's own example: every kind of tool, to try things out.",
        "development",
        1,
        "@modelcontextprotocol/server-everything",
        &[],
        &[],
    ),
    (
        "filesystem",
        "Files",
        "Reads and writes below the folders that it is given.",
        "system",
        1,
        "@modelcontextprotocol/server-filesystem",
        &["."],
        &["allowed_directories"],
    ),
    (
        "memory",
        "Memory",
        "Keeps what it is told as a graph of notes.",
        "context",
        1,
        "@modelcontextprotocol/server-memory",
        &[],
        &[],
    ),
    (
        "sequential-thinking",
        "Sequential thinking",
        "Lets a model take a problem apart step by step.",
        "context",
        2,
        "@modelcontextprotocol/server-sequential-thinking",
        &[],
        &[],
    ),
    (
        "playwright",
        "Browser",
        "Opens web pages in a browser and acts on them.",
        "browser",
        2,
        "@playwright/mcp",
        &[],
        &[],
    ),
];

fn ok(body: &Value) -> Response {
    answer(StatusCode::OK, body)
}

/// A server that is not there, in the words by which clients know it.
fn of(name: &str) -> impl Fn(AppError) -> Refused + '_ {
    move |error| match error.kind() {
        Kind::NotFound => {
            let why = format!("Server '{name}' not found");
            Refused::plain(StatusCode::NOT_FOUND, why)
        }
        Kind::Conflict => {
            let why = format!("Server '{name}' already exists");
            Refused::plain(StatusCode::CONFLICT, why)
        }
        _ => error.into(),
    }
}

fn view(server: &McpServer) -> Value {
    let (command, args, env) = match &server.reach {
        ServerReach::Command { command, args, env } => {
            let masked = env.iter().map(|(name, value)| {
                let shown = if value.is_empty() { "" } else { MASK };
                (name.clone(), shown.into())
            });
            (command.as_str(), args.as_slice(), masked.collect())
        }
        // Reached over the network: it has an address and no command.
        ServerReach::Http { url, .. } => (url.as_str(), [].as_slice(), Map::new()),
    };
    json!({
        "name": server.name,
        "command": command,
        "args": args,
        "env": env,
        "enabled": server.enabled,
    })
}

/// `GET /api/mcp/servers`
pub(in super::super) async fn list(State(app): State<App>) -> Result<Response, Refused> {
    let servers = app.mcp_servers().await?;
    let views: Vec<Value> = servers.iter().map(view).collect();
    Ok(ok(&json!({ "servers": views })))
}

/// `POST /api/mcp/servers`
pub(in super::super) async fn add(
    State(app): State<App>,
    Json(mut body): Json,
) -> Result<Response, Refused> {
    let name = body.text("name", Text::default());
    let command = body.text("command", Text::default());
    let args = body.texts("args");
    let env = body.map("env");
    body.done()?;
    for (value, why) in [
        (&name, "Server name must not be empty"),
        (&command, "Command must not be empty"),
    ] {
        if value.trim().is_empty() {
            return Err(Refused::plain(StatusCode::BAD_REQUEST, why));
        }
    }
    let reach = match command.starts_with("http://") || command.starts_with("https://") {
        true => ServerReach::Http {
            url: command,
            token: None,
        },
        false => ServerReach::Command {
            command,
            args: args.unwrap_or_default(),
            env: env.unwrap_or_default(),
        },
    };
    let server = McpServer {
        name: name.clone(),
        reach,
        enabled: true,
        trusted: Vec::new(),
    };
    app.add_mcp_server(server).await.map_err(of(&name))?;
    Ok(answer(
        StatusCode::CREATED,
        &json!({ "status": "added", "name": name }),
    ))
}

/// `DELETE /api/mcp/servers/{name}`
pub(in super::super) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    app.remove_mcp_server(&name).await.map_err(of(&name))?;
    Ok(ok(&json!({ "status": "removed", "name": name })))
}

/// `POST /api/mcp/servers/{name}/enable`
pub(in super::super) async fn enable(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    app.enable_mcp_server(&name, true)
        .await
        .map_err(of(&name))?;
    Ok(ok(&json!({ "status": "enabled", "name": name })))
}

/// `POST /api/mcp/servers/{name}/disable`
pub(in super::super) async fn disable(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    app.enable_mcp_server(&name, false)
        .await
        .map_err(of(&name))?;
    Ok(ok(&json!({ "status": "disabled", "name": name })))
}

/// `GET /api/mcp/servers/{name}/tools`
pub(in super::super) async fn tools(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    let tools = app
        .mcp_tools(&name)
        .await
        .map_err(|error| match error.kind() {
            Kind::BadRequest => {
                let why = format!("Server '{name}' is disabled");
                Refused::plain(StatusCode::BAD_REQUEST, why)
            }
            Kind::EngineDown => {
                let why = format!("Could not connect to server '{name}': {error}");
                Refused::plain(StatusCode::SERVICE_UNAVAILABLE, why)
            }
            _ => of(&name)(error),
        })?;
    let views: Vec<Value> = tools
        .iter()
        .map(|tool| {
            // Agents know it by the server's name as well; the server itself does not.
            let own = tool
                .name
                .split_once("__")
                .map_or(tool.name.as_str(), |(_, own)| own);
            json!({ "name": own, "description": tool.description })
        })
        .collect();
    Ok(ok(&json!({ "name": name, "tools": views })))
}

/// `GET /api/mcp/status`
pub(in super::super) async fn status(State(app): State<App>) -> Result<Response, Refused> {
    let servers = app.mcp_status().await?;
    let views: Vec<Value> = servers
        .iter()
        .map(|one| {
            json!({
                "name": one.name,
                "connected": one.connected,
                "tool_count": one.tools,
                "error": one.error,
            })
        })
        .collect();
    Ok(ok(&json!({ "servers": views })))
}

/// `GET /api/mcp/catalog`: nothing is fetched before the owner adds one.
pub(in super::super) async fn catalog() -> Response {
    let all: Vec<Value> = CATALOG
        .iter()
        .map(
            |(name, shown, what, category, tier, package, args, needs)| {
                let args: Vec<&str> = ["-y", package]
                    .into_iter()
                    .chain(args.iter().copied())
                    .collect();
                json!({
                    "name": name,
                    "display_name": shown,
                    "description": what,
                    "category": category,
                    "tier": tier,
                    "command": "npx",
                    "args": args,
                    "requires_config": needs,
                    "env": {},
                })
            },
        )
        .collect();
    ok(&json!({ "catalog": all }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_empty_ones_are_seen_to_be_empty() {
        let server = McpServer {
            name: "m".into(),
            reach: ServerReach::Command {
                command: "npx".into(),
                args: vec!["-y".into()],
                env: vec![
                    ("KEY".into(), "secret".into()),
                    ("NONE".into(), String::new()),
                ],
            },
            enabled: false,
            trusted: Vec::new(),
        };
        let view = view(&server);
        assert_eq!(view["env"], json!({ "KEY": MASK, "NONE": "" }));
        assert!(!view.to_string().contains("secret"));
        let remote = McpServer {
            reach: ServerReach::Http {
                url: "https://a.example/mcp".into(),
                token: Some("secret".into()),
            },
            ..server
        };
        assert!(!super::view(&remote).to_string().contains("secret"));
    }
}
