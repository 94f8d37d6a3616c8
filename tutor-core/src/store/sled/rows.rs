//! What is stored of sessions, messages and turns: MessagePack maps with short names.
//!
//! A new member must be optional or have a default, and no name is ever used again for something
//! else; then old data stays readable. What the key says is not repeated.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::ErrorInfo;
use crate::id::{MessageId, OwnerId, SessionId, TurnId};
use crate::message::{
    Audience, Author, Content, FinishReason, Message, MessageStatus, Metadata, Role, Usage,
};
use crate::session::{Session, SessionKey, Summary};
use crate::store::RunningTurn;
use crate::time::Timestamp;
use crate::trace::Trace;
use crate::turn::{Turn, TurnStatus};

/// A session. Its next message gets the number [`message_count`](Self::message_count), unless
/// messages were deleted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SessionRow<'a> {
    #[serde(rename = "t")]
    title: Cow<'a, str>,
    #[serde(rename = "c")]
    created_at: i64,
    #[serde(rename = "u")]
    updated_at: i64,
    #[serde(rename = "n")]
    message_count: u64,
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    head: Option<Compact<MessageId>>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    running_turn: Option<Compact<TurnId>>,
    #[serde(rename = "p", default, skip_serializing_if = "is_empty")]
    preferences: Cow<'a, Metadata>,
    #[serde(rename = "m", default, skip_serializing_if = "is_empty")]
    metadata: Cow<'a, Metadata>,
    #[serde(rename = "f", default, skip_serializing_if = "std::ops::Not::not")]
    forked: bool,
    /// The number of the next message, if it is greater than the count.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    next_seq: Option<u64>,
    #[serde(rename = "o", default, skip_serializing_if = "std::ops::Not::not")]
    own_title: bool,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    summary: Option<Cow<'a, Summary>>,
    /// What a newer program added: kept when this one writes the session again. Such members hold
    /// anything but bytes.
    #[serde(flatten)]
    unknown: Cow<'a, Metadata>,
}

fn is_empty(members: &Metadata) -> bool {
    members.is_empty()
}

/// A session, and what only its store knows of it.
#[derive(Clone, Debug)]
pub(super) struct StoredSession {
    pub(super) session: Session,
    /// True if some message does not follow the one stored before it. While false, a branch is
    /// the messages of all numbers up to its leaf's.
    pub(super) forked: bool,
    /// The number of the next message: more than the count if messages before it were deleted.
    pub(super) next_seq: u64,
    /// The newest message, if it is known.
    pub(super) last: Option<(MessageId, Role)>,
    /// How many further pieces its row has.
    pub(super) pieces: u16,
    unknown: Metadata,
}

impl StoredSession {
    /// True if some number below the next one has no message.
    pub(super) fn has_gaps(&self) -> bool {
        self.next_seq != self.session.message_count
    }
}

impl From<Session> for StoredSession {
    fn from(session: Session) -> Self {
        Self {
            next_seq: session.message_count,
            session,
            forked: false,
            last: None,
            pieces: 0,
            unknown: Metadata::new(),
        }
    }
}

impl<'a> SessionRow<'a> {
    pub(super) fn new(stored: &'a StoredSession) -> Self {
        let session = &stored.session;
        Self {
            title: Cow::Borrowed(&session.title),
            created_at: session.created_at.as_micros(),
            updated_at: session.updated_at.as_micros(),
            message_count: session.message_count,
            head: session.head.clone().map(Compact),
            running_turn: session.running_turn.clone().map(Compact),
            preferences: Cow::Borrowed(&session.preferences),
            metadata: Cow::Borrowed(&session.metadata),
            forked: stored.forked,
            next_seq: stored.has_gaps().then_some(stored.next_seq),
            own_title: session.own_title,
            summary: session.summary.as_ref().map(Cow::Borrowed),
            unknown: Cow::Borrowed(&stored.unknown),
        }
    }

    pub(super) fn into_stored(self, key: &SessionKey) -> StoredSession {
        let session = Session {
            id: key.id.clone(),
            owner: key.owner.clone(),
            title: self.title.into_owned(),
            created_at: Timestamp::from_micros(self.created_at),
            updated_at: Timestamp::from_micros(self.updated_at),
            message_count: self.message_count,
            head: self.head.map(|id| id.0),
            running_turn: self.running_turn.map(|id| id.0),
            preferences: self.preferences.into_owned(),
            metadata: self.metadata.into_owned(),
            own_title: self.own_title,
            summary: self.summary.map(Cow::into_owned),
        };
        StoredSession {
            next_seq: self.next_seq.unwrap_or(session.message_count),
            session,
            forked: self.forked,
            last: None,
            pieces: 0,
            unknown: self.unknown.into_owned(),
        }
    }
}

/// Where a message is, and what a turn that answers or follows it must know.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct PositionRow {
    #[serde(rename = "s")]
    pub(super) seq: u64,
    #[serde(rename = "r")]
    pub(super) role: Role,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MessageRow {
    #[serde(rename = "i")]
    pub(super) id: Compact<MessageId>,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    parent_id: Option<Compact<MessageId>>,
    /// The parent's number.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<u64>,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    turn_id: Option<Compact<TurnId>>,
    #[serde(rename = "r")]
    role: Role,
    #[serde(rename = "c")]
    content: Content,
    #[serde(rename = "s", default)]
    status: MessageStatus,
    #[serde(rename = "a")]
    author: Author,
    /// `None` for everyone.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    visible_to: Option<BTreeSet<Audience>>,
    #[serde(rename = "z")]
    timestamp: i64,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    usage: Option<UsageRow>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    finish_reason: Option<FinishReason>,
    #[serde(rename = "x", default, skip_serializing_if = "Metadata::is_empty")]
    metadata: Metadata,
}

impl MessageRow {
    pub(super) fn new(message: Message, parent: Option<u64>) -> Self {
        let for_everyone = message.visible_to == Audience::everyone();
        Self {
            id: Compact(message.id),
            parent_id: message.parent_id.map(Compact),
            parent,
            turn_id: message.turn_id.map(Compact),
            role: message.role,
            content: message.content,
            status: message.status,
            author: message.author,
            visible_to: (!for_everyone).then_some(message.visible_to),
            timestamp: message.timestamp.as_micros(),
            provider: message.provider,
            model: message.model,
            usage: message.usage.map(UsageRow::from),
            finish_reason: message.finish_reason,
            metadata: message.metadata,
        }
    }

    pub(super) fn id(&self) -> &MessageId {
        &self.id.0
    }

    pub(super) fn parent_id(&self) -> Option<&MessageId> {
        self.parent_id.as_ref().map(|id| &id.0)
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn into_message(self, session: &SessionId) -> Message {
        Message {
            id: self.id.0,
            session_id: session.clone(),
            parent_id: self.parent_id.map(|id| id.0),
            turn_id: self.turn_id.map(|id| id.0),
            role: self.role,
            content: self.content,
            status: self.status,
            author: self.author,
            visible_to: self.visible_to.unwrap_or_else(Audience::everyone),
            timestamp: Timestamp::from_micros(self.timestamp),
            provider: self.provider,
            model: self.model,
            usage: self.usage.map(Usage::from),
            finish_reason: self.finish_reason,
            metadata: self.metadata,
        }
    }
}

/// A turn, running or ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TurnRow {
    #[serde(rename = "i")]
    id: Compact<TurnId>,
    #[serde(rename = "o")]
    owner: OwnerId,
    #[serde(rename = "s")]
    session_id: Compact<SessionId>,
    #[serde(rename = "q")]
    user_message_id: Compact<MessageId>,
    #[serde(rename = "a")]
    reply_message_id: Compact<MessageId>,
    #[serde(rename = "t")]
    status: TurnStatus,
    #[serde(rename = "k")]
    provider: String,
    #[serde(rename = "m")]
    model: String,
    #[serde(rename = "b")]
    started_at: i64,
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<i64>,
    #[serde(rename = "h", default)]
    has_reply: bool,
    #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(rename = "g", default)]
    fingerprint: u64,
    #[serde(rename = "n")]
    instance: String,
    #[serde(rename = "l")]
    lease_until: i64,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorInfo>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    finish_reason: Option<FinishReason>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    usage: Option<UsageRow>,
    #[serde(rename = "x", default)]
    trace: Trace,
    /// The reply so far, of a running turn.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    partial: Option<Box<MessageRow>>,
}

impl From<RunningTurn> for TurnRow {
    fn from(RunningTurn { turn, partial }: RunningTurn) -> Self {
        Self {
            id: Compact(turn.id),
            owner: turn.owner,
            session_id: Compact(turn.session_id),
            user_message_id: Compact(turn.user_message_id),
            reply_message_id: Compact(turn.reply_message_id),
            status: turn.status,
            provider: turn.provider,
            model: turn.model,
            started_at: turn.started_at.as_micros(),
            ended_at: turn.ended_at.map(Timestamp::as_micros),
            has_reply: turn.has_reply,
            idempotency_key: turn.idempotency_key,
            fingerprint: turn.fingerprint,
            instance: turn.instance,
            lease_until: turn.lease_until.as_micros(),
            error: turn.error,
            finish_reason: turn.finish_reason,
            usage: turn.usage.map(UsageRow::from),
            trace: turn.trace,
            partial: partial.map(|message| Box::new(MessageRow::new(message, None))),
        }
    }
}

impl From<TurnRow> for RunningTurn {
    fn from(row: TurnRow) -> Self {
        let session_id = row.session_id.0;
        let partial = row.partial.map(|message| message.into_message(&session_id));
        let turn = Turn {
            id: row.id.0,
            owner: row.owner,
            session_id,
            user_message_id: row.user_message_id.0,
            reply_message_id: row.reply_message_id.0,
            status: row.status,
            provider: row.provider,
            model: row.model,
            started_at: Timestamp::from_micros(row.started_at),
            ended_at: row.ended_at.map(Timestamp::from_micros),
            has_reply: row.has_reply,
            idempotency_key: row.idempotency_key,
            fingerprint: row.fingerprint,
            instance: row.instance,
            lease_until: Timestamp::from_micros(row.lease_until),
            error: row.error,
            finish_reason: row.finish_reason,
            usage: row.usage.map(Usage::from),
            trace: row.trace,
        };
        Self { turn, partial }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct UsageRow {
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    input: Option<u64>,
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    cached_input: Option<u64>,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    cache_write: Option<u64>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    output: Option<u64>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    reasoning: Option<u64>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
}

impl From<Usage> for UsageRow {
    fn from(usage: Usage) -> Self {
        Self {
            input: usage.input_tokens,
            cached_input: usage.cached_input_tokens,
            cache_write: usage.cache_write_tokens,
            output: usage.output_tokens,
            reasoning: usage.reasoning_tokens,
            cost_usd: usage.cost_usd,
        }
    }
}

impl From<UsageRow> for Usage {
    fn from(row: UsageRow) -> Self {
        Self {
            input_tokens: row.input,
            cached_input_tokens: row.cached_input,
            cache_write_tokens: row.cache_write,
            output_tokens: row.output,
            reasoning_tokens: row.reasoning,
            cost_usd: row.cost_usd,
            ..Self::default()
        }
    }
}

/// The value of a small document.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordRow {
    #[serde(rename = "v", with = "serde_bytes")]
    pub(super) value: Vec<u8>,
    #[serde(rename = "n")]
    pub(super) version: u64,
}

/// An id: in 16 bytes if it is written like a UUID, else as text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Compact<T>(pub(super) T);

impl<T: AsRef<str>> Serialize for Compact<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.as_ref();
        let mut buffer = Uuid::encode_buffer();
        match Uuid::try_parse(text) {
            Ok(uuid) if *uuid.hyphenated().encode_lower(&mut buffer) == *text => {
                serializer.serialize_bytes(uuid.as_bytes())
            }
            _ => serializer.serialize_str(text),
        }
    }
}

impl<'de, T: TryFrom<String>> Deserialize<'de> for Compact<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CompactVisitor(PhantomData))
    }
}

struct CompactVisitor<T>(PhantomData<T>);

impl<T: TryFrom<String>> Visitor<'_> for CompactVisitor<T> {
    type Value = Compact<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        T::try_from(text.to_owned())
            .map(Compact)
            .map_err(|_| E::custom("not an id"))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        let uuid = Uuid::from_slice(bytes).map_err(|_| E::custom("not an id"))?;
        self.visit_str(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::sample::session;

    fn pack(value: &impl Serialize) -> Vec<u8> {
        rmp_serde::to_vec_named(value).unwrap()
    }

    #[test]
    fn an_id_takes_16_bytes_only_if_nothing_of_it_is_lost() {
        for (text, size) in [
            ("0190b5c0-4d2e-7f00-8000-0000000000ff", 18),
            ("0190B5C0-4D2E-7F00-8000-0000000000FF", 38),
            ("0190b5c04d2e7f0080000000000000ff", 34),
            ("short", 6),
            ("exactly16bytes:+", 17),
        ] {
            let id = MessageId::new(text).unwrap();
            let bytes = pack(&Compact(id.clone()));
            assert_eq!(bytes.len(), size, "{text}");
            assert_eq!(
                rmp_serde::from_slice::<Compact<MessageId>>(&bytes).unwrap(),
                Compact(id)
            );
        }
    }

    #[test]
    fn members_that_a_newer_program_added_to_a_session_are_kept_when_it_is_written_again() {
        let mut newer =
            serde_json::to_value(SessionRow::new(&session("o", "s", 5).into())).unwrap();
        newer["later"] = serde_json::json!({"deep": [1, null, "x"]});
        let row: SessionRow<'_> = rmp_serde::from_slice(&pack(&newer)).unwrap();
        let stored = row.into_stored(&session("o", "s", 5).key());
        let again = SessionRow::new(&stored);
        let written: serde_json::Value = rmp_serde::from_slice(&pack(&again)).unwrap();
        assert_eq!(written, newer);
    }

    #[test]
    fn a_session_of_the_first_version_is_readable() {
        let oldest = serde_json::json!({"t": "title", "c": 1, "u": 2, "n": 3});
        let row: SessionRow<'_> = rmp_serde::from_slice(&pack(&oldest)).unwrap();
        let stored = row.into_stored(&session("o", "s", 5).key());
        assert_eq!(
            (stored.session.title.as_str(), stored.session.message_count),
            ("title", 3)
        );
        assert!(stored.session.head.is_none() && !stored.forked);
    }
}
