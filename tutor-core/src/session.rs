//! Sessions: conversations, and the pages in which they are listed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hidden::{Hidden, HiddenObject};
use crate::id::{MessageId, OwnerId, SessionId, TurnId};
use crate::message::{Message, Metadata};
use crate::time::Timestamp;

/// A conversation.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Unique per owner.
    pub id: SessionId,
    /// Whose it is.
    pub owner: OwnerId,
    /// What to show in a list; at most [`MAX_TITLE_CHARS`] characters.
    pub title: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a turn of it last began or ended, or it was changed.
    pub updated_at: Timestamp,
    /// Messages on all branches.
    pub message_count: u64,
    /// The leaf of the active branch; `None` while the session is empty.
    #[serde(default)]
    pub head: Option<MessageId>,
    /// The turn that is running, if any.
    #[serde(default)]
    pub running_turn: Option<TurnId>,
    /// The preferences of its latest request, known and unknown.
    #[serde(default)]
    pub preferences: Metadata,
    /// The caller's own data.
    #[serde(default)]
    pub metadata: Metadata,
    /// True if the title is the caller's own: the engine never replaces it.
    #[serde(default)]
    pub own_title: bool,
    /// What stands for messages that are too old to be sent to a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

/// A summary of the beginning of a conversation, made by a model.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The summary.
    pub text: String,
    /// The newest message that it covers; it covers all before it on the way to the first one.
    pub through: MessageId,
    /// When it was made.
    pub made_at: Timestamp,
}

impl fmt::Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Summary")
            .field("text", &Hidden(&self.text))
            .field("through", &self.through)
            .field("made_at", &self.made_at)
            .finish()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .field("title", &Hidden(&self.title))
            .field("created_at", &self.created_at)
            .field("updated_at", &self.updated_at)
            .field("message_count", &self.message_count)
            .field("head", &self.head)
            .field("running_turn", &self.running_turn)
            .field("preferences", &HiddenObject(&self.preferences))
            .field("metadata", &HiddenObject(&self.metadata))
            .field("own_title", &self.own_title)
            .field("summary", &self.summary)
            .finish()
    }
}

/// The longest title, in characters.
pub const MAX_TITLE_CHARS: usize = 200;

/// The full name of a session: no lookup without an owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// Whose session.
    pub owner: OwnerId,
    /// Which one.
    pub id: SessionId,
}

impl SessionKey {
    /// The session `id` of `owner`.
    pub fn new(owner: OwnerId, id: SessionId) -> Self {
        Self { owner, id }
    }
}

impl Session {
    /// Its full name.
    pub fn key(&self) -> SessionKey {
        SessionKey::new(self.owner.clone(), self.id.clone())
    }
}

/// Changes to a session; what is `None` stays as it is.
#[derive(Clone, Default, PartialEq)]
pub struct SessionPatch {
    /// A new title, which is the caller's own from now on.
    pub title: Option<String>,
    /// A better title that the engine made: ignored if the session's is the caller's own.
    pub made_title: Option<String>,
    /// New data of the caller, replacing the old.
    pub metadata: Option<Metadata>,
    /// A message of the session that becomes the leaf of the active branch.
    pub head: Option<MessageId>,
    /// A new summary, replacing the old.
    pub summary: Option<Summary>,
    /// When the change is made.
    pub updated_at: Timestamp,
}

impl fmt::Debug for SessionPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPatch")
            .field("title", &self.title.as_deref().map(Hidden))
            .field("made_title", &self.made_title.as_deref().map(Hidden))
            .field("metadata", &self.metadata.as_ref().map(HiddenObject))
            .field("head", &self.head)
            .field("summary", &self.summary)
            .field("updated_at", &self.updated_at)
            .finish()
    }
}

/// Which messages to delete. See
/// [`SessionStore::delete_message`](crate::SessionStore::delete_message).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageCut {
    /// The message.
    pub message: MessageId,
    /// True to delete all that follows it too, on every branch.
    pub with_branch: bool,
    /// When the change is made.
    pub updated_at: Timestamp,
}

/// Which sessions to list: those of one owner, newest `updated_at` first.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionQuery {
    /// Whose.
    pub owner: OwnerId,
    /// At most this many, 1 to [`MAX_PAGE`].
    pub limit: usize,
    /// Go on behind a [`Page::next_cursor`].
    pub cursor: Option<Cursor>,
}

/// Which messages to read, always returned in conversation order (oldest first).
#[derive(Clone, Debug, PartialEq)]
pub struct MessageQuery {
    /// Of which session.
    pub session: SessionKey,
    /// Along which branch.
    pub branch: Branch,
    /// From where, in which direction.
    pub range: MessageRange,
    /// At most this many, 1 to [`MAX_PAGE`].
    pub limit: usize,
}

impl MessageQuery {
    /// The newest `limit` messages of the active branch.
    pub fn latest(session: SessionKey, limit: usize) -> Self {
        Self {
            session,
            branch: Branch::Active,
            range: MessageRange::Latest,
            limit,
        }
    }
}

/// A line of messages in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Branch {
    /// From the session's head back to the first message.
    Active,
    /// From this message (included) back to the first one.
    Leaf(MessageId),
    /// The whole tree, in the order in which the messages were stored.
    All,
}

/// A direction and a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageRange {
    /// The newest ones. The cursor of the page leads to older ones.
    Latest,
    /// The newest ones older than this message. The cursor of the page leads to still older ones.
    Before(MessageId),
    /// The oldest ones newer than this message. The cursor of the page leads to still newer ones.
    After(MessageId),
}

/// The most items on a page.
pub const MAX_PAGE: usize = 200;

/// Some items, and how to get more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page<T> {
    /// The items, in the documented order.
    pub items: Vec<T>,
    /// Behind the last item in reading direction; `None` if there is nothing more.
    pub next_cursor: Option<Cursor>,
}

impl<T> Page<T> {
    /// Converts each item.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            next_cursor: self.next_cursor,
        }
    }
}

impl Page<Message> {
    /// A page whose cursor is the message at its far end: the first one when reading backwards,
    /// the last one when reading forwards.
    pub fn of_messages(items: Vec<Message>, range: &MessageRange, more: bool) -> Self {
        let end = match range {
            MessageRange::Latest | MessageRange::Before(_) => items.first(),
            MessageRange::After(_) => items.last(),
        };
        let next_cursor = end
            .filter(|_| more)
            .map(|message| Cursor(message.id.to_string()));
        Self { items, next_cursor }
    }
}

/// A place in a listing: an opaque, URL-safe text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// Takes a text that a caller sent back. Whether it is a cursor shows when it is used.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text to send.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The place behind `session` in a list ordered by `updated_at`, newest first.
    pub fn behind(session: &Session) -> Self {
        Self(format!(
            "{:x}.{}",
            session.updated_at.as_micros(),
            session.id
        ))
    }

    /// The `(updated_at, id)` that [`behind`](Self::behind) wrote.
    ///
    /// # Errors
    /// `invalid_input` if it is not such a cursor.
    pub fn session_place(&self) -> Result<(Timestamp, SessionId)> {
        self.0
            .split_once('.')
            .and_then(|(micros, id)| {
                let micros = i64::from_str_radix(micros, 16).ok()?;
                Some((Timestamp::from_micros(micros), SessionId::new(id).ok()?))
            })
            .ok_or_else(|| Error::invalid_input("this cursor is not one that a list returned"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_cursor_round_trips_and_garbage_is_refused() {
        let cursor = Cursor("5f.a.b".into());
        let (time, id) = cursor.session_place().unwrap();
        assert_eq!((time.as_micros(), id.as_str()), (0x5f, "a.b"));
        for bad in ["", "x", "zz.a", "5f.", "5f.a b"] {
            assert!(Cursor::from_text(bad).session_place().is_err(), "{bad:?}");
        }
    }
}
