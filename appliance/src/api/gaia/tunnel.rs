//! The tunnel: there a relay with one token for all phones, here our pairing window. The token is its code: it works once
//! and for two minutes, and the owner still has to allow the device.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde_json::json;

use super::super::failure::json as answer;
use super::super::mine::Mine;
use super::super::time::offset;
use super::{Gaia, Refused};
use crate::app::{App, AppError, Tunnel};
use crate::domain::Peer;

/// What a machine that only speaks to itself tells.
const UNREACHABLE: &str = "no phone can reach this appliance: it listens on this machine only; add an address of your network to \
     server.listen, such as 0.0.0.0:8443";

fn view(tunnel: Option<&Tunnel>, error: Option<&str>) -> Response {
    answer(
        StatusCode::OK,
        &json!({
            "active": tunnel.is_some(),
            "url": tunnel.map(|tunnel| tunnel.address.as_str()),
            "token": tunnel.and_then(|tunnel| tunnel.code.as_deref()),
            "startedAt": tunnel.map(|tunnel| offset(tunnel.opened_at)),
            "error": error,
            // Nothing of ours is reached from the internet.
            "publicIp": null,
        }),
    )
}

/// `POST /api/tunnel/start`: what keeps it from starting is told with status 200, as there.
pub(in super::super) async fn start(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    mine: Mine<Gaia>,
) -> Result<Response, Refused> {
    match app
        .open_tunnel(&mine.person, peer.transport.address())
        .await
    {
        Ok(Some(tunnel)) => Ok(view(Some(&tunnel), None)),
        Ok(None) => Ok(view(None, Some(UNREACHABLE))),
        Err(AppError::Trust(error)) => Ok(view(None, Some(&error.to_string()))),
        Err(error) => Err(error.into()),
    }
}

/// `GET /api/tunnel/status`
pub(in super::super) async fn status(State(app): State<App>) -> Response {
    view(app.tunnel().as_ref(), None)
}

/// `POST /api/tunnel/stop`
pub(in super::super) async fn stop(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Refused> {
    app.close_tunnel(peer.transport.address()).await?;
    Ok(answer(StatusCode::OK, &json!({ "active": false })))
}

/// Where a phone goes that has scanned that page's picture, `/?token=CODE`: the pairing page, with the code in the fragment,
/// which browsers keep to themselves. `None` for every other address.
pub(in super::super) fn arrive(uri: &Uri) -> Option<Response> {
    let code = uri
        .query()?
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))?;
    if code.is_empty() || !code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return None;
    }
    let mut response = Redirect::to(&format!("/pair#c={code}")).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scanned_code_goes_on_in_the_fragment() {
        let arrive = |uri: &str| arrive(&uri.parse().unwrap());
        let response = arrive("/?token=AB12").unwrap();
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        assert_eq!(response.headers()[header::LOCATION], "/pair#c=AB12");
        for other in ["/", "/?token=", "/?token=a%22b", "/?x=1"] {
            assert!(arrive(other).is_none(), "{other}");
        }
    }
}
