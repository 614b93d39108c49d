//! A hub with one file, which every GGUF repository holds that is not gone. It comes in two halves: the second waits until it is
//! let go.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use serde_json::json;
use sha2::{Digest, Sha256};

/// The repository's name, and that of its only quantisation.
pub(crate) const REPOSITORY: &str = "maker/Mini-GGUF";
const FILE: &str = "Mini-T5.gguf";

pub(crate) struct Hub {
    pub(crate) address: String,
    gate: Arc<(Mutex<bool>, Condvar)>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// Serves one model file; `open` is whether its second half comes at once.
    pub(crate) fn of(file: &Path, open: bool) -> Hub {
        let content = Arc::new(std::fs::read(file).expect("the model is there"));
        let hash: String = Sha256::digest(&**content)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let gate = Arc::new((Mutex::new(open), Condvar::new()));
        let inside = Arc::clone(&gate);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (content, hash, gate, seen) = (
                    Arc::clone(&content),
                    hash.clone(),
                    Arc::clone(&inside),
                    Arc::clone(&seen),
                );
                // A client that hangs up ends its own thread only.
                std::thread::spawn(move || serve(stream, &content, &hash, &gate, &seen));
            }
        });
        Hub {
            address,
            gate,
            asked,
        }
    }

    /// The paths that were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no thread has panicked").clone()
    }

    /// Lets the second half of the file go, now and from now on.
    pub(crate) fn let_go(&self) {
        *self.gate.0.lock().expect("no thread has panicked") = true;
        self.gate.1.notify_all();
    }
}

fn serve(
    stream: TcpStream,
    content: &[u8],
    hash: &str,
    gate: &(Mutex<bool>, Condvar),
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut path, mut from) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        let line = line.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range
                .split('-')
                .next()
                .and_then(|n| n.trim().parse().ok())
                .unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut stream = stream;
    let asked_for = |text: String| asked.lock().expect("no thread has panicked").push(text);
    asked_for(path.clone());
    if path.starts_with("/api/models/") && path.contains("-GGUF/tree/") && !path.contains("Gone") {
        let size = content.len();
        let list = json!([
            { "type": "file", "path": FILE, "size": size, "lfs": { "oid": hash, "size": size } },
            { "type": "file", "path": "README.md", "size": 3 },
        ])
        .to_string();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{list}",
            list.len()
        );
    }
    if !path.contains("-GGUF/resolve/") {
        return write!(
            stream,
            "HTTP/1.1 404 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }
    let (size, rest) = (content.len(), &content[from..]);
    let status = match from {
        0 => "200 OK".to_owned(),
        from => format!("206 X\r\ncontent-range: bytes {from}-{}/{size}", size - 1),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\netag: \"1\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        rest.len()
    )?;
    let (first, second) = rest.split_at(rest.len() / 2);
    stream.write_all(first)?;
    let mut open = gate.0.lock().expect("no thread has panicked");
    while !*open {
        open = gate.1.wait(open).expect("no thread has panicked");
    }
    drop(open);
    stream.write_all(second)
}
