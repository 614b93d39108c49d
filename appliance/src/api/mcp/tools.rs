//! What our MCP server offers: chat, search, transcribe, speak and models, and Lemonade's five names for the same.

use std::sync::Arc;

use futures_util::StreamExt;
use rmcp::model::{ContentBlock, Tool};
use serde_json::{Value, json};

use super::super::base64;
use crate::app::documents::{Mode, SearchRequest};
use crate::app::{App, ListenAsk, SpeakAsk};
use crate::domain::{
    ChatEvent, ChatRequest, Input, Limits, Message, ModelFormat, Overflow, Peer, Role, Scope,
    Shelf, Sound,
};

/// Passages of one search at most.
const PASSAGES_MAX: u64 = 20;

/// Longest recording, as base64 decodes to; a message is bounded anyway.
const RECORDING_BYTES_MAX: usize = 24 << 20;

/// Seconds of speech that one call makes.
const SPEECH_SECONDS_MAX: f64 = 300.0;

fn tool(name: &'static str, what: &'static str, properties: Value, required: &[&str]) -> Tool {
    let schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let schema = schema.as_object().cloned().unwrap_or_default();
    Tool::new(name, what, Arc::new(schema))
}

fn chat_fields() -> Value {
    json!({
        "prompt": {"type": "string", "description": "what to say to the model"},
        "system": {"type": "string", "description": "instructions that go before it"},
        "model": {"type": "string", "description": "a name of list_models; the default one when left out"},
        "max_tokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "messages": {
            "type": "array",
            "description": "a whole conversation, in place of the prompt",
            "items": {
                "type": "object",
                "properties": {"role": {"type": "string", "enum": ["system", "user", "assistant"]}, "content": {"type": "string"}},
                "required": ["role", "content"],
            },
        },
    })
}

fn hearing_fields() -> Value {
    json!({
        "audio": {"type": "string", "description": "a recording (wav, mp3, m4a, ogg, webm, flac) as base64"},
        "language": {"type": "string", "description": "such as en; found out when left out"},
        "model": {"type": "string"},
    })
}

/// The tools that a peer may call.
pub(super) fn offered(peer: &Peer) -> Vec<Tool> {
    let nothing = || json!({});
    let mut all = vec![
        tool(
            "chat",
            "Asks a model of this appliance.",
            chat_fields(),
            &[],
        ),
        tool(
            "list_models",
            "Lists the models of this appliance.",
            nothing(),
            &[],
        ),
        tool(
            "transcribe",
            "Writes down what is said in a recording.",
            hearing_fields(),
            &["audio"],
        ),
        tool(
            "speak",
            "Says a text; gives a WAV recording.",
            json!({
                "text": {"type": "string", "minLength": 1},
                "voice": {"type": "string"},
                "speed": {"type": "number", "minimum": 0.25, "maximum": 4},
                "model": {"type": "string"},
            }),
            &["text"],
        ),
        tool(
            "lemonade_list_models",
            "Lists the models, as list_models.",
            nothing(),
            &[],
        ),
        tool(
            "lemonade_chat",
            "Asks a model, as chat.",
            chat_fields(),
            &[],
        ),
        tool(
            "lemonade_transcribe_audio",
            "Writes down a recording, as transcribe.",
            hearing_fields(),
            &["audio"],
        ),
        tool(
            "lemonade_generate_image",
            "Makes a picture; this appliance has no model that does, and says so.",
            json!({"prompt": {"type": "string"}, "model": {"type": "string"}, "size": {"type": "string"}}),
            &["prompt"],
        ),
        tool(
            "lemonade_omni",
            "Asks a model, as chat; it answers in words.",
            chat_fields(),
            &[],
        ),
    ];
    if peer.person.is_some() && peer.holds(Scope::Chat) {
        all.insert(
            1,
            tool(
                "search_documents",
                "Finds passages in the person's documents, by words and by meaning.",
                json!({
                    "query": {"type": "string", "minLength": 1},
                    "limit": {"type": "integer", "minimum": 1, "maximum": PASSAGES_MAX},
                }),
                &["query"],
            ),
        );
    }
    all
}

/// Calls one of them; an error is a sentence for the model.
pub(super) async fn call(
    app: &App,
    peer: &Peer,
    name: &str,
    given: &Value,
) -> Result<Vec<ContentBlock>, String> {
    let text = |key: &str| given[key].as_str().unwrap_or_default().to_owned();
    match name {
        "chat" | "lemonade_chat" | "lemonade_omni" => chat(app, given).await,
        "list_models" | "lemonade_list_models" => models(app).await,
        "search_documents" => search(app, peer, text("query"), given["limit"].as_u64()).await,
        "transcribe" | "lemonade_transcribe_audio" => transcribe(app, given).await,
        "speak" => speak(app, given).await,
        "lemonade_generate_image" => {
            Err("this appliance has no model that makes pictures; ask for words instead".to_owned())
        }
        name => Err(format!("there is no tool `{name}`")),
    }
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn chat(app: &App, given: &Value) -> Result<Vec<ContentBlock>, String> {
    let mut messages = Vec::new();
    if let Some(system) = given["system"].as_str().filter(|text| !text.is_empty()) {
        messages.push(Message::new(Role::System, system));
    }
    for one in given["messages"].as_array().into_iter().flatten() {
        let role = one["role"]
            .as_str()
            .and_then(Role::parse)
            .filter(|role| *role != Role::Tool);
        let role = role.ok_or("each message needs a `role` of system, user or assistant")?;
        let content = one["content"]
            .as_str()
            .ok_or("each message needs a `content` of text")?;
        messages.push(Message::new(role, content));
    }
    if let Some(prompt) = given["prompt"].as_str().filter(|text| !text.is_empty()) {
        messages.push(Message::new(Role::User, prompt));
    }
    if messages.last().is_none_or(|last| last.role != Role::User) {
        return Err("give a `prompt`, or `messages` that end with one of the user".to_owned());
    }
    let tokens = given["max_tokens"]
        .as_u64()
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| *n > 0);
    let mut request = ChatRequest {
        limits: Limits {
            tokens_max: tokens,
            ..Limits::default()
        },
        overflow: Overflow::LeaveOut,
        ..ChatRequest::new(
            given["model"].as_str().unwrap_or_default(),
            Input::Messages(messages),
        )
    };
    request.sampling.temperature = given["temperature"]
        .as_f64()
        .map(|t| t.clamp(0.0, 2.0) as f32);
    let mut answer = app.chat(request).await.map_err(words)?;
    let mut said = String::new();
    while let Some(event) = answer.next().await {
        if let ChatEvent::Piece(piece) = event.map_err(words)? {
            said.push_str(&piece.text);
        }
    }
    Ok(vec![ContentBlock::text(said)])
}

async fn models(app: &App) -> Result<Vec<ContentBlock>, String> {
    let all = app.models().await.map_err(words)?;
    let one = |status: &crate::app::ModelStatus| {
        let task = match status.model.format {
            ModelFormat::Whisper => "speech to text",
            ModelFormat::Kokoro => "text to speech",
            ModelFormat::Diffusion => "pictures",
            ModelFormat::Gguf | ModelFormat::Flm | ModelFormat::Remote => "text",
        };
        json!({ "id": status.model.id, "name": status.model.name, "task": task })
    };
    let all: Vec<Value> = all.iter().map(one).collect();
    Ok(vec![ContentBlock::text(Value::from(all).to_string())])
}

async fn search(
    app: &App,
    peer: &Peer,
    query: String,
    limit: Option<u64>,
) -> Result<Vec<ContentBlock>, String> {
    let person = peer.person.clone().ok_or("sign in first")?;
    let request = SearchRequest {
        shelf: Shelf {
            person,
            only: Vec::new(),
        },
        query,
        wanted: limit.unwrap_or(5).clamp(1, PASSAGES_MAX) as usize,
        mode: Mode::Hybrid,
    };
    let found = app.search(request).await.map_err(words)?.passages;
    if found.is_empty() {
        return Ok(vec![ContentBlock::text("nothing was found")]);
    }
    let passage = |one: &crate::domain::Citation| {
        let page = one
            .page
            .map(|page| format!(", page {page}"))
            .unwrap_or_default();
        ContentBlock::text(format!(
            "[{}] {}{page} (score {:.2})\n{}",
            one.number, one.name, one.score, one.text
        ))
    };
    Ok(found.iter().map(passage).collect())
}

async fn transcribe(app: &App, given: &Value) -> Result<Vec<ContentBlock>, String> {
    let audio = given["audio"].as_str().unwrap_or_default();
    // `data:audio/wav;base64,...` as well
    let audio = audio.rsplit_once(',').map_or(audio, |(_, data)| data);
    let bytes = base64::decode(audio).ok_or("`audio` is no base64")?;
    if bytes.is_empty() || bytes.len() > RECORDING_BYTES_MAX {
        return Err(format!(
            "`audio` must hold 1 to {RECORDING_BYTES_MAX} bytes"
        ));
    }
    let mut recording = app.recording().map_err(words)?;
    recording.write(&bytes).map_err(words)?;
    let ask = ListenAsk {
        language: given["language"]
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
        ..ListenAsk::default()
    };
    let name = given["model"].as_str().unwrap_or_default();
    let mut hearing = app.listen(name, recording, ask).await.map_err(words)?;
    let mut parts = Vec::new();
    while let Some(heard) = hearing.parts.next().await {
        parts.push(heard.map_err(words)?.transcript.text());
    }
    Ok(vec![ContentBlock::text(parts.join(" ").trim().to_owned())])
}

async fn speak(app: &App, given: &Value) -> Result<Vec<ContentBlock>, String> {
    let text = given["text"].as_str().unwrap_or_default().trim().to_owned();
    if text.is_empty() || text.len() > crate::app::TEXT_BYTES_MAX {
        return Err(format!(
            "`text` must hold 1 to {} bytes",
            crate::app::TEXT_BYTES_MAX
        ));
    }
    let speed = given["speed"].as_f64().unwrap_or(1.0);
    if !(0.25..=4.0).contains(&speed) {
        return Err("`speed` must be 0.25 to 4".to_owned());
    }
    let ask = SpeakAsk {
        text,
        voice: given["voice"]
            .as_str()
            .filter(|voice| !voice.is_empty())
            .map(str::to_owned),
        speed: speed as f32,
        in_clauses: false,
    };
    let mut speaking = app
        .speak(given["model"].as_str().unwrap_or_default(), ask)
        .await
        .map_err(words)?;
    let mut sound = Sound {
        samples: Vec::new(),
        rate_hz: speaking.rate_hz,
    };
    while let Some(spoken) = speaking.parts.next().await {
        sound.samples.extend(spoken.map_err(words)?.sound.samples);
        if sound.seconds() > SPEECH_SECONDS_MAX {
            return Err(format!(
                "the text takes longer than {SPEECH_SECONDS_MAX} s to say; cut it in parts"
            ));
        }
    }
    Ok(vec![ContentBlock::audio(
        base64::encode(&sound.wav()),
        "audio/wav",
    )])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_for_those_who_signed_in() {
        let names = |peer: &Peer| {
            offered(peer)
                .iter()
                .map(|tool| tool.name.to_string())
                .collect::<Vec<_>>()
        };
        let owner = names(&Peer::loopback());
        for name in [
            "chat",
            "search_documents",
            "transcribe",
            "speak",
            "list_models",
            "lemonade_chat",
            "lemonade_omni",
        ] {
            assert!(owner.iter().any(|one| one == name), "{name}");
        }
        let nobody = Peer {
            person: None,
            ..Peer::loopback()
        };
        assert!(!names(&nobody).iter().any(|one| one == "search_documents"));
    }
}
