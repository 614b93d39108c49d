//! Documents while the appliance is killed with -9: nothing acknowledged is lost, nothing half is visible.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::documents::settled;
use crate::support::{App, Client};

/// Passages of every document here: one a section.
const PARTS: usize = 6;

/// Documents sent in one life of the appliance; the last are mostly on their way in when it dies.
const UPLOADS: u32 = 4;

/// Lives between a death right after the start and one after everything has been read; then it begins anew.
const MOMENTS: u32 = 25;

/// From one death to the next.
const STEP: Duration = Duration::from_millis(20);

#[test]
fn twenty_kills_lose_nothing_and_show_nothing_half() {
    kill_while_reading(20);
}

/// Uploads without pause while killing the appliance with -9 at moments that spread over the lives of documents: while
/// their bytes come, while they are read, while they are written.
pub(crate) fn kill_while_reading(rounds: u32) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut acknowledged: Vec<String> = Vec::new();
    let mut whole: HashSet<String> = HashSet::new();
    let mut died_reading = 0;
    for round in 0..rounds {
        let app = App::start(&data, &[]);
        let client = app.client();
        whole_or_absent(&client, &mut whole);
        let address = app.address().to_owned();
        let sender = std::thread::spawn(move || {
            (0..UPLOADS)
                .map_while(|at| upload(&address, &format!("{round}-{at}.md"), &guide(round, at)))
                .collect::<Vec<_>>()
        });
        // Polling keeps the appliance answering while it is about to die; the moment moves with each life.
        let until = Instant::now() + STEP * (round * 7 % MOMENTS);
        while Instant::now() < until {
            client.get("/health");
        }
        let unread = client.get("/api/documents").json();
        died_reading += usize::from(
            list(&unread)
                .iter()
                .any(|one| one["indexing_status"] != "complete"),
        );
        drop(app); // killed with -9 here
        acknowledged.extend(sender.join().unwrap());
    }
    let app = App::start(&data, &[]);
    let client = app.client();
    for id in &acknowledged {
        let status = settled(&client, id);
        assert_eq!(
            (&status["indexing_status"], &status["chunk_count"]),
            (&json!("complete"), &json!(PARTS)),
            "{status}"
        );
    }
    // One whose acknowledgement was cut off by the death may be there too.
    let all = client.get("/api/documents").json();
    for one in list(&all) {
        settled(&client, one["id"].as_str().unwrap());
    }
    whole_or_absent(&client, &mut whole);
    let files = |folder: &str| {
        let all = std::fs::read_dir(data.join(folder)).unwrap();
        all.filter(|one| one.as_ref().unwrap().path().is_file())
            .count()
    };
    assert_eq!(
        (files("documents/incoming"), files("documents")),
        (0, list(&all).len()),
        "no file without a row, no row without a file"
    );
    intact(&data);
    println!(
        "{rounds} kills, {died_reading} of them while documents were unread; {} documents acknowledged, {} there",
        acknowledged.len(),
        list(&all).len()
    );
    assert!(
        died_reading > 0 && !acknowledged.is_empty(),
        "kills must meet something"
    );
}

/// Parts that differ, so that no two documents are the same.
fn guide(round: u32, at: u32) -> String {
    (0..PARTS)
        .map(|part| format!("## Part {part}\n\nLife {round} says in its letter {at} what stands under number {part}.\n\n"))
        .collect()
}

/// The document's identifier where it was acknowledged; `None` where the appliance died over it.
fn upload(address: &str, name: &str, text: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let head = format!(
        "POST /api/documents/raw?name={name} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let document: Value = serde_json::from_str(body).ok()?;
    Some(document["id"].as_str()?.to_owned())
}

fn list(answer: &Value) -> &Vec<Value> {
    answer["documents"].as_array().unwrap()
}

/// Every document shows all of its passages or none; those in `whole` were looked at before and are only counted.
fn whole_or_absent(client: &Client, whole: &mut HashSet<String>) {
    let all = client.get("/api/documents").json();
    for one in list(&all) {
        let id = one["id"].as_str().unwrap();
        if one["indexing_status"] == "complete" && whole.contains(id) {
            assert_eq!(one["chunk_count"], PARTS, "{one}");
            continue;
        }
        let chunks = client.get(&format!("/api/documents/{id}/chunks")).json();
        let passages = chunks["chunks"].as_array().unwrap().len();
        // It may have become complete between the two answers.
        assert!(
            passages == 0 || passages == PARTS,
            "{one}: {passages} passages"
        );
        assert!(
            one["indexing_status"] != "complete" || passages == PARTS,
            "{one}: complete without passages"
        );
        if passages == PARTS {
            whole.insert(id.to_owned());
        }
    }
}

/// The store's own check, by the program that backs it up.
fn intact(data: &Path) {
    let connection = rusqlite::Connection::open(data.join("onebit.db")).unwrap();
    let check: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    let (passages, vectors, words): (i64, i64, i64) = connection
        .query_row(
            "SELECT (SELECT count(*) FROM passages), (SELECT count(*) FROM vectors), (SELECT count(*) FROM words)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!(
        (passages, words),
        (vectors, vectors),
        "text, words and vectors go together"
    );
}
