//! The whole library in one file, and back: a zip with every document's own file and one list of what they are.
//!
//! Passages and vectors are not in it; they are made anew, by whatever embedder is there.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

use super::{App, AppError, INCOMING, LibraryError, Origin};
use crate::domain::PersonId;
use crate::domain::library::{Document, Source};
use crate::store::file_name;

/// The list's name inside.
const LIST: &str = "library.json";

/// What the list says of itself.
const FORMAT: &str = "onebit-library-1";

/// Largest list read: a hundred thousand documents.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// Bytes copied at a time.
const PIECE: usize = 256 << 10;

/// An export that is ready to be read; its file is gone when the value is.
pub struct Export {
    /// Open at its beginning.
    pub file: File,
    /// Its size.
    pub bytes: u64,
}

/// What an import brought.
#[derive(Debug, Default)]
pub struct ImportReport {
    /// Documents that are there now.
    pub documents: usize,
    /// `name: why` of each that could not be taken.
    pub errors: Vec<String>,
}

impl App {
    /// Writes a person's library into one file.
    ///
    /// # Errors
    /// The store or the disk fails.
    pub async fn export_library(&self, person: &PersonId) -> Result<Export, AppError> {
        let store = &self.inner.store;
        let mut members: Vec<(Document, PathBuf)> = Vec::new();
        for document in store.documents().list(person, None, None).await? {
            let kept = store
                .documents()
                .file(person, &document.id)
                .await?
                .map(|file| self.library_path(&file));
            let place = document
                .origin
                .clone()
                .filter(|_| document.source == Source::Path)
                .map(PathBuf::from);
            // A file that has gone from its own place is not in any copy of ours either.
            let Some(path) = kept.or(place).filter(|path| path.is_file()) else {
                continue;
            };
            members.push((document, path));
        }
        let names: Vec<(String, String)> = store
            .collections()
            .all(person)
            .await?
            .into_iter()
            .map(|collection| (collection.id, collection.name))
            .collect();
        let path = self.library_path(&format!("{INCOMING}/{}", file_name()?));
        let written = tokio::task::spawn_blocking(move || {
            let result = pack(&path, &members, &names);
            // The open file lives on without its name, and goes with the process.
            let _ = std::fs::remove_file(&path);
            result
        });
        Ok(written
            .await
            .map_err(|panic| LibraryError::Broken(panic.to_string()))??)
    }

    /// Brings the documents of an export in; those that are here already stay as they are.
    ///
    /// # Errors
    /// The file is no export.
    pub async fn import_library(
        &self,
        person: &PersonId,
        file: File,
    ) -> Result<ImportReport, AppError> {
        let listed = tokio::task::spawn_blocking(move || open(file));
        let (mut archive, list) = listed
            .await
            .map_err(|panic| LibraryError::Broken(panic.to_string()))??;
        let mut report = ImportReport::default();
        for entry in list {
            let text = |key: &str| entry[key].as_str().map(str::to_owned);
            let (Some(member), Some(name)) = (text("file"), text("name")) else {
                continue;
            };
            let mut collections = Vec::new();
            for name in entry["collections"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                collections.push(self.collection_named(person, name).await?);
            }
            let app = self.clone();
            let unpacked = tokio::task::spawn_blocking(move || {
                let incoming = unpack(&app, &mut archive, &member, &name);
                (archive, name, incoming)
            });
            let (back, name, incoming) = unpacked
                .await
                .map_err(|panic| LibraryError::Broken(panic.to_string()))?;
            archive = back;
            let source = text("source").and_then(|source| Source::parse(&source));
            let origin = Origin {
                // A path of another machine means nothing here.
                source: source.map(|source| {
                    if source == Source::Path {
                        Source::Upload
                    } else {
                        source
                    }
                }),
                place: text("origin").filter(|_| source == Some(Source::Url)),
                ..Origin::default()
            };
            let added = match incoming {
                Ok(incoming) => incoming.finish(person, origin).await,
                Err(error) => Err(error),
            };
            match added {
                Ok(document) => {
                    report.documents += 1;
                    for collection in collections {
                        self.inner
                            .store
                            .collections()
                            .put(person, &collection, &document.id)
                            .await?;
                    }
                }
                Err(error) => report.errors.push(format!("{name}: {error}")),
            }
        }
        Ok(report)
    }

    /// A file without a name for bytes that are looked at and forgotten.
    ///
    /// # Errors
    /// The disk fails.
    pub fn spool(&self) -> Result<File, AppError> {
        let path = self.library_path(&format!("{INCOMING}/{}", file_name()?));
        let made = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let file = made.map_err(|source| LibraryError::disk("cannot make", &path, source))?;
        std::fs::remove_file(&path)
            .map_err(|source| LibraryError::disk("cannot make", &path, source))?;
        Ok(file)
    }

    /// The collection of this name, made where there is none.
    pub async fn collection_named(
        &self,
        person: &PersonId,
        name: &str,
    ) -> Result<String, AppError> {
        let collections = self.inner.store.collections();
        match collections.get(person, name).await {
            Ok(found) => Ok(found.id),
            Err(_) => Ok(collections.create(person, name).await?.id),
        }
    }
}

fn pack(
    path: &Path,
    members: &[(Document, PathBuf)],
    names: &[(String, String)],
) -> Result<Export, LibraryError> {
    let failed = |source| LibraryError::disk("cannot write", path, source);
    let zipped =
        |error: zip::result::ZipError| LibraryError::disk("cannot write", path, error.into());
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(failed)?;
    let mut writer = zip::ZipWriter::new(file);
    let options = SimpleFileOptions::default().large_file(true);
    let mut list = Vec::new();
    for (document, place) in members {
        let member = format!("files/{}", document.id);
        writer
            .start_file(member.as_str(), options)
            .map_err(zipped)?;
        let mut from =
            File::open(place).map_err(|source| LibraryError::disk("cannot read", place, source))?;
        std::io::copy(&mut from, &mut writer).map_err(failed)?;
        let collections: Vec<&str> = names
            .iter()
            .filter(|(id, _)| document.collections.contains(id))
            .map(|(_, name)| name.as_str())
            .collect();
        list.push(json!({
            "file": member,
            "name": document.name,
            "source": document.source.as_str(),
            "origin": document.origin,
            "sha256": document.sha256,
            "collections": collections,
        }));
    }
    writer.start_file(LIST, options).map_err(zipped)?;
    let text = json!({ "format": FORMAT, "documents": list }).to_string();
    writer.write_all(text.as_bytes()).map_err(failed)?;
    let mut file = writer.finish().map_err(zipped)?;
    let bytes = file.metadata().map_err(failed)?.len();
    std::io::Seek::rewind(&mut file).map_err(failed)?;
    Ok(Export { file, bytes })
}

type Archive = zip::ZipArchive<File>;

fn open(file: File) -> Result<(Archive, Vec<Value>), LibraryError> {
    let bad = |why: String| LibraryError::NotAnExport(why);
    let mut archive = Archive::new(file).map_err(|error| bad(error.to_string()))?;
    let mut text = String::new();
    let list = archive
        .by_name(LIST)
        .map_err(|_| bad(format!("it has no {LIST}")))?;
    list.take(LIST_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| bad(error.to_string()))?;
    let list: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if list["format"] != FORMAT {
        return Err(bad(format!(
            "its format is {}, not {FORMAT}",
            list["format"]
        )));
    }
    let documents = list["documents"].as_array().cloned().unwrap_or_default();
    Ok((archive, documents))
}

fn unpack(
    app: &App,
    archive: &mut Archive,
    member: &str,
    name: &str,
) -> Result<super::Incoming, AppError> {
    let bad = |why: String| LibraryError::NotAnExport(why);
    let mut incoming = app.receive(name, None)?;
    let mut from = archive
        .by_name(member)
        .map_err(|error| bad(format!("{member}: {error}")))?;
    let mut piece = vec![0; PIECE];
    loop {
        let n = from
            .read(&mut piece)
            .map_err(|error| bad(format!("{member}: {error}")))?;
        if n == 0 {
            return Ok(incoming);
        }
        incoming.write(&piece[..n])?;
    }
}
