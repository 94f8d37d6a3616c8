//! How the engine's threads hand work to an asyncio loop.

use std::fmt;
#[cfg(unix)]
use std::io::{Read, Write};
#[cfg(unix)]
use std::os::{fd::AsRawFd, unix::net::UnixStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::runtime::detached;

/// What the loop's thread is to call. It is called by Python and not from here, so that no Rust
/// frame lies below Python's: an exiting interpreter may unwind those.
pub(crate) type Action<'py> = Option<(Bound<'py, PyAny>, Bound<'py, PyTuple>)>;

/// Work for the loop's thread: makes Python objects and says what to call with them.
pub(crate) type Job = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Action<'py>> + Send>;

/// The work that waits for one loop.
#[derive(Clone)]
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Inbox(Arc<Inner>);

struct Inner {
    jobs: Mutex<Vec<Job>>,
    wake: Wake,
}

enum Wake {
    /// The loop watches a socket.
    #[cfg(unix)]
    Socket {
        reader: UnixStream,
        writer: UnixStream,
    },
    /// A thread of Python's calls the loop, which is a weak reference.
    Dispatcher(Py<PyAny>),
}

/// The inboxes that the dispatcher has to look after.
static DISPATCH: (Mutex<Vec<Inbox>>, Condvar) = (Mutex::new(Vec::new()), Condvar::new());

impl Inbox {
    /// Queues work and wakes the loop if it was idle. From any thread.
    pub(crate) fn push(&self, job: Job) {
        let is_first = {
            let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            jobs.push(job);
            jobs.len() == 1
        };
        if !is_first {
            return;
        }
        match &self.0.wake {
            #[cfg(unix)]
            Wake::Socket { writer, .. } => {
                // It fails if the socket is full, and then the loop is about to wake anyway.
                let _ = (&*writer).write(&[1]);
            }
            Wake::Dispatcher(_) => {
                let (waiting, changed) = &DISPATCH;
                waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(self.clone());
                changed.notify_one();
            }
        }
    }
}

#[pymethods]
impl Inbox {
    /// An inbox that wakes its loop by a file descriptor, or, given a weak reference to the loop,
    /// through the dispatcher.
    #[new]
    #[pyo3(signature = (loop_reference: "weakref.ReferenceType[asyncio.AbstractEventLoop] | None" = None))]
    fn new(loop_reference: Option<Py<PyAny>>) -> PyResult<Self> {
        let wake = match loop_reference {
            Some(reference) => Wake::Dispatcher(reference),
            None => socket()?,
        };
        Ok(Self(Arc::new(Inner {
            jobs: Mutex::default(),
            wake,
        })))
    }

    /// The file descriptor to watch; -1 without one.
    fn fileno(&self) -> i32 {
        match &self.0.wake {
            #[cfg(unix)]
            Wake::Socket { reader, .. } => reader.as_raw_fd(),
            Wake::Dispatcher(_) => -1,
        }
    }

    /// What to call on the loop's thread: functions with their arguments.
    #[pyo3(signature = () -> "list[tuple[collections.abc.Callable[..., typing.Any], tuple[typing.Any, ...]]]")]
    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        #[cfg(unix)]
        if let Wake::Socket { reader, .. } = &self.0.wake {
            let mut bytes = [0; 64];
            let _ = (&*reader).read(&mut bytes);
        }
        let jobs = std::mem::take(&mut *self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner));
        let actions = PyList::empty(py);
        for job in jobs {
            match job(py) {
                Ok(Some(action)) => actions.append(action)?,
                Ok(None) => {}
                Err(error) => error.write_unraisable(py, None),
            }
        }
        Ok(actions)
    }
}

#[cfg(unix)]
fn socket() -> PyResult<Wake> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    writer.set_nonblocking(true)?;
    Ok(Wake::Socket { reader, writer })
}

#[cfg(not(unix))]
fn socket() -> PyResult<Wake> {
    Err(pyo3::exceptions::PyNotImplementedError::new_err(
        "loops are woken through the dispatcher here",
    ))
}

/// Waits, without the GIL, until a loop of the dispatcher has work: the weak references of the
/// loops with their inboxes. Called by the dispatcher, a thread of Python's.
#[pyfunction]
#[pyo3(signature = () -> "list[tuple[weakref.ReferenceType[asyncio.AbstractEventLoop], Inbox]]")]
pub(crate) fn wait_for_inboxes(py: Python<'_>) -> Vec<(Py<PyAny>, Inbox)> {
    let ready = detached(py, false, || {
        let (waiting, changed) = &DISPATCH;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.is_empty() {
            waiting = changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut *waiting)
    });
    ready
        .into_iter()
        .filter_map(|inbox| match &inbox.0.wake {
            #[cfg(unix)]
            Wake::Socket { .. } => None,
            Wake::Dispatcher(reference) => Some((reference.clone_ref(py), inbox.clone())),
        })
        .collect()
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}
