//! Calls of Python code by the engine: it begins on the thread of a loop, and can be stopped.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use serde_json::Value;
use tokio::sync::oneshot;
use tutor_core::{Error, ErrorKind, Result};

use crate::failure::Described;
use crate::host::{Host, helper};

/// How to stop what runs in Python, once it has begun.
#[derive(Clone, Default)]
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Canceller(Arc<Mutex<Option<Py<PyAny>>>>);

#[pymethods]
impl Canceller {
    /// Says what to call.
    #[pyo3(signature = (cancel: "collections.abc.Callable[[], None]"))]
    fn set(&self, cancel: Py<PyAny>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cancel);
    }
}

/// Stops what runs in Python when the engine lets go of it.
pub(crate) struct CancelOnDrop {
    pub(crate) canceller: Canceller,
    pub(crate) host: Arc<Host>,
    pub(crate) is_over: bool,
}

impl CancelOnDrop {
    pub(crate) fn new(host: &Arc<Host>) -> Self {
        Self {
            canceller: Canceller::default(),
            host: Arc::clone(host),
            is_over: false,
        }
    }
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

/// Where the answer of a function goes. The first one counts.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Answer(Mutex<Option<oneshot::Sender<Result<Value>>>>);

impl Answer {
    fn send(&self, answer: Result<Value>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // Nobody listens if the call was cancelled.
            let _ = sender.send(answer);
        }
    }
}

#[pymethods]
impl Answer {
    /// Answers with JSON.
    fn finish(&self, json: &str) {
        self.send(serde_json::from_str(json).map_err(|_| {
            Error::invalid_input("texts must be valid Unicode, and numbers have at most 64 bits")
        }));
    }

    /// Answers that it failed.
    #[pyo3(signature = (exception, described: "Described"))]
    fn fail(&self, exception: Py<PyBaseException>, described: Described) {
        self.send(Err(described.into_error(exception)));
    }
}

/// Has `function` of the package's glue call `object` on the thread of the host's loop, and waits
/// for the answer. Dropping the future stops the call as far as it can be stopped.
pub(crate) async fn ask(
    host: &Arc<Host>,
    function: &'static str,
    object: &Arc<Py<PyAny>>,
    arguments: String,
) -> Result<Value> {
    let (sender, answer) = oneshot::channel();
    let mut guard = CancelOnDrop::new(host);
    let (object, place) = (Arc::clone(object), Arc::clone(host));
    let canceller = guard.canceller.clone();
    host.inbox.push(Box::new(move |py| {
        if sender.is_closed() {
            return Ok(None);
        }
        let answer = Bound::new(py, Answer(Mutex::new(Some(sender))))?;
        let arguments = (
            object.bind(py),
            arguments,
            answer,
            canceller,
            place.event_loop.bind(py),
            place.context.bind(py),
        );
        let start = helper(py, "_glue", function)?;
        Ok(Some((start, arguments.into_pyobject(py)?)))
    }));
    let answered = answer.await;
    guard.is_over = true;
    answered.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Interrupted,
            "the event loop ended before the function answered",
        )
        .retryable(None))
    })
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}
