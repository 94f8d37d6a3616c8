//! How a [`Tutor`] is configured.

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Tutor;
use crate::engine::Engine;
use crate::engine::hub::Hub;
use crate::error::Result;
use crate::id::OwnerId;
use crate::limits::Limits;
use crate::provider::router::Router;
use crate::provider::{DemoProvider, Provider, SharedProvider};
use crate::store::{MemoryStore, SessionStore, SharedStore};
use crate::time::{Runtime, SharedRuntime, SystemRuntime};

/// Configures a [`Tutor`]. Everything has a default: conversations in memory, answered by the
/// demo provider.
#[derive(Default)]
#[must_use]
pub struct TutorBuilder {
    store: Option<SharedStore>,
    providers: Vec<SharedProvider>,
    default_provider: Option<String>,
    owner: OwnerId,
    system_prompt: Option<String>,
    limits: Limits,
    runtime: Option<SharedRuntime>,
}

impl fmt::Debug for TutorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TutorBuilder")
            .field("store", &self.store)
            .field("providers", &self.providers)
            .finish_non_exhaustive()
    }
}

impl TutorBuilder {
    /// Where conversations are kept. In memory by default.
    pub fn store(mut self, store: impl SessionStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Adds a provider. The first one is the default; without any, the demo provider answers.
    pub fn provider(mut self, provider: impl Provider) -> Self {
        self.providers.push(Arc::new(provider));
        self
    }

    /// Which provider answers when a request names none: the first one added, by default.
    pub fn default_provider(mut self, name: impl Into<String>) -> Self {
        self.default_provider = Some(name.into());
        self
    }

    /// Whose data the tutor reads and writes: `local` by default.
    pub fn owner(mut self, owner: OwnerId) -> Self {
        self.owner = owner;
        self
    }

    /// Instructions that precede every conversation.
    pub fn system_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.system_prompt = Some(prompt.into());
        self
    }

    /// Replaces the bounds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Replaces the clock and the source of ids: for tests and replays.
    pub fn runtime(mut self, runtime: impl Runtime) -> Self {
        self.runtime = Some(Arc::new(runtime));
        self
    }

    /// Builds the tutor, and ends the turns that a crash left running.
    ///
    /// # Errors
    /// `config` for contradictory settings; errors of the store.
    pub async fn build(self) -> Result<Tutor> {
        let limits = self.limits;
        limits.check()?;
        let providers = if self.providers.is_empty() {
            vec![Arc::new(DemoProvider::new()) as SharedProvider]
        } else {
            self.providers
        };
        let runtime = self.runtime.unwrap_or_else(|| Arc::new(SystemRuntime));
        let engine = Engine {
            store: self
                .store
                .unwrap_or_else(|| Arc::new(MemoryStore::default())),
            router: Router::new(providers, self.default_provider.as_deref())?,
            hub: Hub::new(limits.clone()),
            instance: runtime.new_id(),
            runtime,
            limits,
            system_prompt: self
                .system_prompt
                .filter(|prompt| !prompt.trim().is_empty()),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            halt: CancellationToken::new(),
        };
        let recovered = engine.recover().await?;
        if recovered > 0 {
            tracing::info!(recovered, "turns that a crash left running were ended");
        }
        Ok(Tutor {
            engine: Arc::new(engine),
            owner: self.owner,
        })
    }
}
