//! The description of all routes: as a document, as a page, and as the tables of docs/http-api.md.

use std::collections::BTreeSet;

use onebit::api::facts;

use crate::support::{App, root};

/// A row of the tables of routes, as it is written there.
fn row(method: &str, path: &str, scope: &str) -> String {
    format!("{method} {path} {scope}")
}

#[test]
fn the_tables_of_the_manual_are_the_routes() {
    let text = std::fs::read_to_string(root().join("docs/http-api.md")).expect("the manual");
    let told: BTreeSet<String> = text
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            match cells.as_slice() {
                ["", method, path, scope, what, ""]
                    if path.starts_with("`/") && !what.is_empty() =>
                {
                    Some(row(method, path.trim_matches('`'), scope))
                }
                _ => None,
            }
        })
        .collect();
    let facts = facts();
    let paths: BTreeSet<(String, &str)> = facts
        .iter()
        .map(|fact| (fact.method.to_string(), fact.path))
        .collect();
    // What stands below /v1 is listed once, whatever other prefixes it stands below.
    let listed_elsewhere = |method: &str, path: &str| {
        let rest = ["/v0", "/api/v1", "/api/v0"]
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix));
        rest.is_some_and(|rest| {
            let same = format!("/v1{rest}");
            paths.contains(&(method.to_owned(), same.as_str()))
        })
    };
    let there: BTreeSet<String> = facts
        .iter()
        .filter(|fact| !listed_elsewhere(fact.method.as_str(), fact.path))
        .map(|fact| {
            let scope = format!("{:?}", fact.scope).to_lowercase();
            row(fact.method.as_str(), &fact.path.replace("{*", "{"), &scope)
        })
        .collect();
    let missing: Vec<_> = there.difference(&told).collect();
    let invented: Vec<_> = told.difference(&there).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "docs/http-api.md lacks {missing:#?} and has too many {invented:#?}"
    );
}

#[test]
fn the_document_names_every_route_with_its_scope() {
    let client = App::shared().client();
    let document = client.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    for fact in facts() {
        let path = fact.path.replace("{*", "{");
        let method = fact.method.as_str().to_lowercase();
        let operation = &document["paths"][&path][&method];
        let scope = format!("{:?}", fact.scope).to_lowercase();
        assert_eq!(operation["x-scope"], scope, "{method} {path}");
        assert!(operation["responses"].is_object(), "{method} {path}");
    }
    let body = &document["components"]["schemas"]["OpenAiChatBody"]["properties"];
    assert_eq!(body["stream"]["type"], "boolean");
}

#[test]
fn the_reference_page_loads_nothing_from_elsewhere() {
    let client = App::shared().client();
    let page = client.get("/reference");
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'self'"),
        "{policy}"
    );
    assert!(page.text().contains("/v1/chat/completions"));
    assert_eq!(client.get("/reference.css").status, 200);
}
