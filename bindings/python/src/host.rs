//! Where the Python code of a request runs: an asyncio loop, and the caller's context variables.

use std::fmt;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::inbox::Inbox;

/// A place for Python code. It travels with a request through the engine.
pub(crate) struct Host {
    pub(crate) inbox: Inbox,
    pub(crate) event_loop: Py<PyAny>,
    pub(crate) context: Py<PyAny>,
}

impl Host {
    /// The caller's own loop, which is running on this thread.
    pub(crate) fn running(py: Python<'_>) -> PyResult<Self> {
        Self::on(&running_loop(py)?)
    }

    /// The loop in the background that serves blocking callers.
    pub(crate) fn background(py: Python<'_>) -> PyResult<Self> {
        let event_loop = helper(py, "_loop", "background_loop")?.call0()?;
        Self::on(&event_loop)
    }

    fn on(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        Ok(Self {
            inbox: inbox_of(event_loop)?,
            event_loop: event_loop.clone().unbind(),
            context: py
                .import("contextvars")?
                .call_method0("copy_context")?
                .unbind(),
        })
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

/// The loop that runs on this thread. asyncio's own function is written in C: one of Python's would
/// let an exiting interpreter end this thread with a frame of Rust's below.
fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let get = GET.get_or_try_init(py, || {
        let get = py.import("asyncio")?.getattr("get_running_loop")?;
        PyResult::Ok(get.unbind())
    })?;
    get.bind(py).call0().or_else(|_| {
        // It says so in our words.
        helper(py, "_loop", "running_loop")?.call0()
    })
}

/// The inbox of a loop, which is made when it is first needed.
fn inbox_of(event_loop: &Bound<'_, PyAny>) -> PyResult<Inbox> {
    let py = event_loop.py();
    let inbox = match event_loop.getattr_opt(pyo3::intern!(py, "_neuro_tutor_inbox"))? {
        Some(inbox) => inbox,
        None => helper(py, "_loop", "make_inbox")?.call1((event_loop,))?,
    };
    Ok(inbox.cast::<Inbox>()?.get().clone())
}

/// A function of one of the package's private modules. It is imported when it is first needed.
pub(crate) fn helper<'py>(
    py: Python<'py>,
    module: &'static str,
    function: &'static str,
) -> PyResult<Bound<'py, PyAny>> {
    static LOOP: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    static GLUE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let (cell, name) = match module {
        "_loop" => (&LOOP, "neuro_tutor._loop"),
        _ => (&GLUE, "neuro_tutor._glue"),
    };
    let module = cell.get_or_try_init(py, || py.import(name).map(Bound::unbind))?;
    module.bind(py).getattr(function)
}
