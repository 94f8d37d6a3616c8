//! Pauses after failures, of all instances together.

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use redis::{Script, ScriptInvocation};
use ring::digest::{SHA256, digest};

use super::Shared;
use super::counters::Counters;
use crate::people::throttle::{FREE_FAILURES, MAX_BACKOFF, Throttle};

/// How long failures are remembered in Redis, from the last one on, in milliseconds.
const REMEMBERED_MS: u64 = 24 * 60 * 60 * 1000;

/// Counts a failure. Redis has the only clock that counts.
///
/// KEYS: the name. ARGV: failures that cost nothing, the longest pause and how long all is
/// remembered, in milliseconds. Answers the pause.
static FAIL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
local over, pause = failures - tonumber(ARGV[1]), 0
if over > 0 then pause = math.min(tonumber(ARGV[2]), 1000 * 2 ^ math.min(over - 1, 30)) end
local till = time[1] * 1000 + time[2] / 1000 + pause
redis.call('HSET', KEYS[1], 'till', string.format('%.0f', till))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return pause
",
    )
});

/// KEYS: the name. Answers how many milliseconds are left of the pause.
static LEFT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local till = tonumber(redis.call('HGET', KEYS[1], 'till') or 0)
return math.max(0, math.ceil(till - time[1] * 1000 - time[2] / 1000))
",
    )
});

/// KEYS: the name.
static FORGET: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('DEL', KEYS[1])"));

/// Who failed too often lately, and has to wait. What this instance saw counts also without Redis.
#[derive(Debug)]
pub(crate) struct Failures {
    own: Throttle,
    shared: OnceLock<Counters>,
}

impl Failures {
    /// Failures of so many names are kept in mind.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            own: Throttle::new(max),
            shared: OnceLock::new(),
        }
    }

    /// Counts together with other instances from now on.
    pub(crate) fn share(&self, shared: &Shared) {
        // Only the first time means anything: there is one Redis.
        let _ = self.shared.set(shared.counters().clone());
    }

    /// How long `name` still has to wait.
    pub(crate) async fn backoff(&self, name: &str) -> Result<(), Duration> {
        self.own.backoff(name)?;
        match self.ask(&LEFT, name, |_| ()).await {
            None | Some(0) => Ok(()),
            Some(wait) => Err(Duration::from_millis(wait)),
        }
    }

    /// Notes a failure.
    pub(crate) async fn fail(&self, name: &str) {
        self.own.fail(name);
        let most = u64::try_from(MAX_BACKOFF.as_millis()).unwrap_or(u64::MAX);
        let with = |fail: &mut ScriptInvocation<'_>| {
            fail.arg(FREE_FAILURES).arg(most).arg(REMEMBERED_MS);
        };
        self.ask(&FAIL, name, with).await;
    }

    /// Forgets the failures.
    pub(crate) async fn forget(&self, name: &str) {
        self.own.forget(name);
        self.ask(&FORGET, name, |_| ()).await;
    }

    async fn ask(
        &self,
        script: &Script,
        name: &str,
        with: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Option<u64> {
        let shared = self.shared.get()?;
        // Redis need not know who they are.
        let name = digest(&SHA256, name.as_bytes());
        let mut asked = script.key(format!("neuro-tutor:failures:{name:?}"));
        with(&mut asked);
        shared.ask(&asked).await
    }
}
