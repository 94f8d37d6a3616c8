//! Everything that a store is given and gives back, as JSON.
//!
//! Sessions, messages and turns are documents: a store keeps them as they are. Texts, numbers up to
//! 2^53, and nothing else that a language could read differently.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::session::{
    Branch, Cursor, MessageCut, MessageQuery, MessageRange, Page, Session, SessionKey,
    SessionPatch, SessionQuery,
};
use crate::store::{
    BegunTurn, Checkpoint, Existing, Expect, KeyRange, NewTurn, Record, RecordWrite, RunningTurn,
    StorageCheck, TurnEnd, WholeSession,
};
use crate::turn::{Turn, TurnKey};

/// What is none of ours: the store's answer, or what it holds.
pub(super) fn misread(method: &'static str) -> Error {
    Error::new(
        ErrorKind::DataCorrupt,
        "the store returned something that it was not given, or not what its documentation says",
    )
    .with_context("method", method)
}

pub(super) fn read<T: DeserializeOwned>(method: &'static str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|_| misread(method))
}

/// A value that has a JSON form.
pub(super) fn write(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|_| Error::internal("a value has no JSON form"))
}

/// A turn. Its fingerprint has more digits than a number of JavaScript.
pub(super) fn turn(turn: &Turn) -> Result<Value> {
    let mut document = write(turn)?;
    document["fingerprint"] = turn.fingerprint.to_string().into();
    Ok(document)
}

pub(super) fn read_turn(method: &'static str, mut document: Value) -> Result<Turn> {
    if let Some(text) = document.get("fingerprint").and_then(Value::as_str) {
        let number: u64 = text.parse().map_err(|_| misread(method))?;
        document["fingerprint"] = number.into();
    }
    read(method, document)
}

pub(super) fn read_turns(method: &'static str, documents: Value) -> Result<Vec<Turn>> {
    let documents: Vec<Value> = read(method, documents)?;
    let turns = documents.into_iter();
    turns.map(|document| read_turn(method, document)).collect()
}

/// Nothing, or what `read` makes of the value.
pub(super) fn optional<T>(
    value: Value,
    read: impl FnOnce(Value) -> Result<T>,
) -> Result<Option<T>> {
    (!value.is_null()).then(|| read(value)).transpose()
}

pub(super) fn session_key(key: &SessionKey) -> Value {
    json!({"owner": key.owner, "id": key.id})
}

pub(super) fn turn_key(key: &TurnKey) -> Value {
    json!({"owner": key.owner, "id": key.id})
}

/// One more session than asked for tells whether there are more.
pub(super) fn session_query(query: &SessionQuery) -> Result<Value> {
    let place = query.cursor.as_ref().map(Cursor::session_place);
    let behind = place.transpose()?;
    Ok(json!({
        "owner": query.owner,
        "limit": query.limit + 1,
        "behind": behind.map(|(updated_at, id)| json!({"updated_at": updated_at, "id": id})),
    }))
}

pub(super) fn session_page(mut sessions: Vec<Session>, limit: usize) -> Page<Session> {
    let more = sessions.len() > limit;
    sessions.truncate(limit);
    let next_cursor = sessions.last().filter(|_| more).map(Cursor::behind);
    Page {
        items: sessions,
        next_cursor,
    }
}

pub(super) fn session_patch(patch: &SessionPatch) -> Value {
    json!({
        "title": patch.title,
        "made_title": patch.made_title,
        "metadata": patch.metadata,
        "head": patch.head,
        "summary": patch.summary,
        "updated_at": patch.updated_at,
    })
}

/// One more message than asked for tells whether there are more.
pub(super) fn message_query(query: &MessageQuery) -> Value {
    let (leaf, all) = match &query.branch {
        Branch::Active => (None, false),
        Branch::Leaf(leaf) => (Some(leaf), false),
        Branch::All => (None, true),
    };
    let (before, after) = match &query.range {
        MessageRange::Latest => (None, None),
        MessageRange::Before(message) => (Some(message), None),
        MessageRange::After(message) => (None, Some(message)),
    };
    json!({
        "session": session_key(&query.session),
        "leaf": leaf,
        "all": all,
        "before": before,
        "after": after,
        "limit": query.limit + 1,
    })
}

pub(super) fn message_page(mut messages: Vec<Message>, query: &MessageQuery) -> Page<Message> {
    let surplus = messages.len().saturating_sub(query.limit);
    match query.range {
        // The oldest one is the one too many.
        MessageRange::Latest | MessageRange::Before(_) => drop(messages.drain(..surplus)),
        MessageRange::After(_) => messages.truncate(query.limit),
    }
    Page::of_messages(messages, &query.range, surplus > 0)
}

pub(super) fn message_cut(cut: &MessageCut) -> Value {
    json!({"message": cut.message, "with_branch": cut.with_branch, "updated_at": cut.updated_at})
}

pub(super) fn new_turn(new: &NewTurn) -> Result<Value> {
    Ok(json!({
        "turn": turn(&new.turn)?,
        "new_session": new.new_session,
        "expected_head": new.expected_head,
        "messages": new.messages,
        "preferences": new.preferences,
        "made_title": new.made_title,
    }))
}

pub(super) fn begun_turn(method: &'static str, value: Value) -> Result<BegunTurn> {
    let earlier = optional(value, |document| read_turn(method, document))?;
    Ok(earlier.map_or(BegunTurn::New, |turn| BegunTurn::Existing(Box::new(turn))))
}

pub(super) fn checkpoint(checkpoint: &Checkpoint) -> Value {
    json!({
        "partial": checkpoint.partial,
        "trace": checkpoint.trace,
        "lease_until": checkpoint.lease_until,
    })
}

/// An end. `changes` are the members of the turn that change, ready to be taken over.
pub(super) fn turn_end(end: &TurnEnd) -> Value {
    json!({
        "changes": {
            "status": end.status,
            "ended_at": end.ended_at,
            "has_reply": end.reply.is_some(),
            "error": end.error,
            "finish_reason": end.finish_reason,
            "usage": end.usage,
            "trace": end.trace,
        },
        "reply": end.reply,
        "expected_lease": end.expected_lease,
    })
}

#[derive(Deserialize)]
struct Running {
    turn: Value,
    #[serde(default)]
    partial: Option<Message>,
}

pub(super) fn running_turns(method: &'static str, value: Value) -> Result<Vec<RunningTurn>> {
    let running: Vec<Running> = read(method, value)?;
    let running = running.into_iter().map(|Running { turn, partial }| {
        let turn = read_turn(method, turn)?;
        Ok(RunningTurn { turn, partial })
    });
    running.collect()
}

#[derive(Deserialize)]
struct Whole {
    session: Session,
    messages: Vec<Message>,
    turns: Value,
    #[serde(default)]
    partial: Option<Message>,
}

pub(super) fn whole_session(whole: &WholeSession) -> Result<Value> {
    let turns: Vec<Value> = whole.turns.iter().map(turn).collect::<Result<_>>()?;
    Ok(json!({
        "session": whole.session,
        "messages": whole.messages,
        "turns": turns,
        "partial": whole.partial,
    }))
}

pub(super) fn read_whole_session(method: &'static str, value: Value) -> Result<WholeSession> {
    let whole: Whole = read(method, value)?;
    Ok(WholeSession {
        session: whole.session,
        messages: whole.messages,
        turns: read_turns(method, whole.turns)?,
        partial: whole.partial,
    })
}

pub(super) fn existing(existing: Existing) -> Value {
    match existing {
        Existing::Refuse => "refuse".into(),
        Existing::Replace => "replace".into(),
    }
}

#[derive(Deserialize)]
struct Checked {
    #[serde(default)]
    entries: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    problems: Vec<crate::message::Metadata>,
}

pub(super) fn storage_check(method: &'static str, value: Value) -> Result<StorageCheck> {
    let Some(checked) = optional(value, |value| read::<Checked>(method, value))? else {
        return Ok(StorageCheck::default());
    };
    let mut found = StorageCheck {
        entries: checked.entries,
        bytes: checked.bytes,
        ..StorageCheck::default()
    };
    for problem in checked.problems {
        found
            .problems
            .add(super::raised(problem).unwrap_or_else(|| misread(method)));
    }
    Ok(found)
}

#[derive(Deserialize)]
struct Document {
    key: String,
    value: String,
    version: u64,
}

/// A record. Its bytes are base64.
pub(super) fn read_record(method: &'static str, value: Value) -> Result<Record> {
    let document: Document = read(method, value)?;
    Ok(Record {
        key: document.key,
        value: STANDARD
            .decode(document.value)
            .map_err(|_| misread(method))?,
        version: document.version,
    })
}

pub(super) fn read_records(method: &'static str, value: Value) -> Result<Vec<Record>> {
    let documents: Vec<Value> = read(method, value)?;
    let records = documents.into_iter();
    records.map(|value| read_record(method, value)).collect()
}

pub(super) fn key_range(range: &KeyRange) -> Value {
    json!({"prefix": range.prefix, "after": range.after})
}

/// A write. `expect` is `null` for anything, 0 for nothing, else the version.
pub(super) fn record_write(write: &RecordWrite) -> Value {
    json!({
        "kind": write.kind,
        "key": write.key,
        "value": write.value.as_ref().map(|bytes| STANDARD.encode(bytes)),
        "expect": match write.expect {
            Expect::Any => None,
            Expect::Absent => Some(0),
            Expect::Version(version) => Some(version),
        },
    })
}
