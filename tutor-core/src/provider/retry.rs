//! Trying again.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, mem};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Instant, sleep};

use super::delivered::Delivered;
use super::fault::{Fault, REFUSED_BY};
use super::{CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo};
use crate::error::{Error, Result};

/// How often a request is tried again, unless it is configured.
pub const MAX_RETRIES: u32 = 2;
/// The longest wait that a provider may ask for; a longer one goes to the caller as it is.
pub const MAX_SERVER_WAIT: Duration = Duration::from_secs(60);

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(8);
/// How many retries a healthy provider has in reserve. Every request adds a tenth of one.
const BUDGET: u32 = 10;

/// A provider that tries again what failed before it delivered anything.
///
/// It reads [`Error::retry`] and nothing else, except that what a model wrote wrong is tried once.
/// A wait that the provider asks for is kept, up to [`MAX_SERVER_WAIT`]; else the wait doubles, with
/// jitter. It never waits past the request's deadline, and stops when the request is cancelled.
/// When most requests fail, retries are limited to a tenth of the requests: every request earns a
/// tenth of a retry, and at most ten are kept in reserve. What was refused without asking the
/// provider (an open breaker, a full queue) is not tried again.
pub struct RetryProvider<P> {
    inner: Arc<P>,
    policy: Arc<Policy>,
}

struct Policy {
    max_retries: u32,
    /// In tenths of a retry.
    budget: AtomicU32,
    /// From 0 to 1.
    random: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl<P: Provider> RetryProvider<P> {
    /// Retries what `inner` fails at.
    pub fn new(inner: P) -> Self {
        Self::with_random(inner, random)
    }

    /// The same, with the jitter drawn from `random`: numbers from 0 to 1.
    pub fn with_random(inner: P, random: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self::with_policy(inner, MAX_RETRIES, random)
    }

    /// The same, with at most this many retries of a request.
    pub fn with_max_retries(inner: P, max_retries: u32) -> Self {
        Self::with_policy(inner, max_retries, random)
    }

    fn with_policy(
        inner: P,
        max_retries: u32,
        random: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        let policy = Policy {
            max_retries,
            budget: AtomicU32::new(BUDGET * 10),
            random: Box::new(random),
        };
        Self {
            inner: Arc::new(inner),
            policy: Arc::new(policy),
        }
    }
}

impl<P: fmt::Debug> fmt::Debug for RetryProvider<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryProvider").field(&self.inner).finish()
    }
}

#[async_trait]
impl<P: Provider> Provider for RetryProvider<P> {
    fn info(&self) -> ProviderInfo {
        self.inner.info()
    }

    /// Not retried: whoever lists models can ask again.
    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.inner.models().await
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        self.policy.earn();
        let mut run = Run {
            inner: Arc::clone(&self.inner),
            policy: Arc::clone(&self.policy),
            request,
            retries: 0,
            delivered: Delivered::default(),
        };
        let opened = run.open().await?;
        let run = Box::new(run);
        Ok(Attempts::Reading(run, opened).boxed())
    }
}

/// The deltas of a request over all its attempts.
enum Attempts<P> {
    /// What an attempt says.
    Reading(Box<Run<P>>, CompletionStream),
    /// The wait for the next attempt.
    Waiting(BoxFuture<'static, Result<(Box<Run<P>>, CompletionStream)>>),
    /// There is no more.
    Over,
}

impl<P: Provider> Stream for Attempts<P> {
    type Item = Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let failed = match &mut *self {
                Self::Reading(run, opened) => match ready!(opened.poll_next_unpin(cx)) {
                    Some(Ok(delta)) if run.delivered.is_repeated(&delta) => continue,
                    Some(Ok(delta)) => return Poll::Ready(Some(Ok(delta))),
                    Some(Err(error)) => Some(error),
                    None => None,
                },
                Self::Waiting(next) => match ready!(next.poll_unpin(cx)) {
                    Ok((run, opened)) => {
                        *self = Self::Reading(run, opened);
                        continue;
                    }
                    Err(error) => {
                        *self = Self::Over;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                Self::Over => return Poll::Ready(None),
            };
            match (mem::replace(&mut *self, Self::Over), failed) {
                (Self::Reading(mut run, opened), Some(error)) => {
                    // Its connection is not needed any more.
                    drop(opened);
                    let next = async move {
                        let opened = run.again(error).await?;
                        Ok((run, opened))
                    };
                    *self = Self::Waiting(next.boxed());
                }
                _ => return Poll::Ready(None),
            }
        }
    }
}

/// One request, over all its attempts.
struct Run<P> {
    inner: Arc<P>,
    policy: Arc<Policy>,
    request: CompletionRequest,
    retries: u32,
    delivered: Delivered,
}

impl<P: Provider> Run<P> {
    async fn open(&mut self) -> Result<CompletionStream> {
        let error = match self.inner.stream(self.request.clone()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        self.again(error).await
    }

    /// Waits and tries again, as long as that makes sense.
    async fn again(&mut self, mut error: Error) -> Result<CompletionStream> {
        loop {
            let Some(wait) = self.wait(&error) else {
                return Err(match self.retries {
                    0 => error,
                    retries => error.with_context("attempts", retries + 1),
                });
            };
            self.retries += 1;
            tracing::debug!(
                code = error.code(),
                attempt = self.retries + 1,
                ?wait,
                "trying a provider again"
            );
            tokio::select! {
                () = sleep(wait) => {}
                () = self.request.context.cancel.cancelled() => return Err(error),
            }
            match self.inner.stream(self.request.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(next) => error = next,
            }
        }
    }

    /// How long to wait before the next attempt; `None` to give up. Pays for the attempt.
    fn wait(&self, error: &Error) -> Option<Duration> {
        // What was refused without asking the provider would be refused again, and who refused it
        // did so to tell at once.
        let refused = error.context_value(REFUSED_BY).is_some();
        let wanted = error.is_retryable() && !self.request.context.cancel.is_cancelled();
        if self.delivered.has_content() || refused || !wanted {
            return None;
        }
        let once = error.context_value("reason") == Some(Fault::ModelOutputInvalid.as_str());
        if self.retries >= self.policy.max_retries.min(if once { 1 } else { u32::MAX }) {
            return None;
        }
        let random = (self.policy.random)().clamp(0.0, 1.0);
        let wait = match error.retry_after() {
            Some(wait) if wait > MAX_SERVER_WAIT => return None,
            // A server that wants no wait gets the usual one.
            Some(Duration::ZERO) => backoff(self.retries, random),
            // Later than asked for, never earlier, and not at the same time as everybody else.
            Some(wait) => wait.mul_f64(1.0 + random / 10.0),
            None => backoff(self.retries, random),
        };
        let in_time = self
            .request
            .context
            .deadline
            .is_none_or(|deadline| Instant::now() + wait < deadline);
        (in_time && self.policy.spend()).then_some(wait)
    }
}

impl Policy {
    fn earn(&self) {
        let more = |tenths: u32| Some((tenths + 1).min(BUDGET * 10));
        // The closure always gives a value, so that this cannot fail.
        let _ = self
            .budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    fn spend(&self) -> bool {
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tenths| {
                tenths.checked_sub(10)
            })
            .is_ok()
    }
}

/// Doubles from attempt to attempt; the half of it is left to chance, a number from 0 to 1.
fn backoff(retries: u32, random: f64) -> Duration {
    FIRST_BACKOFF
        .saturating_mul(2_u32.saturating_pow(retries))
        .min(MAX_BACKOFF)
        .mul_f64(f64::midpoint(1.0, random))
}

/// A number from 0 to 1, random enough to spread retries.
fn random() -> f64 {
    // Every `RandomState` has other keys.
    let bits = RandomState::new().build_hasher().finish();
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;
    use crate::event::Notice;
    use crate::message::FinishReason;
    use crate::provider::ScriptedProvider;
    use crate::provider::scripted::{Step, text_script};

    fn overloaded() -> Error {
        Error::new(ErrorKind::ProviderUnavailable, "overloaded").retryable(None)
    }

    fn provider(
        scripts: Vec<Vec<Step>>,
        random: f64,
    ) -> (ScriptedProvider, RetryProvider<ScriptedProvider>) {
        let scripted = ScriptedProvider::new(scripts);
        (
            scripted.clone(),
            RetryProvider::with_random(scripted, move || random),
        )
    }

    async fn run(
        provider: &impl Provider,
        request: CompletionRequest,
    ) -> (Vec<Delta>, Option<Error>) {
        let mut stream = match provider.stream(request).await {
            Ok(stream) => stream,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let mut deltas = Vec::new();
        loop {
            match stream.try_next().await {
                Ok(Some(delta)) => deltas.push(delta),
                Ok(None) => return (deltas, None),
                Err(error) => return (deltas, Some(error)),
            }
        }
    }

    fn request() -> CompletionRequest {
        CompletionRequest::new("m", "?")
    }

    const END: Delta = Delta::Finished {
        reason: FinishReason::Stop,
    };

    #[tokio::test(start_paused = true)]
    async fn what_failed_before_any_output_is_tried_again_with_growing_waits() {
        let fail = || vec![Step::Yield(Delta::Heartbeat), Step::Fail(overloaded)];
        for (random, waits) in [(0.0, 250 + 500), (1.0, 500 + 1000)] {
            let (scripted, retry) = provider(vec![fail(), fail(), text_script("ok")], random);
            let start = Instant::now();
            let (deltas, error) = run(&retry, request()).await;
            assert!(error.is_none());
            assert_eq!(
                deltas,
                [
                    Delta::Heartbeat,
                    Delta::Heartbeat,
                    Delta::Text("ok".into()),
                    END
                ]
            );
            assert_eq!(scripted.requests().len(), 3);
            assert_eq!(start.elapsed(), Duration::from_millis(waits));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_three_attempts_the_last_error_is_returned() {
        let (scripted, retry) = provider(vec![vec![Step::Fail(overloaded)]], 0.5);
        let (_, error) = run(&retry, request()).await;
        assert_eq!(error.unwrap().context_value("attempts"), Some("3"));
        assert_eq!(scripted.requests().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_tried_again_once_something_was_delivered() {
        let said = [
            Delta::Text("x".into()),
            Delta::Reasoning("x".into()),
            Delta::Refusal("x".into()),
            Delta::ToolCall {
                id: "1".into(),
                name: "t".into(),
                arguments: "{}".into(),
            },
        ];
        for delta in said {
            let (scripted, retry) = provider(
                vec![vec![Step::Yield(delta.clone()), Step::Fail(overloaded)]],
                0.5,
            );
            let (deltas, error) = run(&retry, request()).await;
            assert_eq!(
                (deltas, error.unwrap().kind()),
                (vec![delta], ErrorKind::ProviderUnavailable)
            );
            assert_eq!(scripted.requests().len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_succeed_is_not_tried_again() {
        let (scripted, retry) = provider(
            vec![vec![Step::Fail(|| {
                Error::new(ErrorKind::ProviderAuth, "no")
            })]],
            0.5,
        );
        let (_, error) = run(&retry, request()).await;
        assert_eq!(error.unwrap().context_value("attempts"), None);
        assert_eq!(scripted.requests().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_without_asking_the_provider_is_told_at_once() {
        let fail = || overloaded().with_context(REFUSED_BY, "breaker");
        let (scripted, retry) = provider(vec![vec![Step::Fail(fail)]], 0.5);
        let start = Instant::now();
        assert!(run(&retry, request()).await.1.is_some());
        assert_eq!(
            (start.elapsed(), scripted.requests().len()),
            (Duration::ZERO, 1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_retries_can_be_set_and_waits_stay_bounded() {
        let scripted = ScriptedProvider::new([vec![Step::Fail(overloaded)]]);
        let retry = RetryProvider::with_policy(scripted.clone(), 9, || 1.0);
        let start = Instant::now();
        run(&retry, request()).await;
        assert_eq!(scripted.requests().len(), 10);
        // 0.5 + 1 + 2 + 4 + 5 times 8.
        assert_eq!(start.elapsed(), Duration::from_millis(47_500));
        let none = RetryProvider::with_max_retries(scripted.clone(), 0);
        run(&none, request()).await;
        assert_eq!(scripted.requests().len(), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn invalid_model_output_is_tried_again_once() {
        let fail = || overloaded().with_context("reason", "model_output_invalid");
        let (scripted, retry) = provider(vec![vec![Step::Fail(fail)]], 0.5);
        run(&retry, request()).await;
        assert_eq!(scripted.requests().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_the_provider_asks_for_is_kept() {
        let limited =
            || Error::new(ErrorKind::RateLimited, "wait").retryable(Some(Duration::from_secs(20)));
        let (_, retry) = provider(vec![vec![Step::Fail(limited)], text_script("ok")], 1.0);
        let start = Instant::now();
        assert!(run(&retry, request()).await.1.is_none());
        assert_eq!(start.elapsed(), Duration::from_secs(22));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_too_long_goes_to_the_caller_at_once() {
        let limited = || {
            Error::new(ErrorKind::RateLimited, "wait").retryable(Some(Duration::from_secs(3600)))
        };
        let (scripted, retry) = provider(vec![vec![Step::Fail(limited)]], 0.5);
        let start = Instant::now();
        let (_, error) = run(&retry, request()).await;
        assert_eq!(
            error.unwrap().retry_after(),
            Some(Duration::from_secs(3600))
        );
        assert_eq!(
            (start.elapsed(), scripted.requests().len()),
            (Duration::ZERO, 1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn it_never_waits_past_the_deadline() {
        let (scripted, retry) = provider(vec![vec![Step::Fail(overloaded)]], 1.0);
        let mut request = request();
        let start = Instant::now();
        request.context.deadline = Some(start + Duration::from_millis(700));
        assert!(run(&retry, request).await.1.is_some());
        assert_eq!(
            (start.elapsed(), scripted.requests().len()),
            (Duration::from_millis(500), 2)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_ends_the_wait() {
        let (scripted, retry) = provider(vec![vec![Step::Fail(overloaded)]], 1.0);
        let request = request();
        let cancel = request.context.cancel.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(100)).await;
            cancel.cancel();
        });
        let start = Instant::now();
        assert!(run(&retry, request).await.1.is_some());
        assert_eq!(
            (start.elapsed(), scripted.requests().len()),
            (Duration::from_millis(100), 1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_at_most_a_tenth_of_the_requests_in_the_long_run() {
        let (scripted, retry) = provider(vec![vec![Step::Fail(overloaded)]], 0.0);
        for _ in 0..1000 {
            run(&retry, request()).await;
        }
        let reserve = usize::try_from(BUDGET).unwrap();
        assert!((1100..=1100 + reserve).contains(&scripted.requests().len()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_notice_is_given_once() {
        let notice = || Step::Yield(Delta::Notice(Notice::new("preference_ignored", "x")));
        let mut last = vec![notice()];
        last.extend(text_script("ok"));
        let (_, retry) = provider(vec![vec![notice(), Step::Fail(overloaded)], last], 0.5);
        let (deltas, _) = run(&retry, request()).await;
        assert_eq!(deltas.len(), 3);
    }

    proptest! {
        #[test]
        fn jitter_is_random_and_in_range(_seed in 0..100) {
            let (a, b) = (random(), random());
            prop_assert!((0.0..=1.0).contains(&a) && a != b);
        }
    }
}
