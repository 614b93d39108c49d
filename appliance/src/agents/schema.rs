//! Whether arguments are what a tool's JSON Schema asks for, and small mistakes put right.
//!
//! Checks types, required fields, enumerations, bounds and the fields of objects, which is what tools' schemas use;
//! keywords beyond that are the tool's own business. Small models write `"5"` for 5 and `null` for nothing: what can
//! only be meant one way is taken so.

use serde_json::{Map, Value};

/// Objects inside objects that are followed.
const DEPTH_MAX: usize = 16;

/// Reads a call's arguments and holds them against the schema.
///
/// # Errors
/// What is wrong, in words that a model can mend it by.
pub fn arguments(schema: &Value, text: &str) -> Result<Value, String> {
    let text = text.trim();
    let mut value: Value = match text {
        "" => Value::Object(Map::new()),
        text => serde_json::from_str(text)
            .map_err(|error| format!("the arguments are no JSON: {error}"))?,
    };
    // Some models write the object as a string.
    if let Value::String(inner) = &value
        && let Ok(Value::Object(object)) = serde_json::from_str(inner)
    {
        value = Value::Object(object);
    }
    // Where one string is all that is asked for, a bare string can only be that.
    if !value.is_object()
        && let Some(only) = only_field(schema)
    {
        value = Value::Object(Map::from_iter([(only, value)]));
    }
    if !value.is_object() {
        return Err("the arguments must be a JSON object".to_owned());
    }
    mend(schema, &mut value, 0);
    check(schema, &value, "", 0)?;
    Ok(value)
}

/// The one required field of a schema.
fn only_field(schema: &Value) -> Option<String> {
    match schema["required"].as_array()?.as_slice() {
        [Value::String(only)] => Some(only.clone()),
        _ => None,
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Puts right what can only be meant one way.
fn mend(schema: &Value, value: &mut Value, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    let types = types(schema);
    let only = |wanted: &str| types == [wanted];
    let mended = match value {
        Value::String(text) if only("number") || only("integer") => {
            serde_json::from_str::<Value>(text.trim())
                .ok()
                .filter(Value::is_number)
        }
        Value::String(text) if only("boolean") => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" => Some(Value::Bool(true)),
            "false" | "no" => Some(Value::Bool(false)),
            _ => None,
        },
        Value::Number(number) if only("string") => Some(Value::String(number.to_string())),
        Value::Number(number) if only("integer") => number
            .as_f64()
            .filter(|x| number.is_f64() && x.fract() == 0.0 && x.abs() < 9e15)
            .map(|x| Value::from(x as i64)),
        Value::String(_) if only("array") => Some(Value::Array(vec![value.clone()])),
        _ => None,
    };
    if let Some(mended) = mended {
        *value = mended;
    }
    match value {
        Value::Object(object) => {
            let required: Vec<&str> = schema["required"]
                .as_array()
                .map(|all| all.iter().filter_map(Value::as_str).collect())
                .unwrap_or_default();
            object.retain(|name, value| !value.is_null() || required.contains(&name.as_str()));
            for (name, value) in object {
                mend(&schema["properties"][name], value, depth + 1);
            }
        }
        Value::Array(items) => {
            for item in items {
                mend(&schema["items"], item, depth + 1);
            }
        }
        _ => {}
    }
}

fn check(schema: &Value, value: &Value, at: &str, depth: usize) -> Result<(), String> {
    let named = |at: &str| match at {
        "" => "the arguments".to_owned(),
        at => format!("`{at}`"),
    };
    if depth > DEPTH_MAX {
        return Err(format!(
            "{} has too many objects inside one another",
            named(at)
        ));
    }
    let types = types(schema);
    if !types.is_empty() && !types.iter().any(|wanted| is_of(value, wanted)) {
        return Err(format!("{} must be {}", named(at), types.join(" or ")));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let list: Vec<String> = allowed.iter().map(Value::to_string).collect();
        return Err(format!("{} must be one of {}", named(at), list.join(", ")));
    }
    if let Some(number) = value.as_f64() {
        if schema["minimum"]
            .as_f64()
            .is_some_and(|least| number < least)
        {
            return Err(format!(
                "{} must be at least {}",
                named(at),
                schema["minimum"]
            ));
        }
        if schema["maximum"].as_f64().is_some_and(|most| number > most) {
            return Err(format!(
                "{} must be at most {}",
                named(at),
                schema["maximum"]
            ));
        }
    }
    if let Some(text) = value.as_str()
        && schema["minLength"]
            .as_u64()
            .is_some_and(|least| (text.chars().count() as u64) < least)
    {
        return Err(format!("{} must not be empty", named(at)));
    }
    let below = |name: &str| match at {
        "" => name.to_owned(),
        at => format!("{at}.{name}"),
    };
    if let Some(object) = value.as_object() {
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            if !object.contains_key(name) {
                return Err(format!("{} is missing", named(&below(name))));
            }
        }
        let known = schema["properties"].as_object();
        for (name, value) in object {
            match known.and_then(|known| known.get(name)) {
                Some(schema) => check(schema, value, &below(name), depth + 1)?,
                None if schema["additionalProperties"] == Value::Bool(false) => {
                    let names: Vec<&str> = known
                        .into_iter()
                        .flat_map(|known| known.keys().map(String::as_str))
                        .collect();
                    return Err(format!(
                        "there is no `{}`; there are {}",
                        below(name),
                        names.join(", ")
                    ));
                }
                None => {}
            }
        }
    }
    if let (Some(items), true) = (value.as_array(), schema["items"].is_object()) {
        for (index, item) in items.iter().enumerate() {
            check(
                &schema["items"],
                item,
                &below(&index.to_string()),
                depth + 1,
            )?;
        }
    }
    Ok(())
}

fn is_of(value: &Value, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => true,
    }
}

/// A schema from elsewhere, cut to what is checked here and can be held to while a call is written: a keyword that an
/// engine cannot enforce would refuse the whole request.
pub fn simplified(schema: &Value) -> Value {
    match cut(schema, 0) {
        Value::Object(mut object) => {
            object.insert("type".to_owned(), "object".into());
            if !object.get("properties").is_some_and(Value::is_object) {
                object.insert("properties".to_owned(), Value::Object(Map::new()));
            }
            Value::Object(object)
        }
        _ => serde_json::json!({ "type": "object", "properties": {} }),
    }
}

fn cut(schema: &Value, depth: usize) -> Value {
    const WORDS: &[&str] = &[
        "object", "array", "string", "number", "integer", "boolean", "null",
    ];
    let Value::Object(given) = schema else {
        return Value::Object(Map::new());
    };
    let mut kept = Map::new();
    if depth > DEPTH_MAX {
        return Value::Object(kept);
    }
    for (key, value) in given {
        let value = match key.as_str() {
            "type" => match value {
                Value::String(one) if WORDS.contains(&one.as_str()) => value.clone(),
                Value::Array(all)
                    if all
                        .iter()
                        .all(|one| one.as_str().is_some_and(|one| WORDS.contains(&one))) =>
                {
                    value.clone()
                }
                _ => continue,
            },
            "description" => match value.as_str() {
                Some(text) => {
                    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
                    let line: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
                    Value::String(line)
                }
                None => continue,
            },
            "enum"
                if value
                    .as_array()
                    .is_some_and(|all| !all.is_empty() && all.len() <= 100) =>
            {
                value.clone()
            }
            "minimum" | "maximum" if value.is_number() => value.clone(),
            "minLength" | "maxLength" if value.as_u64().is_some_and(|n| n <= 4096) => value.clone(),
            "required" => {
                let known = |name: &&Value| {
                    name.as_str()
                        .is_some_and(|name| !given["properties"][name].is_null())
                };
                Value::Array(
                    value
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter(known)
                        .cloned()
                        .collect(),
                )
            }
            "properties" => match value {
                Value::Object(fields) => Value::Object(
                    fields
                        .iter()
                        .map(|(name, field)| (name.clone(), cut(field, depth + 1)))
                        .collect(),
                ),
                _ => continue,
            },
            "items" => cut(value, depth + 1),
            "additionalProperties" if value == &Value::Bool(false) => value.clone(),
            _ => continue,
        };
        kept.insert(key.clone(), value);
    }
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "minLength": 1},
                "line": {"type": "integer", "minimum": 1},
                "how": {"enum": ["fast", "slow"]},
                "deep": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
                "list": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["path"],
            "additionalProperties": false,
        })
    }

    #[test]
    fn what_can_only_be_meant_one_way_is_taken_so() {
        for (text, wanted) in [
            (r#"{"path": "a"}"#, json!({"path": "a"})),
            (
                r#"{"path": 5, "line": "7"}"#,
                json!({"path": "5", "line": 7}),
            ),
            (
                r#"{"path": "a", "line": 7.0}"#,
                json!({"path": "a", "line": 7}),
            ),
            (r#"{"path": "a", "how": null}"#, json!({"path": "a"})),
            (r#""a""#, json!({"path": "a"})),
            (r#""{\"path\": \"a\"}""#, json!({"path": "a"})),
            (
                r#"{"path": "a", "list": "b"}"#,
                json!({"path": "a", "list": ["b"]}),
            ),
            (
                r#"{"path": "a", "deep": {"x": "1.5"}}"#,
                json!({"path": "a", "deep": {"x": 1.5}}),
            ),
        ] {
            assert_eq!(arguments(&schema(), text), Ok(wanted), "{text}");
        }
        assert_eq!(arguments(&json!({"type": "object"}), ""), Ok(json!({})));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("{", "no JSON"),
            ("[1]", "`path` must be string"),
            ("{}", "`path` is missing"),
            (r#"{"path": ""}"#, "empty"),
            (r#"{"path": "a", "line": "x"}"#, "`line` must be integer"),
            (r#"{"path": "a", "line": 0}"#, "at least 1"),
            (r#"{"path": "a", "how": "fair"}"#, "one of"),
            (r#"{"path": "a", "what": 1}"#, "no `what`"),
            (r#"{"path": "a", "deep": {}}"#, "`deep.x` is missing"),
            (r#"{"path": "a", "list": [1, {}]}"#, "`list.1`"),
        ] {
            let error = arguments(&schema(), text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_schema_from_elsewhere_keeps_what_can_be_held_to() {
        let given = json!({
            "$schema": "x",
            "type": "object",
            "properties": {
                "a": {"type": "string", "format": "uri", "pattern": "^h", "description": "two\nlines"},
                "b": {"anyOf": [{"type": "string"}], "default": 5},
                "c": {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}},
            },
            "required": ["a", "none"],
        });
        let wanted = json!({
            "type": "object",
            "properties": {
                "a": {"type": "string", "description": "two lines"},
                "b": {},
                "c": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["a"],
        });
        assert_eq!(simplified(&given), wanted);
        assert_eq!(
            simplified(&json!("x")),
            json!({"type": "object", "properties": {}})
        );
        assert_eq!(
            simplified(&json!({"type": ["x"]})),
            json!({"type": "object", "properties": {}})
        );
    }
}
