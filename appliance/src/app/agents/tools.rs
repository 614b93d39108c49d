//! What the built-in tools do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;

use super::super::{App, AppError, ListenAsk, Mode, SearchRequest};
use crate::agents::files::{FileError, MATCHES_MAX, READ_BYTES_MAX, Roots};
use crate::agents::{Call, Outcome, calculate, shown, tools};
use crate::domain::{
    AgentTool, ChatEvent, ChatRequest, Finding, Input, Limits, Message, ModelFormat, PersonId,
    Role, Shelf,
};

/// Passages that a search shows the model.
const PASSAGES: usize = 4;

/// Characters of a document that one reading gives.
const DOCUMENT_CHARS: usize = 3000;

/// Names that a listing shows.
const NAMES_MAX: usize = 60;

/// Bytes of a text file that one reading gives the model; the rest is a line away.
const FILE_BYTES: usize = 3000;

/// Largest recording and picture that are taken from a shared folder.
const RECORDING_BYTES_MAX: u64 = 256 << 20;
const PICTURE_BYTES_MAX: u64 = 20 << 20;

/// Tokens that another model may make when it is asked.
const ASKED_TOKENS_MAX: usize = 600;

impl App {
    /// The folders that agents may read.
    pub(super) fn shared_folders(&self) -> Roots {
        Roots::new(&self.inner.config.agents.roots)
    }

    /// The built-in tools, each with why it cannot be used by this person now.
    pub(super) async fn builtin_tools(
        &self,
        person: &PersonId,
    ) -> Result<Vec<AgentTool>, AppError> {
        let config = &self.inner.config;
        let hears = self
            .registry()
            .await?
            .iter()
            .any(|model| model.format == ModelFormat::Whisper);
        let files = match (person.is_owner(), config.agents.roots.is_empty()) {
            (false, _) => Some("files are the owner's".to_owned()),
            (true, true) => Some(FileError::NothingShared.to_string()),
            (true, false) => None,
        };
        let off = |name: &str| match name {
            "list_files" | "read_file" | "search_files" | "look_at" => files.clone(),
            "transcribe" if files.is_none() && !hears => {
                Some("no model for speech to text has been brought in".to_owned())
            }
            "transcribe" => files.clone(),
            "fetch_page" if config.fetch.offline => {
                Some("the appliance is offline (fetch.offline)".to_owned())
            }
            "fetch_page" if !config.agents.web => {
                Some("pages of the web are not fetched; set web = true under [agents]".to_owned())
            }
            _ => None,
        };
        Ok(tools::BUILTIN
            .iter()
            .map(|tool| tool.offered(off(tool.name)))
            .collect())
    }

    /// Makes a call of a built-in tool or of a server's.
    pub(super) async fn run_tool(
        &self,
        person: &PersonId,
        shelf: Option<&Shelf>,
        call: &Call,
    ) -> Outcome {
        let text = |name: &str| call.arguments[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| {
            call.arguments[name]
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
        };
        if let Some(server) = &call.tool.server {
            return self
                .call_server(server, &call.tool.name, &call.arguments)
                .await;
        }
        match call.tool.name.as_str() {
            "calculate" => match calculate(&text("expression")) {
                Ok(value) => {
                    Outcome::done(format!("{} = {}", text("expression").trim(), shown(value)))
                }
                Err(why) => Outcome::failed(why),
            },
            "now" => now(&text("zone")),
            "search_documents" => self.find_passages(person, shelf, text("query")).await,
            "list_documents" => self.name_documents(person).await,
            "read_document" => {
                self.read_out_document(person, &text("name"), number("from").unwrap_or(0))
                    .await
            }
            "list_files" => {
                let path = text("path");
                self.in_folders(move |roots| list(roots, &path)).await
            }
            "read_file" => {
                let (path, line) = (text("path"), number("line").unwrap_or(1));
                self.in_folders(move |roots| read(roots, &path, line)).await
            }
            "search_files" => {
                let (words, path) = (text("words"), text("path"));
                self.in_folders(move |roots| search(roots, &words, &path))
                    .await
            }
            "fetch_page" => match self.page(text("url").trim()).await {
                Ok((title, content)) => {
                    let title = title
                        .map(|title| format!("{title}\n\n"))
                        .unwrap_or_default();
                    Outcome::done(format!("{title}{content}"))
                }
                Err(error) => Outcome::failed(error.to_string()),
            },
            "ask_model" => {
                let question = Message::new(Role::User, text("question"));
                said(self.say(text("model"), question).await)
            }
            "look_at" => self.see(&text("path"), text("question")).await,
            "transcribe" => self.write_down(&text("path")).await,
            "remember" => match self
                .inner
                .store
                .agents()
                .remember(person, text("note").trim())
                .await
            {
                Ok(()) => Outcome::done(format!("kept: {}", text("note").trim())),
                Err(error) => Outcome::failed(error.to_string()),
            },
            "recall" => self.recall(person, &text("about")).await,
            name => Outcome::failed(format!("there is no tool `{name}`")),
        }
    }

    async fn find_passages(
        &self,
        person: &PersonId,
        shelf: Option<&Shelf>,
        query: String,
    ) -> Outcome {
        let shelf = shelf.cloned().unwrap_or_else(|| Shelf {
            person: person.clone(),
            only: Vec::new(),
        });
        let request = SearchRequest {
            shelf,
            query,
            wanted: PASSAGES,
            mode: Mode::Hybrid,
        };
        let found = match self.search(request).await {
            Ok(found) => found.passages,
            Err(error) => return Outcome::failed(error.to_string()),
        };
        if found.is_empty() {
            return Outcome::done("nothing was found; try other words, or list_documents");
        }
        let line = |one: &crate::domain::Citation| {
            let page = one
                .page
                .map(|page| format!(", page {page}"))
                .unwrap_or_default();
            format!("[{}] {}{page}:\n{}", one.number, one.name, one.text.trim())
        };
        let lines: Vec<String> = found.iter().map(line).collect();
        Outcome {
            finding: Some(Finding::Passages(found)),
            ..Outcome::done(lines.join("\n\n"))
        }
    }

    async fn name_documents(&self, person: &PersonId) -> Outcome {
        match self.inner.store.documents().list(person, None, None).await {
            Err(error) => Outcome::failed(error.to_string()),
            Ok(all) if all.is_empty() => Outcome::done("the library is empty"),
            Ok(all) => {
                let names = all
                    .iter()
                    .take(NAMES_MAX)
                    .map(|one| format!("- {}", one.name));
                let names: Vec<String> = names.collect();
                Outcome::done(format!("{} documents:\n{}", all.len(), names.join("\n")))
            }
        }
    }

    async fn read_out_document(&self, person: &PersonId, name: &str, from: usize) -> Outcome {
        let all = match self.inner.store.documents().list(person, None, None).await {
            Ok(all) => all,
            Err(error) => return Outcome::failed(error.to_string()),
        };
        let wanted = name.trim().to_lowercase();
        let exact = all
            .iter()
            .find(|one| one.name.to_lowercase() == wanted || one.id == name);
        let part = || {
            all.iter()
                .find(|one| one.name.to_lowercase().contains(&wanted))
        };
        let Some(document) = exact.or_else(part) else {
            let names: Vec<&str> = all
                .iter()
                .take(NAMES_MAX)
                .map(|one| one.name.as_str())
                .collect();
            return Outcome::failed(match names.is_empty() {
                true => "the library is empty".to_owned(),
                false => format!(
                    "there is no document `{name}`; there are {}",
                    names.join(", ")
                ),
            });
        };
        match self.inner.store.passages().text(person, &document.id).await {
            Err(error) => Outcome::failed(error.to_string()),
            Ok(text) => {
                let total = text.content.chars().count();
                let part: String = text
                    .content
                    .chars()
                    .skip(from)
                    .take(DOCUMENT_CHARS)
                    .collect();
                if part.is_empty() {
                    return Outcome::failed(format!(
                        "{} has {total} characters; there is none from {from} on",
                        document.name
                    ));
                }
                let end = from + part.chars().count();
                let more = match end < total {
                    true => format!("\n[goes on at character {end} of {total}]"),
                    false => String::new(),
                };
                Outcome::done(format!("{}:\n{part}{more}", document.name))
            }
        }
    }

    /// Looks into the shared folders, away from the asynchronous threads.
    async fn in_folders<F>(&self, look: F) -> Outcome
    where
        F: FnOnce(&Roots) -> Result<Outcome, FileError> + Send + 'static,
    {
        let roots = self.shared_folders();
        match tokio::task::spawn_blocking(move || look(&roots)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome {
                rule: error.rule().map(str::to_owned),
                ..Outcome::failed(error.to_string())
            },
            Err(panic) => Outcome::failed(panic.to_string()),
        }
    }

    async fn bytes_of(&self, path: &str, bytes_max: u64) -> Result<(String, Vec<u8>), Outcome> {
        let (roots, path) = (self.shared_folders(), path.to_owned());
        match tokio::task::spawn_blocking(move || roots.bytes(&path, bytes_max)).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => Err(Outcome {
                rule: error.rule().map(str::to_owned),
                ..Outcome::failed(error.to_string())
            }),
            Err(panic) => Err(Outcome::failed(panic.to_string())),
        }
    }

    async fn see(&self, path: &str, question: String) -> Outcome {
        let (name, bytes) = match self.bytes_of(path, PICTURE_BYTES_MAX).await {
            Ok(read) => read,
            Err(outcome) => return outcome,
        };
        let kind = match name
            .rsplit('.')
            .next()
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Some("png") => "image/png",
            Some("jpg" | "jpeg") => "image/jpeg",
            Some("webp") => "image/webp",
            Some("gif") => "image/gif",
            _ => {
                return Outcome::failed(format!(
                    "{name} is no picture; png, jpg, webp and gif are"
                ));
            }
        };
        let mut message = Message::new(Role::User, question);
        message
            .pictures
            .push(format!("data:{kind};base64,{}", STANDARD.encode(&bytes)));
        said(self.say("auto".to_owned(), message).await)
    }

    async fn write_down(&self, path: &str) -> Outcome {
        let (_, bytes) = match self.bytes_of(path, RECORDING_BYTES_MAX).await {
            Ok(read) => read,
            Err(outcome) => return outcome,
        };
        said(self.hear(bytes).await)
    }

    async fn hear(&self, bytes: Vec<u8>) -> Result<String, AppError> {
        let mut recording = self.recording()?;
        recording.write(&bytes)?;
        let mut hearing = self.listen("", recording, ListenAsk::default()).await?;
        let mut text = String::new();
        while let Some(heard) = hearing.parts.next().await {
            let heard = heard?.transcript.text();
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&heard);
        }
        Ok(text)
    }

    /// Another model's answer to one message.
    async fn say(&self, model: String, message: Message) -> Result<String, AppError> {
        let request = ChatRequest {
            limits: Limits {
                tokens_max: Some(ASKED_TOKENS_MAX),
                ..Limits::default()
            },
            ..ChatRequest::new(model, Input::Messages(vec![message]))
        };
        let mut answer = self.chat(request).await?;
        let mut text = String::new();
        while let Some(event) = answer.next().await {
            if let ChatEvent::Piece(piece) = event? {
                text.push_str(&piece.text);
            }
        }
        Ok(text)
    }

    async fn recall(&self, person: &PersonId, about: &str) -> Outcome {
        let words = about.to_lowercase();
        let words = words
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| word.chars().count() > 2);
        match self
            .inner
            .store
            .agents()
            .recall(person, words.map(str::to_owned).collect())
            .await
        {
            Err(error) => Outcome::failed(error.to_string()),
            Ok(notes) if notes.is_empty() => Outcome::done("no note was kept about this"),
            Ok(notes) => Outcome::done(
                notes
                    .iter()
                    .map(|note| format!("- {note}"))
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
        }
    }
}

fn said(answer: Result<String, AppError>) -> Outcome {
    match answer {
        Ok(text) if text.trim().is_empty() => Outcome::done("nothing was said"),
        Ok(text) => Outcome::done(text.trim()),
        Err(error) => Outcome::failed(error.to_string()),
    }
}

/// The date, the weekday and the time: here, or in a zone.
fn now(zone: &str) -> Outcome {
    let now = jiff::Zoned::now();
    let zone = zone.trim();
    let there = match zone {
        "" | "local" => Ok(now),
        "UTC" | "utc" | "GMT" => now.in_tz("UTC"),
        zone => now.in_tz(zone),
    };
    match there {
        Ok(there) => Outcome::done(
            there
                .strftime("%A, %-d %B %Y, %H:%M:%S (%Z, UTC%:z)")
                .to_string(),
        ),
        Err(_) => Outcome::failed(format!(
            "there is no time zone `{zone}`; give one such as Europe/Berlin or UTC, or none"
        )),
    }
}

fn list(roots: &Roots, path: &str) -> Result<Outcome, FileError> {
    let (files, total) = roots.list(path)?;
    if files.is_empty() {
        return Ok(Outcome::done("the folder is empty"));
    }
    let line = |file: &crate::domain::FoundFile| match file.folder {
        true => format!("{}/", file.path),
        false => format!("{} ({} bytes)", file.path, file.bytes),
    };
    let mut lines: Vec<String> = files.iter().take(NAMES_MAX).map(line).collect();
    if total > lines.len() {
        lines.push(format!("and {} more", total - lines.len()));
    }
    Ok(Outcome {
        finding: Some(Finding::Files { files, total }),
        ..Outcome::done(lines.join("\n"))
    })
}

fn read(roots: &Roots, path: &str, line: usize) -> Result<Outcome, FileError> {
    let reading = roots.read(path, line, FILE_BYTES.min(READ_BYTES_MAX))?;
    if reading.text.is_empty() {
        return Ok(Outcome::done(match line {
            1 => "the file is empty".to_owned(),
            line => format!("the file has no line {line}"),
        }));
    }
    let more = reading
        .next
        .map(|next| format!("[goes on at line {next}]"))
        .unwrap_or_default();
    Ok(Outcome::done(format!("{}{more}", reading.text)))
}

fn search(roots: &Roots, words: &str, path: &str) -> Result<Outcome, FileError> {
    let matches = roots.search(words, path)?;
    if matches.found.is_empty() {
        let cut = if matches.cut {
            " in what could be looked at"
        } else {
            ""
        };
        return Ok(Outcome::done(format!(
            "no file has `{words}` in its name or in a line{cut}"
        )));
    }
    let line = |one: &crate::agents::files::Match| match &one.line {
        Some((number, text)) => format!("{}, line {number}: {text}", one.file.path),
        None => one.file.path.clone(),
    };
    let mut lines: Vec<String> = matches.found.iter().take(MATCHES_MAX).map(line).collect();
    if matches.cut {
        lines.push("there may be more".to_owned());
    }
    let files: Vec<_> = matches.found.into_iter().map(|one| one.file).collect();
    let total = files.len();
    Ok(Outcome {
        finding: Some(Finding::Files { files, total }),
        ..Outcome::done(lines.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_here_and_elsewhere() {
        for zone in ["", "UTC", "Asia/Tokyo"] {
            let outcome = now(zone);
            assert!(
                outcome.success && outcome.content.contains("UTC"),
                "{zone}: {outcome:?}"
            );
        }
        assert!(!now("Mars/Olympus").success);
    }

    #[test]
    fn files_are_told_in_lines() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("notes")).unwrap();
        std::fs::write(folder.path().join("notes/a.txt"), "one\ntwo words\n").unwrap();
        let roots = Roots::new(&[folder.path().join("notes")]);
        assert_eq!(list(&roots, "").unwrap().content, "notes/a.txt (14 bytes)");
        assert_eq!(read(&roots, "a.txt", 2).unwrap().content, "two words\n");
        assert!(
            read(&roots, "a.txt", 9)
                .unwrap()
                .content
                .contains("no line 9")
        );
        assert_eq!(
            search(&roots, "two", "").unwrap().content,
            "notes/a.txt, line 2: two words"
        );
        assert!(
            search(&roots, "three", "")
                .unwrap()
                .content
                .starts_with("no file")
        );
        assert_eq!(
            list(&roots, "../x").unwrap_err().rule(),
            Some("path_outside")
        );
    }
}
