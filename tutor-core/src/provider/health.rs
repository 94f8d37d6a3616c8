//! How a provider is doing right now, as its adapters see it.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// How a provider is doing. What nothing watches over is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Its circuit breaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerState>,
    /// Its requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Its keys, if there are several, in the order of the configuration. A key is known by its
    /// place in it and by nothing else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyState>,
}

/// What a circuit breaker does with the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BreakerState {
    /// Passes it on: the provider works.
    Closed,
    /// Refuses it.
    Open {
        /// Milliseconds until a request is let through to see whether the provider works again.
        retry_in_ms: u64,
    },
    /// Has let one request through, and refuses the others until its outcome is known.
    HalfOpen,
}

/// How many requests there are, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Requests that the provider works on.
    pub running: usize,
    /// The most that it may work on.
    pub max_running: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// The most that may wait.
    pub max_waiting: usize,
}

/// What a pool does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum KeyState {
    /// It is used in its turn.
    Usable,
    /// The provider refused it, or its account has no credit left: it is set aside.
    Refused {
        /// Milliseconds until it is tried again.
        retry_in_ms: u64,
    },
    /// It has made too many requests: it rests.
    Resting {
        /// Milliseconds until it is used again.
        retry_in_ms: u64,
    },
}

/// What knows a part of a provider's health.
pub(crate) trait Gauge: Send + Sync {
    /// Fills in what it knows.
    fn read(&self, health: &mut Health);
}

/// The gauges of a provider. Two are equal if they are the same.
#[derive(Clone, Default)]
pub(crate) struct Gauges(Vec<Arc<dyn Gauge>>);

impl Gauges {
    pub(crate) fn add(&mut self, gauge: Arc<dyn Gauge>) {
        self.0.push(gauge);
    }

    pub(crate) fn read(&self) -> Health {
        let mut health = Health::default();
        for gauge in &self.0 {
            gauge.read(&mut health);
        }
        health
    }
}

impl PartialEq for Gauges {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<dyn Gauge>, &Arc<dyn Gauge>)| Arc::ptr_eq(a, b);
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

impl Eq for Gauges {}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gauges({})", self.0.len())
    }
}

/// Whole milliseconds.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
