//! The accept loop: what guards a connection before any request is read, and how the server stops.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{Method, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower_service::Service;
use tutor_core::{Error, Result};

use crate::bounds::Bounds;
use crate::routes::Peer;
use crate::state::AppState;

pub(crate) mod handle;
mod stall;

use stall::StallGuard;

/// Connections that are told at the same time that there is no room. More are closed silently.
const MAX_REFUSALS: usize = 64;

/// How long such a connection may take to hear it.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// How long accepting pauses when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n\
    content-length: 64\r\n\r\n\
    {\"detail\":\"too many connections: try again\",\"code\":\"overloaded\"}";

/// Takes the address, a name or a number; port 0 is any that is free.
///
/// # Errors
/// `config` if the machine does not have it, another program does, or it is not allowed, saying
/// what to do.
pub async fn bind(host: &str, port: u16) -> Result<TcpListener> {
    TcpListener::bind((host, port)).await.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                "another program listens there: stop it, or choose another port, or 0 for any"
            }
            ErrorKind::PermissionDenied => "choose a port above 1023",
            _ => "choose an address of this machine",
        };
        Error::new(
            tutor_core::ErrorKind::Config,
            format!("the server cannot listen on this address: {advice}"),
        )
        .with_context("host", host)
        .with_context("port", port)
        .with_source(error)
    })
}

const BAD_REQUEST: &str = r#"{"detail":"Invalid HTTP request received."}"#;

/// Serves until `shutdown` is over; then takes no new connection, ends the event streams so that
/// their clients resume elsewhere, and waits for the other requests, at most
/// [`Bounds::drain_grace`].
///
/// The tutor stays open: [close](tutor_core::Tutor::close) it when `shutdown` is over, at the same
/// time, so that requests which wait for a reply are answered.
pub async fn serve(listener: TcpListener, state: AppState, shutdown: impl Future<Output = ()>) {
    let bounds = Arc::clone(&state.bounds);
    let router = crate::router(state.clone());
    let http = builder(&bounds);
    let connections = Arc::new(Semaphore::new(bounds.max_connections));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                tokio::spawn(async move {
                    let _permit = permit;
                    // Whether it is heard does not matter.
                    let _ = tokio::time::timeout(REFUSAL_TIME, refuse(stream)).await;
                });
            }
            continue;
        };
        // Small events must not wait for each other. Without it they are only slower.
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(StallGuard::new(stream, bounds.write_stall));
        let router = router.clone();
        let service = service_fn(move |request| answer(router.clone(), Peer(peer.ip()), request));
        let connection = graceful.watch(http.serve_connection(io, service));
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    state.drain();
    tracing::info!(connections = graceful.count(), "stopping");
    if tokio::time::timeout(bounds.drain_grace, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("connections were still open at the end of the grace period");
    }
}

fn builder(bounds: &Bounds) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.header_timeout)
        .max_headers(bounds.max_headers)
        .max_header_size(bounds.max_header_bytes)
        // What holds a head: a larger one is answered 431. hyper wants 8 KiB at least.
        .max_buf_size(bounds.max_header_bytes.max(8 << 10))
        .half_close(false);
    http
}

async fn answer(
    mut router: Router,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if !names_one_host(&request) {
        let json = [(header::CONTENT_TYPE, "application/json")];
        return Ok((StatusCode::BAD_REQUEST, json, BAD_REQUEST).into_response());
    }
    request.extensions_mut().insert(peer);
    router.call(request.map(Body::new)).await
}

/// HTTP/1.1 wants exactly one `Host`, and the same in a target that has one: two readings of a
/// request are how requests are smuggled.
fn names_one_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).into_iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() || (host.is_none() && request.version() == Version::HTTP_11) {
        return false;
    }
    let target = request.uri().authority().map(Authority::as_str);
    target.is_none_or(|target| {
        request.method() == Method::CONNECT || host.is_some_and(|host| host == target)
    })
}

/// Says that there is no room, and lets the client read it: closing at once, with the request
/// unread, would throw the answer away.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(REFUSAL).await?;
    stream.shutdown().await?;
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, target: &str, hosts: &[&str]) -> Request<()> {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn a_request_names_one_host() {
        for (version, target, hosts, expected) in [
            (Version::HTTP_11, "/", &["a"][..], true),
            (Version::HTTP_11, "/", &[], false),
            (Version::HTTP_11, "/", &["a", "a"], false),
            (Version::HTTP_10, "/", &[], true),
            (Version::HTTP_11, "http://a/", &["a"], true),
            (Version::HTTP_11, "http://evil/", &["a"], false),
        ] {
            let request = request(version, target, hosts);
            assert_eq!(names_one_host(&request), expected, "{target} {hosts:?}");
        }
    }

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
