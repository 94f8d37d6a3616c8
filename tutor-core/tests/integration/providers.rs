//! The laws of providers, on those that need no network.

use std::sync::Arc;

use tutor_core::provider::scripted::{Step, text_script};
use tutor_core::provider::{
    Breaker, BreakerProvider, BulkheadProvider, Concurrency, Delta, DemoProvider, FallbackProvider,
    KeyPoolProvider, RetryProvider, ScriptedProvider, SharedProvider, TimeoutProvider, Timeouts,
};
use tutor_core::{Error, ErrorKind};

async fn demo() -> (DemoProvider, ()) {
    (
        DemoProvider::new().with_delay(std::time::Duration::from_millis(1)),
        (),
    )
}
tutor_core::provider_laws!(demo_laws, demo);

async fn scripted() -> (ScriptedProvider, ()) {
    (ScriptedProvider::new([text_script("a b c")]), ())
}
tutor_core::provider_laws!(scripted_laws, scripted);

async fn retried() -> (RetryProvider<TimeoutProvider<ScriptedProvider>>, ()) {
    let scripted = ScriptedProvider::reply("a b c");
    (
        RetryProvider::new(TimeoutProvider::new(scripted, Timeouts::default())),
        (),
    )
}
tutor_core::provider_laws!(retried_laws, retried);

async fn shared() -> (SharedProvider, ()) {
    (Arc::new(ScriptedProvider::reply("a b c")), ())
}
tutor_core::provider_laws!(shared_laws, shared);

async fn broken() -> (BreakerProvider<ScriptedProvider>, ()) {
    let scripted = ScriptedProvider::reply("a b c");
    (BreakerProvider::new(scripted, Breaker::default()), ())
}
tutor_core::provider_laws!(breaker_laws, broken);

async fn bounded() -> (BulkheadProvider<ScriptedProvider>, ()) {
    let scripted = ScriptedProvider::reply("a b c");
    (BulkheadProvider::new(scripted, Concurrency::of(2)), ())
}
tutor_core::provider_laws!(bulkhead_laws, bounded);

async fn keyed() -> (KeyPoolProvider<ScriptedProvider>, ()) {
    let keys = (0..3).map(|_| ScriptedProvider::reply("a b c"));
    (KeyPoolProvider::new(keys.collect()).unwrap(), ())
}
tutor_core::provider_laws!(key_pool_laws, keyed);

fn overloaded() -> Error {
    Error::new(ErrorKind::ProviderUnavailable, "overloaded").retryable(None)
}

/// The first one fails after a word, so that every law sees a restart.
async fn with_fallback() -> (FallbackProvider, ()) {
    let word = Step::Yield(Delta::Text("a ".to_owned()));
    let first = ScriptedProvider::new([vec![word, Step::Fail(overloaded)]]);
    let second = ScriptedProvider::reply("a b c");
    let fallback = FallbackProvider::new(first).then(second, None);
    (fallback.allow_restart(true), ())
}
tutor_core::provider_laws!(fallback_laws, with_fallback);
