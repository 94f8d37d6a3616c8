//! The engine's handle, as Python has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use tutor_core::file::FilePlace;
use tutor_core::items::{ItemLog, ItemLogs};
use tutor_core::json;
use tutor_core::message::{Metadata, Part};
use tutor_core::session::Cursor;
use tutor_core::store::Store;
use tutor_core::{ChatRequest, Error, MessageId, OwnerId, Result, SessionId, TurnId, Tutor};
use tutor_http::AppState;
use tutor_http::metrics::Metrics;

use crate::call::{Call, Output};
use crate::failure::{Failure, forked_away};
use crate::files::Files;
use crate::host::Host;
use crate::open::{Plugins, ProviderList};
use crate::runtime::Owned;
use crate::server::Server;
use crate::stream::Stream;
use crate::tool::tools;
use crate::transfer::{Export, Import};

/// A handle on an engine for one owner. Arguments and results are JSON where they are structured.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Client {
    tutor: Owned<Tutor>,
    store: Owned<Arc<dyn Store>>,
    files: Owned<FilePlace>,
    items: Owned<ItemLogs>,
    metrics: Metrics,
    has_plugins: Arc<AtomicBool>,
}

impl Client {
    pub(crate) fn new(
        tutor: Tutor,
        store: Arc<dyn Store>,
        files: FilePlace,
        metrics: Metrics,
        has_plugins: bool,
    ) -> Self {
        Self {
            tutor: Owned::new(tutor),
            items: Owned::new(ItemLogs::new(Arc::new(Arc::clone(&store)))),
            store: Owned::new(store),
            files: Owned::new(files),
            metrics,
            has_plugins: Arc::new(AtomicBool::new(has_plugins)),
        }
    }

    /// The same engine for another owner.
    fn of(&self, owner: OwnerId) -> Option<Self> {
        Some(Self {
            tutor: Owned::new(self.tutor.get()?.for_owner(owner)),
            store: Owned::new(Arc::clone(self.store.get()?)),
            files: Owned::new(self.files.get()?.clone()),
            items: Owned::new(self.items.get()?.clone()),
            metrics: self.metrics.clone(),
            has_plugins: Arc::clone(&self.has_plugins),
        })
    }

    fn call<F>(&self, work: impl FnOnce(Tutor) -> F) -> Call
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        match self.tutor.get() {
            Some(tutor) => Call::new(work(tutor.clone())),
            None => Call::failed(forked_away()),
        }
    }

    fn with_items<F>(&self, name: String, work: impl FnOnce(ItemLog) -> F + Send + 'static) -> Call
    where
        F: Future<Output = Result<Output>> + Send + 'static,
    {
        match self.tutor.get().zip(self.items.get()) {
            Some((tutor, items)) => {
                let (owner, items) = (tutor.owner().clone(), items.clone());
                Call::light(async move { work(items.log(owner, SessionId::new(name)?)).await })
            }
            None => Call::failed(forked_away()),
        }
    }

    fn parts(&self) -> Result<(&Tutor, &Arc<dyn Store>)> {
        let parts = self.tutor.get().zip(self.store.get());
        parts.ok_or_else(forked_away)
    }

    /// Where Python code of a request is to run, if there is any.
    fn host(&self, py: Python<'_>, in_loop: bool, own: &OwnTools) -> PyResult<Option<Arc<Host>>> {
        if !(self.has_plugins() || own.is_some()) || self.tutor.get().is_none() {
            return Ok(None);
        }
        let host = if in_loop {
            Host::running(py)?
        } else {
            Host::background(py)?
        };
        Ok(Some(Arc::new(host)))
    }
}

/// Tools of one request, each described in JSON.
type OwnTools = Option<Vec<(String, Py<PyAny>)>>;

fn chat_request(members: &str, host: Option<Arc<Host>>, own: OwnTools) -> Result<ChatRequest> {
    let mut request = json::chat_request(object(members)?)?;
    if let Some(host) = host {
        for tool in tools(own.unwrap_or_default(), &host)? {
            request = request.with_tool(tool);
        }
        request.extensions.insert_shared(host);
    }
    Ok(request)
}

/// An image or a file that a message has, as JSON, or a `Failure`.
#[pyfunction]
#[pyo3(signature = (data, name=None) -> "str | Failure")]
pub(crate) fn attachment(py: Python<'_>, data: &[u8], name: Option<&str>) -> PyResult<Py<PyAny>> {
    match Part::attachment(name, data) {
        Ok(part) => serde_json::to_string(&part)
            .unwrap_or_default()
            .into_py_any(py),
        Err(error) => Failure::new(py, &error).into_py_any(py),
    }
}

/// An object that the package wrote as JSON.
pub(crate) fn object(text: &str) -> Result<Metadata> {
    match serde_json::from_str(text) {
        Ok(object) if !has_long_number(text) => Ok(object),
        _ => Err(Error::invalid_input(
            "texts must be valid Unicode, and numbers have at most 64 bits; lists and objects are \
             at most 120 deep",
        )),
    }
}

/// True if this JSON has a whole number that would be read as another one, near it.
fn has_long_number(json: &str) -> bool {
    let mut rest = json.as_bytes();
    while let Some(start) = rest
        .iter()
        .position(|byte| matches!(byte, b'"' | b'-' | b'0'..=b'9'))
    {
        rest = &rest[start..];
        let end = if rest[0] == b'"' {
            let mut is_escaped = true;
            let end = rest.iter().position(|byte| {
                let is_end = *byte == b'"' && !is_escaped;
                is_escaped = *byte == b'\\' && !is_escaped;
                is_end
            });
            end.map(|end| end + 1)
        } else {
            let in_number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
            let end = rest.iter().position(|byte| !in_number(byte));
            let number = std::str::from_utf8(&rest[..end.unwrap_or(rest.len())]).unwrap_or("");
            let is_whole = !number.contains(['.', 'e', 'E']);
            if is_whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                return true;
            }
            end
        };
        rest = end.map_or(&[], |end| &rest[end..]);
    }
    false
}

#[pymethods]
impl Client {
    /// True if providers or stores are written in Python.
    #[getter]
    fn has_plugins(&self) -> bool {
        self.has_plugins.load(Ordering::Relaxed)
    }

    /// Whose data this handle reads and writes.
    #[getter]
    fn owner(&self) -> String {
        let owner = self.tutor.get().map(|tutor| tutor.owner().to_string());
        owner.unwrap_or_default()
    }

    /// The same engine for another owner, or a `Failure`.
    #[pyo3(signature = (owner) -> "Client | Failure")]
    fn for_owner(&self, py: Python<'_>, owner: &str) -> PyResult<Py<PyAny>> {
        let made = OwnerId::new(owner);
        match made.and_then(|owner| self.of(owner).ok_or_else(forked_away)) {
            Ok(client) => client.into_py_any(py),
            Err(error) => Failure::new(py, &error).into_py_any(py),
        }
    }

    /// The uploaded files of this owner.
    fn files(&self) -> Files {
        let parts = self.tutor.get().cloned().zip(self.files.get().cloned());
        Files::new(parts)
    }

    /// An export, of this owner or of all, or a `Failure`. `options` is JSON.
    #[pyo3(signature = (options) -> "Export | Failure")]
    fn export(&self, py: Python<'_>, options: &str) -> PyResult<Py<PyAny>> {
        let made = self
            .parts()
            .and_then(|(tutor, store)| Export::new(tutor.owner(), Arc::clone(store), options));
        match made {
            Ok(export) => export.into_py_any(py),
            Err(error) => Failure::new(py, &error).into_py_any(py),
        }
    }

    /// An import, for this owner or for all, or a `Failure`. `options` is JSON.
    #[pyo3(signature = (options) -> "Import | Failure")]
    fn import_(&self, py: Python<'_>, options: &str) -> PyResult<Py<PyAny>> {
        let made = self
            .parts()
            .and_then(|(tutor, store)| Import::new(tutor.owner(), Arc::clone(store), options));
        match made {
            Ok(import) => import.into_py_any(py),
            Err(error) => Failure::new(py, &error).into_py_any(py),
        }
    }

    /// A server of this engine, which listens when the call is done.
    #[pyo3(signature = (host, port, origins=None))]
    fn serve(&self, host: String, port: u16, origins: Option<String>) -> Call {
        let (files, metrics) = (self.files.get().cloned(), self.metrics.clone());
        self.call(|tutor| async move {
            let files = files.ok_or_else(forked_away)?;
            let state = AppState::new(tutor).with_metrics(metrics);
            let server = Server::start(state, files, &host, port, origins.as_deref()).await?;
            Ok(Output::Server(Box::new(server)))
        })
    }

    /// A whole reply. `in_loop` is true if the caller's asyncio loop runs its plug-ins.
    #[pyo3(signature = (request, in_loop, own_tools=None))]
    fn chat(
        &self,
        py: Python<'_>,
        request: String,
        in_loop: bool,
        own_tools: OwnTools,
    ) -> PyResult<Call> {
        let host = self.host(py, in_loop, &own_tools)?;
        Ok(self.call(|tutor| async move {
            let reply = tutor.chat(chat_request(&request, host, own_tools)?).await?;
            Output::json(&json::reply(&reply))
        }))
    }

    /// The events of a new turn.
    #[pyo3(signature = (request, in_loop, own_tools=None))]
    fn stream(
        &self,
        py: Python<'_>,
        request: String,
        in_loop: bool,
        own_tools: OwnTools,
    ) -> PyResult<Call> {
        let host = self.host(py, in_loop, &own_tools)?;
        Ok(self.call(|tutor| async move {
            let request = chat_request(&request, host, own_tools)?;
            let stream = tutor.stream(request).await?;
            Ok(Output::Stream(Box::new(Stream::new(stream))))
        }))
    }

    /// The events of a turn behind a number.
    fn events(&self, turn: String, after: u64) -> Call {
        self.call(|tutor| async move {
            let stream = tutor.events(&TurnId::new(turn)?, after).await?;
            Ok(Output::Stream(Box::new(Stream::new(stream))))
        })
    }

    /// Stops a turn and gives it as it ended.
    fn cancel(&self, turn: String) -> Call {
        self.call(|tutor| async move {
            let turn = tutor.cancel(&TurnId::new(turn)?).await?;
            Output::json(&json::turn(&turn))
        })
    }

    /// A turn.
    fn turn(&self, turn: String) -> Call {
        self.call(|tutor| async move {
            let turn = tutor.turn(&TurnId::new(turn)?).await?;
            Output::json(&json::turn(&turn))
        })
    }

    /// The turn that an idempotency key names; `null` if there is none.
    fn turn_by_key(&self, key: String) -> Call {
        self.call(|tutor| async move {
            let turn = tutor.turn_by_key(&key).await?;
            Output::json(&turn.as_ref().map(json::turn))
        })
    }

    /// Stops all turns of this owner that run here, and waits until they have ended.
    fn cancel_all(&self) -> Call {
        self.call(|tutor| async move {
            tutor.cancel_all().await;
            Ok(Output::Nothing)
        })
    }

    /// A page of sessions.
    #[pyo3(signature = (limit, cursor=None))]
    fn sessions(&self, limit: usize, cursor: Option<String>) -> Call {
        self.call(|tutor| async move {
            let page = tutor.sessions(limit, cursor.map(Cursor::from_text)).await?;
            Output::json(&page)
        })
    }

    /// A session.
    fn session(&self, session: String) -> Call {
        self.call(|tutor| async move {
            let session = tutor.session(&SessionId::new(session)?).await?;
            Output::json(&session)
        })
    }

    /// Creates a session, which is described in JSON.
    fn create_session(&self, members: String) -> Call {
        self.call(|tutor| async move {
            let new = json::new_session(object(&members)?)?;
            Output::json(&tutor.create_session(new).await?)
        })
    }

    /// Changes title or metadata of a session, which are in JSON.
    fn update_session(&self, session: String, changes: String) -> Call {
        self.call(|tutor| async move {
            let (title, metadata) = json::session_changes(object(&changes)?)?;
            let session = SessionId::new(session)?;
            Output::json(&tutor.update_session(&session, title, metadata).await?)
        })
    }

    /// Deletes a session; false if there was none.
    fn delete_session(&self, session: String) -> Call {
        self.call(|tutor| async move {
            let deleted = tutor.delete_session(&SessionId::new(session)?).await?;
            Ok(Output::Flag(deleted))
        })
    }

    /// A page of messages; which ones is in JSON.
    fn messages(&self, session: String, range: String) -> Call {
        self.call(|tutor| async move {
            let range = json::messages(object(&range)?)?;
            let page = tutor.messages(&SessionId::new(session)?, range).await?;
            Output::json(&page)
        })
    }

    /// A message whose session is not known.
    fn find_message(&self, message: String) -> Call {
        self.call(|tutor| async move {
            let message = tutor.find_message(&MessageId::new(message)?).await?;
            Output::json(&message)
        })
    }

    /// The messages beside one, itself among them.
    fn siblings(&self, session: String, message: String) -> Call {
        self.call(|tutor| async move {
            let (session, message) = (SessionId::new(session)?, MessageId::new(message)?);
            Output::json(&tutor.siblings(&session, &message).await?)
        })
    }

    /// Switches the active branch.
    fn set_head(&self, session: String, message: String) -> Call {
        self.call(|tutor| async move {
            let (session, message) = (SessionId::new(session)?, MessageId::new(message)?);
            Output::json(&tutor.set_head(&session, &message).await?)
        })
    }

    /// Deletes a message, perhaps with all that follows it; how many were deleted.
    fn delete_message(&self, session: String, message: String, with_branch: bool) -> Call {
        self.call(|tutor| async move {
            let (session, message) = (SessionId::new(session)?, MessageId::new(message)?);
            let deleted = tutor.delete_message(&session, &message, with_branch);
            Output::json(&deleted.await?)
        })
    }

    /// What a model would be sent.
    #[pyo3(signature = (session, tokens=None))]
    fn context(&self, session: String, tokens: Option<usize>) -> Call {
        self.call(|tutor| async move {
            let context = tutor.context(&SessionId::new(session)?, tokens).await?;
            Output::json(&json::context(&context))
        })
    }

    /// A page of the sessions in which all words of a text occur.
    #[pyo3(signature = (text, limit, cursor=None))]
    fn search(&self, text: String, limit: usize, cursor: Option<String>) -> Call {
        self.call(|tutor| async move {
            let cursor = cursor.map(Cursor::from_text);
            Output::json(&tutor.search(&text, limit, cursor).await?)
        })
    }

    /// Keeps what somebody thinks of a message, which is in JSON.
    fn rate(&self, session: String, message: String, opinion: String) -> Call {
        self.call(|tutor| async move {
            let opinion = json::opinion(object(&opinion)?)?;
            let (session, message) = (SessionId::new(session)?, MessageId::new(message)?);
            Output::json(&tutor.rate(&session, &message, opinion).await?)
        })
    }

    /// What was thought of the messages of a session.
    fn feedback(&self, session: String) -> Call {
        self.call(
            |tutor| async move { Output::json(&tutor.feedback(&SessionId::new(session)?).await?) },
        )
    }

    /// Removes all that is this owner's.
    fn erase(&self) -> Call {
        let parts = self.store.get().cloned().zip(self.files.get().cloned());
        self.call(|tutor| async move {
            let (store, files) = parts.ok_or_else(forked_away)?;
            let erased = files.erase(&tutor, &*store).await?;
            Output::json(&serde_json::json!({
                "sessions": erased.sessions, "records": erased.records,
            }))
        })
    }

    /// What this owner used, day by day, in JSON; of which days is in JSON.
    fn usage(&self, range: String) -> Call {
        self.call(|tutor| async move {
            let (from, to) = json::usage_range(object(&range)?)?;
            Output::json(&tutor.usage(from, to).await?)
        })
    }

    /// How much each owner may use in a day.
    fn quota(&self) -> Call {
        self.call(|tutor| async move { Output::json(tutor.quota()) })
    }

    /// Where the data is, and what runs.
    fn status(&self) -> Call {
        self.call(|tutor| async move { Output::json(&json::status(&tutor)) })
    }

    /// The newest items of a list that is kept for another library.
    #[pyo3(signature = (name, limit=None))]
    fn items(&self, name: String, limit: Option<usize>) -> Call {
        self.with_items(name, move |items| async move {
            Ok(Output::Items(items.latest(limit).await?))
        })
    }

    /// Adds items, each of them JSON, to such a list.
    fn add_items(&self, name: String, texts: Vec<String>) -> Call {
        self.with_items(name, move |items| async move {
            items
                .append(texts.into_iter().map(Arc::from).collect())
                .await?;
            Ok(Output::Nothing)
        })
    }

    /// Takes the newest item away from such a list: itself in a list, or nothing.
    fn pop_item(&self, name: String) -> Call {
        self.with_items(name, move |items| async move {
            Ok(items
                .pop()
                .await?
                .map_or(Output::Nothing, |item| Output::Items(vec![item])))
        })
    }

    /// Empties such a list.
    fn clear_items(&self, name: String) -> Call {
        self.with_items(name, move |items| async move {
            items.clear().await?;
            Ok(Output::Nothing)
        })
    }

    /// The configured providers, the default first.
    fn providers(&self) -> Call {
        self.call(|tutor| async move {
            let providers = tutor.providers();
            let providers: Vec<_> = providers.iter().map(json::provider_info).collect();
            Output::json(&providers)
        })
    }

    /// Has other providers answer from now on, which are described as for `open`.
    fn replace_providers(
        &self,
        py: Python<'_>,
        settings: &str,
        plugins: Vec<Py<PyAny>>,
    ) -> PyResult<Call> {
        let adds_plugins = !plugins.is_empty();
        let plugins = Plugins::new(py, plugins)?;
        let settings = ProviderList::read(settings);
        let (has_plugins, metrics) = (Arc::clone(&self.has_plugins), self.metrics.clone());
        Ok(self.call(|tutor| async move {
            let (providers, default) = settings?.made(plugins, &metrics)?;
            if adds_plugins {
                has_plugins.store(true, Ordering::Relaxed);
            }
            tutor.replace_providers(providers, default.as_deref())?;
            Ok(Output::Nothing)
        }))
    }

    /// The models of a provider.
    fn models(&self, provider: String) -> Call {
        self.call(|tutor| async move { Output::json(&tutor.models(&provider).await?) })
    }

    /// Closes the engine: takes no new turn, gives running ones a moment (so many seconds, if it is
    /// said), closes the store.
    #[pyo3(signature = (grace=None))]
    fn close(&self, grace: Option<f64>) -> Call {
        self.call(|tutor| async move {
            match grace.map(Duration::try_from_secs_f64) {
                None => tutor.close().await?,
                Some(Ok(grace)) => tutor.close_within(grace).await?,
                Some(Err(_)) => {
                    let wrong = "grace is a number of seconds from 0";
                    return Err(Error::invalid_input(wrong).with_context("field", "grace"));
                }
            }
            Ok(Output::Nothing)
        })
    }
}
