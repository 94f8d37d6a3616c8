//! Stores that are written in another language.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::document as doc;
use super::fields::Fields;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{OwnerId, SessionId, TurnId};
use crate::message::{Message, Metadata};
use crate::session::{
    MessageCut, MessageQuery, Page, Session, SessionKey, SessionPatch, SessionQuery,
};
use crate::store::rules::{
    check_checkpoint, check_end, check_limit, check_new_turn, check_record_write, closed, created,
    record_changed,
};
use crate::store::{
    BegunTurn, Checkpoint, Durability, Existing, Expect, KeyRange, NewTurn, Record, RecordStore,
    RecordWrite, RunningTurn, SessionStore, StorageCheck, StoreInfo, TurnEnd, WholeSession,
    Written,
};
use crate::turn::{Turn, TurnKey};

/// An object of another language whose methods can be called.
#[async_trait]
pub trait Foreign: fmt::Debug + Send + Sync + 'static {
    /// Calls a method by its name in snake case with these arguments, and gives what it returned.
    /// What returns nothing gives `null`.
    ///
    /// # Errors
    /// What the method raised: an error of ours as [`raised`](super::raised) reads it, else
    /// `store_unavailable`, with the object's own exception as its source.
    async fn call(&self, method: &'static str, arguments: Vec<Value>) -> Result<Value>;
}

/// Methods of [`SessionStore`] that a foreign store must have.
pub const SESSION_METHODS: [&str; 18] = [
    "create_session",
    "session",
    "sessions",
    "update_session",
    "delete_session",
    "messages",
    "delete_message",
    "begin_turn",
    "checkpoint_turn",
    "finish_turn",
    "turn",
    "turn_by_key",
    "running_turns",
    "owners",
    "session_ids",
    "whole_session",
    "import_session",
    "turns",
];

/// Methods of [`RecordStore`]: a foreign store has all of them, or none and keeps no records.
pub const RECORD_METHODS: [&str; 4] = ["get", "kinds", "scan", "commit"];

/// Methods that a foreign store may have.
pub const OPTIONAL_METHODS: [&str; 2] = ["check", "close"];

/// A store that is an object of another language.
///
/// # Methods
/// Those of [`SessionStore`] and [`RecordStore`] under the same names, with the arguments in the
/// same order: an object `{"owner", "id"}` for a key, documents for sessions, messages, turns, and
/// plain members for the rest, as `docs/writing-a-store.md` lists them. Here is done what needs no
/// data: limits, cursors and contradictions are checked before a method is called, pages are made of
/// the items that it returns, and a closed store is not asked any more.
#[derive(Debug)]
pub struct ForeignStore<F> {
    object: F,
    info: StoreInfo,
    keeps_records: bool,
    checks: bool,
    closes: bool,
    closed: AtomicBool,
}

impl<F: Foreign> ForeignStore<F> {
    /// The store that is this object. It is described by `name`, `location` (without credentials),
    /// `durability` (`none`, `process` or `power`), `exclusive` (true if nobody else can use the
    /// data meanwhile; false if absent), and `methods`, the names of the methods that it has.
    ///
    /// # Errors
    /// `config`, naming the member, or the methods that are missing.
    pub fn new(object: F, description: Metadata) -> Result<Self> {
        let mut fields = Fields::new("store", ErrorKind::Config, description);
        let text = |text: Option<String>, default: &str| text.unwrap_or_else(|| default.to_owned());
        let name = text(fields.text("name")?, "foreign");
        let location = text(fields.text("location")?, "elsewhere");
        let durability = fields.text("durability")?;
        let exclusive = fields.flag("exclusive")?;
        let methods: Vec<String> = fields
            .parsed("methods", "an array of names")?
            .unwrap_or_default();
        fields.end()?;
        let durability = match durability.as_deref() {
            Some("none") => Durability::None,
            None | Some("process") => Durability::Process,
            Some("power") => Durability::Power,
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "the durability of a store is none, process or power",
                )
                .with_context("field", "durability"));
            }
        };
        let has = |name: &str| methods.iter().any(|method| method == name);
        let keeps_records = RECORD_METHODS.iter().any(|name| has(name));
        let records: &[&str] = if keeps_records { &RECORD_METHODS } else { &[] };
        let needed = SESSION_METHODS.iter().chain(records);
        let missing: Vec<&str> = needed.copied().filter(|name| !has(name)).collect();
        if !missing.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "a store of your own has all methods of a store, and these are missing",
            )
            .with_context("missing", missing.join(", ")));
        }
        Ok(Self {
            object,
            info: StoreInfo {
                name,
                location,
                durability,
                exclusive,
                written: Written::default(),
            },
            keeps_records,
            checks: has("check"),
            closes: has("close"),
            closed: AtomicBool::new(false),
        })
    }

    async fn call(&self, method: &'static str, arguments: Vec<Value>) -> Result<Value> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        self.object.call(method, arguments).await
    }

    /// The turn, for the checks of what is to become of it.
    async fn found_turn(&self, key: &TurnKey) -> Result<Turn> {
        let turn = self.turn(key).await?;
        turn.ok_or_else(|| Error::not_found("turn", &key.id))
    }
}

#[async_trait]
impl<F: Foreign> SessionStore for ForeignStore<F> {
    fn info(&self) -> StoreInfo {
        self.info.clone()
    }

    async fn create_session(&self, session: Session) -> Result<()> {
        let session = doc::write(&created(session))?;
        self.call("create_session", vec![session]).await?;
        Ok(())
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<Session>> {
        let found = self.call("session", vec![doc::session_key(key)]).await?;
        doc::optional(found, |found| doc::read("session", found))
    }

    async fn sessions(&self, query: SessionQuery) -> Result<Page<Session>> {
        check_limit(query.limit)?;
        let found = self
            .call("sessions", vec![doc::session_query(&query)?])
            .await?;
        Ok(doc::session_page(
            doc::read("sessions", found)?,
            query.limit,
        ))
    }

    async fn update_session(&self, key: &SessionKey, patch: SessionPatch) -> Result<Session> {
        let arguments = vec![doc::session_key(key), doc::session_patch(&patch)];
        let changed = self.call("update_session", arguments).await?;
        doc::read("update_session", changed)
    }

    async fn delete_session(&self, key: &SessionKey) -> Result<bool> {
        let deleted = self.call("delete_session", vec![doc::session_key(key)]);
        doc::read("delete_session", deleted.await?)
    }

    async fn messages(&self, query: MessageQuery) -> Result<Page<Message>> {
        check_limit(query.limit)?;
        let found = self
            .call("messages", vec![doc::message_query(&query)])
            .await?;
        Ok(doc::message_page(doc::read("messages", found)?, &query))
    }

    async fn delete_message(&self, key: &SessionKey, cut: MessageCut) -> Result<u64> {
        let arguments = vec![doc::session_key(key), doc::message_cut(&cut)];
        let deleted = self.call("delete_message", arguments).await?;
        doc::read("delete_message", deleted)
    }

    async fn begin_turn(&self, mut turn: NewTurn) -> Result<BegunTurn> {
        check_new_turn(&turn)?;
        turn.new_session = turn.new_session.map(created);
        let begun = self.call("begin_turn", vec![doc::new_turn(&turn)?]).await?;
        doc::begun_turn("begin_turn", begun)
    }

    async fn checkpoint_turn(&self, key: &TurnKey, checkpoint: Checkpoint) -> Result<()> {
        if checkpoint.partial.is_some() {
            check_checkpoint(&self.found_turn(key).await?, &checkpoint)?;
        }
        let arguments = vec![doc::turn_key(key), doc::checkpoint(&checkpoint)];
        self.call("checkpoint_turn", arguments).await?;
        Ok(())
    }

    async fn finish_turn(&self, key: &TurnKey, end: TurnEnd) -> Result<Turn> {
        check_end(&self.found_turn(key).await?, &end)?;
        let arguments = vec![doc::turn_key(key), doc::turn_end(&end)];
        let ended = self.call("finish_turn", arguments).await?;
        doc::read_turn("finish_turn", ended)
    }

    async fn turn(&self, key: &TurnKey) -> Result<Option<Turn>> {
        let found = self.call("turn", vec![doc::turn_key(key)]).await?;
        doc::optional(found, |found| doc::read_turn("turn", found))
    }

    async fn turn_by_key(&self, owner: &OwnerId, idempotency_key: &str) -> Result<Option<Turn>> {
        let arguments = vec![json!(owner), json!(idempotency_key)];
        let found = self.call("turn_by_key", arguments).await?;
        doc::optional(found, |found| doc::read_turn("turn_by_key", found))
    }

    async fn running_turns(&self) -> Result<Vec<RunningTurn>> {
        let running = self.call("running_turns", Vec::new()).await?;
        doc::running_turns("running_turns", running)
    }

    async fn owners(&self, after: Option<OwnerId>, limit: usize) -> Result<Vec<OwnerId>> {
        check_limit(limit)?;
        let owners = self.call("owners", vec![json!(after), json!(limit)]);
        doc::read("owners", owners.await?)
    }

    async fn session_ids(
        &self,
        owner: &OwnerId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>> {
        check_limit(limit)?;
        let arguments = vec![json!(owner), json!(after), json!(limit)];
        doc::read("session_ids", self.call("session_ids", arguments).await?)
    }

    async fn whole_session(&self, key: &SessionKey) -> Result<Option<WholeSession>> {
        let found = self.call("whole_session", vec![doc::session_key(key)]);
        doc::optional(found.await?, |found| {
            doc::read_whole_session("whole_session", found)
        })
    }

    async fn import_session(&self, whole: WholeSession, existing: Existing) -> Result<()> {
        whole.check()?;
        let arguments = vec![doc::whole_session(&whole)?, doc::existing(existing)];
        self.call("import_session", arguments).await?;
        Ok(())
    }

    async fn turns(
        &self,
        session: &SessionKey,
        after: Option<TurnId>,
        limit: usize,
    ) -> Result<Vec<Turn>> {
        check_limit(limit)?;
        let arguments = vec![doc::session_key(session), json!(after), json!(limit)];
        doc::read_turns("turns", self.call("turns", arguments).await?)
    }

    async fn check(&self) -> Result<StorageCheck> {
        if !self.checks {
            return Ok(StorageCheck::default());
        }
        doc::storage_check("check", self.call("check", Vec::new()).await?)
    }

    async fn close(&self) -> Result<()> {
        if !self.closed.swap(true, Ordering::AcqRel) && self.closes {
            self.object.call("close", Vec::new()).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl<F: Foreign> RecordStore for ForeignStore<F> {
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>> {
        if !self.keeps_records {
            return Ok(None);
        }
        let found = self.call("get", vec![json!(kind), json!(key)]).await?;
        doc::optional(found, |found| doc::read_record("get", found))
    }

    async fn kinds(&self) -> Result<Vec<String>> {
        if !self.keeps_records {
            return Ok(Vec::new());
        }
        doc::read("kinds", self.call("kinds", Vec::new()).await?)
    }

    async fn scan(&self, kind: &str, range: KeyRange, limit: usize) -> Result<Vec<Record>> {
        if !self.keeps_records {
            return Ok(Vec::new());
        }
        let arguments = vec![json!(kind), doc::key_range(&range), json!(limit)];
        doc::read_records("scan", self.call("scan", arguments).await?)
    }

    async fn commit(&self, writes: Vec<RecordWrite>) -> Result<()> {
        if !self.keeps_records {
            return Err(Error::new(
                ErrorKind::Config,
                "this store keeps no records: give it the methods get, kinds, scan and commit",
            ));
        }
        writes.iter().try_for_each(check_record_write)?;
        // No record has this version, and in JSON it means that there is none.
        let never = |write: &RecordWrite| write.expect == Expect::Version(0);
        if let Some(index) = writes.iter().position(never) {
            return Err(record_changed(&writes[index].kind, index));
        }
        let writes: Vec<Value> = writes.iter().map(doc::record_write).collect();
        self.call("commit", vec![Value::Array(writes)]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Answers(Value);

    #[async_trait]
    impl Foreign for Answers {
        async fn call(&self, _: &'static str, _: Vec<Value>) -> Result<Value> {
            Ok(self.0.clone())
        }
    }

    fn described(description: Value) -> Result<ForeignStore<Answers>> {
        let answers = Answers(json!({"canary": 1}));
        ForeignStore::new(answers, serde_json::from_value(description).unwrap())
    }

    fn all_methods() -> Vec<&'static str> {
        [&SESSION_METHODS[..], &RECORD_METHODS, &OPTIONAL_METHODS].concat()
    }

    #[test]
    fn missing_methods_are_named() {
        let error = described(json!({"methods": ["session", "get"]})).unwrap_err();
        assert_eq!(error.code(), "config");
        let missing = error.context_value("missing").unwrap();
        assert!(missing.contains("begin_turn") && missing.contains("commit"));
        assert!(described(json!({"methods": SESSION_METHODS})).is_ok());
        for wrong in [json!({"durability": "for ever"}), json!({"exclusive": 1})] {
            assert_eq!(described(wrong).unwrap_err().code(), "config");
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_of_a_store_is_named_and_not_quoted() {
        let store = described(json!({"methods": all_methods()})).unwrap();
        let key = SessionKey::new(OwnerId::default(), SessionId::new("s").unwrap());
        for error in [
            store.session(&key).await.unwrap_err(),
            store.delete_session(&key).await.unwrap_err(),
            store.running_turns().await.unwrap_err(),
            store.get("kind", "key").await.unwrap_err(),
        ] {
            assert_eq!(error.code(), "data_corrupt");
            assert!(error.context_value("method").is_some());
            assert!(!format!("{error:?}").contains("canary"));
        }
    }

    #[tokio::test]
    async fn a_store_without_records_has_none_and_takes_none() {
        let store = described(json!({"methods": SESSION_METHODS})).unwrap();
        assert!(store.kinds().await.unwrap().is_empty());
        assert!(store.get("kind", "key").await.unwrap().is_none());
        assert_eq!(store.commit(Vec::new()).await.unwrap_err().code(), "config");
        store.close().await.unwrap();
        let key = SessionKey::new(OwnerId::default(), SessionId::new("s").unwrap());
        let error = store.session(&key).await.unwrap_err();
        assert_eq!(error.code(), "store_unavailable");
    }
}
