//! `GET /reference`: the description as one page. No script, one style sheet of our own, nothing from elsewhere.

use std::fmt::Write;

use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::{SCHEMAS, whole_document};

/// Nothing but our own style sheet.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("page.css");

/// `GET /reference`
pub(in super::super) async fn page() -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, html(whole_document())).into_response()
}

/// `GET /reference.css`
pub(in super::super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

/// Text that markup cannot break out of.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

fn html(document: &Value) -> String {
    let mut out = String::with_capacity(64 << 10);
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>onebit: routes</title>\
         <link rel=\"stylesheet\" href=\"/reference.css\"><main><h1>onebit {}</h1><p>{} \
         <a href=\"/openapi.json\">openapi.json</a> says the same to programs.</p>",
        string(&document["info"]["version"]),
        string(&document["info"]["description"]),
    );
    let tags: Vec<&str> = array(&document["tags"])
        .filter_map(|tag| tag["name"].as_str())
        .collect();
    out.push_str("<nav>");
    for tag in &tags {
        let _ = write!(out, "<a href=\"#{tag}\">{tag}</a> ");
    }
    out.push_str("<a href=\"#schemas\">Schemas</a></nav>");
    for tag in tags {
        let _ = write!(out, "<h2 id=\"{tag}\">{tag}</h2>");
        for (path, methods) in fields(&document["paths"]) {
            for (method, operation) in fields(methods) {
                if array(&operation["tags"]).any(|name| name == tag) {
                    route(&mut out, method, path, operation);
                }
            }
        }
    }
    out.push_str("<h2 id=\"schemas\">Schemas</h2>");
    for (name, schema) in fields(&document["components"]["schemas"]) {
        let _ = write!(out, "<section id=\"{name}\"><h3>{name}</h3>");
        if let Some(what) = schema["description"].as_str() {
            let _ = write!(out, "<p>{}</p>", escaped(what));
        }
        table(&mut out, schema);
        out.push_str("</section>");
    }
    out.push_str("</main></html>");
    out
}

fn route(out: &mut String, method: &str, path: &str, operation: &Value) {
    let _ = write!(
        out,
        "<section id=\"{}\"><h3><b>{}</b> <code>{}</code></h3><p>{} <small>{}</small></p>",
        string(&operation["operationId"]),
        method.to_ascii_uppercase(),
        escaped(path),
        string(&operation["summary"]),
        string(&operation["x-scope"]),
    );
    for parameter in array(&operation["parameters"]) {
        let _ = write!(
            out,
            "<p><code>{}</code> in the {}: {}. {}</p>",
            string(&parameter["name"]),
            string(&parameter["in"]),
            kind(&parameter["schema"]),
            string(&parameter["description"]),
        );
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if !body.is_null() {
        let _ = write!(out, "<p>Takes {}</p>", kind(body));
    }
    out.push_str("<ul>");
    for (status, response) in fields(&operation["responses"]) {
        let _ = write!(
            out,
            "<li><b>{status}</b> {}",
            string(&response["description"])
        );
        for (media, content) in fields(&response["content"]) {
            let _ = write!(out, " <code>{}</code>", escaped(media));
            if media == "application/json" {
                let _ = write!(out, " {}", kind(&content["schema"]));
                table(out, &content["schema"]);
            }
            for (name, schema) in fields(&content["x-events"]) {
                let name = if name.is_empty() { "(unnamed)" } else { name };
                let _ = write!(out, "<br><code>{}</code> {}", escaped(name), kind(schema));
            }
        }
        out.push_str("</li>");
    }
    out.push_str("</ul></section>");
}

/// The fields of an object.
fn table(out: &mut String, schema: &Value) {
    if fields(&schema["properties"]).next().is_none() {
        if schema["$ref"].is_null() && schema["properties"].is_null() {
            let _ = write!(out, "<p>{}</p>", kind(schema));
        }
        return;
    }
    out.push_str("<table>");
    for (name, field) in fields(&schema["properties"]) {
        let needed = array(&schema["required"]).any(|required| required == name);
        let _ = write!(
            out,
            "<tr><td><code>{}</code>{}<td>{}<td>{}",
            escaped(name),
            if needed { " <small>needed</small>" } else { "" },
            kind(field),
            string(&field["description"]),
        );
    }
    out.push_str("</table>");
}

/// A schema in a few words, markup and all.
fn kind(schema: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        let name = escaped(target.strip_prefix(SCHEMAS).unwrap_or(target));
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    if !schema["const"].is_null() {
        return escaped(&schema["const"].to_string());
    }
    if schema["enum"].is_array() {
        let words = array(&schema["enum"]).map(|word| escaped(&word.to_string()));
        return words.collect::<Vec<_>>().join(" or ");
    }
    for several in ["anyOf", "oneOf", "allOf"] {
        if schema[several].is_array() {
            let kinds = array(&schema[several]).map(kind);
            return kinds.collect::<Vec<_>>().join(" or ");
        }
    }
    if schema["type"] == "array" {
        return format!("list of {}", kind(&schema["items"]));
    }
    match &schema["type"] {
        Value::String(one) => escaped(one),
        Value::Array(several) => several
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "anything".to_owned(),
    }
}

fn string(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value
        .as_object()
        .into_iter()
        .flat_map(|map: &Map<String, Value>| map.iter())
        .map(|(name, value)| (name.as_str(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use serde_json::json;

    #[tokio::test]
    async fn the_page_names_every_route_and_asks_nobody() {
        let response = page().await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers()[header::CONTENT_SECURITY_POLICY] == CONTENT_SECURITY_POLICY);
        let html = html(whole_document());
        for fact in super::super::facts() {
            let path = escaped(&super::super::plain(fact.path));
            assert!(html.contains(&format!("<code>{path}</code>")), "{path}");
        }
        for outside in ["<script", "http://", "https://", " style=", "//cdn"] {
            assert!(!html.contains(outside), "{outside}");
        }
    }

    #[test]
    fn kinds_are_words() {
        for (schema, text) in [
            (json!({"type": ["string", "null"]}), "string or null"),
            (
                json!({"type": "array", "items": {"type": "integer"}}),
                "list of integer",
            ),
            (
                json!({"enum": ["a", "<b>"]}),
                "&quot;a&quot; or &quot;&lt;b&gt;&quot;",
            ),
            (json!(true), "anything"),
        ] {
            assert_eq!(kind(&schema), text);
        }
    }
}
