//! Rows of the table in which something is taken in that should not be.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{ESCAPES, HUB, OTHERS, seen, town};
use crate::support::wire::AWAY;

#[test]
fn row_03_digests_and_names_stay_in_their_folder() {
    let Some(town) = town() else { return };
    town.row(|| {
        let owner = town.with(&town.owner);
        let short = "a".repeat(63);
        let long = "a".repeat(65);
        let mut names: Vec<String> = ESCAPES.iter().map(|&name| name.to_owned()).collect();
        names.extend([format!("sha256:{short}"), format!("sha256:{long}")]);
        for name in &names {
            // Whatever is no file of the page is the page itself.
            let page = owner.get(&format!("/app/{name}")).text();
            assert!(!page.contains("root:"), "{name}: {page}");
            for answer in [
                owner.get(&format!("/api/blobs/{name}")),
                owner.post(&format!("/api/blobs/{name}"), &json!({})),
                owner.post("/api/show", &json!({ "model": name })),
                owner.post("/api/copy", &json!({ "source": name, "destination": name })),
                owner.send(
                    "DELETE",
                    "/api/delete",
                    &json!({ "model": name }).to_string(),
                ),
                owner.post("/api/pull", &json!({ "model": name, "stream": false })),
                owner.get(&format!("/api/documents/{name}/content")),
            ] {
                assert!(
                    (400..500).contains(&answer.status) || answer.status == 501,
                    "{name}: {} {}",
                    answer.status,
                    answer.text()
                );
                assert!(!answer.text().contains("root:"), "{name}");
            }
        }
    });
}

#[test]
fn row_04_archives_and_uploads_stay_in_their_folder() {
    let Some(town) = town() else { return };
    town.row(|| {
        let owner = town.with(&town.owner);
        let outside = town.resident.data().parent().expect("a folder");
        let names = |folder: &Path| {
            let entries = std::fs::read_dir(folder).expect("readable");
            let mut all: Vec<_> = entries
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            all.sort();
            all
        };
        let before = (names(outside), names(town.resident.data()));
        for name in [
            "../../app/index.html",
            "/etc/cron.d/x",
            "..%2f..%2fescaped.txt",
            "a%00b.txt",
        ] {
            let answer = owner
                .with_header("Content-Type", "application/octet-stream")
                .send(
                    "POST",
                    &format!("/api/documents/raw?name={name}"),
                    "harmless text",
                );
            assert!(answer.status < 500, "{name}: {}", answer.text());
            if answer.status == 200 {
                let id = answer.json()["id"].as_str().expect("an id").to_owned();
                assert_eq!(owner.delete(&format!("/api/documents/{id}")).status, 200);
            }
        }
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for name in [
            "../escaped.txt",
            "/tmp/onebit-escaped.txt",
            "documents/../../escaped.txt",
            "library.json",
        ] {
            zip.start_file(name, zip::write::SimpleFileOptions::default())
                .expect("an entry");
            zip.write_all(b"{}").expect("written");
        }
        let zip = zip.finish().expect("an archive").into_inner();
        let answer = owner
            .with_header("Content-Type", "application/zip")
            .send_bytes("POST", "/onebit/library", &zip);
        assert!((200..500).contains(&answer.status), "{}", answer.text());
        assert_eq!((names(outside), names(town.resident.data())), before);
        assert!(!Path::new("/tmp/onebit-escaped.txt").exists());
    });
}

#[test]
fn row_05_hostile_model_files_are_refused_before_anything_starts() {
    let Some(town) = town() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let head = |tensors: u64, values: u64| {
        [
            &b"GGUF\x03\0\0\0"[..],
            &tensors.to_le_bytes(),
            &values.to_le_bytes(),
        ]
        .concat()
    };
    // One tensor of so many dimensions, such sizes and such an offset.
    let tensor = |sizes: &[u64], kind: u32, offset: u64| {
        let mut bytes = head(1, 0);
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(b"t");
        bytes.extend((sizes.len() as u32).to_le_bytes());
        for size in sizes {
            bytes.extend(size.to_le_bytes());
        }
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        bytes.extend([0; 64]);
        bytes
    };
    let text = |length: u64| {
        let mut bytes = head(0, 1);
        bytes.extend(length.to_le_bytes());
        bytes.extend(b"general.architecture");
        bytes
    };
    let corpus: [(&str, Vec<u8>); 14] = [
        ("no tensors at all", head(0, 0)),
        ("tensors without end", head(u64::MAX, 0)),
        ("values without end", head(0, u64::MAX)),
        ("both", head(u64::MAX, u64::MAX)),
        ("a billion tensors", head(1 << 30, 0)),
        ("a tensor beyond the file", tensor(&[1 << 40], 0, 0)),
        (
            "sizes that overflow",
            tensor(&[1 << 32, 1 << 32, 1 << 32, 1 << 32], 0, 0),
        ),
        ("an offset beyond the file", tensor(&[4], 0, u64::MAX - 8)),
        ("an offset that wraps", tensor(&[u64::MAX, 2], 0, u64::MAX)),
        ("a tensor of no size", tensor(&[0, 0], 0, 0)),
        ("a type that is none", tensor(&[4], 9999, 0)),
        ("a text beyond the file", text(1 << 40)),
        ("a text without end", text(u64::MAX)),
        ("cut", head(3, 3)[..17].to_vec()),
    ];
    let models = || {
        town.wire
            .away(|| town.with(&town.owner).get("/onebit/models").json())
    };
    let before = models();
    for (name, bytes) in corpus {
        let path = folder
            .path()
            .join(format!("{}.gguf", name.replace(' ', "-")));
        std::fs::write(&path, bytes).expect("written");
        let begun = Instant::now();
        let output = town
            .wire
            .onebit(&town.resident, &["import", path.to_str().expect("text")]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {error}");
        assert!(
            !error.contains("panicked") && error.trim().lines().count() == 1,
            "{name}: {error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(10), "{name}");
    }
    assert_eq!(models(), before);
}

#[test]
fn row_06_numbers_out_of_range_reach_no_engine() {
    let Some(town) = town() else { return };
    town.row(|| {
        let client = town.with(&town.infer);
        for (field, value) in [
            ("n_discard", json!(-1)),
            ("n_keep", json!(-9_000_000_000_i64)),
            ("n_predict", json!(-9_000_000_000_i64)),
            ("n_probs", json!(i64::MAX)),
            ("top_k", json!(-5)),
            ("top_p", json!(1e308)),
            ("temperature", json!(-1e308)),
            ("repeat_last_n", json!(i64::MIN)),
            ("id_slot", json!(i64::MAX)),
            ("n_ctx", json!(u64::MAX)),
            ("seed", json!(-1)),
            ("logit_bias", json!([[i64::MAX, 1e308]])),
            ("mirostat", json!(-7)),
        ] {
            let mut body = json!({ "prompt": "Hello", "n_predict": 1 });
            body[field] = value.clone();
            let answer = client.post("/completion", &body);
            assert!(answer.status < 500, "{field} {value}: {} {}", answer.status, answer.text());
            let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }], "model": "onebit-mini", "max_tokens": 1 });
            body[field] = value.clone();
            let answer = client.post("/v1/chat/completions", &body);
            assert!(answer.status < 500, "{field} {value}: {} {}", answer.status, answer.text());
        }
        let well = client.post("/completion", &json!({ "prompt": "Hello", "n_predict": 1 }));
        assert_eq!(well.status, 200, "{}", well.text());
    });
}

#[test]
fn row_07_addresses_of_the_house_are_not_fetched() {
    let Some(town) = town() else { return };
    town.row(|| {
        let owner = town.with(&town.owner);
        for url in [
            "http://127.0.0.1:8000/health",
            "http://localhost:8000/health",
            "http://[::1]:8000/health",
            "http://[::ffff:127.0.0.1]:8000/health",
            "http://2130706433:8000/health",
            "http://0x7f000001:8000/health",
            "http://127.1:8000/health",
            "http://0.0.0.0:8000/health",
            "http://169.254.169.254/latest/meta-data/",
            "http://192.168.77.1:8000/health",
            "http://10.0.0.1/",
            "http://100.64.0.1/",
            "http://[fd77::1]:8000/health",
            "http://[fe80::1]/",
            "file:///etc/passwd",
            "gopher://127.0.0.1:8000/_GET",
            "ftp://127.0.0.1/",
        ] {
            let answer = owner.post("/api/documents/url", &json!({ "url": url }));
            assert!(
                (400..600).contains(&answer.status),
                "{url}: {} {}",
                answer.status,
                answer.text()
            );
            let pulled = owner.post("/api/pull", &json!({ "model": url, "stream": false }));
            assert!(
                (400..600).contains(&pulled.status),
                "{url}: {} {}",
                pulled.status,
                pulled.text()
            );
        }
    });
}

#[test]
fn row_08_no_redirect_and_no_spelling_leads_into_the_house() {
    let Some(town) = town() else { return };
    town.row(|| {
        let owner = town.with(&town.owner);
        for (place, reached) in [
            (format!("http://{AWAY}:{HUB}/a/to-loopback"), true),
            (format!("http://{AWAY}:{HUB}/a/to-home"), true),
            (format!("http://{AWAY}:{HUB}/a/to-file"), true),
            (format!("http://127.0.0.1:8000\\@{AWAY}:{HUB}/b1"), false),
            (format!("http://{AWAY}:{HUB}@127.0.0.1:8000/b2"), false),
            (format!("http://{AWAY}:{HUB}\\@127.0.0.1:8000/b3"), false),
            (format!("http://user:word@{AWAY}:{HUB}/b4"), false),
            (format!("http://{AWAY}:{HUB}\t@127.0.0.1/b5"), false),
            (format!("http://{AWAY}:{HUB}#@127.0.0.1:8000/b6"), false),
        ] {
            let answer = owner.post("/api/documents/url", &json!({ "url": place }));
            assert!(
                (400..600).contains(&answer.status),
                "{place}: {} {}",
                answer.status,
                answer.text()
            );
            if reached {
                let (_, path) = place.split_at(place.find("/a/").expect("a path"));
                assert!(!seen(HUB, path).is_empty(), "{place}: {}", answer.text());
            }
        }
    });
}

#[test]
fn row_09_the_hubs_token_stays_with_the_hub() {
    let Some(town) = town() else { return };
    town.row(|| {
        let answer = town.with(&town.owner).post(
            "/api/pull",
            &json!({ "model": "to-others/model", "stream": false }),
        );
        assert!(answer.status >= 400, "{}", answer.text());
        let first = seen(HUB, "to-others");
        assert!(
            first.iter().any(|head| head.contains("hub-secret")),
            "{first:?}"
        );
        let second = seen(OTHERS, "/taken");
        assert!(
            !second.is_empty(),
            "the redirect was not followed: {}",
            answer.text()
        );
        assert!(
            second
                .iter()
                .all(|head| !head.to_lowercase().contains("authorization")),
            "{second:?}"
        );
    });
}

#[test]
fn row_10_what_expands_without_end_is_cut() {
    let Some(town) = town() else { return };
    town.row(|| {
        let client = town.with(&town.chat);
        let before = town.resident.memory_max();
        // A bomb that a server would have to unpack; ours unpacks nothing.
        let bomb = [&b"\x1f\x8b\x08\0\0\0\0\0\0\xff"[..], &[0xec; 4096]].concat();
        let packed = client.with_header("Content-Encoding", "gzip").send_bytes(
            "POST",
            "/v1/chat/completions",
            &bomb,
        );
        assert!((400..500).contains(&packed.status), "{}", packed.text());
        let announced = client.with_header("Content-Length", "10737418240");
        let answer = announced.send("POST", "/v1/chat/completions", "");
        assert_eq!(answer.status, 413, "{}", answer.text());
        // One byte more than the limit, in pieces whose sum nobody has announced.
        let piece = "a".repeat(1 << 20);
        let mut body = String::new();
        for _ in 0..32 {
            body += &format!("{:x}\r\n{piece}\r\n", piece.len());
        }
        body += "1\r\na\r\n";
        let chunked = client.with_header("Transfer-Encoding", "chunked");
        let answer = chunked.send_bytes("POST", "/v1/chat/completions", body.as_bytes());
        assert_eq!(answer.status, 413, "{}", answer.text());
        let owner = town.with(&town.owner);
        let pulled = owner.post(
            "/api/pull",
            &json!({ "model": "endless/model", "stream": false }),
        );
        assert!(pulled.status >= 400, "{}", pulled.text());
        let grown = town.resident.memory_max().saturating_sub(before);
        println!("memory grew by {} MiB", grown >> 20);
        assert!(grown < 300 << 20, "{grown}");
    });
}

#[test]
fn row_18_no_second_door_and_templates_do_not_escape() {
    let Some(town) = town() else { return };
    town.row(|| {
        let client = town.with(&town.infer);
        for template in [
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "{% for x in range(1000000000) %}x{% endfor %}",
            "{{ lipsum.__globals__['os'].popen('id').read() }}",
        ] {
            let body = json!({
                "messages": [{ "role": "user", "content": template }], "chat_template": template,
                "chat_template_kwargs": { "x": template }, "max_tokens": 1, "model": "onebit-mini",
            });
            for path in ["/apply-template", "/v1/chat/completions"] {
                let answer = client.post(path, &body);
                assert!(
                    answer.status < 500 && !answer.text().contains("uid="),
                    "{path}: {}",
                    answer.text()
                );
            }
        }
    });
    assert_eq!(town.resident.listening(), [8000, 8443]);
}

#[test]
fn row_19_an_unsigned_release_is_not_installed() {
    let Some(town) = town() else { return };
    let output = town.wire.onebit(&town.resident, &["update"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    println!("{error}");
}
