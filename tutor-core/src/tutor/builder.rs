//! How a [`Tutor`] is configured.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Tutor;
use crate::bus::{LiveBus, SharedBus};
use crate::engine::hub::Hub;
use crate::engine::peers::Peers;
use crate::engine::tools::Toolbox;
use crate::engine::{Engine, no_records};
use crate::error::{Error, ErrorKind, Result};
use crate::file::{FileSource, SharedFileSource};
use crate::id::OwnerId;
use crate::limits::Limits;
use crate::provider::router::Router;
use crate::provider::{Catalog, DemoProvider, Provider, SharedProvider};
use crate::store::{MemoryStore, RecordStore, SessionStore, SharedStore, Store};
use crate::time::{Runtime, SharedRuntime, SystemRuntime};
use crate::tool::{SharedTool, Tool};
use crate::usage::ledger::Ledger;
use crate::usage::{Payers, Quota};

/// Configures a [`Tutor`]. Everything has a default: conversations in memory, answered by the
/// demo provider.
#[derive(Default)]
#[must_use]
pub struct TutorBuilder {
    store: Option<SharedStore>,
    records: Option<Arc<dyn RecordStore>>,
    bus: Option<SharedBus>,
    providers: Vec<SharedProvider>,
    default_provider: Option<String>,
    owner: OwnerId,
    system_prompt: Option<String>,
    limits: Limits,
    quota: Quota,
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
    /// Where everything is kept: conversations, and [records](Self::records) of what is not one.
    /// In memory by default.
    pub fn data(self, store: impl Store) -> Self {
        let store = Arc::new(store);
        self.store(Arc::clone(&store)).records(store)
    }

    /// Where conversations are kept, if not with the records.
    pub fn store(mut self, store: impl SessionStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Where records are kept, if not with the conversations: feedback, and what was used. Without
    /// them a tutor with a [`store`](Self::store) of its own has none of that.
    pub fn records(mut self, records: impl RecordStore) -> Self {
        self.records = Some(Arc::new(records));
        self
    }

    /// How this instance and the others on the same store tell each other about the turns that they
    /// run: then a turn can be followed and stopped on any of them. Without it, only where it runs.
    /// It makes no sense with a store that other processes cannot use.
    pub fn bus(mut self, bus: impl LiveBus) -> Self {
        self.bus = Some(Arc::new(bus));
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

    /// How much each owner may use in a day: anything by default. Needs [records](Self::records).
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quota = quota;
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
        let tools = Toolbox::default().with(&self.tools, &[]).map_err(|error| {
            let config = Error::new(ErrorKind::Config, error.message().to_owned());
            match error.context_value("tool") {
                Some(tool) => config.with_context("tool", tool),
                None => config,
            }
        })?;
        let (store, records) = match self.store {
            Some(store) => (store, self.records),
            None => {
                let memory = Arc::new(MemoryStore::default());
                let own = || Arc::clone(&memory) as Arc<dyn RecordStore>;
                let records = self.records.unwrap_or_else(own);
                (memory as SharedStore, Some(records))
            }
        };
        self.quota.check()?;
        if records.is_none() && self.quota != Quota::default() {
            return Err(no_records());
        }
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        let ledger = Ledger::new(
            records.clone(),
            Arc::clone(&store),
            Arc::clone(&runtime),
            self.quota,
            (tasks.clone(), closing.clone()),
        );
        let peers = self
            .bus
            .map(|bus| Arc::new(Peers::new(bus, limits.turn_timeout + limits.lease)));
        let outbox = peers.as_ref().map(|peers| Arc::clone(&peers.outbox));
        let engine = Arc::new(Engine {
            store,
            records,
            ledger,
            providers: RwLock::new(Arc::new(Router::new(
                providers,
                self.default_provider.as_deref(),
            )?)),
            hub: Hub::new(limits.clone(), outbox),
            peers,
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
            recovered: Default::default(),
            tasks,
            closing,
            closed: AtomicBool::new(false),
            halt: CancellationToken::new(),
        });
        engine.recover().await?;
        engine.watch_leases();
        if let Some(peers) = &engine.peers {
            peers.start(&engine);
        }
        Ok(Tutor {
            engine,
            owner: self.owner,
            payers: Payers::default(),
        })
    }
}
