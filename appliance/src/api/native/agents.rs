//! Agents: who there is, and files of them.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use super::super::openapi::Operation;
use crate::app::App;
pub(in super::super) use crate::app::BUNDLE_BYTES_MAX;
use crate::domain::{Agent, AgentTool, Danger, Peer, RunLimits};

/// An agent.
#[derive(Serialize, JsonSchema)]
pub(super) struct AgentView {
    id: String,
    name: String,
    description: String,
    instructions: String,
    /// Names of tools; `mcp` stands for those of all servers.
    tools: Vec<String>,
    starters: Vec<String>,
    model: Option<String>,
    /// Times that the model is asked at most.
    steps: usize,
    time_s: u64,
    tokens: usize,
    builtin: bool,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct AgentsView {
    agents: Vec<AgentView>,
}

/// A tool.
#[derive(Serialize, JsonSchema)]
pub(in super::super) struct ToolView {
    name: String,
    description: String,
    /// JSON Schema of its arguments.
    parameters: serde_json::Value,
    /// The MCP server that runs it.
    server: Option<String>,
    /// Whether a person is asked before it runs.
    asks: bool,
    /// Why it cannot be used now.
    off: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(in super::super) struct ToolsView {
    pub(in super::super) tools: Vec<ToolView>,
}

/// An agent to keep.
#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct AgentBody {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    instructions: String,
    #[serde(default)]
    tools: Vec<String>,
    #[serde(default)]
    starters: Vec<String>,
    model: Option<String>,
    steps: Option<usize>,
    time_s: Option<u64>,
    tokens: Option<usize>,
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct ExportBody {
    /// Identifiers; none means all of one's own.
    #[serde(default)]
    ids: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct RemovedAgentView {
    removed: String,
}

/// What came of a file of agents.
#[derive(Serialize, JsonSchema)]
pub(super) struct BroughtView {
    imported: Vec<String>,
    overwritten: Vec<String>,
    errors: Vec<RefusedView>,
}

#[derive(Serialize, JsonSchema)]
struct RefusedView {
    id: String,
    error: String,
}

impl Wire for AgentBody {
    type Dialect = OpenAi;
}

impl Wire for ExportBody {
    type Dialect = OpenAi;
}

impl From<Agent> for AgentView {
    fn from(agent: Agent) -> AgentView {
        AgentView {
            id: agent.id,
            name: agent.name,
            description: agent.description,
            instructions: agent.instructions,
            tools: agent.tools,
            starters: agent.starters,
            model: agent.model,
            steps: agent.limits.steps,
            time_s: agent.limits.time.as_secs(),
            tokens: agent.limits.tokens,
            builtin: agent.builtin,
        }
    }
}

impl From<AgentTool> for ToolView {
    fn from(tool: AgentTool) -> ToolView {
        ToolView {
            // Schemas are checked where tools come in; one that is no JSON is shown as what it is.
            parameters: serde_json::from_str(&tool.parameters)
                .unwrap_or_else(|_| json!(tool.parameters)),
            name: tool.name,
            description: tool.description,
            server: tool.server,
            asks: tool.danger == Danger::Acts,
            off: tool.off,
        }
    }
}

/// `GET /onebit/agents`
pub(in super::super) async fn list(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let agents = app
        .agents()
        .await?
        .into_iter()
        .map(AgentView::from)
        .collect();
    Ok(answer(StatusCode::OK, &AgentsView { agents }))
}

/// `GET /onebit/agents/{id}`
pub(in super::super) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    Ok(answer(
        StatusCode::OK,
        &AgentView::from(app.agent(&id).await?),
    ))
}

/// `PUT /onebit/agents/{id}`
pub(in super::super) async fn put(
    State(app): State<App>,
    Path(id): Path<String>,
    Body(body): Body<AgentBody>,
) -> Result<Response, Failure<OpenAi>> {
    let usual = RunLimits::default();
    let agent = Agent {
        id: id.clone(),
        name: body.name,
        description: body.description,
        instructions: body.instructions,
        tools: body.tools,
        starters: body.starters,
        model: body.model.filter(|model| !model.is_empty()),
        limits: RunLimits {
            steps: body.steps.unwrap_or(usual.steps),
            time: body.time_s.map_or(usual.time, Duration::from_secs),
            tokens: body.tokens.unwrap_or(usual.tokens),
        },
        builtin: false,
    };
    app.put_agent(agent).await?;
    one(State(app), Path(id)).await
}

/// `DELETE /onebit/agents/{id}`
pub(in super::super) async fn remove(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    app.remove_agent(&id).await?;
    Ok(answer(StatusCode::OK, &RemovedAgentView { removed: id }))
}

/// `POST /onebit/agents/export`
pub(in super::super) async fn export(
    State(app): State<App>,
    Body(body): Body<ExportBody>,
) -> Result<Response, Failure<OpenAi>> {
    let zip = app.export_agents(&body.ids).await?;
    let mut response = Response::new(zip.into());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/zip"),
    );
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"agents.zip\""),
    );
    Ok(response)
}

/// `POST /onebit/agents/import`: the zip's bytes.
pub(in super::super) async fn import(
    State(app): State<App>,
    body: Bytes,
) -> Result<Response, Failure<OpenAi>> {
    let brought = app.import_agents(body.to_vec()).await?;
    let refused = |(id, error): (String, String)| RefusedView { id, error };
    let view = BroughtView {
        imported: brought.imported,
        overwritten: brought.overwritten,
        errors: brought.errors.into_iter().map(refused).collect(),
    };
    Ok(answer(StatusCode::OK, &view))
}

/// `GET /onebit/tools`
pub(in super::super) async fn tools(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Failure<OpenAi>> {
    let person = super::person(&peer)?;
    let tools = app
        .tools_of(person)
        .await?
        .into_iter()
        .map(ToolView::from)
        .collect();
    Ok(answer(StatusCode::OK, &ToolsView { tools }))
}

/// Too many of something in a query.
pub(super) fn whole_number(text: &str) -> Result<usize, RequestError> {
    text.parse()
        .map_err(|_| RequestError::field("limit", "must be a whole number"))
}

pub(super) fn describe() -> Vec<Operation> {
    vec![
        Operation::get("/onebit/agents", "All agents, built-in ones first").gives::<AgentsView>(),
        Operation::get("/onebit/agents/{id}", "One agent").gives::<AgentView>(),
        Operation::new(
            axum::http::Method::PUT,
            "/onebit/agents/{id}",
            "Keeps an agent, new or changed",
        )
        .takes::<AgentBody>()
        .gives::<AgentView>(),
        Operation::delete("/onebit/agents/{id}", "Takes an agent away").gives::<RemovedAgentView>(),
        Operation::post("/onebit/agents/export", "One's own agents as a zip")
            .takes::<ExportBody>()
            .text(200, "application/zip"),
        Operation::post(
            "/onebit/agents/import",
            "Brings agents in from a zip, whose bytes are the body",
        )
        .takes_form(json!({ "type": "string", "format": "binary" }))
        .gives::<BroughtView>(),
        Operation::get("/onebit/tools", "All tools that agents can be given").gives::<ToolsView>(),
    ]
}
