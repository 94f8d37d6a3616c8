//! Allowances that come back with time, of all instances together.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{RedisError, Script};
use tokio::time::{Instant, timeout};

use super::Shared;
use crate::people::throttle::Throttle;

/// How long Redis is left alone after it failed: a request must not wait for what does not come.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes one from a bucket. Redis has the only clock that counts.
///
/// KEYS: the bucket. ARGV: what fits into it, in how many milliseconds it fills. Answers how many
/// milliseconds to wait; 0 if one was taken.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local allowance, period = tonumber(ARGV[1]), tonumber(ARGV[2])
local bucket = redis.call('HMGET', KEYS[1], 'left', 'at')
local left, at = tonumber(bucket[1]) or allowance, tonumber(bucket[2]) or now
left = math.min(allowance, left + math.max(0, now - at) * allowance / period)
local wait = 0
if left >= 1 then left = left - 1 else wait = math.max(1, math.ceil((1 - left) * period / allowance)) end
redis.call('HSET', KEYS[1], 'left', string.format('%.6f', left), 'at', string.format('%.3f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(period))
return wait
";

/// Buckets in Redis. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct SharedBuckets(Arc<Inner>);

struct Inner {
    connection: ConnectionManager,
    patience: Duration,
    take: Script,
    /// When it failed last, if it has not answered since.
    failed: Mutex<Option<Instant>>,
    fallbacks: Arc<AtomicU64>,
}

impl fmt::Debug for SharedBuckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuckets").finish_non_exhaustive()
    }
}

impl SharedBuckets {
    pub(super) fn new(
        connection: ConnectionManager,
        patience: Duration,
        fallbacks: Arc<AtomicU64>,
    ) -> Self {
        Self(Arc::new(Inner {
            connection,
            patience,
            take: Script::new(TAKE),
            failed: Mutex::default(),
            fallbacks,
        }))
    }

    /// Takes one, or says how long to wait; `None` if Redis cannot be used.
    async fn take(
        &self,
        name: &str,
        allowance: u32,
        period: Duration,
    ) -> Option<Result<(), Duration>> {
        let inner = &self.0;
        if inner.rests() {
            inner.fallbacks.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let mut connection = inner.connection.clone();
        let mut take = inner.take.key(format!("neuro-tutor:bucket:{name}"));
        take.arg(allowance)
            .arg(u64::try_from(period.as_millis()).unwrap_or(u64::MAX));
        let asked = timeout(inner.patience, take.invoke_async::<u64>(&mut connection)).await;
        inner.note(&asked);
        match asked {
            Ok(Ok(0)) => Some(Ok(())),
            Ok(Ok(wait)) => Some(Err(Duration::from_millis(wait))),
            Ok(Err(_)) | Err(_) => None,
        }
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

/// How much names may do: counted in Redis with all other instances, where there is one and while it
/// answers; else by this instance.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// What is counted, so that a name can have several buckets.
    what: &'static str,
    own: Throttle,
    shared: OnceLock<SharedBuckets>,
}

impl Buckets {
    /// Buckets of this kind, of which this instance keeps so many in mind.
    pub(crate) fn new(what: &'static str, max: usize) -> Self {
        Self {
            what,
            own: Throttle::new(max),
            shared: OnceLock::new(),
        }
    }

    /// Counts together with other instances from now on.
    pub(crate) fn share(&self, shared: &Shared) {
        // Only the first time means anything: there is one Redis.
        let _ = self.shared.set(shared.buckets().clone());
    }

    /// Takes one of the `allowance` that `name` has in each `period`, or says how long to wait.
    pub(crate) async fn take(
        &self,
        name: &str,
        allowance: u32,
        period: Duration,
    ) -> Result<(), Duration> {
        if let Some(shared) = self.shared.get() {
            let named = format!("{}:{name}", self.what);
            if let Some(taken) = shared.take(&named, allowance, period).await {
                return taken;
            }
        }
        self.own.take(name, allowance, period)
    }
}
