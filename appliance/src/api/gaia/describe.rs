//! This dialect's routes in words, and the schemas of their answers.

use axum::http::Method;
use serde_json::{Value, json};

use super::super::openapi::{
    Operation, Part, either, list, map, maybe, number, object, text, truth, whole, words,
};

/// The routes of this folder.
pub(in super::super) fn describe() -> Part {
    let mut operations = vec![
        Operation::get("/gaia", "Leads to GAIA's page").status(307),
        Operation::get("/gaia/", "GAIA's page, where the owner has given it")
            .text(200, "text/html; charset=utf-8")
            .text(404, "text/plain; charset=utf-8"),
        Operation::get("/gaia/{*path}", "A file of it")
            .text(200, "*/*")
            .text(404, "text/plain; charset=utf-8"),
    ];
    operations.extend(system());
    operations.extend(sessions());
    operations.extend(chat());
    operations.extend(files());
    operations.extend(tunnel());
    operations.extend(agents());
    operations.extend(mcp());
    operations.extend(newer());
    Part {
        name: "GAIA",
        prefix: "Gaia",
        // The last two: before a route of its own has been found, and from proxies of Ollama's.
        error: either([
            object([("detail", text()), ("code?", maybe(text()))]),
            object([("detail", list(wrong_field()))]),
            super::super::openai::error_schema(),
            object([("error", text())]),
        ]),
        operations,
    }
}

/// What is wrong with one field.
pub(in super::super) fn wrong_field() -> Value {
    object([
        ("type", text()),
        ("loc", list(either([text(), whole()]))),
        ("msg", text()),
        ("input", json!({})),
        ("ctx?", map(json!({}))),
    ])
}

fn put(path: &'static str, summary: &'static str) -> Operation {
    Operation::new(Method::PUT, path, summary)
}

/// Yes or no, in the words that its own backend takes for them; capitals do not matter.
fn flagged() -> Value {
    json!({ "enum": [
        true, false, 1, 0, "1", "0", "true", "false", "t", "f", "yes", "no", "y", "n", "on", "off",
    ] })
}

fn system() -> Vec<Operation> {
    let progress = object([
        ("state", words(&["starting", "downloading", "error"])),
        ("model_name", text()),
        ("percent", whole()),
        ("file", maybe(text())),
        ("file_index", whole()),
        ("total_files", whole()),
        ("downloaded_bytes", whole()),
        ("total_bytes", whole()),
        ("message", maybe(text())),
    ]);
    let status = object([
        ("lemonade_running", truth()),
        ("initialized", truth()),
        ("device_supported", truth()),
        ("init_state", text()),
        ("init_tasks", list(map(text()))),
        ("version", text()),
        ("lemonade_version", text()),
        ("lemonade_url", text()),
        ("model_loaded", maybe(text())),
        ("model_size_gb", maybe(number())),
        ("model_device", maybe(text())),
        ("model_context_size", maybe(whole())),
        ("model_labels", maybe(list(text()))),
        ("embedding_model_loaded", truth()),
        ("default_model_name", text()),
        ("default_model_size_gb", maybe(number())),
        ("model_downloaded", truth()),
        ("context_size_sufficient", truth()),
        ("expected_model_loaded", truth()),
        ("disk_space_gb", number()),
        ("memory_available_gb", number()),
        ("processor_name", maybe(text())),
        ("gpu_name", maybe(text())),
        ("gpu_vram_gb", maybe(number())),
        ("tokens_per_second", maybe(number())),
        ("time_to_first_token", maybe(number())),
        ("download_progress", maybe(progress)),
    ]);
    let settings = || {
        object([
            ("custom_model", maybe(text())),
            (
                "model_status",
                maybe(object([
                    ("found", truth()),
                    ("downloaded", truth()),
                    ("loaded", truth()),
                ])),
            ),
        ])
    };
    vec![
        Operation::get(
            "/api/health",
            "That it runs; to whoever may chat, what is kept",
        )
        .writes(object([
            ("status", text()),
            ("service", text()),
            ("stats?", map(whole())),
        ])),
        Operation::get("/api/system/status", "How the appliance is").writes(status),
        Operation::get("/api/system/tasks", "What is done meanwhile").writes(object([(
            "tasks",
            list(object([
                ("id", text()),
                ("name", text()),
                ("status", words(&["pending", "running", "done", "failed"])),
                ("error", maybe(text())),
            ])),
        )])),
        Operation::post("/api/system/load-model", "Loads a model while nobody waits")
            .takes_form(object([
                ("model_name", text()),
                (
                    "ctx_size?",
                    maybe(json!({ "type": "integer", "exclusiveMinimum": 0 })),
                ),
            ]))
            .accepts(object([
                ("status", text()),
                ("model", text()),
                ("ctx_size", maybe(whole())),
            ])),
        Operation::post(
            "/api/system/download-model",
            "Fetches a model while nobody waits",
        )
        .takes_form(object([("model_name", text()), ("force?", flagged())]))
        .accepts(object([("status", text()), ("model", text())])),
        Operation::get("/api/settings", "The model that one has chosen").writes(settings()),
        put("/api/settings", "Chooses a model, or none")
            .takes_form(object([("custom_model?", maybe(text()))]))
            .writes(settings()),
    ]
}

fn session() -> Value {
    object([
        ("id", text()),
        ("title", text()),
        ("created_at", text()),
        ("updated_at", text()),
        ("model", text()),
        ("system_prompt", maybe(text())),
        ("message_count", whole()),
        ("document_ids", list(text())),
        ("agent_type", text()),
    ])
}

fn source() -> Value {
    object([
        ("document_id", text()),
        ("filename", text()),
        ("chunk", text()),
        ("score", number()),
        ("page", maybe(whole())),
        ("number", whole()),
        ("passage", whole()),
        ("start", whole()),
        ("end", whole()),
    ])
}

fn message() -> Value {
    object([
        ("id", whole()),
        ("session_id", text()),
        ("role", text()),
        ("content", text()),
        ("created_at", text()),
        ("rag_sources", maybe(list(source()))),
        ("agent_steps", maybe(list(map(json!({}))))),
        (
            "stats",
            maybe(object([
                ("tokens_per_second", number()),
                ("time_to_first_token", number()),
                ("input_tokens", whole()),
                ("output_tokens", whole()),
            ])),
        ),
    ])
}

fn agent_type() -> Value {
    maybe(json!({ "type": "string", "maxLength": 64, "pattern": "^[a-zA-Z0-9_-]+$" }))
}

fn sessions() -> Vec<Operation> {
    let flag = |name| object([(name, truth())]);
    vec![
        Operation::get("/api/sessions", "Sessions, the latest first")
            .reads("limit", whole(), "how many, 1 to 200")
            .reads("offset", whole(), "how many to leave out first")
            .writes(object([("sessions", list(session())), ("total", whole())])),
        Operation::post("/api/sessions", "Begins a session")
            .takes_form(object([
                ("title?", maybe(text())),
                ("model?", maybe(text())),
                ("system_prompt?", maybe(text())),
                ("document_ids?", maybe(list(text()))),
                ("agent_type?", agent_type()),
            ]))
            .writes(session()),
        Operation::get("/api/sessions/{id}", "One session").writes(session()),
        put(
            "/api/sessions/{id}",
            "Renames a session, or changes what it is told and answered from",
        )
        .takes_form(object([
            ("title?", maybe(text())),
            ("system_prompt?", maybe(text())),
            ("document_ids?", maybe(list(text()))),
            ("agent_type?", agent_type()),
        ]))
        .writes(session()),
        Operation::delete("/api/sessions/{id}", "Deletes a session with its messages")
            .writes(flag("deleted")),
        Operation::get(
            "/api/sessions/{id}/messages",
            "Messages of the branch that is shown",
        )
        .reads("limit", whole(), "how many, 1 to 10000")
        .reads("offset", whole(), "how many to leave out first")
        .writes(object([("messages", list(message())), ("total", whole())])),
        Operation::delete(
            "/api/sessions/{id}/messages/{message}",
            "Deletes one message",
        )
        .writes(flag("deleted")),
        Operation::delete(
            "/api/sessions/{id}/messages/{message}/and-below",
            "Deletes a message and all that follows",
        )
        .writes(object([("deleted", truth()), ("count", whole())])),
        Operation::get(
            "/api/sessions/{id}/export",
            "A session as a text or as JSON",
        )
        .reads("format", words(&["markdown", "json"]), "which")
        .writes(object([
            ("format", text()),
            ("content?", text()),
            ("session?", session()),
            ("messages?", list(message())),
        ])),
        Operation::post(
            "/api/sessions/{id}/documents",
            "Answers it from one more document",
        )
        .takes_form(object([("document_id", text())]))
        .writes(flag("attached")),
        Operation::delete(
            "/api/sessions/{id}/documents/{document}",
            "Answers it from a document no longer",
        )
        .writes(flag("detached")),
    ]
}

fn chat() -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/chat/send",
            "Asks; the answer as events, or in one piece",
        )
        .takes_form(object([
            ("session_id", text()),
            ("message", json!({ "type": "string", "maxLength": 100_000 })),
            ("document_ids?", maybe(list(text()))),
            ("stream?", flagged()),
            ("agent_type?", agent_type()),
        ]))
        .writes(object([
            ("message_id", whole()),
            ("content", text()),
            ("sources", list(source())),
            ("tokens", maybe(map(whole()))),
        ]))
        .streams([("", object([("type", text())]))]),
        Operation::post(
            "/api/chat/confirm-tool",
            "Allows or forbids what an answer waits for",
        )
        .takes_form(object([("session_id", text()), ("approved", flagged())]))
        .writes(object([("status", text()), ("approved", truth())])),
    ]
}

fn files() -> Vec<Operation> {
    let entry = object([
        ("name", text()),
        ("path", text()),
        ("type", words(&["file", "folder"])),
        ("size", whole()),
        ("extension", maybe(text())),
        ("modified", text()),
    ]);
    let link = object([("name", text()), ("path", text()), ("icon", text())]);
    let found = object([
        ("name", text()),
        ("path", text()),
        ("size", whole()),
        ("size_display", text()),
        ("extension", text()),
        ("modified", text()),
        ("directory", maybe(text())),
    ]);
    vec![
        Operation::get("/api/files/browse", "A shared folder of this machine")
            .reads("path", text(), "which; the first one otherwise")
            .writes(object([
                ("current_path", text()),
                ("parent_path", maybe(text())),
                ("entries", list(entry)),
                ("quick_links", list(link)),
            ])),
        Operation::get(
            "/api/files/search",
            "Files of the shared folders by their names",
        )
        .reads("query", text(), "a part of the name")
        .reads("file_types", text(), "endings, joined by commas")
        .reads("max_results", whole(), "how many, 1 to 100")
        .writes(object([
            ("results", list(found)),
            ("total", whole()),
            ("query", text()),
            ("searched_locations", list(text())),
        ])),
        Operation::get("/api/files/preview", "The beginning of a file")
            .reads("path", text(), "which")
            .reads("lines", whole(), "how many, 1 to 200")
            .writes(object([
                ("path", text()),
                ("name", text()),
                ("size", whole()),
                ("size_display", text()),
                ("extension", text()),
                ("modified", text()),
                ("is_text", truth()),
                ("preview_lines", list(text())),
                ("total_lines", maybe(whole())),
                ("columns", maybe(list(text()))),
                ("row_count", maybe(whole())),
                ("encoding", maybe(text())),
            ])),
        Operation::get("/api/files/image", "A picture of the shared folders")
            .reads("path", text(), "which")
            .text(200, "image/*"),
        Operation::post(
            "/api/files/open",
            "Answered by name: an appliance has no desktop",
        )
        .takes_form(object([("path", text()), ("reveal?", flagged())])),
        Operation::post(
            "/api/files/upload",
            "Keeps a file of a form, up to 20 MiB, beside a message",
        )
        .writes(object([
            ("filename", text()),
            ("original_name", text()),
            ("url", text()),
            ("size", whole()),
            ("content_type", text()),
            ("is_image", truth()),
        ])),
        Operation::get("/api/files/uploads/{name}", "A file that one has sent").text(200, "*/*"),
    ]
}

fn agents() -> Vec<Operation> {
    let agent = || {
        object([
            ("id", text()),
            ("name", text()),
            ("description", text()),
            ("source", words(&["builtin", "custom_python"])),
            ("conversation_starters", list(text())),
            ("models", list(text())),
            ("min_memory_gb", maybe(number())),
        ])
    };
    vec![
        Operation::get("/api/agents", "Agents")
            .writes(object([("agents", list(agent())), ("total", whole())])),
        Operation::get("/api/agents/{*id}", "One agent").writes(agent()),
        Operation::post("/api/agents/export", "The owner's agents in one file")
            .text(200, "application/zip"),
        Operation::post("/api/agents/import", "Brings agents of such a file in").writes(object([
            ("imported", list(text())),
            ("overwritten", list(text())),
            ("errors", list(object([("id", text()), ("error", text())]))),
            ("requires_restart", truth()),
        ])),
    ]
}

fn mcp() -> Vec<Operation> {
    let done = || object([("status", text()), ("name", text())]);
    let server = object([
        ("name", text()),
        ("command", text()),
        ("args", list(text())),
        ("env", map(text())),
        ("enabled", truth()),
    ]);
    let state = object([
        ("name", text()),
        ("connected", truth()),
        ("tool_count", whole()),
        ("error", maybe(text())),
    ]);
    let tool = object([("name", text()), ("description", text())]);
    vec![
        Operation::get(
            "/api/mcp/servers",
            "The owner's MCP servers, secrets masked",
        )
        .writes(object([("servers", list(server))])),
        Operation::post("/api/mcp/servers", "Adds an MCP server")
            .takes_form(object([
                ("name", text()),
                ("command", text()),
                ("args?", maybe(list(text()))),
                ("env?", maybe(map(text()))),
            ]))
            .creates(done()),
        Operation::delete("/api/mcp/servers/{name}", "Takes one away").writes(done()),
        Operation::post("/api/mcp/servers/{name}/enable", "Lets agents use it").writes(done()),
        Operation::post("/api/mcp/servers/{name}/disable", "Keeps agents from it").writes(done()),
        Operation::get("/api/mcp/servers/{name}/tools", "What it offers")
            .writes(object([("name", text()), ("tools", list(tool))])),
        Operation::get("/api/mcp/catalog", "Servers that others have written")
            .writes(object([("catalog", list(map(json!({}))))])),
        Operation::get("/api/mcp/status", "Which servers answer")
            .writes(object([("servers", list(state))])),
    ]
}

/// What the page of 0.25.1 asks beyond April's operations; its own shapes, told in short.
fn newer() -> Vec<Operation> {
    let any = || map(json!({}));
    let get = |path, summary| Operation::get(path, summary).writes(any());
    vec![
        get(
            "/api/chat/active",
            "Sessions in which an answer is being written",
        ),
        Operation::post("/api/chat/cancel", "Stops the answer of a session")
            .takes_form(object([("session_id", text())]))
            .writes(any()),
        get(
            "/api/chat/permissions",
            "How tools that act are allowed: each time",
        ),
        get("/api/chat/permissions/{id}", "The same of one session"),
        put("/api/chat/permissions/{id}", "Keeps it so")
            .takes_form(object([("mode", text())]))
            .writes(any()),
        get(
            "/api/chat/context/{id}",
            "Says that answers tell what they read",
        ),
        Operation::get(
            "/api/sessions/events",
            "A stream that stays open and says nothing",
        )
        .streams([("", any())]),
        get(
            "/api/sessions/{id}/environment",
            "The folders of a session: none",
        ),
        get("/api/sessions/{id}/outputs", "The files that it made: none"),
        get(
            "/api/sessions/{id}/changes",
            "Answers that changed files: none",
        ),
        get(
            "/api/sessions/{id}/changes/total",
            "The files that it changed: none",
        ),
        get("/api/schedules", "Schedules: none"),
        get("/api/setup/check", "Whether there is a model"),
        get("/api/onboarding/start", "Cards of a new session: none"),
        get(
            "/api/system/warm-up",
            "Whether the model that would answer is loaded",
        ),
        Operation::post("/api/system/warm-up", "Loads the model that would answer").writes(any()),
        get("/api/providers/active", "The model that would answer"),
        get("/api/providers/local/models", "Models that talk"),
        get(
            "/api/providers/local/status",
            "What the model that would answer is doing",
        ),
    ]
}

fn tunnel() -> Vec<Operation> {
    let state = || {
        object([
            ("active", truth()),
            ("url", maybe(text())),
            ("token", maybe(text())),
            ("startedAt", maybe(text())),
            ("error", maybe(text())),
            ("publicIp", maybe(text())),
        ])
    };
    vec![
        Operation::post("/api/tunnel/start", "Opens a pairing window for a phone").writes(state()),
        Operation::get("/api/tunnel/status", "The window, as long as it is open").writes(state()),
        Operation::post("/api/tunnel/stop", "Closes it").writes(object([("active", truth())])),
    ]
}
