//! A small HTTP client over a plain socket: what the tests send is what they say, header by header.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// No single read may take longer: a hang is a failure, not a wait. Generous for a debug build that
/// answers many at once, or listens to ten hours, on two cores.
const READ_MAX: Duration = Duration::from_secs(600);

/// Sends requests to one appliance, each on a connection of its own.
#[derive(Clone)]
pub(crate) struct Client {
    address: String,
    headers: Vec<(String, String)>,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection, encrypted or not.
trait Wire: Read + Write + Send {}
impl<S: Read + Write + Send> Wire for S {}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; anything else fails the test with what it was.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in answer {}: {}", self.status, self.text()))
    }
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            headers: Vec::new(),
            tls: None,
        }
    }

    /// A client that speaks https and trusts nobody but the given authority.
    pub(crate) fn secure(address: &str, authority: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM");
        roots.add(certificate).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            tls: Some(Arc::new(config)),
            ..Client::new(address)
        }
    }

    /// The same from a machine on the network, with a key that may chat and owns nothing.
    pub(crate) fn guest(&self) -> Client {
        let made = self.post(
            "/onebit/keys",
            &serde_json::json!({ "name": "guest", "scope": "chat" }),
        );
        let key = made.json()["key"].as_str().expect("a key").to_owned();
        self.with_header("X-Forwarded-For", "10.0.0.7")
            .with_header("Authorization", &format!("Bearer {key}"))
    }

    /// The same client, sending one more header (or another Host).
    pub(crate) fn with_header(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &body.to_string())
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &body.to_string())
    }

    /// Sends a body as it is, JSON or not.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send_bytes(method, path, body.as_bytes())
    }

    /// The same with any bytes.
    pub(crate) fn send_bytes(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let mut reply = self.open(method, path, body);
        let mut bytes = Vec::new();
        reply.body.read_to_end(&mut bytes).expect("the answer ends");
        Answer {
            status: reply.status,
            headers: reply.headers,
            body: bytes,
        }
    }

    /// Sends a request and reads its answer as server-sent events, one at a time.
    pub(crate) fn events(&self, method: &str, path: &str, body: &Value) -> Events {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut reply = self.open(method, path, body.as_bytes());
        if reply.status != 200 {
            let mut text = String::new();
            let _ = reply.body.read_to_string(&mut text);
            panic!("{method} {path} answered {}: {text}", reply.status);
        }
        Events { body: reply.body }
    }

    fn open(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let stream = TcpStream::connect(&self.address).expect("the appliance listens");
        stream
            .set_read_timeout(Some(READ_MAX))
            .expect("a socket takes a time limit");
        let mut stream: Box<dyn Wire> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let (name, _) = self.address.rsplit_once(':').expect("a port");
                let name = name.trim_matches(['[', ']']).to_owned();
                let name = name.try_into().expect("a name");
                let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
                Box::new(StreamOwned::new(session, stream))
            }
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        let own = |name: &str| {
            self.headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        if !own("host") {
            head.push_str(&format!("Host: {}\r\n", self.address));
        }
        if !body.is_empty() {
            if !own("content-type") {
                head.push_str("Content-Type: application/json\r\n");
            }
            if !own("transfer-encoding") && !own("content-length") {
                head.push_str(&format!("Content-Length: {}\r\n", body.len()));
            }
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        // A server may answer and close before it has read a body it does not want.
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body))
            .and_then(|()| stream.flush());
        Reply::read(stream)
    }
}

/// An answer whose body is still to be read.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: BufReader<Body>,
}

impl Reply {
    fn read(stream: Box<dyn Wire>) -> Self {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).expect("an answer");
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or_else(|| panic!("no status: {line:?}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            stream.read_line(&mut line).expect("headers");
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => break,
            }
        }
        let header = |name: &str| {
            headers
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.as_str())
        };
        let left = if header("transfer-encoding") == Some("chunked") {
            Left::Chunks(0)
        } else {
            Left::Bytes(
                header("content-length")
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(u64::MAX),
            )
        };
        Self {
            status,
            headers,
            body: BufReader::new(Body { stream, left }),
        }
    }
}

enum Left {
    Bytes(u64),
    /// Bytes left of the present chunk.
    Chunks(u64),
    Nothing,
}

/// A body without its framing. A chunked one that ends without its last chunk is an error: browsers
/// drop such answers even where other clients are lenient.
struct Body {
    stream: BufReader<Box<dyn Wire>>,
    left: Left,
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if let Left::Chunks(0) = self.left {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(|_| {
                std::io::Error::other(format!("the body broke off: {line:?} is no chunk size"))
            })?;
            if size == 0 {
                self.stream.read_line(&mut line)?;
                self.left = Left::Nothing;
            } else {
                self.left = Left::Chunks(size);
            }
        }
        let limit = match self.left {
            Left::Bytes(n) | Left::Chunks(n) => n,
            Left::Nothing => 0,
        };
        let n = (&mut self.stream).take(limit).read(into)?;
        match &mut self.left {
            Left::Bytes(left) => *left -= n as u64,
            Left::Chunks(left) => {
                *left -= n as u64;
                if *left == 0 && n > 0 {
                    let mut end = String::new();
                    self.stream.read_line(&mut end)?;
                }
            }
            Left::Nothing => {}
        }
        Ok(n)
    }
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Empty for unnamed ones.
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: String,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in event {self:?}"))
    }
}

/// Events as they come; dropping the value closes the connection.
pub(crate) struct Events {
    body: BufReader<Body>,
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut event = Event {
            name: String::new(),
            id: None,
            data: String::new(),
        };
        let mut line = String::new();
        loop {
            line.clear();
            let n = self
                .body
                .read_line(&mut line)
                .unwrap_or_else(|error| panic!("the stream broke: {error}"));
            let text = line.trim_end_matches(['\r', '\n']);
            if let Some(data) = text.strip_prefix("data:") {
                if !event.data.is_empty() {
                    event.data.push('\n');
                }
                event.data.push_str(data.trim_start());
            } else if let Some(name) = text.strip_prefix("event:") {
                event.name = name.trim().to_owned();
            } else if let Some(id) = text.strip_prefix("id:") {
                event.id = Some(id.trim().to_owned());
            } else if text.is_empty() && !event.data.is_empty() {
                return Some(event);
            }
            if n == 0 {
                return None;
            }
        }
    }
}
