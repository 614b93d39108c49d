//! A WebSocket client over a plain socket, as small as the log and live speech need.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// No message may take longer: a hang is a failure, not a wait.
const READ_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Socket(TcpStream);

impl Socket {
    /// Opens a socket; gives the status instead where the server does not switch.
    pub(crate) fn open(address: &str, path: &str, more: &str) -> Result<Socket, u16> {
        let mut stream = TcpStream::connect(address).expect("the appliance listens");
        stream
            .set_read_timeout(Some(READ_MAX))
            .expect("a socket takes a time limit");
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("the head is sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the answer has a head");
            answer.push(byte[0]);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        match status {
            Some(101) => {
                // The standard's own example of key and answer.
                assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
                Ok(Socket(stream))
            }
            status => Err(status.unwrap_or(0)),
        }
    }

    pub(crate) fn send(&mut self, text: &str) {
        // A client's frames are masked; a mask of zeros leaves the text as it is.
        let mut frame = vec![0x81];
        match u16::try_from(text.len()) {
            Ok(length @ ..126) => frame.push(0x80 | length as u8),
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
            Err(_) => panic!("messages of 64 kB at most"),
        }
        frame.extend([0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.0.write_all(&frame).expect("the frame is sent");
    }

    /// Sends bytes that may be no frame, says that there is nothing more, and waits until the other side is done with
    /// them.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        // The other side may have ended it in the middle: that is an answer too.
        let _ = self.0.write_all(bytes);
        let _ = self.0.shutdown(std::net::Shutdown::Write);
        self.until_broken();
    }

    /// Reads until the other side ends it, however.
    pub(crate) fn until_broken(&mut self) {
        let mut bytes = [0; 4096];
        while self.0.read(&mut bytes).is_ok_and(|read| read > 0) {}
    }

    pub(crate) fn next(&mut self) -> Value {
        let mut bytes = |n: usize| {
            let mut bytes = vec![0; n];
            self.0.read_exact(&mut bytes).expect("a frame");
            bytes
        };
        let head = bytes(2);
        assert_eq!(head[0], 0x81, "a whole text");
        let length = match head[1] {
            126 => usize::from(u16::from_be_bytes(bytes(2).try_into().expect("two"))),
            127 => u64::from_be_bytes(bytes(8).try_into().expect("eight")) as usize,
            short => usize::from(short),
        };
        serde_json::from_slice(&bytes(length)).expect("JSON")
    }
}
