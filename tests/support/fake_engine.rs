//! The fake engine: an OpenAI-compatible server that fails in every way a real one does, on demand.
//!
//! It plays llama-server (`/health`, `/v1/chat/completions`, `/v1/embeddings`, `/tokenize`) and, with
//! `--persona flm`, FastFlowLM with all its faults. A fault is chosen for the whole process by
//! `--fault KIND` or for one request by `[[fault:KIND:ID]]` in a message; with `--once DIR` each ID
//! fires only the first time it is seen by any process that shares the folder, so that a retry succeeds.
//!
//! Answers are deterministic: token number n is the text `tn `, `max_tokens` of them. A question that holds
//! `[[call:NAME:JSON]]` is answered by a call of that tool with that JSON as its arguments; one with pictures is
//! answered with their addresses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

#[derive(Default)]
struct Options {
    host: String,
    port: u16,
    fault: String,
    start_ms: u64,
    token_us: u64,
    once: Option<PathBuf>,
    flm: bool,
    key: Option<String>,
    prefix: String,
    /// Words that a conversation may have; 0 is any number.
    context: usize,
    gpu: bool,
    on_cpu: bool,
}

struct Server {
    options: Options,
    active: AtomicUsize,
    served: AtomicUsize,
    born: std::time::Instant,
}

/// How long "for ever" is: longer than any test, so that a leaked engine still ends.
const FOR_EVER: Duration = Duration::from_secs(600);

fn main() {
    let options = options();
    if options.flm && std::env::vars().any(|(k, _)| k.starts_with("XRT") || k.starts_with("XILINX"))
    {
        eprintln!("[ERROR] no NPU device found");
        std::process::exit(1);
    }
    match options.fault.as_str() {
        "crash-on-gpu" if !options.on_cpu => {
            eprintln!("ggml_vulkan: device lost");
            std::process::exit(3);
        }
        "crash-at-start" => {
            eprintln!("error: failed to load model");
            std::process::exit(3);
        }
        "oom-at-start" => {
            eprintln!(
                "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 99999999999"
            );
            std::process::abort();
        }
        "hang-at-start" => {
            eprintln!("loading model");
            std::thread::sleep(FOR_EVER);
        }
        "zombie-at-start" => leave_a_grandchild(),
        _ => {}
    }
    let ignore_term = options.fault == "ignore-term";
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async move {
            if ignore_term {
                let mut term =
                    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                        .unwrap();
                tokio::spawn(async move {
                    loop {
                        term.recv().await;
                        eprintln!("SIGTERM? no");
                    }
                });
            }
            serve(options).await;
        });
}

fn options() -> Options {
    let mut options = Options {
        host: "127.0.0.1".into(),
        ..Options::default()
    };
    options.key = std::env::var("LLAMA_API_KEY").ok();
    // Installed under a real engine's name it is started with that engine's arguments; those of the test stand
    // in a file beside it.
    let program = std::env::current_exe().unwrap();
    options.flm = program.file_name().is_some_and(|name| name == "flm");
    let own = std::fs::read_to_string(program.with_extension("args")).unwrap_or_default();
    let own: Vec<String> = own.split_whitespace().map(str::to_owned).collect();
    let mut args = own.into_iter().chain(std::env::args().skip(1));
    while let Some(arg) = args.next() {
        let mut next = || args.next().unwrap_or_default();
        match arg.as_str() {
            "--host" | "--listen-ip" => options.host = next(),
            "--port" | "--listen-port" => options.port = next().parse().unwrap(),
            "--fault" => options.fault = next(),
            "--start-ms" => options.start_ms = next().parse().unwrap(),
            "--token-us" => options.token_us = next().parse().unwrap(),
            "--once" => options.once = Some(next().into()),
            "--persona" => options.flm = next() == "flm",
            "--request-path" => options.prefix = next(),
            "--words" => options.context = next().parse().unwrap(),
            "--gpu" => options.gpu = true,
            "--device" => options.on_cpu = next() == "none",
            "--list-devices" => {
                println!("Available devices:");
                if options.gpu {
                    println!("  Vulkan0: Fake Graphics (8192 MiB, 8000 MiB free)");
                    eprintln!("ggml_vulkan: 0 = Fake Graphics (radv) | uma: 1 | fp16: 1");
                } else {
                    println!("  (none)");
                }
                std::process::exit(0);
            }
            "--version" => {
                println!("version: 11434 (fake)");
                std::process::exit(0);
            }
            "list" => {
                println!(
                    "{}",
                    json!({"models": [{"name": "qwen3:0.6b", "installed": true}, {"name": "qwen3:4b", "installed": false}]})
                );
                std::process::exit(0);
            }
            // Whatever a real engine takes (model paths, context sizes) is accepted.
            _ => {}
        }
    }
    options
}

/// Leaves a grandchild in the group that holds our pipes open, and dies: a zombie until reaped.
fn leave_a_grandchild() -> ! {
    let grandchild = std::process::Command::new("/bin/sleep")
        .arg("600")
        .spawn()
        .unwrap();
    eprintln!("grandchild {}", grandchild.id());
    std::process::exit(0);
}

async fn serve(options: Options) {
    let host = options.host.clone();
    let port = options.port;
    let server = Arc::new(Server {
        options,
        active: AtomicUsize::new(0),
        served: AtomicUsize::new(0),
        born: std::time::Instant::now(),
    });
    if host.ends_with(".sock") {
        let listener = tokio::net::UnixListener::bind(&host).unwrap();
        eprintln!("listening on {host}");
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(connection(server.clone(), stream));
        }
    }
    let listener = tokio::net::TcpListener::bind((host.as_str(), port))
        .await
        .unwrap();
    println!("{}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(connection(server.clone(), stream));
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(server: Arc<Server>, stream: S) {
    let mut stream = BufReader::new(stream);
    let mut first = true;
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => head.push_str(&line),
            }
        }
        // FLM answers only the first request of a connection: pooling breaks it.
        if server.options.flm && !first {
            eprintln!("[ERROR] connection reused");
            return;
        }
        first = false;
        let lower = head.to_ascii_lowercase();
        let header = |name: &str| {
            lower
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let length = header("content-length")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let authorised = server.options.key.as_ref().is_none_or(|key| {
            head.contains(&format!("Bearer {key}")) || head.contains(&format!("bearer {key}"))
        });
        let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let path = path
            .strip_prefix(&server.options.prefix)
            .unwrap_or("/lost")
            .to_owned();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if !authorised && path != "/health" {
            reply(
                &mut stream,
                401,
                &json!({"error": {"message": "Invalid API Key"}}),
            )
            .await;
            continue;
        }
        if !answer(&server, &mut stream, &path, &body).await {
            return;
        }
    }
}

/// Writes one answer; false closes the connection.
async fn answer<S: AsyncWrite + Unpin>(
    server: &Server,
    stream: &mut S,
    path: &str,
    body: &Value,
) -> bool {
    if path == "/health" || path == "/" || path == "/v1/models" {
        let loading = server.born.elapsed() < Duration::from_millis(server.options.start_ms);
        if loading {
            reply(stream, 503, &json!({"error": {"message": "Loading model"}})).await;
        } else {
            reply(
                stream,
                200,
                &json!({"status": "ok", "data": [{"id": "fake"}]}),
            )
            .await;
        }
        return true;
    }
    let _busy = Busy::new(server);
    if server.options.flm && server.active.load(Ordering::SeqCst) > 1 {
        eprintln!("[ERROR] second request while one is running");
        std::process::abort();
    }
    server.served.fetch_add(1, Ordering::SeqCst);
    let fault = fault(server, body);
    match fault.as_str() {
        "crash-before" => std::process::exit(139),
        "oom" => {
            eprintln!(
                "ggml_vulkan: Device memory allocation of size 1073741824 failed: ErrorOutOfDeviceMemory"
            );
            std::process::abort();
        }
        "hang-before" => tokio::time::sleep(FOR_EVER).await,
        "stop" => stop_myself(),
        "zombie" => leave_a_grandchild(),
        "error-500" => {
            reply(
                stream,
                500,
                &json!({"error": {"message": "compute error", "type": "server_error"}}),
            )
            .await;
            return true;
        }
        "error-200" => {
            reply(stream, 200, &json!({"error": {"message": "basic_string::substr: __pos (which is 5) > this->size() (which is 0)"}})).await;
            return true;
        }
        "wrong-length" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{\"choices\":").await;
            return false;
        }
        "not-http" => {
            let _ = stream
                .write_all(b"\x00\x01\x02 segmentation fault (core dumped)\n")
                .await;
            return false;
        }
        _ => {}
    }
    match path {
        "/v1/chat/completions" | "/v1/completions" => chat(server, stream, body, &fault).await,
        "/v1/embeddings" => {
            let inputs = body["input"].as_array().map_or(1, Vec::len);
            let data: Vec<Value> = (0..inputs)
                .map(|i| json!({"object": "embedding", "index": i, "embedding": [1.0, i as f32, 0.5]}))
                .collect();
            reply(stream, 200, &json!({"object": "list", "data": data, "usage": {"prompt_tokens": inputs, "total_tokens": inputs}})).await;
            true
        }
        // The longest text fits best, for tests that must tell its order from every other.
        "/v1/rerank" => {
            let texts = body["documents"].as_array().cloned().unwrap_or_default();
            let judge = |(index, text): (usize, &Value)| json!({"index": index, "relevance_score": text.as_str().map_or(0, str::len) as f64 / 100.0 - 2.0});
            let results: Vec<Value> = texts.iter().enumerate().map(judge).rev().collect();
            reply(
                stream,
                200,
                &json!({"model": "fake", "object": "list", "results": results}),
            )
            .await;
            true
        }
        _ if path.starts_with("/sdcpp/v1/") => draw(server, stream, path, body).await,
        "/sdapi/v1/txt2img" => {
            let prompt = &body["prompt"];
            reply(
                stream,
                200,
                &json!({"images": ["cGljdHVyZQ=="], "parameters": {"prompt": prompt}}),
            )
            .await;
            true
        }
        "/tokenize" => {
            let n = body["content"]
                .as_str()
                .map_or(0, |t| t.split_whitespace().count());
            reply(stream, 200, &json!({"tokens": (0..n).collect::<Vec<_>>()})).await;
            true
        }
        "/inference" | "/v1/audio/transcriptions" => {
            reply(stream, 200, &json!({"text": " Ask not what your country can do for you.", "language": "english", "duration": 11.0,
                "segments": [{"id": 0, "start": 0.0, "end": 11.0, "text": " Ask not what your country can do for you."}]})).await;
            true
        }
        _ => {
            reply(
                stream,
                404,
                &json!({"error": {"message": "File Not Found"}}),
            )
            .await;
            true
        }
    }
}

/// A job of stable-diffusion.cpp's server: it takes as many steps as it is asked for, tells each, and cannot be taken
/// back once it is begun. A prompt of `[[fault:sd-fails]]` fails.
async fn draw<S: AsyncWrite + Unpin>(
    server: &Server,
    stream: &mut S,
    path: &str,
    body: &Value,
) -> bool {
    static JOB: std::sync::Mutex<Option<(std::time::Instant, Value)>> = std::sync::Mutex::new(None);
    if path == "/sdcpp/v1/img_gen" {
        let steps = body["sample_params"]["sample_steps"].as_u64().unwrap_or(4);
        *JOB.lock().unwrap() = Some((std::time::Instant::now(), body.clone()));
        let pause = Duration::from_micros(server.options.token_us.max(20_000));
        tokio::spawn(async move {
            for step in 1..=steps {
                tokio::time::sleep(pause).await;
                print!("\r  |==>   | {step}/{steps} - 1.00it/s");
                let _ = std::io::Write::flush(&mut std::io::stdout());
            }
            println!();
        });
        reply(
            stream,
            202,
            &json!({"id": "job_1", "kind": "img_gen", "status": "queued"}),
        )
        .await;
        return true;
    }
    if path.ends_with("/cancel") {
        reply(
            stream,
            409,
            &json!({"error": "job is currently generating and cannot be interrupted yet"}),
        )
        .await;
        return true;
    }
    let Some((begun, asked)) = JOB.lock().unwrap().clone() else {
        reply(stream, 404, &json!({"error": "job not found"})).await;
        return true;
    };
    let steps = asked["sample_params"]["sample_steps"].as_u64().unwrap_or(4);
    let pause = Duration::from_micros(server.options.token_us.max(20_000));
    let left = begun.elapsed() < pause * u32::try_from(steps + 1).unwrap();
    let state = if asked["prompt"]
        .as_str()
        .is_some_and(|text| text.contains("sd-fails"))
    {
        json!({"status": "failed", "result": null, "error": {"code": "generation_failed", "message": "generate_image returned no results"}})
    } else if left {
        json!({"status": "generating", "result": null, "error": null})
    } else {
        // What was asked is what is seen: tests read it back.
        let told: String = asked
            .to_string()
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let count = asked["batch_count"].as_u64().unwrap_or(1);
        let images: Vec<Value> = (0..count)
            .map(|index| json!({"index": index, "b64_json": told}))
            .collect();
        json!({"status": "completed", "error": null, "result": {"output_format": "png", "images": images}})
    };
    reply(stream, 200, &state).await;
    true
}

async fn chat<S: AsyncWrite + Unpin>(
    server: &Server,
    stream: &mut S,
    body: &Value,
    fault: &str,
) -> bool {
    let wanted = body["max_tokens"]
        .as_u64()
        .or(body["max_completion_tokens"].as_u64())
        .unwrap_or(8);
    if server.options.flm && wanted == 1 {
        reply(
            stream,
            200,
            &json!({"error": "basic_string::substr: __pos (which is 1) > this->size() (which is 0)"}),
        )
        .await;
        return true;
    }
    let words: usize = body["messages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|message| message["content"].as_str())
        .map(|text| text.split_whitespace().count())
        .sum();
    let room = server.options.context;
    if room > 0 && words >= room {
        let error = json!({"code": 400, "type": "exceed_context_size_error", "message": "the request exceeds the available context size",
            "n_prompt_tokens": words, "n_ctx": room});
        reply(stream, 400, &json!({ "error": error })).await;
        return true;
    }
    let tokens: Vec<String> = (0..wanted).map(|n| format!("t{n} ")).collect();
    if let Some(line) = scripted(body) {
        return play(stream, &line).await;
    }
    let usage = json!({"prompt_tokens": 5, "completion_tokens": wanted, "total_tokens": 5 + wanted,
        "prefill_speed_tps": 53.8, "decoding_speed_tps": 93.0, "prefill_duration_ttft": 0.52});
    let timings = json!({"prompt_n": 5, "prompt_ms": 10.0, "prompt_per_second": 500.0, "predicted_n": wanted, "predicted_ms": 20.0, "predicted_per_second": 50.0, "cache_n": 0});
    let pause = Duration::from_micros(if fault == "slow" {
        20_000
    } else {
        server.options.token_us
    });
    if body["stream"] != true {
        tokio::time::sleep(pause * u32::try_from(wanted).unwrap()).await;
        reply(stream, 200, &json!({"id": "x", "object": "chat.completion", "choices": [{"index": 0, "finish_reason": "length",
            "message": {"role": "assistant", "content": tokens.concat()}}], "usage": usage, "timings": timings})).await;
        return true;
    }
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    if stream.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    let half = tokens.len() / 2;
    for (n, token) in tokens.iter().enumerate() {
        if n == half {
            match fault {
                "crash-mid" => std::process::exit(139),
                "oom-mid" => std::process::abort(),
                "hang-mid" => tokio::time::sleep(FOR_EVER).await,
                "stop-mid" => stop_myself(),
                "zombie-mid" => leave_a_grandchild(),
                "cut-mid" => return false,
                "garbage-sse" => {
                    let _ = chunk(stream, "data: {\"choices\":[{\"delta\":{\"con\x01\x02\u{fffd}\n\nevnt: ??\n\ndata: <html>\n\n").await;
                    return false;
                }
                "error-mid" => {
                    let error = json!({"error": {"message": "compute error", "code": 500}});
                    let _ = chunk(stream, &format!("data: {error}\n\n")).await;
                    return finish(stream).await;
                }
                _ => {}
            }
        }
        let delta = json!({"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": token}, "finish_reason": null}]});
        if chunk(stream, &format!("data: {delta}\n\n")).await.is_err() {
            return false;
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    let last = json!({"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}], "timings": timings});
    let counts = json!({"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": usage, "timings": timings});
    if chunk(
        stream,
        &format!("data: {last}\n\ndata: {counts}\n\ndata: [DONE]\n\n"),
    )
    .await
    .is_err()
    {
        return false;
    }
    finish(stream).await
}

/// The call that the last question asks for, or a few words once a tool has answered it.
fn scripted(body: &Value) -> Option<Value> {
    for message in body["messages"].as_array()?.iter().rev() {
        let parts = message["content"].as_array().into_iter().flatten();
        let pictures: Vec<&str> = parts
            .filter_map(|part| part["image_url"]["url"].as_str())
            .collect();
        if !pictures.is_empty() {
            return Some(json!({"content": format!("I see {}.", pictures.join(" and "))}));
        }
        let text = message["content"].as_str().unwrap_or_default();
        if message["role"] == "tool" {
            return Some(json!({"content": "The tool has answered."}));
        }
        if let Some(mark) = text.split("[[call:").nth(1) {
            let (name, arguments) = mark.split("]]").next()?.split_once(':')?;
            let function = json!({"name": name, "arguments": arguments});
            let call =
                json!({"index": 0, "id": "call_1", "type": "function", "function": function});
            return Some(json!({"tool_calls": [call]}));
        }
    }
    None
}

/// Streams one line of the script; every client of ours asks for a stream.
async fn play<S: AsyncWrite + Unpin>(stream: &mut S, line: &Value) -> bool {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let reason = if line["content"].is_null() {
        "tool_calls"
    } else {
        "stop"
    };
    let frame = |delta: &Value, reason: Option<&str>| json!({"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
    let frames = format!(
        "data: {}\n\ndata: {}\n\ndata: {}\n\ndata: [DONE]\n\n",
        frame(line, None),
        frame(&json!({}), Some(reason)),
        json!({"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}}),
    );
    if stream.write_all(head.as_bytes()).await.is_err() || chunk(stream, &frames).await.is_err() {
        return false;
    }
    finish(stream).await
}

/// The fault for this request: its own, else the process's.
fn fault(server: &Server, body: &Value) -> String {
    let text = body.to_string();
    let Some(mark) = text
        .split("[[fault:")
        .nth(1)
        .and_then(|rest| rest.split("]]").next())
    else {
        return server.options.fault.clone();
    };
    let (kind, id) = mark.split_once(':').unwrap_or((mark, ""));
    if let (Some(folder), false) = (&server.options.once, id.is_empty()) {
        let first = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(folder.join(id))
            .is_ok();
        if !first {
            return String::new();
        }
    }
    kind.to_owned()
}

/// Freezes the whole process, like a driver that hangs: nothing answers, no CPU moves.
fn stop_myself() {
    std::process::Command::new("/bin/kill")
        .args(["-STOP", &std::process::id().to_string()])
        .status()
        .unwrap();
}

struct Busy<'a>(&'a Server);

impl<'a> Busy<'a> {
    fn new(server: &'a Server) -> Self {
        server.active.fetch_add(1, Ordering::SeqCst);
        Self(server)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn reply<S: AsyncWrite + Unpin>(stream: &mut S, status: u16, body: &Value) {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
}

async fn chunk<S: AsyncWrite + Unpin>(stream: &mut S, text: &str) -> std::io::Result<()> {
    stream
        .write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
        .await
}

async fn finish<S: AsyncWrite + Unpin>(stream: &mut S) -> bool {
    stream.write_all(b"0\r\n\r\n").await.is_ok()
}
