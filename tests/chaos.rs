//! Engines that fail in every way while requests keep coming, and what the gateway itself costs.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use onebit::domain::{ChatEvent, ChatRequest, FinishReason, Input, Limits, Message, Role};
use onebit::engines::child::{ChildSession, Children, Door, Patience, Recipe, Seat};
use onebit::engines::upstream::Endpoint;
use onebit::engines::{EngineError, Facts, Session};
use onebit::process::Spec;

use crate::support::engine::{Folder, alive, fake_engine, launcher};

/// Short enough for a test, long against anything a healthy fake engine does.
const PATIENCE: Patience = Patience {
    starting: Duration::from_secs(2),
    working: Duration::from_millis(400),
    answer: Duration::from_millis(800),
    per_token: Duration::ZERO,
};

fn children(folder: &Folder) -> Children {
    Children {
        launcher: launcher(),
        folder: folder.0.clone(),
        patience: PATIENCE,
    }
}

fn facts() -> Facts {
    Facts {
        engine: "fake",
        context_length: 4096,
        memory_bytes: 0,
        template: None,
    }
}

fn recipe(
    slots: usize,
    queue_max: usize,
    args: &'static [&'static str],
    once: Option<&Folder>,
) -> Recipe {
    let once = once.map(|f| f.0.clone());
    Recipe {
        model: "fake".into(),
        model_inside: "fake".into(),
        door: Door::Socket,
        ready_path: "/health",
        slots,
        queue_max,
        tokens_min: 0,
        command: Box::new(move |seat: &Seat| {
            let Endpoint::Socket(path) = &seat.endpoint else {
                panic!("no socket")
            };
            let mut spec = Spec::new(fake_engine())
                .arg("--host")
                .arg(path)
                .args(args.iter().copied());
            if let Some(once) = &once {
                spec = spec.arg("--once").arg(once);
            }
            spec.env("LLAMA_API_KEY", &seat.secret)
        }),
    }
}

fn ask(content: String, tokens: usize) -> ChatRequest {
    ChatRequest {
        limits: Limits {
            tokens_max: Some(tokens),
            ..Limits::default()
        },
        ..ChatRequest::new(
            "fake",
            Input::Messages(vec![Message::new(Role::User, content)]),
        )
    }
}

/// The whole answer, or the error that ended it with the text before.
async fn whole(
    session: &ChildSession,
    content: String,
    tokens: usize,
) -> Result<String, (String, EngineError)> {
    let mut events = session
        .chat(ask(content, tokens))
        .map_err(|e| (String::new(), e))?;
    let mut text = String::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(ChatEvent::Piece(piece)) => text.push_str(&piece.text),
            Ok(ChatEvent::Finished(finish)) => {
                assert_eq!(finish.reason, FinishReason::Length);
                assert_eq!(finish.usage.completion_tokens, tokens);
                assert!(
                    events.next().await.is_none(),
                    "something came after the end"
                );
                return Ok(text);
            }
            Ok(_) => {}
            Err(error) => return Err((text, error)),
        }
    }
    panic!("the stream ended without an end: {text:?}")
}

fn right(tokens: usize) -> String {
    (0..tokens).map(|n| format!("t{n} ")).collect()
}

#[tokio::test]
async fn a_healthy_engine_answers() {
    let folder = Folder::new("healthy");
    let session = ChildSession::start(recipe(4, 8, &[], None), children(&folder), facts())
        .await
        .unwrap();
    assert_eq!(whole(&session, "hi".into(), 12).await.unwrap(), right(12));
    let vectors = session.embed(vec!["a".into(), "b".into()]).await.unwrap();
    assert_eq!(vectors, [[1.0, 0.0, 0.5], [1.0, 1.0, 0.5]]);
    assert_eq!(session.counters().retries.load(Ordering::Relaxed), 0);
}

/// Each fault alone: before the first byte it is invisible, after it it is one error with what came before.
#[tokio::test]
async fn one_fault_at_a_time() {
    let folder = Folder::new("faults");
    let once = Folder::new("faults-once");
    let session = ChildSession::start(recipe(4, 8, &[], Some(&once)), children(&folder), facts())
        .await
        .unwrap();
    for fault in [
        "crash-before",
        "oom",
        "hang-before",
        "stop",
        "zombie",
        "error-500",
        "error-200",
        "wrong-length",
        "not-http",
    ] {
        let begun = Instant::now();
        let answer = whole(&session, format!("[[fault:{fault}:a-{fault}]]"), 6).await;
        assert_eq!(
            answer.as_deref().ok(),
            Some(right(6).as_str()),
            "{fault}: {answer:?}"
        );
        println!(
            "{fault:<14} answered all the same after {:?}",
            begun.elapsed()
        );
        calm(&session).await;
    }
    for fault in [
        "crash-mid",
        "oom-mid",
        "hang-mid",
        "stop-mid",
        "zombie-mid",
        "cut-mid",
        "garbage-sse",
        "error-mid",
    ] {
        let begun = Instant::now();
        let (text, error) = whole(&session, format!("[[fault:{fault}:b-{fault}]]"), 6)
            .await
            .unwrap_err();
        assert_eq!(text, right(3), "{fault}");
        println!("{fault:<14} one error after {:?}: {error}", begun.elapsed());
        calm(&session).await;
    }
    assert_eq!(
        whole(&session, "[[fault:slow:c]]".into(), 6).await.unwrap(),
        right(6),
        "slow is no fault"
    );
}

/// Lets the crash history fade: single faults are tested here, bursts elsewhere.
async fn calm(session: &ChildSession) {
    session.forgive();
}

#[tokio::test]
async fn an_engine_that_cannot_start_says_why() {
    let folder = Folder::new("nostart");
    for (args, word) in [
        (&["--fault", "crash-at-start"][..], "failed to load model"),
        (&["--fault", "hang-at-start"], "no progress"),
    ] {
        let error = ChildSession::start(recipe(1, 1, args, None), children(&folder), facts())
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let folder = Folder::new("queue");
    let session = ChildSession::start(
        recipe(1, 2, &["--token-us", "20000"], None),
        children(&folder),
        facts(),
    )
    .await
    .unwrap();
    let mut streams: Vec<_> = (0..3)
        .map(|_| session.chat(ask("x".into(), 4)).unwrap())
        .collect();
    assert!(matches!(
        session.chat(ask("x".into(), 4)),
        Err(EngineError::QueueFull { .. })
    ));
    streams.truncate(1);
    assert!(streams[0].next().await.is_some());
    drop(streams);
    assert_eq!(
        whole(&session, "y".into(), 4).await.unwrap(),
        right(4),
        "a client that left frees its place"
    );
}

#[tokio::test]
async fn dropping_the_session_ends_its_child() {
    let folder = Folder::new("dropped");
    let session = ChildSession::start(
        recipe(1, 1, &["--fault", "ignore-term"], None),
        children(&folder),
        facts(),
    )
    .await
    .unwrap();
    let pid = session.pid().unwrap();
    assert!(alive(pid));
    drop(session);
    while alive(pid) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Five hundred faults of all kinds under load, over three engines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_faults_under_load() {
    const FAULTS: usize = 500;
    const KINDS: [&str; 17] = [
        "crash-before",
        "crash-mid",
        "error-500",
        "error-200",
        "wrong-length",
        "not-http",
        "garbage-sse",
        "cut-mid",
        "error-mid",
        "oom",
        "oom-mid",
        "zombie",
        "zombie-mid",
        "stop",
        "stop-mid",
        "hang-before",
        "hang-mid",
    ];
    let folder = Folder::new("chaos");
    let once = Folder::new("chaos-once");
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let session = ChildSession::start(
            recipe(4, 64, &["--token-us", "200"], Some(&once)),
            children(&folder),
            facts(),
        )
        .await;
        let session = Arc::new(session.unwrap());
        session.endure();
        sessions.push(session);
    }
    let begun = Instant::now();
    let workers: Vec<_> = (0..12)
        .map(|worker| {
            let session = sessions[worker % 3].clone();
            tokio::spawn(async move {
                let (mut clean, mut hidden, mut framed, mut worst) = (0, 0, 0, Duration::ZERO);
                for n in (worker..FAULTS).step_by(12) {
                    let kind = KINDS[n % KINDS.len()];
                    // One request with a fault, one without, as the load around it.
                    for content in [format!("[[fault:{kind}:f{n}]]"), "plain".to_owned()] {
                        let faulty = content.starts_with('[');
                        let asked = Instant::now();
                        match whole(&session, content, 10).await {
                            Ok(text) => {
                                assert_eq!(text, right(10), "a wrong answer after {kind}");
                                if faulty { hidden += 1 } else { clean += 1 }
                            }
                            Err((text, error)) => {
                                assert!(
                                    right(10).starts_with(&text),
                                    "a wrong beginning after {kind}: {text}"
                                );
                                assert!(!error.to_string().is_empty());
                                framed += 1;
                            }
                        }
                        worst = worst.max(asked.elapsed());
                    }
                }
                (clean, hidden, framed, worst)
            })
        })
        .collect();
    let (mut clean, mut hidden, mut framed, mut worst) = (0, 0, 0, Duration::ZERO);
    for worker in workers {
        let ended = tokio::time::timeout(Duration::from_secs(240), worker)
            .await
            .expect("a request hung")
            .unwrap();
        clean += ended.0;
        hidden += ended.1;
        framed += ended.2;
        worst = worst.max(ended.3);
    }
    assert_eq!(clean + hidden + framed, FAULTS * 2);
    let sum = |f: fn(&ChildSession) -> u64| sessions.iter().map(|s| f(s)).sum::<u64>();
    println!(
        "{FAULTS} faults and as many plain requests in {:?}",
        begun.elapsed()
    );
    println!(
        "plain and right {clean}, faulty but answered all the same {hidden}, one framed error {framed}; slowest {worst:?}"
    );
    println!(
        "deaths {}, hangs {}, retries {}",
        sum(|s| s.counters().deaths.load(Ordering::Relaxed)),
        sum(|s| s.counters().hangs.load(Ordering::Relaxed)),
        sum(|s| s.counters().retries.load(Ordering::Relaxed))
    );
    let mut recovery: Vec<u64> = sessions.iter().flat_map(|s| s.recoveries_ms()).collect();
    recovery.sort_unstable();
    if let (Some(p50), Some(last)) = (recovery.get(recovery.len() / 2), recovery.last()) {
        println!(
            "up again after: p50 {p50} ms, slowest {last} ms, {} times",
            recovery.len()
        );
    }
    for session in &sessions {
        assert!(session.alive(), "a session was given up");
        assert_eq!(whole(session, "after".into(), 5).await.unwrap(), right(5));
    }
    let pids: Vec<u32> = sessions.iter().filter_map(|s| s.pid()).collect();
    drop(sessions);
    for pid in pids {
        while alive(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // Whatever any incarnation left behind would carry our folder in its arguments.
    let left: Vec<String> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|e| std::fs::read_to_string(e.ok()?.path().join("cmdline")).ok())
        .filter(|line| line.contains(&*folder.0.to_string_lossy()))
        .collect();
    assert!(left.is_empty(), "orphans: {left:?}");
}

/// What our layer adds to an engine: the same requests straight to the socket and through a session, in
/// turns. For figures, not for a verdict: run it alone with --ignored --nocapture.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run alone"]
async fn what_a_session_adds() {
    const ROUNDS: usize = 2000;
    let folder = Folder::new("overhead");
    let session = ChildSession::start(recipe(4, 8, &[], None), children(&folder), facts())
        .await
        .unwrap();
    let upstream = session.upstream().await.unwrap();
    let body = serde_json::json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "stream": true});
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let patience = Duration::from_secs(5);
        let mut answer = upstream
            .post("/v1/chat/completions", &body, patience)
            .await
            .unwrap();
        while answer.chunk(patience).await.unwrap().is_some() {}
        direct.push(begun.elapsed());
        let begun = Instant::now();
        whole(&session, "hi".into(), 8).await.unwrap();
        through.push(begun.elapsed());
    }
    for times in [&mut direct, &mut through] {
        times.sort();
    }
    for (name, at) in [("p50", ROUNDS / 2), ("p99", ROUNDS * 99 / 100)] {
        let added = through[at].saturating_sub(direct[at]);
        println!(
            "{name}: direct {:?}, through a session {:?}, added {added:?}",
            direct[at], through[at]
        );
    }
}

/// The real llama-server through the same session: needs `llama-server` and a model, so it is asked for.
#[tokio::test]
#[ignore = "needs ONEBIT_TEST_LLAMA_SERVER and the default model; tests/run passes them"]
async fn the_real_llama_server_answers() {
    use onebit::engines::llama_server::command;
    let program = std::path::PathBuf::from(std::env::var_os("ONEBIT_TEST_LLAMA_SERVER").unwrap());
    let model = crate::support::model_file();
    let folder = Folder::new("llama-real");
    let patience = Patience::default();
    let children = Children {
        launcher: launcher(),
        folder: folder.0.clone(),
        patience,
    };
    let real = Recipe {
        command: Box::new(move |seat| command(&program, &model, 4096, 2, false, seat)),
        ..recipe(4, 8, &[], None)
    };
    let begun = Instant::now();
    let session = ChildSession::start(real, children, facts()).await.unwrap();
    println!("ready after {:?}", begun.elapsed());
    let mut request = ask("Write one sentence about the sea.".into(), 24);
    request.sampling.temperature = Some(0.0);
    let mut texts = Vec::new();
    for _ in 0..2 {
        let mut events = session.chat(request.clone()).unwrap();
        let mut text = String::new();
        while let Some(event) = events.next().await {
            match event.unwrap() {
                ChatEvent::Piece(piece) => text.push_str(&piece.text),
                ChatEvent::Finished(finish) => println!("{finish:?}"),
                _ => {}
            }
        }
        texts.push(text);
    }
    println!("{}", texts[0]);
    assert!(texts[0].len() > 20 && texts[0] == texts[1], "{texts:?}");
    let pid = session.pid().unwrap();
    let killed = Instant::now();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let mut events = session.chat(request).unwrap();
    assert!(
        events.next().await.unwrap().is_ok(),
        "it is up again for the next request"
    );
    println!(
        "up again and answering {:?} after kill -9",
        killed.elapsed()
    );
}
