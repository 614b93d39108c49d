//! The routes that belong to no dialect: health, the page, and this description itself.

use super::operation::{Operation, Part, map, object, text};
use serde_json::json;

pub(super) fn describe() -> Part {
    let html = "text/html; charset=utf-8";
    Part {
        name: "Appliance",
        prefix: "Appliance",
        error: super::super::openai::error_schema(),
        operations: vec![
            Operation::get("/health", "Tells that the appliance answers")
                .writes(object([("status", text()), ("version", text())])),
            Operation::get(
                "/",
                "Leads browsers to the page; tells Ollama's clients that a server runs",
            )
            .text(200, "text/plain; charset=utf-8")
            .status(307),
            Operation::get("/app", "Leads to the page").status(307),
            Operation::get("/app/", "The page").text(200, html),
            Operation::get("/app/{*path}", "A file of the page")
                .text(200, "*/*")
                .text(404, "text/plain; charset=utf-8")
                .never_fails(),
            Operation::get("/favicon.ico", "The page's picture")
                .text(200, "image/*")
                .status(204)
                .never_fails(),
            Operation::get("/openapi.json", "This description").writes(object([
                ("openapi", text()),
                ("paths", map(json!({ "type": "object" }))),
            ])),
            Operation::get("/reference", "This description, for people").text(200, html),
            Operation::get("/reference.css", "How it looks").text(200, "text/css; charset=utf-8"),
        ],
    }
}
