//! A bound on the requests that a provider works on at the same time, with a bounded queue before
//! it: one slow provider cannot take everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::context::RequestContext;
use super::fault::{Failure, Fault, REFUSED_BY};
use super::health::{Gauge, Health, Load};
use super::{CompletionRequest, CompletionStream, ModelInfo, Provider, ProviderInfo};
use crate::error::{Error, ErrorKind, Result};

/// The longest wait that is kept.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// How many requests a provider works on, and how many wait for their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Requests at the same time, from 1.
    pub max_running: usize,
    /// Requests that wait. One more is refused at once.
    pub max_waiting: usize,
    /// How long a request waits. Then it is refused.
    pub max_wait: Duration,
}

impl Concurrency {
    /// This many requests at the same time, as many that wait, for at most 30 seconds.
    pub fn of(max_running: usize) -> Self {
        Self {
            max_running: max_running.max(1),
            max_waiting: max_running,
            max_wait: Duration::from_secs(30),
        }
    }
}

/// A provider that works on a bounded number of requests. Others wait in the order of their
/// coming. A place is held until the stream has ended or is dropped.
///
/// # Errors
/// `overloaded`, retryable, when the queue is full or the wait took too long; the context names the
/// `queue`, which is called like the provider. `timeout` when the request's deadline came first,
/// `interrupted` when the request was cancelled.
#[derive(Debug)]
pub struct BulkheadProvider<P> {
    inner: P,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    limits: Concurrency,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl<P: Provider> BulkheadProvider<P> {
    /// Bounds the requests that `inner` works on.
    pub fn new(inner: P, limits: Concurrency) -> Self {
        let limits = Concurrency {
            max_running: limits.max_running.clamp(1, Semaphore::MAX_PERMITS),
            max_wait: limits.max_wait.min(MAX_WAIT),
            ..limits
        };
        Self {
            inner,
            gate: Arc::new(Gate {
                limits,
                places: Arc::new(Semaphore::new(limits.max_running)),
                waiting: AtomicUsize::new(0),
            }),
        }
    }
}

#[async_trait]
impl<P: Provider> Provider for BulkheadProvider<P> {
    fn info(&self) -> ProviderInfo {
        let mut info = self.inner.info();
        info.gauges.add(Arc::clone(&self.gate) as Arc<dyn Gauge>);
        info
    }

    /// Not bounded: it is a small request.
    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.inner.models().await
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let place = self
            .gate
            .enter(&request.context, || self.info().name)
            .await?;
        let inner = self.inner.stream(request).await?;
        Ok(
            stream::unfold((inner, place), |(mut inner, place)| async move {
                let item = inner.next().await?;
                Some((item, (inner, place)))
            })
            .fuse()
            .boxed(),
        )
    }
}

impl Gate {
    async fn enter(
        &self,
        context: &RequestContext,
        name: impl Fn() -> String,
    ) -> Result<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let Some(_waiting) = self.queue() else {
            return Err(self.refusal("too many requests wait for the provider", &name()));
        };
        let patience = Instant::now() + self.limits.max_wait;
        let (until, is_deadline) = match context.deadline {
            Some(deadline) if deadline <= patience => (deadline, true),
            _ => (patience, false),
        };
        tokio::select! {
            biased;
            place = Arc::clone(&self.places).acquire_owned() => {
                place.map_err(|_| Error::internal("the bulkhead of a provider was closed"))
            }
            () = context.cancel.cancelled() => {
                Err(Error::new(ErrorKind::Interrupted, "the request was cancelled"))
            }
            () = sleep_until(until) => Err(if is_deadline {
                Failure::hopeless(Fault::Timeout).with_fact("phase", "queue").into_error(&name())
            } else {
                self.refusal("the provider had no time for the request", &name())
            }),
        }
    }

    /// A place in the queue, if there is one.
    fn queue(&self) -> Option<Waiting<'_>> {
        let more = |waiting| (waiting < self.limits.max_waiting).then_some(waiting + 1);
        self.waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Waiting(self))
    }

    fn refusal(&self, what: &str, name: &str) -> Error {
        Error::new(
            ErrorKind::Overloaded,
            format!("{what}: try again in a moment"),
        )
        .with_context("queue", name)
        .with_context("max_running", self.limits.max_running)
        .with_context("max_waiting", self.limits.max_waiting)
        .with_context(REFUSED_BY, "queue")
        .retryable(None)
    }
}

impl Gauge for Gate {
    fn read(&self, health: &mut Health) {
        health.load = Some(Load {
            running: self.limits.max_running - self.places.available_permits(),
            max_running: self.limits.max_running,
            waiting: self.waiting.load(Ordering::Relaxed),
            max_waiting: self.limits.max_waiting,
        });
    }
}

/// A place in the queue, until it is dropped.
struct Waiting<'a>(&'a Gate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::ScriptedProvider;
    use crate::provider::scripted::{Step, text_script};
    use tokio::sync::Notify;

    /// One place, one waiting for a second; every reply waits for `gate`.
    fn provider(gate: &Arc<Notify>) -> BulkheadProvider<ScriptedProvider> {
        let mut script = vec![Step::Wait(Arc::clone(gate))];
        script.extend(text_script("ok"));
        let limits = Concurrency {
            max_running: 1,
            max_waiting: 1,
            max_wait: Duration::from_secs(1),
        };
        BulkheadProvider::new(ScriptedProvider::new([script]), limits)
    }

    fn request() -> CompletionRequest {
        CompletionRequest::new("m", "?")
    }

    fn load(provider: &impl Provider) -> (usize, usize) {
        let load = provider.info().health().load.unwrap();
        (load.running, load.waiting)
    }

    async fn open(provider: &impl Provider) -> Result<CompletionStream> {
        provider.stream(request()).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_runs_the_second_waits_and_the_third_is_refused_at_once() {
        let gate = Arc::new(Notify::new());
        let provider = Arc::new(provider(&gate));
        let running = open(&provider).await.unwrap();
        let second = tokio::spawn({
            let provider = Arc::clone(&provider);
            async move { open(&provider).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(load(&provider), (1, 1));
        let start = Instant::now();
        let error = open(&provider).await.err().unwrap();
        assert_eq!(
            (
                error.kind(),
                error.context_value("queue"),
                error.is_retryable()
            ),
            (ErrorKind::Overloaded, Some("scripted"), true)
        );
        assert_eq!(start.elapsed(), Duration::ZERO);
        drop(running);
        let waited = second.await.unwrap().unwrap();
        assert_eq!(load(&provider), (1, 0));
        gate.notify_one();
        assert_eq!(waited.count().await, 2);
        assert_eq!(load(&provider), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_cancelled_or_goes_away_leaves_the_queue() {
        let provider = provider(&Arc::new(Notify::new()));
        let _running = open(&provider).await.unwrap();
        let start = Instant::now();
        assert_eq!(
            open(&provider).await.err().unwrap().kind(),
            ErrorKind::Overloaded
        );
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        let mut late = request();
        late.context.deadline = Some(Instant::now() + Duration::from_millis(10));
        let error = provider.stream(late).await.err().unwrap();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Timeout, false)
        );
        let unwanted = request();
        unwanted.context.cancel.cancel();
        let error = provider.stream(unwanted).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        let gone = tokio::time::timeout(Duration::from_millis(5), open(&provider)).await;
        assert!(gone.is_err());
        assert_eq!(load(&provider), (1, 0));
    }
}
