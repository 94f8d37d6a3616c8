//! The events of one turn, pulled in batches.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use pyo3::prelude::*;
use tokio_util::sync::CancellationToken;
use tutor_core::{Error, TurnEvent, TurnStream};

use crate::call::{Call, Output, lock};
use crate::failure::{Failure, forked_away};
use crate::runtime::Owned;

/// Events that one pull may give.
const MAX_BATCH: usize = 64;

/// The events of one turn. Dropping it lets go of the turn, which cancels it if this stream
/// began it.
#[pyclass(frozen, module = "neuro_tutor._native")]
pub(crate) struct Stream {
    inner: Owned<Arc<Inner>>,
    #[pyo3(get)]
    turn_id: String,
    #[pyo3(get)]
    session_id: String,
    #[pyo3(get)]
    is_replay: bool,
}

struct Inner {
    stream: tokio::sync::Mutex<Option<TurnStream>>,
    /// What was given last: given again if it did not arrive, since whoever waited for it was
    /// cancelled meanwhile.
    given: Mutex<Vec<Arc<TurnEvent>>>,
    closing: CancellationToken,
    failure: Mutex<Option<Error>>,
}

impl Stream {
    pub(crate) fn new(stream: TurnStream) -> Self {
        Self {
            turn_id: stream.turn_id().to_string(),
            session_id: stream.session_id().to_string(),
            is_replay: stream.is_replay(),
            inner: Owned::new(Arc::new(Inner {
                stream: tokio::sync::Mutex::new(Some(stream)),
                given: Mutex::default(),
                closing: CancellationToken::new(),
                failure: Mutex::new(None),
            })),
        }
    }

    fn call<F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Call
    where
        F: Future<Output = tutor_core::Result<Output>> + Send + 'static,
    {
        match self.inner.get() {
            Some(inner) => Call::new(work(Arc::clone(inner))),
            None => Call::failed(forked_away()),
        }
    }
}

#[pymethods]
impl Stream {
    /// Gives at least one event behind number `after` and as many more as are there; `None` at
    /// the end.
    fn next_batch(&self, after: u64) -> Call {
        self.call(move |inner| async move {
            let closed = inner.closing.clone();
            let batch = closed.run_until_cancelled(inner.batch(after)).await;
            Ok(Output::Events(batch.unwrap_or_default()))
        })
    }

    /// True if the turn has ended; false while another thread waits for its events.
    fn has_ended(&self) -> bool {
        let Some(inner) = self.inner.get() else {
            return true;
        };
        let stream = inner.stream.try_lock();
        stream.is_ok_and(|stream| stream.as_ref().is_none_or(TurnStream::has_ended))
    }

    /// Why the turn failed; `None` before its last event, and if it did not fail.
    fn failure(&self, py: Python<'_>) -> Option<Failure> {
        let failure = lock(&self.inner.get()?.failure);
        failure.as_ref().map(|error| Failure::new(py, error))
    }

    /// Lets go of the turn. If that cancels it, waits until it has ended. Idempotent.
    fn close(&self) -> Call {
        self.call(|inner| async move {
            inner.closing.cancel();
            let stream = inner.stream.lock().await.take();
            if let Some(stream) = stream {
                stream.close().await;
            }
            Ok(Output::Nothing)
        })
    }
}

impl Inner {
    async fn batch(&self, after: u64) -> Vec<Arc<TurnEvent>> {
        let mut stream = self.stream.lock().await;
        let mut batch = lock(&self.given).clone();
        batch.retain(|event| event.seq > after);
        let Some(stream) = stream.as_mut().filter(|_| batch.is_empty()) else {
            return batch;
        };
        let mut next = stream.next().await;
        while let Some(event) = next {
            if event.event.is_terminal() {
                *lock(&self.failure) = stream.error().map(|error| {
                    error
                        .with_context("turn", stream.turn_id())
                        .with_context("session", stream.session_id())
                });
            }
            batch.push(event);
            if batch.len() == MAX_BATCH {
                break;
            }
            next = stream.next().now_or_never().flatten();
        }
        lock(&self.given).clone_from(&batch);
        batch
    }
}
