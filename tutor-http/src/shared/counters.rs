//! Counting in Redis, with all instances together.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{RedisError, ScriptInvocation};
use tokio::time::{Instant, timeout};

/// How long Redis is left alone after it failed: a request must not wait for what does not come.
const PAUSE: Duration = Duration::from_secs(1);

/// What is counted in Redis. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct Counters(Arc<Inner>);

struct Inner {
    connection: ConnectionManager,
    patience: Duration,
    /// When it failed last, if it has not answered since.
    failed: Mutex<Option<Instant>>,
    fallbacks: Arc<AtomicU64>,
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

impl Counters {
    pub(super) fn new(
        connection: ConnectionManager,
        patience: Duration,
        fallbacks: Arc<AtomicU64>,
    ) -> Self {
        Self(Arc::new(Inner {
            connection,
            patience,
            failed: Mutex::default(),
            fallbacks,
        }))
    }

    /// Runs a script that answers with a number; `None` if Redis cannot be used.
    pub(super) async fn ask(&self, script: &ScriptInvocation<'_>) -> Option<u64> {
        let inner = &self.0;
        if inner.rests() {
            inner.fallbacks.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let mut connection = inner.connection.clone();
        let asked = timeout(inner.patience, script.invoke_async::<u64>(&mut connection)).await;
        inner.note(&asked);
        asked.ok()?.ok()
    }
}

impl Inner {
    /// True while it is not asked, because it failed a moment ago.
    fn rests(&self) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() < PAUSE)
    }

    fn note<T, E>(&self, asked: &Result<Result<T, RedisError>, E>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_answer = matches!(asked, Ok(Ok(_)));
        match (is_answer, failed.is_some()) {
            (true, true) => tracing::info!("Redis is back: callers are counted together again"),
            (false, false) => {
                tracing::warn!("Redis cannot be used: this instance counts callers by itself");
            }
            _ => {}
        }
        if is_answer {
            *failed = None;
        } else {
            *failed = Some(Instant::now());
            self.fallbacks.fetch_add(1, Ordering::Relaxed);
        }
    }
}
