//! Real speech: Kokoro says forty sentences and Whisper writes them down; recordings whose words are known.
//!
//! The models come from `packaging/models/speech/fetch` (ONEBIT_TEST_SPEECH) and whisper-server from
//! `onebit engines build whisper.cpp` (ONEBIT_TEST_WHISPER).
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use crate::clients::live;
use crate::speech::{TRANSCRIBE, post, wav};
use crate::support::{App, app::onebit_on, root};

/// Lists 1 to 4 of the Harvard sentences (IEEE, 1969), chosen before anything was run.
const SENTENCES: &str = include_str!("harvard.txt");

/// A text of a hundred words, as a model answers.
const HUNDRED: &str = "A heat pump moves heat from one place to another, even when the place it takes it from is cold. \
    A liquid with a very low boiling point runs through pipes outside the house and becomes a gas there, because even \
    winter air is warm enough to boil it. A compressor squeezes the gas until it is hot, and the hot gas gives its heat \
    to the water of the radiators. Then it becomes a liquid again and the round begins anew. For each unit of \
    electricity the pump brings three or four units of heat into the house.";

fn set(name: &str) -> PathBuf {
    std::env::var_os(name).map_or_else(
        || panic!("set {name}; tests/run --full does"),
        PathBuf::from,
    )
}

/// An appliance with Kokoro and one Whisper.
fn appliance(whisper: &str) -> App {
    App::bare(|data| bring_in(data, whisper))
}

fn bring_in(data: &Path, whisper: &str) {
    let models = set("ONEBIT_TEST_SPEECH");
    let program = set("ONEBIT_TEST_WHISPER");
    let folder = data.join("engines/whisper-server/current");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&program, folder.join("whisper-server")).unwrap();
    for model in [models.join(whisper), models.join("kokoro")] {
        let done = onebit_on(data, &["import", model.to_str().unwrap()]);
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

/// Says a text; samples of 16 bits at 24 kHz.
fn said(app: &App, text: &str) -> Vec<u8> {
    let ask = json!({"input": text, "response_format": "pcm"});
    let answer = app.client().post("/v1/audio/speech", &ask);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.body
}

/// Samples of 16 bits as a WAV file.
fn wav_of(pcm: &[u8], rate: u32) -> Vec<u8> {
    let (pairs, _) = pcm.as_chunks::<2>();
    let samples: Vec<f32> = pairs
        .iter()
        .map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32768.0)
        .collect();
    wav(&samples, rate, 1)
}

fn silence(seconds: usize) -> Vec<u8> {
    vec![0; seconds * 48_000]
}

/// A question that is said to the browser, and what interrupts the answer.
const QUESTION: &str =
    "Please tell me in a few simple words what a heat pump is, and how it warms a house in winter.";
const ENOUGH: &str = "Thank you, that is enough for now.";

#[test]
#[ignore = "minutes; tests/run --full"]
fn a_call_in_the_browser() {
    let app = App::prepared(|data| bring_in(data, "ggml-tiny.en.bin"));
    let recording = app.data().join("microphone.wav");
    let mut pcm = silence(2);
    pcm.extend(said(&app, QUESTION));
    // Long enough for the answer to have begun, and short enough that it has not ended.
    pcm.extend(silence(14));
    pcm.extend(said(&app, ENOUGH));
    // The browser begins again then: on a slow machine the answer may not have been heard yet.
    pcm.extend(silence(10));
    std::fs::write(&recording, wav_of(&pcm, 24_000)).unwrap();
    let output = std::process::Command::new("npm")
        .arg("--prefix")
        .arg(root().join("tests/e2e"))
        .args(["run", "voice"])
        .env("ONEBIT_URL", format!("http://{}", app.address()))
        .env("ONEBIT_VOICE", &recording)
        .output()
        .expect("npm runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    let figures = told.lines().filter_map(|line| line.split_once("VOICE "));
    for (_, figure) in figures {
        println!("{figure}");
    }
}

#[test]
#[ignore = "minutes; tests/run --full"]
fn the_realtime_clients_are_heard_and_hear() {
    let app = App::prepared(|data| bring_in(data, "ggml-tiny.en.bin"));
    let question = said(&app, "What is the capital of France?");
    let sound = app.data().join("question.wav");
    std::fs::write(&sound, wav_of(&question, 24_000)).unwrap();
    live(
        "tests/clients/realtime_client.py",
        &app,
        &sound,
        "capital of France",
    );
    let jfk = set("ONEBIT_TEST_SPEECH").join("jfk.wav");
    live(
        "tests/clients/lemonade_realtime.py",
        &app,
        &jfk,
        // He pauses for longer than a turn's end.
        "fellow americans",
    );
}

#[test]
#[ignore = "minutes; tests/run --full"]
fn ten_hours_take_no_more_memory_than_a_minute() {
    let app = appliance("ggml-tiny.en.bin");
    // 8 bits at 8 kHz, as telephones record: every third sample, its upper half.
    let spoken: Vec<u8> = said(&app, "This is a long recording.")
        .chunks_exact(6)
        .map(|three| three[1].wrapping_add(128))
        .collect();
    let peak = |app: &App| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .unwrap()
            / 1024
    };
    // Somebody speaks at the beginning of each hour; silence is left out before any engine is asked.
    let minutes = |n: usize| {
        let mut file = wav(&[], 8000, 1);
        (file[28..32]).copy_from_slice(&8000_u32.to_le_bytes());
        (file[32], file[34]) = (1, 8);
        let sound = u32::try_from(n * 60 * 8000).unwrap();
        file[4..8].copy_from_slice(&(sound + 36).to_le_bytes());
        file[40..44].copy_from_slice(&sound.to_le_bytes());
        file.resize(44 + sound as usize, 128);
        for hour in 0..n.div_ceil(60) {
            let at = 44 + hour * 60 * 60 * 8000;
            file[at..at + spoken.len()].copy_from_slice(&spoken);
        }
        file
    };
    let (short, long) = (minutes(1), minutes(600));
    let heard = |sound: &[u8]| post(&app, TRANSCRIBE, Some(sound), &[("language", "en")]).json();
    heard(&short);
    let before = peak(&app);
    let begun = Instant::now();
    let text = heard(&long)["text"]
        .as_str()
        .unwrap_or_default()
        .to_lowercase();
    let after = peak(&app);
    println!(
        "ten hours heard in {:.0} s; most memory {before} MB after a minute, {after} MB after ten hours",
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(text.matches("long recording").count(), 10, "{text}");
    assert!(after < before + 64, "{before} {after}");
}

/// Words without case and marks; numbers and titles as they are spoken.
fn words(text: &str) -> Vec<String> {
    let text = text
        .to_lowercase()
        .replace(['\u{2019}', '\''], "")
        .replace("mr.", "mister");
    let plain: String = text
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { ' ' })
        .collect();
    let spoken = |word: &str| match word {
        "4" => "four".to_owned(),
        "5" => "five".to_owned(),
        "7" => "seven".to_owned(),
        "8" => "eight".to_owned(),
        "10" => "ten".to_owned(),
        "50" => "fifty".to_owned(),
        other => other.to_owned(),
    };
    plain.split_whitespace().map(spoken).collect()
}

/// Insertions, deletions and changes between two rows of words.
fn errors(wanted: &[String], heard: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, a) in wanted.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in heard.iter().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[heard.len()]
}

#[test]
#[ignore = "minutes; tests/run --full"]
fn forty_sentences_are_said_and_heard() {
    let app = appliance("ggml-base.bin");
    let client = app.client();
    let (mut wrong, mut all, mut said_s, mut sound_s, mut heard_s) = (0, 0, 0.0, 0.0, 0.0);
    for sentence in SENTENCES.lines() {
        let begun = Instant::now();
        let said = client.post(
            "/v1/audio/speech",
            &json!({"input": sentence, "response_format": "wav"}),
        );
        said_s += begun.elapsed().as_secs_f64();
        assert_eq!(said.status, 200, "{}", said.text());
        sound_s += (said.body.len() - 44) as f64 / 48_000.0;
        let begun = Instant::now();
        let heard = post(&app, TRANSCRIBE, Some(&said.body), &[("language", "en")]).json();
        heard_s += begun.elapsed().as_secs_f64();
        let heard = heard["text"].as_str().unwrap_or_default().to_owned();
        let (wanted, got) = (words(sentence), words(&heard));
        let here = errors(&wanted, &got);
        if here > 0 {
            println!("{here} wrong: {sentence} | {heard}");
        }
        wrong += here;
        all += wanted.len();
    }
    let rate = wrong as f64 / all as f64;
    println!(
        "word error rate {:.2} % ({wrong} of {all}); speaking {:.2}, hearing {:.2} of the sound's {sound_s:.1} s",
        rate * 100.0,
        said_s / sound_s,
        heard_s / sound_s
    );
    assert!(rate < 0.05, "{rate}");
}

#[test]
#[ignore = "minutes; tests/run --full"]
fn recordings_are_written_down_word_for_word() {
    let app = appliance("ggml-base.bin");
    let folder = set("ONEBIT_TEST_SPEECH");
    let jfk = "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your country.";
    let mut known = vec![
        (folder.join("jfk.wav"), jfk.to_owned()),
        (folder.join("jfk.mp3"), jfk.to_owned()),
    ];
    known.extend(transcribed(&folder.join("librivox")));
    let mut different = Vec::new();
    for (file, wanted) in &known {
        let bytes = std::fs::read(file).unwrap();
        let heard = post(&app, TRANSCRIBE, Some(&bytes), &[("language", "en")]).json();
        let heard = heard["text"].as_str().unwrap_or_default();
        if words(heard) != words(wanted) {
            different.push(format!("{}: {wanted} | {heard}", file.display()));
        }
    }
    println!(
        "{} of {} recordings word for word",
        known.len() - different.len(),
        known.len()
    );
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// The recordings of a folder with their transcription. One of the transcripts has a word too many, which no reader says.
fn transcribed(folder: &Path) -> Vec<(PathBuf, String)> {
    let text = std::fs::read_to_string(folder.join("transcription")).unwrap();
    let line = |line: &str| {
        let (words, name) = line.rsplit_once(" (")?;
        let words = words
            .replace("<s>", "")
            .replace("</s>", "")
            .replace("a more a amiable", "a more amiable");
        Some((
            folder.join(format!("{}.wav", name.trim_end_matches(')'))),
            words,
        ))
    };
    text.lines().filter_map(line).collect()
}

#[test]
#[ignore = "minutes; tests/run --full"]
fn the_first_sound_of_a_hundred_words_comes_soon() {
    let app = appliance("ggml-tiny.en.bin");
    let ask = json!({"input": HUNDRED, "response_format": "pcm", "stream_format": "sse"});
    // The model is loaded, as it is in a conversation.
    let short = json!({"input": "Hello.", "response_format": "pcm"});
    assert_eq!(app.client().post("/v1/audio/speech", &short).status, 200);
    let begun = Instant::now();
    let mut first = None;
    let mut bytes = 0;
    for event in app.client().events("POST", "/v1/audio/speech", &ask) {
        let event = event.json();
        if let Some(sound) = event["audio"].as_str() {
            first.get_or_insert_with(|| begun.elapsed());
            bytes += sound.len() / 4 * 3;
        }
    }
    let whole = begun.elapsed();
    println!(
        "first sound after {} ms, all {:.1} s of it after {:.1} s",
        first.unwrap().as_millis(),
        bytes as f64 / 48_000.0,
        whole.as_secs_f64()
    );
    assert!(bytes > 20 * 48_000, "{bytes}");
}
