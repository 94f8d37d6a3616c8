//! The accept loop: what guards a connection before any request is read, and how the server stops.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower_service::Service;
use tutor_core::{Error, Result};

use crate::bounds::Bounds;
use crate::edge::TrustedProxies;
use crate::routes::Peer;
use crate::state::AppState;
use crate::tls::{self, Tls};

mod frames;
pub(crate) mod handle;
mod pulse;
mod stall;

use frames::FrameGuard;
use pulse::Pulse;
use stall::StallGuard;

/// Requests of one HTTP/2 connection that are answered at the same time; more wait.
const MAX_HTTP2_STREAMS: u32 = 100;

/// Bytes of one HTTP/2 stream that wait to be sent.
const MAX_HTTP2_BUFFER: usize = 64 << 10;

/// How often the other end of an HTTP/2 connection is asked whether it is there.
const HTTP2_PING: Duration = Duration::from_secs(20);

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
    // An address of IPv6 as URLs have it.
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = inside.unwrap_or(host);
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

/// What new connections are served with.
#[derive(Clone, Debug)]
pub struct Served {
    pub(crate) state: AppState,
    router: Router,
    pub(crate) tls: Option<Tls>,
}

impl Served {
    /// The whole API, over TLS if there is a certificate.
    pub fn new(state: AppState, tls: Option<Tls>) -> Self {
        Self {
            router: crate::router(state.clone()),
            state,
            tls,
        }
    }

    /// Health and metrics alone, for those who watch over the server.
    pub fn operations(state: AppState) -> Self {
        Self {
            router: crate::routes::operations(state.clone()),
            state,
            tls: None,
        }
    }
}

/// Serves until `shutdown` is over; then takes no new connection, ends the event streams so that
/// their clients resume elsewhere, and waits for the other requests, at most
/// [`Bounds::drain_grace`].
///
/// The tutor stays open: [close](tutor_core::Tutor::close) it when `shutdown` is over, at the same
/// time, so that requests which wait for a reply are answered.
pub async fn serve(listener: TcpListener, state: AppState, shutdown: impl Future<Output = ()>) {
    let (_, served) = watch::channel(Served::new(state, None));
    serve_as(listener, served, shutdown).await;
}

/// [`serve`], with what may be replaced meanwhile: every new connection is served with the latest.
pub async fn serve_as(
    listener: TcpListener,
    mut served: watch::Receiver<Served>,
    shutdown: impl Future<Output = ()>,
) {
    let mut host = Host::new(served.borrow_and_update().clone());
    let open = Arc::new(AtomicUsize::new(0));
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
        if served.has_changed().unwrap_or(false) {
            host = Host::new(served.borrow_and_update().clone());
        }
        let metrics = &host.served.state.metrics;
        // Only this loop adds to it.
        if open.load(Ordering::Acquire) >= host.served.state.bounds.max_connections {
            metrics.refused();
            if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                tokio::spawn(async move {
                    let _permit = permit;
                    // Whether it is heard does not matter.
                    let _ = tokio::time::timeout(REFUSAL_TIME, refuse(stream)).await;
                });
            }
            continue;
        }
        let counted = (Counted::new(&open), metrics.connection());
        let connection = host.connection(stream, peer.ip(), graceful.watcher());
        tokio::spawn(async move {
            let _counted = counted;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    let state = served.borrow().state.clone();
    state.drain();
    tracing::info!(connections = open.load(Ordering::Acquire), "stopping");
    if tokio::time::timeout(state.bounds.drain_grace, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("connections were still open at the end of the grace period");
    }
}

/// One of the connections that are open.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How a connection ends.
type Ended = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// What is [`Served`], and how.
struct Host {
    served: Served,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl Host {
    fn new(served: Served) -> Self {
        let bounds = &served.state.bounds;
        Self {
            http1: http1_builder(bounds),
            http2: http2_builder(bounds),
            served,
        }
    }

    /// One connection, to its end.
    fn connection(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        watcher: Watcher,
    ) -> BoxFuture<'static, Ended> {
        // Small events must not wait for each other. Without it they are only slower.
        let _ = stream.set_nodelay(true);
        let bounds = &self.served.state.bounds;
        let stream = StallGuard::new(stream, bounds.write_stall);
        let (patience, stall) = (bounds.header_timeout, bounds.write_stall);
        let answering = Answering {
            router: self.served.router.clone(),
            peer,
            proxies: Arc::clone(&self.served.state.proxies),
            is_secure: self.served.tls.is_some(),
        };
        let http1 = self.http1.clone();
        let Some(tls) = &self.served.tls else {
            let service = service_fn(move |request| answer(answering.clone(), request));
            let connection = watcher.watch(http1.serve_connection(TokioIo::new(stream), service));
            return connection.map_err(Into::into).boxed();
        };
        let (acceptor, http2) = (tls.acceptor(), self.http2.clone());
        let secured = async move {
            let accepted = tokio::time::timeout(patience, acceptor.accept(stream));
            let stream = accepted
                .await
                .map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2);
            if !is_http2 {
                let service = service_fn(move |request| answer(answering.clone(), request));
                let connection = http1.serve_connection(TokioIo::new(stream), service);
                return Ok(watcher.watch(connection).await?);
            }
            let pulse = Pulse::new();
            let began = pulse.clone();
            let service = service_fn(move |request| {
                let begun = began.begin();
                let answered = answer(answering.clone(), request);
                answered.map_ok(|response| response.map(|body| begun.watch(body)))
            });
            let io = TokioIo::new(FrameGuard::new(stream));
            let connection = watcher.watch(http2.serve_connection(io, service));
            tokio::select! {
                ended = connection => Ok(ended?),
                () = pulse.stopped(stall, patience) => {
                    Err(io::Error::from(ErrorKind::TimedOut).into())
                }
            }
        };
        secured.boxed()
    }
}

fn http1_builder(bounds: &Bounds) -> http1::Builder {
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

fn http2_builder(bounds: &Bounds) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    let head = u32::try_from(bounds.max_header_bytes).unwrap_or(u32::MAX);
    http.timer(TokioTimer::new())
        .max_header_list_size(head)
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .max_send_buf_size(MAX_HTTP2_BUFFER)
        // A peer that is gone is noticed.
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(bounds.header_timeout);
    http
}

/// What a connection needs to answer its requests.
#[derive(Clone)]
struct Answering {
    router: Router,
    peer: IpAddr,
    proxies: Arc<TrustedProxies>,
    is_secure: bool,
}

async fn answer(
    mut answering: Answering,
    mut request: Request<Incoming>,
) -> std::result::Result<Response<Body>, Infallible> {
    if !names_one_host(&request) {
        let json = [(header::CONTENT_TYPE, "application/json")];
        return Ok((StatusCode::BAD_REQUEST, json, BAD_REQUEST).into_response());
    }
    let client = answering.proxies.client(answering.peer, request.headers());
    request.extensions_mut().insert(Peer(client));
    let mut response = answering.router.call(request.map(Body::new)).await?;
    if answering.is_secure {
        let year = HeaderValue::from_static("max-age=31536000");
        let headers = response.headers_mut();
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    Ok(response)
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
    target.is_none_or(|target| match host {
        _ if request.method() == Method::CONNECT => true,
        // HTTP/2 names it in the target alone.
        None => request.version() == Version::HTTP_2,
        Some(host) => host == target,
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
            (Version::HTTP_10, "http://a/", &[], false),
            (Version::HTTP_2, "https://a/", &[], true),
            (Version::HTTP_2, "https://a/", &["a"], true),
            (Version::HTTP_2, "https://a/", &["b"], false),
            (Version::HTTP_2, "https://a/", &["a", "a"], false),
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
