//! Traces, exported by OTLP over HTTP where the standard variables of OpenTelemetry say so.
//!
//! Spans are requests, turns and completions, with routes, statuses, providers and counts of
//! tokens, and never what anybody wrote.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tutor_core::provider::TraceParent;
use tutor_core::{Error, ErrorKind, Result};

use crate::config::Vars;
use crate::logs::Extra;

/// How long the last spans may take to be sent when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The longest that one export may take.
const EXPORT_TIME: Duration = Duration::from_secs(10);

/// Where spans go. Dropping it sends what waits.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Exports to where `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` says,
    /// on the threads of `runtime`; `None` if neither is set, or it is switched off by
    /// `OTEL_SDK_DISABLED` or `OTEL_TRACES_EXPORTER=none`.
    ///
    /// # Errors
    /// `config` for an endpoint that is none.
    pub fn from_vars(vars: &Vars, runtime: Handle) -> Result<Option<Self>> {
        let endpoint = [
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ];
        let is_off = vars.get("OTEL_TRACES_EXPORTER") == Some("none")
            || vars
                .get("OTEL_SDK_DISABLED")
                .is_some_and(|off| off.eq_ignore_ascii_case("true"));
        if is_off || endpoint.iter().all(|name| vars.get(name).is_none()) {
            return Ok(None);
        }
        let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(
                ErrorKind::Config,
                "traces cannot be exported: OTEL_EXPORTER_OTLP_ENDPOINT is a URL such as http://localhost:4318",
            )
            .with_source(error)
        };
        let client = crate::outbound::client()
            .timeout(EXPORT_TIME)
            .build()
            .map_err(|error| wrong(error.without_url().into()))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Exporting { client, runtime })
            .build()
            .map_err(|error| wrong(error.into()))?;
        let mut resource = Resource::builder();
        if vars.get("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("neuro-tutor");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Ok(Some(Self(provider)))
    }

    /// What sends the spans of this process there.
    pub fn layer(&self) -> Extra {
        let targets = Targets::new()
            .with_target("tutor_core", LevelFilter::INFO)
            .with_target("tutor_http", LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("neuro-tutor"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(targets)
            .boxed()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // What cannot be sent in time is lost, and that is all.
        let _ = self.0.shutdown_with_timeout(LAST_WORDS);
    }
}

/// Sends exports from the exporter's own thread, which knows no runtime.
#[derive(Debug)]
struct Exporting {
    client: reqwest::Client,
    runtime: Handle,
}

#[tutor_core::async_trait]
impl HttpClient for Exporting {
    async fn send_bytes(
        &self,
        request: Request<Bytes>,
    ) -> std::result::Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move {
            let response = client.execute(request.try_into()?).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let mut answer = Response::new(response.bytes().await?);
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            reqwest::Result::Ok(answer)
        });
        Ok(sending.await?.map_err(reqwest::Error::without_url)?)
    }
}

/// Makes a request's span part of the trace that the caller began, if its `traceparent` is one.
pub(crate) fn adopt(span: &Span, headers: &HeaderMap) {
    if headers.contains_key("traceparent") {
        let parent = TraceContextPropagator::new().extract(&Headers(headers));
        // Without anybody who traces it has no parent.
        let _ = span.set_parent(parent);
    }
}

/// Says something about a span to those who trace it.
pub(crate) fn tell(span: &Span, name: &'static str, value: impl Into<opentelemetry::Value>) {
    span.set_attribute(name, value);
}

/// Names a span for those who trace it.
pub(crate) fn name(span: &Span, name: String) {
    span.context().span().update_name(name);
}

/// What tells another server that its work belongs to this span; `None` if nobody traces it.
pub(crate) fn parent(span: &Span) -> Option<TraceParent> {
    let context: Context = span.context();
    let span = context.span();
    let of = span.span_context();
    of.is_valid().then(|| {
        let flags = of.trace_flags().to_u8();
        TraceParent(format!("00-{}-{}-{flags:02x}", of.trace_id(), of.span_id()))
    })
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
