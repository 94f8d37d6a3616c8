//! The branches of a conversation: siblings, the head, and what is deleted.

use super::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::id::MessageId;
use crate::message::Message;
use crate::session::{
    Branch, MAX_PAGE, MessageCut, MessageQuery, MessageRange, Session, SessionKey, SessionPatch,
};

/// The most siblings that are listed.
pub const MAX_SIBLINGS: usize = 1000;

impl Engine {
    /// The messages that follow what this one follows, in the order in which they were stored.
    /// Reads what was stored after their parent.
    pub(crate) async fn siblings(
        &self,
        session: &SessionKey,
        id: &MessageId,
    ) -> Result<Vec<Message>> {
        let message = self.existing(session, id).await?;
        let parent = message.parent_id;
        let mut siblings = Vec::new();
        // Children are stored after their parent; first messages can be anywhere.
        let forwards = parent.is_some();
        let mut range = match &parent {
            Some(parent) => MessageRange::After(parent.clone()),
            None => MessageRange::Latest,
        };
        loop {
            let page = self
                .store
                .messages(MessageQuery {
                    session: session.clone(),
                    branch: Branch::All,
                    range,
                    limit: MAX_PAGE,
                })
                .await?;
            let (first, last) = (page.items.first(), page.items.last());
            let end = if forwards { last } else { first };
            let next = end.map(|message| message.id.clone());
            let found = page
                .items
                .into_iter()
                .filter(|message| message.parent_id == parent);
            if forwards {
                siblings.extend(found);
            } else {
                siblings.splice(0..0, found);
            }
            match (page.next_cursor, next) {
                (Some(_), Some(next)) if siblings.len() < MAX_SIBLINGS => {
                    range = if forwards {
                        MessageRange::After(next)
                    } else {
                        MessageRange::Before(next)
                    };
                }
                _ => break,
            }
        }
        siblings.truncate(MAX_SIBLINGS);
        Ok(siblings)
    }

    /// Makes a message the leaf of the active branch.
    pub(crate) async fn set_head(&self, key: &SessionKey, head: &MessageId) -> Result<Session> {
        self.existing(key, head).await?;
        let patch = SessionPatch {
            head: Some(head.clone()),
            updated_at: self.runtime.now(),
            ..SessionPatch::default()
        };
        self.store.update_session(key, patch).await
    }

    /// Deletes a message, perhaps with all that follows it. A turn that nobody runs any more does
    /// not stand in the way.
    pub(crate) async fn delete_message(
        &self,
        key: &SessionKey,
        id: &MessageId,
        with_branch: bool,
    ) -> Result<u64> {
        let cut = MessageCut {
            message: id.clone(),
            with_branch,
            updated_at: self.runtime.now(),
        };
        match self.store.delete_message(key, cut.clone()).await {
            Err(error) if self.reclaim_blocker(&key.owner, &error).await? => {
                self.store.delete_message(key, cut).await
            }
            result => result,
        }
    }

    /// A message that a caller named: `not_found` if the session has none of this id.
    async fn existing(&self, session: &SessionKey, id: &MessageId) -> Result<Message> {
        self.message(session.clone(), id.clone())
            .await
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidInput => Error::not_found("message", id),
                _ => error,
            })
    }
}
