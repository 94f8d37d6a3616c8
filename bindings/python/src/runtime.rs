//! The tokio runtime of this process, and what a fork does to it.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

/// Threads that drive the engine. It waits for disks and networks; it does not compute.
const WORKERS: usize = 2;

/// How often a blocked main thread looks for signals such as Ctrl-C.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// How many forks lie between this process and the one that loaded the module.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The runtime of a generation. Locked only by threads that hold the GIL and keep it meanwhile, so
/// that no fork finds it locked.
static RUNTIME: Mutex<Option<(u64, &'static Runtime)>> = Mutex::new(None);

/// Notes that this process has been forked: called in the child.
#[pyfunction]
pub(crate) fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// True when the interpreter is about to exit.
static EXITING: AtomicBool = AtomicBool::new(false);

/// Notes that the interpreter is about to exit. From then on no thread but the main one comes back
/// from a wait: an interpreter that exits ends such a thread where it asks for the GIL, in the
/// middle of Rust's frames, which ends the process with it.
#[pyfunction]
pub(crate) fn exiting() {
    EXITING.store(true, Ordering::Release);
}

/// Waits without the GIL.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    is_main_thread: bool,
    wait: impl FnOnce() -> T + Send,
) -> T {
    py.detach(|| {
        let output = wait();
        while !is_main_thread && EXITING.load(Ordering::Acquire) {
            std::thread::park();
        }
        output
    })
}

fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// The runtime of this process. Threads do not survive a fork: a child gets its own, and what its
/// parent had is left alone.
pub(crate) fn runtime(_py: Python<'_>) -> PyResult<&'static Runtime> {
    let mut slot = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let now = generation();
    if let Some((generation, runtime)) = *slot
        && generation == now
    {
        return Ok(runtime);
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("neuro-tutor")
        .enable_all()
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("threads cannot be started: {error}")))?;
    let runtime: &'static Runtime = Box::leak(Box::new(runtime));
    *slot = Some((now, runtime));
    Ok(runtime)
}

/// A value that belongs to the process that made it. In a forked child it is neither used nor
/// dropped: its threads, locks and files are the parent's.
#[derive(Debug)]
pub(crate) struct Owned<T> {
    value: Option<T>,
    born: u64,
}

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Some(value),
            born: generation(),
        }
    }

    /// The value; `None` in a forked child.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.born == generation())
    }

    /// The value, taken out; `None` in a forked child.
    pub(crate) fn take(mut self) -> Option<T> {
        let is_here = self.born == generation();
        if is_here { self.value.take() } else { None }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.born != generation() {
            std::mem::forget(self.value.take());
        }
    }
}

/// Blocks the calling thread, which is Python's, without the GIL. The main thread answers signals
/// meanwhile: what a handler raises drops the future and is returned.
pub(crate) fn block_on<T: Send>(
    py: Python<'_>,
    is_main_thread: bool,
    future: impl Future<Output = T> + Send,
) -> PyResult<T> {
    let runtime = runtime(py)?;
    detached(py, is_main_thread, || {
        let mut future = pin!(future);
        // Only the main thread runs handlers, and only it may come back while the interpreter
        // exits.
        if !is_main_thread {
            return Ok(runtime.block_on(future));
        }
        loop {
            let output = runtime.block_on(async {
                // What is ready at once needs no timer, which would cost a millisecond.
                if let Some(output) = future.as_mut().now_or_never() {
                    return Some(output);
                }
                tokio::time::timeout(SIGNAL_CHECK, &mut future).await.ok()
            });
            match output {
                Some(output) => return Ok(output),
                // Outside of the runtime: a handler may use a tutor too.
                None => Python::attach(|py| py.check_signals())?,
            }
        }
    })
}
