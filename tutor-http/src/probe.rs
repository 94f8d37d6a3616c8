//! Whether the store can be written: tried by writing, not too often.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tutor_core::store::{Expect, RecordStore, RecordWrite};

/// How long an answer holds: asking costs a durable write.
const HOLDS: Duration = Duration::from_secs(2);

/// Tries to write, and remembers for a moment what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    records: Arc<dyn RecordStore>,
    last: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Probe {
    pub(crate) fn new(records: Arc<dyn RecordStore>) -> Self {
        Self {
            records,
            last: Arc::default(),
        }
    }

    /// True if a record was written a moment ago. Who asks while somebody else tries waits for that.
    pub(crate) async fn can_write(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, outcome)) = *last
            && at.elapsed() < HOLDS
        {
            return outcome;
        }
        let write = RecordWrite {
            kind: "probe".to_owned(),
            key: "ready".to_owned(),
            value: Some(Vec::new()),
            expect: Expect::Any,
        };
        let outcome = match self.records.commit(vec![write]).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(code = error.code(), "the store cannot be written");
                false
            }
        };
        *last = Some((Instant::now(), outcome));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use tutor_core::store::{MemoryStore, SessionStore};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_cannot_be_written_any_more_is_noticed_after_a_moment() {
        let store = MemoryStore::new();
        let probe = Probe::new(Arc::new(store.clone()));
        assert!(probe.can_write().await);
        store.close().await.unwrap();
        assert!(probe.can_write().await);
        tokio::time::advance(HOLDS).await;
        assert!(!probe.can_write().await);
    }
}
