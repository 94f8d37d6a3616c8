//! A circuit breaker: a provider that fails again and again is left alone for a while, and the
//! requests to it fail at once instead of after their time limits.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt};
use tokio::time::Instant;

use super::delivered::is_content;
use super::fault::{Fault, REFUSED_BY};
use super::health::{BreakerState, Gauge, Health, millis};
use super::{CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo};
use crate::error::{Error, ErrorKind, Result};

/// The longest that a provider is left alone between two probes.
pub const MAX_COOLDOWN: Duration = Duration::from_secs(300);

/// How many outcomes more than failures are remembered, at most.
const MAX_WINDOW: usize = 1000;

/// What a request is told to wait while a probe is under way.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// How many of the last `window` requests must have failed, from 1.
    pub failures: usize,
    /// How many requests are looked at.
    pub window: usize,
    /// How long the provider is left alone after that. It doubles with every probe that fails, up
    /// to [`MAX_COOLDOWN`]; a longer wait that the provider asks for is kept, up to the same.
    pub cooldown: Duration,
}

impl Default for Breaker {
    /// Five of ten, and 10 seconds.
    fn default() -> Self {
        Self {
            failures: 5,
            window: 10,
            cooldown: Duration::from_secs(10),
        }
    }
}

/// A provider behind a circuit breaker.
///
/// A failure is what says that the provider does not work: `provider_unavailable`, or a time limit
/// other than the request's own. Refusals of a key, a request or a rate show that it does. While
/// the breaker is open, requests are refused at once. When the cooldown is over one request goes
/// through as a probe: its first words close the breaker, its failure opens it again.
///
/// # Errors
/// `provider_unavailable` with the reason `overloaded` while the breaker is open, with the time to
/// the next probe. [`RetryProvider`](super::RetryProvider) gives it to the caller at once.
#[derive(Debug)]
pub struct BreakerProvider<P> {
    inner: P,
    circuit: Arc<Circuit>,
}

#[derive(Debug)]
struct Circuit {
    settings: Breaker,
    name: String,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// With the last outcomes, true for failures.
    Closed(VecDeque<bool>),
    Open {
        until: Instant,
        cooldown: Duration,
    },
    Probing {
        cooldown: Duration,
    },
}

impl<P: Provider> BreakerProvider<P> {
    /// Watches over `inner`.
    pub fn new(inner: P, settings: Breaker) -> Self {
        let failures = settings.failures.max(1);
        let settings = Breaker {
            failures,
            window: settings
                .window
                .clamp(failures, failures.saturating_add(MAX_WINDOW)),
            cooldown: settings.cooldown.min(MAX_COOLDOWN),
        };
        let circuit = Circuit {
            settings,
            name: inner.info().name,
            state: Mutex::new(State::Closed(VecDeque::new())),
        };
        Self {
            inner,
            circuit: Arc::new(circuit),
        }
    }
}

#[async_trait]
impl<P: Provider> Provider for BreakerProvider<P> {
    fn info(&self) -> ProviderInfo {
        let mut info = self.inner.info();
        info.gauges.add(Arc::clone(&self.circuit) as Arc<dyn Gauge>);
        info
    }

    /// Passes through: whoever lists models wants to know how things are.
    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.inner.models().await
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let mut pass = self.circuit.admit()?;
        match self.inner.stream(request).await {
            Ok(inner) => Ok(Watched(Some((inner, pass))).boxed()),
            Err(error) => {
                pass.end(Some(&error));
                Err(error)
            }
        }
    }
}

/// A completion that tells its breaker how it goes; `None` once it has ended.
struct Watched(Option<(CompletionStream, Pass)>);

impl Stream for Watched {
    type Item = Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some((inner, pass)) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let item = ready!(inner.poll_next_unpin(cx));
        match &item {
            Some(Ok(Delta::Finished { .. })) => pass.end(None),
            Some(Ok(delta)) if is_content(delta) => pass.works(),
            Some(Ok(_)) => {}
            Some(Err(error)) => pass.end(Some(error)),
            None => pass.end_early(),
        }
        if matches!(item, Some(Err(_)) | None) {
            self.0 = None;
        }
        Poll::Ready(item)
    }
}

impl Circuit {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(self: &Arc<Self>) -> Result<Pass> {
        let mut state = self.state();
        let wait = match &*state {
            State::Closed(_) => {
                return Ok(Pass::new(self, false));
            }
            State::Open { until, cooldown } => {
                let wait = until.saturating_duration_since(Instant::now());
                if wait.is_zero() {
                    let cooldown = *cooldown;
                    *state = State::Probing { cooldown };
                    return Ok(Pass::new(self, true));
                }
                wait
            }
            State::Probing { .. } => PROBE_WAIT,
        };
        Err(Error::new(
            ErrorKind::ProviderUnavailable,
            "the provider failed again and again, and is left alone for a while: try again in a moment",
        )
        .with_context("provider", &self.name)
        .with_context("reason", Fault::Overloaded)
        .with_context(REFUSED_BY, "breaker")
        .retryable(Some(wait)))
    }

    fn failed(&self, probe: bool, asked: Option<Duration>) {
        let mut state = self.state();
        let cooldown = match &mut *state {
            State::Closed(outcomes) => {
                outcomes.push_back(true);
                if outcomes.len() > self.settings.window {
                    outcomes.pop_front();
                }
                if outcomes.iter().filter(|failed| **failed).count() < self.settings.failures {
                    return;
                }
                self.settings.cooldown
            }
            State::Probing { cooldown } if probe => (*cooldown * 2).min(MAX_COOLDOWN),
            // What began before the breaker opened says nothing new.
            State::Open { .. } | State::Probing { .. } => return,
        };
        let wait = cooldown.max(asked.unwrap_or_default()).min(MAX_COOLDOWN);
        *state = State::Open {
            until: Instant::now() + wait,
            cooldown,
        };
        drop(state);
        tracing::warn!(
            provider = self.name,
            ?wait,
            "a provider fails and is left alone"
        );
    }

    fn worked(&self, probe: bool) {
        let mut state = self.state();
        match &mut *state {
            State::Closed(outcomes) => {
                outcomes.push_back(false);
                if outcomes.len() > self.settings.window {
                    outcomes.pop_front();
                }
            }
            State::Probing { .. } if probe => {
                *state = State::Closed(VecDeque::new());
                drop(state);
                tracing::info!(provider = self.name, "a provider works again");
            }
            State::Open { .. } | State::Probing { .. } => {}
        }
    }

    /// Nobody waited for the outcome of the probe: the next request is one.
    fn abandoned(&self) {
        let mut state = self.state();
        if let State::Probing { cooldown } = *state {
            *state = State::Open {
                until: Instant::now(),
                cooldown,
            };
        }
    }
}

impl Gauge for Circuit {
    fn read(&self, health: &mut Health) {
        health.breaker = Some(match &*self.state() {
            State::Closed(_) => BreakerState::Closed,
            State::Open { until, .. } => BreakerState::Open {
                retry_in_ms: millis(until.saturating_duration_since(Instant::now())),
            },
            State::Probing { .. } => BreakerState::HalfOpen,
        });
    }
}

/// One request that was let through.
struct Pass {
    circuit: Arc<Circuit>,
    probe: bool,
    ended: bool,
}

impl Pass {
    fn new(circuit: &Arc<Circuit>, probe: bool) -> Self {
        Self {
            circuit: Arc::clone(circuit),
            probe,
            ended: false,
        }
    }

    /// The provider writes. A probe needs no more.
    fn works(&mut self) {
        if std::mem::take(&mut self.probe) {
            self.circuit.worked(true);
        }
    }

    fn end(&mut self, error: Option<&Error>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        match error {
            Some(error) if error.context_value("reason") == Some("cancelled") => {
                self.ended = false;
            }
            Some(error) if is_failure(error) => {
                self.circuit.failed(self.probe, error.retry_after());
            }
            _ => self.circuit.worked(self.probe),
        }
    }

    fn end_early(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.circuit.failed(self.probe, None);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe && !self.ended {
            self.circuit.abandoned();
        }
    }
}

/// True for what says that the provider does not work.
fn is_failure(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::ProviderUnavailable => {
            error.context_value("reason") != Some(Fault::ModelOutputInvalid.as_str())
        }
        // The request's own deadline may have been too short.
        ErrorKind::Timeout => error.context_value("phase") != Some("deadline"),
        // A plug-in that panicked or lied.
        ErrorKind::Internal => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::super::fault::Failure;
    use super::*;
    use crate::provider::ScriptedProvider;
    use crate::provider::scripted::{Step, text_script};

    fn overloaded() -> Error {
        Failure::new(Fault::Overloaded).into_error("scripted")
    }

    fn fail() -> Vec<Step> {
        vec![Step::Fail(overloaded)]
    }

    fn provider(scripts: Vec<Vec<Step>>) -> (ScriptedProvider, BreakerProvider<ScriptedProvider>) {
        let scripted = ScriptedProvider::new(scripts);
        let settings = Breaker {
            failures: 3,
            window: 4,
            cooldown: Duration::from_secs(10),
        };
        (scripted.clone(), BreakerProvider::new(scripted, settings))
    }

    async fn run(provider: &impl Provider) -> Result<usize> {
        let stream = provider.stream(CompletionRequest::new("m", "?")).await?;
        let items: Vec<_> = stream.collect().await;
        let count = items.len();
        items.into_iter().collect::<Result<Vec<_>>>().map(|_| count)
    }

    fn state(provider: &impl Provider) -> BreakerState {
        provider.info().health().breaker.unwrap()
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_some_failures_and_refuses_at_once_with_the_time_that_is_left() {
        let (scripted, provider) = provider(vec![fail()]);
        for _ in 0..3 {
            assert_eq!(state(&provider), BreakerState::Closed);
            run(&provider).await.unwrap_err();
        }
        assert_eq!(
            state(&provider),
            BreakerState::Open {
                retry_in_ms: 10_000
            }
        );
        pass(4).await;
        let error = run(&provider).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry_after()),
            (ErrorKind::ProviderUnavailable, Some(Duration::from_secs(6)))
        );
        assert_eq!(scripted.requests().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_among_successes_count_within_the_window() {
        let ok = || text_script("ok");
        let (_, provider) = provider(vec![fail(), ok(), fail(), ok(), fail(), fail(), ok()]);
        for _ in 0..5 {
            let _ = run(&provider).await;
            assert_eq!(state(&provider), BreakerState::Closed);
        }
        run(&provider).await.unwrap_err();
        assert!(matches!(state(&provider), BreakerState::Open { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn of_ten_concurrent_requests_one_is_the_probe_and_nine_are_refused() {
        let gate = Arc::new(Notify::new());
        let mut slow = vec![Step::Wait(Arc::clone(&gate))];
        slow.extend(text_script("ok"));
        let (scripted, provider) = provider(vec![fail(), fail(), fail(), slow, text_script("ok")]);
        for _ in 0..3 {
            run(&provider).await.unwrap_err();
        }
        pass(10).await;
        let provider = Arc::new(provider);
        let runs: Vec<_> = (0..10)
            .map(|_| {
                let provider = Arc::clone(&provider);
                tokio::spawn(async move { run(&provider).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(state(&provider), BreakerState::HalfOpen);
        gate.notify_one();
        let outcomes = futures_util::future::join_all(runs).await;
        let refused = outcomes
            .iter()
            .filter(|outcome| outcome.as_ref().unwrap().is_err());
        assert_eq!((refused.count(), scripted.requests().len()), (9, 4));
        assert_eq!(state(&provider), BreakerState::Closed);
        run(&provider).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_doubles_the_cooldown_up_to_its_bound() {
        let (_, provider) = provider(vec![fail()]);
        for _ in 0..3 {
            run(&provider).await.unwrap_err();
        }
        for expected in [20, 40, 80, 160, 300, 300] {
            pass(300).await;
            run(&provider).await.unwrap_err();
            let retry_in_ms = expected * 1000;
            assert_eq!(state(&provider), BreakerState::Open { retry_in_ms });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_words_of_a_probe_close_it_and_a_dropped_probe_leaves_the_next_one() {
        let hang = || vec![Step::Wait(Arc::new(Notify::new()))];
        let mut words = vec![Step::Yield(Delta::Text("a".into()))];
        words.extend(hang());
        let (_, provider) = provider(vec![fail(), fail(), fail(), hang(), words]);
        for _ in 0..3 {
            run(&provider).await.unwrap_err();
        }
        pass(10).await;
        drop(
            provider
                .stream(CompletionRequest::new("m", "?"))
                .await
                .unwrap(),
        );
        assert_eq!(state(&provider), BreakerState::Open { retry_in_ms: 0 });
        let mut probe = provider
            .stream(CompletionRequest::new("m", "?"))
            .await
            .unwrap();
        probe.next().await.unwrap().unwrap();
        assert_eq!(state(&provider), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_of_key_request_and_rate_are_no_failures() {
        fn refused() -> Error {
            Failure::new(Fault::Auth).into_error("scripted")
        }
        fn limited() -> Error {
            Failure::new(Fault::RateLimited).into_error("scripted")
        }
        for error in [refused, limited] {
            let (_, provider) = provider(vec![vec![Step::Fail(error)]]);
            for _ in 0..20 {
                run(&provider).await.unwrap_err();
            }
            assert_eq!(state(&provider), BreakerState::Closed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_ends_early_is_a_failure() {
        let (_, provider) = provider(vec![vec![Step::End]]);
        for _ in 0..3 {
            run(&provider).await.unwrap();
        }
        assert!(matches!(state(&provider), BreakerState::Open { .. }));
    }
}
