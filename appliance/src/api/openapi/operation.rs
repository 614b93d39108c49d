//! One route in words: what it takes, what it answers, and the schemas of both.
//!
//! A dialect lists its operations in its own `describe.rs`. Bodies come from the wire types themselves; answers that
//! are written by hand are described by the small functions at the end of this file.

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The routes of one dialect.
pub(in super::super) struct Part {
    /// Its name, for the reader.
    pub(in super::super) name: &'static str,
    /// What stands before the names of its schemas, so that those of two dialects never meet.
    pub(in super::super) prefix: &'static str,
    /// The shape of its errors.
    pub(in super::super) error: Value,
    /// Its routes.
    pub(in super::super) operations: Vec<Operation>,
}

/// Where a schema comes from.
pub(super) enum Shape {
    /// A type of this program.
    Typed(fn(&mut SchemaGenerator) -> Schema),
    /// Written down.
    Written(Value),
}

/// What an answer's body is.
pub(super) enum Form {
    Nothing,
    Json(Shape),
    /// Text of this media type.
    Text(&'static str),
    /// Server-sent events by their names; the empty name is an event without one.
    Events(Vec<(&'static str, Shape)>),
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) form: Form,
}

pub(super) struct Query {
    pub(super) name: &'static str,
    pub(super) schema: Value,
    pub(super) what: &'static str,
}

/// One route.
pub(in super::super) struct Operation {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) body: Option<Shape>,
    pub(super) query: Vec<Query>,
    pub(super) answers: Vec<Answer>,
    pub(super) fails: bool,
}

fn typed<T: JsonSchema>() -> Shape {
    Shape::Typed(|generator| generator.subschema_for::<T>())
}

impl Operation {
    /// A route that takes nothing and can fail.
    pub(in super::super) fn new(
        method: Method,
        path: &'static str,
        summary: &'static str,
    ) -> Operation {
        Operation {
            method,
            path,
            summary,
            body: None,
            query: Vec::new(),
            answers: Vec::new(),
            fails: true,
        }
    }

    pub(in super::super) fn get(path: &'static str, summary: &'static str) -> Operation {
        Operation::new(Method::GET, path, summary)
    }

    pub(in super::super) fn post(path: &'static str, summary: &'static str) -> Operation {
        Operation::new(Method::POST, path, summary)
    }

    pub(in super::super) fn delete(path: &'static str, summary: &'static str) -> Operation {
        Operation::new(Method::DELETE, path, summary)
    }

    /// It takes this body.
    pub(in super::super) fn takes<T: JsonSchema>(mut self) -> Operation {
        self.body = Some(typed::<T>());
        self
    }

    /// It takes a body of this schema.
    pub(in super::super) fn takes_form(mut self, schema: Value) -> Operation {
        self.body = Some(Shape::Written(schema));
        self
    }

    /// It reads this from the address.
    pub(in super::super) fn reads(
        mut self,
        name: &'static str,
        schema: Value,
        what: &'static str,
    ) -> Operation {
        self.query.push(Query { name, schema, what });
        self
    }

    /// It answers 200 with a value of this type.
    pub(in super::super) fn gives<T: JsonSchema>(self) -> Operation {
        self.gives_as::<T>(200)
    }

    /// It answers with a value of this type.
    pub(in super::super) fn gives_as<T: JsonSchema>(self, status: u16) -> Operation {
        self.answers_with(status, Form::Json(typed::<T>()))
    }

    /// It answers 200 with JSON of this schema.
    pub(in super::super) fn writes(self, schema: Value) -> Operation {
        self.answers_with(200, Form::Json(Shape::Written(schema)))
    }

    /// It answers 201 with JSON of this schema.
    pub(in super::super) fn creates(self, schema: Value) -> Operation {
        self.answers_with(201, Form::Json(Shape::Written(schema)))
    }

    /// It answers 202 with JSON of this schema.
    pub(in super::super) fn accepts(self, schema: Value) -> Operation {
        self.answers_with(202, Form::Json(Shape::Written(schema)))
    }

    /// It answers with text of a media type.
    pub(in super::super) fn text(self, status: u16, media: &'static str) -> Operation {
        self.answers_with(status, Form::Text(media))
    }

    /// It answers with a status alone.
    pub(in super::super) fn status(self, status: u16) -> Operation {
        self.answers_with(status, Form::Nothing)
    }

    /// It answers 200 with events, whose data has these schemas.
    pub(in super::super) fn streams(
        mut self,
        events: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Operation {
        let written = |(name, schema)| (name, Shape::Written(schema));
        let events = events.into_iter().map(written).collect();
        self.answers.push(Answer {
            status: 200,
            form: Form::Events(events),
        });
        self
    }

    /// One more of its events has data of this type.
    pub(in super::super) fn event<T: JsonSchema>(mut self, name: &'static str) -> Operation {
        if let Some(Answer {
            form: Form::Events(events),
            ..
        }) = self.answers.last_mut()
        {
            events.push((name, typed::<T>()));
        }
        self
    }

    /// It always works.
    pub(in super::super) fn never_fails(mut self) -> Operation {
        self.fails = false;
        self
    }

    fn answers_with(mut self, status: u16, form: Form) -> Operation {
        self.answers.push(Answer { status, form });
        self
    }
}

/// A text.
pub(in super::super) fn text() -> Value {
    json!({ "type": "string" })
}

/// A whole number.
pub(in super::super) fn whole() -> Value {
    json!({ "type": "integer" })
}

/// Any number.
pub(in super::super) fn number() -> Value {
    json!({ "type": "number" })
}

/// Yes or no.
pub(in super::super) fn truth() -> Value {
    json!({ "type": "boolean" })
}

/// One of these words.
pub(in super::super) fn words(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

/// A list.
pub(in super::super) fn list(of: Value) -> Value {
    json!({ "type": "array", "items": of })
}

/// A value, or null.
pub(in super::super) fn maybe(of: Value) -> Value {
    json!({ "anyOf": [of, { "type": "null" }] })
}

/// One of several shapes.
pub(in super::super) fn either(shapes: impl IntoIterator<Item = Value>) -> Value {
    json!({ "anyOf": shapes.into_iter().collect::<Vec<_>>() })
}

/// An object with these fields; one whose name ends in `?` may be missing.
pub(in super::super) fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, schema) in fields {
        let bare = name.trim_end_matches('?');
        if bare == name {
            required.push(bare);
        }
        properties.insert(bare.to_owned(), schema);
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

/// An object of any fields, whose values have one shape.
pub(in super::super) fn map(of: Value) -> Value {
    json!({ "type": "object", "additionalProperties": of })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_a_question_mark_may_be_missing() {
        let schema = object([("a", text()), ("b?", whole())]);
        assert_eq!(schema["required"], json!(["a"]));
        assert_eq!(schema["properties"]["b"], json!({"type": "integer"}));
    }
}
