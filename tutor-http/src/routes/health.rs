//! Whether the server is there, and whether it takes work.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::state::AppState;
use crate::wire::{Health, ProviderHealth, Readiness};

/// How long the store may take to show that it can be written.
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
/// The server takes work: it is not stopping, and the store can be written. Providers and Redis are
/// shown and do not count: what is stored can be read without them, and they come back by themselves.
#[utoipa::path(get, path = "/readyz", tag = "health", operation_id = "ready", responses(
    (status = 200, description = "Send requests here", body = Readiness),
    (status = 503, description = "Send requests elsewhere", body = Readiness)))]
pub(super) async fn ready(State(state): State<AppState>) -> Response {
    let redis = async {
        match &state.shared {
            Some(shared) if shared.is_there().await => Some("ready"),
            Some(_) => Some("unavailable"),
            None => None,
        }
    };
    let (status, redis) = tokio::join!(readiness(&state), redis);
    let code = if status == "ready" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let providers = state.tutor.providers();
    let providers = providers.iter().map(|provider| ProviderHealth {
        name: provider.name.clone(),
        health: serde_json::to_value(provider.health()).unwrap_or_default(),
    });
    let providers = providers.collect();
    let readiness = Readiness {
        status,
        redis,
        providers,
    };
    (code, Json(readiness)).into_response()
}

async fn readiness(state: &AppState) -> &'static str {
    if state.draining.is_cancelled() {
        return "draining";
    }
    match tokio::time::timeout(STORE_PATIENCE, state.probe_store()).await {
        Ok(true) => "ready",
        Ok(false) | Err(_) => "store_unavailable",
    }
}
