//! OpenAI's wire as engines speak it: our request out, our events in. Pure.
//!
//! This is the inner side (we are the client); the dialect we serve lives in `api/`.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::UpstreamError;
use crate::domain::{
    ChatEvent, ChatRequest, Finish, FinishReason, Input, Message, Piece, Shape, TokenLogprob, Tool,
    ToolCall, ToolChoice, Usage,
};
use crate::engines::EngineError;

/// The route and body for a request. `tokens_min` is the shortest answer the engine survives.
pub fn request(request: &ChatRequest, model: &str, tokens_min: usize) -> (&'static str, Value) {
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    let route = match &request.input {
        Input::Messages(messages) => {
            body.insert("messages".into(), messages.iter().map(message).collect());
            offer(request, &mut body);
            "/v1/chat/completions"
        }
        Input::Text { text, .. } => {
            body.insert("prompt".into(), text.as_str().into());
            "/v1/completions"
        }
        Input::Tokens(tokens) => {
            body.insert("prompt".into(), tokens.as_slice().into());
            "/v1/completions"
        }
    };
    let s = &request.sampling;
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(key.into(), value);
        }
    };
    set("temperature", s.temperature.map(Value::from));
    set("top_p", s.top_p.map(Value::from));
    set("top_k", s.top_k.map(Value::from));
    set("min_p", s.min_p.map(Value::from));
    set("repeat_penalty", s.repetition_penalty.map(Value::from));
    // llama-server says -1 for all of the context.
    let window = s.repetition_window.map(|n| match n {
        0 => Value::from(-1),
        n => Value::from(n),
    });
    set("repeat_last_n", window);
    set("presence_penalty", s.presence_penalty.map(Value::from));
    set("frequency_penalty", s.frequency_penalty.map(Value::from));
    set("seed", s.seed.map(Value::from));
    let bias: Vec<Value> = s.logit_bias.iter().map(|(id, b)| json!([id, b])).collect();
    set("logit_bias", (!bias.is_empty()).then(|| bias.into()));
    set(
        "max_tokens",
        request.limits.tokens_max.map(|n| n.max(tokens_min).into()),
    );
    set(
        "stop",
        (!request.limits.stop.is_empty()).then(|| request.limits.stop.clone().into()),
    );
    set("ignore_eos", request.limits.ignore_end.then(|| true.into()));
    if let Some(n) = request.logprobs {
        // Chat counts the alternatives apart; plain completion takes one number.
        if route == "/v1/chat/completions" {
            set("logprobs", Some(true.into()));
            set("top_logprobs", Some(n.into()));
        } else {
            set("logprobs", Some(n.max(1).into()));
        }
    }
    set("stream", Some(true.into()));
    set("stream_options", Some(json!({"include_usage": true})));
    (route, Value::Object(body))
}

fn message(message: &Message) -> Value {
    let mut view = json!({"role": message.role.as_str(), "content": message.content});
    if !message.pictures.is_empty() {
        let picture =
            |address: &String| json!({"type": "image_url", "image_url": {"url": address}});
        let words = json!({"type": "text", "text": message.content});
        let words = (!message.content.is_empty()).then_some(words);
        let pictures = message.pictures.iter().map(picture);
        view["content"] = words.into_iter().chain(pictures).collect();
    }
    if let Some(name) = &message.name {
        view["name"] = name.as_str().into();
    }
    if let Some(reasoning) = &message.reasoning {
        view["reasoning_content"] = reasoning.as_str().into();
    }
    if !message.calls.is_empty() {
        let call = |call: &ToolCall| {
            let function = json!({"name": call.name, "arguments": call.arguments});
            json!({"id": call.id, "type": "function", "function": function})
        };
        view["tool_calls"] = message.calls.iter().map(call).collect();
    }
    if let Some(call) = &message.answers {
        view["tool_call_id"] = call.as_str().into();
    }
    view
}

/// Tools, thinking and the answer's shape. Text that is no JSON was refused where requests enter.
fn offer(request: &ChatRequest, body: &mut Map<String, Value>) {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    if !request.tools.is_empty() {
        let tool = |tool: &Tool| {
            let function = json!({"name": tool.name, "description": tool.description, "parameters": json(&tool.parameters)});
            json!({"type": "function", "function": function})
        };
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
        let choice = match &request.tool_choice {
            ToolChoice::Auto | ToolChoice::Held => "auto".into(),
            ToolChoice::None => "none".into(),
            ToolChoice::Required => "required".into(),
            ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
        };
        body.insert("tool_choice".into(), choice);
    }
    let format = match &request.shape {
        Shape::Json => Some(json!({"type": "json_object"})),
        Shape::Schema(schema) => Some(json!({
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": true, "schema": json(schema)},
        })),
        Shape::Free | Shape::Regex(_) | Shape::Grammar(_) => None,
    };
    if let Some(format) = format {
        body.insert("response_format".into(), format);
    }
    if let Some(thinking) = request.thinking {
        body.insert(
            "chat_template_kwargs".into(),
            json!({"enable_thinking": thinking}),
        );
    }
}

/// Refuses a shape that OpenAI's wire has no word for.
///
/// # Errors
/// [`EngineError::BadShape`] for regular expressions and grammars.
pub fn check_shape(shape: &Shape) -> Result<(), EngineError> {
    match shape {
        Shape::Free | Shape::Json | Shape::Schema(_) => Ok(()),
        Shape::Regex(_) | Shape::Grammar(_) => Err(EngineError::BadShape {
            why: "this model's engine keeps to JSON schemas alone".to_owned(),
        }),
    }
}

/// What an engine measured of one answer, where it tells.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Told {
    pub prefill: Option<Duration>,
    pub decode: Option<Duration>,
}

/// Turns the frames of one answer into events.
#[derive(Debug, Default)]
pub struct Translator {
    usage: Usage,
    told: Told,
    reason: Option<FinishReason>,
    pieces: usize,
    /// Pieces of thoughts, which stand beside those of text.
    thoughts: usize,
    done: bool,
    pieces_max: Option<usize>,
}

impl Translator {
    /// A translator that ends after `pieces_max` pieces although the engine goes on.
    #[must_use]
    pub fn new(pieces_max: Option<usize>) -> Self {
        Self {
            pieces_max,
            ..Self::default()
        }
    }

    /// Takes one event's data; gives nothing when it carries neither text nor calls.
    pub fn frame(&mut self, data: &str) -> Result<Vec<ChatEvent>, UpstreamError> {
        if data == "[DONE]" {
            self.done = true;
            return Ok(Vec::new());
        }
        let frame: Value = serde_json::from_str(data)
            .map_err(|e| UpstreamError::Garbage { why: e.to_string() })?;
        if let Some(error) = error_of(&frame) {
            return Err(error);
        }
        self.count(&frame);
        let Some(choice) = frame["choices"].get(0) else {
            return Ok(Vec::new());
        };
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.reason = Some(match reason {
                "length" => FinishReason::Length,
                "tool_calls" | "function_call" => FinishReason::ToolCalls,
                _ => FinishReason::Stop,
            });
        }
        let text = choice["delta"]["content"]
            .as_str()
            .or(choice["text"].as_str())
            .unwrap_or_default();
        let mut events = Vec::new();
        if let Some(thought) = choice["delta"]["reasoning_content"]
            .as_str()
            .filter(|text| !text.is_empty())
        {
            self.thoughts += 1;
            events.push(ChatEvent::Reasoning(thought.to_owned()));
        }
        calls(&choice["delta"]["tool_calls"], &mut events);
        let logprobs = logprobs(&choice["logprobs"]["content"]);
        if text.is_empty() && logprobs.is_empty() {
            return Ok(events);
        }
        self.pieces += 1;
        if self.pieces_max.is_some_and(|max| self.pieces >= max) {
            self.reason = Some(FinishReason::Length);
            self.done = true;
            self.usage.completion_tokens = self.pieces;
        }
        events.push(ChatEvent::Piece(Piece {
            tokens: 1,
            text: text.to_owned(),
            logprobs,
        }));
        Ok(events)
    }

    /// Whether nothing more will come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Text seen so far, in pieces.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    /// The end of the answer, or what is missing for it to be one. Times are ours where the engine
    /// tells none.
    pub fn finish(
        &self,
        queued: Duration,
        prefill: Duration,
        decode: Duration,
    ) -> Result<ChatEvent, UpstreamError> {
        let Some(reason) = self.reason else {
            return Err(UpstreamError::Broken {
                why: "the answer ended in its middle".into(),
            });
        };
        let mut usage = self.usage;
        if usage.completion_tokens == 0 {
            // Some servers count nothing; one piece is one token with all engines we run.
            usage.completion_tokens = self.pieces + self.thoughts;
        }
        if usage.reasoning_tokens == 0 {
            usage.reasoning_tokens = self.thoughts.min(usage.completion_tokens);
        }
        let timings = crate::domain::Timings {
            queued,
            prefill: self.told.prefill.unwrap_or(prefill),
            decode: self.told.decode.unwrap_or(decode),
        };
        Ok(ChatEvent::Finished(Finish {
            reason,
            stop: None, // this wire does not tell which
            usage,
            timings,
            joules: None,
        }))
    }

    fn count(&mut self, frame: &Value) {
        let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        let usage = &frame["usage"];
        if let Some(n) = number(&usage["prompt_tokens"]) {
            self.usage.prompt_tokens = n;
        }
        if let Some(n) = number(&usage["completion_tokens"]) {
            self.usage.completion_tokens = n;
        }
        if let Some(n) = number(&usage["prompt_tokens_details"]["cached_tokens"]) {
            self.usage.cached_tokens = n;
        }
        if let Some(n) = number(&usage["completion_tokens_details"]["reasoning_tokens"]) {
            self.usage.reasoning_tokens = n;
        }
        let seconds = |value: &Value, scale: f64| {
            value
                .as_f64()
                .filter(|s| s.is_finite() && *s >= 0.0)
                .map(|s| Duration::from_secs_f64((s * scale).min(1e6)))
        };
        // llama-server's own clock.
        let timings = &frame["timings"];
        self.told.prefill = seconds(&timings["prompt_ms"], 1e-3).or(self.told.prefill);
        self.told.decode = seconds(&timings["predicted_ms"], 1e-3).or(self.told.decode);
        if let Some(n) = number(&timings["cache_n"]) {
            self.usage.cached_tokens = n;
        }
        // FastFlowLM's counters stand in the usage block.
        self.told.prefill = seconds(&usage["prefill_duration_ttft"], 1.0).or(self.told.prefill);
        if let (Some(rate), n) = (
            usage["decoding_speed_tps"].as_f64(),
            self.usage.completion_tokens,
        ) && rate > 0.0
        {
            self.told.decode = Some(Duration::from_secs_f64(n.saturating_sub(1) as f64 / rate));
        }
    }
}

/// Pieces of calls: the first of a call names it, all may carry arguments.
fn calls(deltas: &Value, events: &mut Vec<ChatEvent>) {
    for delta in deltas.as_array().into_iter().flatten() {
        let index = delta["index"]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or_default();
        let function = &delta["function"];
        if let (Some(id), Some(name)) = (delta["id"].as_str(), function["name"].as_str()) {
            let (id, name) = (id.to_owned(), name.to_owned());
            events.push(ChatEvent::CallBegins { index, id, name });
        }
        if let Some(json) = function["arguments"]
            .as_str()
            .filter(|json| !json.is_empty())
        {
            let json = json.to_owned();
            events.push(ChatEvent::CallArguments { index, json });
        }
    }
}

/// The error inside a body, whatever its status was: FLM answers 200 with one.
pub fn error_of(body: &Value) -> Option<UpstreamError> {
    let error = body.get("error").filter(|e| !e.is_null())?;
    let message = error["message"]
        .as_str()
        .or(error.as_str())
        .unwrap_or("no reason given")
        .to_owned();
    let number = |key: &str| error[key].as_u64().and_then(|n| usize::try_from(n).ok());
    if let (Some(tokens), Some(context)) = (number("n_prompt_tokens"), number("n_ctx")) {
        return Some(UpstreamError::TooLong { tokens, context });
    }
    if error["code"] == "context_length_exceeded"
        && let Some((tokens, context)) = super::lengths::lengths(&message)
    {
        return Some(UpstreamError::TooLong { tokens, context });
    }
    Some(UpstreamError::Said { message })
}

fn logprobs(content: &Value) -> Vec<TokenLogprob> {
    let id = |t: &Value| {
        t["id"]
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or_default()
    };
    let logprob = |t: &Value| t["logprob"].as_f64().unwrap_or(f64::NEG_INFINITY) as f32;
    let bytes = |t: &Value| -> Vec<u8> {
        match t["bytes"].as_array() {
            Some(bytes) => bytes
                .iter()
                .filter_map(|b| b.as_u64().and_then(|b| u8::try_from(b).ok()))
                .collect(),
            None => t["token"].as_str().unwrap_or_default().as_bytes().to_vec(),
        }
    };
    let one = |t: &Value| TokenLogprob {
        id: id(t),
        bytes: bytes(t),
        logprob: logprob(t),
        top: t["top_logprobs"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|t| (id(t), bytes(t), logprob(t)))
            .collect(),
    };
    content.as_array().into_iter().flatten().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Limits, Message, Role, Sampling};

    fn chat() -> ChatRequest {
        ChatRequest {
            sampling: Sampling {
                temperature: Some(0.5),
                top_k: Some(3),
                seed: Some(7),
                logit_bias: vec![(5, -1.0)],
                ..Sampling::default()
            },
            limits: Limits {
                tokens_max: Some(1),
                stop: vec!["\n".into()],
                ignore_end: true,
            },
            logprobs: Some(2),
            ..ChatRequest::new(
                "m",
                Input::Messages(vec![
                    Message::new(Role::System, "be brief"),
                    Message::new(Role::User, "hi"),
                ]),
            )
        }
    }

    #[test]
    fn pictures_go_as_parts() {
        let mut seen = Message::new(Role::User, "what is it?");
        seen.pictures = vec!["data:image/png;base64,iVBORw0=".into()];
        let parts = &message(&seen)["content"];
        assert_eq!(parts[0], json!({"type": "text", "text": "what is it?"}));
        assert_eq!(
            parts[1]["image_url"]["url"],
            "data:image/png;base64,iVBORw0="
        );
        assert_eq!(message(&Message::new(Role::User, "a"))["content"], "a");
    }

    #[test]
    fn tools_and_shapes_go_in_and_calls_come_out() {
        let mut asked = chat();
        asked.tools.push(Tool {
            name: "f".into(),
            description: None,
            parameters: r#"{"type":"object"}"#.into(),
        });
        asked.tool_choice = ToolChoice::Named("f".into());
        asked.shape = Shape::Schema(r#"{"type":"array"}"#.into());
        let (_, body) = request(&asked, "x", 0);
        assert_eq!(
            body["tools"][0]["function"]["parameters"],
            json!({"type": "object"})
        );
        assert_eq!(body["tool_choice"]["function"]["name"], "f");
        assert_eq!(
            body["response_format"]["json_schema"]["schema"],
            json!({"type": "array"})
        );
        assert!(
            check_shape(&asked.shape).is_ok() && check_shape(&Shape::Regex("a".into())).is_err()
        );

        let mut t = Translator::default();
        let begun = t
            .frame(r#"{"choices":[{"delta":{"reasoning_content":"hm","tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{"}}]}}]}"#)
            .unwrap();
        assert_eq!(
            begun,
            [
                ChatEvent::Reasoning("hm".into()),
                ChatEvent::CallBegins {
                    index: 0,
                    id: "c".into(),
                    name: "f".into()
                },
                ChatEvent::CallArguments {
                    index: 0,
                    json: "{".into()
                },
            ]
        );
        t.frame(r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#)
            .unwrap();
        assert_eq!(t.reason, Some(FinishReason::ToolCalls));
    }

    #[test]
    fn a_request_is_written_whole() {
        let (route, body) = request(&chat(), "x", 0);
        assert_eq!(route, "/v1/chat/completions");
        let wanted = json!({
            "model": "x", "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
            "temperature": 0.5, "top_k": 3, "seed": 7, "logit_bias": [[5, -1.0]], "max_tokens": 1, "stop": ["\n"],
            "ignore_eos": true, "logprobs": true, "top_logprobs": 2, "stream": true, "stream_options": {"include_usage": true},
        });
        assert_eq!(body, wanted);
        assert_eq!(request(&chat(), "x", 2).1["max_tokens"], 2);
        let text = ChatRequest {
            input: Input::Text {
                text: "t".into(),
                parse_special: true,
            },
            ..chat()
        };
        let (route, body) = request(&text, "x", 0);
        assert_eq!(
            (route, &body["prompt"], &body["logprobs"]),
            ("/v1/completions", &json!("t"), &json!(2))
        );
    }

    #[test]
    fn an_answer_is_read() {
        let mut t = Translator::default();
        let piece = |events: Vec<ChatEvent>| match events.as_slice() {
            [ChatEvent::Piece(piece)] => piece.text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            t.frame(r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#)
                .unwrap(),
            []
        );
        assert_eq!(
            piece(
                t.frame(r#"{"choices":[{"delta":{"content":"a"}}]}"#)
                    .unwrap()
            ),
            "a"
        );
        assert_eq!(
            piece(t.frame(r#"{"choices":[{"text":"b"}]}"#).unwrap()),
            "b"
        );
        t.frame(r#"{"choices":[{"delta":{},"finish_reason":"length"}],"timings":{"prompt_ms":10.0,"predicted_ms":20.0,"cache_n":4}}"#).unwrap();
        t.frame(r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#)
            .unwrap();
        t.frame("[DONE]").unwrap();
        assert!(t.is_done());
        let ChatEvent::Finished(f) = t
            .finish(Duration::ZERO, Duration::ZERO, Duration::ZERO)
            .unwrap()
        else {
            panic!()
        };
        assert_eq!(f.reason, FinishReason::Length);
        assert_eq!(
            f.usage,
            Usage {
                prompt_tokens: 5,
                cached_tokens: 4,
                completion_tokens: 2,
                reasoning_tokens: 0,
            }
        );
        assert_eq!(
            (f.timings.prefill, f.timings.decode),
            (Duration::from_millis(10), Duration::from_millis(20))
        );
    }

    #[test]
    fn flm_counts_in_its_usage_block() {
        let mut t = Translator::default();
        t.frame(r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":94,"prefill_speed_tps":53.8,"decoding_speed_tps":93.0,"prefill_duration_ttft":0.52}}"#).unwrap();
        let ChatEvent::Finished(f) = t
            .finish(Duration::ZERO, Duration::ZERO, Duration::ZERO)
            .unwrap()
        else {
            panic!()
        };
        assert_eq!(
            (f.timings.prefill, f.timings.decode),
            (Duration::from_millis(520), Duration::from_secs(1))
        );
    }

    #[test]
    fn an_end_without_a_reason_and_errors_are_failures() {
        let t = Translator::default();
        assert!(matches!(
            t.finish(Duration::ZERO, Duration::ZERO, Duration::ZERO),
            Err(UpstreamError::Broken { .. })
        ));
        let mut t = Translator::default();
        for (data, wanted) in [
            (r#"{"error":{"message":"compute error"}}"#, "compute error"),
            (
                r#"{"error":"basic_string::substr"}"#,
                "basic_string::substr",
            ),
            (
                r#"{"error":{"message":"too long","n_prompt_tokens":9000,"n_ctx":4096}}"#,
                "9000",
            ),
            ("<html>", "expected value"),
        ] {
            let error = t.frame(data).unwrap_err();
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn one_token_is_cut_from_two() {
        let mut t = Translator::new(Some(1));
        t.frame(r#"{"choices":[{"delta":{"content":"a"}}]}"#)
            .unwrap();
        assert!(t.is_done());
        let ChatEvent::Finished(f) = t
            .finish(Duration::ZERO, Duration::ZERO, Duration::ZERO)
            .unwrap()
        else {
            panic!()
        };
        assert_eq!(
            (f.reason, f.usage.completion_tokens),
            (FinishReason::Length, 1)
        );
    }

    #[test]
    fn log_probabilities_are_read() {
        let content = json!([{"id": 3, "token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": [{"id": 4, "token": "b", "logprob": -1.0}]}]);
        assert_eq!(
            logprobs(&content),
            [TokenLogprob {
                id: 3,
                bytes: b"a".to_vec(),
                logprob: -0.5,
                top: vec![(4, b"b".to_vec(), -1.0)]
            }]
        );
    }
}
