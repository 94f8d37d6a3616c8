//! Sessions and messages: which to make, to change and to list.

use super::fields::Fields;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{MessageId, SessionId};
use crate::message::Metadata;
use crate::session::{Branch, Cursor, MAX_PAGE, MessageRange};
use crate::tutor::{Messages, NewSession};

/// Sessions on a page when nobody says how many.
pub const DEFAULT_SESSIONS: usize = 50;

/// A session to create, from `id`, `title` and `metadata`.
///
/// # Errors
/// `invalid_input`, naming the member.
pub fn new_session(members: Metadata) -> Result<NewSession> {
    let mut fields = Fields::new("session", ErrorKind::InvalidInput, members);
    let session = NewSession {
        id: fields.text("id")?.map(SessionId::new).transpose()?,
        title: fields.text("title")?,
        metadata: fields.object("metadata")?.unwrap_or_default(),
    };
    fields.end()?;
    Ok(session)
}

/// Changes of a session: a new `title`, new `metadata`. What is absent stays as it is.
///
/// # Errors
/// `invalid_input`, naming the member.
pub fn session_changes(members: Metadata) -> Result<(Option<String>, Option<Metadata>)> {
    let mut fields = Fields::new("session", ErrorKind::InvalidInput, members);
    let changes = (fields.text("title")?, fields.object("metadata")?);
    fields.end()?;
    Ok(changes)
}

/// Which sessions to list: `limit` ([`DEFAULT_SESSIONS`] if absent), and `cursor` to go on behind
/// an earlier page.
///
/// # Errors
/// `invalid_input`, naming the member.
pub fn sessions(members: Metadata) -> Result<(usize, Option<Cursor>)> {
    let mut fields = Fields::new("listing", ErrorKind::InvalidInput, members);
    let limit = fields.count("limit")?.unwrap_or(DEFAULT_SESSIONS);
    let cursor = fields.text("cursor")?.map(Cursor::from_text);
    fields.end()?;
    Ok((limit, cursor))
}

/// Which messages to list: `limit` ([`MAX_PAGE`] if absent); `before` or `after` a message; along
/// the branch that ends in `leaf`, or `all` of the tree, instead of the active branch.
///
/// # Errors
/// `invalid_input`, naming the member.
pub fn messages(members: Metadata) -> Result<Messages> {
    let mut fields = Fields::new("listing", ErrorKind::InvalidInput, members);
    let id = |text: Option<String>| text.map(MessageId::new).transpose();
    let limit = fields.count("limit")?.unwrap_or(MAX_PAGE);
    let before = id(fields.text("before")?)?;
    let after = id(fields.text("after")?)?;
    let leaf = id(fields.text("leaf")?)?;
    let all = fields.flag("all")?;
    fields.end()?;
    let range = match (before, after) {
        (None, None) => MessageRange::Latest,
        (Some(before), None) => MessageRange::Before(before),
        (None, Some(after)) => MessageRange::After(after),
        (Some(_), Some(_)) => {
            return Err(Error::invalid_input(
                "messages are listed before a message or after one, not both",
            )
            .with_context("field", "after"));
        }
    };
    let branch = match (leaf, all) {
        (None, false) => Branch::Active,
        (Some(leaf), false) => Branch::Leaf(leaf),
        (None, true) => Branch::All,
        (Some(_), true) => {
            return Err(Error::invalid_input(
                "messages are listed along the branch of a leaf or on all branches, not both",
            )
            .with_context("field", "all"));
        }
    };
    Ok(Messages {
        limit,
        branch,
        range,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn map(value: Value) -> Metadata {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_listing_has_defaults_and_one_direction() {
        assert_eq!(sessions(Metadata::new()).unwrap(), (DEFAULT_SESSIONS, None));
        assert_eq!(messages(Metadata::new()).unwrap(), Messages::default());
        let older = messages(map(json!({"limit": 3, "before": "m"}))).unwrap();
        assert_eq!(older.limit, 3);
        assert!(matches!(older.range, MessageRange::Before(_)));
        let branch = messages(map(json!({"leaf": "m"}))).unwrap().branch;
        assert!(matches!(branch, Branch::Leaf(_)));
        assert!(messages(map(json!({"before": "a", "after": "b"}))).is_err());
        assert!(messages(map(json!({"leaf": "a", "all": true}))).is_err());
    }

    #[test]
    fn a_wrong_member_is_named_and_not_quoted() {
        let canary = || map(json!({"limit": "canary", "title": 5, "canary": 1}));
        for error in [
            sessions(canary()).unwrap_err(),
            messages(canary()).unwrap_err(),
            new_session(canary()).unwrap_err(),
            session_changes(canary()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(["limit", "title"].contains(&error.context_value("field").unwrap()));
            assert!(!format!("{error:?}").contains("canary"));
        }
    }
}
