//! Small conversations to test with. Everything about them follows from a few names.

#![expect(clippy::unwrap_used, reason = "a law fails by panicking, like a test")]

use serde_json::json;

use crate::error::{ErrorKind, Result};
use crate::id::{MessageId, OwnerId, SessionId, TurnId};
use crate::message::{
    Audience, Author, Content, FinishReason, Message, MessageStatus, Metadata, Role, Usage,
};
use crate::session::{Branch, MessageQuery, MessageRange, Session, SessionKey, SessionQuery};
use crate::store::{BegunTurn, NewTurn, RunningTurn, SessionStore, TurnEnd};
use crate::time::Timestamp;
use crate::trace::Trace;
use crate::turn::{Turn, TurnKey, TurnStatus};

/// An owner.
pub fn owner(id: &str) -> OwnerId {
    OwnerId::new(id).unwrap()
}

/// The full name of a session.
pub fn session_key(owner_id: &str, id: &str) -> SessionKey {
    SessionKey::new(owner(owner_id), SessionId::new(id).unwrap())
}

/// The full name of a turn.
pub fn turn_key(owner_id: &str, id: &str) -> TurnKey {
    TurnKey::new(owner(owner_id), TurnId::new(id).unwrap())
}

/// A message's id.
pub fn message_id(id: &str) -> MessageId {
    MessageId::new(id).unwrap()
}

/// A moment, in microseconds since the epoch.
pub fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// A JSON object with one member.
pub fn object(name: &str, value: impl Into<serde_json::Value>) -> Metadata {
    Metadata::from_iter([(name.to_owned(), value.into())])
}

/// A new session, created and updated at `time`.
pub fn session(owner_id: &str, id: &str, time: i64) -> Session {
    let SessionKey { owner, id } = session_key(owner_id, id);
    Session {
        id,
        owner,
        title: "Licht 光 \u{1F31E}".to_owned(),
        created_at: at(time),
        updated_at: at(time),
        message_count: 0,
        head: None,
        running_turn: None,
        preferences: object("temperature", 0.5),
        metadata: object("class", "7b"),
        own_title: false,
        summary: None,
    }
}

/// A learner's message.
pub fn question(session_id: &str, id: &str, parent: Option<&str>) -> Message {
    Message {
        id: message_id(id),
        session_id: SessionId::new(session_id).unwrap(),
        parent_id: parent.map(message_id),
        turn_id: None,
        role: Role::User,
        content: Content::from(format!("question {id}")),
        status: MessageStatus::Complete,
        author: Author::Learner,
        visible_to: Audience::everyone(),
        timestamp: at(1),
        provider: None,
        model: None,
        usage: None,
        finish_reason: None,
        metadata: Metadata::new(),
    }
}

/// The reply to a turn.
pub fn reply(turn: &Turn, text: &str) -> Message {
    Message {
        id: turn.reply_message_id.clone(),
        session_id: turn.session_id.clone(),
        parent_id: Some(turn.user_message_id.clone()),
        turn_id: Some(turn.id.clone()),
        role: Role::Assistant,
        content: Content::from(text),
        author: Author::Tutor,
        provider: Some("demo".to_owned()),
        model: Some("demo-1".to_owned()),
        usage: Some(Usage {
            output_tokens: Some(3),
            ..Usage::default()
        }),
        finish_reason: Some(FinishReason::Stop),
        metadata: object("k", json!([1, -2, 0.5, null, {"ü": true}])),
        ..question(turn.session_id.as_str(), "x", None)
    }
}

/// Turn `name`: its message is `u-name`, its reply `r-name`, its key `k-name`. It answers `head`,
/// or begins a new session if that is `None`.
pub fn new_turn(owner_id: &str, session_id: &str, name: &str, head: Option<&str>) -> NewTurn {
    let TurnKey { owner, id } = turn_key(owner_id, name);
    let mut message = question(session_id, &format!("u-{name}"), head);
    message.turn_id = Some(id.clone());
    let turn = Turn {
        id,
        owner,
        session_id: message.session_id.clone(),
        user_message_id: message.id.clone(),
        reply_message_id: message_id(&format!("r-{name}")),
        status: TurnStatus::Running,
        provider: "demo".to_owned(),
        model: "demo-1".to_owned(),
        started_at: at(1_000),
        ended_at: None,
        has_reply: false,
        idempotency_key: Some(format!("k-{name}")),
        fingerprint: u64::MAX - 7,
        instance: "i1".to_owned(),
        lease_until: at(5_000),
        error: None,
        finish_reason: None,
        usage: None,
        trace: Trace::default(),
    };
    NewTurn {
        new_session: head.is_none().then(|| session(owner_id, session_id, 1_000)),
        expected_head: head.map(message_id),
        messages: vec![message],
        preferences: object("temperature", 1.0),
        made_title: None,
        turn,
    }
}

/// The successful end of a turn, with a reply.
pub fn end(turn: &Turn) -> TurnEnd {
    TurnEnd {
        status: TurnStatus::Completed,
        reply: Some(reply(turn, "an answer")),
        error: None,
        finish_reason: Some(FinishReason::Stop),
        usage: Some(Usage {
            input_tokens: Some(5),
            ..Usage::default()
        }),
        trace: Trace::default(),
        ended_at: at(2_000),
        expected_lease: None,
    }
}

/// Begins a turn that must be new, and gives it back.
pub async fn begin(store: &dyn SessionStore, new: NewTurn) -> Turn {
    let turn = new.turn.clone();
    assert_eq!(store.begin_turn(new).await.unwrap(), BegunTurn::New);
    turn
}

/// A whole turn from begin to end. Gives the id of its reply.
pub async fn exchange(store: &dyn SessionStore, new: NewTurn) -> String {
    let turn = begin(store, new).await;
    let ended = store.finish_turn(&turn.key(), end(&turn)).await.unwrap();
    ended.reply_message_id.to_string()
}

/// A new session with this many turns in a line, named `0`, `1` … behind `session_id` and a dash.
pub async fn line(store: &dyn SessionStore, owner_id: &str, session_id: &str, turns: usize) {
    let mut head: Option<String> = None;
    for n in 0..turns {
        let new = new_turn(
            owner_id,
            session_id,
            &format!("{session_id}-{n}"),
            head.as_deref(),
        );
        head = Some(exchange(store, new).await);
    }
}

/// A query of one owner's sessions, from the start.
pub fn session_query(owner_id: &str, limit: usize) -> SessionQuery {
    SessionQuery {
        owner: owner(owner_id),
        limit,
        cursor: None,
    }
}

/// A query of the messages of a session.
pub fn message_query(
    key: SessionKey,
    branch: Branch,
    range: MessageRange,
    limit: usize,
) -> MessageQuery {
    MessageQuery {
        session: key,
        branch,
        range,
        limit,
    }
}

/// The ids of all messages of a page.
pub fn ids(page: &crate::Page<Message>) -> Vec<&str> {
    page.items
        .iter()
        .map(|message| message.id.as_str())
        .collect()
}

/// The kind of the error that this must be.
pub fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => ErrorKind::Internal,
        Err(error) => error.kind(),
    }
}

/// What can be read of some owners: at most a page of sessions each, and a page of messages of
/// each session.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    sessions: Vec<Session>,
    messages: Vec<Message>,
    turns: Vec<Option<Turn>>,
    running: Vec<RunningTurn>,
}

/// Reads all that these owners have.
pub async fn contents(store: &dyn SessionStore, owners: &[&str]) -> Contents {
    let mut all = Contents {
        sessions: vec![],
        messages: vec![],
        turns: vec![],
        running: vec![],
    };
    for owner in owners {
        all.sessions.extend(
            store
                .sessions(session_query(owner, 200))
                .await
                .unwrap()
                .items,
        );
    }
    for session in &all.sessions {
        let query = message_query(session.key(), Branch::All, MessageRange::Latest, 200);
        all.messages
            .extend(store.messages(query).await.unwrap().items);
        assert_eq!(
            store.session(&session.key()).await.unwrap().as_ref(),
            Some(session)
        );
    }
    for session in &all.sessions {
        for message in all
            .messages
            .iter()
            .filter(|message| message.session_id == session.id)
        {
            if let Some(turn) = &message.turn_id {
                let key = TurnKey::new(session.owner.clone(), turn.clone());
                all.turns.push(store.turn(&key).await.unwrap());
            }
        }
    }
    all.running = store.running_turns().await.unwrap();
    all.running.sort_by_key(|running| running.turn.key());
    all
}
