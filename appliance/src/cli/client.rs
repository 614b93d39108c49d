//! The running appliance, seen from a command: found by its presence file, spoken to over loopback.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Failed;
use super::serve::PRESENCE_FILE;

/// Bytes of a file sent at a time.
const PIECE: usize = 256 << 10;

/// A running appliance.
pub(super) struct Client {
    address: SocketAddr,
    /// Shown where this machine's programs have to show one.
    key: Option<String>,
}

/// An answer that arrives event by event.
pub(super) struct EventStream {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Client {
    /// Finds the appliance that serves this data directory; `None` when none does.
    pub(super) async fn find(data: &Path) -> Option<Client> {
        let text = std::fs::read_to_string(data.join(PRESENCE_FILE)).ok()?;
        let presence: Value = serde_json::from_str(&text).ok()?;
        for address in presence["addresses"].as_array()? {
            let Some(mut address) = address
                .as_str()
                .and_then(|text| text.parse::<SocketAddr>().ok())
            else {
                continue;
            };
            if address.ip().is_unspecified() {
                address.set_ip(match address.is_ipv4() {
                    true => std::net::Ipv4Addr::LOCALHOST.into(),
                    false => std::net::Ipv6Addr::LOCALHOST.into(),
                });
            }
            let key = crate::app::trust::local_key(data);
            let client = Client { address, key };
            if client
                .get("/health")
                .await
                .is_ok_and(|health| health["status"] == "ok")
            {
                return Some(client);
            }
        }
        None
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failed> {
        whole(self.send(Method::GET, path, None).await?).await
    }

    /// The appliance at an address that is known to answer.
    pub(super) fn at(address: SocketAddr, data: &Path) -> Client {
        let key = crate::app::trust::local_key(data);
        Client { address, key }
    }

    /// Posts a file's bytes as they are read.
    pub(super) async fn upload(&self, path: &str, file: &Path) -> Result<Value, Failed> {
        let cannot = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
        let opened = tokio::fs::File::open(file).await.map_err(cannot)?;
        let body = StreamBody::new(Box::pin(pieces(opened)));
        whole(self.call(Method::POST, path, body).await?).await
    }

    pub(super) async fn patch(&self, path: &str, body: &Value) -> Result<Value, Failed> {
        whole(self.send(Method::PATCH, path, Some(body)).await?).await
    }

    /// Posts a message of the Model Context Protocol; `None` where there is no answer to it.
    pub(super) async fn message(
        &self,
        path: &str,
        message: &Value,
        version: Option<&str>,
    ) -> Result<Option<Value>, Failed> {
        let mut headers = vec![("accept", "application/json, text/event-stream")];
        headers.extend(version.map(|version| ("mcp-protocol-version", version)));
        let body = Full::new(Bytes::from(message.to_string()));
        let response = self
            .call_with(Method::POST, path, "application/json", &headers, body)
            .await?;
        let ok = response.status().is_success();
        let bytes = response.into_body().collect().await?.to_bytes();
        if bytes.is_empty() && ok {
            return Ok(None);
        }
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(answer) if ok || answer["jsonrpc"] == "2.0" => Ok(Some(answer)),
            Ok(answer) => Err(refusal(&answer)),
            Err(_) => Err(String::from_utf8_lossy(&bytes).into_owned().into()),
        }
    }

    /// Posts a form of text fields and one file, whose bytes go out as they are read.
    pub(super) async fn form(
        &self,
        path: &str,
        fields: &[(&str, String)],
        file: &Path,
    ) -> Result<Value, Failed> {
        let mark = format!("onebit-{}", crate::app::new_id()?);
        let mut head = String::new();
        for (name, value) in fields {
            head.push_str(&format!(
                "--{mark}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        }
        head.push_str(&format!(
            "--{mark}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        ));
        let tail = format!("\r\n--{mark}--\r\n");
        let cannot = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
        let opened = tokio::fs::File::open(file).await.map_err(cannot)?;
        let ends = [Bytes::from(head), Bytes::from(tail)];
        let [head, tail] = ends.map(|end| stream::iter([Ok(Frame::data(end))]));
        let body = StreamBody::new(Box::pin(head.chain(pieces(opened)).chain(tail)));
        let kind = format!("multipart/form-data; boundary={mark}");
        whole(self.call_as(Method::POST, path, &kind, body).await?).await
    }

    /// Writes the answer to a post into a file; returns its size.
    pub(super) async fn save(&self, path: &str, body: &Value, file: &Path) -> Result<u64, Failed> {
        write_to(self.send(Method::POST, path, Some(body)).await?, file).await
    }

    /// Writes an answer's body into a file; returns its size.
    pub(super) async fn download(&self, path: &str, file: &Path) -> Result<u64, Failed> {
        write_to(self.send(Method::GET, path, None).await?, file).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value, Failed> {
        whole(self.send(Method::DELETE, path, None).await?).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failed> {
        whole(self.send(Method::POST, path, Some(body)).await?).await
    }

    /// Posts and reads the answer as server-sent events.
    pub(super) async fn events(&self, path: &str, body: &Value) -> Result<EventStream, Failed> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        if !response.status().is_success() {
            return Err(refusal(&whole_body(response).await?));
        }
        Ok(EventStream {
            body: response.into_body(),
            buffer: Vec::new(),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failed> {
        let bytes = body
            .map(|body| Bytes::from(body.to_string()))
            .unwrap_or_default();
        self.call(method, path, Full::new(bytes)).await
    }

    async fn call<B>(
        &self,
        method: Method,
        path: &str,
        body: B,
    ) -> Result<Response<Incoming>, Failed>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Failed>,
    {
        self.call_as(method, path, "application/json", body).await
    }

    async fn call_as<B>(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: B,
    ) -> Result<Response<Incoming>, Failed>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Failed>,
    {
        self.call_with(method, path, kind, &[], body).await
    }

    async fn call_with<B>(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        headers: &[(&str, &str)],
        body: B,
    ) -> Result<Response<Incoming>, Failed>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Failed>,
    {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends when the response has been read or dropped.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", kind);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.body(body)?;
        Ok(sender.send_request(request).await?)
    }
}

impl EventStream {
    /// Returns the data of the next event; `None` at the end mark.
    pub(super) async fn next(&mut self) -> Result<Option<Value>, Failed> {
        loop {
            if let Some(line) = self.line() {
                match line.strip_prefix("data: ") {
                    None => continue, // names, numbers, comments, empty lines
                    Some("[DONE]") => return Ok(None),
                    Some(data) => {
                        let value: Value = serde_json::from_str(data)?;
                        return if value["error"].is_object() {
                            Err(refusal(&value))
                        } else {
                            Ok(Some(value))
                        };
                    }
                }
            }
            self.fill().await?;
        }
    }

    /// Returns the name and the data of the next event.
    pub(super) async fn next_named(&mut self) -> Result<(String, Value), Failed> {
        let mut name = String::new();
        loop {
            if let Some(line) = self.line() {
                if let Some(named) = line.strip_prefix("event: ") {
                    named.clone_into(&mut name);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    return Ok((name, serde_json::from_str(data)?));
                }
                continue;
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Failed> {
        match self.body.frame().await {
            Some(frame) => {
                if let Ok(data) = frame?.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
                Ok(())
            }
            None => Err("the appliance ended the answer too early".into()),
        }
    }

    fn line(&mut self) -> Option<String> {
        let end = self.buffer.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

/// A file's bytes as they are read.
fn pieces(
    file: tokio::fs::File,
) -> impl futures_util::Stream<Item = std::io::Result<Frame<Bytes>>> + Send {
    stream::try_unfold(file, |mut file| async move {
        let mut piece = bytes::BytesMut::with_capacity(PIECE);
        let n = file.read_buf(&mut piece).await?;
        Ok((n > 0).then(|| (Frame::data(piece.freeze()), file)))
    })
}

async fn write_to(response: Response<Incoming>, file: &Path) -> Result<u64, Failed> {
    if !response.status().is_success() {
        return Err(refusal(&whole_body(response).await?));
    }
    let mut out = tokio::fs::File::create(file).await?;
    let mut body = response.into_body();
    let mut written = 0;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            out.write_all(&data).await?;
            written += data.len() as u64;
        }
    }
    out.sync_all().await?;
    Ok(written)
}

async fn whole_body(response: Response<Incoming>) -> Result<Value, Failed> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&bytes)?)
}

async fn whole(response: Response<Incoming>) -> Result<Value, Failed> {
    let ok = response.status().is_success();
    let body = whole_body(response).await?;
    if ok { Ok(body) } else { Err(refusal(&body)) }
}

fn refusal(body: &Value) -> Failed {
    // GAIA's routes say `detail` where the others say `error`.
    body["error"]["message"]
        .as_str()
        .or_else(|| body["detail"].as_str())
        .unwrap_or("the appliance refused without a reason")
        .into()
}
