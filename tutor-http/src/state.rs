//! What all requests share.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tutor_core::file::FileStore;
use tutor_core::store::RecordStore;
use tutor_core::time::{Runtime, SystemRuntime};
use tutor_core::{Error, ErrorKind, Result, Tutor};

use crate::allowance::{Allowances, Limiter, StreamPlace};
use crate::bounds::Bounds;
use crate::edge::{Origins, TrustedProxies};
use crate::metrics::Metrics;
use crate::people::People;
use crate::people::principal::Principal;
use crate::probe::Probe;
use crate::shared::Shared;

/// What all requests share: the tutor, the bounds, and whether the server is stopping.
///
/// Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct AppState {
    pub(crate) tutor: Tutor,
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) proxies: Arc<TrustedProxies>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) body_budget: Arc<Semaphore>,
    pub(crate) draining: CancellationToken,
    pub(crate) metrics: Metrics,
    /// True if the counts are told at an address of their own, and not beside the API.
    pub(crate) hides_metrics: bool,
    probe: Option<Probe>,
    pub(crate) limiter: Limiter,
    /// The store's records; `None` if it has none.
    pub(crate) records: Option<Arc<dyn RecordStore>>,
    /// Where uploaded files are; `None` if none are taken.
    pub(crate) files: Option<FileStore>,
    /// Who may use the server; `None` if it asks nobody who they are.
    pub(crate) people: Option<People>,
    /// The caller's place for an event stream, if this request asks for one.
    pub(crate) place: Option<Arc<StreamPlace>>,
    /// What instances share besides the store; `None` if there is nothing.
    pub(crate) shared: Option<Shared>,
    /// Who sent the request that this copy of the state is for.
    pub(crate) caller: Option<Caller>,
}

/// Whoever sent a request, to ask later whether they still may.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    people: People,
    principal: Arc<Principal>,
}

impl Caller {
    pub(crate) fn new(people: People, principal: Principal) -> Self {
        Self {
            people,
            principal: Arc::new(principal),
        }
    }

    /// True if the caller may still read. An error of the store is no reason to cut anybody off.
    pub(crate) async fn is_welcome(&self) -> bool {
        self.people
            .is_welcome(&self.principal)
            .await
            .unwrap_or(true)
    }
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
            proxies: Arc::default(),
            runtime: Arc::new(SystemRuntime),
            draining: CancellationToken::new(),
            metrics: Metrics::default(),
            hides_metrics: false,
            probe: None,
            limiter: Limiter::new(Allowances::default()),
            records: None,
            files: None,
            people: None,
            place: None,
            shared: None,
            caller: None,
        }
    }

    /// Gives it the store's records, so that it can tell whether the store can be written, and what
    /// was used.
    #[must_use]
    pub fn with_records(mut self, records: Arc<dyn RecordStore>) -> Self {
        self.probe = Some(Probe::new(Arc::clone(&records)));
        self.records = Some(records);
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

    /// Replaces whose `X-Forwarded-For` is believed.
    #[must_use]
    pub fn with_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = Arc::new(proxies);
        self
    }

    /// Takes uploads. The tutor must read the same files: see
    /// [`TutorBuilder::files`](tutor_core::TutorBuilder::files).
    #[must_use]
    pub fn with_files(mut self, files: FileStore) -> Self {
        self.files = Some(files);
        self
    }

    /// Replaces how much each caller may do.
    #[must_use]
    pub fn with_allowances(mut self, allowances: Allowances) -> Self {
        self.limiter = Limiter::new(allowances);
        self
    }

    /// Counts callers together with other instances: to be called behind
    /// [`with_allowances`](Self::with_allowances). The tutor should have the same
    /// [bus](tutor_core::TutorBuilder::bus).
    #[must_use]
    pub fn with_shared(mut self, shared: Shared) -> Self {
        self.limiter.share(&shared);
        self.shared = Some(shared);
        self
    }

    /// The state for a request that asks for an event stream, which takes a place of its caller's.
    pub(crate) fn for_stream(mut self) -> Result<Self> {
        let place = self.limiter.stream(self.tutor.owner())?;
        self.place = place.map(Arc::new);
        Ok(self)
    }

    /// The state for what somebody asks: its tutor reads and writes their data and nobody else's.
    pub(crate) fn for_caller(mut self, people: &People, principal: Principal) -> Self {
        self.tutor = self.tutor.for_owner(principal.owner().clone());
        self.caller = Some(Caller::new(people.clone(), principal));
        self
    }

    /// Lets only these people in, each to their own data.
    #[must_use]
    pub fn with_people(mut self, people: People) -> Self {
        self.people = Some(people);
        self
    }

    /// Counts in these from now on, together with whoever else does.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// True to tell the counts at an address of their own ([`Served::operations`]) alone, and not
    /// beside the API.
    ///
    /// [`Served::operations`]: crate::Served::operations
    #[must_use]
    pub fn hide_metrics(mut self, hide: bool) -> Self {
        self.hides_metrics = hide;
        self
    }

    /// Counts bytes that are held of requests' bodies, for as long as what is returned.
    ///
    /// # Errors
    /// `overloaded` if so many are held already that these do not fit.
    pub(crate) fn hold(&self, bytes: usize) -> Result<SemaphorePermit<'_>> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.body_budget.try_acquire_many(permits).map_err(|_| {
            Error::new(
                ErrorKind::Overloaded,
                "too many large requests arrive at once: try again in a moment",
            )
        })
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
