//! GAIA's page beside ours.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the page lies in the package that brings it.
const IN_PACKAGE: &str = "gaia/apps/webui/dist";

/// GAIA's page beside ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct GaiaConfig {
    /// The folder of its files, or of the package that they came in; empty where there is none.
    pub ui: PathBuf,
}

impl GaiaConfig {
    /// The folder in which the page's `index.html` lies; `None` where none is named or it is not there.
    pub fn page(&self) -> Option<PathBuf> {
        if self.ui.as_os_str().is_empty() {
            return None;
        }
        [self.ui.clone(), self.ui.join(IN_PACKAGE)]
            .into_iter()
            .find(|folder| folder.join("index.html").is_file())
    }
}
