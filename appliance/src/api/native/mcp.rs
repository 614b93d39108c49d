//! The owner's MCP servers: list, add, remove, turn on and off, trust, and what they offer. Secrets come in and never go
//! out.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use super::super::openapi::Operation;
use super::agents::{ToolView, ToolsView};
use crate::app::App;
use crate::domain::{McpServer, ServerReach, ServerStatus};

/// A server to add: a program with its arguments, or an address.
#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct ServerBody {
    name: String,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    /// Variables of the program's environment.
    #[serde(default)]
    env: std::collections::BTreeMap<String, String>,
    url: Option<String>,
    /// Sent along to the address.
    token: Option<String>,
    /// Whether agents may use it at once; true when left out.
    enabled: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct ChangeServerBody {
    enabled: Option<bool>,
    /// A tool that needs no asking from now on.
    trust: Option<String>,
    /// A tool that asks again.
    distrust: Option<String>,
}

/// A server, without its secrets.
#[derive(Serialize, JsonSchema)]
pub(super) struct ServerView {
    name: String,
    command: Option<String>,
    args: Vec<String>,
    /// Names of its variables; what they hold is not shown.
    env: Vec<String>,
    url: Option<String>,
    has_token: bool,
    enabled: bool,
    trusted: Vec<String>,
    connected: Option<bool>,
    tools: Option<usize>,
    error: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ServersView {
    servers: Vec<ServerView>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct RemovedServerView {
    removed: String,
}

impl Wire for ServerBody {
    type Dialect = OpenAi;
}

impl Wire for ChangeServerBody {
    type Dialect = OpenAi;
}

fn view(server: McpServer, states: &[ServerStatus]) -> ServerView {
    let state = states
        .iter()
        .find(|state| state.name == server.name && server.enabled);
    let mut shown = ServerView {
        command: None,
        args: Vec::new(),
        env: Vec::new(),
        url: None,
        has_token: false,
        enabled: server.enabled,
        trusted: server.trusted,
        connected: state.map(|state| state.connected),
        tools: state.map(|state| state.tools),
        error: state.and_then(|state| state.error.clone()),
        name: server.name,
    };
    match server.reach {
        ServerReach::Command { command, args, env } => {
            shown.command = Some(command);
            shown.args = args;
            shown.env = env.into_iter().map(|(key, _)| key).collect();
        }
        ServerReach::Http { url, token } => {
            shown.url = Some(url);
            shown.has_token = token.is_some();
        }
    }
    shown
}

async fn one(app: &App, name: &str, status: StatusCode) -> Result<Response, Failure<OpenAi>> {
    let server = app.mcp_server(name).await?;
    Ok(answer(status, &view(server, &[])))
}

/// `GET /onebit/mcp`
pub(in super::super) async fn list(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let states = app.mcp_status().await?;
    let servers = app.mcp_servers().await?;
    let servers = servers
        .into_iter()
        .map(|server| view(server, &states))
        .collect();
    Ok(answer(StatusCode::OK, &ServersView { servers }))
}

/// `POST /onebit/mcp`
pub(in super::super) async fn add(
    State(app): State<App>,
    Body(body): Body<ServerBody>,
) -> Result<Response, Failure<OpenAi>> {
    let reach = match (body.command, body.url) {
        (Some(command), None) => ServerReach::Command {
            command,
            args: body.args,
            env: body.env.into_iter().collect(),
        },
        (None, Some(url)) => ServerReach::Http {
            url,
            token: body.token.filter(|token| !token.is_empty()),
        },
        _ => {
            return Err(
                RequestError::field("command", "or `url` must be given, and not both").into(),
            );
        }
    };
    let server = McpServer {
        name: body.name.clone(),
        reach,
        enabled: body.enabled.unwrap_or(true),
        trusted: Vec::new(),
    };
    app.add_mcp_server(server).await?;
    one(&app, &body.name, StatusCode::CREATED).await
}

/// `PATCH /onebit/mcp/{name}`
pub(in super::super) async fn change(
    State(app): State<App>,
    Path(name): Path<String>,
    Body(body): Body<ChangeServerBody>,
) -> Result<Response, Failure<OpenAi>> {
    if let Some(enabled) = body.enabled {
        app.enable_mcp_server(&name, enabled).await?;
    }
    for (tool, trusted) in [(body.trust, true), (body.distrust, false)] {
        if let Some(tool) = tool {
            app.trust_mcp_tool(&name, &tool, trusted).await?;
        }
    }
    one(&app, &name, StatusCode::OK).await
}

/// `DELETE /onebit/mcp/{name}`
pub(in super::super) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    app.remove_mcp_server(&name).await?;
    Ok(answer(StatusCode::OK, &RemovedServerView { removed: name }))
}

/// `GET /onebit/mcp/{name}/tools`
pub(in super::super) async fn tools(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    let tools = app
        .mcp_tools(&name)
        .await?
        .into_iter()
        .map(ToolView::from)
        .collect();
    Ok(answer(StatusCode::OK, &ToolsView { tools }))
}

pub(super) fn describe() -> Vec<Operation> {
    vec![
        Operation::get("/onebit/mcp", "The owner's MCP servers, and how they are")
            .gives::<ServersView>(),
        Operation::post("/onebit/mcp", "Adds an MCP server")
            .takes::<ServerBody>()
            .gives_as::<ServerView>(201),
        Operation::new(
            axum::http::Method::PATCH,
            "/onebit/mcp/{name}",
            "Turns a server on or off, or trusts a tool of it",
        )
        .takes::<ChangeServerBody>()
        .gives::<ServerView>(),
        Operation::delete("/onebit/mcp/{name}", "Takes a server away").gives::<RemovedServerView>(),
        Operation::get("/onebit/mcp/{name}/tools", "What a server offers").gives::<ToolsView>(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let server = |reach| McpServer {
            name: "s".into(),
            reach,
            enabled: true,
            trusted: Vec::new(),
        };
        let program = server(ServerReach::Command {
            command: "c".into(),
            args: vec!["a".into()],
            env: vec![("KEY".into(), "hunter2".into())],
        });
        let address = server(ServerReach::Http {
            url: "https://x".into(),
            token: Some("hunter2".into()),
        });
        for one in [program, address] {
            let shown = serde_json::to_string(&view(one, &[])).unwrap();
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}
