//! The reply that is being written in a conversation: found again and stopped by the
//! conversation's id, as `useChat` does it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tutor_core::SessionId;
use utoipa::ToSchema;

use super::output::sdk;
use crate::encode::ui::Ui;
use crate::error::ApiError;
use crate::openapi::{ErrorBody, HTTPValidationError};
use crate::params::{PathId, Query};
use crate::routes::{App, to_the_end};
use crate::sse;

/// Find the reply that is being written
///
/// From its first part, in the AI SDK's protocol. 204 if none is being written.
#[utoipa::path(get, path = "/api/chat/{session_id}/stream", tag = "chat",
    operation_id = "resume_chat",
    params(("session_id" = String, Path),
        ("sdk" = Option<String>, Query, description = "The client's release: `5` (the default), `5.0.92`, `6`, `7` or `7.0.77`")),
    responses((status = 200, description = "The AI SDK's UI message stream", body = String,
            content_type = "text/event-stream"),
        (status = 204, description = "No reply is being written"),
        (status = 404, description = "The turn is gone", body = ErrorBody),
        (status = 409, description = "It runs on another instance, and there is no Redis", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(in crate::routes) async fn resume(
    App(state): App,
    PathId(id): PathId<SessionId>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let sdk = sdk(&query, &headers)?;
    match running(&state.tutor, &id).await? {
        Some(turn) => {
            let state = state.for_stream()?;
            let events = state.tutor.events(&turn, 0).await?;
            Ok(sse::respond(&state, Ui::new(sdk), None, events))
        }
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// What was stopped.
#[derive(Serialize, ToSchema)]
pub(crate) struct Stopped {
    /// True if a reply was being written.
    stopped: bool,
    /// Its turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    turn_id: Option<String>,
}

/// Stop the reply that is being written
///
/// What had arrived is kept.
#[utoipa::path(post, path = "/api/chat/{session_id}/stop", tag = "chat", operation_id = "stop_chat",
    params(("session_id" = String, Path)),
    responses((status = 200, description = "What was stopped", body = Stopped),
        (status = 409, description = "It runs on another instance, which cannot be asked", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(in crate::routes) async fn stop(
    App(state): App,
    PathId(id): PathId<SessionId>,
) -> Result<Json<Stopped>, ApiError> {
    let turn = running(&state.tutor, &id).await?;
    if let Some(turn) = turn.clone() {
        let tutor = state.tutor.clone();
        to_the_end(async move { tutor.cancel(&turn).await }).await?;
    }
    Ok(Json(Stopped {
        stopped: turn.is_some(),
        turn_id: turn.map(String::from),
    }))
}

/// The turn that runs in a conversation. One that does not exist (yet) has none.
async fn running(
    tutor: &tutor_core::Tutor,
    id: &SessionId,
) -> Result<Option<tutor_core::TurnId>, ApiError> {
    match tutor.session(id).await {
        Ok(session) => Ok(session.running_turn),
        Err(error) if error.kind() == tutor_core::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
