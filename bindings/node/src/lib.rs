//! The native half of the npm package `neuro-tutor`. Private: the package's own TypeScript is the
//! interface.
//!
//! Everything crosses as data. Requests come in and replies go out as JSON in the core's spelling;
//! errors are JSON too, and the TypeScript side throws them. An exception of a user's provider
//! stays in JavaScript; what travels through the engine is its number.
//!
//! No method is an `async fn(&self)`: such a future borrows an object that JavaScript owns, which
//! `worker.terminate()` frees under it. Every method clones what it needs into a future that owns
//! it, and the test `source.test.mjs` sees to that.

#![expect(
    missing_debug_implementations,
    reason = "the types are for JavaScript, and hold what learners say"
)]

use napi::bindgen_prelude::create_custom_tokio_runtime;

mod chat;
mod data;
mod file;
mod items;
mod law;
mod open;
mod plugin;
mod provider;
mod server;
mod store;
mod stream;
mod tool;
mod transfer;
mod tutor;
mod usage;

/// Threads that run the engine. It waits far more than it computes.
const WORKER_THREADS: usize = 2;

#[napi_derive::module_init]
fn init() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("neuro-tutor")
        .enable_all()
        .build();
    // Else napi makes one of its own.
    if let Ok(runtime) = runtime {
        create_custom_tokio_runtime(runtime);
    }
}
