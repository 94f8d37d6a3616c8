//! What was said in a conversation.

use std::collections::HashMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use tutor_core::message::{Audience, Part};
use tutor_core::session::{Branch, MAX_PAGE, MessageRange};
use tutor_core::{Content, Message, MessageId, Messages, SessionId};

use super::{App, to_the_end};
use crate::error::ApiError;
use crate::openapi::{ErrorBody, HTTPValidationError};
use crate::params::{PathId, PathIds, Query};
use crate::state::AppState;
use crate::validate::Checker;
use crate::wire::message::Feedback;
use crate::wire::{MessageList, Rated, history};

/// Messages on a page that names no limit.
const DEFAULT_LIMIT: u64 = 50;

/// List messages
///
/// In the order of the conversation. Without `before` and `after`: the newest ones.
#[utoipa::path(get, path = "/api/sessions/{session_id}/messages", tag = "sessions",
    operation_id = "list_messages",
    params(
        ("session_id" = String, Path),
        ("limit" = Option<u64>, Query, description = "At most so many", minimum = 1, maximum = 200),
        ("before" = Option<String>, Query, description = "The newest ones older than this message"),
        ("after" = Option<String>, Query, description = "The oldest ones newer than this message"),
        ("format" = Option<String>, Query, description =
            "`tutor` (the default), or the words of another protocol: `ui`, `openai`, `anthropic` or `agui`"),
        ("branch" = Option<String>, Query, description =
            "`active` (the default), `all` for the whole tree, or a message's id for the line that ends there")),
    responses((status = 200, description = "A page of messages", body = MessageList),
        (status = 404, description = "There is no such conversation", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn list(
    App(state): App,
    PathId(session): PathId<SessionId>,
    query: Query,
) -> Result<Response, ApiError> {
    let format = Format::of(&query)?;
    let range = range(&query)?;
    let branch = range.branch.clone();
    let page = state.tutor.messages(&session, range).await?;
    let mut messages = page.items;
    messages.retain(|message| message.visible_to.contains(&Audience::Learner));
    let next_cursor = page.next_cursor.map(|cursor| cursor.as_str().to_owned());
    if !matches!(format, Format::Tutor) {
        describe_files(&state, &mut messages).await?;
    }
    let foreign = match format {
        Format::Tutor => {
            let list = MessageList {
                messages: rated(&state, &session, messages).await?,
                next_cursor,
            };
            return Ok(Json(list).into_response());
        }
        Format::Ui => {
            let following = results_behind(&state, &session, &messages, branch).await?;
            history::ui(&messages, &following)
        }
        Format::OpenAi => history::openai(&messages),
        Format::Anthropic => history::anthropic(&messages),
        Format::AgUi => history::agui(&messages),
    };
    Ok(Json(json!({"messages": foreign, "next_cursor": next_cursor})).into_response())
}

/// The message behind these, if it has the results of calls with which they end.
async fn results_behind(
    state: &AppState,
    session: &SessionId,
    messages: &[Message],
    branch: Branch,
) -> Result<Vec<Message>, ApiError> {
    let Some(last) = messages.last().filter(|last| history::waits(last)) else {
        return Ok(Vec::new());
    };
    let behind = Messages {
        branch,
        ..Messages::after(last.id.clone(), 1)
    };
    let mut messages = state.tutor.messages(session, behind).await?.items;
    messages.retain(|message| message.visible_to.contains(&Audience::Learner));
    Ok(messages)
}

/// Says of uploads that messages name what they are called and of which type they are, where the
/// message does not.
pub(super) async fn describe_files(
    state: &AppState,
    messages: &mut [Message],
) -> Result<(), ApiError> {
    let Some(files) = &state.files else {
        return Ok(());
    };
    for message in messages {
        let Content::Parts(parts) = &mut message.content else {
            continue;
        };
        for part in parts {
            let Part::File {
                file_id,
                name,
                media_type,
            } = part
            else {
                continue;
            };
            let is_known = name.is_some() && media_type.is_some();
            if is_known || file_id.starts_with("data:") {
                continue;
            }
            // One that was deleted since is shown as it is.
            if let Some(info) = files.info(state.tutor.owner(), file_id).await? {
                *name = name.take().or(info.name);
                *media_type = media_type.take().or(Some(info.media_type));
            }
        }
    }
    Ok(())
}

/// List the siblings of a message
///
/// The messages that follow what this one follows, itself among them, in the order in which they
/// were stored: replies that were written again, or a message as it was edited.
#[utoipa::path(get, path = "/api/sessions/{session_id}/messages/{message_id}/siblings",
    tag = "sessions", operation_id = "list_siblings",
    params(("session_id" = String, Path), ("message_id" = String, Path)),
    responses((status = 200, description = "All of them", body = MessageList),
        (status = 404, description = "There is no such conversation or message", body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn siblings(
    App(state): App,
    PathIds(session, message): PathIds<SessionId, MessageId>,
) -> Result<Json<MessageList>, ApiError> {
    let mut messages = state.tutor.siblings(&session, &message).await?;
    messages.retain(|message| message.visible_to.contains(&Audience::Learner));
    Ok(Json(MessageList {
        messages: rated(&state, &session, messages).await?,
        next_cursor: None,
    }))
}

/// The messages with what is thought of them.
async fn rated(
    state: &AppState,
    session: &SessionId,
    messages: Vec<Message>,
) -> Result<Vec<Rated>, ApiError> {
    let feedback = state.tutor.feedback(session).await?;
    let mut feedback: HashMap<_, _> = feedback
        .into_iter()
        .map(|feedback| (feedback.message_id.clone(), feedback))
        .collect();
    let rated = messages.into_iter().map(|message| Rated {
        feedback: feedback.remove(&message.id).map(Feedback::from),
        message,
    });
    Ok(rated.collect())
}

/// Delete a message
///
/// For good. One that others follow is deleted only with all of them, which `branch=cut` asks for.
/// If the last message of the active branch is deleted, the one before it takes its place.
#[utoipa::path(delete, path = "/api/sessions/{session_id}/messages/{message_id}",
    tag = "sessions", operation_id = "delete_message",
    params(("session_id" = String, Path), ("message_id" = String, Path),
        ("branch" = Option<String>, Query, description =
            "`keep` (the default), or `cut` to delete all that follows the message too")),
    responses((status = 204, description = "Deleted"),
        (status = 404, description = "There is no such conversation or message", body = ErrorBody),
        (status = 409, description = "Other messages follow it, or a reply is being written",
            body = ErrorBody),
        (status = 422, description = "Validation Error", body = HTTPValidationError)))]
pub(super) async fn delete(
    App(state): App,
    PathIds(session, message): PathIds<SessionId, MessageId>,
    query: Query,
) -> Result<StatusCode, ApiError> {
    let mut checker = Checker::new("query");
    let with_branch = match query.get("branch") {
        None | Some("keep") => Some(false),
        Some("cut") => Some(true),
        Some(other) => {
            checker.within("branch", |c| {
                c.fail_value("branch is keep or cut", &Value::from(other));
            });
            None
        }
    };
    let with_branch = checker.finish(with_branch)?;
    let tutor = state.tutor;
    to_the_end(async move { tutor.delete_message(&session, &message, with_branch).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// In whose words messages are listed.
enum Format {
    Tutor,
    Ui,
    OpenAi,
    Anthropic,
    AgUi,
}

impl Format {
    fn of(query: &Query) -> Result<Self, ApiError> {
        let mut checker = Checker::new("query");
        let format = match query.get("format") {
            None | Some("tutor") => Some(Self::Tutor),
            Some("ui") => Some(Self::Ui),
            Some("openai") => Some(Self::OpenAi),
            Some("anthropic") => Some(Self::Anthropic),
            Some("agui") => Some(Self::AgUi),
            Some(other) => {
                checker.within("format", |c| {
                    let why = "a format is tutor, ui, openai, anthropic or agui";
                    c.fail_value(why, &Value::from(other));
                });
                None
            }
        };
        checker.finish(format)
    }
}

fn range(query: &Query) -> Result<Messages, ApiError> {
    let mut checker = Checker::new("query");
    let limit = query.number(&mut checker, "limit", DEFAULT_LIMIT, (1, MAX_PAGE as u64));
    let before = query.parsed(&mut checker, "before", str::parse);
    let after = query.parsed(&mut checker, "after", str::parse);
    let branch = match query.get("branch") {
        None | Some("active") => Some(Branch::Active),
        Some("all") => Some(Branch::All),
        Some(_) => query
            .parsed(&mut checker, "branch", str::parse)
            .map(Branch::Leaf),
    };
    let range = match (before, after) {
        (None, None) => MessageRange::Latest,
        (Some(message), None) => MessageRange::Before(message),
        (None, Some(message)) => MessageRange::After(message),
        (Some(_), Some(message)) => {
            let input = Value::from(message.as_str());
            checker.within("after", |c| {
                c.fail_value("send before or after, not both", &input);
            });
            MessageRange::Latest
        }
    };
    let messages = limit.zip(branch).map(|(limit, branch)| Messages {
        limit: usize::try_from(limit).unwrap_or(MAX_PAGE),
        branch,
        range,
    });
    checker.finish(messages)
}
