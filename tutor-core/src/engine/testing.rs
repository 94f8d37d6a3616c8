//! What the engine's unit tests share.

use crate::id::{MessageId, SessionId};
use crate::message::{Audience, Author, Message, MessageStatus, Metadata, Role};
use crate::time::Timestamp;

/// A message with this text.
pub(crate) fn message(role: Role, text: &str) -> Message {
    Message {
        id: MessageId::new("m").unwrap(),
        session_id: SessionId::new("s").unwrap(),
        parent_id: None,
        turn_id: None,
        role,
        content: text.into(),
        status: MessageStatus::Complete,
        author: Author::Learner,
        visible_to: Audience::everyone(),
        timestamp: Timestamp::default(),
        provider: None,
        model: None,
        usage: None,
        finish_reason: None,
        metadata: Metadata::new(),
    }
}
