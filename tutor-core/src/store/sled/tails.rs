//! The ends of the conversations in use, in memory: what the next turn of each reads is had without
//! a thread that may block, and without waiting for a batch that is being applied.
//!
//! What is here is what the tree has: both change together, while no read goes on in the tree.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::rows::StoredSession;
use crate::message::Message;
use crate::recent::Recent;
use crate::session::{Branch, MessageQuery, MessageRange, Page, Session, SessionKey};
use crate::store::Record;

/// The most bytes of all tails, by estimate. The least recently used go first.
const MAX_BYTES: usize = 16 << 20;
/// The most bytes of one tail; older messages go first.
const MAX_TAIL_BYTES: usize = 512 << 10;
/// The most messages of one tail.
const MAX_TAIL_MESSAGES: usize = 100;
/// What a message takes besides its words, about.
const MESSAGE_BYTES: usize = 600;

/// What a write does to what may be in memory.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// A message was stored behind all others, as this number. Number 0 is the first of all.
    Message(SessionKey, u64, Box<Message>),
    /// The session is now like this.
    Session(Box<StoredSession>),
    /// The session, or some of its messages.
    Deleted(SessionKey),
    /// The record whose row has this key is now like this, or gone.
    Record(Vec<u8>, Option<Record>),
}

#[derive(Debug)]
pub(super) struct Tails(Mutex<Recent<SessionKey, Tail>>);

impl Default for Tails {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(MAX_BYTES)))
    }
}

/// A session, and its last messages in the order of their numbers.
#[derive(Debug, Default)]
struct Tail {
    /// `None` only between the effects of one write.
    session: Option<StoredSession>,
    messages: VecDeque<Message>,
    /// How many messages come before them.
    older: u64,
    bytes: usize,
}

impl Tails {
    /// A page, if it is here.
    pub(super) fn page(&self, query: &MessageQuery) -> Option<Page<Message>> {
        if query.range != MessageRange::Latest {
            return None;
        }
        let mut tails = self.lock();
        let tail = tails.get(&query.session)?;
        let head = tail.session.as_ref()?.session.head.as_ref();
        let is_line = match &query.branch {
            Branch::All => true,
            // After a wish for another reply the head is before the last message.
            Branch::Active => head == tail.messages.back().map(|message| &message.id),
            Branch::Leaf(_) => false,
        };
        let is_enough = tail.older == 0 || tail.messages.len() >= query.limit;
        if !is_line || !is_enough {
            return None;
        }
        let start = tail.messages.len().saturating_sub(query.limit);
        let more = tail.older > 0 || start > 0;
        let items = tail.messages.range(start..).cloned().collect();
        Some(Page::of_messages(items, &query.range, more))
    }

    /// A session, if it is here.
    pub(super) fn session(&self, key: &SessionKey) -> Option<Session> {
        Some(self.lock().get(key)?.session.as_ref()?.session.clone())
    }

    /// A session with what only its store knows of it, if it is here.
    pub(super) fn stored(&self, key: &SessionKey) -> Option<StoredSession> {
        self.lock().peek(key)?.session.clone()
    }

    /// Keeps what was read of a session that is one line: its last messages.
    pub(super) fn learn(&self, stored: StoredSession, last: &[Message]) {
        let last = &last[last.len().saturating_sub(MAX_TAIL_MESSAGES)..];
        let Some(older) = stored.session.message_count.checked_sub(last.len() as u64) else {
            return;
        };
        let mut tails = self.lock();
        let key = stored.session.key();
        // Not in place of more.
        let known = tails.peek(&key).map(|tail| tail.messages.len());
        if known.is_some_and(|known| known >= last.len()) {
            return;
        }
        let mut tail = Tail {
            session: Some(stored),
            older,
            ..Tail::default()
        };
        last.iter().for_each(|message| tail.push(message.clone()));
        tail.keep(key, &mut tails);
    }

    /// Follows what was written.
    pub(super) fn follow(&self, effects: Vec<Effect>) {
        let mut tails = self.lock();
        for effect in effects {
            match effect {
                Effect::Deleted(key) => drop(tails.take(&key)),
                // Is in no conversation.
                Effect::Record(..) => {}
                Effect::Session(stored) if stored.forked => {
                    drop(tails.take(&stored.session.key()));
                }
                Effect::Session(stored) => {
                    let key = stored.session.key();
                    let is_new = stored.session.message_count == 0;
                    let tail = tails.take(&key).or(is_new.then(Tail::default));
                    if let Some(mut tail) = tail {
                        tail.session = Some(*stored);
                        tail.keep(key, &mut tails);
                    }
                }
                Effect::Message(key, seq, message) => {
                    let tail = tails.take(&key).or((seq == 0).then(Tail::default));
                    if let Some(mut tail) = tail {
                        tail.push(*message);
                        tail.keep(key, &mut tails);
                    }
                }
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Recent<SessionKey, Tail>> {
        // Whoever panicked has at most left something out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    fn push(&mut self, message: Message) {
        self.bytes += size(&message);
        self.messages.push_back(message);
        while (self.messages.len() > MAX_TAIL_MESSAGES || self.bytes > MAX_TAIL_BYTES)
            && let Some(oldest) = self.messages.pop_front()
        {
            self.bytes -= size(&oldest);
            self.older += 1;
        }
    }

    fn keep(self, key: SessionKey, tails: &mut Recent<SessionKey, Self>) {
        let bytes = self.bytes;
        tails.put(key, self, bytes);
    }
}

fn size(message: &Message) -> usize {
    // Metadata is bounded, and rare.
    let metadata = message.metadata.len() * MESSAGE_BYTES;
    MESSAGE_BYTES + message.content.len() + metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::sample::{message_query, question, session};

    fn effects(id: &str, count: u64, words: usize) -> Vec<Effect> {
        let mut session = session("o", id, 5);
        let mut effects = Vec::new();
        for n in 0..count {
            let parent = n.checked_sub(1).map(|n| format!("m{n}"));
            let mut message = question(id, &format!("m{n}"), parent.as_deref());
            message.content = "x".repeat(words).into();
            session.head = Some(message.id.clone());
            session.message_count = n + 1;
            effects.push(Effect::Message(session.key(), n, Box::new(message)));
            effects.push(Effect::Session(Box::new(session.clone().into())));
        }
        effects
    }

    fn page(tails: &Tails, id: &str, limit: usize) -> Option<usize> {
        let key = session("o", id, 5).key();
        let query = message_query(key, Branch::Active, MessageRange::Latest, limit);
        tails.page(&query).map(|page| page.items.len())
    }

    #[test]
    fn a_tail_is_bounded_in_messages_and_bytes_and_answers_only_what_it_has() {
        let tails = Tails::default();
        tails.follow(effects("s", 150, 10));
        assert_eq!(page(&tails, "s", 100), Some(100));
        assert_eq!(page(&tails, "s", 101), None);
        tails.follow(effects("few", 3, 10));
        assert_eq!(page(&tails, "few", 200), Some(3));
        tails.follow(effects("large", 3, MAX_TAIL_BYTES / 2));
        assert_eq!(page(&tails, "large", 1), Some(1));
        assert_eq!(page(&tails, "large", 2), None);
    }

    #[test]
    fn all_tails_are_bounded_and_the_least_recently_used_go_first() {
        let tails = Tails::default();
        for n in 0..300 {
            tails.follow(effects(&format!("s{n}"), 2, 100_000));
            assert_eq!(page(&tails, "s0", 1), Some(1), "{n}");
        }
        assert_eq!(page(&tails, "s1", 1), None);
    }

    #[test]
    fn what_is_no_line_or_gone_is_not_here() {
        let tails = Tails::default();
        tails.follow(effects("s", 4, 10));
        let mut forked = session("o", "s", 5);
        forked.message_count = 4;
        let mut forked = StoredSession::from(forked);
        forked.forked = true;
        tails.follow(vec![Effect::Session(Box::new(forked))]);
        assert_eq!(page(&tails, "s", 1), None);
        tails.follow(effects("t", 4, 10));
        tails.follow(vec![Effect::Deleted(session("o", "t", 5).key())]);
        assert_eq!(page(&tails, "t", 1), None);
        // A message of a session of which the others are not here.
        let late = Box::new(question("u", "late", None));
        tails.follow(vec![Effect::Message(session("o", "u", 5).key(), 5, late)]);
        assert_eq!(page(&tails, "u", 1), None);
    }
}
