//! Who did too much lately: by address, or by account.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures that cost nothing.
pub(crate) const FREE_FAILURES: u32 = 4;

/// The longest pause after failures.
pub(crate) const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Counts what names did. Bounded: when it is full, what happened longest ago is forgotten.
#[derive(Debug)]
pub(crate) struct Throttle {
    max: usize,
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// How much of the allowance is left.
    left: f64,
    failures: u32,
    at: Instant,
}

impl Throttle {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            entries: Mutex::default(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one of the `allowance` that `name` has in each `period`, or says how long to wait.
    pub(crate) fn take(
        &self,
        name: &str,
        allowance: u32,
        period: Duration,
    ) -> Result<(), Duration> {
        let now = Instant::now();
        let per_second = f64::from(allowance) / period.as_secs_f64();
        let mut entries = self.entries();
        let entry = self.entry(&mut entries, name, f64::from(allowance), now);
        let earned = now.duration_since(entry.at).as_secs_f64() * per_second;
        entry.left = (entry.left + earned).min(f64::from(allowance));
        entry.at = now;
        if entry.left >= 1.0 {
            entry.left -= 1.0;
            return Ok(());
        }
        let seconds = (1.0 - entry.left) / per_second;
        Err(Duration::try_from_secs_f64(seconds).unwrap_or(period))
    }

    /// How long `name` still has to wait after its failures.
    pub(crate) fn backoff(&self, name: &str) -> Result<(), Duration> {
        let entries = self.entries();
        let Some(entry) = entries.get(name).filter(|e| e.failures > FREE_FAILURES) else {
            return Ok(());
        };
        let doublings = (entry.failures - FREE_FAILURES - 1).min(6);
        let pause = Duration::from_secs(1 << doublings).min(MAX_BACKOFF);
        match pause.checked_sub(entry.at.elapsed()) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    /// Notes a failure.
    pub(crate) fn fail(&self, name: &str) {
        let now = Instant::now();
        let mut entries = self.entries();
        let entry = self.entry(&mut entries, name, 0.0, now);
        entry.failures = entry.failures.saturating_add(1);
        entry.at = now;
    }

    /// Forgets the failures.
    pub(crate) fn forget(&self, name: &str) {
        self.entries().remove(name);
    }

    fn entry<'a>(
        &self,
        entries: &'a mut HashMap<String, Entry>,
        name: &str,
        left: f64,
        now: Instant,
    ) -> &'a mut Entry {
        if entries.len() >= self.max && !entries.contains_key(name) {
            // A tenth at once, so that this is rare.
            let mut times: Vec<Instant> = entries.values().map(|entry| entry.at).collect();
            let (_, oldest, _) = times.select_nth_unstable(self.max / 10);
            let oldest = *oldest;
            entries.retain(|_, entry| entry.at > oldest);
        }
        entries.entry(name.to_owned()).or_insert(Entry {
            left,
            failures: 0,
            at: now,
        })
    }
}

/// The name under which an address is counted: of IPv6 the network, as one person has a whole one;
/// one name for all whose address is not known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressName(pub(crate) Option<IpAddr>);

impl fmt::Display for AddressName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.map(|address| address.to_canonical()) {
            None => f.write_str("unknown"),
            Some(IpAddr::V4(address)) => address.fmt(f),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                write!(f, "{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn an_allowance_comes_back_with_time() {
        let throttle = Throttle::new(10);
        for _ in 0..6 {
            assert_eq!(throttle.take("a", 6, MINUTE), Ok(()));
        }
        let wait = throttle.take("a", 6, MINUTE).unwrap_err();
        assert!((9.9..=10.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!(throttle.take("b", 6, MINUTE), Ok(()));
        tokio::time::advance(wait + Duration::from_millis(1)).await;
        assert_eq!(throttle.take("a", 6, MINUTE), Ok(()));
        assert!(throttle.take("a", 6, MINUTE).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_cost_more_and_more_time_until_a_success() {
        let throttle = Throttle::new(10);
        for _ in 0..4 {
            throttle.fail("a");
            assert_eq!(throttle.backoff("a"), Ok(()));
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            throttle.fail("a");
            assert_eq!(throttle.backoff("a"), Err(Duration::from_secs(seconds)));
        }
        tokio::time::advance(MAX_BACKOFF).await;
        assert_eq!(throttle.backoff("a"), Ok(()));
        throttle.forget("a");
        throttle.fail("a");
        assert_eq!(throttle.backoff("a"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_watched_is_bounded() {
        let throttle = Throttle::new(100);
        for n in 0..1000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            throttle.fail(&n.to_string());
            assert!(throttle.entries().len() <= 100);
        }
        assert!(throttle.entries().contains_key("999"));
    }

    #[test]
    fn an_ipv6_network_is_one_name() {
        let name = |text: &str| AddressName(Some(text.parse().unwrap())).to_string();
        assert_eq!(name("2001:db8:1:2:3::4"), name("2001:db8:1:2:ffff::"));
        assert_ne!(name("2001:db8:1:2::"), name("2001:db8:1:3::"));
        assert_eq!(name("::ffff:10.0.0.1"), name("10.0.0.1"));
    }
}
