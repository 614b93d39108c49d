//! Signing in and out, and what the owner sees and ends: devices, keys, persons, the audit log.

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::credentials;
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use super::person;
use crate::app::{App, Made, TrustError, trust};
use crate::domain::{Credential, CredentialKind, Peer, PersonId, Scope, Transport};

/// Lines of the audit log in one answer.
const AUDIT_MAX: usize = 1000;

/// A device or key as the page reads it.
pub(super) fn view(credential: &Credential) -> Value {
    json!({
        "id": credential.id,
        "name": credential.name,
        "person": credential.person.as_str(),
        "scope": credential.scope.as_str(),
        "created_at": credential.created_at,
        "seen_at": credential.seen_at,
        "seen_from": credential.seen_from,
        "expires_at": credential.expires_at,
    })
}

/// A scope that a credential can have.
pub(super) fn scope_of(word: Option<&str>) -> Result<Scope, RequestError> {
    word.map_or(Some(Scope::Chat), Scope::parse)
        .ok_or_else(|| RequestError::field("scope", "must be infer, chat or owner"))
}

pub(super) fn person_of(id: Option<String>) -> PersonId {
    id.map_or_else(PersonId::owner, PersonId::from_row)
}

/// Lets a browser in by its cookie, and a program by a token in the body.
pub(super) fn let_in(peer: &Peer, made: &Made, wants_token: bool) -> Response {
    let mut body = json!({ "state": "in", "device": view(&made.credential) });
    if wants_token {
        body["token"] = json!(made.token);
    }
    let mut response = answer(StatusCode::OK, &body);
    if !wants_token {
        let secure = matches!(peer.transport, Transport::Lan { secure: true, .. });
        credentials::set_cookie(response.headers_mut(), secure, &made.token);
    }
    response
}

/// `GET /onebit/session`: who the page is, and how it could be more.
pub(in super::super) async fn session(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Failure<OpenAi>> {
    let reach = app.reach();
    let signed_in = peer.person.is_some();
    let mut body = json!({
        "signed_in": signed_in,
        "scope": peer.scope.as_str(),
        "private": peer.transport.is_private(),
        "transport": match &peer.transport {
            Transport::Loopback => "loopback",
            Transport::Lan { .. } => "lan",
            Transport::Mesh { .. } => "mesh",
        },
        "claimable": app.trust().is_unclaimed(),
        // The port, not the addresses: whoever asks knows the address, and others are nobody's business.
        "https_port": reach.https.first().and_then(|a| a.rsplit(':').next()?.parse::<u16>().ok()),
    });
    if let Some((digits, words)) = app.trust().certificates().fingerprint() {
        body["authority"] = json!({ "sha256": digits, "words": words });
    }
    if let Some(person) = &peer.person {
        body["person"] = json!(person.as_str());
        body["device"] = json!(peer.device);
    }
    if peer.holds(Scope::Owner) && reach.lan {
        let named = app.announced().map(|name| format!("http://{name}"));
        body["network"] = json!(named.into_iter().chain(reach.http).collect::<Vec<_>>());
    }
    if signed_in && peer.holds(Scope::Chat) {
        let devices = app.store().access().all(CredentialKind::Device).await?;
        let newest = devices.iter().find(|device| {
            Some(&device.person) == peer.person.as_ref() && Some(&device.id) != peer.device.as_ref()
        });
        body["newest_device"] =
            json!(newest.map(|d| json!({ "name": d.name, "created_at": d.created_at })));
    }
    Ok(answer(StatusCode::OK, &body))
}

/// `DELETE /onebit/session`: the device signs itself out, for good.
pub(in super::super) async fn sign_out(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Failure<OpenAi>> {
    let Some(id) = &peer.device else {
        return Err(RequestError::field(
            "session",
            "is this machine itself, which cannot sign out",
        )
        .into());
    };
    app.trust()
        .remove(CredentialKind::Device, id, peer.transport.address())
        .await?;
    let mut response = answer(StatusCode::OK, &json!({ "signed_in": false }));
    credentials::clear_cookies(response.headers_mut());
    Ok(response)
}

/// `POST /onebit/session/renew`: a new token for a device that keeps it itself.
pub(in super::super) async fn renew(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Failure<OpenAi>> {
    let token = app.trust().renew(&peer).await?;
    Ok(answer(StatusCode::OK, &json!({ "token": token })))
}

/// `POST /onebit/tickets`: opens one WebSocket within half a minute, as its `ticket` query.
pub(in super::super) async fn ticket(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Failure<OpenAi>> {
    let ticket = app.trust().ticket(&peer)?;
    Ok(answer(
        StatusCode::CREATED,
        &json!({ "ticket": ticket, "expires_in_s": 30 }),
    ))
}

#[derive(Deserialize)]
pub(in super::super) struct ClaimBody {
    code: String,
    name: String,
    #[serde(default)]
    token: bool,
}

impl Wire for ClaimBody {
    type Dialect = OpenAi;
}

/// `POST /onebit/claim`: the first owner's device from elsewhere.
pub(in super::super) async fn claim(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<ClaimBody>,
) -> Result<Response, Failure<OpenAi>> {
    let made = app
        .trust()
        .claim_appliance(&peer.transport, &body.code, &body.name)
        .await?;
    Ok(let_in(&peer, &made, body.token))
}

/// `GET /onebit/devices`
pub(in super::super) async fn devices(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    list(&app, CredentialKind::Device, "devices").await
}

/// `GET /onebit/keys`
pub(in super::super) async fn keys(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    list(&app, CredentialKind::Key, "keys").await
}

async fn list(app: &App, kind: CredentialKind, name: &str) -> Result<Response, Failure<OpenAi>> {
    let all: Vec<Value> = app
        .store()
        .access()
        .all(kind)
        .await?
        .iter()
        .map(view)
        .collect();
    Ok(answer(StatusCode::OK, &json!({ name: all })))
}

#[derive(Deserialize)]
pub(in super::super) struct NameBody {
    name: String,
}

impl Wire for NameBody {
    type Dialect = OpenAi;
}

/// `PATCH /onebit/devices/{id}`
pub(in super::super) async fn rename_device(
    State(app): State<App>,
    Path(id): Path<String>,
    Body(body): Body<NameBody>,
) -> Result<Response, Failure<OpenAi>> {
    let name = trust::name_of(&body.name)?;
    app.store().access().rename(&id, &name).await?;
    Ok(answer(StatusCode::OK, &json!({ "id": id, "name": name })))
}

/// `DELETE /onebit/devices/{id}`
pub(in super::super) async fn remove_device(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    remove(&app, &peer, CredentialKind::Device, &id).await
}

/// `DELETE /onebit/devices`: all of them but the one that asks.
pub(in super::super) async fn remove_all_devices(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Failure<OpenAi>> {
    let mut removed = 0;
    for device in app.store().access().all(CredentialKind::Device).await? {
        if Some(&device.id) != peer.device.as_ref() {
            app.trust()
                .remove(CredentialKind::Device, &device.id, peer.transport.address())
                .await?;
            removed += 1;
        }
    }
    Ok(answer(StatusCode::OK, &json!({ "deleted": removed })))
}

/// `DELETE /onebit/keys/{id}`
pub(in super::super) async fn remove_key(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    remove(&app, &peer, CredentialKind::Key, &id).await
}

async fn remove(
    app: &App,
    peer: &Peer,
    kind: CredentialKind,
    id: &str,
) -> Result<Response, Failure<OpenAi>> {
    let gone = app
        .trust()
        .remove(kind, id, peer.transport.address())
        .await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "deleted": true, "id": gone.id, "name": gone.name }),
    ))
}

#[derive(Deserialize)]
pub(in super::super) struct KeyBody {
    name: String,
    scope: Option<String>,
    person: Option<String>,
    /// Days until it ends; never, when absent.
    days: Option<u32>,
}

impl Wire for KeyBody {
    type Dialect = OpenAi;
}

/// `POST /onebit/keys`: the answer holds the key, once.
pub(in super::super) async fn add_key(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<KeyBody>,
) -> Result<Response, Failure<OpenAi>> {
    let scope = match body.scope.as_deref() {
        None => Scope::Infer,
        word => scope_of(word)?,
    };
    let from = peer.transport.address();
    let person = person_of(body.person);
    let made = app
        .trust()
        .add_key(person, &body.name, scope, body.days, from)
        .await?;
    let mut view = view(&made.credential);
    view["key"] = json!(made.token);
    Ok(answer(StatusCode::CREATED, &view))
}

/// `GET /onebit/persons`
pub(in super::super) async fn persons(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let all = app.store().access().persons().await?;
    let all: Vec<Value> = all
        .iter()
        .map(|p| json!({ "id": p.id.as_str(), "name": p.name, "created_at": p.created_at }))
        .collect();
    Ok(answer(StatusCode::OK, &json!({ "persons": all })))
}

/// `POST /onebit/persons`
pub(in super::super) async fn add_person(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<NameBody>,
) -> Result<Response, Failure<OpenAi>> {
    let name = trust::name_of(&body.name)?;
    let access = app.store().access();
    let person = access.add_person(&name).await?;
    access
        .audit("person_added", &name, peer.transport.address())
        .await?;
    Ok(answer(
        StatusCode::CREATED,
        &json!({ "id": person.id.as_str(), "name": person.name, "created_at": person.created_at }),
    ))
}

/// `DELETE /onebit/persons/{id}`: with everything that is theirs.
pub(in super::super) async fn remove_person(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    // Nobody removes themselves with the hand that does it.
    if person(&peer)?.as_str() == id {
        return Err(RequestError::field("id", "is you").into());
    }
    let theirs = PersonId::from_row(id.clone());
    for turn in app.running_turns(&theirs) {
        app.stop_turn(&theirs, &turn.id)?;
    }
    app.trust()
        .remove_person(&id, peer.transport.address())
        .await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "deleted": true, "id": id }),
    ))
}

#[derive(Deserialize)]
pub(in super::super) struct AuditQuery {
    limit: Option<usize>,
}

/// `GET /onebit/audit`
pub(in super::super) async fn audit(
    State(app): State<App>,
    query: Result<Query<AuditQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failure<OpenAi>> {
    let Query(query) = query.map_err(|error| RequestError::Malformed(error.body_text()))?;
    let limit = query.limit.unwrap_or(100).min(AUDIT_MAX);
    let rows = app.store().access().audit_rows(limit).await?;
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| json!({ "at": row.at, "event": row.event, "subject": row.subject, "address": row.address }))
        .collect();
    Ok(answer(StatusCode::OK, &json!({ "events": rows })))
}

/// `GET /ca.pem`: our authority, for devices that install certificates as files.
pub(in super::super) async fn authority(
    State(app): State<App>,
) -> Result<Response, Failure<OpenAi>> {
    let pem = app.trust().certificates().authority_pem();
    Ok(download(
        pem,
        "application/x-x509-ca-cert",
        "onebit-ca.pem",
    )?)
}

/// `GET /ca.mobileconfig`: the same as a profile, for Apple's phones.
pub(in super::super) async fn profile(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let profile = app.trust().certificates().profile();
    Ok(download(
        profile,
        "application/x-apple-aspen-config",
        "onebit.mobileconfig",
    )?)
}

fn download(text: Option<String>, kind: &'static str, name: &str) -> Result<Response, TrustError> {
    let text = text.ok_or_else(|| {
        TrustError::Certificate("there is no certificate authority yet".to_owned())
    })?;
    let mut headers = HeaderMap::new();
    let disposition = format!("attachment; filename=\"{name}\"");
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_DISPOSITION, disposition.as_str()),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        if let Ok(value) = value.try_into() {
            headers.insert(name, value);
        }
    }
    Ok((headers, text).into_response())
}
