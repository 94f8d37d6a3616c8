//! What each write of sessions, messages and turns does to the tables. Each is called in one
//! transaction, which is rolled back when it refuses.
//!
//! Rows are locked in one order, so that no two writes wait for each other: the idempotency key,
//! the session, the turn.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use super::connection::{Connection, Value, values};
use super::reads::{self, Lock, Position};
use super::rows::{StoredSession, message_values, turn_values};
use crate::error::{Error, ErrorKind, Result};
use crate::id::MessageId;
use crate::message::Message;
use crate::session::{MessageCut, Session, SessionKey, SessionPatch};
use crate::store::{
    BegunTurn, Checkpoint, Existing, NewTurn, RunningTurn, TurnEnd, WholeSession, rules,
};
use crate::turn::{Turn, TurnKey, TurnStatus};

pub(super) async fn create_session(connection: &mut Connection<'_>, new: Session) -> Result<()> {
    insert_session(connection, &rules::created(new).into()).await
}

pub(super) async fn update_session(
    connection: &mut Connection<'_>,
    key: &SessionKey,
    patch: SessionPatch,
) -> Result<Session> {
    let mut stored = reads::session(connection, key, Lock::Yes)
        .await?
        .ok_or_else(|| Error::not_found("session", &key.id))?;
    if let Some(head) = &patch.head
        && reads::positions(connection, key, [head]).await?.is_empty()
    {
        return Err(rules::message_not_in_session(head));
    }
    rules::patch(&mut stored.session, patch);
    save(connection, &stored).await?;
    Ok(stored.session)
}

/// Messages and turns go with their session.
pub(super) async fn delete_session(
    connection: &mut Connection<'_>,
    key: &SessionKey,
) -> Result<bool> {
    let deleted = connection
        .execute(
            "DELETE FROM chat_sessions WHERE owner = $1 AND id = $2",
            values![key.owner.as_str(), key.id.as_str()],
        )
        .await?;
    Ok(deleted > 0)
}

pub(super) async fn delete_message(
    connection: &mut Connection<'_>,
    key: &SessionKey,
    cut: MessageCut,
) -> Result<u64> {
    let mut stored = reads::session(connection, key, Lock::Yes)
        .await?
        .ok_or_else(|| Error::not_found("session", &key.id))?;
    let id = &cut.message;
    let known = reads::positions(connection, key, [id]).await?;
    let first = known
        .get(id)
        .ok_or_else(|| Error::not_found("message", id))?;
    if let Some(running) = &stored.session.running_turn {
        return Err(rules::session_is_busy(&key.id, running));
    }
    let line = reads::line_from(connection, key, first.seq).await?;
    let parent = line.first().and_then(|(_, parent)| parent.clone());
    let mut deleted = HashSet::from([id.clone()]);
    for (later, parent) in line.into_iter().skip(1) {
        if parent.is_some_and(|parent| deleted.contains(&parent)) {
            if !cut.with_branch {
                return Err(rules::message_has_followers(id, &later));
            }
            deleted.insert(later);
        }
    }
    delete_all(
        connection,
        "messages",
        key,
        deleted.iter().map(MessageId::as_str),
    )
    .await?;
    let turns = reads::all_turns(connection, key).await?;
    let turns = turns.iter().map(|running| &running.turn);
    let gone = turns.filter(|turn| rules::goes_with(turn, &deleted));
    delete_all(
        connection,
        "tutor_turns",
        key,
        gone.map(|turn| turn.id.as_str()),
    )
    .await?;
    let newest = reads::newest(connection, key).await?;
    stored.next_seq = newest.as_ref().map_or(0, |(_, seq)| seq + 1);
    rules::cut(
        &mut stored.session,
        &deleted,
        parent,
        newest.map(|(id, _)| id),
        cut.updated_at,
    );
    save(connection, &stored).await?;
    Ok(deleted.len() as u64)
}

/// Deletes rows of a session by their ids.
async fn delete_all(
    connection: &mut Connection<'_>,
    table: &str,
    key: &SessionKey,
    ids: impl Iterator<Item = &str>,
) -> Result<()> {
    let sql = match table {
        "messages" => connection.pick(
            "DELETE FROM messages WHERE owner = $1 AND session_id = $2
                AND id IN (SELECT value FROM json_each($3))",
            "DELETE FROM messages WHERE owner = $1 AND session_id = $2
                AND id IN (SELECT json_array_elements_text($3::JSON))",
        ),
        _ => connection.pick(
            "DELETE FROM tutor_turns WHERE owner = $1 AND session_id = $2
                AND id IN (SELECT value FROM json_each($3))",
            "DELETE FROM tutor_turns WHERE owner = $1 AND session_id = $2
                AND id IN (SELECT json_array_elements_text($3::JSON))",
        ),
    };
    let ids = Json::from(ids.collect::<Vec<_>>()).to_string();
    let values = values![key.owner.as_str(), key.id.as_str(), ids];
    connection.execute(sql, values).await?;
    Ok(())
}

pub(super) async fn import_session(
    connection: &mut Connection<'_>,
    whole: WholeSession,
    existing: Existing,
) -> Result<()> {
    let key = whole.session.key();
    match reads::session(connection, &key, Lock::Yes).await {
        // A damaged session can be replaced.
        Err(error) if error.kind() == ErrorKind::DataCorrupt && existing == Existing::Replace => {
            delete_session(connection, &key).await?;
        }
        found => {
            if let Some(found) = found? {
                rules::check_replacing(&found.session, existing)?;
                delete_session(connection, &key).await?;
            }
        }
    }
    let mut stored = StoredSession::from(whole.session);
    insert_session(connection, &stored).await?;
    let mut known = HashMap::new();
    for message in &whole.messages {
        insert_message(connection, &mut stored, message, &mut known).await?;
    }
    let mut partial = whole.partial;
    for turn in whole.turns {
        let partial = match turn.status {
            TurnStatus::Running => partial.take(),
            _ => None,
        };
        insert_turn(connection, &RunningTurn { turn, partial }).await?;
    }
    save(connection, &stored).await
}

pub(super) async fn begin_turn(
    connection: &mut Connection<'_>,
    mut new: NewTurn,
) -> Result<BegunTurn> {
    let turn_key = new.turn.key();
    if let Some(idempotency_key) = &new.turn.idempotency_key {
        if connection.is_shared() {
            // There may be no row yet that could be locked.
            connection
                .rows(
                    "SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 1))::TEXT",
                    values![turn_key.owner.as_str(), idempotency_key.as_str()],
                )
                .await?;
        }
        let earlier = reads::turn_of(connection, &turn_key.owner, idempotency_key).await?;
        if let Some(earlier) = earlier {
            return if earlier.fingerprint == new.turn.fingerprint {
                Ok(BegunTurn::Existing(Box::new(earlier)))
            } else {
                Err(rules::key_reused(&earlier.id))
            };
        }
    }
    let key = SessionKey::new(turn_key.owner.clone(), new.turn.session_id.clone());
    let found = reads::session(connection, &key, Lock::Yes).await?;
    let created = found.is_none();
    let mut stored = match (found, new.new_session.take()) {
        (Some(_), Some(_)) => return Err(rules::session_exists(&key.id)),
        (None, None) => return Err(Error::not_found("session", &key.id)),
        (None, Some(session)) => rules::created(session).into(),
        (Some(stored), None) => stored,
    };
    if let Some(running) = &stored.session.running_turn {
        return Err(rules::session_is_busy(&key.id, running));
    }
    if stored.session.head != new.expected_head {
        return Err(rules::head_moved(&key.id, stored.session.head.as_ref()));
    }
    let mut known = reads::positions(connection, &key, named(&new)).await?;
    rules::check_messages(&new, |id| Ok(known.get(id).map(|found| found.role)))?;

    rules::begin(&mut stored.session, &new);
    if created {
        // The counts are set below, when the messages have shown whether the session is a line.
        insert_session(connection, &stored).await?;
    }
    for message in &new.messages {
        insert_message(connection, &mut stored, message, &mut known).await?;
    }
    save(connection, &stored).await?;
    let running = RunningTurn {
        turn: new.turn,
        partial: None,
    };
    insert_turn(connection, &running).await?;
    Ok(BegunTurn::New)
}

/// The messages of the session that a beginning turn needs to know of.
fn named(new: &NewTurn) -> impl Iterator<Item = &MessageId> {
    let written = new.messages.iter();
    written
        .flat_map(|message| std::iter::once(&message.id).chain(&message.parent_id))
        .chain([&new.turn.reply_message_id, &new.turn.user_message_id])
}

pub(super) async fn checkpoint_turn(
    connection: &mut Connection<'_>,
    key: &TurnKey,
    checkpoint: Checkpoint,
) -> Result<()> {
    let mut running = running_turn(connection, key, Lock::Yes).await?;
    rules::check_checkpoint(&running.turn, &checkpoint)?;
    rules::checkpoint(&mut running, checkpoint);
    save_turn(connection, key, &running).await
}

pub(super) async fn finish_turn(
    connection: &mut Connection<'_>,
    key: &TurnKey,
    end: TurnEnd,
) -> Result<Turn> {
    // Only to learn the session, which is locked first.
    let RunningTurn { mut turn, .. } = running_turn(connection, key, Lock::No).await?;
    let session_key = SessionKey::new(key.owner.clone(), turn.session_id.clone());
    let stored = reads::session(connection, &session_key, Lock::Yes).await?;
    // It may have been deleted meanwhile.
    let mut stored = stored.ok_or_else(|| Error::not_found("turn", &key.id))?;
    if connection.is_shared() {
        turn = running_turn(connection, key, Lock::Yes).await?.turn;
    }
    rules::check_end(&turn, &end)?;
    if let Some(reply) = rules::end(&mut stored.session, &mut turn, end) {
        let mut known = reads::positions(connection, &session_key, &reply.parent_id).await?;
        insert_message(connection, &mut stored, &reply, &mut known).await?;
    }
    save(connection, &stored).await?;
    let ended = RunningTurn {
        turn,
        partial: None,
    };
    save_turn(connection, key, &ended).await?;
    Ok(ended.turn)
}

async fn running_turn(
    connection: &mut Connection<'_>,
    key: &TurnKey,
    lock: Lock,
) -> Result<RunningTurn> {
    let found = reads::turn(connection, key, lock).await?;
    found.ok_or_else(|| Error::not_found("turn", &key.id))
}

async fn insert_session(connection: &mut Connection<'_>, stored: &StoredSession) -> Result<()> {
    let inserted = connection
        .execute(
            "INSERT INTO chat_sessions (owner, id, title, created_at, updated_at, message_count,
                next_seq, head, running_turn, forked, details, checksum)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (owner, id) DO NOTHING",
            stored.values()?,
        )
        .await?;
    if inserted == 0 {
        return Err(rules::session_exists(&stored.session.id));
    }
    Ok(())
}

async fn save(connection: &mut Connection<'_>, stored: &StoredSession) -> Result<()> {
    connection
        .execute(
            "UPDATE chat_sessions SET title = $3, created_at = $4, updated_at = $5,
                message_count = $6, next_seq = $7, head = $8, running_turn = $9, forked = $10,
                details = $11, checksum = $12
            WHERE owner = $1 AND id = $2",
            stored.values()?,
        )
        .await?;
    Ok(())
}

async fn save_turn(
    connection: &mut Connection<'_>,
    key: &TurnKey,
    running: &RunningTurn,
) -> Result<()> {
    connection
        .execute(
            "UPDATE tutor_turns SET session_id = $3, status = $4, idempotency_key = $5,
                lease_until = $6, partial = $7, details = $8, checksum = $9
            WHERE owner = $1 AND id = $2",
            turn_values(key, running)?,
        )
        .await?;
    Ok(())
}

/// Stores a turn that is not there.
async fn insert_turn(connection: &mut Connection<'_>, running: &RunningTurn) -> Result<()> {
    let key = running.turn.key();
    let inserted = connection
        .execute(
            "INSERT INTO tutor_turns
                (owner, id, session_id, status, idempotency_key, lease_until, partial, details,
                checksum)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
            turn_values(&key, running)?,
        )
        .await?;
    if inserted > 0 {
        return Ok(());
    }
    if let Some(found) = reads::turn(connection, &key, Lock::No).await? {
        return Err(rules::turn_exists(&found.turn.id));
    }
    let text = running.turn.idempotency_key.as_deref().unwrap_or_default();
    match reads::turn_of(connection, &key.owner, text).await? {
        Some(found) => Err(rules::key_reused(&found.id)),
        None => Err(rules::turn_exists(&key.id)),
    }
}

/// Stores a message whose parent is one of the `known`, and makes it known.
async fn insert_message(
    connection: &mut Connection<'_>,
    stored: &mut StoredSession,
    message: &Message,
    known: &mut HashMap<MessageId, Position>,
) -> Result<()> {
    let seq = stored.next_seq;
    stored.next_seq += 1;
    let parent = message.parent_id.as_ref().and_then(|id| known.get(id));
    stored.forked |= parent.map(|parent| parent.seq) != seq.checked_sub(1);
    connection
        .execute(
            "INSERT INTO messages (owner, session_id, seq, id, parent_id, turn_id, role, content,
                timestamp, details, checksum)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            message_values(&stored.session.owner, message, seq)?,
        )
        .await?;
    let role = message.role;
    known.insert(message.id.clone(), Position { seq, role });
    Ok(())
}
