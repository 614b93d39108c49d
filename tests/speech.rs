//! Speech by its routes: recordings in every container that comes, every refusal, and what is told without a model.
//!
//! The engine is the fake one, so what is heard is always the same sentence; real models are in `full/speech.rs`.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::path::Path;

use serde_json::{Value, json};

use crate::support::engine::install;
use crate::support::{App, app::onebit_on, client::Answer};

/// What the fake engine hears in everything.
pub(crate) const HEARD: &str = "Ask not what your country can do for you.";

/// A model file of whisper.cpp's as far as anybody reads it: the head of `tiny.en`.
fn whisper_file(folder: &Path) -> std::path::PathBuf {
    let head: [u32; 12] = [0x6767_6d6c, 51_864, 1500, 384, 6, 4, 448, 384, 6, 4, 80, 1];
    let bytes: Vec<u8> = head
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .chain([0; 4096])
        .collect();
    let path = folder.join("ggml-tiny.en.bin");
    std::fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn listening() -> App {
    App::bare(with_ear)
}

/// Gives a data folder the fake engine and a model for it.
pub(crate) fn with_ear(data: &Path) {
    install(data, "whisper-server", "");
    let file = whisper_file(data);
    let done = onebit_on(data, &["import", file.to_str().unwrap()]);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Sound that a voice detector takes for a voice: a buzz of many harmonics whose pitch and loudness wander.
pub(crate) fn voice(seconds: usize, rate: u32) -> Vec<f32> {
    let n = seconds * rate as usize;
    let mut phase = 0.0_f64;
    (0..n)
        .map(|i| {
            let t = i as f64 / f64::from(rate);
            let pitch = 120.0 + 25.0 * (t * 5.0).sin();
            phase += pitch / f64::from(rate);
            let syllable = (t * 4.0 * std::f64::consts::PI).sin().abs();
            let buzz: f64 = (1..30)
                .map(|k| {
                    let hz = pitch * f64::from(k);
                    // Two formants, as of a vowel.
                    let near = |centre: f64, width: f64| (-((hz - centre) / width).powi(2)).exp();
                    let loud =
                        near(600.0, 200.0) + 0.6 * near(1200.0, 250.0) + 0.2 * near(2500.0, 400.0);
                    loud * (phase * f64::from(k) * std::f64::consts::TAU).sin()
                })
                .sum();
            (buzz * 0.2 * syllable) as f32
        })
        .collect()
}

/// A WAV file: `kind` is 1 for 16-bit numbers and 3 for floats.
pub(crate) fn wav(samples: &[f32], rate: u32, kind: u16) -> Vec<u8> {
    let bytes: Vec<u8> = match kind {
        1 => samples
            .iter()
            .flat_map(|x| ((x * 32767.0) as i16).to_le_bytes())
            .collect(),
        _ => samples.iter().flat_map(|x| x.to_le_bytes()).collect(),
    };
    let width = if kind == 1 { 2_u16 } else { 4 };
    let mut file = b"RIFF".to_vec();
    file.extend((36 + bytes.len() as u32).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend(kind.to_le_bytes());
    file.extend(1_u16.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * u32::from(width)).to_le_bytes());
    file.extend(width.to_le_bytes());
    file.extend((width * 8).to_le_bytes());
    file.extend(b"data");
    file.extend((bytes.len() as u32).to_le_bytes());
    file.extend(bytes);
    file
}

pub(crate) fn post(app: &App, path: &str, file: Option<&[u8]>, fields: &[(&str, &str)]) -> Answer {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .bytes(),
        );
    }
    if let Some(file) = file {
        body.extend(
            b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n",
        );
        body.extend(file);
        body.extend(b"\r\n");
    }
    body.extend(b"--b--\r\n");
    app.client()
        .with_header("Content-Type", "multipart/form-data; boundary=b")
        .send_bytes("POST", path, &body)
}

pub(crate) const TRANSCRIBE: &str = "/v1/audio/transcriptions";

#[test]
fn a_recording_is_written_down_in_every_form() {
    let app = listening();
    let sound = wav(&voice(3, 16_000), 16_000, 1);
    let answer = post(&app, TRANSCRIBE, Some(&sound), &[("model", "whisper-1")]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["text"], HEARD);
    assert_eq!(
        answer.json()["usage"],
        json!({"type": "duration", "seconds": 3.0})
    );
    assert!(
        answer
            .header("x-onebit-route")
            .unwrap()
            .contains("lane=whisper.cpu")
    );
    let form = |form: &str| post(&app, TRANSCRIBE, Some(&sound), &[("response_format", form)]);
    assert_eq!(form("text").text(), format!("{HEARD}\n"));
    // The end is the recording's, whatever the engine says.
    assert_eq!(
        form("srt").text(),
        format!("1\n00:00:00,000 --> 00:00:03,000\n{HEARD}\n\n")
    );
    assert_eq!(
        form("vtt").text(),
        format!("WEBVTT\n\n00:00:00.000 --> 00:00:03.000\n{HEARD}\n\n")
    );
    let verbose = form("verbose_json").json();
    assert_eq!(verbose["language"], "english");
    assert_eq!(verbose["duration"], 3.0);
    assert_eq!(verbose["segments"][0]["end"], 3.0);
    for path in ["/v1/audio/translations", "/api/v1/audio/transcriptions"] {
        assert_eq!(
            post(&app, path, Some(&sound), &[]).json()["text"],
            HEARD,
            "{path}"
        );
    }
    let models = app.client().get("/api/v1/models").json();
    assert_eq!(
        models["data"][0]["labels"],
        json!(["transcription"]),
        "{models}"
    );
}

#[test]
fn a_long_recording_comes_in_windows() {
    let app = listening();
    let sound = wav(&voice(70, 8000), 8000, 1);
    let answer = post(&app, TRANSCRIBE, Some(&sound), &[("stream", "true")]);
    assert_eq!(answer.status, 200);
    let events: Vec<Value> = answer
        .text()
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    let deltas: Vec<&Value> = events
        .iter()
        .filter(|e| e["type"] == "transcript.text.delta")
        .collect();
    assert!(deltas.len() >= 3, "{events:?}");
    let done = events.last().unwrap();
    assert_eq!(done["type"], "transcript.text.done");
    let joined: String = deltas.iter().filter_map(|e| e["delta"].as_str()).collect();
    assert_eq!(done["text"], joined.as_str());
}

#[test]
fn any_rate_and_silence_are_handled() {
    let app = listening();
    // The name in the form says `a.bin`: what a file is, its bytes tell.
    let high = wav(&voice(1, 192_000), 192_000, 3);
    assert_eq!(
        post(&app, TRANSCRIBE, Some(&high), &[]).json()["text"],
        HEARD
    );
    // Recognisers make words of silence; nobody asks them.
    let silent = wav(&vec![0.0; 48_000], 16_000, 1);
    assert_eq!(
        post(&app, TRANSCRIBE, Some(&silent), &[]).json()["text"],
        ""
    );
}

/// A Matroska file whose only track is a picture.
fn film() -> Vec<u8> {
    let element = |id: &[u8], body: &[u8]| {
        let mut bytes = id.to_vec();
        bytes.push(0x80 | body.len() as u8);
        bytes.extend(body);
        bytes
    };
    let size = [element(&[0xB0], &[16]), element(&[0xBA], &[16])].concat();
    let track = [
        element(&[0xD7], &[1]),
        element(&[0x73, 0xC5], &[1]),
        element(&[0x83], &[1]),
        element(&[0x86], b"V_VP8"),
        element(&[0xE0], &size),
    ]
    .concat();
    let tracks = element(&[0x16, 0x54, 0xAE, 0x6B], &element(&[0xAE], &track));
    let made_by = [element(&[0x4D, 0x80], b"x"), element(&[0x57, 0x41], b"x")].concat();
    let scale = element(&[0x2A, 0xD7, 0xB1], &[0x0F, 0x42, 0x40]);
    let info = element(&[0x15, 0x49, 0xA9, 0x66], &[scale, made_by].concat());
    let segment = element(&[0x18, 0x53, 0x80, 0x67], &[info, tracks].concat());
    [
        element(
            &[0x1A, 0x45, 0xDF, 0xA3],
            &element(&[0x42, 0x82], b"matroska"),
        ),
        segment,
    ]
    .concat()
}

#[test]
fn what_is_no_recording_is_refused_and_says_why() {
    let app = listening();
    let mut nan = voice(1, 16_000);
    nan[5000] = f32::NAN;
    let no_sound: &[(&str, Vec<u8>, &str)] = &[
        ("nothing", Vec::new(), "is empty"),
        (
            "a letter",
            b"Dear Sir or Madam,".to_vec(),
            "no sound that can be read",
        ),
        (
            "a picture",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(),
            "no sound that can be read",
        ),
        ("a head alone", wav(&[], 16_000, 1), "is empty"),
        ("no numbers", wav(&nan, 16_000, 3), "NaN"),
        ("an odd rate", wav(&[0.1; 100], 7, 1), "samples a second"),
        ("a film without sound", film(), "no sound in it"),
    ];
    for (name, bytes, why) in no_sound {
        let answer = post(&app, TRANSCRIBE, Some(bytes), &[]);
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        let error = &answer.json()["error"];
        assert!(
            error["message"].as_str().unwrap().contains(why),
            "{name}: {error}"
        );
        assert_eq!(error["param"], "file", "{name}");
    }
    let missing = post(&app, TRANSCRIBE, None, &[("model", "whisper-1")]);
    assert_eq!(missing.status, 400);
    assert!(
        missing.text().contains("`file` is missing"),
        "{}",
        missing.text()
    );
    let sound = wav(&voice(1, 16_000), 16_000, 1);
    let odd = post(
        &app,
        TRANSCRIBE,
        Some(&sound),
        &[("response_format", "xml")],
    );
    assert_eq!(
        (odd.status, &odd.json()["error"]["param"]),
        (400, &json!("response_format"))
    );
    let unknown = post(
        &app,
        TRANSCRIBE,
        Some(&sound),
        &[("model", "whisper-tinny")],
    );
    assert_eq!(unknown.status, 404, "{}", unknown.text());
    // And it goes on.
    assert_eq!(post(&app, TRANSCRIBE, Some(&sound), &[]).status, 200);
}

#[test]
fn what_only_ffmpeg_reads_is_heard_where_it_is() {
    let ffmpeg = Path::new("/usr/bin/ffmpeg");
    if !ffmpeg.is_file() {
        println!("skipped: ffmpeg is not installed");
        return;
    }
    let app = listening();
    let file = app.data().join("a.wav");
    std::fs::write(&file, wav(&voice(2, 16_000), 16_000, 1)).unwrap();
    let other = app.data().join("a.au");
    let made = std::process::Command::new(ffmpeg)
        .args(["-loglevel", "error", "-i"])
        .args([&file, &other])
        .status();
    assert!(made.unwrap().success());
    let bytes = std::fs::read(&other).unwrap();
    let heard = post(&app, TRANSCRIBE, Some(&bytes), &[]);
    assert_eq!(heard.json()["text"], HEARD, "{}", heard.text());
    // It reads lists of other files too; here they are none.
    let list = format!("ffconcat version 1.0\nfile {}\n", file.display());
    let refused = post(&app, TRANSCRIBE, Some(list.as_bytes()), &[]);
    assert_eq!(refused.status, 400, "{}", refused.text());
}

#[test]
fn without_a_model_the_pull_command_is_told() {
    let app = App::empty();
    let client = app.client();
    let sound = wav(&voice(1, 16_000), 16_000, 1);
    let heard = post(&app, TRANSCRIBE, Some(&sound), &[("model", "whisper-1")]);
    let said = client.post(
        "/v1/audio/speech",
        &json!({"input": "Hello.", "voice": "alloy", "model": "tts-1"}),
    );
    for (answer, command) in [
        (heard, "onebit pull ggerganov/whisper.cpp:base"),
        (said, "onebit pull onnx-community/Kokoro-82M-v1.0-ONNX"),
        (
            client.get("/v1/audio/voices"),
            "onebit pull onnx-community/Kokoro-82M-v1.0-ONNX",
        ),
    ] {
        assert_eq!(answer.status, 409, "{}", answer.text());
        let error = &answer.json()["error"];
        assert!(
            error["message"].as_str().unwrap().contains(command),
            "{error}"
        );
        assert_eq!(error["code"], "no_speech_model");
    }
}

#[test]
fn an_engine_that_is_not_here_and_one_that_dies_are_told() {
    let app = App::bare(|data| {
        let file = whisper_file(data);
        assert!(
            onebit_on(data, &["import", file.to_str().unwrap()])
                .status
                .success()
        );
    });
    // A system may have one of its own; then there is nothing to tell.
    let sound = wav(&voice(1, 16_000), 16_000, 1);
    let here = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join("whisper-server").is_file());
    if !here {
        let absent = post(&app, TRANSCRIBE, Some(&sound), &[]);
        assert!(
            absent.text().contains("onebit engines build whisper.cpp"),
            "{}",
            absent.text()
        );
    }
    let dying = App::bare(|data| {
        install(data, "whisper-server", "--fault crash-before");
        let file = whisper_file(data);
        assert!(
            onebit_on(data, &["import", file.to_str().unwrap()])
                .status
                .success()
        );
    });
    let answer = post(&dying, TRANSCRIBE, Some(&sound), &[]);
    assert_eq!(answer.status, 503, "{}", answer.text());
}

#[test]
fn the_command_line_writes_down() {
    let app = listening();
    let file = app.data().join("a.wav");
    std::fs::write(&file, wav(&voice(2, 16_000), 16_000, 1)).unwrap();
    let run = |arguments: &[&str]| onebit_on(app.data(), arguments);
    let file = file.to_str().unwrap();
    let done = run(&["transcribe", file]);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&done.stdout), format!("{HEARD}\n"));
    let srt = run(&["transcribe", file, "--format", "srt"]);
    assert!(String::from_utf8_lossy(&srt.stdout).starts_with("1\n00:00:00,000 --> "));
    let absent = run(&["speak", "Hello."]);
    assert!(!absent.status.success());
    assert!(String::from_utf8_lossy(&absent.stderr).contains("onebit pull"));
}
