//! A provider whose completions are counted.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::time::Instant;
use tracing::{Instrument, Span};
use tutor_core::provider::{
    CompletionRequest, CompletionStream, Delta, ModelInfo, Provider, ProviderInfo,
};
use tutor_core::{Result, Usage, async_trait};

use crate::traces;

use super::{CompletionLabels, Metrics, ProviderLabels, Providers, TokenLabels};

/// The kinds of tokens.
const KINDS: [&str; 4] = ["input", "cached_input", "output", "reasoning"];

impl Providers {
    /// Counts from zero, so that the first thing that happens is seen as a change.
    fn begin(&self, provider: &Arc<str>) {
        let provider = Arc::clone(provider);
        let labels = ProviderLabels {
            provider: Arc::clone(&provider),
        };
        drop(self.first_token.get_or_create(&labels));
        drop(self.seconds.get_or_create(&labels));
        drop(self.cost.get_or_create(&labels));
        for kind in KINDS {
            let provider = Arc::clone(&provider);
            drop(self.tokens.get_or_create(&TokenLabels { provider, kind }));
        }
        let outcome = "completed";
        drop(
            self.completions
                .get_or_create(&CompletionLabels { provider, outcome }),
        );
    }
}

/// Counts what a provider does: how completions end, how long they take, what they consume.
#[derive(Debug)]
pub struct MeteredProvider<P> {
    inner: P,
    name: Arc<str>,
    metrics: Metrics,
}

impl<P: Provider> MeteredProvider<P> {
    /// Counts the completions of `inner` under its name.
    pub fn new(inner: P, metrics: Metrics) -> Self {
        let name: Arc<str> = inner.info().name.into();
        metrics.0.providers.begin(&name);
        Self {
            inner,
            name,
            metrics,
        }
    }
}

#[async_trait]
impl<P: Provider> Provider for MeteredProvider<P> {
    fn info(&self) -> ProviderInfo {
        self.inner.info()
    }

    async fn models(&self) -> Result<Vec<ModelInfo>> {
        self.inner.models().await
    }

    async fn stream(&self, mut request: CompletionRequest) -> Result<CompletionStream> {
        let span = tracing::info_span!(
            "completion",
            otel.kind = "client",
            otel.name = "chat",
            provider = &*self.name
        );
        traces::tell(&span, "gen_ai.operation.name", "chat");
        traces::tell(&span, "gen_ai.provider.name", self.name.to_string());
        if let Some(parent) = traces::parent(&span) {
            request.context.extensions.insert(parent);
        }
        let mut meter = Meter {
            span: span.clone(),
            metrics: self.metrics.clone(),
            provider: Arc::clone(&self.name),
            began: Instant::now(),
            has_spoken: false,
            usage: None,
            outcome: "abandoned",
        };
        match self.inner.stream(request).instrument(span).await {
            Ok(stream) => Ok(Box::pin(Metered { stream, meter })),
            Err(error) => {
                meter.outcome = error.code();
                Err(error)
            }
        }
    }
}

struct Metered {
    stream: CompletionStream,
    meter: Meter,
}

impl Stream for Metered {
    type Item = Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.stream.as_mut().poll_next(cx);
        if let Poll::Ready(Some(item)) = &next {
            self.meter.see(item);
        }
        next
    }
}

/// One completion, counted when it is dropped.
struct Meter {
    span: Span,
    metrics: Metrics,
    provider: Arc<str>,
    began: Instant,
    has_spoken: bool,
    usage: Option<Usage>,
    outcome: &'static str,
}

impl Meter {
    fn see(&mut self, item: &Result<Delta>) {
        match item {
            Ok(
                Delta::Text(_) | Delta::Reasoning(_) | Delta::Refusal(_) | Delta::ToolCall { .. },
            ) if !self.has_spoken => {
                self.has_spoken = true;
                let took = self.began.elapsed().as_secs_f64();
                let first = &self.metrics.0.providers.first_token;
                first.get_or_create(&self.labels()).observe(took);
            }
            Ok(Delta::Usage(usage)) => self.usage = Some(*usage),
            Ok(Delta::Finished { .. }) => self.outcome = "completed",
            Ok(_) => {}
            Err(error) => self.outcome = error.code(),
        }
    }

    fn labels(&self) -> ProviderLabels {
        ProviderLabels {
            provider: Arc::clone(&self.provider),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let counts = &self.metrics.0.providers;
        let labels = CompletionLabels {
            provider: Arc::clone(&self.provider),
            outcome: self.outcome,
        };
        counts.completions.get_or_create(&labels).inc();
        let took = self.began.elapsed().as_secs_f64();
        counts.seconds.get_or_create(&self.labels()).observe(took);
        if !matches!(self.outcome, "completed" | "abandoned") {
            traces::tell(&self.span, "error.type", self.outcome);
        }
        let Some(usage) = self.usage else { return };
        for (name, tokens) in [
            ("gen_ai.usage.input_tokens", usage.input_tokens),
            ("gen_ai.usage.output_tokens", usage.output_tokens),
        ] {
            if let Some(tokens) = tokens.and_then(|tokens| i64::try_from(tokens).ok()) {
                traces::tell(&self.span, name, tokens);
            }
        }
        let tokens = [
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
        ];
        for (kind, tokens) in KINDS.into_iter().zip(tokens) {
            if let Some(tokens) = tokens {
                let provider = Arc::clone(&self.provider);
                let labels = TokenLabels { provider, kind };
                counts.tokens.get_or_create(&labels).inc_by(tokens);
            }
        }
        // Counters only grow, whatever somebody says that it cost.
        if let Some(cost) = usage.cost_usd.filter(|cost| *cost > 0.0) {
            counts.cost.get_or_create(&self.labels()).inc_by(cost);
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}
