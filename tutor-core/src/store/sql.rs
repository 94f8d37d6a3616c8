//! The stores in SQL databases: the tables of the original system, and what more is needed.
//!
//! The SQL is the same for SQLite and PostgreSQL; where it is not, [`Connection::pick`] chooses.
//! How a transaction is made, and who may write beside, is each [`Engine`]'s business.

use std::fmt;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

mod connection;
mod fault;
mod migrate;
#[cfg(feature = "store-postgres")]
pub(super) mod postgres;
mod reads;
mod records;
mod rows;
#[cfg(feature = "store-sqlite")]
pub(super) mod sqlite;
mod table;
mod writes;

use connection::Connection;

use crate::error::{ErrorKind, Result};
use crate::id::{OwnerId, SessionId, TurnId};
use crate::message::Message;
use crate::session::{
    MessageCut, MessageQuery, Page, Session, SessionKey, SessionPatch, SessionQuery,
};
use crate::store::{
    BegunTurn, Checkpoint, Existing, KeyRange, NewTurn, Record, RecordStore, RecordWrite,
    RunningTurn, SessionStore, StorageCheck, StoreInfo, TurnEnd, WholeSession, rules,
};
use crate::turn::{Turn, TurnKey};

/// Where and how statements are executed.
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// What the store is and promises.
    fn info(&self) -> StoreInfo;

    /// Does something with a connection, all or nothing.
    fn run<T, W>(&self, access: Access, work: W) -> impl Future<Output = Result<T>> + Send
    where
        T: Send + 'static,
        W: for<'c> FnOnce(Connection<'c>) -> BoxFuture<'c, Result<T>> + Send + 'static;

    /// Checks what only the database can see. Rows are not counted.
    fn check(&self) -> impl Future<Output = Result<StorageCheck>> + Send;

    /// Lets go of everything.
    fn close(&self) -> impl Future<Output = Result<()>> + Send;
}

/// What some work needs of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It reads by one statement.
    Read,
    /// It reads by several statements, which all see the same.
    Snapshot,
    /// It writes, and must be durable when it is acknowledged.
    Write,
}

/// A store in an SQL database. Clones share it.
#[derive(Clone, Debug)]
pub struct SqlStore<E>(pub(super) E);

/// Runs `$work` on a connection, with `$connection` for its name.
macro_rules! run {
    ($store:expr, $access:ident, |$connection:ident| $work:expr) => {
        $store
            .0
            .run(Access::$access, move |mut $connection| {
                Box::pin(async move {
                    let $connection = &mut $connection;
                    $work.await
                })
            })
            .await
    };
}

#[async_trait]
impl<E: Engine> SessionStore for SqlStore<E> {
    fn info(&self) -> StoreInfo {
        self.0.info()
    }

    async fn create_session(&self, session: Session) -> Result<()> {
        run!(self, Write, |c| writes::create_session(c, session))
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<Session>> {
        let key = key.clone();
        let found = run!(self, Read, |c| reads::session(c, &key, reads::Lock::No))?;
        Ok(found.map(|stored| stored.session))
    }

    async fn sessions(&self, query: SessionQuery) -> Result<Page<Session>> {
        rules::check_limit(query.limit)?;
        run!(self, Read, |c| reads::sessions(c, query))
    }

    async fn update_session(&self, key: &SessionKey, patch: SessionPatch) -> Result<Session> {
        let key = key.clone();
        run!(self, Write, |c| writes::update_session(c, &key, patch))
    }

    async fn delete_session(&self, key: &SessionKey) -> Result<bool> {
        let key = key.clone();
        run!(self, Write, |c| writes::delete_session(c, &key))
    }

    async fn messages(&self, query: MessageQuery) -> Result<Page<Message>> {
        rules::check_limit(query.limit)?;
        run!(self, Snapshot, |c| reads::messages(c, query))
    }

    async fn delete_message(&self, key: &SessionKey, cut: MessageCut) -> Result<u64> {
        let key = key.clone();
        run!(self, Write, |c| writes::delete_message(c, &key, cut))
    }

    async fn begin_turn(&self, turn: NewTurn) -> Result<BegunTurn> {
        rules::check_new_turn(&turn)?;
        run!(self, Write, |c| writes::begin_turn(c, turn))
    }

    async fn checkpoint_turn(&self, key: &TurnKey, checkpoint: Checkpoint) -> Result<()> {
        let key = key.clone();
        run!(self, Write, |c| writes::checkpoint_turn(
            c, &key, checkpoint
        ))
    }

    async fn finish_turn(&self, key: &TurnKey, end: TurnEnd) -> Result<Turn> {
        let key = key.clone();
        run!(self, Write, |c| writes::finish_turn(c, &key, end))
    }

    async fn turn(&self, key: &TurnKey) -> Result<Option<Turn>> {
        let key = key.clone();
        let found = run!(self, Read, |c| reads::turn(c, &key, reads::Lock::No))?;
        Ok(found.map(|running| running.turn))
    }

    async fn turn_by_key(&self, owner: &OwnerId, idempotency_key: &str) -> Result<Option<Turn>> {
        let (owner, key) = (owner.clone(), idempotency_key.to_owned());
        run!(self, Read, |c| reads::turn_of(c, &owner, &key))
    }

    async fn running_turns(&self) -> Result<Vec<RunningTurn>> {
        run!(self, Read, |c| reads::running_turns(c))
    }

    async fn owners(&self, after: Option<OwnerId>, limit: usize) -> Result<Vec<OwnerId>> {
        rules::check_limit(limit)?;
        run!(self, Read, |c| reads::owners(c, after, limit))
    }

    async fn session_ids(
        &self,
        owner: &OwnerId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>> {
        rules::check_limit(limit)?;
        let owner = owner.clone();
        run!(self, Read, |c| reads::session_ids(c, &owner, after, limit))
    }

    async fn whole_session(&self, key: &SessionKey) -> Result<Option<WholeSession>> {
        let key = key.clone();
        run!(self, Snapshot, |c| reads::whole_session(c, &key))
    }

    async fn import_session(&self, whole: WholeSession, existing: Existing) -> Result<()> {
        whole.check()?;
        run!(self, Write, |c| writes::import_session(c, whole, existing))
    }

    async fn turns(
        &self,
        session: &SessionKey,
        after: Option<TurnId>,
        limit: usize,
    ) -> Result<Vec<Turn>> {
        rules::check_limit(limit)?;
        let key = session.clone();
        run!(self, Snapshot, |c| reads::turns(c, &key, after, limit))
    }

    async fn check(&self) -> Result<StorageCheck> {
        let mut found = self.0.check().await?;
        for table in table::TABLES {
            let mut behind = None;
            loop {
                let (from, so_far) = (behind.take(), found.clone());
                match run!(self, Read, |c| table.check_some(c, from, so_far)) {
                    Ok((last, more)) => (behind, found) = (last, more),
                    // Where the next readable row is, nobody knows.
                    Err(error) if error.kind() == ErrorKind::DataCorrupt => {
                        found.problems.add(error);
                    }
                    Err(error) => return Err(error),
                }
                if behind.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

#[async_trait]
impl<E: Engine> RecordStore for SqlStore<E> {
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>> {
        let (kind, key) = (kind.to_owned(), key.to_owned());
        run!(self, Read, |c| records::get(c, kind, key))
    }

    async fn kinds(&self) -> Result<Vec<String>> {
        run!(self, Snapshot, |c| records::kinds(c))
    }

    async fn scan(&self, kind: &str, range: KeyRange, limit: usize) -> Result<Vec<Record>> {
        let kind = kind.to_owned();
        run!(self, Read, |c| records::scan(c, kind, range, limit))
    }

    async fn commit(&self, writes: Vec<RecordWrite>) -> Result<()> {
        writes.iter().try_for_each(rules::check_record_write)?;
        run!(self, Write, |c| records::commit(c, writes))
    }
}
