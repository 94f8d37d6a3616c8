//! Time limits around a provider.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

use super::fault::{Failure, Fault};
use super::{CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo};
use crate::error::{Error, Result};

/// How long a provider may take for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until its first sign of life.
    pub first: Duration,
    /// Between two signs of life, of whatever kind.
    pub idle: Duration,
    /// Between two signs of progress: signs of life without content do not count.
    pub progress: Duration,
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
    /// 60 seconds for everything.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            first: minute,
            idle: minute,
            progress: minute,
        }
    }
}

/// A provider with time limits; the request's deadline is another one.
///
/// # Errors
/// `timeout` with a `phase`: `first_byte` or `idle` when nothing came, `progress` when only signs of
/// life came, `deadline` when the request's time was over. Only the last is not retryable.
#[derive(Debug)]
pub struct TimeoutProvider<P> {
    inner: P,
    timeouts: Timeouts,
}

impl<P: Provider> TimeoutProvider<P> {
    /// Limits the time of `inner`.
    pub fn new(inner: P, timeouts: Timeouts) -> Self {
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
        let (provider, deadline) = (self.info().name, request.context.deadline);
        let first = Instant::now() + self.timeouts.first;
        let limit = Limit {
            at: first,
            phase: "first_byte",
        }
        .or_deadline(deadline);
        let inner = timeout_at(limit.at, self.inner.stream(request))
            .await
            .unwrap_or_else(|_| Err(limit.error(&provider)))?;
        let now = Instant::now();
        let watch = Watch {
            timeouts: self.timeouts,
            deadline,
            idle: first.max(now + self.timeouts.idle),
            progress: first.max(now + self.timeouts.progress),
        };
        let state = Some((inner, watch, provider));
        Ok(stream::unfold(state, |state| async move {
            let (mut inner, mut watch, provider) = state?;
            let limit = watch.limit();
            match timeout_at(limit.at, inner.next()).await {
                Ok(Some(item)) => {
                    if let Ok(delta) = &item {
                        watch.see(delta);
                    }
                    Some((item, Some((inner, watch, provider))))
                }
                Ok(None) => None,
                Err(_) => Some((Err(limit.error(&provider)), None)),
            }
        })
        .fuse()
        .boxed())
    }
}

/// When to give up.
struct Watch {
    timeouts: Timeouts,
    deadline: Option<Instant>,
    idle: Instant,
    progress: Instant,
}

impl Watch {
    fn see(&mut self, delta: &Delta) {
        let now = Instant::now();
        self.idle = now + self.timeouts.idle;
        if !matches!(delta, Delta::Heartbeat) {
            self.progress = now + self.timeouts.progress;
        }
    }

    fn limit(&self) -> Limit {
        let phase = if self.idle <= self.progress {
            "idle"
        } else {
            "progress"
        };
        Limit {
            at: self.idle.min(self.progress),
            phase,
        }
        .or_deadline(self.deadline)
    }
}

#[derive(Clone, Copy)]
struct Limit {
    at: Instant,
    phase: &'static str,
}

impl Limit {
    fn or_deadline(self, deadline: Option<Instant>) -> Self {
        match deadline {
            Some(at) if at <= self.at => Self {
                at,
                phase: "deadline",
            },
            _ => self,
        }
    }

    fn error(self, provider: &str) -> Error {
        let failure = match self.phase {
            "deadline" => Failure::hopeless(Fault::Timeout),
            _ => Failure::new(Fault::Timeout),
        };
        failure.with_fact("phase", self.phase).into_error(provider)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::TryStreamExt;

    use super::*;
    use crate::error::ErrorKind;
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
        assert_eq!(error.is_retryable(), phase != "deadline");
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
