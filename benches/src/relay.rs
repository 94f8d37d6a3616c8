//! A relayed reply, from end to end: a fake upstream, those who relay it, and who asks for it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tutor_core::provider::ProviderConfig;
use tutor_core::store::MemoryStore;
use tutor_core::{Limits, Tutor};
use tutor_http::{AppState, Bounds, serve};

/// What each event of the reply says.
const WORD: &str = " learning";

const BODY: &str = r#"{"model":"openai/gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"What is a cell?"}]}"#;

/// What the upstream sends for each request.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// The number of events with text.
    pub events: usize,
    /// The pause before each event; with none they are all sent at once.
    pub pause: Duration,
    /// The last half of the reply never comes.
    pub hold: bool,
}

/// Answers every request with one reply of OpenAI's Chat Completions.
///
/// # Errors
/// Those of accepting connections.
pub async fn upstream(listener: TcpListener, traffic: Traffic) -> io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        // Who asks may go away at any time.
        tokio::spawn(async move { answer(socket, traffic).await.unwrap_or_default() });
    }
}

async fn answer(mut socket: TcpStream, traffic: Traffic) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (head, events) = reply(traffic.events);
    let mut received = Vec::new();
    while read_request(&mut socket, &mut received).await? {
        if traffic.pause.is_zero() && !traffic.hold {
            socket
                .write_all(&[head.clone(), events.concat()].concat())
                .await?;
            continue;
        }
        socket.write_all(&head).await?;
        for (i, event) in events.iter().enumerate() {
            if traffic.hold && i == events.len() / 2 {
                return socket.read_u8().await.map(drop);
            }
            tokio::time::sleep(traffic.pause).await;
            socket.write_all(event).await?;
        }
    }
    Ok(())
}

/// The head of the response, and its chunks.
fn reply(events: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let chunk = |choices: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-B2kQ8f0Z7mXw\",\"object\":\"chat.completion.chunk\",\
             \"created\":1764000000,\"model\":\"gpt-4o-mini-2024-07-18\",\"service_tier\":\"default\",\
             \"system_fingerprint\":\"fp_62a23a81ef\",{choices},\"usage\":null}}\n\n"
        )
    };
    let choice = |delta: &str, finish: &str| {
        chunk(&format!(
            "\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]"
        ))
    };
    let mut all = vec![choice(
        r#"{"role":"assistant","content":"","refusal":null}"#,
        "null",
    )];
    let word = choice(&format!("{{\"content\":\"{WORD}\"}}"), "null");
    all.extend(std::iter::repeat_n(word, events));
    all.push(choice("{}", r#""stop""#));
    all.push(chunk(r#""choices":[]"#).replace(
        "null",
        r#"{"prompt_tokens":12,"completion_tokens":100,"total_tokens":112}"#,
    ));
    all.push("data: [DONE]\n\n".to_owned());
    let framed = |text: String| format!("{:x}\r\n{text}\r\n", text.len()).into_bytes();
    let mut chunks: Vec<_> = all.into_iter().map(framed).collect();
    if let Some(last) = chunks.last_mut() {
        last.extend_from_slice(b"0\r\n\r\n");
    }
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
        transfer-encoding: chunked\r\nx-request-id: req_5f1c2a\r\n\r\n";
    (head.to_vec(), chunks)
}

/// Reads a request to its end; false if there is none.
async fn read_request(socket: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<bool> {
    received.clear();
    let mut whole = None;
    while whole.is_none_or(|whole| received.len() < whole) {
        if socket.read_buf(received).await? == 0 {
            return Ok(false);
        }
        let head = received.windows(4).position(|four| four == b"\r\n\r\n");
        whole = head.map(|head| head + 4 + content_length(&received[..head]));
    }
    Ok(true)
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length:"));
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

/// The least that a relay can do: hyper on both sides, nothing parsed, nothing kept.
///
/// # Errors
/// Those of accepting connections.
pub async fn bare(listener: TcpListener, upstream: SocketAddr) -> io::Result<()> {
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build_http();
    let authority = Authority::try_from(upstream.to_string()).map_err(io::Error::other)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (client, authority) = (client.clone(), authority.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (client, authority) = (client.clone(), authority.clone());
            async move {
                let mut parts = std::mem::take(request.uri_mut()).into_parts();
                parts.scheme = Some(hyper::http::uri::Scheme::HTTP);
                parts.authority = Some(authority);
                *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
                Ok::<_, Infallible>(match client.request(request).await {
                    Ok(response) => response.map(|body| Relayed(Some(body))),
                    Err(_) => {
                        let mut response = Response::new(Relayed(None));
                        *response.status_mut() = StatusCode::BAD_GATEWAY;
                        response
                    }
                })
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        tokio::spawn(connection);
    }
}

/// The body of the upstream's answer, if there was one.
struct Relayed(Option<Incoming>);

impl hyper::body::Body for Relayed {
    type Data = hyper::body::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        match &mut self.0 {
            Some(body) => std::pin::Pin::new(body).poll_frame(cx),
            None => std::task::Poll::Ready(None),
        }
    }
}

/// Our server, with conversations in memory and everything at its default otherwise.
///
/// # Errors
/// Those of configuring it.
pub async fn ours(listener: TcpListener, upstream: SocketAddr) -> io::Result<()> {
    let provider = ProviderConfig::openai("key").with_base_url(format!("http://{upstream}"));
    let mut limits = Limits::default();
    limits.max_live_turns = 100_000;
    limits.max_live_turns_per_owner = 100_000;
    let tutor = Tutor::builder()
        .store(MemoryStore::default())
        .provider(provider.build().map_err(io::Error::other)?)
        .limits(limits)
        .build()
        .await
        .map_err(io::Error::other)?;
    let mut bounds = Bounds::default();
    bounds.max_connections = 100_000;
    let state = AppState::new(tutor).with_bounds(bounds);
    serve(listener, state, std::future::pending()).await;
    Ok(())
}

/// Somebody who asks, on one connection.
#[derive(Debug)]
pub struct Asker {
    socket: TcpStream,
    request: Vec<u8>,
}

/// How long a reply took.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// To its first word.
    pub first: Duration,
    /// To its end.
    pub whole: Duration,
}

impl Asker {
    /// Connects.
    ///
    /// # Errors
    /// Those of connecting.
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(to).await?;
        socket.set_nodelay(true)?;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        Ok(Self {
            socket,
            request: head.into_bytes(),
        })
    }

    /// Asks, and reads the reply to its end.
    ///
    /// # Errors
    /// Those of the connection; if the reply has no word or no end.
    pub async fn ask(&mut self) -> io::Result<Timing> {
        let start = Instant::now();
        let first = self.first_word().await?;
        let mut tail = first.1;
        while !tail.ends_with(b"0\r\n\r\n") {
            let keep = tail.len().saturating_sub(8);
            tail.drain(..keep);
            if self.socket.read_buf(&mut tail).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Timing {
            first: first.0,
            whole: start.elapsed(),
        })
    }

    /// Asks, and waits for the first word. Returns when it came, and what has come so far.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn first_word(&mut self) -> io::Result<(Duration, Vec<u8>)> {
        let start = Instant::now();
        self.socket.write_all(&self.request).await?;
        let mut received = Vec::with_capacity(16 << 10);
        while !received
            .windows(WORD.len())
            .any(|part| part == WORD.as_bytes())
        {
            if self.socket.read_buf(&mut received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok((start.elapsed(), received))
    }
}
