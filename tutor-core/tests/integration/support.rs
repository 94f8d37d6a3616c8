//! Plug-ins that misbehave on command.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use tokio::sync::{Notify, watch};
use tutor_core::provider::{CompletionRequest, CompletionStream, ModelInfo, ProviderInfo};
use tutor_core::session::{MessageCut, MessageQuery, SessionKey, SessionPatch, SessionQuery};
use tutor_core::store::{
    BegunTurn, Checkpoint, Existing, NewTurn, RunningTurn, StorageCheck, StoreInfo, TurnEnd,
    WholeSession,
};
use tutor_core::turn::TurnKey;
use tutor_core::{
    Error, ErrorKind, Message, OwnerId, Page, Provider, Result, Session, SessionId, SessionStore,
    Turn, TurnId, async_trait,
};

/// The writes of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Begin,
    Checkpoint,
    Finish,
}

/// A store whose writes can be held, failed, or cut off.
#[derive(Clone, Debug)]
pub(crate) struct GateStore<S> {
    inner: Arc<S>,
    control: Arc<Control>,
}

#[derive(Debug, Default)]
struct Control {
    gates: Mutex<HashMap<Call, Arc<Notify>>>,
    failures: Mutex<HashMap<Call, usize>>,
    calls: watch::Sender<HashMap<Call, usize>>,
    dead: AtomicBool,
    shared: AtomicBool,
}

impl<S: SessionStore> GateStore<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner: Arc::new(inner),
            control: Arc::default(),
        }
    }

    /// It says that other instances use the same data.
    pub(crate) fn share(self) -> Self {
        self.control.shared.store(true, Ordering::SeqCst);
        self
    }

    /// Every such call waits until the gate is notified.
    pub(crate) fn hold(&self, call: Call) -> Arc<Notify> {
        let gate = Arc::new(Notify::new());
        self.control
            .gates
            .lock()
            .unwrap()
            .insert(call, Arc::clone(&gate));
        gate
    }

    /// The next `times` such calls fail without effect.
    pub(crate) fn fail(&self, call: Call, times: usize) {
        self.control.failures.lock().unwrap().insert(call, times);
    }

    /// Waits until such a call has been made (and, unless it is held, applied).
    pub(crate) async fn reached(&self, call: Call) {
        self.control
            .calls
            .subscribe()
            .wait_for(|calls| calls.contains_key(&call))
            .await
            .unwrap();
    }

    /// The same data for a new owner; whoever holds this store can write no more.
    pub(crate) fn take_over(&self) -> Self {
        self.control.dead.store(true, Ordering::SeqCst);
        Self {
            inner: Arc::clone(&self.inner),
            control: Arc::default(),
        }
    }

    async fn pass(&self, call: Call) -> Result<()> {
        let gate = self.control.gates.lock().unwrap().get(&call).cloned();
        if let Some(gate) = gate {
            self.note(call);
            gate.notified().await;
        }
        let failing = self
            .control
            .failures
            .lock()
            .unwrap()
            .get_mut(&call)
            .is_some_and(|left| {
                let fails = *left > 0;
                *left = left.saturating_sub(1);
                fails
            });
        if failing || self.control.dead.load(Ordering::SeqCst) {
            return Err(Error::new(
                ErrorKind::StoreUnavailable,
                "this call was told to fail",
            ));
        }
        Ok(())
    }

    fn note(&self, call: Call) {
        self.control
            .calls
            .send_modify(|calls| *calls.entry(call).or_default() += 1);
    }
}

#[async_trait]
impl<S: SessionStore> SessionStore for GateStore<S> {
    fn info(&self) -> StoreInfo {
        let info = self.inner.info();
        StoreInfo {
            exclusive: info.exclusive && !self.control.shared.load(Ordering::SeqCst),
            ..info
        }
    }
    async fn create_session(&self, session: Session) -> Result<()> {
        self.inner.create_session(session).await
    }
    async fn session(&self, key: &SessionKey) -> Result<Option<Session>> {
        self.inner.session(key).await
    }
    async fn sessions(&self, query: SessionQuery) -> Result<Page<Session>> {
        self.inner.sessions(query).await
    }
    async fn update_session(&self, key: &SessionKey, patch: SessionPatch) -> Result<Session> {
        self.inner.update_session(key, patch).await
    }
    async fn delete_session(&self, key: &SessionKey) -> Result<bool> {
        self.inner.delete_session(key).await
    }
    async fn messages(&self, query: MessageQuery) -> Result<Page<Message>> {
        self.inner.messages(query).await
    }
    async fn delete_message(&self, key: &SessionKey, cut: MessageCut) -> Result<u64> {
        self.inner.delete_message(key, cut).await
    }
    async fn begin_turn(&self, turn: NewTurn) -> Result<BegunTurn> {
        self.pass(Call::Begin).await?;
        let result = self.inner.begin_turn(turn).await;
        self.note(Call::Begin);
        result
    }
    async fn checkpoint_turn(&self, key: &TurnKey, checkpoint: Checkpoint) -> Result<()> {
        self.pass(Call::Checkpoint).await?;
        let result = self.inner.checkpoint_turn(key, checkpoint).await;
        self.note(Call::Checkpoint);
        result
    }
    async fn finish_turn(&self, key: &TurnKey, end: TurnEnd) -> Result<Turn> {
        self.pass(Call::Finish).await?;
        let result = self.inner.finish_turn(key, end).await;
        self.note(Call::Finish);
        result
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
        self.inner.import_session(whole, existing).await
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

/// A provider that panics when it is called (`at` 0) or at its first event (`at` 1).
#[derive(Debug)]
pub(crate) struct PanickingProvider {
    pub(crate) at: usize,
}

#[async_trait]
impl Provider for PanickingProvider {
    fn info(&self) -> ProviderInfo {
        ProviderInfo::new("panicking", "none")
    }
    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(Vec::new())
    }
    async fn stream(&self, _: CompletionRequest) -> Result<CompletionStream> {
        assert!(self.at > 0, "told to panic");
        let calls = AtomicUsize::new(0);
        Ok(futures_util::stream::poll_fn(move |_| {
            assert!(calls.fetch_add(1, Ordering::SeqCst) > 0, "told to panic");
            std::task::Poll::Ready(None)
        })
        .boxed())
    }
}

/// Notes when the stream of the provider inside is dropped.
#[derive(Debug)]
pub(crate) struct Watched<P> {
    inner: P,
    dropped: Arc<AtomicBool>,
}

impl<P> Watched<P> {
    pub(crate) fn new(inner: P, dropped: Arc<AtomicBool>) -> Self {
        Self { inner, dropped }
    }
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl<P: Provider> Provider for Watched<P> {
    fn info(&self) -> ProviderInfo {
        self.inner.info()
    }
    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.inner.models().await
    }
    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let guard = SetOnDrop(Arc::clone(&self.dropped));
        let inner = self.inner.stream(request).await?;
        Ok(inner
            .map(move |item| {
                let _held = &guard;
                item
            })
            .boxed())
    }
}
