//! Time limits around a provider.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::fault::{Failure, Fault};
use super::{CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo};
use crate::error::{Error, ErrorKind, Result};

/// The longest limit that is kept.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a provider may take for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For making a connection, with TLS. Providers without connections ignore it.
    pub connect: Duration,
    /// Until its first sign of life.
    pub first: Duration,
    /// Between two signs of life, of whatever kind.
    pub idle: Duration,
    /// Between two signs of progress: signs of life without content do not count.
    pub progress: Duration,
    /// For one attempt as a whole.
    pub total: Duration,
}

impl Timeouts {
    /// The limits for a model on the same machine, which may have to be loaded first: as the
    /// default, but 300 seconds until the first sign of life.
    pub fn local() -> Self {
        Self {
            first: Duration::from_secs(300),
            ..Self::default()
        }
    }
}

impl Default for Timeouts {
    /// 10 seconds to connect, 10 minutes in total, 60 seconds for everything else.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            connect: Duration::from_secs(10),
            first: minute,
            idle: minute,
            progress: minute,
            total: 10 * minute,
        }
    }
}

/// A provider with time limits; the request's deadline is another one, and its cancellation ends
/// the wait at once.
///
/// # Errors
/// * `timeout` with a `phase`: `first_byte` or `idle` when nothing came, `progress` when only signs
///   of life came, `total` when the whole took too long, `deadline` when the request's time was
///   over. The last two are not retryable: the next attempt would have no more time.
/// * `interrupted` if the request was cancelled.
#[derive(Debug)]
pub struct TimeoutProvider<P> {
    inner: P,
    timeouts: Timeouts,
}

impl<P: Provider> TimeoutProvider<P> {
    /// Limits the time of `inner`.
    pub fn new(inner: P, timeouts: Timeouts) -> Self {
        // No clock reaches further than a year, which nobody waits for.
        let bound = |limit: Duration| limit.min(MAX_TIMEOUT);
        let timeouts = Timeouts {
            connect: bound(timeouts.connect),
            first: bound(timeouts.first),
            idle: bound(timeouts.idle),
            progress: bound(timeouts.progress),
            total: bound(timeouts.total),
        };
        Self { inner, timeouts }
    }
}

#[async_trait]
impl<P: Provider> Provider for TimeoutProvider<P> {
    fn info(&self) -> ProviderInfo {
        self.inner.info()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        let limit = Limit {
            at: Instant::now() + self.timeouts.first,
            phase: "first_byte",
        };
        timeout_at(limit.at, self.inner.models())
            .await
            .unwrap_or_else(|_| Err(limit.error(&self.info().name)))
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        let provider = self.info().name;
        let cancel = request.context.cancel.clone();
        let mut watch = Watch::new(self.timeouts, request.context.deadline);
        let limit = watch.until_open();
        let inner = tokio::select! {
            biased;
            opened = self.inner.stream(request) => opened?,
            () = cancel.cancelled() => return Err(cancelled(&provider)),
            () = sleep_until(limit.at) => return Err(limit.error(&provider)),
        };
        watch.open();
        let limited = Limited {
            inner,
            alarm: Box::pin(sleep_until(watch.limit().at)),
            watch,
            cancelled: Box::pin(cancel.cancelled_owned()),
            provider,
            over: false,
        };
        Ok(limited.boxed())
    }
}

/// A completion whose time is limited.
struct Limited {
    inner: CompletionStream,
    watch: Watch,
    /// Rings at a limit, or before: every delta moves the limits, and setting it anew each time
    /// would cost more than the delta does.
    alarm: Pin<Box<Sleep>>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    provider: String,
    over: bool,
}

impl Limited {
    /// Waits for nothing but the clock and the cancellation.
    fn poll_end(&mut self, limit: Limit, cx: &mut Context<'_>) -> Poll<Error> {
        if self.cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(cancelled(&self.provider));
        }
        if self.alarm.deadline() > limit.at {
            self.alarm.as_mut().reset(limit.at);
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            if self.alarm.deadline() >= limit.at {
                return Poll::Ready(limit.error(&self.provider));
            }
            self.alarm.as_mut().reset(limit.at);
        }
        Poll::Pending
    }
}

impl Stream for Limited {
    type Item = Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let limit = this.watch.limit();
        // One that always has something to say never waits for the clock.
        if this.watch.seen >= limit.at {
            this.over = true;
            return Poll::Ready(Some(Err(limit.error(&this.provider))));
        }
        if let Poll::Ready(item) = this.inner.poll_next_unpin(cx) {
            match &item {
                Some(Ok(delta)) => this.watch.see(delta),
                Some(Err(_)) => {}
                None => this.over = true,
            }
            return Poll::Ready(item);
        }
        this.poll_end(limit, cx).map(|error| {
            this.over = true;
            Some(Err(error))
        })
    }
}

/// When to give up.
struct Watch {
    timeouts: Timeouts,
    deadline: Option<Instant>,
    /// When the first sign of life is due.
    first: Instant,
    /// When all of it is due.
    total: Instant,
    idle: Instant,
    progress: Instant,
    /// When something came last.
    seen: Instant,
}

impl Watch {
    fn new(timeouts: Timeouts, deadline: Option<Instant>) -> Self {
        let now = Instant::now();
        let first = now + timeouts.first;
        Self {
            timeouts,
            deadline,
            first,
            total: now + timeouts.total,
            idle: first,
            progress: first,
            seen: now,
        }
    }

    fn until_open(&self) -> Limit {
        self.overall(Limit {
            at: self.first,
            phase: "first_byte",
        })
    }

    /// The provider answers; its first delta may still take as long as the first sign of life.
    fn open(&mut self) {
        let now = Instant::now();
        self.idle = self.first.max(now + self.timeouts.idle);
        self.progress = self.first.max(now + self.timeouts.progress);
    }

    fn see(&mut self, delta: &Delta) {
        // What is known when the answer begins is no sign of life: the model may still be loading.
        if matches!(delta, Delta::Accepted { .. } | Delta::Notice(_)) {
            return;
        }
        self.seen = Instant::now();
        self.idle = self.seen + self.timeouts.idle;
        let says_nothing = match delta {
            Delta::Heartbeat => true,
            Delta::Text(text) | Delta::Reasoning(text) | Delta::Refusal(text) => text.is_empty(),
            _ => false,
        };
        if !says_nothing {
            self.progress = self.seen + self.timeouts.progress;
        }
    }

    fn limit(&self) -> Limit {
        let phase = if self.idle <= self.progress {
            "idle"
        } else {
            "progress"
        };
        self.overall(Limit {
            at: self.idle.min(self.progress),
            phase,
        })
    }

    fn overall(&self, limit: Limit) -> Limit {
        let limit = limit.or(self.total, "total");
        match self.deadline {
            Some(at) => limit.or(at, "deadline"),
            None => limit,
        }
    }
}

#[derive(Clone, Copy)]
struct Limit {
    at: Instant,
    phase: &'static str,
}

impl Limit {
    /// The sooner of the two.
    fn or(self, at: Instant, phase: &'static str) -> Self {
        if at <= self.at {
            Self { at, phase }
        } else {
            self
        }
    }

    fn error(self, provider: &str) -> Error {
        let failure = match self.phase {
            "deadline" | "total" => Failure::hopeless(Fault::Timeout),
            _ => Failure::new(Fault::Timeout),
        };
        failure.with_fact("phase", self.phase).into_error(provider)
    }
}

fn cancelled(provider: &str) -> Error {
    Error::new(ErrorKind::Interrupted, "the request was cancelled")
        .with_context("provider", provider)
        .with_context("reason", "cancelled")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::{TryStreamExt, stream};

    use super::*;
    use crate::message::FinishReason;

    /// Yields each delta after a pause; opens after the first one.
    #[derive(Debug)]
    struct Paced {
        open: Duration,
        script: Vec<(Duration, Delta)>,
    }

    #[async_trait]
    impl Provider for Paced {
        fn info(&self) -> ProviderInfo {
            ProviderInfo::new("paced", "m")
        }
        async fn models(&self) -> Result<Vec<ModelInfo>> {
            tokio::time::sleep(self.open).await;
            Ok(Vec::new())
        }
        async fn stream(&self, _: CompletionRequest) -> Result<CompletionStream> {
            tokio::time::sleep(self.open).await;
            let paced = stream::iter(self.script.clone()).then(|(pause, delta)| async move {
                tokio::time::sleep(pause).await;
                Ok(delta)
            });
            Ok(paced.boxed())
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    async fn run(
        open: u64,
        script: &[(u64, Delta)],
        deadline: Option<u64>,
    ) -> (Result<Vec<Delta>>, Duration) {
        let script = script
            .iter()
            .map(|(pause, delta)| (seconds(*pause), delta.clone()))
            .collect();
        let provider = TimeoutProvider::new(
            Arc::new(Paced {
                open: seconds(open),
                script,
            }),
            Timeouts::default(),
        );
        let mut request = CompletionRequest::new("m", "?");
        let start = Instant::now();
        request.context.deadline = deadline.map(|deadline| start + seconds(deadline));
        let result = match provider.stream(request).await {
            Ok(stream) => stream.try_collect().await,
            Err(error) => Err(error),
        };
        (result, start.elapsed())
    }

    fn assert_phase(outcome: (Result<Vec<Delta>>, Duration), phase: &str, after: u64) {
        let error = outcome.0.unwrap_err();
        assert_eq!(
            (error.kind(), error.context_value("phase")),
            (ErrorKind::Timeout, Some(phase))
        );
        assert_eq!(error.context_value("reason"), Some("timeout"));
        assert_eq!(error.is_retryable(), !matches!(phase, "deadline" | "total"));
        assert_eq!(outcome.1, seconds(after));
    }

    fn text() -> Delta {
        Delta::Text("x".to_owned())
    }

    const END: Delta = Delta::Finished {
        reason: FinishReason::Stop,
    };

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_never_answers_is_given_up() {
        assert_phase(run(1000, &[], None).await, "first_byte", 60);
        assert_phase(run(1, &[(1000, END)], None).await, "idle", 61);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_after_some_text_is_given_up() {
        assert_phase(run(0, &[(5, text()), (61, END)], None).await, "idle", 65);
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_alone_are_no_progress() {
        let beats: Vec<_> = std::iter::repeat_n((10, Delta::Heartbeat), 100).collect();
        assert_phase(run(0, &beats, None).await, "progress", 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_goes_on_for_ever_is_given_up() {
        let words: Vec<_> = std::iter::repeat_n((7, text()), 100).collect();
        assert_phase(run(0, &words, None).await, "total", 600);
    }

    #[tokio::test(start_paused = true)]
    async fn empty_deltas_are_no_progress() {
        let empty: Vec<_> = std::iter::repeat_n((10, Delta::Text(String::new())), 100).collect();
        assert_phase(run(0, &empty, None).await, "progress", 60);
    }

    #[tokio::test]
    async fn one_that_always_has_something_to_say_is_given_up_too() {
        #[derive(Debug)]
        struct Chatter;
        #[async_trait]
        impl Provider for Chatter {
            fn info(&self) -> ProviderInfo {
                ProviderInfo::new("chatter", "m")
            }
            async fn models(&self) -> Result<Vec<ModelInfo>> {
                Ok(Vec::new())
            }
            async fn stream(&self, _: CompletionRequest) -> Result<CompletionStream> {
                Ok(stream::repeat_with(|| Ok(Delta::Heartbeat)).boxed())
            }
        }
        let timeouts = Timeouts {
            progress: Duration::from_millis(20),
            first: Duration::from_millis(20),
            ..Timeouts::default()
        };
        let provider = TimeoutProvider::new(Chatter, timeouts);
        let stream = provider.stream(CompletionRequest::new("m", "?")).await;
        let last = stream.unwrap().filter_map(async |item| item.err());
        let error = std::pin::pin!(last).next().await.unwrap();
        assert_eq!(error.context_value("phase"), Some("progress"));
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_ends_the_wait_at_once() {
        for (open, script) in [(1000, vec![]), (0, vec![(1000, END)])] {
            let script = script
                .into_iter()
                .map(|(pause, delta)| (seconds(pause), delta))
                .collect();
            let open = seconds(open);
            let provider = TimeoutProvider::new(Paced { open, script }, Timeouts::default());
            let request = CompletionRequest::new("m", "?");
            let cancel = request.context.cancel.clone();
            tokio::spawn(async move {
                tokio::time::sleep(seconds(3)).await;
                cancel.cancel();
            });
            let start = Instant::now();
            let error = match provider.stream(request).await {
                Ok(stream) => stream.try_collect::<Vec<_>>().await.unwrap_err(),
                Err(error) => error,
            };
            assert_eq!(
                (error.kind(), start.elapsed()),
                (ErrorKind::Interrupted, seconds(3))
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reply_that_goes_on_is_not_given_up() {
        let script = [
            (50, Delta::Heartbeat),
            (9, text()),
            (59, text()),
            (30, Delta::Heartbeat),
            (29, END),
        ];
        let (result, elapsed) = run(59, &script, None).await;
        assert_eq!((result.unwrap().len(), elapsed), (5, seconds(236)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_of_the_request_ends_everything() {
        assert_phase(run(1000, &[], Some(7)).await, "deadline", 7);
        assert_phase(
            run(0, &[(5, text()), (5, text())], Some(7)).await,
            "deadline",
            7,
        );
    }

    #[tokio::test(start_paused = true)]
    async fn listing_models_is_limited_too() {
        let provider = TimeoutProvider::new(
            Paced {
                open: seconds(1000),
                script: Vec::new(),
            },
            Timeouts::default(),
        );
        assert_eq!(
            provider.models().await.unwrap_err().kind(),
            ErrorKind::Timeout
        );
    }
}
