//! Our own MCP server at `/mcp`: streamable HTTP without sessions, each request whole in itself.
//!
//! Who asks is who asks everywhere else: the route's guard has checked Host, Origin and scope, and rows are the peer's
//! person's. What a tool does is in `tools.rs`.

mod tools;

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler};
use serde_json::Value;

use super::openapi::{Operation, Part};
use crate::app::{App, VERSION};
use crate::domain::Peer;

/// One peer's view of the appliance.
#[derive(Clone)]
struct Ours {
    app: App,
    peer: Peer,
}

impl ServerHandler for Ours {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("onebit", VERSION))
            .with_instructions(
                "Models, documents and speech of a local appliance. Start with list_models; chat and \
                 search_documents need nothing else.",
            )
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::offered(&self.peer)))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::offered(&self.peer)
            .into_iter()
            .find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if self.get_tool(&call.name).is_none() {
            return Err(ErrorData::invalid_params(
                format!("there is no tool `{}`", call.name),
                None,
            ));
        }
        let arguments = Value::Object(call.arguments.unwrap_or_default());
        let result = match tools::call(&self.app, &self.peer, &call.name, &arguments).await {
            Ok(content) => CallToolResult::success(content),
            // What went wrong is for the model to read, not for the protocol.
            Err(why) => CallToolResult::error(vec![ContentBlock::text(why)]),
        };
        Ok(result.into())
    }
}

/// `POST /mcp`, and what the protocol says to the other methods.
pub(super) async fn answer(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        // The guard has checked Host and Origin against ours, with the names that the owner added.
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_max_request_body_bytes(app.config().server.body_bytes_max);
    let ours = Ours { app, peer };
    let service = StreamableHttpService::new(
        move || Ok(ours.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    service.handle(request).await.map(Body::new)
}

/// The route in words.
pub(super) fn describe() -> Part {
    let message = || serde_json::json!({ "type": "object", "description": "a JSON-RPC message of the Model Context Protocol" });
    Part {
        name: "MCP",
        prefix: "Mcp",
        error: message(),
        operations: vec![
            Operation::post(
                "/mcp",
                "The Model Context Protocol over streamable HTTP, without sessions",
            )
            .takes_form(message())
            .writes(message()),
        ],
    }
}
