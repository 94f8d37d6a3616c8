//! Finding conversations by what was said in them.

use unicode_normalization::UnicodeNormalization;

use super::{Tutor, check_limit};
use crate::error::{Error, ErrorKind, Result};
use crate::id::SessionId;
use crate::message::Audience;
use crate::session::{Branch, Cursor, MAX_PAGE, MessageQuery, MessageRange, Page, Session};

/// The longest text that is searched for, in characters.
pub const MAX_QUERY_CHARS: usize = 200;

/// Of a text that is searched for, the words that count.
pub const MAX_WORDS: usize = 16;

/// The messages that one call looks into, as far as it is between two sessions then.
const MAX_SEARCHED: usize = 20_000;

/// The text as texts are compared: an `é` is one, whether it is one character or two.
fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfkc().collect::<String>().to_lowercase()
}

impl Tutor {
    /// A page of the sessions in which every word of `text` occurs, in the title or in messages on
    /// any branch that the learner may see; the case of letters and how they are composed are no
    /// matter. The latest used first.
    ///
    /// A page may have fewer sessions than `limit`, even none, and a cursor all the same: then as
    /// much was looked into as one call may, and the cursor goes on there.
    ///
    /// # Errors
    /// `invalid_input` for a text without a word, or longer than [`MAX_QUERY_CHARS`], and for a
    /// limit or cursor that is none; errors of the store.
    pub async fn search(
        &self,
        text: &str,
        limit: usize,
        cursor: Option<Cursor>,
    ) -> Result<Page<Session>> {
        check_limit(limit)?;
        if text.chars().count() > MAX_QUERY_CHARS || text.trim().is_empty() {
            return Err(Error::invalid_input(format!(
                "what is searched for has 1 to {MAX_QUERY_CHARS} characters"
            ))
            .with_context("field", "q"));
        }
        let words: Vec<String> = text
            .split_whitespace()
            .take(MAX_WORDS)
            .map(folded)
            .collect();
        let mut found = Vec::new();
        let (mut searched, mut cursor) = (0, cursor);
        loop {
            let page = self.sessions(MAX_PAGE, cursor).await?;
            for session in page.items {
                let behind = Cursor::behind(&session);
                if self.says(&session, &words, &mut searched).await? {
                    found.push(session);
                }
                if found.len() == limit || searched >= MAX_SEARCHED {
                    let more = !self
                        .sessions(1, Some(behind.clone()))
                        .await?
                        .items
                        .is_empty();
                    return Ok(Page {
                        items: found,
                        next_cursor: more.then_some(behind),
                    });
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(Page {
                    items: found,
                    next_cursor: None,
                });
            }
        }
    }

    /// True if all words occur in the session.
    async fn says(
        &self,
        session: &Session,
        words: &[String],
        searched: &mut usize,
    ) -> Result<bool> {
        let mut missing: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut read = |text: &str| {
            let text = folded(text);
            missing.retain(|word| !text.contains(word));
            missing.is_empty()
        };
        if read(&session.title) {
            return Ok(true);
        }
        let mut range = MessageRange::Latest;
        loop {
            let page = match self.messages_of(&session.id, range).await {
                Ok(page) => page,
                // Deleted meanwhile; or damaged, which must not hide the others.
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DataCorrupt) =>
                {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
            *searched += page.items.len() + 1;
            for message in &page.items {
                let is_seen = message.visible_to.contains(&Audience::Learner);
                if is_seen && read(&message.content.text()) {
                    return Ok(true);
                }
            }
            // Reading megabytes must not keep a worker to itself.
            tokio::task::coop::consume_budget().await;
            match (page.next_cursor, page.items.into_iter().next()) {
                (Some(_), Some(first)) => range = MessageRange::Before(first.id),
                _ => return Ok(false),
            }
        }
    }

    async fn messages_of(
        &self,
        session: &SessionId,
        range: MessageRange,
    ) -> Result<Page<crate::Message>> {
        let query = MessageQuery {
            session: self.session_key(session),
            branch: Branch::All,
            range,
            limit: MAX_PAGE,
        };
        self.engine.store.messages(query).await
    }
}
