//! The routes: one file per resource. A handler takes a request apart, calls the engine, and puts
//! the answer together.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, header};
use tracing::Instrument;
use tutor_core::{Error, Result, SessionId};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::edge::{self, Edge};
use crate::error::ApiError;
use crate::openapi::{base, complete};
use crate::state::AppState;

mod admin;
mod auth;
mod chat;
mod compat;
mod docs;
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
        .routes(routes!(sessions::list, sessions::create))
        .routes(routes!(sessions::read, sessions::update, sessions::delete))
        .routes(routes!(messages::list))
        .routes(routes!(messages::delete))
        .routes(routes!(messages::siblings))
        .routes(routes!(transfer::export))
        .routes(routes!(transfer::export_session))
        .routes(routes!(transfer::import))
        .routes(routes!(turns::read))
        .routes(routes!(turns::events))
        .routes(routes!(turns::cancel))
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
    tokio::spawn(work.in_current_span())
        .map(|joined| joined.unwrap_or_else(|_| Err(Error::internal("a request's work panicked"))))
        .await
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
