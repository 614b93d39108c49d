//! Clients that read, leave, dawdle and break off, all at once: whoever stays gets a whole answer, and afterwards no
//! place in the queue, no connection, no child and no memory is missing.
#![allow(
    clippy::print_stdout,
    reason = "what a storm leaves behind goes into the log"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::openai::model;
use crate::support::App;

/// What a client does with its stream.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    /// Reads to the end.
    Patient,
    /// Leaves after the first event.
    Leaves,
    /// Asks and is gone before the first byte.
    Gone,
    /// Reads a few bytes at a time through a small window.
    Slow,
    /// Closes its own direction after asking, and reads on.
    HalfClosed,
    /// Breaks off in the middle of its question.
    BreaksOff,
}

const MANNERS: [Manner; 6] = [
    Manner::Patient,
    Manner::Leaves,
    Manner::Gone,
    Manner::Slow,
    Manner::HalfClosed,
    Manner::BreaksOff,
];

/// Long enough for the whole storm on a busy machine; a hang is a failure.
const STORM_MAX: Duration = Duration::from_secs(400);

async fn one(address: String, body: String, manner: Manner) -> Result<(), String> {
    let broke = |what: &str| format!("{manner:?}: {what}");
    let socket = TcpSocket::new_v4().map_err(|e| broke(&e.to_string()))?;
    if manner == Manner::Slow {
        socket
            .set_recv_buffer_size(2048)
            .map_err(|e| broke(&e.to_string()))?;
    }
    let address = address.parse().map_err(|_| broke("no address"))?;
    let mut stream = socket
        .connect(address)
        .await
        .map_err(|e| broke(&e.to_string()))?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let sent = match manner {
        Manner::BreaksOff => &body[..body.len() / 2],
        _ => &body,
    };
    let asked = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(sent.as_bytes()).await
    };
    asked.await.map_err(|e| broke(&e.to_string()))?;
    match manner {
        Manner::BreaksOff | Manner::Gone => Ok(()),
        Manner::Leaves => {
            let mut piece = [0; 256];
            match stream.read(&mut piece).await {
                Ok(n) if piece[..n].starts_with(b"HTTP/1.1 200") => Ok(()),
                other => Err(broke(&format!("{other:?} before the first event"))),
            }
        }
        Manner::HalfClosed => {
            stream.shutdown().await.map_err(|e| broke(&e.to_string()))?;
            // Whether it is taken for one that has left or is answered: it ends.
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            Ok(())
        }
        Manner::Patient | Manner::Slow => {
            let size = if manner == Manner::Slow { 64 } else { 16 << 10 };
            whole(&read(stream, size).await.map_err(|e| broke(&e))?).map_err(|e| broke(&e))
        }
    }
}

async fn read(mut stream: TcpStream, size: usize) -> Result<String, String> {
    let (mut all, mut piece) = (Vec::new(), vec![0; size]);
    loop {
        match stream.read(&mut piece).await {
            Ok(0) => return String::from_utf8(all).map_err(|e| e.to_string()),
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(error) => return Err(error.to_string()),
        }
        tokio::task::yield_now().await;
    }
}

/// A whole streamed answer: one end, the end mark, and the last chunk of the body.
fn whole(answer: &str) -> Result<(), String> {
    let ends = answer.matches("\"finish_reason\":\"").count();
    let good = answer.starts_with("HTTP/1.1 200")
        && ends == 1
        && answer.contains("data: [DONE]\n\n")
        && answer.ends_with("\r\n0\r\n\r\n");
    match good {
        true => Ok(()),
        false => Err(format!("no whole answer, {ends} ends: {answer}")),
    }
}

/// One storm; returns what went wrong.
fn storm(app: &App, model: &str, clients: usize) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for i in 0..clients {
            let text = format!("Question {} of few.", i % 16);
            let body = json!({"model": model, "messages": [{"role": "user", "content": text}],
                "max_tokens": 2 + i % 3, "temperature": 0, "stream": true});
            let manner = MANNERS[i % MANNERS.len()];
            tasks.spawn(one(app.address().to_owned(), body.to_string(), manner));
        }
        let all = async {
            let mut wrong = Vec::new();
            while let Some(outcome) = tasks.join_next().await {
                match outcome {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => wrong.push(why),
                    Err(panic) => wrong.push(panic.to_string()),
                }
            }
            wrong
        };
        tokio::time::timeout(STORM_MAX, all)
            .await
            .unwrap_or_else(|_| vec!["the storm did not end".to_owned()])
    })
}

/// What the process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    resident_kib: u64,
    sockets: usize,
    children: usize,
}

fn held(pid: u64) -> Held {
    let process = Path::new("/proc").join(pid.to_string());
    let status = std::fs::read_to_string(process.join("status")).expect("the appliance lives");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    let tasks = std::fs::read_dir(process.join("task")).expect("its threads");
    let children = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .map(|text| text.split_whitespace().count())
        .sum();
    Held {
        resident_kib: resident.expect("its memory"),
        sockets: std::fs::read_dir(process.join("fd"))
            .expect("its files")
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .filter(|file| file.to_string_lossy().starts_with("socket:"))
            .count(),
        children,
    }
}

/// Waits until nobody is answered and nobody waits, and the connections are closed.
fn calm(app: &App, pid: u64, sockets_before: usize) -> Held {
    let client = app.client();
    let begun = Instant::now();
    loop {
        let status = client.get("/onebit/status").json();
        let now = held(pid);
        let idle = status["queue"] == json!({"active": 0, "waiting": 0});
        if idle && now.sockets <= sockets_before {
            return now;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "places or connections are missing: {status} {now:?}, {sockets_before} sockets before"
        );
    }
}

/// Storms over one appliance, and what it holds before and after.
pub(crate) fn weather(clients: usize, storms: usize, growth_kib_max: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("onebit.toml");
    let settings = format!("[ternary]\nqueue_max = {}\n", clients + 100);
    std::fs::write(&config, settings).expect("a file of settings");
    let app = App::fresh_with(&["--config", config.to_str().expect("a path")]);
    let model = model(&app.client());
    let presence = std::fs::read_to_string(app.data().join("serving.json")).expect("its presence");
    let presence: Value = serde_json::from_str(&presence).expect("JSON");
    let pid = presence["pid"].as_u64().expect("a pid");
    // The first answer loads the model, the first storm fills pools and caches.
    let answer = app.client().post(
        "/v1/chat/completions",
        &json!({"model": model, "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 1}),
    );
    assert_eq!(answer.status, 200);
    let sockets = held(pid).sockets;
    assert_eq!(storm(&app, &model, clients), Vec::<String>::new());
    let before = calm(&app, pid, sockets);
    let begun = Instant::now();
    for _ in 0..storms {
        assert_eq!(storm(&app, &model, clients), Vec::<String>::new());
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after = calm(&app, pid, sockets);
    println!(
        "{storms} storms of {clients} clients in {seconds:.1} s: {before:?} before, {after:?} after"
    );
    assert_eq!(after.children, before.children);
    assert!(
        after.resident_kib < before.resident_kib + growth_kib_max,
        "memory grew from {before:?} to {after:?}"
    );
    // And it still answers.
    assert_eq!(app.client().get("/v1/models").status, 200);
}

#[test]
fn nothing_is_missing_after_a_storm() {
    weather(48, 3, 24 << 10);
}

#[test]
fn a_reader_that_dawdles_holds_up_nobody() {
    let app = App::shared();
    let client = app.client();
    let model = model(&client);
    let body = |stream: bool, tokens: u32| {
        json!({"model": model, "messages": [{"role": "user", "content": "Tell me a long story."}],
            "max_tokens": tokens, "temperature": 0, "stream": stream})
    };
    // It has asked and does not read; the others are answered all the same.
    let slow = client.events("POST", "/v1/chat/completions", &body(true, 60));
    let quick = client.post("/v1/chat/completions", &body(false, 4));
    assert_eq!(quick.status, 200);
    let events: Vec<_> = slow.collect();
    assert_eq!(events.last().expect("an end").data, "[DONE]");
    let text: String = events[..events.len() - 1]
        .iter()
        .filter_map(|event| {
            let chunk = event.json();
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    let whole = client.post("/v1/chat/completions", &body(false, 60)).json();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
}

#[test]
fn whoever_waits_is_told_how_many_are_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("onebit.toml");
    std::fs::write(&config, "[ternary]\nactive_max = 1\n").expect("a file of settings");
    let app = App::with_model(&["--config", config.to_str().expect("a path")]);
    let client = app.client();
    let model = model(&client);
    let said = json!([{"role": "user", "content": "Count."}]);
    let chat = client.post("/onebit/chats", &json!({})).json();
    let turns = format!(
        "/onebit/chats/{}/turns",
        chat["id"].as_str().expect("an id")
    );
    let long = json!({"model": model, "messages": said, "max_tokens": 400, "ignore_eos": true,
        "temperature": 0, "stream": true});
    // Long enough for all others to arrive behind it.
    let mut first = client.events("POST", "/v1/chat/completions", &long);
    first.next().expect("it has begun");
    let openai = json!({"model": model, "messages": said, "max_tokens": 1, "stream": true});
    let ollama = json!({"model": model, "messages": said, "options": {"num_predict": 1}});
    let page = json!({"content": "Count.", "model": model, "options": {"max_tokens": 1}});
    let behind = [
        (
            "/v1/chat/completions",
            &openai,
            ": this request is the next one\n",
        ),
        ("/v1/messages", &openai, ": 1 request is before this one\n"),
        ("/api/chat", &ollama, "\"queue\":{\"ahead\":2}"),
        (turns.as_str(), &page, "event: queue\ndata: {\"ahead\":3}\n"),
        (
            "/v1/responses",
            &json!({"model": model, "input": "Count.", "max_output_tokens": 16, "stream": true}),
            ": 4 requests are before this one\n",
        ),
    ];
    std::thread::scope(|scope| {
        let mut waiting = Vec::new();
        for (place, (path, body, _)) in behind.iter().enumerate() {
            waiting.push(scope.spawn(|| client.post(path, body).text()));
            let begun = Instant::now();
            while client.get("/onebit/status").json()["queue"]["waiting"] != json!(place + 1) {
                assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "{path} does not wait"
                );
            }
        }
        for (told, (path, _, wanted)) in waiting.into_iter().zip(&behind) {
            let told = told.join().expect("an answer");
            assert!(told.contains(wanted), "{path}: {told}");
        }
    });
    assert_eq!(first.last().expect("an end").data, "[DONE]");
}
