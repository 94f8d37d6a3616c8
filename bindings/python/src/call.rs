//! One call of the engine, which Python waits for in either of its ways.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use pyo3::{IntoPyObjectExt, intern};
use tokio::task::AbortHandle;
use tutor_core::{Error, Event, Result, TurnEvent};

use crate::client::Client;
use crate::failure::{Failure, forked_away};
use crate::files::Incoming;
use crate::host::helper;
use crate::inbox::Inbox;
use crate::objects::objects;
use crate::runtime::{Owned, block_on, runtime};
use crate::server::Server;
use crate::stream::Stream;

/// What a call gives.
pub(crate) enum Output {
    Nothing,
    Flag(bool),
    Json(String),
    Opened(Box<Client>),
    Stream(Box<Stream>),
    Server(Box<Server>),
    Incoming(Box<Incoming>),
    Bytes(Vec<u8>),
    /// Texts of JSON, as a list of what they say.
    Items(Vec<Arc<str>>),
    /// Events; none at the end of a stream.
    Events(Vec<Arc<TurnEvent>>),
}

impl Output {
    /// A serializable value.
    pub(crate) fn json(value: &impl serde::Serialize) -> Result<Self> {
        serde_json::to_string(value)
            .map(Self::Json)
            .map_err(|_| Error::internal("a value has no JSON form"))
    }

    fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self {
            Self::Nothing => Ok(py.None()),
            Self::Flag(flag) => flag.into_py_any(py),
            Self::Json(json) => json.into_py_any(py),
            Self::Opened(client) => (*client).into_py_any(py),
            Self::Stream(stream) => (*stream).into_py_any(py),
            Self::Server(server) => (*server).into_py_any(py),
            Self::Incoming(incoming) => (*incoming).into_py_any(py),
            Self::Bytes(bytes) => PyBytes::new(py, &bytes).into_py_any(py),
            Self::Items(items) => objects(py, &items)?.into_py_any(py),
            Self::Events(events) if events.is_empty() => Ok(py.None()),
            Self::Events(events) => {
                let list = PyList::empty(py);
                for event in events {
                    list.append(item(py, &event)?)?;
                }
                list.into_py_any(py)
            }
        }
    }
}

/// An event: number and text of a text delta, which most are; else its JSON.
fn item<'py>(py: Python<'py>, event: &TurnEvent) -> PyResult<Bound<'py, PyAny>> {
    if let Event::TextDelta { text } = &event.event {
        return (event.seq, text).into_bound_py_any(py);
    }
    let json = serde_json::to_string(event)
        .map_err(|error| PyRuntimeError::new_err(format!("an event has no JSON form: {error}")))?;
    Ok(PyString::new(py, &json).into_any())
}

type Work = BoxFuture<'static, Result<Output>>;
type Outcome = std::result::Result<Result<Output>, Box<dyn Any + Send>>;

/// One call. It runs once, when it is waited for.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Call {
    work: Mutex<Option<Owned<Work>>>,
    /// True if it does nothing but wait.
    is_light: bool,
}

impl Call {
    pub(crate) fn new(work: impl Future<Output = Result<Output>> + Send + 'static) -> Self {
        Self {
            work: Mutex::new(Some(Owned::new(work.boxed()))),
            is_light: false,
        }
    }

    /// A call that waits once or twice for the store, and takes microseconds of work between: the
    /// thread of an asyncio loop does that itself, since to wake another one takes longer.
    pub(crate) fn light(work: impl Future<Output = Result<Output>> + Send + 'static) -> Self {
        Self {
            is_light: true,
            ..Self::new(work)
        }
    }

    /// A call that fails.
    pub(crate) fn failed(error: Error) -> Self {
        Self::new(async { Err(error) })
    }

    fn take(&self) -> PyResult<Work> {
        let work = lock(&self.work).take();
        let work =
            work.ok_or_else(|| PyRuntimeError::new_err("this call was waited for already"))?;
        Ok(work
            .take()
            .unwrap_or_else(|| async { Err(forked_away()) }.boxed()))
    }
}

/// Locks what no panic can leave half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn finish(py: Python<'_>, outcome: Outcome) -> PyResult<Py<PyAny>> {
    match outcome {
        Ok(Ok(output)) => output.into_python(py),
        Ok(Err(error)) => Failure::new(py, &error).into_py_any(py),
        Err(_) => Failure::new(
            py,
            &Error::internal("the engine panicked: this is a bug, please report it"),
        )
        .into_py_any(py),
    }
}

#[pymethods]
impl Call {
    /// Blocks until the result is there, without the GIL: a value, or a `Failure`.
    fn wait(&self, py: Python<'_>, is_main_thread: bool) -> PyResult<Py<PyAny>> {
        let work = AssertUnwindSafe(self.take()?).catch_unwind();
        let outcome = block_on(py, is_main_thread, work)?;
        finish(py, outcome)
    }

    /// What is ready at once, a value or a `Failure`; the call itself if it takes longer. The GIL
    /// stays here: nothing that happens in a poll waits for it.
    fn poll(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let call = slf.get();
        let mut work = call.take()?;
        match poll(py, &mut work, Waker::noop())? {
            Poll::Ready(outcome) => finish(py, outcome),
            Poll::Pending => {
                *lock(&call.work) = Some(Owned::new(work));
                Ok(slf.into_any().unbind())
            }
        }
    }

    /// Has the work done, and gives `future` what comes of it, a value or a `Failure`, by the
    /// inbox of its loop. The result is the future's callback: cancelling it drops the work.
    ///
    /// Nothing of Python's runs in here: an interpreter that exits unwinds the threads that wait
    /// to go on with Python, and may not find a frame of Rust's below.
    #[pyo3(signature = (inbox, future: "asyncio.Future[typing.Any]") -> "collections.abc.Callable[[asyncio.Future[typing.Any]], None]")]
    fn start(&self, py: Python<'_>, inbox: &Inbox, future: Py<PyAny>) -> PyResult<AbortOnCancel> {
        let work = self.take()?;
        if self.is_light {
            let light = Arc::new(Light {
                state: Mutex::default(),
                inbox: inbox.clone(),
            });
            // Whoever polled it before left nobody to wake.
            if let Some((future, outcome)) = light.go_on(py, work, future)? {
                inbox.push(Box::new(move |py| resolve(py, future, outcome).map(Some)));
            }
            return Ok(AbortOnCancel(Running::Light(light)));
        }
        let work = AssertUnwindSafe(work).catch_unwind();
        let inbox = inbox.clone();
        let task = runtime(py)?.spawn(async move {
            let outcome = work.await;
            inbox.push(Box::new(move |py| resolve(py, future, outcome).map(Some)));
        });
        Ok(AbortOnCancel(Running::Task(task.abort_handle())))
    }
}

/// Goes on with work as far as it can, which is not far: the GIL stays here.
fn poll(py: Python<'_>, work: &mut Work, waker: &Waker) -> PyResult<Poll<Outcome>> {
    let _entered = runtime(py)?.enter();
    let mut once = AssertUnwindSafe(work).catch_unwind();
    Ok(once.poll_unpin(&mut Context::from_waker(waker)))
}

/// How a future is told what came of its work.
fn resolve(
    py: Python<'_>,
    future: Py<PyAny>,
    outcome: Outcome,
) -> PyResult<(Bound<'_, PyAny>, Bound<'_, PyTuple>)> {
    let (function, value) = match finish(py, outcome) {
        Ok(value) => ("resolve", value),
        Err(error) => ("reject", error.into_py_any(py)?),
    };
    let arguments = PyTuple::new(py, [future, value])?;
    Ok((helper(py, "_loop", function)?, arguments))
}

/// Work of a light call, and the future that waits for it, until it is over. Whoever wakes it has
/// the thread of the loop go on with it.
struct Light {
    state: Mutex<Option<(Owned<Work>, Py<PyAny>)>>,
    inbox: Inbox,
}

impl Light {
    /// What came of the work, and whom to tell; `None` if it waits.
    fn go_on(
        self: &Arc<Self>,
        py: Python<'_>,
        mut work: Work,
        future: Py<PyAny>,
    ) -> PyResult<Option<(Py<PyAny>, Outcome)>> {
        let waker = Waker::from(Arc::clone(self));
        match poll(py, &mut work, &waker)? {
            Poll::Ready(outcome) => Ok(Some((future, outcome))),
            Poll::Pending => {
                // Whoever woke it meanwhile is heard on this thread, later.
                *lock(&self.state) = Some((Owned::new(work), future));
                Ok(None)
            }
        }
    }
}

impl Wake for Light {
    fn wake(self: Arc<Self>) {
        let inbox = self.inbox.clone();
        inbox.push(Box::new(move |py| {
            let Some((work, future)) = lock(&self.state).take() else {
                return Ok(None);
            };
            // A forked child has nothing to go on with.
            let Some(work) = work.take() else {
                return Ok(None);
            };
            match self.go_on(py, work, future)? {
                Some((future, outcome)) => resolve(py, future, outcome).map(Some),
                None => Ok(None),
            }
        }));
    }
}

/// Work that goes on.
enum Running {
    Task(AbortHandle),
    Light(Arc<Light>),
}

/// The callback of an asyncio future that stops the work behind it when it is cancelled.
#[pyclass(frozen)]
pub(crate) struct AbortOnCancel(Running);

#[pymethods]
impl AbortOnCancel {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let name = intern!(future.py(), "cancelled");
        if future.call_method0(name)?.is_truthy()? {
            match &self.0 {
                Running::Task(task) => task.abort(),
                Running::Light(light) => drop(lock(&light.state).take()),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}
