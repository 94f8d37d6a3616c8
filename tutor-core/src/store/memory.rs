//! A store in memory: for tests and for trying out. Says most plainly what every store does.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::id::{OwnerId, SessionId, TurnId};
use crate::message::Message;
use crate::session::{
    Cursor, MessageCut, MessageQuery, Page, Session, SessionKey, SessionPatch, SessionQuery,
};
use crate::store::{
    BegunTurn, Checkpoint, Durability, Existing, Expect, KeyRange, NewTurn, Record, RecordStore,
    RecordWrite, RunningTurn, SessionStore, StorageCheck, StoreInfo, TurnEnd, WholeSession,
    Written, rules,
};
use crate::turn::{Turn, TurnKey, TurnStatus};

mod conversation;

use self::conversation::Conversation;

/// A store that keeps everything in memory, and nothing longer than it lives itself.
///
/// Clones share their data.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    owners: BTreeMap<OwnerId, Owned>,
    records: BTreeMap<(String, String), Record>,
    last_version: u64,
    closed: bool,
}

/// All that one owner has: nobody gets at it under another name.
#[derive(Default)]
struct Owned {
    sessions: BTreeMap<SessionId, Conversation>,
    turns: HashMap<TurnId, RunningTurn>,
    turns_by_key: HashMap<String, TurnId>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            Err(rules::closed())
        } else {
            Ok(state)
        }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    fn info(&self) -> StoreInfo {
        StoreInfo {
            name: "memory".to_owned(),
            location: "memory".to_owned(),
            durability: Durability::None,
            exclusive: true,
            written: Written::default(),
        }
    }

    async fn create_session(&self, session: Session) -> Result<()> {
        let mut state = self.lock()?;
        let owned = state.owners.entry(session.owner.clone()).or_default();
        if owned.sessions.contains_key(&session.id) {
            return Err(rules::session_exists(&session.id));
        }
        owned.sessions.insert(
            session.id.clone(),
            Conversation::new(rules::created(session)),
        );
        Ok(())
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<Session>> {
        Ok(self
            .lock()?
            .conversation(key)
            .map(|found| found.session.clone()))
    }

    async fn sessions(&self, query: SessionQuery) -> Result<Page<Session>> {
        rules::check_limit(query.limit)?;
        let place = query
            .cursor
            .as_ref()
            .map(Cursor::session_place)
            .transpose()?;
        let state = self.lock()?;
        let mut sessions: Vec<&Session> = state
            .owners
            .get(&query.owner)
            .into_iter()
            .flat_map(|owned| owned.sessions.values())
            .map(|conversation| &conversation.session)
            .filter(|s| {
                place
                    .as_ref()
                    .is_none_or(|(time, id)| (s.updated_at, &s.id) < (*time, id))
            })
            .collect();
        sessions.sort_unstable_by(|a, b| (b.updated_at, &b.id).cmp(&(a.updated_at, &a.id)));
        let more = sessions.len() > query.limit;
        sessions.truncate(query.limit);
        let next_cursor = sessions
            .last()
            .filter(|_| more)
            .map(|last| Cursor::behind(last));
        Ok(Page {
            items: sessions.into_iter().cloned().collect(),
            next_cursor,
        })
    }

    async fn update_session(&self, key: &SessionKey, patch: SessionPatch) -> Result<Session> {
        let mut state = self.lock()?;
        let conversation = state.conversation_mut(key)?;
        if let Some(head) = &patch.head {
            conversation.position(head)?;
        }
        rules::patch(&mut conversation.session, patch);
        Ok(conversation.session.clone())
    }

    async fn delete_session(&self, key: &SessionKey) -> Result<bool> {
        let mut state = self.lock()?;
        let Some(owned) = state.owners.get_mut(&key.owner) else {
            return Ok(false);
        };
        Ok(owned.delete(&key.id))
    }

    async fn messages(&self, query: MessageQuery) -> Result<Page<Message>> {
        rules::check_limit(query.limit)?;
        let state = self.lock()?;
        let conversation = state
            .conversation(&query.session)
            .ok_or_else(|| Error::not_found("session", &query.session.id))?;
        let (positions, more) = conversation.page(&query)?;
        let items = positions
            .into_iter()
            .map(|at| conversation.messages[at].clone())
            .collect();
        Ok(Page::of_messages(items, &query.range, more))
    }

    async fn delete_message(&self, key: &SessionKey, cut: MessageCut) -> Result<u64> {
        let mut state = self.lock()?;
        let conversation = state.conversation_mut(key)?;
        let deleted = conversation.cut(&cut)?;
        if let Some(owned) = state.owners.get_mut(&key.owner) {
            owned.turns.retain(|_, running| {
                running.turn.session_id != key.id || !rules::goes_with(&running.turn, &deleted)
            });
            owned.forget_keys();
        }
        Ok(deleted.len() as u64)
    }

    async fn begin_turn(&self, new: NewTurn) -> Result<BegunTurn> {
        rules::check_new_turn(&new)?;
        let mut state = self.lock()?;
        let owned = state.owners.entry(new.turn.owner.clone()).or_default();
        if let Some(existing) = owned.taken_key(&new.turn)? {
            return Ok(BegunTurn::Existing(Box::new(existing.clone())));
        }
        owned.check_new_turn(&new)?;
        owned.begin_turn(new);
        Ok(BegunTurn::New)
    }

    async fn checkpoint_turn(&self, key: &TurnKey, checkpoint: Checkpoint) -> Result<()> {
        let mut state = self.lock()?;
        let (_, running) = state.turn_mut(key)?;
        rules::check_checkpoint(&running.turn, &checkpoint)?;
        rules::checkpoint(running, checkpoint);
        Ok(())
    }

    async fn finish_turn(&self, key: &TurnKey, end: TurnEnd) -> Result<Turn> {
        let mut state = self.lock()?;
        let (conversation, running) = state.turn_mut(key)?;
        rules::check_end(&running.turn, &end)?;
        running.partial = None;
        if let Some(reply) = rules::end(&mut conversation.session, &mut running.turn, end) {
            conversation.push(reply);
        }
        Ok(running.turn.clone())
    }

    async fn turn(&self, key: &TurnKey) -> Result<Option<Turn>> {
        let state = self.lock()?;
        let running = state
            .owners
            .get(&key.owner)
            .and_then(|owned| owned.turns.get(&key.id));
        Ok(running.map(|running| running.turn.clone()))
    }

    async fn turn_by_key(&self, owner: &OwnerId, idempotency_key: &str) -> Result<Option<Turn>> {
        let state = self.lock()?;
        let turn = state
            .owners
            .get(owner)
            .and_then(|owned| owned.turn_by_key(idempotency_key));
        Ok(turn.cloned())
    }

    async fn running_turns(&self) -> Result<Vec<RunningTurn>> {
        let state = self.lock()?;
        let all = state.owners.values().flat_map(|owned| owned.turns.values());
        Ok(all
            .filter(|running| running.turn.status == TurnStatus::Running)
            .cloned()
            .collect())
    }

    async fn owners(&self, after: Option<OwnerId>, limit: usize) -> Result<Vec<OwnerId>> {
        rules::check_limit(limit)?;
        let state = self.lock()?;
        let mut owners: Vec<&OwnerId> = state
            .owners
            .iter()
            .filter(|(owner, owned)| {
                !owned.sessions.is_empty() && after.as_ref().is_none_or(|after| *owner > after)
            })
            .map(|(owner, _)| owner)
            .collect();
        owners.sort_unstable();
        Ok(owners.into_iter().take(limit).cloned().collect())
    }

    async fn session_ids(
        &self,
        owner: &OwnerId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>> {
        rules::check_limit(limit)?;
        let state = self.lock()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = state.owners.get(owner).into_iter();
        let ids = found.flat_map(|owned| owned.sessions.range((from.clone(), Bound::Unbounded)));
        Ok(ids.map(|(id, _)| id.clone()).take(limit).collect())
    }

    async fn whole_session(&self, key: &SessionKey) -> Result<Option<WholeSession>> {
        let state = self.lock()?;
        let owned = state.owners.get(&key.owner);
        Ok(owned.and_then(|owned| owned.whole_session(&key.id)))
    }

    async fn import_session(&self, whole: WholeSession, existing: Existing) -> Result<()> {
        whole.check()?;
        let mut state = self.lock()?;
        let owned = state.owners.entry(whole.session.owner.clone()).or_default();
        owned.check_import(&whole, existing)?;
        owned.delete(&whole.session.id);
        owned.import(whole);
        Ok(())
    }

    async fn turns(
        &self,
        session: &SessionKey,
        after: Option<TurnId>,
        limit: usize,
    ) -> Result<Vec<Turn>> {
        rules::check_limit(limit)?;
        let state = self.lock()?;
        let owned = state
            .owners
            .get(&session.owner)
            .filter(|owned| owned.sessions.contains_key(&session.id))
            .ok_or_else(|| Error::not_found("session", &session.id))?;
        let mut turns: Vec<&Turn> = owned
            .turns
            .values()
            .map(|running| &running.turn)
            .filter(|turn| turn.session_id == session.id)
            .filter(|turn| after.as_ref().is_none_or(|after| turn.id > *after))
            .collect();
        turns.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(turns.into_iter().take(limit).cloned().collect())
    }

    /// There is nothing below what can be read.
    async fn check(&self) -> Result<StorageCheck> {
        drop(self.lock()?);
        Ok(StorageCheck::default())
    }

    async fn close(&self) -> Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State {
            closed: true,
            ..State::default()
        };
        Ok(())
    }
}

#[async_trait]
impl RecordStore for MemoryStore {
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>> {
        Ok(self
            .lock()?
            .records
            .get(&(kind.to_owned(), key.to_owned()))
            .cloned())
    }

    async fn kinds(&self) -> Result<Vec<String>> {
        let state = self.lock()?;
        let mut kinds: Vec<String> = state.records.keys().map(|(kind, _)| kind.clone()).collect();
        kinds.dedup();
        Ok(kinds)
    }

    async fn scan(&self, kind: &str, range: KeyRange, limit: usize) -> Result<Vec<Record>> {
        let state = self.lock()?;
        let first = (kind.to_owned(), range.prefix.clone());
        let from = match range.after.map(|after| (kind.to_owned(), after)) {
            Some(after) if after >= first => Bound::Excluded(after),
            _ => Bound::Included(first),
        };
        let found = state.records.range((from, Bound::Unbounded));
        Ok(found
            .take_while(|((k, key), _)| k == kind && key.starts_with(&range.prefix))
            .map(|(_, record)| record.clone())
            .take(limit)
            .collect())
    }

    async fn commit(&self, writes: Vec<RecordWrite>) -> Result<()> {
        writes.iter().try_for_each(rules::check_record_write)?;
        let mut state = self.lock()?;
        let mut version = state.last_version;
        let mut changes: HashMap<(String, String), Option<Record>> = HashMap::new();
        for (index, write) in writes.into_iter().enumerate() {
            let name = (write.kind, write.key);
            let now = match changes.get(&name) {
                Some(change) => change.as_ref(),
                None => state.records.get(&name),
            };
            let met = match write.expect {
                Expect::Any => true,
                Expect::Absent => now.is_none(),
                Expect::Version(expected) => now.is_some_and(|record| record.version == expected),
            };
            if !met {
                return Err(rules::record_changed(&name.0, index));
            }
            version += 1;
            let record = write.value.map(|value| Record {
                key: name.1.clone(),
                value,
                version,
            });
            changes.insert(name, record);
        }
        for (name, change) in changes {
            match change {
                Some(record) => state.records.insert(name, record),
                None => state.records.remove(&name),
            };
        }
        state.last_version = version;
        Ok(())
    }
}

impl State {
    fn conversation(&self, key: &SessionKey) -> Option<&Conversation> {
        self.owners.get(&key.owner)?.sessions.get(&key.id)
    }

    fn conversation_mut(&mut self, key: &SessionKey) -> Result<&mut Conversation> {
        self.owners
            .get_mut(&key.owner)
            .and_then(|owned| owned.sessions.get_mut(&key.id))
            .ok_or_else(|| Error::not_found("session", &key.id))
    }

    fn turn_mut(&mut self, key: &TurnKey) -> Result<(&mut Conversation, &mut RunningTurn)> {
        self.owners
            .get_mut(&key.owner)
            .and_then(|owned| {
                let running = owned.turns.get_mut(&key.id)?;
                Some((owned.sessions.get_mut(&running.turn.session_id)?, running))
            })
            .ok_or_else(|| Error::not_found("turn", &key.id))
    }
}

impl Owned {
    /// Forgets the idempotency keys of turns that are gone.
    fn forget_keys(&mut self) {
        self.turns_by_key
            .retain(|_, turn| self.turns.contains_key(turn));
    }

    /// Removes a session with everything in it. False if there is none.
    fn delete(&mut self, id: &SessionId) -> bool {
        if self.sessions.remove(id).is_none() {
            return false;
        }
        self.turns
            .retain(|_, running| running.turn.session_id != *id);
        self.forget_keys();
        true
    }

    fn whole_session(&self, id: &SessionId) -> Option<WholeSession> {
        let conversation = self.sessions.get(id)?;
        let mine = self.turns.values().filter(|one| one.turn.session_id == *id);
        Some(WholeSession {
            session: conversation.session.clone(),
            messages: conversation.messages.clone(),
            turns: mine.clone().map(|running| running.turn.clone()).collect(),
            partial: mine.clone().find_map(|running| running.partial.clone()),
        })
    }

    fn check_import(&self, whole: &WholeSession, existing: Existing) -> Result<()> {
        let id = &whole.session.id;
        if let Some(found) = self.sessions.get(id) {
            rules::check_replacing(&found.session, existing)?;
        }
        for turn in &whole.turns {
            let elsewhere = |found: &&Turn| found.session_id != *id;
            let same_id = self.turns.get(&turn.id).map(|running| &running.turn);
            if let Some(found) = same_id.filter(elsewhere) {
                return Err(rules::turn_exists(&found.id));
            }
            let key = turn.idempotency_key.as_deref();
            let same_key = key.and_then(|key| self.turn_by_key(key));
            if let Some(found) = same_key.filter(elsewhere) {
                return Err(rules::key_reused(&found.id));
            }
        }
        Ok(())
    }

    fn import(&mut self, whole: WholeSession) {
        let id = whole.session.id.clone();
        let mut conversation = Conversation::new(whole.session);
        whole
            .messages
            .into_iter()
            .for_each(|message| conversation.push(message));
        self.sessions.insert(id, conversation);
        let mut partial = whole.partial;
        for turn in whole.turns {
            if let Some(key) = turn.idempotency_key.clone() {
                self.turns_by_key.insert(key, turn.id.clone());
            }
            let partial = match turn.status {
                TurnStatus::Running => partial.take(),
                _ => None,
            };
            self.turns
                .insert(turn.id.clone(), RunningTurn { turn, partial });
        }
    }

    fn turn_by_key(&self, idempotency_key: &str) -> Option<&Turn> {
        let id = self.turns_by_key.get(idempotency_key)?;
        Some(&self.turns.get(id)?.turn)
    }

    /// The turn that the same request began before.
    fn taken_key(&self, turn: &Turn) -> Result<Option<&Turn>> {
        let earlier = turn
            .idempotency_key
            .as_deref()
            .and_then(|key| self.turn_by_key(key));
        match earlier {
            Some(earlier) if earlier.fingerprint != turn.fingerprint => {
                Err(rules::key_reused(&earlier.id))
            }
            earlier => Ok(earlier),
        }
    }

    fn check_new_turn(&self, new: &NewTurn) -> Result<()> {
        let id = &new.turn.session_id;
        let found = self.sessions.get(id);
        match (found, &new.new_session) {
            (Some(_), Some(_)) => return Err(rules::session_exists(id)),
            (None, None) => return Err(Error::not_found("session", id)),
            _ => {}
        }
        let session = found.map(|conversation| &conversation.session);
        if let Some(turn) = session.and_then(|session| session.running_turn.as_ref()) {
            return Err(rules::session_is_busy(id, turn));
        }
        let head = session.and_then(|session| session.head.as_ref());
        if head != new.expected_head.as_ref() {
            return Err(rules::head_moved(id, head));
        }
        rules::check_messages(new, |id| {
            Ok(found.and_then(|conversation| Some(conversation.get(id)?.role)))
        })?;
        if self.turns.contains_key(&new.turn.id) {
            return Err(rules::turn_exists(&new.turn.id));
        }
        Ok(())
    }

    fn begin_turn(&mut self, mut new: NewTurn) {
        let created = new
            .new_session
            .take()
            .map(rules::created)
            .map(Conversation::new);
        if let Some(conversation) = created {
            self.sessions
                .insert(new.turn.session_id.clone(), conversation);
        }
        if let Some(conversation) = self.sessions.get_mut(&new.turn.session_id) {
            rules::begin(&mut conversation.session, &new);
            new.messages
                .into_iter()
                .for_each(|message| conversation.push(message));
        }
        if let Some(key) = new.turn.idempotency_key.clone() {
            self.turns_by_key.insert(key, new.turn.id.clone());
        }
        self.turns.insert(
            new.turn.id.clone(),
            RunningTurn {
                turn: new.turn,
                partial: None,
            },
        );
    }
}
