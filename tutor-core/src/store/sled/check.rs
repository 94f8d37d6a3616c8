//! Walks over every entry of the tree: does it decode, and does all that it names exist?

use std::ops::Bound;

use ::sled::Tree;

use super::draft::Rows;
use super::envelope::{self, damaged};
use super::reads::{position, session};
use super::rows::{Compact, MessageRow, PositionRow, RecordRow, StoredSession, TurnRow};
use super::subject::Subject;
use super::{keys, unavailable};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SessionId, TurnId};
use crate::session::SessionKey;
use crate::store::{RunningTurn, StorageCheck};
use crate::turn::{Turn, TurnKey};

/// How many entries are looked at in one go. No write is applied meanwhile.
const ENTRIES: usize = 256;

/// Looks at the entries behind `after`, and gives the last one; `None` at the end.
pub(super) fn some(
    tree: &Tree,
    after: Option<&[u8]>,
    found: &mut StorageCheck,
) -> Result<Option<Vec<u8>>> {
    let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.to_vec()));
    let entries = tree.range::<Vec<u8>, _>((start, Bound::Unbounded));
    let mut last = None;
    for entry in entries.take(ENTRIES) {
        let (key, value) = match entry {
            Ok(entry) => entry,
            Err(error) => {
                // Where the next readable entry is, nobody knows.
                let behind = last.as_deref().or(after).unwrap_or_default();
                let error = unavailable(error).with_context("behind", behind.escape_ascii());
                found.problems.add(error);
                return Ok(None);
            }
        };
        found.entries += 1;
        found.bytes += (key.len() + value.len()) as u64;
        match entry_is_sound(tree, &key, &value) {
            Err(error) if error.kind() == ErrorKind::DataCorrupt => found.problems.add(error),
            checked => checked?,
        }
        last = Some(key.to_vec());
    }
    Ok(last)
}

fn entry_is_sound(tree: &Tree, key: &[u8], value: &[u8]) -> Result<()> {
    let need = |sound: bool, what| {
        if sound {
            Ok(())
        } else {
            Err(broken(key, what))
        }
    };
    let Some(subject) = Subject::of(key) else {
        return Err(broken(key, "it is none of this program's"));
    };
    match subject {
        // Read when the store was opened.
        Subject::Format => Ok(()),
        Subject::LastVersion | Subject::Groups => tree.decode::<u64>(key, value).map(drop),
        Subject::Session(name) => {
            let stored = session(tree, &name)?.ok_or_else(|| damaged(key))?;
            session_is_sound(tree, key, &name, &stored)
        }
        Subject::Message(name, seq) => {
            let row: MessageRow = tree.decode(key, value)?;
            let stored = session(tree, &name)?;
            need(stored.is_some(), "its session is missing")?;
            let next = stored.map_or(0, |stored| stored.next_seq);
            need(seq < next, "its session does not count it")?;
            let parent = match row.parent_id() {
                Some(id) => position(tree, &name, id)?.map(|found| found.seq),
                None => None,
            };
            need(parent == row.parent, "its parent is not where it says")?;
            need(
                parent.is_none_or(|parent| parent < seq),
                "its parent comes after it",
            )?;
            let here = position(tree, &name, row.id())?;
            need(
                here.is_some_and(|here| here.seq == seq && here.role == row.role()),
                "it is not found by its id",
            )
        }
        Subject::Position(name, id) => {
            let row: PositionRow = tree.decode(key, value)?;
            let message: Option<MessageRow> = tree.row(&keys::message(&name, row.seq))?;
            need(
                message.is_some_and(|message| *message.id() == id),
                "it leads to no message",
            )
        }
        Subject::EndedTurn(name, id) => {
            let turn = RunningTurn::from(tree.decode::<TurnRow>(key, value)?).turn;
            need(turn.id == id, "it holds another turn")?;
            turn_is_sound(tree, key, &name, &turn)?;
            let reply = position(tree, &name, &turn.reply_message_id)?;
            need(reply.is_some() == turn.has_reply, "its reply is half there")
        }
        Subject::RunningTurn(name) => {
            let turn = RunningTurn::from(tree.decode::<TurnRow>(key, value)?).turn;
            need(turn.key() == name, "it holds another turn")?;
            let session_name = SessionKey::new(name.owner, turn.session_id.clone());
            turn_is_sound(tree, key, &session_name, &turn)?;
            let stored = session(tree, &session_name)?;
            let running = stored.and_then(|stored| stored.session.running_turn);
            need(
                running == Some(name.id),
                "its session does not know that it runs",
            )
        }
        Subject::Listing(owner, time, id) => {
            let stored = session(tree, &SessionKey::new(owner, id))?;
            need(
                stored.is_some_and(|stored| stored.session.updated_at == time),
                "no session has this place in the list",
            )
        }
        Subject::Turn(name) => {
            let Compact(id) = tree.decode::<Compact<SessionId>>(key, value)?;
            let ended = keys::ended_turn(&SessionKey::new(name.owner.clone(), id), &name.id);
            need(
                tree.raw(&ended)?.is_some() || tree.raw(&keys::running_turn(&name))?.is_some(),
                "it leads to no turn",
            )
        }
        Subject::Idempotency(owner, idempotency_key) => {
            let Compact(id) = tree.decode::<Compact<TurnId>>(key, value)?;
            let turn = super::reads::turn(tree, &TurnKey::new(owner, id))?;
            need(
                turn.is_some_and(|turn| turn.idempotency_key == Some(idempotency_key)),
                "it leads to no turn that has taken this key",
            )
        }
        Subject::Record(..) => tree.decode::<RecordRow>(key, value).map(drop),
        Subject::Piece(base, n) => {
            let whole = tree.raw(&base)?;
            need(
                whole.is_some_and(|whole| n > 0 && n <= envelope::piece_count(&whole)),
                "it is a piece of nothing",
            )
        }
    }
}

fn session_is_sound(
    tree: &Tree,
    key: &[u8],
    name: &SessionKey,
    stored: &StoredSession,
) -> Result<()> {
    let need = |sound: bool, what| {
        if sound {
            Ok(())
        } else {
            Err(broken(key, what))
        }
    };
    let session = &stored.session;
    let place = keys::listing(&name.owner, session.updated_at, &name.id);
    need(
        tree.raw(&place)?.is_some(),
        "it is not in the list of its owner",
    )?;
    need(
        session.message_count <= stored.next_seq,
        "it has more messages than numbers for them",
    )?;
    if let Some(last) = stored.next_seq.checked_sub(1) {
        need(
            tree.raw(&keys::message(name, last))?.is_some(),
            "its last message is missing",
        )?;
    }
    match &session.head {
        Some(head) => need(
            position(tree, name, head)?.is_some(),
            "its head is no message",
        )?,
        None => need(session.message_count == 0, "it has messages and no head")?,
    }
    if let Some(id) = &session.running_turn {
        let running = keys::running_turn(&TurnKey::new(name.owner.clone(), id.clone()));
        need(
            tree.raw(&running)?.is_some(),
            "its running turn does not run",
        )?;
    }
    Ok(())
}

fn turn_is_sound(tree: &Tree, key: &[u8], name: &SessionKey, turn: &Turn) -> Result<()> {
    let need = |sound: bool, what| {
        if sound {
            Ok(())
        } else {
            Err(broken(key, what))
        }
    };
    let led: Option<Compact<SessionId>> = tree.row(&keys::turn(&turn.key()))?;
    need(
        turn.owner == name.owner && turn.session_id == name.id,
        "it is of another session",
    )?;
    need(
        led.is_some_and(|led| led.0 == name.id),
        "it is not found by its id",
    )?;
    need(
        position(tree, name, &turn.user_message_id)?.is_some(),
        "the message that it answers is missing",
    )?;
    if let Some(idempotency_key) = &turn.idempotency_key {
        let taken: Option<Compact<TurnId>> =
            tree.row(&keys::idempotency(&turn.owner, idempotency_key))?;
        need(
            taken.is_some_and(|taken| taken.0 == turn.id),
            "its idempotency key is free",
        )?;
    }
    Ok(())
}

/// An entry that can be read, and contradicts others.
fn broken(key: &[u8], what: &'static str) -> Error {
    Error::new(
        ErrorKind::DataCorrupt,
        format!("a record of the store does not fit the others: {what}"),
    )
    .with_context("record", key.escape_ascii())
}
