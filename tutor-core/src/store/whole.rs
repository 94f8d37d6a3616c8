//! A session with everything in it: what is carried from one store to another.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::id::{MessageId, TurnId};
use crate::message::{Audience, Message, MessageStatus, Role};
use crate::session::Session;
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

impl WholeSession {
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

    /// What of it this audience may see. What follows a hidden message follows what is before it;
    /// turns that have to do with one, and a summary that may tell of one, are left out.
    #[must_use]
    pub fn seen_by(mut self, audience: Audience) -> Self {
        let is_hidden = |message: &Message| !message.visible_to.contains(&audience);
        let hidden: HashMap<MessageId, Option<MessageId>> = self
            .messages
            .iter()
            .filter(|message| is_hidden(message))
            .map(|message| (message.id.clone(), message.parent_id.clone()))
            .collect();
        if hidden.is_empty() {
            return self;
        }
        let seen = |mut id: Option<MessageId>| {
            while let Some(before) = id.as_ref().and_then(|id| hidden.get(id)) {
                id = before.clone();
            }
            id
        };
        self.turns.retain(|turn| {
            !hidden.contains_key(&turn.user_message_id)
                && !hidden.contains_key(&turn.reply_message_id)
        });
        let turns: HashSet<&TurnId> = self.turns.iter().map(|turn| &turn.id).collect();
        self.messages.retain(|message| !is_hidden(message));
        for message in &mut self.messages {
            message.parent_id = seen(message.parent_id.take());
            message.turn_id = message.turn_id.take().filter(|id| turns.contains(id));
        }
        let session = &mut self.session;
        session.running_turn = session.running_turn.take().filter(|id| turns.contains(id));
        session.message_count = self.messages.len() as u64;
        session.summary = None;
        let newest = self.messages.last().map(|message| message.id.clone());
        session.head = seen(session.head.take()).or(newest);
        self.partial = self.partial.filter(|_| session.running_turn.is_some());
        self
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

fn is_idempotency_key(text: &str) -> bool {
    (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic())
}
