//! A session with everything in it: what is carried from one store to another.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::id::MessageId;
use crate::message::{Message, MessageStatus, Role};
use crate::session::{Branch, MAX_PAGE, MessageQuery, MessageRange, Session, SessionKey};
use crate::store::SessionStore;
use crate::turn::{MAX_IDEMPOTENCY_KEY_BYTES, Turn, TurnStatus};

/// A session with everything in it.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeSession {
    /// The session. Its count, head and running turn are those of what follows.
    pub session: Session,
    /// The messages of all branches, in the order in which they were stored.
    pub messages: Vec<Message>,
    /// Its turns, in any order. The one that is running is as its last checkpoint left it.
    pub turns: Vec<Turn>,
    /// The reply so far of the running turn, if any was saved.
    pub partial: Option<Message>,
}

/// What to do with a session that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// `conflict`, and nothing is written.
    #[default]
    Refuse,
    /// It goes, with everything in it, in the same write.
    Replace,
}

/// How often a session that changes while it is read is read anew.
const TRIES: usize = 50;

impl WholeSession {
    /// Reads a session as it was at one moment. `None` if there is none.
    ///
    /// # Errors
    /// `conflict` if it changes again and again meanwhile.
    pub async fn read(store: &dyn SessionStore, key: &SessionKey) -> Result<Option<Self>> {
        for _ in 0..TRIES {
            let Some(session) = store.session(key).await? else {
                return Ok(None);
            };
            let whole = Self::read_once(store, session).await;
            let after = store.session(key).await?;
            match (whole, after) {
                (_, None) => return Ok(None),
                (whole, Some(after)) => {
                    // What was read while the session changed, or why it could not be read, does
                    // not count.
                    let whole = whole?;
                    if whole.session == after {
                        return Ok(Some(whole));
                    }
                }
            }
        }
        Err(Error::conflict(
            "the session changes faster than it can be read: try again when it is quiet",
        )
        .with_context("owner", &key.owner)
        .with_context("session", &key.id)
        .retryable(None))
    }

    async fn read_once(store: &dyn SessionStore, session: Session) -> Result<Self> {
        let key = session.key();
        let messages = read_messages(store, &key).await?;
        let mut turns: Vec<Turn> = Vec::new();
        loop {
            let after = turns.last().map(|turn| turn.id.clone());
            let page = store.turns(&key, after, MAX_PAGE).await?;
            let more = page.len() == MAX_PAGE;
            turns.extend(page);
            if !more {
                break;
            }
        }
        let mut whole = Self {
            session,
            messages,
            turns,
            partial: None,
        };
        if let Some(id) = &whole.session.running_turn {
            // A turn and the reply so far, of one and the same checkpoint.
            let all = store.running_turns().await?.into_iter();
            let found = all.map(|running| (running.turn, running.partial));
            let mut found = found.filter(|(turn, _)| turn.owner == key.owner && turn.id == *id);
            if let Some((turn, partial)) = found.next()
                && let Some(place) = whole.turns.iter_mut().find(|place| place.id == turn.id)
            {
                *place = turn;
                whole.partial = partial;
            }
        }
        Ok(whole)
    }

    /// Does everything in it fit together? Every store asks before it writes.
    ///
    /// # Errors
    /// `invalid_input`, saying what contradicts what.
    pub fn check(&self) -> Result<()> {
        let session = &self.session;
        if self.messages.len() as u64 != session.message_count {
            return Err(self.refuse("it counts another number of messages than it has"));
        }
        let roles = self.check_messages()?;
        let head_is_there = match &session.head {
            Some(head) => roles.contains_key(head),
            None => roles.is_empty(),
        };
        if !head_is_there {
            return Err(self.refuse("its head is none of its messages"));
        }
        let parents = self.messages.iter().map(|m| (&m.id, m.parent_id.as_ref()));
        self.check_turns(&roles, &parents.collect())?;
        self.check_partial()
    }

    fn check_messages(&self) -> Result<HashMap<&MessageId, Role>> {
        let mut roles = HashMap::new();
        for message in &self.messages {
            let wrong = |what| Err(self.refuse(what).with_context("message", &message.id));
            if message.session_id != self.session.id {
                return wrong("a message is of another session");
            }
            if message
                .parent_id
                .as_ref()
                .is_some_and(|parent| !roles.contains_key(parent))
            {
                return wrong("a message's parent is not among those before it");
            }
            if roles.insert(&message.id, message.role).is_some() {
                return wrong("two messages have one id");
            }
        }
        Ok(roles)
    }

    fn check_turns(
        &self,
        roles: &HashMap<&MessageId, Role>,
        parents: &HashMap<&MessageId, Option<&MessageId>>,
    ) -> Result<()> {
        let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
        for turn in &self.turns {
            let running = turn.status == TurnStatus::Running;
            let is_running_one = self.session.running_turn.as_ref() == Some(&turn.id);
            let reply = parents.get(&turn.reply_message_id);
            let key = turn.idempotency_key.as_deref();
            let checks = [
                (
                    turn.owner == self.session.owner && turn.session_id == self.session.id,
                    "a turn is of another session",
                ),
                (ids.insert(&turn.id), "two turns have one id"),
                (
                    key.is_none_or(|key| keys.insert(key)),
                    "two turns have one idempotency key",
                ),
                (
                    key.is_none_or(is_idempotency_key),
                    "an idempotency key has 1 to 255 visible ASCII characters",
                ),
                (
                    roles.get(&turn.user_message_id) == Some(&Role::User),
                    "the message that a turn answers is missing",
                ),
                (
                    reply.is_some() == turn.has_reply,
                    "a turn says otherwise than its session whether it has a reply",
                ),
                (
                    reply.is_none_or(|parent| *parent == Some(&turn.user_message_id)),
                    "a turn's reply answers something else",
                ),
                (
                    running == is_running_one && running == turn.ended_at.is_none(),
                    "a turn says otherwise than its session whether it runs",
                ),
            ];
            if let Some((_, what)) = checks.into_iter().find(|(holds, _)| !holds) {
                return Err(self.refuse(what).with_context("turn", &turn.id));
            }
        }
        match &self.session.running_turn {
            Some(running) if !ids.contains(running) => {
                Err(self.refuse("its running turn is missing"))
            }
            _ => Ok(()),
        }
    }

    fn check_partial(&self) -> Result<()> {
        let Some(partial) = &self.partial else {
            return Ok(());
        };
        let fits = self.running().is_some_and(|turn| {
            partial.id == turn.reply_message_id
                && partial.session_id == self.session.id
                && partial.parent_id.as_ref() == Some(&turn.user_message_id)
                && partial.status == MessageStatus::Partial
        });
        if fits {
            Ok(())
        } else {
            Err(self.refuse("the reply so far is of no running turn"))
        }
    }

    /// The turn that is running.
    pub fn running(&self) -> Option<&Turn> {
        self.turns
            .iter()
            .find(|turn| turn.status == TurnStatus::Running)
    }

    fn refuse(&self, what: &'static str) -> Error {
        Error::invalid_input(format!("a session contradicts itself: {what}"))
            .with_context("owner", &self.session.owner)
            .with_context("session", &self.session.id)
    }
}

/// All messages in the order of storing. Backwards: that is the one way that has a start.
async fn read_messages(store: &dyn SessionStore, key: &SessionKey) -> Result<Vec<Message>> {
    let mut newest_first = Vec::new();
    let mut range = MessageRange::Latest;
    loop {
        let query = MessageQuery {
            session: key.clone(),
            branch: Branch::All,
            range,
            limit: MAX_PAGE,
        };
        let page = store.messages(query).await?;
        let more = page.next_cursor.is_some();
        newest_first.extend(page.items.into_iter().rev());
        match newest_first.last() {
            Some(oldest) if more => range = MessageRange::Before(oldest.id.clone()),
            _ => break,
        }
    }
    newest_first.reverse();
    Ok(newest_first)
}

fn is_idempotency_key(text: &str) -> bool {
    (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic())
}
