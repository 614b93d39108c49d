//! What a request holds, field by field, and what is wrong with it as FastAPI writes that: all errors at once, each with its
//! type, place, words and input.

use std::collections::HashMap;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use serde_json::{Map, Value, json};

use super::super::body::RequestError;
use super::Refused;
use crate::app::App;

/// The fields of a request, read one after the other; [`Fields::done`] tells what was wrong with any of them.
pub(in super::super) struct Fields {
    place: &'static str,
    given: Map<String, Value>,
    errors: Vec<Value>,
}

/// What a text must be.
#[derive(Default, Clone, Copy)]
pub(in super::super) struct Text {
    /// Characters at most.
    pub(in super::super) most: Option<usize>,
    /// It may hold letters, digits, `-` and `_` only, and something of them.
    pub(in super::super) name: bool,
}

/// The rule of names, as the original writes it.
const NAME: &str = "^[a-zA-Z0-9_-]+$";

impl Fields {
    fn new(place: &'static str, given: Map<String, Value>) -> Fields {
        Fields {
            place,
            given,
            errors: Vec::new(),
        }
    }

    fn wrong(&mut self, name: &str, kind: &str, why: &str, input: Value, context: Option<Value>) {
        let mut error =
            json!({ "type": kind, "loc": [self.place, name], "msg": why, "input": input });
        if let Some(context) = context {
            error["ctx"] = context;
        }
        self.errors.push(error);
    }

    /// What is there under a name; `null` is nothing.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.given
            .get(name)
            .filter(|value| !value.is_null())
            .cloned()
    }

    fn absent(&mut self, name: &str) {
        match self.given.get(name).cloned() {
            // It is there as null, which no required field may be.
            Some(null) => self.wrong(
                name,
                "string_type",
                "Input should be a valid string",
                null,
                None,
            ),
            None => {
                let input = match self.place {
                    "body" => Value::Object(self.given.clone()),
                    _ => Value::Null,
                };
                self.wrong(name, "missing", "Field required", input, None);
            }
        }
    }

    /// A text that must be there.
    pub(in super::super) fn text(&mut self, name: &str, rule: Text) -> String {
        if self.take(name).is_none() {
            self.absent(name);
            return String::new();
        }
        self.maybe_text(name, rule).unwrap_or_default()
    }

    /// A text that may be there.
    pub(in super::super) fn maybe_text(&mut self, name: &str, rule: Text) -> Option<String> {
        let value = self.take(name)?;
        let Value::String(text) = value else {
            self.wrong(
                name,
                "string_type",
                "Input should be a valid string",
                value,
                None,
            );
            return None;
        };
        let input = || Value::from(text.as_str());
        if let Some(most) = rule.most
            && text.chars().count() > most
        {
            let why = format!("String should have at most {most} characters");
            let context = json!({ "max_length": most });
            self.wrong(name, "string_too_long", &why, input(), Some(context));
            return None;
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if rule.name && (text.is_empty() || !text.bytes().all(fits)) {
            let why = format!("String should match pattern '{NAME}'");
            let context = json!({ "pattern": NAME });
            self.wrong(
                name,
                "string_pattern_mismatch",
                &why,
                input(),
                Some(context),
            );
            return None;
        }
        Some(text)
    }

    /// A list of texts that may be left out, and may not be null.
    pub(in super::super) fn list(&mut self, name: &str) -> Vec<String> {
        if self.given.get(name) == Some(&Value::Null) {
            let null = Value::Null;
            self.wrong(
                name,
                "list_type",
                "Input should be a valid list",
                null,
                None,
            );
        }
        self.texts(name).unwrap_or_default()
    }

    /// A list of texts that may be there.
    pub(in super::super) fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let value = self.take(name)?;
        let Value::Array(items) = value else {
            self.wrong(
                name,
                "list_type",
                "Input should be a valid list",
                value,
                None,
            );
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text),
                other => self.errors.push(json!({
                    "type": "string_type",
                    "loc": [self.place, name, index],
                    "msg": "Input should be a valid string",
                    "input": other,
                })),
            }
        }
        Some(texts)
    }

    /// Texts by their names that may be there.
    pub(in super::super) fn map(&mut self, name: &str) -> Option<Vec<(String, String)>> {
        let value = self.take(name)?;
        let Value::Object(items) = value else {
            self.wrong(
                name,
                "dict_type",
                "Input should be a valid dictionary",
                value,
                None,
            );
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for (key, item) in items {
            match item {
                Value::String(text) => texts.push((key, text)),
                other => self.errors.push(json!({
                    "type": "string_type",
                    "loc": [self.place, name, key],
                    "msg": "Input should be a valid string",
                    "input": other,
                })),
            }
        }
        Some(texts)
    }

    /// Yes or no, in any of the words for it.
    pub(in super::super) fn flag(&mut self, name: &str, otherwise: bool) -> bool {
        match self.given.get(name).cloned() {
            None => otherwise,
            Some(value) => self.truth(name, value).unwrap_or(otherwise),
        }
    }

    /// Yes or no that must be told.
    pub(in super::super) fn must_flag(&mut self, name: &str) -> bool {
        match self.given.get(name).cloned() {
            None => {
                self.absent(name);
                false
            }
            Some(value) => self.truth(name, value).unwrap_or(false),
        }
    }

    fn truth(&mut self, name: &str, value: Value) -> Option<bool> {
        let word = match &value {
            Value::Bool(truth) => return Some(*truth),
            Value::Number(number) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => {
                number.as_f64().unwrap_or_default().to_string()
            }
            Value::String(text) => text.to_ascii_lowercase(),
            _ => {
                self.wrong(
                    name,
                    "bool_type",
                    "Input should be a valid boolean",
                    value,
                    None,
                );
                return None;
            }
        };
        match word.as_str() {
            "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
            "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
            _ => {
                let why = "Input should be a valid boolean, unable to interpret input";
                self.wrong(name, "bool_parsing", why, value, None);
                None
            }
        }
    }

    /// A whole number that may be there.
    pub(in super::super) fn whole(&mut self, name: &str) -> Option<i64> {
        let value = self.take(name)?;
        let (read, why, kind) = match &value {
            Value::Number(number) => (
                number.as_i64().or_else(|| {
                    number
                        .as_f64()
                        .filter(|n| n.fract() == 0.0)
                        .map(|n| n as i64)
                }),
                "Input should be a valid integer, got a number with a fractional part",
                "int_from_float",
            ),
            Value::Bool(truth) => (Some(i64::from(*truth)), "", ""),
            Value::String(text) => (
                text.trim().parse().ok(),
                "Input should be a valid integer, unable to parse string as an integer",
                "int_parsing",
            ),
            _ => (None, "Input should be a valid integer", "int_type"),
        };
        if read.is_none() {
            self.wrong(name, kind, why, value, None);
        }
        read
    }

    /// A whole number above 0 that may be there.
    pub(in super::super) fn positive(&mut self, name: &str) -> Option<i64> {
        let given = self.take(name)?;
        let number = self.whole(name)?;
        if number > 0 {
            return Some(number);
        }
        let (why, context) = ("Input should be greater than 0", json!({ "gt": 0 }));
        self.wrong(name, "greater_than", why, given, Some(context));
        None
    }

    /// Refuses where anything was wrong.
    pub(in super::super) fn done(self) -> Result<(), Refused> {
        match self.errors.as_slice() {
            [] => Ok(()),
            errors => Err(Refused::fields(errors)),
        }
    }
}

/// A number in a path.
pub(super) fn number(name: &str, text: &str) -> Result<i64, Refused> {
    let mut fields = Fields::new("path", Map::from_iter([(name.to_owned(), text.into())]));
    let number = fields.whole(name);
    fields.done()?;
    Ok(number.unwrap_or_default())
}

/// A file that a form must hold.
pub(in super::super) fn no_file(name: &str) -> Refused {
    let mut fields = Fields::new("body", Map::new());
    fields.wrong(name, "missing", "Field required", Value::Null, None);
    Refused::fields(&fields.errors)
}

/// The fields of a JSON body.
pub(in super::super) struct Json(pub(in super::super) Fields);

impl FromRequest<App> for Json {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &App) -> Result<Json, Refused> {
        let bytes_max = app.config().server.body_bytes_max;
        let bytes = to_bytes(request.into_body(), bytes_max)
            .await
            .map_err(|_| RequestError::TooLarge { bytes_max })?;
        read(&bytes).map(|given| Json(Fields::new("body", given)))
    }
}

fn read(bytes: &[u8]) -> Result<Map<String, Value>, Refused> {
    if bytes.is_empty() {
        let error =
            json!({ "type": "missing", "loc": ["body"], "msg": "Field required", "input": null });
        return Err(Refused::fields(&[error]));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(given)) => Ok(given),
        Ok(other) => Err(Refused::fields(&[json!({
            "type": "model_attributes_type",
            "loc": ["body"],
            "msg": "Input should be a valid dictionary or object to extract fields from",
            "input": other,
        })])),
        Err(error) => Err(Refused::fields(&[json!({
            "type": "json_invalid",
            "loc": ["body", place(bytes, &error)],
            "msg": "JSON decode error",
            "input": {},
            "ctx": { "error": error.to_string() },
        })])),
    }
}

/// Where in the text the error is.
fn place(bytes: &[u8], error: &serde_json::Error) -> usize {
    let before = bytes.split_inclusive(|byte| *byte == b'\n');
    let lines: usize = before
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    lines + error.column().saturating_sub(1)
}

/// The fields of an address.
pub(in super::super) struct Query(pub(in super::super) Fields);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query, Refused> {
        let read = axum::extract::Query::<HashMap<String, String>>::try_from_uri(&parts.uri);
        let axum::extract::Query(given) =
            read.map_err(|error| RequestError::Unread(error.body_text()))?;
        let given = given.into_iter().map(|(name, text)| (name, text.into()));
        Ok(Query(Fields::new("query", given.collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(value: Value) -> Fields {
        let Value::Object(given) = value else {
            panic!("an object");
        };
        Fields::new("body", given)
    }

    #[test]
    fn every_error_is_told_at_once_with_its_place() {
        let mut fields = body(json!({
            "long": "abcd", "name": "a b", "list": [1, "x"], "number": 1.5, "size": 0, "flag": "maybe"
        }));
        let name = Text {
            name: true,
            ..Text::default()
        };
        fields.text("gone", Text::default());
        fields.text(
            "long",
            Text {
                most: Some(3),
                ..Text::default()
            },
        );
        fields.maybe_text("name", name);
        fields.texts("list");
        fields.whole("number");
        fields.positive("size");
        fields.flag("flag", true);
        let kinds: Vec<&str> = fields
            .errors
            .iter()
            .filter_map(|error| error["type"].as_str())
            .collect();
        assert_eq!(
            kinds,
            [
                "missing",
                "string_too_long",
                "string_pattern_mismatch",
                "string_type",
                "int_from_float",
                "greater_than",
                "bool_parsing"
            ]
        );
        assert_eq!(fields.errors[0]["loc"], json!(["body", "gone"]));
        assert_eq!(fields.errors[1]["ctx"], json!({ "max_length": 3 }));
        assert_eq!(fields.errors[3]["loc"], json!(["body", "list", 0]));
    }

    #[test]
    fn what_is_absent_or_null_is_nothing_where_it_may_be() {
        let mut fields = body(json!({ "title": null, "stream": "off", "limit": "7" }));
        assert_eq!(fields.maybe_text("title", Text::default()), None);
        assert_eq!(fields.texts("documents"), None);
        assert!(!fields.flag("stream", true));
        assert!(fields.flag("other", true));
        assert_eq!(fields.whole("limit"), Some(7));
        assert!(fields.done().is_ok());
        let mut fields = body(json!({ "message": null }));
        fields.text("message", Text::default());
        assert_eq!(fields.errors[0]["type"], "string_type");
    }

    #[test]
    fn a_body_that_is_no_object_is_told_as_such() {
        assert!(read(b"").is_err() && read(b"[1]").is_err() && read(b"{\"a\"").is_err());
        assert_eq!(read(b"{}").ok(), Some(Map::new()));
        let error = serde_json::from_slice::<Value>(b"{\n \"a\": x}").unwrap_err();
        assert_eq!(place(b"{\n \"a\": x}", &error), 8);
    }
}
