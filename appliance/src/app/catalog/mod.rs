//! Bringing models in from a hub: listing, choosing, fetching, checking.
//!
//! Owns the hub's listing format and the choice among its files. Bytes travel in [`download`]. Must not
//! know engines; whether a file is a model that runs is decided when it is imported.

mod cached;
mod choose;
mod curated;
mod download;
mod search;
mod speech;

use std::sync::Arc;

use serde_json::Value;

pub use cached::repositories;
pub use choose::{Choice, choose, variants};
pub use curated::{CURATED, Curated, Role, curated};
pub use download::{Progress, download};
pub use search::HubModel;

use super::{App, AppError, NewModel};
use crate::domain::Model;
use crate::error::{Failing, Kind};
use crate::fetch::{Fetch, FetchError, Request};

/// Largest page of a listing; a page has at most a thousand files.
const LISTING_BYTES_MAX: u64 = 4 << 20;
/// Pages followed; repositories beyond ten thousand files are no models.
const PAGES_MAX: usize = 10;

/// Why a model could not be brought in.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(
        "`{0}` is no repository; write it as ORGANISATION/NAME, with :QUANT for one of its files, or take a name from `onebit catalogue`"
    )]
    BadName(String),
    #[error("the hub's answer to a search cannot be read: {why}")]
    Search { why: String },
    #[error("the hub's listing of {repo} cannot be read: {why}")]
    Listing { repo: String, why: String },
    #[error(
        "{repo} comes in {parts} parts, which cannot be imported yet; choose another quantisation"
    )]
    InParts { repo: String, parts: usize },
    #[error("{repo} is not in the hub's cache {cache}; `onebit pull {repo}` fetches it")]
    NotCached { repo: String, cache: String },
    #[error("{repo} has no GGUF file{}", among(.found))]
    NothingToRun { repo: String, found: Vec<String> },
    #[error("{repo} has no {wanted}; it has {}", .found.join(", "))]
    NoSuchQuant {
        repo: String,
        wanted: String,
        found: Vec<String>,
    },
    #[error(
        "{file} needs {needed_bytes} bytes and {free_bytes} are free in {folder}; free some, or set data_dir"
    )]
    DiskFull {
        file: String,
        folder: String,
        needed_bytes: u64,
        free_bytes: u64,
    },
    #[error(
        "the disk of {folder} filled up while {file} came in ({free_bytes} bytes are free); the {kept_bytes} bytes that \
         arrived stay: free {missing_bytes} and pull again"
    )]
    DiskFilled {
        file: String,
        folder: String,
        kept_bytes: u64,
        missing_bytes: u64,
        free_bytes: u64,
    },
    #[error(
        "{file} arrived with sha256 {found} instead of {wanted}; it was thrown away, pull again"
    )]
    WrongHash {
        file: String,
        wanted: String,
        found: String,
    },
    #[error("{file} arrived with {found} bytes instead of {wanted}; pull again")]
    WrongSize {
        file: String,
        wanted: u64,
        found: u64,
    },
    #[error("{file} came no further after {tries} tries: {last}")]
    GaveUp {
        file: String,
        tries: usize,
        last: FetchError,
    },
    #[error("{what} {path}: {source}")]
    Disk {
        what: &'static str,
        path: String,
        source: std::io::Error,
    },
}

impl Failing for CatalogError {
    fn kind(&self) -> Kind {
        match self {
            Self::BadName(_) => Kind::BadRequest,
            Self::InParts { .. } => Kind::Unsupported,
            Self::NothingToRun { .. } | Self::NoSuchQuant { .. } | Self::NotCached { .. } => {
                Kind::NotFound
            }
            Self::DiskFull { .. } | Self::DiskFilled { .. } => Kind::TooLarge,
            Self::Fetch(FetchError::Status { status, .. }) if *status == 404 || *status == 401 => {
                Kind::NotFound
            }
            Self::Disk { .. } => Kind::Internal,
            _ => Kind::EngineDown,
        }
    }
}

fn among(found: &[String]) -> String {
    if found.is_empty() {
        String::new()
    } else {
        format!(", only {}", found.join(", "))
    }
}

/// A repository and perhaps one of its quantisations: `org/name` or `org/name:Q4_K_M`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub repo: String,
    pub revision: String,
    pub quant: Option<String>,
}

impl Source {
    /// Reads what a person typed: a repository, or a name of the [`CURATED`] ones.
    ///
    /// # Errors
    /// It is no repository's name.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        let bad = || CatalogError::BadName(text.to_owned());
        let (repo, quant) = match text.split_once(':') {
            Some((repo, quant)) if !quant.is_empty() => (repo, Some(quant.to_owned())),
            Some(_) => return Err(bad()),
            None => (text, None),
        };
        let repo = curated(repo).map_or(repo, |model| model.repository);
        let (organisation, name) = repo.split_once('/').ok_or_else(bad)?;
        // What ends up in addresses and folders must not be able to climb.
        let plain = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        if !plain(organisation) || !plain(name) {
            return Err(bad());
        }
        Ok(Self {
            repo: repo.to_owned(),
            revision: "main".to_owned(),
            quant,
        })
    }
}

/// A file of a repository, as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// Its path inside the repository.
    pub path: String,
    pub bytes: u64,
    /// Large files have one; small ones are only known by git's own hash.
    pub sha256: Option<String>,
}

/// A hub that speaks the usual listing and resolve routes.
#[derive(Clone)]
pub struct Hub {
    fetch: Fetch,
    endpoint: String,
    token: Option<String>,
}

impl Hub {
    /// A hub at `endpoint`. The token goes to that origin and nowhere else.
    #[must_use]
    pub fn new(fetch: Fetch, endpoint: &str, token: Option<String>) -> Self {
        Self {
            fetch,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
        }
    }

    /// Lists every file of a repository.
    ///
    /// # Errors
    /// The hub cannot be reached, does not know it, or answers with something else.
    pub async fn list(&self, source: &Source) -> Result<Vec<HubFile>, CatalogError> {
        let first = format!(
            "{}/api/models/{}/tree/{}?recursive=true",
            self.endpoint, source.repo, source.revision
        );
        let mut next = Some(first);
        let mut files = Vec::new();
        for _ in 0..PAGES_MAX {
            let Some(url) = next.take() else { break };
            let request = Request::get(url, LISTING_BYTES_MAX).bearer(self.token.as_deref());
            let response = self.fetch.send(request).await?.success()?;
            // The next page is taken only from the same hub: a listing must not lead the token elsewhere.
            next = response
                .header("link")
                .and_then(next_link)
                .filter(|url| url.starts_with(&self.endpoint));
            let page = response.bytes().await?;
            let bad = |why: String| CatalogError::Listing {
                repo: source.repo.clone(),
                why,
            };
            let page: Value = serde_json::from_slice(&page).map_err(|e| bad(e.to_string()))?;
            let page = page.as_array().ok_or_else(|| bad("it is no list".into()))?;
            files.extend(page.iter().filter_map(listed));
        }
        Ok(files)
    }

    pub(super) fn request(&self, source: &Source, file: &HubFile) -> Request {
        let url = format!(
            "{}/{}/resolve/{}/{}",
            self.endpoint, source.repo, source.revision, file.path
        );
        // One byte more than announced is enough to notice a lie.
        Request::get(url, file.bytes.saturating_add(1)).bearer(self.token.as_deref())
    }

    pub(super) fn fetch(&self) -> &Fetch {
        &self.fetch
    }
}

fn listed(entry: &Value) -> Option<HubFile> {
    if entry["type"] != "file" {
        return None;
    }
    let path = entry["path"].as_str()?;
    // A path that climbs is not listed at all.
    let climbs =
        path.starts_with('/') || path.split('/').any(|part| part.is_empty() || part == "..");
    let plain = path
        .bytes()
        .all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'%' | b'\\'));
    if climbs || !plain {
        return None;
    }
    let lfs = &entry["lfs"];
    let sha256 = lfs["oid"]
        .as_str()
        .map(|oid| oid.trim_start_matches("sha256:").to_ascii_lowercase());
    let sha256 =
        sha256.filter(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
    Some(HubFile {
        path: path.to_owned(),
        bytes: lfs["size"].as_u64().or(entry["size"].as_u64())?,
        sha256,
    })
}

fn next_link(header: &str) -> Option<String> {
    let link = header
        .split(',')
        .find(|link| link.contains("rel=\"next\""))?;
    Some(link.split_once('<')?.1.split_once('>')?.0.to_owned())
}

impl App {
    /// The hub that the owner set, or the usual one.
    ///
    /// # Errors
    /// Nothing may leave this machine.
    pub fn hub(&self) -> Result<Hub, CatalogError> {
        let settings = &self.config().hub;
        let fetch = self.inner.means.fetch.clone();
        let fetch = fetch.ok_or(FetchError::Offline {
            host: settings.endpoint.clone(),
        })?;
        let token = Some(settings.token.clone()).filter(|token| !token.is_empty());
        Ok(Hub::new(fetch, &settings.endpoint, token))
    }

    /// Fetches a model from the hub and imports it. What arrived before a failure stays for the next try.
    ///
    /// # Errors
    /// The hub, the disk, or the file itself.
    pub async fn pull(
        &self,
        source: &Source,
        name: Option<String>,
        progress: &Arc<Progress>,
    ) -> Result<Model, AppError> {
        let hub = self.hub()?;
        let files = hub.list(source).await?;
        let voiced = speech::choose(source, &files)?;
        let spoken = voiced.is_some();
        let room = super::machine(self.inner.cores).memory_available_bytes;
        let choice = match voiced {
            Some(choice) => choice,
            None => choose(source, &files, room)?,
        };
        if choice.files.len() > 1 && !spoken {
            let parts = choice.files.len();
            return Err(CatalogError::InParts {
                repo: source.repo.clone(),
                parts,
            }
            .into());
        }
        let given = name.clone();
        let name = name.or_else(|| usual_name(source, &choice));
        let cache = &self.config().hub.cache;
        // A model that speaks is made of several.
        let here = choice.files.first().filter(|_| !spoken);
        if let Some(path) = here.and_then(|file| cached::blob(cache, source, file)) {
            tracing::info!(path = %path.display(), "the file is in the hub's cache already");
            progress.take_whole(choice.bytes());
            // It is hashed as it is copied; a blob that is not what its name says is fetched.
            let model = self
                .import(NewModel {
                    path,
                    name: name.clone(),
                })
                .await?;
            if here.and_then(|file| file.sha256.as_deref()) == Some(&*model.sha256) {
                return Ok(model);
            }
            self.remove_model(&model.id).await?;
        }
        let folder = self
            .store()
            .folder()
            .join("pulls")
            .join(source.repo.replace('/', "_"));
        let paths = download(&hub, source, &choice.files, &folder, progress).await?;
        let Some((first, rest)) = paths.split_first() else {
            return Err(CatalogError::NothingToRun {
                repo: source.repo.clone(),
                found: Vec::new(),
            }
            .into());
        };
        if spoken {
            return self.import_spoken(first, rest, given, &folder).await;
        }
        let path = first.clone();
        let model = self.take_in(NewModel { path, name }).await?;
        // Empty unless another pull of this repository is on its way.
        let _ = std::fs::remove_dir(&folder);
        Ok(model)
    }

    /// Imports a model that another program of the hub has fetched; asks nobody.
    ///
    /// # Errors
    /// It is not there, or the file itself.
    pub async fn import_cached(
        &self,
        source: &Source,
        name: Option<String>,
    ) -> Result<Model, AppError> {
        let cache = &self.config().hub.cache;
        let files = cached::files(cache, source);
        if files.is_empty() {
            return Err(CatalogError::NotCached {
                repo: source.repo.clone(),
                cache: cache.display().to_string(),
            }
            .into());
        }
        let listed: Vec<HubFile> = files.iter().map(|file| file.listed.clone()).collect();
        let choice = choose(source, &listed, u64::MAX)?;
        let [wanted] = choice.files.as_slice() else {
            return Err(CatalogError::InParts {
                repo: source.repo.clone(),
                parts: choice.files.len(),
            }
            .into());
        };
        let found = files.iter().find(|file| file.listed.path == wanted.path);
        let path = found.map(|file| file.path.clone()).unwrap_or_default();
        let name = name.or_else(|| usual_name(source, &choice));
        self.import(NewModel { path, name }).await
    }
}

/// The name of a model of which a client has said none.
fn usual_name(source: &Source, choice: &Choice) -> Option<String> {
    let name = source.repo.split('/').next_back()?;
    Some(format!("{name}-{}", choice.quant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_read_and_climbers_refused() {
        let source = Source::parse("org/Model-1.5B_GGUF:Q4_K_M").unwrap();
        assert_eq!(
            (source.repo.as_str(), source.quant.as_deref()),
            ("org/Model-1.5B_GGUF", Some("Q4_K_M"))
        );
        for bad in [
            "",
            "model",
            "a/b/c",
            "../x",
            "a/..",
            "a/b:",
            "a b/c",
            "https://x/y",
            "a/b?c",
        ] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn listings_are_read() {
        let hash = "A".repeat(64);
        let file = listed(&json!({"type": "file", "path": "m.gguf", "size": 130, "lfs": {"oid": hash, "size": 7}})).unwrap();
        assert_eq!(
            file,
            HubFile {
                path: "m.gguf".into(),
                bytes: 7,
                sha256: Some("a".repeat(64))
            }
        );
        assert_eq!(
            listed(&json!({"type": "file", "path": "README.md", "size": 3}))
                .unwrap()
                .sha256,
            None
        );
        for bad in ["../m.gguf", "/etc/passwd", "a//b", "a b", "a?b", "a%2e"] {
            assert_eq!(
                listed(&json!({"type": "file", "path": bad, "size": 3})),
                None,
                "{bad}"
            );
        }
        assert_eq!(listed(&json!({"type": "directory", "path": "x"})), None);
    }

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(
            next_link("<https://h/a?cursor=x>; rel=\"next\"").as_deref(),
            Some("https://h/a?cursor=x")
        );
        assert_eq!(next_link("<https://h/a>; rel=\"prev\""), None);
    }
}
