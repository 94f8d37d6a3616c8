//! The laws of providers, on those that need no network.

use std::sync::Arc;

use tutor_core::message::Usage;
use tutor_core::provider::scripted::{Step, text_script};
use tutor_core::provider::{
    Breaker, BreakerProvider, BulkheadProvider, Concurrency, Delta, DemoProvider, FallbackProvider,
    KeyPoolProvider, RetryProvider, ScriptedProvider, SharedProvider, TimeoutProvider, Timeouts,
};
use tutor_core::{Error, ErrorKind, FinishReason, Tutor};

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

#[tokio::test]
async fn a_reply_tells_what_it_cost_and_which_request_it_was() {
    let usage = Usage {
        input_tokens: Some(1000),
        cached_input_tokens: Some(100),
        output_tokens: Some(200),
        ..Usage::default()
    };
    for (model, cost) in [
        // 0.1, 0.01 and 0.5 dollars per million tokens.
        (
            "gpt-6-luna",
            Some((900.0 * 0.1 + 100.0 * 0.01 + 200.0 * 0.5) / 1e6),
        ),
        ("a-model-of-ones-own", None),
    ] {
        let script = vec![
            Step::Yield(Delta::Accepted {
                request_id: "req_1".to_owned(),
            }),
            Step::Yield(Delta::Text("ok".to_owned())),
            Step::Yield(Delta::Usage(usage)),
            Step::Yield(Delta::Finished {
                reason: FinishReason::Stop,
            }),
        ];
        let provider = ScriptedProvider::new([script]);
        let tutor = Tutor::builder().provider(provider).build().await.unwrap();
        let mut request = tutor_core::ChatRequest::from("Why?");
        request.preferences.model = Some(model.to_owned());
        let reply = tutor.chat(request).await.unwrap();
        assert_eq!(reply.message.usage.unwrap().cost_usd, cost, "{model}");
        assert_eq!(reply.message.metadata["provider_request_id"], "req_1");
    }
}

#[tokio::test]
async fn what_a_fallback_wrote_is_named_and_costs_by_its_own_model() {
    let usage = Usage {
        input_tokens: Some(100_000),
        output_tokens: Some(0),
        ..Usage::default()
    };
    let ok = vec![
        Step::Yield(Delta::Text("ok".to_owned())),
        Step::Yield(Delta::Usage(usage)),
        Step::Yield(Delta::Finished {
            reason: FinishReason::Stop,
        }),
    ];
    let down = ScriptedProvider::new([vec![Step::Fail(overloaded)]]);
    let spare = ScriptedProvider::new([ok]);
    let fallback = FallbackProvider::new(down).then(spare, Some("gpt-6-sol".to_owned()));
    let tutor = Tutor::builder().provider(fallback).build().await.unwrap();
    let mut request = tutor_core::ChatRequest::from("Why?");
    request.preferences.model = Some("gpt-6-luna".to_owned());
    let reply = tutor.chat(request).await.unwrap();
    assert_eq!(reply.message.model.as_deref(), Some("gpt-6-sol"));
    // 2 dollars per million tokens, and not 0.1.
    assert_eq!(reply.usage.unwrap().cost_usd, Some(0.2));
}
