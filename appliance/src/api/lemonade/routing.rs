//! Names that a policy stands behind: which model a request gets, and `POST routing/validate`.
//!
//! A request is read for its model's name only where a client has registered such a name; everything else passes through
//! untouched.

use axum::body::{Body as HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::{Lemonade, Refused, bare, find, key, policy};
use crate::app::App;
use crate::domain::policy::{Asking, PolicyDecision};

/// The header that says which rule decided.
const HEADER: &str = "x-lemonade-route";

#[derive(Deserialize)]
pub(in super::super) struct ValidateBody {
    policy: Map<String, Value>,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    has_images: bool,
    #[serde(default)]
    has_tools: bool,
    #[serde(default)]
    metadata: Map<String, Value>,
}

impl Wire for ValidateBody {
    type Dialect = Lemonade;
}

/// Decides as a policy would, and asks nothing of the model that it chooses.
pub(in super::super) async fn validate(
    State(app): State<App>,
    Body(body): Body<ValidateBody>,
) -> Result<Response, Refused> {
    let wrong = |why: String| Refused::plain(StatusCode::BAD_REQUEST, why);
    let mut document = Value::Object(body.policy);
    let invalid = |why: String| wrong(format!("Invalid routing policy: {why}"));
    let rules = policy::read(&document).map_err(invalid)?;
    document["routing"] = policy::normalised(&document["routing"]).map_err(invalid)?;
    let mut metadata = Vec::new();
    for (name, value) in body.metadata {
        let Value::String(text) = value else {
            return Err(wrong(format!("the metadata entry `{name}` must be a text")));
        };
        metadata.push((name, text));
    }
    let asking = Asking {
        text: body.prompt,
        has_tools: body.has_tools,
        has_images: body.has_images,
        metadata,
    };
    let decision = app.decide(&rules, &asking).await;
    let mut view = view(&decision);
    view["version"] = "1".into();
    Ok(answer(
        StatusCode::OK,
        &json!({ "decision": view, "normalized_policy": document }),
    ))
}

fn view(decision: &PolicyDecision) -> Value {
    let trace: Vec<Value> = decision
        .trace
        .iter()
        .map(|tested| {
            let mut view = json!({ "condition": tested.condition, "result": tested.result });
            if let Some(score) = tested.score {
                view["score"] = score.into();
            }
            if let Some(label) = &tested.label {
                view["label"] = label.as_str().into();
            }
            view
        })
        .collect();
    json!({
        "route_to": decision.route_to,
        "matched_rule": decision.matched_rule.clone().unwrap_or_default(),
        "default_used": decision.matched_rule.is_none(),
        "outputs": serde_json::from_str::<Value>(&decision.outputs).unwrap_or_default(),
        "trace": trace,
    })
}

/// Hands a request on to the route that answers it, with the model that its name stands for.
pub(in super::super) async fn through<F>(
    app: App,
    request: Request,
    inner: impl FnOnce(Request, App) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    match app.registrations().await {
        Ok(known) if known.is_empty() => return inner(request, app).await,
        Ok(_) => {}
        Err(error) => return Refused::from(error).into_response(),
    }
    let bytes_max = app.config().server.body_bytes_max;
    let (mut parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, bytes_max).await else {
        let error = RequestError::TooLarge { bytes_max };
        return Failure::<Lemonade>::from(error).into_response();
    };
    let routed = match serde_json::from_slice::<Value>(&bytes) {
        Ok(mut value) => match route(&app, &mut value).await {
            Ok(Some(routed)) => Some((value, routed)),
            Ok(None) => None,
            Err(refused) => return refused.into_response(),
        },
        // The route says what is wrong with it, in its own words.
        Err(_) => None,
    };
    let Some((value, Routed { decision, trace })) = routed else {
        let request = Request::from_parts(parts, HttpBody::from(bytes));
        return inner(request, app).await;
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let request = Request::from_parts(parts, HttpBody::from(value.to_string()));
    let mut response = inner(request, app).await;
    let Some(decision) = decision else {
        return response;
    };
    let rule = decision.matched_rule.as_deref().unwrap_or("default");
    if let Ok(rule) = HeaderValue::from_str(rule) {
        response.headers_mut().insert(HEADER, rule);
    }
    match trace && response.status().is_success() {
        true => traced(response, &view(&decision)),
        false => response,
    }
}

/// A request that goes to another model than it names.
struct Routed {
    /// Where a policy decided.
    decision: Option<PolicyDecision>,
    /// Whether the answer is to say how.
    trace: bool,
}

/// Puts the model that a name stands for in its place; `None` where the name is a model's own or unknown.
async fn route(app: &App, body: &mut Value) -> Result<Option<Routed>, Refused> {
    let Some(name) = body["model"].as_str().map(str::to_owned) else {
        return Ok(None);
    };
    let Ok(id) = key(&name) else { return Ok(None) };
    let registrations = app.registrations().await?;
    let note = registrations.get(&id);
    let Some(note) = note.filter(|note| super::registry::is_collection(note)) else {
        // A described model by its name with the namespace.
        if bare(&name) == name || note.is_none() {
            return Ok(None);
        }
        body["model"] = find(app, &name).await?.id.into();
        return Ok(Some(Routed {
            decision: None,
            trace: false,
        }));
    };
    let trace = body["route_trace"] == true;
    if let Some(object) = body.as_object_mut() {
        object.remove("route_trace");
    }
    if note["recipe"] != "collection.router" {
        // The first member that is here answers for all.
        let members = note["components"].as_array().into_iter().flatten();
        for member in members.filter_map(Value::as_str) {
            if let Ok(model) = find(app, member).await {
                body["model"] = model.id.into();
                return Ok(Some(Routed {
                    decision: None,
                    trace: false,
                }));
            }
        }
        let why = format!("no model of `{name}` is here; pull it first");
        return Err(Refused::plain(StatusCode::NOT_FOUND, why));
    }
    let rules = policy::read(note).map_err(|why| {
        Refused::plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the policy `{name}`: {why}"),
        )
    })?;
    let decision = app.decide(&rules, &asking(body)).await;
    body["model"] = find(app, &decision.route_to).await?.id.into();
    Ok(Some(Routed {
        decision: Some(decision),
        trace,
    }))
}

/// What a request says: its last message of the person, or its prompt.
fn asking(body: &Value) -> Asking {
    let messages = body["messages"].as_array().or(body["input"].as_array());
    let last = messages
        .into_iter()
        .flatten()
        .rfind(|message| message["role"] == "user");
    let parts = |value: &Value| -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Array(parts) => {
                let texts: Vec<&str> = parts
                    .iter()
                    .filter_map(|part| part["text"].as_str().or(part.as_str()))
                    .collect();
                Some(texts.join("\n"))
            }
            _ => None,
        }
    };
    let text = last.and_then(|message| parts(&message["content"]));
    let text = text
        .or_else(|| parts(&body["prompt"]))
        .or_else(|| parts(&body["input"]));
    let image = |part: &Value| {
        matches!(
            part["type"].as_str(),
            Some("image_url" | "image" | "input_image")
        )
    };
    let has_images = messages
        .into_iter()
        .flatten()
        .filter_map(|message| message["content"].as_array())
        .any(|parts| parts.iter().any(image));
    let metadata = body["metadata"].as_object().into_iter().flatten();
    Asking {
        text: text.unwrap_or_default(),
        has_tools: body["tools"]
            .as_array()
            .is_some_and(|tools| !tools.is_empty()),
        has_images,
        metadata: metadata
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
    }
}

/// Adds the decision to an answer: to the object, or to the first event of a stream.
fn traced(response: Response, decision: &Value) -> Response {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let mut field = Some(format!("\"x_lemonade_route\":{decision},"));
    let chunks = body.into_data_stream().map(move |chunk| {
        let chunk = chunk?;
        // Whole objects and whole events are written at once, so the first brace is the object's own.
        let brace = chunk.iter().position(|byte| *byte == b'{');
        Ok::<Bytes, axum::Error>(match (brace, field.is_some()) {
            (Some(at), true) => {
                let field = field.take().unwrap_or_default();
                let (front, rest) = chunk.split_at(at + 1);
                Bytes::from([front, field.as_bytes(), rest].concat())
            }
            _ => chunk,
        })
    });
    Response::from_parts(parts, HttpBody::from_stream(chunks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    #[test]
    fn a_request_says_what_its_person_said_last() {
        let said = asking(&json!({
            "messages": [
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": "x"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]},
            ],
            "tools": [{}], "metadata": {"k": "v", "n": 1},
        }));
        assert_eq!(said.text, "a");
        assert!(said.has_tools && said.has_images);
        assert_eq!(said.metadata, [("k".to_owned(), "v".to_owned())]);
        assert_eq!(asking(&json!({"prompt": "p"})).text, "p");
        assert_eq!(
            asking(&json!({"input": "i", "tools": []})),
            Asking {
                text: "i".into(),
                ..Asking::default()
            }
        );
    }

    #[tokio::test]
    async fn a_trace_goes_into_the_first_object() {
        let stream =
            stream::iter(["data: {\"a\":1}\n\n", "data: {\"b\":2}\n\n"].map(Ok::<_, axum::Error>));
        let response = Response::new(HttpBody::from_stream(stream));
        let traced = traced(response, &json!({"route_to": "m"}));
        let body = to_bytes(traced.into_body(), 1000).await.unwrap();
        assert_eq!(
            body,
            "data: {\"x_lemonade_route\":{\"route_to\":\"m\"},\"a\":1}\n\ndata: {\"b\":2}\n\n"
        );
    }
}
