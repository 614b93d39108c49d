//! The library from outside: documents come in, are read by a child, found, cited, and really deleted.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::openai::model;
use crate::support::{App, Client, app::onebit_on};

/// A document that is not there by then never will be: a debug build reads these in well under a second.
const READ_MAX: Duration = Duration::from_secs(60);

const GUIDE: &str = "# Harbour guide\n\n## Tides\n\nHigh water comes at Quillport about noon on the day of a full moon. \
    The bar has eleven feet over it then, and a stranger should not try it in the dark.\n\n\
    ## Provisions\n\nFresh bread is sold by the baker Anselm Rook behind the chandlery. He closes on Thursdays.\n\n\
    ## Repairs\n\nA torn sail is mended at the loft of the sisters Vane, who take three days for a mainsail.\n";

/// Sends a file's bytes; gives the document as it was acknowledged.
pub(crate) fn upload(client: &Client, name: &str, bytes: &[u8]) -> Value {
    let answer = client
        .with_header("Content-Type", "application/octet-stream")
        .send_bytes("POST", &format!("/api/documents/raw?name={name}"), bytes);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Follows a document until it is read or has failed.
pub(crate) fn settled(client: &Client, id: &str) -> Value {
    let begun = Instant::now();
    loop {
        let status = client.get(&format!("/api/documents/{id}/status")).json();
        if status["is_active"] == false {
            return status;
        }
        assert!(begun.elapsed() < READ_MAX, "still {status}");
        std::thread::yield_now();
    }
}

fn ready(client: &Client, name: &str, text: &str) -> String {
    let document = upload(client, name, text.as_bytes());
    let id = document["id"].as_str().unwrap().to_owned();
    let status = settled(client, &id);
    assert_eq!(status["indexing_status"], "complete", "{status}");
    id
}

fn search(client: &Client, body: &Value) -> Vec<Value> {
    let answer = client.post("/v1/search", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["passages"].as_array().unwrap().clone()
}

#[test]
fn a_document_is_found_by_word_and_by_meaning_and_its_offsets_are_exact() {
    let app = App::empty();
    let client = app.client();
    let id = ready(&client, "guide.md", GUIDE);
    let other = ready(
        &client,
        "zoo.txt",
        "The zebra and the giraffe live on the savannah.",
    );
    let found = search(
        &client,
        &json!({"query": "Who bakes? Where can I buy a loaf?", "k": 3}),
    );
    assert_eq!(found[0]["document_id"], id.as_str(), "{found:?}");
    assert!(
        found[0]["text"].as_str().unwrap().contains("Anselm Rook"),
        "by meaning: {found:?}"
    );
    assert_eq!(found[0]["headings"], json!(["Harbour guide", "Provisions"]));
    let word = search(&client, &json!({"query": "chandlery", "mode": "words"}));
    assert_eq!(word.len(), 1);

    let (start, end) = (
        word[0]["start"].as_u64().unwrap(),
        word[0]["end"].as_u64().unwrap(),
    );
    let content = client
        .get(&format!(
            "/api/documents/{id}/content?start={start}&end={end}"
        ))
        .json();
    assert_eq!(
        content["content"], word[0]["text"],
        "offsets point at the passage"
    );
    let chunk = client
        .get(&format!(
            "/api/documents/{id}/chunks/{}",
            word[0]["passage"]
        ))
        .json();
    assert_eq!(chunk["text"], word[0]["text"]);

    let collection = client
        .post("/onebit/collections", &json!({"name": "Animals"}))
        .json();
    let shelf = collection["id"].as_str().unwrap();
    let put = client.send(
        "PUT",
        &format!("/onebit/collections/{shelf}/documents/{other}"),
        "",
    );
    assert_eq!(put.status, 200, "{}", put.text());
    let only = search(&client, &json!({"query": "bread", "collections": [shelf]}));
    assert!(
        only.iter().all(|one| one["document_id"] == other.as_str()),
        "{only:?}"
    );
    let nowhere = client.post(
        "/v1/search",
        &json!({"query": "bread", "collections": ["none"]}),
    );
    assert_eq!(nowhere.status, 404);
    assert_eq!(
        client.post("/v1/search", &json!({"query": "?!"})).status,
        400
    );

    let twin = upload(&client, "copy.md", GUIDE.as_bytes());
    assert_eq!(
        twin["id"],
        id.as_str(),
        "the same content is the same document"
    );
    let list = client.get("/api/documents").json();
    assert_eq!(list["total"], 2);
}

#[test]
fn deleting_leaves_no_trace() {
    let app = App::empty();
    let client = app.client();
    let id = ready(
        &client,
        "secret.txt",
        "The password of the cellar is xylophonequartz.",
    );
    assert_eq!(
        search(&client, &json!({"query": "xylophonequartz"})).len(),
        1
    );
    assert_eq!(
        client.delete(&format!("/api/documents/{id}")).json(),
        json!({"deleted": true})
    );
    assert!(
        search(
            &client,
            &json!({"query": "xylophonequartz", "mode": "words"})
        )
        .is_empty()
    );
    assert!(search(&client, &json!({"query": "cellar password"})).is_empty());
    assert_eq!(client.get(&format!("/api/documents/{id}")).status, 404);
    let mut files = Vec::new();
    walk(app.data(), &mut files);
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let there = bytes.windows(15).any(|part| part == b"xylophonequartz");
        assert!(!there, "{} still holds it", file.display());
    }
}

fn walk(folder: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => walk(&entry.path(), into),
            kind if kind.is_file() => into.push(entry.path()),
            _ => {}
        }
    }
}

#[test]
fn what_cannot_be_read_fails_alone_with_a_kind_and_a_hint() {
    let app = App::empty();
    let client = app.client();
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("broken.pdf", b"%PDF-1.7\nnot really".to_vec(), "broken"),
        ("blank.txt", b"  \n\n ".to_vec(), "empty"),
        (
            "program.txt",
            b"\x7fELF\x02\x01\x01".to_vec(),
            "unsupported",
        ),
        (
            "nested.json",
            format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000)).into_bytes(),
            "broken",
        ),
    ];
    for (name, bytes, kind) in &cases {
        let id = upload(&client, name, bytes)["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let status = settled(&client, &id);
        assert_eq!(
            (&status["indexing_status"], &status["error_kind"]),
            (&json!("failed"), &json!(kind)),
            "{status}"
        );
        assert!(
            status["last_error"].as_str().unwrap().len() > 10,
            "{status}"
        );
    }
    let empty = client
        .with_header("Content-Type", "application/octet-stream")
        .send("POST", "/api/documents/raw?name=a.txt", "");
    assert_eq!(
        (empty.status, &empty.json()["code"]),
        (400, &json!("empty_file"))
    );
    let archive = client.send_bytes("POST", "/api/documents/raw?name=a.zip", b"PK");
    assert!(
        archive.status == 400 && archive.text().contains("files inside"),
        "{}",
        archive.text()
    );
    ready(&client, "fine.txt", "The process lives on and reads this.");
    let retried = client.post(&format!("/api/documents/{}/retry", "nobody"), &json!({}));
    assert_eq!(retried.status, 404);
}

#[test]
fn forms_and_openai_files_are_documents_too() {
    let app = App::empty();
    let form = |name: &str, text: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nassistants\r\n--b\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: text/plain\r\n\r\n{text}\r\n--b--\r\n"
        )
    };
    let client = app.client();
    let forms = client.with_header("Content-Type", "multipart/form-data; boundary=b");
    let uploaded = forms.send(
        "POST",
        "/api/documents/upload",
        &form("tides.txt", "The ebb begins at dusk."),
    );
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    let file = forms
        .send(
            "POST",
            "/v1/files",
            &form("moon.txt", "The moon is waning gibbous."),
        )
        .json();
    assert_eq!(
        (file["object"].as_str(), file["filename"].as_str()),
        (Some("file"), Some("moon.txt"))
    );
    let id = file["id"].as_str().unwrap();
    settled(&client, id);
    assert_eq!(
        client.get(&format!("/v1/files/{id}")).json()["status"],
        "processed"
    );
    assert_eq!(
        client.get(&format!("/v1/files/{id}/content")).text(),
        "The moon is waning gibbous."
    );
    let store = client
        .post(
            "/v1/vector_stores",
            &json!({"name": "Sky", "file_ids": [id]}),
        )
        .json();
    assert_eq!(store["file_counts"]["completed"], 1, "{store}");
    let store = store["id"].as_str().unwrap();
    let found = client
        .post(
            &format!("/v1/vector_stores/{store}/search"),
            &json!({"query": "phase of the moon"}),
        )
        .json();
    assert_eq!(found["data"][0]["file_id"], id, "{found}");
    assert_eq!(
        client.delete(&format!("/v1/vector_stores/{store}")).json()["deleted"],
        true
    );
    assert_eq!(
        client.delete(&format!("/v1/files/{id}")).json()["deleted"],
        true
    );
    assert_eq!(client.get(&format!("/v1/files/{id}")).status, 404);
    let broken = forms.send("POST", "/api/documents/upload", "--b\r\nnonsense");
    assert!((400..500).contains(&broken.status), "{}", broken.status);
}

#[test]
fn an_answer_cites_its_passages_in_every_dialects_place() {
    let app = App::with_model(&[]);
    let client = app.client();
    let id = ready(&client, "guide.md", GUIDE);
    let model = model(&client);
    let ask = "Who sells bread?";
    let messages = json!([{"role": "user", "content": ask}]);

    let chat = client.post(
        "/v1/chat/completions",
        &json!({"model": model, "messages": messages, "collections": [], "max_tokens": 8, "temperature": 0}),
    );
    let chat = chat.json();
    let cited = &chat["choices"][0]["message"]["annotations"][0]["file_citation"];
    assert_eq!(cited["file_id"], id.as_str(), "{chat}");
    assert!(
        chat["usage"]["prompt_tokens"].as_u64().unwrap() > 100,
        "the passages were read: {chat}"
    );
    let plain = client.post(
        "/v1/chat/completions",
        &json!({"model": model, "messages": messages, "max_tokens": 2}),
    );
    assert!(
        plain.json()["choices"][0]["message"]["annotations"].is_null(),
        "nobody asked for documents"
    );

    let response = client
        .post(
            "/v1/responses",
            &json!({"model": model, "input": ask, "tools": [{"type": "file_search"}], "max_output_tokens": 8}),
        )
        .json();
    let annotation = &response["output"][0]["content"][0]["annotations"][0];
    assert_eq!(
        (&annotation["type"], &annotation["file_id"]),
        (&json!("file_citation"), &json!(id)),
        "{response}"
    );

    let message = client
        .post(
            "/v1/messages",
            &json!({"model": model, "messages": messages, "max_tokens": 8, "collections": []}),
        )
        .json();
    let citation = &message["content"][0]["citations"][0];
    assert_eq!(
        (&citation["type"], &citation["document_title"]),
        (&json!("char_location"), &json!("guide.md")),
        "{message}"
    );

    let ollama = client
        .post(
            "/api/chat",
            &json!({"model": model, "messages": messages, "stream": false, "collections": [], "options": {"num_predict": 8}}),
        )
        .json();
    assert_eq!(
        ollama["citations"][0]["document_id"],
        id.as_str(),
        "{ollama}"
    );
}

#[test]
fn a_chat_with_documents_keeps_its_citations() {
    let app = App::with_model(&[]);
    let client = app.client();
    let id = ready(&client, "guide.md", GUIDE);
    let chat = client.post("/onebit/chats", &json!({})).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let changed = client.patch(
        &format!("/onebit/chats/{chat}"),
        &json!({"collections": [id]}),
    );
    assert_eq!(changed.status, 200, "{}", changed.text());
    let body = json!({"parent_id": null, "content": "When is high water?", "model": model(&client), "options": {"max_tokens": 8}});
    let events: Vec<_> = client
        .events("POST", &format!("/onebit/chats/{chat}/turns"), &body)
        .collect();
    let told = events
        .iter()
        .find(|event| event.name == "citations")
        .expect("citations come while the answer grows")
        .json();
    assert!(
        told["citations"][0]["text"]
            .as_str()
            .unwrap()
            .contains("High water"),
        "{told}"
    );
    let stored = client.get(&format!("/onebit/chats/{chat}")).json();
    assert_eq!(stored["collections"], json!([id]));
    let messages = stored["messages"].as_array().unwrap();
    assert_eq!(
        messages[0]["content"], "When is high water?",
        "the question is stored as it was asked"
    );
    assert_eq!(
        messages[1]["citations"], told["citations"],
        "and the answer with what it was made from"
    );
    assert_eq!(client.delete(&format!("/api/documents/{id}")).status, 200);
    let after = client.get(&format!("/onebit/chats/{chat}")).json();
    assert_eq!(
        after["collections"],
        json!([]),
        "a document that is gone stands on no shelf"
    );
}

#[test]
fn paths_are_guarded_and_folders_taken() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    std::fs::create_dir_all(shared.join("deep")).unwrap();
    std::fs::write(shared.join("a.txt"), "Alpha is a letter.").unwrap();
    std::fs::write(shared.join("deep/b.md"), "Beta is another letter.").unwrap();
    std::fs::write(folder.path().join("outside.txt"), "Not shared.").unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside.txt"), shared.join("link.txt")).unwrap();
    let roots = shared.to_string_lossy().into_owned();
    let app = App::with_environment(&[
        ("ONEBIT_DOCUMENTS_ROOTS", &roots),
        ("ONEBIT_DOCUMENTS_WATCH_S", "1"),
    ]);
    let client = app.client();
    let add = |path: &Path| client.post("/api/documents/upload-path", &json!({"filepath": path}));
    for (path, status) in [
        (folder.path().join("outside.txt"), 403),
        (shared.join("../outside.txt"), 400),
        (shared.join("link.txt"), 400),
        (shared.join("deep"), 400),
        (shared.join("none.txt"), 404),
        (app.data().join("onebit.db"), 403),
    ] {
        let answer = add(&path);
        assert_eq!(
            answer.status,
            status,
            "{}: {}",
            path.display(),
            answer.text()
        );
        assert!(answer.json()["detail"].is_string());
    }
    assert_eq!(
        client
            .post(
                "/api/documents/upload-path",
                &json!({"filepath": "/a\u{0}b"})
            )
            .status,
        400
    );
    let report = client
        .post(
            "/api/documents/index-folder",
            &json!({"folder_path": shared, "watch": true}),
        )
        .json();
    assert_eq!(report["indexed"], 2, "{report}");
    let id = report["documents"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["filename"] == "a.txt")
        .unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    settled(&client, &id);

    std::fs::write(shared.join("a.txt"), "Alpha was replaced by omega.").unwrap();
    std::fs::write(shared.join("c.txt"), "Gamma came later.").unwrap();
    std::fs::remove_file(shared.join("deep/b.md")).unwrap();
    let begun = Instant::now();
    loop {
        let found = search(
            &client,
            &json!({"query": "omega gamma beta", "mode": "words"}),
        );
        let texts: Vec<&str> = found
            .iter()
            .map(|one| one["text"].as_str().unwrap())
            .collect();
        if texts.len() == 2
            && texts
                .iter()
                .all(|text| text.contains("omega") || text.contains("Gamma"))
        {
            break;
        }
        assert!(begun.elapsed() < READ_MAX, "{texts:?}");
        std::thread::yield_now();
    }
    let list = client.get("/api/documents").json();
    let missing = list["documents"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["filename"] == "b.md")
        .unwrap()
        .clone();
    assert_eq!(missing["indexing_status"], "missing");
}

#[test]
fn the_command_line_adds_finds_exports_and_imports() {
    let folder = tempfile::tempdir().unwrap();
    let (data, other) = (folder.path().join("data"), folder.path().join("other"));
    let file = folder.path().join("guide.md");
    std::fs::write(&file, GUIDE).unwrap();
    let run = |data: &Path, arguments: &[&str]| {
        let output = onebit_on(data, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.success(),
            text,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (ok, text, errors) = run(
        &data,
        &["docs", "add", file.to_str().unwrap(), "--collection", "Sea"],
    );
    assert!(
        ok && text.contains("guide.md") && text.contains("passages"),
        "{text}{errors}"
    );
    let (ok, text, errors) = run(
        &data,
        &["docs", "search", "who mends sails", "--collection", "Sea"],
    );
    assert!(
        ok && text.contains("Harbour guide > Repairs"),
        "{text}{errors}"
    );
    let library = folder.path().join("library.zip");
    let (ok, _, errors) = run(&data, &["docs", "export", library.to_str().unwrap()]);
    assert!(ok, "{errors}");
    let (ok, text, errors) = run(&other, &["docs", "import", library.to_str().unwrap()]);
    assert!(ok && text.contains("1 documents"), "{text}{errors}");
    let (ok, text, errors) = run(&other, &["docs", "collections"]);
    assert!(ok && text.contains("Sea"), "{text}{errors}");
    let (ok, text, _) = run(&data, &["docs", "rm", "guide.md"]);
    assert!(ok && text.contains("is gone"), "{text}");
    let (ok, text, _) = run(&data, &["docs", "ls"]);
    assert!(ok && text.contains("no documents yet"), "{text}");
    let (ok, _, errors) = run(&data, &["docs", "add", "/nowhere/at/all.txt"]);
    assert!(!ok && errors.contains("/nowhere/at/all.txt"), "{errors}");
}
