//! A thread as it is stored: where a run's last message belongs in it, and all of it for a client that
//! has nothing yet.

use axum::body::Body;
use axum::response::Response;
use bytes::BytesMut;
use tutor_core::message::{Audience, Part};
use tutor_core::session::MAX_PAGE;
use tutor_core::turn::InputMessage;
use tutor_core::{Content, ErrorKind, Message, MessageId, Messages, Role, SessionId, Tutor};

use crate::encode::agui::AgUi;
use crate::error::ApiError;
use crate::routes::messages::describe_files;
use crate::sse;
use crate::state::AppState;
use crate::wire::history;

/// Bytes of messages in a snapshot, at most. The newest ones are sent, and that others are missing
/// is said.
const MAX_SNAPSHOT_BYTES: usize = 16 << 20;

/// What the last message of a run is to the thread.
pub(super) enum Place {
    /// Not stored, as far as anybody can tell.
    New,
    /// Stored under this id, and not answered.
    Unanswered(MessageId),
    /// The stored one in other words.
    Edited(MessageId),
    /// Stored, and answered or no question.
    Known,
}

/// Compares a message of the learner's with what is stored under its id.
pub(super) async fn place(tutor: &Tutor, thread: &SessionId, last: &InputMessage) -> Place {
    if repeats_reply(tutor, thread, &last.content).await {
        return Place::Known;
    }
    let Some(id) = &last.id else {
        return Place::New;
    };
    // Neither a thread nor a message that is not there is an error here.
    let Ok(siblings) = tutor.siblings(thread, id).await else {
        return Place::New;
    };
    for stored in siblings {
        if stored.role != Role::User || !stored.content.says_same(&last.content) {
            continue;
        }
        // An error if it is on another branch.
        let after = Messages::after(stored.id.clone(), 1);
        match tutor.messages(thread, after).await {
            Ok(page) if page.items.is_empty() => return Place::Unanswered(stored.id),
            Ok(_) => return Place::Known,
            Err(_) => {}
        }
    }
    Place::Edited(id.clone())
}

/// True if the content is nothing but what tools answered in the reply at the end: a snapshot has
/// that as messages of their own.
async fn repeats_reply(tutor: &Tutor, thread: &SessionId, content: &Content) -> bool {
    let Some(results) = results(content).filter(|results| results.len() == parts(content)) else {
        return false;
    };
    let Ok(page) = tutor.messages(thread, Messages::latest(1)).await else {
        return false;
    };
    let reply = page.items.last().filter(|m| m.role == Role::Assistant);
    let Some(known) = reply.and_then(|reply| self::results(&reply.content)) else {
        return false;
    };
    !results.is_empty() && results.iter().all(|call| known.contains(call))
}

fn parts(content: &Content) -> usize {
    match content {
        Content::Text(_) => 0,
        Content::Parts(parts) => parts.len(),
    }
}

/// Which calls are answered; `None` in a text.
fn results(content: &Content) -> Option<Vec<&str>> {
    let Content::Parts(parts) = content else {
        return None;
    };
    let calls = parts.iter().filter_map(|part| match part {
        Part::ToolResult { call_id, .. } => Some(call_id.as_str()),
        _ => None,
    });
    Some(calls.collect())
}

/// The thread as it is, without asking anybody.
pub(super) async fn snapshot(
    state: &AppState,
    thread: &SessionId,
    encoder: &AgUi,
) -> Result<Response, ApiError> {
    let (mut messages, is_truncated) = all(&state.tutor, thread).await?;
    messages.retain(|message| message.visible_to.contains(&Audience::Learner));
    describe_files(state, &mut messages).await?;
    let mut out = BytesMut::new();
    encoder.begin(&mut out);
    if is_truncated {
        AgUi::truncated(&mut out);
    }
    encoder.snapshot(&history::agui(&messages), &mut out);
    encoder.end(&mut out);
    Ok(sse::stream_response::<AgUi>(Body::from(out.freeze())))
}

/// The messages of a thread, oldest first; true if the oldest ones are missing. None of a thread that
/// does not exist (yet).
async fn all(tutor: &Tutor, thread: &SessionId) -> Result<(Vec<Message>, bool), ApiError> {
    let mut newest_first = Vec::new();
    let mut bytes = 0;
    let mut range = Messages::latest(MAX_PAGE);
    let is_truncated = 'pages: loop {
        let page = match tutor.messages(thread, range).await {
            Ok(page) => page,
            Err(error) if error.kind() == ErrorKind::NotFound => break false,
            Err(error) => return Err(error.into()),
        };
        let first = page.items.first().map(|message| message.id.clone());
        for message in page.items.into_iter().rev() {
            bytes += message.content.len();
            if bytes > MAX_SNAPSHOT_BYTES && !newest_first.is_empty() {
                break 'pages true;
            }
            newest_first.push(message);
        }
        match (page.next_cursor, first) {
            (Some(_), Some(first)) => range = Messages::before(first, MAX_PAGE),
            _ => break false,
        }
    };
    newest_first.reverse();
    Ok((newest_first, is_truncated))
}
