//! A store that fails on command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{OwnerId, SessionId, TurnId};
use crate::message::Message;
use crate::session::{
    MessageCut, MessageQuery, Page, Session, SessionKey, SessionPatch, SessionQuery,
};
use crate::store::{
    BegunTurn, Checkpoint, Existing, KeyRange, NewTurn, Record, RecordStore, RecordWrite,
    RunningTurn, SessionStore, StorageCheck, StoreInfo, TurnEnd, WholeSession,
};
use crate::turn::{Turn, TurnKey};

/// A store one of whose writes fails with `store_unavailable`, or one of whose operations panics.
///
/// Clones share their data and their fault.
#[derive(Clone, Debug)]
pub struct FaultyStore<S> {
    inner: S,
    fault: Arc<Fault>,
}

#[derive(Debug, Default)]
struct Fault {
    /// Writes until the one that fails; 0 for none.
    left: AtomicUsize,
    after: AtomicBool,
    failed: AtomicBool,
    /// Operations until the one that panics; 0 for none.
    panics_in: AtomicUsize,
}

/// Where a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before anything is written.
    Before,
    /// When all is written: the caller does not learn that it was.
    After,
}

impl<S> FaultyStore<S> {
    /// A store that does not fail yet.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            fault: Arc::default(),
        }
    }

    /// The `nth` write from now fails, counted from 1. Only that one.
    pub fn fail_write(&self, nth: usize, when: When) {
        self.fault
            .after
            .store(when == When::After, Ordering::SeqCst);
        self.fault.failed.store(false, Ordering::SeqCst);
        self.fault.left.store(nth, Ordering::SeqCst);
    }

    /// The `nth` operation from now panics, counted from 1; 0 is none. Only that one.
    pub fn panic_in(&self, nth: usize) {
        self.fault.failed.store(false, Ordering::SeqCst);
        self.fault.panics_in.store(nth, Ordering::SeqCst);
    }

    /// True if the operation that was to fail or to panic has been asked for.
    pub fn has_failed(&self) -> bool {
        self.fault.failed.load(Ordering::SeqCst)
    }

    /// Any operation, a read or a write.
    async fn read<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        if count_down(&self.fault.panics_in) {
            self.fault.failed.store(true, Ordering::SeqCst);
            #[expect(clippy::panic, reason = "this is what it is for")]
            {
                panic!("this operation was told to panic");
            }
        }
        operation.await
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T>>) -> Result<T> {
        let write = self.read(write);
        if !count_down(&self.fault.left) {
            return write.await;
        }
        self.fault.failed.store(true, Ordering::SeqCst);
        if self.fault.after.load(Ordering::SeqCst) {
            write.await?;
        }
        Err(Error::new(
            ErrorKind::StoreUnavailable,
            "this write was told to fail",
        ))
    }
}

/// True once, for the operation on which the count ends.
fn count_down(left: &AtomicUsize) -> bool {
    let counted = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    counted == Ok(1)
}

#[async_trait]
impl<S: SessionStore> SessionStore for FaultyStore<S> {
    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    async fn create_session(&self, session: Session) -> Result<()> {
        self.write(self.inner.create_session(session)).await
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<Session>> {
        self.read(self.inner.session(key)).await
    }

    async fn sessions(&self, query: SessionQuery) -> Result<Page<Session>> {
        self.read(self.inner.sessions(query)).await
    }

    async fn update_session(&self, key: &SessionKey, patch: SessionPatch) -> Result<Session> {
        self.write(self.inner.update_session(key, patch)).await
    }

    async fn delete_session(&self, key: &SessionKey) -> Result<bool> {
        self.write(self.inner.delete_session(key)).await
    }

    async fn messages(&self, query: MessageQuery) -> Result<Page<Message>> {
        self.read(self.inner.messages(query)).await
    }

    async fn delete_message(&self, key: &SessionKey, cut: MessageCut) -> Result<u64> {
        self.write(self.inner.delete_message(key, cut)).await
    }

    async fn begin_turn(&self, turn: NewTurn) -> Result<BegunTurn> {
        self.write(self.inner.begin_turn(turn)).await
    }

    async fn checkpoint_turn(&self, key: &TurnKey, checkpoint: Checkpoint) -> Result<()> {
        self.write(self.inner.checkpoint_turn(key, checkpoint))
            .await
    }

    async fn finish_turn(&self, key: &TurnKey, end: TurnEnd) -> Result<Turn> {
        self.write(self.inner.finish_turn(key, end)).await
    }

    async fn turn(&self, key: &TurnKey) -> Result<Option<Turn>> {
        self.read(self.inner.turn(key)).await
    }

    async fn turn_by_key(&self, owner: &OwnerId, idempotency_key: &str) -> Result<Option<Turn>> {
        self.read(self.inner.turn_by_key(owner, idempotency_key))
            .await
    }

    async fn running_turns(&self) -> Result<Vec<RunningTurn>> {
        self.read(self.inner.running_turns()).await
    }

    async fn session_ids(
        &self,
        owner: &OwnerId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>> {
        self.read(self.inner.session_ids(owner, after, limit)).await
    }

    async fn whole_session(&self, key: &SessionKey) -> Result<Option<WholeSession>> {
        self.read(self.inner.whole_session(key)).await
    }

    async fn import_session(&self, whole: WholeSession, existing: Existing) -> Result<()> {
        self.write(self.inner.import_session(whole, existing)).await
    }

    async fn owners(&self, after: Option<OwnerId>, limit: usize) -> Result<Vec<OwnerId>> {
        self.read(self.inner.owners(after, limit)).await
    }

    async fn turns(
        &self,
        session: &SessionKey,
        after: Option<TurnId>,
        limit: usize,
    ) -> Result<Vec<Turn>> {
        self.read(self.inner.turns(session, after, limit)).await
    }

    async fn check(&self) -> Result<StorageCheck> {
        self.read(self.inner.check()).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
impl<S: RecordStore> RecordStore for FaultyStore<S> {
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>> {
        self.read(self.inner.get(kind, key)).await
    }

    async fn kinds(&self) -> Result<Vec<String>> {
        self.read(self.inner.kinds()).await
    }

    async fn scan(&self, kind: &str, range: KeyRange, limit: usize) -> Result<Vec<Record>> {
        self.read(self.inner.scan(kind, range, limit)).await
    }

    async fn commit(&self, writes: Vec<RecordWrite>) -> Result<()> {
        self.write(self.inner.commit(writes)).await
    }
}
