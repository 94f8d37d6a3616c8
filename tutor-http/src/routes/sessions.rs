//! Conversations.

use axum::Json;
use http::{StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};
use tutor_core::session::{Cursor, MAX_PAGE, MAX_TITLE_CHARS};
use tutor_core::tutor::MAX_QUERY_CHARS;
use tutor_core::{Error, MessageId, NewSession, SessionId};
use utoipa::ToSchema;

use super::{App, to_the_end};
use crate::body::{JsonBody, OptionalJsonBody};
use crate::error::ApiError;
use crate::openapi::{ErrorBody, HTTPValidationError};
use crate::params::{PathId, Query};
use crate::validate::Checker;
use crate::wire::message::Content;
use crate::wire::{Session, SessionList, SessionSummary, Warning};

/// List conversations
///
/// The latest used first. With `q` those in which every word of it occurs, in the title or in what
/// was said; such a page may be short or empty and have a `next_cursor` all the same, where the
/// search goes on.
#[utoipa::path(get, path = "/api/sessions", tag = "sessions",
    operation_id = "get_sessions_api_sessions_get",
    params(
        ("limit" = Option<u64>, Query, description = "At most so many", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
        ("q" = Option<String>, Query, description = "What to search for", max_length = 200)),
    responses((status = 200, description = "A page of conversations", body = SessionList),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn list(App(state): App, query: Query) -> Result<Json<SessionList>, ApiError> {
    let max = MAX_PAGE as u64;
    let mut checker = Checker::new("query");
    let limit = query.number(&mut checker, "limit", max, (1, max));
    let cursor = query.parsed(&mut checker, "cursor", |text| {
        let cursor = Cursor::from_text(text);
        cursor.session_place().map(|_| cursor)
    });
    let q = query.get("q").filter(|q| !q.trim().is_empty());
    if let Some(q) = q.filter(|q| q.chars().count() > MAX_QUERY_CHARS) {
        checker.within("q", |c| {
            let why = format!("what is searched for has at most {MAX_QUERY_CHARS} characters");
            c.fail_value(&why, &Value::from(q));
        });
    }
    let limit = usize::try_from(checker.finish(limit)?).unwrap_or(MAX_PAGE);
    let page = match q {
        Some(q) => state.tutor.search(q, limit, cursor).await?,
        None => state.tutor.sessions(limit, cursor).await?,
    };
    Ok(Json(SessionList {
        sessions: page.items.iter().map(SessionSummary::from).collect(),
        next_cursor: page.next_cursor.map(|cursor| cursor.as_str().to_owned()),
    }))
}

/// A conversation to create.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSession)]
pub(super) struct NewSessionBody {
    /// Its id: ASCII letters, digits and `-._~@:+`. Made by the server if absent.
    #[schema(pattern = "^[A-Za-z0-9_~@:+-][A-Za-z0-9._~@:+-]{0,127}$")]
    id: Option<String>,
    #[schema(max_length = 200, pattern = "[^ ]")]
    title: Option<String>,
    /// Any data of your own.
    metadata: Option<Map<String, Value>>,
}

/// Create a conversation
///
/// An empty one. Not needed to chat: a message without a conversation starts one.
#[utoipa::path(post, path = "/api/sessions", tag = "sessions", operation_id = "create_session",
    request_body = Option<NewSessionBody>,
    responses(
        (status = 201, description = "Created", body = Session,
            headers(("Location" = String, description = "Its path"))),
        (status = 409, description = "The id is taken", body = ErrorBody)))]
pub(super) async fn create(
    App(state): App,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<(StatusCode, [(header::HeaderName, String); 1], Json<Session>), ApiError> {
    let new = new_session(&body)?;
    let tutor = state.tutor;
    let session = to_the_end(async move { tutor.create_session(new).await }).await?;
    let location = format!("/api/sessions/{}", session.id);
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        Json(session.into()),
    ))
}

/// Read a conversation
#[utoipa::path(get, path = "/api/sessions/{session_id}", tag = "sessions",
    operation_id = "read_session", params(("session_id" = String, Path)),
    responses((status = 200, description = "The conversation", body = Session),
        (status = 404, description = "There is none", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn read(
    App(state): App,
    PathId(id): PathId<SessionId>,
) -> Result<Json<Session>, ApiError> {
    Ok(Json(state.tutor.session(&id).await?.into()))
}

/// Changes to a conversation. What is absent stays as it is.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SessionChanges, min_properties = 1)]
pub(super) struct SessionChangesBody {
    #[schema(min_length = 1, max_length = 200, nullable = false)]
    title: Option<String>,
    /// Replaces all data of your own.
    #[schema(nullable = false)]
    metadata: Option<Map<String, Value>>,
    /// Switches to the branch that ends with this message; the next one follows it.
    #[schema(
        nullable = false,
        pattern = "^[A-Za-z0-9_~@:+-][A-Za-z0-9._~@:+-]{0,127}$"
    )]
    head_id: Option<String>,
}

/// Rename a conversation, replace its metadata, or switch its branch
#[utoipa::path(patch, path = "/api/sessions/{session_id}", tag = "sessions",
    operation_id = "update_session", params(("session_id" = String, Path)),
    request_body = SessionChangesBody,
    responses((status = 200, description = "The conversation as it is now", body = Session),
        (status = 404, description = "There is no such conversation or message", body = ErrorBody)))]
pub(super) async fn update(
    App(state): App,
    PathId(id): PathId<SessionId>,
    JsonBody(body): JsonBody,
) -> Result<Json<Session>, ApiError> {
    let Changes {
        title,
        metadata,
        head,
    } = changes(&body)?;
    let tutor = state.tutor;
    let session = to_the_end(async move {
        // What may fail comes first.
        let switched = match &head {
            Some(head) => Some(tutor.set_head(&id, head).await?),
            None => None,
        };
        match switched {
            Some(session) if title.is_none() && metadata.is_none() => Ok(session),
            _ => tutor.update_session(&id, title, metadata).await,
        }
    });
    Ok(Json(session.await?.into()))
}

/// Delete a conversation
///
/// With everything in it. A reply that is being written is stopped.
#[utoipa::path(delete, path = "/api/sessions/{session_id}", tag = "sessions",
    operation_id = "delete_session", params(("session_id" = String, Path)),
    responses((status = 204, description = "Deleted"),
        (status = 404, description = "There is none", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn delete(
    App(state): App,
    PathId(id): PathId<SessionId>,
) -> Result<StatusCode, ApiError> {
    let (tutor, doomed) = (state.tutor, id.clone());
    if to_the_end(async move { tutor.delete_session(&doomed).await }).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Error::not_found("session", id).into())
    }
}

fn new_session(body: &Value) -> Result<NewSession, ApiError> {
    let mut checker = Checker::new("body");
    let new = checker.model(body).map(|object| {
        let c = &mut checker;
        c.only(object, &["id", "title", "metadata"]);
        NewSession {
            id: c.optional(object, "id", |c, id| c.parsed(id, str::parse)),
            title: c.optional(object, "title", title),
            metadata: c
                .optional(object, "metadata", Checker::dict)
                .unwrap_or_default(),
        }
    });
    checker.finish(new)
}

struct Changes {
    title: Option<String>,
    metadata: Option<Map<String, Value>>,
    head: Option<MessageId>,
}

fn changes(body: &Value) -> Result<Changes, ApiError> {
    let mut checker = Checker::new("body");
    let changes = checker.model(body).map(|object| {
        let c = &mut checker;
        c.only(object, &["title", "metadata", "head_id"]);
        if object.is_empty() {
            c.fail_value("send title, metadata or head_id", body);
        }
        let given = |name| object.get(name);
        Changes {
            title: given("title").and_then(|value| c.within("title", |c| title(c, value))),
            metadata: given("metadata").and_then(|value| c.within("metadata", |c| c.dict(value))),
            head: given("head_id")
                .and_then(|value| c.within("head_id", |c| c.parsed(value, str::parse))),
        }
    });
    checker.finish(changes)
}

fn title(checker: &mut Checker, value: &Value) -> Option<String> {
    let title = checker.text(value, 1, MAX_TITLE_CHARS)?;
    if title.trim().is_empty() {
        checker.fail_value("a title is not blank", value);
        return None;
    }
    Some(title)
}

/// What a model would be sent.
#[derive(Serialize, ToSchema)]
pub(super) struct ContextBody {
    /// The instructions.
    system: Option<String>,
    /// Oldest first.
    messages: Vec<ContextMessage>,
    /// About how many tokens all this is.
    tokens: usize,
    /// The newest message that was left out; null if everything is sent.
    left_out: Option<String>,
    /// True if a summary, the first of the messages, stands for what was left out.
    summarized: bool,
    warnings: Vec<Warning>,
}

/// What a model is told that somebody said.
#[derive(Serialize, ToSchema)]
pub(super) struct ContextMessage {
    /// `user` or `assistant`.
    role: &'static str,
    #[schema(value_type = Content)]
    content: tutor_core::Content,
}

/// See what the model would see
///
/// Of the conversation as it is, before the next message.
#[utoipa::path(get, path = "/api/sessions/{session_id}/context", tag = "sessions",
    operation_id = "session_context",
    params(("session_id" = String, Path),
        ("tokens" = Option<u64>, Query, description =
            "Within so many tokens; else within what the model's window allows", minimum = 1, maximum = 10000000)),
    responses((status = 200, description = "What would be sent", body = ContextBody),
        (status = 404, description = "There is no such conversation", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn context(
    App(state): App,
    PathId(id): PathId<SessionId>,
    query: Query,
) -> Result<Json<ContextBody>, ApiError> {
    let mut checker = Checker::new("query");
    let tokens = query.number(&mut checker, "tokens", 0, (1, 10_000_000));
    let tokens = checker.finish(tokens)?;
    let tokens = usize::try_from(tokens).ok().filter(|tokens| *tokens > 0);
    let context = state.tutor.context(&id, tokens).await?;
    let message = |message: tutor_core::provider::PromptMessage| ContextMessage {
        role: message.role.as_str(),
        content: message.content,
    };
    Ok(Json(ContextBody {
        system: context.system,
        messages: context.messages.into_iter().map(message).collect(),
        tokens: context.tokens,
        left_out: context.left_out.map(String::from),
        summarized: context.summarized,
        warnings: context.notices.into_iter().map(Warning::from).collect(),
    }))
}
