//! Pulling from a mirror on loopback that cuts, redirects, lies, ignores ranges and dies.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail loudly too")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use onebit::app::catalog::{CatalogError, Hub, HubFile, Progress, Source, choose, download};
use onebit::fetch::{Fetch, Policy};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lemonade::hub::{Hub as HalfHub, REPOSITORY};
use crate::support::App;
use crate::support::app::binary;
use crate::support::engine::Folder;
use crate::support::root;

/// How the mirror behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Honest,
    /// Ends every connection after this many bytes of body.
    Cuts(usize),
    /// Answers 200 with everything, whatever was asked.
    IgnoresRange,
    /// The bytes are not those of the listing.
    WrongBytes,
    /// Sends more than it announced in the listing.
    TooLong,
    /// Answers a range with another range.
    WrongRange,
    /// 416 for every range.
    RefusesRange,
    /// Another version, with another etag, from the second request on.
    NewVersion,
    /// 503 twice before each answer.
    Busy,
    /// Leads to another port for the bytes.
    Redirects,
    /// Accepts and says nothing sensible.
    Dead,
}

struct Mirror {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

fn body(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 % 251) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

async fn mirror(manner: Manner, content: Vec<u8>) -> Mirror {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    let count = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (content, seen, count) = (content.clone(), seen.clone(), count.clone());
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                let n = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..n]).to_lowercase();
                seen.lock().unwrap().push(head.clone());
                let reply = answer(
                    manner,
                    &head,
                    &content,
                    address,
                    count.fetch_add(1, Ordering::SeqCst),
                );
                // The client may have hung up on purpose.
                let _ = stream.write_all(&reply).await;
            });
        }
    });
    Mirror { address, requests }
}

fn answer(
    manner: Manner,
    head: &str,
    content: &[u8],
    address: std::net::SocketAddr,
    n: usize,
) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap_or("/");
    if path.starts_with("/api/models?") {
        let found = r#"[{"id":"o/m","downloads":7,"tags":["license:mit"]},{"id":"../m"}]"#;
        return format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{found}",
            found.len()
        )
        .into_bytes();
    }
    if path.starts_with("/api/") {
        let listing = format!(
            r#"[{{"type":"file","path":"m-Q4_K_M.gguf","size":{0},"lfs":{{"oid":"{1}","size":{0}}}}},{{"type":"file","path":"../../evil.gguf","size":1}},{{"type":"file","path":"readme.md","size":3}}]"#,
            content.len(),
            sha256(content)
        );
        return format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{listing}",
            listing.len()
        )
        .into_bytes();
    }
    let start: Option<usize> = head
        .split("range: bytes=")
        .nth(1)
        .and_then(|r| r.split('-').next()?.parse().ok());
    let mut content = content.to_vec();
    let mut etag = "v1";
    match manner {
        Manner::Dead => return b"\0\0\0".to_vec(),
        Manner::Busy if n % 3 != 2 => {
            return b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n".to_vec();
        }
        Manner::RefusesRange if start.is_some() => {
            return b"HTTP/1.1 416 X\r\ncontent-length: 0\r\n\r\n".to_vec();
        }
        Manner::Redirects if !path.contains("moved") => {
            let to = format!("http://localhost:{}/moved", address.port());
            return format!("HTTP/1.1 302 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
                .into_bytes();
        }
        Manner::WrongBytes => content[0] ^= 1,
        Manner::TooLong => content.extend_from_slice(b"more"),
        Manner::NewVersion if n > 0 => etag = "v2",
        _ => {}
    }
    let same_version = head
        .split("if-range: ")
        .nth(1)
        .is_none_or(|v| v.starts_with(&format!("\"{etag}\"")));
    let (status, from, range) =
        match start.filter(|_| same_version && manner != Manner::IgnoresRange) {
            Some(start) => {
                let shown = if manner == Manner::WrongRange {
                    start - 1
                } else {
                    start
                };
                (
                    206,
                    start,
                    format!(
                        "content-range: bytes {shown}-{}/{}\r\n",
                        content.len() - 1,
                        content.len()
                    ),
                )
            }
            None => (200, 0, String::new()),
        };
    let rest = &content[from..];
    let length = if manner == Manner::TooLong {
        String::new()
    } else {
        format!("content-length: {}\r\n", rest.len())
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\netag: \"{etag}\"\r\n{range}{length}connection: close\r\n\r\n"
    );
    let cuts = match manner {
        Manner::Cuts(n) => n,
        // Those that matter only for a second request cut the first.
        Manner::IgnoresRange | Manner::WrongRange | Manner::RefusesRange | Manner::NewVersion
            if start.is_none() && n == 0 =>
        {
            rest.len() / 2
        }
        _ => rest.len(),
    };
    [head.as_bytes(), &rest[..cuts.min(rest.len())]].concat()
}

fn hub(mirror: &Mirror) -> Hub {
    let policy = Policy {
        offline: false,
        private_hosts: vec!["127.0.0.1".into(), "localhost".into()],
    };
    Hub::new(
        Fetch::new(policy),
        &format!("http://{}", mirror.address),
        Some("hub-token".into()),
    )
}

fn file(content: &[u8]) -> HubFile {
    HubFile {
        path: "m-Q4_K_M.gguf".into(),
        bytes: content.len() as u64,
        sha256: Some(sha256(content)),
    }
}

async fn pull(
    mirror: &Mirror,
    content: &[u8],
    folder: &Path,
) -> (Result<Vec<u8>, CatalogError>, u64) {
    let progress = Arc::new(Progress::default());
    let source = Source::parse("o/m").unwrap();
    let pulled = download(&hub(mirror), &source, &[file(content)], folder, &progress).await;
    let bytes = pulled.map(|paths| std::fs::read(&paths[0]).unwrap());
    if bytes.is_ok() {
        assert_eq!(
            progress.done_bytes.load(Ordering::Relaxed),
            content.len() as u64
        );
    }
    (bytes, progress.resumed_bytes.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_listing_leads_to_a_file_that_is_right() {
    let folder = Folder::new("pull-honest");
    let content = body(300_000);
    let mirror = mirror(Manner::Honest, content.clone()).await;
    let source = Source::parse("o/m").unwrap();
    let files = hub(&mirror).list(&source).await.unwrap();
    assert_eq!(files.len(), 2, "the climbing path is not listed: {files:?}");
    let choice = choose(&source, &files, u64::MAX).unwrap();
    assert_eq!(choice.files, [file(&content)]);
    let (bytes, resumed) = pull(&mirror, &content, &folder.0).await;
    assert_eq!((bytes.unwrap(), resumed), (content.clone(), 0));
    let left: Vec<_> = std::fs::read_dir(&folder.0).unwrap().collect();
    assert_eq!(left.len(), 1, "no part and no note stays: {left:?}");
    let before = mirror.requests.lock().unwrap().len();
    let (bytes, resumed) = pull(&mirror, &content, &folder.0).await;
    assert_eq!(
        (bytes.unwrap().len(), resumed),
        (content.len(), content.len() as u64)
    );
    assert_eq!(
        mirror.requests.lock().unwrap().len(),
        before,
        "what is there is not asked for again"
    );
}

#[tokio::test]
async fn whatever_the_mirror_does_the_file_is_right() {
    for manner in [
        Manner::Cuts(70_000),
        Manner::IgnoresRange,
        Manner::WrongRange,
        Manner::RefusesRange,
        Manner::NewVersion,
        Manner::Busy,
        Manner::Redirects,
    ] {
        let folder = Folder::new("pull-manners");
        let content = body(300_000);
        let mirror = mirror(manner, content.clone()).await;
        let (bytes, _) = pull(&mirror, &content, &folder.0).await;
        assert!(
            bytes.as_ref().is_ok_and(|b| *b == content),
            "{manner:?}: {:?}",
            bytes.err()
        );
        println!(
            "{manner:?}: right after {} requests",
            mirror.requests.lock().unwrap().len()
        );
        if manner == Manner::Redirects {
            let heads = mirror.requests.lock().unwrap();
            assert!(
                heads[0].contains("hub-token") && !heads[1].contains("hub-token"),
                "the token crossed an origin"
            );
        }
    }
}

#[tokio::test]
async fn lies_are_found_and_nothing_wrong_stays() {
    for (manner, word) in [
        (Manner::WrongBytes, "sha256"),
        (Manner::TooLong, "bytes instead of"),
        (Manner::Dead, "no further"),
    ] {
        let folder = Folder::new("pull-lies");
        let content = body(50_000);
        let mirror = mirror(manner, content.clone()).await;
        let (bytes, _) = pull(&mirror, &content, &folder.0).await;
        let error = bytes.unwrap_err().to_string();
        assert!(
            error.contains(word) || error.contains("more than"),
            "{manner:?}: {error}"
        );
        assert!(!folder.0.join("m-Q4_K_M.gguf").exists());
    }
}

/// The appliance dies in the middle; the next pull asks only for the rest and hashes what is there.
#[tokio::test]
async fn a_pull_survives_a_death() {
    let folder = Folder::new("pull-death");
    let content = body(200_000);
    let half = &content[..120_000];
    std::fs::write(folder.0.join("m-Q4_K_M.gguf.part"), half).unwrap();
    std::fs::write(
        folder.0.join("m-Q4_K_M.gguf.part-of"),
        format!("{} {}\n\"v1\"", content.len(), sha256(&content)),
    )
    .unwrap();
    let mirror = mirror(Manner::Honest, content.clone()).await;
    let (bytes, resumed) = pull(&mirror, &content, &folder.0).await;
    assert_eq!((bytes.unwrap(), resumed), (content.clone(), 120_000));
    assert!(mirror.requests.lock().unwrap()[0].contains("range: bytes=120000-"));
    // A part of something else, or one that went bad on the disk, is not trusted.
    for (part, note) in [
        (half.to_vec(), "77 other\n".to_owned()),
        (
            vec![0; 120_000],
            format!("{} {}\n\"v1\"", content.len(), sha256(&content)),
        ),
    ] {
        std::fs::remove_file(folder.0.join("m-Q4_K_M.gguf")).ok();
        std::fs::write(folder.0.join("m-Q4_K_M.gguf.part"), part).unwrap();
        std::fs::write(folder.0.join("m-Q4_K_M.gguf.part-of"), note).unwrap();
        let (first, _) = pull(&mirror, &content, &folder.0).await;
        let bytes = if first.is_ok() {
            first
        } else {
            pull(&mirror, &content, &folder.0).await.0
        };
        assert_eq!(bytes.unwrap(), content);
    }
}

#[tokio::test]
async fn a_disk_without_room_is_told_before_the_first_byte() {
    let folder = Folder::new("pull-full");
    let mirror = mirror(Manner::Honest, body(10)).await;
    let huge = HubFile {
        path: "m.gguf".into(),
        bytes: u64::MAX / 4,
        sha256: None,
    };
    let source = Source::parse("o/m").unwrap();
    let error = download(&hub(&mirror), &source, &[huge], &folder.0, &Arc::default())
        .await
        .unwrap_err();
    assert!(matches!(error, CatalogError::DiskFull { .. }), "{error}");
    assert!(mirror.requests.lock().unwrap().is_empty());
}

/// A shell in a mount namespace of its own, which does one line after the other.
struct World {
    shell: Child,
    lines: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl World {
    /// `None` where this system gives no such namespace.
    fn new() -> Option<World> {
        let try_it = ["-rm", "sh", "-c", "mount -t tmpfs none /mnt"];
        let allowed = Command::new("unshare").args(try_it).output().ok()?;
        if !allowed.status.success() {
            return None;
        }
        let script = r#"while read -r line; do eval "$line" 2>&1; echo "=$?"; done"#;
        let mut shell = Command::new("unshare")
            .args(["-rm", "sh", "-c", script])
            .env("ONEBIT_FETCH_PRIVATE_HOSTS", "127.0.0.1")
            .env("ONEBIT_MODELS_BUILTIN", "false")
            .env("XDG_CONFIG_HOME", "/nonexistent")
            .env_remove("ONEBIT_DATA_DIR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Some(World {
            lines: shell.stdin.take().unwrap(),
            said: BufReader::new(shell.stdout.take().unwrap()),
            shell,
        })
    }

    /// Does a line; returns its exit status and what it said.
    fn does(&mut self, line: &str) -> (i32, String) {
        writeln!(self.lines, "{line}").unwrap();
        let mut said = String::new();
        loop {
            let before = said.len();
            assert!(
                self.said.read_line(&mut said).unwrap() > 0,
                "{line}: {said}"
            );
            if let Some(status) = said[before..].strip_prefix('=') {
                let status = status.trim().parse().unwrap();
                said.truncate(before);
                return (status, said);
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// A disk that shrinks below the puller: once to where a write fails, once to where only databases would still fit.
#[test]
fn a_disk_that_fills_in_the_middle_is_told_and_nothing_is_lost() {
    let Some(mut world) = World::new() else {
        eprintln!("not tested: this system lets nobody mount a file system of his own");
        return;
    };
    let file = root().join("packaging/models/onebit-mini.gguf");
    let whole = std::fs::metadata(&file).unwrap().len();
    // Words need a disk of their own.
    let words = Folder::new("pull-words");
    let words = words.0.join("said");
    let words = words.display();
    for (size, free_min) in [("26m", 0), ("220m", 100 << 20)] {
        let folder = Folder::new("pull-filling");
        let disk = folder.0.display();
        let hub = HalfHub::of(&file, false);
        let (status, said) = world.does(&format!("mount -t tmpfs -o size=400m none {disk}"));
        assert_eq!(status, 0, "{said}");
        let pull = format!(
            "{} --json pull {REPOSITORY} --data {disk}/data --endpoint http://{}",
            binary().display(),
            hub.address
        );
        world.does(&format!("{pull} > {words} 2>&1 & pid=$!"));
        let part = format!("{disk}/data/pulls/*/*.part");
        let begun = std::time::Instant::now();
        while world.does(&format!("stat -c %s {part}")).1.trim() != (whole / 2).to_string() {
            assert!(
                begun.elapsed().as_secs() < 60,
                "{}",
                world.does(&format!("cat {words}")).1
            );
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        world.does(&format!("mount -o remount,size={size} {disk}"));
        hub.let_go();
        let (status, _) = world.does("wait $pid");
        let (_, said) = world.does(&format!("cat {words}"));
        assert_eq!(status, 1, "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains("filled up while Mini-T5.gguf came in") && said.contains("pull again"),
            "{said}"
        );
        let number = |before: &str, after: &str| -> u64 {
            let rest = said.split(before).nth(1).unwrap();
            rest.split(after).next().unwrap().parse().unwrap()
        };
        let kept = number("; the ", " bytes that arrived");
        assert!(kept >= whole / 2, "{said}");
        assert_eq!(number("stay: free ", " and pull"), whole - kept, "{said}");
        assert!(number("came in (", " bytes are free") >= free_min, "{said}");
        let (_, left) = world.does(&format!("ls {disk}/data/models"));
        assert!(!left.contains("gguf"), "nothing half is a model: {left}");

        world.does(&format!("mount -o remount,size=400m {disk}"));
        let (status, said) = world.does(&pull);
        assert_eq!(status, 0, "{said}");
        let model: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
        assert_eq!(model["resumed_bytes"], kept, "{said}");
        assert_eq!(model["sha256"], sha256(&std::fs::read(&file).unwrap()));
        // It was moved to where models lie: one copy on the disk, and no part.
        let (_, there) = world.does(&format!(
            "find {disk}/data -name '*gguf*' -type f; ls {disk}/data/pulls"
        ));
        let there: Vec<&str> = there.lines().collect();
        assert!(
            there.len() == 1 && there[0].contains("/models/"),
            "{there:?}"
        );
        world.does(&format!("umount {disk}"));
    }
}

#[tokio::test]
async fn a_search_asks_for_words_and_leaves_out_what_cannot_be_pulled() {
    let mirror = mirror(Manner::Honest, Vec::new()).await;
    let found = hub(&mirror).search("small & good").await.unwrap();
    let names: Vec<_> = found.iter().map(|one| one.repo.as_str()).collect();
    assert_eq!(names, ["o/m"]);
    let asked = mirror.requests.lock().unwrap()[0].clone();
    assert!(
        asked.contains("search=small%20%26%20good&filter=gguf"),
        "{asked}"
    );
}

#[test]
fn an_offline_appliance_asks_no_hub() {
    let app = App::with_environment(&[("ONEBIT_FETCH_OFFLINE", "true")]);
    for path in ["/onebit/hub?query=small", "/onebit/update"] {
        let answer = app.client().get(path);
        let said = answer.text();
        assert!(answer.status >= 400, "{path}: {said}");
        assert!(
            said.contains("offline") || said.contains("update.releases"),
            "{path}: {said}"
        );
    }
    assert_eq!(app.client().get("/onebit/hub?query=").status, 400);
}
