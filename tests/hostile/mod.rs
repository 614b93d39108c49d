//! Broken and hostile files: each fails clearly and alone, and the process goes on with everybody else's.

mod files; // the files themselves, made here
pub(crate) mod raw; // deflate, zips and PDFs by hand, as no library would write them
#[allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
mod run {
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use super::files::{Case, HARMLESS, all};
    use crate::documents::{settled, upload};
    use crate::support::client::Answer;
    use crate::support::{App, Client};

    /// Seconds of computing that a reader may take here: what never ends, ends then.
    const READER_SECONDS: &str = "3";

    /// What a reader may hold here: a bomb that unfolds in memory ends there.
    const READER_BYTES: &str = "1073741824";

    /// All of them together, on a busy machine; alone it is a quarter of that.
    const ALL_MAX: Duration = Duration::from_secs(240);

    #[test]
    fn forty_hostile_files_fail_alone() {
        let folder = tempfile::tempdir().unwrap();
        let roots = folder.path().to_string_lossy().into_owned();
        let app = App::with_environment(&[
            ("ONEBIT_DOCUMENTS_READER_SECONDS_MAX", READER_SECONDS),
            ("ONEBIT_DOCUMENTS_READER_MEMORY_BYTES_MAX", READER_BYTES),
            ("ONEBIT_DOCUMENTS_ROOTS", &roots),
        ]);
        let client = app.client();
        let begun = Instant::now();
        let cases = all();
        let good = |at: usize| {
            let text =
                format!("The quiet neighbour number {at} is read as if nothing had happened.");
            let id = upload(&client, &format!("good{at}.txt"), text.as_bytes())["id"].clone();
            id.as_str().unwrap().to_owned()
        };
        let mut neighbours = Vec::new();
        let mut wrong = Vec::new();
        let ids: Vec<String> = cases
            .iter()
            .enumerate()
            .map(|(at, case)| {
                // A file of somebody else's stands behind every fifth.
                if at % 5 == 0 {
                    neighbours.push(good(at));
                }
                let document = upload(&client, case.name, &case.bytes);
                document["id"].as_str().unwrap().to_owned()
            })
            .collect();
        for (case, id) in cases.iter().zip(&ids) {
            let status = settled(&client, id);
            if let Some(fault) = fault(case, &status) {
                wrong.push(fault);
            }
        }
        for id in &neighbours {
            assert_eq!(
                settled(&client, id)["indexing_status"],
                "complete",
                "a neighbour was harmed"
            );
        }
        let refused = at_the_door(&client, folder.path(), &mut wrong);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let harmless = cases.iter().filter(|case| case.kinds == HARMLESS).count();
        let count = cases.len() - harmless + refused;
        assert!(count >= 40, "{count} files");
        assert_eq!(client.get("/health").status, 200);
        let found = client.post(
            "/v1/search",
            &json!({"query": "quiet neighbour", "mode": "words", "k": 50}),
        );
        assert_eq!(
            found.json()["passages"].as_array().unwrap().len(),
            neighbours.len(),
            "what failed left nothing behind"
        );
        assert!(begun.elapsed() < ALL_MAX, "{:?}", begun.elapsed());
        println!("{count} files in {:?}", begun.elapsed());
    }

    /// What is wrong with how a file failed.
    fn fault(case: &Case, status: &Value) -> Option<String> {
        let kind = status["error_kind"].as_str().unwrap_or_default();
        let hint = status["last_error"].as_str().unwrap_or_default();
        let read = case.kinds == HARMLESS && status["indexing_status"] == "complete";
        if read {
            return None;
        }
        let fits = status["indexing_status"] == "failed" && case.kinds.contains(&kind);
        let clear =
            hint.len() > 10 && hint.is_char_boundary(hint.len()) && !hint.contains("panicked");
        (!fits || !clear).then(|| format!("{}: {:?} wanted, {status}", case.what, case.kinds))
    }

    /// What is refused before anything is read; returns how many were tried.
    fn at_the_door(client: &Client, folder: &Path, wrong: &mut Vec<String>) -> usize {
        let mut tried = 0;
        let mut ask = |what: &str, status: u16, answer: Answer| {
            tried += 1;
            let told = answer.json()["detail"]
                .as_str()
                .is_some_and(|detail| detail.len() > 10);
            if answer.status != status || !told {
                wrong.push(format!("{what}: {} {}", answer.status, answer.text()));
            }
        };
        let raw = |name: &str, bytes: &[u8]| {
            client
                .with_header("Content-Type", "application/octet-stream")
                .send_bytes("POST", &format!("/api/documents/raw?name={name}"), bytes)
        };
        ask("no byte at all", 400, raw("empty.pdf", b""));
        ask("a program by its name", 400, raw("setup.exe", b"MZ"));
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.txt"), "not shared").unwrap();
        let link = folder.join("link.txt");
        std::os::unix::fs::symlink(outside.path().join("secret.txt"), &link).unwrap();
        let around = folder.join("around.txt");
        std::os::unix::fs::symlink(&around, &around).unwrap();
        let device = folder.join("endless.txt");
        std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
        let pipe = folder.join("pipe.txt");
        assert!(
            Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let path =
            |path: &Path| client.post("/api/documents/upload-path", &json!({"filepath": path}));
        ask("a link that leads outside", 400, path(&link));
        ask("a link to itself", 400, path(&around));
        ask("a link to a device", 400, path(&device));
        ask("a pipe that nobody fills", 400, path(&pipe));
        ask("a device", 403, path(Path::new("/dev/zero")));
        tried
    }
}
