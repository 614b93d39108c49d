//! Where models come from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Variables;

/// Where models come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HubConfig {
    /// The hub's address.
    pub endpoint: String,
    /// Access token, empty for none.
    pub token: String,
    /// The folder in which other programs keep what they fetched; empty until [`super::Config::resolve`] has put the usual
    /// one there.
    pub cache: PathBuf,
}

impl Default for HubConfig {
    fn default() -> Self {
        HubConfig {
            endpoint: "https://huggingface.co".to_owned(),
            token: String::new(),
            cache: PathBuf::new(),
        }
    }
}

/// Where the hub's own programs keep what they fetched.
pub(super) fn usual_cache(variables: Variables<'_>) -> Option<PathBuf> {
    let named = variables("HF_HUB_CACHE").map(PathBuf::from);
    let home = variables("HF_HOME").map(|home| Path::new(&home).join("hub"));
    let user = variables("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| variables("HOME").map(|home| Path::new(&home).join(".cache")));
    named
        .or(home)
        .or_else(|| user.map(|cache| cache.join("huggingface/hub")))
}
