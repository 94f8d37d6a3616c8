//! Wall-clock times, and where time and identifiers come from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A moment, in microseconds since 1970-01-01T00:00:00Z.
///
/// Written as RFC 3339 with exactly six digits and `Z`, so that texts sort like times.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

impl Timestamp {
    /// Whole microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Whole microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// This moment plus `duration`; at most the last representable one.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Out of jiff's range (the years -9999 to 9999) only if somebody made it up.
        let time = jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{time:.6}")
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Reads RFC 3339 with any offset and precision.
    fn from_str(text: &str) -> Result<Self> {
        let time: jiff::Timestamp = text
            .parse()
            .map_err(|_| Error::invalid_input("a time is written like 2026-11-24T09:30:00Z"))?;
        Ok(Self(time.as_microsecond()))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

/// Where the engine takes the wall clock and new identifiers from.
///
/// Tests and replays inject their own; durations (timeouts, intervals) are tokio's and follow its
/// paused clock.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// A new identifier, unique for ever: URL-safe, at most 36 bytes.
    fn new_id(&self) -> String;
}

/// The system's clock, and UUIDs of version 7.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRuntime;

impl Runtime for SystemRuntime {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_microsecond())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that makes ids"
    )]
    fn new_id(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }
}

/// A shared [`Runtime`].
pub type SharedRuntime = Arc<dyn Runtime>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits_and_a_z() {
        let time = Timestamp::from_micros(1_764_205_323_000_000);
        assert_eq!(time.to_string(), "2025-11-27T01:02:03.000000Z");
        assert_eq!(
            "2025-11-27T02:02:03+01:00".parse::<Timestamp>().unwrap(),
            time
        );
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn system_ids_are_valid_and_distinct() {
        let (a, b) = (SystemRuntime.new_id(), SystemRuntime.new_id());
        assert_ne!(a, b);
        assert!(crate::SessionId::new(a).is_ok());
    }
}
