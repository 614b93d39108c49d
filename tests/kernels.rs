//! The GPU's kernels from outside, on a Vulkan device made of the processor: compiled and checked once, kept, made
//! again when an entry is damaged or the work was cut off; and a chat on them. Then NVIDIA's way, on a library that
//! stands in for its driver: found, preferred, told of while it works, and left when its kernels are wrong.
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::app::binary;
use crate::support::{Client, root};

/// Whether there is such a device; without one the tests say loudly that they ran nothing.
fn software_gpu() -> bool {
    let found = std::fs::read_dir("/usr/share/vulkan/icd.d").is_ok_and(|folder| {
        folder
            .filter_map(Result::ok)
            .any(|file| file.file_name().to_string_lossy().starts_with("lvp_icd"))
    });
    if !found {
        eprintln!("SKIPPED: no gpu kernel was run, for there is no lavapipe");
    }
    found
}

fn onebit(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .env("XDG_CONFIG_HOME", data)
        .env_remove("ONEBIT_DATA_DIR")
        .arg("--data")
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn compile(data: &Path) -> Value {
    let arguments = ["kernels", "compile", "--device", "software", "--json"];
    let output = onebit(data, &arguments).output().expect("onebit runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).expect("a report in JSON")
}

fn counts(report: &Value) -> [u64; 3] {
    ["compiled", "known", "bad"].map(|key| report[key].as_u64().expect("a count"))
}

#[test]
fn kernels_are_made_once_and_again_when_they_are_damaged() {
    if !software_gpu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let [all, _, bad] = counts(&compile(data));
    assert!(all > 10 && bad == 0, "{all} compiled, {bad} bad");
    assert_eq!(counts(&compile(data)), [0, all, 0], "the second start");
    // One entry cut short, one with a flipped bit, one that is gone.
    let mut entries: Vec<_> = std::fs::read_dir(data.join("kernels"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "kernel"))
        .collect();
    entries.sort();
    let mut bytes = std::fs::read(&entries[0]).unwrap();
    std::fs::write(&entries[0], &bytes[..bytes.len() / 2]).unwrap();
    bytes = std::fs::read(&entries[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&entries[1], bytes).unwrap();
    std::fs::remove_file(&entries[2]).unwrap();
    assert_eq!(
        counts(&compile(data)),
        [3, all - 3, 0],
        "three entries damaged"
    );
    let output = onebit(data, &["kernels", "clear"]).output().unwrap();
    assert!(output.status.success());
    let output = onebit(data, &["kernels", "list", "--json"])
        .output()
        .unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["kernels"], json!([]));
}

#[test]
fn work_that_was_killed_costs_one_kernel_at_most() {
    if !software_gpu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let arguments = ["kernels", "compile", "--device", "software"];
    let mut child = onebit(data, &arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("compiling"));
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("compiled"), "{first}");
    child.kill().unwrap();
    child.wait().unwrap();
    let [compiled, known, bad] = counts(&compile(data));
    assert!(
        known >= 1 && compiled >= 1 && bad <= 1,
        "{compiled} {known} {bad}"
    );
    // What was set aside stays so, and everything else is there.
    assert_eq!(counts(&compile(data)), [0, known + compiled, bad]);
}

#[test]
fn a_missing_driver_is_named_with_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let run = |device: &str| -> Output {
        onebit(folder.path(), &["kernels", "compile", "--device", device])
            .env("VK_DRIVER_FILES", "/nonexistent")
            .env("VK_ICD_FILENAMES", "/nonexistent")
            .output()
            .unwrap()
    };
    let output = run("auto");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        errors.contains("install") || errors.contains("no gpu"),
        "{errors}"
    );
}

#[test]
fn a_chat_on_the_device_says_what_the_processor_says() {
    if !software_gpu() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ask = |settings: &str| -> (String, String) {
        let data = folder.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        let file = folder.path().join("onebit.toml");
        // A busy machine must not decide what this is about.
        let pool = "[pool]\nmemory_bytes_max = 1073741824\n";
        std::fs::write(&file, format!("{settings}{pool}")).unwrap();
        let mut server = onebit(&data, &["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.split("http://").nth(1).unwrap().trim().to_owned();
        let client = Client::new(&address);
        let asked = json!({
            "model": "onebit-mini", "temperature": 0, "max_tokens": 8,
            "messages": [{"role": "user", "content": "Name a colour."}],
        });
        let ask = |client: &Client| {
            let answer = client.post("/v1/chat/completions", &asked);
            assert_eq!(answer.status, 200, "{}", answer.text());
            let route = answer.header("x-onebit-route").unwrap().to_owned();
            let text = answer.json()["choices"][0]["message"]["content"].clone();
            (text.as_str().unwrap().to_owned(), route)
        };
        let (text, _) = ask(&client);
        // The processor is a lane of its own, whatever else is there.
        let (same, route) = ask(&client.with_header("x-onebit-lane", "ternary.cpu"));
        assert!(route.starts_with("lane=ternary.cpu "), "{route}");
        assert_eq!(same, text);
        server.kill().unwrap();
        let output = server.wait_with_output().unwrap();
        (text, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (wanted, log) = ask("[ternary]\ndevice = \"cpu\"\n");
    assert!(
        !wanted.is_empty() && !log.contains("computes on the gpu"),
        "{log}"
    );
    // Kernels that are not compiled: the processor serves, and the log says why.
    let software = "[ternary]\ndevice = \"software\"\ncache_positions = 4096\n";
    let (found, log) = ask(software);
    assert_eq!(found, wanted);
    assert!(log.contains("kernels compile"), "{log}");
    compile(&folder.path().join("data"));
    let (found, log) = ask(software);
    assert!(log.contains("computes on the gpu"), "{log}");
    assert_eq!(found, wanted, "{log}");
}

/// A folder with libraries of NVIDIA's names, compiled from the stand-in.
fn stand_in(folder: &Path) -> std::path::PathBuf {
    let libraries = folder.join("nvidia");
    std::fs::create_dir_all(&libraries).expect("a folder");
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args([
            "--edition=2024",
            "--crate-type=cdylib",
            "-Copt-level=1",
            "-o",
        ])
        .arg(libraries.join("libcuda.so.1"))
        .arg(root().join("tests/fixtures/cuda/stand_in.rs"))
        .output()
        .expect("rustc runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    std::fs::copy(
        libraries.join("libcuda.so.1"),
        libraries.join("libnvrtc.so.13"),
    )
    .expect("a copy");
    libraries
}

#[test]
fn cuda_is_a_lane_its_first_run_is_told_of_and_wrong_kernels_leave_the_processor() {
    let folder = tempfile::tempdir().unwrap();
    let (data, libraries) = (folder.path().join("data"), stand_in(folder.path()));
    std::fs::create_dir_all(&data).unwrap();
    let with = |arguments: &[&str]| {
        let mut command = onebit(&data, arguments);
        command.env("LD_LIBRARY_PATH", &libraries);
        command
    };
    let list = || -> Value {
        let output = with(&["kernels", "list", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).expect("a list in JSON")
    };
    let found = list();
    let way = |name: &str| {
        let ways = found["devices"].as_array().unwrap();
        ways.iter().find(|way| way["way"] == name).unwrap().clone()
    };
    let device = &way("cuda")["devices"][0];
    assert_eq!(device["name"], "Stand-in H100", "{found}");
    assert_eq!(device["lane"], "ternary.cuda");
    assert!(
        way("hip")["error"].as_str().unwrap().contains("kfd"),
        "{found}"
    );
    let file = folder.path().join("onebit.toml");
    std::fs::write(&file, "[pool]\nmemory_bytes_max = 1073741824\n").unwrap();
    let mut server = with(&["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first.split("http://").nth(1).unwrap().trim().to_owned();
    let client = Client::new(&address);
    let mut phases = Vec::new();
    // Each asking takes its time; a first run of kernels that all fail takes a few seconds.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
    let gpu = loop {
        let gpu = client.get("/onebit/status").json()["gpu"].clone();
        if let Some(phase) = gpu["phase"].as_str()
            && !phases.iter().any(|seen| seen == phase)
        {
            phases.push(phase.to_owned());
        }
        if phases.iter().any(|phase| phase == "failed") {
            break gpu;
        }
        assert!(std::time::Instant::now() < until, "{phases:?} {gpu}");
    };
    assert_eq!(phases.first().map(String::as_str), Some("compiling"));
    assert_eq!(gpu["lane"], "ternary.cuda");
    let why = gpu["why"].as_str().unwrap();
    assert!(why.contains("other numbers"), "{why}");
    let status = with(&["status"]).output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout);
    assert!(
        status.contains("ternary.cuda on Stand-in H100: not used, the processor answers"),
        "{status}"
    );
    let answer = client.post(
        "/v1/chat/completions",
        &json!({
            "model": "onebit-mini", "temperature": 0, "max_tokens": 4,
            "messages": [{"role": "user", "content": "Name a colour."}],
        }),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let route = answer.header("x-onebit-route").unwrap();
    assert!(route.starts_with("lane=ternary.cpu "), "{route}");
    server.kill().unwrap();
    let output = server.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("the gpu has no kernels"), "{log}");
    let bad = list()["kernels"].as_array().unwrap().clone();
    assert!(
        bad.len() > 10 && bad.iter().all(|kernel| kernel["bad"].is_string()),
        "{bad:?}"
    );
    // Another way than the one that is named is not taken, and what it lacks is said.
    let output = with(&["kernels", "compile", "--device", "hip"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains("kfd"),
        "{errors}"
    );
}
