//! A client that sends exactly what it is told, and shows exactly what came back.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Longer than anything here takes; a test that reaches it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A request to be sent on a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path).json(body)
    }

    /// A message to the tutor.
    pub(crate) fn chat(text: &str) -> Self {
        Self::chat_with(text, serde_json::json!({}))
    }

    /// A message to the tutor, with further members of the body.
    pub(crate) fn chat_with(text: &str, more: Value) -> Self {
        let mut body = serde_json::json!({"messages": [{"role": "user", "content": text}]});
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        Self::post("/api/chat", &body)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self {
            method,
            path,
            headers,
            body,
        } = self;
        let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !has("host") {
            text.push_str("host: localhost\r\n");
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() && !has("transfer-encoding") && !has("content-length") {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        [text.as_bytes(), body].concat()
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(&self, to: SocketAddr) -> Response {
        self.try_send(to).await.unwrap()
    }

    pub(crate) async fn try_send(&self, to: SocketAddr) -> std::io::Result<Response> {
        self.open(to).await?.finish().await
    }

    /// Sends it and reads the head of the answer.
    pub(crate) async fn open(&self, to: SocketAddr) -> std::io::Result<Open> {
        let mut stream = TcpStream::connect(to).await?;
        stream.write_all(&self.bytes()).await?;
        let has_body = self.method != "HEAD";
        Open::read(BufReader::new(stream), has_body).await
    }
}

/// Sends these bytes and reads the whole answer.
pub(crate) async fn send_raw(to: SocketAddr, bytes: &[u8]) -> std::io::Result<Response> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(bytes).await?;
    Open::read(BufReader::new(stream), true)
        .await?
        .finish()
        .await
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// Checks the status of an answer that has no body.
    #[track_caller]
    pub(crate) fn expect_empty(&self, status: u16) {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!((self.status, body.as_ref()), (status, ""));
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&self.body)),
        }
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self.json()
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    stream: BufReader<TcpStream>,
    has_body: bool,
    /// Decoded, not yet taken.
    buffer: Vec<u8>,
    ended: bool,
}

impl Open {
    async fn read(mut stream: BufReader<TcpStream>, has_body: bool) -> std::io::Result<Self> {
        let (mut status, mut headers) = (100, Vec::new());
        // An interim answer is followed by the real one.
        while status == 100 {
            let line = read_line(&mut stream).await?;
            let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
            status = code.ok_or_else(|| broken("no status line"))?;
            headers.clear();
            loop {
                let line = read_line(&mut stream).await?;
                let Some((name, value)) = line.split_once(": ") else {
                    break;
                };
                headers.push((name.to_ascii_lowercase(), value.to_owned()));
            }
        }
        Ok(Self {
            has_body: has_body && status != 204,
            status,
            headers,
            stream,
            buffer: Vec::new(),
            ended: false,
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Reads the rest.
    pub(crate) async fn finish(mut self) -> std::io::Result<Response> {
        while self.more().await? {}
        Ok(Response {
            status: self.status,
            headers: self.headers,
            body: self.buffer,
        })
    }

    /// Reads more of the body; false at its end.
    async fn more(&mut self) -> std::io::Result<bool> {
        if !self.has_body || self.ended {
            return Ok(false);
        }
        if self.header("transfer-encoding") == Some("chunked") {
            let line = read_line(&mut self.stream).await?;
            let size = usize::from_str_radix(&line, 16).map_err(|_| broken("no chunk size"))?;
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).await?;
            self.buffer.extend_from_slice(&chunk[..size]);
            self.ended = size == 0;
        } else if let Some(length) = self.header("content-length") {
            let mut body = vec![0; length.parse().map_err(|_| broken("no length"))?];
            self.stream.read_exact(&mut body).await?;
            self.buffer.extend_from_slice(&body);
            self.ended = true;
        } else {
            self.stream.read_to_end(&mut self.buffer).await?;
            self.ended = true;
        }
        Ok(!self.ended)
    }

    /// The next server-sent event (or comment); `None` at the end of the stream.
    pub(crate) async fn event(&mut self) -> Option<SentEvent> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(SentEvent::parse(&String::from_utf8(block).unwrap()));
            }
            let more = tokio::time::timeout(PATIENCE, self.more()).await.unwrap();
            if !more.ok()? && !self.buffer.windows(2).any(|w| w == b"\n\n") {
                return None;
            }
        }
    }

    /// All events that still come, without comments.
    pub(crate) async fn events(mut self) -> Vec<SentEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            if event.event.is_some() {
                events.push(event);
            }
        }
        events
    }
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn broken(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

/// One block of an event stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SentEvent {
    pub(crate) event: Option<String>,
    pub(crate) id: Option<u64>,
    pub(crate) data: Option<Value>,
    pub(crate) retry: Option<u64>,
    pub(crate) comment: Option<String>,
}

impl SentEvent {
    fn parse(block: &str) -> Self {
        let mut parsed = Self::default();
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            match name {
                "event" => parsed.event = Some(value.to_owned()),
                "id" => parsed.id = Some(value.parse().unwrap()),
                "data" => parsed.data = Some(serde_json::from_str(value).unwrap()),
                "retry" => parsed.retry = Some(value.parse().unwrap()),
                "" => parsed.comment = Some(value.to_owned()),
                other => panic!("an event stream has no field {other:?}"),
            }
        }
        parsed
    }

    /// Its type.
    pub(crate) fn kind(&self) -> &str {
        self.event.as_deref().unwrap_or_default()
    }

    /// A member of its data.
    pub(crate) fn get(&self, name: &str) -> &Value {
        &self.data.as_ref().unwrap()[name]
    }
}
