//! The laws of providers, on those that need no network.

use std::sync::Arc;

use tutor_core::provider::scripted::text_script;
use tutor_core::provider::{
    DemoProvider, RetryProvider, ScriptedProvider, SharedProvider, TimeoutProvider, Timeouts,
};

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
