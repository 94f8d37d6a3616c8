//! A store whose writes are counted and timed.

use std::sync::Arc;

use tokio::time::Instant;
use tutor_core::session::{
    MessageCut, MessageQuery, Page, Session, SessionKey, SessionPatch, SessionQuery,
};
use tutor_core::store::{
    BegunTurn, Checkpoint, Existing, KeyRange, NewTurn, Record, RecordStore, RecordWrite,
    RunningTurn, SessionStore, StorageCheck, Store, StoreInfo, TurnEnd, WholeSession,
};
use tutor_core::turn::TurnKey;
use tutor_core::{ErrorKind, Message, OwnerId, Result, SessionId, Turn, TurnId, async_trait};

use super::{Held, Metrics, OperationLabels, StoreErrorLabels};

/// Counts and times what a store writes.
#[derive(Clone, Debug)]
pub struct MeteredStore {
    inner: Arc<dyn Store>,
    metrics: Metrics,
}

impl MeteredStore {
    /// Counts the writes of `inner`.
    pub fn new(inner: Arc<dyn Store>, metrics: Metrics) -> Self {
        // From zero, so that the first thing that happens is seen as a change.
        for operation in ["begin_turn", "finish_turn"] {
            let code = ErrorKind::StoreUnavailable.code();
            let counts = &metrics.0.store;
            drop(counts.seconds.get_or_create(&OperationLabels { operation }));
            drop(
                counts
                    .errors
                    .get_or_create(&StoreErrorLabels { operation, code }),
            );
        }
        Self { inner, metrics }
    }

    async fn write<T>(
        &self,
        operation: &'static str,
        write: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let counts = &self.metrics.0.store;
        let waiting = Held::new(&counts.waiting);
        let began = Instant::now();
        let written = write.await;
        drop(waiting);
        match &written {
            // What the caller did not want to be written says nothing of the store.
            Ok(_) => {
                let took = began.elapsed().as_secs_f64();
                let labels = OperationLabels { operation };
                counts.seconds.get_or_create(&labels).observe(took);
            }
            Err(error) if is_the_stores(error.kind()) => {
                let code = error.code();
                let labels = StoreErrorLabels { operation, code };
                counts.errors.get_or_create(&labels).inc();
            }
            Err(_) => {}
        }
        written
    }
}

/// True if the store could not do what it should.
fn is_the_stores(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::StoreUnavailable
            | ErrorKind::StoreLocked
            | ErrorKind::DataCorrupt
            | ErrorKind::Internal
    )
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl SessionStore for MeteredStore {
    fn info(&self) -> StoreInfo {
        self.inner.info()
    }

    async fn create_session(&self, session: Session) -> Result<()> {
        let write = self.inner.create_session(session);
        self.write("create_session", write).await
    }

    async fn session(&self, key: &SessionKey) -> Result<Option<Session>> {
        self.inner.session(key).await
    }

    async fn sessions(&self, query: SessionQuery) -> Result<Page<Session>> {
        self.inner.sessions(query).await
    }

    async fn update_session(&self, key: &SessionKey, patch: SessionPatch) -> Result<Session> {
        let write = self.inner.update_session(key, patch);
        self.write("update_session", write).await
    }

    async fn delete_session(&self, key: &SessionKey) -> Result<bool> {
        let write = self.inner.delete_session(key);
        self.write("delete_session", write).await
    }

    async fn messages(&self, query: MessageQuery) -> Result<Page<Message>> {
        self.inner.messages(query).await
    }

    async fn delete_message(&self, key: &SessionKey, cut: MessageCut) -> Result<u64> {
        let write = self.inner.delete_message(key, cut);
        self.write("delete_message", write).await
    }

    async fn begin_turn(&self, turn: NewTurn) -> Result<BegunTurn> {
        self.write("begin_turn", self.inner.begin_turn(turn)).await
    }

    async fn checkpoint_turn(&self, key: &TurnKey, checkpoint: Checkpoint) -> Result<()> {
        let write = self.inner.checkpoint_turn(key, checkpoint);
        self.write("checkpoint_turn", write).await
    }

    async fn finish_turn(&self, key: &TurnKey, end: TurnEnd) -> Result<Turn> {
        let write = self.inner.finish_turn(key, end);
        self.write("finish_turn", write).await
    }

    async fn turn(&self, key: &TurnKey) -> Result<Option<Turn>> {
        self.inner.turn(key).await
    }

    async fn turn_by_key(&self, owner: &OwnerId, idempotency_key: &str) -> Result<Option<Turn>> {
        self.inner.turn_by_key(owner, idempotency_key).await
    }

    async fn running_turns(&self) -> Result<Vec<RunningTurn>> {
        self.inner.running_turns().await
    }

    async fn owners(&self, after: Option<OwnerId>, limit: usize) -> Result<Vec<OwnerId>> {
        self.inner.owners(after, limit).await
    }

    async fn session_ids(
        &self,
        owner: &OwnerId,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>> {
        self.inner.session_ids(owner, after, limit).await
    }

    async fn whole_session(&self, key: &SessionKey) -> Result<Option<WholeSession>> {
        self.inner.whole_session(key).await
    }

    async fn import_session(&self, whole: WholeSession, existing: Existing) -> Result<()> {
        let write = self.inner.import_session(whole, existing);
        self.write("import_session", write).await
    }

    async fn turns(
        &self,
        session: &SessionKey,
        after: Option<TurnId>,
        limit: usize,
    ) -> Result<Vec<Turn>> {
        self.inner.turns(session, after, limit).await
    }

    async fn check(&self) -> Result<StorageCheck> {
        self.inner.check().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl RecordStore for MeteredStore {
    async fn get(&self, kind: &str, key: &str) -> Result<Option<Record>> {
        self.inner.get(kind, key).await
    }

    async fn kinds(&self) -> Result<Vec<String>> {
        self.inner.kinds().await
    }

    async fn scan(&self, kind: &str, range: KeyRange, limit: usize) -> Result<Vec<Record>> {
        self.inner.scan(kind, range, limit).await
    }

    async fn commit(&self, writes: Vec<RecordWrite>) -> Result<()> {
        self.write("commit", self.inner.commit(writes)).await
    }
}
