//! What all stores of this crate decide alike: how refusals read, and what a turn does to its
//! session. Where the data is does not matter here.

use std::collections::HashSet;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{MessageId, SessionId, TurnId};
use crate::message::{Message, MessageStatus, Metadata, Role};
use crate::session::{MAX_PAGE, Session, SessionKey, SessionPatch};
use crate::store::{
    Checkpoint, Existing, MAX_RECORD_KEY_BYTES, NewTurn, RecordWrite, RunningTurn, TurnEnd,
};
use crate::time::Timestamp;
use crate::turn::{Turn, TurnStatus};

pub(crate) fn check_limit(limit: usize) -> Result<()> {
    if (1..=MAX_PAGE).contains(&limit) {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "a page has 1 to {MAX_PAGE} items, not {limit}"
    )))
}

/// Refuses a turn that no state of the store could take.
pub(crate) fn check_new_turn(new: &NewTurn) -> Result<()> {
    let turn = &new.turn;
    let refuse = |why| Err(Error::invalid_input(why).with_context("turn", &turn.id));
    if turn.status != TurnStatus::Running {
        return refuse("a turn begins as running");
    }
    if new
        .new_session
        .as_ref()
        .is_some_and(|s| s.owner != turn.owner || s.id != turn.session_id)
    {
        return refuse("the new session is not the one that the turn names");
    }
    if new
        .messages
        .iter()
        .any(|message| message.session_id != turn.session_id)
    {
        return refuse("a message names another session than its turn");
    }
    if new
        .messages
        .last()
        .is_some_and(|last| last.id != turn.user_message_id)
    {
        return refuse("the last message is not the one that the turn answers");
    }
    Ok(())
}

/// The checks of messages, the last ones of `begin_turn`. `stored` finds a message of the session
/// and tells its role.
pub(crate) fn check_messages(
    new: &NewTurn,
    stored: impl Fn(&MessageId) -> Result<Option<Role>>,
) -> Result<()> {
    let mut batch = HashSet::new();
    for message in &new.messages {
        if !batch.insert(&message.id) || stored(&message.id)?.is_some() {
            return Err(message_taken(&message.id));
        }
    }
    let reply = &new.turn.reply_message_id;
    if batch.contains(reply) || stored(reply)?.is_some() {
        return Err(message_taken(reply));
    }
    let mut earlier = HashSet::new();
    for message in &new.messages {
        if let Some(parent) = &message.parent_id
            && !earlier.contains(parent)
            && stored(parent)?.is_none()
        {
            return Err(
                Error::invalid_input("a message's parent is not in the session")
                    .with_context("message", &message.id)
                    .with_context("parent", parent),
            );
        }
        earlier.insert(&message.id);
    }
    let answered = match new.messages.last() {
        Some(last) => Some(last.role),
        None => stored(&new.turn.user_message_id)?,
    };
    if answered == Some(Role::User) {
        return Ok(());
    }
    Err(
        Error::invalid_input("a turn answers a learner's message of its session")
            .with_context("message", &new.turn.user_message_id),
    )
}

/// Refuses an end that does not fit its turn, whatever else is stored.
pub(crate) fn check_end(turn: &Turn, end: &TurnEnd) -> Result<()> {
    let refuse = |why| Err(Error::invalid_input(why).with_context("turn", &turn.id));
    if turn.status != TurnStatus::Running {
        return Err(turn_has_ended(&turn.id));
    }
    if end
        .expected_lease
        .is_some_and(|lease| lease != turn.lease_until)
    {
        return Err(
            Error::conflict("the turn's lease was renewed: another instance runs it")
                .with_context("turn", &turn.id),
        );
    }
    if end.status == TurnStatus::Running {
        return refuse("a turn does not end as running");
    }
    match &end.reply {
        Some(reply) => check_reply(turn, reply),
        None => Ok(()),
    }
}

/// Refuses a checkpoint that does not fit its turn.
pub(crate) fn check_checkpoint(turn: &Turn, checkpoint: &Checkpoint) -> Result<()> {
    if turn.status != TurnStatus::Running {
        return Err(turn_has_ended(&turn.id));
    }
    match &checkpoint.partial {
        Some(partial) if partial.status != MessageStatus::Partial => {
            Err(Error::invalid_input("the reply of a checkpoint is partial")
                .with_context("turn", &turn.id))
        }
        Some(partial) => check_reply(turn, partial),
        None => Ok(()),
    }
}

fn check_reply(turn: &Turn, reply: &Message) -> Result<()> {
    if reply.id == turn.reply_message_id
        && reply.session_id == turn.session_id
        && reply.parent_id.as_ref() == Some(&turn.user_message_id)
    {
        return Ok(());
    }
    Err(
        Error::invalid_input("a reply has the id that its turn announced, and answers its message")
            .with_context("turn", &turn.id)
            .with_context("message", &reply.id),
    )
}

/// Refuses to put an imported session in the place of one that is there, unless it may be.
pub(crate) fn check_replacing(found: &Session, existing: Existing) -> Result<()> {
    match (existing, &found.running_turn) {
        (Existing::Refuse, _) => Err(session_exists(&found.id)),
        (Existing::Replace, Some(turn)) => Err(session_is_busy(&found.id, turn)),
        (Existing::Replace, None) => Ok(()),
    }
}

pub(crate) fn check_record_write(write: &RecordWrite) -> Result<()> {
    if write.kind.len() > MAX_RECORD_KEY_BYTES || write.key.len() > MAX_RECORD_KEY_BYTES {
        return Err(Error::invalid_input(format!(
            "a record's kind and key have at most {MAX_RECORD_KEY_BYTES} bytes"
        )));
    }
    Ok(())
}

/// A session as `create_session` stores it.
pub(crate) fn created(session: Session) -> Session {
    Session {
        message_count: 0,
        head: None,
        running_turn: None,
        ..session
    }
}

/// What a patch does to a session. Its time never goes back. Its head is in the session: that is
/// for the store to check.
pub(crate) fn patch(session: &mut Session, patch: SessionPatch) {
    if let Some(title) = patch.made_title.filter(|_| !session.own_title) {
        session.title = title;
    }
    if let Some(title) = patch.title {
        session.title = title;
        session.own_title = true;
    }
    if let Some(metadata) = patch.metadata {
        session.metadata = metadata;
    }
    if let Some(head) = patch.head {
        session.head = Some(head);
    }
    if let Some(summary) = patch.summary {
        session.summary = Some(summary);
    }
    session.updated_at = session.updated_at.max(patch.updated_at);
}

/// What the deletion of messages does to their session. `parent` is what the first of them
/// followed, `newest` the one that was stored last of those that are left.
pub(crate) fn cut(
    session: &mut Session,
    deleted: &HashSet<MessageId>,
    parent: Option<MessageId>,
    newest: Option<MessageId>,
    updated_at: crate::time::Timestamp,
) {
    session.message_count -= deleted.len() as u64;
    if session
        .head
        .as_ref()
        .is_some_and(|head| deleted.contains(head))
    {
        session.head = parent.or(newest);
    }
    if session
        .summary
        .as_ref()
        .is_some_and(|summary| deleted.contains(&summary.through))
    {
        session.summary = None;
    }
    session.updated_at = session.updated_at.max(updated_at);
}

/// True if a turn goes with these messages.
pub(crate) fn goes_with(turn: &Turn, deleted: &HashSet<MessageId>) -> bool {
    deleted.contains(&turn.user_message_id) || deleted.contains(&turn.reply_message_id)
}

/// What the beginning of a turn does to its session.
pub(crate) fn begin(session: &mut Session, new: &NewTurn) {
    session.head = Some(new.turn.user_message_id.clone());
    session.running_turn = Some(new.turn.id.clone());
    session.message_count += new.messages.len() as u64;
    session.preferences = new.preferences.clone();
    if let Some(title) = new.made_title.as_ref().filter(|_| !session.own_title) {
        session.title.clone_from(title);
    }
    session.updated_at = session.updated_at.max(new.turn.started_at);
}

/// What a checkpoint does to a running turn.
pub(crate) fn checkpoint(running: &mut RunningTurn, checkpoint: Checkpoint) {
    running.turn.lease_until = checkpoint.lease_until;
    if let Some(partial) = checkpoint.partial {
        running.partial = Some(partial);
        running.turn.trace = checkpoint.trace;
    }
}

/// What the end of a turn does to it and its session. Gives the reply back, to be stored.
pub(crate) fn end(session: &mut Session, turn: &mut Turn, end: TurnEnd) -> Option<Message> {
    end.apply_to(turn);
    session.running_turn = None;
    session.updated_at = session.updated_at.max(end.ended_at);
    if let Some(reply) = &end.reply {
        session.message_count += 1;
        if session.head.as_ref() == Some(&turn.user_message_id) {
            session.head = Some(reply.id.clone());
        }
    }
    end.reply
}

/// The `reason` in the context of the error for a key that names another request.
const KEY_REUSED: &str = "key_reused";

pub(crate) fn key_reused(turn: &TurnId) -> Error {
    Error::conflict("the idempotency key was used for another request: use a new one")
        .with_context("reason", KEY_REUSED)
        .with_context("turn", turn)
}

pub(crate) fn session_exists(session: &SessionId) -> Error {
    Error::conflict("a session of this id exists").with_context("session", session)
}

pub(crate) fn session_is_busy(session: &SessionId, turn: &TurnId) -> Error {
    Error::conflict("the session has a running turn: wait for it or cancel it")
        .with_context("session", session)
        .with_context("turn", turn)
}

pub(crate) fn head_moved(session: &SessionId, head: Option<&MessageId>) -> Error {
    Error::conflict("the session went on meanwhile: read it again")
        .with_context("session", session)
        .with_context("head", head.map_or("none", MessageId::as_str))
}

pub(crate) fn turn_exists(turn: &TurnId) -> Error {
    Error::conflict("a turn of this id exists").with_context("turn", turn)
}

pub(crate) fn turn_has_ended(turn: &TurnId) -> Error {
    Error::conflict("the turn has ended").with_context("turn", turn)
}

fn message_taken(message: &MessageId) -> Error {
    Error::conflict("the session has a message of this id").with_context("message", message)
}

pub(crate) fn message_not_in_session(message: &MessageId) -> Error {
    Error::invalid_input("no such message in this session").with_context("message", message)
}

pub(crate) fn message_not_on_branch(message: &MessageId) -> Error {
    Error::invalid_input("the message is not on this branch").with_context("message", message)
}

pub(crate) fn message_has_followers(message: &MessageId, follower: &MessageId) -> Error {
    Error::conflict("other messages follow this one: delete them too, or none")
        .with_context("message", message)
        .with_context("follower", follower)
}

pub(crate) fn record_changed(kind: &str, index: usize) -> Error {
    Error::conflict("the record is not as expected: read it again")
        .with_context("kind", kind)
        .with_context("index", index)
}

/// The title, in a list, of a session of which its own row is damaged.
const DAMAGED_TITLE: &str = "Damaged conversation";

/// A session whose own row is damaged, as the list knows it.
pub(crate) fn damaged_session(key: SessionKey, updated_at: Timestamp) -> Session {
    Session {
        id: key.id,
        owner: key.owner,
        title: DAMAGED_TITLE.to_owned(),
        created_at: updated_at,
        updated_at,
        message_count: 0,
        head: None,
        running_turn: None,
        preferences: Metadata::new(),
        metadata: Metadata::new(),
        own_title: true,
        summary: None,
    }
}

/// Names the key of a record that is damaged: whoever reads on behind it needs that.
pub(crate) fn about_record(error: Error, key: &[u8]) -> Error {
    match std::str::from_utf8(key) {
        Ok(key) if error.kind() == ErrorKind::DataCorrupt => error.with_context("key", key),
        _ => error,
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::StoreUnavailable, "the store is closed")
}
