//! The server in this process, on a port of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tutor_core::file::FileStore;
use tutor_core::provider::{DemoProvider, Provider};
use tutor_core::store::{MemoryStore, RecordStore, Store};
use tutor_core::{Tutor, TutorBuilder};
use tutor_http::people::People;
use tutor_http::{Allowances, AppState, Bounds, serve};

/// A running server. Dropping it leaves it to the runtime, which ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) tutor: Tutor,
    pub(crate) state: AppState,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// Conversations in memory, answered by the demo provider without pauses.
    pub(crate) async fn start() -> Self {
        Self::with_provider(DemoProvider::new().with_delay(Duration::ZERO)).await
    }

    pub(crate) async fn with_provider(provider: impl Provider) -> Self {
        Self::with(Tutor::builder().provider(provider), Bounds::default()).await
    }

    pub(crate) async fn with_bounds(bounds: Bounds) -> Self {
        let demo = DemoProvider::new().with_delay(Duration::ZERO);
        Self::with(Tutor::builder().provider(demo), bounds).await
    }

    pub(crate) async fn with(builder: TutorBuilder, bounds: Bounds) -> Self {
        let records = Arc::new(MemoryStore::new());
        Self::run(builder, records, |state| state.with_bounds(bounds)).await
    }

    pub(crate) async fn allowing(builder: TutorBuilder, allowances: Allowances) -> Self {
        let records = Arc::new(MemoryStore::new());
        Self::run(builder, records, |state| state.with_allowances(allowances)).await
    }

    /// For these people only, whose data is here.
    pub(crate) async fn for_people(
        builder: TutorBuilder,
        people: People,
        store: Arc<dyn Store>,
        allowances: Allowances,
        bounds: Bounds,
    ) -> Self {
        let records: Arc<dyn RecordStore> = Arc::new(store);
        Self::run(builder, Arc::clone(&records), |state| {
            let state = state.with_people(people).with_records(records);
            state.with_allowances(allowances).with_bounds(bounds)
        })
        .await
    }

    async fn run(
        builder: TutorBuilder,
        records: Arc<dyn RecordStore>,
        configure: impl FnOnce(AppState) -> AppState,
    ) -> Self {
        let files = FileStore::in_memory(records);
        let tutor = builder.files(files.clone()).build().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = configure(AppState::new(tutor.clone()).with_files(files));
        let stop = CancellationToken::new();
        let serving = serve(listener, state.clone(), stop.clone().cancelled_owned());
        Self {
            address,
            tutor,
            state,
            stop,
            task: tokio::spawn(serving),
        }
    }

    /// Tells it to stop.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(self) {
        self.task.await.unwrap();
    }
}

/// A builder whose store is in memory, for a provider of the test's own.
pub(crate) fn builder(provider: impl Provider) -> TutorBuilder {
    Tutor::builder()
        .data(MemoryStore::default())
        .provider(provider)
}
