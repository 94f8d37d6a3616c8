//! What each write does to the rows of sessions, messages and turns.

use std::collections::{BTreeMap, HashSet};

use super::draft::{Draft, Rows};
use super::keys;
use super::reads::{position, turn_of};
use super::rows::{Compact, MessageRow, PositionRow, SessionRow, StoredSession, TurnRow};
use super::salvage;
use super::tails::Effect;
use crate::error::{Error, ErrorKind, Result};
use crate::id::TurnId;
use crate::message::Message;
use crate::session::{MessageCut, Session, SessionKey, SessionPatch};
use crate::store::{
    BegunTurn, Checkpoint, Existing, NewTurn, RunningTurn, TurnEnd, WholeSession, rules,
};
use crate::time::Timestamp;
use crate::turn::{Turn, TurnKey, TurnStatus};

pub(super) fn create_session(draft: &mut Draft<'_>, new: Session) -> Result<()> {
    let key = new.key();
    if draft.session(&key)?.is_some() {
        return Err(rules::session_exists(&key.id));
    }
    save(draft, rules::created(new).into(), None).map(drop)
}

pub(super) fn update_session(
    draft: &mut Draft<'_>,
    key: &SessionKey,
    patch: SessionPatch,
) -> Result<Session> {
    let mut stored = draft
        .session(key)?
        .ok_or_else(|| Error::not_found("session", &key.id))?;
    if let Some(head) = &patch.head
        && position(draft, key, head)?.is_none()
    {
        return Err(rules::message_not_in_session(head));
    }
    let listed_at = stored.session.updated_at;
    rules::patch(&mut stored.session, patch);
    let stored = save(draft, stored, Some(listed_at))?;
    Ok(stored.session)
}

/// All in one write, so that half a session is never seen: long ones take their time. A session of
/// which something is damaged is deleted too.
pub(super) fn delete_session(draft: &mut Draft<'_>, key: &SessionKey) -> Result<bool> {
    match delete_sound_session(draft, key) {
        Err(error) if error.kind() == ErrorKind::DataCorrupt => {
            salvage::delete_session(draft, key)?;
            Ok(true)
        }
        done => done,
    }
}

fn delete_sound_session(draft: &mut Draft<'_>, key: &SessionKey) -> Result<bool> {
    let Some(StoredSession { session, .. }) = draft.session(key)? else {
        return Ok(false);
    };
    for (turn_key, value) in draft.scan(&keys::ended_turns(key))? {
        let row: TurnRow = draft.decode(&turn_key, &value)?;
        forget_turn(draft, &RunningTurn::from(row).turn)?;
    }
    if let Some(id) = session.running_turn {
        let running_key = keys::running_turn(&TurnKey::new(key.owner.clone(), id));
        let row: TurnRow = draft.expect_row(&running_key)?;
        draft.remove(&running_key)?;
        forget_turn(draft, &RunningTurn::from(row).turn)?;
    }
    draft.remove(&keys::listing(&key.owner, session.updated_at, &key.id))?;
    draft.remove_all(&keys::of_session(key))?;
    draft.note(Effect::Deleted(key.clone()));
    Ok(true)
}

/// Reads all messages behind the deleted one, and all ended turns of the session.
pub(super) fn delete_message(
    draft: &mut Draft<'_>,
    key: &SessionKey,
    cut: &MessageCut,
) -> Result<u64> {
    let mut stored = draft
        .session(key)?
        .ok_or_else(|| Error::not_found("session", &key.id))?;
    let id = &cut.message;
    let first = position(draft, key, id)?.ok_or_else(|| Error::not_found("message", id))?;
    if let Some(running) = &stored.session.running_turn {
        return Err(rules::session_is_busy(&key.id, running));
    }
    let row: MessageRow = draft.expect_row(&keys::message(key, first.seq))?;
    let parent = row.into_message(&key.id).parent_id;
    // A message has a greater number than its parent.
    let mut deleted = BTreeMap::from([(first.seq, id.clone())]);
    let mut last_kept = first.seq.checked_sub(1);
    for seq in first.seq + 1..stored.next_seq {
        let Some(row) = draft.row::<MessageRow>(&keys::message(key, seq))? else {
            continue;
        };
        if row
            .parent
            .is_some_and(|parent| deleted.contains_key(&parent))
        {
            if !cut.with_branch {
                return Err(rules::message_has_followers(id, &row.id.0));
            }
            deleted.insert(seq, row.id.0);
        } else {
            last_kept = Some(seq);
        }
    }
    for (seq, id) in &deleted {
        draft.remove(&keys::message(key, *seq))?;
        draft.remove(&keys::position(key, id))?;
    }
    let deleted: HashSet<_> = deleted.into_values().collect();
    for (turn_key, value) in draft.scan(&keys::ended_turns(key))? {
        let turn = RunningTurn::from(draft.decode::<TurnRow>(&turn_key, &value)?).turn;
        if rules::goes_with(&turn, &deleted) {
            draft.remove(&turn_key)?;
            forget_turn(draft, &turn)?;
        }
    }
    let listed_at = stored.session.updated_at;
    let mut newest = None;
    // Numbers of messages that were deleted before are without one.
    while let Some(seq) = last_kept {
        if let Some(row) = draft.row::<MessageRow>(&keys::message(key, seq))? {
            newest = Some(row.id.0);
            break;
        }
        last_kept = seq.checked_sub(1);
    }
    rules::cut(
        &mut stored.session,
        &deleted,
        parent,
        newest,
        cut.updated_at,
    );
    stored.next_seq = last_kept.map_or(0, |seq| seq + 1);
    stored.last = None;
    draft.note(Effect::Deleted(key.clone()));
    save(draft, stored, Some(listed_at))?;
    Ok(deleted.len() as u64)
}

/// All in one write, as when a session is deleted. A damaged session can be replaced.
pub(super) fn import_session(
    draft: &mut Draft<'_>,
    whole: WholeSession,
    existing: Existing,
) -> Result<()> {
    let WholeSession {
        session: new,
        messages,
        turns,
        mut partial,
    } = whole;
    let key = new.key();
    match draft.session(&key) {
        Err(error) if error.kind() == ErrorKind::DataCorrupt && existing == Existing::Replace => {
            delete_session(draft, &key)?;
        }
        found => {
            if let Some(found) = found? {
                rules::check_replacing(&found.session, existing)?;
                delete_session(draft, &key)?;
            }
        }
    }
    let mut stored = StoredSession::from(new);
    stored.next_seq = 0;
    for message in messages {
        insert_message(draft, &mut stored, message)?;
    }
    for turn in turns {
        let turn_key = turn.key();
        if draft.raw(&keys::turn(&turn_key))?.is_some() {
            return Err(rules::turn_exists(&turn_key.id));
        }
        draft.insert(&keys::turn(&turn_key), &Compact(key.id.clone()))?;
        if let Some(text) = &turn.idempotency_key {
            let taken = keys::idempotency(&key.owner, text);
            if let Some(Compact(id)) = draft.row::<Compact<TurnId>>(&taken)? {
                return Err(rules::key_reused(&id));
            }
            draft.insert(&taken, &Compact(turn_key.id.clone()))?;
        }
        let (place, partial) = match turn.status {
            TurnStatus::Running => (keys::running_turn(&turn_key), partial.take()),
            _ => (keys::ended_turn(&key, &turn_key.id), None),
        };
        draft.insert(&place, &TurnRow::from(RunningTurn { turn, partial }))?;
    }
    save(draft, stored, None).map(drop)
}

/// Removes what leads to a turn.
fn forget_turn(draft: &mut Draft<'_>, turn: &Turn) -> Result<()> {
    draft.remove(&keys::turn(&turn.key()))?;
    if let Some(key) = &turn.idempotency_key {
        draft.remove(&keys::idempotency(&turn.owner, key))?;
    }
    Ok(())
}

pub(super) fn begin_turn(draft: &mut Draft<'_>, mut new: NewTurn) -> Result<BegunTurn> {
    if let Some(key) = &new.turn.idempotency_key
        && let Some(earlier) = turn_of(draft, &new.turn.owner, key)?
    {
        return if earlier.fingerprint == new.turn.fingerprint {
            Ok(BegunTurn::Existing(Box::new(earlier)))
        } else {
            Err(rules::key_reused(&earlier.id))
        };
    }
    let key = SessionKey::new(new.turn.owner.clone(), new.turn.session_id.clone());
    let (mut stored, listed_at) = match (draft.session(&key)?, new.new_session.take()) {
        (Some(_), Some(_)) => return Err(rules::session_exists(&key.id)),
        (None, None) => return Err(Error::not_found("session", &key.id)),
        (None, Some(session)) => (StoredSession::from(rules::created(session)), None),
        (Some(stored), None) => {
            let listed_at = stored.session.updated_at;
            (stored, Some(listed_at))
        }
    };
    if let Some(running) = &stored.session.running_turn {
        return Err(rules::session_is_busy(&key.id, running));
    }
    if stored.session.head != new.expected_head {
        return Err(rules::head_moved(&key.id, stored.session.head.as_ref()));
    }
    rules::check_messages(&new, |id| match &stored.last {
        Some((last, role)) if last == id => Ok(Some(*role)),
        _ => Ok(position(draft, &key, id)?.map(|found| found.role)),
    })?;
    let turn_key = new.turn.key();
    if draft.raw(&keys::turn(&turn_key))?.is_some() {
        return Err(rules::turn_exists(&turn_key.id));
    }

    rules::begin(&mut stored.session, &new);
    for message in new.messages {
        insert_message(draft, &mut stored, message)?;
    }
    draft.insert(&keys::turn(&turn_key), &Compact(key.id))?;
    if let Some(key) = &new.turn.idempotency_key {
        let row = Compact(new.turn.id.clone());
        draft.insert(&keys::idempotency(&new.turn.owner, key), &row)?;
    }
    let running = RunningTurn {
        turn: new.turn,
        partial: None,
    };
    draft.insert(&keys::running_turn(&turn_key), &TurnRow::from(running))?;
    save(draft, stored, listed_at)?;
    Ok(BegunTurn::New)
}

pub(super) fn checkpoint_turn(
    draft: &mut Draft<'_>,
    key: &TurnKey,
    checkpoint: Checkpoint,
) -> Result<()> {
    let mut running = running_turn(draft, key)?;
    rules::check_checkpoint(&running.turn, &checkpoint)?;
    rules::checkpoint(&mut running, checkpoint);
    draft.replace(&keys::running_turn(key), &TurnRow::from(running))
}

pub(super) fn finish_turn(draft: &mut Draft<'_>, key: &TurnKey, end: TurnEnd) -> Result<Turn> {
    let RunningTurn { mut turn, .. } = match draft.take::<TurnRow>(&keys::running_turn(key))? {
        Some(row) => row.into(),
        None => return Err(not_running(draft, key)?),
    };
    rules::check_end(&turn, &end)?;
    let session_key = SessionKey::new(key.owner.clone(), turn.session_id.clone());
    let mut stored = draft
        .session(&session_key)?
        .ok_or_else(|| super::envelope::damaged(&keys::session(&session_key)))?;
    let listed_at = stored.session.updated_at;
    if let Some(reply) = rules::end(&mut stored.session, &mut turn, end) {
        insert_message(draft, &mut stored, reply)?;
    }
    let ended = RunningTurn {
        turn,
        partial: None,
    };
    draft.insert(
        &keys::ended_turn(&session_key, &key.id),
        &TurnRow::from(ended.clone()),
    )?;
    save(draft, stored, Some(listed_at))?;
    Ok(ended.turn)
}

/// The turn, if it has not ended.
fn running_turn(draft: &Draft<'_>, key: &TurnKey) -> Result<RunningTurn> {
    match draft.row::<TurnRow>(&keys::running_turn(key))? {
        Some(row) => Ok(row.into()),
        None => Err(not_running(draft, key)?),
    }
}

/// Why a turn does not run.
fn not_running(draft: &Draft<'_>, key: &TurnKey) -> Result<Error> {
    Ok(match draft.raw(&keys::turn(key))? {
        Some(_) => rules::turn_has_ended(&key.id),
        None => Error::not_found("turn", &key.id),
    })
}

fn insert_message(
    draft: &mut Draft<'_>,
    stored: &mut StoredSession,
    message: Message,
) -> Result<()> {
    let seq = stored.next_seq;
    stored.next_seq += 1;
    let key = stored.session.key();
    let parent = match (&message.parent_id, &stored.last) {
        (Some(id), Some((last, _))) if id == last => seq.checked_sub(1),
        (Some(id), _) => position(draft, &key, id)?.map(|found| found.seq),
        (None, _) => None,
    };
    stored.last = Some((message.id.clone(), message.role));
    stored.forked |= parent != seq.checked_sub(1);
    let here = PositionRow {
        seq,
        role: message.role,
    };
    draft.insert(&keys::position(&key, &message.id), &here)?;
    draft.note(Effect::Message(key.clone(), seq, Box::new(message.clone())));
    draft
        .insert(&keys::message(&key, seq), &MessageRow::new(message, parent))
        .map(drop)
}

/// Stores a session, and its place in the list of its owner, where it was `listed_at`.
///
/// The place moves with every write. Moving it only when the session has been quiet for a while
/// would save a quarter of a write, but then a list had to read all that were not quiet to be in
/// order.
fn save(
    draft: &mut Draft<'_>,
    mut stored: StoredSession,
    listed_at: Option<Timestamp>,
) -> Result<StoredSession> {
    let session = &stored.session;
    if listed_at != Some(session.updated_at) {
        if let Some(before) = listed_at {
            draft.unmark(keys::listing(&session.owner, before, &session.id));
        }
        draft.mark(keys::listing(
            &session.owner,
            session.updated_at,
            &session.id,
        ));
    }
    let key = keys::session(&session.key());
    stored.pieces = draft.replace_known(&key, stored.pieces, &SessionRow::new(&stored))?;
    draft.note(Effect::Session(Box::new(stored.clone())));
    Ok(stored)
}
