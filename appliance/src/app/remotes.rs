//! Models on other machines: found at an address, listed beside ours, each with the key that it wants.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde_json::Value;

use super::{App, AppError, now_ms};
use crate::domain::model::slug;
use crate::domain::{Model, ModelFormat};
use crate::engines::remote;

/// A server whose models are to be listed here.
#[derive(Debug, Clone, Default)]
pub struct NewRemote {
    /// Its address, such as `https://box.lan:8000`, with or without `/v1`.
    pub base: String,
    /// Which of its models; all where none is named.
    pub models: Vec<String>,
    /// The name that requests will use, for a single model.
    pub name: Option<String>,
    /// What it wants as a bearer token.
    pub key: Option<String>,
}

impl App {
    /// Asks a server for its models and lists those that are wanted.
    ///
    /// # Errors
    /// The server cannot be reached or lists none of them, nothing may leave this machine, or a name is taken.
    pub async fn add_remote(&self, new: NewRemote) -> Result<Vec<Model>, AppError> {
        let base = new.base.trim_end_matches('/').trim_end_matches("/v1");
        let failed = |why: String| AppError::Remote {
            address: base.to_owned(),
            why,
        };
        let host = base.split_once("://").map_or("", |(_, rest)| rest);
        let host = host.split(['/', '@']).next_back().unwrap_or_default();
        if host.is_empty() {
            return Err(failed(
                "write it as https://HOST or http://HOST:PORT".into(),
            ));
        }
        let fetch = self.inner.means.fetch.clone();
        let fetch = fetch.ok_or_else(|| failed("nothing may leave this machine".into()))?;
        let listed = remote::list(fetch, base, new.key.clone()).await;
        let listed = listed.map_err(|error| failed(error.to_string()))?;
        let wanted: Vec<&Value> = match new.models.as_slice() {
            [] => listed.iter().collect(),
            names => {
                let named = |name: &String| {
                    let found = listed.iter().find(|entry| entry["id"] == name.as_str());
                    found.ok_or_else(|| {
                        let known = listed.iter().filter_map(|entry| entry["id"].as_str());
                        let known: Vec<&str> = known.take(20).collect();
                        failed(format!("it has no `{name}`; it has {}", known.join(", ")))
                    })
                };
                names.iter().map(named).collect::<Result<_, _>>()?
            }
        };
        if wanted.is_empty() {
            return Err(failed("it lists no models".into()));
        }
        if new.name.is_some() && wanted.len() > 1 {
            return Err(failed(format!(
                "it has {} models, and one name cannot mean all; name the one that you want",
                wanted.len()
            )));
        }
        let mut added = Vec::new();
        for entry in wanted {
            let Some(theirs) = entry["id"].as_str() else {
                continue;
            };
            let name = match &new.name {
                Some(name) => name.clone(),
                None => format!("{theirs} on {host}"),
            };
            let id = slug(&name).ok_or_else(|| AppError::BadName(name.clone()))?;
            let model = Model {
                id,
                name: theirs.to_owned(),
                format: ModelFormat::Remote,
                path: PathBuf::from(base),
                file_bytes: 0,
                sha256: format!("remote:{base}/{theirs}"),
                architecture: String::new(),
                quantisation: String::new(),
                context_length: context(entry),
                kv_bytes_per_position: 0,
                // It applies the model's own.
                has_template: true,
                imported_at: now_ms(),
            };
            self.inner.store.models().put(&model).await?;
            if let Some(key) = &new.key {
                self.keep_key(&model.id, key)?;
            }
            added.push(model);
        }
        Ok(added)
    }

    /// Keeps a server's key where only we can read it.
    fn keep_key(&self, id: &str, key: &str) -> Result<(), AppError> {
        let path = remote::key_file(&self.inner.means.remotes, id);
        let failed = |source| AppError::File {
            what: "cannot write",
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(&self.inner.means.remotes).map_err(failed)?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        file.write_all(key.as_bytes()).map_err(failed)
    }
}

/// What servers call the context's length, if they tell it.
fn context(entry: &Value) -> u64 {
    [
        &entry["context_length"],
        &entry["max_model_len"],
        &entry["meta"]["n_ctx_train"],
    ]
    .into_iter()
    .find_map(Value::as_u64)
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_context_has_three_names() {
        assert_eq!(context(&json!({"max_model_len": 4096})), 4096);
        assert_eq!(context(&json!({"meta": {"n_ctx_train": 2048}})), 2048);
        assert_eq!(context(&json!({"id": "m"})), 0);
    }
}
