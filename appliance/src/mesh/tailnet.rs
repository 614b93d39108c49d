//! A tailnet that this machine is in already: what tailscaled says of it, of who comes from it, and the certificate that it
//! has for this machine, at its own socket. Nothing is changed there.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// It is on this machine: it answers at once or not at all.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A new certificate is one that it asks its authority for first.
const CERTIFICATE_MAX: Duration = Duration::from_secs(180);

/// Without its peers the answer is some kilobytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What others in the tailnet call this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tailnet {
    /// Its name there.
    pub name: String,
    /// Its addresses there.
    pub addresses: Vec<String>,
    /// Whether the tailnet gives certificates for that name.
    pub certificate: bool,
}

/// Asks tailscaled; `None` where there is none, or it is not connected.
pub async fn look(socket: &Path) -> Option<Tailnet> {
    let (status, body) = ask(socket, "status?peers=false", ANSWER_MAX).await.ok()?;
    if status != 200 {
        return None;
    }
    let said: Value = serde_json::from_slice(&body).ok()?;
    let own = &said["Self"];
    let name = own["DNSName"].as_str()?.trim_end_matches('.').to_owned();
    let usable = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let addresses = own["TailscaleIPs"].as_array()?;
    let certified = said["CertDomains"].as_array();
    (said["BackendState"] == "Running" && usable).then(|| Tailnet {
        certificate: certified.is_some_and(|all| all.iter().any(|one| *one == name.as_str())),
        name,
        addresses: addresses
            .iter()
            .filter_map(|ip| Some(ip.as_str()?.to_owned()))
            .collect(),
    })
}

/// Who has an address in the tailnet: `ada@example.org, pixel`. `None` where nobody has, or it does not say.
pub async fn who(socket: &Path, address: IpAddr) -> Option<String> {
    // The port is of no interest, and older ones insist on one.
    let path = format!("whois?addr={}", SocketAddr::new(address.to_canonical(), 1));
    let (status, body) = ask(socket, &path, ANSWER_MAX).await.ok()?;
    let said: Value = serde_json::from_slice(&body).ok()?;
    if status != 200 {
        return None;
    }
    let text = |value: &Value| {
        let text = value.as_str().unwrap_or_default().trim_end_matches('.');
        let seen: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
        Some(seen).filter(|text| !text.is_empty())
    };
    let user = text(&said["UserProfile"]["LoginName"]);
    let node = &said["Node"];
    let device = text(&node["ComputedName"]).or_else(|| text(&node["Name"]));
    let known: Vec<String> = user.into_iter().chain(device).collect();
    (!known.is_empty()).then(|| known.join(", "))
}

/// The key and the chain that the tailnet has for this machine's name, in PEM.
///
/// # Errors
/// What tailscaled says, and what to do.
pub async fn certificate(socket: &Path, name: &str) -> Result<Vec<u8>, String> {
    let path = format!("cert/{name}?type=pair");
    let (status, body) = ask(socket, &path, CERTIFICATE_MAX).await?;
    let said = || String::from_utf8_lossy(&body).trim().to_owned();
    match status {
        200 => Ok(body),
        401 | 403 => Err(format!(
            "tailscaled gives no certificate to this user ({}); let it: sudo tailscale set --operator=USER",
            said()
        )),
        _ => Err(format!("tailscaled gives no certificate: {}", said())),
    }
}

/// One question at its socket: the status and the body of the answer.
async fn ask(socket: &Path, path: &str, limit: Duration) -> Result<(u16, Vec<u8>), String> {
    let asked = async {
        let mut stream = UnixStream::connect(socket).await?;
        // Version 1.0: the answer ends with the connection, in one piece.
        let request =
            format!("GET /localapi/v0/{path} HTTP/1.0\r\nHost: local-tailscaled.sock\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        let mut limited = stream.take(ANSWER_BYTES_MAX);
        limited.read_to_end(&mut bytes).await?;
        std::io::Result::Ok(bytes)
    };
    let answer = tokio::time::timeout(limit, asked)
        .await
        .map_err(|_| format!("tailscaled is silent for {} s", limit.as_secs()))?
        .map_err(|error| format!("tailscaled: {error}"))?;
    split(&answer).ok_or_else(|| "tailscaled answers something that is no HTTP".to_owned())
}

fn split(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    Some((status.parse().ok()?, answer[end + 4..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a question to a tailscaled that says one thing, and the head of the question.
    async fn asked<T>(answer: &'static str, question: impl AsyncFnOnce(&Path) -> T) -> (T, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let answers = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            head
        };
        let (found, head) = tokio::join!(question(&path), answers);
        (found, String::from_utf8(head).unwrap())
    }

    async fn says(answer: &'static str) -> Option<Tailnet> {
        let (found, head) = asked(answer, async |path: &Path| look(path).await).await;
        assert!(head.starts_with("GET /localapi/v0/status"), "{head}");
        found
    }

    #[tokio::test]
    async fn a_connected_one_tells_our_name() {
        let found = says(
            "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n\
             {\"BackendState\":\"Running\",\"Self\":{\"DNSName\":\"box.tail12.ts.net.\",\
             \"TailscaleIPs\":[\"100.64.0.9\",\"fd7a:115c:a1e0::9\"]}}",
        );
        let found = found.await.unwrap();
        assert_eq!(found.name, "box.tail12.ts.net");
        assert!(!found.certificate);
        assert_eq!(found.addresses, ["100.64.0.9", "fd7a:115c:a1e0::9"]);
    }

    #[tokio::test]
    async fn what_is_not_connected_or_not_there_is_none() {
        for answer in [
            "HTTP/1.0 403 Forbidden\r\n\r\n{}",
            "HTTP/1.0 200 OK\r\n\r\n{\"BackendState\":\"Stopped\",\"Self\":{\"DNSName\":\"a.b.\",\"TailscaleIPs\":[]}}",
            "HTTP/1.0 200 OK\r\n\r\n{\"BackendState\":\"Running\",\"Self\":{\"DNSName\":\"a b.\",\"TailscaleIPs\":[]}}",
            "HTTP/1.0 200 OK\r\n\r\n{",
            "",
        ] {
            assert_eq!(says(answer).await, None, "{answer}");
        }
        assert_eq!(look(Path::new("/nonexistent/t.sock")).await, None);
    }

    #[tokio::test]
    async fn a_tailnet_with_certificates_says_so() {
        let found = says(
            "HTTP/1.1 200 OK\r\n\r\n{\"BackendState\":\"Running\",\"CertDomains\":[\"box.t.ts.net\"],\
             \"Self\":{\"DNSName\":\"box.t.ts.net.\",\"TailscaleIPs\":[\"100.64.0.9\"]}}",
        );
        assert!(found.await.unwrap().certificate);
    }

    #[tokio::test]
    async fn who_comes_is_known_by_person_and_device() {
        let ask = async |answer, ip: &str| {
            let ip: IpAddr = ip.parse().unwrap();
            asked(answer, async |path: &Path| who(path, ip).await).await
        };
        let (known, head) = ask(
            "HTTP/1.0 200 OK\r\n\r\n{\"Node\":{\"Name\":\"pixel.t.ts.net.\",\"ComputedName\":\"pixel\"},\
             \"UserProfile\":{\"LoginName\":\"ada@example.org\"}}",
            "::ffff:100.64.0.3",
        )
        .await;
        assert_eq!(known.as_deref(), Some("ada@example.org, pixel"));
        assert!(
            head.starts_with("GET /localapi/v0/whois?addr=100.64.0.3:1 "),
            "{head}"
        );
        let (known, head) = ask("HTTP/1.0 404 Not Found\r\n\r\n{}", "fd7a::1").await;
        assert_eq!(known, None);
        assert!(head.contains("addr=[fd7a::1]:1 "), "{head}");
        let (known, _) = ask("HTTP/1.0 200 OK\r\n\r\n{\"Node\":{}}", "100.64.0.3").await;
        assert_eq!(known, None);
    }

    #[tokio::test]
    async fn a_certificate_comes_or_it_is_said_why_not() {
        let ask = async |answer| {
            let (given, head) = asked(answer, async |path: &Path| {
                certificate(path, "box.t.ts.net").await
            })
            .await;
            assert!(
                head.starts_with("GET /localapi/v0/cert/box.t.ts.net?type=pair "),
                "{head}"
            );
            given
        };
        let given = ask("HTTP/1.0 200 OK\r\n\r\nKEY AND CHAIN").await;
        assert_eq!(given.unwrap(), b"KEY AND CHAIN");
        let refused = ask("HTTP/1.0 403 Forbidden\r\n\r\ncert access denied\n").await;
        assert!(refused.unwrap_err().contains("--operator"));
        let broken = ask("HTTP/1.0 500 X\r\n\r\nno HTTPS here\n").await;
        assert!(broken.unwrap_err().contains("no HTTPS here"));
        assert!(ask("?").await.is_err());
    }
}
