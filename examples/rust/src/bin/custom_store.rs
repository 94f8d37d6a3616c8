//! A store of one's own: here one that counts what another one writes.
//!
//! `cargo run -p neuro-tutor-examples --bin custom_store` runs it, and
//! `cargo test -p neuro-tutor-examples --bin custom_store` the laws of stores on it.

#![expect(
    clippy::print_stdout,
    reason = "an example talks to the person who runs it"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tutor_core::session::{MessageCut, MessageQuery, SessionKey, SessionPatch, SessionQuery};
use tutor_core::store::{
    BegunTurn, Checkpoint, Existing, MemoryStore, NewTurn, RunningTurn, StorageCheck, StoreInfo,
    TurnEnd, WholeSession,
};
use tutor_core::turn::TurnKey;
use tutor_core::{
    Message, OwnerId, Page, Result, Session, SessionId, SessionStore, Turn, TurnId, Tutor,
    async_trait,
};

/// Counts the turns that begin and end.
#[derive(Clone, Debug, Default)]
struct Counting {
    inner: MemoryStore,
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

#[async_trait]
impl SessionStore for Counting {
    async fn begin_turn(&self, turn: NewTurn) -> Result<BegunTurn> {
        let begun = self.inner.begin_turn(turn).await?;
        self.begun.fetch_add(1, Ordering::Relaxed);
        Ok(begun)
    }

    async fn finish_turn(&self, key: &TurnKey, end: TurnEnd) -> Result<Turn> {
        let turn = self.inner.finish_turn(key, end).await?;
        self.ended.fetch_add(1, Ordering::Relaxed);
        Ok(turn)
    }

    // The trait has no defaults, so a store that wraps another one cannot forget a method.
    fn info(&self) -> StoreInfo {
        self.inner.info()
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
    async fn checkpoint_turn(&self, key: &TurnKey, checkpoint: Checkpoint) -> Result<()> {
        self.inner.checkpoint_turn(key, checkpoint).await
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

    async fn owners(&self, after: Option<OwnerId>, limit: usize) -> Result<Vec<OwnerId>> {
        self.inner.owners(after, limit).await
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

#[tokio::main]
async fn main() -> Result<()> {
    let store = Counting::default();
    let tutor = Tutor::builder().store(store.clone()).build().await?;
    tutor.chat("What is counting?").await?;
    tutor.close().await?;
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!(
        "{} turn begun, {} ended",
        count(&store.begun),
        count(&store.ended)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Counting;

    /// An empty store, and what must live as long as it.
    async fn empty() -> (Counting, ()) {
        (Counting::default(), ())
    }

    tutor_core::store_laws!(sessions, empty);
}
