//! What each read finds in the rows of sessions, messages and turns.

use std::collections::VecDeque;
use std::ops::Bound;

use ::sled::{IVec, Tree};

use super::draft::Rows;
use super::envelope::{self, damaged};
use super::rows::{Compact, MessageRow, PositionRow, SessionRow, StoredSession, TurnRow};
use super::subject::Subject;
use super::{keys, salvage, unavailable};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{MessageId, OwnerId, SessionId, TurnId};
use crate::message::Message;
use crate::session::{
    Branch, Cursor, MessageQuery, MessageRange, Page, Session, SessionKey, SessionQuery,
};
use crate::store::{RunningTurn, WholeSession, rules};
use crate::turn::{Turn, TurnKey};

pub(super) fn session(rows: &impl Rows, key: &SessionKey) -> Result<Option<StoredSession>> {
    let name = keys::session(key);
    let Some(value) = rows.raw(&name)? else {
        return Ok(None);
    };
    let row: SessionRow<'_> = rows.decode(&name, &value)?;
    let mut stored = row.into_stored(key);
    stored.pieces = envelope::piece_count(&value);
    Ok(Some(stored))
}

/// Where a message of the session is.
pub(super) fn position(
    rows: &impl Rows,
    key: &SessionKey,
    id: &MessageId,
) -> Result<Option<PositionRow>> {
    rows.row(&keys::position(key, id))
}

pub(super) fn turn(rows: &impl Rows, key: &TurnKey) -> Result<Option<Turn>> {
    let Some(Compact(session_id)) = rows.row::<Compact<SessionId>>(&keys::turn(key))? else {
        return Ok(None);
    };
    let row: TurnRow = match rows.row(&keys::running_turn(key))? {
        Some(running) => running,
        None => {
            let session_key = SessionKey::new(key.owner.clone(), session_id);
            rows.expect_row(&keys::ended_turn(&session_key, &key.id))?
        }
    };
    Ok(Some(RunningTurn::from(row).turn))
}

/// The turn that has taken an idempotency key.
pub(super) fn turn_of(
    rows: &impl Rows,
    owner: &OwnerId,
    idempotency_key: &str,
) -> Result<Option<Turn>> {
    let taken = keys::idempotency(owner, idempotency_key);
    let Some(Compact(id)) = rows.row::<Compact<TurnId>>(&taken)? else {
        return Ok(None);
    };
    let found = turn(rows, &TurnKey::new(owner.clone(), id))?;
    found.map(Some).ok_or_else(|| damaged(&taken))
}

pub(super) fn running_turns(tree: &Tree) -> Result<Vec<RunningTurn>> {
    let mut found = Vec::new();
    for entry in tree.scan_prefix(keys::RUNNING) {
        let (key, value) = entry.map_err(unavailable)?;
        match tree.decode::<TurnRow>(&key, &value) {
            Ok(row) => found.push(row.into()),
            // The others must be ended all the same. Its session can be deleted.
            Err(error) if error.kind() == ErrorKind::DataCorrupt => {
                tracing::error!(%error, "a damaged turn that was left running stays as it is");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

pub(super) fn owners(tree: &Tree, after: Option<OwnerId>, limit: usize) -> Result<Vec<OwnerId>> {
    let mut owners = Vec::new();
    let mut from = match after {
        Some(after) => keys::behind(&keys::listings(&after)),
        None => keys::LISTINGS.to_vec(),
    };
    while owners.len() < limit {
        let next = tree.range(from..keys::behind(keys::LISTINGS)).next();
        let Some((place, _)) = next.transpose().map_err(unavailable)? else {
            break;
        };
        let Some(Subject::Listing(owner, ..)) = Subject::of(&place) else {
            return Err(damaged(&place));
        };
        from = keys::behind(&keys::listings(&owner));
        owners.push(owner);
    }
    Ok(owners)
}

pub(super) fn whole_session(tree: &Tree, key: &SessionKey) -> Result<Option<WholeSession>> {
    let Some(stored) = session(tree, key)? else {
        return Ok(None);
    };
    let mut whole = WholeSession {
        session: stored.session,
        messages: Vec::new(),
        turns: Vec::new(),
        partial: None,
    };
    let all = keys::message(key, 0)..keys::message(key, stored.next_seq);
    for entry in tree.range(all) {
        let (name, value) = entry.map_err(unavailable)?;
        let row: MessageRow = tree.decode(&name, &value)?;
        whole.messages.push(row.into_message(&key.id));
    }
    if whole.messages.len() as u64 != whole.session.message_count {
        return Err(damaged(&keys::session(key)));
    }
    for entry in tree.scan_prefix(keys::ended_turns(key)) {
        let (name, value) = entry.map_err(unavailable)?;
        let ended = RunningTurn::from(tree.decode::<TurnRow>(&name, &value)?);
        whole.turns.push(ended.turn);
    }
    if let Some(id) = &whole.session.running_turn {
        let name = keys::running_turn(&TurnKey::new(key.owner.clone(), id.clone()));
        let running = RunningTurn::from(tree.expect_row::<TurnRow>(&name)?);
        whole.turns.push(running.turn);
        whole.partial = running.partial;
    }
    Ok(Some(whole))
}

pub(super) fn session_ids(
    tree: &Tree,
    owner: &OwnerId,
    after: Option<SessionId>,
    limit: usize,
) -> Result<Vec<SessionId>> {
    let mut ids = Vec::new();
    let all = keys::sessions(owner);
    let behind = |id| keys::behind(&keys::of_session(&SessionKey::new(owner.clone(), id)));
    let mut from = after.map_or_else(|| all.clone(), behind);
    while ids.len() < limit {
        let next = tree.range(from..keys::behind(&all)).next();
        let Some((name, _)) = next.transpose().map_err(unavailable)? else {
            break;
        };
        // The session itself comes before all that is in it.
        let Some(Subject::Session(key)) = Subject::of(&name) else {
            return Err(damaged(&name));
        };
        ids.push(key.id.clone());
        from = behind(key.id);
    }
    Ok(ids)
}

pub(super) fn turns(
    tree: &Tree,
    key: &SessionKey,
    after: Option<TurnId>,
    limit: usize,
) -> Result<Vec<Turn>> {
    let stored = session(tree, key)?.ok_or_else(|| Error::not_found("session", &key.id))?;
    let all = keys::ended_turns(key);
    let from = match &after {
        Some(after) => Bound::Excluded(keys::ended_turn(key, after)),
        None => Bound::Included(all.clone()),
    };
    let mut turns: Vec<Turn> = Vec::new();
    for entry in tree.range((from, Bound::Excluded(keys::behind(&all)))) {
        if turns.len() == limit {
            break;
        }
        let (name, value) = entry.map_err(unavailable)?;
        turns.push(RunningTurn::from(tree.decode::<TurnRow>(&name, &value)?).turn);
    }
    let running = stored.session.running_turn;
    if let Some(id) = running.filter(|id| after.is_none_or(|after| *id > after)) {
        let name = keys::running_turn(&TurnKey::new(key.owner.clone(), id));
        let turn = RunningTurn::from(tree.expect_row::<TurnRow>(&name)?).turn;
        let place = turns.partition_point(|other| other.id < turn.id);
        turns.insert(place, turn);
        turns.truncate(limit);
    }
    Ok(turns)
}

pub(super) fn sessions(tree: &Tree, query: &SessionQuery) -> Result<Page<Session>> {
    let first = keys::listings(&query.owner);
    let entries = match query
        .cursor
        .as_ref()
        .map(Cursor::session_place)
        .transpose()?
    {
        Some((time, id)) => tree.range(first..keys::listing(&query.owner, time, &id)),
        None => tree.scan_prefix(first),
    };
    let mut items = Vec::with_capacity(query.limit);
    for entry in entries.rev().take(query.limit + 1) {
        let (place, _) = entry.map_err(unavailable)?;
        if items.len() == query.limit {
            let next_cursor = items.last().map(Cursor::behind);
            return Ok(Page { items, next_cursor });
        }
        let id = keys::listed_session(&query.owner, &place).ok_or_else(|| damaged(&place))?;
        let key = SessionKey::new(query.owner.clone(), id);
        let listed = match session(tree, &key) {
            Ok(Some(stored)) => stored.session,
            Ok(None) => return Err(damaged(&place)),
            // The others can still be read, and this one be deleted.
            Err(error) if error.kind() == ErrorKind::DataCorrupt => {
                tracing::error!(%error, "a damaged session is listed without what it says");
                salvage::listed(key, &place)
            }
            Err(error) => return Err(error),
        };
        items.push(listed);
    }
    Ok(Page {
        items,
        next_cursor: None,
    })
}

/// A page, and the session if the page is the end of the one line that it is.
pub(super) fn messages(
    tree: &Tree,
    query: &MessageQuery,
) -> Result<(Page<Message>, Option<StoredSession>)> {
    let key = &query.session;
    let stored = session(tree, key)?.ok_or_else(|| Error::not_found("session", &key.id))?;
    let seq_of = |id: &MessageId| match position(tree, key, id)? {
        Some(found) => Ok(found.seq),
        None => Err(rules::message_not_in_session(id)),
    };
    let leaf = match &query.branch {
        Branch::All => stored.next_seq.checked_sub(1),
        Branch::Active => stored.session.head.as_ref().map(seq_of).transpose()?,
        Branch::Leaf(id) => Some(seq_of(id)?),
    };
    let from = match &query.range {
        MessageRange::Latest => None,
        MessageRange::Before(id) | MessageRange::After(id) => Some((id, seq_of(id)?)),
    };
    let messages = Messages {
        tree,
        key,
        limit: query.limit,
        has_gaps: stored.has_gaps(),
    };
    let straight = query.branch == Branch::All || !stored.forked;
    let (rows, more) = match (&query.range, from) {
        (MessageRange::After(_), Some((id, seq))) => {
            let leaf = leaf.filter(|leaf| *leaf >= seq);
            let leaf = leaf.ok_or_else(|| rules::message_not_on_branch(id))?;
            if straight {
                messages.first_of(seq + 1, leaf + 1)?
            } else {
                let found = messages.first_behind(seq, leaf)?;
                found.ok_or_else(|| rules::message_not_on_branch(id))?
            }
        }
        (_, Some((_, seq))) if straight => messages.last_of(seq)?,
        (_, Some((_, seq))) => messages.walk_back(messages.at(seq)?.parent)?,
        (_, None) if straight => messages.last_of(leaf.map_or(0, |leaf| leaf + 1))?,
        (_, None) => messages.walk_back(leaf)?,
    };
    let items = rows
        .into_iter()
        .map(|row| row.into_message(&key.id))
        .collect();
    let page = Page::of_messages(items, &query.range, more);
    let is_end = query.range == MessageRange::Latest
        && !stored.forked
        && page.items.last().map(|last| &last.id) == stored.session.head.as_ref();
    Ok((page, is_end.then_some(stored)))
}

/// Some messages in order, and whether there are more.
type Found = (VecDeque<MessageRow>, bool);

/// The messages of a session by their numbers. A message has a greater number than its parent.
struct Messages<'a> {
    tree: &'a Tree,
    key: &'a SessionKey,
    limit: usize,
    /// True if some numbers have no message.
    has_gaps: bool,
}

impl Messages<'_> {
    fn at(&self, seq: u64) -> Result<MessageRow> {
        self.tree.expect_row(&keys::message(self.key, seq))
    }

    /// The last ones with numbers below `end`.
    fn last_of(&self, end: u64) -> Result<Found> {
        if self.has_gaps {
            let keys = keys::message(self.key, 0)..keys::message(self.key, end);
            let (rows, more) = self.some_of(self.tree.range(keys).rev())?;
            return Ok((rows.into_iter().rev().collect(), more));
        }
        let start = end.saturating_sub(self.limit as u64);
        Ok((self.all_of(start, end)?, start > 0))
    }

    /// The first ones with numbers from `start` to below `end`.
    fn first_of(&self, start: u64, end: u64) -> Result<Found> {
        if self.has_gaps {
            let keys = keys::message(self.key, start)..keys::message(self.key, end);
            return self.some_of(self.tree.range(keys));
        }
        let last = end.min(start + self.limit as u64);
        Ok((self.all_of(start, last)?, last < end))
    }

    fn some_of(
        &self,
        entries: impl Iterator<Item = ::sled::Result<(IVec, IVec)>>,
    ) -> Result<Found> {
        let mut rows = VecDeque::new();
        for entry in entries {
            let (key, value) = entry.map_err(unavailable)?;
            if rows.len() == self.limit {
                return Ok((rows, true));
            }
            rows.push_back(self.tree.decode(&key, &value)?);
        }
        Ok((rows, false))
    }

    fn all_of(&self, start: u64, end: u64) -> Result<VecDeque<MessageRow>> {
        let mut rows = VecDeque::new();
        let entries = self
            .tree
            .range(keys::message(self.key, start)..keys::message(self.key, end));
        for (entry, seq) in entries.zip(start..end) {
            let (key, value) = entry.map_err(unavailable)?;
            let expected = keys::message(self.key, seq);
            if key != expected {
                return Err(damaged(&expected));
            }
            rows.push_back(self.tree.decode(&key, &value)?);
        }
        match start + rows.len() as u64 {
            next if next < end => Err(damaged(&keys::message(self.key, next))),
            _ => Ok(rows),
        }
    }

    /// The last ones of the line that ends with `leaf`.
    fn walk_back(&self, leaf: Option<u64>) -> Result<Found> {
        let mut rows = VecDeque::new();
        let mut next = leaf;
        while let Some(seq) = next
            && rows.len() < self.limit
        {
            let row = self.at(seq)?;
            next = row.parent;
            rows.push_front(row);
        }
        Ok((rows, next.is_some()))
    }

    /// The first ones behind number `stop` on the line that ends with `leaf`; `None` if `stop` is
    /// not on it. Reads the line from its end, since only parents are known.
    fn first_behind(&self, stop: u64, leaf: u64) -> Result<Option<Found>> {
        let (mut rows, mut more) = (VecDeque::new(), false);
        let mut next = Some(leaf);
        while let Some(seq) = next.filter(|seq| *seq > stop) {
            let row = self.at(seq)?;
            next = row.parent;
            rows.push_front(row);
            if rows.len() > self.limit {
                rows.pop_back();
                more = true;
            }
        }
        Ok((next == Some(stop)).then_some((rows, more)))
    }
}
