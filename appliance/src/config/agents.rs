//! Agents and what they may touch.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Agents and what they may touch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentsConfig {
    /// Folders whose files agents may list, read and search.
    pub roots: Vec<PathBuf>,
    /// Whether pages of the web may be fetched, each after a person has allowed it.
    pub web: bool,
    /// Seconds that a person has to allow a call.
    pub confirm_s: u64,
    /// Whether calls are held to their tools' schemas while they are written.
    pub constrained: bool,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        AgentsConfig {
            roots: Vec::new(),
            web: false,
            confirm_s: 60,
            constrained: true,
        }
    }
}
