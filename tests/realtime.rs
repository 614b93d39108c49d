//! Live speech over a WebSocket: turns found by who speaks, written down, answered, interrupted.
//!
//! The listening engine is the fake one; what answers is the model that comes with the program, as text.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use serde_json::{Value, json};

use crate::lemonade::socket::Socket;
use crate::speech::{HEARD, listening, voice};
use crate::support::App;

const DELTA: &str = "conversation.item.input_audio_transcription.delta";

/// Base64 of samples of 16 bits.
fn coded(samples: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = samples
        .iter()
        .flat_map(|x| ((x * 32767.0) as i16).to_le_bytes())
        .collect();
    // Whole groups of three, so there is no padding.
    let groups = bytes.chunks_exact(3);
    groups
        .flat_map(|group| {
            let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
            [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift & 63) as usize]))
        })
        .collect()
}

/// Sends sound as a microphone does: a tenth of a second at a time.
fn append(socket: &mut Socket, samples: &[f32], rate: usize) {
    for piece in samples.chunks(rate / 10 / 3 * 3) {
        socket
            .send(&json!({"type": "input_audio_buffer.append", "audio": coded(piece)}).to_string());
    }
}

/// Reads on until an event of a type comes; gives all that came.
fn until(socket: &mut Socket, kind: &str) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let event = socket.next();
        assert_ne!(event["type"], "error", "{event}");
        let ended = event["type"] == kind;
        events.push(event);
        if ended {
            return events;
        }
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect()
}

#[test]
fn turns_are_written_down_as_lemonade_does_it() {
    let app = listening();
    for path in [
        "/realtime",
        "/api/v1/realtime?model=whisper-tiny.en",
        "/v1/realtime?model=whisper-tiny.en",
    ] {
        let mut socket = Socket::open(app.address(), path, "").unwrap();
        let created = until(&mut socket, "session.created");
        assert_eq!(
            created[0]["session"]["audio"]["input"]["format"]["rate"], 16_000,
            "{path}"
        );
        socket.send(
            r#"{"type":"session.update","session":{"turn_detection":{"silence_duration_ms":300}}}"#,
        );
        until(&mut socket, "session.updated");
        let mut sound = vec![0.0; 8000];
        sound.extend(voice(2, 16_000));
        sound.extend(vec![0.0; 16_000]);
        append(&mut socket, &sound, 16_000);
        let events = until(
            &mut socket,
            "conversation.item.input_audio_transcription.completed",
        );
        // What is told while somebody speaks is the whole each time.
        let (deltas, others): (Vec<Value>, Vec<Value>) =
            events.into_iter().partition(|event| event["type"] == DELTA);
        assert!(deltas.iter().all(|event| event["delta"] == HEARD));
        assert!(!deltas.is_empty());
        assert_eq!(
            kinds(&others),
            [
                "input_audio_buffer.speech_started",
                "input_audio_buffer.speech_stopped",
                "input_audio_buffer.committed",
                "conversation.item.added",
                "conversation.item.input_audio_transcription.completed",
            ]
        );
        let item = &others[0]["item_id"];
        let same = |event: &Value| event["item_id"] == *item || event["item"]["id"] == *item;
        assert!(deltas.iter().chain(&others).all(same));
        assert_eq!(others[4]["transcript"], HEARD);
    }
}

#[test]
fn words_come_while_somebody_speaks_and_each_once() {
    let app = listening();
    let mut socket = Socket::open(app.address(), "/v1/realtime?intent=transcription", "").unwrap();
    until(&mut socket, "session.created");
    // The first turn brings the model in.
    for turn in 0..2 {
        append(&mut socket, &vec![0.0; 24_000], 24_000);
        let mut told = String::new();
        if turn == 0 {
            append(&mut socket, &voice(2, 24_000), 24_000);
        } else {
            // Words come before the turn has ended.
            append(&mut socket, &voice(3, 24_000), 24_000);
            append(&mut socket, &voice(3, 24_000), 24_000);
            let early = until(&mut socket, DELTA);
            assert!(!kinds(&early).contains(&"input_audio_buffer.speech_stopped"));
            told.push_str(early.last().unwrap()["delta"].as_str().unwrap());
            assert!(HEARD.starts_with(&told) && told != HEARD, "{told}");
        }
        append(&mut socket, &vec![0.0; 24_000], 24_000);
        let events = until(
            &mut socket,
            "conversation.item.input_audio_transcription.completed",
        );
        let deltas = events.iter().filter(|event| event["type"] == DELTA);
        told.extend(deltas.filter_map(|event| event["delta"].as_str()));
        assert_eq!(told, HEARD, "turn {turn}");
        assert_eq!(events.last().unwrap()["transcript"], HEARD);
    }
}

#[test]
fn a_committed_turn_is_written_down_and_an_empty_one_refused() {
    let app = listening();
    let mut socket = Socket::open(app.address(), "/realtime", "").unwrap();
    until(&mut socket, "session.created");
    socket.send(r#"{"type":"session.update","session":{"turn_detection":null}}"#);
    until(&mut socket, "session.updated");
    socket.send(r#"{"type":"input_audio_buffer.commit","event_id":"e1"}"#);
    let refused = socket.next();
    assert_eq!(refused["error"]["code"], "input_audio_buffer_commit_empty");
    assert_eq!(refused["error"]["event_id"], "e1");
    append(&mut socket, &voice(1, 16_000), 16_000);
    socket.send(r#"{"type":"input_audio_buffer.commit"}"#);
    let events = until(
        &mut socket,
        "conversation.item.input_audio_transcription.completed",
    );
    assert_eq!(events.last().unwrap()["transcript"], HEARD);
    for bad in [
        "{",
        r#"{"type":"sing"}"#,
        r#"{"type":"response.create"}"#,
        r#"{"type":"input_audio_buffer.append","audio":"?"}"#,
    ] {
        socket.send(bad);
        assert_eq!(socket.next()["type"], "error", "{bad}");
    }
}

#[test]
fn a_session_without_a_model_that_listens_says_so_at_once() {
    let app = App::empty();
    let mut socket = Socket::open(app.address(), "/v1/realtime?intent=transcription", "").unwrap();
    until(&mut socket, "session.created");
    let told = socket.next();
    assert_eq!(told["error"]["code"], "no_speech_model");
    assert!(
        told["error"]["message"]
            .as_str()
            .unwrap()
            .contains("onebit pull"),
        "{told}"
    );
}

#[test]
fn a_typed_question_is_answered_as_text_and_can_be_cancelled() {
    let app = App::fresh();
    let mut socket = Socket::open(app.address(), "/v1/realtime?model=gpt-realtime", "").unwrap();
    until(&mut socket, "session.created");
    // No model that listens is here, which is told and does not matter.
    assert_eq!(socket.next()["error"]["code"], "no_speech_model");
    socket.send(
        r#"{"type":"session.update","session":{"type":"realtime","output_modalities":["text"]}}"#,
    );
    until(&mut socket, "session.updated");
    let ask = r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"Name a colour."}]}}"#;
    socket.send(ask);
    until(&mut socket, "conversation.item.done");
    socket.send(r#"{"type":"response.create","response":{"max_output_tokens":16}}"#);
    let events = until(&mut socket, "response.done");
    let said: String = events
        .iter()
        .filter(|e| e["type"] == "response.output_text.delta")
        .filter_map(|e| e["delta"].as_str())
        .collect();
    let done = &events.last().unwrap()["response"];
    assert!(!said.is_empty());
    assert_eq!(done["output"][0]["content"][0]["text"], said.as_str());
    assert!(done["usage"]["output_tokens"].as_u64().unwrap() <= 16);
    // The next one is stopped at its first word.
    socket.send(ask);
    until(&mut socket, "conversation.item.done");
    socket.send(r#"{"type":"response.create","response":{"max_output_tokens":400}}"#);
    until(&mut socket, "response.output_text.delta");
    socket.send(r#"{"type":"response.cancel"}"#);
    let events = until(&mut socket, "response.done");
    let ended = &events.last().unwrap()["response"];
    // It may have ended in the same moment.
    assert!(
        ended["status"] == "cancelled" || ended["status"] == "completed",
        "{ended}"
    );
    assert_eq!(ended["output"][0]["role"], "assistant");
}

/// Frames of every wrong kind, one socket each: lengths that lie, kinds that are none, no mask, broken text, pieces that
/// never end. The socket may end; the appliance goes on and takes no memory for what was only announced.
#[test]
fn noise_in_frames_ends_their_socket_at_most() {
    let app = App::shared();
    let mut seed = 7_u64;
    let mut next = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for round in 0..300 {
        let mut socket = Socket::open(app.address(), "/logs/stream", "").unwrap();
        let mut bytes = Vec::new();
        for _ in 0..=next(4) {
            let mut frame = vec![next(256) as u8, 0];
            if next(3) == 0 {
                frame[0] = 0x81; // a whole text
            }
            let length = next(300);
            let claimed = match next(4) {
                0 => u64::MAX >> next(20),
                1 => next(1 << 40),
                _ => length,
            };
            let masked = if next(4) == 0 { 0 } else { 0x80 };
            match claimed {
                0..126 => frame[1] = masked | claimed as u8,
                126..65536 if next(2) == 0 => {
                    frame[1] = masked | 126;
                    frame.extend((claimed as u16).to_be_bytes());
                }
                _ => {
                    frame[1] = masked | 127;
                    frame.extend(claimed.to_be_bytes());
                }
            }
            frame.extend((0..4 + length).map(|_| next(256) as u8));
            bytes.extend(frame);
        }
        socket.send_bytes(&bytes);
        if round % 100 == 99 {
            assert_eq!(app.client().get("/health").status, 200, "after {round}");
        }
    }
    let mut socket = Socket::open(app.address(), "/logs/stream", "").unwrap();
    socket.send(r#"{"type":"logs.subscribe","after_seq":null}"#);
    let told = socket.next();
    let entries = told["entries"].as_array().unwrap();
    let panics = entries
        .iter()
        .filter(|entry| entry["line"].as_str().unwrap().contains("panicked"));
    assert_eq!(panics.count(), 0);
}
