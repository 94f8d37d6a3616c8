//! Whether the server is there, and whether it takes work.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::App;
use crate::wire::{Health, Readiness};

/// How long the store may take to show that it is there.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Health check
///
/// The server is alive.
#[utoipa::path(get, path = "/", tag = "health", operation_id = "root__get",
    responses((status = 200, description = "Alive", body = Health)))]
pub(super) async fn root() -> Json<Health> {
    Json(Health { status: "healthy" })
}

/// Liveness
///
/// The process answers. Restart it if it does not.
#[utoipa::path(get, path = "/healthz", tag = "health", operation_id = "alive",
    responses((status = 200, description = "Alive", body = Health)))]
pub(super) async fn alive() -> Json<Health> {
    Json(Health { status: "healthy" })
}

/// Readiness
///
/// The server takes work: it is not stopping, and the store answers.
#[utoipa::path(get, path = "/readyz", tag = "health", operation_id = "ready", responses(
    (status = 200, description = "Send requests here", body = Readiness),
    (status = 503, description = "Send requests elsewhere", body = Readiness)))]
pub(super) async fn ready(State(state): App) -> Response {
    let status = if state.draining.is_cancelled() {
        "draining"
    } else {
        let store = tokio::time::timeout(STORE_PATIENCE, state.tutor.sessions(1, None));
        match store.await {
            Ok(Ok(_)) => "ready",
            Ok(Err(_)) | Err(_) => "store_unavailable",
        }
    };
    let code = if status == "ready" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(Readiness { status })).into_response()
}
