//! Goes through everything that a store holds, and says what contradicts what.
//!
//! What can be read through the traits is checked here, for every store alike; what only the store
//! itself can see by [`SessionStore::check`](crate::SessionStore::check).

use std::collections::{HashMap, HashSet};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{MessageId, OwnerId, TurnId};
use crate::message::{Message, MessageStatus, Role};
use crate::session::{
    Branch, Cursor, MAX_PAGE, MessageQuery, MessageRange, Page, Session, SessionKey, SessionQuery,
};
use crate::store::{KeyRange, StorageCheck, Store};
use crate::turn::{Turn, TurnKey, TurnStatus};

/// The most problems that are kept; more are only counted.
pub const MAX_PROBLEMS: usize = 1000;

/// How often a session that changes while it is checked is checked anew.
const TRIES: usize = 5;

/// What [`verify`] found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Owners that have sessions.
    pub owners: u64,
    /// Sessions.
    pub sessions: u64,
    /// Messages on all branches.
    pub messages: u64,
    /// Turns, running ones included.
    pub turns: u64,
    /// Turns that are running, or were when the process that ran them ended.
    pub running_turns: u64,
    /// Idempotency keys that turns have taken.
    pub idempotency_keys: u64,
    /// Small documents of all kinds.
    pub records: u64,
    /// What the store itself looked at.
    pub storage: StorageCheck,
    /// Sessions that changed too often while they were looked at to be judged.
    pub busy: u64,
    /// What is wrong, apart from what [`storage`](Self::storage) has.
    pub problems: Problems,
}

impl Verified {
    /// True if nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.storage.problems.is_empty()
    }

    /// What is wrong, as far as it was kept: each error has a sentence, and names in its context.
    pub fn all_problems(&self) -> impl Iterator<Item = &Error> {
        let kept = [&self.storage.problems, &self.problems];
        kept.into_iter().flat_map(|problems| problems.kept())
    }
}

/// What is wrong with a store.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    count: u64,
    kept: Vec<Error>,
}

impl Problems {
    /// Counts a problem, and keeps it if there are not too many.
    pub fn add(&mut self, problem: Error) {
        self.count += 1;
        if self.kept.len() < MAX_PROBLEMS {
            self.kept.push(problem);
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first [`MAX_PROBLEMS`] of them.
    pub fn kept(&self) -> &[Error] {
        &self.kept
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Checks every session, message, turn, idempotency key and record, and all that leads to them.
/// Tells `progress` what it has so far, after each session and each page of records.
///
/// Writes may go on meanwhile. Memory is bounded by the longest session.
///
/// # Errors
/// `store_unavailable` if the store cannot be read. What is damaged is no error but a problem.
pub async fn verify(
    store: &dyn Store,
    progress: &mut (dyn FnMut(&Verified) + Send),
) -> Result<Verified> {
    let mut walk = Walk {
        store,
        found: Verified::default(),
        progress,
    };
    walk.owners().await?;
    walk.running_turns().await?;
    walk.records().await?;
    walk.found.storage = store.check().await?;
    (walk.progress)(&walk.found);
    Ok(walk.found)
}

struct Walk<'a> {
    store: &'a dyn Store,
    found: Verified,
    progress: &'a mut (dyn FnMut(&Verified) + Send),
}

impl Walk<'_> {
    /// What was read; `None` if it is damaged, which is a problem.
    fn read<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::DataCorrupt => {
                self.found.problems.add(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn owners(&mut self) -> Result<()> {
        let mut after = None;
        loop {
            let owners = self.store.owners(after.clone(), MAX_PAGE).await;
            let Some(owners) = self.read(owners)? else {
                return Ok(());
            };
            for owner in &owners {
                if after.as_ref().is_some_and(|before| before >= owner) {
                    self.found
                        .problems
                        .add(wrong("owners are not in order").with_context("owner", owner));
                }
                after = Some(owner.clone());
                self.found.owners += 1;
                self.sessions_of(owner).await?;
            }
            if owners.len() < MAX_PAGE {
                return Ok(());
            }
        }
    }

    async fn sessions_of(&mut self, owner: &OwnerId) -> Result<()> {
        let mut cursor = None;
        let mut seen = HashSet::new();
        loop {
            let query = SessionQuery {
                owner: owner.clone(),
                limit: MAX_PAGE,
                cursor: cursor.clone(),
            };
            let page = self.store.sessions(query).await;
            let Some(page) = self.read(page)? else {
                return Ok(());
            };
            for listed in &page.items {
                // A session that was moved up meanwhile is not listed again: cursors go down.
                if !seen.insert(listed.id.clone()) {
                    self.found
                        .problems
                        .add(about("a session is listed twice", listed));
                }
                self.session(listed, cursor.as_ref()).await?;
                (self.progress)(&self.found);
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn session(&mut self, listed: &Session, cursor: Option<&Cursor>) -> Result<()> {
        let key = listed.key();
        for _ in 0..TRIES {
            let before = self.store.session(&key).await;
            let Some(before) = self.read(before)? else {
                return Ok(());
            };
            let Some(before) = before else {
                // Deleted meanwhile, or listed without being there.
                if self.is_listed(&key, cursor).await? {
                    self.found
                        .problems
                        .add(about("a session is listed and cannot be read", listed));
                }
                return Ok(());
            };
            let mut contents = Contents::default();
            let checked = contents.read(self.store, &before).await;
            let after = self.store.session(&key).await;
            let (Some(after), checked) = (self.read(after)?, checked) else {
                return Ok(());
            };
            if after.as_ref() != Some(&before) {
                continue;
            }
            if self.read(checked)?.is_some() {
                contents.problems(&before, &mut self.found.problems);
            }
            self.found.sessions += 1;
            self.found.messages += contents.messages.len() as u64;
            self.found.turns += contents.turns.len() as u64;
            self.found.idempotency_keys += contents.keys;
            self.found.running_turns += u64::from(before.running_turn.is_some());
            return Ok(());
        }
        self.found.busy += 1;
        Ok(())
    }

    async fn is_listed(&mut self, key: &SessionKey, cursor: Option<&Cursor>) -> Result<bool> {
        let query = SessionQuery {
            owner: key.owner.clone(),
            limit: MAX_PAGE,
            cursor: cursor.cloned(),
        };
        let page = self.store.sessions(query).await;
        let page = self.read(page)?;
        Ok(page.is_some_and(|page| page.items.iter().any(|session| session.id == key.id)))
    }

    /// Each running turn must be the one that its session names.
    async fn running_turns(&mut self) -> Result<()> {
        let running = self.store.running_turns().await;
        for running in self.read(running)?.unwrap_or_default() {
            let turn = running.turn;
            let key = SessionKey::new(turn.owner.clone(), turn.session_id.clone());
            let session = self.store.session(&key).await;
            let known = self.read(session)?.flatten().and_then(|s| s.running_turn);
            if known.as_ref() == Some(&turn.id) {
                continue;
            }
            // It may have ended between the two readings.
            let now = self.store.turn(&turn.key()).await;
            let now = self.read(now)?.flatten();
            if now.is_some_and(|now| now.status == TurnStatus::Running) {
                self.found.problems.add(
                    wrong("a turn runs of which its session does not know")
                        .with_context("owner", &turn.owner)
                        .with_context("turn", &turn.id),
                );
            }
        }
        Ok(())
    }

    async fn records(&mut self) -> Result<()> {
        let kinds = self.store.kinds().await;
        for kind in self.read(kinds)?.unwrap_or_default() {
            let mut after: Option<String> = None;
            loop {
                let range = KeyRange {
                    prefix: String::new(),
                    after: after.clone(),
                };
                let records = self.store.scan(&kind, range, MAX_PAGE).await;
                let Some(records) = self.read(records)? else {
                    break;
                };
                for record in &records {
                    if record.version == 0 || after.as_ref().is_some_and(|k| *k >= record.key) {
                        self.found.problems.add(
                            wrong("records are not in order, or one has no version")
                                .with_context("kind", &kind),
                        );
                    }
                    after = Some(record.key.clone());
                }
                self.found.records += records.len() as u64;
                (self.progress)(&self.found);
                if records.len() < MAX_PAGE {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// What lies in one session.
#[derive(Default)]
struct Contents {
    messages: HashMap<MessageId, Place>,
    turns: HashMap<TurnId, Turn>,
    keys: u64,
    broken: Vec<Error>,
}

/// A message without its words.
struct Place {
    /// How many messages were stored later.
    age: usize,
    parent: Option<MessageId>,
    /// The turn that wrote it, of a reply.
    turn: Option<TurnId>,
    role: Role,
}

impl Contents {
    async fn read(&mut self, store: &dyn Store, session: &Session) -> Result<()> {
        self.read_messages(store, session).await?;
        self.read_turns(store, session).await
    }

    /// Backwards from the newest: that is the one way that has a start.
    async fn read_messages(&mut self, store: &dyn Store, session: &Session) -> Result<()> {
        let mut range = MessageRange::Latest;
        loop {
            let query = MessageQuery {
                session: session.key(),
                branch: Branch::All,
                range,
                limit: MAX_PAGE,
            };
            let Page { items, next_cursor } = store.messages(query).await?;
            let first = items.first().map(|message| message.id.clone());
            for message in items.into_iter().rev() {
                self.add(message, session);
            }
            match first {
                Some(first) if next_cursor.is_some() => range = MessageRange::Before(first),
                _ => return Ok(()),
            }
        }
    }

    fn add(&mut self, message: Message, session: &Session) {
        if message.session_id != session.id {
            self.broken
                .push(about("a message is of another session", session));
        }
        let place = Place {
            age: self.messages.len(),
            parent: message.parent_id,
            // What a learner said outlives its turn if the reply is deleted.
            turn: message.turn_id.filter(|_| {
                message.role == Role::Assistant && message.status != MessageStatus::Imported
            }),
            role: message.role,
        };
        if self.messages.insert(message.id, place).is_some() {
            self.broken.push(about("two messages have one id", session));
        }
    }

    async fn read_turns(&mut self, store: &dyn Store, session: &Session) -> Result<()> {
        let mut after: Option<TurnId> = None;
        loop {
            let turns = store.turns(&session.key(), after.clone(), MAX_PAGE).await?;
            let count = turns.len();
            for turn in turns {
                if after.as_ref().is_some_and(|before| *before >= turn.id) {
                    self.broken.push(about("turns are not in order", session));
                }
                after = Some(turn.id.clone());
                self.read_turn(store, session, &turn).await?;
                self.turns.insert(turn.id.clone(), turn);
            }
            if count < MAX_PAGE {
                return Ok(());
            }
        }
    }

    /// Is a turn found by its id and by its key?
    async fn read_turn(&mut self, store: &dyn Store, session: &Session, turn: &Turn) -> Result<()> {
        let key = TurnKey::new(session.owner.clone(), turn.id.clone());
        let by_id = store.turn(&key).await?;
        if by_id.is_none_or(|found| !same(&found, turn)) {
            self.broken
                .push(about_turn("it is not found by its id", turn));
        }
        if let Some(idempotency_key) = &turn.idempotency_key {
            let by_key = store.turn_by_key(&session.owner, idempotency_key).await?;
            if by_key.is_none_or(|found| !same(&found, turn)) {
                let what = "it is not found by its idempotency key";
                self.broken.push(about_turn(what, turn));
            }
            self.keys += 1;
        }
        Ok(())
    }

    /// Tells what contradicts what, now that all is read and the session was quiet.
    fn problems(&mut self, session: &Session, problems: &mut Problems) {
        self.broken
            .drain(..)
            .for_each(|broken| problems.add(broken));
        if self.messages.len() as u64 != session.message_count {
            let what = "a session has another number of messages than it says";
            problems.add(about(what, session));
        }
        let head_is_there = match &session.head {
            Some(head) => self.messages.contains_key(head),
            None => self.messages.is_empty(),
        };
        if !head_is_there {
            problems.add(about("a session's head is none of its messages", session));
        }
        for (id, place) in &self.messages {
            let parent = place.parent.as_ref().map(|id| self.messages.get(id));
            if parent.is_some_and(|parent| parent.is_none_or(|parent| parent.age <= place.age)) {
                let what = "a message's parent is not among those before it";
                problems.add(about(what, session).with_context("message", id));
            }
            if place
                .turn
                .as_ref()
                .is_some_and(|id| !self.turns.contains_key(id))
            {
                let what = "a reply's turn is missing";
                problems.add(about(what, session).with_context("message", id));
            }
        }
        for turn in self.turns.values() {
            for what in self.wrong_with(turn, session) {
                problems.add(about_turn(what, turn));
            }
        }
        if let Some(running) = &session.running_turn
            && !self.turns.contains_key(running)
        {
            problems.add(about("a session's running turn is missing", session));
        }
    }

    fn wrong_with<'a>(
        &'a self,
        turn: &'a Turn,
        session: &'a Session,
    ) -> impl Iterator<Item = &'static str> + 'a {
        let running = turn.status == TurnStatus::Running;
        let question = self.messages.get(&turn.user_message_id);
        let reply = self.messages.get(&turn.reply_message_id);
        let checks = [
            (
                turn.owner == session.owner && turn.session_id == session.id,
                "it is of another session",
            ),
            (
                question.is_some_and(|message| message.role == Role::User),
                "the message that it answers is missing",
            ),
            (
                reply.is_some() == turn.has_reply,
                "it is half there: its reply does not fit it",
            ),
            (
                reply.is_none_or(|reply| reply.parent.as_ref() == Some(&turn.user_message_id)),
                "its reply answers something else",
            ),
            (
                running == (session.running_turn.as_ref() == Some(&turn.id)),
                "its session does not know whether it runs",
            ),
            (
                running != turn.ended_at.is_some(),
                "it ended without a time, or runs with one",
            ),
            (!running || !turn.has_reply, "it runs and has a reply"),
        ];
        checks
            .into_iter()
            .filter_map(|(sound, what)| (!sound).then_some(what))
    }
}

/// The same turn, in the same state. While it runs, checkpoints go on.
fn same(a: &Turn, b: &Turn) -> bool {
    a.id == b.id && a.session_id == b.session_id && a.status == b.status
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::DataCorrupt, what)
}

fn about(what: &'static str, session: &Session) -> Error {
    wrong(what)
        .with_context("owner", &session.owner)
        .with_context("session", &session.id)
}

fn about_turn(what: &'static str, turn: &Turn) -> Error {
    Error::new(
        ErrorKind::DataCorrupt,
        format!("a turn does not fit its session: {what}"),
    )
    .with_context("owner", &turn.owner)
    .with_context("session", &turn.session_id)
    .with_context("turn", &turn.id)
}
