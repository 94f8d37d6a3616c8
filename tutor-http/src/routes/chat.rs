//! The conversation itself: a learner's message in, the tutor's reply out, whole or as it grows.

use axum::response::Response;
use http::HeaderMap;
use tutor_core::{TurnId, Tutor};

use super::{App, answer, following, to_the_end};
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
pub use ui::UiRequest;

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
            "A name for this request, 1 to 255 visible ASCII characters: sent again, it gives the same turn instead of another one; with another body it is refused with 422"),
        ("X-Session-Id" = Option<String>, Header, description = "The same as `session_id`"),
        ("protocol" = Option<String>, Query, description = "Streams the reply as `native`, `ui`, `openai`, `anthropic`, `agui` or `text`, whatever the body looks like"),
        ("sdk" = Option<String>, Query, description = "For `ui`, the client's release: `5` (the default), `5.0.92`, `6`, `7` or `7.0.77`")),
    request_body = ChatRequestBody,
    responses(
        (status = 200, description = "The reply", content(
            (ChatResponse = "application/json"), (TurnEvent = "text/event-stream")),
            headers(("Idempotency-Replayed" = String, description = "`true` if the request was answered before"))),
        (status = 404, description = "There is no such conversation", body = ErrorBody),
        (status = 409, description = "A reply is being written in this conversation (`turn_id` names it), perhaps to an earlier request with the same idempotency key: then come back after `Retry-After` seconds", body = ErrorBody),
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
        let key = idempotency_key(&headers)?;
        let body = UiBody::read(&body, session_header(&headers)?, &state.bounds)?;
        let output = match named {
            Some(output) => output,
            None => Output::Ui(output::sdk(&query, &headers)?),
        };
        // What such a body asks for depends on what is stored, where its own turn is by now.
        let asked = body.fingerprint();
        if let Some(turn) = answered_before(&tutor, key.as_deref(), asked).await? {
            let state = state.for_stream()?;
            let events = tutor.events(&turn, 0).await?;
            let session = events.session_id().clone();
            return Ok(following(output.respond(&state, events), &session, true));
        }
        let mut request = body.request(&tutor).await;
        request.idempotency_key = key;
        request.fingerprint = Some(asked);
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
        let state = state.for_stream()?;
        let events = to_the_end(async move { tutor.stream(request).await }).await?;
        let (session, is_replay) = (events.session_id().clone(), events.is_replay());
        let response = output.respond(&state, events);
        return Ok(following(response, &session, is_replay));
    }
    let answered = to_the_end(answer(tutor, request)).await?;
    Ok(answered.respond(ChatResponse::from(answered.reply.clone())))
}

/// The turn that an earlier request with this idempotency key began.
///
/// # Errors
/// The documented 422 if that request asked something else.
pub(super) async fn answered_before(
    tutor: &Tutor,
    key: Option<&str>,
    asked: u64,
) -> Result<Option<TurnId>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    let turn = tutor.turn_of_request(key, asked).await?;
    Ok(turn.map(|turn| turn.id))
}
