//! What the server counts.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};

use crate::error::ApiError;
use crate::metrics::CONTENT_TYPE;
use crate::openapi::ErrorBody;
use crate::state::AppState;

/// Metrics
///
/// Counts of what the server does, in the text format of Prometheus: without anything that a
/// learner wrote, and without ids. Where people sign in, for administrators alone. With
/// `metrics_listen` they are told at that address, and not here.
#[utoipa::path(get, path = "/metrics", tag = "health", operation_id = "metrics", responses(
    (status = 200, description = "The counts", body = String, content_type = "text/plain"),
    (status = 401, description = "Not signed in", body = ErrorBody),
    (status = 403, description = "An API key may not do that", body = ErrorBody),
    (status = 404, description = "You are no administrator, or they are told elsewhere", body = ErrorBody)))]
pub(super) async fn metrics(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if state.hides_metrics {
        return Err(ApiError::NOT_FOUND);
    }
    if let Some(people) = &state.people {
        people.identify(&headers).await?.require_admin()?;
    }
    all(State(state)).await
}

/// The counts, for whoever asks.
pub(super) async fn all(State(state): State<AppState>) -> Result<Response, ApiError> {
    let text = state.metrics.render(&state).await?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
