//! How a [`Tutor`] is configured.

use std::fmt;
use std::sync::{Arc, RwLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Tutor;
use crate::engine::Engine;
use crate::engine::hub::Hub;
use crate::engine::tools::Toolbox;
use crate::error::{Error, ErrorKind, Result};
use crate::file::{FileSource, SharedFileSource};
use crate::id::OwnerId;
use crate::limits::Limits;
use crate::provider::router::Router;
use crate::provider::{Catalog, DemoProvider, Provider, SharedProvider};
use crate::store::{MemoryStore, SessionStore, SharedStore};
use crate::time::{Runtime, SharedRuntime, SystemRuntime};
use crate::tool::{SharedTool, Tool};

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
    catalog: Catalog,
    runtime: Option<SharedRuntime>,
    tools: Vec<SharedTool>,
    files: Option<SharedFileSource>,
    improves_titles: bool,
    summarizes: bool,
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

    /// Adds a tool that models may call.
    pub fn tool(mut self, tool: impl Tool) -> Self {
        self.tools.push(Arc::new(tool));
        self
    }

    /// Where the files are that messages name by id. Without it, models see their names alone.
    pub fn files(mut self, files: impl FileSource) -> Self {
        self.files = Some(Arc::new(files));
        self
    }

    /// True to have the provider make a better title after a conversation's first turn, in the
    /// background. Costs tokens; false by default. A caller's own title is never replaced.
    pub fn improve_titles(mut self, improve: bool) -> Self {
        self.improves_titles = improve;
        self
    }

    /// True to have the provider summarize, in the background, messages that are too old to be
    /// sent, and to send the summary in their place. Costs tokens; false by default.
    pub fn summarize(mut self, summarize: bool) -> Self {
        self.summarizes = summarize;
        self
    }

    /// Replaces what is known of models: what fits into them, and what they cost.
    pub fn catalog(mut self, catalog: Catalog) -> Self {
        self.catalog = catalog;
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
    /// `config` for contradictory settings, and for a tool with a name or schema that is none;
    /// errors of the store.
    pub async fn build(self) -> Result<Tutor> {
        let limits = self.limits;
        limits.check()?;
        let providers = if self.providers.is_empty() {
            vec![Arc::new(DemoProvider::new()) as SharedProvider]
        } else {
            self.providers
        };
        let runtime = self.runtime.unwrap_or_else(|| Arc::new(SystemRuntime));
        let tools = Toolbox::default().with(&self.tools).map_err(|error| {
            let config = Error::new(ErrorKind::Config, error.message().to_owned());
            match error.context_value("tool") {
                Some(tool) => config.with_context("tool", tool),
                None => config,
            }
        })?;
        let mut engine = Engine {
            store: self
                .store
                .unwrap_or_else(|| Arc::new(MemoryStore::default())),
            providers: RwLock::new(Arc::new(Router::new(
                providers,
                self.default_provider.as_deref(),
            )?)),
            hub: Hub::new(limits.clone()),
            instance: runtime.new_id(),
            runtime,
            catalog: Arc::new(self.catalog),
            limits,
            system_prompt: self
                .system_prompt
                .filter(|prompt| !prompt.trim().is_empty()),
            tools,
            files: self.files,
            improves_titles: self.improves_titles,
            summarizes: self.summarizes,
            summarizing: Default::default(),
            recovered: 0,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            halt: CancellationToken::new(),
        };
        engine.recovered = engine.recover().await?;
        if engine.recovered > 0 {
            tracing::info!(
                recovered = engine.recovered,
                "turns that a crash left running were ended"
            );
        }
        Ok(Tutor {
            engine: Arc::new(engine),
            owner: self.owner,
        })
    }
}
