//! What a session is set to, in OpenAI's nested form, the earlier flat one, and Lemonade's.

use serde_json::{Value, json};

use crate::app::{UtteranceSettings, language_name};
use crate::domain::{Tool, ToolChoice};

/// What a client may set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// Nothing is answered: what is said is written down.
    pub(super) transcript_only: bool,
    /// The model that answers.
    pub(super) model: String,
    /// The model that listens.
    pub(super) listener: String,
    pub(super) language: Option<String>,
    pub(super) prompt: Option<String>,
    /// What is written down while somebody speaks is told as a whole each time; else only what is new of it.
    pub(super) whole_deltas: bool,
    /// Samples in a second of what comes in.
    pub(super) rate_hz: u32,
    /// `None`: the client says when a turn ends.
    pub(super) turns: Option<UtteranceSettings>,
    pub(super) answers_turns: bool,
    pub(super) interrupts: bool,
    pub(super) speaks: bool,
    pub(super) voice: Option<String>,
    pub(super) speed: f32,
    pub(super) instructions: String,
    pub(super) tools: Vec<Tool>,
    pub(super) tool_choice: ToolChoice,
    /// Documents to answer from, as in the chat routes. Not OpenAI's own.
    pub(super) collections: Option<Vec<String>>,
    pub(super) temperature: Option<f32>,
    pub(super) tokens_max: Option<usize>,
}

impl Settings {
    /// Speech in, speech out.
    pub(super) fn conversation(model: &str) -> Settings {
        // The hosted service's own model means whichever answers here.
        let hosted = [
            "gpt-realtime",
            "gpt-4o-realtime",
            "gpt-4o-mini-realtime",
            "gpt-audio",
        ];
        let hosted = hosted.iter().any(|name| model.starts_with(name));
        Settings {
            transcript_only: false,
            model: if hosted {
                String::new()
            } else {
                model.to_owned()
            },
            listener: String::new(),
            language: None,
            prompt: None,
            whole_deltas: false,
            rate_hz: 24_000,
            turns: Some(UtteranceSettings::default()),
            answers_turns: true,
            interrupts: true,
            speaks: true,
            voice: None,
            speed: 1.0,
            instructions: String::new(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            collections: None,
            temperature: None,
            tokens_max: None,
        }
    }

    /// OpenAI's transcript.
    pub(super) fn transcription() -> Settings {
        Settings {
            transcript_only: true,
            ..Settings::conversation("")
        }
    }

    /// Lemonade's, with its own times.
    pub(super) fn lemonade(model: &str) -> Settings {
        Settings {
            listener: model.to_owned(),
            whole_deltas: true,
            rate_hz: 16_000,
            turns: Some(UtteranceSettings {
                silence_ms: 800,
                prefix_ms: 250,
                ..UtteranceSettings::default()
            }),
            ..Settings::transcription()
        }
    }

    /// Takes what an event says and leaves the rest as it was.
    ///
    /// # Errors
    /// A value that it cannot have, with the field's name.
    pub(super) fn update(&mut self, session: &Value) -> Result<(), String> {
        let mut new = self.clone();
        if session["type"] == "transcription" {
            new.transcript_only = true;
        }
        let (input, output) = (&session["audio"]["input"], &session["audio"]["output"]);
        if let Some(model) = text(&session["model"]) {
            if new.transcript_only {
                new.listener = model;
            } else {
                new.model = Settings::conversation(&model).model;
            }
        }
        if let Some(format) = first(&[&input["format"], &session["input_audio_format"]]) {
            new.rate_hz = rate(format)?;
        }
        if let Some(format) = first(&[&output["format"], &session["output_audio_format"]])
            && rate(format)? != 24_000
        {
            return Err("`output.format` must be audio/pcm at 24000".to_owned());
        }
        if let Some(hears) = first(&[
            &input["transcription"],
            &session["input_audio_transcription"],
        ]) {
            if let Some(model) = text(&hears["model"]) {
                new.listener = model;
            }
            new.prompt = text(&hears["prompt"]).or(new.prompt);
            if let Some(language) = text(&hears["language"]) {
                let code = language
                    .split(['-', '_'])
                    .next()
                    .unwrap_or_default()
                    .to_ascii_lowercase();
                if language_name(&code).is_none() {
                    return Err(format!(
                        "`transcription.language` is `{language}`; it is a language's code, such as `en`"
                    ));
                }
                new.language = Some(code);
            }
        }
        let detection = [input.get("turn_detection"), session.get("turn_detection")];
        if let Some(detection) = detection.into_iter().flatten().next() {
            new.detect(detection)?;
        }
        let modalities = first(&[&session["output_modalities"], &session["modalities"]]);
        if let Some(modalities) = modalities.and_then(Value::as_array) {
            new.speaks = modalities.iter().any(|word| word == "audio");
        }
        if let Some(voice) = first(&[&output["voice"], &session["voice"]]) {
            new.voice = text(voice).or_else(|| text(&voice["id"]));
        }
        if let Some(speed) = first(&[&output["speed"], &session["speed"]]).and_then(Value::as_f64) {
            if !(0.25..=4.0).contains(&speed) {
                return Err("`speed` must be 0.25 to 4".to_owned());
            }
            new.speed = speed as f32;
        }
        if let Some(instructions) = session["instructions"].as_str() {
            new.instructions = instructions.to_owned();
        }
        if let Some(temperature) = session["temperature"].as_f64() {
            new.temperature = Some(temperature as f32);
        }
        let limit = first(&[
            &session["max_output_tokens"],
            &session["max_response_output_tokens"],
        ]);
        if let Some(limit) = limit {
            new.tokens_max = limit.as_u64().and_then(|n| usize::try_from(n).ok());
        }
        if let Some(collections) = session.get("collections") {
            let read = serde_json::from_value(collections.clone());
            new.collections = read.map_err(|_| {
                "`collections` must be a list of collections' or documents' identifiers".to_owned()
            })?;
        }
        if let Some(tools) = session["tools"].as_array() {
            new.tools = tools.iter().map(tool).collect::<Result<_, _>>()?;
        }
        match &session["tool_choice"] {
            Value::Null => {}
            Value::String(word) => {
                new.tool_choice = match word.as_str() {
                    "auto" => ToolChoice::Auto,
                    "none" => ToolChoice::None,
                    "required" => ToolChoice::Required,
                    other => {
                        return Err(format!(
                            "`tool_choice` is `{other}`; it can be auto, none, required or a function"
                        ));
                    }
                }
            }
            named => new.tool_choice = ToolChoice::Named(text(&named["name"]).unwrap_or_default()),
        }
        *self = new;
        Ok(())
    }

    fn detect(&mut self, detection: &Value) -> Result<(), String> {
        if detection.is_null() {
            self.turns = None;
            return Ok(());
        }
        let mut turns = self.turns.unwrap_or_default();
        if let Some(threshold) = detection["threshold"].as_f64() {
            if !(0.0..=1.0).contains(&threshold) {
                return Err("`turn_detection.threshold` must be 0 to 1".to_owned());
            }
            // Lemonade's is a loudness, of which 0.01 is the usual one; ours is how likely it is speech.
            turns.threshold = if threshold < 0.1 {
                UtteranceSettings::default().threshold
            } else {
                threshold as f32
            };
        }
        let ms = |name: &str| {
            detection[name]
                .as_u64()
                .map(|ms| u32::try_from(ms).unwrap_or(u32::MAX).min(10_000))
        };
        turns.silence_ms = ms("silence_duration_ms")
            .unwrap_or(turns.silence_ms)
            .max(100);
        turns.prefix_ms = ms("prefix_padding_ms").unwrap_or(turns.prefix_ms);
        self.answers_turns = detection["create_response"]
            .as_bool()
            .unwrap_or(self.answers_turns);
        self.interrupts = detection["interrupt_response"]
            .as_bool()
            .unwrap_or(self.interrupts);
        self.turns = Some(turns);
        Ok(())
    }

    /// As `session.created` and `session.updated` tell it.
    pub(super) fn view(&self, id: &str) -> Value {
        let detection = self.turns.map(|turns| {
            json!({
                "type": "server_vad",
                "threshold": turns.threshold,
                "prefix_padding_ms": turns.prefix_ms,
                "silence_duration_ms": turns.silence_ms,
                "create_response": self.answers_turns && !self.transcript_only,
                "interrupt_response": self.interrupts,
            })
        });
        let transcription =
            json!({ "model": self.listener, "language": self.language, "prompt": self.prompt });
        let format = |rate: u32| json!({ "type": "audio/pcm", "rate": rate });
        let mut view = json!({
            "id": id,
            "object": "realtime.session",
            "type": if self.transcript_only { "transcription" } else { "realtime" },
            "model": if self.transcript_only { &self.listener } else { &self.model },
            "audio": { "input": {
                "format": format(self.rate_hz),
                "transcription": transcription,
                "turn_detection": detection,
            }},
            // The earlier form, which Lemonade's clients read.
            "turn_detection": detection,
        });
        if !self.transcript_only {
            view["audio"]["output"] =
                json!({ "format": format(24_000), "voice": self.voice, "speed": self.speed });
            view["output_modalities"] = json!([if self.speaks { "audio" } else { "text" }]);
            view["instructions"] = self.instructions.clone().into();
            if let Some(collections) = &self.collections {
                view["collections"] = json!(collections);
            }
            view["tools"] = self
                .tools
                .iter()
                .map(|tool| json!({ "type": "function", "name": tool.name }))
                .collect();
        }
        view
    }
}

/// The first that is said.
fn first<'a>(values: &[&'a Value]) -> Option<&'a Value> {
    values.iter().copied().find(|value| !value.is_null())
}

fn text(value: &Value) -> Option<String> {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// Samples in a second of a format: `{"type": "audio/pcm", "rate": 24000}`, or `pcm16`.
fn rate(format: &Value) -> Result<u32, String> {
    let kind = format
        .as_str()
        .or_else(|| format["type"].as_str())
        .unwrap_or_default();
    if !matches!(kind, "pcm16" | "audio/pcm") {
        return Err(format!(
            "`format` is `{kind}`; samples of 16 bits (audio/pcm) are understood"
        ));
    }
    let rate = format["rate"].as_u64().unwrap_or(24_000);
    let rate = u32::try_from(rate)
        .ok()
        .filter(|rate| (8000..=96_000).contains(rate));
    rate.ok_or_else(|| "`format.rate` must be 8000 to 96000".to_owned())
}

fn tool(value: &Value) -> Result<Tool, String> {
    let name = text(&value["name"]).ok_or("`tools` holds one without a name")?;
    let parameters = match &value["parameters"] {
        Value::Null => json!({ "type": "object", "properties": {} }),
        schema => schema.clone(),
    };
    Ok(Tool {
        name,
        description: text(&value["description"]),
        parameters: parameters.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_setting_is_read() {
        let mut ours = Settings::conversation("gpt-realtime");
        assert_eq!(ours.model, "");
        let nested = json!({ "type": "realtime", "output_modalities": ["text"], "instructions": "Be brief.",
            "audio": { "input": { "format": { "type": "audio/pcm", "rate": 48000 }, "turn_detection": null,
                "transcription": { "model": "whisper-1", "language": "en-US" } },
                "output": { "voice": "alloy", "speed": 1.5 } },
            "tools": [{ "type": "function", "name": "light", "parameters": { "type": "object" } }], "tool_choice": "required" });
        ours.update(&nested).unwrap();
        assert_eq!(
            (ours.rate_hz, ours.turns, ours.speaks),
            (48_000, None, false)
        );
        assert_eq!(
            (ours.language.as_deref(), ours.voice.as_deref()),
            (Some("en"), Some("alloy"))
        );
        assert_eq!(
            (ours.tools[0].name.as_str(), &ours.tool_choice),
            ("light", &ToolChoice::Required)
        );
        let flat = json!({ "modalities": ["text", "audio"], "input_audio_format": "pcm16", "voice": "nova",
            "turn_detection": { "type": "server_vad", "threshold": 0.6, "silence_duration_ms": 200, "create_response": false } });
        ours.update(&flat).unwrap();
        assert!(ours.speaks && !ours.answers_turns);
        assert_eq!(ours.turns.unwrap().silence_ms, 200);
        let mut lemonade = Settings::lemonade("whisper-base");
        lemonade
            .update(&json!({ "turn_detection": { "threshold": 0.01 }, "model": "Whisper-Tiny" }))
            .unwrap();
        assert_eq!(
            (
                lemonade.turns.unwrap().threshold,
                lemonade.listener.as_str()
            ),
            (0.5, "Whisper-Tiny")
        );
    }

    #[test]
    fn nonsense_is_refused_and_changes_nothing() {
        let before = Settings::conversation("");
        for (field, bad) in [
            ("format", json!({ "input_audio_format": "g711_ulaw" })),
            (
                "rate",
                json!({ "audio": { "input": { "format": { "type": "audio/pcm", "rate": 5 } } } }),
            ),
            ("speed", json!({ "instructions": "x", "speed": 9 })),
            ("threshold", json!({ "turn_detection": { "threshold": 3 } })),
            (
                "language",
                json!({ "input_audio_transcription": { "language": "klingon" } }),
            ),
            ("tool_choice", json!({ "tool_choice": "perhaps" })),
            ("tools", json!({ "tools": [{ "type": "function" }] })),
            ("collections", json!({ "collections": "all" })),
        ] {
            let mut settings = before.clone();
            let error = settings.update(&bad).unwrap_err();
            assert!(error.contains(field), "{field}: {error}");
            assert_eq!(settings, before);
        }
    }
}
