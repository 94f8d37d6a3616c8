//! The routes: one file per resource. A handler takes a request apart, calls the engine, and puts
//! the answer together.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tracing::Instrument;
use tutor_core::{ChatRequest, Error, Reply, Result, SessionId, TurnStatus, Tutor};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::edge::{self, Edge};
use crate::error::{self, ApiError, REPLAYED};
use crate::openapi::{base, complete};
use crate::state::AppState;

mod admin;
mod auth;
mod chat;
pub use chat::UiRequest;
mod compat;
mod docs;
mod feedback;
mod files;
mod guard;
mod health;
mod keys;
mod messages;
mod metrics;
mod models;
mod sessions;
mod transfer;
mod turns;

use guard::App;
pub(crate) use guard::Peer;

/// The whole server as a service: every route, and what happens to each request around it.
///
/// Mount it wherever an [`axum::Router`] goes. [`serve`](crate::serve) adds what guards the
/// connections.
pub fn router(state: AppState) -> Router {
    let (routes, openapi) = documented();
    let known: Arc<[String]> = openapi.paths.paths.keys().cloned().collect();
    let routes = routes
        .merge(docs::routes(&openapi))
        .fallback(move |request: Request| fallback(Arc::clone(&known), request))
        .method_not_allowed_fallback(async || ApiError::METHOD_NOT_ALLOWED)
        .layer(middleware::from_fn(edge::note_route))
        .with_state(state.clone());
    Router::new().fallback_service(Edge::new(state, routes))
}

/// Health and metrics alone, without asking who wants to know.
pub(crate) fn operations(state: AppState) -> Router {
    let routes = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::all))
        .fallback(async || ApiError::NOT_FOUND)
        .method_not_allowed_fallback(async || ApiError::METHOD_NOT_ALLOWED)
        .layer(middleware::from_fn(edge::note_route))
        .with_state(state.clone());
    Router::new().fallback_service(Edge::new(state, routes))
}

/// What the server offers, as OpenAPI 3.1.
pub fn openapi() -> OpenApi {
    documented().1
}

fn documented() -> (Router<AppState>, OpenApi) {
    let (routes, mut openapi) = OpenApiRouter::with_openapi(base())
        .routes(routes!(health::root))
        .routes(routes!(chat::chat))
        .routes(routes!(chat::live::resume))
        .routes(routes!(chat::live::stop))
        .routes(routes!(compat::openai::completions))
        .routes(routes!(compat::openai::models))
        .routes(routes!(compat::openai::model))
        .routes(routes!(compat::anthropic::messages))
        .routes(routes!(compat::anthropic::count_tokens))
        .routes(routes!(compat::agui::run))
        .routes(routes!(auth::register))
        .routes(routes!(auth::login))
        .routes(routes!(auth::refresh))
        .routes(routes!(auth::logout))
        .routes(routes!(auth::me, auth::delete))
        .routes(routes!(auth::password))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::delete))
        .routes(routes!(admin::users))
        .routes(routes!(admin::update))
        .routes(routes!(admin::usage))
        .routes(routes!(sessions::list, sessions::create))
        .routes(routes!(sessions::read, sessions::update, sessions::delete))
        .routes(routes!(messages::list))
        .routes(routes!(messages::delete))
        .routes(routes!(messages::siblings))
        .routes(routes!(feedback::rate, feedback::unrate))
        .routes(routes!(sessions::context))
        .routes(routes!(transfer::export))
        .routes(routes!(transfer::export_session))
        .routes(routes!(transfer::import))
        .routes(routes!(turns::read))
        .routes(routes!(turns::events))
        .routes(routes!(turns::ticket))
        .routes(routes!(turns::cancel))
        .routes(routes!(files::upload, files::list))
        .routes(routes!(files::read, files::delete))
        .routes(routes!(models::list))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::metrics))
        .split_for_parts();
    complete(&mut openapi);
    (routes, openapi)
}

/// A path that is only wrong by a slash at its end is shown the way; any other is unknown.
async fn fallback(known: Arc<[String]>, request: Request) -> Response {
    let uri = request.uri();
    let path = uri.path().strip_suffix('/').unwrap_or_default();
    let is_known = |pattern: &String| matches(pattern, path);
    if path != "/docs" && !known.iter().any(is_known) {
        return ApiError::NOT_FOUND.into_response();
    }
    let query = uri.query().map(|query| format!("?{query}"));
    let location = format!("{path}{}", query.unwrap_or_default());
    match HeaderValue::from_str(&location) {
        Ok(location) => {
            let status = StatusCode::TEMPORARY_REDIRECT;
            (status, [(header::LOCATION, location)]).into_response()
        }
        Err(_) => ApiError::NOT_FOUND.into_response(),
    }
}

/// True if `path` is one that `pattern`, such as `/api/turns/{turn_id}`, stands for.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) => {
                let is_any = pattern.starts_with('{') && !segment.is_empty();
                if pattern != segment && !is_any {
                    return false;
                }
            }
            (Some(_), None) | (None, Some(_)) => return false,
        }
    }
}

/// Runs a piece of work to its end even if the client goes away meanwhile.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(Box::pin(work).in_current_span())
        .map(|joined| joined.unwrap_or_else(|_| Err(Error::internal("a request's work panicked"))))
        .await
}

/// A whole reply, and whether it was given before.
struct Answered {
    reply: Reply,
    is_replay: bool,
}

/// Asks, and waits for the whole reply. A request that was sent before, under the same idempotency
/// key, is answered again once its reply is there.
///
/// # Errors
/// `conflict`, to be tried again soon, while the reply to an earlier one is being written; those
/// of the engine.
async fn answer(tutor: Tutor, request: ChatRequest) -> Result<Answered> {
    let events = tutor.stream(request).await?;
    let is_replay = events.is_replay();
    if is_replay && !events.has_ended() {
        return Err(Error::conflict(
            "the first request with this idempotency key is still being answered: try again in a moment",
        )
        .retryable(Some(Duration::from_secs(1)))
        .with_context("session", events.session_id())
        .with_context("turn", events.turn_id()));
    }
    match events.reply().await {
        Ok(reply) => Ok(Answered { reply, is_replay }),
        Err(error) if is_replay => Err(error.with_context(REPLAYED, true)),
        Err(error) => Err(error),
    }
}

impl Answered {
    /// The answer with this body, and headers that say what it is.
    fn respond(&self, body: impl Serialize) -> Response {
        self.name(Json(body).into_response())
    }

    /// The same in protocols that have no word for a reply that somebody stopped: it is an error,
    /// as it is in their streams.
    fn respond_whole(&self, body: impl Serialize) -> Response {
        if self.reply.status == TurnStatus::Cancelled {
            return self.name(ApiError::stopped().into_response());
        }
        self.respond(body)
    }

    fn name(&self, response: Response) -> Response {
        following(response, &self.reply.session_id, self.is_replay)
    }
}

/// The answer that shows the events of a turn, with headers that say what it is.
fn following(mut response: Response, session: &SessionId, is_replay: bool) -> Response {
    name_session(&mut response, session);
    if is_replay {
        error::replayed(response.headers_mut());
    }
    response
}

/// Tells the client which conversation the answer belongs to.
fn name_session(response: &mut Response, session: &SessionId) {
    // Ids are visible ASCII.
    if let Ok(value) = HeaderValue::from_str(session.as_str()) {
        response.headers_mut().insert("x-session-id", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_segment_by_segment() {
        for (path, expected) in [
            ("/api/turns/t1", true),
            ("/api/turns/", false),
            ("/api/turns", false),
            ("/api/turns/t1/events", false),
            ("/api/sessions/t1", false),
            ("//evil.example", false),
        ] {
            assert_eq!(matches("/api/turns/{turn_id}", path), expected, "{path}");
        }
    }
}
