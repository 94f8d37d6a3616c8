//! The least that a server in Rust can do for a turn: hyper reads the body as JSON, and answers
//! with fixed JSON. Keeps nothing. `bare PORT`; it says where it serves.

#![expect(clippy::print_stdout, reason = "its output is its address")]

use std::convert::Infallible;
use std::io;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

const REPLY: &str = r#"{"reply_message":{"id":"00000000-0000-7000-8000-000000000000","role":"assistant","content":"This is a mock response from the AI tutor.","timestamp":"2026-01-01T00:00:00.000000Z"},"session_id":"00000000-0000-7000-8000-000000000001"}"#;

#[tokio::main]
async fn main() -> io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(8001))).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let serving = http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service_fn(answer))
                .await;
            // A client that goes away ends its connection, and that is all.
            drop(serving);
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_chat = request.uri().path() == "/api/chat";
    let body = request.into_body().collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let parsed = serde_json::from_slice::<serde_json::Value>(&body);
    let mut response = Response::new(Full::new(Bytes::from_static(REPLY.as_bytes())));
    if is_chat && parsed.is_err() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}
