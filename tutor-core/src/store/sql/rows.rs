//! What is stored of sessions, messages and turns: what the database must know in columns, the rest
//! in one JSON object, `details`.
//!
//! A new member must be optional or have a default, and no name is ever used again for something
//! else; then old rows stay readable.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::connection::{Row, Value, damaged, values};
use super::table;
use crate::error::{Error, Result};
use crate::id::{MessageId, OwnerId};
use crate::message::{Content, Message, Role};
use crate::session::{Session, SessionKey};
use crate::store::RunningTurn;
use crate::time::Timestamp;
use crate::turn::{Turn, TurnKey};

/// A session, and what only its store knows of it.
#[derive(Debug)]
pub(super) struct StoredSession {
    pub(super) session: Session,
    /// The number of the next message.
    pub(super) next_seq: u64,
    /// True if some message does not follow the one stored before it. While false, a branch is
    /// the messages of all numbers up to its leaf's, and no number is missing.
    pub(super) forked: bool,
    /// What a newer program added: kept when this one writes the session again.
    unknown: Map<String, Json>,
}

/// The members of a session that are columns.
const SESSION_COLUMNS: [&str; 8] = [
    "id",
    "owner",
    "title",
    "created_at",
    "updated_at",
    "message_count",
    "head",
    "running_turn",
];

/// The other members of a session.
const SESSION_DETAILS: [&str; 4] = ["preferences", "metadata", "own_title", "summary"];

impl From<Session> for StoredSession {
    fn from(session: Session) -> Self {
        Self {
            session,
            next_seq: 0,
            forked: false,
            unknown: Map::new(),
        }
    }
}

impl StoredSession {
    /// Reads a row of all columns.
    pub(super) fn read(row: &Row, key: &SessionKey) -> Result<Self> {
        let mut values = table::SESSIONS.open(row)?;
        if (values.text()?, values.text()?) != (key.owner.to_string(), key.id.to_string()) {
            return Err(damaged("a row is found by another one's key"));
        }
        let title = values.text()?;
        let (created_at, updated_at) = (values.time()?, values.time()?);
        let (message_count, next_seq) = (values.count()?, values.count()?);
        let (head, running_turn) = (values.optional_text()?, values.optional_text()?);
        let forked = values.integer()? != 0;
        let mut members = object(&values.text()?)?;
        let mut unknown = members.clone();
        unknown.retain(|name, _| !SESSION_DETAILS.contains(&name.as_str()) && name != "title");
        let mut set = |name: &str, value: Json| members.insert(name.to_owned(), value);
        set("id", key.id.as_str().into());
        set("owner", key.owner.as_str().into());
        set("created_at", created_at.to_string().into());
        set("updated_at", updated_at.to_string().into());
        set("message_count", message_count.into());
        set("head", head.into());
        set("running_turn", running_turn.into());
        members
            .entry("title")
            .or_insert_with(|| Json::String(title));
        Ok(Self {
            session: typed(Json::Object(members))?,
            next_seq,
            forked,
            unknown,
        })
    }

    /// All columns.
    pub(super) fn values(&self) -> Result<Vec<Value>> {
        let session = &self.session;
        let mut details = self.unknown.clone();
        details.extend(members(session, &SESSION_COLUMNS)?);
        let title = match plain(&session.title) {
            Ok(title) => title.to_owned(),
            Err(title) => {
                details.insert("title".to_owned(), session.title.clone().into());
                title
            }
        };
        Ok(table::SESSIONS.seal(values![
            session.owner.as_str(),
            session.id.as_str(),
            title,
            storable(session.created_at)?,
            storable(session.updated_at)?,
            signed(session.message_count)?,
            signed(self.next_seq)?,
            session.head.as_ref().map(MessageId::as_str),
            session.running_turn.as_ref().map(|id| id.as_str()),
            i64::from(self.forked),
            Json::Object(details).to_string(),
        ]))
    }
}

/// The members of a message that are columns. Its content is one if it is a text.
const MESSAGE_COLUMNS: [&str; 6] = [
    "id",
    "session_id",
    "parent_id",
    "turn_id",
    "role",
    "timestamp",
];

/// Reads a row of all columns.
pub(super) fn read_message(row: &Row, session: &SessionKey) -> Result<Message> {
    let mut values = table::MESSAGES.open(row)?;
    if (values.text()?, values.text()?) != (session.owner.to_string(), session.id.to_string()) {
        return Err(damaged("a row is found by another one's key"));
    }
    let _seq = values.count()?;
    let (id, parent_id, turn_id) = (
        values.text()?,
        values.optional_text()?,
        values.optional_text()?,
    );
    let (role, content, timestamp) = (values.text()?, values.text()?, values.time()?);
    let mut members = object(&values.text()?)?;
    let mut set = |name: &str, value: Option<String>| {
        members.insert(name.to_owned(), value.map_or(Json::Null, Json::String));
    };
    set("id", Some(id));
    set("session_id", Some(session.id.to_string()));
    set("parent_id", parent_id);
    set("turn_id", turn_id);
    set("role", Some(role));
    set("timestamp", Some(timestamp.to_string()));
    members
        .entry("content")
        .or_insert_with(|| Json::String(content));
    typed(Json::Object(members))
}

/// All columns.
pub(super) fn message_values(owner: &OwnerId, message: &Message, seq: u64) -> Result<Vec<Value>> {
    let mut details = members(message, &MESSAGE_COLUMNS)?;
    let content = match &message.content {
        Content::Text(text) => match plain(text) {
            Ok(text) => {
                details.remove("content");
                text.to_owned()
            }
            Err(text) => text,
        },
        parts @ Content::Parts(_) => plain(&parts.text()).map_or_else(|text| text, str::to_owned),
    };
    Ok(table::MESSAGES.seal(values![
        owner.as_str(),
        message.session_id.as_str(),
        signed(seq)?,
        message.id.as_str(),
        message.parent_id.as_ref().map(MessageId::as_str),
        message.turn_id.as_ref().map(|id| id.as_str()),
        message.role.as_str(),
        content,
        storable(message.timestamp)?,
        Json::Object(details).to_string(),
    ]))
}

/// Reads a row of all columns.
pub(super) fn read_turn(row: &Row) -> Result<RunningTurn> {
    let mut values = table::TURNS.open(row)?;
    let (owner, id) = (values.text()?, values.text()?);
    let (_session, _status) = (values.text()?, values.text()?);
    let _idempotency_key = values.optional_text()?;
    let lease_until = values.integer()?;
    let partial = values.optional_text()?;
    let mut turn: Turn = parse(&values.text()?)?;
    if (turn.owner.as_str(), turn.id.as_str()) != (&owner, &id) {
        return Err(damaged("a row holds another one's turn"));
    }
    turn.lease_until = Timestamp::from_micros(lease_until);
    Ok(RunningTurn {
        turn,
        partial: partial.map(|text| parse(&text)).transpose()?,
    })
}

/// All columns.
pub(super) fn turn_values(key: &TurnKey, running: &RunningTurn) -> Result<Vec<Value>> {
    let turn = &running.turn;
    Ok(table::TURNS.seal(values![
        key.owner.as_str(),
        key.id.as_str(),
        turn.session_id.as_str(),
        turn.status.as_str(),
        turn.idempotency_key.as_deref(),
        turn.lease_until.as_micros(),
        running.partial.as_ref().map(json).transpose()?,
        json(turn)?,
    ]))
}

pub(super) fn read_role(text: &str) -> Result<Role> {
    typed(Json::String(text.to_owned()))
}

pub(super) fn read_id<T: TryFrom<String>>(text: String) -> Result<T> {
    T::try_from(text).map_err(|_| damaged("an id is none"))
}

/// A text that every database can keep, or what comes near: PostgreSQL has no U+0000 in texts.
fn plain(text: &str) -> Result<&str, String> {
    if text.contains('\0') {
        Err(text.replace('\0', "\u{fffd}"))
    } else {
        Ok(text)
    }
}

/// A number as the databases have it.
pub(super) fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::internal("a count is too large to be stored"))
}

/// A time that both databases can keep, and that sorts as text.
fn storable(time: Timestamp) -> Result<Timestamp> {
    // The years 1 to 9999.
    const RANGE: std::ops::Range<i64> = -62_135_596_800_000_000..253_370_764_800_000_000;
    if RANGE.contains(&time.as_micros()) {
        return Ok(time);
    }
    Err(Error::invalid_input(
        "a time is in one of the years 1 to 9999",
    ))
}

/// The members of a value that are no columns.
fn members(value: &impl Serialize, columns: &[&str]) -> Result<Map<String, Json>> {
    match serde_json::to_value(value) {
        Ok(Json::Object(mut members)) => {
            columns.iter().for_each(|name| drop(members.remove(*name)));
            Ok(members)
        }
        Ok(_) | Err(_) => Err(unwritable()),
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|_| unwritable())
}

fn unwritable() -> Error {
    Error::internal("what is to be stored has no JSON form")
}

fn object(text: &str) -> Result<Map<String, Json>> {
    parse(text)
}

// Neither error quotes: what serde says may.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| damaged("a row's JSON is not what was written"))
}

fn typed<T: DeserializeOwned>(value: Json) -> Result<T> {
    serde_json::from_value(value).map_err(|_| damaged("a row's members are not what was written"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::sample;
    use crate::session::Summary;

    #[test]
    fn every_member_of_a_session_is_a_column_or_a_detail() {
        let session = Session {
            summary: Some(Summary {
                text: "t".into(),
                through: sample::message_id("m"),
                made_at: Timestamp::default(),
            }),
            ..sample::session("o", "s", 5)
        };
        let details = members(&session, &SESSION_COLUMNS).unwrap();
        let names: Vec<&str> = details.keys().map(String::as_str).collect();
        let mut expected = SESSION_DETAILS;
        expected.sort_unstable();
        let mut names = names;
        names.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn a_time_that_a_database_cannot_keep_is_refused() {
        for micros in [i64::MIN, i64::MAX, -62_135_596_800_000_001] {
            assert!(storable(Timestamp::from_micros(micros)).is_err());
        }
        assert!(storable(Timestamp::from_micros(-62_135_596_800_000_000)).is_ok());
    }
}
