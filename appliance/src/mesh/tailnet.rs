//! A tailnet that this machine is in already: what tailscaled says of it, at its own socket.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Where tailscaled listens on this machine.
pub const SOCKET: &str = "/var/run/tailscale/tailscaled.sock";

/// It is on this machine: it answers at once or not at all.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Without its peers the answer is some kilobytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What others in the tailnet call this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tailnet {
    /// Its name there.
    pub name: String,
    /// Its addresses there.
    pub addresses: Vec<String>,
}

/// Asks tailscaled; `None` where there is none, or it is not connected.
pub async fn look(socket: &Path) -> Option<Tailnet> {
    let asked = async {
        let mut stream = UnixStream::connect(socket).await.ok()?;
        // Version 1.0: the answer ends with the connection, in one piece.
        let request =
            "GET /localapi/v0/status?peers=false HTTP/1.0\r\nHost: local-tailscaled.sock\r\n\r\n";
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut bytes = Vec::new();
        let mut limited = stream.take(ANSWER_BYTES_MAX);
        limited.read_to_end(&mut bytes).await.ok()?;
        read(&bytes)
    };
    tokio::time::timeout(ANSWER_MAX, asked).await.ok()?
}

fn read(answer: &[u8]) -> Option<Tailnet> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let first = answer.split(|byte| *byte == b'\r').next()?;
    if !first.ends_with(b" 200 OK") {
        return None;
    }
    let said: Value = serde_json::from_slice(&answer[end..]).ok()?;
    let own = &said["Self"];
    let name = own["DNSName"].as_str()?.trim_end_matches('.').to_owned();
    let usable = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let addresses = own["TailscaleIPs"].as_array()?;
    (said["BackendState"] == "Running" && usable).then(|| Tailnet {
        name,
        addresses: addresses
            .iter()
            .filter_map(|ip| Some(ip.as_str()?.to_owned()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tailscaled that says one thing.
    async fn says(answer: &'static str) -> Option<Tailnet> {
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
        let (found, head) = tokio::join!(look(&path), answers);
        assert!(head.starts_with(b"GET /localapi/v0/status"));
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
}
