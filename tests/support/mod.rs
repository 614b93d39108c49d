//! What the tests stand on: the running appliance, a client, and where things lie.

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod engine;
pub(crate) mod phone;
pub(crate) mod wire;

use std::path::{Path, PathBuf};

pub(crate) use app::App;
pub(crate) use client::Client;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the appliance lies in the repository")
}

/// SmolLM2-135M-Instruct, where `install.sh` keeps it; ONEBIT_TEST_MODEL names another place.
pub(crate) fn model_file() -> PathBuf {
    let file = std::env::var_os("ONEBIT_TEST_MODEL").map_or_else(
        || cache().join("models/SmolLM2-135M-Instruct.Q4_1.gguf"),
        PathBuf::from,
    );
    assert!(
        file.is_file(),
        "{} is missing; run tests/run once, which fetches it",
        file.display()
    );
    file
}

/// The user's cache folder for this project.
pub(crate) fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let base = base.unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache")
    });
    base.join("onebit")
}
