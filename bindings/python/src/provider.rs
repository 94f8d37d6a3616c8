//! Providers that are written in Python.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self};
use tutor_core::message::FinishReason;
use tutor_core::provider::{
    CompletionRequest, CompletionStream, Delta, ModelChoice, ModelInfo, Provider, ProviderInfo,
};
use tutor_core::{Result, json};

use crate::call::{Call, Output};
use crate::failure::Described;
use crate::host::{Host, helper};
use crate::runtime::runtime;

/// Deltas that a provider may be ahead of the engine.
const BUFFER: usize = 64;

/// A provider that is a Python object.
pub(crate) struct PythonProvider {
    object: Arc<Py<PyAny>>,
    info: ProviderInfo,
    /// Where it runs for requests that do not say.
    host: Arc<Host>,
}

impl PythonProvider {
    pub(crate) fn new(object: Py<PyAny>, info: ProviderInfo, host: Arc<Host>) -> Self {
        Self {
            object: Arc::new(object),
            info,
            host,
        }
    }
}

impl fmt::Debug for PythonProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PythonProvider")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for PythonProvider {
    fn info(&self) -> ProviderInfo {
        self.info.clone()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        Ok(match &self.info.models {
            ModelChoice::Listed(models) => models.iter().map(ModelInfo::new).collect(),
            ModelChoice::Open | ModelChoice::StandIn => {
                vec![ModelInfo::new(self.info.default_model.clone())]
            }
        })
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let host = request.context.extensions.get::<Host>();
        let host = host.unwrap_or_else(|| Arc::clone(&self.host));
        let (sender, deltas) = mpsc::channel(BUFFER);
        let canceller = Canceller::default();
        let guard = CancelOnDrop {
            canceller: canceller.clone(),
            host: Arc::clone(&host),
            is_over: false,
        };
        let request = json::completion_request(&request).to_string();
        let (object, place) = (Arc::clone(&self.object), Arc::clone(&host));
        host.inbox.push(Box::new(move |py| {
            if sender.is_closed() {
                return Ok(None);
            }
            let sender = Bound::new(py, Sender(Mutex::new(Some(sender))))?;
            let arguments = (
                object.bind(py),
                request,
                sender,
                canceller,
                place.event_loop.bind(py),
                place.context.bind(py),
            );
            let start = helper(py, "_glue", "start")?;
            Ok(Some((start, arguments.into_pyobject(py)?)))
        }));
        let running = (deltas, guard);
        Ok(
            stream::unfold(running, |(mut deltas, mut guard)| async move {
                let delta: Option<Result<Delta>> = deltas.recv().await;
                let goes_on =
                    matches!(&delta, Some(Ok(delta)) if !matches!(delta, Delta::Finished { .. }));
                guard.is_over = !goes_on;
                delta.map(|delta| (delta, (deltas, guard)))
            })
            .fuse()
            .boxed(),
        )
    }
}

/// How to stop what runs in Python, once it has begun.
#[derive(Clone, Default)]
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Canceller(Arc<Mutex<Option<Py<PyAny>>>>);

#[pymethods]
impl Canceller {
    /// Says what to call.
    fn set(&self, cancel: Py<PyAny>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cancel);
    }
}

/// Stops what runs in Python when the engine lets go of it.
struct CancelOnDrop {
    canceller: Canceller,
    host: Arc<Host>,
    is_over: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let canceller = self.canceller.clone();
        // Behind the job that starts it, so that there is something to call if it has begun.
        self.host.inbox.push(Box::new(move |py| {
            let cancel = canceller
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            Ok(cancel.map(|cancel| (cancel.into_bound(py), PyTuple::empty(py))))
        }));
    }
}

/// The end of a provider's stream that is in Python.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Sender(Mutex<Option<mpsc::Sender<Result<Delta>>>>);

impl Sender {
    fn sender(&self) -> Option<mpsc::Sender<Result<Delta>>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn take(&self) -> Option<mpsc::Sender<Result<Delta>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The delta, and the sender for it. Nothing can be sent behind a terminal.
    fn prepare(
        &self,
        is_text: bool,
        data: String,
    ) -> Option<(Result<Delta>, mpsc::Sender<Result<Delta>>)> {
        let delta = if is_text {
            Ok(Delta::Text(data))
        } else {
            json::delta(serde_json::from_str(&data).unwrap_or_default())
        };
        Some((delta, self.sender()?))
    }

    fn sent(&self, is_terminal: bool) -> bool {
        if is_terminal {
            self.take();
        }
        !is_terminal
    }

    /// Sends the last item, behind whatever waits.
    fn end(&self, py: Python<'_>, last: Result<Delta>) -> PyResult<()> {
        if let Some(sender) = self.take()
            && let Err(TrySendError::Full(last)) = sender.try_send(last)
        {
            runtime(py)?.spawn(async move {
                let _ = sender.send(last).await;
            });
        }
        Ok(())
    }
}

fn is_terminal(delta: &Result<Delta>) -> bool {
    matches!(delta, Err(_) | Ok(Delta::Finished { .. }))
}

#[pymethods]
impl Sender {
    /// Sends a text or a delta as JSON. True if it was sent, false if nobody wants more, `None`
    /// if the buffer is full: wait for `ready` and try again.
    fn try_send(&self, is_text: bool, data: String) -> Option<bool> {
        let Some((delta, sender)) = self.prepare(is_text, data) else {
            return Some(false);
        };
        let is_terminal = is_terminal(&delta);
        match sender.try_send(delta) {
            Ok(()) => Some(self.sent(is_terminal)),
            Err(TrySendError::Full(_)) => None,
            Err(TrySendError::Closed(_)) => Some(false),
        }
    }

    /// Waits until the buffer has room.
    fn ready(&self) -> Call {
        let sender = self.sender();
        Call::new(async move {
            if let Some(sender) = sender {
                let _ = sender.reserve().await;
            }
            Ok(Output::Nothing)
        })
    }

    /// Sends a text or a delta as JSON, and waits for room without the GIL. False if nobody wants
    /// more.
    fn send(&self, py: Python<'_>, is_text: bool, data: String) -> bool {
        let Some((delta, sender)) = self.prepare(is_text, data) else {
            return false;
        };
        let is_terminal = is_terminal(&delta);
        py.detach(|| sender.blocking_send(delta)).is_ok() && self.sent(is_terminal)
    }

    /// Ends the stream because the reply is complete.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let reason = FinishReason::Stop;
        self.end(py, Ok(Delta::Finished { reason }))
    }

    /// Ends the stream because of an exception.
    fn fail(
        &self,
        py: Python<'_>,
        exception: Py<PyBaseException>,
        described: Described,
    ) -> PyResult<()> {
        self.end(py, Err(described.into_error(exception)))
    }
}
