//! The conversation itself: a learner's message in, the tutor's reply out, whole or as it grows.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;

use super::{App, name_session, to_the_end};
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::openapi::ErrorBody;
use crate::params::{Query, idempotency_key, session_header};
use crate::wire::ChatResponse;
use crate::wire::event::TurnEvent;

pub(super) mod live;
mod output;
mod request;
mod ui;

use output::Output;
use request::Asked;
pub(super) use request::ChatRequestBody;
use ui::UiBody;

/// Chat Endpoint
///
/// Answers a learner's message: as one JSON object, or (with `"stream": true` or
/// `Accept: text/event-stream`) as server-sent events. Without `session_id` a conversation is
/// started. With it the stored history counts, and only the trailing learner messages of
/// `messages` are taken, so that a client may always send the whole transcript.
///
/// `useChat` of the AI SDK posts here too: its bodies are recognized by their shape, and answered
/// by its own protocol.
///
/// The reply is written to its end also if the client goes away: follow it at
/// `/api/turns/{turn_id}/events`, stop it at `/api/turns/{turn_id}/cancel`.
#[utoipa::path(post, path = "/api/chat", tag = "chat", operation_id = "chat_endpoint_api_chat_post",
    params(
        ("Idempotency-Key" = Option<String>, Header, description =
            "A name for this request: sent again, it gives the same turn instead of another one"),
        ("X-Session-Id" = Option<String>, Header, description = "The same as `session_id`"),
        ("protocol" = Option<String>, Query, description = "Streams the reply as `native`, `ui`, `openai`, `anthropic`, `agui` or `text`, whatever the body looks like"),
        ("sdk" = Option<String>, Query, description = "For `ui`, the client's release: `5` (the default), `5.0.92`, `6`, `7` or `7.0.77`")),
    request_body = ChatRequestBody,
    responses(
        (status = 200, description = "The reply", content(
            (ChatResponse = "application/json"), (TurnEvent = "text/event-stream"))),
        (status = 404, description = "There is no such conversation or message", body = ErrorBody),
        (status = 409, description = "A reply is being written in this conversation (`turn_id` names it), or the idempotency key names another request", body = ErrorBody),
        (status = 429, description = "The provider asks to wait", body = ErrorBody,
            headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 502, description = "The provider refused, or its reply was cut off", body = ErrorBody),
        (status = 504, description = "The reply took too long", body = ErrorBody)))]
pub(super) async fn chat(
    App(state): App,
    query: Query,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let named = Output::named(&query, &headers)?;
    let tutor = state.tutor.clone();
    let (request, output) = if ui::is_ui(&body) {
        let body = UiBody::read(&body, session_header(&headers)?, &state.bounds)?;
        let mut request = body.request(&tutor).await;
        request.idempotency_key = idempotency_key(&headers)?;
        let output = match named {
            Some(output) => output,
            None => Output::Ui(output::sdk(&query, &headers)?),
        };
        (request, Some(output))
    } else {
        let Asked {
            mut request,
            streamed,
        } = Asked::read(&body, &headers, &state.bounds)?;
        request.streamed |= named.is_some();
        (request, named.or(streamed.then_some(Output::Native)))
    };
    if let Some(output) = output {
        let events = to_the_end(async move { tutor.stream(request).await }).await?;
        let session = events.session_id().clone();
        let mut response = output.respond(&state, events);
        name_session(&mut response, &session);
        return Ok(response);
    }
    let reply = to_the_end(async move { tutor.chat(request).await }).await?;
    Ok(Json(ChatResponse::from(reply)).into_response())
}
