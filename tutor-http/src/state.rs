//! What all requests share.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tutor_core::Tutor;
use tutor_core::store::RecordStore;
use tutor_core::time::{Runtime, SystemRuntime};

use crate::bounds::Bounds;
use crate::edge::Origins;
use crate::probe::Probe;

/// What all requests share: the tutor, the bounds, and whether the server is stopping.
///
/// Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct AppState {
    pub(crate) tutor: Tutor,
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) body_budget: Arc<Semaphore>,
    pub(crate) draining: CancellationToken,
    probe: Option<Probe>,
}

impl AppState {
    /// Serves `tutor`, within the default bounds and to the default origins.
    pub fn new(tutor: Tutor) -> Self {
        let bounds = Bounds::default();
        Self {
            tutor,
            body_budget: budget(&bounds),
            bounds: Arc::new(bounds),
            origins: Arc::default(),
            runtime: Arc::new(SystemRuntime),
            draining: CancellationToken::new(),
            probe: None,
        }
    }

    /// Gives it the store's records, so that it can tell whether the store can be written.
    #[must_use]
    pub fn with_records(mut self, records: Arc<dyn RecordStore>) -> Self {
        self.probe = Some(Probe::new(records));
        self
    }

    /// True if the store answers, and can be written as far as that can be tried.
    pub(crate) async fn probe_store(&self) -> bool {
        let writable = async {
            match &self.probe {
                Some(probe) => probe.can_write().await,
                None => true,
            }
        };
        self.tutor.sessions(1, None).await.is_ok() && writable.await
    }

    /// Replaces the bounds.
    #[must_use]
    pub fn with_bounds(mut self, bounds: Bounds) -> Self {
        self.body_budget = budget(&bounds);
        self.bounds = Arc::new(bounds);
        self
    }

    /// Replaces the origins whose pages may read the answers.
    #[must_use]
    pub fn with_origins(mut self, origins: Origins) -> Self {
        self.origins = Arc::new(origins);
        self
    }

    /// From now on the server takes no new work: it says that it is not ready, and its event
    /// streams end so that clients resume elsewhere. [`serve`](crate::serve) calls it when it is
    /// told to stop.
    pub fn drain(&self) {
        self.draining.cancel();
    }
}

fn budget(bounds: &Bounds) -> Arc<Semaphore> {
    let permits = bounds.body_budget_bytes.min(Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(permits))
}
