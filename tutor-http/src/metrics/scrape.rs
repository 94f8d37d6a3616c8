//! What is looked up when somebody asks for the counts.

use std::path::Path;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};
use tutor_core::provider::BreakerState;
use tutor_core::store::StoreInfo;
use tutor_core::{ErrorKind, Result};

use super::process::Process;
use super::{Decimal, Metrics, ProviderLabels};
use crate::state::AppState;

/// How long the size of the data holds: finding it means to look at every file.
const SIZE_HOLDS: Duration = Duration::from_secs(15);

/// Files of the data that are looked at; a size that would need more is not told.
const MAX_FILES: usize = 10_000;

/// What is true now.
#[derive(Debug, Default)]
pub(super) struct Now {
    uptime: Decimal,
    live_turns: Gauge,
    draining: Gauge,
    receiving: Gauge,
    breakers: Family<BreakerLabels, Gauge>,
    running: Family<ProviderLabels, Gauge>,
    waiting: Family<ProviderLabels, Gauge>,
    store_groups: Gauge,
    store_writes: Gauge,
    store_bytes: Gauge,
    resident: Gauge,
    files: Gauge,
    fallbacks: Family<FallbackLabels, Gauge>,
    size: Mutex<Option<(Instant, Option<u64>)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BreakerLabels {
    provider: Arc<str>,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FallbackLabels {
    what: &'static str,
}

impl Now {
    pub(super) fn register(to: &mut Registry) -> Self {
        let now = Self::default();
        to.register(
            "uptime_seconds",
            "Since the server began",
            now.uptime.clone(),
        );
        to.register(
            "live_turns",
            "Replies that are being written",
            now.live_turns.clone(),
        );
        to.register("draining", "1 while the server stops", now.draining.clone());
        to.register(
            "receiving_bytes",
            "Bytes of bodies that are being received",
            now.receiving.clone(),
        );
        to.register(
            "provider_breaker",
            "1 for the state that a provider's circuit breaker is in: closed, half_open or open",
            now.breakers.clone(),
        );
        to.register(
            "provider_running",
            "Requests that a provider works on",
            now.running.clone(),
        );
        to.register(
            "provider_waiting",
            "Requests that wait for a provider",
            now.waiting.clone(),
        );
        to.register(
            "store_groups",
            "Groups of writes that were made durable together, since the server began",
            now.store_groups.clone(),
        );
        to.register(
            "store_group_writes",
            "Writes in these groups",
            now.store_writes.clone(),
        );
        to.register(
            "store_bytes",
            "What the data takes on the disk",
            now.store_bytes.clone(),
        );
        to.register("resident_bytes", "Memory in use", now.resident.clone());
        to.register("open_files", "Open files and sockets", now.files.clone());
        to.register(
            "redis_fallbacks",
            "How often Redis could not be used since the server began, and the store (events) or this \
             instance alone (limits) was relied on instead",
            now.fallbacks.clone(),
        );
        now
    }
}

impl Metrics {
    /// All counts as text.
    ///
    /// # Errors
    /// None that is known: writing to memory does not fail.
    pub(crate) async fn render(&self, state: &AppState) -> Result<String> {
        self.look(state).await;
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.0.registry).map_err(|error| {
            tutor_core::Error::new(ErrorKind::Internal, "the counts cannot be written")
                .with_source(error)
        })?;
        Ok(text)
    }

    async fn look(&self, state: &AppState) {
        let now = &self.0.now;
        now.uptime.set(self.0.began.elapsed().as_secs_f64());
        now.live_turns.set(count(state.tutor.live_turns()));
        now.draining.set(i64::from(state.draining.is_cancelled()));
        let budget = state.bounds.body_budget_bytes;
        let free = state.body_budget.available_permits();
        now.receiving.set(count(budget.saturating_sub(free)));
        for provider in state.tutor.providers() {
            let health = provider.health();
            let provider: Arc<str> = provider.name.as_str().into();
            if let Some(breaker) = health.breaker {
                let is = match breaker {
                    BreakerState::Closed => "closed",
                    BreakerState::HalfOpen => "half_open",
                    BreakerState::Open { .. } => "open",
                };
                for state in ["closed", "half_open", "open"] {
                    let provider = Arc::clone(&provider);
                    let gauge = now
                        .breakers
                        .get_or_create(&BreakerLabels { provider, state });
                    gauge.set(i64::from(state == is));
                }
            }
            if let Some(load) = health.load {
                let labels = ProviderLabels { provider };
                now.running.get_or_create(&labels).set(count(load.running));
                now.waiting.get_or_create(&labels).set(count(load.waiting));
            }
        }
        let store = state.tutor.store_info();
        now.store_groups.set(count(store.written.groups));
        now.store_writes.set(count(store.written.writes));
        if let Some(bytes) = self.store_bytes(&store).await {
            now.store_bytes.set(count(bytes));
        }
        let limits = state.shared.as_ref().map_or(0, |shared| shared.fallbacks());
        for (what, fallbacks) in [("events", state.tutor.bus_fallbacks()), ("limits", limits)] {
            let gauge = now.fallbacks.get_or_create(&FallbackLabels { what });
            gauge.set(count(fallbacks));
        }
        let process = Process::read();
        now.resident.set(count(process.resident_bytes.unwrap_or(0)));
        now.files.set(count(process.open_files.unwrap_or(0)));
    }

    /// What the data takes, if it is in files of this machine.
    async fn store_bytes(&self, store: &StoreInfo) -> Option<u64> {
        let mut known = self.0.now.size.lock().await;
        if let Some((at, size)) = *known
            && at.elapsed() < SIZE_HOLDS
        {
            return size;
        }
        let place = store.location.clone();
        let size = tokio::task::spawn_blocking(move || size_of(Path::new(&place)));
        let size = size.await.ok().flatten();
        *known = Some((Instant::now(), size));
        size
    }
}

/// Bytes of a file, or of all files in a directory.
fn size_of(place: &Path) -> Option<u64> {
    let mut left = vec![place.to_owned()];
    let (mut bytes, mut files) = (0, 0);
    while let Some(place) = left.pop() {
        files += 1;
        if files > MAX_FILES {
            return None;
        }
        // What is gone meanwhile takes nothing.
        let Ok(found) = std::fs::symlink_metadata(&place) else {
            continue;
        };
        if found.is_dir() {
            let inside = std::fs::read_dir(&place).ok()?;
            left.extend(inside.flatten().map(|entry| entry.path()));
        } else {
            bytes += found.len();
        }
    }
    (files > 1 || bytes > 0).then_some(bytes)
}

/// A count as gauges take it.
fn count(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_directory_is_that_of_its_files() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("in")).unwrap();
        std::fs::write(directory.path().join("in/a"), [0; 10]).unwrap();
        std::fs::write(directory.path().join("b"), [0; 5]).unwrap();
        assert_eq!(size_of(directory.path()), Some(15));
        assert_eq!(size_of(&directory.path().join("b")), Some(5));
        assert_eq!(size_of(&directory.path().join("lost")), None);
    }
}
