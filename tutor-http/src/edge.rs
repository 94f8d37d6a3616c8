//! What happens to every request before and after its route: an id, CORS, the body of errors,
//! security headers, one line in the log, and a panic that stays inside.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, header};
use tokio::time::Instant;
use tower_service::Service;
use tracing::{Instrument, Span, field};
use tutor_core::Error;

use crate::error::dialect::Dialect;
use crate::error::{self, ApiError};
use crate::people::throttle::AddressName;
use crate::routes::Peer;
use crate::state::AppState;
use crate::traces;

mod cors;
mod proxies;
mod remainder;
mod request_id;
mod security;

pub use cors::Origins;
pub use proxies::TrustedProxies;

use remainder::Remainder;

/// The routes that say how the server is.
const WATCHED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The routes, wrapped in what concerns all of them.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    state: AppState,
    routes: Router,
}

impl Edge {
    pub(crate) fn new(state: AppState, routes: Router) -> Self {
        Self { state, routes }
    }

    async fn handle(self, request: Request) -> Response {
        let began = Instant::now();
        let id = request_id::of(request.headers(), &*self.state.runtime);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let client = request.extensions().get::<Peer>();
        let client = client.map(|Peer(address)| field::display(AddressName(Some(*address))));
        let origin = request.headers().get(header::ORIGIN).cloned();
        let mut response = match self.state.origins.preflight(&request) {
            Some(response) => response,
            None => {
                let span = tracing::info_span!("request", id, otel.kind = "server");
                traces::adopt(&span, request.headers());
                let (request, remainder) = Remainder::watch(request);
                let routed = self.route(request).instrument(span.clone()).await;
                describe(&span, &method, &routed);
                let mut response = error::render(routed, &id, &method, Dialect::of(&path));
                if let Some(remainder) = remainder {
                    remainder.tell(&mut response);
                }
                self.state
                    .origins
                    .allow(origin.as_ref(), response.headers_mut());
                response
            }
        };
        security::protect(&path, response.headers_mut());
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(request_id::HEADER, id);
        }
        let route = response.extensions().get::<MatchedPath>();
        let route = route.map_or("none", MatchedPath::as_str);
        let (method, status) = (known(&method), response.status().as_u16());
        let took = began.elapsed();
        self.state
            .metrics
            .answered(method, route.into(), status, took);
        // JSON has no number for the larger one.
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        // Those who watch ask all the time.
        if WATCHED.contains(&route) && status < 400 {
            tracing::debug!(method, route, status, ms, request_id = id, "request");
        } else {
            tracing::info!(
                method,
                route,
                status,
                ms,
                client,
                request_id = id,
                "request"
            );
        }
        response
    }

    /// A panic in a handler is an internal error of that request alone.
    async fn route(&self, request: Request) -> Response {
        let answer =
            AssertUnwindSafe(async { self.routes.clone().call(request).await }).catch_unwind();
        match answer.await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                self.state.metrics.panicked();
                ApiError::from(Error::internal("a handler panicked")).into_response()
            }
        }
    }
}

impl Service<Request> for Edge {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.clone().handle(request).map(Ok).boxed()
    }
}

/// Makes the route's template known to the log: the path itself may say whose session it is.
pub(crate) async fn note_route(
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// Tells those who trace it what a request was, and what came of it.
fn describe(span: &Span, method: &Method, response: &Response) {
    let route = response.extensions().get::<MatchedPath>();
    let (method, status) = (known(method), response.status());
    match route {
        Some(route) => {
            traces::name(span, format!("{method} {}", route.as_str()));
            traces::tell(span, "http.route", route.as_str().to_owned());
        }
        None => traces::name(span, method.to_owned()),
    }
    traces::tell(span, "http.request.method", method);
    traces::tell(
        span,
        "http.response.status_code",
        i64::from(status.as_u16()),
    );
    if status.is_server_error() {
        traces::tell(span, "error.type", status.as_str().to_owned());
    }
}

/// Only well-known methods are logged as they are: a client chooses the others.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let name = KNOWN.into_iter().find(|name| *name == method.as_str());
    name.unwrap_or("OTHER")
}
