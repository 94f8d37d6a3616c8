//! What learners think of what was said.

use axum::Json;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use tutor_core::tutor::{MAX_COMMENT_CHARS, Rating};
use tutor_core::{Error, MessageId, SessionId};
use utoipa::ToSchema;

use super::{App, to_the_end};
use crate::body::JsonBody;
use crate::error::ApiError;
use crate::openapi::{ErrorBody, HTTPValidationError};
use crate::params::{PathId, Query};
use crate::state::AppState;
use crate::validate::Checker;
use crate::wire::message::{Feedback, Thumb};

/// A thumb and a comment.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFeedback)]
pub(super) struct NewFeedbackBody {
    rating: Thumb,
    #[schema(max_length = 4000, pattern = "[^ ]")]
    comment: Option<String>,
    /// The conversation, which need not be searched for then.
    #[schema(pattern = "^[A-Za-z0-9_~@:+-][A-Za-z0-9._~@:+-]{0,127}$")]
    session_id: Option<String>,
}

/// Say what you think of a message
///
/// A thumb, perhaps with a comment; it takes the place of what you said before. It is kept with
/// the message, and shown with it in the list of messages.
#[utoipa::path(post, path = "/api/messages/{message_id}/feedback", tag = "sessions",
    operation_id = "rate_message", params(("message_id" = String, Path)),
    request_body = NewFeedbackBody,
    responses((status = 200, description = "Kept", body = Feedback),
        (status = 404, description = "There is no such conversation or message", body = ErrorBody),
        (status = 409, description = "The feedback is being changed", body = ErrorBody)))]
pub(super) async fn rate(
    App(state): App,
    PathId(message): PathId<MessageId>,
    JsonBody(body): JsonBody,
) -> Result<Json<Feedback>, ApiError> {
    let NewFeedback {
        rating,
        comment,
        session,
    } = NewFeedback::read(&body)?;
    let session = session_of(&state, session, &message).await?;
    let tutor = state.tutor;
    let rate = async move {
        let opinion = Some((rating, comment));
        tutor.rate(&session, &message, opinion).await
    };
    let kept = to_the_end(rate).await?;
    let kept = kept.ok_or_else(|| Error::internal("feedback was not kept"))?;
    Ok(Json(kept.into()))
}

/// Take back what you said of a message
#[utoipa::path(delete, path = "/api/messages/{message_id}/feedback", tag = "sessions",
    operation_id = "unrate_message",
    params(("message_id" = String, Path),
        ("session_id" = Option<String>, Query, description =
            "The conversation, which need not be searched for then")),
    responses((status = 204, description = "Taken back"),
        (status = 404, description = "There is no such conversation or message", body = ErrorBody),
        (status = 409, description = "The feedback is being changed", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn unrate(
    App(state): App,
    PathId(message): PathId<MessageId>,
    query: Query,
) -> Result<StatusCode, ApiError> {
    let mut checker = Checker::new("query");
    let session = query.parsed(&mut checker, "session_id", str::parse);
    checker.finish(Some(()))?;
    let session = session_of(&state, session, &message).await?;
    let tutor = state.tutor;
    to_the_end(async move { tutor.rate(&session, &message, None).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn session_of(
    state: &AppState,
    named: Option<SessionId>,
    message: &MessageId,
) -> Result<SessionId, ApiError> {
    match named {
        Some(session) => Ok(session),
        None => Ok(state.tutor.find_message(message).await?.session_id),
    }
}

struct NewFeedback {
    rating: Rating,
    comment: Option<String>,
    session: Option<SessionId>,
}

impl NewFeedback {
    fn read(body: &Value) -> Result<Self, ApiError> {
        let mut checker = Checker::new("body");
        let read = checker.model(body).and_then(|object| {
            let c = &mut checker;
            c.only(object, &["rating", "comment", "session_id"]);
            let rating = c.required(object, "rating", |c, v| match v.as_str() {
                Some("up") => Some(Rating::Up),
                Some("down") => Some(Rating::Down),
                _ => {
                    c.fail_value("a rating is up or down", v);
                    None
                }
            });
            let comment = c.optional(object, "comment", |c, v| c.text(v, 1, MAX_COMMENT_CHARS));
            let session = c.optional(object, "session_id", |c, v| c.parsed(v, str::parse));
            Some(Self {
                rating: rating?,
                comment,
                session,
            })
        });
        checker.finish(read)
    }
}
