//! Allowances that come back with time, of all instances together.

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use redis::Script;

use super::Shared;
use super::counters::Counters;
use crate::people::throttle::Throttle;

/// Takes one from a bucket. Redis has the only clock that counts.
///
/// KEYS: the bucket. ARGV: what fits into it, in how many milliseconds it fills. Answers how many
/// milliseconds to wait; 0 if one was taken.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
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
",
    )
});

/// How much names may do: counted in Redis with all other instances, where there is one and while it
/// answers; else by this instance.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// What is counted, so that a name can have several buckets.
    what: &'static str,
    own: Throttle,
    shared: OnceLock<Counters>,
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
        let _ = self.shared.set(shared.counters().clone());
    }

    /// Takes one of the `allowance` that `name` has in each `period`, or says how long to wait.
    pub(crate) async fn take(
        &self,
        name: &str,
        allowance: u32,
        period: Duration,
    ) -> Result<(), Duration> {
        if let Some(shared) = self.shared.get() {
            let mut take = TAKE.key(format!("neuro-tutor:bucket:{}:{name}", self.what));
            take.arg(allowance)
                .arg(u64::try_from(period.as_millis()).unwrap_or(u64::MAX));
            match shared.ask(&take).await {
                Some(0) => return Ok(()),
                Some(wait) => return Err(Duration::from_millis(wait)),
                None => {}
            }
        }
        self.own.take(name, allowance, period)
    }
}
