//! Providers that are written in Python.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tutor_core::provider::{
    CompletionRequest, CompletionStream, Delta, ModelChoice, ModelInfo, Provider, ProviderInfo,
};
use tutor_core::{Result, json};

use crate::call::{Call, Output};
use crate::failure::Described;
use crate::host::{Host, helper};
use crate::plugin::CancelOnDrop;
use crate::runtime::{detached, runtime};

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
        let guard = CancelOnDrop::new(&host);
        let canceller = guard.canceller.clone();
        let request = json::completion_request(&request).to_string();
        let (object, place) = (Arc::clone(&self.object), Arc::clone(&host));
        host.inbox.push(Box::new(move |py| {
            if sender.is_closed() {
                return Ok(None);
            }
            let sender = Bound::new(py, Sender::new(sender))?;
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

/// The end of a provider's stream that is in Python.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Sender(Mutex<Option<Sending>>);

struct Sending {
    sender: mpsc::Sender<Result<Delta>>,
    /// Knows what the end of the generator means.
    generator: json::Generator,
}

impl Sender {
    fn new(sender: mpsc::Sender<Result<Delta>>) -> Self {
        let generator = json::Generator::default();
        Self(Mutex::new(Some(Sending { sender, generator })))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sending>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sender(&self) -> Option<mpsc::Sender<Result<Delta>>> {
        self.lock().as_ref().map(|sending| sending.sender.clone())
    }

    /// The delta; `None` if nobody wants more. Nothing can be sent behind a terminal.
    fn read(&self, is_text: bool, data: String) -> Option<Result<Delta>> {
        let value = if is_text {
            Value::String(data)
        } else {
            match serde_json::from_str(&data).unwrap_or_default() {
                // What was yielded as an object only is one.
                Value::String(_) => Value::Null,
                value => value,
            }
        };
        let mut sending = self.lock();
        let delta = sending.as_mut()?.generator.read(value).transpose()?;
        if matches!(&delta, Err(_) | Ok(Delta::Finished { .. })) {
            *sending = None;
        }
        Some(delta)
    }

    /// Sends the last item, behind whatever waits.
    fn end(
        py: Python<'_>,
        sender: mpsc::Sender<Result<Delta>>,
        last: Result<Delta>,
    ) -> PyResult<()> {
        if let Err(TrySendError::Full(last)) = sender.try_send(last) {
            runtime(py)?.spawn(async move {
                let _ = sender.send(last).await;
            });
        }
        Ok(())
    }
}

#[pymethods]
impl Sender {
    /// Sends a text or a delta as JSON. True if it was sent, false if nobody wants more, `None`
    /// if the buffer is full: wait for `ready` and try again.
    fn try_send(&self, is_text: bool, data: String) -> Option<bool> {
        let Some(sender) = self.sender() else {
            return Some(false);
        };
        let place = match sender.try_reserve() {
            Ok(place) => place,
            Err(TrySendError::Full(())) => return None,
            Err(TrySendError::Closed(())) => return Some(false),
        };
        if let Some(delta) = self.read(is_text, data) {
            place.send(delta);
        }
        Some(self.lock().is_some())
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
        let Some((sender, delta)) = self.sender().zip(self.read(is_text, data)) else {
            return false;
        };
        detached(py, false, || sender.blocking_send(delta)).is_ok() && self.lock().is_some()
    }

    /// Ends the stream: the reply is complete if there is one.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let ended = self.lock().take();
        match ended {
            Some(Sending {
                sender,
                mut generator,
            }) => match generator.end() {
                Some(last) => Self::end(py, sender, Ok(last)),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Ends the stream because of an exception.
    #[pyo3(signature = (exception, described: "Described"))]
    fn fail(
        &self,
        py: Python<'_>,
        exception: Py<PyBaseException>,
        described: Described,
    ) -> PyResult<()> {
        let ended = self.lock().take();
        match ended {
            Some(sending) => Self::end(py, sending.sender, Err(described.into_error(exception))),
            None => Ok(()),
        }
    }
}
