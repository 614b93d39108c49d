//! Lemonade's routes in words, below each of its prefixes.

use axum::http::Method;
use serde_json::{Value, json};

use super::super::openai::{
    chat_operation, embeddings_operation, image_operation, models_operation, realtime_operation,
    speech_operation, transcription_operation,
};
use super::super::openapi::{
    Operation, Part, either, list, map, maybe, number, object, text, truth, whole, words,
};
use super::super::routes::facts;
use super::PREFIXES;

/// The routes of this folder.
pub(in super::super) fn describe() -> Part {
    let mut operations = Vec::new();
    let paths: Vec<&'static str> = facts().into_iter().map(|fact| fact.path).collect();
    for prefix in PREFIXES {
        // The table has every path already, as long as the program lives.
        let at = |rest: &str| {
            let path = format!("{prefix}{rest}");
            paths.iter().copied().find(|known| *known == path)
        };
        for (method, rest, describe) in below() {
            if let Some(path) = at(rest) {
                operations.push(describe(Operation::new(method, path, what(rest))));
            }
        }
        if prefix != "/v1" {
            operations.extend(at("/chat/completions").map(chat_operation));
            operations.extend(at("/embeddings").map(embeddings_operation));
            operations.extend(at("/models").map(models_operation));
            operations.extend(at("/audio/transcriptions").map(transcription_operation));
            operations.extend(at("/audio/speech").map(speech_operation));
            for rest in ["/generations", "/edits", "/variations"] {
                operations.extend(at(&format!("/images{rest}")).map(image_operation));
            }
            operations.extend(at("/realtime").map(realtime_operation));
            for (method, rest, summary) in [
                (Method::GET, "/models/{*id}", "One model"),
                (Method::POST, "/completions", "Goes on with a text"),
                (
                    Method::POST,
                    "/responses",
                    "Answers a conversation, item by item",
                ),
            ] {
                let operation = |path| Operation::new(method.clone(), path, summary);
                operations.extend(at(rest).map(|path| operation(path).writes(any())));
            }
        }
    }
    operations.extend(single());
    operations.push(realtime_operation("/realtime"));
    Part {
        name: "Lemonade",
        prefix: "Lemonade",
        error: object([("error", either([text(), object([("message", text())])]))]),
        operations,
    }
}

fn any() -> Value {
    json!({ "type": "object" })
}

/// An object with any fields, of which these are read.
fn named(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    object(fields)
}

fn success() -> Value {
    object([("status", words(&["success"]))])
}

fn download() -> Value {
    object([
        ("id", text()),
        ("type", text()),
        ("model_name", text()),
        (
            "status",
            words(&["downloading", "paused", "cancelled", "completed", "error"]),
        ),
        ("running", truth()),
        ("bytes_downloaded", whole()),
        ("bytes_total", whole()),
        ("percent", whole()),
        ("complete", truth()),
        ("error?", text()),
    ])
}

fn options_view() -> Value {
    object([
        ("model_name", text()),
        ("recipe", text()),
        ("saved", any()),
        ("effective", any()),
        ("defaults", any()),
        ("resolved_ctx_size", whole()),
    ])
}

type Describe = fn(Operation) -> Operation;

/// What stands below every prefix.
fn below() -> Vec<(Method, &'static str, Describe)> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    vec![
        (GET, "/health", |one| {
            one.writes(object([
                ("status", words(&["ok"])),
                ("version", text()),
                ("model_loaded?", maybe(text())),
                ("all_models_loaded?", list(any())),
                ("max_models?", map(whole())),
                ("websocket_port", whole()),
                ("pinned_models?", map(whole())),
            ]))
        }),
        (GET, "/system-info", |one| one.writes(any())),
        (GET, "/system-stats", |one| {
            one.writes(object([
                ("cpu_percent", maybe(number())),
                ("memory_gb", maybe(number())),
                ("gpu_percent", maybe(number())),
                ("vram_gb", maybe(number())),
                ("npu_percent", maybe(number())),
            ]))
        }),
        (GET, "/stats", |one| one.writes(any())),
        (POST, "/load", |one| {
            one.takes_form(named([
                ("model_name", text()),
                ("pinned?", maybe(truth())),
                ("save_options?", truth()),
                ("ctx_size?", maybe(whole())),
            ]))
            .writes(success())
        }),
        (POST, "/unload", |one| one.writes(success())),
        (POST, "/delete", |one| {
            one.takes_form(named([("model_name", text())]))
                .writes(success())
        }),
        (POST, "/pull", |one| {
            one.takes_form(named([
                ("model_name", text()),
                ("checkpoint?", text()),
                ("recipe?", text()),
                ("stream?", truth()),
                ("subscribe?", truth()),
            ]))
            .writes(either([success(), download()]))
            .streams([("progress", any()), ("complete", any()), ("error", any())])
        }),
        (GET, "/pull/variants", |one| {
            let variant = named([
                ("name", text()),
                ("primary_file", maybe(text())),
                ("sharded", truth()),
                ("size_bytes", whole()),
                ("files", list(text())),
            ]);
            one.reads("checkpoint", text(), "the repository")
                .writes(named([
                    ("checkpoint", text()),
                    ("recipe", text()),
                    ("suggested_name", text()),
                    ("suggested_labels", list(text())),
                    ("mmproj_files", list(text())),
                    ("variants", list(variant)),
                ]))
        }),
        (GET, "/downloads", |one| one.writes(list(download()))),
        (POST, "/downloads/control", |one| {
            one.takes_form(named([
                ("id?", text()),
                ("action", words(&["pause", "cancel", "remove"])),
            ]))
            .writes(any())
        }),
        (POST, "/models/register", |one| {
            one.takes_form(any()).writes(success())
        }),
        (POST, "/models/check-updates", |one| one.writes(success())),
        (POST, "/models/{*id}", |one| {
            one.takes_form(any()).writes(options_view())
        }),
        (Method::DELETE, "/models/{*id}", |one| {
            one.writes(options_view())
        }),
        (POST, "/install", |one| {
            one.takes_form(named([("recipe?", text()), ("backend?", text())]))
                .writes(success())
        }),
        (POST, "/uninstall", |one| {
            one.takes_form(named([("recipe?", text()), ("backend?", text())]))
                .writes(success())
        }),
        (GET, "/params", |one| one.writes(any())),
        (POST, "/params", |one| {
            one.takes_form(any()).writes(success())
        }),
        (POST, "/log-level", |one| {
            one.takes_form(named([("level", text())])).writes(success())
        }),
        (POST, "/routing/validate", |one| {
            one.takes_form(named([
                ("policy", any()),
                ("prompt?", text()),
                ("has_images?", truth()),
                ("has_tools?", truth()),
                ("metadata?", map(text())),
            ]))
            .writes(object([("decision", any()), ("normalized_policy", any())]))
        }),
        (POST, "/tokenize", |one| {
            one.takes_form(named([("model?", text()), ("content?", maybe(text()))]))
                .writes(object([("tokens", list(json!(true)))]))
        }),
        (GET, "/slots", |one| {
            one.reads("model", text(), "one of several")
                .writes(list(any()))
        }),
        (POST, "/slots/{id}", |one| one),
        (POST, "/rerank", |one| one),
        (POST, "/reranking", |one| one),
        (POST, "/reranker", |one| one),
        (GET, "/logs/stream", |one| one.status(101)),
    ]
}

/// What stands in one place only.
fn single() -> Vec<Operation> {
    vec![
        Operation::get("/live", "Tells that the process runs")
            .writes(object([("status", words(&["ok"]))]))
            .never_fails(),
        Operation::get("/logs/stream", what("/logs/stream")).status(101),
        Operation::get("/internal/config", what("/params")).writes(any()),
        Operation::get(
            "/internal/config/defaults",
            "The settings as they are unless set",
        )
        .writes(any()),
        Operation::post("/internal/set", "Changes what can be changed while it runs")
            .takes_form(any())
            .writes(success()),
        Operation::post("/internal/pin", "Keeps a model loaded, or lets it go again")
            .takes_form(named([("model_name", text()), ("pinned", truth())]))
            .writes(success()),
        Operation::get("/internal/aliases", "Names that stand for one model")
            .writes(object([("aliases", map(text()))])),
        Operation::post("/internal/aliases", "Gives a model a second name")
            .takes_form(named([("alias", text()), ("target", text())]))
            .writes(object([
                ("status", words(&["ok"])),
                ("alias", text()),
                ("target", text()),
            ])),
        Operation::delete("/internal/aliases/{alias}", "Takes a second name away")
            .writes(object([("status", words(&["deleted"])), ("alias", text())])),
    ]
}

fn what(rest: &str) -> &'static str {
    match rest {
        "/health" => "That it runs, and which models are loaded",
        "/system-info" => "The machine and which engines it has",
        "/system-stats" => "What the machine does now",
        "/stats" => "What the last answer cost, and all together",
        "/load" => "Loads a model",
        "/unload" => "Takes a model, or all, out of memory",
        "/delete" => "Removes a model",
        "/pull" => "Brings a model in, or keeps a description",
        "/pull/variants" => "The quantisations of a repository",
        "/downloads" => "Pulls that run or have run",
        "/downloads/control" => "Pauses, cancels or forgets a pull",
        "/models/register" => "Keeps a description and fetches nothing",
        "/models/check-updates" => "Whether models have changed where they come from",
        "/models/{*id}" => "A model's options",
        "/install" => "Says how an engine's program comes here",
        "/uninstall" => "Says how an engine's program goes",
        "/params" => "The settings",
        "/log-level" => "Sets how much is logged",
        "/routing/validate" => "Decides by a policy and asks nothing",
        "/tokenize" => "A text's tokens",
        "/slots" => "Places for answers",
        "/slots/{id}" => "Refused by name: prompts are kept by themselves",
        "/rerank" | "/reranking" | "/reranker" => "Refused by name: no engine here ranks",
        "/logs/stream" => "The log, over a WebSocket",
        _ => "Lemonade's",
    }
}
