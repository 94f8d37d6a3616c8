//! Turns: one exchange each. They go on when nobody listens, and can be listened to again.

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tutor_core::TurnId;
use utoipa::ToSchema;

use super::guard::{Follower, Person};
use super::{App, to_the_end};
use crate::encode::native::Native;
use crate::error::ApiError;
use crate::openapi::{ErrorBody, HTTPValidationError};
use crate::params::{PathId, Query, header};
use crate::people::ticket::LIFETIME;
use crate::sse;
use crate::validate::Checker;
use crate::wire::Turn;
use crate::wire::event::TurnEvent;

/// Read a turn
#[utoipa::path(get, path = "/api/turns/{turn_id}", tag = "turns", operation_id = "read_turn",
    params(("turn_id" = String, Path)),
    responses((status = 200, description = "How far it is", body = Turn),
        (status = 404, description = "There is none", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn read(
    App(state): App,
    PathId(id): PathId<TurnId>,
) -> Result<Json<Turn>, ApiError> {
    Ok(Json(state.tutor.turn(&id).await?.into()))
}

/// Follow a turn
///
/// The events after a place: first those that have happened, then those that come. Works while
/// the turn runs, after its first connection is gone, and after it has ended.
#[utoipa::path(get, path = "/api/turns/{turn_id}/events", tag = "turns",
    operation_id = "turn_events",
    params(
        ("turn_id" = String, Path),
        ("ticket" = Option<String>, Query, description = "From `POST /api/turns/{turn_id}/ticket`, in place of a token"),
        ("after" = Option<u64>, Query, description = "The number of the last event that is known; 0 for none"),
        ("Last-Event-ID" = Option<String>, Header, description = "The same, as browsers send it; wins over `after` unless it is empty")),
    responses(
        (status = 200, description = "Server-sent events", body = TurnEvent,
            content_type = "text/event-stream"),
        (status = 204, description = "The turn has ended, and its last event is known"),
        (status = 404, description = "There is none", body = ErrorBody),
        (status = 409, description = "It runs on another instance, and there is no Redis", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn events(
    Follower(state): Follower,
    PathId(id): PathId<TurnId>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = place(&query, &headers)?;
    let state = state.for_stream()?;
    let mut events = state.tutor.events(&id, after).await?;
    // Beyond the end there is the terminal event alone. Whoever knows it is told not to come back.
    let first = events.next().now_or_never().flatten();
    if first.as_ref().is_some_and(|event| event.seq <= after) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(sse::respond(&state, Native, first, events))
}

/// What an `EventSource` sends in place of a token.
#[derive(Serialize, ToSchema)]
pub(super) struct Ticket {
    /// Send it as `ticket` in the query of `/api/turns/{turn_id}/events`. Good once.
    ticket: String,
    /// How long it is good, in seconds.
    expires_in: u64,
}

/// Get a ticket
///
/// For an `EventSource`, which cannot send a token: good once, for this turn and soon.
#[utoipa::path(post, path = "/api/turns/{turn_id}/ticket", tag = "turns",
    operation_id = "turn_ticket", params(("turn_id" = String, Path)),
    responses((status = 201, description = "The ticket", body = Ticket),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 404, description = "There is no such turn, or this server has no accounts: then none is needed", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn ticket(
    person: Person,
    PathId(id): PathId<TurnId>,
) -> Result<(StatusCode, Json<Ticket>), ApiError> {
    person.state.tutor.turn(&id).await?;
    let ticket = person.people.ticket(&person.principal, &id).await?;
    let expires_in = LIFETIME.as_secs();
    Ok((StatusCode::CREATED, Json(Ticket { ticket, expires_in })))
}

/// Stop a turn
///
/// What had arrived is kept. A turn that has ended is returned as it is.
#[utoipa::path(post, path = "/api/turns/{turn_id}/cancel", tag = "turns",
    operation_id = "cancel_turn", params(("turn_id" = String, Path)),
    responses((status = 200, description = "The turn as it ended", body = Turn),
        (status = 404, description = "There is none", body = ErrorBody),
        (status = 409, description = "It runs on another instance, which cannot be asked", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn cancel(
    App(state): App,
    PathId(id): PathId<TurnId>,
) -> Result<Json<Turn>, ApiError> {
    let tutor = state.tutor;
    let turn = to_the_end(async move { tutor.cancel(&id).await }).await?;
    Ok(Json(turn.into()))
}

/// The number of the last event that the client knows. A browser that connects again repeats the
/// query it began with, so the header is newer.
fn place(query: &Query, headers: &HeaderMap) -> Result<u64, ApiError> {
    let (mut checker, place);
    match header(headers, "last-event-id")? {
        Some(text) if !text.is_empty() => {
            checker = Checker::new("header");
            place = checker.within("last-event-id", |c| c.digits(text));
        }
        _ => {
            checker = Checker::new("query");
            place = query.number(&mut checker, "after", 0, (0, u64::MAX));
        }
    }
    checker.finish(place)
}
