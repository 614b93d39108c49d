//! `onebit docs`: the library from the command line.
//!
//! Speaks to the running appliance; where none runs, it starts one for as long as the command takes.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::{Failed, serve, size};
use crate::config::Config;

/// Between two looks at documents that are being read.
const TICK: Duration = Duration::from_millis(200);

#[derive(Subcommand)]
pub(super) enum DocsCommand {
    /// Add files, folders or addresses, and wait until they can be found.
    Add(AddArgs),
    /// Add what you type.
    Note {
        /// The note's title.
        title: String,
        /// The note.
        text: String,
        /// The collection that takes it; made where there is none.
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
    },
    /// List the documents.
    Ls {
        /// Only those of this collection.
        #[arg(long, value_name = "NAME")]
        collection: Option<String>,
    },
    /// Delete documents: text, passages, vectors and our copy of the file.
    Rm {
        /// Identifiers, their beginnings, or file names.
        #[arg(required = true)]
        documents: Vec<String>,
    },
    /// Read a document again.
    Retry {
        /// Identifier, its beginning, or file name.
        document: String,
    },
    /// Find passages.
    Search(SearchArgs),
    /// Ask a question that the documents answer.
    Ask(AskArgs),
    /// List the collections.
    Collections,
    /// Write every document into one file.
    Export {
        /// The file to write.
        file: PathBuf,
    },
    /// Bring such a file in.
    Import {
        /// The file to read.
        file: PathBuf,
    },
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// Files, folders, or addresses that begin with http.
    #[arg(required = true)]
    sources: Vec<String>,
    /// The collection that takes them; made where there is none.
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// Go on taking what comes into the folders later.
    #[arg(long)]
    watch: bool,
    /// Do not wait until they can be found.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Args)]
pub(super) struct SearchArgs {
    /// A question or words.
    query: String,
    /// Passages wanted.
    #[arg(short, long, default_value_t = 5)]
    k: usize,
    /// Only in this collection; possibly several.
    #[arg(long, value_name = "NAME")]
    collection: Vec<String>,
    /// By what: hybrid, words or vectors.
    #[arg(long, default_value = "hybrid")]
    mode: String,
}

#[derive(Args)]
pub(super) struct AskArgs {
    /// The question.
    question: String,
    /// The model; the default one when left out.
    #[arg(long, default_value = "")]
    model: String,
    /// Only from this collection; possibly several.
    #[arg(long, value_name = "NAME")]
    collection: Vec<String>,
    /// Tokens of the answer at most.
    #[arg(long)]
    max_tokens: Option<usize>,
}

pub(super) async fn run(config: Config, command: DocsCommand, json: bool) -> Result<(), Failed> {
    // Held to the end: a temporary appliance lives as long as this does.
    let (client, _held) = match Client::find(&config.data_dir).await {
        Some(client) => (client, None),
        None => {
            let data = config.data_dir.clone();
            let (address, held) = serve::beside(config).await?;
            (Client::at(address, &data), Some(held))
        }
    };
    match command {
        DocsCommand::Add(args) => add(&client, args, json).await,
        DocsCommand::Note {
            title,
            text,
            collection,
        } => {
            let collection = named(&client, collection.as_deref()).await?;
            let body = json!({ "title": title, "text": text, "collection": collection });
            let document = client.post("/api/documents/note", &body).await?;
            wait(&client, vec![document], json).await
        }
        DocsCommand::Ls { collection } => list(&client, collection, json).await,
        DocsCommand::Rm { documents } => remove(&client, &documents, json).await,
        DocsCommand::Retry { document } => {
            let id = find(&client, &document).await?;
            let document = client
                .post(&format!("/api/documents/{id}/retry"), &json!({}))
                .await?;
            wait(&client, vec![document], json).await
        }
        DocsCommand::Search(args) => search(&client, args, json).await,
        DocsCommand::Ask(args) => ask(&client, args, json).await,
        DocsCommand::Collections => collections(&client, json).await,
        DocsCommand::Export { file } => {
            let bytes = client.download("/onebit/library", &file).await?;
            if json {
                println!("{}", json!({ "file": file, "bytes": bytes }));
            } else {
                println!("{} ({})", file.display(), size(bytes));
            }
            Ok(())
        }
        DocsCommand::Import { file } => import(&client, &file, json).await,
    }
}

/// The identifier of a collection by its name, made where there is none.
async fn named(client: &Client, name: Option<&str>) -> Result<Option<String>, Failed> {
    let Some(name) = name else { return Ok(None) };
    if let Some(id) = known(client, name).await? {
        return Ok(Some(id));
    }
    let made = client
        .post("/onebit/collections", &json!({ "name": name }))
        .await?;
    Ok(made["id"].as_str().map(str::to_owned))
}

async fn known(client: &Client, name: &str) -> Result<Option<String>, Failed> {
    let all = client.get("/onebit/collections").await?;
    let found = all["collections"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["name"] == name || one["id"] == name);
    Ok(found.and_then(|one| one["id"].as_str()).map(str::to_owned))
}

/// Identifiers of collections that must exist.
async fn shelves(client: &Client, names: &[String]) -> Result<Vec<String>, Failed> {
    let mut ids = Vec::new();
    for name in names {
        let id = known(client, name).await?;
        ids.push(id.ok_or_else(|| {
            format!("there is no collection `{name}`; `onebit docs collections` lists them")
        })?);
    }
    Ok(ids)
}

async fn add(client: &Client, args: AddArgs, json: bool) -> Result<(), Failed> {
    let collection = named(client, args.collection.as_deref()).await?;
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    for source in &args.sources {
        let path = Path::new(source);
        let added = if source.starts_with("http://") || source.starts_with("https://") {
            let body = json!({ "url": source, "collection": collection });
            client
                .post("/api/documents/url", &body)
                .await
                .map(|one| vec![one])
        } else if path.is_dir() {
            let folder = path.canonicalize()?;
            let body =
                json!({ "folder_path": folder, "watch": args.watch, "collection": collection });
            client
                .post("/api/documents/index-folder", &body)
                .await
                .map(|report| {
                    let told = report["errors"].as_array().into_iter().flatten();
                    errors.extend(told.filter_map(|one| one.as_str().map(str::to_owned)));
                    report["documents"].as_array().cloned().unwrap_or_default()
                })
        } else {
            upload(client, path, collection.as_deref())
                .await
                .map(|one| vec![one])
        };
        match added {
            Ok(some) => documents.extend(some),
            Err(error) => errors.push(format!("{source}: {error}")),
        }
    }
    for error in &errors {
        eprintln!("{error}");
    }
    if args.no_wait {
        show(&documents, json);
    } else {
        wait(client, documents, json).await?;
    }
    match errors.len() {
        0 => Ok(()),
        n => Err(format!("{n} could not be added; the reasons are above").into()),
    }
}

async fn upload(client: &Client, path: &Path, collection: Option<&str>) -> Result<Value, Failed> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut target = format!("/api/documents/raw?name={}", escape(&name));
    if let Some(collection) = collection {
        target.push_str(&format!("&collection={collection}"));
    }
    client.upload(&target, path).await
}

/// A text as part of an address.
fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Follows documents until each can be found or has failed.
async fn wait(client: &Client, documents: Vec<Value>, json: bool) -> Result<(), Failed> {
    let mut done: Vec<Value> = Vec::new();
    let mut left: Vec<Value> = documents;
    let alive = std::io::stderr().is_terminal();
    while !left.is_empty() {
        let mut still = Vec::new();
        for document in left {
            let id = document["id"].as_str().unwrap_or_default();
            let now = client.get(&format!("/api/documents/{id}/status")).await?;
            if now["is_active"] == true {
                still.push(now)
            } else {
                done.push(now)
            }
        }
        left = still;
        if let Some(first) = left.first() {
            if alive {
                let percent = first["progress"].as_f64().unwrap_or(0.0) * 100.0;
                eprint!(
                    "\r\x1b[K{percent:>3.0} %  {}  ({} to go)",
                    text(first, "filename"),
                    left.len()
                );
            }
            tokio::time::sleep(TICK).await;
        }
    }
    if alive {
        eprint!("\r\x1b[K");
    }
    show(&done, json);
    let failed = done
        .iter()
        .filter(|one| one["indexing_status"] != "complete")
        .count();
    match failed {
        0 => Ok(()),
        n => Err(format!(
            "{n} of {} cannot be found; the reasons are above",
            done.len()
        )
        .into()),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn show(documents: &[Value], json: bool) {
    if json {
        println!("{}", json!({ "documents": documents }));
        return;
    }
    for one in documents {
        let id: String = text(one, "id").chars().take(8).collect();
        let pages = one["pages"]
            .as_u64()
            .map(|pages| format!(", {pages} pages"))
            .unwrap_or_default();
        let bytes = size(one["file_size"].as_u64().unwrap_or(0));
        let state = match text(one, "indexing_status") {
            "complete" => format!("{} passages{pages}, {bytes}", one["chunk_count"]),
            "failed" => format!(
                "failed ({}): {}",
                text(one, "error_kind"),
                text(one, "last_error")
            ),
            other => other.to_owned(),
        };
        println!("{id}  {:<40} {state}", text(one, "filename"));
    }
}

async fn list(client: &Client, collection: Option<String>, json: bool) -> Result<(), Failed> {
    let mut target = "/api/documents".to_owned();
    if let Some(name) = collection {
        let id = shelves(client, &[name]).await?;
        target.push_str(&format!("?collection={}", id.concat()));
    }
    let all = client.get(&target).await?;
    let documents = all["documents"].as_array().cloned().unwrap_or_default();
    if documents.is_empty() && !json {
        println!("no documents yet; `onebit docs add FILE` brings one in");
    }
    show(&documents, json);
    Ok(())
}

/// The document that a person means: by identifier, its beginning, or a file name that only one has.
async fn find(client: &Client, wanted: &str) -> Result<String, Failed> {
    let all = client.get("/api/documents").await?;
    let documents = all["documents"].as_array().cloned().unwrap_or_default();
    let hits: Vec<&Value> = documents
        .iter()
        .filter(|one| {
            text(one, "filename") == wanted
                || (wanted.len() >= 4 && text(one, "id").starts_with(wanted))
        })
        .collect();
    match hits[..] {
        [one] => Ok(text(one, "id").to_owned()),
        [] => Err(format!("there is no document `{wanted}`; `onebit docs ls` lists them").into()),
        _ => Err(format!(
            "`{wanted}` are {} documents; name one by its identifier",
            hits.len()
        )
        .into()),
    }
}

async fn remove(client: &Client, documents: &[String], json: bool) -> Result<(), Failed> {
    for wanted in documents {
        let id = find(client, wanted).await?;
        client.delete(&format!("/api/documents/{id}")).await?;
        if json {
            println!("{}", json!({ "deleted": true, "id": id }));
        } else {
            println!("{wanted} is gone");
        }
    }
    Ok(())
}

/// Where a passage stands, for people.
fn place(passage: &Value) -> String {
    let page = passage["page"]
        .as_u64()
        .map(|page| format!(", page {page}"))
        .unwrap_or_default();
    let headings: Vec<&str> = passage["headings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let headings = if headings.is_empty() {
        String::new()
    } else {
        format!(": {}", headings.join(" > "))
    };
    format!("{}{page}{headings}", text(passage, "filename"))
}

async fn search(client: &Client, args: SearchArgs, json: bool) -> Result<(), Failed> {
    let collections = shelves(client, &args.collection).await?;
    let body =
        json!({ "query": args.query, "k": args.k, "collections": collections, "mode": args.mode });
    let found = client.post("/v1/search", &body).await?;
    if json {
        println!("{found}");
        return Ok(());
    }
    let passages = found["passages"].as_array().cloned().unwrap_or_default();
    if passages.is_empty() {
        println!("nothing was found");
    }
    for passage in &passages {
        println!("[{}] {}", passage["number"], place(passage));
        for line in text(passage, "text")
            .lines()
            .filter(|line| !line.trim().is_empty())
            .take(4)
        {
            println!("    {line}");
        }
    }
    Ok(())
}

async fn ask(client: &Client, args: AskArgs, json: bool) -> Result<(), Failed> {
    let collections = shelves(client, &args.collection).await?;
    let mut body = json!({
        "model": args.model,
        "messages": [{ "role": "user", "content": args.question }],
        "collections": collections,
        "stream": true,
    });
    if let Some(tokens) = args.max_tokens {
        body["max_tokens"] = tokens.into();
    }
    let mut events = client.events("/v1/chat/completions", &body).await?;
    let mut sources = Vec::new();
    let mut answer = String::new();
    while let Some(event) = events.next().await? {
        let delta = &event["choices"][0]["delta"];
        if let Some(all) = delta["annotations"].as_array() {
            sources.extend(all.iter().map(|one| one["file_citation"].clone()));
        }
        if let Some(more) = delta["content"].as_str() {
            answer.push_str(more);
            if !json {
                print!("{more}");
                std::io::stdout().flush()?;
            }
        }
    }
    if json {
        println!("{}", json!({ "answer": answer, "sources": sources }));
        return Ok(());
    }
    println!("\n");
    if sources.is_empty() {
        println!("no passage fits this question");
    }
    for source in &sources {
        println!("[{}] {}", source["number"], place(source));
    }
    Ok(())
}

async fn collections(client: &Client, json: bool) -> Result<(), Failed> {
    let all = client.get("/onebit/collections").await?;
    if json {
        println!("{all}");
        return Ok(());
    }
    for one in all["collections"].as_array().into_iter().flatten() {
        println!("{:<40} {} documents", text(one, "name"), one["documents"]);
    }
    Ok(())
}

async fn import(client: &Client, file: &Path, json: bool) -> Result<(), Failed> {
    let report = client.upload("/onebit/library", file).await?;
    if json {
        println!("{report}");
        return Ok(());
    }
    for error in report["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        eprintln!("{error}");
    }
    println!("{} documents came in", report["documents"]);
    match report["failed"].as_u64() {
        Some(0) | None => Ok(()),
        Some(n) => Err(format!("{n} could not be taken; the reasons are above").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_readable() {
        let passage = json!({ "filename": "a.pdf", "page": 3, "headings": ["One", "Two"] });
        assert_eq!(place(&passage), "a.pdf, page 3: One > Two");
        assert_eq!(
            place(&json!({ "filename": "b.txt", "page": null, "headings": [] })),
            "b.txt"
        );
        assert_eq!(escape("ä b.txt"), "%C3%A4%20b%2Etxt");
    }
}
