//! What learners think of what was said: a thumb and a comment, kept with the message.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Tutor;
use crate::engine::no_records;
use crate::error::{Error, ErrorKind, Result};
use crate::hidden::Hidden;
use crate::id::{MessageId, SessionId};
use crate::message::Message;
use crate::session::MAX_PAGE;
use crate::store::Documents;
use crate::store::document::remove;
use crate::time::Timestamp;

/// The kind of the records. A key is `owner/session/message`.
const KIND: &str = "feedback";

/// The longest comment, in characters.
pub const MAX_COMMENT_CHARS: usize = 4000;

/// A thumb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rating {
    /// It helped.
    Up,
    /// It did not.
    Down,
}

/// What somebody thinks of a message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feedback {
    /// The message.
    pub message_id: MessageId,
    /// The conversation.
    pub session_id: SessionId,
    /// The thumb.
    pub rating: Rating,
    /// Their words, at most [`MAX_COMMENT_CHARS`] characters.
    #[serde(default)]
    pub comment: Option<String>,
    /// When it was said last.
    pub updated_at: Timestamp,
}

impl fmt::Debug for Feedback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feedback")
            .field("message_id", &self.message_id)
            .field("session_id", &self.session_id)
            .field("rating", &self.rating)
            .field("comment", &self.comment.as_deref().map(Hidden))
            .field("updated_at", &self.updated_at)
            .finish()
    }
}

impl Tutor {
    /// Keeps what somebody thinks of a message, in place of what they thought before; `None` takes
    /// it back. Returns what is kept.
    ///
    /// # Errors
    /// `not_found` for the session or the message; `invalid_input` for a comment that is blank or
    /// too long; `config` for a tutor without [records](crate::TutorBuilder::records); errors of
    /// the store.
    pub async fn rate(
        &self,
        session: &SessionId,
        message: &MessageId,
        opinion: Option<(Rating, Option<String>)>,
    ) -> Result<Option<Feedback>> {
        if let Some((_, Some(comment))) = &opinion
            && (comment.trim().is_empty() || comment.chars().count() > MAX_COMMENT_CHARS)
        {
            return Err(Error::invalid_input(format!(
                "a comment has 1 to {MAX_COMMENT_CHARS} characters, not only spaces"
            ))
            .with_context("field", "comment"));
        }
        let documents = self.documents().ok_or_else(no_records)?;
        let message = self
            .engine
            .message(self.session_key(session), message.clone())
            .await
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidInput => Error::not_found("message", message),
                _ => error,
            })?;
        let feedback = opinion.map(|(rating, comment)| Feedback {
            message_id: message.id.clone(),
            session_id: session.clone(),
            rating,
            comment,
            updated_at: self.engine.runtime.now(),
        });
        let key = format!("{}{}", self.feedback_of(session), message.id);
        let changed = documents
            .change(KIND, &key, |_: Option<Feedback>| Ok(feedback.clone()))
            .await?;
        let rating = |feedback: &Option<Feedback>| feedback.as_ref().map(|f| f.rating);
        let (was, is) = (rating(&changed.before), rating(&changed.after));
        let count = |rating: Option<Rating>, which| i64::from(rating == Some(which));
        let change = |which| count(is, which) - count(was, which);
        let (up, down) = (change(Rating::Up), change(Rating::Down));
        self.engine.ledger.rate(&self.owner, up, down);
        Ok(changed.after)
    }

    /// What is thought of the messages of a session, in the order of their ids' bytes.
    ///
    /// # Errors
    /// `not_found` for the session; errors of the store.
    pub async fn feedback(&self, session: &SessionId) -> Result<Vec<Feedback>> {
        self.session(session).await?;
        match self.documents() {
            Some(documents) => documents.all(KIND, &self.feedback_of(session)).await,
            None => Ok(Vec::new()),
        }
    }

    /// Finds a message whose session is not known: in the session that was used last, if several
    /// have one of this id. Costs a look into each session.
    ///
    /// # Errors
    /// `not_found`; errors of the store.
    pub async fn find_message(&self, id: &MessageId) -> Result<Message> {
        let mut cursor = None;
        loop {
            let page = self.sessions(MAX_PAGE, cursor).await?;
            for session in page.items {
                match self.engine.message(session.key(), id.clone()).await {
                    Ok(message) => return Ok(message),
                    Err(error) if is_elsewhere(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Err(Error::not_found("message", id));
            }
        }
    }

    fn documents(&self) -> Option<Documents> {
        self.engine.records.clone().map(Documents::new)
    }

    fn feedback_of(&self, session: &SessionId) -> String {
        format!("{}/{session}/", self.owner)
    }

    /// Deletes what is thought of a session's messages.
    pub(super) async fn forget_feedback(&self, session: &SessionId) -> Result<()> {
        let Some(documents) = self.documents() else {
            return Ok(());
        };
        let keys = documents.keys(KIND, &self.feedback_of(session)).await?;
        forget(&documents, &keys).await
    }

    /// Deletes what is thought of messages that are gone.
    pub(super) async fn forget_orphaned_feedback(&self, session: &SessionId) -> Result<()> {
        let Some(documents) = self.documents() else {
            return Ok(());
        };
        let mut orphans = Vec::new();
        for key in documents.keys(KIND, &self.feedback_of(session)).await? {
            let Some((_, id)) = key.rsplit_once('/') else {
                continue;
            };
            let id = MessageId::new(id)?;
            match self.engine.message(self.session_key(session), id).await {
                Err(error) if is_elsewhere(&error) => orphans.push(key),
                found => drop(found?),
            }
        }
        forget(&documents, &orphans).await
    }
}

/// A store says so of a message that is not in the session.
fn is_elsewhere(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput)
}

async fn forget(documents: &Documents, keys: &[String]) -> Result<()> {
    let deletions = keys.iter().map(|key| remove(KIND, key));
    documents.commit(deletions.collect()).await
}
