//! Tunnels on the wire: how the mesh is, a new one with its QR codes, and one taken away.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use crate::app::{App, ForDevice, MeshVerdict, trust};
use crate::domain::Peer;

/// Whether phones get through from anywhere, and what keeps them out.
fn verdict(verdict: &MeshVerdict) -> Value {
    let mut view = json!({ "state": verdict.as_str(), "endpoint": verdict.endpoint() });
    match verdict {
        MeshVerdict::Open { by, .. } => view["by"] = json!(by.as_str()),
        MeshVerdict::Carrier { address } => {
            view["address"] = json!(address.map(|ip| ip.to_string()))
        }
        MeshVerdict::Closed { why } => view["why"] = json!(why),
        _ => {}
    }
    view
}

/// `GET /onebit/mesh`
pub(in super::super) async fn status(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let status = app.mesh_status().await?;
    let peers: Vec<Value> = status
        .peers
        .iter()
        .map(|peer| {
            let traffic = peer.traffic.as_ref();
            let at = traffic.and_then(|t| t.endpoint).or(peer.kept.endpoint);
            json!({
                "device": peer.kept.device,
                "address": peer.address.to_string(),
                "endpoint": at.map(|at| at.to_string()),
                "created_at": peer.kept.created_at,
                "handshake_s": traffic.and_then(|t| t.handshake).map(|age| age.as_secs()),
                "received_bytes": traffic.map_or(0, |t| t.received_bytes),
                "sent_bytes": traffic.map_or(0, |t| t.sent_bytes),
                "streams": peer.streams,
            })
        })
        .collect();
    Ok(answer(
        StatusCode::OK,
        &json!({
            "enabled": status.enabled,
            "running": status.running,
            "failure": status.failure,
            "port": status.port,
            "public_key": status.public_key,
            "addresses": status.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "home": status.home,
            "anywhere": verdict(&status.verdict),
            "tailnet": status.tailnet.map(|net| json!({ "name": net.name, "addresses": net.addresses })),
            "peers": peers,
        }),
    ))
}

#[derive(Deserialize)]
pub(in super::super) struct TunnelBody {
    /// A paired device.
    device: Option<String>,
    /// Or the name of one that is not.
    name: Option<String>,
}

impl Wire for TunnelBody {
    type Dialect = OpenAi;
}

/// `POST /onebit/mesh/peers`: the answer holds the device's private key, once.
pub(in super::super) async fn add(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<TunnelBody>,
) -> Result<Response, Failure<OpenAi>> {
    let who = match (body.device, body.name) {
        (Some(id), None) => ForDevice::Known(id),
        (None, Some(name)) => ForDevice::New(name),
        _ => return Err(RequestError::field("device", "or a name for a new one, not both").into()),
    };
    let made = app.add_tunnel(who, peer.transport.address()).await?;
    let code = |place: &Option<(String, String)>| {
        place.as_ref().map(|(endpoint, settings)| {
            let picture = trust::qr::path(settings).ok();
            json!({
                "endpoint": endpoint,
                "settings": settings,
                "picture": picture.map(|(size, path)| json!({ "size": size, "path": path })),
            })
        })
    };
    Ok(answer(
        StatusCode::CREATED,
        &json!({
            "device": made.device,
            "address": made.address,
            "own_address": made.own_address,
            "home": code(&made.home),
            "anywhere": code(&made.anywhere),
            "verdict": verdict(&made.verdict),
        }),
    ))
}

/// `DELETE /onebit/mesh/peers/{device}`: the device stays.
pub(in super::super) async fn remove(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(device): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    app.remove_tunnel(&device, peer.transport.address()).await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "deleted": true, "id": device }),
    ))
}

/// `GET /onebit/headscale`
pub(in super::super) async fn headscale(
    State(app): State<App>,
) -> Result<Response, Failure<OpenAi>> {
    let (version, nodes) = app.headscale_nodes().await?;
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|node| {
            json!({
                "id": node.id,
                "name": node.name,
                "user": node.user,
                "addresses": node.addresses,
                "online": node.online,
            })
        })
        .collect();
    Ok(answer(
        StatusCode::OK,
        &json!({ "version": version, "nodes": nodes }),
    ))
}

#[derive(Deserialize)]
pub(in super::super) struct InviteBody {
    user: String,
}

impl Wire for InviteBody {
    type Dialect = OpenAi;
}

/// `POST /onebit/headscale/invitations`: the answer holds the key, once; its picture shows server and key to a camera,
/// whose app has to be told both.
pub(in super::super) async fn invite(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Body(body): Body<InviteBody>,
) -> Result<Response, Failure<OpenAi>> {
    let from = peer.transport.address();
    let made = app.headscale_invite(&body.user, from).await?;
    let picture = trust::qr::path(&format!("{}\n{}", made.server, made.key)).ok();
    Ok(answer(
        StatusCode::CREATED,
        &json!({
            "server": made.server,
            "key": made.key,
            "expires_in_min": made.minutes,
            "picture": picture.map(|(size, path)| json!({ "size": size, "path": path })),
        }),
    ))
}

/// `DELETE /onebit/headscale/nodes/{id}`: the device has to come in anew.
pub(in super::super) async fn expire(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    app.headscale_expire(&id, peer.transport.address()).await?;
    Ok(answer(
        StatusCode::OK,
        &json!({ "deleted": true, "id": id }),
    ))
}
