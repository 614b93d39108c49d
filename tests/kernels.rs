//! The GPU's kernels from outside, on a Vulkan device made of the processor: compiled and checked once, kept, made
//! again when an entry is damaged or the work was cut off; and a chat on them.
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::Client;
use crate::support::app::binary;

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
