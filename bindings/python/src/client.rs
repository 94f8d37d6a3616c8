//! The engine's handle, as Python has it.

use std::sync::Arc;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use tutor_core::json;
use tutor_core::message::Metadata;
use tutor_core::session::{Cursor, MAX_PAGE};
use tutor_core::store::Store;
use tutor_core::{
    ChatRequest, Error, MessageId, Messages, NewSession, OwnerId, Result, SessionId, TurnId, Tutor,
};

use crate::call::{Call, Output};
use crate::failure::{Failure, forked_away};
use crate::host::Host;
use crate::runtime::Owned;
use crate::server::Server;
use crate::stream::Stream;
use crate::transfer::{Export, Import};

/// A handle on an engine for one owner. Arguments and results are JSON where they are structured.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Client {
    tutor: Owned<Tutor>,
    store: Owned<Arc<dyn Store>>,
    has_plugins: bool,
}

impl Client {
    pub(crate) fn new(tutor: Tutor, store: Arc<dyn Store>, has_plugins: bool) -> Self {
        Self {
            tutor: Owned::new(tutor),
            store: Owned::new(store),
            has_plugins,
        }
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

    fn parts(&self) -> Result<(&Tutor, &Arc<dyn Store>)> {
        let parts = self.tutor.get().zip(self.store.get());
        parts.ok_or_else(forked_away)
    }

    /// Where Python code of a request is to run, if there is any.
    fn host(&self, py: Python<'_>, in_loop: bool) -> PyResult<Option<Host>> {
        if !self.has_plugins || self.tutor.get().is_none() {
            return Ok(None);
        }
        if in_loop {
            Host::running(py).map(Some)
        } else {
            Host::background(py).map(Some)
        }
    }
}

fn chat_request(members: &str, host: Option<Host>) -> Result<ChatRequest> {
    let mut request = json::chat_request(object(members)?)?;
    if let Some(host) = host {
        request.extensions.insert(host);
    }
    Ok(request)
}

/// An object that the package wrote as JSON.
pub(crate) fn object(text: &str) -> Result<Metadata> {
    serde_json::from_str(text).map_err(|_| {
        Error::invalid_input("texts must be valid Unicode, and numbers have at most 64 bits")
    })
}

#[pymethods]
impl Client {
    /// True if providers or stores are written in Python.
    #[getter]
    fn has_plugins(&self) -> bool {
        self.has_plugins
    }

    /// Whose data this handle reads and writes.
    #[getter]
    fn owner(&self) -> String {
        let owner = self.tutor.get().map(|tutor| tutor.owner().to_string());
        owner.unwrap_or_default()
    }

    /// The same engine for another owner, or a `Failure`.
    fn for_owner(&self, py: Python<'_>, owner: &str) -> PyResult<Py<PyAny>> {
        let made = self.parts().and_then(|(tutor, store)| {
            let tutor = tutor.for_owner(OwnerId::new(owner)?);
            Ok(Self::new(tutor, Arc::clone(store), self.has_plugins))
        });
        match made {
            Ok(client) => client.into_py_any(py),
            Err(error) => Failure::new(py, &error).into_py_any(py),
        }
    }

    /// An export, of this owner or of all, or a `Failure`. `options` is JSON.
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
        self.call(|tutor| async move {
            let server = Server::start(tutor, &host, port, origins.as_deref()).await?;
            Ok(Output::Server(Box::new(server)))
        })
    }

    /// A whole reply. `in_loop` is true if the caller's asyncio loop runs its plug-ins.
    fn chat(&self, py: Python<'_>, request: String, in_loop: bool) -> PyResult<Call> {
        let host = self.host(py, in_loop)?;
        Ok(self.call(|tutor| async move {
            let reply = tutor.chat(chat_request(&request, host)?).await?;
            Output::json(&json::reply(&reply))
        }))
    }

    /// The events of a new turn.
    fn stream(&self, py: Python<'_>, request: String, in_loop: bool) -> PyResult<Call> {
        let host = self.host(py, in_loop)?;
        Ok(self.call(|tutor| async move {
            let stream = tutor.stream(chat_request(&request, host)?).await?;
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

    /// Creates a session; `metadata` is a JSON object.
    #[pyo3(signature = (session=None, title=None, metadata=None))]
    fn create_session(
        &self,
        session: Option<String>,
        title: Option<String>,
        metadata: Option<String>,
    ) -> Call {
        self.call(|tutor| async move {
            let new = NewSession {
                id: session.map(SessionId::new).transpose()?,
                title,
                metadata: metadata
                    .as_deref()
                    .map_or_else(|| Ok(Metadata::new()), object)?,
            };
            Output::json(&tutor.create_session(new).await?)
        })
    }

    /// Changes title or metadata of a session.
    #[pyo3(signature = (session, title=None, metadata=None))]
    fn update_session(
        &self,
        session: String,
        title: Option<String>,
        metadata: Option<String>,
    ) -> Call {
        self.call(|tutor| async move {
            let metadata = metadata.as_deref().map(object).transpose()?;
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

    /// A page of messages.
    #[pyo3(signature = (session, limit=None, before=None, after=None))]
    fn messages(
        &self,
        session: String,
        limit: Option<usize>,
        before: Option<String>,
        after: Option<String>,
    ) -> Call {
        self.call(|tutor| async move {
            let limit = limit.unwrap_or(MAX_PAGE);
            let range = match (before, after) {
                (Some(_), Some(_)) => {
                    return Err(Error::invalid_input("give either before or after"));
                }
                (Some(before), None) => Messages::before(MessageId::new(before)?, limit),
                (None, Some(after)) => Messages::after(MessageId::new(after)?, limit),
                (None, None) => Messages::latest(limit),
            };
            let page = tutor.messages(&SessionId::new(session)?, range).await?;
            Output::json(&page)
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

    /// The models of a provider.
    fn models(&self, provider: String) -> Call {
        self.call(|tutor| async move { Output::json(&tutor.models(&provider).await?) })
    }

    /// Closes the engine: takes no new turn, gives running ones a moment, closes the store.
    fn close(&self) -> Call {
        self.call(|tutor| async move {
            tutor.close().await?;
            Ok(Output::Nothing)
        })
    }
}
