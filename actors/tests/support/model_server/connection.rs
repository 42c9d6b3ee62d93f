//! The part of HTTP/1.1 that clients of model servers use.

use std::{io, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

/// A received request.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// The bearer token.
    pub(super) key: Option<String>,
    /// The body as JSON; null if it is missing or is not JSON.
    pub(super) body: Value,
}

/// A response to send.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
    /// Pause before each piece.
    pub(super) pause: Duration,
}

/// A body, in one piece or in chunks.
pub(super) enum Body {
    Whole(String),
    Pieces { pieces: Vec<String>, done: bool },
}

impl Reply {
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), "application/json; charset=utf-8".into())],
            body: Body::Whole(body.to_string()),
            pause: Duration::ZERO,
        }
    }

    pub(super) fn stream(content_type: &str, pieces: Vec<String>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".into(), content_type.into())],
            body: Body::Pieces { pieces, done: true },
            pause: Duration::ZERO,
        }
    }
}

impl Body {
    /// Cuts it in the middle.
    pub(super) fn cut(&mut self) {
        *self = match std::mem::replace(self, Self::Whole(String::new())) {
            Self::Whole(text) => Self::Pieces { pieces: vec![text[..text.len() / 2].into()], done: false },
            Self::Pieces { mut pieces, .. } => {
                pieces.truncate(pieces.len().div_ceil(2));
                Self::Pieces { pieces, done: false }
            }
        };
    }
}

pub(super) struct Connection {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// The next request; `None` if the client has closed the connection.
    pub(super) async fn request(&mut self) -> io::Result<Option<Request>> {
        let head = loop {
            if let Some(end) = self.rest.windows(4).position(|it| it == b"\r\n\r\n") {
                break self.rest.drain(..end + 4).collect::<Vec<u8>>();
            }
            if self.more().await? == 0 {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, path) =
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let headers: Vec<(String, &str)> = lines
            .filter_map(|line| {
                line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            })
            .collect();
        let header = |name: &str| headers.iter().find(|(it, _)| it == name).map(|(_, value)| *value);
        let length: usize = header("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
        while self.rest.len() < length {
            if self.more().await? == 0 {
                return Ok(None);
            }
        }
        let body: Vec<u8> = self.rest.drain(..length).collect();
        let key = header("authorization").and_then(|it| it.strip_prefix("Bearer ")).map(str::to_owned);
        Ok(Some(Request { method, path, key, body: serde_json::from_slice(&body).unwrap_or_default() }))
    }

    async fn more(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.rest).await
    }

    /// Sends a response; `false` if the connection has ended.
    pub(super) async fn send(&mut self, reply: Reply) -> bool {
        self.write(reply).await.unwrap_or(false)
    }

    async fn write(&mut self, Reply { status, headers, body, pause }: Reply) -> io::Result<bool> {
        let mut head = format!("HTTP/1.1 {status} scripted\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match body {
            Body::Whole(text) => {
                head.push_str(&format!("content-length: {}\r\n\r\n", text.len()));
                self.stream.write_all(head.as_bytes()).await?;
                // With pauses, an answer has some hundred pieces.
                let piece = if pause.is_zero() { text.len().max(1) } else { 16 };
                for piece in text.as_bytes().chunks(piece) {
                    sleep(pause).await;
                    self.stream.write_all(piece).await?;
                }
                Ok(true)
            }
            Body::Pieces { pieces, done } => {
                head.push_str("transfer-encoding: chunked\r\n\r\n");
                self.stream.write_all(head.as_bytes()).await?;
                for piece in pieces {
                    sleep(pause).await;
                    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                    self.stream.write_all(chunk.as_bytes()).await?;
                }
                if done {
                    self.stream.write_all(b"0\r\n\r\n").await?;
                }
                Ok(done)
            }
        }
    }
}
