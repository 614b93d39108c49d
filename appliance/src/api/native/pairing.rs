//! Pairing on the wire: the owner opens a window, a device uses its code, both show the same digits, the owner
//! allows, the device collects its token.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{Body, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use super::access::{let_in, person_of, scope_of};
use crate::app::pairing::{Grant, Stage, WindowView};
use crate::app::{App, PairingProgress, now_ms, trust};
use crate::domain::Peer;

/// How long a device's question waits for the owner before it is asked again.
const WAIT: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
pub(in super::super) struct OpenBody {
    scope: Option<String>,
    person: Option<String>,
}

impl Wire for OpenBody {
    type Dialect = OpenAi;
}

/// `POST /onebit/pairing`: codes and the picture for a phone, once.
pub(in super::super) async fn open(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<OpenBody>,
) -> Result<Response, Failure<OpenAi>> {
    let grant = Grant {
        person: person_of(body.person),
        scope: scope_of(body.scope.as_deref())?,
    };
    let opened = app
        .trust()
        .open_pairing(grant, peer.transport.address())
        .await?;
    let reach = app.reach();
    let page = reach.https.first().map(|base| format!("{base}/pair"));
    // In the fragment, which browsers keep to themselves: no log and no Referer ever holds the code.
    let link = page
        .as_ref()
        .map(|page| format!("{page}#c={}", opened.link_code));
    let picture = link.as_deref().map(trust::qr::path).transpose()?;
    Ok(answer(
        StatusCode::CREATED,
        &json!({
            "id": opened.id,
            "code": opened.typed_code,
            "link": link,
            "page": page,
            "http_page": reach.http.first().map(|base| format!("{base}/pair")),
            "picture": picture.map(|(size, path)| json!({ "size": size, "path": path })),
            "reachable": reach.lan,
            "expires_in_ms": opened.until - now_ms(),
        }),
    ))
}

fn view(window: &WindowView, now: i64) -> Value {
    let mut view = json!({ "id": window.id, "expires_in_ms": (window.until - now).max(0) });
    view["state"] = json!(match &window.stage {
        Stage::Open => "open",
        Stage::Claimed {
            name,
            address,
            private,
            digits,
        } => {
            view["name"] = json!(name);
            view["address"] = json!(address);
            view["private"] = json!(private);
            view["digits"] = json!(digits);
            "waiting"
        }
        Stage::Allowed => "allowed",
        Stage::Done => "done",
        Stage::Refused => "refused",
        Stage::Void => "void",
        Stage::Expired => "expired",
    });
    view
}

/// `GET /onebit/pairing`
pub(in super::super) async fn list(State(app): State<App>) -> Response {
    let now = now_ms();
    let all: Vec<Value> = app
        .trust()
        .pairings()
        .iter()
        .map(|w| view(w, now))
        .collect();
    answer(StatusCode::OK, &json!({ "pairings": all }))
}

#[derive(Deserialize)]
pub(in super::super) struct DecideBody {
    allow: bool,
    #[serde(default)]
    digits: String,
}

impl Wire for DecideBody {
    type Dialect = OpenAi;
}

/// `POST /onebit/pairing/{id}`: allow with the digits that the owner sees, or refuse.
pub(in super::super) async fn decide(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Body(body): Body<DecideBody>,
) -> Result<Response, Failure<OpenAi>> {
    let from = peer.transport.address();
    app.trust()
        .decide_pairing(&id, &body.digits, body.allow, from)
        .await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "id": id, "allowed": body.allow }),
    ))
}

#[derive(Deserialize)]
pub(in super::super) struct ClaimBody {
    code: String,
    name: String,
}

impl Wire for ClaimBody {
    type Dialect = OpenAi;
}

/// `POST /onebit/pair`: a device uses a code.
pub(in super::super) async fn claim(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<ClaimBody>,
) -> Result<Response, Failure<OpenAi>> {
    let known = app.known_in_tailnet(peer.transport.address()).await;
    let claimed = app
        .trust()
        .claim_pairing(&peer.transport, known.as_deref(), &body.code, &body.name)
        .await?;
    Ok(answer(
        StatusCode::CREATED,
        &json!({
            "id": claimed.id,
            "secret": claimed.secret,
            "digits": claimed.digits,
            "expires_in_ms": claimed.until - now_ms(),
        }),
    ))
}

#[derive(Deserialize)]
pub(in super::super) struct CollectBody {
    secret: String,
    /// A program keeps a token; a browser gets a cookie that its scripts cannot read.
    #[serde(default)]
    token: bool,
}

impl Wire for CollectBody {
    type Dialect = OpenAi;
}

/// `POST /onebit/pair/{id}`: the device asks how it stands, and waits a while for the owner.
pub(in super::super) async fn collect(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Body(body): Body<CollectBody>,
) -> Result<Response, Failure<OpenAi>> {
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let mut step = std::pin::pin!(app.trust().pairing_step());
        step.as_mut().enable(); // before the look, so that no step between the two is missed
        let progress = app
            .trust()
            .collect_pairing(&peer.transport, &id, &body.secret)
            .await?;
        match progress {
            PairingProgress::In(made) => return Ok(let_in(&peer, &made, body.token)),
            PairingProgress::Wait => {
                if tokio::time::timeout_at(deadline, step).await.is_err() {
                    return Ok(answer(StatusCode::OK, &json!({ "state": "waiting" })));
                }
            }
        }
    }
}
