//! Looking for models by words where the hub keeps them.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{App, AppError, CatalogError, Hub, LISTING_BYTES_MAX, Request, Source};

/// Repositories of one answer: more than a person reads, and one page of the hub.
const FOUND_MAX: usize = 20;

/// A repository that the hub found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    /// `ORGANISATION/NAME`.
    pub repo: String,
    /// How often it was fetched lately, as the hub counts.
    pub downloads: u64,
    /// How many people of the hub like it.
    pub likes: u64,
    /// Such as `apache-2.0`, where its owner says so.
    pub licence: Option<String>,
    /// Whether the hub wants an account that agreed to its terms.
    pub gated: bool,
}

impl Hub {
    /// Looks for repositories with GGUF files by words, those that most people fetch first.
    ///
    /// # Errors
    /// The hub cannot be reached, or answers with something else.
    pub async fn search(&self, words: &str) -> Result<Vec<HubModel>, CatalogError> {
        let words = utf8_percent_encode(words, NON_ALPHANUMERIC);
        let url = format!(
            "{}/api/models?search={words}&filter=gguf&sort=downloads&direction=-1&limit={FOUND_MAX}",
            self.endpoint
        );
        let request = Request::get(url, LISTING_BYTES_MAX).bearer(self.token.as_deref());
        let page = self.fetch.send(request).await?.success()?.bytes().await?;
        let bad = |why: String| CatalogError::Search { why };
        let page: Value = serde_json::from_slice(&page).map_err(|e| bad(e.to_string()))?;
        let page = page.as_array().ok_or_else(|| bad("it is no list".into()))?;
        Ok(page.iter().filter_map(found).take(FOUND_MAX).collect())
    }
}

impl App {
    /// Looks for models on the hub.
    ///
    /// # Errors
    /// Nothing may leave this machine, or the hub fails.
    pub async fn search_hub(&self, words: &str) -> Result<Vec<HubModel>, AppError> {
        Ok(self.hub()?.search(words).await?)
    }
}

/// One entry; what has no name that could be pulled is left out.
fn found(entry: &Value) -> Option<HubModel> {
    let repo = entry["id"].as_str().or(entry["modelId"].as_str())?;
    Source::parse(repo).ok()?;
    let licence = entry["tags"].as_array().and_then(|tags| {
        let mut tags = tags.iter().filter_map(Value::as_str);
        tags.find_map(|tag| tag.strip_prefix("license:"))
    });
    let gate = &entry["gated"];
    Some(HubModel {
        repo: repo.to_owned(),
        downloads: entry["downloads"].as_u64().unwrap_or_default(),
        likes: entry["likes"].as_u64().unwrap_or_default(),
        licence: licence.map(str::to_owned),
        gated: gate.is_string() || gate.as_bool() == Some(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_entry_has_a_name_that_can_be_pulled() {
        let entry = json!({"id": "o/m", "downloads": 7, "likes": 2, "gated": "manual",
            "tags": ["gguf", "license:apache-2.0"]});
        let one = found(&entry).unwrap();
        assert_eq!(
            (one.repo.as_str(), one.downloads, one.gated),
            ("o/m", 7, true)
        );
        assert_eq!(one.licence.as_deref(), Some("apache-2.0"));
        assert_eq!(found(&json!({"id": "../m"})), None);
        assert_eq!(found(&json!({"likes": 3})), None);
        let bare = found(&json!({"modelId": "o/m", "gated": false})).unwrap();
        assert_eq!((bare.licence, bare.gated), (None, false));
    }
}
