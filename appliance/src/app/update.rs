//! A newer version: found in a signed list, fetched, checked by the key of the version that runs, and handed to its
//! own installer, which takes it back when it does not come up healthy.
//!
//! A release is a folder with `SHA256SUMS`, its signature `SHA256SUMS.minisig` and the AppImages that it names.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minisign_verify::{PublicKey, Signature};
use sha2::{Digest, Sha256};

use super::{App, AppError, VERSION};
use crate::config::UpdateConfig;
use crate::engines::{Launcher, Spec};
use crate::error::{Failing, Kind};
use crate::fetch::{Fetch, FetchError, Request};
use crate::process::ProcessError;

/// The key that releases of this build are signed with; builds outside a release have none.
const RELEASE_KEY: Option<&str> = option_env!("ONEBIT_RELEASE_KEY");
/// A list of checksums and its signature are a few lines.
const LIST_BYTES_MAX: u64 = 64 << 10;
/// An AppImage with every engine in it stays far below.
const IMAGE_BYTES_MAX: u64 = 2 << 30;
/// What the installer says fits easily.
const WORDS_BYTES_MAX: usize = 64 << 10;
/// The installer waits a minute for health; it is stuck when nothing moves for longer.
const STALL: Duration = Duration::from_secs(180);

/// Why there is no update.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// No address is set.
    #[error("no place for releases is set; set update.releases, or say --from URL")]
    Nowhere,
    /// Neither the settings nor this build have a key.
    #[error(
        "this build knows no release key; set update.key to the one that your releases are signed with"
    )]
    NoKey,
    /// The key is not one of minisign's.
    #[error("update.key is not a minisign public key: {0}")]
    BadKey(String),
    /// The list cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The list is signed by somebody else, or was changed.
    #[error("{url} is not signed by the release key ({why}); nothing was changed")]
    Unsigned {
        /// The list.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The list names nothing for this machine.
    #[error("{url} names no release for this machine")]
    Empty {
        /// The list.
        url: String,
    },
    /// What was fetched is not what the list says.
    #[error("{name} hashes to {found} instead of {wanted}; nothing was changed")]
    Damaged {
        /// The file.
        name: String,
        /// Its hash.
        found: String,
        /// The list's.
        wanted: String,
    },
    /// A file cannot be written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The release's installer cannot run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The installer refused, or took the new version back.
    #[error("the new version was not installed: {0}")]
    Refused(String),
}

impl Failing for UpdateError {
    fn kind(&self) -> Kind {
        match self {
            UpdateError::Nowhere | UpdateError::NoKey | UpdateError::BadKey(_) => Kind::Unsupported,
            UpdateError::Fetch(_) | UpdateError::Unsigned { .. } | UpdateError::Empty { .. } => {
                Kind::EngineDown
            }
            UpdateError::Damaged { .. }
            | UpdateError::File { .. }
            | UpdateError::Process(_)
            | UpdateError::Refused(_) => Kind::Internal,
        }
    }
}

impl App {
    /// Looks up the newest release in the signed list.
    ///
    /// # Errors
    /// Nothing may leave this machine, or as [`newest`].
    pub async fn newest_release(&self) -> Result<Release, AppError> {
        let settings = &self.config().update;
        let fetch = self.inner.means.fetch.as_ref();
        let fetch = fetch.ok_or(UpdateError::Fetch(FetchError::Offline {
            host: settings.releases.clone(),
        }))?;
        Ok(newest(fetch, settings).await?)
    }
}

/// A version that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its number.
    pub version: String,
    /// The AppImage's name.
    pub name: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    folder: String,
}

impl Release {
    /// Whether it is newer than the version that runs.
    pub fn is_newer(&self) -> bool {
        numbers(&self.version) > numbers(VERSION)
    }
}

/// Looks up the newest release in the signed list.
///
/// # Errors
/// No place or key is set, the list cannot be had, is not signed by the key, or names nothing for this machine.
pub async fn newest(fetch: &Fetch, settings: &UpdateConfig) -> Result<Release, UpdateError> {
    if settings.releases.is_empty() {
        return Err(UpdateError::Nowhere);
    }
    let key = match (settings.key.as_str(), RELEASE_KEY) {
        ("", None) => return Err(UpdateError::NoKey),
        ("", Some(key)) | (key, _) => key,
    };
    let key =
        PublicKey::from_base64(key).map_err(|error| UpdateError::BadKey(error.to_string()))?;
    let folder = format!(
        "{}/{}",
        settings.releases.trim_end_matches('/'),
        settings.channel
    );
    let url = format!("{folder}/SHA256SUMS");
    let list = fetch.text(Request::get(&url, LIST_BYTES_MAX)).await?;
    let signature = fetch
        .text(Request::get(format!("{url}.minisig"), LIST_BYTES_MAX))
        .await?;
    // Only the list's present form is signed: the old one without a prehash is refused.
    let verified = Signature::decode(&signature)
        .and_then(|signature| key.verify(list.as_bytes(), &signature, false));
    verified.map_err(|error| UpdateError::Unsigned {
        url: url.clone(),
        why: error.to_string(),
    })?;
    let newest = list
        .lines()
        .filter_map(|line| entry(line, &folder))
        .max_by_key(|release| numbers(&release.version));
    newest.ok_or(UpdateError::Empty { url })
}

/// Fetches a release's AppImage into `folder` and compares it with the list; `progress` hears the bytes that came.
///
/// # Errors
/// It cannot be had or written, or is not what the list says; then nothing of it is left.
pub async fn download(
    fetch: &Fetch,
    release: &Release,
    folder: &Path,
    mut progress: impl FnMut(u64),
) -> Result<PathBuf, UpdateError> {
    let path = folder.join(&release.name);
    let at = |source| UpdateError::File {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(folder).map_err(at)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o700)
        .open(&path)
        .map_err(at)?;
    let mut answer = fetch
        .send(Request::get(
            format!("{}/{}", release.folder, release.name),
            IMAGE_BYTES_MAX,
        ))
        .await?
        .success()?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    while let Some(chunk) = answer.chunk().await? {
        hash.update(&chunk);
        file.write_all(&chunk).map_err(at)?;
        bytes += chunk.len() as u64;
        progress(bytes);
    }
    file.sync_all().map_err(at)?;
    let found: String = hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if found == release.sha256 {
        return Ok(path);
    }
    fs::remove_file(&path).map_err(at)?;
    Err(UpdateError::Damaged {
        name: release.name.clone(),
        found,
        wanted: release.sha256.clone(),
    })
}

/// Runs the installer inside a checked image, with `arguments` and a few variables of this user's, and returns what
/// it says.
///
/// # Errors
/// It cannot run, refuses, or takes the new version back because it is not healthy.
pub async fn install(
    launcher: &Launcher,
    image: &Path,
    release: &Release,
    arguments: &[OsString],
    environment: &[(&str, String)],
) -> Result<String, UpdateError> {
    let folder = image.parent().unwrap_or(Path::new("/"));
    let unpacked = folder.join("squashfs-root");
    let inside = "usr/lib/onebit/install.sh";
    let unpack = Spec::new(image)
        .args(["--appimage-extract", inside])
        .dir(folder);
    run(launcher, unpack).await?;
    // It asks the new version for its health.
    let mut script = Spec::new("/bin/sh")
        .connecting()
        .arg(unpacked.join(inside))
        .args(["--sha256", &release.sha256])
        .arg("--file")
        .arg(image)
        .args(arguments)
        .dir(folder);
    for (name, value) in environment {
        script = script.env(*name, value);
    }
    let said = run(launcher, script).await;
    // It is unpacked anew next time.
    let _ = fs::remove_dir_all(&unpacked);
    said
}

async fn run(launcher: &Launcher, spec: Spec) -> Result<String, UpdateError> {
    let output = launcher.run(spec, WORDS_BYTES_MAX, STALL).await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let last = output.stderr.lines().rfind(|line| !line.trim().is_empty());
    Err(UpdateError::Refused(
        last.unwrap_or("it said nothing").to_owned(),
    ))
}

/// One line of the list, if it is an AppImage for this machine: 64 digits, two blanks, `onebit-VERSION-x86_64.AppImage`.
fn entry(line: &str, folder: &str) -> Option<Release> {
    let (sha256, name) = line.split_once(' ')?;
    let name = name.trim_start_matches([' ', '*']);
    let version = name
        .strip_prefix("onebit-")?
        .strip_suffix("-x86_64.AppImage")?;
    let digits = sha256.len() == 64
        && sha256
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (digits && numbers(version).is_some()).then(|| Release {
        version: version.to_owned(),
        name: name.to_owned(),
        sha256: sha256.to_owned(),
        folder: folder.to_owned(),
    })
}

/// A version as numbers that compare; `None` for what is none.
fn numbers(version: &str) -> Option<Vec<u64>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_for_this_machine_are_releases() {
        let sum = "a".repeat(64);
        let release = entry(&format!("{sum}  onebit-1.10.0-x86_64.AppImage"), "f").unwrap();
        assert_eq!(
            (release.version.as_str(), release.sha256.as_str()),
            ("1.10.0", sum.as_str())
        );
        assert!(numbers("1.10.0") > numbers("1.9.3"));
        for line in [
            format!("{sum}  onebit-1.0.0-aarch64.AppImage"),
            format!("{sum}  onebit-../x-x86_64.AppImage"),
            "abc  onebit-1.0.0-x86_64.AppImage".to_owned(),
            format!("{sum}  NOTICES"),
        ] {
            assert_eq!(entry(&line, "f"), None, "{line}");
        }
    }
}
