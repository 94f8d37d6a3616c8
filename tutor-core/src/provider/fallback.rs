//! Another provider, or another model, when the first one cannot answer.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::delivered::Delivered;
use super::fault::Fault;
use super::{
    CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo, SharedProvider,
};
use crate::error::{Error, ErrorKind, Result};

/// A provider with others behind it.
///
/// When the first one cannot answer, the next one is asked, and so on: at once and silently while
/// nothing of a reply has been delivered; afterwards only if [that is
/// allowed](Self::allow_restart), with [`Delta::Restart`] before the new reply. What another
/// provider would refuse as well (a wrong request, a content policy, a conversation that is too
/// long), and a request that is cancelled or late, is nothing to fall back on.
///
/// [`Delta::AnsweredBy`] tells who answers instead. Put it around retries: a fallback is for what
/// they could not mend.
///
/// # Errors
/// The first provider's error, with `fallbacks`: how many others failed too.
#[derive(Clone, Debug)]
pub struct FallbackProvider {
    candidates: Arc<[Candidate]>,
    restart: bool,
}

#[derive(Clone, Debug)]
struct Candidate {
    provider: SharedProvider,
    /// `None` for the one that the request names, or the provider's default.
    model: Option<String>,
}

impl FallbackProvider {
    /// A provider with nothing behind it yet.
    pub fn new(first: impl Provider) -> Self {
        let first = Candidate {
            provider: Arc::new(first),
            model: None,
        };
        Self {
            candidates: Arc::new([first]),
            restart: false,
        }
    }

    /// Adds a provider that answers when those before it cannot: with this model, or its default
    /// one.
    #[must_use]
    pub fn then(self, provider: impl Provider, model: Option<String>) -> Self {
        let model = Some(model.unwrap_or_else(|| provider.info().default_model));
        let next = Candidate {
            provider: Arc::new(provider),
            model,
        };
        let candidates = self.candidates.iter().cloned().chain([next]);
        Self {
            candidates: candidates.collect(),
            ..self
        }
    }

    /// Whether another provider may begin again when a part of a reply has been delivered.
    #[must_use]
    pub fn allow_restart(self, restart: bool) -> Self {
        Self { restart, ..self }
    }
}

#[async_trait]
impl Provider for FallbackProvider {
    fn info(&self) -> ProviderInfo {
        self.candidates[0].provider.info()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.candidates[0].provider.models().await
    }

    async fn stream(&self, request: CompletionRequest) -> Result<CompletionStream> {
        // In a box, because it moves with every delta.
        let mut run = Box::new(Run {
            all: self.clone(),
            request,
            current: 0,
            first_error: None,
            delivered: Delivered::default(),
        });
        let first = run.all.candidates[0]
            .provider
            .stream(run.request.clone())
            .await;
        let opened = match first {
            Ok(stream) => stream,
            Err(error) => run.next(error).await?,
        };
        Ok(stream::unfold(Some((run, opened)), |state| async move {
            let (mut run, mut opened) = state?;
            loop {
                match opened.next().await? {
                    Ok(delta) if run.delivered.is_repeated(&delta) => {}
                    Ok(delta) => return Some((Ok(delta), Some((run, opened)))),
                    Err(error) => match run.next(error).await {
                        Ok(stream) => opened = stream,
                        Err(error) => return Some((Err(error), None)),
                    },
                }
            }
        })
        .fuse()
        .boxed())
    }
}

/// One request, over all providers that are asked.
struct Run {
    all: FallbackProvider,
    request: CompletionRequest,
    current: usize,
    first_error: Option<Error>,
    delivered: Delivered,
}

impl Run {
    /// After a failure: the stream of the next provider that answers.
    async fn next(&mut self, mut error: Error) -> Result<CompletionStream> {
        let reason = error
            .context_value("reason")
            .unwrap_or(error.code())
            .to_owned();
        loop {
            let may = !self.delivered.has_content() || self.all.restart;
            if !may || !self.another_may_answer(&error) {
                return Err(self.last(error));
            }
            self.first_error.get_or_insert(error);
            self.current += 1;
            let Candidate { provider, model } = self.all.candidates[self.current].clone();
            let info = provider.info();
            tracing::warn!(provider = info.name, reason, "another provider is asked");
            let mut request = self.request.clone();
            if let Some(model) = model {
                request.model = model;
            }
            let mut before = vec![Delta::AnsweredBy {
                provider: info.name,
                model: request.model.clone(),
            }];
            if self.delivered.has_content() {
                let reason = reason.clone();
                before.insert(0, Delta::Restart { reason });
            }
            match provider.stream(request).await {
                Ok(stream) => {
                    let before = stream::iter(before.into_iter().map(Ok));
                    return Ok(before.chain(stream).boxed());
                }
                Err(next) => error = next,
            }
        }
    }

    /// What the caller is told: the first error matters, the others are consequences.
    fn last(&mut self, error: Error) -> Error {
        match self.first_error.take() {
            Some(first) => first.with_context("fallbacks", self.current),
            None => error,
        }
    }

    fn another_may_answer(&self, error: &Error) -> bool {
        let context = &self.request.context;
        let in_time = context
            .deadline
            .is_none_or(|deadline| Instant::now() < deadline);
        if !in_time
            || context.cancel.is_cancelled()
            || self.current + 1 >= self.all.candidates.len()
        {
            return false;
        }
        match error.kind() {
            ErrorKind::ProviderAuth
            | ErrorKind::ProviderQuota
            | ErrorKind::ProviderUnavailable
            | ErrorKind::RateLimited
            | ErrorKind::Overloaded
            | ErrorKind::Timeout
            | ErrorKind::Internal => true,
            // The model that the operator configured is gone; one that the caller named is the
            // caller's mistake.
            ErrorKind::InvalidInput => {
                let asked_by_caller =
                    self.current == 0 && self.request.model != self.all.info().default_model;
                error.context_value("reason") == Some(Fault::NotFound.as_str()) && !asked_by_caller
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;
    use crate::message::FinishReason;
    use crate::provider::ScriptedProvider;
    use crate::provider::fault::Failure;
    use crate::provider::scripted::{Step, text_script};

    fn overloaded() -> Error {
        Failure::new(Fault::Overloaded).into_error("first")
    }

    fn refused() -> Error {
        Failure::new(Fault::Auth).into_error("second")
    }

    fn fail(error: fn() -> Error) -> Vec<Step> {
        vec![Step::Yield(Delta::Heartbeat), Step::Fail(error)]
    }

    fn two(
        first: Vec<Step>,
        second: Vec<Step>,
    ) -> (ScriptedProvider, ScriptedProvider, FallbackProvider) {
        let (a, b) = (
            ScriptedProvider::new([first]),
            ScriptedProvider::new([second]),
        );
        let fallback = FallbackProvider::new(a.clone()).then(b.clone(), Some("other".into()));
        (a, b, fallback)
    }

    async fn run(provider: &impl Provider, model: &str) -> (Vec<Delta>, Option<Error>) {
        let mut stream = match provider.stream(CompletionRequest::new(model, "?")).await {
            Ok(stream) => stream,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let mut deltas = Vec::new();
        loop {
            match stream.try_next().await {
                Ok(Some(Delta::Heartbeat)) => {}
                Ok(Some(delta)) => deltas.push(delta),
                Ok(None) => return (deltas, None),
                Err(error) => return (deltas, Some(error)),
            }
        }
    }

    fn text(text: &str) -> Delta {
        Delta::Text(text.to_owned())
    }

    fn instead() -> Delta {
        Delta::AnsweredBy {
            provider: "scripted".to_owned(),
            model: "other".to_owned(),
        }
    }

    const END: Delta = Delta::Finished {
        reason: FinishReason::Stop,
    };

    #[tokio::test]
    async fn before_the_first_words_another_provider_answers_silently() {
        let (_, second, fallback) = two(fail(overloaded), text_script("ok"));
        let (deltas, error) = run(&fallback, "m").await;
        assert!(error.is_none());
        assert_eq!(deltas, [instead(), text("ok"), END]);
        assert_eq!(second.requests()[0].model, "other");
    }

    #[tokio::test]
    async fn after_the_first_words_it_begins_again_only_if_that_is_allowed() {
        let broken = vec![Step::Yield(text("half a")), Step::Fail(overloaded)];
        let (_, second, fallback) = two(broken, text_script("ok"));
        let (deltas, error) = run(&fallback, "m").await;
        assert_eq!((deltas, second.requests().len()), (vec![text("half a")], 0));
        assert_eq!(error.unwrap().kind(), ErrorKind::ProviderUnavailable);
        let (deltas, error) = run(&fallback.allow_restart(true), "m").await;
        let restart = Delta::Restart {
            reason: "overloaded".to_owned(),
        };
        assert_eq!(
            deltas,
            [text("half a"), restart, instead(), text("ok"), END]
        );
        assert!(error.is_none());
    }

    #[tokio::test]
    async fn when_nobody_answers_the_first_error_is_told() {
        let (_, _, fallback) = two(fail(overloaded), fail(refused));
        let (_, error) = run(&fallback, "m").await;
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::ProviderUnavailable);
        assert_eq!(error.context_value("fallbacks"), Some("1"));
        assert!(error.is_retryable());
    }

    #[tokio::test]
    async fn what_others_would_refuse_too_is_told_at_once() {
        fn filtered() -> Error {
            Failure::new(Fault::ContentFiltered).into_error("first")
        }
        fn too_long() -> Error {
            Failure::new(Fault::ContextTooLong).into_error("first")
        }
        fn unknown() -> Error {
            Error::invalid_input("no such model").with_context("reason", "not_found")
        }
        for error in [filtered, too_long, unknown] {
            let (_, second, fallback) = two(fail(error), text_script("ok"));
            assert!(run(&fallback, "m").await.1.is_some());
            assert_eq!(second.requests().len(), 0);
        }
        // The default model is the operator's choice, and so is what answers instead.
        let (_, second, fallback) = two(fail(unknown), text_script("ok"));
        assert!(run(&fallback, "script").await.1.is_none());
        assert_eq!(second.requests().len(), 1);
    }

    #[tokio::test]
    async fn a_cancelled_or_late_request_asks_nobody_else() {
        let (_, second, fallback) = two(fail(overloaded), text_script("ok"));
        let cancelled = CompletionRequest::new("m", "?");
        cancelled.context.cancel.cancel();
        let mut late = CompletionRequest::new("m", "?");
        late.context.deadline = Some(Instant::now());
        for request in [cancelled, late] {
            let stream = fallback.stream(request).await.unwrap();
            assert!(stream.try_collect::<Vec<_>>().await.is_err());
        }
        assert_eq!(second.requests().len(), 0);
    }
}
