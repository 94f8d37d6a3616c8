//! What the server counts, as Prometheus reads it.
//!
//! Labels are few and chosen by the operator or by this code: routes by their templates, providers
//! by their configured names. Nothing that a learner writes, no id and no key is ever a label.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

mod process;
mod provider;
mod scrape;
mod store;

pub use provider::MeteredProvider;
pub use store::MeteredStore;

/// The form in which the counts are written.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Upper bounds in seconds, for what should take milliseconds.
const QUICK: [f64; 12] = [
    0.000_25, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// Upper bounds in seconds, for what models do.
const SLOW: [f64; 11] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// A number that may have a fraction.
type Decimal = Gauge<f64, AtomicU64>;

/// What a server counts. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    began: Instant,
    http: Http,
    providers: Providers,
    store: Store,
    now: scrape::Now,
}

#[derive(Debug)]
struct Http {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    connections: Gauge,
    refused: Counter,
    streams: Gauge,
    panics: Counter,
}

#[derive(Debug)]
struct Providers {
    completions: Family<CompletionLabels, Counter>,
    first_token: Family<ProviderLabels, Histogram, fn() -> Histogram>,
    seconds: Family<ProviderLabels, Histogram, fn() -> Histogram>,
    tokens: Family<TokenLabels, Counter>,
    cost: Family<ProviderLabels, Counter<f64, AtomicU64>>,
}

#[derive(Debug)]
struct Store {
    seconds: Family<OperationLabels, Histogram, fn() -> Histogram>,
    errors: Family<StoreErrorLabels, Counter>,
    waiting: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: Arc<str>,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CompletionLabels {
    provider: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    provider: Arc<str>,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreErrorLabels {
    operation: &'static str,
    code: &'static str,
}

fn quick() -> Histogram {
    Histogram::new(QUICK)
}

fn slow() -> Histogram {
    Histogram::new(SLOW)
}

impl Default for Metrics {
    fn default() -> Self {
        let http = Http {
            requests: Family::default(),
            seconds: Family::new_with_constructor(quick),
            connections: Gauge::default(),
            refused: Counter::default(),
            streams: Gauge::default(),
            panics: Counter::default(),
        };
        let providers = Providers {
            completions: Family::default(),
            first_token: Family::new_with_constructor(slow),
            seconds: Family::new_with_constructor(slow),
            tokens: Family::default(),
            cost: Family::default(),
        };
        let store = Store {
            seconds: Family::new_with_constructor(quick),
            errors: Family::default(),
            waiting: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("neuro_tutor");
        registry.register(
            "build",
            "The program that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        http.register(&mut registry);
        providers.register(&mut registry);
        store.register(&mut registry);
        let now = scrape::Now::register(&mut registry);
        Self(Arc::new(Inner {
            registry,
            began: Instant::now(),
            http,
            providers,
            store,
            now,
        }))
    }
}

impl Http {
    fn register(&self, to: &mut Registry) {
        to.register(
            "http_requests",
            "Requests that were answered, by the template of their route",
            self.requests.clone(),
        );
        to.register(
            "http_request_seconds",
            "From a request's head to its answer's head",
            self.seconds.clone(),
        );
        to.register("connections", "Open connections", self.connections.clone());
        to.register(
            "connections_refused",
            "Connections beyond max_connections, which were answered 503",
            self.refused.clone(),
        );
        to.register(
            "streams",
            "Event streams that are being read",
            self.streams.clone(),
        );
        to.register(
            "handler_panics",
            "Requests answered 500 because their handler panicked",
            self.panics.clone(),
        );
    }
}

impl Providers {
    fn register(&self, to: &mut Registry) {
        to.register(
            "completions",
            "Completions that ended, by how: completed, abandoned, or the code of an error",
            self.completions.clone(),
        );
        to.register(
            "first_token_seconds",
            "From asking a provider to its first word",
            self.first_token.clone(),
        );
        to.register(
            "completion_seconds",
            "From asking a provider to its last word",
            self.seconds.clone(),
        );
        to.register(
            "tokens",
            "Tokens as providers count them: input, cached_input, output, reasoning",
            self.tokens.clone(),
        );
        to.register(
            "cost_usd",
            "What providers themselves said that it cost",
            self.cost.clone(),
        );
    }
}

impl Store {
    fn register(&self, to: &mut Registry) {
        to.register(
            "store_write_seconds",
            "From asking the store to write until it is durable",
            self.seconds.clone(),
        );
        to.register(
            "store_errors",
            "Writes that the store could not make, by the code of the error",
            self.errors.clone(),
        );
        to.register(
            "store_writes_waiting",
            "Writes that the store has been asked for and has not answered",
            self.waiting.clone(),
        );
    }
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(
        &self,
        method: &'static str,
        route: Arc<str>,
        status: u16,
        took: Duration,
    ) {
        let http = &self.0.http;
        let by_route = RouteLabels {
            route: Arc::clone(&route),
        };
        http.seconds
            .get_or_create(&by_route)
            .observe(took.as_secs_f64());
        let labels = RequestLabels {
            method,
            route,
            status,
        };
        http.requests.get_or_create(&labels).inc();
    }

    /// A handler panicked.
    pub(crate) fn panicked(&self) {
        self.0.http.panics.inc();
    }

    /// A connection is open until this is dropped.
    pub(crate) fn connection(&self) -> Held {
        Held::new(&self.0.http.connections)
    }

    /// A connection was refused.
    pub(crate) fn refused(&self) {
        self.0.http.refused.inc();
    }

    /// An event stream is read until this is dropped.
    pub(crate) fn stream(&self) -> Held {
        Held::new(&self.0.http.streams)
    }
}

/// One more of what a gauge counts, as long as it is kept.
#[derive(Debug)]
pub(crate) struct Held(Gauge);

impl Held {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
