//! whisper.cpp's server: speech to text.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method};
use serde_json::Value;

use super::child::{ChildSession, Door, Recipe, Seat};
use super::lanes::{Abilities, Lane, Memory, Silicon, Work};
use super::upstream::{Endpoint, Upstream, UpstreamError};
use super::{Card, Engine, EngineError, Facts, Fit, Load, Means, Session, Slot, Task};
use crate::domain::{ListenRequest, Machine, Model, ModelFormat, Segment, Transcript, Word};
use crate::process::{Sandbox, Spec};

/// The engine itself; it holds nothing.
#[derive(Debug)]
pub struct Whisper;

static CARD: Card = Card {
    name: "whisper-server",
    tasks: &[Task::Transcribe],
    formats: &[ModelFormat::Whisper],
    device: "cpu",
};

/// Its lane; the server works on one recording at a time.
pub const LANE: Lane = Lane {
    name: "whisper.cpu",
    silicon: Silicon::Cpu,
    works: &[Work::Transcribe],
    abilities: Abilities::ALL,
    slots: 1,
    context_max: usize::MAX,
    memory: Memory::Ram,
};

/// Samples a second that the models hear.
pub const RATE_HZ: u32 = 16_000;
/// What the encoder, the decoder's cache and the working memory take beside the weights: whisper.cpp says 180 MB for
/// `base` and grows with the weights.
const BESIDE_BYTES: u64 = 192 << 20;

impl Engine for Whisper {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn lanes(&self, _model: &Model, _means: &Means) -> Vec<Lane> {
        vec![LANE]
    }

    fn fit(&self, model: &Model, _machine: &Machine, means: &Means) -> Fit {
        if means.programs.get("whisper-server").is_none() {
            return Fit::No {
                why: "whisper-server is not here; run `onebit engines build whisper.cpp`".into(),
            };
        }
        let bytes = memory_bytes(model);
        Fit::Runs {
            memory_bytes_min: bytes,
            memory_bytes: bytes,
        }
    }

    fn load<'a>(
        &'a self,
        model: &'a Model,
        slot: Slot,
    ) -> BoxFuture<'a, Result<Arc<dyn Session>, EngineError>> {
        Box::pin(async move {
            let failed = |why: &str| EngineError::LoadFailed {
                model: model.id.clone(),
                why: why.into(),
            };
            let means = &slot.means;
            let program = means
                .programs
                .get("whisper-server")
                .ok_or_else(|| failed("whisper-server is not here"))?;
            let children = means
                .children
                .clone()
                .ok_or_else(|| failed("children are not allowed here"))?;
            let facts = Facts {
                engine: CARD.name,
                context_length: 0,
                memory_bytes: memory_bytes(model),
                template: None,
            };
            let recipe = recipe(&program.path, &model.id, &model.path, slot.threads.count());
            Ok(Arc::new(Listener {
                child: ChildSession::start(recipe, children, facts).await?,
                english_only: model.architecture.ends_with(".en"),
            }) as Arc<dyn Session>)
        })
    }
}

fn memory_bytes(model: &Model) -> u64 {
    model.file_bytes * 3 / 2 + BESIDE_BYTES
}

/// A loaded model.
struct Listener {
    child: ChildSession,
    /// It knows no other language, so none is looked for.
    english_only: bool,
}

impl Session for Listener {
    fn facts(&self) -> &Facts {
        self.child.facts()
    }

    fn load(&self) -> Load {
        Session::load(&self.child)
    }

    fn alive(&self) -> bool {
        self.child.alive()
    }

    fn transcribe(
        &self,
        mut request: ListenRequest,
    ) -> BoxFuture<'_, Result<Transcript, EngineError>> {
        Box::pin(async move {
            if self.english_only {
                request.language = Some("en".into());
            }
            let shared = &self.child.shared;
            let ticket = shared.enter()?;
            let _working = shared.work(ticket).await?;
            let (kind, body) = form(&request);
            let kind = HeaderValue::try_from(kind)
                .map_err(|error| EngineError::Failed(error.to_string()))?;
            let patience = shared.children.patience.answer * WINDOW_PATIENCE;
            let attempt = |upstream: Upstream| {
                let (kind, body) = (kind.clone(), body.clone());
                async move { ask(&upstream, kind, body, patience).await }
            };
            let answer = shared.attempts(attempt, || false).await?;
            transcript(&answer)
                .ok_or_else(|| EngineError::Failed("whisper-server's answer cannot be read".into()))
        })
    }
}

/// How often the usual patience: a window on a slow machine with a large model takes minutes, and a server that hangs
/// is noticed by its processor time long before.
const WINDOW_PATIENCE: u32 = 20;

async fn ask(
    upstream: &Upstream,
    kind: HeaderValue,
    body: Bytes,
    patience: Duration,
) -> Result<Value, UpstreamError> {
    let mut answer = upstream
        .send(Method::POST, "/inference", Some(kind), body, patience)
        .await?;
    let status = answer.status;
    let bytes = answer.bytes(patience).await?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| UpstreamError::Garbage {
        why: error.to_string(),
    })?;
    match value["error"].as_str() {
        Some(message) if status.is_success() => Err(UpstreamError::Said {
            message: message.to_owned(),
        }),
        Some(message) => Err(UpstreamError::Refused {
            status: status.as_u16(),
            message: message.to_owned(),
        }),
        None => Ok(value),
    }
}

/// Readings that are followed at once, as the reference implementation does: the likeliest next word is not always the
/// beginning of the likeliest sentence.
const BEAMS: &str = "5";

/// The form that `/inference` takes, and its type. Language probabilities cost another pass of the encoder, and segments
/// that end inside a word are of use to nobody.
fn form(request: &ListenRequest) -> (String, Bytes) {
    // No recording of 16-bit samples holds this by chance: its first bytes are those of a WAV head.
    const MARK: &str = "onebit-7f3d0c5b9a614e28";
    let yes_no = |flag: bool| if flag { "true" } else { "false" };
    let mut fields = vec![
        ("response_format", "verbose_json".to_owned()),
        ("token_timestamps", "true".to_owned()),
        ("no_language_probabilities", "true".to_owned()),
        ("beam_size", BEAMS.to_owned()),
        ("split_on_word", "true".to_owned()),
        ("translate", yes_no(request.translate).to_owned()),
        (
            "language",
            request.language.clone().unwrap_or_else(|| "auto".into()),
        ),
    ];
    if let Some(prompt) = &request.prompt {
        fields.push(("prompt", prompt.clone()));
    }
    if let Some(temperature) = request.temperature {
        fields.push(("temperature", temperature.to_string()));
    }
    let mut head = String::new();
    for (name, value) in fields {
        // Writing into a String cannot fail.
        let _ = write!(
            head,
            "--{MARK}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
    }
    let _ = write!(
        head,
        "--{MARK}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
         Content-Type: audio/wav\r\n\r\n"
    );
    let mut body = head.into_bytes();
    body.extend_from_slice(&request.sound.wav());
    body.extend_from_slice(format!("\r\n--{MARK}--\r\n").as_bytes());
    (
        format!("multipart/form-data; boundary={MARK}"),
        Bytes::from(body),
    )
}

/// Reads a `verbose_json` answer. Its "words" are tokens: one that begins with a space begins a word.
fn transcript(value: &Value) -> Option<Transcript> {
    let mut heard = Transcript {
        language: language_code(value["language"].as_str().unwrap_or_default()),
        segments: Vec::new(),
    };
    for row in value["segments"].as_array()? {
        let number = |name: &str| row[name].as_f64().unwrap_or(0.0);
        let mut segment = Segment {
            start_s: number("start"),
            end_s: number("end"),
            text: row["text"].as_str()?.to_owned(),
            avg_logprob: number("avg_logprob"),
            no_speech: number("no_speech_prob"),
            ..Segment::default()
        };
        let tokens = row["tokens"].as_array().map_or(&[][..], Vec::as_slice);
        let ids = tokens.iter().filter_map(Value::as_u64);
        segment.tokens = ids.filter_map(|id| u32::try_from(id).ok()).collect();
        for token in row["words"].as_array().map_or(&[][..], Vec::as_slice) {
            let text = token["word"].as_str().unwrap_or_default();
            let (start_s, end_s) = (token["start"].as_f64()?, token["end"].as_f64()?);
            match segment.words.last_mut() {
                Some(word) if !text.starts_with(' ') => {
                    word.text.push_str(text);
                    word.end_s = end_s;
                }
                _ => segment.words.push(Word {
                    text: text.trim_start().to_owned(),
                    start_s,
                    end_s,
                }),
            }
        }
        segment.words.retain(|word| !word.text.is_empty());
        heard.segments.push(segment);
    }
    Some(heard)
}

/// The server tells languages by their English names; a name that is not listed stays as it is.
fn language_code(name: &str) -> String {
    let known = LANGUAGES.iter().find(|(_, full)| *full == name);
    known.map_or(name, |(code, _)| code).to_owned()
}

/// What a model file says of itself in its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    vocabulary: u32,
    encoder_layers: u32,
    decoder_layers: u32,
    mels: u32,
    kind: u32,
}

impl Head {
    /// Bytes of a head.
    pub const BYTES: usize = 48;

    /// Reads it; `None` when the file is none of whisper.cpp's.
    #[must_use]
    pub fn read(bytes: &[u8; Head::BYTES]) -> Option<Head> {
        let (numbers, _) = bytes.as_chunks::<4>();
        let number = |at: usize| numbers.get(at).map_or(0, |four| u32::from_le_bytes(*four));
        (number(0) == 0x6767_6d6c).then(|| Head {
            vocabulary: number(1),
            encoder_layers: number(5),
            decoder_layers: number(9),
            mels: number(10),
            kind: number(11),
        })
    }

    /// Its size, as the project names them: `tiny`, `base.en`, `large-v3-turbo`; `None` for one of another build.
    #[must_use]
    pub fn size(&self) -> Option<String> {
        let size = match (self.encoder_layers, self.decoder_layers, self.mels) {
            (4, 4, _) => "tiny",
            (6, 6, _) => "base",
            (12, 12, _) => "small",
            (24, 24, _) => "medium",
            (32, 32, 80) => "large",
            (32, 32, 128) => "large-v3",
            (32, 4, 128) => "large-v3-turbo",
            (32, 2, _) => "distil-large",
            _ => return None,
        };
        let english = if self.vocabulary == 51_864 { ".en" } else { "" };
        Some(format!("{size}{english}"))
    }

    /// How its weights are stored.
    #[must_use]
    pub fn quantisation(&self) -> &'static str {
        match self.kind % 1000 {
            0 => "F32",
            1 => "F16",
            2 => "Q4_0",
            3 => "Q4_1",
            7 => "Q8_0",
            8 => "Q5_0",
            9 => "Q5_1",
            _ => "mixed",
        }
    }
}

/// The languages that Whisper knows: ISO 639-1 and the English name.
pub const LANGUAGES: &[(&str, &str)] = &[
    ("en", "english"),
    ("zh", "chinese"),
    ("de", "german"),
    ("es", "spanish"),
    ("ru", "russian"),
    ("ko", "korean"),
    ("fr", "french"),
    ("ja", "japanese"),
    ("pt", "portuguese"),
    ("tr", "turkish"),
    ("pl", "polish"),
    ("ca", "catalan"),
    ("nl", "dutch"),
    ("ar", "arabic"),
    ("sv", "swedish"),
    ("it", "italian"),
    ("id", "indonesian"),
    ("hi", "hindi"),
    ("fi", "finnish"),
    ("vi", "vietnamese"),
    ("he", "hebrew"),
    ("uk", "ukrainian"),
    ("el", "greek"),
    ("ms", "malay"),
    ("cs", "czech"),
    ("ro", "romanian"),
    ("da", "danish"),
    ("hu", "hungarian"),
    ("ta", "tamil"),
    ("no", "norwegian"),
    ("th", "thai"),
    ("ur", "urdu"),
    ("hr", "croatian"),
    ("bg", "bulgarian"),
    ("lt", "lithuanian"),
    ("la", "latin"),
    ("mi", "maori"),
    ("ml", "malayalam"),
    ("cy", "welsh"),
    ("sk", "slovak"),
    ("te", "telugu"),
    ("fa", "persian"),
    ("lv", "latvian"),
    ("bn", "bengali"),
    ("sr", "serbian"),
    ("az", "azerbaijani"),
    ("sl", "slovenian"),
    ("kn", "kannada"),
    ("et", "estonian"),
    ("mk", "macedonian"),
    ("br", "breton"),
    ("eu", "basque"),
    ("is", "icelandic"),
    ("hy", "armenian"),
    ("ne", "nepali"),
    ("mn", "mongolian"),
    ("bs", "bosnian"),
    ("kk", "kazakh"),
    ("sq", "albanian"),
    ("sw", "swahili"),
    ("gl", "galician"),
    ("mr", "marathi"),
    ("pa", "punjabi"),
    ("si", "sinhala"),
    ("km", "khmer"),
    ("sn", "shona"),
    ("yo", "yoruba"),
    ("so", "somali"),
    ("af", "afrikaans"),
    ("oc", "occitan"),
    ("ka", "georgian"),
    ("be", "belarusian"),
    ("tg", "tajik"),
    ("sd", "sindhi"),
    ("gu", "gujarati"),
    ("am", "amharic"),
    ("yi", "yiddish"),
    ("lo", "lao"),
    ("uz", "uzbek"),
    ("fo", "faroese"),
    ("ht", "haitian creole"),
    ("ps", "pashto"),
    ("tk", "turkmen"),
    ("nn", "nynorsk"),
    ("mt", "maltese"),
    ("sa", "sanskrit"),
    ("lb", "luxembourgish"),
    ("my", "myanmar"),
    ("bo", "tibetan"),
    ("tl", "tagalog"),
    ("mg", "malagasy"),
    ("as", "assamese"),
    ("tt", "tatar"),
    ("haw", "hawaiian"),
    ("ln", "lingala"),
    ("ha", "hausa"),
    ("ba", "bashkir"),
    ("jw", "javanese"),
    ("su", "sundanese"),
    ("yue", "cantonese"),
];

/// Recordings that may wait.
const QUEUE_MAX: usize = 16;

/// How to start and treat it. It knows no sockets and no keys, but takes a path that begins every route.
#[must_use]
pub fn recipe(program: &Path, id: &str, model: &Path, threads: usize) -> Recipe {
    let (program, model) = (program.to_owned(), model.to_owned());
    Recipe {
        model: id.to_owned(),
        model_inside: id.to_owned(),
        door: Door::PortWithPath,
        ready_path: "/health",
        slots: 1,
        queue_max: QUEUE_MAX,
        tokens_min: 0,
        command: Box::new(move |seat| command(&program, &model, threads, seat)),
    }
}

fn command(program: &Path, model: &Path, threads: usize, seat: &Seat) -> Spec {
    let mut spec = Spec::new(program)
        .arg("--model")
        .arg(model)
        .args(["--threads".to_owned(), threads.to_string()]);
    if let Endpoint::Port(address) = &seat.endpoint {
        spec = spec.args([
            "--host".to_owned(),
            address.ip().to_string(),
            "--port".to_owned(),
            address.port().to_string(),
        ]);
    }
    let mut sandbox = Sandbox::system().reading(model).writing("/tmp");
    sandbox.read.extend(program.parent().map(Path::to_owned));
    spec.arg("--request-path")
        .arg(format!("/{}", seat.secret))
        .sandbox(sandbox)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Sound;
    use serde_json::json;

    #[test]
    fn tokens_become_words() {
        let answer = json!({
            "language": "german",
            "text": " Guten Tag.",
            "segments": [{
                "start": 0.5, "end": 1.5, "text": " Guten Tag.", "tokens": [5, 6, 7, 8],
                "words": [
                    {"word": " Gut", "start": 0.5, "end": 0.7}, {"word": "en", "start": 0.7, "end": 0.9},
                    {"word": " Tag", "start": 1.0, "end": 1.3}, {"word": ".", "start": 1.3, "end": 1.5},
                ],
                "avg_logprob": -0.25, "no_speech_prob": 0.01,
            }],
        });
        let heard = transcript(&answer).unwrap();
        assert_eq!(heard.language, "de");
        assert_eq!(heard.text(), "Guten Tag.");
        let words: Vec<_> = heard.segments[0]
            .words
            .iter()
            .map(|w| (&*w.text, w.start_s, w.end_s))
            .collect();
        assert_eq!(words, [("Guten", 0.5, 0.9), ("Tag.", 1.0, 1.5)]);
        assert_eq!(transcript(&json!({"text": "x"})), None);
    }

    #[test]
    fn a_file_tells_its_size() {
        let head = |layers: (u32, u32), vocabulary: u32| {
            let numbers = [
                0x6767_6d6c,
                vocabulary,
                1500,
                512,
                8,
                layers.0,
                448,
                512,
                8,
                layers.1,
                80,
                1,
            ];
            let mut bytes = [0; Head::BYTES];
            for (at, number) in numbers.iter().enumerate() {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&number.to_le_bytes());
            }
            Head::read(&bytes)
        };
        let base = head((6, 6), 51_865).unwrap();
        assert_eq!(
            (base.size().as_deref(), base.quantisation()),
            (Some("base"), "F16")
        );
        assert_eq!(
            head((4, 4), 51_864).unwrap().size().as_deref(),
            Some("tiny.en")
        );
        assert_eq!(head((5, 7), 51_864).unwrap().size(), None);
        assert_eq!(
            Head::read(b"GGUF............................................"),
            None
        );
    }

    #[test]
    fn the_form_holds_the_recording_and_the_wishes() {
        let request = ListenRequest {
            sound: Sound {
                samples: vec![0.0, 1.0],
                rate_hz: RATE_HZ,
            },
            translate: true,
            prompt: Some("onebit".into()),
            ..ListenRequest::default()
        };
        let (kind, body) = form(&request);
        let boundary = kind.split_once("boundary=").unwrap().1;
        let text = String::from_utf8_lossy(&body);
        assert_eq!(text.matches(&format!("--{boundary}")).count(), 10);
        for part in [
            "name=\"translate\"\r\n\r\ntrue",
            "name=\"language\"\r\n\r\nauto",
            "\r\n\r\nRIFF",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn the_command_line() {
        let seat = Seat {
            endpoint: Endpoint::Port(([127, 0, 0, 1], 5000).into()),
            secret: "abc".into(),
        };
        let spec = command(
            Path::new("/opt/whisper-server"),
            Path::new("/m/base.bin"),
            4,
            &seat,
        );
        let line: Vec<_> = spec.args.iter().map(|a| a.to_string_lossy()).collect();
        assert_eq!(
            line.join(" "),
            "--model /m/base.bin --threads 4 --host 127.0.0.1 --port 5000 --request-path /abc"
        );
    }
}
