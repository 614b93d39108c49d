//! Children of every bad kind, through the real shim and guard.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail loudly, and talk to the test that started them"
)]

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use onebit::process::{Limits, Pipes, ProcessError, Sandbox, Spec};

use crate::support::engine::{Folder, alive, fake_engine, healthy, launcher, start};

const STALL: Duration = Duration::from_millis(600);

async fn ready(args: &[&str], name: &str) -> Result<Duration, ProcessError> {
    let folder = Folder::new(name);
    let (child, socket) = start(&launcher(), &folder, args).await;
    let begun = Instant::now();
    child
        .ready(STALL, || healthy(&socket))
        .await
        .map(|()| begun.elapsed())
}

#[tokio::test]
async fn readiness_is_the_probe_and_nothing_else() {
    ready(&[], "ready").await.unwrap();
    let slow = ready(&["--start-ms", "400"], "slow").await.unwrap();
    assert!(slow >= Duration::from_millis(300), "{slow:?}");
}

#[tokio::test]
async fn a_crash_at_start_tells_its_last_words() {
    let error = ready(&["--fault", "crash-at-start"], "crash")
        .await
        .unwrap_err();
    let ProcessError::DiedStarting {
        exit, last_line, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert!(
        exit.contains('3') && last_line.contains("failed to load model"),
        "{error}"
    );
    let error = ready(&["--fault", "oom-at-start"], "oom")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("failed to allocate"), "{error}");
}

#[tokio::test]
async fn a_hang_at_start_is_told_from_a_slow_start() {
    let error = ready(&["--fault", "hang-at-start"], "hang")
        .await
        .unwrap_err();
    assert!(matches!(error, ProcessError::Stalled { .. }), "{error}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_with_its_name() {
    let child = launcher()
        .spawn(Spec::new("/nowhere/llama-server"))
        .await
        .unwrap();
    let error = child.ready(STALL, || async { false }).await.unwrap_err();
    assert!(
        error.to_string().contains("/nowhere/llama-server"),
        "{error}"
    );
}

#[tokio::test]
async fn an_exit_is_noticed_within_50_ms() {
    let folder = Folder::new("noticed");
    let launcher = launcher();
    let mut took = Vec::new();
    for _ in 0..50 {
        let (child, socket) = start(&launcher, &folder, &[]).await;
        child.ready(STALL, || healthy(&socket)).await.unwrap();
        let killed = Instant::now();
        let pid = rustix::process::Pid::from_raw(child.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let exit = child.wait().await.unwrap();
        assert!(!exit.asked);
        took.push(exit.noticed - killed);
    }
    took.sort();
    let [p50, nearly_all, worst] = [took[25], took[48], took[49]];
    println!("exit noticed: p50 {p50:?}, all but one within {nearly_all:?}, worst {worst:?}");
    // A busy machine may leave any one of us waiting for its processor.
    assert!(nearly_all < Duration::from_millis(50), "{took:?}");
}

#[tokio::test]
async fn sigterm_then_sigkill() {
    let folder = Folder::new("term");
    let (child, socket) = start(&launcher(), &folder, &["--fault", "ignore-term"]).await;
    child.ready(STALL, || healthy(&socket)).await.unwrap();
    let begun = Instant::now();
    let exit = child.stop().await.unwrap();
    assert!(exit.asked && !exit.status.success());
    assert!(
        begun.elapsed() >= Duration::from_millis(300),
        "the grace was not given"
    );
    assert!(
        child
            .log()
            .after(0)
            .iter()
            .any(|l| l.text.contains("SIGTERM? no"))
    );
}

#[tokio::test]
async fn dropping_the_handle_ends_the_whole_group() {
    let folder = Folder::new("group");
    let launcher = launcher();
    let spec = Spec::new("/bin/sh").args(["-c", "sleep 600 & echo $!; wait"]);
    let child = launcher.spawn(spec).await.unwrap();
    let mut lines = child.log().follow();
    lines.wait_for(|n| *n > 0).await.unwrap();
    let grandchild: u32 = child.log().last_line().parse().unwrap();
    assert!(alive(grandchild));
    let mut exit = child.watch_exit();
    drop(child);
    exit.wait_for(Option::is_some).await.unwrap();
    gone(grandchild).await;
    drop(folder);
}

#[tokio::test]
async fn a_leader_that_leaves_a_grandchild_behind_is_cleaned_up() {
    let folder = Folder::new("zombie");
    let (child, _) = start(&launcher(), &folder, &["--fault", "zombie-at-start"]).await;
    child.wait().await.unwrap();
    let mut lines = child.log().follow();
    lines.wait_for(|n| *n > 0).await.unwrap();
    let line = child.log().last_line();
    gone(line.rsplit(' ').next().unwrap().parse().unwrap()).await;
}

async fn gone(pid: u32) {
    let begun = Instant::now();
    while alive(pid) {
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{pid} is an orphan"
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_environment_is_clean() {
    let spec = Spec::new("/usr/bin/env").env("ONLY", "this");
    let output = launcher().run(spec, 4096, STALL).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut keys: Vec<&str> = text.lines().filter_map(|l| l.split('=').next()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["HOME", "LANG", "ONLY", "PATH"]);
}

#[tokio::test]
async fn output_and_silence_are_bounded() {
    let launcher = launcher();
    let error = launcher
        .run(Spec::new("/usr/bin/yes"), 100_000, STALL)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ProcessError::TooMuchOutput {
                max_bytes: 100_000,
                ..
            }
        ),
        "{error}"
    );
    let error = launcher
        .run(Spec::new("/bin/sleep").arg("600"), 100, STALL)
        .await
        .unwrap_err();
    assert!(matches!(error, ProcessError::Stalled { .. }), "{error}");
    // Working without a word is not a hang.
    let busy = Spec::new("/bin/sh").args([
        "-c",
        "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; echo done",
    ]);
    assert_eq!(
        launcher.run(busy, 100, STALL).await.unwrap().stdout,
        b"done\n"
    );
}

#[tokio::test]
async fn a_talking_child_has_its_own_pipes() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut spec = Spec::new("/bin/cat");
    spec.pipes = Pipes::Talk;
    let mut child = launcher().spawn(spec).await.unwrap();
    let mut talk = child.talk().unwrap();
    assert!(child.talk().is_none());
    talk.stdin.write_all(b"hello").await.unwrap();
    drop(talk.stdin);
    let mut text = String::new();
    talk.stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn limits_hold() {
    let mut spec = Spec::new("/bin/sh").args(["-c", "ulimit -n; ulimit -c"]);
    spec.limits = Limits {
        files: Some(77),
        ..Limits::default()
    };
    let output = launcher().run(spec, 100, STALL).await.unwrap();
    assert_eq!(output.stdout, b"77\n0\n");
}

#[tokio::test]
async fn a_sandboxed_child_sees_only_its_folders() {
    let folder = Folder::new("sandbox");
    let (open, shut) = (folder.0.join("open"), folder.0.join("shut"));
    for path in [&open, &shut] {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("f"), "secret").unwrap();
    }
    let script = format!(
        "cat {0}/f; cat {1}/f; echo x > {0}/new",
        open.display(),
        shut.display()
    );
    let mut spec = Spec::new("/bin/sh").args(["-c", &script]);
    spec.sandbox = Some(Sandbox {
        required: true,
        ..Sandbox::system().reading(&open)
    });
    let output = launcher().run(spec, 100, STALL).await.unwrap();
    if output.stderr.contains("does not enforce landlock") {
        println!("this kernel has no landlock; the child was refused, as asked");
        assert_eq!(output.status.code(), Some(127));
        return;
    }
    assert_eq!(output.stdout, b"secret", "{}", output.stderr);
    assert!(
        !open.join("new").exists(),
        "it wrote where it may only read"
    );
}

#[tokio::test]
async fn a_child_opens_no_connection_unless_it_may() {
    if !onebit::process::shim::can_keep_unconnected() {
        println!(
            "SKIPPED: this kernel cannot keep children from connecting (Linux 6.7 with Landlock can)"
        );
        return;
    }
    let app = crate::support::App::shared();
    let (host, port) = app.address().split_once(':').unwrap();
    // The appliance's own port, as its owner; once by the child and once by a child of that.
    let ask = format!(
        "exec 3<>/dev/tcp/{host}/{port} && printf 'GET /onebit/devices HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: \
         close\\r\\n\\r\\n' >&3 && head -1 <&3"
    );
    let twice = format!("{ask}; bash -c \"{ask}\"");
    let spec = || Spec::new("/bin/bash").args(["-c", &twice]);
    let kept = launcher().run(spec(), 1000, STALL * 10).await.unwrap();
    assert_eq!(kept.stdout, b"", "{}", kept.stderr);
    assert!(kept.stderr.contains("Permission denied"), "{}", kept.stderr);
    let let_go = launcher()
        .run(spec().connecting(), 1000, STALL * 10)
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&let_go.stdout).into_owned();
    assert_eq!(said.matches("200 OK").count(), 2, "{said}{}", let_go.stderr);
    // A helper that may ask the network, and not us.
    let port = port.parse().unwrap();
    let elsewhere = spec().connecting_but(&[port]);
    let kept = launcher().run(elsewhere, 1000, STALL * 10).await.unwrap();
    assert_eq!(kept.stdout, b"", "{}", kept.stderr);
    assert!(kept.stderr.contains("Permission denied"), "{}", kept.stderr);
    let others = spec().connecting_but(&[port ^ 1]);
    let let_go = launcher().run(others, 1000, STALL * 10).await.unwrap();
    let said = String::from_utf8_lossy(&let_go.stdout).into_owned();
    assert_eq!(said.matches("200 OK").count(), 2, "{said}{}", let_go.stderr);
}

/// The test that matters most: kill -9 of the appliance leaves nobody, not even a grandchild.
#[tokio::test]
async fn nothing_outlives_our_own_kill_9() {
    if let Some(folder) = std::env::var_os("ONEBIT_TEST_BE_THE_APPLIANCE") {
        be_the_appliance(folder.into()).await;
        return;
    }
    let folder = Folder::new("kill9");
    let mut appliance = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "process::nothing_outlives_our_own_kill_9",
            "--nocapture",
        ])
        .env("ONEBIT_TEST_BE_THE_APPLIANCE", &folder.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pids = Vec::new();
    for line in BufReader::new(appliance.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((_, list)) = line.split_once("PIDS ") {
            pids = list.split(' ').map(|p| p.parse().unwrap()).collect();
            break;
        }
    }
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|&p| alive(p)));
    appliance.kill().unwrap();
    appliance.wait().unwrap();
    for pid in pids {
        gone(pid).await;
    }
}

async fn be_the_appliance(folder: std::path::PathBuf) {
    let folder = std::mem::ManuallyDrop::new(Folder(folder));
    let launcher = launcher();
    let (engine, socket) = start(&launcher, &folder, &["--fault", "ignore-term"]).await;
    engine.ready(STALL, || healthy(&socket)).await.unwrap();
    let parent = launcher
        .spawn(Spec::new("/bin/sh").args(["-c", "sleep 600 & echo $!; wait"]))
        .await
        .unwrap();
    parent.log().follow().wait_for(|n| *n > 0).await.unwrap();
    println!(
        "\nPIDS {} {} {}",
        engine.pid(),
        parent.pid(),
        parent.log().last_line()
    );
    std::future::pending::<()>().await;
}

#[test]
fn the_fake_engine_is_built() {
    fake_engine();
}
