//! The library's routes in words, and the schemas of their answers.

use axum::http::Method;
use serde_json::Value;

use super::super::gaia::wrong_field;
use super::super::native::library;
use super::super::openai::error_schema;
use super::super::openapi::{
    Operation, Part, either, list, maybe, number, object, text, truth, whole, words,
};
use super::add;

/// The routes of this folder, and those that share its rows.
pub(in super::super) fn describe() -> Part {
    let collection = "only documents of this collection";
    Part {
        name: "Documents",
        prefix: "Documents",
        // The last two: on the page's own routes, and before a route of its own has been found.
        error: either([
            object([("detail", text()), ("code", maybe(text()))]),
            object([("detail", list(wrong_field()))]),
            error_schema(),
            object([("error", text())]),
        ]),
        operations: vec![
            Operation::get("/api/documents", "Documents, latest first")
                .reads("collection", text(), collection)
                .reads("query", text(), "a text in the file's name")
                .writes(object([
                    ("documents", list(document())),
                    ("total", whole()),
                    ("total_size_bytes", whole()),
                    ("total_chunks", whole()),
                ])),
            Operation::post(
                "/api/documents/upload",
                "Adds a file of a form, up to 20 MiB",
            )
            .writes(document()),
            Operation::post("/api/documents/raw", "Adds a file: the body is its bytes")
                .reads("name", text(), "the file's name")
                .reads("collection", text(), "the collection that takes it")
                .writes(document()),
            Operation::post("/api/documents/note", "Adds a text")
                .takes::<add::NoteBody>()
                .writes(document()),
            Operation::post(
                "/api/documents/upload-path",
                "Adds a file of this machine, watched from then on",
            )
            .takes_form(object([
                ("filepath", text()),
                ("collection?", maybe(text())),
            ]))
            .writes(document()),
            Operation::post(
                "/api/documents/index-folder",
                "Adds the files of a folder, and later ones where asked to",
            )
            .takes_form(object([
                ("folder_path", text()),
                ("recursive?", truth()),
                ("watch?", truth()),
                ("collection?", maybe(text())),
            ]))
            .writes(object([
                ("indexed", whole()),
                ("failed", whole()),
                ("documents", list(document())),
                ("errors", list(text())),
            ])),
            Operation::post("/api/documents/url", "Adds what an address holds")
                .takes::<add::UrlBody>()
                .writes(document()),
            Operation::get(
                "/api/documents/monitor/status",
                "What is watched, and what is being read",
            )
            .writes(object([
                ("running", truth()),
                ("interval_seconds", number()),
                ("reindexing", list(text())),
                (
                    "watched",
                    list(object([
                        ("id", text()),
                        ("path", text()),
                        ("recursive", truth()),
                        ("collection", maybe(text())),
                    ])),
                ),
            ])),
            Operation::delete("/api/documents/monitor/{id}", "Watches a folder no longer")
                .writes(deleted()),
            Operation::get("/api/documents/{id}", "One document").writes(document()),
            Operation::delete(
                "/api/documents/{id}",
                "Deletes a document: rows, passages, vectors, file",
            )
            .writes(deleted()),
            Operation::get(
                "/api/documents/{id}/status",
                "How far a document is, and why it failed",
            )
            .writes(document()),
            Operation::post("/api/documents/{id}/cancel", "Stops reading a document")
                .writes(object([("cancelled", truth()), ("id", text())])),
            Operation::post("/api/documents/{id}/retry", "Reads a document again")
                .writes(document()),
            Operation::get(
                "/api/documents/{id}/content",
                "A document's text, or a part of it",
            )
            .reads("start", whole(), "first Unicode scalar value wanted")
            .reads("end", whole(), "one past the last")
            .writes(object([
                ("id", text()),
                ("filename", text()),
                ("title", maybe(text())),
                ("content", text()),
                ("start", whole()),
                ("end", whole()),
                ("length", whole()),
                ("pages", list(whole())),
                (
                    "headings",
                    list(object([
                        ("start", whole()),
                        ("level", whole()),
                        ("title", text()),
                    ])),
                ),
            ])),
            Operation::get(
                "/api/documents/{id}/chunks",
                "A document's passages in order",
            )
            .reads("from", whole(), "number of the first")
            .reads("limit", whole(), "how many")
            .writes(object([("id", text()), ("chunks", list(passage()))])),
            Operation::get("/api/documents/{id}/chunks/{number}", "One passage").writes(passage()),
            Operation::post("/v1/search", "Finds passages by words and by meaning")
                .takes::<library::SearchBody>()
                .gives::<library::SearchView>(),
            Operation::get("/onebit/collections", "Collections by name")
                .writes(object([("collections", list(collection_schema()))])),
            Operation::post("/onebit/collections", "Makes a collection")
                .takes::<library::NameBody>()
                .creates(collection_schema()),
            Operation::new(
                Method::PATCH,
                "/onebit/collections/{id}",
                "Renames a collection",
            )
            .takes::<library::NameBody>()
            .writes(collection_schema()),
            Operation::delete(
                "/onebit/collections/{id}",
                "Deletes a collection; its documents stay",
            )
            .writes(deleted()),
            Operation::new(
                Method::PUT,
                "/onebit/collections/{id}/documents/{document}",
                "Puts a document into a collection",
            )
            .writes(object([("attached", truth())])),
            Operation::delete(
                "/onebit/collections/{id}/documents/{document}",
                "Takes a document out of a collection",
            )
            .writes(object([("detached", truth())])),
            Operation::get("/onebit/library", "Every document in one file")
                .text(200, "application/zip"),
            Operation::post("/onebit/library", "Brings such a file in").writes(object([
                ("documents", whole()),
                ("failed", whole()),
                ("errors", list(text())),
            ])),
        ],
    }
}

fn deleted() -> Value {
    object([("deleted", truth())])
}

fn document() -> Value {
    object([
        ("id", text()),
        ("filename", text()),
        ("filepath", text()),
        ("file_size", whole()),
        ("chunk_count", whole()),
        ("indexed_at", text()),
        ("last_accessed_at", maybe(text())),
        ("sessions_using", whole()),
        (
            "indexing_status",
            words(&[
                "pending",
                "indexing",
                "complete",
                "failed",
                "cancelled",
                "missing",
            ]),
        ),
        ("progress", number()),
        ("error_kind", maybe(text())),
        ("last_error", maybe(text())),
        ("title", maybe(text())),
        ("pages", maybe(whole())),
        ("source", words(&["upload", "path", "url", "note"])),
        ("sha256", text()),
        ("collections", list(text())),
        ("created_at", text()),
        ("is_active?", truth()),
    ])
}

fn passage() -> Value {
    object([
        ("number", whole()),
        ("start", whole()),
        ("end", whole()),
        ("page", maybe(whole())),
        ("headings", list(text())),
        ("text", text()),
    ])
}

fn collection_schema() -> Value {
    object([
        ("id", text()),
        ("name", text()),
        ("documents", whole()),
        ("created_at", text()),
    ])
}
