//! A Headscale server that the owner runs already: who is in it, and a key that lets one device in.
//!
//! Its interface has changed between versions (users by name, then by number; machines, then nodes), so it is asked what
//! it knows instead of being believed by its version.

use serde_json::{Value, json};

use crate::error::{Failing, Kind};
use crate::fetch::{Fetch, FetchError, Request};

/// Answers are lists of a household's nodes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// How long a device has to come in with its key.
const KEY_MINUTES: i64 = 60;

/// Why Headscale does not do it.
#[derive(Debug, thiserror::Error)]
pub enum HeadscaleError {
    /// No server is named.
    #[error("no Headscale server is set; set url and key under [headscale]")]
    NotSet,
    /// It cannot be reached.
    #[error("Headscale: {0}")]
    Fetch(#[from] FetchError),
    /// It does not take the key.
    #[error(
        "Headscale does not accept the API key; make one there (headscale apikeys create) and set it under [headscale]"
    )]
    Key,
    /// It is older than what we know.
    #[error("this Headscale has no nodes in its interface; it is older than 0.23")]
    TooOld,
    /// It refuses, and says why.
    #[error("Headscale refuses: {0}")]
    Refused(String),
    /// It says something that we do not understand.
    #[error(
        "Headscale answers without `{0}`; its version may be newer than what this appliance knows"
    )]
    Unknown(&'static str),
}

impl Failing for HeadscaleError {
    fn kind(&self) -> Kind {
        match self {
            HeadscaleError::NotSet | HeadscaleError::Key | HeadscaleError::TooOld => Kind::Conflict,
            HeadscaleError::Refused(_) => Kind::BadRequest,
            HeadscaleError::Fetch(_) | HeadscaleError::Unknown(_) => Kind::EngineDown,
        }
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            HeadscaleError::NotSet => "headscale_not_set",
            HeadscaleError::Key => "headscale_key",
            HeadscaleError::TooOld => "headscale_too_old",
            HeadscaleError::Refused(_) => "headscale_refused",
            HeadscaleError::Fetch(_) | HeadscaleError::Unknown(_) => "headscale_down",
        })
    }
}

/// A device in the tailnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its number there.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Whether it is connected.
    pub online: bool,
}

/// What lets one device in, once.
pub struct Invitation {
    /// The server that the device's app is told.
    pub server: String,
    /// The key, which is used up by the first device.
    pub key: String,
    /// Minutes until it ends.
    pub minutes: i64,
}

/// The owner's server.
pub struct Headscale {
    fetch: Fetch,
    base: String,
    key: String,
}

impl Headscale {
    /// `base` is its address as devices know it.
    ///
    /// # Errors
    /// Nothing is set.
    pub fn new(fetch: Fetch, base: &str, key: &str) -> Result<Headscale, HeadscaleError> {
        if base.is_empty() || key.is_empty() {
            return Err(HeadscaleError::NotSet);
        }
        Ok(Headscale {
            fetch,
            base: base.trim_end_matches('/').to_owned(),
            key: key.to_owned(),
        })
    }

    /// The version that it gives itself; `None` where it gives none, as before 0.27.
    pub async fn version(&self) -> Option<String> {
        let request = Request::get(format!("{}/version", self.base), ANSWER_BYTES_MAX);
        let text = self.fetch.text(request).await.ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        Some(value["version"].as_str()?.to_owned())
    }

    async fn ask(&self, path: &str, body: Option<&Value>) -> Result<Value, HeadscaleError> {
        let url = format!("{}/api/v1/{path}", self.base);
        let request = match body {
            None => Request::get(url, ANSWER_BYTES_MAX),
            Some(body) => Request::post_json(url, body.to_string(), ANSWER_BYTES_MAX),
        };
        let response = self.fetch.send(request.bearer(Some(&self.key))).await?;
        let status = response.status.as_u16();
        let bytes = response.bytes().await?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        match status {
            200..300 => Ok(value),
            401 | 403 => Err(HeadscaleError::Key),
            404 if body.is_none() => Err(HeadscaleError::TooOld),
            _ => {
                let said = value["message"].as_str().map(str::to_owned);
                Err(HeadscaleError::Refused(
                    said.unwrap_or_else(|| format!("status {status}")),
                ))
            }
        }
    }

    /// All devices.
    ///
    /// # Errors
    /// It cannot be reached, does not take the key, or is too old.
    pub async fn nodes(&self) -> Result<Vec<Node>, HeadscaleError> {
        let all = self.ask("node", None).await?;
        let all = all["nodes"]
            .as_array()
            .ok_or(HeadscaleError::Unknown("nodes"))?;
        Ok(all
            .iter()
            .map(|node| Node {
                id: word(&node["id"]),
                name: first(&[&node["givenName"], &node["name"]]),
                user: word(&node["user"]["name"]),
                addresses: node["ipAddresses"]
                    .as_array()
                    .map(|all| all.iter().map(word).collect())
                    .unwrap_or_default(),
                online: node["online"] == true,
            })
            .collect())
    }

    /// Makes a key for one device of a user, who is made where there is none of that name.
    ///
    /// # Errors
    /// As above, or it refuses the name.
    pub async fn invite(&self, user: &str, now_s: i64) -> Result<Invitation, HeadscaleError> {
        let all = self.ask("user", None).await?;
        let all = all["users"]
            .as_array()
            .ok_or(HeadscaleError::Unknown("users"))?;
        let id = match all.iter().find(|known| known["name"] == user) {
            Some(known) => word(&known["id"]),
            None => {
                let made = self.ask("user", Some(&json!({ "name": user }))).await?;
                word(&made["user"]["id"])
            }
        };
        let expiration = date(now_s + 60 * KEY_MINUTES);
        let with = |user: &str| json!({ "user": user, "reusable": false, "ephemeral": false, "expiration": expiration });
        // Newer ones want the number, older ones the name.
        let made = match self.ask("preauthkey", Some(&with(&id))).await {
            Err(HeadscaleError::Refused(_)) => self.ask("preauthkey", Some(&with(user))).await?,
            made => made?,
        };
        let key = made["preAuthKey"]["key"].as_str();
        Ok(Invitation {
            server: self.base.clone(),
            key: key.ok_or(HeadscaleError::Unknown("preAuthKey"))?.to_owned(),
            minutes: KEY_MINUTES,
        })
    }

    /// Ends a device's session: it has to come in anew.
    ///
    /// # Errors
    /// As above, or there is no such node.
    pub async fn expire(&self, id: &str) -> Result<(), HeadscaleError> {
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(HeadscaleError::Refused(format!(
                "`{id}` is no number of a node"
            )));
        }
        let body = json!({});
        self.ask(&format!("node/{id}/expire"), Some(&body))
            .await
            .map(|_| ())
    }
}

/// A number or a text as text.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// The first that says something.
fn first(values: &[&Value]) -> String {
    let mut words = values.iter().map(|value| word(value));
    words.find(|word| !word.is_empty()).unwrap_or_default()
}

/// Seconds since 1970 as RFC 3339 writes them.
fn date(seconds: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_as_the_server_reads_them() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(1_795_596_605), "2026-11-25T08:50:05Z");
    }

    #[test]
    fn nothing_is_asked_before_it_is_set() {
        let fetch = Fetch::new(crate::fetch::Policy::default());
        for (base, key) in [("", "k"), ("https://h.example", "")] {
            let made = Headscale::new(fetch.clone(), base, key);
            assert!(matches!(made, Err(HeadscaleError::NotSet)));
        }
    }
}
