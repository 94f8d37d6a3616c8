//! One session of the memory store, and how its messages are found.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::id::MessageId;
use crate::message::Message;
use crate::session::{Branch, MessageCut, MessageQuery, MessageRange, Session};
use crate::store::rules;

/// A session and its messages, in the order of storing.
pub(super) struct Conversation {
    pub(super) session: Session,
    pub(super) messages: Vec<Message>,
    positions: HashMap<MessageId, usize>,
}

impl Conversation {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session,
            messages: Vec::new(),
            positions: HashMap::new(),
        }
    }

    /// Removes messages, and says which.
    pub(super) fn cut(&mut self, cut: &MessageCut) -> Result<HashSet<MessageId>> {
        let MessageCut {
            message,
            with_branch,
            updated_at,
        } = cut;
        let first = self
            .get(message)
            .ok_or_else(|| Error::not_found("message", message))?;
        let parent = first.parent_id.clone();
        if let Some(turn) = &self.session.running_turn {
            return Err(rules::session_is_busy(&self.session.id, turn));
        }
        let mut deleted = HashSet::from([message.clone()]);
        // A message is stored after its parent.
        for later in &self.messages {
            if later
                .parent_id
                .as_ref()
                .is_some_and(|id| deleted.contains(id))
            {
                if !with_branch {
                    return Err(rules::message_has_followers(message, &later.id));
                }
                deleted.insert(later.id.clone());
            }
        }
        self.messages.retain(|kept| !deleted.contains(&kept.id));
        let ids = self.messages.iter().map(|kept| kept.id.clone());
        self.positions = ids.zip(0..).collect();
        let newest = self.messages.last().map(|message| message.id.clone());
        rules::cut(&mut self.session, &deleted, parent, newest, *updated_at);
        Ok(deleted)
    }

    pub(super) fn push(&mut self, message: Message) {
        self.positions
            .insert(message.id.clone(), self.messages.len());
        self.messages.push(message);
    }

    pub(super) fn get(&self, id: &MessageId) -> Option<&Message> {
        Some(&self.messages[*self.positions.get(id)?])
    }

    pub(super) fn position(&self, id: &MessageId) -> Result<usize> {
        self.positions
            .get(id)
            .copied()
            .ok_or_else(|| rules::message_not_in_session(id))
    }

    pub(super) fn parent(&self, at: usize) -> Option<usize> {
        self.positions
            .get(self.messages[at].parent_id.as_ref()?)
            .copied()
    }

    /// Where the messages of a page are, in conversation order, and whether there are more.
    pub(super) fn page(&self, query: &MessageQuery) -> Result<(Vec<usize>, bool)> {
        let all = query.branch == Branch::All;
        let leaf = match &query.branch {
            Branch::All => self.messages.len().checked_sub(1),
            Branch::Active => self
                .session
                .head
                .as_ref()
                .map(|head| self.position(head))
                .transpose()?,
            Branch::Leaf(leaf) => Some(self.position(leaf)?),
        };
        let before = |at: &usize| {
            if all {
                at.checked_sub(1)
            } else {
                self.parent(*at)
            }
        };
        let back_from = |start: Option<usize>| std::iter::successors(start, before);
        let mut page: Vec<usize> = match &query.range {
            MessageRange::Latest => back_from(leaf).take(query.limit + 1).collect(),
            MessageRange::Before(id) => {
                let start = before(&self.position(id)?);
                back_from(start).take(query.limit + 1).collect()
            }
            MessageRange::After(id) => {
                let stop = self.position(id)?;
                let line: Vec<usize> = back_from(leaf).take_while(|at| *at != stop).collect();
                if line.last().map_or(leaf, before) != Some(stop) {
                    return Err(rules::message_not_on_branch(id));
                }
                line.into_iter().rev().take(query.limit + 1).collect()
            }
        };
        let more = page.len() > query.limit;
        page.truncate(query.limit);
        if !matches!(query.range, MessageRange::After(_)) {
            page.reverse();
        }
        Ok((page, more))
    }
}
