//! `GET /openapi.json`: what every route takes and answers, made of the route table and the wire types; and
//! `GET /reference`, the same for people.
//!
//! Knows no dialect: each describes its own routes, and a route that nobody describes fails the test below.

mod access;
mod operation;
mod own;
mod page;

pub(super) use operation::{
    Operation, Part, either, list, map, maybe, number, object, text, truth, whole, words,
};
pub(super) use page::{page, style};

use std::sync::OnceLock;

use axum::http::StatusCode;
use axum::response::Response;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::failure::json as answer;
use super::routes::{RouteFact, facts};
use super::{anthropic, documents, gaia, lemonade, llamacpp, mcp, native, ollama, openai};
use crate::app::VERSION;
use operation::{Answer, Form, Shape};

/// Where the document keeps its schemas.
const SCHEMAS: &str = "#/components/schemas/";

/// `GET /openapi.json`
pub(super) async fn document() -> Response {
    answer(StatusCode::OK, whole_document())
}

/// The document, made once: the table and the types do not change while the program runs.
fn whole_document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| build(&facts(), parts()))
}

/// The description of some dialects' routes, or, where none is named, of all.
///
/// # Errors
/// There is no dialect of such a name: the names that there are.
pub fn description(dialects: &[String]) -> Result<Value, Vec<&'static str>> {
    let names: Vec<&'static str> = parts().iter().map(|part| part.name).collect();
    let known = |asked: &String| names.iter().any(|name| name.eq_ignore_ascii_case(asked));
    if !dialects.iter().all(known) {
        return Err(names);
    }
    let wanted = |part: &Part| {
        dialects.is_empty()
            || dialects
                .iter()
                .any(|asked| part.name.eq_ignore_ascii_case(asked))
    };
    let parts = parts().into_iter().filter(wanted).collect();
    Ok(build(&facts(), parts))
}

fn parts() -> Vec<Part> {
    vec![
        openai::describe(),
        anthropic::describe(),
        ollama::describe(),
        lemonade::describe(),
        llamacpp::describe(),
        documents::describe(),
        gaia::describe(),
        native::describe(),
        mcp::describe(),
        access::describe(),
        own::describe(),
    ]
}

fn build(facts: &[RouteFact], parts: Vec<Part>) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    let mut tags = Vec::new();
    for part in parts {
        let mut writer = Writer::new(&part);
        tags.push(json!({ "name": part.name }));
        for operation in &part.operations {
            let same =
                |fact: &&RouteFact| fact.method == operation.method && fact.path == operation.path;
            // One that is described and not there is the test's to find.
            let Some(fact) = facts.iter().find(same) else {
                continue;
            };
            let path = paths.entry(plain(fact.path)).or_insert_with(|| json!({}));
            path[fact.method.as_str().to_ascii_lowercase()] = writer.operation(operation, fact);
        }
        schemas.extend(writer.schemas());
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "onebit",
            "version": VERSION,
            "description": "A private local-AI appliance that speaks the dialects of OpenAI, Anthropic, Ollama, Lemonade and llama.cpp's server, and its page's own.",
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

/// A path as OpenAPI writes it: a part that may hold slashes has no mark of its own there.
fn plain(path: &str) -> String {
    path.replace("{*", "{")
}

/// The names in a path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .map(|name| name.trim_start_matches('*'))
}

/// Writes the operations of one dialect and gathers their schemas.
struct Writer<'a> {
    part: &'a Part,
    takes: SchemaGenerator,
    gives: SchemaGenerator,
}

impl<'a> Writer<'a> {
    fn new(part: &'a Part) -> Writer<'a> {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Writer {
            part,
            takes: settings.clone().for_deserialize().into_generator(),
            gives: settings.for_serialize().into_generator(),
        }
    }

    fn operation(&mut self, operation: &Operation, fact: &RouteFact) -> Value {
        let mut view = json!({
            "operationId": id(fact),
            "tags": [self.part.name],
            "summary": operation.summary,
            "x-scope": format!("{:?}", fact.scope).to_ascii_lowercase(),
        });
        let in_path = names(fact.path)
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": text() }));
        let in_query = operation.query.iter().map(|query| {
            json!({
                "name": query.name, "in": "query", "required": false,
                "schema": query.schema, "description": query.what,
            })
        });
        let parameters: Vec<Value> = in_path.chain(in_query).collect();
        if !parameters.is_empty() {
            view["parameters"] = parameters.into();
        }
        if let Some(shape) = &operation.body {
            let schema = named(&mut self.takes, self.part, shape);
            view["requestBody"] = json!({
                "required": true, "content": { "application/json": { "schema": schema } },
            });
        }
        view["responses"] = self.responses(operation);
        view
    }

    fn responses(&mut self, operation: &Operation) -> Value {
        let mut responses = Map::new();
        for Answer { status, form } in &operation.answers {
            let response = responses
                .entry(status.to_string())
                .or_insert_with(|| json!({ "description": reason(*status) }));
            match form {
                Form::Nothing => {}
                Form::Json(shape) => {
                    let schema = named(&mut self.gives, self.part, shape);
                    response["content"]["application/json"] = json!({ "schema": schema });
                }
                Form::Text(media) => response["content"][*media] = json!({ "schema": text() }),
                Form::Events(events) => {
                    let events: Map<String, Value> = events
                        .iter()
                        .map(|(name, shape)| {
                            ((*name).to_owned(), named(&mut self.gives, self.part, shape))
                        })
                        .collect();
                    response["content"]["text/event-stream"] = json!({ "x-events": events });
                }
            }
        }
        if operation.fails {
            let error = format!("{SCHEMAS}{}Error", self.part.prefix);
            for (range, what) in [("4XX", "refused; the message says why"), ("5XX", "failed")] {
                responses.insert(
                    range.to_owned(),
                    json!({
                        "description": what,
                        "content": { "application/json": { "schema": { "$ref": error } } },
                    }),
                );
            }
        }
        responses.into()
    }

    /// The schemas that its operations refer to, under their own prefix.
    fn schemas(mut self) -> Map<String, Value> {
        let prefix = self.part.prefix;
        let taken = self.takes.take_definitions(true);
        let given = self.gives.take_definitions(true);
        let mut schemas = Map::new();
        schemas.insert(format!("{prefix}Error"), self.part.error.clone());
        for (name, mut schema) in taken.into_iter().chain(given) {
            rename(&mut schema, prefix);
            schemas.insert(format!("{prefix}{name}"), schema);
        }
        schemas
    }
}

/// The schema of a shape, its references under the dialect's prefix.
fn named(generator: &mut SchemaGenerator, part: &Part, shape: &Shape) -> Value {
    match shape {
        Shape::Written(schema) => schema.clone(),
        Shape::Typed(make) => {
            let mut schema = make(generator).to_value();
            rename(&mut schema, part.prefix);
            schema
        }
    }
}

fn rename(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::String(target) if name == "$ref" => {
                        if let Some(name) = target.strip_prefix(SCHEMAS) {
                            *target = format!("{SCHEMAS}{prefix}{name}");
                        }
                    }
                    value => rename(value, prefix),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, prefix)),
        _ => {}
    }
}

/// A route's name for programs: its method and the words of its path.
fn id(fact: &RouteFact) -> String {
    let words = fact
        .path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let method = fact.method.as_str().to_ascii_lowercase();
    let index = fact.path.ends_with('/').then_some("index");
    std::iter::once(method.as_str())
        .chain(words)
        .chain(index)
        .collect::<Vec<_>>()
        .join("_")
}

fn reason(status: u16) -> &'static str {
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("as it says")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Routes that are in the table and described nowhere, and those that are described and not in the table.
    fn differences(facts: &[RouteFact], parts: &[Part]) -> (Vec<String>, Vec<String>) {
        let there: BTreeSet<String> = facts
            .iter()
            .map(|fact| format!("{} {}", fact.method, fact.path))
            .collect();
        let told: BTreeSet<String> = parts
            .iter()
            .flat_map(|part| &part.operations)
            .map(|operation| format!("{} {}", operation.method, operation.path))
            .collect();
        (
            there.difference(&told).cloned().collect(),
            told.difference(&there).cloned().collect(),
        )
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let none: Vec<String> = Vec::new();
        assert_eq!(differences(&facts(), &parts()), (none.clone(), none));
    }

    #[test]
    fn every_reference_has_its_schema_and_every_operation_its_own_name() {
        let document = whole_document();
        let mut targets = Vec::new();
        references(document, &mut targets);
        assert!(targets.len() > 20, "{}", targets.len());
        for target in targets {
            let name = target.strip_prefix(SCHEMAS).unwrap();
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{target} leads nowhere"
            );
        }
        let mut ids: Vec<&str> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|path| path.as_object().unwrap().values())
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert_eq!(count, facts().len());
    }

    fn references(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(target) if name == "$ref" => into.push(target.clone()),
                        value => references(value, into),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, into)),
            _ => {}
        }
    }

    #[test]
    fn paths_and_their_names_are_written_as_openapi_writes_them() {
        assert_eq!(plain("/v1/models/{*id}"), "/v1/models/{id}");
        assert_eq!(names("/a/{x}/b/{*y}").collect::<Vec<_>>(), ["x", "y"]);
    }
}
