//! Certificates for names that everybody's devices trust already: from a public authority by ACME, where the owner's
//! program sets the record in the DNS, and from the tailnet that this machine is in.
//!
//! What was given is kept by `trust/named.rs`; a failure leaves what is served as it is, is said once, and is tried
//! again later.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType,
    HttpClient, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use serde_json::{Value, json};

use super::{App, now_ms};
use crate::config::AcmeConfig;
use crate::engines::{Launcher, Spec};
use crate::fetch::{Fetch, Request, SILENCE};
use crate::mesh::tailnet;
use crate::process::ProcessError;
use crate::trust::TrustError;
use crate::trust::named::Named;

/// How often what is due is looked for.
const LOOK: Duration = Duration::from_secs(10);

/// After a failure; public authorities count five failures an hour.
const AGAIN_MS: i64 = 60 * 60 * 1000;

/// A chain of certificates and what is said about an order.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What a hook says.
const WORDS_BYTES_MAX: usize = 64 << 10;

/// A hook may wait until its record is seen.
const HOOK_STALL: Duration = Duration::from_secs(600);

/// How long an authority may take for its own look at the record.
const ORDER_MAX: Duration = Duration::from_secs(300);

/// Why a name has no public certificate.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    #[error("{0}")]
    Authority(#[from] instant_acme::Error),
    #[error("the authority does not offer the DNS challenge for {0}; take another one")]
    NoChallenge(String),
    #[error("the authority does not see the record of {0}: {1}")]
    NotSeen(String, String),
    #[error("the hook: {0}")]
    Hook(#[from] ProcessError),
    #[error("the hook {what} for {record} with {status}: {said}")]
    HookFailed {
        what: &'static str,
        record: String,
        status: std::process::ExitStatus,
        said: String,
    },
    #[error("nothing leaves this machine (fetch.offline)")]
    Offline,
    #[error(
        "the account that was kept cannot be read ({0}); remove trust/acme-account to make a new one"
    )]
    Account(String),
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// The library's requests through our one door out.
struct Out(Fetch);

impl HttpClient for Out {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        fn other(error: impl std::error::Error + Send + Sync + 'static) -> instant_acme::Error {
            instant_acme::Error::Other(Box::new(error))
        }
        let fetch = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(other)?.to_bytes();
            let sent = fetch.send(Request {
                method: parts.method,
                url: parts.uri.to_string(),
                headers: parts.headers,
                body,
                max_bytes: ANSWER_BYTES_MAX,
                silence: SILENCE,
            });
            let response = sent.await.map_err(other)?;
            let (status, headers) = (response.status, response.headers.clone());
            let bytes = response.bytes().await.map_err(other)?;
            let mut answer = http::Response::new(Full::new(Bytes::from(bytes)));
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            Ok(BytesResponse::from(answer))
        })
    }
}

/// The record of a name's challenge, as the hook is told it.
fn record(name: &str) -> String {
    let name = name.strip_prefix("*.").unwrap_or(name);
    format!("_acme-challenge.{name}.")
}

/// What failed last, so that it is said once.
#[derive(Default)]
struct Trouble {
    said: Option<String>,
    until_ms: i64,
}

impl Trouble {
    fn over(&self) -> bool {
        now_ms() >= self.until_ms
    }

    fn say(&mut self, result: Result<(), String>, names: &str) {
        self.until_ms = 0;
        match result {
            Ok(()) => {
                self.said = None;
                tracing::info!(names, "a certificate was given");
            }
            Err(error) => {
                self.until_ms = now_ms() + AGAIN_MS;
                if self.said.as_ref() != Some(&error) {
                    tracing::error!(names, error, "no certificate; asked again in an hour");
                }
                self.said = Some(error);
            }
        }
    }
}

impl App {
    /// Keeps the certificates of public names; never ends.
    pub async fn keep_named_certificates(self) {
        let mut tick = tokio::time::interval(LOOK);
        let (mut public, mut private) = (Trouble::default(), Trouble::default());
        loop {
            tick.tick().await;
            let acme = &self.config().acme;
            if acme.names.iter().any(|name| self.is_due(name)) && public.over() {
                let given = self.ask_authority(acme).await;
                public.say(
                    given.map_err(|error| error.to_string()),
                    &acme.names.join(", "),
                );
            }
            let net = self.tailnet().filter(|net| net.certificate);
            if let Some(net) = net.filter(|net| self.is_due(&net.name))
                && private.over()
            {
                let given = self.ask_tailnet(&net.name).await;
                private.say(given, &net.name);
            }
        }
    }

    fn named(&self) -> &Named {
        self.trust().certificates().named()
    }

    fn is_due(&self, name: &str) -> bool {
        let at = self.named().renew_at(name);
        at.is_none_or(|at| at <= now_ms() / 1000)
    }

    async fn ask_tailnet(&self, name: &str) -> Result<(), String> {
        let socket = &self.config().mesh.tailscaled;
        let pem = tailnet::certificate(Path::new(socket), name).await?;
        self.named()
            .keep(name, &pem)
            .map_err(|error| error.to_string())
    }

    async fn ask_authority(&self, acme: &AcmeConfig) -> Result<(), AcmeError> {
        let fetch = self.inner.means.fetch.clone();
        let fetch = fetch.filter(|fetch| !fetch.offline());
        let fetch = fetch.ok_or(AcmeError::Offline)?;
        let account = self.account(acme, fetch).await?;
        let mut set = Vec::new();
        let given = self.order(acme, &account, &mut set).await;
        // Whatever became of it, no record stays behind.
        for (record, value) in set {
            if let Err(error) = self.hook(acme, "cleanup", &record, &value).await {
                tracing::warn!(%error, "a record in the DNS stays; remove it by hand");
            }
        }
        given
    }

    /// The account that was kept, or a new one.
    async fn account(&self, acme: &AcmeConfig, fetch: Fetch) -> Result<Account, AcmeError> {
        let unread = |error: serde_json::Error| AcmeError::Account(error.to_string());
        let kept: Option<Value> = match self.named().account()? {
            Some(bytes) => Some(serde_json::from_slice(&bytes).map_err(unread)?),
            None => None,
        };
        let builder = Account::builder_with_http(Box::new(Out(fetch)));
        if let Some(mut kept) = kept.filter(|kept| kept["directory"] == acme.directory) {
            let credentials: AccountCredentials =
                serde_json::from_value(kept["account"].take()).map_err(unread)?;
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact = format!("mailto:{}", acme.contact);
        let contacts = [contact.as_str()];
        let wanted = NewAccount {
            contact: match acme.contact.is_empty() {
                true => &[],
                false => &contacts,
            },
            terms_of_service_agreed: acme.accept_terms,
            only_return_existing: false,
        };
        let made = builder.create(&wanted, acme.directory.clone(), None);
        let (account, credentials) = made.await?;
        let kept = json!({ "directory": acme.directory, "account": serde_json::to_value(&credentials).map_err(unread)? });
        self.named().keep_account(kept.to_string().as_bytes())?;
        Ok(account)
    }

    /// One order from its challenges to its certificate; `set` are the records that the hook has made.
    async fn order(
        &self,
        acme: &AcmeConfig,
        account: &Account,
        set: &mut Vec<(String, String)>,
    ) -> Result<(), AcmeError> {
        let names: Vec<Identifier> = acme.names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut all = order.authorizations();
        // All records first: they become visible together.
        while let Some(authorization) = all.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let challenge = authorization
                .challenge(ChallengeType::Dns01)
                .ok_or_else(|| AcmeError::NoChallenge(name.clone()))?;
            let (record, value) = (record(&name), challenge.key_authorization().dns_value());
            set.push((record.clone(), value.clone()));
            self.hook(acme, "present", &record, &value).await?;
        }
        if !set.is_empty() {
            tokio::time::sleep(Duration::from_secs(acme.wait_s)).await;
        }
        let mut all = order.authorizations();
        while let Some(authorization) = all.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let mut challenge = authorization
                .challenge(ChallengeType::Dns01)
                .ok_or(AcmeError::NoChallenge(name))?;
            challenge.set_ready().await?;
        }
        let patience = RetryPolicy::new().timeout(ORDER_MAX);
        let status = order.poll_ready(&patience).await?;
        if status != OrderStatus::Ready {
            return Err(refused(&mut order).await);
        }
        let asked = Named::ask(&acme.names)?;
        order.finalize_csr(&asked.request).await?;
        let chain = order.poll_certificate(&patience).await?;
        let pem = format!("{}{chain}", asked.key);
        let first = acme.names.first().map_or("", String::as_str);
        Ok(self.named().keep(first, pem.as_bytes())?)
    }

    /// Runs the owner's program: `present` or `cleanup`, the record, its value.
    async fn hook(
        &self,
        acme: &AcmeConfig,
        what: &'static str,
        record: &str,
        value: &str,
    ) -> Result<(), AcmeError> {
        let spec = Spec::new(&acme.hook)
            .args([what, record, value])
            .connecting_but(&self.listening_ports());
        let launcher = Launcher::of_this_program();
        let ran = launcher.run(spec, WORDS_BYTES_MAX, HOOK_STALL).await?;
        if ran.status.success() {
            return Ok(());
        }
        let said = ran
            .stderr
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty());
        Err(AcmeError::HookFailed {
            what: match what {
                "present" => "fails to set the record",
                _ => "fails to remove the record",
            },
            record: record.to_owned(),
            status: ran.status,
            said: said.unwrap_or("it says nothing").trim().to_owned(),
        })
    }

    /// Who a device in this machine's tailnet is, as its tailscaled knows it.
    pub async fn known_in_tailnet(&self, address: &str) -> Option<String> {
        self.tailnet()?;
        let address = address.parse().ok()?;
        let socket = &self.config().mesh.tailscaled;
        tailnet::who(Path::new(socket), address).await
    }
}

/// Why an order came to nothing, in the authority's words.
async fn refused(order: &mut instant_acme::Order) -> AcmeError {
    let mut all = order.authorizations();
    while let Some(authorization) = all.next().await {
        let Ok(mut authorization) = authorization else {
            continue;
        };
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let mut problems = state.challenges.iter().filter_map(|one| one.error.as_ref());
        if let Some(problem) = problems.next() {
            return AcmeError::NotSeen(name, problem.to_string());
        }
    }
    AcmeError::NotSeen("a name".to_owned(), "it does not say why".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_has_the_record_of_its_parent() {
        assert_eq!(record("box.example"), "_acme-challenge.box.example.");
        assert_eq!(record("*.box.example"), record("box.example"));
    }

    #[test]
    fn a_failure_waits_and_a_success_does_not() {
        let mut trouble = Trouble::default();
        assert!(trouble.over());
        trouble.say(Err("no".to_owned()), "a");
        assert!(!trouble.over());
        trouble.say(Ok(()), "a");
        assert!(trouble.over());
    }
}
